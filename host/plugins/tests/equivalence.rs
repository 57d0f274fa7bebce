//! By seed: a component gives the answers of its native twin, whatever the messages, and a message the
//! same answer in whatever batch it comes. `QUERN_SEEDS=100000` tries more than the usual few.

use std::collections::HashMap;

use quern_filter_sql92::twin;
use quern_plugins::{
    Batch, Config, Field, Number, Route, RouteQueue, Runtime, SubscribeError, Subscription,
    Verdict, Worker, integer,
};

/// A seeded generator, so that a failing run can be repeated.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, of: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % of
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

fn seeds() -> u64 {
    let seeds = std::env::var("QUERN_SEEDS").ok();
    seeds.and_then(|seeds| seeds.parse().ok()).unwrap_or(300)
}

const NAMES: &[&str] = &["a", "b", "c", "TAGS", "d", "_e"];
const VALUES: &[&str] = &[
    "1",
    "5",
    "-7",
    "100",
    "2147483647",
    "2147483648",
    "9223372036854775807",
    "5.5",
    "NaN",
    "-0.0",
    "true",
    "x",
    "xy",
    "it's",
    "ü",
    "日本",
    "😀",
    "0x10",
    " 5",
    "5d",
    "٥",
    "many words in a value",
];
const LITERALS: &[&str] = &[
    "1",
    "5",
    "-7",
    "100",
    "2147483647",
    "3000000000",
    "5.5",
    ".5",
    "'x'",
    "'xy'",
    "''",
    "'it''s'",
    "'日本'",
    "'😀'",
    "TRUE",
    "FALSE",
    "0.0",
];

fn operand(dice: &mut Dice) -> String {
    match dice.below(3) {
        0 => dice.pick(LITERALS).to_owned(),
        _ => dice.pick(NAMES).to_owned(),
    }
}

fn condition(dice: &mut Dice, depth: usize) -> String {
    let not = if dice.below(3) == 0 { "NOT " } else { "" };
    let name = dice.pick(NAMES);
    let most = if depth > 3 { 6 } else { 10 };
    match dice.below(most) {
        0 | 1 => {
            let operator = dice.pick(&["=", "<>", "<", "<=", ">", ">="]);
            format!("{} {operator} {}", operand(dice), operand(dice))
        }
        2 => {
            let operator = dice.pick(&["CONTAINS", "STARTSWITH", "ENDSWITH"]);
            format!(
                "{name} {not}{operator} {}",
                dice.pick(&["'x'", "'本'", "'s'", "''"])
            )
        }
        3 => {
            let count = 1 + dice.below(12);
            let list: Vec<&str> = (0..count)
                .map(|_| dice.pick(&["'x'", "'1'", "'日本'", "'😀'", "'q'"]))
                .collect();
            format!("{name} {not}IN ({})", list.join(", "))
        }
        4 => format!(
            "{name} {not}BETWEEN {} AND {}",
            dice.below(9),
            9 + dice.below(200)
        ),
        5 => format!("{} IS {not}NULL", operand(dice)),
        6 | 7 => {
            let (left, right) = (condition(dice, depth + 1), condition(dice, depth + 1));
            format!("{left} AND {right}")
        }
        8 => {
            let (left, right) = (condition(dice, depth + 1), condition(dice, depth + 1));
            format!("({left} OR {right})")
        }
        _ => format!("NOT ({})", condition(dice, depth + 1)),
    }
}

type Properties = HashMap<&'static str, &'static str>;

fn messages(dice: &mut Dice) -> Vec<Properties> {
    let count = [0, 1, 31, 32, 33, 64, 100, 255, 256][dice.below(9)];
    let message = |_| {
        let present = NAMES.iter().filter(|_| dice.below(4) > 0);
        let present: Vec<&str> = present.copied().collect();
        present
            .into_iter()
            .map(|name| (name, dice.pick(VALUES)))
            .collect()
    };
    // One after the other: the dice are shared.
    (0..count).map(message).collect()
}

