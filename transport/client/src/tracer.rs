//! The tracer of a client that is to trace: takes records of what is sent and consumed, and sends them to the
//! trace topic, many at a time. It never holds anybody up: what there is no room for is dropped, and counted.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use quern_protocol::message::UNIQUE_KEY;
use quern_protocol::trace::{TraceRecord, Traced, TracedEnd, TracedKind, TracedSend};
use quern_protocol::{
    Block, Code, GroupName, Later, Message, MessageHandle, TopicName, TransactionEnd,
    limits as wire,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::client::Client;
use crate::consumer::MessageView;
use crate::error::{Error, Result};
use crate::producer::{Producer, SendResult, Sending, now_ms};
use crate::{limits, message_id};

/// See the module.
#[derive(Debug)]
pub(crate) struct Tracer {
    work: mpsc::Sender<Work>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Work {
    Record(TraceRecord),
    /// Answered when all before it is sent.
    Flush(oneshot::Sender<()>),
}

impl Tracer {
    /// `client` must not trace itself.
    pub(crate) fn start(client: Client, topic: TopicName) -> Self {
        let (work, incoming) = mpsc::channel(limits::TRACED);
        let dropped = Arc::<AtomicU64>::default();
        let task = Task {
            client,
            topic,
            dropped: Arc::clone(&dropped),
            producer: None,
            under_way: VecDeque::new(),
            lost: (0, None),
            told_at: None,
        };
        tokio::spawn(task.run(incoming));
        Self { work, dropped }
    }

    fn record(&self, record: TraceRecord) {
        if self.work.try_send(Work::Record(record)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what was recorded so far is sent, for not too long.
    pub(crate) async fn flush(&self) {
        let (done, is_done) = oneshot::channel();
        let flushed = async {
            let _ = self.work.send(Work::Flush(done)).await;
            let _ = is_done.await;
        };
        let _ = tokio::time::timeout(limits::GOODBYE, flushed).await;
    }
}

/// A message on its way, to be told of when it is answered.
#[derive(Debug)]
pub(crate) struct TracedSending {
    pub(crate) tracer: Arc<Tracer>,
    pub(crate) group: GroupName,
    pub(crate) begun: Instant,
}

impl TracedSending {
    /// It is answered. `block` is the message's.
    pub(crate) fn answered(
        self,
        (topic, later): (&TopicName, Option<&Later>),
        block: &[u8],
        answer: &Result<SendResult>,
    ) {
        let Ok(block) = Block::lengths(block) else {
            return;
        };
        let sent = answer.as_ref().ok();
        let place = sent.map(|it| match it.handle() {
            Some(handle) => handle.to_string(),
            None => format!("{}/{}", it.queue().queue, it.offset()),
        });
        let took_ms = self.begun.elapsed().as_millis() as u64;
        self.tracer.record(TraceRecord {
            at: now_ms().saturating_sub(took_ms),
            group: self.group,
            message_id: block.property(UNIQUE_KEY).unwrap_or_default().to_owned(),
            keys: block.keys().to_owned(),
            what: Traced::Sent(TracedSend {
                topic: topic.clone(),
                tag: block.tag().to_owned(),
                broker: sent.map_or_else(String::new, |it| it.queue().broker.to_string()),
                body_bytes: block.raw_len() as u32,
                took_ms,
                kind: match later {
                    None => TracedKind::Normal,
                    Some(Later::OnCommit(_)) => TracedKind::Half,
                    Some(_) => TracedKind::Delayed,
                },
                place: place.unwrap_or_default(),
                is_stored: sent.is_some(),
            }),
        });
    }
}

/// A message that the application has, to be told of when it is done.
#[derive(Debug)]
pub(crate) struct HandOut {
    tracer: Arc<Tracer>,
    group: GroupName,
    message_id: String,
    keys: String,
    id: String,
    begun: Instant,
    /// The first word holds.
    is_told: AtomicBool,
}

/// To whom a message is handed out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Receiver<'a> {
    pub(crate) client: &'a Client,
    pub(crate) group: &'a GroupName,
    /// A member's id, or the client's.
    pub(crate) id: &'a str,
}

impl HandOut {
    /// `None` = the client does not trace. `attempts` = how often it was handed to somebody before.
    pub(crate) fn begin(to: Receiver<'_>, message: &MessageView, attempts: u16) -> Option<Self> {
        let this = Self::unseen(to, message)?;
        this.record(Traced::Begun {
            hand_out: this.id.clone(),
            attempts,
            by: to.id.to_owned(),
        });
        Some(this)
    }

    /// One of which is told only how it ends.
    pub(crate) fn unseen(to: Receiver<'_>, message: &MessageView) -> Option<Self> {
        Some(Self {
            tracer: to.client.0.tracer.clone()?,
            group: to.group.clone(),
            message_id: message.message_id().to_owned(),
            keys: message.keys().to_owned(),
            id: message_id::next(),
            begun: Instant::now(),
            is_told: AtomicBool::new(false),
        })
    }

    /// The application has said so.
    pub(crate) fn end(&self, is_consumed: bool) {
        if self.is_told.swap(true, Ordering::Relaxed) {
            return;
        }
        self.record(Traced::Ended {
            hand_out: self.id.clone(),
            took_ms: self.begun.elapsed().as_millis() as u64,
            is_consumed,
        });
    }

    fn record(&self, what: Traced) {
        self.tracer.record(TraceRecord {
            at: now_ms(),
            group: self.group.clone(),
            message_id: self.message_id.clone(),
            keys: self.keys.clone(),
            what,
        });
    }
}

/// A transaction of a client that traces, to be told of when it ends.
#[derive(Debug)]
pub(crate) struct TracedTransaction {
    pub(crate) tracer: Arc<Tracer>,
    pub(crate) group: GroupName,
    pub(crate) topic: TopicName,
    pub(crate) message_id: String,
    pub(crate) tag: String,
    pub(crate) keys: String,
    pub(crate) handle: MessageHandle,
    /// The broker asks how it ended.
    pub(crate) is_asked: bool,
}

impl TracedTransaction {
    /// The broker has taken this end of it.
    pub(crate) fn ended(self, end: TransactionEnd) {
        self.tracer.record(TraceRecord {
            at: now_ms(),
            group: self.group,
            message_id: self.message_id,
            keys: self.keys,
            what: Traced::TransactionEnded(TracedEnd {
                topic: self.topic,
                tag: self.tag,
                broker: self.handle.broker.to_string(),
                handle: self.handle.to_string(),
                end,
                is_answer: self.is_asked,
            }),
        });
    }
}

/// Sends them.
struct Task {
    client: Client,
    topic: TopicName,
    dropped: Arc<AtomicU64>,
    producer: Option<Producer>,
    /// Each with the records it carries.
    under_way: VecDeque<(Sending, u64)>,
    /// Records that could not be sent and were not told of yet, and why the last of them.
    lost: (u64, Option<Error>),
    told_at: Option<Instant>,
}

/// Bytes of keys left for those of one more record.
const ROOM: usize = 512;

/// Records of one message of the trace topic.
#[derive(Default)]
struct Page {
    body: String,
    keys: BTreeSet<String>,
    key_bytes: usize,
    records: u64,
}

impl Page {
    fn add(&mut self, record: &TraceRecord) {
        record.encode(&mut self.body);
        let ids = std::iter::once(record.message_id.as_str()).chain(record.keys.split(' '));
        for key in ids.filter(|it| !it.is_empty()) {
            let fits = self.key_bytes + key.len() < wire::KEYS;
            if fits && self.keys.insert(key.to_owned()) {
                self.key_bytes += key.len() + 1;
            }
        }
        self.records += 1;
    }

    fn is_full(&self) -> bool {
        self.records >= limits::TRACED_AT_ONCE || self.key_bytes >= wire::KEYS - ROOM
    }
}

impl Task {
    async fn run(mut self, mut incoming: mpsc::Receiver<Work>) {
        let mut is_open = true;
        while is_open {
            let mut page = Page::default();
            let mut asked = Vec::new();
            let mut ends = Instant::now() + Duration::from_secs(3_600);
            while is_open && asked.is_empty() && !page.is_full() {
                match tokio::time::timeout_at(ends, incoming.recv()).await {
                    Ok(Some(Work::Record(record))) => {
                        if page.records == 0 {
                            ends = Instant::now() + limits::TRACE_LINGER;
                        }
                        page.add(&record);
                    }
                    Ok(Some(Work::Flush(done))) => asked.push(done),
                    Ok(None) => is_open = false,
                    Err(_) => break,
                }
            }
            if page.records > 0 {
                self.send(page).await;
            }
            let most = match asked.is_empty() && is_open {
                true => limits::TRACES_UNDER_WAY,
                false => 0,
            };
            self.settle(most).await;
            self.tell(most == 0);
            for done in asked {
                let _ = done.send(());
            }
        }
    }

    async fn send(&mut self, page: Page) {
        let records = page.records;
        match self.producer().await {
            Ok(producer) => {
                let message = Message::new(self.topic.as_str(), page.body);
                let message = page.keys.iter().fold(message, |it, key| it.key(key));
                let sending = producer.send(message);
                self.under_way.push_back((sending, records));
            }
            Err(error) => self.lost = (self.lost.0 + records, Some(error)),
        }
    }

    /// Waits until no more than so many are under way.
    async fn settle(&mut self, most: usize) {
        while self.under_way.len() > most {
            let Some((sending, records)) = self.under_way.pop_front() else {
                return;
            };
            if let Err(error) = sending.await {
                self.lost = (self.lost.0 + records, Some(error));
            }
        }
    }

    /// Says how many were lost, now or when it was not said for long.
    fn tell(&mut self, now: bool) {
        self.lost.0 += self.dropped.swap(0, Ordering::Relaxed);
        let is_time = self
            .told_at
            .is_none_or(|it| it.elapsed() >= limits::TRACE_TOLD);
        if self.lost.0 == 0 || !now && !is_time {
            return;
        }
        let (lost, error) = std::mem::take(&mut self.lost);
        self.told_at = Some(Instant::now());
        match error {
            Some(error) => {
                tracing::warn!(topic = %self.topic, lost, %error, "trace records are lost")
            }
            None => {
                tracing::warn!(topic = %self.topic, lost, "trace records came faster than they could be sent")
            }
        }
    }

    async fn producer(&mut self) -> Result<Producer> {
        if let Some(producer) = &self.producer {
            return Ok(producer.clone());
        }
        let admin = self.client.admin();
        match admin.create_topic(self.topic.as_str(), 1).await {
            Err(error) if error.coded() != Code::ALREADY_EXISTS => return Err(error),
            _ => {}
        }
        let producer = self.client.producer("quern-trace").start().await?;
        Ok(self.producer.insert(producer).clone())
    }
}
