//! Drives a store through a script by hand, on one thread, and says what was acknowledged before it
//! goes on; a later run is told what an earlier one said, and checks that it is there. For tests that
//! kill it at every call it makes, or cut its power.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use quern_protocol::{Epoch, Message, QueueId, QueueOffset, RecordKind, RecordView, TopicId};

use crate::clock::ManualClock;
use crate::fs::Fs;
use crate::{
    Append, AppendError, Appended, CloseError, Config, Dispatched, Entry, Env, Keep, KeptTopics,
    Observer, OpenError, Part, Pending, ReadError, Report, Retention, StateRecord, Steps, Store,
};

/// What a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// Batches and state records, a silence between them.
    Write,
    /// Enough for several segments.
    Roll,
    /// A torn group at the end, which the next start cuts off.
    Truncate,
    /// Starts that follow no clean end.
    Recover,
    /// Clean ends.
    Checkpoint,
    /// More than is kept: state files, snapshots, and segments that go.
    Retain,
    /// What is too old goes, but for what topics keep: all of one, of another the newest of each key.
    Keep,
}

/// Names of the scripts.
pub const SCRIPTS: [(&str, Script); 7] = [
    ("write", Script::Write),
    ("roll", Script::Roll),
    ("truncate", Script::Truncate),
    ("recover", Script::Recover),
    ("checkpoint", Script::Checkpoint),
    ("retain", Script::Retain),
    ("keep", Script::Keep),
];

/// A promise was broken, or the store would not work.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error("{0}")]
    Promise(String),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Close(#[from] CloseError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

const TOPIC: TopicId = TopicId(1);
/// Queues that messages go to.
pub const QUEUES: u32 = 3;
const SEGMENT: u64 = 64 * 1024;
const HOUR: u64 = 60 * 60 * 1000;
/// Keeps all its messages.
const KEPT: TopicId = TopicId(2);
/// Keeps the newest message of each key.
const COMPACTED: TopicId = TopicId(3);
const KEYS: u64 = 5;

/// The text of a message; its number is in it all through.
pub fn text(number: u64) -> String {
    format!("{number} ").repeat((number * 37 % 300) as usize + 1)
}

/// The number of a message, if it is one of ours and whole.
fn number(found: &str) -> Option<u64> {
    let number = found.split(' ').next()?.parse().ok()?;
    (text(number) == found).then_some(number)
}

/// A batch of messages for a queue.
pub fn batch(queue: u32, numbers: impl Iterator<Item = u64>) -> Append {
    let blocks: Vec<_> = numbers
        .map(|number| {
            let message = Message::new("exercise", text(number));
            message.encode("", 0).expect("a short message has no flaw")
        })
        .collect();
    Append {
        topic: TOPIC,
        queue: QueueId(queue),
        count: blocks.len() as u32,
        blocks: blocks.concat().into(),
        ..Append::default()
    }
}

/// Where the first messages of every queue are.
pub fn first_entries(store: &Store, most: usize) -> Result<Vec<Entry>, ReadError> {
    let mut all = Vec::new();
    for queue in 0..QUEUES {
        all.extend(store.entries(TOPIC, QueueId(queue), QueueOffset(0), most)?);
    }
    Ok(all)
}

/// What was acknowledged.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// By queue and offset: which message.
    messages: BTreeMap<(u32, u64), u64>,
    states: Vec<u64>,
    /// By topic and offset, of those that outlive their segments.
    kept: BTreeMap<(u32, u64), u64>,
    epoch: Epoch,
}

