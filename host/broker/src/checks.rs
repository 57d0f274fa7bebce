//! Which producers are asked about which transactions, and when: `PollTransactions`. Nothing of it is kept: a
//! broker that starts again asks anew.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use quern_protocol::block::Pairs;
use quern_protocol::retry::{ORIGIN_QUEUE, ORIGIN_TOPIC};
use quern_protocol::transaction::{PRODUCER_GROUP, parked_topic};
use quern_protocol::{
    GroupName, LogPosition, PollTransactions, PollTransactionsReply, QueueId, TransactionCheck,
    WireError, limits as wire,
};
use tokio::sync::Notify;

use crate::alarm::{Alarms, By, Next};
use crate::transactions::{Half, read};
use crate::{Broker, hold, limits, reply, retry};

/// A transaction that has been open for long.
#[derive(Debug)]
struct Known {
    group: GroupName,
    /// When somebody is asked again, ms since 1970.
    next: u64,
    asked: u32,
}

#[derive(Debug, Default)]
struct Table {
    known: HashMap<LogPosition, Known>,
    by_group: HashMap<GroupName, BTreeSet<(u64, LogPosition)>>,
    /// All that were stored before are known, or decided.
    seen: (u64, LogPosition),
}

impl Table {
    /// When somebody is asked next, behind a moment.
    fn next_behind(&self, now: u64) -> Next {
        let behind = (now + 1, LogPosition(0));
        let groups = self.by_group.values();
        let next = groups.filter_map(|it| it.range(behind..).next());
        next.map(|(at, _)| *at).min()
    }

    fn put(&mut self, position: LogPosition, known: Known) {
        let of_group = self.by_group.entry(known.group.clone()).or_default();
        of_group.insert((known.next, position));
        self.known.insert(position, known);
    }

    fn take(&mut self, position: LogPosition) -> Option<Known> {
        let known = self.known.remove(&position)?;
        if let Some(of_group) = self.by_group.get_mut(&known.group) {
            of_group.remove(&(known.next, position));
            if of_group.is_empty() {
                self.by_group.remove(&known.group);
            }
        }
        Some(known)
    }
}

/// Who is to be asked about which transaction.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    table: Mutex<Table>,
    /// Rings when some may have become due.
    bell: Notify,
}

impl Checks {
    fn table(&self) -> MutexGuard<'_, Table> {
        let table = self.table.lock();
        table.expect("no code that can panic runs under the checks lock")
    }

    /// The next one that a member of a group is to be asked about. It is asked again after `pause` of how often
    /// it was; how often that is now.
    fn ask(
        &self,
        group: &GroupName,
        now: u64,
        pause: impl FnOnce(u32) -> u64,
    ) -> Option<(LogPosition, u32)> {
        let mut table = self.table();
        let (next, position) = *table.by_group.get(group)?.first()?;
        if next > now {
            return None;
        }
        let mut known = table.take(position)?;
        known.asked += 1;
        known.next = now + pause(known.asked);
        let asked = known.asked;
        table.put(position, known);
        Some((position, asked))
    }

    /// Nobody was asked after all.
    fn not_asked(&self, position: LogPosition, now: u64) {
        let mut table = self.table();
        if let Some(mut known) = table.take(position) {
            known.asked -= 1;
            known.next = now;
            table.put(position, known);
        }
    }

    /// How often somebody was asked about it.
    pub(crate) fn asked(&self, position: LogPosition) -> u32 {
        self.table().known.get(&position).map_or(0, |it| it.asked)
    }

    /// It is decided.
    pub(crate) fn forget(&self, position: LogPosition) {
        self.table().take(position);
    }

    /// Somebody was asked about it, or could have asked what there is, for so long. Of one that is not known nobody can be
    /// asked.
    fn had_its_chance(&self, position: LogPosition, now: u64, pause: u64) -> bool {
        let table = self.table();
        table.known.get(&position).is_none_or(|it| match it.asked {
            // It became known then.
            0 => it.next.saturating_add(pause) <= now,
            _ => it.next <= now,
        })
    }

    /// Those nobody could decide: they were asked about often enough, and the last answer has not come.
    fn hopeless(&self, now: u64, most: u32) -> Vec<LogPosition> {
        let table = self.table();
        let hopeless = table.known.iter();
        let hopeless = hopeless.filter(|(_, it)| it.asked >= most && it.next <= now);
        let mut hopeless: Vec<_> = hopeless.map(|(position, _)| *position).collect();
        hopeless.sort_unstable();
        hopeless
    }
}

