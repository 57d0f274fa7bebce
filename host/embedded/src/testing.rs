//! A broker for an application's tests: real, in this process, on ports of its own, in a directory that goes with it.
//!
//! ```
//! use quernstone::client::{Filter, Message};
//! use quernstone::testing::Broker;
//!
//! #[tokio::main(flavor = "multi_thread", worker_threads = 2)] // in a test: #[tokio::test(…)]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let broker = Broker::start().await?;
//!     let producer = broker.client().producer("shop").start().await?;
//!     producer.send(Message::new("orders", "A7").tag("paid")).await?;
//!
//!     let broker = broker.restart().await?; // what was acknowledged is still there
//!     let mut billing = broker
//!         .client()
//!         .consumer("billing")
//!         .subscribe("orders", Filter::tag("paid"))
//!         .start()
//!         .await?;
//!     assert_eq!(&billing.recv().await?.body()[..], b"A7");
//!     broker.shutdown().await?;
//!     Ok(())
//! }
//! ```
//!
//! Nothing is shared with brokers of other tests but compiled plugins, which are kept for the user in
//! `$XDG_CACHE_HOME/quern/plugins` (`~/.cache/quern/plugins`), so that only the first of them takes the time to compile.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quern_client::Client;
use tempfile::TempDir;

use crate::embedded::{Config, Error, Node, Roles, ShutdownError};

/// What a start says whose port is taken.
const ADDRESS_IN_USE: u16 = 1010;
/// A test writes little, and many run at once.
const SEGMENT: u64 = 16 << 20;
const LOOPBACK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A name server and a broker for one test.
///
/// Sends to topics that are not there make them; [`Broker::start_with`] changes that and any other setting. When it is
/// dropped its directory goes.
#[derive(Debug)]
pub struct Broker {
    node: Node,
    client: Client,
    config: Config,
    // After `node`, which has files in it.
    dir: TempDir,
}

impl Broker {
    /// Starts a broker with nothing in it.
    pub async fn start() -> Result<Self, Error> {
        Self::start_with(|config| config).await
    }

    /// The same with other settings: `start_with(|it| Config { auto_create_topics: false, ..it })`.
    pub async fn start_with(settings: impl FnOnce(Config) -> Config) -> Result<Self, Error> {
        let dir = tempfile::Builder::new().prefix("quern-test-").tempdir()?;
        let config = settings(Config {
            data: dir.path().join("data"),
            dev_ca: Some(dir.path().join("dev-ca")),
            plugin_cache: plugin_cache(),
            namesrv_listen: LOOPBACK,
            listen: LOOPBACK,
            auto_create_topics: true,
            default_queues: 4,
            segment_size: Some(SEGMENT),
            ..Config::new(Roles::Both)
        });
        let node = Node::start(config.clone()).await?;
        Self::with(node, config, dir).await
    }

    /// A client of it, which lives as long as it does, or until its next restart.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The node, for clients with settings of their own.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Where clients of other processes connect to, `quern://HOST:PORT`; they trust [`Broker::ca_file`].
    pub fn address(&self) -> String {
        self.node.address()
    }

    /// The certificate of the authority that this broker's is from: `quern --ca FILE`.
    pub fn ca_file(&self) -> PathBuf {
        let ca = self.config.dev_ca.as_deref();
        ca.unwrap_or_else(|| self.dir.path()).join("ca.pem")
    }

    /// Stops and starts it, on the same ports: what was acknowledged is there, who was connected finds it again.
    pub async fn restart(self) -> Result<Self, Error> {
        let (node, mut config, dir) = (self.node, self.config, self.dir);
        config.namesrv_listen = node.namesrv_addr().unwrap_or(config.namesrv_listen);
        config.listen = node.broker_addr().unwrap_or(config.listen);
        self.client.close().await;
        node.shutdown().await?;
        // A port is free a moment after its last connection is gone.
        let mut waits = [20, 50, 100, 250, 500, 1_000, 2_000].into_iter();
        let node = loop {
            match Node::start(config.clone()).await {
                Err(Error::Start(error)) if error.code().number == ADDRESS_IN_USE => {
                    let ms = waits.next().ok_or(error)?;
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                }
                started => break started?,
            }
        };
        Self::with(node, config, dir).await
    }

    async fn with(node: Node, config: Config, dir: TempDir) -> Result<Self, Error> {
        let client = node.client().await?;
        Ok(Self {
            node,
            client,
            config,
            dir,
        })
    }

    /// Stops it and removes its directory.
    pub async fn shutdown(self) -> Result<(), ShutdownError> {
        self.client.close().await;
        self.node.shutdown().await
    }
}

/// A test with a broker of its own, for those who have no runtime yet: `#[test] fn …() { run(async |client| …) }`.
///
/// ```
/// use quernstone::client::Message;
///
/// quernstone::testing::run(async |client| {
///     let producer = client.producer("shop").start().await?;
///     assert!(producer.send(Message::new("orders", "A7")).await?.status().is_durable());
///     Ok(())
/// });
/// ```
///
/// # Panics
///
/// With the error that the test ends with, or the broker.
pub fn run(test: impl AsyncFnOnce(Client) -> Result<(), Box<dyn std::error::Error>>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime.unwrap_or_else(|error| panic!("there is no runtime: {error}"));
    let done = runtime.block_on(async {
        let broker = Broker::start().await?;
        let tested = test(broker.client().clone()).await;
        broker.shutdown().await?;
        tested
    });
    if let Err(error) = done {
        panic!("{error}");
    }
}

/// Where compiled plugins are kept for all tests of this user; `None` = they are compiled each time.
fn plugin_cache() -> Option<PathBuf> {
    let of = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let cache = of("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| of("HOME").map(|home| Path::new(&home).join(".cache")));
    cache.map(|it| it.join("quern/plugins"))
}
