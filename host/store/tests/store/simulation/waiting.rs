//! Messages that wait: for their time, or for the outcome of their transaction. A reference model says of each
//! what may have become of it; the store, whatever happened to it, must say the same.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use quern_protocol::{LogPosition, QueueId, RecordView, TopicId};
use quern_store::fs::Fs;
use quern_store::sim::Fault;
use quern_store::{
    Append, AppendError, AppendOne, Appended, Due, Part, Pending, Steps, Store, Waiting,
};

use super::life::{LOG, Life};
use super::world::Simulation;
use crate::{batch, block};

/// Where they go.
const TOPIC: TopicId = TopicId(2);
const QUEUE: QueueId = QueueId(0);
const FROM_THE_FIRST: (u64, LogPosition) = (0, LogPosition(0));

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Timer,
    Half,
}

/// How it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Message,
    CalledOff,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Asked for: it waits, or it never came.
    Asked,
    Waits,
    /// Somebody said so: it ends like this, or waits still. Whether the answer is listened to.
    Deciding(End, bool),
    Ended(End),
}

#[derive(Debug)]
struct One {
    kind: Kind,
    fate: Fate,
    /// Of no meaning before it is answered.
    position: LogPosition,
    due_at: u64,
}

/// When those of a request are due.
#[derive(Debug, Clone, Copy)]
enum Asks {
    Later(Due),
    Half,
}

/// What the model knows, by their bodies; no two have the same.
#[derive(Default)]
pub(super) struct Waiters {
    all: BTreeMap<String, One>,
    known: BTreeMap<LogPosition, String>,
    asked: Vec<(Vec<String>, Asks, Pending)>,
    deciding: Vec<(String, Pending)>,
    /// What has become of them, by offset.
    queue: BTreeMap<u64, String>,
    /// Steady time and the log's, when this life began.
    began: (u64, u64),
}

/// All that waits, as a store says it: with its kind and body.
type Listed = BTreeMap<LogPosition, (Kind, Waiting, String)>;

fn listed(store: &Store) -> Listed {
    let body = |one: AppendOne| {
        let block = quern_protocol::Block::lengths(&one.block).unwrap();
        String::from_utf8(block.stored_body().to_vec()).unwrap()
    };
    let timers = store.waiting(TOPIC, FROM_THE_FIRST, usize::MAX).into_iter();
    let timers = timers.map(|it| (Kind::Timer, it, store.waiting_message(it.position)));
    let halves = store.undecided(None, FROM_THE_FIRST, usize::MAX);
    let halves = halves.into_iter();
    let halves = halves.map(|it| (Kind::Half, it, store.half(it.position)));
    let all = timers.chain(halves);
    all.map(|(kind, waiting, read)| {
        let message = read.unwrap().expect("it is in the list");
        (waiting.position, (kind, waiting, body(message)))
    })
    .collect()
}

/// What those have become that do not wait any more, by offset: body, and the position it was known by.
fn delivered(life: &Life) -> BTreeMap<u64, (String, LogPosition)> {
    let (min, end) = life.store.range(TOPIC, QUEUE);
    let entries = life.store.entries(TOPIC, QUEUE, min, usize::MAX).unwrap();
    assert_eq!(entries.len() as u64, end.0 - min.0, "offsets have no gaps");
    let read = |entry: &quern_store::Entry| {
        let record = life.store.record(entry).unwrap();
        let view = RecordView::parse(&record).unwrap();
        let body = String::from_utf8(view.block.stored_body().to_vec()).unwrap();
        let root = view.header.extensions.origin.unwrap().root;
        (entry.offset.0, (body, root))
    };
    entries.iter().map(read).collect()
}

fn answer(pending: &mut Pending) -> Poll<Result<Appended, AppendError>> {
    Pin::new(pending).poll(&mut Context::from_waker(Waker::noop()))
}

impl Simulation {
    pub(super) fn act_on_waiting(&mut self, life: &Life, steps: &mut Steps) {
        match self.random.u8(0..10) {
            0..=3 => self.submit_waiting(life),
            4..=5 => self.fire_due(life),
            6..=8 => self.decide_any(life, false),
            _ => self.come_to_rest(life, steps),
        }
    }

