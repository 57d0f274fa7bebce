//! What no client of ours sends, in the requests for delays, transactions, pops, finding and replies: each illegal
//! value gets a coded error that says why, and the broker goes on. The broker moves by hand, so one that stands still
//! is noticed.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use fastrand::Rng;
use quern_broker::Broker;
use quern_plugins::Runtime as Plugins;
use quern_protocol::frame::{Frame, Outgoing};
use quern_protocol::operation::Operation;
use quern_protocol::{
    AckPopped, Code, CreateTopic, EndTransaction, FetchReplies, Filter, FindMessages, GroupName,
    HidePopped, Later, ListDelayed, ListTransactions, LogPosition, Message, MessageAt, MessageKey,
    PollTransactions, Pop, QueueId, QueueOffset, RecallMessage, Receipt, Reconsume, Reply,
    ResendMessage, Send, TopicName, TransactionEnd, WireError, limits,
};
use quern_store::clock::ManualClock;
use quern_store::sim::SimFs;
use quern_store::{Config as StoreConfig, Env, Part, Steps};
use tokio::runtime::{Builder, Runtime};

use crate::simulation::frame;
use crate::{config, topic};

/// A broker that moves only while it is asked.
struct Stepped {
    broker: Arc<Broker>,
    steps: Steps,
    tasks: Runtime,
}

impl Stepped {
    fn open() -> Self {
        let plugins = Plugins::new(&quern_plugins::Config::default()).unwrap();
        let env = Env {
            fs: Arc::new(SimFs::default()),
            clock: Arc::new(ManualClock::default()),
        };
        let store = StoreConfig {
            segment_size: Some(1 << 20),
            ..StoreConfig::new("/q")
        };
        let opened = Broker::open_in_steps(config(), &store, env, &plugins);
        let (broker, _, steps) = opened.unwrap();
        let tasks = Builder::new_current_thread().enable_time().build();
        let mut stepped = Self {
            broker,
            steps,
            tasks: tasks.unwrap(),
        };
        let create = Outgoing::request(&CreateTopic::new(topic(), 2), Vec::new()).unwrap();
        stepped.ask(frame(&create)).unwrap().unwrap();
        stepped
    }

    /// `None` = it is held until there is something.
    fn ask(&mut self, request: Frame) -> Option<Result<(), WireError>> {
        let broker = Arc::clone(&self.broker);
        let mut answer = Box::pin(async move { broker.answer(request).await });
        let mut context = Context::from_waker(Waker::noop());
        let mut idle = 0;
        loop {
            let here = self.tasks.enter();
            let polled = answer.as_mut().poll(&mut context);
            drop(here);
            if let Poll::Ready(reply) = polled {
                let reply = frame(&reply);
                return Some(match reply.flags.is_error() {
                    true => Err(WireError::decode(&reply.header).unwrap()),
                    false => Ok(()),
                });
            }
            let parts = [Part::Appender, Part::Syncer, Part::Maker];
            self.tasks.block_on(tokio::task::yield_now());
            match parts.iter().any(|it| self.steps.step(*it)) {
                true => idle = 0,
                false => idle += 1,
            }
            if idle > 2 {
                return None;
            }
        }
    }

    /// Somebody else's work goes on.
    fn goes_on(&mut self) {
        for (name, request) in sane() {
            let answer = self.ask(request).unwrap();
            let is_fine = match answer {
                Ok(()) => true,
                // Nothing is there.
                Err(error) => error.is(Code::NOT_FOUND) || error.is(Code::MESSAGE_NOT_FOUND),
            };
            assert!(is_fine, "{name}");
        }
    }
}

fn request<O: Operation>(operation: &O, body: Vec<Bytes>) -> Frame {
    frame(&Outgoing::request(operation, body).unwrap())
}

fn block() -> Vec<Bytes> {
    let message = Message::new("t", "x").tag("a").key("k");
    vec![message.encode("id", 0).unwrap()]
}

