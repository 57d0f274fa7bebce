//! A pop that is asked for again under its number, because its answer was lost, is given what that one was: all of it,
//! nothing besides, and never more than is asked for.

use quern_plugins::Runtime;
use quern_protocol::{Filter, GroupName, Message, Pop, QueueId, Receipt, Send};
use quern_quic::Connection;
use quern_store::sim::SimFs;

use crate::{WITHIN, ask, connect, create, topic};

const QUEUES: u32 = 3;
const EACH: u32 = 10;

fn pop(attempt: u64, max_messages: u32, in_order: bool) -> Pop {
    Pop {
        group: GroupName::new("g").unwrap(),
        topic: topic(),
        queue: None,
        max_messages,
        max_bytes: 1 << 20,
        invisible_ms: 600_000,
        wait_ms: 0,
        in_order,
        from_first: true,
        filter: Filter::All,
        attempt: Some(attempt),
    }
}

async fn receipts(connection: &Connection, request: &Pop) -> Vec<Receipt> {
    let messages = ask(connection, request).await.messages;
    messages.iter().map(|it| it.receipt).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_given_again_whichever_queues_it_was_of() {
    let plugins = Runtime::new(&quern_plugins::Config::default()).unwrap();
    for in_order in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let connection = connect(dir.path(), crate::config(), &plugins, &SimFs::default()).await;
        create(&connection, QUEUES).await;
        for queue in 0..QUEUES {
            let block = |n| Message::new("t", "x").encode(&format!("{queue}-{n}"), 0);
            let blocks = (0..EACH).map(|n| block(n).unwrap()).collect();
            let send = Send::new(topic(), QueueId(queue), EACH);
            connection.call(&send, blocks, WITHIN).await.unwrap();
        }
        // The first leaves much, the second has what is left in two or three queues.
        for (attempt, wanted) in [(1, EACH), (2, 2 * EACH)] {
            let lost = receipts(&connection, &pop(attempt, wanted, in_order)).await;
            assert_eq!(lost.len() as u32, wanted);
            // Each request begins with another queue.
            for _ in 0..2 * QUEUES {
                let again = receipts(&connection, &pop(attempt, wanted, in_order)).await;
                assert_eq!(again, lost, "attempt {attempt}, in order: {in_order}");
            }
            let fewer = receipts(&connection, &pop(attempt, 1, in_order)).await;
            assert_eq!(fewer, lost[..1]);
            let one_queue = Pop {
                queue: Some(lost[0].queue),
                ..pop(attempt, wanted, in_order)
            };
            let of_one = receipts(&connection, &one_queue).await;
            let of_it: Vec<_> = lost
                .into_iter()
                .filter(|it| Some(it.queue) == one_queue.queue)
                .collect();
            assert_eq!(of_one, of_it);
        }
    }
}
