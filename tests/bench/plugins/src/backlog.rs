//! A backlog drained by SQL92, beside a scan of it that looks at every header and asks nobody. Both go through the
//! store as a broker's look at a queue does: so many entries, their records in steps. What is not in it is what comes
//! after the decision: the way of the messages that are let through.

use std::hint::black_box;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use quern_plugins::{Batch, Runtime, Subscription, Verdict, Worker};
use quern_protocol::{Message, QueueId, QueueOffset, RecordView, TopicId};
use quern_store::{Append, Config, Env, Pending, Stateless, Store};

use crate::filters::lay_out;
use crate::sample::{Line, compare};

/// Messages of the backlog.
const MESSAGES: usize = 1_000_000;
/// Messages sent at once.
const SENT: usize = 1_000;
/// Entries of a look, and records of a step, as the broker has them.
const LOOK: usize = 8_192;
const STEP: usize = 256;
/// One message of so many is let through.
const ONE_IN: usize = 100;
const BODY: usize = 256;
const CONDITION: &str = "region = 'eu' AND amount = 7";
const QUEUE: (TopicId, QueueId) = (TopicId(1), QueueId(0));

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn wait(pending: Pending) -> Result<()> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut pending = pin!(pending);
    loop {
        match pending.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(outcome) => return Ok(outcome.map(drop)?),
            Poll::Pending => std::thread::park(),
        }
    }
}

fn filled(dir: &Path) -> Result<Store> {
    let (store, _) = Store::open(Config::new(dir), Env::real(), Box::new(Stateless))?;
    let body = vec![b'x'; BODY];
    for first in (0..MESSAGES).step_by(SENT) {
        let mut blocks = Vec::new();
        for n in first..first + SENT {
            // Three of four are in Europe, and one of 75 of those has the amount.
            let region = if n % 4 == 3 { "us" } else { "eu" };
            let message = Message::new("orders", body.clone())
                .tag("paid")
                .prop("customer", format!("customer-{}", n * 7 % 1_000))
                .prop("region", region)
                .prop("amount", (n * 3 % ONE_IN).to_string())
                .prop("currency", "EUR")
                .prop("channel", "web");
            blocks.extend_from_slice(&message.encode(&format!("{n:026}"), 0)?);
        }
        let append = Append {
            topic: QUEUE.0,
            queue: QUEUE.1,
            blocks: Bytes::from(blocks),
            count: SENT as u32,
            ..Append::default()
        };
        wait(store.submit(append))?;
    }
    Ok(store)
}

/// One look after the other through the backlog, and from its beginning again.
struct Looks<'a> {
    store: &'a Store,
    next: u64,
}

impl Looks<'_> {
    fn look(&mut self, mut step: impl FnMut(&[RecordView<'_>])) -> Result<()> {
        let from = QueueOffset(self.next);
        let entries = self.store.entries(QUEUE.0, QUEUE.1, from, LOOK)?;
        for entries in entries.chunks(STEP) {
            let records = self.store.records(entries)?;
            ensure!(records.len() == entries.len(), "the log has them all");
            let views: Result<Vec<_>, _> =
                records.iter().map(|it| RecordView::trusted(it)).collect();
            step(&views?);
        }
        let end = self.next + entries.len() as u64;
        self.next = if end >= MESSAGES as u64 { 0 } else { end };
        Ok(())
    }
}

fn headers(views: &[RecordView<'_>]) {
    for view in views {
        black_box((
            view.header.stored_at,
            view.block.tag(),
            view.block.born_at(),
        ));
    }
}

fn judged(
    worker: &mut Worker,
    sql: &Subscription,
    batch: &mut Batch,
    views: &[RecordView<'_>],
) -> usize {
    lay_out(batch, sql, views.iter().map(|it| it.block));
    let verdicts = worker.judge(sql, batch).verdicts;
    verdicts
        .iter()
        .filter(|it| **it == Verdict::Deliver)
        .count()
}

pub(crate) fn run(runtime: &Runtime) -> Result<Line> {
    let dir = tempfile::tempdir()?;
    let store = filled(&dir.path().join("store"))?;
    let sql92 = runtime.built_in("sql92").context("we ship it")??;
    let mut worker = runtime.worker();
    let sql = worker.subscribe(&sql92, CONDITION, &[])?;
    let mut batch = Batch::new(sql.needs());
    let mut looks = Looks {
        store: &store,
        next: 0,
    };
    let mut let_through = 0;
    loop {
        looks.look(|views| let_through += judged(&mut worker, &sql, &mut batch, views))?;
        if looks.next == 0 {
            break;
        }
    }
    let expected = (0..MESSAGES)
        .filter(|n| n % 4 != 3 && n * 3 % ONE_IN == 7)
        .count();
    ensure!(
        let_through == expected,
        "{let_through} of {expected} were let through"
    );
    let mut scanned = Looks {
        store: &store,
        next: 0,
    };
    let (mut one, mut other) = (Ok(()), Ok(()));
    let line = compare(
        format!("draining by SQL92, 1 in {ONE_IN} ÷ scan of headers"),
        LOOK,
        "1.3",
        &mut || one = scanned.look(headers),
        &mut || {
            other = looks.look(|views| {
                black_box(judged(&mut worker, &sql, &mut batch, views));
            });
        },
    );
    one.and(other)?;
    store.close()?;
    Ok(line)
}
