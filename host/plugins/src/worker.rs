//! A worker asks guests, on one thread. When a guest fails on a batch, the worker halves the batch
//! until the messages at fault stand alone, so that their neighbours get their verdicts.

use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::batch::{Batch, Field, Flat, Needs, Number};
use crate::bindings::types;
use crate::error::{Cause, Fault, Refusal, SubscribeError, cut};
use crate::filter::{Expression, FilterInstance, Params};
use crate::ids::ById;
use crate::limits;
use crate::pace::Pace;
use crate::plugin::{Kind, Plugin, next_id};
use crate::purity;
use crate::queue_selector::{Route, SelectorInstance, check_indices};

/// An expression a plugin has accepted. Any worker can judge for it.
#[derive(Debug, Clone)]
pub struct Subscription(Arc<Accepted>);

#[derive(Debug)]
struct Accepted {
    plugin: Arc<Plugin>,
    expression: Expression,
    needs: Needs,
    pace: Pace,
}

impl Subscription {
    /// For messages to be judged, as many as are judged in a moment by all that is known.
    pub fn batch(&self) -> Batch {
        Batch::of(self.0.pace.at_once(), &self.0.needs)
    }

    /// What has to be given for each message.
    pub fn needs(&self) -> &Needs {
        &self.0.needs
    }

    /// Each message needs its body, too.
    pub fn needs_bodies(&self) -> bool {
        self.0.plugin.kind() == Kind::BodyFilter
    }

    pub fn plugin(&self) -> &Plugin {
        &self.0.plugin
    }

    /// What was accepted, as it was given.
    pub fn expression(&self) -> &str {
        &self.0.expression.text
    }

    pub fn params(&self) -> &[(String, String)] {
        &self.0.expression.params
    }
}

/// A selector whose parameters its plugin has accepted. Any worker can ask it.
#[derive(Debug, Clone)]
pub struct Selector(Arc<Opened>);

#[derive(Debug)]
struct Opened {
    id: u64,
    plugin: Arc<Plugin>,
    params: Params,
    needs: Needs,
}

impl Selector {
    /// What has to be given for each message.
    pub fn needs(&self) -> &Needs {
        &self.0.needs
    }

    pub fn plugin(&self) -> &Plugin {
        &self.0.plugin
    }
}

/// The queues of a batch's messages, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// Index into the route; `None` = the guest failed on it, or was not asked any more.
    pub queues: Vec<Option<usize>>,
    /// Why the first `None` is one; `None` = all have a queue.
    pub fault: Option<Fault>,
    /// Places of those the guest failed on when it was asked about them alone, in order.
    pub at_fault: Vec<usize>,
}

/// What a filter says of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Deliver,
    Reject,
    /// The guest failed on it, or was not asked any more after failures on others.
    Unjudged,
}

/// The verdicts on a batch, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    pub verdicts: Vec<Verdict>,
    /// Why the first unjudged one is that; `None` = all are judged.
    pub fault: Option<Fault>,
    /// Places of those the guest failed on when it was asked about them alone, in order. Others that are
    /// unjudged have not been asked about any more, or are not to blame.
    pub at_fault: Vec<usize>,
    /// Of all calls but those that ask once more.
    pub fuel: u64,
}

/// Holds instances, one a plugin, and asks them.
#[derive(Default)]
pub struct Worker {
    filters: Instances<FilterInstance>,
    selectors: Instances<SelectorInstance>,
    /// As of when worthless instances were looked for last.
    swept: u64,
}

/// By the plugin's id.
type Instances<I> = ById<Kept<I>>;

/// An instance, and whether it is still of use.
struct Kept<I> {
    instance: I,
    /// Its plugin's when it was made.
    generation: u64,
    current: Arc<AtomicU64>,
}

impl<I> Kept<I> {
    fn new(plugin: &Plugin, instance: I) -> Self {
        let current = Arc::clone(plugin.generation());
        Self {
            instance,
            generation: current.load(Ordering::Relaxed),
            current,
        }
    }

    fn is_of_use(&self) -> bool {
        self.generation == self.current.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let instances = self.filters.len() + self.selectors.len();
        write!(f, "Worker({instances} instances)")
    }
}

