//! What a group could not consume. `Reconsume`: the message goes to the group's retry topic when its time
//! has come, or to its dead letters when it has been given back too often. `ResendDeadLetters`: back to
//! where they come from. The message's bytes stay the producer's; where it comes from and why it was given
//! back stands in notes of its record.

use std::sync::Arc;

use bytes::Bytes;
use quern_protocol::block::Pairs;
use quern_protocol::retry::{
    GIVING, ORIGIN_OFFSET, ORIGIN_QUEUE, ORIGIN_TOPIC, REASON, dead_letter_topic, retry_topic,
};
use quern_protocol::{
    Code, CreateTopic, GroupName, QueueId, QueueOffset, QueuePosition, Reconsume, ReconsumeReply,
    RecordKind, RecordView, ResendDeadLetters, ResendDeadLettersReply, TopicName, WireError,
    limits as wire,
};
use quern_store::{AppendOne, ReadError};

use crate::gate::Turn;
use crate::offsets::Commit;
use crate::to_the_end::to_the_end;
use crate::topics::Topic;
use crate::{Broker, admin, giving, limits, reply};

pub(crate) async fn reconsume(
    broker: &Arc<Broker>,
    request: Reconsume,
) -> Result<ReconsumeReply, WireError> {
    if broker.is_draining() {
        return Err(reply::going_away());
    }
    if request.delay_ms > limits::RETRY_DELAY {
        return Err(reply::bad_request(format!(
            "a message comes again within {} ms, not {}",
            limits::RETRY_DELAY,
            request.delay_ms
        )));
    }
    match request.giving {
        Some(giving) => giving::once(broker, request, giving).await,
        None => give_back(broker, &request).await,
    }
}

pub(crate) async fn give_back(
    broker: &Arc<Broker>,
    request: &Reconsume,
) -> Result<ReconsumeReply, WireError> {
    let (retry, _) = topics_of(&request.group)?;
    let topic = broker.topic(&request.topic)?;
    let record = record(broker, &topic, request.queue, request.offset).await?;
    let view = parse(&record)?;
    let is_again = request.topic == retry;
    let attempts = match is_again {
        true => view.header.attempts.saturating_add(1),
        false => 1,
    };
    let settings = broker.state.group_settings.of(&request.group);
    let delay = match request.delay_ms {
        0 => settings.delay(attempts),
        delay => delay,
    };
    let dead_after = request
        .dead_after
        .or_else(|| (attempts > settings.retries).then_some(attempts));
    if let Some(attempts) = dead_after {
        let dead = bury_record(broker, request, attempts, &record).await?;
        return Ok(ReconsumeReply {
            topic: dead,
            attempts,
            due_at: 0,
        });
    }
    let due_at = broker.store.now_ms() + u64::from(delay);
    let target = topic_of_retries(broker, &request.group, retry).await?;
    let one = AppendOne {
        topic: target.id,
        queue: QueueId(0),
        block: record.slice(view.header.size()..),
        attempts,
        notes: notes(request, is_again.then_some(view.notes)).into(),
        due_at: Some(due_at),
    };
    let appended = broker.store.submit_one(one).await;
    appended.map_err(|error| reply::append_failed(&error))?;
    broker.metrics.waits.delayed.add(1);
    Ok(ReconsumeReply {
        topic: target.name.clone(),
        attempts,
        due_at,
    })
}

/// Makes a message a dead letter of its group.
pub(crate) async fn bury(
    broker: &Arc<Broker>,
    request: &Reconsume,
    attempts: u16,
) -> Result<(), WireError> {
    let topic = broker.topic(&request.topic)?;
    let record = record(broker, &topic, request.queue, request.offset).await?;
    bury_record(broker, request, attempts, &record).await?;
    Ok(())
}

async fn bury_record(
    broker: &Arc<Broker>,
    request: &Reconsume,
    attempts: u16,
    record: &Bytes,
) -> Result<TopicName, WireError> {
    let target = dead_letters(broker, &request.group).await?;
    let one = dead_letter(&target, request, Some(attempts), record)?;
    let appended = broker.store.submit_one(one).await;
    appended.map_err(|error| reply::append_failed(&error))?;
    tracing::warn!(group = %request.group, topic = %request.topic, queue = %request.queue,
        offset = %request.offset, attempts, "a message is a dead letter");
    Ok(target.name.clone())
}

