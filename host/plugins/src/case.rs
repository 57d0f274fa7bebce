//! Cases: what an author says a plugin must answer, one JSON document a line.
//!
//! ```text
//! {"what": "big and from here", "message": {"properties": {"region": "eu"}}, "params": {"min": 100}, "expect": true}
//! {"what": "no number", "params": {"min": "many"}, "refused": "\"many\" is not a number"}
//! {"what": "its own room", "message": {"orderKey": "a"}, "queues": ["a/0:us", "b/0:eu"], "expect": 1}
//! {"what": "the heavier more", "members": ["x*2", "y:eu"], "queues": ["a/0", "a/1", "b/0=y"], "expect": [0, 0, 1]}
//! ```
//!
//! A filter is expected to say true or false, a selector the place of a queue among those given
//! (`broker/id:zone`), an allocation strategy the place of a member (`id:zone*weight`) for each queue
//! (`broker/id:zone=owner`), null for nobody. `quern plugin test` runs cases, `upload` takes them along inside the component,
//! and the broker runs them again before it lets the plugin in.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

use crate::allocation_strategy::{GroupQueue, Member, Request, Strategy};
use crate::batch::{Batch, Field, Needs, Number, integer};
use crate::error::{LoadError, SubscribeError};
use crate::limits;
use crate::plugin::{Kind, Plugin};
use crate::queue_selector::{Route, RouteQueue};
use crate::worker::{Judged, Selector, Subscription, Verdict, Worker};

/// One line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    #[serde(default)]
    pub what: String,
    #[serde(default)]
    pub message: CaseMessage,
    #[serde(default)]
    pub expression: String,
    #[serde(default, deserialize_with = "texts")]
    pub params: BTreeMap<String, String>,
    /// Of a selector or strategy: `broker/id:zone=owner`, in any order; zone and owner may be missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<String>,
    /// Of a strategy: `id:zone*weight`, in any order; zone and weight may be missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// Of a strategy.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
    /// Why expression or parameters are not accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// The message a case speaks of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct CaseMessage {
    pub topic: String,
    pub tags: String,
    pub keys: String,
    pub order_key: String,
    #[serde(deserialize_with = "texts")]
    pub properties: BTreeMap<String, String>,
    pub body: String,
    pub queue: u32,
    pub offset: u64,
    pub born_at: u64,
    pub stored_at: u64,
    pub attempts: u32,
    pub sequence: i64,
}

/// What a filter, a selector or a strategy says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Expect {
    Delivered(bool),
    Queue(usize),
    Owners(Vec<Option<usize>>),
}

/// What a plugin made of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Said(Expect),
    Refused(String),
    /// It failed, and how.
    Failed(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Said(Expect::Delivered(delivered)) => write!(f, "{delivered}"),
            Self::Said(Expect::Queue(queue)) => write!(f, "queue {queue}"),
            Self::Said(Expect::Owners(owners)) => {
                let name = |it: &Option<usize>| it.map_or("nobody".to_owned(), |it| it.to_string());
                let names: Vec<String> = owners.iter().map(name).collect();
                write!(f, "members {}", names.join(", "))
            }
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}

/// Parameters and properties are texts on the wire; a case may write numbers and booleans plainly.
fn texts<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    let values = BTreeMap::<String, serde_json::Value>::deserialize(from)?;
    let text = |(name, value)| match value {
        serde_json::Value::String(text) => Ok((name, text)),
        serde_json::Value::Number(_) | serde_json::Value::Bool(_) => Ok((name, value.to_string())),
        _ => Err(serde::de::Error::custom(format!(
            "{name} is {value}; a text, a number, true or false can stand here"
        ))),
    };
    values.into_iter().map(text).collect()
}

/// Reads cases, one a line; empty lines do not count.
pub fn parse(text: &str) -> Result<Vec<Case>, LoadError> {
    if text.len() > limits::VECTORS {
        return Err(LoadError::TooLarge {
            what: "cases, bytes",
            have: text.len(),
            most: limits::VECTORS,
        });
    }
    let bad = |number: usize, why: &dyn fmt::Display| {
        LoadError::Vector(format!("line {}: {why}", number + 1))
    };
    let mut cases = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let case: Case = serde_json::from_str(line).map_err(|error| bad(number, &error))?;
        if case.expect.is_some() == case.refused.is_some() {
            let why = "a case says what to expect, or why the plugin is refused";
            return Err(bad(number, &why));
        }
        cases.push(case);
    }
    Ok(cases)
}

