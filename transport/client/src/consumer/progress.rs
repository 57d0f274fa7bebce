//! How far a consumer is in each queue it has: shared by the application's side, which is handed messages
//! and is done with them, and by those who hold the leases.
//!
//! A message is handed out only while its queue's lease holds by this process' own clock, so a queue never
//! has two owners at work. A message counts as consumed when the application asks for the next one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use quern_protocol::{Lease, MemberQueue, QueueOffset};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use crate::limits;
use crate::routes::MessageQueue;

/// One time that this consumer has a queue, from taking its lease to losing it, or to reading it anew under the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Hold(u64);

#[derive(Debug)]
struct Place {
    hold: Hold,
    epoch: u64,
    until: Instant,
    /// A message that was read was not handed out: what is behind it must not be either, and all is read anew.
    has_gap: bool,
    /// It goes to somebody else: nothing more is handed out.
    is_leaving: bool,
    /// Behind the last message handed out.
    handed: Option<QueueOffset>,
    /// Messages that the application has.
    at_work: BTreeSet<QueueOffset>,
    committed: Option<QueueOffset>,
    /// Messages that were read and are not done with, and bytes of each.
    ahead: BTreeMap<QueueOffset, usize>,
    ahead_bytes: usize,
    /// Behind the last that was read.
    read: QueueOffset,
    /// What a subscription may still send; `None` = the queue is pulled.
    granted: Option<Granted>,
    /// When messages were read last, and when the application was done with one.
    read_at: Option<Instant>,
    consumed_at: Option<Instant>,
}

/// What is on its way, at most.
#[derive(Debug)]
struct Granted {
    messages: usize,
    /// Below zero when the last message was larger than what was left.
    bytes: i64,
    threshold: Threshold,
    /// Rung when there is room for more.
    bell: Arc<Notify>,
}

/// More that a subscription may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) messages: u32,
    pub(super) bytes: u32,
}

/// How far a queue is read ahead of the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Threshold {
    pub(super) messages: usize,
    pub(super) bytes: usize,
    /// Between the oldest message that is not done with and the newest.
    pub(super) span: u64,
}

impl Place {
    /// All before is consumed.
    fn done(&self) -> Option<QueueOffset> {
        self.at_work.first().copied().or(self.handed)
    }

    fn finish(&mut self, offset: QueueOffset) {
        self.consumed_at = Some(Instant::now());
        self.at_work.remove(&offset);
        self.ahead_bytes -= self.ahead.remove(&offset).unwrap_or(0);
    }

    fn finish_all(&mut self) {
        for offset in std::mem::take(&mut self.at_work) {
            self.finish(offset);
        }
    }

    /// Messages that may be read now: none before half of what was there is done with, so that they come in
    /// batches.
    fn room(&self, threshold: &Threshold) -> usize {
        let is_full = self.ahead.len() > threshold.messages / 2
            || self.ahead_bytes > threshold.bytes / 2
            || self.span() >= threshold.span;
        match is_full {
            true => 0,
            false => threshold.messages - self.ahead.len(),
        }
    }

    fn span(&self) -> u64 {
        let oldest = self.ahead.keys().next();
        oldest.map_or(0, |oldest| self.read.0.saturating_sub(oldest.0))
    }

    /// What may be granted besides what is on its way, so that both together stay within the threshold. Nothing
    /// before half of it is free.
    fn grant(&self) -> Option<Grant> {
        let granted = self.granted.as_ref()?;
        let threshold = &granted.threshold;
        let span = i64::try_from(threshold.span).unwrap_or(i64::MAX);
        let most = (threshold.messages as i64).min(span);
        let free = (most - self.ahead.len() as i64).min(span - self.span() as i64);
        let messages = free - granted.messages as i64;
        // Bodies may be larger here than on their way, so not all there is room for is let go at once.
        let most_bytes = (threshold.bytes as i64).min(limits::GRANTED_BYTES);
        let free_bytes = (threshold.bytes as i64 - self.ahead_bytes as i64).min(most_bytes);
        let bytes = free_bytes - granted.bytes;
        if messages < most - most / 2 && bytes < most_bytes - most_bytes / 2 {
            return None;
        }
        let at_most = |room: i64| u32::try_from(room.max(0)).unwrap_or(u32::MAX);
        Some(Grant {
            messages: at_most(messages),
            bytes: at_most(bytes),
        })
    }

    fn ring(&self) {
        if let Some(granted) = &self.granted
            && self.grant().is_some()
        {
            granted.bell.notify_one();
        }
    }
}

