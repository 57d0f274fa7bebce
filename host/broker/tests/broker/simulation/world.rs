//! The world around a broker: what it is asked, who goes away meanwhile, and what goes wrong.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use quern_broker::{Broker, Config, Transactions};
use quern_plugins::Runtime as Plugins;
use quern_protocol::frame::{Frame, Outgoing, Prefix};
use quern_protocol::message::UNIQUE_KEY;
use quern_protocol::operation::{Operation, decode_reply};
use quern_protocol::record::records;
use quern_protocol::{
    BrokerName, CreateTopic, Filter, GroupSetting, Message, Pull, QueueId, QueueOffset, RecordView,
    Send, SetGroup, TopicName, WireError,
};
use quern_store::clock::{Clock, ManualClock};
use quern_store::fs::Fs;
use quern_store::sim::SimFs;
use quern_store::{Config as StoreConfig, Env, Part, Steps};
use tokio::runtime::Runtime;

use super::number;
use super::popping::{Popping, groups};
use super::waiting::Waiting;

const DIR: &str = "/q";
pub(super) const QUEUES: u32 = 2;
/// ms since 1970, when the first life begins.
const BEGIN: u64 = 1_700_000_000_000;
/// The wall clock is so wrong at times, ms.
const WRONG: u64 = 60 * 60 * 1000;

pub(super) fn topic() -> TopicName {
    TopicName::new("t").unwrap()
}

pub(super) type Answer<O> = Result<(<O as Operation>::Reply, Bytes), WireError>;
type Then = Box<dyn FnOnce(&mut World, Frame)>;

/// A request under way.
struct Call {
    future: Pin<Box<dyn Future<Output = Option<Frame>>>>,
    /// What is to be done with the answer; chores have none.
    then: Option<Then>,
}

/// A message of a queue, as a reader has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) offset: u64,
    pub(super) id: String,
    pub(super) notes: BTreeMap<String, String>,
}

pub(super) fn read(body: &Bytes) -> Vec<Read> {
    let one = |record: Result<Bytes, _>| {
        let record = record.unwrap();
        let view = RecordView::parse(&record).unwrap();
        let notes = view.notes.iter();
        Read {
            offset: view.header.queue_offset.0,
            id: view.block.property(UNIQUE_KEY).unwrap().to_owned(),
            notes: notes
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        }
    };
    records(body).map(one).collect()
}

/// A frame as its receiver has it.
pub(crate) fn frame(outgoing: &Outgoing) -> Frame {
    let bytes = outgoing.to_vec();
    let (prefix, rest) = bytes.split_first_chunk().unwrap();
    let prefix = Prefix::decode(prefix).unwrap();
    let (header, body) = rest.split_at(prefix.header_len);
    Frame {
        kind: prefix.kind,
        is_reply: prefix.is_reply,
        version: prefix.version,
        flags: prefix.flags,
        correlation: 0,
        deadline_ms: 0,
        header: Bytes::copy_from_slice(header),
        body: Bytes::copy_from_slice(body),
    }
}

/// What a broker of one life does besides answering. It goes on when it is told to.
fn tasks() -> Runtime {
    let tasks = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    tasks.unwrap()
}

pub(super) struct World {
    seed: u64,
    pub(super) random: Rng,
    plugins: &'static Plugins,
    tasks: Runtime,
    fs: SimFs,
    clock: Arc<ManualClock>,
    node: Option<(Arc<Broker>, Steps)>,
    calls: Vec<Call>,
    chores: bool,
    /// Tells what happens, for who looks for a mistake.
    is_told: bool,
    made: u64,
    asked: u64,
    pub(super) transactions: Transactions,
    pub(super) waiting: Waiting,
    pub(super) popping: Popping,
    reached: BTreeMap<&'static str, u64>,
}

