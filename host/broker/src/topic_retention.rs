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

/// Looks at all of them; where some cannot be read they begin where they did.
pub(crate) async fn look(
    broker: &Arc<Broker>,
    mut known: Beginnings,
) -> Result<Beginnings, WireError> {
    let topics = broker.state.topics.with_retention();
    if topics.is_empty() && known.0.is_empty() {
        return Ok(known);
    }
    let reader = Arc::clone(broker);
    let work = move || {
        let mut queues = HashMap::new();
        for topic in &topics {
            for queue in 0..topic.read_queues.max(topic.write_queues) {
                let key = (topic.id, QueueId(queue));
                if let Some(now) = begin(&reader, topic, QueueId(queue), known.0.get(&key))? {
                    queues.insert(key, now);
                }
            }
        }
        for (topic, queue) in known.0.keys().filter(|it| !queues.contains_key(it)) {
            // It keeps what the log keeps again.
            reader.store.serve_from(*topic, *queue, QueueOffset(0));
        }
        known.0 = queues;
        Ok(known)
    };
    let looked: Result<Beginnings, ReadError> = broker.cold.run(&None, work).await?;
    looked.map_err(|error| reply::read_failed(&error))
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
    store.serve_from(topic.id, queue, first);
    let oldest = store.stored_at(topic.id, queue, first)?.unwrap_or(now);
    let rest = (retention_ms / 100).min(limits::RETENTION_REST);
    Ok(Some(Known {
        retention_ms,
        look_at: (oldest.saturating_add(retention_ms)).max(now + rest),
    }))
}

/// Goes on looking, for as long as the broker is there.
pub(crate) async fn advance(broker: Weak<Broker>, mut known: Beginnings, alarms: Arc<Alarms>) {
    let alarm = &alarms.retention;
    let mut next = known.next();
    while alarm.sleep(&broker, By::Log, next).await {
        let Some(there) = broker.upgrade() else {
            return;
        };
        alarm.awake();
        let again = there.store.now_ms() + limits::RETENTION_LOOK;
        (known, next) = match look(&there, known).await {
            Ok(known) => {
                let next = known.next().map(|it| it.max(again));
                (known, next)
            }
            Err(error) => {
                tracing::warn!(%error, "queues are not looked through for messages that are too old");
                // All are looked at anew.
                (Beginnings::default(), Some(again))
            }
        };
    }
}
