//! Trials: a version decides a share of a filter's messages, or runs beside the active one, before the name
//! stands for it. What share is a pure function of queue and offset, so a message that is looked at again
//! meets the same version.
//!
//! A version on trial never holds anybody up: what it fails on, the active one decides; after
//! [`limits::TRIAL_FAULTS`] of its own, or once it refuses what a consumer asks, its trial ends by itself.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use quern_plugins::{Subscription, Verdict};
use quern_protocol::{
    Disagreement, PluginName, PluginTrial, QueueId, QueueOffset, RecordKind, TopicId, TopicName,
    TrialKind, TrialReport,
};

use crate::plugins::PluginRecord;
use crate::{Broker, limits};

/// The version on trial, ready to be asked.
#[derive(Debug, Clone)]
pub(crate) struct OnTrial {
    pub(crate) name: PluginName,
    pub(crate) trial: PluginTrial,
    pub(crate) subscription: Subscription,
}

/// Who decides for a filter.
#[derive(Debug, Clone)]
pub(crate) struct Deciders {
    pub(crate) usual: Subscription,
    pub(crate) on_trial: Option<OnTrial>,
}

/// Who decides about one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Usual,
    /// The version on trial decides.
    Canary,
    /// The usual one decides, and the other is compared with it.
    Shadowed,
}

impl Deciders {
    pub(crate) fn side(&self, queue: QueueId, offset: QueueOffset) -> Side {
        match &self.on_trial {
            Some(it) if it.trial.takes(queue, offset) => match it.trial.how {
                TrialKind::Canary => Side::Canary,
                TrialKind::Shadow => Side::Shadowed,
            },
            _ => Side::Usual,
        }
    }

    /// Whether anybody has to be asked about a message with this tag.
    pub(crate) fn wants(&self, side: Side, tag_code: i32) -> bool {
        let wants = |it: &Subscription| {
            let codes = it.needs().tag_codes.as_deref();
            codes.is_none_or(|codes| codes.contains(&tag_code))
        };
        let on_trial = self.on_trial.as_ref().map(|it| &it.subscription);
        match side {
            Side::Usual => wants(&self.usual),
            Side::Canary => on_trial.is_none_or(wants),
            Side::Shadowed => wants(&self.usual) || on_trial.is_some_and(wants),
        }
    }

    /// Who answers on a side.
    pub(crate) fn decider(&self, side: Side) -> Subscription {
        match (&self.on_trial, side) {
            (Some(it), Side::Canary) => it.subscription.clone(),
            _ => self.usual.clone(),
        }
    }
}

/// Where messages lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) topic: TopicId,
    pub(crate) name: &'a TopicName,
    pub(crate) queue: QueueId,
}

/// What the trials since this broker's start came to.
#[derive(Debug, Default)]
pub(crate) struct Trials(Mutex<HashMap<PluginName, Count>>);

#[derive(Debug)]
struct Count {
    report: TrialReport,
    /// What it failed on: the same message again counts once.
    at_fault: HashSet<(TopicId, QueueId, QueueOffset)>,
}

impl Count {
    fn of(trial: PluginTrial) -> Self {
        Self {
            report: TrialReport {
                trial,
                decided: 0,
                agreed: 0,
                only_active: 0,
                only_trial: 0,
                failed: 0,
                disagreements: Vec::new(),
                ended: None,
            },
            at_fault: HashSet::new(),
        }
    }
}

impl Trials {
    fn count<T>(&self, on: (&PluginName, PluginTrial), note: impl FnOnce(&mut Count) -> T) -> T {
        let (name, trial) = on;
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Count::of(trial);
        let count = counts.entry(name.clone()).or_insert_with(fresh);
        if count.report.trial != trial {
            *count = fresh();
        }
        note(count)
    }

    /// The trial that is, or that was last.
    pub(crate) fn report(
        &self,
        name: &PluginName,
        trial: Option<PluginTrial>,
    ) -> Option<TrialReport> {
        if let Some(trial) = trial {
            return Some(self.count((name, trial), |count| count.report.clone()));
        }
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(name).map(|count| count.report.clone())
    }

    /// So many messages were decided by a canary.
    pub(crate) fn decided(&self, on: &OnTrial, messages: u64) {
        self.count((&on.name, on.trial), |it| it.report.decided += messages);
    }

    /// What both said of messages; `true` = the one on trial has failed once too often.
    pub(crate) fn compared(
        &self,
        on: &OnTrial,
        at: At<'_>,
        said: impl Iterator<Item = (QueueOffset, Verdict, Verdict)>,
    ) -> bool {
        self.count((&on.name, on.trial), |count| {
            for (offset, active, by_trial) in said {
                // Nobody decided about it: there is nothing to compare with.
                if active == Verdict::Unjudged {
                    continue;
                }
                if by_trial == Verdict::Unjudged {
                    count.failed(at, offset);
                    continue;
                }
                let report = &mut count.report;
                report.decided += 1;
                let only_trial = match (active, by_trial) {
                    (Verdict::Deliver, Verdict::Reject) => false,
                    (Verdict::Reject, Verdict::Deliver) => true,
                    _ => {
                        report.agreed += 1;
                        continue;
                    }
                };
                let side = match only_trial {
                    true => &mut report.only_trial,
                    false => &mut report.only_active,
                };
                *side += 1;
                if *side <= limits::DISAGREEMENTS {
                    report.disagreements.push(Disagreement {
                        topic: at.name.clone(),
                        queue: at.queue,
                        offset,
                        by_trial: only_trial,
                    });
                }
            }
            count.is_too_bad()
        })
    }

    /// The version on trial failed on a message; `true` = once too often.
    pub(crate) fn failed(&self, on: &OnTrial, at: At<'_>, offset: QueueOffset) -> bool {
        self.count((&on.name, on.trial), |count| {
            count.failed(at, offset);
            count.is_too_bad()
        })
    }
}

impl Count {
    fn failed(&mut self, at: At<'_>, offset: QueueOffset) {
        if self.at_fault.len() < limits::TRIAL_FAULTS
            && self.at_fault.insert((at.topic, at.queue, offset))
        {
            self.report.failed += 1;
        }
    }

    fn is_too_bad(&self) -> bool {
        self.at_fault.len() >= limits::TRIAL_FAULTS
    }
}

/// Ends a trial that has gone wrong, on every restart too: the log says so.
pub(crate) fn end(broker: &Arc<Broker>, name: PluginName, trial: PluginTrial, why: String) {
    let broker = Arc::clone(broker);
    tokio::spawn(async move {
        let _one_change_at_a_time = broker.plugin_changes().await;
        let found = broker.state.plugins.find(&name);
        if found.and_then(|it| it.trial) != Some(trial) {
            return;
        }
        tracing::warn!(plugin = %name, version = trial.version, why, "a trial ends by itself");
        let record = PluginRecord::Tried(name.clone(), None);
        match broker.log(RecordKind::Plugin, &record).await {
            Ok(()) => broker
                .trials
                .count((&name, trial), |it| it.report.ended = Some(why)),
            Err(error) => tracing::warn!(plugin = %name, %error, "a trial could not be ended"),
        }
    });
}
