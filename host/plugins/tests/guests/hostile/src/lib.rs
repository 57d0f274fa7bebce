//! A filter that misbehaves as its expression asks, for tests of the runtime.
//!
//! `loop`, `bomb`, `trap`, `deep`, `fail`, `short`, `long`, `huge`, `spare`, `leak`: what it does when it
//! judges; `leak` keeps a mebibyte of every call. `compile-loop`, `compile-trap`, `refuse`: what it does when it compiles. `needs-…`: what
//! it says it reads. It delivers on `poison`, unless a message is tagged so; on `heavy`, working
//! with the square of the batch; on `chatty`, logging and counting under a thousand names; on
//! `counter`, to every seventh it is asked about. Written against the bare contract,
//! because the SDK would not let an answer have a wrong shape.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use quern_plugin::bindings::about::exports::quern::plugin::about;
use quern_plugin::bindings::filter::exports::quern::plugin::filter;
use quern_plugin::bindings::types;

struct Hostile;

/// What a plugin must not have: a memory of earlier messages.
static ASKED: AtomicU32 = AtomicU32::new(0);

struct Subscription(String);

fn spin() -> ! {
    let mut turns = 0u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

fn devour() -> ! {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    loop {
        // Not written to: its fuel must not end before its memory.
        hoard.push(Vec::with_capacity(1 << 20));
        std::hint::black_box(&hoard);
    }
}

/// Written to, so that it is there.
fn leak() {
    std::mem::forget(std::hint::black_box(vec![1u8; 1 << 20]));
}

fn descend(depth: u64) -> u64 {
    let below = std::hint::black_box([depth; 64]);
    match depth {
        u64::MAX => 0,
        _ => descend(std::hint::black_box(depth + 1)) + below[0],
    }
}

fn toil(turns: u32) {
    for turn in 0..turns {
        std::hint::black_box(turn);
    }
}

fn chatter() {
    for name in 0..1_000 {
        quern_plugin::count(&format!("name-{name}"), 2);
        quern_plugin::log(quern_plugin::Level::Debug, "again");
    }
}

fn trap() -> ! {
    panic!("as asked")
}

impl about::Guest for Hostile {
    fn describe() -> about::Description {
        about::Description {
            name: "hostile".to_owned(),
            version: "0.0.1".to_owned(),
            summary: "misbehaves as asked".to_owned(),
            language: Some("HOSTILE".to_owned()),
            params: Vec::new(),
        }
    }
}

impl filter::Guest for Hostile {
    type Subscription = Subscription;
}

impl filter::GuestSubscription for Subscription {
    fn compile(
        expression: String,
        _: types::Params,
    ) -> Result<filter::Subscription, types::Refusal> {
        match expression.as_str() {
            "compile-loop" => spin(),
            "compile-trap" => trap(),
            "refuse" => Err(types::Refusal {
                code: types::RefusalCode::Syntax,
                param: None,
                at: 1_000,
                len: u32::MAX,
                reason: "x".repeat(100_000),
                help: None,
            }),
            _ => Ok(filter::Subscription::new(Self(expression))),
        }
    }

    fn needs(&self) -> types::Needs {
        let fields = match self.0.as_str() {
            "needs-many" => vec![types::Field::Tag; 1_000],
            "needs-other" => vec![types::Field::Other("mood".to_owned())],
            _ => vec![types::Field::Tag],
        };
        let numbers = match self.0.as_str() {
            "needs-random" => vec![types::Number::Random],
            _ => Vec::new(),
        };
        types::Needs {
            fields,
            numbers,
            tag_codes: None,
        }
    }

    fn matches(&self, batch: types::Batch) -> Result<types::Verdicts, types::Failure> {
        let words = batch.len.div_ceil(32) as usize;
        match self.0.as_str() {
            "loop" => spin(),
            "bomb" => devour(),
            "trap" => trap(),
            "deep" => Ok(vec![descend(1) as u32]),
            "fail" => Err("as asked".to_owned()),
            "short" => Ok(Vec::new()),
            "long" => Ok(vec![0; words + 1]),
            "huge" => Ok(vec![0; 300_000]),
            "spare" => Ok(vec![u32::MAX; words]),
            "poison" if batch.text.contains("poison") => trap(),
            which => {
                match which {
                    "heavy" => toil(batch.len * batch.len * 50),
                    "chatty" => chatter(),
                    "leak" => leak(),
                    _ => {}
                }
                let mut verdicts = vec![0; words];
                for message in 0..batch.len {
                    if which == "counter" && !ASKED.fetch_add(1, Relaxed).is_multiple_of(7) {
                        continue;
                    }
                    verdicts[message as usize / 32] |= 1 << (message % 32);
                }
                Ok(verdicts)
            }
        }
    }
}

quern_plugin::bindings::about::export_about!(Hostile with_types_in quern_plugin::bindings::about);
quern_plugin::bindings::filter::export_filter!(Hostile with_types_in quern_plugin::bindings::filter);
