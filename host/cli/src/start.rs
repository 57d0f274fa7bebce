//! `quern start`: runs the roles asked for until told to stop.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args as ClapArgs;
use quern_node::settings::{self, BadSetting};
use quern_node::{Config, Node, Roles};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;
use crate::flags::Flags;
use crate::progress;

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Args {
    /// Only a name server.
    #[arg(long, conflicts_with = "broker_only")]
    namesrv_only: bool,
    /// Only a broker; needs --namesrv.
    #[arg(long)]
    broker_only: bool,
    /// Settings from a file in RocketMQ's form: a broker.conf, or with --namesrv-only a
    /// namesrv.properties. The environment goes before it, and arguments before both.
    #[arg(long, short, env = "QUERN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Settings of a name server that runs beside a broker: a namesrv.properties.
    #[arg(long, value_name = "FILE", conflicts_with = "broker_only")]
    namesrv_config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

/// This program compiles plugins too, in a process of its own.
pub(crate) fn compiler() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe();
    program.map_err(|error| Failure::new(1, format!("this program cannot find itself: {error}")))
}

impl Args {
    fn config(&self) -> Result<Config, Failure> {
        let roles = match (self.namesrv_only, self.broker_only) {
            (true, _) => Roles::NameServer,
            (_, true) => Roles::Broker,
            _ => Roles::Both,
        };
        let of_config = match roles {
            Roles::NameServer => Roles::NameServer,
            _ => Roles::Broker,
        };
        let files = [
            (&self.namesrv_config, Roles::NameServer),
            (&self.config, of_config),
        ];
        let mut given = Vec::new();
        for (file, of) in files {
            if let Some(path) = file {
                given.extend(settings::read(path, of).map_err(|bad| refused(&[bad]))?);
            }
        }
        given.extend(self.flags.given().map_err(|bad| refused(&[bad]))?);
        let config = settings::resolve(roles, given).map_err(|bad| refused(&bad))?;
        Ok(Config {
            compiler: Some(compiler()?),
            ..config
        })
    }
}

/// All that is wrong with settings, a line each.
pub(crate) fn refused(bad: &[BadSetting]) -> Failure {
    let lines: Vec<_> = bad.iter().map(ToString::to_string).collect();
    let code = quern_protocol::Code::BAD_CONFIG.number;
    Failure::usage(format!("Q-{code} {}", lines.join("\n  ")))
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let config = args.config()?;
    let data = config.data.clone();
    let mut stop = Stop::listen()?;
    let node = tokio::select! {
        node = start(config) => node?,
        () = stop.asked() => return Err(interrupted()),
    };
    introduce(&node, &data);
    for it in node.ignored() {
        let (origin, key) = (&it.origin, &it.key);
        let why = it.ignored.as_deref().unwrap_or_default();
        eprintln!("  ! {origin}: {key} has no effect: {why}");
    }
    eprintln!("  Ctrl-C drains and stops; a second one stops at once");
    serve_until_stopped(node, &mut stop).await
}

/// Starts a node; what went wrong comes with its code.
pub(crate) async fn start(config: Config) -> Result<Node, Failure> {
    let progress = Arc::clone(&config.progress);
    let started = tokio::select! {
        started = Node::start(config) => started,
        never = progress::tell(progress) => match never {},
    };
    started.map_err(|error| {
        let code = error.code();
        let exit = match code.number {
            1010 | 4003 | 4004 | 4005 => 4,
            4006 | 5001 => 5,
            1012 | 2005 => 2,
            _ => 1,
        };
        Failure::new(exit, format!("Q-{} {error}. {}", code.number, code.advice))
    })
}

/// Says what runs where.
pub(crate) fn introduce(node: &Node, data: &std::path::Path) {
    if let Some(address) = node.namesrv_addr() {
        eprintln!("  ✓ name server  quic://{address}");
    }
    if let (Some(address), Some(name)) = (node.broker_addr(), node.broker_name()) {
        eprintln!(
            "  ✓ broker       quic://{address}  {name}, data in {}",
            data.display()
        );
    }
    if let Some(report) = node.report() {
        let how = match (report.clean, report.rebuilt) {
            (_, true) => "read from its beginning",
            (true, _) => "closed cleanly",
            (false, _) => "not closed: its end verified",
        };
        eprintln!(
            "  ✓ log          {} segments up to {}, {how}, {} records in {} ms",
            report.segments, report.end, report.records, report.took_ms
        );
        if let Some(torn) = &report.torn {
            eprintln!(
                "  ! torn tail    {} bytes at {} were written and never acknowledged; kept in {}",
                torn.bytes, torn.position, torn.kept_in
            );
        }
    }
    if let Some(fingerprint) = node.fingerprint() {
        eprintln!("  ✓ development CA {fingerprint}");
    }
}

/// Serves until a signal, drains, and stops at once at a second signal.
pub(crate) async fn serve_until_stopped(node: Node, stop: &mut Stop) -> Result<(), Failure> {
    stop.asked().await;
    eprintln!("  draining …");
    tokio::select! {
        closed = node.shutdown() => closed.map_err(|error| Failure::new(1, format!("Q-4002 {error}")))?,
        () = stop.asked() => return Err(interrupted()),
    }
    eprintln!("  stopped; everything is on disk");
    Ok(())
}

fn interrupted() -> Failure {
    Failure::new(130, "stopped at once; the next start verifies the log")
}

/// Signals that ask a process to stop.
pub(crate) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    pub(crate) fn listen() -> Result<Self, Failure> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    pub(crate) async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
