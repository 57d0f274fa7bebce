//! Messages for later: what `Send` says of them, their delivery when they are due, `RecallMessage` and
//! `ListDelayed`. Retries wait in the same way.

use std::sync::{Arc, Weak};
use std::time::Duration;

use quern_protocol::message::UNIQUE_KEY;
use quern_protocol::{
    Block, Code, DelayedMessage, Later, ListDelayed, ListDelayedReply, LogPosition, QueueId,
    RecallMessage, RecallMessageReply, TopicId, TopicName, WireError,
};
use quern_store::{Append, AppendOne, Due, Pending, ReadError, Waiting};

use crate::alarm::{Alarms, By};
use crate::topics::Topic;
use crate::{Broker, limits, reply};

/// Hands messages of a send to the log, for now or for later, if the broker takes such a delay.
pub(crate) fn submit(
    broker: &Broker,
    append: Append,
    later: Option<&Later>,
) -> Result<Pending, WireError> {
    let store = &broker.store;
    let due = match later {
        None => return Ok(store.submit(append)),
        Some(half @ Later::OnCommit(_)) => {
            return Ok(store.submit_half(append, half.notes().into()));
        }
        Some(Later::In(ms)) => Due::In(*ms),
        Some(Later::At(ms)) => Due::At(*ms),
        Some(Later::Level(level)) => Due::In(of_level(broker, *level)?),
    };
    let delay = match due {
        Due::In(ms) => ms,
        Due::At(at) => at.saturating_sub(store.now_ms()),
    };
    let longest = ms(broker.config.delays.longest);
    if delay > longest {
        return Err(reply::bad_request(format!(
            "a message waits {longest} ms at most here, and this one would {delay} ms; the bound is --delay-max (timerMaxDelaySec)"
        )));
    }
    Ok(store.submit_later(append, due))
}

