//! One turn of one broker: started in an empty directory, given all the work of a class, stopped; for work that wants
//! a broker that has done nothing, or a path between it and its driver, once more beside.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::ceilings::Ceilings;
use crate::crowd::Crowd;
use crate::interrupt;
use crate::orders::{self, QUEUES};
use crate::path::{self, Path};
use crate::peers::Peer;
use crate::place::{self, LOOPBACK, Place, Ports, Site, remove};
use crate::proc::{self, Usage};
use crate::processes::{Driver, Event, Servers};
use crate::protocol::{Answer, Latency};
use crate::work::{BODY, Class, Work};

/// Longest a command may take beyond what it was told to.
const PATIENCE: Duration = Duration::from_secs(300);
/// A window in which others took more than this share of the machine is marked.
const OTHERS: f64 = 0.1;

/// How much of everything.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measure {
    /// Seconds of one measurement, and of the load that comes before all.
    pub(crate) seconds: f64,
    pub(crate) warm_seconds: f64,
    /// Messages of the backlog that is drained.
    pub(crate) backlog: u64,
    /// MiB of messages there are when the broker is killed.
    pub(crate) restart_mib: u64,
}

/// What one measurement found; a figure that makes no sense for it is not there.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Window {
    pub(crate) peer: &'static str,
    pub(crate) class: Class,
    pub(crate) work: Work,
    pub(crate) repetition: u32,
    /// Messages that were acknowledged, received, or looked at by a filter.
    pub(crate) messages: u64,
    pub(crate) failed: u64,
    pub(crate) seconds: f64,
    pub(crate) ack: Option<Latency>,
    pub(crate) e2e: Option<Latency>,
    /// µs of the broker's processes per message.
    pub(crate) broker_cpu_us: Option<f64>,
    pub(crate) client_cpu_us: Option<f64>,
    /// Share of one core that a broker with nothing to do takes.
    pub(crate) idle_core: Option<f64>,
    /// Bytes of dirtied file pages per byte of body.
    pub(crate) written: Option<f64>,
    pub(crate) rss_mib: f64,
    pub(crate) anonymous_mib: f64,
    pub(crate) peak_mib: f64,
    /// KiB of memory that is no file's, for each connection.
    pub(crate) connection_kib: Option<f64>,
    /// Share of the machine's cores that neither the broker nor its driver took.
    pub(crate) others: f64,
    pub(crate) is_noisy: bool,
    /// Why there are no figures.
    pub(crate) error: Option<String>,
}

/// What a turn found.
pub(crate) struct Found {
    pub(crate) ceilings: Ceilings,
    pub(crate) windows: Vec<Window>,
    /// Why it ended before its time.
    pub(crate) broke_off: Option<String>,
}

pub(crate) struct Turn<'a> {
    peer: &'a dyn Peer,
    site: Site<'a>,
    repetition: u32,
    measure: &'a Measure,
    windows: Vec<Window>,
    /// Memory that is no file's, when nobody was connected yet.
    alone_bytes: u64,
}

/// A broker and its driver, running.
struct Pair {
    servers: Servers,
    driver: Driver,
    /// Where the broker's data is.
    dir: PathBuf,
}

/// Processor times at one moment.
struct Moment {
    at: Instant,
    broker: Usage,
    client: Usage,
    busy_us: f64,
}

impl Pair {
    fn ask(&mut self, command: &str, beyond: f64) -> Result<Answer> {
        Ok(self.ask_from_joined(command, beyond)?.0)
    }

    /// The same, with the moment from which on the driver wants to be measured.
    fn ask_from_joined(&mut self, command: &str, beyond: f64) -> Result<(Answer, Option<Moment>)> {
        let within = PATIENCE + Duration::from_secs_f64(beyond);
        let (pids, client) = (self.servers.pids(), self.driver.pid());
        let (servers, dir) = (&mut self.servers, &self.dir);
        let mut joined = None;
        let answer = self.driver.ask(command, within, &mut |event| {
            if event == Event::Joined {
                joined = Some(Moment::now(&pids, client)?);
            }
            can_go_on(servers, dir)
        })?;
        Ok((answer, joined))
    }

    fn check(&mut self) -> Result<()> {
        can_go_on(&mut self.servers, &self.dir)
    }

