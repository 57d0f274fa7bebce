//! SQL92 and tags, end to end: from stored blocks to verdicts.

use std::hint::black_box;

use anyhow::{Context as _, Result, ensure};
use quern_filter_sql92::twin;
use quern_plugin::java;
use quern_plugins::{Batch, Field, Number, Runtime, Subscription, Verdict, Worker, integer};
use quern_protocol::{Block, Message};

use crate::sample::{Line, compare};

const CONDITION: &str = "region = 'eu' AND amount > 100";

/// Blocks as a log holds them, five properties each.
fn stored(count: usize) -> Result<Vec<Vec<u8>>> {
    let regions = ["eu", "us", "cn", "eu-west"];
    let tags = ["paid", "refunded", "open"];
    let block = |n: usize| {
        let message = Message::new("orders", format!("{{\"order\":{n}}}"))
            .tag(tags[n % 3])
            .key(&format!("order-{n}"))
            .prop("customer", format!("customer-{}", n * 7 % 1_000))
            .prop("region", regions[n * 5 % 4])
            .prop("amount", (n * 37 % 250).to_string())
            .prop("currency", "EUR")
            .prop("channel", "web");
        let block = message.encode(&format!("0A0B0C0D{n:08X}"), 1_700_000_000_000)?;
        anyhow::Ok(block.to_vec())
    };
    (0..count).map(block).collect()
}

fn parsed(blocks: &[Vec<u8>]) -> Result<Vec<Block<'_>>> {
    let blocks = blocks
        .iter()
        .map(|block| Block::lengths(block).context("a sound block"));
    blocks.collect()
}

/// As the broker lays messages out.
pub(crate) fn lay_out<'a>(
    batch: &mut Batch,
    subscription: &Subscription,
    blocks: impl Iterator<Item = Block<'a>>,
) {
    let needs = subscription.needs();
    batch.clear();
    for block in blocks {
        batch.begin_message();
        for field in &needs.fields {
            batch.text(match field {
                Field::Tag => Some(block.tag()),
                Field::Property(name) => block.property(name),
                _ => None,
            });
        }
        for number in &needs.numbers {
            batch.number(match number {
                Number::Integer(name) => integer(block.property(name)),
                _ => i64::MIN,
            });
        }
        batch.end_message();
    }
}

fn component(
    worker: &mut Worker,
    subscription: &Subscription,
    batch: &mut Batch,
    blocks: &[Block<'_>],
) -> Vec<Verdict> {
    lay_out(batch, subscription, blocks.iter().copied());
    worker.judge(subscription, batch).verdicts
}

/// The same columns by the same extraction, which learns only when it runs what is read; then the loop a person would
/// write for this one condition.
struct Columns {
    text_of: String,
    number_of: String,
    ends: Vec<u32>,
    text: String,
    numbers: Vec<i64>,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            text_of: black_box("region").to_owned(),
            number_of: black_box("amount").to_owned(),
            ends: Vec::new(),
            text: String::new(),
            numbers: Vec::new(),
        }
    }
}

