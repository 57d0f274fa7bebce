//! A run: all brokers in turn, again and again, so that what drifts drifts for all of them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::crowd;
use crate::interrupt;
use crate::peers::{self, Peer};
use crate::place::{Place, need_room, remove};
use crate::proc;
use crate::report::{self, BrokeOff, Machine, Measured, Report, Skipped};
use crate::turn::{Measure, Turn};
use crate::work::{Class, Work};

/// Quernstone beside other brokers, each started freshly on this machine, with the same durability and
/// the same work. Prints a table; writes it and a JSON file.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Brokers to measure, separated by commas. Default: all.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    peers: Vec<String>,
    /// Measurements, separated by commas. Default: all. The load before all others is always there.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    work: Vec<Work>,
    /// When sends are acknowledged, separated by commas. Default: both.
    #[arg(long, value_delimiter = ',', value_enum)]
    class: Vec<Class>,
    #[arg(long, default_value_t = 5)]
    repetitions: u32,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds of load before the others: a JVM needs about 20 to come to its speed.
    #[arg(long, default_value_t = 20.0)]
    warm: f64,
    /// Messages of the backlog that is drained.
    #[arg(long, default_value_t = 1_000_000)]
    backlog: u64,
    /// MiB of messages there are when a broker is killed and started again.
    #[arg(long, default_value_t = 2_048)]
    restart_mib: u64,
    /// Short and rough: one repetition, a second each.
    #[arg(long)]
    quick: bool,
    /// Where what is fetched and built is kept, and the brokers' data during a run. Default:
    /// $XDG_CACHE_HOME/quern-bench, or ~/.cache/quern-bench.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Where the report goes: report.md, report.json, and a drawing for each measurement.
    #[arg(long, default_value = "target/yardstick", value_name = "DIR")]
    out: PathBuf,
    /// The quern binary to measure. Default: the one beside this program.
    #[arg(long, value_name = "FILE")]
    quern: Option<PathBuf>,
}

/// MiB a second that a broker writes at most under load, and loads of a turn.
const RATE: f64 = 250.0;
const LOADS: f64 = 13.0;

impl Options {
    fn measure(&self) -> Measure {
        if self.quick {
            return Measure {
                seconds: 1.0,
                warm_seconds: 3.0,
                backlog: 20_000,
                restart_mib: 64,
            };
        }
        Measure {
            seconds: self.seconds,
            warm_seconds: self.warm,
            backlog: self.backlog.next_multiple_of(100),
            restart_mib: self.restart_mib,
        }
    }

    fn place(&self) -> Result<Place> {
        let own = std::env::current_exe().context("finding this program")?;
        let cache = self.cache.clone().map_or_else(Place::usual_cache, Ok)?;
        std::fs::create_dir_all(&cache).with_context(|| format!("making {}", cache.display()))?;
        Ok(Place {
            cache: cache.canonicalize()?,
            quern: self
                .quern
                .clone()
                .unwrap_or_else(|| own.with_file_name("quern")),
        })
    }

    fn work(&self, class: Class) -> Vec<Work> {
        let wanted =
            |work: &Work| self.work.is_empty() || self.work.contains(work) || *work == Work::Warm;
        Work::ALL
            .into_iter()
            .filter(|it| it.is_of(class))
            .filter(wanted)
            .collect()
    }

    fn classes(&self) -> Vec<Class> {
        if self.class.is_empty() {
            return vec![Class::Durable, Class::Cached];
        }
        self.class.clone()
    }
}

/// Bytes that one turn may write.
fn room(measure: &Measure) -> u64 {
    let loads = (measure.warm_seconds + LOADS * measure.seconds) * RATE;
    let stored = (measure.backlog >> 10) + measure.restart_mib;
    (loads as u64 + 2 * stored) << 20
}

/// Measures, and tells what was found even when interrupted.
pub(crate) fn run(options: &Options) -> Result<()> {
    interrupt::watch()?;
    crowd::allow()?;
    let place = options.place()?;
    let measure = options.measure();
    ensure!(
        measure.seconds > 0.0 && measure.seconds.is_finite() && measure.warm_seconds > 0.0,
        "a measurement takes more than 0 seconds"
    );
    are_known(&options.peers)?;
    need_room(&place.cache, room(&measure))?;
    can_write(&options.out)?;
    let (ready, skipped) = prepared(options, &place)?;
    let mut report = Report {
        began: jiff::Timestamp::now().to_string(),
        command: command(),
        machine: machine(&place.cache)?,
        measure,
        repetitions: if options.quick {
            1
        } else {
            options.repetitions.max(1)
        },
        measured: ready
            .iter()
            .map(|it| described(&**it))
            .collect::<Result<_>>()?,
        skipped,
        is_complete: false,
        ended_by: None,
        broke_off: Vec::new(),
        ceilings: Vec::new(),
        windows: Vec::new(),
    };
    match turns(options, &mut report, &place, &ready) {
        Ok(()) => report.is_complete = true,
        Err(error) => report.ended_by = Some(format!("{error:#}")),
    }
    let data = place
        .cache
        .join("data")
        .join(std::process::id().to_string());
    remove(&data);
    // First where nothing can fail any more.
    println!("{}", report::markdown(&report));
    let out = options.out.display();
    write(&report, &options.out).context("the report above is all there is")?;
    eprintln!("report.md, report.json and drawings are in {out}");
    match &report.ended_by {
        Some(why) => bail!("the run did not reach its end: {why}"),
        None => Ok(()),
    }
}