    fn moment(&self) -> Result<Moment> {
        Moment::now(&self.servers.pids(), self.driver.pid())
    }
}

/// A broker that has ended tells why. One without a disk may wait for ever, or fail in all that is asked of it.
fn can_go_on(servers: &mut Servers, dir: &std::path::Path) -> Result<()> {
    place::has_room(dir)?;
    servers.check()
}

impl Moment {
    fn now(broker: &[u32], client: u32) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            broker: proc::usage(broker)?,
            client: proc::usage(&[client])?,
            busy_us: proc::busy_us()?,
        })
    }
}

impl<'a> Turn<'a> {
    /// Ceilings first, then the turn. What it found is there even when it ended before its time; an error is
    /// of the machine, and no other turn would be better off.
    pub(crate) fn run(
        peer: &'a dyn Peer,
        place: &'a Place,
        (class, repetition): (Class, u32),
        work: &[Work],
        measure: &'a Measure,
    ) -> Result<Found> {
        let dir = place
            .cache
            .join("data")
            .join(std::process::id().to_string());
        let dir = dir.join(peer.name());
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let ceilings = Ceilings::measure(&dir, Duration::from_secs_f64(measure.seconds / 8.0));
        let ceilings = ceilings.with_context(|| format!("in {}", dir.display()))?;
        let mut turn = Self {
            peer,
            site: Site {
                place,
                dir: dir.clone(),
                class,
                ports: Ports::find()?,
                host: LOOPBACK,
            },
            repetition,
            measure,
            windows: Vec::new(),
            alone_bytes: 0,
        };
        let all = turn.all(work).map_err(|error| format!("{error:#}"));
        if let Err(why) = &all {
            let is_left = |it: &Work| turn.windows.iter().all(|window| window.work != *it);
            let left: Vec<Work> = work.iter().copied().filter(is_left).collect();
            eprintln!("  {} broke off: {why}", peer.name());
            for work in left {
                turn.miss(work, why);
            }
        }
        remove(&dir);
        Ok(Found {
            ceilings,
            windows: turn.windows,
            broke_off: all.err(),
        })
    }

    /// A broker and its driver, and how long it took from the broker's start to its first acknowledged message.
    fn start(&self, site: &Site<'_>) -> Result<(Pair, Duration)> {
        let mut driver = Driver::start(self.peer.driver(site)?, &site.dir)?;
        driver.ask("ping", PATIENCE, &mut |_| Ok(()))?;
        let servers = self.peer.servers(site)?;
        let began = Instant::now();
        let servers = Servers::start(servers, &site.dir).context("it did not come up")?;
        let mut pair = Pair {
            servers,
            driver,
            dir: site.dir.clone(),
        };
        let first = pair.ask(&format!("first topic=load queues={QUEUES}"), 0.0);
        first.context("it did not come up")?;
        Ok((pair, began.elapsed()))
    }

    fn all(&mut self, work: &[Work]) -> Result<()> {
        let (able, unable): (Vec<Work>, Vec<Work>) =
            work.iter().partition(|it| self.peer.can(**it));
        for work in unable {
            self.miss(work, "it has nothing of the kind");
        }
        let (lossy, able): (Vec<Work>, Vec<Work>) =
            able.into_iter().partition(|it| it.is_over_path());
        let (crowded, able): (Vec<Work>, Vec<Work>) = able
            .into_iter()
            .partition(|it| matches!(it, Work::Connections { .. }));
        // The first load is for what comes after it.
        if able != [Work::Warm] || work == [Work::Warm] {
            self.loaded(&able)?;
        }
        self.crowded(&crowded)?;
        self.lossy(&lossy)
    }

    /// One broker does all of this, one after the other.
    fn loaded(&mut self, work: &[Work]) -> Result<()> {
        let (mut pair, started) = self.start(&self.site)?;
        let mut backlog: Option<std::result::Result<(), String>> = None;
        for &work in work {
            interrupt::check()?;
            match work {
                Work::Start => {
                    let moment = pair.moment()?;
                    self.found(work, &answer(started), (&moment, &moment), 1);
                }
                Work::Restart => {
                    pair = self.restart(pair)?;
                }
                Work::Drain(_) | Work::FanOut { .. } => {
                    if backlog.is_none() {
                        let filled = self.fill(&mut pair, "backlog", self.measure.backlog);
                        interrupt::check()?;
                        pair.check()?;
                        backlog = Some(filled.map_err(|error| format!("{error:#}")));
                    }
                    match &backlog {
                        Some(Err(why)) => self.fail(work, why),
                        _ => self.one(&mut pair, work)?,
                    }
                }
                _ => self.one(&mut pair, work)?,
            }
        }
        Ok(())
    }

