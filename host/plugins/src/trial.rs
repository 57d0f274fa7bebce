//! The trial: a plugin's first run, in a child process. It says what it is, judges fixed messages
//! in several orders and divisions, which must not change a verdict, and answers its own author's
//! cases.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::allocation_strategy::{GroupQueue, Member, Request, Strategy};
use crate::artefact::Artefact;
use crate::batch::{Batch, Needs};
use crate::case::{self, Case};
use crate::digest::Digest;
use crate::engine;
use crate::error::{Fault, LoadError, SubscribeError};
use crate::limits::{self, Class};
use crate::logs::Logs;
use crate::plugin::{Kind, Plugin};
use crate::queue_selector::{Route, RouteQueue};
use crate::runtime;
use crate::worker::{Subscription, Verdict, Worker};

/// What the trial found: kept beside the component, and shown to who uploads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub kind: Kind,
    /// What the author calls it.
    pub name: String,
    /// The author's version.
    pub version: String,
    pub summary: String,
    /// The expression language consumers may name instead of the plugin.
    pub language: Option<String>,
    /// Expressions and parameters the fixed messages were judged under.
    pub expressions: u32,
    /// Judgements of fixed messages.
    pub judged: u32,
    /// Fuel each of them took, on average.
    pub fuel_per_message: u64,
    /// The author's cases that passed: all of them.
    pub cases: u32,
}

/// Messages of the dry run.
const MESSAGES: usize = 1_024;
/// Lengths of batches: borders of words, and the longest.
const LENGTHS: [usize; 6] = [1, 31, 32, 33, 256, 7];

/// Runs it; in a child process.
pub(crate) fn run(
    kind: Kind,
    class: &'static Class,
    artefact: &Artefact,
    vectors: &[u8],
) -> Result<Report, LoadError> {
    let failed = |error: wasmtime::Error| LoadError::Child(format!("{error:#}"));
    let engine = engine::trying().map_err(failed)?;
    let linker = runtime::linker(&engine).map_err(failed)?;
    let component = artefact.load(&engine).map_err(failed)?;
    // Its true digest is known where its bytes are; faults of a trial do not show it.
    let digest = Digest::of(&[]);
    let logs = Logs::default();
    let plugin = Plugin::link((&linker, &logs), "uploaded", &digest, class, &component)?;
    let plugin = Arc::new(plugin);
    let vectors = std::str::from_utf8(vectors)
        .map_err(|error| LoadError::Vector(format!("the cases are not UTF-8: {error}")))?;
    let cases = case::parse(vectors)?;
    let dry = dry_run(&plugin, &cases)?;
    answer(&plugin, &cases)?;
    Ok(Report {
        kind,
        name: plugin.calls_itself().to_owned(),
        version: plugin.version().to_owned(),
        summary: plugin.summary().to_owned(),
        language: plugin.language().map(str::to_owned),
        expressions: dry.expressions,
        judged: dry.judged,
        fuel_per_message: dry.fuel.checked_div(dry.judged.into()).unwrap_or(0),
        cases: cases.len() as u32,
    })
}

/// The author's own cases; one miss refuses.
fn answer(plugin: &Arc<Plugin>, cases: &[Case]) -> Result<(), LoadError> {
    let mut worker = Worker::default();
    for (number, case) in cases.iter().enumerate() {
        let (right, outcome) = (case.right(), case.run(&mut worker, plugin));
        if outcome != right {
            let title = case.title(number + 1);
            return Err(LoadError::Vector(format!(
                "{title:?} expects {right}, it was {outcome}"
            )));
        }
    }
    Ok(())
}

#[derive(Default)]
struct Dry {
    expressions: u32,
    judged: u32,
    fuel: u64,
}

type Expression = (String, Vec<(String, String)>);

fn dry_run(plugin: &Arc<Plugin>, cases: &[Case]) -> Result<Dry, LoadError> {
    let mut expressions: Vec<Expression> = vec![Expression::default()];
    for case in cases {
        let one = (case.expression.clone(), case.params());
        if case.refused.is_none()
            && expressions.len() < limits::DRY_RUNS
            && !expressions.contains(&one)
        {
            expressions.push(one);
        }
    }
    let mut dry = Dry::default();
    let before = plugin.metrics().fuel;
    for expression in &expressions {
        match plugin.kind() {
            Kind::Filter | Kind::BodyFilter => dry_filter(plugin, expression, &mut dry)?,
            Kind::QueueSelector => dry_selector(plugin, &expression.1, &mut dry)?,
            Kind::AllocationStrategy => dry_strategy(plugin, &expression.1, &mut dry)?,
        }
    }
    dry.fuel = plugin.metrics().fuel - before;
    Ok(dry)
}

