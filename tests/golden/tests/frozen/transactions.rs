//! Samples of how transactions are asked about and ended.

use quern_protocol::{
    DelayFigures, EndTransaction, EndTransactionReply, ListTransactions, ListTransactionsReply,
    LogPosition, OpenTransaction, PollTransactions, PollTransactionsReply, QueueId, QueueOffset,
    TopicWaits, TransactionCheck, TransactionEnd, TransactionFigures, TransactionOutcome,
    WaitFigures, WaitFiguresReply,
};

use crate::{Samples, group, topic};

pub(crate) fn transactions(all: &mut Samples) {
    let position = LogPosition(1 << 33);
    let message_id = "00112233445566778899aabbccddeeff".to_owned();
    let end = |end| EndTransaction {
        topic: topic(),
        position,
        message_id: message_id.clone(),
        end,
    };
    let ended = |outcome| EndTransactionReply {
        message_id: message_id.clone(),
        outcome,
    };
    let committed = TransactionOutcome::Committed {
        queue: QueueId(2),
        offset: QueueOffset(300),
    };
    all.add(&end(Some(TransactionEnd::Commit)), &ended(committed));
    all.request(&end(Some(TransactionEnd::RollBack)), "request roll back");
    all.request(&end(None), "request only tell");
    let parked = TransactionOutcome::Parked {
        offset: QueueOffset(300),
    };
    for outcome in [
        TransactionOutcome::Undecided,
        TransactionOutcome::RolledBack,
        parked,
    ] {
        all.reply::<EndTransaction>(&ended(outcome), &format!("reply {outcome:?}"));
    }
    let poll = PollTransactions {
        group: group(),
        messages: 16,
        wait_ms: 15_000,
    };
    let check = TransactionCheck {
        topic: topic(),
        position,
        asked: 3,
        block: vec![1, 2, 3, 4],
    };
    let checks = vec![check];
    all.add(&poll, &PollTransactionsReply { checks });
    let list = ListTransactions {
        topic: Some(topic()),
        behind: (1_700_000_000_001, position),
        messages: 100,
    };
    let open = OpenTransaction {
        topic: topic(),
        position,
        stored_at: 1_700_000_000_001,
        group: group().to_string(),
        message_id,
        keys: "order-1".to_owned(),
        asked: 3,
    };
    let transactions = vec![open];
    all.add(&list, &ListTransactionsReply { transactions });
}

pub(crate) fn figures(all: &mut Samples) {
    let by_topic = |messages| {
        vec![TopicWaits {
            topic: topic(),
            messages,
        }]
    };
    let figures = WaitFiguresReply {
        transactions: TransactionFigures {
            open: 3,
            by_topic: by_topic(3),
            oldest: 1_700_000_000_001,
            begun: 300,
            committed: 200,
            rolled_back: 90,
            parked: 7,
            checks: 40,
        },
        delays: DelayFigures {
            waiting: 1_000,
            by_topic: by_topic(1_000),
            next_due: 1_700_000_000_500,
            taken: 5_000,
            delivered: 3_990,
            recalled: 10,
            late: vec![(1, 3_900), (10, 80), (u64::MAX, 10)],
            latest_ms: 61_000,
        },
    };
    all.add(&WaitFigures {}, &figures);
}