impl World {
    pub(super) fn new(seed: u64, plugins: &'static Plugins) -> Self {
        fastrand::seed(seed);
        let clock = ManualClock::default();
        clock.jump_to(BEGIN);
        let mut random = Rng::with_seed(seed);
        let ms = Duration::from_millis;
        Self {
            seed,
            transactions: Transactions {
                first_check: ms([0, 0, 100][random.usize(0..3)]),
                check_every: ms(50),
                checks: random.u32(1..4),
                longest: ms(60_000),
            },
            random,
            plugins,
            tasks: tasks(),
            fs: SimFs::default(),
            clock: Arc::new(clock),
            node: None,
            calls: Vec::new(),
            chores: false,
            is_told: number("QUERN_SEED").is_some(),
            made: 0,
            asked: 0,
            waiting: Waiting::default(),
            popping: Popping::default(),
            reached: BTreeMap::new(),
        }
    }

    pub(super) fn reach(&mut self, state: &'static str) {
        *self.reached.entry(state).or_insert(0) += 1;
    }

    pub(super) fn tell(&self, what: impl FnOnce() -> String) {
        if self.is_told {
            eprintln!("{} {}", self.now(), what());
        }
    }

    pub(super) fn fail(&self, what: &str) -> ! {
        let seed = self.seed;
        panic!(
            "{what}\nrepeat: QUERN_SEED={seed} cargo test -p quern-broker --test broker simulation"
        )
    }

    /// All of the lives: a checksum of what reached the disk, and what states were met.
    pub(super) fn run(mut self) -> (u64, BTreeMap<&'static str, u64>) {
        self.open();
        self.prepare();
        for _ in 0..self.random.u32(1..4) {
            self.live();
            self.end();
            self.open();
            self.check_contents();
            self.note_the_dead();
        }
        // The last life ends well.
        self.live();
        self.drain();
        (self.fs.trace(), self.reached)
    }

    fn live(&mut self) {
        for _ in 0..self.random.u32(20..200) {
            self.act();
            self.poll_some();
        }
    }

    fn prepare(&mut self) {
        let created = self.ask_now(CreateTopic::new(topic(), QUEUES), Vec::new());
        created.unwrap();
        let retries = if self.random.bool() { 2 } else { 16 };
        for group in groups() {
            let settings = vec![GroupSetting::Retries(retries)];
            self.ask_now(SetGroup { group, settings }, Vec::new())
                .unwrap();
        }
    }

    fn open(&mut self) {
        self.tell(|| "a life begins".to_owned());
        let mut config = Config::new(BrokerName::new("b").unwrap(), "here:1");
        config.transactions = self.transactions.clone();
        let store = StoreConfig {
            segment_size: Some(256 * 1024),
            checkpoint_every: 64 * 1024,
            stamp_after: Duration::from_millis(50),
            ..StoreConfig::new(DIR)
        };
        let env = Env {
            fs: Arc::new(self.fs.clone()),
            clock: Arc::clone(&self.clock) as _,
        };
        let opened = Broker::open_in_steps(config, &store, env, self.plugins);
        let (broker, _, steps) = opened.unwrap_or_else(|error| self.fail(&error.to_string()));
        self.node = Some((broker, steps));
    }

