//! Finding messages: by id, by key, by place, by time; and sending one that was found again. All brokers of a
//! topic are asked at once, and their answers made one.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::ops::RangeInclusive;

use futures_util::future::join_all;
use quern_protocol::record::records;
use quern_protocol::{
    BrokerName, Code, FindMessages, FoundMessage, MessageAt, MessageHandle, MessageKey,
    MessageState, QueueOffset, RecordHeader, ResendMessage, ResendMessageReply, TopicName,
};

use crate::admin::Admin;
use crate::consumer::{MessageView, PullOptions};
use crate::error::{Error, Result};
use crate::limits;
use crate::routes::MessageQueue;

/// What to look for.
#[derive(Debug, Clone)]
pub struct MessageSearch {
    topic: Option<String>,
    key: MessageKey,
    stored: RangeInclusive<u64>,
    most: usize,
}

impl MessageSearch {
    fn new(topic: Option<&str>, key: MessageKey) -> Self {
        Self {
            topic: topic.map(str::to_owned),
            key,
            stored: 0..=u64::MAX,
            most: 32,
        }
    }

    /// Messages of a topic that have this key.
    pub fn key(topic: &str, key: impl Into<String>) -> Self {
        Self::new(Some(topic), MessageKey::Key(key.into()))
    }

    /// The message of an id, wherever it is: in its topic, again in a group's retry topic or among its dead
    /// letters, or waiting.
    pub fn id(id: impl Into<String>) -> Self {
        Self::new(None, MessageKey::Unique(id.into()))
    }

    /// In this topic only.
    #[must_use]
    pub fn topic(mut self, topic: &str) -> Self {
        self.topic = Some(topic.to_owned());
        self
    }

    /// Stored within this time, ms since 1970. Default: at any.
    #[must_use]
    pub fn stored(mut self, within: RangeInclusive<u64>) -> Self {
        self.stored = within;
        self
    }

    /// So many at most, the newest. Default: 32.
    #[must_use]
    pub fn most(mut self, most: usize) -> Self {
        self.most = most;
        self
    }
}

/// A message that was found, and where it is.
#[derive(Debug, Clone)]
pub struct Found {
    /// The message. Of one that is in no queue, queue and offset are where it was to go, and 0.
    pub message: MessageView,
    /// In its queue, waiting, or what became of it.
    pub state: MessageState,
}

/// What a search brought.
#[derive(Debug, Clone, Default)]
pub struct FoundMessages {
    /// By the time they were stored, the oldest first.
    pub messages: Vec<Found>,
    /// There are more than were asked for, or than 64 MiB.
    pub more: bool,
    /// Records that may be what was looked for, and cannot be read.
    pub unreadable: u32,
    /// Brokers that could not be asked. When none could, the search fails instead.
    pub silent: Vec<(BrokerName, Error)>,
}

/// One broker's part.
struct Part {
    /// The newest first.
    found: Vec<Found>,
    more: bool,
    unreadable: u32,
}

impl Admin {
    /// Looks for messages by key or id.
    pub async fn find(&self, search: &MessageSearch) -> Result<FoundMessages> {
        let topic = search.topic.as_deref().map(TopicName::new).transpose()?;
        let brokers: Vec<(BrokerName, String)> = match &topic {
            Some(topic) => {
                let route = self.client().0.routes.of(topic, false).await?;
                let brokers = route.iter();
                brokers
                    .map(|it| (it.broker.clone(), it.address.clone()))
                    .collect()
            }
            None => {
                let brokers = self.some_broker().await?.into_iter();
                brokers.map(|it| (it.broker, it.address)).collect()
            }
        };
        let asked = brokers.iter().map(|(broker, address)| {
            let request = FindMessages {
                topic: topic.clone(),
                key: search.key.clone(),
                stored: (*search.stored.start(), *search.stored.end()),
                before: None,
                messages: 1,
            };
            self.find_at(broker, address, request, search.most)
        });
        let answers = join_all(asked).await;
        let asked = answers.len();
        let mut all = FoundMessages::default();
        for ((broker, _), answer) in brokers.into_iter().zip(answers) {
            match answer {
                Ok(part) => {
                    all.messages.extend(part.found);
                    all.more |= part.more;
                    all.unreadable += part.unreadable;
                }
                Err(error) => all.silent.push((broker, error)),
            }
        }
        if let Some((_, error)) = all.silent.first().filter(|_| all.silent.len() == asked) {
            return Err(error.clone());
        }
        let newest_first = |it: &Found| Reverse((it.message.stored_at(), it.message.position()));
        all.messages.sort_by_key(newest_first);
        all.more |= all.messages.len() > search.most;
        all.messages.truncate(search.most);
        all.messages.reverse();
        Ok(all)
    }

