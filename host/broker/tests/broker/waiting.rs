//! What a broker does by itself, it does when its time has come, whatever it was waiting for before: for nothing,
//! for something later, or for a clock that is set meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quern_broker::{Broker, Config, Transactions};
use quern_plugins::Runtime;
use quern_protocol::record::records;
use quern_protocol::{
    Filter, GroupName, Later, LogPosition, PollTransactions, Pull, QueueId, QueueOffset,
    RecordView, Send,
};
use quern_quic::{CloseReason, Connection};
use quern_store::clock::{Clock, RealClock};
use quern_store::sim::SimFs;
use quern_store::{Config as StoreConfig, Env};

use crate::{WITHIN, config, connect, connect_in, create, listen, send_one, topic};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
/// Tasks a broker has beside its sessions.
const CHORES: usize = 5;

/// The machine's clock, that somebody sets.
#[derive(Debug, Default)]
struct SetClock {
    real: RealClock,
    ahead: AtomicU64,
}

impl Clock for SetClock {
    fn wall_ms(&self) -> u64 {
        self.real.wall_ms() + self.ahead.load(Ordering::SeqCst)
    }

    fn steady_ms(&self) -> u64 {
        self.real.steady_ms()
    }

    fn steady_us(&self) -> u64 {
        self.real.steady_us()
    }
}

fn plugins() -> Runtime {
    Runtime::new(&quern_plugins::Config::default()).unwrap()
}

async fn start(dir: &Path, fs: &SimFs) -> Connection {
    connect(dir, config(), &plugins(), fs).await
}

/// Sends a message for later; when it was stored.
async fn send(connection: &Connection, later: Later) -> u64 {
    let send = Send {
        later: Some(later),
        ..Send::new(topic(), QueueId(0), 1)
    };
    send_one(connection, send).await.unwrap().stored_at
}

/// Waits for the message at an offset; when it was stored there.
async fn delivered_at(connection: &Connection, offset: u64) -> u64 {
    let pull = Pull {
        broadcast: false,
        group: None,
        topic: topic(),
        queue: QueueId(0),
        from: QueueOffset(offset),
        max_messages: 1,
        max_bytes: 1 << 20,
        wait_ms: 30_000,
        filter: Filter::All,
    };
    let within = WITHIN + Duration::from_secs(30);
    let (_, body): (_, Bytes) = connection.call(&pull, Vec::new(), within).await.unwrap();
    let record = records(&body).next().expect("it has come").unwrap();
    RecordView::parse(&record).unwrap().header.stored_at
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_for_later_comes_whatever_was_waited_for() {
    let (dir, fs) = (tempfile::tempdir().unwrap(), SimFs::default());
    let connection = start(dir.path(), &fs).await;
    create(&connection, 1).await;
    // For nothing; then for one that is due much later; then for one that is due a little later.
    for (offset, before) in [None, Some(HOUR), Some(20 * MINUTE)]
        .into_iter()
        .enumerate()
    {
        if let Some(before) = before {
            send(&connection, Later::In(before)).await;
        }
        let stored_at = send(&connection, Later::In(300)).await;
        let delivered_at = delivered_at(&connection, offset as u64).await;
        assert!(delivered_at >= stored_at + 300, "early");
    }
    let stored_at = send(&connection, Later::At(0)).await;
    assert!(delivered_at(&connection, 3).await >= stored_at);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_starts_again_waits_for_what_is_pending() {
    let (dir, fs) = (tempfile::tempdir().unwrap(), SimFs::default());
    let connection = start(dir.path(), &fs).await;
    create(&connection, 1).await;
    send(&connection, Later::In(HOUR)).await;
    let stored_at = send(&connection, Later::In(1_500)).await;
    let connection = start(dir.path(), &fs.crash(1)).await;
    assert!(delivered_at(&connection, 0).await >= stored_at + 1_500);
    // Behind what was found at the start, and before it.
    let stored_at = send(&connection, Later::In(100)).await;
    assert!(delivered_at(&connection, 1).await >= stored_at + 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_forward_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(SetClock::default());
    let env = Env {
        fs: Arc::new(SimFs::default()),
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
    };
    let connection = connect_in(dir.path(), config(), &plugins(), env).await;
    create(&connection, 1).await;
    let stored_at = send(&connection, Later::In(2 * MINUTE)).await;
    clock.ahead.store(3 * MINUTE, Ordering::SeqCst);
    assert!(delivered_at(&connection, 0).await >= stored_at + 2 * MINUTE);
}

/// Polls until somebody is asked about a transaction: about which, and how often it was.
async fn asked(connection: &Connection) -> (LogPosition, u32) {
    let poll = PollTransactions {
        group: GroupName::new("p").unwrap(),
        messages: 1,
        wait_ms: 30_000,
    };
    let within = WITHIN + Duration::from_secs(30);
    let (reply, _) = connection.call(&poll, Vec::new(), within).await.unwrap();
    let check = reply.checks.first().expect("somebody is asked");
    (check.position, check.asked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_is_asked_about_a_transaction_when_it_is_time() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        transactions: Transactions {
            first_check: Duration::from_millis(300),
            check_every: Duration::from_millis(700),
            ..Transactions::default()
        },
        ..config()
    };
    let connection = connect(dir.path(), config, &plugins(), &SimFs::default()).await;
    create(&connection, 1).await;
    let half = || Later::OnCommit(GroupName::new("p").unwrap());
    for _ in 0..2 {
        let send = Send {
            later: Some(half()),
            ..Send::new(topic(), QueueId(0), 1)
        };
        let position = send_one(&connection, send).await.unwrap().position;
        // The one before is asked about again beside it.
        let mut known = Vec::new();
        while !known.contains(&(position, 2)) {
            known.push(asked(&connection).await);
        }
        assert!(known.contains(&(position, 1)), "{known:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_broker_that_is_gone_waits_on() {
    let env = Env {
        fs: Arc::new(SimFs::default()),
        clock: Arc::new(RealClock::default()),
    };
    let store = StoreConfig {
        segment_size: Some(1 << 20),
        ..StoreConfig::new("/data")
    };
    let dir = tempfile::tempdir().unwrap();
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.num_alive_tasks();
    let (broker, _) = Broker::open(config(), store, env, &plugins()).unwrap();
    let gone = Arc::downgrade(&broker);
    let listener = listen(dir.path());
    let serving = tokio::spawn(broker.serve(Arc::clone(&listener)));
    let has = |tasks: &dyn Fn(usize) -> bool| tasks(metrics.num_alive_tasks());
    until(|| has(&|it| it > before + CHORES)).await;
    listener.close(CloseReason::GoingAway);
    drop(listener);
    serving.await.unwrap();
    until(|| gone.strong_count() == 0 && has(&|it| it == before)).await;
}

async fn until(so: impl Fn() -> bool) {
    let so = async {
        while !so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WITHIN, so).await.unwrap();
}