    /// A site beside the turn's own, empty.
    fn beside(&self, name: &str, host: &'static str) -> Result<Site<'a>> {
        let dir = self.site.dir.join(name);
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        Ok(Site {
            place: self.site.place,
            dir,
            class: self.site.class,
            ports: Ports::find()?,
            host,
        })
    }

    /// A broker that has done nothing yet, so that its memory is that of connections.
    fn crowded(&mut self, work: &[Work]) -> Result<()> {
        if work.is_empty() {
            return Ok(());
        }
        let site = self.beside("crowded", LOOPBACK)?;
        let (mut pair, _) = self.start(&site)?;
        interrupt::pause(Duration::from_secs_f64(self.measure.seconds))?;
        self.alone_bytes = pair.moment()?.broker.anonymous_bytes;
        let mut crowd = Crowd::default();
        for &work in work {
            let Work::Connections { count } = work else {
                continue;
            };
            let grown = match self.peer.greeting() {
                Some(greeting) => {
                    crowd.grow(&site.at(site.ports.broker), &greeting, count as usize)
                }
                None => pair.ask(&format!("connect count={count}"), 0.0).map(|_| ()),
            };
            match grown {
                Ok(()) => self.one(&mut pair, work)?,
                Err(error) => {
                    interrupt::check()?;
                    pair.check()?;
                    self.fail(work, &format!("{error:#}"));
                }
            }
        }
        Ok(())
    }

    /// A broker whose driver is at the other end of a path with loss and delay. Its backlog is made without.
    fn lossy(&mut self, work: &[Work]) -> Result<()> {
        if work.is_empty() {
            return Ok(());
        }
        let path = match Path::open() {
            Ok(path) => path,
            Err(error) => {
                for &work in work {
                    self.fail(
                        work,
                        &format!("no path with loss and delay here: {error:#}"),
                    );
                }
                return Ok(());
            }
        };
        let site = self.beside("lossy", path::BROKER)?;
        let (mut pair, _) = self.start(&site)?;
        self.fill(&mut pair, "backlog", orders::lossy_backlog(self.measure))?;
        let far = path.at_driver(self.peer.driver(&site)?);
        pair.driver = Driver::start(far, &site.dir)?;
        pair.ask(&format!("first topic=load queues={QUEUES}"), 0.0)?;
        for &work in work {
            interrupt::check()?;
            self.one(&mut pair, work)?;
        }
        eprintln!("  {} packets were lost", path.lost());
        Ok(())
    }

    fn fill(&self, pair: &mut Pair, topic: &str, count: u64) -> Result<()> {
        pair.ask(&format!("topic topic={topic} queues={QUEUES}"), 0.0)?;
        pair.ask(
            &format!("fill topic={topic} count={count} size={BODY}"),
            300.0,
        )?;
        Ok(())
    }

    /// One measurement between two looks at the accounts. An error is of this measurement alone as long as
    /// the broker lives.
    fn one(&mut self, pair: &mut Pair, work: Work) -> Result<()> {
        let asked = orders::before(work).map_or(Ok(()), |it| pair.ask(&it, 0.0).map(|_| ()));
        let before = pair.moment()?;
        let answer = match (asked, orders::order(work, self.measure)) {
            (Err(error), _) => Err(error),
            (_, Some(order)) => pair.ask_from_joined(&order.command, order.lasting),
            (_, None) => {
                interrupt::pause(Duration::from_secs_f64(self.measure.seconds))?;
                Ok((answer(before.at.elapsed()), None))
            }
        };
        match answer {
            Ok((answer, joined)) => {
                let after = pair.moment()?;
                let before = joined.unwrap_or(before);
                let examined = matches!(work, Work::Drain(_)).then_some(self.measure.backlog);
                self.found(
                    work,
                    &answer,
                    (&before, &after),
                    examined.unwrap_or(answer.count),
                );
                Ok(())
            }
            Err(error) => {
                interrupt::check()?;
                pair.check()?;
                self.fail(work, &format!("{error:#}"));
                Ok(())
            }
        }
    }

    /// Kills the broker once its log is long enough, starts it again and times its first message.
    fn restart(&mut self, mut pair: Pair) -> Result<Pair> {
        let bodies = self.measure.restart_mib * (1 << 20) / u64::from(BODY);
        self.fill(&mut pair, "long", bodies)?;
        drop(pair);
        let (pair, took) = self.start(&self.site)?;
        let moment = pair.moment()?;
        self.found(Work::Restart, &answer(took), (&moment, &moment), 1);
        Ok(pair)
    }

    fn found(
        &mut self,
        work: Work,
        answer: &Answer,
        (before, after): (&Moment, &Moment),
        messages: u64,
    ) {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let elapsed = after.at.duration_since(before.at).as_secs_f64();
        let (broker_us, client_us) = (
            after.broker.cpu_us - before.broker.cpu_us,
            after.client.cpu_us - before.client.cpu_us,
        );
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let others_us = after.busy_us - before.busy_us - broker_us - client_us;
        let others = if elapsed > 0.0 {
            (others_us / 1e6 / elapsed / cores).max(0.0)
        } else {
            0.0
        };
        let is_idle = matches!(work, Work::Idle | Work::Connections { .. });
        let is_load = !is_idle && !matches!(work, Work::Start | Work::Restart);
        let each = |us: f64| is_load.then(|| us / messages.max(1) as f64);
        let size = match work {
            Work::Produce { size, .. } => Some(size),
            Work::Warm
            | Work::Batches { .. }
            | Work::EndToEnd { .. }
            | Work::Topics { .. }
            | Work::LossyProduce => Some(BODY),
            _ => None,
        };
        let written = after.broker.written_bytes - before.broker.written_bytes;
        let bodies = size.map(|size| u64::from(size) * messages);
        self.windows.push(Window {
            messages: if is_load { messages } else { 0 },
            failed: answer.failed,
            seconds: answer.seconds,
            ack: answer.ack,
            e2e: answer.e2e,
            broker_cpu_us: each(broker_us),
            client_cpu_us: each(client_us),
            idle_core: is_idle.then(|| broker_us / 1e6 / elapsed),
            connection_kib: self.connection_kib(work, after),
            written: bodies.map(|bodies| written as f64 / bodies.max(1) as f64),
            rss_mib: mib(after.broker.rss_bytes),
            anonymous_mib: mib(after.broker.anonymous_bytes),
            peak_mib: mib(after.broker.peak_bytes),
            others,
            is_noisy: others > OTHERS,
            ..self.blank(work)
        });
        if let Some(window) = self.windows.last() {
            eprintln!("  {}", crate::report::line(window));
        }
    }

    fn connection_kib(&self, work: Work, after: &Moment) -> Option<f64> {
        let Work::Connections { count } = work else {
            return None;
        };
        let more = after.broker.anonymous_bytes as f64 - self.alone_bytes as f64;
        Some(more / 1024.0 / f64::from(count))
    }

    fn fail(&mut self, work: Work, why: &str) {
        eprintln!("  {:<16}  FAILED: {why}", work.to_string());
        self.miss(work, why);
    }

    /// There are no figures for it, as is told elsewhere.
    fn miss(&mut self, work: Work, why: &str) {
        let window = Window {
            error: Some(why.to_owned()),
            ..self.blank(work)
        };
        self.windows.push(window);
    }

    fn blank(&self, work: Work) -> Window {
        Window {
            peer: self.peer.name(),
            class: self.site.class,
            work,
            repetition: self.repetition,
            messages: 0,
            failed: 0,
            seconds: 0.0,
            ack: None,
            e2e: None,
            broker_cpu_us: None,
            client_cpu_us: None,
            idle_core: None,
            written: None,
            rss_mib: 0.0,
            anonymous_mib: 0.0,
            peak_mib: 0.0,
            connection_kib: None,
            others: 0.0,
            is_noisy: false,
            error: None,
        }
    }
}

fn answer(took: Duration) -> Answer {
    Answer {
        seconds: took.as_secs_f64(),
        ..Answer::default()
    }
}