/// The topic of a group's dead letters, made if it is not there.
pub(crate) async fn dead_letters(
    broker: &Broker,
    group: &GroupName,
) -> Result<Arc<Topic>, WireError> {
    let (_, dead) = topics_of(group)?;
    system_topic(broker, dead).await
}

/// A message as a dead letter, after so many attempts; `None` = as many as it had.
pub(crate) fn dead_letter(
    target: &Topic,
    request: &Reconsume,
    attempts: Option<u16>,
    record: &Bytes,
) -> Result<AppendOne, WireError> {
    let (retry, _) = topics_of(&request.group)?;
    let view = parse(record)?;
    let is_again = request.topic == retry;
    Ok(AppendOne {
        topic: target.id,
        queue: QueueId(0),
        block: record.slice(view.header.size()..),
        attempts: attempts.unwrap_or(view.header.attempts),
        notes: notes(request, is_again.then_some(view.notes)).into(),
        due_at: None,
    })
}

pub(crate) fn topics_of(group: &GroupName) -> Result<(TopicName, TopicName), WireError> {
    match (retry_topic(group), dead_letter_topic(group)) {
        (Ok(retry), Ok(dead)) => Ok((retry, dead)),
        (Err(error), _) | (_, Err(error)) => Err(WireError::new(
            Code::BAD_NAME,
            format!("group \"{group}\" can have no retry topic: {error}"),
        )),
    }
}

/// Where it comes from, which stays what it was, and why it was given back, which does not.
fn notes(request: &Reconsume, before: Option<Pairs<'_>>) -> Vec<u8> {
    let reason = &request.reason[..request.reason.floor_char_boundary(wire::REASON)];
    let (queue, offset) = (request.queue.to_string(), request.offset.to_string());
    let is_of_then = |name: &str| name == REASON || name == GIVING;
    let origin = match &before {
        Some(notes) => notes.iter().filter(|(name, _)| !is_of_then(name)).collect(),
        None => vec![
            (ORIGIN_TOPIC, request.topic.as_str()),
            (ORIGIN_QUEUE, &queue),
            (ORIGIN_OFFSET, &offset),
        ],
    };
    let giving = request.giving.map(giving::note);
    let giving = giving.iter().map(|it| (GIVING, it.as_str()));
    Pairs::encode(origin.into_iter().chain([(REASON, reason)]).chain(giving))
}

/// Where what a group has given back waits for its members, which are told when there is such a topic at last.
pub(crate) async fn topic_of_retries(
    broker: &Arc<Broker>,
    group: &GroupName,
    name: TopicName,
) -> Result<Arc<Topic>, WireError> {
    if let Some(topic) = broker.state.topics.find(&name) {
        return Ok(topic);
    }
    let (there, group) = (Arc::clone(broker), group.clone());
    let make = async move {
        let topic = system_topic(&there, name).await?;
        there.groups.look_again(&group);
        Ok(topic)
    };
    to_the_end(broker, make).await
}

/// A topic that only the broker writes to.
pub(crate) async fn system_topic(
    broker: &Broker,
    name: TopicName,
) -> Result<Arc<Topic>, WireError> {
    if let Some(topic) = broker.state.topics.find(&name) {
        return Ok(topic);
    }
    match admin::create(broker, CreateTopic::new(name.clone(), 1)).await {
        // Somebody else was faster.
        Err(error) if error.is(Code::ALREADY_EXISTS) => broker.topic(&name),
        created => created,
    }
}

/// The record of a message that is in a queue, read where cold reads are; `None` = there is none, or not any
/// more.
pub(crate) async fn stored(
    broker: &Broker,
    topic: &Topic,
    queue: QueueId,
    offset: QueueOffset,
) -> Result<Option<Bytes>, WireError> {
    let (store, id) = (broker.store.clone(), topic.id);
    let read = move || -> Result<Option<Bytes>, ReadError> {
        let entries = store.entries(id, queue, offset, 1)?;
        let entry = entries.first().filter(|it| it.offset == offset);
        entry.map(|entry| store.record(entry)).transpose()
    };
    let found = broker.cold.run(&None, read).await?;
    found.map_err(|error| reply::read_failed(&error))
}

pub(crate) async fn record(
    broker: &Broker,
    topic: &Topic,
    queue: QueueId,
    offset: QueueOffset,
) -> Result<Bytes, WireError> {
    let found = stored(broker, topic, queue, offset).await?;
    found.ok_or_else(|| WireError::new(Code::NOT_FOUND, no_message(topic, queue, offset)))
}