fn verdicts<'a>(
    worker: &mut Worker,
    subscription: &Subscription,
    messages: impl IntoIterator<Item = &'a Properties>,
) -> Vec<Verdict> {
    let needs = subscription.needs();
    let mut batch = Batch::new(needs);
    for message in messages {
        batch.begin_message();
        for field in &needs.fields {
            let Field::Property(name) = field else {
                panic!("SQL reads {field:?}");
            };
            batch.text(message.get(name.as_str()).copied());
        }
        for number in &needs.numbers {
            let Number::Integer(name) = number else {
                panic!("SQL reads {number:?}");
            };
            batch.number(integer(message.get(name.as_str()).copied()));
        }
        batch.end_message();
    }
    let judged = worker.judge(subscription, &batch);
    assert_eq!(judged.fault, None);
    judged.verdicts
}

fn shuffled(dice: &mut Dice, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for place in (1..count).rev() {
        order.swap(place, dice.below(place + 1));
    }
    order
}

fn runtime() -> Runtime {
    let config = Config {
        instances: 8,
        ..Config::default()
    };
    Runtime::new(&config).expect("the runtime starts")
}

#[test]
fn sql92_and_its_twin_agree_and_neither_split_nor_order_matter() {
    let runtime = runtime();
    let sql92 = runtime.built_in("sql92").unwrap().unwrap();
    let mut worker = runtime.worker();
    let mut accepted = 0;
    for seed in 0..seeds() {
        let dice = &mut Dice::new(seed);
        let text = condition(dice, 0);
        let native = twin::compile(&text);
        let subscription = match (worker.subscribe(&sql92, &text, &[]), &native) {
            (Ok(subscription), Ok(_)) => subscription,
            (Err(SubscribeError::Refused(_)), Err(_)) => continue,
            (ours, _) => panic!("seed {seed}: {text}: {ours:?}"),
        };
        let Ok(native) = native else { continue };
        accepted += 1;
        let messages = messages(dice);
        let whole = verdicts(&mut worker, &subscription, &messages);
        for (message, verdict) in messages.iter().zip(&whole) {
            let truth = native.outcome(|name| message.get(name).copied()) == 't';
            let wanted = if truth {
                Verdict::Deliver
            } else {
                Verdict::Reject
            };
            assert_eq!(*verdict, wanted, "seed {seed}: {text} on {message:?}");
        }
        // Nothing is delivered that the broker would have skipped by its tag.
        if let Some(codes) = &subscription.needs().tag_codes {
            for (message, verdict) in messages.iter().zip(&whole) {
                let tag = message.get("TAGS").copied().unwrap_or("");
                let skipped = !codes.contains(&quern_plugin::java::hash_code(tag));
                let lost = skipped && *verdict == Verdict::Deliver;
                assert!(!lost, "seed {seed}: {text} skips {message:?}");
            }
        }
        let cut = dice.below(messages.len() + 1);
        let mut parts = verdicts(&mut worker, &subscription, &messages[..cut]);
        parts.extend(verdicts(&mut worker, &subscription, &messages[cut..]));
        assert_eq!(parts, whole, "seed {seed}: {text} cut at {cut}");
        let order = shuffled(dice, messages.len());
        let mixed = verdicts(
            &mut worker,
            &subscription,
            order.iter().map(|it| &messages[*it]),
        );
        let wanted: Vec<Verdict> = order.iter().map(|it| whole[*it]).collect();
        assert_eq!(mixed, wanted, "seed {seed}: {text} in another order");
    }
    assert!(
        accepted * 3 > seeds(),
        "{accepted} of {} were accepted",
        seeds()
    );
}

