//! Samples of sends, by queue and by selector.

use quern_protocol::{
    Code, Durability, LogPosition, Placed, Placement, ProducerBatch, ProducerId, QueueId,
    QueueOffset, Selector, Send, SendReply, SendSelected, SendSelectedReply, SendStatus, WireError,
    WriteQueues,
};

use crate::{Samples, broker, delay, group, topic};

pub(crate) fn send(all: &mut Samples) {
    let (queue, offset) = (QueueId(2), QueueOffset(300));
    let position = LogPosition(1 << 33);
    let send = Send::new(topic(), queue, 64);
    let sent = |status| SendReply {
        status,
        first: offset,
        position,
        stored_at: 1_700_000_000_001,
    };
    all.add(&send, &sent(SendStatus::Ok));
    for class in Durability::ALL {
        let send = Send {
            durability: Some(*class),
            ..send.clone()
        };
        all.request(&send, &format!("request {class}"));
    }
    let batch = ProducerBatch {
        producer: ProducerId(1 << 60),
        epoch: 2,
        sequence: 70_000,
    };
    let batch = Send {
        batch: Some(batch),
        ..send.clone()
    };
    all.request(&batch, "request of a batch");
    delay::sends(all, &send);
    for status in [
        SendStatus::FlushDiskTimeout,
        SendStatus::FlushReplicaTimeout,
        SendStatus::ReplicaNotAvailable,
    ] {
        all.reply::<Send>(&sent(status), &format!("reply {status:?}"));
    }
}

pub(crate) fn selected(all: &mut Samples) {
    let (queue, offset) = (QueueId(2), QueueOffset(300));
    let position = LogPosition(1 << 33);
    let selected = SendSelected {
        topic: topic(),
        messages: 3,
        selector: Selector::named("hash").param("key", "customer"),
        group: Some(group()),
        zone: "eu".to_owned(),
        route: vec![WriteQueues {
            broker: broker(),
            queues: 4,
        }],
        durability: None,
        choose_only: false,
    };
    let stored = Placed::Stored {
        queue,
        offset,
        position,
        stored_at: 1_700_000_000_001,
    };
    let elsewhere = Placed::Elsewhere {
        broker: broker(),
        queue,
    };
    let refused = Placed::Refused(WireError::new(Code::PLUGIN_TRAP, "stopped"));
    let placement = |placed, fell_back| Placement { fell_back, placed };
    all.add(
        &selected,
        &SendSelectedReply {
            selector: "hash 0.1.0".to_owned(),
            placements: vec![
                placement(stored, false),
                placement(elsewhere, true),
                placement(refused, false),
            ],
        },
    );
    let selected = SendSelected {
        durability: Some(Durability::Local),
        ..selected
    };
    all.request(&selected, "request");
    let choose = SendSelected {
        choose_only: true,
        ..selected
    };
    all.request(&choose, "request that only chooses");
    let late = Placed::NotYetDurable {
        status: SendStatus::FlushDiskTimeout,
        queue,
        offset,
        position,
        stored_at: 1_700_000_000_001,
    };
    let late = SendSelectedReply {
        selector: "hash 0.1.0".to_owned(),
        placements: vec![placement(late, false)],
    };
    all.reply::<SendSelected>(&late, "reply not yet durable");
}