/// What can be committed of a queue, and by what right.
#[derive(Debug, Clone)]
pub(super) struct Due {
    pub(super) queue: MessageQueue,
    pub(super) lease: Lease,
    pub(super) offset: QueueOffset,
}

#[derive(Debug, Default)]
pub(super) struct Progress {
    places: Mutex<HashMap<MessageQueue, Place>>,
    holds: AtomicU64,
    moved: Notify,
    /// A queue is to be read from elsewhere.
    sought: Notify,
}

const POISONED: &str = "no code that can panic runs under the progress lock";

impl Progress {
    /// The queue is ours, from `committed` on.
    pub(super) fn begin(
        &self,
        queue: &MessageQueue,
        epoch: u64,
        until: Instant,
        committed: Option<QueueOffset>,
    ) -> Hold {
        let hold = Hold(self.holds.fetch_add(1, Ordering::Relaxed));
        let place = Place {
            hold,
            epoch,
            until,
            has_gap: false,
            is_leaving: false,
            handed: None,
            at_work: BTreeSet::new(),
            committed,
            ahead: BTreeMap::new(),
            ahead_bytes: 0,
            read: QueueOffset(0),
            granted: None,
            read_at: None,
            consumed_at: None,
        };
        self.places
            .lock()
            .expect(POISONED)
            .insert(queue.clone(), place);
        hold
    }

    /// Where a queue is to be read anew, if its messages cannot be handed out any more though it is ours.
    pub(super) fn gap(&self, queue: &MessageQueue) -> Option<Option<QueueOffset>> {
        let places = self.places.lock().expect(POISONED);
        let place = places.get(queue).filter(|it| it.has_gap)?;
        Some(place.done().or(place.committed))
    }

    /// The application wants to go on elsewhere in a queue of ours: what has been read of it is not handed out, and it
    /// is read anew from there once that is committed. `None` = it is not ours, or about to go.
    pub(super) fn seek(&self, queue: &MessageQueue, to: QueueOffset) -> Option<Due> {
        let mut places = self.places.lock().expect(POISONED);
        let place = places.get_mut(queue)?;
        if place.is_leaving || place.until <= Instant::now() {
            return None;
        }
        place.finish_all();
        place.handed = Some(to);
        place.has_gap = true;
        Some(Due {
            queue: queue.clone(),
            lease: Lease {
                queue: queue.queue,
                epoch: place.epoch,
            },
            offset: to,
        })
    }

    /// Those who hold leases are to look for such queues now.
    pub(super) fn read_anew(&self) {
        self.sought.notify_waiters();
    }

