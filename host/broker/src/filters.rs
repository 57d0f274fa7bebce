//! Filters: expressions compiled once into subscriptions, log records laid out for the guest, and
//! what happens when a guest fails.
//!
//! The policy is *stall*: what precedes the failing message is delivered, the message itself and
//! what follows wait, and the guest is asked again after 1 s, doubling to 30 s. Nothing is lost and
//! nothing is passed on unjudged.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use quern_plugins::{
    Batch, Fault, Field, Number, Plugin, Runtime, SubscribeError, Subscription, Worker, integer,
};
use quern_protocol::message::{ORDER_KEY, UNIQUE_KEY};
use quern_protocol::{
    Block, Code, Filter, QueueId, QueueOffset, RecordView, Tag, TopicId, TopicName, WireError,
};

use crate::{limits, reply};

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
    runtime: Runtime,
    /// Besides those we ship; each speaks a language of its own.
    more: Vec<Arc<Plugin>>,
    subscriptions: Mutex<HashMap<Expression, Subscription>>,
    stalls: Mutex<HashMap<View, Stalled>>,
}

const POISONED: &str = "no code that can panic runs under the filters lock";

impl Filters {
    pub(crate) fn new(runtime: &Runtime, more: &[Arc<Plugin>]) -> Self {
        Self {
            runtime: runtime.clone(),
            more: more.to_vec(),
            subscriptions: Mutex::default(),
            stalls: Mutex::default(),
        }
    }

    /// Those we ship and somebody has used, then those besides.
    pub(crate) fn plugins(&self) -> Vec<Arc<Plugin>> {
        let mut plugins = self.runtime.built_ins_in_use();
        plugins.extend_from_slice(&self.more);
        plugins
    }

    /// Who speaks a language; one that we ship is compiled by the first who asks.
    fn speaker(&self, language: &str) -> Result<Arc<Plugin>, WireError> {
        let speaks = |known: Option<&str>| known == Some(language);
        let shipped = Runtime::built_ins().iter().find(|it| speaks(it.language));
        if let Some(built_in) = shipped.and_then(|it| self.runtime.built_in(it.name)) {
            return built_in.map_err(|error| reply::not_loaded(&error));
        }
        let found = self.more.iter().find(|plugin| speaks(plugin.language()));
        found.cloned().ok_or_else(|| {
            WireError::new(
                Code::LANGUAGE_UNKNOWN,
                format!(
                    "no plugin of this broker speaks {language:?}; TAG and SQL92 are always there"
                ),
            )
        })
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
        let plugin = self.speaker(language)?;
        let subscription = worker
            .subscribe(&plugin, text, &[])
            .map_err(|error| refused(text, &error))?;
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

pub(crate) fn refused(expression: &str, error: &SubscribeError) -> WireError {
    match error {
        SubscribeError::Refused(refusal) => {
            WireError::new(Code::EXPRESSION_REFUSED, refusal.shown(expression))
        }
        SubscribeError::Fault(fault) => {
            let code = *Code::find(fault.code).unwrap_or(&Code::INTERNAL);
            WireError::new(code, error.to_string())
        }
    }
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
    if subscription.needs_bodies() {
        batch.body(record.block.body());
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
        Field::OrderKey => block.property(ORDER_KEY)?,
        Field::Property(name) => property(name, block)?,
        // The runtime refuses needs this host cannot fill; these are empty when filtering.
        Field::Group | Field::Zone | Field::Other(_) => return None,
    };
    (!text.is_empty()).then_some(text)
}

/// As RocketMQ has it, tag and keys are properties, too.
pub(crate) fn property<'a>(name: &str, block: &Block<'a>) -> Option<&'a str> {
    match name {
        "TAGS" => Some(block.tag()),
        "KEYS" => Some(block.keys()),
        name => block.property(name),
    }
}

/// What is given for a number this host does not have; the runtime refuses needs that name one.
const ABSENT: i64 = i64::MIN;

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
        Number::Integer(name) => integer(property(name, &record.block)),
        Number::Sequence | Number::Random | Number::Other(_) => ABSENT,
    }
}
