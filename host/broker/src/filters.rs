//! Filters: expressions compiled once into subscriptions, log records laid out for the guest, and
//! what happens when a guest fails.
//!
//! The policy is *stall*: what precedes the failing message is delivered, the message itself and
//! what follows wait, and the guest is asked again after 1 s, doubling to 30 s. Nothing is lost and
//! nothing is passed on unjudged.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use quern_plugins::{
    Batch, Fault, Field, Number, Plugin, Runtime, SubscribeError, Subscription, Worker,
};
use quern_protocol::message::UNIQUE_KEY;
use quern_protocol::{
    Code, Filter, QueueId, QueueOffset, RecordView, Tag, TopicId, TopicName, WireError,
};

use crate::limits;

/// Expression language and text.
type Expression = (String, String);

/// A queue as one filter sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct View {
    pub(crate) filter: Filter,
    pub(crate) topic: TopicId,
    pub(crate) queue: QueueId,
}

/// Where a view stands still, and until when.
#[derive(Debug, Clone)]
pub(crate) struct Stalled {
    pub(crate) offset: QueueOffset,
    pub(crate) fault: Fault,
    attempts: u32,
    /// By the store's steady clock, ms.
    again_at: u64,
}

impl Stalled {
    pub(crate) fn retry_ms(&self, now: u64) -> u32 {
        self.again_at.saturating_sub(now) as u32
    }
}

/// The filters of one broker.
#[derive(Debug)]
pub(crate) struct Filters {
    /// Each speaks a language of its own; the tag filter is always there.
    plugins: Vec<Arc<Plugin>>,
    subscriptions: Mutex<HashMap<Expression, Subscription>>,
    stalls: Mutex<HashMap<View, Stalled>>,
}

const POISONED: &str = "no code that can panic runs under the filters lock";

impl Filters {
    pub(crate) fn new(runtime: &Runtime, more: &[Arc<Plugin>]) -> Self {
        let tag = std::iter::once(runtime.built_in_tag());
        Self {
            plugins: tag.chain(more).cloned().collect(),
            subscriptions: Mutex::default(),
            stalls: Mutex::default(),
        }
    }

    pub(crate) fn plugins(&self) -> &[Arc<Plugin>] {
        &self.plugins
    }

    /// The subscription of an expression, if it has been compiled before.
    pub(crate) fn known(&self, filter: &Filter) -> Option<Subscription> {
        let Filter::Expression { language, text } = filter else {
            return None;
        };
        let subscriptions = self.subscriptions.lock().expect(POISONED);
        subscriptions
            .get(&(language.clone(), text.clone()))
            .cloned()
    }

    /// Compiles an expression; on a delivery thread.
    pub(crate) fn compile(
        &self,
        worker: &mut Worker,
        language: &str,
        text: &str,
    ) -> Result<Subscription, WireError> {
        let speaks = |plugin: &&Arc<Plugin>| plugin.language() == Some(language);
        let plugin = self.plugins.iter().find(speaks).ok_or_else(|| {
            WireError::new(
                Code::LANGUAGE_UNKNOWN,
                format!("no plugin of this broker speaks {language:?}; TAG is always there"),
            )
        })?;
        let subscription = worker
            .subscribe(plugin, text, &[])
            .map_err(|error| refused(&error))?;
        let mut subscriptions = self.subscriptions.lock().expect(POISONED);
        if subscriptions.len() >= limits::SUBSCRIPTIONS {
            subscriptions.clear();
        }
        subscriptions.insert((language.to_owned(), text.to_owned()), subscription.clone());
        Ok(subscription)
    }

    /// The stall at or before which delivery of this view has to wait, if its time is not over.
    pub(crate) fn waiting(&self, view: &View, from: QueueOffset, now: u64) -> Option<Stalled> {
        let stalls = self.stalls.lock().expect(POISONED);
        let stalled = stalls.get(view)?;
        (stalled.offset == from && stalled.again_at > now).then(|| stalled.clone())
    }