/// Whatever a text is, it is compiled or refused with a mark under whole letters of it.
#[test]
fn sql92_survives_any_text() {
    let runtime = runtime();
    let sql92 = runtime.built_in("sql92").unwrap().unwrap();
    let mut worker = runtime.worker();
    const PIECES: &[&str] = &[
        "a",
        "'",
        "''",
        "(",
        ")",
        "--",
        "/*",
        "*/",
        "\n",
        " ",
        "NOT",
        "AND",
        "IN",
        "BETWEEN",
        "IS",
        "NULL",
        ",",
        "=",
        "<>",
        "<",
        "5",
        "5.",
        "e9",
        "9223372036854775808",
        "L",
        "-",
        "+",
        "ü",
        "😀",
        "\0",
        "%",
        "CONTAINS",
        "TRUE",
        "1e999",
        ".",
        "((((((((((((((((",
        "- - - - - - - - - -",
    ];
    for seed in 0..seeds() * 4 {
        let dice = &mut Dice::new(seed);
        let count = 1 + dice.below(24);
        let mut text = match dice.below(2) {
            0 => condition(dice, 0),
            _ => String::new(),
        };
        for _ in 0..count {
            let mut at = dice.below(text.len() + 1);
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            text.insert_str(at, dice.pick(PIECES));
        }
        match worker.subscribe(&sql92, &text, &[]) {
            Ok(_) => assert!(twin::compile(&text).is_ok(), "seed {seed}: {text}"),
            Err(SubscribeError::Refused(refusal)) => {
                let (at, end) = (refusal.at as usize, (refusal.at + refusal.len) as usize);
                assert!(
                    text.get(at..end).is_some(),
                    "seed {seed}: {text:?}: {refusal:?}"
                );
                assert!(refusal.shown(&text).contains('^'), "seed {seed}");
            }
            Err(SubscribeError::Fault(fault)) => panic!("seed {seed}: {text:?}: {fault}"),
        }
    }
}

#[test]
fn selectors_answer_for_each_message_alone() {
    let runtime = runtime();
    let mut worker = runtime.worker();
    let names = [
        "hash",
        "fifo",
        "round-robin",
        "random",
        "least-latency",
        "machine-room",
    ];
    for seed in 0..seeds() / 3 {
        let dice = &mut Dice::new(seed);
        let queues = (0..1 + dice.below(40)).map(|index| RouteQueue {
            broker: format!("broker-{}", index / 8),
            id: index as u32 % 8,
            zone: dice.pick(&["", "x", "y"]).to_owned(),
            latency_us: dice.below(300) as u32,
            backlog: dice.below(9) as u32,
        });
        let route = Route::new(queues.collect());
        let sent: Vec<(Option<&str>, &str, i64)> = (0..1 + dice.below(200))
            .map(|_| {
                let key = (dice.below(3) > 0).then(|| dice.pick(VALUES));
                (
                    key,
                    dice.pick(&["x", "y", "z", ""]),
                    dice.below(1 << 40) as i64,
                )
            })
            .collect();
        for name in names {
            let plugin = runtime.built_in(name).unwrap().unwrap();
            let selector = worker.open(&plugin, &[]).unwrap();
            let mut ask = |messages: &mut dyn Iterator<Item = &(Option<&str>, &str, i64)>| {
                let mut batch = Batch::new(selector.needs());
                for (key, zone, number) in messages {
                    batch.begin_message();
                    for field in &selector.needs().fields {
                        batch.text(match field {
                            Field::OrderKey => *key,
                            _ => Some(*zone).filter(|zone| !zone.is_empty()),
                        });
                    }
                    selector
                        .needs()
                        .numbers
                        .iter()
                        .for_each(|_| batch.number(*number));
                    batch.end_message();
                }
                let selected = worker.select(&selector, &route, &batch);
                assert_eq!(selected.fault, None, "seed {seed}: {name}");
                selected.queues
            };
            let whole = ask(&mut sent.iter());
            let cut = dice.below(sent.len());
            let mut parts = ask(&mut sent[..cut].iter());
            parts.extend(ask(&mut sent[cut..].iter()));
            assert_eq!(parts, whole, "seed {seed}: {name} cut at {cut}");
            let order = shuffled(dice, sent.len());
            let mixed = ask(&mut order.iter().map(|it| &sent[*it]));
            let wanted: Vec<Option<usize>> = order.iter().map(|it| whole[*it]).collect();
            assert_eq!(mixed, wanted, "seed {seed}: {name} in another order");
        }
    }
}
