//! What becomes of messages a filter fails on, as their group wants it: they wait, are passed with a note, or
//! become dead letters. Whatever is interrupted, none is lost and none comes twice.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use quern_broker::Config;
use quern_plugins::{HOSTILE, Runtime};
use quern_protocol::record::records;
use quern_protocol::retry::{ORIGIN_OFFSET, REASON, UNJUDGED, dead_letter_topic};
use quern_protocol::{
    Code, Filter, FilterFailure, GroupName, GroupSetting, OffsetRange, PluginHealth, Pop, Pull,
    PullReply, QueueId, QueueOffset, RecordView, SetGroup, TopicName, VersionHealth,
};
use quern_quic::Connection;
use quern_store::sim::SimFs;

use crate::{WITHIN, ask, ask_and_leave, config, connect, fill, topic};

async fn broker(dir: &Path, fs: &SimFs) -> Connection {
    let plugins = Runtime::new(&quern_plugins::Config::default()).unwrap();
    let config = Config {
        filters: vec![plugins.load("hostile", HOSTILE).unwrap()],
        ..config()
    };
    connect(dir, config, &plugins, fs).await
}

fn group(name: &str) -> GroupName {
    GroupName::new(name).unwrap()
}

async fn set(connection: &Connection, name: &str, policy: FilterFailure) {
    let settings = vec![GroupSetting::OnFilterFailure(policy)];
    let group = group(name);
    let holds = ask(connection, &SetGroup { group, settings }).await;
    let told = holds
        .settings
        .contains(&GroupSetting::OnFilterFailure(policy));
    assert_eq!(told, policy != FilterFailure::Stall);
}

/// A message: tag, and a note of its record.
type Seen = (String, Option<String>);

fn seen(body: &Bytes, note: &str) -> Vec<Seen> {
    let seen = records(body).map(|record| {
        let record = record.unwrap();
        let view = RecordView::parse(&record).unwrap();
        let note = view.notes.get(note).map(str::to_owned);
        (view.block.tag().to_owned(), note)
    });
    seen.collect()
}

fn filter(text: &str) -> Filter {
    Filter::Expression {
        language: "HOSTILE".to_owned(),
        text: text.to_owned(),
    }
}

fn request(name: &str, from: u64, how: &str) -> Pull {
    Pull {
        broadcast: false,
        group: Some(group(name)),
        topic: topic(),
        queue: QueueId(0),
        from: QueueOffset(from),
        max_messages: 1_000,
        max_bytes: 1 << 20,
        wait_ms: 0,
        filter: filter(how),
    }
}

async fn pull(connection: &Connection, name: &str, from: u64, how: &str) -> (PullReply, Vec<Seen>) {
    let pull = request(name, from, how);
    let (reply, body) = connection.call(&pull, Vec::new(), WITHIN).await.unwrap();
    let seen = seen(&body, UNJUDGED);
    (reply, seen)
}

fn tags(seen: &[Seen]) -> Vec<&str> {
    seen.iter().map(|(tag, _)| &tag[..]).collect()
}

/// Offsets and reasons of a group's dead letters.
async fn dead(connection: &Connection, name: &str) -> Vec<(String, String)> {
    let pull = |topic: TopicName| Pull {
        broadcast: false,
        group: None,
        topic,
        queue: QueueId(0),
        from: QueueOffset(0),
        max_messages: 1_000,
        max_bytes: 1 << 20,
        wait_ms: 0,
        filter: Filter::All,
    };
    let topic = dead_letter_topic(&group(name)).unwrap();
    let answer = connection.call(&pull(topic), Vec::new(), WITHIN).await;
    let Ok((_, body)) = answer else {
        return Vec::new();
    };
    let offsets = seen(&body, ORIGIN_OFFSET).into_iter();
    let both = offsets.zip(seen(&body, REASON));
    both.map(|((_, offset), (_, why))| (offset.unwrap(), why.unwrap()))
        .collect()
}

async fn health(connection: &Connection) -> VersionHealth {
    let versions = ask(connection, &PluginHealth {}).await.versions;
    let mut ours = versions
        .into_iter()
        .filter(|it| it.plugin.as_str() == "hostile");
    ours.next().unwrap()
}