    fn submit_waiting(&mut self, life: &Life) {
        let bodies = self.bodies(4);
        let append = Append {
            topic: TOPIC,
            queue: QUEUE,
            ..batch(0, &bodies)
        };
        let now = life.store.now_ms();
        let ms = match self.random.u8(0..4) {
            0 => 40 * 24 * 3_600_000,
            _ => self.random.u64(0..2_000),
        };
        let (asks, pending) = match self.random.u8(0..6) {
            0..=1 => (Asks::Half, life.store.submit_half(append, Bytes::new())),
            2..=3 => {
                let due = Due::In(ms);
                (Asks::Later(due), life.store.submit_later(append, due))
            }
            4 => {
                let due = Due::At(now + ms);
                (Asks::Later(due), life.store.submit_later(append, due))
            }
            _ => {
                // As a message that is given back.
                let one = AppendOne {
                    topic: TOPIC,
                    queue: QUEUE,
                    block: block(&bodies[0]),
                    due_at: Some(now + ms),
                    ..AppendOne::default()
                };
                let due = Asks::Later(Due::At(now + ms));
                let pending = life.store.submit_one(one);
                self.waiters.ask(&bodies[..1], Some((due, pending)));
                return;
            }
        };
        self.waiters.ask(&bodies, Some((asks, pending)));
    }

    fn fire_due(&mut self, life: &Life) {
        let due = life.store.due_timers(life.store.now_ms(), 3);
        for timer in due {
            let body = self.waiters.known.get(&timer.position).cloned();
            let body = body.unwrap_or_else(|| self.fail("a timer is due that nobody set"));
            self.decide(life, &body, End::Message, false);
        }
    }

    /// Somebody decides about one, whatever has become of it: too late, again, or against somebody else.
    fn decide_any(&mut self, life: &Life, at_rest: bool) {
        let known = &self.waiters.known;
        if known.is_empty() {
            return;
        }
        let which = self.random.usize(0..known.len());
        let body = known.values().nth(which).cloned();
        let body = body.expect("there are so many");
        let end = match self.random.bool() {
            true => End::Message,
            false => End::CalledOff,
        };
        self.decide(life, &body, end, at_rest);
        if self.random.u8(0..4) == 0 {
            // And thinks again at once.
            self.decide(life, &body, End::CalledOff, at_rest);
        }
    }

    fn decide(&mut self, life: &Life, body: &str, end: End, at_rest: bool) {
        let One {
            kind,
            fate,
            position,
            ..
        } = self.waiters.all[body];
        let fails = self.random.u8(0..16) == 0;
        if fails {
            self.fs.inject(Some(Fault::ReadError(0)));
        }
        let store = &life.store;
        let asked = match (kind, end) {
            (Kind::Timer, End::Message) => store.fire(position, |_| ()),
            (Kind::Timer, End::CalledOff) => Ok(store.cancel_timer(position)),
            (Kind::Half, End::Message) => store.commit_half(position, |_| ()),
            (Kind::Half, End::CalledOff) => Ok(store.roll_back_half(position)),
        };
        if fails {
            self.fs.inject(None);
        }
        let asked = match asked {
            Ok(asked) => asked,
            Err(_) if fails => {
                self.reach("a decision failed for want of reading");
                return;
            }
            Err(error) => self.fail(&error.to_string()),
        };
        let may_move = self.habits.keeps.is_some() && !at_rest;
        let possible = match fate {
            Fate::Waits => asked.is_some() || may_move,
            Fate::Deciding(_, is_heard) => asked.is_none() || !is_heard || self.failed,
            Fate::Asked | Fate::Ended(_) => asked.is_none(),
        };
        if !possible {
            let is_some = asked.is_some();
            self.fail(&format!("{fate:?}, and {end:?} was taken: {is_some}"));
        }
        match asked {
            Some(pending) => self.decided(body, end, pending),
            None if fate != Fate::Waits => self.reach("decided before"),
            None => {}
        }
    }