fn turns(
    options: &Options,
    report: &mut Report,
    place: &Place,
    ready: &[Box<dyn Peer>],
) -> Result<()> {
    let measure = report.measure.clone();
    for repetition in 1..=report.repetitions {
        for class in options.classes() {
            for peer in ready {
                interrupt::check()?;
                let of = report.repetitions;
                eprintln!("{repetition}/{of} {} {}", class.name(), peer.name());
                let work = options.work(class);
                let found = Turn::run(&**peer, place, (class, repetition), &work, &measure)?;
                report.ceilings.push(found.ceilings);
                report.windows.extend(found.windows);
                interrupt::check()?;
                if let Some(why) = found.broke_off {
                    report.broke_off.push(BrokeOff {
                        name: peer.name(),
                        class,
                        repetition,
                        why,
                    });
                }
                // What there is so far, should this process not see the end.
                if let Err(error) = write(report, &options.out) {
                    eprintln!("{error:#}");
                }
            }
        }
    }
    Ok(())
}

fn are_known(wanted: &[String]) -> Result<()> {
    let all = peers::all();
    let names: Vec<&str> = all.iter().map(|it| it.name()).collect();
    for wanted in wanted {
        ensure!(
            names.contains(&&**wanted),
            "no broker is called `{wanted}`; there is {}",
            names.join(", ")
        );
    }
    Ok(())
}

type Ready = (Vec<Box<dyn Peer>>, Vec<Skipped>);

/// Those that can be measured here, and why the others cannot.
fn prepared(options: &Options, place: &Place) -> Result<Ready> {
    let (mut ready, mut skipped) = (Vec::new(), Vec::new());
    for peer in peers::all() {
        if !options.peers.is_empty() && !options.peers.iter().any(|it| it == peer.name()) {
            continue;
        }
        interrupt::check()?;
        match peer.prepare(place) {
            Ok(()) => ready.push(peer),
            Err(error) => {
                // Ctrl-C ends a toolchain, too.
                interrupt::check()?;
                let why = format!("{error:#}");
                eprintln!("SKIP {}: {why}", peer.name());
                skipped.push(Skipped {
                    name: peer.name(),
                    why,
                });
            }
        }
    }
    ensure!(!ready.is_empty(), "no broker can be measured here");
    Ok((ready, skipped))
}

fn described(peer: &dyn Peer) -> Result<Measured> {
    Ok(Measured {
        name: peer.name(),
        version: peer.version()?,
        durable: peer.durability(Class::Durable),
        cached: peer.durability(Class::Cached),
    })
}

/// As it can be given again.
fn command() -> String {
    let args: Vec<String> = std::env::args().skip(2).collect();
    format!("tests/bench/run {}", args.join(" "))
        .trim_end()
        .to_owned()
}

fn machine(dir: &Path) -> Result<Machine> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = kilobytes.and_then(|it| it.split_whitespace().next()?.parse::<u64>().ok());
    Ok(Machine {
        processor: proc::processor(),
        cores: std::thread::available_parallelism()?.get(),
        memory_mib: kilobytes.unwrap_or_default() / 1024,
        kernel: kernel.trim().to_owned(),
        file_system: proc::file_system(dir),
    })
}

fn write(report: &Report, out: &Path) -> Result<()> {
    let json = serde_json::to_string_pretty(&report.json())?;
    let mut files = report::drawings(report);
    files.push(("report.md".to_owned(), report::markdown(report)));
    files.push(("report.json".to_owned(), json));
    for (name, content) in files {
        let file = out.join(name);
        std::fs::write(&file, content).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

/// An error, before the hours are spent, where no report could be written after them.
fn can_write(out: &Path) -> Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    let probe = out.join(format!(".{}", std::process::id()));
    let written = std::fs::write(&probe, [0; 1 << 16]);
    let removed = std::fs::remove_file(&probe);
    let written = written.and(removed);
    written.with_context(|| {
        format!(
            "no report can be written to {}: say --out DIR",
            out.display()
        )
    })
}
