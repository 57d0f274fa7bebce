//! Breakers: a filter that fails again and again on what somebody asks it is not asked for a while, and what the
//! group wants of messages it fails on becomes of all of them at once.
//!
//! ```text
//! closed --too many of its messages within a window--> open --its time over--> one look asks again
//!    ^────────────────────── that went well ─────────────┴─ it did not: open twice as long, 30 s at the most
//! ```
//!
//! There is one for each version, what it is asked, topic and group. A version that is new is quarantined at once,
//! by [`crate::health`]; breakers are for those that were good for long, and for plugins that have no versions and
//! thus nothing to fall back to. One that opens for the third time within ten minutes, or for a second group, is
//! quarantined, too.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use quern_plugins::Fault;
use quern_protocol::{Code, Filter, GroupName, OpenBreaker, PluginFilter, PluginRef, TopicName};

use crate::accepted::Params;
use crate::health::{Asked, Window};
use crate::limits;

/// Whose a breaker is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Asker {
    /// The name it is loaded under.
    pub(crate) plugin: String,
    pub(crate) params: Params,
    pub(crate) expression: String,
    pub(crate) topic: TopicName,
    pub(crate) group: Option<GroupName>,
}

impl Asker {
    /// What it asks, as a person would write it.
    fn asks(&self) -> String {
        match self.plugin.parse::<PluginRef>() {
            Ok(plugin) => {
                let (params, expression) = (self.params.clone(), self.expression.clone());
                let filter = PluginFilter {
                    plugin,
                    params,
                    expression,
                };
                Filter::Plugin(filter).to_string()
            }
            Err(_) => self.plugin.clone(),
        }
    }
}

#[derive(Debug, Default)]
struct Breaker {
    window: Window,
    /// When it opened of late, steady ms.
    openings: VecDeque<u64>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    why: String,
    /// Of the last fault.
    fault: Fault,
    /// Somebody may ask again then, steady ms.
    again_at: u64,
    attempts: u32,
    /// Somebody asks now.
    is_tried: bool,
}

/// All that have something to say.
#[derive(Debug, Default)]
pub(crate) struct Breakers {
    all: Mutex<HashMap<Asker, Breaker>>,
    /// How many there are: where there are none, nobody takes the lock.
    count: AtomicUsize,
}

impl Breakers {
    fn lock(&self) -> MutexGuard<'_, HashMap<Asker, Breaker>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Whether the plugin may be asked. Where its time is over, whoever asks first does so for all: others wait for
    /// what comes of it.
    pub(crate) fn may_ask(&self, asker: &Asker, now: u64) -> Result<(), Fault> {
        if self.is_empty() {
            return Ok(());
        }
        let mut all = self.lock();
        let Some(open) = all.get_mut(asker).and_then(|it| it.open.as_mut()) else {
            return Ok(());
        };
        if open.again_at <= now {
            open.again_at = now + wait(open.attempts);
            open.is_tried = true;
            return Ok(());
        }
        Err(Fault {
            code: Code::PLUGIN_BREAKER_OPEN.number,
            message: format!("is not asked for {} ms: {}", open.again_at - now, open.why),
            ..open.fault.clone()
        })
    }

    /// Notes what came of a call; `Some` = why the version should be quarantined, if it has another to fall back to.
    pub(crate) fn asked(&self, asker: &Asker, asked: &Asked<'_>) -> Option<String> {
        if asked.fault.is_none() && self.is_empty() {
            return None;
        }
        let mut all = self.lock();
        if !all.contains_key(asker) {
            asked.fault?;
            if all.len() >= limits::BREAKERS {
                all.retain(|_, it| it.open.is_some());
            }
            if all.len() >= limits::BREAKERS {
                return None;
            }
            all.insert(asker.clone(), Breaker::default());
        }
        let breaker = all.get_mut(asker)?;
        let has_opened = breaker.asked(asker, asked);
        if breaker.has_nothing_to_say() {
            all.remove(asker);
        }
        self.count.store(all.len(), Ordering::Relaxed);
        if !has_opened {
            return None;
        }
        let of_plugin = all.iter().filter(|(it, _)| it.plugin == asker.plugin);
        let open = of_plugin.filter(|(_, it)| it.is_open_of_late(asked.now));
        let open = open.count();
        let breaker = all.get(asker)?;
        let why = breaker.open.as_ref().map(|it| it.why.as_str());
        let (times, why) = (breaker.openings.len(), why.unwrap_or_default());
        let minutes = limits::OPENINGS_WINDOW / 60_000;
        if times >= limits::OPENINGS {
            return Some(format!(
                "{why}; not asked for a while {times} times within {minutes} minutes"
            ));
        }
        (open >= limits::OPEN_BREAKERS)
            .then(|| format!("{why}; so it did for another that uses it"))
    }