impl Worker {
    /// Has a plugin compile an expression.
    pub fn subscribe(
        &mut self,
        plugin: &Arc<Plugin>,
        expression: &str,
        params: &[(String, String)],
    ) -> Result<Subscription, SubscribeError> {
        if !matches!(plugin.kind(), Kind::Filter | Kind::BodyFilter) {
            return Err(wrong_kind(plugin, "a filter"));
        }
        let expression = Expression {
            id: next_id(),
            text: expression.into(),
            params: Arc::new(params.to_vec()),
        };
        let instances = &mut self.filters;
        let needs = with_instance(instances, plugin, FilterInstance::new, |instance| {
            let compiled = match instance.compile(plugin, &expression)? {
                Ok(compiled) => compiled,
                Err(refusal) => return Ok(Err(refusal)),
            };
            instance.needs(plugin, compiled).map(Ok)
        })?;
        let refused = |it| refused(&expression.text, &expression.params, it);
        let needs = needs.map_err(|it| SubscribeError::Refused(refused(it)))?;
        let needs = Needs::from(needs);
        check(plugin, &needs)?;
        Ok(Subscription(Arc::new(Accepted {
            plugin: Arc::clone(plugin),
            expression,
            needs,
            pace: Pace::default(),
        })))
    }

    /// Has a plugin look at a selector's parameters.
    pub fn open(
        &mut self,
        plugin: &Arc<Plugin>,
        params: &[(String, String)],
    ) -> Result<Selector, SubscribeError> {
        if plugin.kind() != Kind::QueueSelector {
            return Err(wrong_kind(plugin, "a queue selector"));
        }
        let params: Params = Arc::new(params.to_vec());
        let id = next_id();
        let instances = &mut self.selectors;
        let needs = with_instance(instances, plugin, SelectorInstance::new, |instance| {
            let opened = match instance.open(plugin, id, &params)? {
                Ok(opened) => opened,
                Err(refusal) => return Ok(Err(refusal)),
            };
            instance.needs(plugin, opened).map(Ok)
        })?;
        let needs = needs.map_err(|it| SubscribeError::Refused(refused("", &params, it)))?;
        let needs = Needs::from(needs);
        check(plugin, &needs)?;
        Ok(Selector(Arc::new(Opened {
            id,
            plugin: Arc::clone(plugin),
            params,
            needs,
        })))
    }

    /// Lets go what belongs to plugins that have retired. Asking does so by itself; who may long have nothing to ask
    /// does it meanwhile.
    pub fn sweep(&mut self) {
        let now = Plugin::retirements();
        if self.swept != now {
            self.swept = now;
            self.filters.retain(|_, kept| kept.is_of_use());
            self.selectors.retain(|_, kept| kept.is_of_use());
        }
    }

    /// Asks the guest about every message of a batch.
    pub fn judge(&mut self, subscription: &Subscription, batch: &Batch) -> Judged {
        self.sweep();
        let mut verdicts = vec![Verdict::Unjudged; batch.len()];
        let mut fuel = 0;
        let (fault, at_fault) = in_parts(batch, |messages, range| {
            let words = self.verdicts(subscription, messages, &mut fuel)?;
            for (verdict, said) in verdicts[range].iter_mut().zip(as_verdicts(&words)) {
                *verdict = said;
            }
            Ok(())
        });
        let mut judged = Judged {
            verdicts,
            fault,
            at_fault,
            fuel,
        };
        self.judge_again(subscription, batch, &mut judged);
        judged
    }

    /// Now and then the guest is asked about a batch once more; what it says otherwise then is not judged.
    fn judge_again(&self, subscription: &Subscription, batch: &Batch, judged: &mut Judged) {
        let Accepted {
            plugin, expression, ..
        } = &*subscription.0;
        let is_due = purity::is_due(plugin.next_batch());
        if !is_due || judged.fault.is_some() || batch.is_empty() {
            return;
        }
        if let Some((fault, differ)) =
            purity::differing(plugin, expression, batch, &judged.verdicts)
        {
            for place in &differ {
                judged.verdicts[*place] = Verdict::Unjudged;
            }
            judged.fault = Some(fault);
            judged.at_fault = differ;
        }
    }

    /// Asks the guest for the queue of every message of a batch.
    pub fn select(&mut self, selector: &Selector, route: &Route, batch: &Batch) -> Selected {
        self.sweep();
        let mut queues = vec![None; batch.len()];
        let (fault, at_fault) = in_parts(batch, |messages, range| {
            let indices = self.indices(selector, route, messages)?;
            for (queue, index) in queues[range].iter_mut().zip(indices) {
                *queue = Some(index as usize);
            }
            Ok(())
        });
        Selected {
            queues,
            fault,
            at_fault,
        }
    }