impl Case {
    /// Parameters as a subscription takes them.
    pub fn params(&self) -> Vec<(String, String)> {
        let params = self.params.iter();
        params
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// Its name, or what stands in for one.
    pub fn title(&self, number: usize) -> String {
        match self.what.as_str() {
            "" => format!("case {number}"),
            what => what.to_owned(),
        }
    }

    /// What is right.
    pub fn right(&self) -> Outcome {
        match (&self.refused, &self.expect) {
            (Some(why), _) => Outcome::Refused(why.clone()),
            (None, Some(expect)) => Outcome::Said(expect.clone()),
            (None, None) => Outcome::Failed("the case says nothing".to_owned()),
        }
    }

    /// Asks the plugin.
    pub fn run(&self, worker: &mut Worker, plugin: &Arc<Plugin>) -> Outcome {
        match ready(worker, plugin, &[self], 1) {
            Ok(ready) => ready.ask(worker),
            Err(outcome) => outcome,
        }
    }

    fn route(&self) -> Option<Route> {
        let queues = self.queues.iter().map(|queue| route_queue(queue));
        queues.collect::<Option<Vec<_>>>().map(Route::new)
    }

    fn request(&self) -> Option<Request> {
        let members: Option<Vec<_>> = self.members.iter().map(|it| member(it)).collect();
        let queues: Option<Vec<_>> = self.queues.iter().map(|it| group_queue(it)).collect();
        let (group, topic) = (&self.group, &self.message.topic);
        Some(Request::new(group, topic, members?, queues?))
    }
}

/// Everything a plugin is asked with, its parameters accepted and messages laid out: it can be asked again
/// and again, and it is the asking alone that costs.
pub struct Ready(Question);

enum Question {
    Filter(Subscription, Batch),
    Selector(Selector, Route, Batch),
    Strategy(Strategy, Request),
}

/// What the first case asks, of the messages of all, over and over until there are so many or no more find
/// room. An error is an answer already: refused, failed.
pub fn ready(
    worker: &mut Worker,
    plugin: &Arc<Plugin>,
    cases: &[&Case],
    messages: usize,
) -> Result<Ready, Outcome> {
    let Some(first) = cases.first() else {
        return Err(Outcome::Failed("there is no case".to_owned()));
    };
    let asked = match plugin.kind() {
        Kind::Filter | Kind::BodyFilter => worker
            .subscribe(plugin, &first.expression, &first.params())
            .map(|subscription| {
                let bodies = subscription.needs_bodies();
                let batch = lay_out(cases, messages, (subscription.needs(), bodies));
                Question::Filter(subscription, batch)
            }),
        Kind::QueueSelector => {
            let Some(route) = first.route() else {
                let why = "a queue is written broker/id:zone";
                return Err(Outcome::Failed(why.to_owned()));
            };
            worker.open(plugin, &first.params()).map(|selector| {
                let batch = lay_out(cases, messages, (selector.needs(), false));
                Question::Selector(selector, route, batch)
            })
        }
        Kind::AllocationStrategy => {
            let Some(request) = first.request() else {
                let why = "a member is written id:zone*weight, a queue broker/id:zone=owner";
                return Err(Outcome::Failed(why.to_owned()));
            };
            let strategy = Strategy::bind(plugin, &first.params());
            strategy.map(|strategy| Question::Strategy(strategy, request))
        }
    };
    asked.map(Ready).map_err(Outcome::from)
}

fn lay_out(cases: &[&Case], messages: usize, (needs, bodies): (&Needs, bool)) -> Batch {
    let mut batch = Batch::new(needs);
    for case in cases.iter().cycle().take(messages) {
        case.message.add_to(&mut batch, needs, bodies);
        if batch.is_full() {
            break;
        }
    }
    batch
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ready({} messages)", self.len())
    }
}

