//! The keeper: what a log needs from time to time, off everybody's way. It notes what the log comes to,
//! so that a start need not read all of it; puts snapshots into the log, so that old segments can go;
//! and lets them go.
//!
//! It only works on what is durable, and whatever it does not get done, it does later.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use quern_protocol::{Epoch, LogPosition, RecordKind};

use crate::audit::Damage;
use crate::checkpoint::{Checkpoint, Checkpoints};
use crate::clock::LogClock;
use crate::config::Env;
use crate::consume_queue::ConsumeQueues;
use crate::error::{CloseError, ReadError, is_full};
use crate::keeping::{Carried, Keep, Keeping, KeptTopics, Look};
use crate::key_index::KeyIndex;
use crate::pending::{Acknowledge, Slot};
use crate::queue::Queue;
use crate::retention::{DiskLevel, Head, Retention, Sealed};
use crate::scrub::{Bad, Scrub};
use crate::segment::{LogId, Segment};
use crate::segments::Segments;
use crate::snapshot::{Item, StateFile, chunks};
use crate::steps::Turn;
use crate::syncer::Dispatcher;
use crate::wait_list::WaitList;
use crate::{limits, quarantine, state_batch};

/// See the module.
pub(crate) struct Keeper {
    pub(crate) queue: Arc<Queue>,
    pub(crate) env: Env,
    pub(crate) dir: PathBuf,
    pub(crate) log: LogId,
    pub(crate) segments: Arc<Segments>,
    pub(crate) queues: Arc<ConsumeQueues>,
    pub(crate) keys: Arc<KeyIndex>,
    pub(crate) dispatcher: Arc<Mutex<Dispatcher>>,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) epoch: Epoch,
    pub(crate) retention: Retention,
    pub(crate) checkpoint_every: u64,
    pub(crate) segment_size: u64,
    pub(crate) log_clock: Arc<LogClock>,
    /// The state file is true of everything before this.
    pub(crate) checked: Arc<AtomicU64>,
    pub(crate) replay_from: u64,
    pub(crate) state_bytes: u64,
    /// How far the log was when a snapshot was last put into it.
    pub(crate) snapshot_at: u64,
    /// Its chunks, as long as it is not known what became of them.
    pub(crate) snapshot: Vec<Slot>,
    /// Steady time of the last look at disk and segments, ms.
    pub(crate) looked_at: Option<u64>,
    pub(crate) level: DiskLevel,
    pub(crate) scrub: Scrub,
    /// Records that have to stay are on their way to the end of the log.
    pub(crate) is_carrying: bool,
    /// The log is in its reserve.
    pub(crate) is_refusing: bool,
    pub(crate) keeping: Keeping,
    /// The log is larger than it may be, for compacted topics.
    pub(crate) is_oversized: bool,
    /// What the scrub has found.
    pub(crate) damage: Arc<Mutex<Vec<Damage>>>,
}

/// Why something is left for later.
#[derive(Debug, thiserror::Error)]
enum Later {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Queues(#[from] ReadError),
}

impl Keeper {
    pub(crate) fn turn(&mut self) -> Turn {
        let is_asked = {
            let mut state = self.queue.lock();
            if state.appender_done || state.failed.is_some() {
                return Turn::Ended;
            }
            std::mem::take(&mut state.keeper_due)
        };
        let (pause, now) = (self.pause(), self.env.clock.steady_ms());
        let since = self.looked_at.map(|then| now.saturating_sub(then));
        if !is_asked && since.is_some_and(|since| since < pause) {
            let left = pause - since.unwrap_or(0);
            return Turn::Waiting(Some(Duration::from_millis(left)));
        }
        self.looked_at = Some(now);
        if let Err(error) = self.look() {
            tracing::warn!(%error, "housekeeping of the log is put off");
        }
        Turn::Moved
    }

    fn pause(&self) -> u64 {
        match self.level {
            _ if self.is_carrying => limits::KEEPER_PAUSE_WHEN_CARRYING,
            _ if self.is_refusing => limits::KEEPER_PAUSE_WHEN_FULL,
            DiskLevel::Refusing => limits::KEEPER_PAUSE_WHEN_FULL,
            _ => limits::KEEPER_PAUSE,
        }
    }