    /// By the broker's own clock: a producer knows it from answers.
    pub(super) fn now(&self) -> u64 {
        let Some((broker, _)) = &self.node else {
            return 0;
        };
        let _here = self.tasks.enter();
        let time = frame(&Outgoing::request(&quern_protocol::Status {}, Vec::new()).unwrap());
        let mut answer = Box::pin(broker.answer(time));
        match answer
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(reply) => {
                decode_reply::<quern_protocol::Status>(&frame(&reply))
                    .unwrap()
                    .time_ms
            }
            Poll::Pending => self.fail("the status is not told at once"),
        }
    }

    /// Asks, and goes on; `then` hears the answer, if it comes.
    pub(super) fn ask<O: Operation<Reply: Debug> + Debug + 'static>(
        &mut self,
        request: &O,
        body: Vec<Bytes>,
        then: impl FnOnce(&mut Self, Answer<O>) + 'static,
    ) {
        let number = self.asked;
        self.asked += 1;
        self.tell(|| format!("{number} asks {request:?}"));
        let Some((broker, _)) = &self.node else {
            return;
        };
        let (broker, asked) = (
            Arc::clone(broker),
            frame(&Outgoing::request(request, body).unwrap()),
        );
        let future = Box::pin(async move { Some(frame(&broker.answer(asked).await)) });
        let then: Then = Box::new(move |world, frame| {
            let reply = decode_reply::<O>(&frame).map(|it| (it, frame.body));
            world.tell(|| format!("{number} hears {:?}", reply.as_ref().map(|it| &it.0)));
            then(world, reply);
        });
        self.calls.push(Call {
            future,
            then: Some(then),
        });
    }

    /// Asks, and does nothing else before there is an answer.
    pub(super) fn ask_now<O: Operation>(&mut self, request: O, body: Vec<Bytes>) -> Answer<O> {
        let Some((broker, mut steps)) = self.node.take() else {
            self.fail("no broker runs");
        };
        let asked = frame(&Outgoing::request(&request, body).unwrap());
        let mut answer = Box::pin(broker.answer(asked));
        let mut context = Context::from_waker(Waker::noop());
        let mut idle = 0;
        let reply = loop {
            let here = self.tasks.enter();
            if let Poll::Ready(reply) = answer.as_mut().poll(&mut context) {
                break frame(&reply);
            }
            drop(here);
            self.go_on();
            let parts = [Part::Appender, Part::Syncer, Part::Maker];
            match parts.iter().any(|it| steps.step(*it)) {
                true => idle = 0,
                false => idle += 1,
            }
            if idle > 10 {
                self.fail("a request is not answered, and nothing moves");
            }
        };
        drop(answer);
        self.node = Some((broker, steps));
        decode_reply::<O>(&reply).map(|it| (it, reply.body))
    }

    fn act(&mut self) {
        match self.random.u8(0..40) {
            0..=2 => self.send_plain(),
            3..=9 => self.act_on_waiting(),
            10..=17 => self.act_on_popping(),
            18..=20 => self.do_chores(),
            21..=27 => self.step(Part::Appender),
            28..=33 => self.step(Part::Syncer),
            34 => self.step(Part::Maker),
            35 => self.step(Part::Keeper),
            36..=37 => self.clock.pass(self.random.u64(1..300)),
            38 => self.turn_the_clock(),
            _ => self.somebody_leaves(),
        }
    }

    pub(super) fn pass(&mut self, ms: u64) {
        self.clock.pass(ms);
    }

    /// Somebody does, and not always to the right time.
    fn turn_the_clock(&mut self) {
        let right = BEGIN + self.clock.steady_ms();
        let wrong = [right, right - WRONG, right + WRONG];
        self.clock.jump_to(wrong[self.random.usize(0..3)]);
    }

    fn step(&mut self, part: Part) {
        if let Some((_, steps)) = &mut self.node {
            steps.step(part);
        }
    }

    fn somebody_leaves(&mut self) {
        if !self.calls.is_empty() {
            let which = self.random.usize(0..self.calls.len());
            // Nobody stops a broker's own chores.
            if self.calls[which].then.is_some() {
                self.calls.swap_remove(which);
                self.reach("the asker went away");
            }
        }
    }

    fn do_chores(&mut self) {
        if std::mem::replace(&mut self.chores, true) {
            return;
        }
        let Some((broker, _)) = &self.node else {
            return;
        };
        let broker = Arc::clone(broker);
        let future = Box::pin(async move {
            broker.do_chores().await.unwrap();
            None
        });
        self.calls.push(Call { future, then: None });
    }

    /// Some of what is under way goes on, in any order.
    fn poll_some(&mut self) {
        if self.random.bool() {
            self.go_on();
        }
        let mut order: Vec<Call> = std::mem::take(&mut self.calls);
        self.random.shuffle(&mut order);
        for call in order {
            if self.random.u8(0..3) == 0 {
                self.calls.push(call);
            } else {
                self.poll(call);
            }
        }
    }

    /// What goes on though nobody waits for it.
    fn go_on(&self) {
        self.tasks.block_on(tokio::task::yield_now());
    }

    fn poll(&mut self, mut call: Call) {
        let mut context = Context::from_waker(Waker::noop());
        let here = self.tasks.enter();
        let polled = call.future.as_mut().poll(&mut context);
        drop(here);
        match (polled, call.then) {
            (Poll::Pending, then) => self.calls.push(Call { then, ..call }),
            (Poll::Ready(Some(frame)), Some(then)) => then(self, frame),
            (Poll::Ready(_), _) => self.chores = false,
        }
    }

    /// Everything under way comes to its end.
    pub(super) fn settle(&mut self) {
        for _ in 0..100_000 {
            for part in [Part::Appender, Part::Syncer, Part::Maker] {
                self.step(part);
            }
            self.go_on();
            for call in std::mem::take(&mut self.calls) {
                self.poll(call);
            }
            if self.calls.is_empty() {
                return;
            }
        }
        self.fail("requests are never answered");
    }

    pub(super) fn block(&mut self, id: &str) -> Bytes {
        let body = format!("{id} ").repeat(self.random.usize(1..100));
        Message::new("t", body).encode(id, 0).unwrap()
    }

    pub(super) fn new_id(&mut self) -> String {
        self.made += 1;
        format!("m{}", self.made)
    }

    pub(super) fn a_queue(&mut self) -> QueueId {
        QueueId(self.random.u32(0..QUEUES))
    }

    fn send_plain(&mut self) {
        let (id, queue) = (self.new_id(), self.a_queue());
        let block = self.block(&id);
        self.waiting.sent_plain(&id);
        self.ask(&Send::new(topic(), queue, 1), vec![block], |_, sent| {
            sent.unwrap();
        });
    }

    fn end(&mut self) {
        match self.random.u8(0..5) {
            0 => {
                self.settle();
                self.calls.clear();
                if let Some((broker, steps)) = self.node.take() {
                    steps.close().unwrap();
                    drop(broker);
                }
                self.reach("closed clean");
            }
            1 => {
                self.calls.clear();
                self.node = None;
                self.reach("killed, the machine went on");
            }
            _ => {
                self.calls.clear();
                self.node = None;
                self.fs = self.fs.crash(self.random.u64(..));
                self.reach("crashed");
            }
        }
        self.chores = false;
        self.tasks = tasks();
        if self.random.u8(0..4) == 0 {
            for dir in ["", "consumequeue", "index"] {
                let dir = Path::new(DIR).join(dir);
                for name in self.fs.list(&dir).unwrap_or_default() {
                    let _ = self.fs.remove(&dir.join(name));
                }
            }
            self.reach("opened from the log alone");
        }
        self.popping.nobody_is_under_way();
    }

    /// All there is in a queue of a topic.
    pub(super) fn contents(&mut self, topic: &TopicName, queue: u32) -> Vec<Read> {
        let mut all = Vec::new();
        loop {
            let pull = Pull {
                group: None,
                topic: topic.clone(),
                queue: QueueId(queue),
                from: QueueOffset(all.len() as u64),
                max_messages: 256,
                max_bytes: 1 << 20,
                wait_ms: 0,
                broadcast: false,
                filter: Filter::All,
            };
            // Nobody has needed that topic so far.
            let Ok((_, body)) = self.ask_now(pull, Vec::new()) else {
                return all;
            };
            let more = read(&body);
            if more.is_empty() {
                return all;
            }
            all.extend(more);
        }
    }

    /// No fault any more, and much time: in the end each message has become what it had to.
    fn drain(&mut self) {
        self.clock.jump_to(BEGIN + self.clock.steady_ms());
        self.settle();
        let mut unasked = self.never_asked();
        for _ in 0..20 {
            self.clock.pass(500);
            self.do_chores();
            self.settle();
            for position in self.asked_about() {
                unasked.remove(&position);
            }
        }
        if !unasked.is_empty() {
            self.fail(&format!("nobody was asked about {unasked:?}"));
        }
        self.check_contents();
        self.check_transactions();
        self.drain_pops();
        self.nobody_is_buried_twice();
        self.check_contents();
    }
}
