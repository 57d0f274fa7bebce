//! Samples of how messages are found, and sent again.

use quern_protocol::{
    FindMessages, FindMessagesReply, FoundMessage, LogPosition, MessageAt, MessageAtReply,
    MessageKey, MessageState, QueueId, QueueOffset, ResendMessage, ResendMessageReply,
};

use crate::{Samples, group, topic};

pub(crate) fn finding(all: &mut Samples) {
    let position = LogPosition(1 << 33);
    let (queue, offset) = (QueueId(2), QueueOffset(300));
    let find = FindMessages {
        topic: Some(topic()),
        key: MessageKey::Key("order-42".to_owned()),
        stored: (1_700_000_000_000, u64::MAX),
        before: Some(position),
        messages: 32,
    };
    let found = |state| FoundMessage {
        topic: topic(),
        state,
    };
    let states = [
        MessageState::Queued,
        MessageState::Waits {
            due_at: 1_700_000_000_001,
        },
        MessageState::Undecided,
        MessageState::Delivered {
            queue,
            offset,
            position,
        },
        MessageState::Parked { offset, position },
        MessageState::CalledOff,
    ];
    let reply = FindMessagesReply {
        found: states.map(found).to_vec(),
        unreadable: 1,
        next: Some(position),
    };
    all.add(&find, &reply);
    let by_id = FindMessages {
        topic: None,
        key: MessageKey::Unique("00112233445566778899AABBCCDDEEFF".to_owned()),
        stored: (0, u64::MAX),
        before: None,
        messages: 1,
    };
    all.request(&by_id, "request by id");
    let none = FindMessagesReply {
        found: Vec::new(),
        unreadable: 0,
        next: None,
    };
    all.reply::<FindMessages>(&none, "reply none");
    again(all, found(MessageState::Queued));
}

fn again(all: &mut Samples, found: FoundMessage) {
    let position = LogPosition(1 << 33);
    let (queue, offset) = (QueueId(2), QueueOffset(300));
    let at = MessageAtReply { found };
    all.add(&MessageAt { position }, &at);
    let resend = ResendMessage {
        topic: topic(),
        queue,
        offset,
        group: Some(group()),
        dry_run: false,
    };
    let resent = ResendMessageReply {
        topic: topic(),
        queue,
        offset: Some(offset),
    };
    all.add(&resend, &resent);
    let asked = ResendMessage {
        group: None,
        dry_run: true,
        ..resend
    };
    all.request(&asked, "request only tell");
    let told = ResendMessageReply {
        offset: None,
        ..resent
    };
    all.reply::<ResendMessage>(&told, "reply only tell");
}
