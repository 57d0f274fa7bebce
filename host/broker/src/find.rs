//! Finding messages: `FindMessages` by key or unique key, `MessageAt` by position, and `ResendMessage`, which
//! sends one that was found again. All of it reads the log, so it is done where cold reads are.

use std::sync::Arc;

use bytes::Bytes;
use quern_protocol::block::Pairs;
use quern_protocol::frame::Outgoing;
use quern_protocol::message::UNIQUE_KEY;
use quern_protocol::retry::{ORIGIN_OFFSET, ORIGIN_QUEUE, ORIGIN_TOPIC, REASON, is_reserved_topic};
use quern_protocol::transaction::parked_topic;
use quern_protocol::{
    Code, FindMessages, FindMessagesReply, FoundMessage, GroupName, LogPosition, MessageAt,
    MessageAtReply, MessageKey, MessageState, Permission, QueueId, QueueOffset, RecordHeader,
    RecordKind, RecordView, ResendMessage, ResendMessageReply, TopicId, TopicName, WireError,
    limits as wire,
};
use quern_store::{AppendOne, Lookup, Most, ReadError, Search, Store, Waits};

use crate::topics::Topic;
use crate::{Broker, limits, reply, retry, send};

/// Why a copy is there, in the notes of its record.
const RESENT: &str = "sent again by hand";

pub(crate) async fn find(
    broker: &Arc<Broker>,
    request: FindMessages,
) -> Result<Outgoing, WireError> {
    check(&request)?;
    let topics: Vec<_> = match &request.topic {
        Some(name) => vec![broker.topic(name)?.id],
        None => broker.state.topics.list().iter().map(|it| it.id).collect(),
    };
    if topics.len() > limits::SEARCHED_TOPICS {
        let text = format!(
            "broker \"{}\" has {} topics, and an id is looked for in {} at most: name the topic",
            broker.config.name,
            topics.len(),
            limits::SEARCHED_TOPICS
        );
        return Err(WireError::new(Code::NAME_THE_TOPIC, text));
    }
    let reader = Arc::clone(broker);
    let look = move || search(&reader, &topics, &request);
    let found = broker.cold.search(look).await?;
    let (header, records) = found.map_err(|error| reply::read_failed(&error))?;
    Ok(Outgoing::reply::<FindMessages>(&header, records)?)
}

fn check(request: &FindMessages) -> Result<(), WireError> {
    let key = request.key.text();
    if key.is_empty() || key.len() > wire::KEYS || key.contains(char::is_control) {
        return Err(reply::bad_request(format!(
            "what is looked for has 1 to {} bytes and no control characters, not {:?}",
            wire::KEYS,
            key.get(..80).unwrap_or(key)
        )));
    }
    if request.messages == 0 {
        return Err(reply::bad_request("a search asks for 1 message or more"));
    }
    let (from, to) = request.stored;
    if from > to {
        return Err(reply::bad_request(format!(
            "a search from {from} to {to} ms since 1970 ends before it begins"
        )));
    }
    Ok(())
}

/// A page of what is looked for. Blocks.
fn search(
    broker: &Broker,
    topics: &[TopicId],
    request: &FindMessages,
) -> Result<(FindMessagesReply, Vec<Bytes>), ReadError> {
    let search = Search {
        stored: request.stored.0..=request.stored.1,
        before: request.before.unwrap_or(LogPosition(u64::MAX)),
        ..Search::new(topics, lookup(&request.key))
    };
    let most = Most {
        records: request.messages.min(wire::FOUND_MESSAGES) as usize,
        bytes: wire::PULL_BYTES as usize,
        took: limits::SEARCH,
    };
    let page = broker.store.search(&search, &most)?;
    let mut found = Vec::with_capacity(page.records.len());
    let mut records = Vec::with_capacity(page.records.len());
    for record in page.records {
        // Its topic may have been deleted meanwhile.
        if let Some(about) = about(broker, &record)? {
            found.push(about);
            records.push(record);
        }
    }
    let header = FindMessagesReply {
        found,
        unreadable: page.unreadable.len() as u32,
        next: page.next,
    };
    Ok((header, records))
}