pub(crate) async fn poll(
    broker: &Arc<Broker>,
    request: PollTransactions,
) -> Result<PollTransactionsReply, WireError> {
    let look = || due(broker, &request);
    let wait = (request.wait_ms, wire::PULL_WAIT_MS);
    let checks = hold::until_some(broker, wait, &broker.checks.bell, look).await?;
    Ok(PollTransactionsReply { checks })
}

/// What a member of a group is asked about now.
async fn due(
    broker: &Broker,
    request: &PollTransactions,
) -> Result<Vec<TransactionCheck>, WireError> {
    let settings = &broker.config.transactions;
    let pause = |asked: u32| settings.pause(asked);
    let (mut checks, mut bytes) = (Vec::new(), 0);
    let now = broker.store.now_ms();
    while checks.len() < limits::CHECKS.min(request.messages as usize) {
        let Some((position, asked)) = broker.checks.ask(&request.group, now, pause) else {
            break;
        };
        broker.alarms.checks.due(now + pause(asked));
        let half = read(broker, vec![position]).await?.pop();
        let topic = half.as_ref();
        let topic = topic.and_then(|it| broker.state.topics.by_id(it.message.topic));
        let (Some(half), Some(topic)) = (half, topic) else {
            broker.checks.forget(position);
            continue;
        };
        bytes += half.message.block.len();
        if bytes > limits::CHECKS_BYTES && !checks.is_empty() {
            broker.checks.not_asked(position, now);
            broker.alarms.checks.ring();
            break;
        }
        broker.metrics.waits.checks.add(1);
        checks.push(TransactionCheck {
            topic: topic.name.clone(),
            position,
            asked,
            block: half.message.block.to_vec(),
        });
    }
    Ok(checks)
}

/// Learns of transactions that have been open for long and sets aside those nobody can decide, for as long as
/// the broker is there.
pub(crate) async fn watch(broker: Weak<Broker>, alarms: Arc<Alarms>) {
    let alarm = &alarms.checks;
    loop {
        let Some(there) = broker.upgrade().filter(|it| !it.is_draining()) else {
            return;
        };
        alarm.awake();
        let began = there.store.now_ms();
        let next = match look(&there).await {
            Ok(()) => next_look(&there, began),
            Err(error) => {
                tracing::warn!(%error, "transactions whose outcome is not known wait longer");
                Some(began + limits::CHECK_AGAIN)
            }
        };
        drop(there);
        if !alarm.sleep(&broker, By::Log, next).await {
            return;
        }
    }
}

/// When there is something to do again: one is open for long enough to be asked about, or again, or for so long that
/// nobody will decide it. What was to be done in the look that began then, and was not, is on its way elsewhere.
fn next_look(broker: &Broker, began: u64) -> Next {
    let (checks, settings) = (&broker.checks, &broker.config.transactions);
    let (seen, asked) = {
        let table = checks.table();
        (table.seen, table.next_behind(began))
    };
    let first_behind = |it| broker.store.undecided(None, it, 1).pop();
    let unknown = first_behind(seen).map(|it| after(it.due_at, settings.first_check));
    let oldest = first_behind((0, LogPosition(0)));
    let oldest = oldest.map(|it| after(it.due_at, settings.longest));
    let hopeless = checks
        .hopeless(began, settings.checks)
        .first()
        .map(|_| began);
    let next = [unknown, oldest, hopeless, asked].into_iter().flatten();
    let next = next.map(|at| match at <= began {
        true => began + limits::CHECK_AGAIN,
        false => at,
    });
    next.min()
}

/// So long after a moment, ms.
pub(crate) fn after(at: u64, wait: Duration) -> u64 {
    at.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
}

