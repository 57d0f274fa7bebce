//! One look at a queue: read entries, skip what the tag hash rules out, let the filters ([`crate::chain`]) judge
//! the rest in batches.
//!
//! What is in memory is looked at where the guest runs, or at once where there is none. What may not be is
//! read by [`crate::cold`], a step at a time, and judged step by step: a guest never waits for a disk. A step that the
//! page cache turns out to have is read where the guest runs, too: that saves two changes of threads.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use quern_plugins::{Fault, Worker};
use quern_protocol::{Code, FilterFailure, GroupName, QueueId, QueueOffset, WireError};
use quern_store::{Entry, ReadError};

use crate::chain::{Candidate, Chain, Decision, Judging, Whose};
use crate::filters::{Stalled, View};
use crate::park::{self, Failed, Place};
use crate::pool::Who;
use crate::replay::{self, Before};
use crate::topics::Topic;
use crate::trials::Side;
use crate::trouble::Trouble;
use crate::verdicts::Known;
use crate::{Broker, limits, reply};

/// What to look for.
#[derive(Debug, Clone)]
pub(crate) struct Scan {
    pub(crate) view: View,
    pub(crate) reader: Option<GroupName>,
    pub(crate) topic: Arc<Topic>,
    pub(crate) from: QueueOffset,
    pub(crate) max_messages: usize,
    pub(crate) max_bytes: usize,
}

/// What one look at a queue brought.
#[derive(Debug, Default)]
pub(crate) struct Scanned {
    pub(crate) records: Vec<Bytes>,
    pub(crate) next: QueueOffset,
    pub(crate) stalled: Option<Stalled>,
    trouble: Trouble,
    /// To be put aside before anybody is told to go on behind them.
    to_park: Vec<Failed>,
}

impl Scanned {
    /// A look that found nothing to deliver before this offset.
    pub(crate) fn nothing(next: QueueOffset) -> Self {
        Self {
            next,
            ..Self::default()
        }
    }
}

/// Who decides, as [`crate::filters::judge`] told it for this look.
pub(crate) async fn look(
    broker: &Arc<Broker>,
    scan: &Scan,
    mut chain: Chain,
) -> Result<Scanned, WireError> {
    let (topic, queue) = (scan.topic.id, scan.view.queue);
    let is_recent = broker.store.is_recent(topic, queue, scan.from);
    if chain.links.is_empty() {
        let mut scanned = scan.all(broker, is_recent).await?;
        if let Some(code) = chain.unjudged {
            for record in &mut scanned.records {
                *record = park::unjudged(record, code)?;
            }
        }
        return Ok(scanned);
    }
    replay::mark(broker, scan, &chain).await;
    chain.before = replay::before(broker, scan, &chain).await;
    let policy = broker.on_filter_failure(scan.reader.as_ref());
    let now = broker.store.steady_ms();
    let waiting = broker.filters.waiting(&scan.view, scan.from, now);
    if let Some(stalled) = waiting.filter(|_| policy == FilterFailure::Stall) {
        return Ok(Scanned {
            stalled: Some(stalled),
            ..Scanned::nothing(scan.from)
        });
    }
    let parked = scan
        .reader
        .as_ref()
        .map(|it| broker.state.parks.of(it, topic, queue));
    let look = Look {
        policy,
        parked: parked.unwrap_or_default(),
        ..Look::new(scan, chain)
    };
    let scanned = if is_recent {
        let broker_ = Arc::clone(broker);
        let step = move |look: Look, worker: &mut Worker| look.here(&broker_, worker);
        let who = Who::from(scan.reader.as_ref());
        broker.delivery.run_in_steps(who, look, step).await?
    } else {
        look.cold(broker).await
    };
    let mut scanned = scanned?;
    std::mem::take(&mut scanned.trouble).act(broker);
    if let (Some(group), false) = (&scan.reader, scanned.to_park.is_empty()) {
        let place = Place {
            group: group.clone(),
            topic: Arc::clone(&scan.topic),
            queue,
        };
        park::park(broker, place, std::mem::take(&mut scanned.to_park)).await?;
    }
    Ok(scanned)
}