const SENT: [&str; 6] = ["a", "poison", "b", "poison", "poison", "c"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_filter_fails_on_is_passed_with_a_note_where_a_group_wants_that() {
    let dir = tempfile::tempdir().unwrap();
    let connection = broker(dir.path(), &SimFs::default()).await;
    fill(&connection, &SENT).await;
    set(&connection, "g", FilterFailure::Pass).await;
    // Another group waits there already, and neither notices the other.
    let (reply, stalled) = pull(&connection, "other", 0, "poison").await;
    assert_eq!((tags(&stalled), reply.next), (vec!["a"], QueueOffset(1)));
    assert!(reply.stall.is_some());
    for from in [0, 1] {
        let (reply, passed) = pull(&connection, "g", from, "poison").await;
        assert_eq!(tags(&passed), SENT[from as usize..]);
        assert_eq!((reply.next, reply.stall), (QueueOffset(6), None));
        let code = Code::PLUGIN_TRAP.number.to_string();
        for (tag, note) in passed {
            assert_eq!(note, (tag == "poison").then(|| code.clone()), "{tag}");
        }
    }
    let it = health(&connection).await;
    assert_eq!((it.unjudged.stalled, it.unjudged.passed), (1, 6));
    assert!(it.faults.traps > 0 && it.last_fault.contains("Q-4301"));
    // Whatever it does, and to all: every message comes, once, in order.
    for (how, code) in [
        ("loop", 4302),
        ("bomb", 4303),
        ("short", 4304),
        ("fail", 4305),
    ] {
        let (mut next, mut all) = (0, Vec::new());
        while next < 6 {
            let (reply, seen) = pull(&connection, "g", next, how).await;
            assert!(
                reply.stall.is_none() && reply.next.0 > next,
                "{how}: {reply:?}"
            );
            next = reply.next.0;
            all.extend(seen);
        }
        assert_eq!(tags(&all), SENT, "{how}");
        let is_noted = |(_, note): &Seen| note.as_deref() == Some(&code.to_string());
        assert!(all.iter().all(is_noted), "{how}: {all:?}");
    }
    set(&connection, "g", FilterFailure::Stall).await;
    let (reply, _) = pull(&connection, "g", 0, "poison").await;
    assert!(reply.stall.is_some(), "it is as it usually is again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_filter_fails_on_is_a_dead_letter_once_where_a_group_wants_that() {
    let dir = tempfile::tempdir().unwrap();
    let fs = SimFs::default();
    let connection = broker(dir.path(), &fs).await;
    fill(&connection, &SENT).await;
    set(&connection, "g", FilterFailure::Park).await;
    for _ in 0..3 {
        let (reply, seen) = pull(&connection, "g", 0, "poison").await;
        assert_eq!(tags(&seen), ["a", "b", "c"]);
        assert_eq!((reply.next, reply.stall), (QueueOffset(6), None));
    }
    let letters = dead(&connection, "g").await;
    let offsets: Vec<_> = letters.iter().map(|(offset, _)| &offset[..]).collect();
    assert_eq!(offsets, ["1", "3", "4"]);
    assert!(
        letters.iter().all(|(_, why)| why.contains("Q-4301")),
        "{letters:?}"
    );
    assert_eq!(health(&connection).await.unjudged.parked, 3);
    // A filter that has come to its senses finds them where they are.
    let (_, seen) = pull(&connection, "g", 0, "all").await;
    assert_eq!(tags(&seen), ["a", "b", "c"]);
    let (_, seen) = pull(&connection, "other", 0, "all").await;
    assert_eq!(tags(&seen), SENT);
    drop(connection);
    let connection = broker(dir.path(), &fs.crash(3)).await;
    let (_, seen) = pull(&connection, "g", 0, "poison").await;
    assert_eq!(tags(&seen), ["a", "b", "c"]);
    assert_eq!(dead(&connection, "g").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn popped_messages_are_parked_too() {
    let dir = tempfile::tempdir().unwrap();
    let connection = broker(dir.path(), &SimFs::default()).await;
    fill(&connection, &SENT).await;
    set(&connection, "g", FilterFailure::Park).await;
    let pop = Pop {
        group: group("g"),
        topic: topic(),
        queue: None,
        max_messages: 100,
        max_bytes: 1 << 20,
        invisible_ms: 60_000,
        wait_ms: 0,
        in_order: false,
        from_first: true,
        filter: filter("poison"),
        attempt: None,
    };
    let (reply, body) = connection.call(&pop, Vec::new(), WITHIN).await.unwrap();
    assert_eq!(tags(&seen(&body, UNJUDGED)), ["a", "b", "c"]);
    assert_eq!((reply.messages.len(), reply.stall), (3, None));
    assert_eq!(dead(&connection, "g").await.len(), 3);
    let (reply, _) = connection.call(&pop, Vec::new(), WITHIN).await.unwrap();
    assert!(reply.messages.is_empty());
    assert_eq!(dead(&connection, "g").await.len(), 3);
}

/// Waits until the start has mended what the crash left, and looks at the dead letters there are then.
async fn mended(connection: &Connection) -> usize {
    let range = OffsetRange {
        topic: topic(),
        queue: QueueId(0),
    };
    ask(connection, &range).await;
    let mut letters = dead(connection, "g").await.len();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        letters = letters.max(dead(connection, "g").await.len());
    }
    letters
}

/// The dead letters once there are three: a start mends what is missing beside what it serves.
async fn all_dead(connection: &Connection) -> Vec<(String, String)> {
    let there = async {
        loop {
            let letters = dead(connection, "g").await;
            if letters.len() >= 3 {
                return letters;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let there = tokio::time::timeout(WITHIN, there).await;
    there.expect("the dead letters that are missing are written")
}

/// Whoever asked goes away while the first record of parking waits for the disk, or once it is there: the dead letters are
/// written all the same, and no start has to find out that they are missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn who_goes_away_while_parking_leaves_no_message_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let fs = SimFs::default();
    let connection = broker(dir.path(), &fs).await;
    fill(&connection, &SENT).await;
    set(&connection, "g", FilterFailure::Park).await;
    let asked = request("g", 0, "poison");
    ask_and_leave(dir.path(), (&connection, &fs), asked).await;
    let letters = all_dead(&connection).await;
    let offsets: Vec<_> = letters.iter().map(|(offset, _)| &offset[..]).collect();
    assert_eq!(offsets, ["1", "3", "4"]);
    let (reply, seen) = pull(&connection, "g", 0, "poison").await;
    assert_eq!(
        (tags(&seen), reply.next),
        (vec!["a", "b", "c"], QueueOffset(6))
    );
}

/// Images of the disk while the first record of parking waits for its sync. The record may lie in two sectors, and
/// is there in the fourth part of them.
const HELD: usize = 32;

/// The disk at many moments of parking, as a power cut would leave it: from each, every message comes once or
/// is a dead letter once.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_crash_while_parking_loses_nothing_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let fs = SimFs::default();
    let connection = broker(dir.path(), &fs).await;
    fill(&connection, &SENT).await;
    set(&connection, "g", FilterFailure::Park).await;
    let held = fs.hold_syncs();
    let pulling = tokio::spawn(async move { pull(&connection, "g", 0, "poison").await });
    let held = tokio::task::spawn_blocking(move || {
        held.wait_for(1);
        held
    });
    let held = held.await.unwrap();
    let mut images: Vec<SimFs> = (0..HELD as u64).map(|seed| fs.crash(seed)).collect();
    drop(held);
    while !pulling.is_finished() {
        images.push(fs.crash(images.len() as u64));
        tokio::task::yield_now().await;
    }
    let (_, seen) = pulling.await.unwrap();
    assert_eq!(tags(&seen), ["a", "b", "c"]);
    images.push(fs.crash(0));
    let spread = (images.len() - HELD).div_ceil(16);
    let later = images[HELD..].iter().step_by(spread);
    let mut by_mending = false;
    for (number, image) in images[..HELD].iter().chain(later).enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let connection = broker(dir.path(), image).await;
        // No dead letter was written yet when these were taken.
        by_mending |= !by_mending && number < HELD && mended(&connection).await == 3;
        let (reply, seen) = pull(&connection, "g", 0, "poison").await;
        let right = (vec!["a", "b", "c"], QueueOffset(6));
        assert_eq!((tags(&seen), reply.next), right, "image {number}");
        let letters = all_dead(&connection).await;
        let offsets: Vec<_> = letters.iter().map(|(offset, _)| &offset[..]).collect();
        assert_eq!(offsets, ["1", "3", "4"], "image {number}");
    }
    assert!(
        by_mending,
        "no start had to do with what is parked and not buried"
    );
}
