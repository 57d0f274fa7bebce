//! One look at a queue: read entries, skip what the tag hash rules out, let the filter judge the rest
//! in batches.
//!
//! What is in memory is looked at where the guest runs, or at once where there is none. What is not is
//! read by [`crate::cold`], a step at a time, and judged step by step: a guest never waits for a disk.

use std::sync::Arc;

use bytes::Bytes;
use quern_plugins::{Batch, Fault, Subscription, Verdict, Worker};
use quern_protocol::{Code, GroupName, QueueOffset, RecordView, WireError};
use quern_store::{Entry, ReadError};

use crate::filters::{self, Stalled, View};
use crate::topics::Topic;
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
}

pub(crate) async fn look(broker: &Arc<Broker>, scan: &Scan) -> Result<Scanned, WireError> {
    let (topic, queue) = (scan.topic.id, scan.view.queue);
    let is_recent = broker.store.is_recent(topic, queue, scan.from);
    let Some(subscription) = filters::subscription(broker, &scan.view.filter).await? else {
        if is_recent {
            return scan.unfiltered(broker);
        }
        let (broker_, scan_) = (Arc::clone(broker), scan.clone());
        let work = move || scan_.unfiltered(&broker_);
        return broker.cold.run(&scan.reader, work).await?;
    };
    let now = broker.store.steady_ms();
    if let Some(stalled) = broker.filters.waiting(&scan.view, scan.from, now) {
        return Ok(Scanned {
            next: scan.from,
            stalled: Some(stalled),
            ..Scanned::default()
        });
    }
    let look = Look::new(scan, subscription);
    if is_recent {
        let broker_ = Arc::clone(broker);
        let work = move |worker: &mut Worker| look.here(&broker_, worker);
        return broker.delivery.run(work).await?;
    }
    look.cold(broker).await
}

impl Scan {
    fn entries(&self, broker: &Broker, most: usize) -> Result<Vec<Entry>, WireError> {
        let (topic, queue) = (self.topic.id, self.view.queue);
        let entries = broker.store.entries(topic, queue, self.from, most);
        entries.map_err(read_failed)
    }

    fn unfiltered(&self, broker: &Broker) -> Result<Scanned, WireError> {
        let mut entries = self.entries(broker, self.max_messages)?;
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
            stalled: None,
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
    subscription: Subscription,
    /// Entries not yet read; `None` before the first step.
    entries: Option<std::vec::IntoIter<Entry>>,
    batch: Batch,
    taken: Taken,
    /// Bytes of all steps.
    read: usize,
    skipped: u64,
}

/// What one step has read: messages the tag hash does not rule out.
struct Step {
    candidates: Vec<(QueueOffset, Bytes)>,
    /// Everything before it is among them or ruled out.
    end: QueueOffset,
    is_last: bool,
}

/// Whether the look goes on.
enum Next {
    GoOn,
    Full,
    Fault(Fault),
}

impl Look {
    fn new(scan: &Scan, subscription: Subscription) -> Self {
        Self {
            batch: Batch::new(subscription.needs()),
            taken: Taken::new(scan),
            scan: scan.clone(),
            subscription,
            entries: None,
            read: 0,
            skipped: 0,
        }
    }

    /// All steps on this thread.
    fn here(mut self, broker: &Broker, worker: &mut Worker) -> Result<Scanned, WireError> {
        loop {
            let step = self.read(broker);
            let Some(step) = self.usable(step)? else {
                return Ok(self.done(broker, None));
            };
            match self.judge(&step, worker)? {
                Next::GoOn if !step.is_last => {}
                Next::GoOn | Next::Full => return Ok(self.done(broker, None)),
                Next::Fault(fault) => return Ok(self.done(broker, Some(fault))),
            }
        }
    }

    /// Each step is read on one thread and judged on another.
    async fn cold(mut self, broker: &Arc<Broker>) -> Result<Scanned, WireError> {
        loop {
            let (broker_, reader) = (Arc::clone(broker), self.scan.reader.clone());
            let work = move || {
                let step = self.read(&broker_);
                (self, step)
            };
            let step;
            (self, step) = broker.cold.run(&reader, work).await?;
            let Some(step) = self.usable(step)? else {
                return Ok(self.done(broker, None));
            };
            let is_last = step.is_last;
            let work = move |worker: &mut Worker| {
                let next = self.judge(&step, worker);
                (self, next)
            };
            let next;
            (self, next) = broker.delivery.run(work).await?;
            match next? {
                Next::GoOn if !is_last => {}
                Next::GoOn | Next::Full => return Ok(self.done(broker, None)),
                Next::Fault(fault) => return Ok(self.done(broker, Some(fault))),
            }
        }
    }

