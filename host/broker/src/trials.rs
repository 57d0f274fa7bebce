//! Trials: a version decides a share, or runs beside the active one, before the name stands for it. What share is a
//! pure function: of queue and offset for a filter, so a message that is looked at again meets the same version; of the
//! order key for a selector, so all messages of a key do; of the group for a strategy.
//!
//! A version on trial never holds anybody up: what it fails on, the active one decides; after
//! [`limits::TRIAL_FAULTS`] of its own, or once it refuses what a consumer asks, its trial ends by itself.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use quern_plugins::{Subscription, Verdict};
use quern_protocol::{
    Disagreement, GroupName, PluginKind, PluginName, PluginTrial, QueueId, QueueOffset, RecordKind,
    TopicId, TopicName, TrialKind, TrialMove, TrialMoves, TrialMovesReply, TrialReport, WireError,
};

use crate::health::Case;
use crate::plugins::PluginRecord;
use crate::{Broker, join, limits, reply};

pub(crate) const TOO_MANY_FAULTS: &str = "it failed too often where the active version can decide";

/// Why a version that does not accept what is asked of the active one is tried no longer.
pub(crate) fn cannot(error: &WireError) -> String {
    format!("it cannot do what the active version does: {error}")
}

/// Which version is on trial, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tried {
    pub(crate) name: PluginName,
    pub(crate) trial: PluginTrial,
}

impl Tried {
    /// Who decides about all that has this key.
    pub(crate) fn side(&self, key: &str) -> Side {
        match self.trial.takes_key(key) {
            true => self.trial.how.into(),
            false => Side::Usual,
        }
    }
}

/// The filter on trial, ready to be asked.
#[derive(Debug, Clone)]
pub(crate) struct OnTrial {
    pub(crate) tried: Tried,
    pub(crate) subscription: Subscription,
}

/// Who decides for a filter.
#[derive(Debug, Clone)]
pub(crate) struct Deciders {
    pub(crate) usual: Subscription,
    /// The name whose active version that is; `None` = it is always the same.
    pub(crate) follows: Option<PluginName>,
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

impl From<TrialKind> for Side {
    fn from(how: TrialKind) -> Self {
        match how {
            TrialKind::Canary => Self::Canary,
            TrialKind::Shadow => Self::Shadowed,
        }
    }
}

impl Deciders {
    pub(crate) fn side(&self, queue: QueueId, offset: QueueOffset) -> Side {
        let trial = self.on_trial.as_ref().map(|it| it.tried.trial);
        let trial = trial.filter(|it| it.takes(queue, offset));
        trial.map_or(Side::Usual, |it| it.how.into())
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
    at_fault: HashSet<Case>,
    /// Messages a selector would have sent elsewhere.
    moves: Vec<TrialMove>,
    /// Queues of each group that a strategy shares out, and those that move by it, as of when it did last.
    groups: BTreeMap<GroupName, SharedOut>,
}

/// What a strategy on trial makes of a group's queues.
#[derive(Debug)]
pub(crate) struct SharedOut {
    pub(crate) queues: u64,
    pub(crate) moved: u64,
    /// The first of those that move.
    pub(crate) moves: Vec<TrialMove>,
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
            moves: Vec::new(),
            groups: BTreeMap::new(),
        }
    }
}

