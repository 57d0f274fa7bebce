//! Putting messages aside that a filter fails on, for a group that wants that: each becomes one dead letter of
//! the group, whatever is interrupted, and is not met again. See [`crate::parks`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use quern_protocol::block::Pairs;
use quern_protocol::record::RecordError;
use quern_protocol::retry::{
    ORIGIN_OFFSET, ORIGIN_QUEUE, ORIGIN_TOPIC, UNJUDGED, dead_letter_topic,
};
use quern_protocol::{
    Code, GroupName, QueueId, QueueOffset, Reconsume, RecordKind, RecordView, WireError,
    limits as wire,
};

use crate::gate::Turn;
use crate::leases::GroupChange;
use crate::parks::{ParkChange, ParkWhat};
use crate::to_the_end::to_the_end;
use crate::topics::Topic;
use crate::{Broker, limits, reply, retry};

/// A message a filter failed on, and how.
#[derive(Debug, Clone)]
pub(crate) struct Failed {
    pub(crate) offset: QueueOffset,
    pub(crate) record: Bytes,
    pub(crate) why: String,
}

/// Where messages lie, and whose they are.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) group: GroupName,
    pub(crate) topic: Arc<Topic>,
    pub(crate) queue: QueueId,
}

impl Place {
    fn says(&self, what: ParkWhat) -> GroupChange {
        GroupChange::Parked(ParkChange {
            group: self.group.clone(),
            topic: self.topic.id,
            queue: self.queue,
            what,
        })
    }

    async fn log(&self, broker: &Broker, turn: &Turn, what: ParkWhat) -> Result<(), WireError> {
        let change = self.says(what);
        broker.change(turn, RecordKind::Group, &change).await
    }
}

/// Durable when this returns; all of them, or what is missing is mended soon, or at the next start.
pub(crate) async fn park(
    broker: &Arc<Broker>,
    place: Place,
    messages: Vec<Failed>,
) -> Result<(), WireError> {
    let there = Arc::clone(broker);
    // What is parked and has no dead letter is nowhere.
    let to_park = async move { park_all(&there, &place, messages).await };
    to_the_end(broker, to_park).await
}

async fn park_all(
    broker: &Arc<Broker>,
    place: &Place,
    mut messages: Vec<Failed>,
) -> Result<(), WireError> {
    // Such a group can have no dead letters, ever: then delivery waits.
    retry::topics_of(&place.group)?;
    let one_at_a_time = broker.parking().await;
    // Who looked at the same time may have been faster.
    let known = broker
        .state
        .parks
        .of(&place.group, place.topic.id, place.queue);
    messages.retain(|it| !known.contains(&it.offset));
    if messages.is_empty() {
        return Ok(());
    }
    if known.len() >= limits::PARKED {
        let text = format!(
            "group \"{}\" has {} messages of this queue parked and commits nothing; delivery waits",
            place.group,
            known.len()
        );
        return Err(WireError::new(Code::RETRY_AFTER, text).after_ms(1_000));
    }
    let parked = messages.iter().map(|it| (it.offset, it.why.clone()));
    place
        .log(broker, &one_at_a_time, ParkWhat::Parked(parked.collect()))
        .await?;
    tracing::warn!(group = %place.group, topic = %place.topic.name, queue = %place.queue,
        messages = messages.len(), why = messages[0].why, "messages a filter fails on are parked");
    let buried = bury(broker, &one_at_a_time, place, messages).await;
    if buried.is_err() {
        mend(broker);
    }
    buried
}

async fn bury(
    broker: &Arc<Broker>,
    turn: &Turn,
    place: &Place,
    messages: Vec<Failed>,
) -> Result<(), WireError> {
    let target = retry::dead_letters(broker, &place.group).await?;
    let mut pending = Vec::with_capacity(messages.len());
    for message in &messages {
        let back = Reconsume {
            group: place.group.clone(),
            topic: place.topic.name.clone(),
            queue: place.queue,
            offset: message.offset,
            delay_ms: 0,
            reason: message.why.clone(),
            dead_after: None,
            giving: None,
        };
        let one = retry::dead_letter(&target, &back, None, &message.record)?;
        pending.push(broker.store.submit_one(one));
    }
    for appended in pending {
        let appended = appended.await;
        appended.map_err(|error| reply::append_failed(&error))?;
    }
    let buried = messages.iter().map(|it| it.offset).collect();
    place.log(broker, turn, ParkWhat::Buried(buried)).await
}