pub(crate) fn no_message(topic: &Topic, queue: QueueId, offset: QueueOffset) -> String {
    format!(
        "queue {queue} of topic \"{}\" has no message {offset}, or not any more",
        topic.name
    )
}

pub(crate) fn parse(record: &[u8]) -> Result<RecordView<'_>, WireError> {
    let view = RecordView::trusted(record);
    view.map_err(|error| WireError::new(Code::DATA_CORRUPT, error.to_string()))
}

pub(crate) async fn resend(
    broker: &Arc<Broker>,
    request: ResendDeadLetters,
) -> Result<ResendDeadLettersReply, WireError> {
    if broker.is_draining() {
        return Err(reply::going_away());
    }
    let (_, dead) = topics_of(&request.group)?;
    let dead = broker.topic(&dead)?;
    let most = request.messages.min(limits::RESEND) as usize;
    loop {
        let letters = letters(broker, &dead, &request.group, most).await?;
        // So that nobody else sends the same ones. What is read takes its time, and others change groups meanwhile.
        let one_change_at_a_time = broker.group_changes().await;
        if first_letter(broker, &dead, &request.group) == letters.first {
            let turn = &one_change_at_a_time;
            return send_back(broker, turn, (&dead, request.group), letters).await;
        }
        drop(one_change_at_a_time);
    }
}

/// Dead letters, the oldest that nobody has dealt with first.
struct Letters {
    first: QueueOffset,
    records: Vec<Bytes>,
}

/// All of them are in one queue.
const LETTERS: QueueId = QueueId(0);

fn first_letter(broker: &Broker, dead: &Topic, group: &GroupName) -> QueueOffset {
    let (min, _) = broker.store.range(dead.id, LETTERS);
    let committed = broker.state.offsets.next(group, dead.id, LETTERS);
    committed.unwrap_or(min).max(min)
}

async fn letters(
    broker: &Arc<Broker>,
    dead: &Topic,
    group: &GroupName,
    most: usize,
) -> Result<Letters, WireError> {
    let first = first_letter(broker, dead, group);
    let (store, id) = (broker.store.clone(), dead.id);
    let read = move || -> Result<Vec<Bytes>, ReadError> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        for entry in store.entries(id, LETTERS, first, most)? {
            if bytes >= limits::RESEND_BYTES {
                break;
            }
            let record = store.record(&entry)?;
            bytes += record.len();
            records.push(record);
        }
        Ok(records)
    };
    let records = broker.cold.run(&None, read).await?;
    let records = records.map_err(|error| reply::read_failed(&error))?;
    Ok(Letters { first, records })
}

async fn send_back(
    broker: &Broker,
    turn: &Turn,
    (dead, group): (&Topic, GroupName),
    Letters { first, records }: Letters,
) -> Result<ResendDeadLettersReply, WireError> {
    let mut pending = Vec::with_capacity(records.len());
    for record in &records {
        pending.push(broker.store.submit_one(back(broker, record)?));
    }
    for appended in pending {
        let appended = appended.await;
        appended.map_err(|error| reply::append_failed(&error))?;
    }
    let next = first.plus(records.len() as u64);
    if next > first {
        let commit = Commit {
            group,
            topic: dead.id,
            offsets: vec![QueuePosition {
                queue: LETTERS,
                offset: next,
            }],
        };
        let kind = RecordKind::OffsetCommit;
        broker.change(turn, kind, &commit).await?;
    }
    let (_, end) = broker.store.range(dead.id, LETTERS);
    Ok(ResendDeadLettersReply {
        resent: records.len() as u32,
        left: end.0.saturating_sub(next.0),
    })
}

/// A dead letter as it was sent.
fn back(broker: &Broker, record: &Bytes) -> Result<AppendOne, WireError> {
    let view = parse(record)?;
    let note = |name| view.notes.get(name).unwrap_or_default();
    let origin = TopicName::new(note(ORIGIN_TOPIC));
    let origin = origin.map_err(|error| WireError::new(Code::DATA_CORRUPT, error.to_string()))?;
    let topic = broker.topic(&origin)?;
    let queue: u32 = note(ORIGIN_QUEUE).parse().unwrap_or(0);
    Ok(AppendOne {
        topic: topic.id,
        // The topic may have fewer queues by now.
        queue: QueueId(queue % topic.write_queues),
        block: record.slice(view.header.size()..),
        ..AppendOne::default()
    })
}
