//! A node in this process.
//!
//! ```
//! # #[tokio::main(flavor = "multi_thread", worker_threads = 2)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let data = dir.path().join("broker");
//! use quernstone::embedded::{Config, Node, Roles};
//!
//! let node = Node::start(Config {
//!     data, // everything that must survive
//!     namesrv_listen: "127.0.0.1:0".parse()?, // a free port; the default is 9876
//!     listen: "127.0.0.1:0".parse()?, // and here 10911
//!     auto_create_topics: true,
//!     # dev_ca: Some(dir.path().join("ca")),
//!     ..Config::new(Roles::Both)
//! })
//! .await?;
//! println!("clients connect to {}", node.address());
//! let client = node.client().await?;
//! # client.close().await;
//! node.shutdown().await?; // drained, flushed, closed
//! # Ok(())
//! # }
//! ```
//!
//! Plugins are compiled in a process of their own, for a compiler is no place for what strangers wrote. That
//! process is a program that is named in [`Config::compiler`] and begins with [`plugin_child_main`]: this one, say
//! (`std::env::current_exe`). Without it the node runs the plugins that are built in, and takes no others.

use std::net::SocketAddr;
use std::time::Duration;

use quern_client::{Client, ClientBuilder, Trust};
pub use quern_node::{
    BadConfig, Config, Delays, Identity, ReadMode, Retention, Roles, ShutdownError, StartError,
    Transactions, plugin_child_main,
};

/// Longest a broker takes to be known to the name server in its own process.
const REGISTERED: Duration = Duration::from_secs(10);
/// How often it is looked for meanwhile.
const LOOK: Duration = Duration::from_millis(2);

/// Why a node is not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// What ran before did not end well.
    #[error(transparent)]
    Shutdown(#[from] ShutdownError),
    /// It started, and was not reached.
    #[error("the node in this process cannot be reached: {0}")]
    Client(#[from] quern_client::Error),
    /// The broker did not find its name server.
    #[error("the broker was not known to its name server within {REGISTERED:?}; its log says why")]
    NotRegistered,
    /// There was no place for its files.
    #[error("no directory for the broker's files: {0}")]
    Directory(#[from] std::io::Error),
}

/// A running node, of one or both roles.
///
/// It serves until [`Node::shutdown`]. One that is dropped instead serves on until the runtime ends, and verifies the
/// end of its log when it starts again.
#[derive(Debug)]
pub struct Node(quern_node::Node);

impl Node {
    /// Starts a node; when it is here, clients find it.
    pub async fn start(config: Config) -> Result<Self, Error> {
        let node = Self(quern_node::Node::start(config).await?);
        let is_whole = node.namesrv_addr().is_some() && node.broker_addr().is_some();
        if is_whole && let Err(error) = node.registered().await {
            // The first error is the one that counts.
            let _ = node.shutdown().await;
            return Err(error);
        }
        Ok(node)
    }

    /// Where clients connect to, `quern://HOST:PORT`: the name server of this process.
    ///
    /// # Panics
    ///
    /// When this process has none ([`Roles::Broker`]): its clients ask the name servers that it was given.
    pub fn address(&self) -> String {
        let address = self.namesrv_addr();
        format!(
            "quern://{}",
            address.expect("a broker alone has no address for clients: they ask its name servers")
        )
    }

    /// Of the name server, if this process has one.
    pub fn namesrv_addr(&self) -> Option<SocketAddr> {
        self.0.namesrv_addr()
    }

    /// Of the broker, if this process has one.
    pub fn broker_addr(&self) -> Option<SocketAddr> {
        self.0.broker_addr()
    }

    /// A client of this node, with the defaults.
    ///
    /// # Panics
    ///
    /// As [`Node::address`].
    pub async fn client(&self) -> Result<Client, quern_client::Error> {
        self.client_builder().build().await
    }

    /// The same, with settings of its own.
    ///
    /// # Panics
    ///
    /// As [`Node::address`].
    pub fn client_builder(&self) -> ClientBuilder {
        let address = self.address();
        let builder = Client::builder().trust(self.trust());
        builder.namesrv([address.trim_start_matches("quern://")])
    }

    /// Whom clients of this node believe, in this process or with [`quern_client::ClientBuilder::trust`] elsewhere.
    pub fn trust(&self) -> Trust {
        self.0.trust()
    }

    /// Finishes what is under way, flushes, and closes every connection with a reason. Its ports are free a moment
    /// after.
    pub async fn shutdown(self) -> Result<(), ShutdownError> {
        self.0.shutdown().await
    }

    async fn registered(&self) -> Result<(), Error> {
        let client = self.client().await?;
        let known = async {
            while client.admin().brokers().await?.is_empty() {
                tokio::time::sleep(LOOK).await;
            }
            Ok::<(), Error>(())
        };
        let in_time = tokio::time::timeout(REGISTERED, known).await;
        client.close().await;
        in_time.unwrap_or(Err(Error::NotRegistered))
    }
}
