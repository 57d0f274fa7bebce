//! Topics that say how long their messages are kept. For longer than the log keeps its segments: the store
//! carries them on (`store/keeping.rs`). For less: what is older is not served, though its segment is still there.
//! Where a queue begins then is no state, but follows from the log, the setting and the time; so it is the same
//! after every kind of start. Why so: `docs/decisions/0021-a-topic-keeps-its-messages-as-it-says.md`.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use quern_protocol::{QueueId, QueueOffset, TopicId, WireError};
use quern_store::ReadError;

use crate::alarm::{Alarms, By, Next};
use crate::topics::Topic;
use crate::{Broker, limits, reply};

type Key = (TopicId, QueueId);

/// What was found of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    retention_ms: u64,
    /// It is worth a look again then, ms since 1970.
    look_at: u64,
}

/// What was found of the queues of such topics.
#[derive(Debug, Default)]
pub(crate) struct Beginnings(HashMap<Key, Known>);

impl Beginnings {
    /// When it is worth a look again.
    fn next(&self) -> Next {
        self.0.values().map(|it| it.look_at).min()
    }
}

/// Looks at all of them. Where some cannot be read they begin where they did, and the first error says why.
pub(crate) async fn look(broker: &Arc<Broker>, known: &mut Beginnings) -> Result<(), WireError> {
    let topics = broker.state.topics.with_retention();
    if topics.is_empty() && known.0.is_empty() {
        return Ok(());
    }
    let (reader, before) = (Arc::clone(broker), known.0.clone());
    let work = move || look_at_all(&reader, &topics, before);
    let (now, looked) = broker.cold.run(&None, work).await?;
    known.0 = now;
    looked.map_err(|error| reply::read_failed(&error))
}

fn look_at_all(
    broker: &Broker,
    topics: &[Arc<Topic>],
    before: HashMap<Key, Known>,
) -> (HashMap<Key, Known>, Result<(), ReadError>) {
    let mut first_error = None;
    let mut now = HashMap::new();
    for topic in topics {
        for queue in 0..topic.read_queues.max(topic.write_queues) {
            let key = (topic.id, QueueId(queue));
            let known = before.get(&key);
            let begins = begin(broker, topic, QueueId(queue), known).unwrap_or_else(|error| {
                first_error.get_or_insert(error);
                known.copied()
            });
            now.extend(begins.map(|it| (key, it)));
        }
    }
    for (topic, queue) in before.keys().filter(|it| !now.contains_key(it)) {
        // It keeps what the log keeps again.
        broker.store.serve_from(*topic, *queue, QueueOffset(0));
    }
    (now, first_error.map_or(Ok(()), Err))
}

/// Where a queue begins now.
fn begin(
    broker: &Broker,
    topic: &Topic,
    queue: QueueId,
    known: Option<&Known>,
) -> Result<Option<Known>, ReadError> {
    let Some(retention_ms) = topic.rules.retention_ms else {
        return Ok(None);
    };
    let (store, now) = (&broker.store, broker.store.now_ms());
    let known = known.filter(|it| it.retention_ms == retention_ms);
    match known {
        Some(known) if known.look_at > now => return Ok(Some(*known)),
        Some(_) => {}
        // It may begin earlier than it did.
        None => store.serve_from(topic.id, queue, QueueOffset(0)),
    }
    let first = store.offset_at(topic.id, queue, now.saturating_sub(retention_ms))?;
    let oldest = store.stored_at(topic.id, queue, first)?.unwrap_or(now);
    // Last: where a queue begins that cannot be read is not forgotten.
    store.serve_from(topic.id, queue, first);
    let rest = (retention_ms / 100).min(limits::RETENTION_REST);
    Ok(Some(Known {
        retention_ms,
        look_at: (oldest.saturating_add(retention_ms)).max(now + rest),
    }))
}

/// Goes on looking, for as long as the broker is there; the first time soon, if so.
pub(crate) async fn advance(
    broker: Weak<Broker>,
    mut known: Beginnings,
    (alarms, is_soon): (Arc<Alarms>, bool),
) {
    let alarm = &alarms.retention;
    let soon = |there: &Broker| there.store.now_ms() + limits::RETENTION_LOOK;
    let mut next = known.next();
    if is_soon {
        next = broker.upgrade().map(|it| soon(&it));
    }
    while alarm.sleep(&broker, By::Log, next).await {
        let Some(there) = broker.upgrade() else {
            return;
        };
        alarm.awake();
        let again = soon(&there);
        next = match look(&there, &mut known).await {
            Ok(()) => known.next().map(|it| it.max(again)),
            Err(error) => {
                tracing::warn!(%error, "queues are not looked through for messages that are too old");
                Some(again)
            }
        };
    }
}