    fn decided(&mut self, body: &str, end: End, mut pending: Pending) {
        if let Poll::Ready(Err(_)) = answer(&mut pending) {
            // Refused at once; what somebody said before may still be in the log.
            return;
        }
        let is_heard = self.random.u8(0..4) > 0;
        let one = self.waiters.all.get_mut(body).expect("it is known");
        one.fate = Fate::Deciding(end, is_heard);
        if is_heard {
            self.waiters.deciding.push((body.to_owned(), pending));
        }
    }

    /// Everything under way comes to its end; then nothing is left that nobody can decide.
    fn come_to_rest(&mut self, life: &Life, steps: &mut Steps) {
        self.submit(life);
        let parts = [Part::Appender, Part::Syncer, Part::Maker];
        let mut turns = 0;
        self.clock.pass(3);
        while parts
            .iter()
            .fold(false, |moved, it| steps.step(*it) | moved)
        {
            turns += 1;
            // A sync waits for others no longer than this.
            self.clock.pass(3);
            if turns > 10_000 {
                self.fail("the log does not come to rest");
            }
        }
        self.settle(life);
        if !self.failed {
            self.nothing_is_stuck(life);
            self.decide_any(life, true);
        }
    }

    pub(super) fn nothing_is_stuck(&self, life: &Life) {
        let free = life.store.due_timers(u64::MAX, usize::MAX).len();
        let all = life.store.timers();
        if free != all {
            self.fail(&format!("{all} wait, and only {free} can be decided"));
        }
    }

    /// Takes the answers that have come.
    pub(super) fn settle_waiting(&mut self, life: &Life) {
        for (bodies, asks, mut pending) in std::mem::take(&mut self.waiters.asked) {
            match answer(&mut pending) {
                Poll::Pending => self.waiters.asked.push((bodies, asks, pending)),
                Poll::Ready(Ok(appended)) => self.waits_now(life, bodies, asks, appended),
                Poll::Ready(Err(AppendError::DiskFull)) => self.waiters.ask(&bodies, None),
                Poll::Ready(Err(error)) => self.failed |= matches!(error, AppendError::Failed(_)),
            }
        }
        for (body, mut pending) in std::mem::take(&mut self.waiters.deciding) {
            match answer(&mut pending) {
                Poll::Pending => self.waiters.deciding.push((body, pending)),
                Poll::Ready(answer) => self.is_decided(life, body, answer),
            }
        }
        for one in self.waiters.all.values_mut() {
            if let Fate::Deciding(end, false) = one.fate
                && life.store.waits(one.position).is_none()
            {
                one.fate = Fate::Ended(end);
            }
        }
    }

    fn waits_now(&mut self, life: &Life, bodies: Vec<String>, asks: Asks, appended: Appended) {
        let store = &life.store;
        let all = match asks {
            Asks::Later(_) => store.waiting(TOPIC, FROM_THE_FIRST, usize::MAX),
            Asks::Half => store.undecided(Some(TOPIC), FROM_THE_FIRST, usize::MAX),
        };
        let due_at = match asks {
            Asks::Later(Due::In(ms)) => appended.stored_at + ms,
            Asks::Later(Due::At(at)) => at,
            Asks::Half => appended.stored_at,
        };
        let mut position = appended.position;
        for body in bodies {
            let found = all.iter().find(|it| it.position == position);
            let found = found.unwrap_or_else(|| self.fail("acknowledged, and it does not wait"));
            if found.due_at != due_at {
                let found = found.due_at;
                self.fail(&format!("due at {found}, and {due_at} was asked for"));
            }
            self.waiters.waits(&body, found);
            position.0 += u64::from(found.size);
        }
    }

