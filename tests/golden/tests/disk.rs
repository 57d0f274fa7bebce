//! Data directories of older versions, kept as they were written. Format 1 is read for ever; format 0
//! was a preview and is refused.
//!
//! Each folder of `store/v1` is a data directory whose segments lack the zeros at their end, and a
//! `listing` of what is in it. `QUERN_GOLDEN=write cargo test -p quern-golden` writes those that are
//! not there; none is ever written again.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fmt::Write as _;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quern_protocol::{
    Code, Message, ProducerBatch, ProducerId, QueueId, QueueOffset, RecordHeader, RecordKind,
    RecordView, TopicId,
};
use quern_store::audit::{Item, audit};
use quern_store::fs::RealFs;
use quern_store::{Append, Config, Env, Report, Retention, Stateless, Store};

const SEGMENT: u64 = 64 * 1024;

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("store")
        .join(path)
}

fn config(dir: &Path) -> Config {
    Config {
        segment_size: Some(SEGMENT),
        // Silence means nothing here.
        stamp_after: Duration::from_secs(3_600),
        retention: Retention {
            age: None,
            ..Retention::default()
        },
        ..Config::new(dir)
    }
}

fn open(dir: &Path) -> (Store, Report) {
    Store::open(config(dir), Env::real(), Box::new(Stateless)).unwrap()
}

fn append(store: &Store, queue: u32, sequence: u32, bodies: &[String]) {
    let block = |body: &String| {
        let message = Message::new("orders", body.clone());
        let message = message.tag("paid").key("order-42").prop("region", "eu");
        message.encode("0A0B0C", 1_700_000_000_000).unwrap()
    };
    let blocks: Vec<u8> = bodies.iter().flat_map(block).collect();
    // Closing makes it durable.
    drop(store.submit(Append {
        topic: TopicId(1),
        queue: QueueId(queue),
        blocks: blocks.into(),
        count: bodies.len() as u32,
        producer: (queue == 0).then_some(ProducerBatch {
            producer: ProducerId(7),
            epoch: 1,
            sequence,
        }),
        ..Append::default()
    }));
}

fn body(queue: u32, n: u32) -> String {
    format!("queue {queue} message {n} ").repeat(40)
}

/// Two segments and a part of a third, records of both kinds, batches of a producer.
fn write_whole(dir: &Path) {
    let (store, _) = open(dir);
    for round in 0..12 {
        for queue in 0..2 {
            let bodies: Vec<_> = (0..5).map(|n| body(queue, round * 5 + n)).collect();
            append(&store, queue, round, &bodies);
        }
        drop(store.submit_state(RecordKind::Topic, format!("state {round}").as_bytes()));
    }
    store.close().unwrap();
}

/// One more group, which is then damaged: a torn tail.
fn write_torn(dir: &Path) {
    write_whole(dir);
    let (store, report) = open(dir);
    let end = report.end.0;
    append(&store, 1, 0, &[body(1, 60)]);
    drop(store);
    let base = end / SEGMENT * SEGMENT;
    let path = dir.join(format!("commitlog/{base:020}.seg"));
    let mut bytes = fs::read(&path).unwrap();
    bytes[(end - base) as usize + 200] ^= 1;
    fs::write(&path, bytes).unwrap();
}

/// The torn tail was cut, and the log goes on behind it.
fn write_cut(dir: &Path) {
    write_torn(dir);
    let (store, report) = open(dir);
    assert!(report.torn.is_some());
    append(&store, 1, 0, &[body(1, 60)]);
    store.close().unwrap();
}

/// The directory without what is made anew, and without the zeros at the ends of segments.
fn keep(dir: &Path, frozen: &Path) {
    fs::create_dir_all(frozen.join("commitlog")).unwrap();
    for name in ["FORMAT", "checkpoint"] {
        fs::copy(dir.join(name), frozen.join(name)).unwrap();
    }
    for entry in fs::read_dir(dir.join("commitlog")).unwrap() {
        let name = entry.unwrap().file_name();
        let bytes = fs::read(dir.join("commitlog").join(&name)).unwrap();
        let used = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |at| at + 1);
        if name.to_string_lossy().ends_with(".seg") {
            fs::write(frozen.join("commitlog").join(&name), &bytes[..used]).unwrap();
        }
    }
    fs::write(frozen.join("listing"), listing(dir)).unwrap();
}

