//! A group in a storm: members that join, leave, are killed and stand still while messages flow, and a broker
//! that is killed under them. `cargo test` weathers a short one; a long one:
//!
//! `QUERN_SOAK_SECONDS=120 QUERN_SOAK_RATE=5000 cargo test --release --workspace --test e2e soak -- --nocapture`
//!
//! All members write into one pipe, a line a write, so what is read from it is in the order in which it was
//! received, whoever received it.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter};
use std::os::unix::process::ExitStatusExt as _;
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use quern_client::{Message, Producer};
use quern_harness::{Node, World, wait_until};
use rustix::process::{Pid, Signal};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::sdk::connect;
use crate::world_with_node;

const MEMBERS: usize = 20;
const QUEUES: u32 = 20;
/// Between two blows of the storm.
const BLOW: Duration = Duration::from_millis(300);
/// Between two deaths of the broker.
const BROKER_LIVES: Duration = Duration::from_secs(5);

/// A number from the environment.
pub(crate) fn setting(name: &str, default: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text}")),
        Err(_) => Ok(default),
    }
}

/// One message in one member's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Seen {
    member: usize,
    queue: u32,
    offset: u64,
}

/// A line as members write them: member, queue, offset.
fn seen(line: &str) -> Result<Seen> {
    let mut parts = line.split(' ').map(str::parse::<u64>);
    let mut next = || parts.next().context("three numbers")?.context("a number");
    let (member, queue, offset) = (next()?, next()?, next()?);
    Ok(Seen {
        member: usize::try_from(member)?,
        queue: u32::try_from(queue)?,
        offset,
    })
}

/// What became of a member that was disturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Runs,
    StandsStill { until: Instant },
}

struct Member {
    number: usize,
    child: Child,
    state: State,
}

impl Member {
    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?).context("it has an id")?;
        Ok(rustix::process::kill_process(pid, signal)?)
    }
}

/// The members, and what the storm has done to them.
struct Group<'a> {
    world: &'a World,
    namesrv: String,
    /// Where they write; `None` = nobody joins any more.
    out: Option<PipeWriter>,
    members: Vec<Member>,
    /// What they have written.
    received: Arc<Mutex<Vec<Seen>>>,
    broker_dies: bool,
    broker_since: Instant,
    started: usize,
    /// Those that may have received what they did not commit: killed, or stopped for a while.
    disturbed: HashSet<usize>,
    counts: HashMap<&'static str, usize>,
}