    fn is_decided(&mut self, life: &Life, body: String, answer: Result<Appended, AppendError>) {
        let one = self.waiters.all.get_mut(&body).expect("it is known");
        let Fate::Deciding(end, _) = one.fate else {
            self.fail("two decisions were taken of one message");
        };
        match answer {
            Ok(appended) => {
                one.fate = Fate::Ended(end);
                let name = match (one.kind, end) {
                    (Kind::Timer, End::Message) => "fired",
                    (Kind::Timer, End::CalledOff) => "recalled",
                    (Kind::Half, End::Message) => "committed",
                    (Kind::Half, End::CalledOff) => "rolled back",
                };
                if end == End::Message {
                    let before = self.waiters.queue.insert(appended.first.0, body);
                    assert_eq!(before, None, "an offset is given once; {}", self.repeat());
                    let end = life.store.range(TOPIC, QUEUE).1;
                    assert!(end > appended.first, "it is visible; {}", self.repeat());
                }
                self.reach(name);
            }
            Err(AppendError::DiskFull) => {
                one.fate = Fate::Waits;
                self.reach("a decision failed for want of space");
            }
            Err(error) => self.failed |= matches!(error, AppendError::Failed(_)),
        }
    }

    /// What is due, and nothing else, can be fired, in its order.
    pub(super) fn look_at_due(&mut self, life: &Life) {
        let now = life.store.now_ms();
        let (steady, log) = self.waiters.began;
        let passed = self.steady() - steady;
        // Whatever the wall clock does: small corrections are believed.
        if now < log + passed || now > log + passed + 5 * 60_000 {
            self.fail(&format!("{passed} ms have passed, and {log} became {now}"));
        }
        let due = life.store.due_timers(now, usize::MAX);
        if !due.is_sorted_by_key(|it| (it.due_at, it.position)) {
            self.fail("what is due is out of order");
        }
        let due: BTreeSet<_> = due.into_iter().map(|it| it.position).collect();
        for (position, body) in &self.waiters.known {
            let one = &self.waiters.all[body];
            let is_due = due.contains(position);
            let expected = one.kind == Kind::Timer && one.due_at <= now;
            let may_be = match one.fate {
                Fate::Waits => is_due == expected || (!is_due && self.habits.keeps.is_some()),
                Fate::Deciding(_, false) => expected || !is_due,
                Fate::Deciding(_, true) => !is_due || (self.failed && expected),
                _ => !is_due,
            };
            if !may_be {
                self.fail(&format!("{one:?} at {now}: can be fired: {is_due}"));
            }
        }
        if !due.iter().all(|it| self.waiters.known.contains_key(it)) {
            self.fail("a timer is due that nobody set");
        }
    }

    pub(super) fn begin_waiting(&mut self, life: &Life) {
        self.waiters.began = (self.steady(), life.store.now_ms());
    }

    /// After an end: each is in one state, and it is one that was promised.
    pub(super) fn compare_waiting(&mut self, life: &Life) {
        let (listed, delivered) = (listed(&life.store), delivered(life));
        let first = life.store.range(TOPIC, QUEUE).0.0;
        for (offset, body) in self.waiters.queue.range(first..) {
            if delivered.get(offset).map(|(body, _)| body) != Some(body) {
                self.fail(&format!("offset {offset} of those delivered is another"));
            }
        }
        let mut messages = BTreeMap::new();
        for (offset, (body, root)) in delivered {
            self.waiters.queue.insert(offset, body.clone());
            if messages.insert(body, root).is_some() {
                self.fail("a message was delivered twice");
            }
        }
        let mut waiting = BTreeMap::new();
        for (position, (kind, it, body)) in listed {
            if waiting.insert(body, (kind, it)).is_some() {
                self.fail(&format!("what waits at {position} waits twice"));
            }
        }
        self.whole_batches(&waiting);
        for (body, one) in std::mem::take(&mut self.waiters.all) {
            let (found, message) = (waiting.remove(&body), messages.remove(&body));
            self.compare_one(body, &one, (found, message), first);
        }
        if !waiting.is_empty() || !messages.is_empty() {
            self.fail("there is what nobody asked for");
        }
        self.note_moved();
    }

    /// Of those that were asked for together, all have come or none.
    fn whole_batches(&mut self, waiting: &BTreeMap<String, (Kind, Waiting)>) {
        for (bodies, _, _) in std::mem::take(&mut self.waiters.asked) {
            let came = bodies.iter().filter(|it| waiting.contains_key(*it)).count();
            if came != 0 && came != bodies.len() {
                self.fail("half a request waits");
            }
        }
        self.waiters.deciding.clear();
    }