/// A copy that a store can use.
fn bring(frozen: &Path, dir: &Path) {
    fs::create_dir_all(dir.join("commitlog")).unwrap();
    for name in ["FORMAT", "checkpoint"] {
        fs::copy(frozen.join(name), dir.join(name)).unwrap();
    }
    for entry in fs::read_dir(frozen.join("commitlog")).unwrap() {
        let name = entry.unwrap().file_name();
        let path = dir.join("commitlog").join(&name);
        fs::copy(frozen.join("commitlog").join(&name), &path).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_len(SEGMENT).unwrap();
    }
}

fn listing(dir: &Path) -> String {
    let mut out = String::new();
    let found = audit(dir, &RealFs, &mut |item| {
        match item {
            Item::Segment { file, size, .. } => writeln!(out, "segment {file} {size}").unwrap(),
            Item::Group {
                position,
                bytes,
                records,
                kind,
                ..
            } => writeln!(out, "{position} {kind} {bytes} bytes, {records} records").unwrap(),
            Item::Recalled { kind, .. } => writeln!(out, "recalled {kind:?}").unwrap(),
            Item::Record { header, bytes } => writeln!(out, "{}", line(&header, bytes)).unwrap(),
        }
        ControlFlow::Continue(())
    });
    writeln!(out, "{:?}", found.unwrap()).unwrap();
    out
}

fn line(header: &RecordHeader, bytes: &[u8]) -> String {
    let view = RecordView::parse(bytes).unwrap();
    let RecordHeader {
        position,
        queue_offset,
        topic,
        queue,
        epoch,
        kind,
        extensions,
        ..
    } = header;
    let (tag, keys) = (view.block.tag(), view.block.keys());
    format!(
        "{position} {kind:?} {topic}/{queue}/{queue_offset} epoch {epoch} {extensions:?} {tag} {keys} {} bytes",
        view.block.stored_body().len()
    )
}

fn bodies(store: &Store, queue: u32) -> Vec<String> {
    let all = store.entries(TopicId(1), QueueId(queue), QueueOffset(0), usize::MAX);
    let body = |entry: &quern_store::Entry| {
        let record = store.record(entry).unwrap();
        let view = RecordView::parse(&record).unwrap();
        String::from_utf8(view.block.stored_body().to_vec()).unwrap()
    };
    all.unwrap().iter().map(body).collect()
}

#[test]
fn logs_of_format_1_are_read_as_they_were_written() {
    /// Name, who wrote it, whether its tail is torn, messages of queue 1.
    type Case = (&'static str, fn(&Path), bool, u32);
    let cases: [Case; 3] = [
        ("v1/whole", write_whole, false, 60),
        ("v1/torn", write_torn, true, 60),
        ("v1/cut", write_cut, false, 61),
    ];
    for (name, write, is_torn, expected) in cases {
        let frozen = golden(name);
        if !frozen.join("listing").exists() {
            let writing = std::env::var_os("QUERN_GOLDEN").is_some_and(|it| it == "write");
            assert!(writing, "store/{name} is gone; it is frozen for ever");
            let dir = tempfile::tempdir().unwrap();
            write(dir.path());
            keep(dir.path(), &frozen);
        }
        let dir = tempfile::tempdir().unwrap();
        bring(&frozen, dir.path());
        let was = fs::read_to_string(frozen.join("listing")).unwrap();
        assert_eq!(listing(dir.path()), was, "{name}");
        let (store, report) = open(dir.path());
        assert_eq!(report.torn.is_some(), is_torn, "{name}: {report:?}");
        for (queue, count) in [(0, 60), (1, expected)] {
            let found = bodies(&store, queue);
            let all: Vec<_> = (0..count).map(|n| body(queue, n)).collect();
            assert!(found == all, "{name}: {} of queue {queue}", found.len());
        }
    }
}

#[test]
fn format_0_is_refused_and_left_alone() {
    let frozen = golden("v0");
    let dir = tempfile::tempdir().unwrap();
    bring(&frozen, dir.path());
    let error = Store::open(config(dir.path()), Env::real(), Box::new(Stateless)).unwrap_err();
    assert_eq!(error.code(), Code::FORMAT_UNKNOWN, "{error}");
    assert!(error.to_string().contains("format 0"), "{error}");
    for name in ["FORMAT", "checkpoint"] {
        let (then, now) = (fs::read(frozen.join(name)), fs::read(dir.path().join(name)));
        assert_eq!(then.unwrap(), now.unwrap());
    }
    assert!(!dir.path().join("lock").exists());
}
