//! A plugin is replaced while messages flow to three groups: the new version comes in, runs in the shadow, decides its
//! share as a canary, is activated and taken back. `cargo test` does so at a walk; at the full rate:
//!
//! `QUERN_UPGRADE_RATE=5000 QUERN_UPGRADE_SECONDS=10 cargo test --release --workspace --test e2e plugin_upgrade -- --nocapture`

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use quern_client::{Client, Message, Producer, QueueId, QueueOffset};
use quern_harness::wait_until;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::bench::{Bench, ROLLOUT, Running, canary};
use crate::sdk::{self, connect};
use crate::soak::setting;

const QUEUES: u32 = 8;
/// Lets through what has a key; the second version lets all of it through.
const ASKED: [&str; 4] = ["--param", "percent=100", "--expression", "poison"];
const GROUPS: [&str; 3] = ["named", "bound", "all"];

/// Queue and offset.
type Place = (u32, u64);

/// What the first version says.
fn has_key(number: u64) -> bool {
    !number.is_multiple_of(3)
}

/// A member of a group, and what it has printed so far: queue, offset, number.
struct Member {
    running: Running,
    from: File,
    rest: Vec<u8>,
    seen: Vec<(Place, u64)>,
}

impl Member {
    fn read(&mut self) -> Result<()> {
        self.from.read_to_end(&mut self.rest)?;
        let Some(end) = self.rest.iter().rposition(|it| *it == b'\n') else {
            return Ok(());
        };
        let text = String::from_utf8(self.rest.drain(..=end).collect())?;
        for line in text.lines() {
            let mut parts = line.split(' ').map(str::parse::<u64>);
            let mut next = || parts.next().context("three numbers")?.context("a number");
            let (queue, offset, number) = (next()?, next()?, next()?);
            self.seen.push(((u32::try_from(queue)?, offset), number));
        }
        Ok(())
    }
}

/// Messages at work, and who receives them.
struct Flow {
    bench: Bench,
    runtime: Runtime,
    client: Client,
    producer: Producer,
    /// Of each group.
    members: Vec<Vec<Member>>,
    /// Where each number is that was acknowledged.
    sent: HashMap<Place, u64>,
    next: u64,
    rate: u64,
    seconds: u64,
}

type Sending = tokio::task::JoinHandle<Result<Vec<(Place, u64)>>>;

/// Sends these numbers at a rate, and waits for their acknowledgements.
async fn send(
    producer: Producer,
    numbers: std::ops::Range<u64>,
    rate: u64,
) -> Result<Vec<(Place, u64)>> {
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    let (began, mut sending) = (Instant::now(), Vec::new());
    for number in numbers.clone() {
        while began.elapsed().as_micros() as u64 * rate < (number - numbers.start) * 1_000_000 {
            tick.tick().await;
        }
        let message = Message::new("t", number.to_string()).tag("a");
        let message = match has_key(number) {
            true => message.key("k"),
            false => message,
        };
        sending.push((number, tokio::spawn(producer.send(message))));
    }
    let mut places = Vec::new();
    for (number, one) in sending {
        let sent = one.await??;
        places.push(((sent.queue().queue.0, sent.offset().0), number));
    }
    Ok(places)
}

impl Flow {
    fn start() -> Result<Self> {
        let bench = Bench::bare()?;
        bench.quern(&["topic", "create", "t", "--queues", &QUEUES.to_string()])?;
        bench.take_in(ROLLOUT, "p")?;
        let bind = ["plugin", "bind", "p", "--topic", "t", "--group", "bound"];
        bench.quern(&[&bind[..], &ASKED].concat())?;
        let mut members = Vec::new();
        for group in GROUPS {
            let args = ["--group", group, "--format", "%q %o %v\\n"];
            let named = [&["--plugin", "p"], &ASKED[..]].concat();
            let args = match group {
                "named" => [&args[..], &named].concat(),
                _ => args.to_vec(),
            };
            let join = |n: usize| {
                let file = format!("{group}-{n}");
                let running = bench.run(&file, &args)?;
                Ok(Member {
                    running,
                    from: File::open(bench.world.path(&file))?,
                    rest: Vec::new(),
                    seen: Vec::new(),
                })
            };
            members.push((0..2).map(join).collect::<Result<Vec<_>>>()?);
        }
        let runtime = Runtime::new()?;
        let client = runtime.block_on(connect(&bench.world, &bench.node))?;
        let producer = client
            .producer("upgrade")
            .send_timeout(Duration::from_secs(60));
        Ok(Self {
            producer: runtime.block_on(producer.start())?,
            client,
            bench,
            runtime,
            members,
            sent: HashMap::new(),
            next: 0,
            rate: setting("QUERN_UPGRADE_RATE", 300)?,
            seconds: setting("QUERN_UPGRADE_SECONDS", 2)?,
        })
    }