fn lookup(key: &MessageKey) -> Lookup<'_> {
    match key {
        MessageKey::Key(key) => Lookup::Key(key),
        MessageKey::Unique(id) => Lookup::UniqueId(id),
    }
}

/// What a record does not say itself; `None` = it is no message of a topic that is there.
fn about(broker: &Broker, record: &Bytes) -> Result<Option<FoundMessage>, ReadError> {
    let Ok(view) = RecordView::trusted(record) else {
        return Ok(None);
    };
    let topic = broker.state.topics.by_id(view.header.topic);
    let topic = topic.filter(|topic| topic.gone_at.is_none());
    let Some(topic) = topic.filter(|_| !view.header.kind.is_state()) else {
        return Ok(None);
    };
    Ok(Some(FoundMessage {
        topic: topic.name.clone(),
        state: state(broker, &view)?,
    }))
}

/// Where a message is. Blocks.
fn state(broker: &Broker, view: &RecordView<'_>) -> Result<MessageState, ReadError> {
    let header = &view.header;
    if header.kind.is_queued() {
        return Ok(MessageState::Queued);
    }
    let known_by = match header.extensions.origin {
        Some(origin) if header.extensions.carried => origin.root,
        _ => header.position,
    };
    match broker.store.waits(known_by) {
        Some(Waits::Until(due_at)) => return Ok(MessageState::Waits { due_at }),
        Some(Waits::ForOutcome) => return Ok(MessageState::Undecided),
        None => {}
    }
    let id = view.block.property(UNIQUE_KEY).unwrap_or_default();
    if let Some(at) = delivered(&broker.store, header.topic, id, known_by)? {
        return Ok(MessageState::Delivered {
            queue: at.queue,
            offset: at.queue_offset,
            position: at.position,
        });
    }
    let parked = broker.state.topics.find(&parked_topic());
    if let (RecordKind::Half, Some(parked)) = (header.kind, parked)
        && let Some(at) = delivered(&broker.store, parked.id, id, known_by)?
    {
        return Ok(MessageState::Parked {
            offset: at.queue_offset,
            position: at.position,
        });
    }
    Ok(MessageState::CalledOff)
}

/// The message in this topic that one which has waited has become. Blocks.
pub(crate) fn delivered(
    store: &Store,
    topic: TopicId,
    id: &str,
    known_by: LogPosition,
) -> Result<Option<RecordHeader>, ReadError> {
    let found = store.find(topic, Lookup::UniqueId(id), limits::SAME_ID)?;
    let headers = found.iter().filter_map(|it| RecordView::trusted(it).ok());
    let mut headers = headers.map(|it| it.header);
    let stems_from = |it: &RecordHeader| it.extensions.origin.map(|it| it.root) == Some(known_by);
    Ok(headers.find(stems_from))
}

pub(crate) async fn at(broker: &Arc<Broker>, request: MessageAt) -> Result<Outgoing, WireError> {
    let reader = Arc::clone(broker);
    let position = request.position;
    let read = move || {
        let Some(record) = reader.store.record_known_by(position)? else {
            return Ok(None);
        };
        Ok(about(&reader, &record)?.map(|found| (found, record)))
    };
    let found = broker.cold.search(read).await?;
    let found = found.map_err(|error: ReadError| reply::read_failed(&error))?;
    let (found, record) = found.ok_or_else(|| {
        let text = format!(
            "no message of a topic that exists begins at {position} in the log of broker \"{}\"",
            broker.config.name
        );
        WireError::new(Code::MESSAGE_NOT_FOUND, text)
    })?;
    let header = MessageAtReply { found };
    Ok(Outgoing::reply::<MessageAt>(&header, vec![record])?)
}

