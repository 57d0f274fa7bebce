//! A selector asked for one message, a strategy for 16 members and 64 queues.

use std::hint::black_box;

use anyhow::{Context as _, Result, ensure};
use quern_plugin::{java, shares};
use quern_plugins::{Batch, GroupQueue, Member, Request, Route, RouteQueue, Runtime, Strategy};

use crate::sample::{Line, compare};

const MEMBERS: usize = 16;
const QUEUES: usize = 64;

fn selector(runtime: &Runtime) -> Result<Line> {
    let hash = runtime.built_in("hash").context("we ship it")??;
    let mut worker = runtime.worker();
    let selector = worker.open(&hash, &[])?;
    let queues = (0..8).map(|id| RouteQueue {
        broker: "broker-a".to_owned(),
        id,
        zone: String::new(),
        latency_us: 0,
        backlog: 0,
    });
    let route = Route::new(queues.collect());
    let key = "customer-4711";
    let mut batch = Batch::new(selector.needs());
    let mut ask = || {
        batch.clear();
        batch.begin_message();
        batch.text(Some(black_box(key)));
        batch.number(7);
        batch.end_message();
        worker.select(&selector, &route, &batch).queues[0]
    };
    let native = |key: &str| (i64::from(java::hash_code(key)) % 8).unsigned_abs() as usize;
    ensure!(ask() == Some(native(key)), "answers differ");
    Ok(compare(
        "hash selector, 1 message",
        1,
        "600 ns (moonshot 350)",
        &mut || {
            black_box(native(black_box(key)));
        },
        &mut || {
            black_box(ask());
        },
    ))
}

fn request() -> Request {
    let members = (0..MEMBERS).map(|index| Member {
        id: format!("10.0.0.{index:03}@4711"),
        zone: String::new(),
        weight: 1,
    });
    let queues = (0..QUEUES).map(|index| GroupQueue {
        broker: format!("broker-{}", index / 8),
        id: index as u32 % 8,
        zone: String::new(),
        owner: None,
        lag: None,
    });
    Request::new("billing", "orders", members.collect(), queues.collect())
}

fn strategy(runtime: &Runtime, name: &str) -> Result<Line> {
    let plugin = runtime.built_in(name).context("we ship it")??;
    let strategy = Strategy::bind(&plugin, &[])?;
    let request = request();
    let answer = strategy.allocate(&request)?;
    if name == "averagely" {
        ensure!(
            answer == shares::averagely(MEMBERS, QUEUES),
            "answers differ"
        );
    }
    ensure!(
        answer.iter().all(Option::is_some),
        "every queue has an owner"
    );
    let mut failed = false;
    let line = compare(
        format!("{name}, {MEMBERS} members × {QUEUES} queues, ÷ averagely"),
        1,
        "15 µs (moonshot 10)",
        &mut || {
            black_box(shares::averagely(black_box(MEMBERS), black_box(QUEUES)));
        },
        &mut || {
            failed |= black_box(strategy.allocate(black_box(&request))).is_err();
        },
    );
    ensure!(!failed, "{name} failed under way");
    Ok(line)
}

pub(crate) fn run(runtime: &Runtime) -> Result<Vec<Line>> {
    Ok(vec![
        selector(runtime)?,
        strategy(runtime, "averagely")?,
        strategy(runtime, "consistent-hash")?,
    ])
}