fn dry_filter(
    plugin: &Arc<Plugin>,
    expression: &Expression,
    dry: &mut Dry,
) -> Result<(), LoadError> {
    let first = Pass::run(plugin, expression, |worker, subscription| {
        judge(worker, subscription, &LENGTHS, false)
    })?;
    // Not understood: no message can be judged under it.
    let Some(first) = first else { return Ok(()) };
    let again = Pass::run(plugin, expression, |worker, subscription| {
        let mut verdicts = judge(worker, subscription, &[5, 64, 1], true)?;
        verdicts.reverse();
        // The same once more, by an instance that has seen it all.
        let repeated = judge(worker, subscription, &[256], false)?;
        match repeated == verdicts {
            true => Ok(verdicts),
            false => Err(impure("asked again, it answers otherwise")),
        }
    })?;
    let Some(again) = again else {
        return Err(impure("it refuses an expression it has accepted"));
    };
    first.compare(&again)?;
    dry.expressions += 1;
    dry.judged += 3 * MESSAGES as u32;
    Ok(())
}

/// A selector has no state either: counters and chance come in with each message.
fn dry_selector(
    plugin: &Arc<Plugin>,
    params: &[(String, String)],
    dry: &mut Dry,
) -> Result<(), LoadError> {
    let zones = ["", "eu", "us"];
    let queue = |number: usize| RouteQueue {
        broker: format!("b{}", number / 2),
        id: number as u32 % 2,
        zone: zones[number % zones.len()].to_owned(),
        latency_us: number as u32 * 100,
        backlog: number as u32,
    };
    let route = Route::new((0..7).map(queue).collect());
    let choose = |lengths: &[usize]| -> Result<Option<Vec<Option<usize>>>, LoadError> {
        let mut worker = Worker::default();
        let selector = match worker.open(plugin, params) {
            Ok(selector) => selector,
            Err(SubscribeError::Refused(_)) => return Ok(None),
            Err(SubscribeError::Fault(fault)) => return Err(fault.into()),
        };
        let mut chosen = Vec::with_capacity(MESSAGES);
        in_batches(selector.needs(), false, lengths, false, |batch| {
            let selected = worker.select(&selector, &route, batch);
            chosen.extend(selected.queues);
            selected.fault
        })?;
        Ok(Some(chosen))
    };
    let Some(first) = choose(&LENGTHS)? else {
        return Ok(());
    };
    if choose(&[5, 64, 1])? != Some(first) {
        return Err(impure(
            "the same messages went to other queues in other batches",
        ));
    }
    dry.expressions += 1;
    dry.judged += 2 * MESSAGES as u32;
    Ok(())
}

fn dry_strategy(
    plugin: &Arc<Plugin>,
    params: &[(String, String)],
    dry: &mut Dry,
) -> Result<(), LoadError> {
    let strategy = match Strategy::bind(plugin, params) {
        Ok(strategy) => strategy,
        Err(SubscribeError::Refused(_)) => return Ok(()),
        Err(SubscribeError::Fault(fault)) => return Err(fault.into()),
    };
    for (members, queues) in [(0, 0), (0, 8), (1, 0), (1, 8), (3, 8), (9, 4), (16, 64)] {
        let member = |number: usize| Member {
            id: format!("10.0.0.{number}@{}", number * 7),
            zone: ["eu", "us"][number % 2].to_owned(),
            weight: 1,
        };
        let queue = |number: usize| GroupQueue {
            broker: format!("eu@b{}", number / 4),
            id: number as u32 % 4,
            zone: ["eu", "us"][number % 2].to_owned(),
            owner: None,
            lag: Some(number as u64),
        };
        let members = (0..members).map(member).collect();
        let request = Request::new("g", "t", members, (0..queues).map(queue).collect());
        let allocate = || match strategy.allocate(&request) {
            Err(fault) if !fault.is_failure() => Err(in_trial(fault)),
            answer => Ok(answer),
        };
        if allocate()? != allocate()? {
            return Err(impure("the same group was allocated otherwise"));
        }
        dry.judged += 2;
    }
    dry.expressions += 1;
    Ok(())
}

fn impure(what: &str) -> LoadError {
    LoadError::Impure(what.to_owned())
}

/// One pass over the fixed messages, on an instance of its own.
struct Pass {
    needs: Needs,
    verdicts: Vec<Verdict>,
}

