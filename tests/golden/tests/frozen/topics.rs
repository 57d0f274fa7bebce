//! Topics that are deleted, and what name servers hear of them.

use quern_protocol::{
    Cleanup, CountMessages, CountMessagesReply, DeleteTopic, DeletedTopic, Filter, ForbiddenTopic,
    GroupSetting, ListDeletedTopics, ListDeletedTopicsReply, PublishTopics, Pull, QueueCount,
    QueueId, QueueOffset, RegisterBroker, RestoreTopic, RestoreTopicReply, SetGroup, SetTopic,
    TopicId, TopicSetting,
};

use crate::{Samples, group, topic};

const GONE_AT: u64 = 1_700_000_086_400;

pub(crate) fn registration(all: &mut Samples, register: RegisterBroker, publish: PublishTopics) {
    let register = RegisterBroker {
        being_deleted: vec![(topic(), GONE_AT)],
        ..register
    };
    all.request(&register, "request");
    let publish = PublishTopics {
        being_deleted: vec![(topic(), GONE_AT)],
        ..publish
    };
    all.request(&publish, "request");
}

pub(crate) fn deletion(all: &mut Samples) {
    let kept = SetTopic {
        topic: topic(),
        settings: vec![
            TopicSetting::Retention(Some(604_800_000)),
            TopicSetting::Retention(None),
        ],
    };
    all.request(&kept, "request retention");
    let delete = DeleteTopic {
        topic: topic(),
        grace_ms: 86_400_000,
    };
    all.request(&delete, "request");
    all.add(
        &RestoreTopic { topic: topic() },
        &RestoreTopicReply { messages: 300 },
    );
    let deleted = DeletedTopic {
        topic: topic(),
        id: TopicId(1),
        gone_at: GONE_AT,
        messages: 300,
    };
    all.add(
        &ListDeletedTopics {},
        &ListDeletedTopicsReply {
            topics: vec![deleted],
        },
    );
}

/// What is compacted, and how many messages that leaves.
pub(crate) fn compaction(all: &mut Samples) {
    let compacted = SetTopic {
        topic: topic(),
        settings: vec![
            TopicSetting::Cleanup(Cleanup::Compact),
            TopicSetting::Cleanup(Cleanup::Delete),
        ],
    };
    all.request(&compacted, "request cleanup");
    let count = CountMessages {
        topic: topic(),
        group: None,
    };
    all.request(&count, "request all");
    let left = QueueCount {
        queue: QueueId(2),
        messages: 300,
    };
    all.add(
        &CountMessages {
            group: Some(group()),
            ..count
        },
        &CountMessagesReply { queues: vec![left] },
    );
}

/// What a group may be kept from.
pub(crate) fn group_switches(all: &mut Samples) {
    let set = SetGroup {
        group: group(),
        settings: vec![GroupSetting::Broadcast(false), GroupSetting::FromMin(false)],
    };
    all.request(&set, "request switches");
    let forbid = SetGroup {
        group: group(),
        settings: vec![
            GroupSetting::Forbid(ForbiddenTopic {
                topic: topic(),
                by: "ann@console".to_owned(),
            }),
            GroupSetting::Allow(topic()),
        ],
    };
    all.request(&forbid, "request forbid");
    let pull = Pull {
        group: Some(group()),
        topic: topic(),
        queue: QueueId(2),
        from: QueueOffset(300),
        max_messages: 32,
        max_bytes: 1 << 20,
        wait_ms: 15_000,
        filter: Filter::All,
        broadcast: true,
    };
    all.request(&pull, "request");
}