fn of_level(broker: &Broker, level: u8) -> Result<u64, WireError> {
    let levels = &broker.config.delays.levels;
    let delay = usize::from(level)
        .checked_sub(1)
        .and_then(|it| levels.get(it));
    let delay = delay.ok_or_else(|| {
        let text = format!("delay level {level} is none of 1 to {}", levels.len());
        reply::bad_request(text)
    })?;
    Ok(ms(*delay))
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A topic whose messages clients may see.
fn topic(broker: &Broker, name: &TopicName) -> Result<Arc<Topic>, WireError> {
    reply::not_reserved(name)?;
    broker.topic(name)
}

pub(crate) async fn recall(
    broker: &Arc<Broker>,
    request: RecallMessage,
) -> Result<RecallMessageReply, WireError> {
    if broker.is_draining() {
        return Err(reply::going_away());
    }
    let topic = topic(broker, &request.topic)?;
    let gone = || {
        let text = format!(
            "no message of topic \"{}\" waits at {}: it has been delivered or taken back, or never was there",
            request.topic, request.position
        );
        WireError::new(Code::NOT_FOUND, text)
    };
    let message = waiting(broker, topic.id, vec![request.position]).await?;
    let message = message.into_iter().next().ok_or_else(gone)?;
    let decided = broker.store.cancel_timer(request.position);
    let decided = decided.ok_or_else(gone)?.await;
    decided.map_err(|error| reply::append_failed(&error))?;
    broker.metrics.waits.recalled.add(1);
    Ok(RecallMessageReply { message })
}

pub(crate) async fn list(
    broker: &Arc<Broker>,
    request: ListDelayed,
) -> Result<ListDelayedReply, WireError> {
    let topic = topic(broker, &request.topic)?;
    let most = limits::LISTED.min(request.messages as usize);
    let timers = broker.store.waiting(topic.id, request.behind, most);
    let positions = timers.into_iter().map(|it| it.position);
    let messages = waiting(broker, topic.id, positions.collect()).await?;
    Ok(ListDelayedReply { messages })
}

/// Those of these messages that wait for this topic.
async fn waiting(
    broker: &Broker,
    topic: TopicId,
    positions: Vec<LogPosition>,
) -> Result<Vec<DelayedMessage>, WireError> {
    let store = broker.store.clone();
    let read = move || {
        let messages = positions.into_iter().filter_map(|position| {
            let found = store.waiting_message(position).transpose()?;
            Some(found.map(|it| (it.topic == topic).then(|| about(position, &it))))
        });
        messages.collect::<Result<Vec<_>, ReadError>>()
    };
    let found = broker.cold.run(&None, read).await?;
    let found = found.map_err(|error| reply::read_failed(&error))?;
    Ok(found.into_iter().flatten().collect())
}

fn about(position: LogPosition, message: &AppendOne) -> DelayedMessage {
    let block = Block::lengths(&message.block).ok();
    let block = block.as_ref();
    let id = block.and_then(|it| it.properties().find(|(name, _)| *name == UNIQUE_KEY));
    DelayedMessage {
        position,
        due_at: message.due_at.unwrap_or(0),
        queue: message.queue,
        message_id: id.map_or_else(String::new, |(_, id)| id.to_owned()),
        tag: block.map_or("", |it| it.tag()).to_owned(),
        keys: block.map_or("", |it| it.keys()).to_owned(),
        body_bytes: block.map_or(0, |it| it.raw_len() as u32),
    }
}

/// Delivers messages whose time has come, for as long as the broker is there.
pub(crate) async fn deliver(broker: Weak<Broker>, alarms: Arc<Alarms>) {
    let alarm = &alarms.timers;
    let mut rest = limits::TIMER_REST;
    loop {
        let Some(there) = broker.upgrade().filter(|it| !it.is_draining()) else {
            return;
        };
        alarm.awake();
        let delivered = deliver_due(&there).await;
        let now = there.store.now_ms();
        let next = match delivered {
            Ok(true) => {
                rest = limits::TIMER_REST;
                continue;
            }
            Ok(false) => there.store.next_due(),
            Err(error) => {
                tracing::warn!(%error, "messages whose time has come wait longer");
                Some(now + limits::TIMER_AGAIN)
            }
        };
        drop(there);
        // One that is due and was not delivered is on its way somewhere else, which may wait long for the disk.
        let next = next.map(|it| it.max(now + rest));
        rest = match next == Some(now + rest) {
            true => (2 * rest).min(limits::TIMER_AGAIN),
            false => limits::TIMER_REST,
        };
        if !alarm.sleep(&broker, By::Log, next).await {
            return;
        }
    }
}

/// Delivers some of them; whether there were any.
pub(crate) async fn deliver_due(broker: &Arc<Broker>) -> Result<bool, WireError> {
    let due = due_now(broker, broker.store.now_ms());
    if due.is_empty() || broker.is_draining() {
        return Ok(false);
    }
    fire(broker, due).await?;
    Ok(true)
}

/// What is delivered together.
fn due_now(broker: &Broker, now: u64) -> Vec<Waiting> {
    let mut due = broker.store.due_timers(now, limits::FIRED);
    let mut bytes = 0;
    due.retain(|timer| {
        let fits = bytes < limits::FIRED_BYTES;
        bytes += timer.size as usize;
        fits
    });
    due
}

/// The queue of a message that has waited: its topic may have fewer by now.
pub(crate) fn place(broker: &Broker, message: &mut AppendOne) {
    let topic = broker.state.topics.by_id(message.topic);
    let queues = topic.map_or(u32::MAX, |it| it.write_queues.max(1));
    message.queue = QueueId(message.queue.0 % queues);
}

async fn fire(broker: &Arc<Broker>, due: Vec<Waiting>) -> Result<(), WireError> {
    broker.store.ready().await;
    let reader = Arc::clone(broker);
    let read = move || {
        let fired = due.into_iter().map(|timer| {
            let fired = reader.store.fire(timer.position, |it| place(&reader, it));
            (timer, fired)
        });
        fired.collect::<Vec<_>>()
    };
    let mut outcome = Ok(());
    for (timer, fired) in broker.cold.run(&None, read).await? {
        match fired {
            Ok(None) => {}
            Ok(Some(decided)) => match decided.await {
                Ok(_) => {
                    let late = &broker.metrics.waits.late;
                    late.delivered(timer.due_at, broker.store.now_ms());
                }
                Err(error) => outcome = Err(reply::append_failed(&error)),
            },
            Err(error @ ReadError::Damaged { .. }) => {
                tracing::error!(code = "Q-4007", %error, "a message that waited is lost");
                broker.store.forget_timer(timer.position);
            }
            Err(error) => outcome = Err(reply::read_failed(&error)),
        }
    }
    outcome
}
