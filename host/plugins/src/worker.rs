//! A worker asks guests, on one thread. When a guest fails on a batch, the worker halves the batch
//! until the messages at fault stand alone, so that their neighbours get their verdicts.

use std::collections::HashMap;
use std::sync::Arc;

use crate::batch::{Batch, Field, Needs, Number};
use crate::bindings::quern::plugin::types;
use crate::error::{Cause, Fault, Refusal, SubscribeError, cut};
use crate::instance::{Expression, Instance};
use crate::limits;
use crate::plugin::Plugin;

/// An expression a plugin has accepted. Any worker can judge for it.
#[derive(Debug, Clone)]
pub struct Subscription(Arc<Accepted>);

#[derive(Debug)]
struct Accepted {
    plugin: Arc<Plugin>,
    expression: Expression,
    needs: Needs,
}

impl Subscription {
    /// What has to be given for each message.
    pub fn needs(&self) -> &Needs {
        &self.0.needs
    }

    pub fn plugin(&self) -> &Plugin {
        &self.0.plugin
    }
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
}

/// Holds instances, one a plugin, and asks them.
#[derive(Default)]
pub struct Worker {
    /// By the plugin's digest.
    instances: HashMap<Arc<str>, Instance>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Worker({} instances)", self.instances.len())
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
        let expression: Expression = (expression.into(), Arc::new(params.to_vec()));
        let needs = self.with_instance(plugin, |instance| {
            let compiled = match instance.compile(plugin, &expression)? {
                Ok(compiled) => compiled,
                Err(refusal) => return Ok(Err(refusal)),
            };
            instance.needs(plugin, compiled).map(Ok)
        })?;
        let needs = needs.map_err(|it| SubscribeError::Refused(refused(&expression, it)))?;
        let needs = Needs::from(needs);
        check(plugin, &needs)?;
        Ok(Subscription(Arc::new(Accepted {
            plugin: Arc::clone(plugin),
            expression,
            needs,
        })))
    }

    /// Asks the guest about every message of a batch.
    pub fn judge(&mut self, subscription: &Subscription, batch: &Batch) -> Judged {
        let mut judged = Judged {
            verdicts: vec![Verdict::Unjudged; batch.len()],
            fault: None,
        };
        if batch.is_empty() {
            return judged;
        }
        match self.ask(subscription, &batch.flat) {
            Ok(bits) => judged.write(0, batch.len(), &bits),
            Err(Unanswered::Judging(fault)) if batch.len() > 1 => {
                judged.fault = self.bisect(subscription, batch, &mut judged, fault);
            }
            Err(Unanswered::Judging(fault) | Unanswered::Compiling(fault)) => {
                judged.fault = Some(fault);
            }
        }
        judged
    }

    /// Finds the messages at fault: halves from the front, so that what precedes the first of them
    /// is judged even when the patience runs out. Gives the fault of the first unjudged one.
    fn bisect(
        &mut self,
        subscription: &Subscription,
        batch: &Batch,
        judged: &mut Judged,
        whole: Fault,
    ) -> Option<Fault> {
        let (mut first, mut latest) = (None, whole);
        let middle = batch.len() / 2;
        let mut parts = vec![middle..batch.len(), 0..middle];
        for _ in 0..limits::BISECTIONS {
            let Some(part) = parts.pop() else {
                return first;
            };
            match self.ask(subscription, &batch.slice(part.clone())) {
                Ok(bits) => judged.write(part.start, part.len(), &bits),
                Err(Unanswered::Compiling(fault)) => return Some(first.unwrap_or(fault)),
                Err(Unanswered::Judging(fault)) if part.len() == 1 => {
                    first.get_or_insert(fault);
                }
                Err(Unanswered::Judging(fault)) => {
                    latest = fault;
                    let middle = part.start + part.len() / 2;
                    parts.push(middle..part.end);
                    parts.push(part.start..middle);
                }
            }
        }
        match parts.is_empty() {
            true => first,
            false => Some(first.unwrap_or(latest)),
        }
    }

    /// One call; the answer has the right shape.
    fn ask(
        &mut self,
        subscription: &Subscription,
        batch: &types::Batch,
    ) -> Result<Vec<u32>, Unanswered> {
        let Accepted {
            plugin, expression, ..
        } = &*subscription.0;
        let compile = |instance: &mut Instance| match instance.compile(plugin, expression)? {
            Ok(compiled) => Ok(compiled),
            Err(refusal) => Err(plugin.fault(
                Cause::Answer,
                format!(
                    "refuses an expression it has accepted: {}",
                    cut(refusal.reason)
                ),
            )),
        };
        let compiled = self
            .with_instance(plugin, compile)
            .map_err(Unanswered::Compiling)?;
        let answer = self.with_instance(plugin, |instance| {
            let answer = instance.matches(plugin, compiled, batch)?;
            if let Ok(bits) = &answer {
                check_shape(plugin, batch.len, bits)?;
            }
            Ok(answer)
        });
        answer
            .and_then(|answer| {
                answer.map_err(|said| {
                    let message = format!("cannot judge the batch: {}", cut(said));
                    plugin.fault(Cause::Failure, message)
                })
            })
            .map_err(Unanswered::Judging)
    }

    /// Uses the plugin's instance; one that failed is thrown away.
    fn with_instance<T>(
        &mut self,
        plugin: &Plugin,
        act: impl FnOnce(&mut Instance) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut instance = match self.instances.remove(plugin.digest()) {
            Some(instance) => instance,
            None => Instance::new(plugin)?,
        };
        let done = act(&mut instance)?;
        if self.instances.len() >= limits::WORKER_INSTANCES {
            self.instances.clear();
        }
        self.instances.insert(plugin.shared_digest(), instance);
        Ok(done)
    }
}

/// Why a call brought no verdicts.
enum Unanswered {
    /// The batch is not to blame: smaller ones would fare no better.
    Compiling(Fault),
    Judging(Fault),
}

impl Judged {
    fn write(&mut self, from: usize, len: usize, bits: &[u32]) {
        for (index, verdict) in self.verdicts[from..from + len].iter_mut().enumerate() {
            let deliver = bits[index / 32] >> (index % 32) & 1 == 1;
            *verdict = if deliver {
                Verdict::Deliver
            } else {
                Verdict::Reject
            };
        }
    }
}

/// Exactly one bit a message, the spare ones zero.
fn check_shape(plugin: &Plugin, messages: u32, bits: &[u32]) -> Result<(), Fault> {
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
            Number::Sequence | Number::Random => {
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

/// A guest's refusal, its span within what it speaks of.
fn refused(expression: &Expression, refusal: types::Refusal) -> Refusal {
    let (text, params) = expression;
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