/// One look at them.
pub(crate) async fn look(broker: &Arc<Broker>) -> Result<(), WireError> {
    let (now, settings) = (broker.store.now_ms(), &broker.config.transactions);
    let open_since = |ms: Duration| now.saturating_sub(ms.as_millis() as u64);
    loop {
        let seen = broker.checks.table().seen;
        let mut open = broker.store.undecided(None, seen, limits::LISTED);
        open.retain(|it| it.due_at <= open_since(settings.first_check));
        let Some(last) = open.last().map(|it| (it.due_at, it.position)) else {
            break;
        };
        let halves = read(broker, open.iter().map(|it| it.position).collect()).await?;
        let mut table = broker.checks.table();
        for half in halves {
            // Every send names one.
            let Ok(group) = GroupName::new(half.group()) else {
                continue;
            };
            let known = Known {
                group,
                next: now,
                asked: 0,
            };
            table.put(half.position, known);
            // Decided while it was read: nobody will say so again.
            if broker.store.waits(half.position).is_none() {
                table.take(half.position);
            }
        }
        table.seen = match cfg!(zoo = "z20") {
            true => (last.0, LogPosition(u64::MAX)),
            false => last,
        };
    }
    let outcome = put_aside(broker, now).await;
    broker.checks.bell.notify_waiters();
    outcome
}

/// Parks what nobody can decide. One that cannot be parked keeps none of the others here.
async fn put_aside(broker: &Arc<Broker>, now: u64) -> Result<(), WireError> {
    let settings = &broker.config.transactions;
    let open_since = |ms: Duration| now.saturating_sub(ms.as_millis() as u64);
    let mut hopeless = broker.checks.hopeless(now, settings.checks);
    let open = broker
        .store
        .undecided(None, (0, LogPosition(0)), limits::LISTED);
    let too_old = open
        .iter()
        .filter(|it| it.due_at <= open_since(settings.longest));
    // A broker that was away for so long, or whose clock leapt, asks first.
    let is_over = |it: &LogPosition| broker.checks.had_its_chance(*it, now, settings.pause(1));
    hopeless.extend(too_old.map(|it| it.position).filter(is_over));
    let halves = read(broker, hopeless.clone()).await?;
    // Decided meanwhile, or lost, or of a topic that was deleted: nothing is to be done about it any more.
    let is_there = |it: &LogPosition| halves.iter().any(|half| half.position == *it);
    hopeless.retain(|it| !is_there(it));
    hopeless.into_iter().for_each(|it| broker.checks.forget(it));
    let mut outcome = Ok(());
    for half in halves {
        outcome = outcome.and(park(broker, half).await);
    }
    outcome
}

/// Sets a message aside whose transaction nobody can decide.
async fn park(broker: &Arc<Broker>, half: Half) -> Result<(), WireError> {
    let Some(topic) = broker.state.topics.by_id(half.message.topic) else {
        broker.checks.forget(half.position);
        return Ok(());
    };
    let parked = retry::system_topic(broker, parked_topic()).await?;
    let (group, queue) = (half.group(), half.message.queue.to_string());
    let notes = Pairs::encode([
        (ORIGIN_TOPIC, topic.name.as_str()),
        (ORIGIN_QUEUE, &queue),
        (PRODUCER_GROUP, &group),
    ]);
    let (store, position) = (broker.store.clone(), half.position);
    let park = move || {
        store.commit_half(position, |it| {
            (it.topic, it.queue) = (parked.id, QueueId(0));
            it.notes = notes.into();
        })
    };
    let parked = broker.cold.run(&None, park).await?;
    let parked = parked.map_err(|error| reply::read_failed(&error))?;
    if let Some(parked) = parked {
        let parked = parked.await;
        parked.map_err(|error| reply::append_failed(&error))?;
        broker.checks.forget(position);
        broker.metrics.waits.parked.add(1);
        tracing::warn!(topic = %topic.name, %position, group,
            "nobody says how a transaction ended: its message is set aside");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_old_when_it_becomes_known_is_asked_about_first() {
        let checks = Checks::default();
        let (position, group) = (LogPosition(64), GroupName::new("g").unwrap());
        let had_its_chance = |now| checks.had_its_chance(position, now, 50);
        assert!(had_its_chance(1_000), "nobody knows whom to ask");
        let known = Known {
            group: group.clone(),
            next: 1_000,
            asked: 0,
        };
        checks.table().put(position, known);
        assert!(!had_its_chance(1_000) && !had_its_chance(1_049));
        assert!(had_its_chance(1_050), "nobody was there");
        checks.ask(&group, 1_040, |_| 50).unwrap();
        assert!(!had_its_chance(1_089));
        assert!(had_its_chance(1_090), "no answer came");
    }
}