/// The record with a note that no filter has judged it, and why.
pub(crate) fn unjudged(record: &Bytes, code: u16) -> Result<Bytes, WireError> {
    let corrupt = |error: RecordError| WireError::new(Code::DATA_CORRUPT, error.to_string());
    let view = RecordView::trusted(record).map_err(corrupt)?;
    let code = code.to_string();
    let notes = view.notes.iter().chain([(UNJUDGED, code.as_str())]);
    let notes = Pairs::encode(notes);
    // What a message brings along may leave no room; then it goes as it is.
    let Some(notes_len) = u16::try_from(notes.len())
        .ok()
        .filter(|it| usize::from(*it) <= wire::NOTES)
    else {
        return Ok(record.clone());
    };
    let mut header = view.header;
    header.extensions.notes_len = notes_len;
    let block = view.block.bytes();
    header.len = (header.size() + block.len()) as u32;
    let mut out = Vec::with_capacity(header.len as usize);
    header.encode(&notes, &mut out);
    out.extend_from_slice(block);
    Ok(out.into())
}

/// Writes the dead letters that are missing, as soon as that can be: what a crash has left between parking and burying,
/// or an error.
pub(crate) fn mend(broker: &Arc<Broker>) {
    if broker.mending.swap(true, Ordering::SeqCst) {
        return;
    }
    let broker = Arc::downgrade(broker);
    tokio::spawn(async move {
        let mut rest = limits::PARK_AGAIN;
        while let Some(there) = broker.upgrade().filter(|it| !it.is_draining()) {
            if mend_all(&there).await {
                return;
            }
            drop(there);
            tokio::time::sleep(rest).await;
            rest = (rest * 2).min(limits::PARK_AGAIN_LAST);
        }
    });
}

/// Whether none is missing any more.
async fn mend_all(broker: &Arc<Broker>) -> bool {
    let one_at_a_time = broker.parking().await;
    let mut is_done = true;
    for change in broker.state.parks.unburied() {
        let (group, queue) = (change.group.clone(), change.queue);
        if let Err(error) = mend_one(broker, &one_at_a_time, change).await {
            tracing::warn!(%group, %queue, %error, "a parked message has no dead letter yet");
            is_done = false;
        }
    }
    // Whoever parks next, and fails, says so again.
    broker.mending.store(!is_done, Ordering::SeqCst);
    is_done
}

async fn mend_one(broker: &Arc<Broker>, turn: &Turn, change: ParkChange) -> Result<(), WireError> {
    let Some(topic) = broker.state.topics.by_id(change.topic) else {
        return Ok(());
    };
    let place = Place {
        group: change.group,
        topic,
        queue: change.queue,
    };
    let ParkWhat::Parked(parked) = change.what else {
        return Ok(());
    };
    let there = there(broker, &place).await?;
    let (mut missing, mut done, mut unread) = (Vec::new(), Vec::new(), Ok(()));
    for (offset, why) in parked {
        if there.contains(&offset) {
            done.push(offset);
            continue;
        }
        match retry::stored(broker, &place.topic, place.queue, offset).await {
            Ok(Some(record)) => missing.push(Failed {
                offset,
                record,
                why,
            }),
            // The log has let it go meanwhile.
            Ok(None) => done.push(offset),
            Err(error) => unread = Err(error),
        }
    }
    if !done.is_empty() {
        place.log(broker, turn, ParkWhat::Buried(done)).await?;
    }
    if !missing.is_empty() {
        bury(broker, turn, &place, missing).await?;
    }
    unread
}

/// Messages of this queue among the group's latest dead letters.
async fn there(broker: &Arc<Broker>, place: &Place) -> Result<BTreeSet<QueueOffset>, WireError> {
    let name = dead_letter_topic(&place.group);
    let Some(dead) = name.ok().and_then(|it| broker.state.topics.find(&it)) else {
        return Ok(BTreeSet::new());
    };
    let (store, id) = (broker.store.clone(), dead.id);
    let read = move || {
        let (min, end) = store.range(id, QueueId(0));
        let first = QueueOffset(end.0.saturating_sub(limits::PARKED as u64)).max(min);
        let entries = store.entries(id, QueueId(0), first, limits::PARKED)?;
        entries
            .iter()
            .map(|entry| store.record(entry))
            .collect::<Result<Vec<Bytes>, _>>()
    };
    let records = broker.cold.run(&None, read).await?;
    let records = records.map_err(|error| reply::read_failed(&error))?;
    let queue = place.queue.to_string();
    let origin = |record: &Bytes| {
        let view = RecordView::trusted(record).ok()?;
        let is_ours = view.notes.get(ORIGIN_TOPIC) == Some(place.topic.name.as_str())
            && view.notes.get(ORIGIN_QUEUE) == Some(queue.as_str());
        let offset = view.notes.get(ORIGIN_OFFSET).filter(|_| is_ours)?;
        offset.parse().ok().map(QueueOffset)
    };
    Ok(records.iter().filter_map(origin).collect())
}
