//! What an attempt to pop was given whose answer was lost: whoever asks again under its number is given it once more,
//! before anything else and nothing besides, as far as it is hidden still. See [`crate::pop_attempts`].

use std::sync::Arc;

use quern_protocol::{Pop, Popped, QueueId, Receipt, WireError};

use crate::pop::{Given, Room};
use crate::pop_attempts::Attempt;
use crate::pops::Hidden;
use crate::topics::Topic;
use crate::{Broker, retry};

pub(crate) fn attempt(request: &Pop, topic: &Topic) -> Option<Attempt> {
    Some((request.group.clone(), topic.id, request.attempt?))
}

/// Adds what earlier requests of the same attempt were given, whichever queues it is of, in the order in which they
/// were: so all that fitted the first answer fits this one.
pub(crate) async fn once_more(
    broker: &Arc<Broker>,
    request: &Pop,
    topic: &Topic,
    given: &mut Given,
) -> Result<(), WireError> {
    let Some(attempt) = attempt(request, topic) else {
        return Ok(());
    };
    for queue in broker.pop_attempts.queues(&attempt) {
        if request.queue.is_some_and(|asked| asked != queue) {
            continue;
        }
        let key = (request.group.clone(), topic.id, queue);
        let _alone = broker.pop_gates.enter(key).await;
        match held(broker, (request, topic, queue), given).await {
            Err(error) if !given.messages.is_empty() => {
                tracing::warn!(%error, topic = %topic.name, %queue, "a queue gives nothing once more");
            }
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
    Ok(())
}

/// Adds what earlier requests of the same attempt were given of a queue, while nobody else gives any of it, and whether
/// that is something.
pub(crate) async fn held(
    broker: &Broker,
    (request, topic, queue): (&Pop, &Topic, QueueId),
    given: &mut Given,
) -> Result<bool, WireError> {
    let token = attempt(request, topic).and_then(|it| broker.pop_attempts.token(&it, queue));
    let known = broker.state.pops.queue(&request.group, topic.id, queue);
    let (Some(token), Some(known)) = (token, known) else {
        return Ok(false);
    };
    let now = broker.store.now_ms();
    let is_held = |it: &Hidden| it.token == token && it.until > now;
    let before = given.messages.len();
    for (offset, hidden) in known.hidden.iter().filter(|(_, it)| is_held(it)) {
        if Room::left(request, given).is_none() {
            break;
        }
        let stored = retry::stored(broker, topic, queue, *offset).await?;
        // The log may have let it go.
        let Some(record) = stored else {
            continue;
        };
        // All of them are hidden until then.
        given.until = match given.messages.is_empty() {
            true => hidden.until,
            false => given.until.min(hidden.until),
        };
        let receipt = Receipt {
            queue,
            offset: *offset,
            token,
        };
        let attempts = hidden.times.saturating_sub(1);
        given.messages.push(Popped { receipt, attempts });
        given.records.push(record);
    }
    Ok(given.messages.len() > before)
}