    fn dispatcher(&self) -> MutexGuard<'_, Dispatcher> {
        self.dispatcher
            .lock()
            .expect("an observer that panics has ended the log")
    }

    /// What cannot be done keeps nothing else from being done.
    fn look(&mut self) -> Result<(), Later> {
        self.measure_disk()?;
        let applied = self.dispatcher().derived.applied;
        let checked = self.checked.load(Ordering::Relaxed);
        let noted = match applied.saturating_sub(checked) >= self.checkpoint_every {
            true => self.check(applied.saturating_sub(self.checkpoint_every)),
            false => Ok(()),
        };
        let indexed = self.write_index();
        if self.snapshot_due(applied) {
            self.put_snapshot();
        }
        let retired = self.retire();
        self.is_refusing = self.queue.make_again();
        // While it carries it looks often, and the disk has enough to do.
        let scrubbed = match self.is_carrying {
            true => Ok(()),
            false => self.scrub(),
        };
        noted.and(indexed).and(retired).and(scrubbed)
    }

    /// Verifies a little of what nobody may have read for long.
    fn scrub(&mut self) -> Result<(), Later> {
        let mut sealed = self.segments.all();
        sealed.pop();
        let found = self.scrub.slice(&sealed, self.log, limits::SCRUB_SLICE)?;
        let mut damage = self.damage.lock().expect("nothing panics under it");
        for Bad {
            damage: it,
            is_unreadable,
        } in found
        {
            if damage.contains(&it) {
                continue;
            }
            let (file, from, to, why) = (&it.file, it.from, it.to, &it.why);
            match is_unreadable {
                true => tracing::error!(
                    code = "Q-4002", file, %from, %to, why,
                    "the disk does not give all of what was durable there"
                ),
                false => tracing::error!(
                    code = "Q-4007", file, %from, %to, why,
                    "what was durable is damaged on the disk; it is not served"
                ),
            }
            if damage.len() < limits::DAMAGE {
                damage.push(it);
            }
        }
        Ok(())
    }

    /// The key index of segments that were sealed since the last look.
    fn write_index(&self) -> Result<(), Later> {
        let mut all = Ok(());
        for base in self.keys.unwritten() {
            if let Some(segment) = self.segments.holding(LogPosition(base)) {
                let one = self.write_index_of(&segment);
                all = all.and(one);
            }
        }
        all
    }

    fn write_index_of(&self, segment: &Segment) -> Result<(), Later> {
        let entries = match self.keys.is_whole(segment.base, segment.first()) {
            true => None,
            false => Some(self.keys.read(segment, segment.end())?),
        };
        Ok(self.keys.write(segment.base, segment.end(), entries)?)
    }

    fn measure_disk(&mut self) -> Result<(), Later> {
        let fs = &self.env.fs;
        let level = DiskLevel::of(fs.free_space(&self.dir)?, fs.capacity(&self.dir)?);
        if level != self.level {
            if level >= DiskLevel::Warning {
                tracing::warn!(code = "Q-4001", ?level, "the disk of the log is filling up");
            } else {
                tracing::info!(?level, "space on the disk of the log");
            }
            self.level = level;
            self.queue.lock().disk = level;
        }
        Ok(())
    }

    /// Notes what the log comes to; queue entries below a position are on the disk afterwards.
    fn check(&mut self, below: u64) -> Result<(), Later> {
        let (as_of, mut items) = {
            let derived = &mut self.dispatcher().derived;
            let mut items = derived.items();
            let timers = derived.timers.all().into_iter();
            items.extend(timers.map(|(timer, at)| match at == timer.position {
                true => Item::Timer(timer),
                false => Item::Carried(timer, at),
            }));
            let halves = derived.halves.all().into_iter();
            items.extend(halves.map(|(half, at)| Item::Half(half, at)));
            (derived.applied, items)
        };
        // There can be millions, for which nobody waits: what was copied since then is read again by a start, and the
        // last copy stands. Nobody else lets them go.
        items.extend(self.queues.all_kept().map(Item::kept));
        let (queue_log_end, lowest) = self.queues.flush(below)?;
        let mark = {
            let derived = &mut self.dispatcher().derived;
            derived.mark_before(lowest.unwrap_or(as_of).min(as_of))
        };
        let file = StateFile {
            as_of,
            head: self.segments.head(),
            replay_from: mark.position,
            previous_crc: mark.previous_crc,
            queue_log_end,
            items,
        };
        self.state_bytes = file.write(&*self.env.fs, &self.dir, &self.log)?;
        self.replay_from = mark.position;
        self.checked.store(as_of, Ordering::Relaxed);
        Ok(())
    }

