//! Selectors: which queue does a message go to that its sender left open? Plugins are opened once a
//! selector and parameters; what they need is taken from the message's block.
//!
//! When a guest fails, a message with an order key is refused, for its place is a promise; one without
//! takes the queues in turn. A version on trial chooses for its share of the order keys, or is asked about them after
//! the active one; what it fails on, the active one chooses for.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use quern_plugins::{
    Batch, Fault, Field, Number, Plugin, Route, RouteQueue, Selector, SubscribeError, Worker,
    integer,
};
use quern_protocol::message::{ORDER_KEY, UNIQUE_KEY};
use quern_protocol::{
    Block, BrokerName, Code, QueueId, Selector as Named, SendSelected, Tag, TopicId, TrialMove,
    WireError, WriteQueues,
};

use crate::accepted::{Accepted, Params};
use crate::filters::{property, refused};
use crate::health::{Asked, Case};
use crate::shelf::Deciding;
use crate::topics::Topic;
use crate::trials::{self, Side, Tried};
use crate::trouble::Trouble;
use crate::{Broker, limits, reply};

/// Where a message shall go.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) broker: BrokerName,
    pub(crate) queue: QueueId,
    pub(crate) fell_back: bool,
}

/// A place, or a refusal, for each message.
#[derive(Debug)]
pub(crate) struct Chosen {
    /// Name and version of who chose.
    pub(crate) by: String,
    pub(crate) choices: Vec<Result<Choice, WireError>>,
    pub(crate) trouble: Trouble,
}

/// The route of a topic as it was told last, and as guests are told it.
type Known = (Vec<WriteQueues>, Route);

/// The selectors of one broker.
#[derive(Debug, Default)]
pub(crate) struct Selectors {
    opened: Accepted<Selector>,
    /// The next turn of each selector of a topic, and when it was last one's, steady ms.
    turns: Mutex<HashMap<(TopicId, Named), (i64, u64)>>,
    routes: Mutex<HashMap<TopicId, Known>>,
}

const POISONED: &str = "no code that can panic runs under the selectors locks";

impl Selectors {
    fn open(
        &self,
        worker: &mut Worker,
        plugin: &Arc<Plugin>,
        params: &Params,
    ) -> Result<Selector, SubscribeError> {
        let asked = (plugin.id(), String::new(), params.clone());
        self.opened.known_or(asked, |_| worker.open(plugin, params))
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

    /// Selectors somebody has sent by not long ago, with their parameters.
    pub(crate) fn used_of_late(&self, now: u64) -> Vec<(TopicId, Named)> {
        let turns = self.turns.lock().expect(POISONED);
        let late = |used: u64| now.saturating_sub(used) < limits::SELECTOR_IN_USE;
        let used = turns.iter().filter(|(_, (_, used))| late(*used));
        used.map(|(key, _)| key.clone()).collect()
    }

    /// Takes a turn for each message of a request.
    fn turns(&self, topic: TopicId, request: &SendSelected, now: u64) -> i64 {
        let mut turns = self.turns.lock().expect(POISONED);
        if turns.len() >= limits::SUBSCRIPTIONS {
            turns.clear();
        }
        let key = (topic, request.selector.clone());
        let (next, used) = turns.entry(key).or_default();
        let first = *next;
        *next = first.wrapping_add(request.messages.into()) & i64::MAX;
        *used = now;
        first
    }
}

/// Has guests choose; on a delivery thread. The blocks have been verified.
pub(crate) fn choose(
    (broker, worker): (&Broker, &mut Worker),
    deciding: &Deciding,
    (request, topic): (&SendSelected, &Topic),
    blocks: &Bytes,
) -> Result<Chosen, WireError> {
    let selectors = &broker.selectors;
    let route = selectors.route(topic.id, &request.route);
    if route.queues().is_empty() {
        let text = format!("topic \"{}\" has no queues to write to", topic.name);
        return Err(WireError::new(Code::NO_ROUTE, text));
    }
    let turn = selectors.turns(topic.id, request, broker.store.steady_ms());
    let mut choosing = Choosing {
        broker,
        worker,
        request,
        route,
        messages: messages(blocks, turn)?,
        by: Vec::new(),
        trouble: Trouble::default(),
    };
    let mut choices = choosing.by_trial(deciding);
    let rest: Vec<usize> = (0..choices.len())
        .filter(|it| choices[*it].is_none())
        .collect();
    if !rest.is_empty() {
        let answers = choosing.by_usual(deciding, &rest)?;
        choosing.shadow(deciding, &rest, &answers);
        let by = match &deciding.usual {
            Ok(plugin) => Cow::Borrowed(plugin.name()),
            Err((version, _)) => Cow::Owned(version.to_string()),
        };
        for (index, answer) in rest.into_iter().zip(answers) {
            choices[index] = Some(choosing.place(&by, index, answer));
        }
    }
    Ok(Chosen {
        by: choosing.by.join(" and "),
        choices: choices.into_iter().flatten().collect(),
        trouble: choosing.trouble,
    })
}

/// A message, and what selectors are told besides.
struct Sent<'a> {
    block: Block<'a>,
    order_key: Option<&'a str>,
    turn: i64,
    random: i64,
}