impl Columns {
    fn extract(&mut self, blocks: &[Block<'_>]) {
        self.ends.clear();
        self.text.clear();
        self.numbers.clear();
        for block in blocks {
            let region = block.property(&self.text_of);
            self.text.push_str(region.unwrap_or(""));
            let end = self.text.len() as u32;
            self.ends
                .push(end | if region.is_none() { 1 << 31 } else { 0 });
            self.numbers.push(integer(block.property(&self.number_of)));
        }
    }

    fn judge(&self) -> Vec<Verdict> {
        let mut start = 0;
        let rows = self.ends.iter().zip(&self.numbers);
        let rows = rows.map(|(end, amount)| {
            let range = start..(end & !(1 << 31)) as usize;
            start = range.end;
            let eu = end & (1 << 31) == 0 && &self.text.as_bytes()[range] == b"eu";
            let large = *amount > 100 && *amount <= i64::from(i32::MAX);
            if eu & large {
                Verdict::Deliver
            } else {
                Verdict::Reject
            }
        });
        rows.collect()
    }
}

fn row_by_row(twin: &twin::Twin, blocks: &[Block<'_>]) -> Vec<Verdict> {
    let judge = |block: &Block<'_>| match twin.outcome(|name| block.property(name)) {
        't' => Verdict::Deliver,
        _ => Verdict::Reject,
    };
    blocks.iter().map(judge).collect()
}

/// A hash compared, then the text.
fn by_tag(wanted: &[(i32, &str)], blocks: &[Block<'_>]) -> Vec<Verdict> {
    let judge = |block: &Block<'_>| {
        let code = java::hash_code(block.tag());
        let found = wanted
            .iter()
            .any(|(hash, tag)| *hash == code && *tag == block.tag());
        if found {
            Verdict::Deliver
        } else {
            Verdict::Reject
        }
    };
    blocks.iter().map(judge).collect()
}

/// SQL92 beside a loop made for its one condition, and beside the same evaluator run natively, which
/// reads only the properties it comes to.
fn sql(runtime: &Runtime, blocks: &[Block<'_>], goals: [&'static str; 2]) -> Result<[Line; 2]> {
    let sql92 = runtime.built_in("sql92").context("we ship it")??;
    let mut worker = runtime.worker();
    let sql = worker.subscribe(&sql92, CONDITION, &[])?;
    let twin = twin::compile(CONDITION).ok().context("it compiles")?;
    let mut columns = Columns::default();
    let mut batch = Batch::new(sql.needs());
    columns.extract(blocks);
    let ours = component(&mut worker, &sql, &mut batch, blocks);
    let same = ours == columns.judge() && ours == row_by_row(&twin, blocks);
    ensure!(same, "answers differ");
    ensure!(ours.contains(&Verdict::Deliver) && ours.contains(&Verdict::Reject));
    let count = blocks.len();
    let mut ask = || {
        black_box(component(&mut worker, &sql, &mut batch, black_box(blocks)));
    };
    let best = format!("SQL92 ÷ best native, batch {count}");
    let best = compare(
        best,
        count,
        goals[0],
        &mut || {
            columns.extract(black_box(blocks));
            black_box(columns.judge());
        },
        &mut ask,
    );
    let rows = format!("SQL92 ÷ native row by row, batch {count}");
    let rows = compare(
        rows,
        count,
        goals[1],
        &mut || {
            black_box(row_by_row(&twin, black_box(blocks)));
        },
        &mut ask,
    );
    Ok([best, rows])
}

fn tag(runtime: &Runtime, blocks: &[Block<'_>], goal: &'static str) -> Result<Line> {
    let tag = runtime.built_in("tag").context("we ship it")??;
    let mut worker = runtime.worker();
    let tags = worker.subscribe(&tag, "paid || refunded", &[])?;
    let wanted = ["paid", "refunded"].map(|tag| (java::hash_code(tag), tag));
    let mut batch = Batch::new(tags.needs());
    let ours = component(&mut worker, &tags, &mut batch, blocks);
    ensure!(ours == by_tag(&wanted, blocks), "answers differ");
    Ok(compare(
        format!("tag ÷ native hash and text, batch {}", blocks.len()),
        blocks.len(),
        goal,
        &mut || {
            black_box(by_tag(&wanted, black_box(blocks)));
        },
        &mut || {
            black_box(component(&mut worker, &tags, &mut batch, black_box(blocks)));
        },
    ))
}

/// Two filters one after the other, the second asked about what the first lets through, as brokers ask a chain; beside
/// the first alone.
fn chain(runtime: &Runtime, blocks: &[Block<'_>]) -> Result<Line> {
    let loaded = |name: &str| runtime.built_in(name).context("we ship it");
    let (sql92, tag) = (loaded("sql92")??, loaded("tag")??);
    let mut worker = runtime.worker();
    let first = worker.subscribe(&sql92, CONDITION, &[])?;
    let second = worker.subscribe(&tag, "paid || refunded", &[])?;
    let (mut all, mut some) = (Batch::new(first.needs()), Batch::new(second.needs()));
    let mut ask = |worker: &mut Worker, blocks: &[Block<'_>]| {
        let verdicts = component(worker, &first, &mut all, blocks);
        let pairs = blocks.iter().zip(&verdicts);
        let left = pairs.filter(|it| *it.1 == Verdict::Deliver).map(|it| *it.0);
        let left: Vec<_> = left.collect();
        component(worker, &second, &mut some, &left)
    };
    let wanted = ["paid", "refunded"].map(|tag| (java::hash_code(tag), tag));
    let mut columns = Columns::default();
    columns.extract(blocks);
    let pairs = blocks.iter().zip(columns.judge());
    let rest = pairs.filter(|it| it.1 == Verdict::Deliver).map(|it| *it.0);
    let rest: Vec<_> = rest.collect();
    ensure!(
        ask(&mut worker, blocks) == by_tag(&wanted, &rest),
        "answers differ"
    );
    ensure!(!rest.is_empty() && rest.len() < blocks.len());
    let mut alone = runtime.worker();
    let sql = alone.subscribe(&sql92, CONDITION, &[])?;
    let mut batch = Batch::new(sql.needs());
    Ok(compare(
        format!("SQL92, then tag ÷ SQL92 alone, batch {}", blocks.len()),
        blocks.len(),
        "-",
        &mut || {
            black_box(component(&mut alone, &sql, &mut batch, black_box(blocks)));
        },
        &mut || {
            black_box(ask(&mut worker, black_box(blocks)));
        },
    ))
}

pub(crate) fn run(runtime: &Runtime) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (count, sql_goals, tag_goal) in [
        (256, ["1.25 (moonshot 1.15)", "1.1 (moonshot 0.9)"], "1.3"),
        (32, ["1.45 (moonshot 1.30)", "1.3 (moonshot 1.1)"], "-"),
    ] {
        let stored = stored(count)?;
        let blocks = parsed(&stored)?;
        lines.extend(sql(runtime, &blocks, sql_goals)?);
        lines.push(tag(runtime, &blocks, tag_goal)?);
        lines.push(chain(runtime, &blocks)?);
    }
    Ok(lines)
}
