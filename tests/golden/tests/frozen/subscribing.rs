//! Samples of subscriptions.

use quern_protocol::{Credit, Pull, PullReply, Subscribe};

use crate::{Samples, group, topic};

pub(crate) fn subscribing(all: &mut Samples, pull: &Pull, pulled: &PullReply) {
    let subscribe = Subscribe {
        group: Some(group()),
        topic: topic(),
        queue: pull.queue,
        epoch: Some(1_700_000_000_000),
        from: pull.from,
        filter: pull.filter.clone(),
        messages: 1_000,
        bytes: 1 << 21,
    };
    all.add(&subscribe, pulled);
    let credit = Credit {
        correlation: 9,
        messages: 500,
        bytes: 1 << 20,
    };
    all.add(&credit, &credit);
}