impl Ledger {
    /// From what runs have said; of the last line some may be missing.
    pub fn read(said: &str) -> Self {
        let mut ledger = Self::default();
        let whole = said.rfind('\n').map_or("", |end| &said[..end]);
        for line in whole.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let at = |index: usize| words.get(index).and_then(|it| it.parse::<u64>().ok());
            match (words.first().copied(), at(1), at(2), at(3)) {
                (Some("stored"), Some(queue), Some(offset), Some(number)) => {
                    ledger.note(queue as u32, offset, number);
                }
                (Some("kept"), Some(topic), Some(offset), Some(number)) => {
                    ledger.kept.insert((topic as u32, offset), number);
                }
                (Some("state"), Some(number), ..) => ledger.states.push(number),
                (Some("epoch"), Some(epoch), ..) => ledger.epoch = Epoch(epoch as u32),
                _ => {}
            }
        }
        ledger
    }

    /// A message has been acknowledged at this place.
    pub fn note(&mut self, queue: u32, offset: u64, number: u64) {
        self.messages.insert((queue, offset), number);
    }

    /// How many messages and state records.
    pub fn len(&self) -> usize {
        self.messages.len() + self.states.len() + self.kept.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether all of it is in a store, and nothing there that was never written; the highest number
    /// found.
    pub fn check(&self, store: &Store, heard: &[String]) -> Result<u64, Broken> {
        let mut last = 0;
        for queue in 0..QUEUES {
            let (first, _) = store.range(TOPIC, QueueId(queue));
            let (_, found) = read(store, TOPIC, QueueId(queue))?;
            last = last.max(ascending(&format!("queue {queue}"), &found)?);
            // What is before the first was let go.
            for ((_, offset), due) in self.messages.range((queue, first.0)..(queue + 1, 0)) {
                let there = found.get((*offset - first.0) as usize);
                let there = there.and_then(|it| number(it));
                if there != Some(*due) {
                    let lost = format!("message {due} was acknowledged at offset {offset}");
                    return Err(Broken::Promise(format!(
                        "{lost} of queue {queue}: {there:?} is there"
                    )));
                }
            }
        }
        for topic in [KEPT, COMPACTED] {
            last = last.max(self.check_kept(store, topic)?);
        }
        last = last.max(ascending("state", heard)?);
        for due in &self.states {
            if !heard.iter().any(|it| number(it) == Some(*due)) {
                return Err(Broken::Promise(format!(
                    "state record {due} was acknowledged, and is gone"
                )));
            }
        }
        Ok(last)
    }

    /// The same of messages that outlive their segments: each is there at its offset, or of a compacted topic a newer
    /// one of its key.
    fn check_kept(&self, store: &Store, topic: TopicId) -> Result<u64, Broken> {
        let (offsets, found) = read(store, topic, QueueId(0))?;
        let last = ascending(&format!("topic {topic}"), &found)?;
        let numbers = found.iter().filter_map(|it| number(it));
        let there: BTreeMap<u64, u64> = offsets.into_iter().zip(numbers).collect();
        for ((_, offset), due) in self.kept.range((topic.0, 0)..(topic.0 + 1, 0)) {
            let is_there = match there.get(offset) {
                Some(found) => found == due,
                None if topic == COMPACTED => {
                    let mut behind = there.range(offset..);
                    behind.any(|(_, newer)| newer % KEYS == due % KEYS)
                }
                None => false,
            };
            if !is_there {
                return Err(Broken::Promise(format!(
                    "message {due} was acknowledged at offset {offset} of topic {topic}, which keeps it: {there:?} are there"
                )));
            }
        }
        Ok(last)
    }
}

/// Offsets and texts of what is in a queue.
fn read(store: &Store, topic: TopicId, queue: QueueId) -> Result<(Vec<u64>, Vec<String>), Broken> {
    let (first, _) = store.range(topic, queue);
    let (mut offsets, mut texts) = (Vec::new(), Vec::new());
    for entry in store.entries(topic, queue, first, usize::MAX)? {
        let record = store.record(&entry)?;
        let view =
            RecordView::parse(&record).map_err(|error| Broken::Promise(error.to_string()))?;
        offsets.push(entry.offset.0);
        texts.push(String::from_utf8_lossy(view.block.stored_body()).into_owned());
    }
    Ok((offsets, texts))
}

/// What was submitted in the order of its numbers is in the log once and in that order.
fn ascending(what: &str, found: &[String]) -> Result<u64, Broken> {
    let mut last = 0;
    for (index, text) in found.iter().enumerate() {
        let number = number(text).ok_or_else(|| {
            let begin: String = text.chars().take(20).collect();
            Broken::Promise(format!(
                "{what} has at {index} what nobody wrote: {begin:?}"
            ))
        })?;
        if number <= last {
            return Err(Broken::Promise(format!(
                "{what} has {number} at {index}, behind {last}"
            )));
        }
        last = number;
    }
    Ok(last)
}

/// Runs a script on a directory. First what earlier runs have said is looked for; at the end, what
/// this one has said, too. `say` gets whole lines, before anything else is done.
pub fn run(
    dir: &Path,
    fs: Arc<dyn Fs>,
    script: Script,
    said: &str,
    say: &mut dyn FnMut(&str) -> io::Result<()>,
) -> Result<(), Broken> {
    let mut exercise = Exercise {
        dir: dir.to_owned(),
        fs,
        said: said.to_owned(),
        say,
        clock: Arc::new(ManualClock::default()),
        next: 1,
        is_bounded: script == Script::Retain,
        keeps: script == Script::Keep,
    };
    exercise.clock.jump_to(1_700_000_000_000);
    exercise.script(script)?;
    let life = exercise.open()?;
    life.steps.close()?;
    Ok(())
}

