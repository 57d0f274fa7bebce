//! A filter that misbehaves as its expression asks, for tests of the runtime.
//!
//! `loop`, `bomb`, `trap`, `fail`, `short`, `long`, `spare`: what it does when it judges.
//! `compile-loop`, `compile-trap`: what it does when it compiles. `poison`: it traps only on
//! messages tagged `poison` and delivers all others. Written against the bare contract, because the
//! SDK would not let an answer have a wrong shape.

use quern_plugin::bindings::exports::quern::plugin::{about, filter};
use quern_plugin::bindings::quern::plugin::types;

struct Hostile;

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
        hoard.push(vec![1; 1 << 20]);
        std::hint::black_box(&hoard);
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
            _ => Ok(filter::Subscription::new(Self(expression))),
        }
    }

    fn needs(&self) -> types::Needs {
        types::Needs {
            fields: vec![types::Field::Tag],
            numbers: Vec::new(),
            tag_codes: None,
        }
    }

    fn matches(&self, batch: types::Batch) -> Result<types::Verdicts, types::Failure> {
        let words = batch.len.div_ceil(32) as usize;
        match self.0.as_str() {
            "loop" => spin(),
            "bomb" => devour(),
            "trap" => trap(),
            "fail" => Err("as asked".to_owned()),
            "short" => Ok(Vec::new()),
            "long" => Ok(vec![0; words + 1]),
            "spare" => Ok(vec![u32::MAX; words]),
            "poison" if batch.text.contains("poison") => trap(),
            _ => {
                let mut verdicts = vec![0; words];
                for message in 0..batch.len {
                    verdicts[message as usize / 32] |= 1 << (message % 32);
                }
                Ok(verdicts)
            }
        }
    }
}

quern_plugin::bindings::export_filter_plugin!(Hostile with_types_in quern_plugin::bindings);