impl Scan {
    async fn all(&self, broker: &Arc<Broker>, is_recent: bool) -> Result<Scanned, WireError> {
        if is_recent {
            return self.unfiltered(broker);
        }
        let (broker_, scan) = (Arc::clone(broker), self.clone());
        let work = move || scan.unfiltered(&broker_);
        broker.cold.run(&self.reader, work).await?
    }

    fn entries(&self, broker: &Broker, most: usize) -> Result<Vec<Entry>, WireError> {
        let (topic, queue) = (self.topic.id, self.view.queue);
        let entries = broker.store.entries(topic, queue, self.from, most);
        entries.map_err(read_failed)
    }

    fn unfiltered(&self, broker: &Broker) -> Result<Scanned, WireError> {
        let (_, end) = broker.store.range(self.topic.id, self.view.queue);
        let mut entries = self.entries(broker, self.max_messages)?;
        if entries.is_empty() {
            // What was there is gone, to the end of the queue.
            return Ok(Scanned::nothing(self.from.max(end)));
        }
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            bytes += entry.size as usize;
            bytes <= self.max_bytes
        };
        // The first message always fits, however large.
        let count = entries.iter().take_while(fits).count().max(1);
        entries.truncate(count);
        let records = broker.store.records(&entries).map_err(read_failed)?;
        let last = entries.get(..records.len()).and_then(<[Entry]>::last);
        Ok(Scanned {
            next: last.map_or(self.from, |last| last.offset.plus(1)),
            records,
            ..Scanned::default()
        })
    }
}

fn read_failed(error: ReadError) -> WireError {
    reply::read_failed(&error)
}

/// Messages for the reply, within its limits.
#[derive(Debug)]
struct Taken {
    records: Vec<Bytes>,
    bytes: usize,
    max_messages: usize,
    max_bytes: usize,
    /// Everything before it is taken or ruled out.
    next: QueueOffset,
}

impl Taken {
    fn new(scan: &Scan) -> Self {
        Self {
            records: Vec::new(),
            bytes: 0,
            max_messages: scan.max_messages,
            max_bytes: scan.max_bytes,
            next: scan.from,
        }
    }

    /// The first message always fits, however large.
    fn has_room(&self, size: usize) -> bool {
        self.records.is_empty()
            || (self.records.len() < self.max_messages && self.bytes + size <= self.max_bytes)
    }

    fn take(&mut self, record: Bytes) {
        self.bytes += record.len();
        self.records.push(record);
    }
}

/// One filtered look, which may go from thread to thread between its steps.
struct Look {
    scan: Scan,
    chain: Arc<Chain>,
    /// Entries not yet read; `None` before the first step.
    entries: Option<std::vec::IntoIter<Entry>>,
    /// It has to be read where a disk may be waited for.
    chosen: Option<Chosen>,
    /// The one that is being judged.
    step: Option<Step>,
    taken: Taken,
    /// Bytes of all steps.
    read: usize,
    /// Judging them, without the time it had to wait.
    took_us: u64,
    skipped: u64,
    trouble: Trouble,
    /// What becomes of messages the filter fails on.
    policy: FilterFailure,
    /// Messages put aside for the group before.
    parked: BTreeSet<QueueOffset>,
    to_park: Vec<Failed>,
    /// Messages the filter failed on that were passed or are to be parked.
    faults: usize,
}

/// What the filters of a look have said before.
struct Remembered<'a> {
    chain: Arc<Chain>,
    queue: QueueId,
    /// Of each link.
    known: Vec<Option<Known<'a>>>,
    /// Messages nobody is asked about again, by link.
    counts: Vec<u64>,
}

impl<'a> Remembered<'a> {
    fn new(broker: &'a Broker, look: &Look) -> Self {
        let place = (look.scan.topic.id, look.scan.view.queue);
        let links = look.chain.links.iter();
        let known = links.map(|link| link.known(&broker.verdicts, place));
        let known: Vec<_> = known.collect();
        Self {
            chain: Arc::clone(&look.chain),
            queue: place.1,
            counts: vec![0; known.len()],
            known,
        }
    }

