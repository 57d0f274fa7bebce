//! The examples for authors (`filters-examples`) on the cases of their folders, and what cases
//! cannot say.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;

use quern_plugins::case::{self, Case};
use quern_plugins::{Batch, Config, Plugin, Runtime, Verdict};

const EXAMPLES: &[&str] = &[
    "region-router",
    "percentage-rollout",
    "json-field",
    "pii-check",
    "geo-fence",
];

fn runtime() -> Runtime {
    let config = Config {
        instances: 8,
        ..Config::default()
    };
    Runtime::new(&config).unwrap()
}

fn load(runtime: &Runtime, name: &str) -> std::sync::Arc<Plugin> {
    let file = format!("quern-example-{name}.wasm");
    let bytes = std::fs::read(Path::new(env!("EXAMPLES")).join(file)).unwrap();
    runtime.load(name, &bytes).unwrap()
}

fn cases(name: &str) -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../filters-examples");
    assert!(
        folder.join(name).join("README.md").exists(),
        "{name} has no README"
    );
    case::parse(&std::fs::read_to_string(folder.join(name).join("cases.ndjson")).unwrap()).unwrap()
}

#[test]
fn examples_do_what_their_cases_say() {
    let runtime = runtime();
    let mut worker = runtime.worker();
    for name in EXAMPLES {
        let plugin = load(&runtime, name);
        let cases = cases(name);
        assert!(cases.len() >= 5, "{name} has few cases");
        for case in cases {
            let outcome = case.run(&mut worker, &plugin);
            assert_eq!(outcome, case.right(), "{name}: {}", case.what);
        }
    }
}

#[test]
fn a_share_of_the_keys_is_that_share_and_grows() {
    let runtime = runtime();
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
