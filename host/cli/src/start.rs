//! `quern start`: runs the roles asked for until told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};
use quern_node::{Config, Delays, Identity, Node, ReadMode, Retention, Roles};
use quern_protocol::{BrokerName, Durability};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;
use crate::time;

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Args {
    /// Only a name server.
    #[arg(long, conflicts_with = "broker_only")]
    namesrv_only: bool,
    /// Only a broker; needs --namesrv.
    #[arg(long)]
    broker_only: bool,
    /// Name servers to register with, HOST:PORT, separated by commas or quoted semicolons.
    #[arg(long, short = 'n', env = "NAMESRV_ADDR", value_name = "ADDR")]
    namesrv: Option<String>,
    /// Where the broker keeps its data.
    #[arg(
        long,
        env = "QUERN_DATA",
        default_value = "quern-data",
        value_name = "DIR"
    )]
    data: PathBuf,
    /// The broker's name, unique in its cluster.
    #[arg(
        long,
        env = "QUERN_BROKER_NAME",
        default_value = "broker-a",
        value_name = "NAME"
    )]
    name: String,
    /// The cluster's name.
    #[arg(long, default_value = "DefaultCluster", value_name = "NAME")]
    cluster: String,
    /// UDP address of the broker.
    #[arg(
        long,
        env = "QUERN_LISTEN",
        default_value = "127.0.0.1:10911",
        value_name = "ADDR"
    )]
    listen: SocketAddr,
    /// UDP address of the name server.
    #[arg(
        long,
        env = "QUERN_NAMESRV_LISTEN",
        default_value = "127.0.0.1:9876",
        value_name = "ADDR"
    )]
    namesrv_listen: SocketAddr,
    /// HOST:PORT clients reach the broker at, where that is not what it listens on.
    #[arg(long, env = "QUERN_ADVERTISE", value_name = "ADDR")]
    advertise: Option<String>,
    /// For development: topics are made by the first message sent to them (8 queues).
    #[arg(long)]
    dev: bool,
    /// Make topics by the first message sent to them (autoCreateTopicEnable).
    #[arg(long, env = "QUERN_AUTO_CREATE_TOPIC_ENABLE")]
    auto_create_topic_enable: bool,
    /// node.pem, node.key and ca.pem, instead of the development CA.
    #[arg(long, env = "QUERN_TLS_DIR", value_name = "DIR")]
    tls_dir: Option<PathBuf>,
    /// Let the development CA serve other machines (tls.allow_dev_ca).
    #[arg(long, env = "QUERN_ALLOW_DEV_CA")]
    allow_dev_ca: bool,
    /// Bytes of a log segment; by default 1/256 of the file system, 8 to 256 MiB.
    #[arg(long, env = "QUERN_SEGMENT_SIZE", value_name = "BYTES")]
    segment_size: Option<u64>,
    /// How safe messages are whose send and topic do not say: local = on this broker's disk
    /// (SYNC_FLUSH), fast = in its page cache (ASYNC_FLUSH).
    #[arg(
        long,
        env = "QUERN_DURABILITY",
        value_name = "CLASS",
        default_value_t = Durability::Local
    )]
    durability: Durability,
    /// Milliseconds after which a send that waits for the disk is answered FLUSH_DISK_TIMEOUT
    /// (syncFlushTimeout).
    #[arg(
        long,
        env = "QUERN_SYNC_FLUSH_TIMEOUT",
        value_name = "MS",
        default_value_t = 5_000
    )]
    sync_flush_timeout: u64,
    /// Delays that messages may name by a number, from 1 on (messageDelayLevel).
    #[arg(
        long,
        env = "QUERN_DELAY_LEVELS",
        value_name = "DELAYS",
        value_delimiter = ' ',
        default_value = "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h",
        value_parser = time::delay
    )]
    delay_levels: Vec<u64>,
    /// No message may be for later than that (timerMaxDelaySec).
    #[arg(
        long,
        env = "QUERN_DELAY_MAX",
        value_name = "DELAY",
        default_value = "40d",
        value_parser = time::delay
    )]
    delay_max: u64,
    /// So many messages may wait for their time; each takes about 100 bytes of memory.
    #[arg(
        long,
        env = "QUERN_DELAYED_MAX",
        value_name = "COUNT",
        default_value_t = 2_000_000
    )]
    delayed_max: usize,
    /// Hours that messages are kept (fileReservedTime); 0 keeps them for ever.
    #[arg(
        long,
        env = "QUERN_FILE_RESERVED_TIME",
        value_name = "HOURS",
        default_value_t = 72
    )]
    file_reserved_time: u64,
    /// Hours of the day, UTC, in which expired segments go, as in 4 or 4,16 (deleteWhen); at any hour
    /// once the disk is three quarters full.
    #[arg(long, env = "QUERN_DELETE_WHEN", value_name = "HOURS", value_delimiter = ',',
        default_value = "4", value_parser = clap::value_parser!(u8).range(0..24))]
    delete_when: Vec<u8>,
    /// Most bytes of log to keep: beyond, the oldest segments go at once; by default there is no bound.
    #[arg(long, env = "QUERN_LOG_MAX_BYTES", value_name = "BYTES")]
    log_max_bytes: Option<u64>,
    /// How old messages are read (store.read).
    #[arg(long, env = "QUERN_STORE_READ", value_enum, value_name = "HOW",
        default_value_t = StoreRead::Pread)]
    store_read: StoreRead,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum StoreRead {
    /// Copied by the kernel; a disk that fails is an error.
    Pread,
    /// Mapped; a disk that fails at the wrong moment ends the process, and it has to be started again.
    Mmap,
}

