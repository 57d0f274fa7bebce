//! Selectors: which queue does a message go to that its sender left open? Plugins are opened once a
//! selector and parameters; what they need is taken from the message's block.
//!
//! When a guest fails, a message with an order key is refused, for its place is a promise; one without
//! takes the queues in turn.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use quern_plugins::{
    Batch, Fault, Field, Number, Plugin, Route, RouteQueue, Selector, Worker, integer,
};
use quern_protocol::message::{ORDER_KEY, UNIQUE_KEY};
use quern_protocol::{
    Block, BrokerName, Code, QueueId, Selector as Named, SendSelected, Tag, TopicId, WireError,
    WriteQueues,
};

use crate::accepted::{Accepted, Params};
use crate::filters::{property, refused};
use crate::limits;
use crate::topics::Topic;

/// Where a message shall go.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) broker: BrokerName,
    pub(crate) queue: QueueId,
    pub(crate) fell_back: bool,
}

/// Name and version of who chose, and a place, or a refusal, for each message.
pub(crate) type Choices = (String, Vec<Result<Choice, WireError>>);

/// The route of a topic as it was told last, and as guests are told it.
type Known = (Vec<WriteQueues>, Route);

/// The selectors of one broker.
#[derive(Debug, Default)]
pub(crate) struct Selectors {
    opened: Accepted<Selector>,
    /// The next turn of each selector of a topic.
    turns: Mutex<HashMap<(TopicId, Named), i64>>,
    routes: Mutex<HashMap<TopicId, Known>>,
}

const POISONED: &str = "no code that can panic runs under the selectors locks";

impl Selectors {
    /// Has the guest choose; on a delivery thread. The blocks have been verified.
    pub(crate) fn choose(
        &self,
        worker: &mut Worker,
        (plugin, request): (&Arc<Plugin>, &SendSelected),
        topic: &Topic,
        blocks: &Bytes,
    ) -> Result<Choices, WireError> {
        let selector = self.open(worker, plugin, &request.selector.params)?;
        let route = self.route(topic.id, &request.route);
        if route.queues().is_empty() {
            let text = format!("topic \"{}\" has no queues to write to", topic.name);
            return Err(WireError::new(Code::NO_ROUTE, text));
        }
        let mut turn = self.turns(topic.id, request);
        let mut choices = Vec::with_capacity(request.messages as usize);
        let mut batch = Batch::new(selector.needs());
        let mut rest = &blocks[..];
        let mut keyed = Vec::new();
        while !rest.is_empty() {
            let block =
                Block::lengths(rest).map_err(|it| WireError::new(it.code(), it.to_string()))?;
            rest = &rest[block.bytes().len()..];
            let order_key = block.property(ORDER_KEY).filter(|key| !key.is_empty());
            keyed.push(order_key.is_some());
            add(&mut batch, &selector, request, &block, turn);
            turn += 1;
            if batch.is_full() || rest.is_empty() {
                let selected = worker.select(&selector, &route, &batch);
                let first = turn - batch.len() as i64;
                for (index, queue) in selected.queues.into_iter().enumerate() {
                    let fault = selected.fault.as_ref();
                    choices.push(place(
                        &route,
                        queue,
                        keyed[index],
                        first + index as i64,
                        fault,
                    ));
                }
                batch.clear();
                keyed.clear();
            }
        }
        let plugin = selector.plugin();
        Ok((format!("{} {}", plugin.name(), plugin.version()), choices))
    }

    fn open(
        &self,
        worker: &mut Worker,
        plugin: &Arc<Plugin>,
        params: &Params,
    ) -> Result<Selector, WireError> {
        let asked = (plugin.id(), String::new(), params.clone());
        self.opened.known_or(asked, |_| {
            let opened = worker.open(plugin, params);
            opened.map_err(|error| refused("", &error))
        })
    }

    /// The same queues, the same route: guests are told of changes only. Brokers state no zone yet,
    /// and no latency.
    fn route(&self, topic: TopicId, queues: &[WriteQueues]) -> Route {
        let mut routes = self.routes.lock().expect(POISONED);
        if let Some((known, route)) = routes.get(&topic)
            && known == queues
        {
            return route.clone();
        }
        let all = queues.iter().flat_map(|it| {
            (0..it.queues).map(|id| RouteQueue {
                broker: it.broker.to_string(),
                id,
                zone: String::new(),
                latency_us: 0,
                backlog: 0,
            })
        });
        let route = Route::new(all.collect());
        if routes.len() >= limits::SUBSCRIPTIONS {
            routes.clear();
        }
        routes.insert(topic, (queues.to_vec(), route.clone()));
        route
    }

    /// Takes a turn for each message of a request.
    fn turns(&self, topic: TopicId, request: &SendSelected) -> i64 {
        let mut turns = self.turns.lock().expect(POISONED);
        if turns.len() >= limits::SUBSCRIPTIONS {
            turns.clear();
        }
        let next = turns.entry((topic, request.selector.clone())).or_default();
        let first = *next;
        *next = first.wrapping_add(request.messages.into()) & i64::MAX;
        first
    }
}

/// One message's place, by the guest or by the policy.
fn place(
    route: &Route,
    queue: Option<usize>,
    keyed: bool,
    turn: i64,
    fault: Option<&Fault>,
) -> Result<Choice, WireError> {
    let queues = route.queues();
    let index = match (queue, fault) {
        (Some(index), _) => index,
        (None, Some(fault)) if keyed => {
            let code = *Code::find(fault.code).unwrap_or(&Code::INTERNAL);
            return Err(WireError::new(code, fault.to_string()));
        }
        _ => (turn % queues.len() as i64) as usize,
    };
    let chosen = &queues[index];
    let broker = BrokerName::new(&chosen.broker);
    Ok(Choice {
        broker: broker.map_err(|it| WireError::new(Code::BAD_NAME, it.to_string()))?,
        queue: QueueId(chosen.id),
        fell_back: queue.is_none(),
    })
}

fn add(
    batch: &mut Batch,
    selector: &Selector,
    request: &SendSelected,
    block: &Block<'_>,
    turn: i64,
) {
    batch.begin_message();
    for field in &selector.needs().fields {
        let text = match field {
            Field::Property(name) => property(name, block),
            Field::Tag => Some(block.tag()),
            Field::Keys => Some(block.keys()),
            Field::Topic => Some(request.topic.as_str()),
            Field::MessageId => block.property(UNIQUE_KEY),
            Field::OrderKey => block.property(ORDER_KEY),
            Field::Group => request.group.as_ref().map(|group| group.as_str()),
            Field::Zone => Some(request.zone.as_str()),
            Field::Other(_) => None,
        };
        batch.text(text.filter(|text| !text.is_empty()));
    }
    for number in &selector.needs().numbers {
        batch.number(match number {
            Number::Integer(name) => integer(property(name, block)),
            Number::TagCode => i64::from(Tag::code(block.tag())),
            Number::BornTimestamp => block.born_at() as i64,
            Number::Size => block.bytes().len() as i64,
            Number::Sequence => turn,
            Number::Random => (fastrand::u64(..) >> 11) as i64,
            // What a message has only once it is stored.
            Number::QueueId
            | Number::QueueOffset
            | Number::StoreTimestamp
            | Number::ReconsumeTimes
            | Number::Other(_) => i64::MIN,
        });
    }
    batch.end_message();
}