/// A store that runs.
struct Life {
    store: Store,
    steps: Steps,
    report: Report,
}

struct Exercise<'a> {
    dir: PathBuf,
    fs: Arc<dyn Fs>,
    said: String,
    say: &'a mut dyn FnMut(&str) -> io::Result<()>,
    clock: Arc<ManualClock>,
    next: u64,
    /// The log has few segments.
    is_bounded: bool,
    /// It has those of an hour, and there are topics that keep more.
    keeps: bool,
}

/// Remembers state records.
struct Listener {
    heard: Arc<Mutex<Vec<String>>>,
    keeps: bool,
}

impl Observer for Listener {
    fn dispatched(&mut self, event: Dispatched<'_>) {
        if let Dispatched::State { body, .. } = event
            && let Ok(mut heard) = self.heard.lock()
        {
            heard.push(String::from_utf8_lossy(body).into_owned());
        }
    }

    fn snapshot(&mut self) -> Vec<StateRecord> {
        let heard = self.heard.lock();
        let heard = heard.map(|it| it.clone()).unwrap_or_default();
        let record = |body: String| StateRecord {
            kind: RecordKind::OffsetCommit,
            body: body.into_bytes(),
        };
        heard.into_iter().map(record).collect()
    }

    fn kept_topics(&self) -> KeptTopics {
        let newest = Keep::Newest { tombstones: 0 };
        let all = [(KEPT, Keep::For(u64::MAX)), (COMPACTED, newest)];
        all.into_iter().filter(|_| self.keeps).collect()
    }
}