/// This program compiles plugins too, in a process of its own.
pub(crate) fn compiler() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe();
    program.map_err(|error| Failure::new(1, format!("this program cannot find itself: {error}")))
}

const AUTO_CREATE_QUEUES: u32 = 8;

impl Args {
    fn config(&self) -> Result<Config, Failure> {
        let roles = match (self.namesrv_only, self.broker_only) {
            (true, _) => Roles::NameServer,
            (_, true) => Roles::Broker,
            _ => Roles::Both,
        };
        let name = BrokerName::new(&self.name);
        let name = name.map_err(|error| Failure::usage(format!("Q-2005 --name: {error}")))?;
        let name_servers = self.namesrv.as_deref().unwrap_or_default();
        let name_servers = name_servers.split([',', ';']).map(str::trim);
        let name_servers = name_servers.filter(|address| !address.is_empty());
        let auto_create = self.dev || self.auto_create_topic_enable;
        Ok(Config {
            data: self.data.clone(),
            name,
            cluster: self.cluster.clone(),
            listen: self.listen,
            namesrv_listen: self.namesrv_listen,
            advertise: self.advertise.clone(),
            name_servers: name_servers.map(str::to_owned).collect(),
            auto_create_queues: auto_create.then_some(AUTO_CREATE_QUEUES),
            identity: match &self.tls_dir {
                Some(dir) => Identity::Files(dir.clone()),
                None => Identity::Development {
                    allow_remote: self.allow_dev_ca,
                },
            },
            segment_size: self.segment_size,
            durability: self.durability,
            flush_timeout: Duration::from_millis(self.sync_flush_timeout),
            delays: Delays {
                levels: self
                    .delay_levels
                    .iter()
                    .copied()
                    .map(Duration::from_millis)
                    .collect(),
                longest: Duration::from_millis(self.delay_max),
            },
            most_delayed: self.delayed_max,
            retention: Retention {
                age: (self.file_reserved_time > 0)
                    .then(|| Duration::from_secs(self.file_reserved_time.saturating_mul(3_600))),
                bytes: self.log_max_bytes,
                hours: self.delete_when.clone(),
            },
            read_mode: match self.store_read {
                StoreRead::Pread => ReadMode::Pread,
                StoreRead::Mmap => ReadMode::Mmap,
            },
            compiler: Some(compiler()?),
            ..Config::new(roles)
        })
    }
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
    eprintln!("  Ctrl-C drains and stops; a second one stops at once");
    serve_until_stopped(node, &mut stop).await
}

/// Starts a node; what went wrong comes with its code.
pub(crate) async fn start(config: Config) -> Result<Node, Failure> {
    Node::start(config).await.map_err(|error| {
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
