//! Durability classes at work: which one a send is given, and what it is told when the disk is slow.

use std::pin::{Pin, pin};
use std::time::Duration;

use quern_protocol::{Code, Durability, SendStatus, WireError};
use quern_store::{Acknowledge, Appended, Pending};
use tokio::time::Sleep;

use crate::topics::Topic;
use crate::{Broker, reply};

/// Refuses what this broker cannot promise: it has no replicas.
pub(crate) fn can_be_given(class: Durability) -> Result<Acknowledge, WireError> {
    match class {
        Durability::Fast => Ok(Acknowledge::Written),
        Durability::Local => Ok(Acknowledge::Durable),
        Durability::Replicated | Durability::Quorum => Err(WireError::new(
            Code::DURABILITY_REFUSED,
            format!("durability {class} needs replicas, and this broker has none"),
        )),
    }
}

/// The class of a send: what it asks for, else its topic's, else the broker's.
pub(crate) fn of_send(
    broker: &Broker,
    topic: &Topic,
    asked: Option<Durability>,
) -> Result<Acknowledge, WireError> {
    let class = asked.or(topic.durability);
    can_be_given(class.unwrap_or(broker.config.durability))
}

/// How long a send waits for the disk: so that who asks hears what became of it before it stops listening.
pub(crate) fn patience(broker: &Broker, asker_waits_ms: u32) -> Duration {
    let longest = broker.config.flush_timeout;
    match asker_waits_ms {
        0 => longest,
        ms => longest.min(Duration::from_millis(u64::from(ms)) * 3 / 4),
    }
}

/// Waits until an append is as safe as it has to be. If the disk takes too long for that, what has been
/// written is answered as such: the sender decides what a message is worth whose machine may yet lose it.
pub(crate) async fn reached(
    pending: Pending,
    acknowledge: Acknowledge,
    mut late: Pin<&mut Sleep>,
) -> Result<(SendStatus, Appended), WireError> {
    let mut pending = pin!(pending);
    let in_time = tokio::select! {
        biased;
        appended = pending.as_mut() => Some(appended),
        () = late.as_mut() => None,
    };
    let (status, appended) = match in_time {
        Some(appended) => (SendStatus::Ok, appended),
        // It does not wait for the disk.
        None if acknowledge == Acknowledge::Written => (SendStatus::Ok, pending.await),
        None => {
            pending.settle_for_written();
            (SendStatus::FlushDiskTimeout, pending.await)
        }
    };
    let appended = appended.map_err(|error| reply::append_failed(&error))?;
    Ok((status, appended))
}