    /// What a version has done is forgotten.
    pub(crate) fn forgive(&self, plugin: &str) {
        let mut all = self.lock();
        all.retain(|it, _| it.plugin != plugin);
        self.count.store(all.len(), Ordering::Relaxed);
    }

    /// Those that are open.
    pub(crate) fn open(&self, now: u64) -> Vec<OpenBreaker> {
        let all = self.lock();
        let open = all.iter().filter_map(|(asker, breaker)| {
            let open = breaker.open.as_ref()?;
            Some(OpenBreaker {
                plugin: asker.plugin.clone(),
                asks: asker.asks(),
                topic: asker.topic.clone(),
                group: asker.group.clone(),
                why: open.why.clone(),
                again_in_ms: open.again_at.saturating_sub(now) as u32,
                times: breaker.openings.len() as u32,
            })
        });
        let mut open: Vec<_> = open.collect();
        open.sort_by(|a, b| (&a.plugin, &a.topic, &a.group).cmp(&(&b.plugin, &b.topic, &b.group)));
        open
    }
}

/// How long nobody asks after so many attempts, ms.
fn wait(attempts: u32) -> u64 {
    let wait = limits::STALL_FIRST.saturating_mul(1 << attempts.min(16));
    wait.min(limits::STALL_LAST).as_millis() as u64
}

impl Breaker {
    /// `true` = it has just opened.
    fn asked(&mut self, asker: &Asker, asked: &Asked<'_>) -> bool {
        let now = asked.now;
        if let Some(open) = &mut self.open {
            // What was under way when it opened says nothing of what is the case now.
            if !std::mem::take(&mut open.is_tried) {
                return false;
            }
            match asked.fault {
                Some(fault) => {
                    open.attempts += 1;
                    open.again_at = now + wait(open.attempts);
                    open.fault = fault.clone();
                }
                None => {
                    self.open = None;
                    self.window.clear();
                    let (plugin, topic, group) = (&asker.plugin, &asker.topic, &asker.group);
                    tracing::info!(plugin, %topic, ?group, "a plugin is asked again");
                }
            }
            return false;
        }
        let why = self.window.asked(asked);
        self.forget_old(now);
        let (Some(why), Some(fault)) = (why, asked.fault) else {
            return false;
        };
        let (plugin, topic, group) = (&asker.plugin, &asker.topic, &asker.group);
        tracing::warn!(plugin, %topic, ?group, why, "a plugin is not asked for a while");
        self.openings.push_back(now);
        self.open = Some(Open {
            why,
            fault: fault.clone(),
            again_at: now + wait(0),
            attempts: 0,
            is_tried: false,
        });
        true
    }

    fn forget_old(&mut self, now: u64) {
        let is_old = |at: &u64| now.saturating_sub(*at) > limits::OPENINGS_WINDOW;
        while self.openings.front().is_some_and(is_old) {
            self.openings.pop_front();
        }
    }

    /// Where nobody has asked again for long, nobody knows what is the case now.
    fn is_open_of_late(&self, now: u64) -> bool {
        let open = self.open.as_ref();
        open.is_some_and(|it| now.saturating_sub(it.again_at) <= limits::OPENINGS_WINDOW)
    }

    fn has_nothing_to_say(&self) -> bool {
        self.open.is_none() && self.openings.is_empty() && self.window.is_clean()
    }
}

#[cfg(test)]
mod tests {
    use quern_protocol::{QueueId, QueueOffset, TopicId};

    use super::*;
    use crate::health::Case;

    fn asker(group: &str) -> Asker {
        Asker {
            plugin: "geo@1".to_owned(),
            params: vec![("min".to_owned(), "1".to_owned())],
            expression: String::new(),
            topic: TopicName::new("t").unwrap(),
            group: Some(GroupName::new(group).unwrap()),
        }
    }