    /// One call; the answer has the right shape.
    fn verdicts(
        &mut self,
        subscription: &Subscription,
        batch: &Flat,
        fuel: &mut u64,
    ) -> Result<Vec<u32>, Unanswered> {
        let Accepted {
            plugin,
            expression,
            pace,
            ..
        } = &*subscription.0;
        let start = |plugin: &Plugin| FilterInstance::new(plugin).map_err(Unanswered::Beforehand);
        let answer = with_instance(&mut self.filters, plugin, start, |instance| {
            let compiled = instance.compile(plugin, expression);
            let compiled = beforehand(plugin, compiled)?;
            let (answer, spent) = instance.matches(plugin, compiled, batch);
            *fuel += spent;
            pace.took(batch.messages.len, spent, answer.is_ok());
            let answer = answer.map_err(Unanswered::Batch)?;
            if let Ok(bits) = &answer {
                let shape = check_shape(plugin, batch.messages.len, bits);
                shape.map_err(Unanswered::Batch)?;
                plugin.delivered(bits.iter().map(|word| word.count_ones()).sum());
            }
            Ok(answer)
        })?;
        said(plugin, answer)
    }

    /// One call; every index is within the route.
    fn indices(
        &mut self,
        selector: &Selector,
        route: &Route,
        batch: &Flat,
    ) -> Result<Vec<u32>, Unanswered> {
        let Opened {
            id, plugin, params, ..
        } = &*selector.0;
        let start = |plugin: &Plugin| SelectorInstance::new(plugin).map_err(Unanswered::Beforehand);
        let answer = with_instance(&mut self.selectors, plugin, start, |instance| {
            let opened = instance.open(plugin, *id, params);
            let opened = beforehand(plugin, opened)?;
            let told = instance.route(plugin, *id, route);
            told.map_err(Unanswered::Beforehand)?;
            let answer = instance.select(plugin, opened, batch);
            let answer = answer.map_err(Unanswered::Batch)?;
            if let Ok(indices) = &answer {
                let queues = route.queues().len();
                let shape = check_indices(plugin, batch.messages.len, queues, indices);
                shape.map_err(Unanswered::Batch)?;
            }
            Ok(answer)
        })?;
        said(plugin, answer)
    }
}

/// Uses the plugin's instance; one that failed is thrown away.
fn with_instance<I, T, E>(
    instances: &mut Instances<I>,
    plugin: &Plugin,
    start: impl FnOnce(&Plugin) -> Result<I, E>,
    act: impl FnOnce(&mut I) -> Result<T, E>,
) -> Result<T, E> {
    if instances.len() >= limits::WORKER_INSTANCES && !instances.contains_key(&plugin.id()) {
        instances.clear();
    }
    let done = match instances.entry(plugin.id()) {
        Entry::Occupied(known) => act(&mut known.into_mut().instance),
        Entry::Vacant(place) => {
            let kept = Kept::new(plugin, start(plugin)?);
            act(&mut place.insert(kept).instance)
        }
    };
    if done.is_err() {
        instances.remove(&plugin.id());
    }
    done
}

/// Why a call brought no answer.
enum Unanswered {
    /// The batch is not to blame: smaller ones would fare no better.
    Beforehand(Fault),
    Batch(Fault),
}

/// Asks about the whole batch; where that fails, finds the messages at fault: halves from the front,
/// so that what precedes the first of them is answered even when the patience runs out. Gives the
/// fault of the first unanswered one, and the places of those that failed alone.
fn in_parts(
    batch: &Batch,
    mut ask: impl FnMut(&Flat, Range<usize>) -> Result<(), Unanswered>,
) -> (Option<Fault>, Vec<usize>) {
    let mut alone = Vec::new();
    if batch.is_empty() {
        return (None, alone);
    }
    let (mut first, mut latest) = match ask(&batch.flat, 0..batch.len()) {
        Ok(()) => return (None, alone),
        Err(Unanswered::Beforehand(fault)) => return (Some(fault), alone),
        Err(Unanswered::Batch(fault)) if batch.len() == 1 => return (Some(fault), vec![0]),
        Err(Unanswered::Batch(fault)) => (None, fault),
    };
    let middle = batch.len() / 2;
    let mut parts = vec![middle..batch.len(), 0..middle];
    for _ in 0..limits::BISECTIONS {
        let Some(part) = parts.pop() else {
            return (first, alone);
        };
        match ask(&batch.slice(part.clone()), part.clone()) {
            Ok(()) => {}
            Err(Unanswered::Beforehand(fault)) => return (Some(first.unwrap_or(fault)), alone),
            Err(Unanswered::Batch(fault)) if part.len() == 1 => {
                alone.push(part.start);
                first.get_or_insert(fault);
            }
            Err(Unanswered::Batch(fault)) => {
                latest = fault;
                let middle = part.start + part.len() / 2;
                parts.push(middle..part.end);
                parts.push(part.start..middle);
            }
        }
    }
    match parts.is_empty() {
        true => (first, alone),
        false => (Some(first.unwrap_or(latest)), alone),
    }
}

