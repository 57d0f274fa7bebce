//! Quernstone inside another process: [`embedded::Node`] for applications that bring their broker along, and
//! [`testing::Broker`] for their tests.
//!
//! Both are the broker that `quern start` runs, reached over QUIC as any other: on its own ports, and by clients of
//! other processes too. [`client`] is the SDK.
//!
//! ```
//! # #[tokio::main(flavor = "multi_thread", worker_threads = 2)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use quernstone::client::Message;
//! use quernstone::testing::Broker;
//!
//! let broker = Broker::start().await?;
//! let producer = broker.client().producer("order-producers").start().await?;
//! producer.send(Message::new("orders", "one")).await?;
//! # broker.shutdown().await?;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod embedded;
pub mod testing;

/// The client SDK, of the same version.
pub use quern_client as client;
