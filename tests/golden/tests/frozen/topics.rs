//! Topics that are deleted, and what name servers hear of them.

use quern_protocol::{
    DeleteTopic, DeletedTopic, ListDeletedTopics, ListDeletedTopicsReply, PublishTopics,
    RegisterBroker, RestoreTopic, RestoreTopicReply, TopicId,
};

use crate::{Samples, topic};

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