fn messages(mut rest: &[u8], first_turn: i64) -> Result<Vec<Sent<'_>>, WireError> {
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let block = Block::lengths(rest).map_err(|it| WireError::new(it.code(), it.to_string()))?;
        rest = &rest[block.bytes().len()..];
        messages.push(Sent {
            order_key: block.property(ORDER_KEY).filter(|key| !key.is_empty()),
            turn: first_turn + messages.len() as i64,
            random: (fastrand::u64(..) >> 11) as i64,
            block,
        });
    }
    Ok(messages)
}

impl Sent<'_> {
    /// What a trial takes it by: who sends it again meets the same version.
    fn key(&self) -> Option<&str> {
        self.order_key.or_else(|| self.block.property(UNIQUE_KEY))
    }

    fn side(&self, tried: &Tried) -> Side {
        self.key().map_or(Side::Usual, |key| tried.side(key))
    }

    fn case(&self) -> Case {
        let mut hash = DefaultHasher::new();
        match self.block.property(UNIQUE_KEY) {
            Some(id) => id.hash(&mut hash),
            None => self.block.bytes().hash(&mut hash),
        }
        Case::Sent(hash.finish())
    }
}

/// An index into the route, or why there is none.
type Answer = Result<usize, WireError>;

/// Messages whose queues are being chosen.
struct Choosing<'a> {
    broker: &'a Broker,
    worker: &'a mut Worker,
    request: &'a SendSelected,
    route: Route,
    messages: Vec<Sent<'a>>,
    /// Who has chosen.
    by: Vec<String>,
    trouble: Trouble,
}

