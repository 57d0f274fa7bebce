//! Topics as administrators see them: create, describe, list, set. How they go: `topic_deletion.rs`.

use std::sync::Arc;

use quern_protocol::{
    Code, CountMessages, CountMessagesReply, CreateTopic, CreateTopicReply, DescribeTopic,
    DescribeTopicReply, ListTopicsReply, QueueCount, QueueId, QueueOffset, QueueReport, RecordKind,
    SetTopic, SetTopicReply, TopicSetting, TopicSettings, TopicSettingsReply, TopicSummary,
    WireError, being_deleted, limits as wire,
};

use crate::gate::Turn;
use crate::topics::{Rules, Topic, TopicChange};
use crate::{Broker, durability, limits, reply};

pub(crate) async fn create_topic(
    broker: &Broker,
    request: CreateTopic,
) -> Result<CreateTopicReply, WireError> {
    if broker.is_draining() {
        return Err(reply::going_away());
    }
    reply::not_reserved(&request.topic)?;
    let topic = create(broker, request).await?;
    Ok(CreateTopicReply { id: topic.id })
}

/// Returns when the topic is durable and can be used, and found: name servers that know this broker know of it.
pub(crate) async fn create(broker: &Broker, request: CreateTopic) -> Result<Arc<Topic>, WireError> {
    let name = &request.topic;
    let queues = [
        TopicSetting::ReadQueues(request.read_queues),
        TopicSetting::WriteQueues(request.write_queues),
    ];
    for setting in queues.iter().chain(&request.settings) {
        check(*setting)?;
    }
    let one_change_at_a_time = broker.topic_changes().await;
    let topics = &broker.state.topics;
    if let Some(there) = topics.named(name) {
        if let Some(gone_at) = there.gone_at {
            return Err(being_deleted(name, gone_at));
        }
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
    let mut topic = Topic {
        id: topics.next_id(),
        name: name.clone(),
        read_queues: request.read_queues,
        write_queues: request.write_queues,
        created_at: broker.store.now_ms(),
        durability: None,
        rules: Rules::default(),
        gone_at: None,
    };
    request.settings.iter().for_each(|it| topic.set(*it));
    check_all(&topic)?;
    change_topics(broker, &one_change_at_a_time, TopicChange::created(topic)).await?;
    drop(one_change_at_a_time);
    broker.topics_are_published().await;
    broker.topic(name)
}

fn check(setting: TopicSetting) -> Result<(), WireError> {
    match setting {
        TopicSetting::Durability(None)
        | TopicSetting::Permission(_)
        | TopicSetting::Messages(_)
        | TopicSetting::Cleanup(_)
        | TopicSetting::Retention(None) => Ok(()),
        TopicSetting::Retention(Some(ms)) => {
            if wire::TOPIC_RETENTION_MS.contains(&ms) {
                return Ok(());
            }
            Err(reply::bad_request(format!(
                "a topic keeps its messages for a second to ten years, not for {ms} ms"
            )))
        }
        TopicSetting::Durability(Some(class)) => durability::can_be_given(class).map(|_| ()),
        TopicSetting::ReadQueues(queues) | TopicSetting::WriteQueues(queues) => {
            if (1..=wire::QUEUES_PER_TOPIC).contains(&queues) {
                return Ok(());
            }
            Err(reply::bad_request(format!(
                "a topic has 1 to {} queues, not {queues}",
                wire::QUEUES_PER_TOPIC
            )))
        }
    }
}

/// Whether its settings make sense together.
fn check_all(topic: &Topic) -> Result<(), WireError> {
    if topic.rules.is_compacted() && topic.rules.retention_ms.is_some() {
        let name = &topic.name;
        return Err(reply::bad_request(format!(
            "a compacted topic keeps the newest message of each key for ever, so \"{name}\" cannot have a retention: \
             `quern topic set {name} --cleanup compact --retention default`"
        )));
    }
    Ok(())
}

/// Returns when the change is durable and in effect.
pub(crate) async fn set(broker: &Broker, request: SetTopic) -> Result<SetTopicReply, WireError> {
    for setting in &request.settings {
        check(*setting)?;
    }
    let one_change_at_a_time = broker.topic_changes().await;
    let topic = broker.topic(&request.topic)?;
    if !request.settings.is_empty() {
        let mut after = (*topic).clone();
        request.settings.iter().for_each(|it| after.set(*it));
        check_all(&after)?;
        let change = TopicChange::Set(topic.id, request.settings);
        change_topics(broker, &one_change_at_a_time, change).await?;
    }
    let settings = broker.topic(&request.topic)?.settings();
    Ok(SetTopicReply { settings })
}

pub(crate) fn settings(
    broker: &Broker,
    request: &TopicSettings,
) -> Result<TopicSettingsReply, WireError> {
    let settings = broker.topic(&request.topic)?.settings();
    Ok(TopicSettingsReply { settings })
}

pub(crate) async fn change_topics(
    broker: &Broker,
    turn: &Turn,
    change: TopicChange,
) -> Result<(), WireError> {
    // Name servers are told though nobody waits for it.
    let held = Box::new((broker.topics_change(), turn.clone()));
    let kind = RecordKind::Topic;
    broker.log_holding(kind, &change, held).await?;
    if let TopicChange::Deleted(id) = change {
        broker.store.remove_topic(id);
    }
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

pub(crate) fn messages(broker: &Broker, topic: &Topic) -> u64 {
    let from_the_first = |_| QueueOffset(0);
    counts(broker, topic, from_the_first)
        .map(|it| it.messages)
        .sum()
}

/// How many messages are in each queue from an offset on.
fn counts(
    broker: &Broker,
    topic: &Topic,
    from: impl Fn(QueueId) -> QueueOffset,
) -> impl Iterator<Item = QueueCount> {
    let queues = 0..topic.read_queues.max(topic.write_queues);
    queues.map(QueueId).map(move |queue| QueueCount {
        queue,
        messages: broker.store.count(topic.id, queue, from(queue)),
    })
}

pub(crate) fn count(
    broker: &Broker,
    request: &CountMessages,
) -> Result<CountMessagesReply, WireError> {
    let topic = broker.topic(&request.topic)?;
    let committed = |queue| {
        let group = request.group.as_ref()?;
        broker.state.offsets.next(group, topic.id, queue)
    };
    let queues = counts(broker, &topic, |queue| committed(queue).unwrap_or_default());
    let queues = queues.collect();
    Ok(CountMessagesReply { queues })
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