impl Trials {
    fn count<T>(&self, tried: &Tried, note: impl FnOnce(&mut Count) -> T) -> T {
        let Tried { name, trial } = tried;
        let trial = *trial;
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
            let name = name.clone();
            return Some(self.count(&Tried { name, trial }, |count| count.report.clone()));
        }
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(name).map(|count| count.report.clone())
    }

    /// What it would have decided otherwise.
    fn moves(&self, name: &PluginName) -> Vec<TrialMove> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = counts.get(name) else {
            return Vec::new();
        };
        let of_groups = count.groups.values().flat_map(|it| &it.moves);
        let moves = count.moves.iter().chain(of_groups);
        moves.take(limits::MOVES).cloned().collect()
    }

    /// So many messages were decided by a canary.
    pub(crate) fn decided(&self, tried: &Tried, messages: u64) {
        self.count(tried, |it| it.report.decided += messages);
    }

    /// A selector in the shadow was asked about so many messages, and would have sent these elsewhere.
    pub(crate) fn chose(&self, tried: &Tried, messages: u64, moves: Vec<TrialMove>) {
        self.count(tried, |it| {
            it.report.decided += messages;
            it.report.agreed += messages - moves.len() as u64;
            let room = (limits::DISAGREEMENTS as usize).saturating_sub(it.moves.len());
            it.moves.extend(moves.into_iter().take(room));
        });
    }

    /// A strategy has shared out the queues of a group, or would have.
    pub(crate) fn shared_out(&self, tried: &Tried, group: &GroupName, shared_out: SharedOut) {
        self.count(tried, |it| {
            it.groups.insert(group.clone(), shared_out);
            let moved: u64 = it.groups.values().map(|it| it.moved).sum();
            it.report.decided = it.groups.values().map(|it| it.queues).sum();
            it.report.agreed = match it.report.trial.how {
                TrialKind::Shadow => it.report.decided - moved,
                TrialKind::Canary => 0,
            };
        });
    }

    /// What both said of messages; `true` = the one on trial has failed once too often.
    pub(crate) fn compared(
        &self,
        tried: &Tried,
        at: At<'_>,
        said: impl Iterator<Item = (QueueOffset, Verdict, Verdict)>,
    ) -> bool {
        self.count(tried, |count| {
            for (offset, active, by_trial) in said {
                // Nobody decided about it: there is nothing to compare with.
                if active == Verdict::Unjudged {
                    continue;
                }
                if by_trial == Verdict::Unjudged {
                    count.failed(Case::Message(at.topic, at.queue, offset));
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

    /// The version on trial failed on these; `true` = once too often.
    pub(crate) fn failed(&self, tried: &Tried, cases: impl IntoIterator<Item = Case>) -> bool {
        self.count(tried, |count| {
            cases.into_iter().for_each(|case| count.failed(case));
            count.is_too_bad()
        })
    }
}

impl Count {
    fn failed(&mut self, case: Case) {
        if self.at_fault.len() < limits::TRIAL_FAULTS && self.at_fault.insert(case) {
            self.report.failed += 1;
        }
    }

    fn is_too_bad(&self) -> bool {
        self.at_fault.len() >= limits::TRIAL_FAULTS
    }
}

/// Ends a trial that has gone wrong, on every restart too: the log says so.
pub(crate) fn end(broker: &Arc<Broker>, tried: Tried, why: String) {
    let broker = Arc::clone(broker);
    tokio::spawn(async move {
        let one_change_at_a_time = broker.plugin_changes().await;
        let Tried { name, trial } = &tried;
        let found = broker.state.plugins.find(name);
        let Some(named) = found.filter(|it| it.trial == Some(*trial)) else {
            return;
        };
        tracing::warn!(plugin = %name, version = trial.version, why, "a trial ends by itself");
        let record = PluginRecord::Tried(name.clone(), None);
        let turn = &one_change_at_a_time;
        match broker.change(turn, RecordKind::Plugin, &record).await {
            Ok(()) => broker
                .trials
                .count(&tried, |it| it.report.ended = Some(why)),
            Err(error) => tracing::warn!(plugin = %name, %error, "a trial could not be ended"),
        }
        if named.kind() == Some(PluginKind::AllocationStrategy) {
            join::share_out_by(&broker, name, None);
        }
    });
}

/// `TrialMoves`.
pub(crate) fn moves(broker: &Broker, request: &TrialMoves) -> Result<TrialMovesReply, WireError> {
    match broker.state.plugins.find(&request.name) {
        Some(_) => Ok(TrialMovesReply {
            moves: broker.trials.moves(&request.name),
        }),
        None => Err(reply::no_plugin(request.name.as_str())),
    }
}