impl Group<'_> {
    fn join(&mut self) -> Result<()> {
        let number = self.started;
        self.started += 1;
        let format = format!("{number} %q %o\\n");
        let args = [
            "consume", "t", "--group", "g", "--follow", "--format", &format,
        ];
        let out = self.out.as_ref().context("the storm is over")?;
        let mut command = self.world.command(&args);
        command.args(["--namesrv", &self.namesrv]);
        let child = command
            .stdout(out.try_clone()?)
            .stderr(File::create(self.world.path(&number.to_string()))?)
            .spawn()?;
        self.members.push(Member {
            number,
            child,
            state: State::Runs,
        });
        *self.counts.entry("joined").or_default() += 1;
        Ok(())
    }

    fn blow(&mut self, random: &mut fastrand::Rng) -> Result<()> {
        let now = Instant::now();
        for member in &mut self.members {
            if matches!(member.state, State::StandsStill { until } if until <= now) {
                member.signal(Signal::CONT)?;
                member.state = State::Runs;
            }
        }
        if self.members.len() < MEMBERS && random.bool() {
            return self.join();
        }
        let at = random.usize(..self.members.len());
        let what = match random.u32(..10) {
            0..3 => "killed",
            3..6 => "left",
            6..8 => "stopped",
            _ => return Ok(()),
        };
        if self.members[at].state != State::Runs || self.members.len() < MEMBERS / 2 {
            return Ok(());
        }
        *self.counts.entry(what).or_default() += 1;
        match what {
            "stopped" => {
                // Shorter than its leases, or longer.
                let until = now + Duration::from_millis(random.u64(500..15_000));
                let member = &mut self.members[at];
                member.signal(Signal::STOP)?;
                member.state = State::StandsStill { until };
                self.disturbed.insert(member.number);
            }
            "left" => {
                let member = self.members.swap_remove(at);
                self.leave(member)?;
            }
            _ => {
                let mut member = self.members.swap_remove(at);
                self.disturbed.insert(member.number);
                member.child.kill()?;
                member.child.wait()?;
            }
        }
        Ok(())
    }

    /// Who stands still goes on.
    fn calm(&mut self) -> Result<()> {
        for member in &mut self.members {
            member.signal(Signal::CONT)?;
            member.state = State::Runs;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        while let Some(member) = self.members.pop() {
            self.leave(member)?;
        }
        Ok(())
    }

    /// Tells a member to stop: it commits, gives its queues back, and says that it could, or that its broker was not
    /// there to hear it. One that has received something outlives its broker.
    fn leave(&mut self, mut member: Member) -> Result<()> {
        let gone = member.child.try_wait()?;
        if gone.is_none() {
            member.signal(Signal::TERM)?;
        }
        let status = member.child.wait()?;
        let said = std::fs::read_to_string(self.world.path(&member.number.to_string()))?;
        let unheard = said.contains("Q-10") || said.contains("Q-2003");
        let is_excused = match gone {
            // Told before it had begun.
            None if status.signal() == Some(Signal::TERM.as_raw()) => {
                !self.has_received(member.number)
            }
            None => self.broker_dies && unheard,
            Some(_) => self.broker_dies && !self.has_received(member.number),
        };
        ensure!(
            status.success() && gone.is_none() || is_excused,
            "member {}: {status}: {said}",
            member.number
        );
        if !status.success() {
            self.disturbed.insert(member.number);
            *self.counts.entry("cut off").or_default() += 1;
        }
        Ok(())
    }

    fn kill_broker(&mut self, node: &mut Node) -> Result<()> {
        node.kill()?;
        node.start(self.world, &[])?;
        self.broker_since = Instant::now();
        *self.counts.entry("brokers killed").or_default() += 1;
        Ok(())
    }

    /// Waits until members have received all of this.
    fn wait_for(&self, acknowledged: &HashSet<(u32, u64)>) -> Result<()> {
        let missing = || {
            let received = self.received.lock().expect("nobody panics with it");
            let received: HashSet<_> = received.iter().map(|it| (it.queue, it.offset)).collect();
            let mut missing: Vec<_> = acknowledged.difference(&received).copied().collect();
            missing.sort_unstable();
            missing
        };
        let what = "everything acknowledged to be received";
        let Err(error) = wait_until(what, || Ok(missing().is_empty())) else {
            return Ok(());
        };
        let args = ["group", "describe", "g", "--namesrv", &self.namesrv];
        bail!(
            "{error}: {} are missing: {}\n{:?}\n{}",
            missing().len(),
            self.around(&missing()),
            self.counts,
            self.world.ok(&args)?
        );
    }

    /// Who received what lies before and behind the messages that are missing.
    fn around(&self, missing: &[(u32, u64)]) -> String {
        let received = self.received.lock().expect("nobody panics with it");
        let mut text = String::new();
        for &(queue, offset) in missing.iter().take(40) {
            let near = |it: &&Seen| it.queue == queue && it.offset.abs_diff(offset) <= 1;
            let near = received.iter().enumerate().filter(|(_, it)| near(it));
            let near = near.map(|(at, it)| {
                let disturbed = if self.disturbed.contains(&it.member) {
                    "!"
                } else {
                    ""
                };
                format!("{} by {}{disturbed} as {at}", it.offset, it.member)
            });
            text += &format!(
                "\n  {queue}/{offset}: {}",
                near.collect::<Vec<_>>().join(", ")
            );
        }
        text
    }

    fn has_received(&self, member: usize) -> bool {
        let received = self.received.lock().expect("nobody panics with it");
        received.iter().any(|it| it.member == member)
    }
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        for member in &mut self.members {
            // Gone already, when all went well.
            let _ = member.child.kill();
            let _ = member.child.wait();
        }
    }
}

/// Sends at a rate until told to stop; where everything is that was acknowledged.
async fn produce(producer: Producer, rate: u64, until: Instant) -> Result<HashSet<(u32, u64)>> {
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    let mut sending = Vec::new();
    let mut sent = 0;
    let began = Instant::now();
    while Instant::now() < until {
        tick.tick().await;
        let due = began.elapsed().as_millis() as u64 * rate / 1000;
        while sent < due {
            sending.push(tokio::spawn(
                producer.send(Message::new("t", sent.to_string())),
            ));
            sent += 1;
        }
    }
    let mut acknowledged = HashSet::new();
    for one in sending {
        let sent = one.await??;
        acknowledged.insert((sent.queue().queue.0, sent.offset().0));
    }
    Ok(acknowledged)
}