    /// Reads the messages of the next step.
    fn read(&mut self, broker: &Broker) -> Result<Step, WireError> {
        if self.entries.is_none() {
            let entries = self.scan.entries(broker, limits::SCAN_ENTRIES)?;
            self.entries = Some(entries.into_iter());
        }
        let mut entries = self.entries.take().unwrap_or_default();
        let codes = self.subscription.needs().tag_codes.as_deref();
        let (mut wanted, mut bytes, mut end) = (Vec::new(), 0, self.taken.next);
        for entry in entries.by_ref() {
            end = entry.offset.plus(1);
            if codes.is_some_and(|codes| !codes.contains(&entry.tag_code)) {
                self.skipped += 1;
                continue;
            }
            bytes += entry.size as usize;
            wanted.push(entry);
            if wanted.len() >= limits::STEP_MESSAGES || bytes >= limits::STEP_BYTES {
                break;
            }
        }
        self.read += bytes;
        let records = broker.store.records(&wanted).map_err(read_failed)?;
        // What cannot be read is met again by a look that begins there.
        let missed = wanted.get(records.len()).map(|entry| entry.offset);
        let is_last = missed.is_some() || entries.len() == 0 || self.read >= limits::SCAN_BYTES;
        self.entries = Some(entries);
        let offsets = wanted.iter().map(|entry| entry.offset);
        Ok(Step {
            candidates: offsets.zip(records).collect(),
            end: missed.unwrap_or(end),
            is_last,
        })
    }

    /// An error counts only where it stands first: what precedes it is delivered.
    fn usable(&self, step: Result<Step, WireError>) -> Result<Option<Step>, WireError> {
        match step {
            Ok(step) => Ok(Some(step)),
            Err(error) if self.taken.next == self.scan.from => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// Judges the messages of a step; all before its end has then been decided unless it says otherwise.
    fn judge(&mut self, step: &Step, worker: &mut Worker) -> Result<Next, WireError> {
        let mut begin = 0;
        for (index, (offset, record)) in step.candidates.iter().enumerate() {
            let view = RecordView::trusted(record).map_err(|error| {
                WireError::new(Code::DATA_CORRUPT, format!("offset {offset}: {error}"))
            })?;
            let topic = &self.scan.topic.name;
            filters::add(&mut self.batch, &self.subscription, topic, &view);
            if self.batch.is_full() {
                let batch = &step.candidates[begin..=index];
                begin = index + 1;
                match self.judge_batch(batch, worker) {
                    Next::GoOn => self.taken.next = offset.plus(1),
                    stop => return Ok(stop),
                }
            }
        }
        let stop = self.judge_batch(&step.candidates[begin..], worker);
        if matches!(stop, Next::GoOn) {
            self.taken.next = step.end;
        }
        Ok(stop)
    }

    fn judge_batch(&mut self, batch: &[(QueueOffset, Bytes)], worker: &mut Worker) -> Next {
        if batch.is_empty() {
            return Next::GoOn;
        }
        let judged = worker.judge(&self.subscription, &self.batch);
        self.batch.clear();
        for ((offset, record), verdict) in batch.iter().zip(judged.verdicts) {
            match verdict {
                Verdict::Reject => {}
                Verdict::Deliver if self.taken.has_room(record.len()) => {
                    self.taken.take(record.clone());
                }
                Verdict::Deliver => return Next::Full,
                Verdict::Unjudged => {
                    self.taken.next = *offset;
                    return judged.fault.map_or(Next::Full, Next::Fault);
                }
            }
            self.taken.next = offset.plus(1);
        }
        Next::GoOn
    }

    fn done(self, broker: &Broker, fault: Option<Fault>) -> Scanned {
        let (scan, taken) = (self.scan, self.taken);
        broker.metrics.messages_skipped.add(self.skipped);
        broker.filters.judged(&scan.view, taken.next);
        let now = broker.store.steady_ms();
        let stalled = fault.map(|fault| {
            tracing::warn!(
                topic = %scan.topic.name, queue = %scan.view.queue, offset = %taken.next,
                code = fault.code, %fault, "a filter failed; delivery of this queue waits"
            );
            broker.filters.stall(&scan.view, taken.next, fault, now)
        });
        Scanned {
            records: taken.records,
            next: taken.next,
            stalled,
        }
    }
}
