//! Samples of replies to requests.

use quern_protocol::{FetchReplies, FetchRepliesReply, Replied, Reply, ReplyOutcome, ReplyReply};

use crate::Samples;

pub(crate) fn replies(all: &mut Samples) {
    let inbox = "00112233445566778899aabbccddeeff".to_owned();
    let correlation = "FFEEDDCCBBAA99887766554433221100".to_owned();
    let reply = Reply {
        inbox: inbox.clone(),
        correlation: correlation.clone(),
        until: 1_700_000_000_000,
    };
    let said = |outcome| ReplyReply { outcome };
    all.add(&reply, &said(ReplyOutcome::Taken));
    all.reply::<Reply>(&said(ReplyOutcome::Late), "reply Late");
    let fetch = FetchReplies {
        inbox,
        wait_ms: 5_000,
    };
    let replied = Replied {
        correlation,
        block: vec![1, 2, 3, 4],
    };
    let replies = vec![replied];
    all.add(&fetch, &FetchRepliesReply { replies });
}
