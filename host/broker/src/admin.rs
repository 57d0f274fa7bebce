//! Topics as administrators see them: create, describe, list, delete.

use std::sync::Arc;

use quern_protocol::{
    Code, CreateTopic, CreateTopicReply, DeleteTopic, DeleteTopicReply, DescribeTopic,
    DescribeTopicReply, ListTopicsReply, QueueId, QueueReport, RecordKind, TopicName, TopicSummary,
    WireError, limits as wire,
};

use crate::topics::{Topic, TopicChange};
use crate::{Broker, limits, reply};

pub(crate) async fn create_topic(
    broker: &Broker,
    request: CreateTopic,
) -> Result<CreateTopicReply, WireError> {
    if broker.is_draining() {
        return Err(reply::going_away());
    }
    let CreateTopic {
        topic,
        read_queues,
        write_queues,
    } = request;
    let topic = create(broker, &topic, read_queues, write_queues).await?;
    Ok(CreateTopicReply { id: topic.id })
}

/// Returns when the topic is durable and can be used.
pub(crate) async fn create(
    broker: &Broker,
    name: &TopicName,
    read_queues: u32,
    write_queues: u32,
) -> Result<Arc<Topic>, WireError> {
    for queues in [read_queues, write_queues] {
        if !(1..=wire::QUEUES_PER_TOPIC).contains(&queues) {
            return Err(reply::bad_request(format!(
                "a topic has 1 to {} queues, not {queues}",
                wire::QUEUES_PER_TOPIC
            )));
        }
    }
    let _one_change_at_a_time = broker.topic_changes().await;
    let topics = &broker.state.topics;
    if topics.find(name).is_some() {
        return Err(WireError::new(
            Code::ALREADY_EXISTS,
            format!("topic \"{name}\" exists already"),
        ));
    }
    if topics.count() >= limits::TOPICS {
        return Err(reply::bad_request(format!(
            "this broker has {} topics, its limit",
            limits::TOPICS
        )));
    }
    let change = TopicChange::Created(Topic {
        id: topics.next_id(),
        name: name.clone(),
        read_queues,
        write_queues,
        created_at: broker.store.now_ms(),
    });
    change_topics(broker, change).await?;
    broker.topic(name)
}

async fn change_topics(broker: &Broker, change: TopicChange) -> Result<(), WireError> {
    broker.log(RecordKind::Topic, &change).await?;
    if let TopicChange::Deleted(id) = change {
        broker.store.remove_topic(id);
    }
    broker.topics_changed();
    Ok(())
}

pub(crate) fn describe(
    broker: &Broker,
    request: &DescribeTopic,
) -> Result<DescribeTopicReply, WireError> {
    let topic = broker.topic(&request.topic)?;
    Ok(DescribeTopicReply {
        id: topic.id,
        read_queues: topic.read_queues,
        write_queues: topic.write_queues,
        created_at: topic.created_at,
        queues: queues(broker, &topic),
    })
}

fn queues(broker: &Broker, topic: &Topic) -> Vec<QueueReport> {
    (0..topic.read_queues.max(topic.write_queues))
        .map(|queue| {
            let queue = QueueId(queue);
            let (min, max) = broker.store.range(topic.id, queue);
            QueueReport { queue, min, max }
        })
        .collect()
}

fn messages(broker: &Broker, topic: &Topic) -> u64 {
    let queues = queues(broker, topic);
    queues.iter().map(|queue| queue.max.0 - queue.min.0).sum()
}

pub(crate) fn list(broker: &Broker) -> ListTopicsReply {
    let topics = broker.state.topics.list();
    ListTopicsReply {
        topics: topics
            .iter()
            .map(|topic| TopicSummary {
                topic: topic.name.clone(),
                id: topic.id,
                read_queues: topic.read_queues,
                write_queues: topic.write_queues,
                messages: messages(broker, topic),
            })
            .collect(),
    }
}

pub(crate) async fn delete(
    broker: &Broker,
    request: DeleteTopic,
) -> Result<DeleteTopicReply, WireError> {
    let _one_change_at_a_time = broker.topic_changes().await;
    let topic = broker.topic(&request.topic)?;
    let messages = messages(broker, &topic);
    change_topics(broker, TopicChange::Deleted(topic.id)).await?;
    // Whoever waits for its news learns that it is gone.
    broker.waits.wake_all();
    Ok(DeleteTopicReply { messages })
}
