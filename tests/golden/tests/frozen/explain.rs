//! Samples of how it is told why a group has received a message, or has not.

use quern_protocol::trace::{TraceRecord, Traced, TracedEnd, TracedKind, TracedSend};
use quern_protocol::{
    ExplainDelivery, ExplainDeliveryReply, Filter, HiddenMessage, Opinion, OpinionRole,
    PoppedQueue, QueueId, QueueOffset, Said, Stall, TopicGroup, TopicGroups, TopicGroupsReply,
    TransactionEnd,
};

use crate::{Samples, group, hex, topic};

pub(crate) fn explaining(all: &mut Samples) {
    let (queue, offset) = (QueueId(2), QueueOffset(300));
    let explain = ExplainDelivery {
        topic: topic(),
        queue,
        offset,
        group: group(),
        filter: Some(Filter::tag("paid")),
    };
    let opinion = |role, said| Opinion {
        plugin: "geo@3".to_owned(),
        digest: "ab12".to_owned(),
        role,
        said,
    };
    let decided = OpinionRole::Decided {
        from: 1_700_000_000_000,
        until: 1_700_000_000_001,
    };
    let fails = Said::Fails {
        code: 4_301,
        message: "a trap".to_owned(),
    };
    let reply = ExplainDeliveryReply {
        opinions: vec![
            opinion(OpinionRole::Decides, Said::Deliver),
            opinion(OpinionRole::Compared, Said::Reject),
            opinion(decided, fails),
        ],
        committed: Some(offset),
        owner: Some("10.0.0.7@billing".to_owned()),
        popped: Some(PoppedQueue {
            next: offset,
            hidden: Some(HiddenMessage {
                until: 1_700_000_000_001,
                times: 2,
            }),
        }),
        stall: Some(Stall {
            offset,
            code: 4_301,
            message: "geo@3: a trap".to_owned(),
            retry_ms: 1_000,
        }),
    };
    all.add(&explain, &reply);
    let bound = ExplainDeliveryReply {
        opinions: vec![opinion(OpinionRole::Bound, Said::Reject)],
        ..reply
    };
    all.reply::<ExplainDelivery>(&bound, "by a bound filter");
    let stood_in_for = ExplainDeliveryReply {
        opinions: vec![opinion(OpinionRole::StoodInFor, Said::Reject)],
        ..bound
    };
    all.reply::<ExplainDelivery>(&stood_in_for, "by what stands in for a bound filter");
    let asked = ExplainDelivery {
        filter: None,
        ..explain
    };
    all.request(&asked, "request without filter");
    all.reply::<ExplainDelivery>(&ExplainDeliveryReply::default(), "reply empty");
    let groups = [Some(Filter::All), None].map(|filter| TopicGroup {
        group: group(),
        filter,
    });
    let groups = TopicGroupsReply {
        groups: groups.to_vec(),
    };
    all.add(&TopicGroups { topic: topic() }, &groups);
    written(all);
}

/// What clients that trace write into the trace topic.
fn written(all: &mut Samples) {
    let sent = TracedSend {
        topic: topic(),
        tag: "paid".to_owned(),
        broker: "broker-a".to_owned(),
        body_bytes: 12,
        took_ms: 3,
        kind: TracedKind::Delayed,
        place: "broker-a/4096".to_owned(),
        is_stored: true,
    };
    let begun = |by: &str| Traced::Begun {
        hand_out: "0F".to_owned(),
        attempts: 2,
        by: by.to_owned(),
    };
    let committed = TracedEnd {
        topic: topic(),
        tag: "paid".to_owned(),
        broker: "broker-a".to_owned(),
        handle: "broker-a/4096".to_owned(),
        end: TransactionEnd::Commit,
        is_answer: false,
    };
    let ended = Traced::Ended {
        hand_out: "0F".to_owned(),
        took_ms: 7,
        is_consumed: true,
    };
    for (name, what) in [
        ("sent", Traced::Sent(sent)),
        ("begun", begun("")),
        ("begun by", begun("10.0.0.1@4711")),
        ("ended", ended),
        ("transaction ended", Traced::TransactionEnded(committed)),
    ] {
        let record = TraceRecord {
            at: 1_700_000_000_000,
            group: group(),
            message_id: "0A0B0C".to_owned(),
            keys: "order-42".to_owned(),
            what,
        };
        let mut text = String::new();
        record.encode(&mut text);
        all.0
            .push((format!("TraceRecord {name}"), hex(text.as_bytes())));
    }
}