fn group() -> GroupName {
    GroupName::new("g").unwrap()
}

fn named(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

fn send(later: Later) -> Send {
    Send {
        later: Some(later),
        ..Send::new(topic(), QueueId(0), 1)
    }
}

fn recall() -> RecallMessage {
    RecallMessage {
        topic: topic(),
        position: LogPosition(4_711),
    }
}

fn end() -> EndTransaction {
    EndTransaction {
        topic: topic(),
        position: LogPosition(4_711),
        message_id: "id".to_owned(),
        end: Some(TransactionEnd::Commit),
    }
}

fn pop() -> Pop {
    Pop {
        group: group(),
        topic: topic(),
        queue: None,
        max_messages: 1,
        max_bytes: 1_000,
        invisible_ms: 1_000,
        wait_ms: 0,
        in_order: false,
        from_first: true,
        filter: Filter::All,
        attempt: None,
    }
}

fn receipts(many: usize) -> Vec<Receipt> {
    let receipt = Receipt {
        queue: QueueId(9),
        offset: QueueOffset(u64::MAX),
        token: 7,
    };
    vec![receipt; many]
}

fn ack() -> AckPopped {
    AckPopped {
        group: group(),
        topic: topic(),
        receipts: receipts(2),
    }
}

fn hide() -> HidePopped {
    HidePopped {
        group: group(),
        topic: topic(),
        receipts: receipts(2),
        invisible_ms: 10,
    }
}

fn find() -> FindMessages {
    FindMessages {
        topic: Some(topic()),
        key: MessageKey::Key("k".to_owned()),
        stored: (0, u64::MAX),
        before: None,
        messages: 8,
    }
}

fn resend() -> ResendMessage {
    ResendMessage {
        topic: topic(),
        queue: QueueId(0),
        offset: QueueOffset(1 << 40),
        group: None,
        dry_run: false,
    }
}

fn answer_to(inbox: &str, correlation: &str) -> Reply {
    Reply {
        inbox: inbox.to_owned(),
        correlation: correlation.to_owned(),
        until: 60_000,
    }
}

fn fetch(inbox: &str, wait_ms: u32) -> FetchReplies {
    FetchReplies {
        inbox: inbox.to_owned(),
        wait_ms,
    }
}

fn poll(wait_ms: u32) -> PollTransactions {
    PollTransactions {
        group: group(),
        messages: 9,
        wait_ms,
    }
}

fn give_back() -> Reconsume {
    Reconsume {
        group: group(),
        topic: topic(),
        queue: QueueId(0),
        offset: QueueOffset(1 << 40),
        delay_ms: 5,
        reason: "why".to_owned(),
        dead_after: None,
        giving: None,
    }
}

/// One of each, with nothing wrong.
fn sane() -> Vec<(&'static str, Frame)> {
    let delayed = ListDelayed {
        topic: topic(),
        behind: (0, LogPosition(0)),
        messages: 9,
    };
    let open = ListTransactions {
        topic: None,
        behind: (0, LogPosition(0)),
        messages: 9,
    };
    let at = MessageAt {
        position: LogPosition(4_711),
    };
    let none = Vec::new;
    vec![
        ("delay", request(&send(Later::In(1_000)), block())),
        ("half", request(&send(Later::OnCommit(group())), block())),
        ("recall", request(&recall(), none())),
        ("delayed", request(&delayed, none())),
        ("end", request(&end(), none())),
        ("poll", request(&poll(0), none())),
        ("open", request(&open, none())),
        ("pop", request(&pop(), none())),
        ("ack", request(&ack(), none())),
        ("hide", request(&hide(), none())),
        ("find", request(&find(), none())),
        ("at", request(&at, none())),
        ("resend", request(&resend(), none())),
        ("reply", request(&answer_to("in", "c"), block())),
        ("fetch", request(&fetch("in", 0), none())),
        ("give back", request(&give_back(), none())),
    ]
}

/// One thing wrong in each, and the code that says so.
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn illegal() -> Vec<(Frame, Code)> {
    let none = Vec::new;
    let long = "x".repeat(limits::NAME + 1);
    let level = |level| {
        (
            request(&send(Later::Level(level)), block()),
            Code::BAD_REQUEST,
        )
    };
    let far = 40 * 24 * 3_600_000 + 1;
    let popped = |it: Pop, code| (request(&it, none()), code);
    let bad = Code::BAD_REQUEST;
    let reserved = named("%RETRY%g");
    vec![
        level(0),
        level(19),
        level(u8::MAX),
        (request(&send(Later::In(far)), block()), bad),
        (request(&send(Later::In(u64::MAX)), block()), bad),
        (request(&send(Later::At(u64::MAX)), block()), bad),
        (request(&send(Later::In(1)), none()), bad),
        (
            request(
                &RecallMessage {
                    topic: named("none"),
                    ..recall()
                },
                none(),
            ),
            Code::NOT_FOUND,
        ),
        (
            request(
                &RecallMessage {
                    topic: reserved.clone(),
                    ..recall()
                },
                none(),
            ),
            Code::RESERVED_NAME,
        ),
        (
            request(
                &RecallMessage {
                    position: LogPosition(u64::MAX),
                    ..recall()
                },
                none(),
            ),
            Code::NOT_FOUND,
        ),
        (
            request(
                &EndTransaction {
                    topic: named("none"),
                    ..end()
                },
                none(),
            ),
            Code::NOT_FOUND,
        ),
        (
            request(
                &EndTransaction {
                    topic: reserved,
                    ..end()
                },
                none(),
            ),
            Code::RESERVED_NAME,
        ),
        (
            request(
                &EndTransaction {
                    position: LogPosition(u64::MAX),
                    ..end()
                },
                none(),
            ),
            Code::NOT_FOUND,
        ),
        (
            request(
                &EndTransaction {
                    message_id: long.clone(),
                    ..end()
                },
                none(),
            ),
            Code::NOT_FOUND,
        ),
        (request(&poll(limits::PULL_WAIT_MS + 1), none()), bad),
        popped(
            Pop {
                max_messages: 0,
                ..pop()
            },
            bad,
        ),
        popped(
            Pop {
                max_messages: limits::POP_MESSAGES + 1,
                ..pop()
            },
            bad,
        ),
        popped(
            Pop {
                invisible_ms: 9,
                ..pop()
            },
            bad,
        ),
        popped(
            Pop {
                invisible_ms: u32::MAX,
                ..pop()
            },
            bad,
        ),
        popped(
            Pop {
                wait_ms: limits::PULL_WAIT_MS + 1,
                ..pop()
            },
            bad,
        ),
        popped(
            Pop {
                queue: Some(QueueId(2)),
                ..pop()
            },
            Code::NOT_FOUND,
        ),
        popped(
            Pop {
                topic: named("none"),
                ..pop()
            },
            Code::NOT_FOUND,
        ),
        (
            request(
                &AckPopped {
                    receipts: receipts(limits::RECEIPTS + 1),
                    ..ack()
                },
                none(),
            ),
            bad,
        ),
        (
            request(
                &AckPopped {
                    topic: named("none"),
                    ..ack()
                },
                none(),
            ),
            Code::NOT_FOUND,
        ),
        (
            request(
                &HidePopped {
                    receipts: receipts(limits::RECEIPTS + 1),
                    ..hide()
                },
                none(),
            ),
            bad,
        ),
        (
            request(
                &HidePopped {
                    invisible_ms: *limits::POP_INVISIBLE_MS.end() + 1,
                    ..hide()
                },
                none(),
            ),
            bad,
        ),
        (
            request(
                &FindMessages {
                    key: MessageKey::Key(String::new()),
                    ..find()
                },
                none(),
            ),
            bad,
        ),
        (
            request(
                &FindMessages {
                    key: MessageKey::Unique("a\u{1}".to_owned()),
                    ..find()
                },
                none(),
            ),
            bad,
        ),
        (
            request(
                &FindMessages {
                    messages: 0,
                    ..find()
                },
                none(),
            ),
            bad,
        ),
        (
            request(
                &FindMessages {
                    stored: (2, 1),
                    ..find()
                },
                none(),
            ),
            bad,
        ),
        (
            request(
                &FindMessages {
                    topic: Some(named("none")),
                    ..find()
                },
                none(),
            ),
            Code::NOT_FOUND,
        ),
        (
            request(
                &MessageAt {
                    position: LogPosition(u64::MAX),
                },
                none(),
            ),
            Code::MESSAGE_NOT_FOUND,
        ),
        (
            request(
                &ResendMessage {
                    queue: QueueId(u32::MAX),
                    ..resend()
                },
                none(),
            ),
            Code::MESSAGE_NOT_FOUND,
        ),
        (request(&answer_to("", "c"), block()), bad),
        (request(&answer_to("in", &long), block()), bad),
        (request(&answer_to("in", "c"), none()), bad),
        (
            request(&answer_to("in", "c"), [block(), block()].concat()),
            bad,
        ),
        (request(&fetch("", 0), none()), bad),
        (request(&fetch("in\n", 0), none()), bad),
        (request(&fetch("in", u32::MAX), none()), bad),
        (
            request(
                &Reconsume {
                    delay_ms: u32::MAX,
                    ..give_back()
                },
                none(),
            ),
            bad,
        ),
    ]
}

#[test]
fn each_illegal_value_gets_its_code() {
    let mut broker = Stepped::open();
    for (number, (request, code)) in illegal().into_iter().enumerate() {
        let kind = request.kind;
        let refused = broker.ask(request).map(|it| it.unwrap_err());
        let refused = refused.unwrap_or_else(|| panic!("case {number} is held"));
        assert!(refused.is(code), "case {number}, kind {kind}: {refused:?}");
        assert!(refused.message.len() > 20, "case {number}: {refused:?}");
    }
    broker.goes_on();
}

/// Whatever a header holds, it is refused with a reason or done, and nobody else notices.
#[test]
fn no_header_harms_anybody() {
    let mut random = Rng::with_seed(7);
    let mut broker = Stepped::open();
    let (mut refused, mut done) = (0, 0);
    for round in 0..6_000 {
        let all = sane();
        let (name, mut request) = all[random.usize(0..all.len())].clone();
        request.header = mutated(&mut random, &request.header);
        match broker.ask(request.clone()) {
            Some(Ok(())) => done += 1,
            Some(Err(error)) => {
                refused += 1;
                let is_coded = Code::find(error.code).is_some_and(|it| *it != Code::INTERNAL);
                assert!(is_coded, "{name} {:?}: {error:?}", request.header);
                assert!(error.message.len() > 10, "{name}: {error:?}");
            }
            // It may be said to wait.
            None => {}
        }
        if round % 1_000 == 0 {
            broker.goes_on();
        }
    }
    assert!(
        refused > 1_000 && done > 500,
        "{refused} refused, {done} done"
    );
}

fn mutated(random: &mut Rng, header: &[u8]) -> Bytes {
    let mut bytes = header.to_vec();
    for _ in 0..random.u8(1..4) {
        let at = random.usize(0..=bytes.len());
        match random.u8(0..6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.u8(0..8),
            1 if at < bytes.len() => bytes[at] = random.u8(..),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, random.u8(..)),
            // The longest numbers, and lengths that promise much.
            4 => drop(bytes.splice(at..at, [0xff, 0xff, 0xff, 0xff, 0x0f])),
            _ => bytes.extend_from_within(at..),
        }
    }
    Bytes::from(bytes)
}
