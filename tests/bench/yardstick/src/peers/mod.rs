//! The brokers that are measured, an adapter each.

mod java;
mod kafka;
mod nats;
mod quern;
mod rocketmq;
mod rocketmq_rust;

use std::process::Command;

use anyhow::Result;

use crate::place::{Place, Site};
use crate::processes::Server;
use crate::work::{Class, Work};

/// What the yardstick has to know of a broker.
pub(crate) trait Peer {
    fn name(&self) -> &'static str;

    fn version(&self) -> Result<String>;

    /// The setting that makes it acknowledge as the class says.
    fn durability(&self, class: Class) -> &'static str;

    /// Whether it has what the work is about.
    fn can(&self, work: Work) -> bool;

    /// The first bytes of a client, which the broker answers: so that connections can be made without its
    /// library, which is made for a few. None: its driver makes them.
    fn greeting(&self) -> Option<Vec<u8>> {
        None
    }

    /// Fetches and builds what is not there yet. An error says why it cannot be measured here.
    fn prepare(&self, place: &Place) -> Result<()>;

    /// Its processes in the order they are started, with an empty directory for their data.
    fn servers(&self, site: &Site<'_>) -> Result<Vec<Server>>;

    fn driver(&self, site: &Site<'_>) -> Result<Command>;
}

/// All of them, ours first.
pub(crate) fn all() -> Vec<Box<dyn Peer>> {
    vec![
        Box::new(quern::Quern),
        Box::new(nats::Nats),
        Box::new(rocketmq::RocketMq),
        Box::new(rocketmq_rust::RocketMqRust),
        Box::new(kafka::Kafka {
            is_encrypted: false,
        }),
        Box::new(kafka::Kafka { is_encrypted: true }),
    ]
}

/// Ours: what the others are held against.
pub(crate) const OURS: &str = "quern";