    /// Whether one of them rejects the message, so that it need not even be read.
    fn rules_out(&mut self, offset: QueueOffset) -> bool {
        let links = self.chain.links.iter().zip(&mut self.known);
        for ((link, known), count) in links.zip(&mut self.counts) {
            let is_usual = link.deciders.side(self.queue, offset) == Side::Usual;
            let Some(known) = known.as_mut().filter(|_| is_usual) else {
                continue;
            };
            if known.said(offset) == Some(false) {
                *count += 1;
                return true;
            }
        }
        false
    }
}

impl Drop for Remembered<'_> {
    fn drop(&mut self) {
        for (link, count) in self.chain.links.iter().zip(&self.counts) {
            link.deciders.usual.plugin().remembered(*count);
        }
    }
}

/// What a step will read: messages the tag hash does not rule out.
struct Chosen {
    entries: Vec<Entry>,
    /// Everything before it is among them or ruled out.
    end: QueueOffset,
}

/// What one step has read: messages the tag hash does not rule out.
struct Step {
    candidates: Vec<Candidate>,
    /// So many of them are decided.
    decided: usize,
    /// Everything before it is among them or ruled out.
    end: QueueOffset,
    is_last: bool,
}

/// How a look goes on.
enum Next {
    /// With more of this step.
    Part,
    /// With the next step.
    Step,
    /// Not at all; what the filter has failed on, if that is why.
    Over(Option<Fault>),
}

impl Look {
    fn new(scan: &Scan, chain: Chain) -> Self {
        Self {
            taken: Taken::new(scan),
            scan: scan.clone(),
            chain: Arc::new(chain),
            entries: None,
            chosen: None,
            step: None,
            read: 0,
            took_us: 0,
            skipped: 0,
            trouble: Trouble::default(),
            policy: FilterFailure::Stall,
            parked: BTreeSet::new(),
            to_park: Vec::new(),
            faults: 0,
        }
    }

    /// Goes on for a moment on a delivery thread, where nothing has to be read from a disk.
    fn here(
        mut self,
        broker: &Broker,
        worker: &mut Worker,
    ) -> ControlFlow<Result<Scanned, WireError>, Self> {
        let read = match &self.step {
            Some(_) => Ok(()),
            None => self.read(broker),
        };
        match read.and_then(|()| self.judge(broker, worker)) {
            Ok(Next::Part | Next::Step) => ControlFlow::Continue(self),
            Ok(Next::Over(fault)) => ControlFlow::Break(Ok(self.done(broker, fault))),
            Err(error) => ControlFlow::Break(Err(error)),
        }
    }

    /// A step is read on one thread and judged on others, and so are those behind it that need no disk.
    async fn cold(mut self, broker: &Arc<Broker>) -> Result<Scanned, WireError> {
        loop {
            let (broker_, reader) = (Arc::clone(broker), self.scan.reader.clone());
            let work = move || {
                let read = self.read(&broker_);
                (self, read)
            };
            let read;
            (self, read) = broker.cold.run(&reader, work).await?;
            read?;
            let broker_ = Arc::clone(broker);
            let judge =
                move |mut look: Self, worker: &mut Worker| match look.judge(&broker_, worker) {
                    Ok(Next::Part) => ControlFlow::Continue(look),
                    Ok(Next::Step) if look.read_now(&broker_) => ControlFlow::Continue(look),
                    next => ControlFlow::Break((look, next)),
                };
            let who = Who::from(reader.as_ref());
            let next;
            (self, next) = broker.delivery.run_in_steps(who, self, judge).await?;
            if let Next::Over(fault) = next? {
                return Ok(self.done(broker, fault));
            }
        }
    }

    /// Reads the messages of the next step. An error counts only where it stands first: what precedes it is delivered.
    fn read(&mut self, broker: &Broker) -> Result<(), WireError> {
        self.step = match self.next_step(broker) {
            Ok(step) => Some(step),
            Err(error) if self.taken.next == self.scan.from => return Err(error),
            Err(_) => None,
        };
        Ok(())
    }