    /// Page by page, until there are enough, or no more.
    async fn find_at(
        &self,
        broker: &BrokerName,
        address: &str,
        mut request: FindMessages,
        most: usize,
    ) -> Result<Part> {
        let mut part = Part {
            found: Vec::new(),
            more: false,
            unreadable: 0,
        };
        let mut bytes = 0;
        loop {
            let left = most - part.found.len();
            request.messages = u32::try_from(left).unwrap_or(u32::MAX).max(1);
            let (reply, body) = self.client().records(address, &request).await?;
            part.unreadable += reply.unreadable;
            bytes += body.len();
            part.found.extend(unpack(broker, reply.found, &body)?);
            part.more = reply.next.is_some();
            let is_enough = part.found.len() >= most || bytes >= limits::FOUND_BYTES;
            match reply.next {
                Some(next) if !is_enough => request.before = Some(next),
                _ => return Ok(part),
            }
        }
    }

    /// The message whose record begins at a position of a broker's log.
    pub async fn message_at(&self, handle: &MessageHandle) -> Result<Found> {
        let brokers = self.some_broker().await?;
        let broker = brokers.iter().find(|it| it.broker == handle.broker);
        let broker = broker.ok_or_else(|| {
            let text = format!(
                "no broker that is registered is called \"{}\"",
                handle.broker
            );
            Error::new(Code::NO_ROUTE, text)
        })?;
        let request = MessageAt {
            position: handle.position,
        };
        let (reply, body) = self.client().records(&broker.address, &request).await?;
        let found = unpack(&handle.broker, vec![reply.found], &body)?;
        let found = found.into_iter().next();
        found.ok_or_else(|| Error::new(Code::PROTOCOL, "the answer has no record"))
    }

    /// The message at an offset of a queue.
    pub async fn message(&self, queue: &MessageQueue, offset: QueueOffset) -> Result<MessageView> {
        let one = PullOptions {
            max_messages: 1,
            ..PullOptions::default()
        };
        let pull = self.client().pull_consumer();
        let pulled = pull.pull(queue, offset, &one).await?;
        let (min, max) = (pulled.min, pulled.max);
        let message = pulled.messages.into_iter().next();
        let message = message.filter(|it| it.offset() == offset);
        message.ok_or_else(|| {
            let text = format!(
                "queue {} of topic \"{}\" on broker \"{}\" has no message {offset}: it has those from {min} on and before {max}",
                queue.queue, queue.topic, queue.broker
            );
            Error::new(Code::MESSAGE_NOT_FOUND, text)
        })
    }

