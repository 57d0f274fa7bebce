//! Filters: expressions compiled once into subscriptions, log records laid out for the guest, and
//! what happens when a guest fails.
//!
//! Unless the group wants it otherwise ([`FilterFailure`]) delivery *stalls*: what precedes the failing message
//! is delivered, the message itself and what follows wait, and the guest is asked again after 1 s, doubling to
//! 30 s. Whatever a group wants, nothing is lost, and nothing is passed on unjudged without saying so.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use quern_plugins::{Batch, Fault, Field, Number, SubscribeError, Subscription, Worker, integer};
use quern_protocol::message::{ORDER_KEY, UNIQUE_KEY};
use quern_protocol::{
    Block, Code, Filter, FilterFailure, GroupName, PluginName, QueueId, QueueOffset, RecordView,
    Stall, Tag, TopicId, TopicName, WireError,
};

use crate::accepted::{Accepted, Asked};
use crate::chain::{Chain, Link};
use crate::pool::Who;
use crate::shelf::Found;
use crate::topics::Topic;
use crate::trials::{self, Deciders, OnTrial, Tried};
use crate::{Broker, limits, reply};

/// A queue as those see it whom the same filters decide for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct View {
    pub(crate) filter: Filter,
    /// Bound to the group besides.
    pub(crate) bound: Vec<Bound>,
    pub(crate) topic: TopicId,
    pub(crate) queue: QueueId,
}

/// A filter that is bound, and who decides where it cannot say.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Bound {
    pub(crate) filter: Filter,
    pub(crate) otherwise: Option<Filter>,
}

impl View {
    /// In the order they are asked, with what stands in for each.
    fn filters(&self) -> impl Iterator<Item = (&Filter, Option<&Filter>)> {
        let bound = self.bound.iter();
        let bound = bound.map(|it| (&it.filter, it.otherwise.as_ref()));
        std::iter::once((&self.filter, None)).chain(bound)
    }
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
    /// As a client is told of it.
    pub(crate) fn told(&self, now: u64) -> Stall {
        Stall {
            offset: self.offset,
            code: self.fault.code,
            message: self.fault.to_string(),
            // Who asks sooner than the guest is asked again costs little, and hears of it within a second when an
            // operator has helped.
            retry_ms: self.again_at.saturating_sub(now).min(limits::STALL_TOLD) as u32,
        }
    }
}

/// The filters of one broker.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    subscriptions: Accepted<Subscription>,
    stalls: Mutex<HashMap<View, Stalled>>,
}

const POISONED: &str = "no code that can panic runs under the filters lock";

impl Filters {
    /// What a name stands for has changed: where it stalled, another version may not.
    pub(crate) fn ask_again(&self, name: &PluginName, language: Option<&str>) {
        let mut stalls = self.stalls.lock().expect(POISONED);
        let is_other = |filter: &Filter| match filter {
            Filter::Plugin(filter) => filter.plugin.name != *name,
            Filter::Expression {
                language: spoken, ..
            } => Some(spoken.as_str()) != language,
            Filter::All => true,
        };
        stalls.retain(|view, _| view.filters().all(|(it, _)| is_other(it)));
    }

    /// The stall at or before which delivery of this view has to wait, if its time is not over.
    pub(crate) fn waiting(&self, view: &View, from: QueueOffset, now: u64) -> Option<Stalled> {
        let stalls = self.stalls.lock().expect(POISONED);
        let stalled = stalls.get(view)?;
        (stalled.offset == from && stalled.again_at > now).then(|| stalled.clone())
    }