/// The record of a message that somebody names by its place.
pub(crate) async fn stored(
    broker: &Broker,
    topic: &Topic,
    queue: QueueId,
    offset: QueueOffset,
) -> Result<Bytes, WireError> {
    let found = retry::stored(broker, topic, queue, offset).await?;
    found.ok_or_else(|| {
        let text = retry::no_message(topic, queue, offset);
        WireError::new(Code::MESSAGE_NOT_FOUND, text)
    })
}

pub(crate) async fn resend(
    broker: &Arc<Broker>,
    request: ResendMessage,
) -> Result<ResendMessageReply, WireError> {
    if broker.is_draining() {
        return Err(reply::going_away());
    }
    let topic = broker.topic(&request.topic)?;
    let (queue, offset) = (request.queue, request.offset);
    let record = stored(broker, &topic, queue, offset).await?;
    let view = retry::parse(&record)?;
    let (name, queue) = match &request.group {
        None => {
            send::check_key(&topic, 0, &view.block)?;
            let queue = queue.0 % topic.write_queues.max(1);
            (for_all(broker, &topic)?, queue)
        }
        Some(group) => (for_group(broker, group, &topic)?, 0),
    };
    let mut reply = ResendMessageReply {
        topic: name.clone(),
        queue: QueueId(queue),
        offset: None,
    };
    if request.dry_run {
        return Ok(reply);
    }
    let target = match &request.group {
        None => topic,
        Some(group) => retry::topic_of_retries(broker, group, name).await?,
    };
    let one = AppendOne {
        topic: target.id,
        queue: reply.queue,
        block: record.slice(view.header.size()..),
        notes: notes(&request, view.notes).into(),
        ..AppendOne::default()
    };
    let appended = broker.store.submit_one(one).await;
    let appended = appended.map_err(|error| reply::append_failed(&error))?;
    reply.offset = Some(appended.first);
    Ok(reply)
}

/// Where a copy goes that is for all who read the topic.
fn for_all(broker: &Broker, topic: &Topic) -> Result<TopicName, WireError> {
    let name = &topic.name;
    if is_reserved_topic(name) {
        let text = format!(
            "messages of topic \"{name}\" are not for all: say for which group (--group), or send dead letters back with quern dlq resend"
        );
        return Err(WireError::new(Code::RESERVED_NAME, text));
    }
    reply::topic_is_open(broker, topic, "send", Permission::can_write)?;
    Ok(name.clone())
}

/// Where a copy goes that is for one group. A retry topic that nobody reads would be no help.
fn for_group(broker: &Broker, group: &GroupName, topic: &Topic) -> Result<TopicName, WireError> {
    let state = &broker.state;
    let is_known = state.offsets.count(group) > 0
        || state.group_settings.knows(group)
        || !state.leases.owners(group, topic.id).is_empty()
        || broker.groups.list().contains_key(group);
    if !is_known {
        let text = format!(
            "group \"{group}\" is not known to broker \"{}\": it has no members, no settings and no committed offsets there; quern group ls shows those there are",
            broker.config.name
        );
        return Err(WireError::new(Code::NOT_FOUND, text));
    }
    Ok(retry::topics_of(group)?.0)
}

/// Where a copy comes from: what the group's own notes say of a message it has given back.
fn notes(request: &ResendMessage, before: Pairs<'_>) -> Vec<u8> {
    let (queue, offset) = (request.queue.to_string(), request.offset.to_string());
    let origin = [
        (
            ORIGIN_TOPIC,
            before.get(ORIGIN_TOPIC).unwrap_or(request.topic.as_str()),
        ),
        (ORIGIN_QUEUE, before.get(ORIGIN_QUEUE).unwrap_or(&queue)),
        (ORIGIN_OFFSET, before.get(ORIGIN_OFFSET).unwrap_or(&offset)),
        (REASON, RESENT),
    ];
    Pairs::encode(origin)
}