    /// Notes that a message could not be judged; says so once, then at every doubling.
    pub(crate) fn stall(
        &self,
        view: &View,
        offset: QueueOffset,
        fault: Fault,
        now: u64,
    ) -> Stalled {
        let mut stalls = self.stalls.lock().expect(POISONED);
        let attempts = match stalls.get(view) {
            Some(before) if before.offset == offset => before.attempts + 1,
            _ => 0,
        };
        let wait = limits::STALL_FIRST
            .saturating_mul(1 << attempts.min(16))
            .min(limits::STALL_LAST);
        let stalled = Stalled {
            offset,
            fault,
            attempts,
            again_at: now + wait.as_millis() as u64,
        };
        if stalls.len() >= limits::STALLS {
            stalls.clear();
        }
        stalls.insert(view.clone(), stalled.clone());
        stalled
    }

    /// The message was judged after all.
    pub(crate) fn judged(&self, view: &View, upto: QueueOffset) {
        let mut stalls = self.stalls.lock().expect(POISONED);
        if stalls
            .get(view)
            .is_some_and(|stalled| stalled.offset < upto)
        {
            stalls.remove(view);
        }
    }
}

fn refused(error: &SubscribeError) -> WireError {
    let code = match error {
        SubscribeError::Refused(_) => Code::EXPRESSION_REFUSED,
        SubscribeError::Fault(fault) => *Code::find(fault.code).unwrap_or(&Code::INTERNAL),
    };
    WireError::new(code, error.to_string())
}

/// Adds one record to a batch, field by field as the guest asked for them.
pub(crate) fn add(
    batch: &mut Batch,
    subscription: &Subscription,
    topic: &TopicName,
    record: &RecordView<'_>,
) {
    batch.begin_message();
    for field in &subscription.needs().fields {
        batch.text(text(field, topic, record));
    }
    for number in &subscription.needs().numbers {
        batch.number(figure(number, record));
    }
    batch.end_message();
}

fn text<'a>(field: &Field, topic: &'a TopicName, record: &RecordView<'a>) -> Option<&'a str> {
    let block = &record.block;
    let text = match field {
        Field::Tag => block.tag(),
        Field::Keys => block.keys(),
        Field::Topic => topic.as_str(),
        Field::MessageId => block.property(UNIQUE_KEY)?,
        Field::OrderKey => block.property("__SHARDINGKEY")?,
        Field::Property(name) => match name.as_str() {
            "TAGS" => block.tag(),
            "KEYS" => block.keys(),
            name => block.property(name)?,
        },
        // The runtime refuses needs this host cannot fill; these are empty when filtering.
        Field::Group | Field::Zone | Field::Other(_) => return None,
    };
    (!text.is_empty()).then_some(text)
}

/// Absent, and present but not a number: the contract's two marks.
const ABSENT: i64 = i64::MIN;
const NOT_A_NUMBER: i64 = i64::MIN + 1024;

fn figure(number: &Number, record: &RecordView<'_>) -> i64 {
    let header = &record.header;
    match number {
        Number::TagCode => i64::from(Tag::code(record.block.tag())),
        Number::QueueId => i64::from(header.queue.0),
        Number::QueueOffset => header.queue_offset.0 as i64,
        Number::Size => i64::from(header.len),
        Number::BornTimestamp => record.block.born_at() as i64,
        Number::StoreTimestamp => header.stored_at as i64,
        Number::ReconsumeTimes => i64::from(header.attempts),
        Number::Integer(name) => match record.block.property(name) {
            None | Some("") => ABSENT,
            Some(text) => match text.parse() {
                Ok(ABSENT | NOT_A_NUMBER) | Err(_) => NOT_A_NUMBER,
                Ok(value) => value,
            },
        },
        Number::Sequence | Number::Random | Number::Other(_) => ABSENT,
    }
}
