//! An allocation strategy that misbehaves as its parameter `mode` asks, for tests of the runtime.
//!
//! `check-trap`, `check-loop`, `refuse`: when it is bound. `trap`, `loop`, `beyond`, `short`, `long`,
//! `fail`: when it allocates. `count`: answers by how often it was asked before. Anything else:
//! nobody; without the parameter it traps for groups named `poison…`. Written against the bare contract, because the SDK would not let an owner be beyond the
//! members.

use std::sync::atomic::{AtomicU32, Ordering};

use quern_plugin::bindings::about::exports::quern::plugin::about;
use quern_plugin::bindings::allocation_strategy::exports::quern::plugin::allocation_strategy;
use quern_plugin::bindings::types;

struct Hostile;

static ASKED: AtomicU32 = AtomicU32::new(0);

fn spin() -> ! {
    let mut turns = 0u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

fn mode(params: &types::Params) -> &str {
    params.first().map_or("", |(_, mode)| mode)
}

impl about::Guest for Hostile {
    fn describe() -> about::Description {
        about::Description {
            name: "hostile-strategy".to_owned(),
            version: "0.0.1".to_owned(),
            summary: "misbehaves as asked".to_owned(),
            language: None,
            params: Vec::new(),
        }
    }
}

impl allocation_strategy::Guest for Hostile {
    fn check(params: types::Params) -> Result<(), types::Refusal> {
        quern_plugin::report_panics();
        match mode(&params) {
            "check-trap" => panic!("as asked"),
            "check-loop" => spin(),
            "refuse" => Err(types::Refusal {
                code: types::RefusalCode::BadParam,
                param: Some("mode".to_owned()),
                at: 2,
                len: 1_000,
                reason: "as asked".to_owned(),
                help: None,
            }),
            _ => Ok(()),
        }
    }

    fn allocate(
        request: allocation_strategy::Request,
        params: types::Params,
    ) -> Result<Vec<u32>, types::Failure> {
        quern_plugin::report_panics();
        let queues = request.queues.len();
        match mode(&params) {
            "trap" => panic!("as asked"),
            "loop" => spin(),
            "fail" => Err("as asked".to_owned()),
            "beyond" => Ok(vec![request.members.len() as u32; queues]),
            "short" => Ok(vec![0; queues - 1]),
            "long" => Ok(vec![0; queues + 1]),
            "" if request.group.starts_with("poison") => panic!("poisoned"),
            "count" => Ok(vec![ASKED.fetch_add(1, Ordering::Relaxed); queues]),
            _ => Ok(vec![u32::MAX; queues]),
        }
    }
}

quern_plugin::bindings::about::export_about!(Hostile with_types_in quern_plugin::bindings::about);
quern_plugin::bindings::allocation_strategy::export_allocation_strategy!(
    Hostile with_types_in quern_plugin::bindings::allocation_strategy
);