fn record(pipe: PipeReader, into: Arc<Mutex<Vec<Seen>>>) -> Result<()> {
    for line in BufReader::new(pipe).lines() {
        let line = line?;
        let seen = seen(&line).with_context(|| format!("a member wrote {line:?}"))?;
        into.lock().expect("nobody panics with it").push(seen);
    }
    Ok(())
}

/// What the record must say, whatever the storm did; how many messages came more than once.
fn verify(seen: &[Seen], acknowledged: &HashSet<(u32, u64)>, group: &Group<'_>) -> Result<usize> {
    let mut next: HashMap<u32, u64> = HashMap::new();
    let mut last: HashMap<(u32, u64), usize> = HashMap::new();
    let mut twice = 0;
    for Seen {
        member,
        queue,
        offset,
    } in seen.iter().copied()
    {
        let expected = next.entry(queue).or_default();
        // For the first time, each queue's messages come in order and without a gap.
        ensure!(
            offset <= *expected,
            "queue {queue}: {offset} came before {expected} had come"
        );
        *expected = (*expected).max(offset + 1);
        if let Some(before) = last.insert((queue, offset), member) {
            twice += 1;
            ensure!(
                group.disturbed.contains(&before),
                "queue {queue}: {offset} came to member {before}, which nobody disturbed, and again to {member}"
            );
        }
    }
    let missing = acknowledged.iter().filter(|it| !last.contains_key(it));
    let missing: Vec<_> = missing.take(10).collect();
    ensure!(
        missing.is_empty(),
        "acknowledged, and never received: {missing:?} …"
    );
    Ok(twice)
}

fn storm(broker_dies: bool) -> Result<()> {
    let seconds = setting("QUERN_SOAK_SECONDS", 15)?;
    let rate = setting("QUERN_SOAK_RATE", 300)?;
    let seed = setting("QUERN_SOAK_SEED", 0x5ea)?;
    let (world, mut node) = world_with_node(&[])?;
    let runtime = Runtime::new()?;
    let client = runtime.block_on(connect(&world, &node))?;
    runtime.block_on(client.admin().create_topic("t", QUEUES))?;
    let (reader, out) = std::io::pipe()?;
    let received = Arc::<Mutex<Vec<Seen>>>::default();
    let recorder = {
        let received = Arc::clone(&received);
        std::thread::spawn(move || record(reader, received))
    };
    let mut group = Group {
        world: &world,
        namesrv: node.namesrv.clone(),
        out: Some(out),
        members: Vec::new(),
        received: Arc::clone(&received),
        broker_dies,
        broker_since: Instant::now(),
        started: 0,
        disturbed: HashSet::new(),
        counts: HashMap::new(),
    };
    for _ in 0..MEMBERS / 2 {
        group.join()?;
    }
    let producer = client.producer("p").send_timeout(Duration::from_secs(60));
    let producer = runtime.block_on(producer.start())?;
    let until = Instant::now() + Duration::from_secs(seconds);
    let producing = runtime.spawn(produce(producer, rate, until));
    let mut random = fastrand::Rng::with_seed(seed);
    while Instant::now() < until {
        runtime.block_on(async { tokio::time::sleep(BLOW).await });
        group.blow(&mut random)?;
        if broker_dies && group.broker_since.elapsed() >= BROKER_LIVES {
            group.kill_broker(&mut node)?;
        }
    }
    group.calm()?;
    let acknowledged = runtime.block_on(producing)??;
    group.wait_for(&acknowledged)?;
    group.end()?;
    // The last end that is open for writing: the record is whole.
    group.out = None;
    let recorded = recorder.join();
    recorded.map_err(|_| anyhow::anyhow!("the recorder panicked"))??;
    let received = received.lock().expect("nobody panics with it");
    let twice = verify(&received, &acknowledged, &group)?;
    println!(
        "seed {seed}: {} acknowledged, {} received, {twice} of them again; {:?}",
        acknowledged.len(),
        received.len(),
        group.counts
    );
    ensure!(
        !acknowledged.is_empty() && group.started > MEMBERS / 2,
        "there was a storm"
    );
    Ok(())
}

#[test]
fn a_group_in_a_storm_receives_everything_in_order() -> Result<()> {
    storm(false)
}

#[test]
fn so_it_does_when_its_broker_is_killed_again_and_again() -> Result<()> {
    storm(true)
}