    fn compare_one(
        &mut self,
        body: String,
        one: &One,
        (waiting, message): (Option<(Kind, Waiting)>, Option<LogPosition>),
        first: u64,
    ) {
        let (is_waiting, is_message) = (waiting.is_some(), message.is_some());
        let is_known = !matches!(one.fate, Fate::Asked);
        let same = |(kind, it): (Kind, Waiting)| {
            kind == one.kind && it.due_at == one.due_at && it.position == one.position
        };
        let possible = match one.fate {
            Fate::Asked => !is_message,
            Fate::Waits => is_waiting && !is_message,
            Fate::Deciding(End::Message, _) => is_waiting != is_message,
            Fate::Deciding(End::CalledOff, _) => !is_message,
            // Its segment may have been let go.
            Fate::Ended(End::Message) => !is_waiting && (is_message || first > 0),
            Fate::Ended(End::CalledOff) => !is_waiting && !is_message,
        };
        if !possible || is_known && waiting.is_some_and(|it| !same(it)) {
            self.fail(&format!("{one:?}: waits {waiting:?}, message {message:?}"));
        }
        if message.is_some_and(|root| root != one.position) {
            self.fail("a message has the origin of another");
        }
        match (one.fate, waiting) {
            (Fate::Asked, None) => return,
            (Fate::Deciding(..), Some(_)) => self.reach("a decision was lost with the power"),
            (Fate::Deciding(..), None) => self.reach("a decision nobody heard of holds"),
            _ => {}
        }
        let fate = match (waiting, one.fate) {
            (Some(_), _) => Fate::Waits,
            (None, Fate::Deciding(end, _)) => Fate::Ended(end),
            (None, fate) => fate,
        };
        let it = waiting.map(|(_, it)| it);
        let position = it.map_or(one.position, |it| it.position);
        let one = One {
            kind: one.kind,
            fate,
            position,
            due_at: it.map_or(one.due_at, |it| it.due_at),
        };
        self.waiters.known.insert(position, body.clone());
        self.waiters.all.insert(body, one);
    }

    fn note_moved(&mut self) {
        let names = self.fs.list(LOG.as_ref()).unwrap();
        let bases = names.iter().filter_map(|it| it.strip_suffix(".seg"));
        let head: u64 = bases
            .filter_map(|it| it.parse().ok())
            .min()
            .unwrap_or_default();
        let all = self.waiters.all.values();
        let mut moved = all.filter(|it| it.fate == Fate::Waits && it.position.0 < head);
        if moved.next().is_some() {
            self.reach("one that waits outlived its segment");
        }
    }

    /// Whether another store says the same.
    pub(super) fn same_waiting(&self, life: &Life, again: &Life) {
        if listed(&again.store) != listed(&life.store) {
            self.fail("others wait from the log alone");
        }
        if delivered(again) != delivered(life) {
            self.fail("others were delivered from the log alone");
        }
        let next = |life: &Life| life.store.range(TOPIC, QUEUE).1;
        if next(again) != next(life) {
            self.fail("the queue of those delivered ends elsewhere");
        }
    }
}

impl Waiters {
    /// `None` = they certainly never came.
    fn ask(&mut self, bodies: &[String], asked: Option<(Asks, Pending)>) {
        let Some((asks, pending)) = asked else {
            for body in bodies {
                self.all.remove(body);
            }
            return;
        };
        for body in bodies {
            let kind = match asks {
                Asks::Later(_) => Kind::Timer,
                Asks::Half => Kind::Half,
            };
            let one = One {
                kind,
                fate: Fate::Asked,
                position: LogPosition(0),
                due_at: 0,
            };
            self.all.insert(body.clone(), one);
        }
        self.asked.push((bodies.to_vec(), asks, pending));
    }

    fn waits(&mut self, body: &str, found: &Waiting) {
        let one = self.all.get_mut(body).expect("it was asked for");
        one.fate = Fate::Waits;
        one.position = found.position;
        one.due_at = found.due_at;
        self.known.insert(found.position, body.to_owned());
    }
}