    /// A snapshot is worth its place when the log has grown by far more.
    fn snapshot_due(&self, applied: u64) -> bool {
        let grown = applied.saturating_sub(self.snapshot_at);
        grown
            >= self
                .segment_size
                .max(limits::SNAPSHOT_SHARE * self.state_bytes)
    }

    fn put_snapshot(&mut self) {
        let (as_of, items) = {
            let derived = &mut self.dispatcher().derived;
            (derived.applied, derived.items())
        };
        let most = limits::SNAPSHOT_CHUNK.min(self.segment_size as usize / 4);
        for body in chunks(as_of, &items, most) {
            let slot = Slot::new(Acknowledge::Durable);
            self.snapshot.push(slot.clone());
            let batch = state_batch(RecordKind::Snapshot, &body, self.log_clock.now(), slot);
            self.queue.submit(batch);
        }
        self.snapshot_at = as_of;
    }

    /// A snapshot that did not fit is none.
    fn judge_snapshot(&mut self, covered: u64) {
        if self.snapshot.iter().any(Slot::has_failed) {
            self.snapshot_at = covered;
            self.snapshot.clear();
        }
        self.snapshot.retain(|chunk| !chunk.is_settled());
    }

    /// Lets segments go whose time is over, if a snapshot in the log has what they say.
    fn retire(&mut self) -> Result<(), Later> {
        let now = self.log_clock.now();
        let (sealed, active) = self.segments.sealed();
        self.is_carrying = false;
        if self
            .retention
            .head(&sealed, active, now, self.level)
            .is_none()
        {
            return Ok(());
        }
        let (snapshot, waiting, topics) = {
            let derived = &self.dispatcher().derived;
            let lists = [&derived.timers, &derived.halves];
            let topics = derived.observer.kept_topics();
            (derived.snapshot, lists.map(Arc::clone), topics)
        };
        let retention = self.enough_for(&topics);
        let Some(head) = retention.head(&sealed, active, now, self.level) else {
            return Ok(());
        };
        let Some(head) = self.carry_kept(&sealed, head, topics, now)? else {
            return Ok(());
        };
        let head = self.carry(&waiting, head, now);
        let covered = snapshot.map_or(0, |snapshot| snapshot.as_of);
        self.judge_snapshot(covered);
        let ends = sealed.iter().map(|segment| segment.end);
        let possible = ends.take_while(|end| *end <= head.min(covered)).last();
        if covered < head && self.snapshot_at <= covered {
            self.put_snapshot();
        }
        let Some(head) = possible else {
            return Ok(());
        };
        if self.replay_from < head && !self.check_or_do_without(head)? {
            return Ok(());
        }
        let durable = LogPosition(self.checked.load(Ordering::Relaxed).max(head));
        // Both, so that no slot says otherwise.
        let checkpoint = self.checkpoint(durable, head, false);
        self.checkpoints.write_both(&checkpoint)?;
        self.queues.advance(head)?;
        self.keys.forget_before(head)?;
        let log_dir = self.dir.join("commitlog");
        for segment in self.segments.retire(head) {
            let path = Segment::path(&log_dir, segment.base);
            let range = segment.base..segment.end();
            if self.keeping.unreadable.is_given_up_in(range, now) {
                let kept_in = quarantine::put_aside(&*self.env.fs, &self.dir, &path)?;
                tracing::error!(code = "Q-4002", %kept_in, "a segment is put aside for what could not be read of it");
                continue;
            }
            self.env.fs.remove(&path)?;
            tracing::info!(base = segment.base, "a segment of the log was let go");
        }
        self.keeping.unreadable.forget_before(head);
        self.env.fs.sync_dir(&log_dir)?;
        self.check(0)
    }