    /// Where this view stands still, its time over or not.
    pub(crate) fn stalled(&self, view: &View) -> Option<Stalled> {
        self.stalls.lock().expect(POISONED).get(view).cloned()
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
            // When somebody asks again, the breaker says.
            _ if fault.code == Code::PLUGIN_BREAKER_OPEN.number => 0,
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

/// Who decides for a group from now on, all of them. A name stands for the version that is active now, and what is
/// bound is bound now; the next look at a queue asks again.
pub(crate) async fn judge(
    broker: &Arc<Broker>,
    view: &View,
    group: Option<&GroupName>,
) -> Result<Chain, WireError> {
    let (who, mut chain) = (Who::from(group), Chain::default());
    for (filter, otherwise) in view.filters() {
        let otherwise = match otherwise {
            Some(otherwise) => deciders(broker, &who, otherwise).await?.map(|it| it.usual),
            None => None,
        };
        match (deciders(broker, &who, filter).await, otherwise) {
            (Ok(found), otherwise) => {
                let links = found.map(|deciders| Link::new(broker, deciders, otherwise));
                chain.links.extend(links);
            }
            // Nobody waits, and nothing is passed that nobody has judged.
            (Err(error), Some(instead)) if is_of_plugin(&error) => {
                tracing::debug!(%filter, %error, "another filter decides instead");
                let instead = Deciders {
                    usual: instead,
                    follows: None,
                    on_trial: None,
                };
                chain.links.push(Link::new(broker, instead, None));
            }
            (Err(error), _) if error.is(Code::PLUGIN_QUARANTINED) => {
                match broker.on_filter_failure(group) {
                    FilterFailure::Pass => chain.unjudged = Some(error.code),
                    // A parked message is one its filter fails on; this one nobody was asked about.
                    FilterFailure::Stall | FilterFailure::Park => return Err(error),
                }
            }
            (Err(error), _) => return Err(error),
        }
    }
    Ok(chain)
}

impl Broker {
    /// A queue as a group sees it now that asks for this.
    pub(crate) fn view(
        &self,
        filter: &Filter,
        group: Option<&GroupName>,
        (topic, queue): (&Topic, QueueId),
    ) -> View {
        View {
            filter: filter.clone(),
            bound: self.state.bindings.of(&topic.name, group),
            topic: topic.id,
            queue,
        }
    }
}

impl Broker {
    /// What becomes of messages that a filter fails on, for this group; nobody's wait.
    pub(crate) fn on_filter_failure(&self, group: Option<&GroupName>) -> FilterFailure {
        let settings = &self.state.group_settings;
        group.map_or(FilterFailure::Stall, |it| settings.on_filter_failure(it))
    }
}

/// Whether it is the plugin that cannot be asked, and not the broker that cannot ask.
fn is_of_plugin(error: &WireError) -> bool {
    (4_100..4_500).contains(&error.code)
}

/// Who decides for a filter, found out for somebody; `None` = nobody has to.
pub(crate) async fn deciders(
    broker: &Arc<Broker>,
    who: &Who,
    filter: &Filter,
) -> Result<Option<Deciders>, WireError> {
    let (shelf, plugins) = (&broker.shelf, &broker.state.plugins);
    let (found, name, text, params) = match filter {
        Filter::All => return Ok(None),
        Filter::Expression { language, text } => {
            let found = shelf.speaker(plugins, language)?;
            (found, plugins.speaker(language), text, &[][..])
        }
        Filter::Plugin(it) => {
            let found = shelf.find(plugins, &it.plugin);
            let found = found.unwrap_or_else(|| Err(reply::no_plugin(it.plugin.name.as_str())));
            let follows = it.plugin.version.is_none();
            let name = follows.then(|| it.plugin.name.clone());
            (found?, name, &it.expression, &it.params[..])
        }
    };
    let usual = subscription(broker, who.clone(), found, text, params).await?;
    let tried = name.as_ref();
    let tried = tried.and_then(|name| Some((shelf.on_trial(plugins, name)?, name.clone())));
    let on_trial = match tried {
        Some(((trial, found), name)) => {
            let tried = Tried { name, trial };
            on_trial(broker, who, (tried, found), (text, params)).await
        }
        None => None,
    };
    Ok(Some(Deciders {
        usual,
        follows: name,
        on_trial,
    }))
}

async fn on_trial(
    broker: &Arc<Broker>,
    who: &Who,
    (tried, found): (Tried, Found),
    (text, params): (&str, &[(String, String)]),
) -> Option<OnTrial> {
    match subscription(broker, who.clone(), found, text, params).await {
        Ok(subscription) => Some(OnTrial {
            tried,
            subscription,
        }),
        // Better now than for everybody.
        Err(error) => {
            trials::end(broker, tried, trials::cannot(&error));
            None
        }
    }
}

/// What a plugin makes of an expression, compiled once.
pub(crate) async fn subscription(
    broker: &Arc<Broker>,
    who: Who,
    found: Found,
    text: &str,
    params: &[(String, String)],
) -> Result<Subscription, WireError> {
    let plugin = broker.loaded(found).await?;
    let asked = (plugin.id(), text.to_owned(), params.to_vec());
    if let Some(known) = broker.filters.subscriptions.known(&asked) {
        return Ok(known);
    }
    let broker_ = Arc::clone(broker);
    let work = move |worker: &mut Worker| {
        let make = |(_, text, params): &Asked| {
            let subscription = worker.subscribe(&plugin, text, params);
            subscription.map_err(|error| refused(text, &error))
        };
        broker_.filters.subscriptions.known_or(asked, make)
    };
    broker.delivery.run(who, work).await?
}

pub(crate) fn refused(expression: &str, error: &SubscribeError) -> WireError {
    match error {
        SubscribeError::Refused(refusal) => {
            let code = match refusal.param {
                Some(_) => Code::PARAMETER_REFUSED,
                None => Code::EXPRESSION_REFUSED,
            };
            WireError::new(code, refusal.shown(expression))
        }
        SubscribeError::Fault(fault) => reply::failed(fault),
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
        // It was decompressed when it came in; a log that was written by others may hold what does not.
        let body = record.block.body();
        batch.body(&body.unwrap_or_else(|_| Cow::Borrowed(record.block.stored_body())));
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