    /// Messages of so many phases, while something else is done.
    fn begin(&mut self, phases: u64) -> Sending {
        let numbers = self.next..self.next + phases * self.rate * self.seconds;
        self.next = numbers.end;
        let sending = send(self.producer.clone(), numbers, self.rate);
        self.runtime.spawn(sending)
    }

    fn end(&mut self, sending: Sending) -> Result<()> {
        let places = self.runtime.block_on(sending)??;
        self.sent.extend(places);
        ensure!(
            self.sent.len() as u64 == self.next,
            "every number has a place of its own"
        );
        Ok(())
    }

    /// How many messages a group has received, and how many of them the first version lets through.
    fn received(&mut self, group: usize) -> Result<(usize, usize)> {
        let (mut all, mut with_key) = (0, 0);
        for member in &mut self.members[group] {
            member.read()?;
            all += member.seen.len();
            with_key += member.seen.iter().filter(|(_, it)| has_key(*it)).count();
        }
        Ok((all, with_key))
    }

    /// Waits until the groups have received all they must; whoever was asked has then said all there is to say of it.
    fn settle(&mut self) -> Result<()> {
        let with_key = (0..self.next).filter(|it| has_key(*it)).count();
        let all = usize::try_from(self.next)?;
        let mut state = Vec::new();
        let settled = wait_until("all groups to receive everything", || {
            state.clear();
            for (group, name) in GROUPS.into_iter().enumerate() {
                state.push((name, self.received(group)?, self.lag(name)?));
            }
            let is_done = |(name, (of_all, of_keys), lag): &(&str, (usize, usize), u64)| {
                let received = if *name == "all" {
                    *of_all >= all
                } else {
                    *of_keys >= with_key
                };
                received && *lag == 0
            };
            Ok(state.iter().all(is_done))
        });
        settled.with_context(|| format!("{all} sent, {with_key} with a key: {state:?}"))
    }

    /// What a group has not looked at, or not committed.
    fn lag(&self, group: &str) -> Result<u64> {
        self.runtime.block_on(sdk::lag(&self.client, group, "t"))
    }

    /// Waits until the group without a filter has received so many.
    fn reach(&mut self, messages: u64) -> Result<()> {
        wait_until("messages to flow", || {
            Ok(self.received(2)?.0 as u64 >= messages)
        })
    }

    fn plugin(&self, args: &[&str]) -> Result<String> {
        self.bench.quern(&[&["plugin"], args].concat())
    }
}

fn takes(permille: u32, place: Place) -> bool {
    canary(permille).takes(QueueId(place.0), QueueOffset(place.1))
}

/// Whether the messages of a queue that the versions disagree about are there as if first one had decided, then the
/// canary its share, then the new one all, then the old one again: each message by exactly one.
fn is_decided_by_one_at_a_time(queue: &[(Place, bool)], permille: u32) -> bool {
    let by_phase = |phase: usize, (place, is_there): (Place, bool)| match phase {
        1 => is_there == takes(permille, place),
        2 => is_there,
        _ => !is_there,
    };
    // The phases the last message may have been in.
    let mut possible = [true, false, false, false];
    for message in queue {
        for phase in 1..possible.len() {
            possible[phase] |= possible[phase - 1];
        }
        for (phase, is_possible) in possible.iter_mut().enumerate() {
            *is_possible &= by_phase(phase, *message);
        }
    }
    possible.contains(&true)
}