    /// Asks about so many messages; those from the first offset on are at fault.
    fn ask(breakers: &Breakers, group: &str, now: u64, at_fault: &[u64]) -> Option<String> {
        let fault = Fault {
            code: 4301,
            plugin: "geo@1".into(),
            version: "0.1.0".into(),
            message: "stopped".to_owned(),
        };
        let case = |it: &u64| Case::Message(TopicId(1), QueueId(0), QueueOffset(*it));
        let at_fault: Vec<_> = at_fault.iter().map(case).collect();
        let asked = Asked {
            messages: 10,
            at_fault: &at_fault,
            fault: (!at_fault.is_empty()).then_some(&fault),
            now,
        };
        breakers.asked(&asker(group), &asked)
    }

    fn may_ask(breakers: &Breakers, now: u64) -> bool {
        breakers.may_ask(&asker("g"), now).is_ok()
    }

    const MANY: [u64; 5] = [1, 2, 3, 4, 5];

    #[test]
    fn many_failures_open_it_and_one_look_asks_again_later_and_later() {
        let breakers = Breakers::default();
        for now in 0..20 {
            assert_eq!(
                ask(&breakers, "g", now, &[7]),
                None,
                "one message, again and again"
            );
        }
        assert!(may_ask(&breakers, 20));
        assert_eq!(ask(&breakers, "g", 20, &MANY), None, "the first time");
        let refused = breakers.may_ask(&asker("g"), 21).unwrap_err();
        assert_eq!(refused.code, Code::PLUGIN_BREAKER_OPEN.number);
        assert!(
            refused.message.contains("6 of 210 messages"),
            "{}",
            refused.message
        );
        assert!(breakers.may_ask(&asker("h"), 21).is_ok(), "another's");
        assert_eq!(ask(&breakers, "g", 22, &[]), None);
        assert!(!may_ask(&breakers, 22), "it was under way before");
        let first = limits::STALL_FIRST.as_millis() as u64;
        let mut now = 20;
        for (attempts, waits) in [1, 2, 4, 8, 16, 30, 30].into_iter().enumerate() {
            assert!(!may_ask(&breakers, now + waits * first - 1), "{attempts}");
            now += waits * first;
            assert!(may_ask(&breakers, now));
            assert!(!may_ask(&breakers, now), "one look asks");
            assert_eq!(ask(&breakers, "g", now, &[9]), None);
        }
        assert_eq!(breakers.open(now)[0].again_in_ms, 30_000);
        now += 30_000;
        assert!(may_ask(&breakers, now));
        assert_eq!(ask(&breakers, "g", now, &[]), None);
        assert!(may_ask(&breakers, now), "it is closed");
        assert_eq!(breakers.open(now), []);
    }

    #[test]
    fn three_openings_or_two_that_are_open_are_too_much() {
        let breakers = Breakers::default();
        let mut why = None;
        for round in 0..3_u64 {
            assert_eq!(why, None, "{round}");
            let now = round * 20_000;
            why = ask(&breakers, "g", now, &MANY);
            assert!(may_ask(&breakers, now + 1_000));
            ask(&breakers, "g", now + 1_000, &[]);
        }
        assert!(why.unwrap().contains("3 times within 10 minutes"));
        let breakers = Breakers::default();
        assert_eq!(ask(&breakers, "g", 0, &MANY), None);
        assert!(ask(&breakers, "h", 0, &MANY).unwrap().contains("another"));
        breakers.forgive("geo@1");
        assert!(may_ask(&breakers, 1));
        assert_eq!(ask(&breakers, "g", 0, &MANY), None);
        let later = 2 * limits::OPENINGS_WINDOW;
        assert_eq!(ask(&breakers, "h", later, &MANY), None, "long ago");
        breakers.forgive("geo@1");
        // What is long ago counts no more.
        for round in 0..3_u64 {
            let now = round * limits::OPENINGS_WINDOW;
            assert_eq!(ask(&breakers, "g", now, &MANY), None);
            assert!(may_ask(&breakers, now + 1_000));
            ask(&breakers, "g", now + 1_000, &[]);
        }
    }
}
