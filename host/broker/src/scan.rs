//! One look at a queue: read entries, skip what the tag hash rules out, let the filter judge the rest
//! in batches.

use std::sync::Arc;

use bytes::Bytes;
use quern_plugins::{Batch, Fault, Subscription, Verdict, Worker};
use quern_protocol::{Code, Filter, QueueOffset, RecordView, WireError};
use quern_store::{Entry, ReadError};

use crate::filters::{self, Stalled, View};
use crate::topics::Topic;
use crate::{Broker, limits, reply};

/// What to look for.
#[derive(Debug, Clone)]
pub(crate) struct Scan {
    pub(crate) view: View,
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

/// One look at the queue. Unfiltered messages that are still in memory are taken at once; all else
/// is work for a delivery thread.
pub(crate) async fn look(broker: &Arc<Broker>, scan: &Scan) -> Result<Scanned, WireError> {
    match &scan.view.filter {
        Filter::All
            if broker
                .store
                .is_recent(scan.topic.id, scan.view.queue, scan.from) =>
        {
            scan.unfiltered(broker)
        }
        Filter::All => {
            let (broker_, scan) = (Arc::clone(broker), scan.clone());
            let work = move |_: &mut Worker| scan.unfiltered(&broker_);
            broker.delivery.run(work).await?
        }
        Filter::Expression { .. } => {
            let now = broker.store.steady_ms();
            if let Some(stalled) = broker.filters.waiting(&scan.view, scan.from, now) {
                return Ok(Scanned {
                    next: scan.from,
                    stalled: Some(stalled),
                    ..Scanned::default()
                });
            }
            let (broker_, scan) = (Arc::clone(broker), scan.clone());
            let work = move |worker: &mut Worker| scan.filtered(&broker_, worker);
            broker.delivery.run(work).await?
        }
    }
}

impl Scan {
    fn entries(
        &self,
        broker: &Broker,
        from: QueueOffset,
        most: usize,
    ) -> Result<Vec<Entry>, WireError> {
        let (topic, queue) = (self.topic.id, self.view.queue);
        let entries = broker.store.entries(topic, queue, from, most);
        entries.map_err(read_failed)
    }

    fn unfiltered(&self, broker: &Broker) -> Result<Scanned, WireError> {
        let mut taken = Taken::new(self);
        for entry in self.entries(broker, self.from, self.max_messages)? {
            if !taken.has_room(entry.size as usize) {
                break;
            }
            let record = broker.store.record(&entry).map_err(read_failed)?;
            taken.take(record);
            taken.next = entry.offset.plus(1);
        }
        Ok(taken.done(None))
    }

    fn filtered(&self, broker: &Broker, worker: &mut Worker) -> Result<Scanned, WireError> {
        let Filter::Expression { language, text } = &self.view.filter else {
            return self.unfiltered(broker);
        };
        let subscription = match broker.filters.known(&self.view.filter) {
            Some(subscription) => subscription,
            None => broker.filters.compile(worker, language, text)?,
        };
        let mut judge = Judge {
            scan: self,
            worker,
            batch: Batch::new(subscription.needs()),
            subscription: &subscription,
            candidates: Vec::new(),
            taken: Taken::new(self),
        };
        let fault = judge.run(broker)?;
        let taken = judge.taken;
        broker.filters.judged(&self.view, taken.next);
        let now = broker.store.steady_ms();
        let stalled = fault.map(|fault| {
            tracing::warn!(
                topic = %self.topic.name, queue = %self.view.queue, offset = %taken.next,
                code = fault.code, %fault, "a filter failed; delivery of this queue waits"
            );
            broker.filters.stall(&self.view, taken.next, fault, now)
        });
        Ok(taken.done(stalled))
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

    fn done(self, stalled: Option<Stalled>) -> Scanned {
        Scanned {
            records: self.records,
            next: self.next,
            stalled,
        }
    }
}

/// One filtered look: candidates pile up until the batch is full, then the guest judges them.
struct Judge<'a> {
    scan: &'a Scan,
    worker: &'a mut Worker,
    subscription: &'a Subscription,
    batch: Batch,
    candidates: Vec<(QueueOffset, Bytes)>,
    taken: Taken,
}

/// Whether the look goes on.
enum Next {
    GoOn,
    Full,
    Fault(Fault),
}

impl Judge<'_> {
    fn run(&mut self, broker: &Broker) -> Result<Option<Fault>, WireError> {
        let codes = self.subscription.needs().tag_codes.as_deref();
        let (mut read, mut skipped) = (0, 0);
        let mut end = self.scan.from;
        for entry in self
            .scan
            .entries(broker, self.scan.from, limits::SCAN_ENTRIES)?
        {
            end = entry.offset.plus(1);
            if codes.is_some_and(|codes| !codes.contains(&entry.tag_code)) {
                skipped += 1;
                continue;
            }
            let record = broker.store.record(&entry).map_err(read_failed)?;
            read += record.len();
            let view = RecordView::trusted(&record).map_err(|error| {
                WireError::new(
                    Code::DATA_CORRUPT,
                    format!("offset {}: {error}", entry.offset),
                )
            })?;
            filters::add(
                &mut self.batch,
                self.subscription,
                &self.scan.topic.name,
                &view,
            );
            self.candidates.push((entry.offset, record));
            if self.batch.is_full() || read >= limits::SCAN_BYTES {
                match self.judge(end) {
                    Next::GoOn if read < limits::SCAN_BYTES => {}
                    Next::GoOn | Next::Full => {
                        broker.metrics.messages_skipped.add(skipped);
                        return Ok(None);
                    }
                    Next::Fault(fault) => return Ok(Some(fault)),
                }
            }
        }
        broker.metrics.messages_skipped.add(skipped);
        match self.judge(end) {
            Next::GoOn | Next::Full => Ok(None),
            Next::Fault(fault) => Ok(Some(fault)),
        }
    }

    /// Judges what has piled up; all before `end` has then been decided unless it says otherwise.
    fn judge(&mut self, end: QueueOffset) -> Next {
        if !self.batch.is_empty() {
            let judged = self.worker.judge(self.subscription, &self.batch);
            self.batch.clear();
            let candidates = std::mem::take(&mut self.candidates);
            for ((offset, record), verdict) in candidates.into_iter().zip(judged.verdicts) {
                match verdict {
                    Verdict::Reject => {}
                    Verdict::Deliver if self.taken.has_room(record.len()) => {
                        self.taken.take(record);
                    }
                    Verdict::Deliver => return Next::Full,
                    Verdict::Unjudged => {
                        self.taken.next = offset;
                        return match judged.fault {
                            Some(fault) => Next::Fault(fault),
                            None => Next::Full,
                        };
                    }
                }
                self.taken.next = offset.plus(1);
            }
        }
        self.taken.next = end;
        Next::GoOn
    }
}