impl From<SubscribeError> for Outcome {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::Refused(refusal) => Self::Refused(refusal.reason),
            SubscribeError::Fault(fault) => Self::Failed(fault.to_string()),
        }
    }
}

impl Ready {
    /// How many messages, or queues of a group, one answer decides about.
    pub fn len(&self) -> usize {
        match &self.0 {
            Question::Filter(_, batch) | Question::Selector(_, _, batch) => batch.len(),
            Question::Strategy(_, request) => request.queues().len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Asks; says what the plugin makes of the first message, or of the group.
    pub fn ask(&self, worker: &mut Worker) -> Outcome {
        let failed = |fault: crate::error::Fault| Outcome::Failed(fault.to_string());
        match &self.0 {
            Question::Filter(subscription, batch) => {
                let judged = worker.judge(subscription, batch);
                let delivered = judged.verdicts.first() == Some(&Verdict::Deliver);
                let said = Outcome::Said(Expect::Delivered(delivered));
                judged.fault.map_or(said, failed)
            }
            Question::Selector(selector, route, batch) => {
                let selected = worker.select(selector, route, batch);
                match (selected.queues.first(), selected.fault) {
                    (_, Some(fault)) => failed(fault),
                    (Some(Some(queue)), None) => Outcome::Said(Expect::Queue(*queue)),
                    (_, None) => Outcome::Failed("no queue".to_owned()),
                }
            }
            Question::Strategy(strategy, request) => match strategy.allocate(request) {
                Ok(owners) => Outcome::Said(Expect::Owners(owners)),
                Err(fault) => failed(fault),
            },
        }
    }
}

/// `broker/id:zone=owner`, all but the first two optional.
fn group_queue(text: &str) -> Option<GroupQueue> {
    let (queue, owner) = match text.split_once('=') {
        Some((queue, owner)) => (queue, Some(owner.to_owned())),
        None => (text, None),
    };
    let it = route_queue(queue)?;
    Some(GroupQueue {
        broker: it.broker,
        id: it.id,
        zone: it.zone,
        owner,
        lag: None,
    })
}

/// `id:zone*weight`.
fn member(text: &str) -> Option<Member> {
    let (rest, weight) = match text.rsplit_once('*') {
        Some((rest, weight)) => (rest, weight.parse().ok()?),
        None => (text, 1),
    };
    let (id, zone) = rest.split_once(':').unwrap_or((rest, ""));
    (!id.is_empty()).then(|| Member {
        id: id.to_owned(),
        zone: zone.to_owned(),
        weight,
    })
}

fn route_queue(text: &str) -> Option<RouteQueue> {
    let (name, zone) = text.split_once(':').unwrap_or((text, ""));
    let (broker, id) = name.split_once('/')?;
    Some(RouteQueue {
        broker: broker.to_owned(),
        id: id.parse().ok()?,
        zone: zone.to_owned(),
        latency_us: 0,
        backlog: 0,
    })
}

/// What a filter says of messages, in their order, asked in one batch after the other.
pub fn judge(worker: &mut Worker, subscription: &Subscription, messages: &[CaseMessage]) -> Judged {
    let mut verdicts = Vec::with_capacity(messages.len());
    let (mut fault, mut at_fault, mut fuel) = (None, Vec::new(), 0);
    while verdicts.len() < messages.len() {
        let mut batch = Batch::new(subscription.needs());
        for message in &messages[verdicts.len()..] {
            message.add_to(
                &mut batch,
                subscription.needs(),
                subscription.needs_bodies(),
            );
            if batch.is_full() {
                break;
            }
        }
        let judged = worker.judge(subscription, &batch);
        at_fault.extend(judged.at_fault.iter().map(|place| verdicts.len() + place));
        verdicts.extend(judged.verdicts);
        fuel += judged.fuel;
        fault = fault.or(judged.fault);
    }
    Judged {
        verdicts,
        fault,
        at_fault,
        fuel,
    }
}

impl CaseMessage {
    /// Adds this message to a batch, field by field as the guest asked for them.
    fn add_to(&self, batch: &mut Batch, needs: &Needs, bodies: bool) {
        batch.begin_message();
        for field in &needs.fields {
            batch.text(self.text(field).filter(|text| !text.is_empty()));
        }
        for number in &needs.numbers {
            batch.number(self.number(number));
        }
        if bodies {
            batch.body(self.body.as_bytes());
        }
        batch.end_message();
    }

    fn property(&self, name: &str) -> Option<&str> {
        match name {
            "TAGS" => Some(&self.tags),
            "KEYS" => Some(&self.keys),
            name => self.properties.get(name).map(String::as_str),
        }
    }

    fn text(&self, field: &Field) -> Option<&str> {
        match field {
            Field::Property(name) => self.property(name),
            Field::Tag => Some(&self.tags),
            Field::Keys => Some(&self.keys),
            Field::Topic => Some(&self.topic),
            Field::OrderKey => Some(&self.order_key),
            Field::MessageId => self.property("UNIQ_KEY"),
            Field::Group | Field::Zone | Field::Other(_) => None,
        }
    }

    fn number(&self, number: &Number) -> i64 {
        match number {
            Number::Integer(name) => integer(self.property(name)),
            Number::TagCode => tag_code(&self.tags).into(),
            Number::QueueId => self.queue.into(),
            Number::QueueOffset => self.offset as i64,
            Number::Size => self.body.len() as i64,
            Number::BornTimestamp => self.born_at as i64,
            Number::StoreTimestamp => self.stored_at as i64,
            Number::ReconsumeTimes => self.attempts.into(),
            Number::Sequence => self.sequence,
            Number::Random | Number::Other(_) => 0,
        }
    }
}

/// Java's `String.hashCode`.
fn tag_code(tag: &str) -> i32 {
    tag.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_written_with_as_much_as_matters() {
        let line = "{\"members\":[\"b:eu*3\",\"10.0.0.1@7\"],\"queues\":[\"x/1=b\",\"x/0:us\"],\
                    \"expect\":[null,1]}";
        let case = &parse(line).unwrap()[0];
        let request = case.request().unwrap();
        assert!(request.members().eq(["10.0.0.1@7", "b"]));
        assert!(request.queues().eq([("x", 0), ("x", 1)]));
        assert_eq!(case.right().to_string(), "members nobody, 1");
        let parts = member("b:eu*3").map(|it| (it.id, it.zone, it.weight));
        assert_eq!(parts, Some(("b".to_owned(), "eu".to_owned(), 3)));
        assert_eq!(
            group_queue("x/1=b").and_then(|it| it.owner).as_deref(),
            Some("b")
        );
        for bad in ["", ":eu", "a*many"] {
            assert_eq!(member(bad), None, "{bad:?}");
        }
        assert_eq!(group_queue("x"), None);
    }

    #[test]
    fn cases_are_read_and_what_is_wrong_is_named_with_its_line() {
        let text = "{\"message\":{\"tags\":\"paid\",\"properties\":{\"n\":1}},\
                    \"params\":{\"min\":100,\"on\":true},\"expect\":true}\n\n\
                    {\"refused\":\"no\",\"expression\":\"?\"}\n{\"expect\":2}";
        let cases = parse(text).unwrap();
        assert_eq!(cases.len(), 3);
        assert_eq!(cases[0].message.tags, "paid");
        assert_eq!(cases[0].message.properties["n"], "1");
        assert_eq!(
            (&*cases[0].params["min"], &*cases[0].params["on"]),
            ("100", "true")
        );
        assert_eq!(cases[0].right(), Outcome::Said(Expect::Delivered(true)));
        assert_eq!(cases[1].right(), Outcome::Refused("no".to_owned()));
        assert_eq!(cases[2].right(), Outcome::Said(Expect::Queue(2)));
        for (bad, word) in [
            ("{\"expect\":\"x\"}", "line 1"),
            ("{\"expect\":true}\n{}", "line 2"),
            ("{\"expect\":true,\"refused\":\"no\"}", "line 1"),
            ("{\"expect\":true,\"mesage\":{}}", "mesage"),
            ("{\"expect\":true,\"params\":{\"a\":[]}}", "[]"),
            ("{\"expect\":[0,-1]}", "line 1"),
        ] {
            let error = parse(bad).unwrap_err();
            assert_eq!(error.code(), 4106);
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
