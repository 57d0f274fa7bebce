//! Topics that are deleted. With a time of grace a topic is closed first: its messages, offsets and leases
//! stay as they are, and it can be restored. When that time is over, a record says that it is gone, so
//! what there is follows from the log alone, whatever the clock of whoever reads it. Why so:
//! `docs/decisions/0020-a-deleted-topic-can-come-back.md`.

use std::sync::{Arc, Weak};

use quern_protocol::retry::is_reserved_topic;
use quern_protocol::{
    Code, DeleteTopic, DeleteTopicReply, DeletedTopic, ListDeletedTopicsReply, RestoreTopic,
    RestoreTopicReply, TopicId, TopicName, WireError,
};

use crate::admin::{change_topics, messages};
use crate::alarm::{Alarms, By};
use crate::topics::TopicChange;
use crate::{Broker, limits, reply};

/// Returns when it is durable that nobody can use the topic, and name servers know.
pub(crate) async fn delete(
    broker: &Broker,
    request: DeleteTopic,
) -> Result<DeleteTopicReply, WireError> {
    check(&request)?;
    let one_change_at_a_time = broker.topic_changes().await;
    let topics = &broker.state.topics;
    let topic = topics.named(&request.topic);
    let topic = topic.ok_or_else(|| reply::no_topic(&request.topic))?;
    let messages = messages(broker, &topic);
    let change = match request.grace_ms {
        0 => TopicChange::Deleted(topic.id),
        grace => TopicChange::Doomed(topic.id, broker.store.now_ms().saturating_add(grace)),
    };
    change_topics(broker, &one_change_at_a_time, change).await?;
    drop(one_change_at_a_time);
    // Whoever waits for its news learns that it is gone.
    broker.waits.wake_all();
    broker.topics_are_published().await;
    Ok(DeleteTopicReply { messages })
}

fn check(DeleteTopic { topic, grace_ms }: &DeleteTopic) -> Result<(), WireError> {
    if *grace_ms > 0 && is_reserved_topic(topic) {
        let text = format!(
            "topic \"{topic}\" is the system's, which has to write to it: it can only be deleted at once (quern topic rm {topic} --now)"
        );
        return Err(WireError::new(Code::RESERVED_NAME, text));
    }
    if *grace_ms > limits::DELETION_GRACE {
        return Err(reply::bad_request(format!(
            "a deleted topic can come back for {} days at most, not for {grace_ms} ms",
            limits::DELETION_GRACE / DAY
        )));
    }
    Ok(())
}

const DAY: u64 = 24 * 60 * 60 * 1000;

pub(crate) async fn restore(
    broker: &Broker,
    request: RestoreTopic,
) -> Result<RestoreTopicReply, WireError> {
    let one_change_at_a_time = broker.topic_changes().await;
    let found = broker.state.topics.named(&request.topic);
    let topic = found.ok_or_else(|| gone(&request.topic))?;
    if topic.gone_at.is_some() {
        let change = TopicChange::Restored(topic.id);
        change_topics(broker, &one_change_at_a_time, change).await?;
    }
    drop(one_change_at_a_time);
    broker.topics_are_published().await;
    Ok(RestoreTopicReply {
        messages: messages(broker, &topic),
    })
}

fn gone(name: &TopicName) -> WireError {
    let text = format!(
        "topic \"{name}\" is neither here nor being deleted: there never was one, or its time is over; quern topic ls --deleted shows what can be restored"
    );
    WireError::new(Code::NOT_FOUND, text)
}

pub(crate) fn list(broker: &Broker) -> ListDeletedTopicsReply {
    let topics = broker.state.topics.being_deleted().into_iter();
    let topics = topics.map(|(topic, gone_at)| DeletedTopic {
        topic: topic.name.clone(),
        id: topic.id,
        gone_at,
        messages: messages(broker, &topic),
    });
    ListDeletedTopicsReply {
        topics: topics.collect(),
    }
}

/// Lets topics go whose time of grace is over, for as long as the broker is there.
pub(crate) async fn sweep(broker: Weak<Broker>, alarms: Arc<Alarms>) {
    let alarm = &alarms.deletion;
    loop {
        let Some(there) = broker.upgrade().filter(|it| !it.is_draining()) else {
            return;
        };
        alarm.awake();
        let_go(&there).await;
        let again = there.store.now_ms() + limits::DELETION_AGAIN;
        let next = there.state.topics.next_over().map(|at| at.max(again));
        drop(there);
        if !alarm.sleep(&broker, By::Log, next).await {
            return;
        }
    }
}

async fn let_go(broker: &Broker) {
    for id in broker.state.topics.over(broker.store.now_ms()) {
        if let Err(error) = end(broker, id).await {
            tracing::warn!(topic = id.0, %error, "a deleted topic stays a little longer");
            break;
        }
    }
}

async fn end(broker: &Broker, id: TopicId) -> Result<(), WireError> {
    let one_change_at_a_time = broker.topic_changes().await;
    // It may have been restored meanwhile.
    if broker
        .state
        .topics
        .over(broker.store.now_ms())
        .contains(&id)
    {
        change_topics(broker, &one_change_at_a_time, TopicChange::Deleted(id)).await?;
        tracing::info!(topic = id.0, "a deleted topic's time of grace is over");
    }
    Ok(())
}
