//! Samples of messages for later.

use quern_protocol::{
    DelayedMessage, Later, ListDelayed, ListDelayedReply, LogPosition, QueueId, RecallMessage,
    RecallMessageReply, Send,
};

use crate::{Samples, group, topic};

pub(crate) fn sends(all: &mut Samples, send: &Send) {
    for later in [
        Later::In(30_000),
        Later::At(1_800_000_000_000),
        Later::Level(18),
        Later::OnCommit(group()),
    ] {
        let name = format!("request {later:?}");
        let send = Send {
            later: Some(later),
            ..send.clone()
        };
        all.request(&send, &name);
    }
}

pub(crate) fn delays(all: &mut Samples) {
    let position = LogPosition(1 << 33);
    let message = DelayedMessage {
        position,
        due_at: 1_800_000_000_000,
        queue: QueueId(2),
        message_id: "00112233445566778899aabbccddeeff".to_owned(),
        tag: "paid".to_owned(),
        keys: "order-1 order-2".to_owned(),
        body_bytes: 300,
    };
    let recall = RecallMessage {
        topic: topic(),
        position,
    };
    let recalled = RecallMessageReply {
        message: message.clone(),
    };
    all.add(&recall, &recalled);
    let list = ListDelayed {
        topic: topic(),
        behind: (1_800_000_000_000, position),
        messages: 100,
    };
    let messages = vec![message];
    all.add(&list, &ListDelayedReply { messages });
}