    /// Resolves when they are. Enable it before looking.
    pub(super) fn sought(&self) -> Notified<'_> {
        self.sought.notified()
    }

    pub(super) fn renew(&self, queue: &MessageQueue, until: Instant) {
        if let Some(place) = self.places.lock().expect(POISONED).get_mut(queue) {
            place.until = until;
        }
    }

    pub(super) fn leave(&self, queue: &MessageQueue) {
        if let Some(place) = self.places.lock().expect(POISONED).get_mut(queue) {
            place.is_leaving = true;
        }
    }

    pub(super) fn forget(&self, queue: &MessageQueue) {
        self.places.lock().expect(POISONED).remove(queue);
    }

    /// Whether a message read under this lease may be handed out now; it is taken for handed out then.
    pub(super) fn hand(
        &self,
        queue: &MessageQueue,
        hold: Hold,
        offset: QueueOffset,
        next: QueueOffset,
    ) -> bool {
        self.go_on(queue, hold, Some(offset), next)
    }

    /// There is nothing for the application before `next`.
    pub(super) fn pass(&self, queue: &MessageQueue, hold: Hold, next: QueueOffset) {
        self.go_on(queue, hold, None, next);
    }

    fn go_on(
        &self,
        queue: &MessageQueue,
        hold: Hold,
        at_work: Option<QueueOffset>,
        next: QueueOffset,
    ) -> bool {
        let mut places = self.places.lock().expect(POISONED);
        let Some(place) = places.get_mut(queue).filter(|it| it.hold == hold) else {
            return false;
        };
        // The lease may be renewed yet, as after this process was stopped for a while: then messages that follow
        // must not be handed out, or this one would never be.
        place.has_gap |= place.until <= Instant::now();
        if place.is_leaving || place.has_gap {
            return false;
        }
        place.handed = Some(next);
        place.at_work.extend(at_work);
        true
    }

    /// Messages of a queue were read, each with its bytes, up to `next`.
    pub(super) fn read(
        &self,
        queue: &MessageQueue,
        hold: Hold,
        messages: impl Iterator<Item = (QueueOffset, usize)>,
        next: QueueOffset,
    ) {
        let mut places = self.places.lock().expect(POISONED);
        if let Some(place) = places.get_mut(queue).filter(|it| it.hold == hold) {
            for (offset, bytes) in messages {
                place.ahead_bytes += bytes;
                place.ahead.insert(offset, bytes);
            }
            place.read = next;
            place.read_at = Some(Instant::now());
        }
    }

    /// A subscription begins, to which nothing is granted yet. Who sees to it waits for the bell.
    pub(super) fn subscribe(
        &self,
        queue: &MessageQueue,
        hold: Hold,
        threshold: Threshold,
    ) -> Arc<Notify> {
        let bell = Arc::new(Notify::new());
        let mut places = self.places.lock().expect(POISONED);
        if let Some(place) = places.get_mut(queue).filter(|it| it.hold == hold) {
            place.granted = Some(Granted {
                messages: 0,
                bytes: 0,
                threshold,
                bell: Arc::clone(&bell),
            });
        }
        bell
    }

    /// What is to be granted to the subscription now, taken for granted then.
    pub(super) fn grant(&self, queue: &MessageQueue, hold: Hold) -> Option<Grant> {
        let mut places = self.places.lock().expect(POISONED);
        let place = places.get_mut(queue).filter(|it| it.hold == hold)?;
        let grant = place.grant()?;
        let granted = place.granted.as_mut()?;
        granted.messages += grant.messages as usize;
        granted.bytes += i64::from(grant.bytes);
        Some(grant)
    }

    /// So much of what was granted has been sent.
    pub(super) fn sent(&self, queue: &MessageQueue, hold: Hold, messages: usize, bytes: usize) {
        let mut places = self.places.lock().expect(POISONED);
        if let Some(place) = places.get_mut(queue).filter(|it| it.hold == hold)
            && let Some(granted) = &mut place.granted
        {
            granted.messages = granted.messages.saturating_sub(messages);
            granted.bytes -= bytes as i64;
        }
    }

    /// Waits until more of a queue may be read; how many messages. The queue may go meanwhile.
    pub(super) async fn room(&self, queue: &MessageQueue, threshold: &Threshold) -> usize {
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            let room = {
                let places = self.places.lock().expect(POISONED);
                places.get(queue).map_or(0, |it| it.room(threshold))
            };
            if room > 0 {
                return room;
            }
            moved.await;
        }
    }

    /// Whether a queue is ours by this lease, and stays so.
    pub(super) fn is_ours(&self, queue: &MessageQueue, hold: Hold) -> bool {
        let places = self.places.lock().expect(POISONED);
        places.get(queue).is_some_and(|place| {
            place.hold == hold
                && !place.is_leaving
                && !place.has_gap
                && Instant::now() < place.until
        })
    }

    /// The application gives the only message it has of a queue up: the group goes on with it, whoever has the queue.
    pub(super) fn abandon(&self, queue: &MessageQueue, hold: Hold, offset: QueueOffset) {
        self.settle(queue, |place| {
            if place.hold == hold {
                place.finish(offset);
                place.handed = Some(offset);
                place.has_gap = true;
            }
        });
    }

    /// The application is done with what it was handed out of this queue.
    pub(super) fn done(&self, queue: &MessageQueue) {
        self.settle(queue, Place::finish_all);
    }

    /// The application is done with one message, others before it may still be at work.
    pub(super) fn finish(&self, queue: &MessageQueue, hold: Hold, offset: QueueOffset) {
        self.settle(queue, |place| {
            if place.hold == hold {
                place.finish(offset);
            }
        });
    }

    fn settle(&self, queue: &MessageQueue, settle: impl FnOnce(&mut Place)) {
        {
            let mut places = self.places.lock().expect(POISONED);
            if let Some(place) = places.get_mut(queue) {
                settle(place);
                place.ring();
            }
        }
        self.moved.notify_waiters();
    }

    /// The same of all queues.
    pub(super) fn all_done(&self) {
        for place in self.places.lock().expect(POISONED).values_mut() {
            place.finish_all();
            place.ring();
        }
        self.moved.notify_waiters();
    }

    /// Nothing of the queue is at work in the application.
    pub(super) fn is_settled(&self, queue: &MessageQueue) -> bool {
        let places = self.places.lock().expect(POISONED);
        places
            .get(queue)
            .is_none_or(|place| place.at_work.is_empty())
    }

    /// What is consumed and not committed, of these queues.
    pub(super) fn due(&self, of: impl Fn(&MessageQueue) -> bool) -> Vec<Due> {
        let places = self.places.lock().expect(POISONED);
        let due = places.iter().filter_map(|(queue, place)| {
            let offset = place.done().filter(|done| Some(*done) != place.committed)?;
            of(queue).then(|| Due {
                queue: queue.clone(),
                lease: Lease {
                    queue: queue.queue,
                    epoch: place.epoch,
                },
                offset,
            })
        });
        due.collect()
    }

    pub(super) fn committed(&self, due: &Due) {
        let mut places = self.places.lock().expect(POISONED);
        if let Some(place) = places.get_mut(&due.queue)
            && place.epoch == due.lease.epoch
        {
            place.committed = Some(due.offset);
        }
    }

    /// The queues this consumer has, and the next message of each that is not consumed; `None` = it has
    /// not read it yet.
    pub(super) fn positions(&self) -> Vec<(MessageQueue, Option<QueueOffset>)> {
        let places = self.places.lock().expect(POISONED);
        let all = places.iter();
        let mut all: Vec<_> = all
            .map(|(queue, place)| (queue.clone(), place.done().or(place.committed)))
            .collect();
        all.sort();
        all
    }

    /// The queues this consumer has, as it is asked about them.
    pub(super) fn report(&self) -> Vec<MemberQueue> {
        let now = Instant::now();
        let ago = |at: Option<Instant>| at.map(|at| (now - at).as_millis() as u64);
        let places = self.places.lock().expect(POISONED);
        let report = places.iter().map(|(queue, place)| MemberQueue {
            topic: queue.topic.clone(),
            broker: queue.broker.clone(),
            queue: queue.queue,
            committed: place.committed,
            read: place.read.max(place.done().unwrap_or(place.read)),
            cached: place.ahead.len() as u32,
            cached_bytes: place.ahead_bytes as u64,
            at_work: place.at_work.len() as u32,
            read_ago: ago(place.read_at),
            consumed_ago: ago(place.consumed_at),
            lease_left: place.until.saturating_duration_since(now).as_millis() as u64,
        });
        let mut report: Vec<_> = report.collect();
        let place = |it: &MemberQueue| (it.topic.clone(), it.broker.clone(), it.queue);
        report.sort_by_key(place);
        report
    }

    /// Resolves when the application is done with something others wait for. Enable it before looking.
    pub(super) fn moved(&self) -> Notified<'_> {
        self.moved.notified()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quern_protocol::{BrokerName, QueueId, TopicName};
    use std::future::Future as _;
    use std::time::Duration;

    fn queue() -> MessageQueue {
        MessageQueue {
            topic: TopicName::new("t").unwrap(),
            broker: BrokerName::new("b").unwrap(),
            queue: QueueId(0),
        }
    }

    #[test]
    fn nothing_is_handed_out_by_a_lease_that_is_over() {
        let (progress, queue) = (Progress::default(), queue());
        let nobodys = Hold(7);
        assert!(
            !progress.hand(&queue, nobodys, QueueOffset(0), QueueOffset(1)),
            "not ours"
        );
        let soon = Instant::now() + Duration::from_secs(60);
        let hold = progress.begin(&queue, 1, soon, None);
        assert!(progress.hand(&queue, hold, QueueOffset(0), QueueOffset(1)));
        assert!(
            !progress.hand(&queue, nobodys, QueueOffset(1), QueueOffset(2)),
            "another lease"
        );
        assert!(!progress.is_settled(&queue));
        assert_eq!(
            progress.due(|_| true)[0].offset,
            QueueOffset(0),
            "still at work"
        );
        progress.done(&queue);
        assert_eq!(progress.due(|_| true)[0].offset, QueueOffset(1));
        progress.renew(&queue, Instant::now());
        assert!(
            !progress.hand(&queue, hold, QueueOffset(1), QueueOffset(2)),
            "its term is over"
        );
        progress.renew(&queue, soon);
        assert!(
            !progress.hand(&queue, hold, QueueOffset(2), QueueOffset(3)),
            "what was not handed out in time would be left out"
        );
        assert!(!progress.is_ours(&queue, hold));
        assert_eq!(progress.gap(&queue), Some(Some(QueueOffset(1))));
        let again = progress.begin(&queue, 1, soon, Some(QueueOffset(1)));
        assert!(
            !progress.hand(&queue, hold, QueueOffset(3), QueueOffset(4)),
            "read before"
        );
        assert_eq!(progress.gap(&queue), None);
        let hold = again;
        assert!(progress.hand(&queue, hold, QueueOffset(1), QueueOffset(2)));
        progress.leave(&queue);
        assert!(
            !progress.hand(&queue, hold, QueueOffset(2), QueueOffset(3)),
            "it goes"
        );
        assert!(!progress.is_settled(&queue));
        progress.all_done();
        assert!(progress.is_settled(&queue));
        let due = progress.due(|_| true).remove(0);
        progress.committed(&due);
        assert!(progress.due(|_| true).is_empty());
        assert_eq!(progress.positions(), [(queue, Some(QueueOffset(2)))]);
    }

    #[test]
    fn what_is_sought_is_where_the_queue_is_read_anew() {
        let (progress, queue) = (Progress::default(), queue());
        assert!(progress.seek(&queue, QueueOffset(3)).is_none(), "not ours");
        let soon = Instant::now() + Duration::from_secs(60);
        let hold = progress.begin(&queue, 7, soon, Some(QueueOffset(5)));
        assert!(progress.hand(&queue, hold, QueueOffset(5), QueueOffset(6)));
        let due = progress.seek(&queue, QueueOffset(3)).unwrap();
        assert_eq!((due.offset, due.lease.epoch), (QueueOffset(3), 7));
        assert!(progress.is_settled(&queue));
        let is_handed = progress.hand(&queue, hold, QueueOffset(6), QueueOffset(7));
        assert!(!is_handed, "read before");
        assert_eq!(progress.gap(&queue), Some(Some(QueueOffset(3))));
        progress.leave(&queue);
        assert!(progress.seek(&queue, QueueOffset(4)).is_none(), "it goes");
    }

    #[test]
    fn the_commit_does_not_pass_a_message_that_is_at_work() {
        let (progress, queue) = (Progress::default(), queue());
        let soon = Instant::now() + Duration::from_secs(60);
        let (hold, nobodys) = (progress.begin(&queue, 1, soon, None), Hold(7));
        for at in 0..4 {
            assert!(progress.hand(&queue, hold, QueueOffset(at), QueueOffset(at + 1)));
        }
        let done = || progress.due(|_| true).first().map(|due| due.offset.0);
        for (finished, upto) in [(2, 0), (0, 1), (3, 1), (1, 4)] {
            progress.finish(&queue, nobodys, QueueOffset(finished));
            progress.finish(&queue, hold, QueueOffset(finished));
            assert_eq!(done(), Some(upto), "after {finished}");
            assert_eq!(progress.is_settled(&queue), upto == 4);
        }
        // What the filter leaves out behind a message at work does not count before it.
        assert!(progress.hand(&queue, hold, QueueOffset(4), QueueOffset(5)));
        progress.pass(&queue, hold, QueueOffset(9));
        assert_eq!(done(), Some(4));
        progress.finish(&queue, hold, QueueOffset(4));
        assert_eq!(done(), Some(9));
    }

    #[test]
    fn what_is_granted_and_what_is_read_stay_within_the_thresholds() {
        let (progress, queue) = (Progress::default(), queue());
        let soon = Instant::now() + Duration::from_secs(60);
        let hold = progress.begin(&queue, 1, soon, None);
        let threshold = Threshold {
            messages: 10,
            bytes: 1_000,
            span: 12,
        };
        assert_eq!(progress.grant(&queue, hold), None, "nothing is subscribed");
        let bell = progress.subscribe(&queue, hold, threshold);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let mut rings = || {
            let rung = std::pin::pin!(bell.notified());
            rung.poll(&mut context).is_ready()
        };
        let all = Grant {
            messages: 10,
            bytes: 1_000,
        };
        assert_eq!(progress.grant(&queue, hold), Some(all));
        assert_eq!(progress.grant(&queue, hold), None);
        let come = |offsets: std::ops::Range<u64>, bytes: usize| {
            let count = offsets.clone().count();
            progress.sent(&queue, hold, count, count * bytes);
            let next = QueueOffset(offsets.end);
            let messages = offsets.map(|at| (QueueOffset(at), bytes));
            progress.read(&queue, hold, messages, next);
        };
        let finish = |offset| progress.finish(&queue, hold, QueueOffset(offset));
        come(0..8, 10);
        assert_eq!(progress.grant(&queue, hold), None, "what was read counts");
        (1..5).for_each(finish);
        assert!(!rings(), "half of it is not free");
        finish(5);
        assert!(!rings(), "the first message holds the span up");
        finish(0);
        assert!(rings());
        let granted = |messages, bytes| Some(Grant { messages, bytes });
        assert_eq!(progress.grant(&queue, hold), granted(6, 60));
        // A large message may go over; what it took is made up for by what is granted next.
        come(8..9, 1_500);
        assert_eq!(progress.grant(&queue, hold), None);
        finish(8);
        assert_eq!(progress.grant(&queue, hold), granted(1, 1_500));
        assert_eq!(progress.grant(&queue, Hold(7)), None, "nobody's");
    }
}
