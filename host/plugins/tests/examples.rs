//! The examples for authors (`filters-examples`) on their own cases: one JSON value a line in the
//! `cases.ndjson` of their folder.
//!
//! A case has a `message` (`properties`, `keys`, `tags`, `orderKey`, `sequence`, `body`), perhaps an
//! `expression`, `params`, and for a selector `queues` (`broker/id:zone`). It says what to `expect`:
//! whether the message is delivered, or which queue it goes to; or why the plugin is `refused`.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;

use quern_plugins::{
    Batch, Config, Field, Kind, Needs, Number, Plugin, Route, RouteQueue, Runtime, SubscribeError,
    Verdict, Worker, integer,
};
use serde_json::Value;

const EXAMPLES: &[&str] = &[
    "region-router",
    "percentage-rollout",
    "json-field",
    "pii-check",
    "geo-fence",
];

fn load(runtime: &Runtime, name: &str) -> std::sync::Arc<Plugin> {
    let file = format!("quern-example-{name}.wasm");
    let bytes = std::fs::read(Path::new(env!("EXAMPLES")).join(file)).unwrap();
    runtime.load(name, &bytes).unwrap()
}

fn cases(name: &str) -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../filters-examples");
    assert!(
        folder.join(name).join("README.md").exists(),
        "{name} has no README"
    );
    let text = std::fs::read_to_string(folder.join(name).join("cases.ndjson")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

fn params(case: &Value) -> Vec<(String, String)> {
    let Some(params) = case["params"].as_object() else {
        return Vec::new();
    };
    let pairs = params.iter();
    pairs
        .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
        .collect()
}

fn laid_out(needs: &Needs, case: &Value, bodies: bool) -> Batch {
    let message = &case["message"];
    let mut batch = Batch::new(needs);
    batch.begin_message();
    for field in &needs.fields {
        let text = match field {
            Field::Property(name) => &message["properties"][name.as_str()],
            Field::Tag => &message["tags"],
            Field::Keys => &message["keys"],
            Field::OrderKey => &message["orderKey"],
            other => panic!("no case says {other:?}"),
        };
        batch.text(text.as_str());
    }
    for number in &needs.numbers {
        batch.number(match number {
            Number::Sequence => message["sequence"].as_i64().unwrap_or(0),
            Number::Integer(name) => integer(message["properties"][name.as_str()].as_str()),
            other => panic!("no case says {other:?}"),
        });
    }
    if bodies {
        batch.body(message["body"].as_str().unwrap_or("").as_bytes());
    }
    batch.end_message();
    batch
}

fn route(case: &Value) -> Route {
    let queues = case["queues"].as_array().unwrap().iter().map(|queue| {
        let (name, zone) = queue.as_str().unwrap().split_once(':').unwrap();
        let (broker, id) = name.split_once('/').unwrap();
        RouteQueue {
            broker: broker.to_owned(),
            id: id.parse().unwrap(),
            zone: zone.to_owned(),
            latency_us: 0,
            backlog: 0,
        }
    });
    Route::new(queues.collect())
}

/// What the plugin makes of a case, as the case would write it.
fn outcome(
    worker: &mut Worker,
    plugin: &std::sync::Arc<Plugin>,
    case: &Value,
) -> Result<Value, SubscribeError> {
    let expression = case["expression"].as_str().unwrap_or("");
    if plugin.kind() == Kind::QueueSelector {
        let selector = worker.open(plugin, &params(case))?;
        let batch = laid_out(selector.needs(), case, false);
        let selected = worker.select(&selector, &route(case), &batch);
        assert_eq!(selected.fault, None, "{case}");
        return Ok(selected.queues[0].into());
    }
    let subscription = worker.subscribe(plugin, expression, &params(case))?;
    let batch = laid_out(subscription.needs(), case, subscription.needs_bodies());
    let judged = worker.judge(&subscription, &batch);
    assert_eq!(judged.fault, None, "{case}");
    Ok((judged.verdicts[0] == Verdict::Deliver).into())
}

#[test]
fn examples_do_what_their_cases_say() {
    let runtime = Runtime::new(&Config { instances: 8 }).unwrap();
    let mut worker = runtime.worker();
    for name in EXAMPLES {
        let plugin = load(&runtime, name);
        let cases = cases(name);
        assert!(cases.len() >= 5, "{name} has few cases");
        for case in cases {
            match outcome(&mut worker, &plugin, &case) {
                Ok(outcome) => assert_eq!(outcome, case["expect"], "{name}: {case}"),
                Err(SubscribeError::Refused(refusal)) => {
                    assert_eq!(case["refused"], refusal.reason, "{name}: {case}");
                }
                Err(fault) => panic!("{name}: {case}: {fault}"),
            }
        }
    }
}

#[test]
fn a_share_of_the_keys_is_that_share_and_grows() {
    let runtime = Runtime::new(&Config { instances: 8 }).unwrap();
    let mut worker = runtime.worker();
    let plugin = load(&runtime, "percentage-rollout");
    let mut before: Vec<bool> = vec![false; 10_000];
    for percent in [5, 10, 50, 100] {
        let params = [("percent".to_owned(), percent.to_string())];
        let share = worker.subscribe(&plugin, "", &params).unwrap();
        let mut within = Vec::new();
        for chunk in (0..10_000).collect::<Vec<u32>>().chunks(256) {
            let mut batch = Batch::new(share.needs());
            for key in chunk {
                batch.begin_message();
                batch.text(Some(&format!("customer-{key}")));
                batch.end_message();
            }
            let judged = worker.judge(&share, &batch);
            within.extend(judged.verdicts.iter().map(|it| *it == Verdict::Deliver));
        }
        let count = within.iter().filter(|it| **it).count() as i64;
        let wanted = 100 * percent;
        assert!(
            (count - wanted).abs() <= 150,
            "{percent} %: {count} of 10,000"
        );
        let lost = before
            .iter()
            .zip(&within)
            .filter(|(was, is)| **was && !**is);
        assert_eq!(lost.count(), 0, "who was in at a smaller share stays in");
        before = within;
    }
}