    fn next_step(&mut self, broker: &Broker) -> Result<Step, WireError> {
        let chosen = match self.chosen.take() {
            Some(chosen) => chosen,
            None => self.choose(broker)?,
        };
        let records = broker.store.records(&chosen.entries).map_err(read_failed)?;
        Ok(self.step(chosen, records))
    }

    /// The same, if no disk is needed for it; the queue's entries are known.
    fn read_now(&mut self, broker: &Broker) -> bool {
        let Ok(chosen) = self.choose(broker) else {
            return false;
        };
        match broker.store.records_now(&chosen.entries) {
            Some(records) => self.step = Some(self.step(chosen, records)),
            None => self.chosen = Some(chosen),
        }
        self.step.is_some()
    }

    fn step(&self, chosen: Chosen, records: Vec<Bytes>) -> Step {
        // What cannot be read is met again by a look that begins there.
        let missed = chosen.entries.get(records.len()).map(|it| it.offset);
        let left = self.entries.as_ref().map_or(0, ExactSizeIterator::len);
        let offsets = chosen.entries.iter().map(|entry| entry.offset);
        Step {
            candidates: offsets.zip(records).collect(),
            decided: 0,
            end: missed.unwrap_or(chosen.end),
            is_last: missed.is_some() || left == 0 || self.read >= limits::SCAN_BYTES,
        }
    }

    /// What the next step will read.
    fn choose(&mut self, broker: &Broker) -> Result<Chosen, WireError> {
        if self.entries.is_none() {
            let (_, end) = broker.store.range(self.scan.topic.id, self.scan.view.queue);
            let entries = self.scan.entries(broker, limits::SCAN_ENTRIES)?;
            if entries.is_empty() {
                self.taken.next = self.taken.next.max(end);
            }
            self.entries = Some(entries.into_iter());
        }
        let mut entries = self.entries.take().unwrap_or_default();
        let (mut wanted, mut bytes, mut end) = (Vec::new(), 0, self.taken.next);
        let mut remembered = Remembered::new(broker, self);
        for entry in entries.by_ref() {
            end = entry.offset.plus(1);
            let queue = self.scan.view.queue;
            if !self.chain.wants(queue, entry.offset, entry.tag_code) {
                self.skipped += 1;
                continue;
            }
            let is_seen = |it: &Before| it.is_seen(entry.offset);
            if self.parked.contains(&entry.offset)
                || self.chain.before.as_ref().is_some_and(is_seen)
                || remembered.rules_out(entry.offset)
            {
                continue;
            }
            bytes += entry.size as usize;
            wanted.push(entry);
            if wanted.len() >= limits::STEP_MESSAGES || bytes >= limits::STEP_BYTES {
                break;
            }
        }
        self.read += bytes;
        self.entries = Some(entries);
        Ok(Chosen {
            entries: wanted,
            end,
        })
    }

    /// Judges some messages of the step, as many as are decided at once.
    fn judge(&mut self, broker: &Broker, worker: &mut Worker) -> Result<Next, WireError> {
        let Some(mut step) = self.step.take() else {
            return Ok(Next::Over(None));
        };
        let began = broker.store.steady_us();
        let rest = &step.candidates[step.decided..];
        if let Some((first, _)) = rest.first() {
            let place = (&self.scan.topic, self.scan.view.queue);
            let group = self.scan.reader.clone();
            let whose = Whose {
                group: group.as_ref(),
                policy: self.policy,
            };
            let mut judging = Judging::new(broker, &self.chain, place, whose);
            let decisions = judging.decide(rest, worker)?;
            if decisions.is_empty() {
                self.taken.next = *first;
                return Ok(Next::Over(None));
            }
            let (stop, dealt_with) = self.take(broker, rest, &decisions)?;
            judging.count(rest, dealt_with, worker)?;
            self.trouble.add(judging.found);
            if let Some(stop) = stop {
                return Ok(stop);
            }
            step.decided += dealt_with;
        }
        self.took_us += broker.store.steady_us() - began;
        let is_done = step.decided == step.candidates.len();
        if is_done {
            self.taken.next = step.end;
        }
        Ok(match is_done {
            _ if self.took_us >= limits::SCAN_US => Next::Over(None),
            true if step.is_last => Next::Over(None),
            true => Next::Step,
            false => {
                self.step = Some(step);
                Next::Part
            }
        })
    }

