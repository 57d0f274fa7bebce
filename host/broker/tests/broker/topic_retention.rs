//! Topics that keep their messages for less than the log does, on a disk that cannot be read for a while.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quern_broker::Broker;
use quern_plugins::Runtime;
use quern_protocol::{
    Cleanup, CreateTopic, Message, OffsetRange, QueueId, QueueOffset, Send, SetTopic, TopicName,
    TopicSetting,
};
use quern_quic::Connection;
use quern_store::clock::RealClock;
use quern_store::fs::Fs;
use quern_store::sim::{Fault, SECTOR, SimFs};
use quern_store::{Config as StoreConfig, Env};

use crate::{WITHIN, ask, config, serve};

const SENT: u32 = 3;
const SEGMENT: u64 = 1 << 20;
const HOUR: u64 = 3_600_000;

fn open(fs: &SimFs, plugins: &Runtime) -> Arc<Broker> {
    let env = Env {
        fs: Arc::new(fs.clone()),
        clock: Arc::new(RealClock::default()),
    };
    let store = StoreConfig {
        segment_size: Some(SEGMENT),
        ..StoreConfig::new("/data")
    };
    Broker::open(config(), store, env, plugins).unwrap().0
}

fn name(topic: &str) -> TopicName {
    TopicName::new(topic).unwrap()
}

async fn fill(connection: &Connection, topic: &str, settings: &[TopicSetting]) {
    let create = CreateTopic {
        settings: settings.to_vec(),
        ..CreateTopic::new(name(topic), 1)
    };
    ask(connection, &create).await;
    let block = |n| Message::new(topic, "x").key("k").encode(&format!("{n}"), 0);
    let blocks = (0..SENT).map(|n| block(n).unwrap()).collect();
    let send = Send::new(name(topic), QueueId(0), SENT);
    connection.call(&send, blocks, WITHIN).await.unwrap();
}

async fn set(connection: &Connection, topic: &str, settings: &[TopicSetting]) {
    let set = SetTopic {
        topic: name(topic),
        settings: settings.to_vec(),
    };
    ask(connection, &set).await;
}

/// Waits until the queue begins there.
async fn begins_at(connection: &Connection, topic: &str, first: u32) {
    let range = OffsetRange {
        topic: name(topic),
        queue: QueueId(0),
    };
    let there = async {
        while ask(connection, &range).await.min != QueueOffset(first.into()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let there = tokio::time::timeout(WITHIN, there).await;
    there.unwrap_or_else(|_| panic!("{topic} does not begin at {first}"));
}

/// From now on what the log has on the disk cannot be read.
fn cannot_be_read(fs: &SimFs) {
    let dir = Path::new("/data/commitlog");
    let segments = fs.list(dir).unwrap();
    for segment in segments.iter().filter(|it| it.ends_with(".seg")) {
        for sector in 0..SEGMENT as usize / SECTOR {
            fs.make_unreadable(&dir.join(segment), sector);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_looked_through_at_the_start_is_soon() {
    let dir = tempfile::tempdir().unwrap();
    let plugins = Runtime::new(&quern_plugins::Config::default()).unwrap();
    let fs = SimFs::default();
    let connection = serve(dir.path(), open(&fs, &plugins)).await;
    fill(
        &connection,
        "short",
        &[TopicSetting::Retention(Some(1_000))],
    )
    .await;
    begins_at(&connection, "short", SENT).await;

    let fs = fs.crash(1);
    let broker = open(&fs, &plugins);
    fs.inject(Some(Fault::ReadError(0)));
    let connection = serve(dir.path(), broker).await;
    begins_at(&connection, "short", SENT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_cannot_be_read_does_not_keep_others_where_they_began() {
    let dir = tempfile::tempdir().unwrap();
    let plugins = Runtime::new(&quern_plugins::Config::default()).unwrap();
    let fs = SimFs::default();
    let connection = serve(dir.path(), open(&fs, &plugins)).await;
    fill(
        &connection,
        "short",
        &[TopicSetting::Retention(Some(1_000))],
    )
    .await;
    fill(&connection, "unreadable", &[]).await;
    begins_at(&connection, "short", SENT).await;

    // In its next life a broker has what was sent before on the disk only.
    let fs = fs.crash(1);
    let connection = serve(dir.path(), open(&fs, &plugins)).await;
    begins_at(&connection, "short", SENT).await;
    cannot_be_read(&fs);
    for hours in 1..5 {
        let retention = TopicSetting::Retention(Some(hours * HOUR));
        set(&connection, "unreadable", &[retention]).await;
    }
    let compacted = [
        TopicSetting::Cleanup(Cleanup::Compact),
        TopicSetting::Retention(None),
    ];
    set(&connection, "short", &compacted).await;
    begins_at(&connection, "short", 0).await;
}