    /// Messages of a topic that were stored within this time, ms since 1970: the first of them, so many at most.
    pub async fn find_by_time(
        &self,
        topic: &str,
        stored: RangeInclusive<u64>,
        most: usize,
    ) -> Result<FoundMessages> {
        let pull = self.client().pull_consumer();
        let queues = pull.queues(topic).await?;
        let begun = queues.into_iter().map(|queue| async {
            let broker = queue.broker.clone();
            let begun = OneQueue::begin(self, queue, &stored, most).await;
            begun.map_err(|error| (broker, error))
        });
        let mut all = FoundMessages::default();
        let mut queues = Vec::new();
        for begun in join_all(begun).await {
            match begun {
                Ok(queue) => queues.push(queue),
                Err((broker, _)) if all.silent.iter().any(|(it, _)| *it == broker) => {}
                Err(silent) => all.silent.push(silent),
            }
        }
        if let (true, Some((_, error))) = (queues.is_empty(), all.silent.first()) {
            return Err(error.clone());
        }
        let mut bytes = 0;
        loop {
            let heads = queues.iter_mut().filter(|it| !it.read.is_empty());
            let earliest = heads.min_by_key(|it| it.read.front().map(MessageView::stored_at));
            let Some(queue) = earliest else {
                return Ok(all);
            };
            if all.messages.len() >= most || bytes >= limits::FOUND_BYTES {
                all.more = true;
                return Ok(all);
            }
            if let Some(message) = queue.read.pop_front() {
                bytes += message.size();
                all.messages.push(Found {
                    message,
                    state: MessageState::Queued,
                });
            }
            if queue.read.is_empty() {
                queue.read_on(self).await?;
            }
        }
    }

    /// Sends a message that is in a queue again, its bytes and its id the same: to all who read its topic, or
    /// to one group by its retry topic. With `dry_run`, only tells where it would go.
    pub async fn resend(
        &self,
        message: &MessageView,
        group: Option<&str>,
        dry_run: bool,
    ) -> Result<ResendMessageReply> {
        let queue = message.queue();
        let request = ResendMessage {
            topic: queue.topic.clone(),
            queue: queue.queue,
            offset: message.offset(),
            group: group.map(crate::client::group).transpose()?,
            dry_run,
        };
        let broker = self.client().0.routes.broker(queue).await?;
        self.client().call(&broker.address, &request).await
    }
}

/// A queue whose messages are read in order.
struct OneQueue {
    queue: MessageQueue,
    next: QueueOffset,
    last: u64,
    options: PullOptions,
    read: VecDeque<MessageView>,
}

impl OneQueue {
    async fn begin(
        admin: &Admin,
        queue: MessageQueue,
        stored: &RangeInclusive<u64>,
        most: usize,
    ) -> Result<Self> {
        let pull = admin.client().pull_consumer();
        let mut this = Self {
            next: pull.offset_at(&queue, *stored.start()).await?,
            queue,
            last: *stored.end(),
            options: PullOptions {
                max_messages: u32::try_from(most).unwrap_or(u32::MAX).clamp(1, 256),
                max_bytes: limits::FOUND_PAGE,
                ..PullOptions::default()
            },
            read: VecDeque::new(),
        };
        this.read_on(admin).await?;
        Ok(this)
    }

    /// What comes next, if anything does within the time.
    async fn read_on(&mut self, admin: &Admin) -> Result<()> {
        let pull = admin.client().pull_consumer();
        let pulled = pull.pull(&self.queue, self.next, &self.options).await?;
        self.next = pulled.next;
        let last = self.last;
        let messages = pulled.messages.into_iter();
        self.read
            .extend(messages.take_while(|it| it.stored_at() <= last));
        Ok(())
    }
}

/// The messages of an answer: their topics and states beside their records.
fn unpack(
    broker: &BrokerName,
    found: Vec<FoundMessage>,
    body: &bytes::Bytes,
) -> Result<Vec<Found>> {
    let mut all = Vec::with_capacity(found.len());
    for (about, record) in found.into_iter().zip(records(body)) {
        let bad = |error: quern_protocol::record::RecordError| {
            Error::new(Code::BAD_CHECKSUM, error.to_string())
        };
        let record = record.map_err(bad)?;
        let header = RecordHeader::decode(&record).map_err(bad)?;
        let queue = MessageQueue {
            topic: about.topic,
            broker: broker.clone(),
            queue: header.queue,
        };
        all.push(Found {
            message: MessageView::new(queue, header, record)?,
            state: about.state,
        });
    }
    Ok(all)
}