/// A group that is decided for: nothing that both let through is missing, and nothing came twice.
fn verify(flow: &Flow, group: usize, canary: u32) -> Result<()> {
    let mut seen = HashMap::new();
    for (place, number) in flow.members[group].iter().flat_map(|it| &it.seen) {
        ensure!(
            flow.sent.get(place) == Some(number),
            "{place:?} holds {number}"
        );
        let before = seen.insert(*place, *number);
        ensure!(before.is_none(), "{}: {place:?} came twice", GROUPS[group]);
    }
    for (place, number) in flow.sent.iter().filter(|(_, it)| has_key(**it)) {
        ensure!(
            seen.contains_key(place),
            "{}: {number} is lost",
            GROUPS[group]
        );
    }
    for queue in 0..QUEUES {
        let open = flow
            .sent
            .iter()
            .filter(|(it, number)| it.0 == queue && !has_key(**number));
        let mut open: Vec<_> = open.map(|(it, _)| (*it, seen.contains_key(it))).collect();
        open.sort_unstable();
        let (name, count) = (GROUPS[group], open.len());
        ensure!(
            is_decided_by_one_at_a_time(&open, canary),
            "{name}, queue {queue}: {count} messages were decided by nobody or by two: {open:?}"
        );
    }
    Ok(())
}

#[test]
fn a_plugin_is_replaced_under_load_and_every_delivery_decided_by_one_version() -> Result<()> {
    let mut flow = Flow::start()?;
    let is_full = flow.rate >= 5_000;
    let (shadow, canary) = (400, if is_full { 50 } else { 250 });
    let sending = flow.begin(1);
    flow.bench.upload("quern-hostile", "p")?;
    flow.end(sending)?;
    flow.settle()?;

    let before: HashSet<_> = flow.sent.keys().copied().collect();
    let share = format!("{}%", shadow / 10);
    flow.plugin(&["shadow", "p@2", "--share", &share])?;
    let sending = flow.begin(1);
    flow.end(sending)?;
    flow.settle()?;
    let trial = flow.bench.trial()?;
    let taken = flow
        .sent
        .iter()
        .filter(|(it, _)| !before.contains(it) && takes(shadow, **it));
    let (otherwise, agreed): (Vec<_>, Vec<_>) = taken.partition(|(_, it)| !has_key(**it));
    // Of the two groups that are decided for.
    let right = [
        agreed.len() + otherwise.len(),
        agreed.len(),
        otherwise.len(),
        0,
        0,
    ];
    let right = right.map(|it| Some(2 * it as u64));
    let counts = ["decided", "agreed", "only_trial", "only_active", "failed"];
    let counts = counts.map(|it| trial[it].as_u64());
    ensure!(counts == right && right[2] > Some(0), "{right:?}: {trial}");

    let (phase, first) = (flow.rate * flow.seconds, flow.next);
    let sending = flow.begin(4);
    flow.reach(first + phase / 2)?;
    let share = format!("{}%", canary / 10);
    flow.plugin(&["canary", "p@2", "--share", &share])?;
    flow.reach(first + phase * 3 / 2)?;
    flow.plugin(&["activate", "p@2"])?;
    flow.reach(first + phase * 5 / 2)?;
    flow.plugin(&["rollback", "p"])?;
    flow.end(sending)?;
    flow.settle()?;

    let (all, _) = flow.received(2)?;
    ensure!(all as u64 == flow.next, "{all} of {}", flow.next);
    for (group, name) in GROUPS.iter().enumerate().take(2) {
        verify(&flow, group, canary)?;
        let (all, with_key) = flow.received(group)?;
        println!(
            "{name}: {all} of {} messages, {} by the new version alone",
            flow.next,
            all - with_key
        );
        ensure!(all > with_key, "the new version decided");
    }
    let listed = flow.bench.listed("p")?;
    ensure!(listed["faults"] == 0 && listed["active"] == 1, "{listed}");
    for member in flow.members.into_iter().flatten() {
        member.running.stop()?;
    }
    Ok(())
}