impl Pass {
    /// `None`: the expression is refused.
    fn run(
        plugin: &Arc<Plugin>,
        (expression, params): &Expression,
        judge: impl FnOnce(&mut Worker, &Subscription) -> Result<Vec<Verdict>, LoadError>,
    ) -> Result<Option<Self>, LoadError> {
        let mut worker = Worker::default();
        let subscription = match worker.subscribe(plugin, expression, params) {
            Ok(subscription) => subscription,
            Err(SubscribeError::Refused(_)) => return Ok(None),
            Err(SubscribeError::Fault(fault)) => return Err(fault.into()),
        };
        let verdicts = judge(&mut worker, &subscription)?;
        Ok(Some(Self {
            needs: subscription.needs().clone(),
            verdicts,
        }))
    }

    fn compare(&self, other: &Self) -> Result<(), LoadError> {
        if self.needs != other.needs {
            return Err(impure("another instance needs other fields"));
        }
        let pairs = self.verdicts.iter().zip(&other.verdicts);
        match pairs.into_iter().position(|(one, two)| one != two) {
            None => Ok(()),
            Some(message) => Err(LoadError::Impure(format!(
                "fixed message {message} gets another verdict in another order and division"
            ))),
        }
    }
}

/// Verdicts in the order they were asked for; batches have these lengths in turn.
fn judge(
    worker: &mut Worker,
    subscription: &Subscription,
    lengths: &[usize],
    backwards: bool,
) -> Result<Vec<Verdict>, LoadError> {
    let mut verdicts = Vec::with_capacity(MESSAGES);
    let (needs, bodies) = (subscription.needs(), subscription.needs_bodies());
    in_batches(needs, bodies, lengths, backwards, |batch| {
        let judged = worker.judge(subscription, batch);
        verdicts.extend(judged.verdicts);
        judged.fault
    })?;
    Ok(verdicts)
}

/// Hands out the fixed messages. A guest may say that it cannot answer: that is an answer.
fn in_batches(
    needs: &Needs,
    bodies: bool,
    lengths: &[usize],
    backwards: bool,
    mut ask: impl FnMut(&Batch) -> Option<Fault>,
) -> Result<(), LoadError> {
    let mut batch = Batch::new(needs);
    let mut lengths = lengths.iter().cycle().copied();
    let mut length = lengths.next().unwrap_or(1);
    for number in 0..MESSAGES {
        let message = match backwards {
            true => MESSAGES - 1 - number,
            false => number,
        };
        fixed(&mut batch, needs, bodies, message);
        if batch.len() >= length || batch.is_full() || number + 1 == MESSAGES {
            if let Some(fault) = ask(&batch).filter(|fault| !fault.is_failure()) {
                return Err(in_trial(fault));
            }
            batch.clear();
            length = lengths.next().unwrap_or(1);
        }
    }
    Ok(())
}

fn in_trial(mut fault: Fault) -> LoadError {
    fault.message = format!("judging the fixed messages, it {}", fault.message);
    fault.into()
}

/// What texts and numbers look like in the wild, and where programs stumble.
const TEXTS: [Option<&str>; 16] = [
    None,
    Some("a"),
    Some("eu"),
    Some("paid"),
    Some("120"),
    Some("-5"),
    Some("5.0"),
    Some(" 5"),
    Some("9223372036854775807"),
    Some("NaN"),
    Some("true"),
    Some("\u{1F600}\u{10FFFF}"),
    Some("naïve"),
    Some("'; --"),
    Some("\u{0}\n\t"),
    Some("{\"sku\":\"A7\"}"),
];
const BODIES: [&[u8]; 6] = [
    b"",
    b"text",
    b"{\"sku\":\"A7\",\"amount\":120,\"nested\":{\"a\":[1,2]}}",
    b"{\"cut",
    b"\xff\xfe\x00\x01",
    "\u{1F600}".as_bytes(),
];
/// As long as a value can be.
const LONGEST: usize = 32 * 1024;
const NUMBERS: [i64; 8] = [i64::MIN, i64::MIN + 1024, 0, 1, -1, 100, 120, i64::MAX];

/// Fixed message `number`, whatever is read of it.
fn fixed(batch: &mut Batch, needs: &Needs, bodies: bool, number: usize) {
    let pick = |place: usize| {
        let mixed = (number * 31 + place * 7 + 1).wrapping_mul(0x9E37_79B9);
        mixed >> 8
    };
    batch.begin_message();
    for place in 0..needs.fields.len() {
        match number % 128 == 77 && place == 0 {
            true => batch.text(Some(&"x".repeat(LONGEST))),
            false => batch.text(TEXTS[pick(place) % TEXTS.len()]),
        }
    }
    for place in 0..needs.numbers.len() {
        batch.number(NUMBERS[pick(place + 17) % NUMBERS.len()]);
    }
    if bodies {
        batch.body(BODIES[pick(33) % BODIES.len()]);
    }
    batch.end_message();
}