/// A guest's "no" is a fault like any other, but for its instance, which lives.
fn said<T>(plugin: &Plugin, answer: Result<T, String>) -> Result<T, Unanswered> {
    answer.map_err(|said| {
        let message = format!("cannot answer for this batch: {}", cut(said));
        Unanswered::Batch(plugin.fault(Cause::Failure, message))
    })
}

/// What was accepted once and has to be made anew in this instance.
fn beforehand<T>(
    plugin: &Plugin,
    made: Result<Result<T, types::Refusal>, Fault>,
) -> Result<T, Unanswered> {
    let made = made.and_then(|it| it.map_err(|refusal| changed_its_mind(plugin, refusal)));
    made.map_err(Unanswered::Beforehand)
}

fn changed_its_mind(plugin: &Plugin, refusal: types::Refusal) -> Fault {
    let reason = cut(refusal.reason);
    let message = format!("refuses what it has accepted before: {reason}");
    plugin.fault(Cause::Answer, message)
}

/// What the bits of an answer say, message by message; the spare ones too.
pub(crate) fn as_verdicts(bits: &[u32]) -> impl Iterator<Item = Verdict> {
    let bits = bits
        .iter()
        .flat_map(|word| (0..32).map(move |bit| word >> bit & 1));
    bits.map(|bit| match bit {
        1 => Verdict::Deliver,
        _ => Verdict::Reject,
    })
}

/// Exactly one bit a message, the spare ones zero.
pub(crate) fn check_shape(plugin: &Plugin, messages: u32, bits: &[u32]) -> Result<(), Fault> {
    let words = messages.div_ceil(32) as usize;
    if bits.len() != words {
        return Err(plugin.fault(
            Cause::Answer,
            format!(
                "answered {} words for {messages} messages, {words} are right",
                bits.len()
            ),
        ));
    }
    let used = messages % 32;
    let spare = bits
        .last()
        .is_some_and(|last| used != 0 && last >> used != 0);
    if spare {
        return Err(plugin.fault(
            Cause::Answer,
            "set bits beyond the last message of a batch".to_owned(),
        ));
    }
    Ok(())
}

fn check(plugin: &Plugin, needs: &Needs) -> Result<(), SubscribeError> {
    let unknown = |name: &String| {
        refusal(format!(
            "plugin {} needs {name:?}, which this broker does not know",
            plugin.name()
        ))
    };
    for field in &needs.fields {
        if let Field::Other(name) = field {
            return Err(unknown(name));
        }
    }
    for number in &needs.numbers {
        match number {
            Number::Other(name) => return Err(unknown(name)),
            Number::Sequence | Number::Random if plugin.kind() != Kind::QueueSelector => {
                return Err(refusal(format!(
                    "plugin {} needs {number:?}, which only selectors are given",
                    plugin.name()
                )));
            }
            _ => {}
        }
    }
    let codes = needs.tag_codes.as_ref().map_or(0, Vec::len);
    for (what, have, most) in [
        ("texts", needs.fields.len(), limits::NEEDS),
        ("numbers", needs.numbers.len(), limits::NEEDS),
        ("tags", codes, limits::TAG_CODES),
    ] {
        if have > most {
            return Err(refusal(format!(
                "it needs {have} {what}, the limit is {most}"
            )));
        }
    }
    Ok(())
}

fn refusal(reason: String) -> SubscribeError {
    SubscribeError::Refused(Refusal {
        param: None,
        at: 0,
        len: 0,
        reason,
        help: None,
    })
}

/// The plugin decides something else.
pub(crate) fn wrong_kind(plugin: &Plugin, wanted: &str) -> SubscribeError {
    let (name, kind) = (plugin.name(), plugin.kind());
    refusal(format!("plugin {name} is a {kind}, not {wanted}"))
}

/// A guest's refusal, its span within what it speaks of.
pub(crate) fn refused(text: &str, params: &[(String, String)], refusal: types::Refusal) -> Refusal {
    let spoken_of = match &refusal.param {
        None => Some(text.len()),
        Some(name) => params
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.len()),
    };
    let end = spoken_of.unwrap_or(0) as u32;
    let at = refusal.at.min(end);
    Refusal {
        param: refusal.param.map(cut),
        at,
        len: refusal.len.min(end - at),
        reason: cut(refusal.reason),
        help: refusal.help.map(cut),
    }
}