    /// Takes what is let through, and says how many messages are dealt with: all before the first that holds the
    /// queue up, or for which there is no room.
    fn take(
        &mut self,
        broker: &Broker,
        part: &[Candidate],
        decisions: &[Decision],
    ) -> Result<(Option<Next>, usize), WireError> {
        let delivered = decisions
            .iter()
            .filter(|it| matches!(it, Decision::Deliver));
        // So that the memory all of them were read into is free for the next step.
        let are_few = delivered.count() * 8 <= decisions.len();
        for (index, (candidate, decision)) in part.iter().zip(decisions).enumerate() {
            let (offset, record) = candidate;
            match decision {
                Decision::Reject => {}
                Decision::Deliver => {
                    let record = match self.chain.unjudged {
                        Some(code) => park::unjudged(record, code)?,
                        None if are_few => Bytes::copy_from_slice(record),
                        None => record.clone(),
                    };
                    if !self.taken.has_room(record.len()) {
                        return Ok((Some(Next::Over(None)), index));
                    }
                    self.taken.take(record);
                }
                Decision::Failed { fault, is_at_fault } => {
                    self.taken.next = *offset;
                    if let Some(stop) = self.failed(broker, candidate, fault, *is_at_fault)? {
                        return Ok((Some(stop), index));
                    }
                }
            }
            self.taken.next = offset.plus(1);
        }
        Ok((None, decisions.len()))
    }

    /// What becomes of a message the filter failed on: `None` = the look goes on behind it.
    fn failed(
        &mut self,
        broker: &Broker,
        (offset, record): &Candidate,
        fault: &Fault,
        is_at_fault: bool,
    ) -> Result<Option<Next>, WireError> {
        if self.faults >= limits::FAULTS_OF_A_LOOK {
            return Ok(Some(Next::Over(None)));
        }
        match self.policy {
            FilterFailure::Pass => {
                let record = park::unjudged(record, fault.code)?;
                if !self.taken.has_room(record.len()) {
                    return Ok(Some(Next::Over(None)));
                }
                self.taken.take(record);
                broker.health.unjudged(&fault.plugin, |it| it.passed += 1);
            }
            // A guest that cannot even be asked is no message's fault.
            FilterFailure::Park if is_at_fault => {
                self.to_park.push(Failed {
                    offset: *offset,
                    record: record.clone(),
                    why: format!("Q-{} {fault}", fault.code),
                });
                broker.health.unjudged(&fault.plugin, |it| it.parked += 1);
            }
            FilterFailure::Park | FilterFailure::Stall => {
                return Ok(Some(Next::Over(Some(fault.clone()))));
            }
        }
        self.faults += 1;
        Ok(None)
    }

    fn done(self, broker: &Broker, fault: Option<Fault>) -> Scanned {
        let (scan, taken) = (self.scan, self.taken);
        broker.metrics.messages_skipped.add(self.skipped);
        broker.filters.judged(&scan.view, taken.next);
        let now = broker.store.steady_ms();
        let stalled = fault.map(|fault| {
            // Of one that nobody asks it was said when it failed.
            if fault.code != Code::PLUGIN_BREAKER_OPEN.number {
                tracing::warn!(
                    topic = %scan.topic.name, queue = %scan.view.queue, offset = %taken.next,
                    code = fault.code, %fault, "a filter failed; delivery of this queue waits"
                );
                broker.health.unjudged(&fault.plugin, |it| it.stalled += 1);
            }
            broker.filters.stall(&scan.view, taken.next, fault, now)
        });
        Scanned {
            records: taken.records,
            next: taken.next,
            stalled,
            trouble: self.trouble,
            to_park: self.to_park,
        }
    }
}