impl Exercise<'_> {
    fn script(&mut self, script: Script) -> Result<(), Broken> {
        match script {
            Script::Write => {
                let mut life = self.open()?;
                self.fill(&mut life, 4, 1)?;
                self.be_silent(&mut life);
                self.fill(&mut life, 3, 1)
            }
            Script::Roll => {
                let mut life = self.open()?;
                let first = life.store.durable().0 / SEGMENT;
                while life.store.durable().0 / SEGMENT < first + 3 {
                    self.fill(&mut life, 4, 20)?;
                }
                Ok(())
            }
            Script::Retain => {
                let mut life = self.open()?;
                let first = life.store.durable().0 / SEGMENT;
                while life.store.durable().0 / SEGMENT < first + 6 {
                    self.fill(&mut life, 4, 20)?;
                    while life.steps.step(Part::Keeper) {}
                }
                Ok(())
            }
            Script::Keep => {
                let mut life = self.open()?;
                for _ in 0..2 {
                    self.let_go(&mut life)?;
                }
                match life.store.range(TOPIC, QueueId(0)).0 {
                    QueueOffset(0) => Err(Broken::Promise("no segment went".to_owned())),
                    _ => Ok(()),
                }
            }
            Script::Truncate => {
                let mut life = self.open()?;
                self.fill(&mut life, 3, 1)?;
                drop(life);
                self.tear()?;
                let mut life = self.open()?;
                self.fill(&mut life, 2, 1)
            }
            Script::Recover => {
                for _ in 0..3 {
                    let mut life = self.open()?;
                    self.fill(&mut life, 2, 1)?;
                }
                Ok(())
            }
            Script::Checkpoint => {
                for _ in 0..3 {
                    let mut life = self.open()?;
                    self.fill(&mut life, 2, 1)?;
                    life.steps.close()?;
                }
                Ok(())
            }
        }
    }

    /// Opens the store and checks what is owed so far.
    fn open(&mut self) -> Result<Life, Broken> {
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let observer = Box::new(Listener {
            heard: Arc::clone(&heard),
            keeps: self.keeps,
        });
        let config = Config {
            segment_size: Some(SEGMENT),
            stamp_after: Duration::from_millis(50),
            checkpoint_every: SEGMENT,
            retention: Retention {
                age: self.keeps.then(|| Duration::from_millis(HOUR)),
                bytes: self.is_bounded.then_some(3 * SEGMENT),
                hours: Vec::new(),
            },
            ..Config::new(&self.dir)
        };
        let env = Env {
            fs: Arc::clone(&self.fs),
            clock: Arc::clone(&self.clock) as _,
        };
        let (store, report, steps) = Store::open_in_steps(&config, env, observer)?;
        let ledger = Ledger::read(&self.said);
        let heard = heard.lock().map(|it| it.clone()).unwrap_or_default();
        self.next = self.next.max(ledger.check(&store, &heard)? + 1);
        let rises = report.epoch > ledger.epoch || report.clean && report.epoch == ledger.epoch;
        if !rises {
            let (before, now) = (ledger.epoch, report.epoch);
            return Err(Broken::Promise(format!("epoch {now} follows {before}")));
        }
        self.tell(&format!("epoch {}", report.epoch))?;
        Ok(Life {
            store,
            steps,
            report,
        })
    }

    fn tell(&mut self, line: &str) -> Result<(), Broken> {
        self.said += line;
        self.said.push('\n');
        Ok((self.say)(&format!("{line}\n"))?)
    }

    /// So many batches of so many messages and up to three more, and a state record.
    fn fill(&mut self, life: &mut Life, batches: u64, messages: u64) -> Result<(), Broken> {
        for turn in 0..batches {
            let queue = (turn % u64::from(QUEUES)) as u32;
            let numbers = self.next..self.next + messages + turn % 4;
            self.next = numbers.end;
            let pending = life.store.submit(batch(queue, numbers.clone()));
            let appended = finish(&mut life.steps, pending)?;
            let stored: Vec<String> = numbers
                .zip(appended.first.0..)
                .map(|(number, offset)| format!("stored {queue} {offset} {number}"))
                .collect();
            self.tell(&stored.join("\n"))?;
        }
        let body = text(self.next).into_bytes();
        let pending = life.store.submit_state(RecordKind::OffsetCommit, &body);
        finish(&mut life.steps, pending)?;
        self.tell(&format!("state {}", self.next))?;
        self.next += 1;
        Ok(())
    }

    /// Messages that are kept, among others, in more than a segment; then all of it is old enough to go.
    fn let_go(&mut self, life: &mut Life) -> Result<(), Broken> {
        let first = life.store.durable().0 / SEGMENT;
        while life.store.durable().0 / SEGMENT < first + 2 {
            self.keep(life, KEPT)?;
            self.keep(life, COMPACTED)?;
            self.fill(life, 1, 70)?;
        }
        self.clock.pass(2 * HOUR);
        // A snapshot, copies of what is kept, and what is before them goes.
        for _ in 0..5 {
            self.clock.pass(11_000);
            while life.steps.step(Part::Keeper) {}
            while turn(&mut life.steps) {}
        }
        Ok(())
    }

    /// Some messages of a topic that keeps them, one of each key and one more.
    fn keep(&mut self, life: &mut Life, topic: TopicId) -> Result<(), Broken> {
        let numbers = self.next..self.next + KEYS + 1;
        self.next = numbers.end;
        let block = |number| {
            let message = Message::new("exercise", text(number));
            let message = message.key(&format!("key{}", number % KEYS));
            message.encode("", 0).expect("a short message has no flaw")
        };
        let blocks: Vec<_> = numbers.clone().map(block).collect();
        let pending = life.store.submit(Append {
            topic,
            count: blocks.len() as u32,
            blocks: blocks.concat().into(),
            ..Append::default()
        });
        let appended = finish(&mut life.steps, pending)?;
        let stored: Vec<String> = numbers
            .zip(appended.first.0..)
            .map(|(number, offset)| format!("kept {topic} {offset} {number}"))
            .collect();
        self.tell(&stored.join("\n"))
    }

    /// Long enough for the log to note that all of it is durable.
    fn be_silent(&self, life: &mut Life) {
        self.clock.pass(60);
        turn(&mut life.steps);
    }

    /// Leaves the beginning of a group behind the last one, as a crash in the middle of a write does.
    fn tear(&mut self) -> Result<(), Broken> {
        let Life { report, store, .. } = self.open()?;
        drop(store);
        let segment = report.end.0 / SEGMENT * SEGMENT;
        let path = self.dir.join(format!("commitlog/{segment:020}.seg"));
        let torn = b"QGRP and nothing that fits it ".repeat(50);
        let file = self.fs.open(&path)?;
        file.write_at(&torn, report.end.0 - segment)?;
        Ok(())
    }
}

/// Whether anybody moved.
fn turn(steps: &mut Steps) -> bool {
    let mut moved = false;
    for part in [Part::Appender, Part::Syncer, Part::Maker] {
        moved |= steps.step(part);
    }
    moved
}

fn finish(steps: &mut Steps, pending: Pending) -> Result<Appended, Broken> {
    let mut pending = pin!(pending);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(outcome) = pending.as_mut().poll(&mut context) {
            return Ok(outcome?);
        }
        if !turn(steps) {
            return Err(Broken::Promise(
                "nothing moves, and an answer is owed".to_owned(),
            ));
        }
    }
}