impl Choosing<'_> {
    /// Those a canary chooses for; the others are left open, and so is what it fails on.
    fn by_trial(&mut self, deciding: &Deciding) -> Vec<Option<Result<Choice, WireError>>> {
        let mut choices: Vec<_> = self.messages.iter().map(|_| None).collect();
        let on_trial = deciding.on_trial.as_ref();
        let Some((tried, plugin)) = on_trial else {
            return choices;
        };
        let which: Vec<usize> = (0..choices.len())
            .filter(|it| self.messages[*it].side(tried) == Side::Canary)
            .collect();
        let Some(answers) = self.ask_trial((tried, plugin), &which) else {
            return choices;
        };
        let mut decided = 0;
        for (index, answer) in which.into_iter().zip(answers) {
            if answer.is_ok() {
                decided += 1;
                choices[index] = Some(self.place(plugin.name(), index, answer));
            }
        }
        if decided > 0 {
            self.broker.trials.decided(tried, decided);
            self.by.push(in_words(plugin));
        }
        choices
    }

    /// What the version on trial says of messages; `None` = nothing.
    fn ask_trial(
        &mut self,
        (tried, plugin): (&Tried, &Arc<Plugin>),
        which: &[usize],
    ) -> Option<Vec<Answer>> {
        if which.is_empty() {
            return None;
        }
        let params = &self.request.selector.params;
        let selectors = &self.broker.selectors;
        let selector = match selectors.open(self.worker, plugin, params) {
            Ok(selector) => selector,
            Err(error) => {
                let why = trials::cannot(&refused("", &error));
                self.trouble.trial_is_over = Some((tried.clone(), why));
                return None;
            }
        };
        let answers = self.ask(&selector, which, false);
        let failed = which.iter().zip(&answers).filter(|(_, it)| it.is_err());
        let failed: Vec<_> = failed.map(|(it, _)| self.messages[*it].case()).collect();
        if !failed.is_empty() && self.broker.trials.failed(tried, failed) {
            self.trouble.too_many_faults(tried);
        }
        Some(answers)
    }

    fn by_usual(&mut self, deciding: &Deciding, which: &[usize]) -> Result<Vec<Answer>, WireError> {
        let nobody = |error: &WireError| which.iter().map(|_| Err(error.clone())).collect();
        let plugin = match &deciding.usual {
            Ok(plugin) => plugin,
            Err((_, quarantined)) => return Ok(nobody(quarantined)),
        };
        self.by.push(in_words(plugin));
        let params = &self.request.selector.params;
        let selectors = &self.broker.selectors;
        match selectors.open(self.worker, plugin, params) {
            Ok(selector) => Ok(self.ask(&selector, which, true)),
            Err(SubscribeError::Fault(fault)) => {
                self.note(plugin.name(), which.len(), &[], Some(&fault));
                Ok(nobody(&reply::failed(&fault)))
            }
            Err(error) => Err(refused("", &error)),
        }
    }

    /// Compares what was chosen with what a version in the shadow would have chosen.
    fn shadow(&mut self, deciding: &Deciding, which: &[usize], answers: &[Answer]) {
        let Some((tried, plugin)) = &deciding.on_trial else {
            return;
        };
        // Where the active one failed there is nothing to compare with.
        let chosen = which.iter().zip(answers);
        let chosen = chosen.filter_map(|(index, answer)| Some((*index, *answer.as_ref().ok()?)));
        let is_shadowed = |index: usize| self.messages[index].side(tried) == Side::Shadowed;
        let (compared, active): (Vec<usize>, Vec<usize>) =
            chosen.filter(|(index, _)| is_shadowed(*index)).unzip();
        let Some(by_trial) = self.ask_trial((tried, plugin), &compared) else {
            return;
        };
        let (mut asked, mut moves) = (0, Vec::new());
        for ((index, active), trial) in compared.into_iter().zip(active).zip(by_trial) {
            let Ok(trial) = trial else {
                continue;
            };
            asked += 1;
            if trial == active {
                continue;
            }
            if let (Ok(active), Ok(trial)) = (self.queue(active), self.queue(trial)) {
                moves.push(TrialMove::Message {
                    topic: self.request.topic.clone(),
                    key: self.messages[index].key().unwrap_or_default().to_owned(),
                    active,
                    trial,
                });
            }
        }
        self.broker.trials.chose(tried, asked, moves);
    }

    /// Asks about some of the messages, in batches.
    fn ask(&mut self, selector: &Selector, which: &[usize], is_usual: bool) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(which.len());
        let mut batch = Batch::new(selector.needs());
        while let Some(rest) = which.get(answers.len()..).filter(|it| !it.is_empty()) {
            for index in rest {
                add(&mut batch, selector, self.request, &self.messages[*index]);
                if batch.is_full() {
                    break;
                }
            }
            let selected = self.worker.select(selector, &self.route, &batch);
            if is_usual {
                let at_fault = selected.at_fault.iter();
                let at_fault = at_fault.map(|it| self.messages[rest[*it]].case());
                let at_fault: Vec<_> = at_fault.collect();
                let (name, fault) = (selector.plugin().name(), selected.fault.as_ref());
                self.note(name, batch.len(), &at_fault, fault);
            }
            let failed = selected.fault.as_ref().map(reply::failed);
            let failed = failed.unwrap_or_else(|| WireError::new(Code::INTERNAL, "no answer"));
            let queues = selected.queues.into_iter();
            answers.extend(queues.map(|it| it.ok_or_else(|| failed.clone())));
            batch.clear();
        }
        answers
    }

    fn note(&mut self, plugin: &str, messages: usize, at_fault: &[Case], fault: Option<&Fault>) {
        let asked = Asked {
            messages,
            at_fault,
            fault,
            now: self.broker.store.steady_ms(),
        };
        self.trouble.asked(self.broker, plugin, None, &asked);
    }

    fn queue(&self, index: usize) -> Result<(BrokerName, QueueId), WireError> {
        let chosen = &self.route.queues()[index];
        let broker = BrokerName::new(&chosen.broker);
        let broker = broker.map_err(|it| WireError::new(Code::BAD_NAME, it.to_string()))?;
        Ok((broker, QueueId(chosen.id)))
    }

    /// One message's place, by the guest or by the policy.
    fn place(&self, by: &str, index: usize, answer: Answer) -> Result<Choice, WireError> {
        let message = &self.messages[index];
        let fell_back = answer.is_err();
        let health = &self.broker.health;
        let index = match answer {
            Ok(index) => index,
            Err(error) if message.order_key.is_some() => {
                health.stood_in(by, |it| it.refused += 1);
                return Err(error);
            }
            Err(_) => {
                health.stood_in(by, |it| it.in_turn += 1);
                (message.turn % self.route.queues().len() as i64) as usize
            }
        };
        let (broker, queue) = self.queue(index)?;
        Ok(Choice {
            broker,
            queue,
            fell_back,
        })
    }
}

fn in_words(plugin: &Plugin) -> String {
    format!("{} {}", plugin.name(), plugin.version())
}

fn add(batch: &mut Batch, selector: &Selector, request: &SendSelected, message: &Sent<'_>) {
    let block = &message.block;
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
            Number::Sequence => message.turn,
            Number::Random => message.random,
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