    /// Notes what the log comes to before its beginning goes. False: not yet. Where there is no space for that, there
    /// shall be: without a state file a start reads the whole log, of which there is less then.
    fn check_or_do_without(&mut self, head: u64) -> Result<bool, Later> {
        match self.check(u64::MAX) {
            Ok(()) => Ok(self.replay_from >= head),
            Err(Later::Io(error)) if is_full(&error) => {
                tracing::warn!(%error, "segments go before it is noted what the log comes to");
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// What compacted topics keep must not be copied round and round: there is as much room for all else in the
    /// log, whatever size it may have.
    fn enough_for(&mut self, topics: &KeptTopics) -> Retention {
        let mut retention = self.retention.clone();
        if retention.bytes.is_none() || !topics.values().any(keeps_newest) {
            self.is_oversized = false;
            return retention;
        }
        let is_compacted = |topic| topics.get(&topic).is_some_and(keeps_newest);
        let kept = self.queues.kept_bytes(is_compacted);
        let needed = limits::COMPACTED_SHARE * kept;
        let is_oversized = retention.bytes.is_some_and(|bytes| bytes < needed);
        if is_oversized {
            retention.bytes = Some(needed);
        }
        if std::mem::replace(&mut self.is_oversized, is_oversized) != is_oversized && is_oversized {
            tracing::warn!(
                kept,
                may_be = self.retention.bytes,
                "compacted topics keep more than half of what the log may have: it becomes twice as large as that"
            );
        }
        retention
    }

    /// Messages of topics that keep them move to the end, one segment after the other, so that there is
    /// room for those of the next one. Where the log can begin; `None` = where it does, for now.
    fn carry_kept(
        &mut self,
        sealed: &[Sealed],
        head: Head,
        mut topics: KeptTopics,
        now: u64,
    ) -> Result<Option<u64>, Later> {
        let next = sealed.first().map_or(head.at, |first| first.end);
        if topics.is_empty() {
            return Ok(Some(head.at));
        }
        if head.surplus > 0 {
            topics.retain(|_, keep| keeps_newest(keep));
            if topics.is_empty() {
                self.is_carrying = head.surplus < head.at;
                return Ok(Some(head.surplus));
            }
        }
        let look = Look {
            queues: &self.queues,
            segments: &self.segments,
            keys: &self.keys,
            topics: &topics,
            head: next,
            durable: self.dispatcher().derived.applied,
            now,
        };
        match self.keeping.carry(&look)? {
            Carried::All => {
                self.is_carrying = next < head.at;
                Ok(Some(next))
            }
            Carried::More(copies) => {
                self.is_carrying = true;
                copies.into_iter().for_each(|it| self.queue.submit(it));
                Ok(None)
            }
            Carried::TooMany | Carried::Unreadable => Ok(None),
        }
    }

    /// A message that waits is not expired, however old it is: it moves to the end, and what is before it goes
    /// the next time. Where the log can begin now.
    fn carry(&mut self, waiting: &[Arc<WaitList>], head: u64, now: u64) -> u64 {
        let mut possible = head;
        for list in waiting {
            let unreadable = &mut self.keeping.unreadable;
            let copies = list.carry(&self.segments, (head, now), unreadable);
            self.is_carrying |= !copies.is_empty();
            copies.into_iter().for_each(|it| self.queue.submit(it));
            possible = list.oldest().map_or(possible, |it| possible.min(it.0));
        }
        possible
    }

    fn checkpoint(&self, durable: LogPosition, head: u64, clean: bool) -> Checkpoint {
        Checkpoint {
            epoch: self.epoch,
            durable,
            clean,
            head: LogPosition(head),
        }
    }

    /// The log ends at `end`, all of it durable, and nobody writes any more.
    pub(crate) fn close(&mut self, end: LogPosition) -> Result<(), CloseError> {
        if let Err(error) = self.check(u64::MAX) {
            tracing::warn!(%error, "the next start reads more of the log than it need");
        }
        let checkpoint = self.checkpoint(end, self.segments.head(), true);
        Ok(self.checkpoints.write(&checkpoint)?)
    }
}

/// Of each key.
fn keeps_newest(keep: &Keep) -> bool {
    matches!(keep, Keep::Newest { .. })
}
