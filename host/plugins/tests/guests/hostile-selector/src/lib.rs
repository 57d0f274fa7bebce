//! A queue selector that misbehaves as its parameter `mode` asks, for tests of the runtime.
//!
//! `open-trap`, `open-loop`, `needs-many`, `needs-trap`, `route-trap`: before it selects. `trap`,
//! `loop`, `beyond`, `short`, `long`, `fail`: when it does. `poison`: traps on an order key of that
//! name; without the parameter, on a tag, too. Anything else: the first queue. Written against the bare contract, because the SDK would not
//! let an answer have a wrong shape.

use quern_plugin::bindings::about::exports::quern::plugin::about;
use quern_plugin::bindings::queue_selector::exports::quern::plugin::queue_selector;
use quern_plugin::bindings::types;

struct Hostile;

struct Selector(String);

fn spin() -> ! {
    let mut turns = 0u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

impl about::Guest for Hostile {
    fn describe() -> about::Description {
        about::Description {
            name: "hostile-selector".to_owned(),
            version: "0.0.1".to_owned(),
            summary: "misbehaves as asked".to_owned(),
            language: None,
            params: Vec::new(),
        }
    }
}

impl queue_selector::Guest for Hostile {
    type Selector = Selector;
}

impl queue_selector::GuestSelector for Selector {
    fn open(params: types::Params) -> Result<queue_selector::Selector, types::Refusal> {
        quern_plugin::report_panics();
        let mode = params
            .into_iter()
            .next()
            .map_or_else(|| "no mode".to_owned(), |(_, mode)| mode);
        match mode.as_str() {
            "open-trap" => panic!("as asked"),
            "open-loop" => spin(),
            "refuse" => Err(types::Refusal {
                code: types::RefusalCode::BadParam,
                param: Some("mode".to_owned()),
                at: 99,
                len: u32::MAX,
                reason: "as asked".to_owned(),
                help: None,
            }),
            _ => Ok(queue_selector::Selector::new(Self(mode))),
        }
    }

    fn needs(&self) -> types::Needs {
        let fields = match self.0.as_str() {
            "needs-trap" => panic!("as asked"),
            "needs-many" => vec![types::Field::OrderKey; 1_000],
            "no mode" => vec![types::Field::OrderKey, types::Field::Tag],
            _ => vec![types::Field::OrderKey],
        };
        types::Needs {
            fields,
            numbers: Vec::new(),
            tag_codes: None,
        }
    }

    fn route(&self, queues: Vec<queue_selector::Queue>) {
        if self.0 == "route-trap" {
            panic!("{} queues", queues.len());
        }
    }

    fn select(&self, batch: types::Batch) -> Result<Vec<u32>, types::Failure> {
        let len = batch.len as usize;
        match self.0.as_str() {
            "trap" => panic!("as asked"),
            "loop" => spin(),
            "fail" => Err("as asked".to_owned()),
            "beyond" => Ok(vec![1_000; len]),
            "short" => Ok(vec![0; len - 1]),
            "long" => Ok(vec![0; len + 1]),
            "poison" | "no mode" if batch.text.contains("poison") => panic!("poisoned"),
            _ => Ok(vec![0; len]),
        }
    }
}

quern_plugin::bindings::about::export_about!(Hostile with_types_in quern_plugin::bindings::about);
quern_plugin::bindings::queue_selector::export_queue_selector!(
    Hostile with_types_in quern_plugin::bindings::queue_selector
);
