//! `Pull`: read entries, skip what the tag hash rules out, let the filter judge the rest in
//! batches, fill the reply; or wait for news.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quern_plugins::{Batch, Fault, Subscription, Verdict, Worker};
use quern_protocol::frame::Outgoing;
use quern_protocol::{
    Code, Filter, Pull, PullReply, QueueOffset, RecordView, Stall, WireError, limits as wire,
};
use quern_store::{Entry, ReadError};

use crate::filters::{self, Stalled, View};
use crate::topics::Topic;
use crate::{Broker, limits, reply};

/// What one look at a queue brought.
#[derive(Debug, Default)]
struct Scanned {
    records: Vec<Bytes>,
    next: QueueOffset,
    stalled: Option<Stalled>,
}

pub(crate) async fn pull(broker: &Arc<Broker>, request: Pull) -> Result<Outgoing, WireError> {
    let topic = broker.topic(&request.topic)?;
    reply::queue_exists(&topic, request.queue, topic.has_read_queue(request.queue))?;
    check(&request)?;
    compile(broker, &request.filter).await?;
    let wait = Duration::from_millis(request.wait_ms.into());
    let mut over = std::pin::pin!(tokio::time::sleep(wait));
    let mut scan = Scan {
        view: View {
            filter: request.filter.clone(),
            topic: topic.id,
            queue: request.queue,
        },
        topic: Arc::clone(&topic),
        from: request.from,
        max_messages: request.max_messages as usize,
        max_bytes: request.max_bytes.min(wire::PULL_BYTES) as usize,
    };
    // Registered before looking, or a message between look and wait would be missed.
    let waiter = broker.waits.enter(topic.id, request.queue);
    loop {
        let mut bell = std::pin::pin!(waiter.bell());
        bell.as_mut().enable();
        let (min, max) = broker.store.range(topic.id, request.queue);
        if !(min..=max).contains(&scan.from) {
            let next = scan.from.clamp(min, max);
            return answer(
                broker,
                &scan,
                Scanned {
                    next,
                    ..Scanned::default()
                },
                true,
            );
        }
        if scan.from < max {
            let scanned = look(broker, &scan).await?;
            let advanced = scanned.next > scan.from;
            if !scanned.records.is_empty() || scanned.stalled.is_some() {
                return answer(broker, &scan, scanned, false);
            }
            scan.from = scanned.next;
            if advanced && !over.is_elapsed() {
                continue;
            }
        }
        let gone = broker.is_draining() || !broker.state.topics.exists(topic.id);
        let rung = !gone
            && tokio::select! {
                () = bell => true,
                () = &mut over => false,
            };
        if !rung {
            let next = scan.from;
            return answer(
                broker,
                &scan,
                Scanned {
                    next,
                    ..Scanned::default()
                },
                false,
            );
        }
    }
}

fn check(request: &Pull) -> Result<(), WireError> {
    if !(1..=wire::PULL_MESSAGES).contains(&request.max_messages) {
        return Err(reply::bad_request(format!(
            "a pull asks for 1 to {} messages, not {}",
            wire::PULL_MESSAGES,
            request.max_messages
        )));
    }
    if request.wait_ms > wire::PULL_WAIT_MS {
        return Err(reply::bad_request(format!(
            "a pull is held at most {} ms, not {}",
            wire::PULL_WAIT_MS,
            request.wait_ms
        )));
    }
    match &request.filter {
        Filter::Expression { text, .. } if text.len() > wire::EXPRESSION => {
            Err(reply::bad_request(format!(
                "a filter expression has at most {} bytes, not {}",
                wire::EXPRESSION,
                text.len()
            )))
        }
        Filter::Expression { .. } | Filter::All => Ok(()),
    }
}

/// A bad expression is refused at once, not when the first message comes.
async fn compile(broker: &Arc<Broker>, filter: &Filter) -> Result<(), WireError> {
    let Filter::Expression { language, text } = filter else {
        return Ok(());
    };
    if broker.filters.known(filter).is_some() {
        return Ok(());
    }
    let (broker_, language, text) = (Arc::clone(broker), language.clone(), text.clone());
    let work = move |worker: &mut Worker| broker_.filters.compile(worker, &language, &text);
    broker.delivery.run(work).await??;
    Ok(())
}

fn answer(
    broker: &Broker,
    scan: &Scan,
    scanned: Scanned,
    moved: bool,
) -> Result<Outgoing, WireError> {
    let (min, max) = broker.store.range(scan.topic.id, scan.view.queue);
    broker
        .metrics
        .messages_out
        .add(scanned.records.len() as u64);
    let header = PullReply {
        messages: scanned.records.len() as u32,
        next: scanned.next,
        min,
        max,
        moved,
        stall: scanned.stalled.map(|stalled| Stall {
            offset: stalled.offset,
            code: stalled.fault.code,
            message: stalled.fault.to_string(),
            retry_ms: stalled.retry_ms(broker.store.steady_ms()),
        }),
    };
    Outgoing::reply::<Pull>(&header, scanned.records)
        .map_err(|error| WireError::new(Code::TOO_LARGE, error.to_string()))
}

/// What to look for.
#[derive(Debug, Clone)]
struct Scan {
    view: View,
    topic: Arc<Topic>,
    from: QueueOffset,
    max_messages: usize,
    max_bytes: usize,
}

/// One look at the queue. Unfiltered messages that are still in memory are taken at once; all else
/// is work for a delivery thread.
async fn look(broker: &Arc<Broker>, scan: &Scan) -> Result<Scanned, WireError> {
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
