//! Samples of how messages are given back, and what becomes of dead letters.

use quern_protocol::retry::retry_topic;
use quern_protocol::{
    FilterFailure, GivingBack, GroupSetting, QueueId, QueueOffset, Reconsume, ReconsumeReply,
    ResendDeadLetters, ResendDeadLettersReply, SetGroup, SetGroupReply,
};

use crate::{Samples, group, topic};

pub(crate) fn retries(all: &mut Samples) {
    let back = Reconsume {
        group: group(),
        topic: topic(),
        queue: QueueId(2),
        offset: QueueOffset(300),
        delay_ms: 500,
        reason: "no stock".to_owned(),
        dead_after: None,
        giving: None,
    };
    let given = ReconsumeReply {
        topic: retry_topic(&group()).unwrap(),
        attempts: 3,
        due_at: 1_700_000_000_500,
    };
    all.add(&back, &given);
    let dead = Reconsume {
        dead_after: Some(300),
        ..back.clone()
    };
    all.request(&dead, "request of a dead letter");
    let again = Reconsume {
        giving: Some(GivingBack {
            id: 0x0102_0304_0506_0708,
            is_again: true,
        }),
        ..back
    };
    all.request(&again, "request that comes again");
    let settings = vec![
        GroupSetting::Retries(300),
        GroupSetting::RetryDelays(vec![10_000, 30_000]),
    ];
    let set = SetGroup {
        group: group(),
        settings: settings.clone(),
    };
    all.add(&set, &SetGroupReply { settings });
    let closed = SetGroup {
        group: group(),
        settings: vec![GroupSetting::Consume(false)],
    };
    all.request(&closed, "request that closes");
    let parks = SetGroup {
        group: group(),
        settings: vec![GroupSetting::OnFilterFailure(FilterFailure::Park)],
    };
    all.request(&parks, "request that parks");
    let resend = ResendDeadLetters {
        group: group(),
        messages: 100,
    };
    let resent = ResendDeadLettersReply {
        resent: 100,
        left: 7,
    };
    all.add(&resend, &resent);
}
