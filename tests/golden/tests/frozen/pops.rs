//! Samples of popping.

use quern_protocol::{
    AckPopped, AckPoppedReply, Filter, HidePopped, HidePoppedReply, Pop, PopReply, Popped, QueueId,
    QueueOffset, Receipt,
};

use crate::{Samples, group, topic};

fn receipt() -> Receipt {
    Receipt {
        queue: QueueId(2),
        offset: QueueOffset(300),
        token: 1 << 60,
    }
}

pub(crate) fn pops(all: &mut Samples) {
    let pop = Pop {
        group: group(),
        topic: topic(),
        queue: None,
        max_messages: 32,
        max_bytes: 1 << 20,
        invisible_ms: 30_000,
        wait_ms: 15_000,
        in_order: false,
        from_first: true,
        filter: Filter::All,
        attempt: None,
    };
    let popped = PopReply {
        messages: vec![Popped {
            receipt: receipt(),
            attempts: 3,
        }],
        invisible_until: 1_700_000_000_001,
        stall: None,
    };
    all.add(&pop, &popped);
    let in_order = Pop {
        queue: Some(QueueId(2)),
        in_order: true,
        ..pop
    };
    all.request(&in_order, "request in order");
    let attempt = Some(1 << 60);
    let again = Pop {
        attempt,
        ..in_order
    };
    all.request(&again, "request of an attempt");
    let ack = AckPopped {
        group: group(),
        topic: topic(),
        receipts: vec![receipt()],
    };
    let stale = vec![receipt()];
    all.add(&ack, &AckPoppedReply { stale });
}

pub(crate) fn hides(all: &mut Samples) {
    let hide = HidePopped {
        group: group(),
        topic: topic(),
        receipts: vec![receipt()],
        invisible_ms: 0,
    };
    let hidden = HidePoppedReply {
        invisible_until: 1_700_000_000_001,
        stale: Vec::new(),
    };
    all.add(&hide, &hidden);
}
