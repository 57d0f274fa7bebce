//! Samples of how it is told why a group has received a message, or has not.

use quern_protocol::{
    ExplainDelivery, ExplainDeliveryReply, Filter, HiddenMessage, Opinion, OpinionRole,
    PoppedQueue, QueueId, QueueOffset, Said, Stall, TopicGroup, TopicGroups, TopicGroupsReply,
};

use crate::{Samples, group, topic};

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
}
