//! What an operator decides about a broker. Validated by types: a `Config` that exists can be run.

use std::sync::Arc;
use std::time::Duration;

use quern_plugins::Plugin;
use quern_protocol::{BrokerName, ConfigEntry, Durability, Permission, TopicSetting, limits};

/// A broker's settings. RocketMQ's names are given where they differ.
#[derive(Debug, Clone)]
pub struct Config {
    /// `brokerName`; unique among the brokers of a cluster. Default: `broker-a`.
    pub name: BrokerName,
    /// `brokerClusterName`. Default: `DefaultCluster`.
    pub cluster: String,
    /// `HOST:PORT` that clients are told to connect to.
    pub advertise: String,
    /// Name servers to register with, `HOST:PORT` each. Default: none.
    pub name_servers: Vec<String>,
    /// `autoCreateTopicEnable`: queues of a topic made by the first send to it; `None` = refuse.
    pub auto_create_queues: Option<u32>,
    /// What else is set of such a topic. Default: nothing.
    pub auto_create_settings: Vec<TopicSetting>,
    /// `autoCreateSubscriptionGroup`: a group exists as soon as somebody consumes for it. Default: yes.
    pub auto_create_groups: bool,
    /// `brokerPermission`: what clients may do with all topics. Default: read and write.
    pub permission: Permission,
    /// `maxMessageSize`: largest body of a message, bytes. Default: 4 MiB, the most there can be.
    pub max_message_size: usize,
    /// Threads that run filters and selectors. Default: one per processor, 2 to 16.
    pub delivery_threads: usize,
    /// `flushDiskType`: how safe messages are whose send and topic do not say. Default: on this
    /// broker's disk.
    pub durability: Durability,
    /// `syncFlushTimeout`: a send that waits longer for the disk is answered `FlushDiskTimeout`.
    /// Default: 5 s.
    pub flush_timeout: Duration,
    pub delays: Delays,
    pub transactions: Transactions,
    /// A version of a plugin that has been active for less is quarantined as soon as it fails too often; one that was
    /// longer is not asked for a while first. Default: 24 h.
    pub plugin_probation: Duration,
    /// A message with a key and no body lets its key go from a compacted topic, but not before it is so old. Default: 24 h.
    pub tombstone_grace: Duration,
    /// Filters besides the tag filter, each with a language of its own. Default: none.
    pub filters: Vec<Arc<Plugin>>,
    /// What it says when it is asked for its settings. Default: nothing.
    pub settings: Vec<ConfigEntry>,
}

/// What messages for later may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delays {
    /// `messageDelayLevel`: the delays that a message may name by a number, from 1 on. Default: RocketMQ's 18.
    pub levels: Vec<Duration>,
    /// `timerMaxDelaySec`: no message is for later than that. Default: 40 days.
    pub longest: Duration,
}

/// RocketMQ's, in seconds.
const LEVELS: [u64; 18] = [
    1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1_200, 1_800, 3_600, 7_200,
];

impl Default for Delays {
    fn default() -> Self {
        Self {
            levels: LEVELS.map(Duration::from_secs).to_vec(),
            longest: Duration::from_secs(40 * 24 * 60 * 60),
        }
    }
}

/// What becomes of transactions whose producers do not say how they ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transactions {
    /// `transactionTimeOut`: a producer of the group is asked after so long. Default: 6 s.
    pub first_check: Duration,
    /// `transactionCheckInterval`: and again after so long, twice as long each time, up to 16 times. Default:
    /// 30 s.
    pub check_every: Duration,
    /// `transactionCheckMax`: after so many answers that none knows, the message is set aside. Default: 15.
    pub checks: u32,
    /// One that nobody was there to ask about is set aside after so long. Default: 72 h.
    pub longest: Duration,
}

impl Default for Transactions {
    fn default() -> Self {
        Self {
            first_check: Duration::from_secs(6),
            check_every: Duration::from_secs(30),
            checks: 15,
            longest: Duration::from_secs(72 * 60 * 60),
        }
    }
}

impl Transactions {
    /// How long the answer is waited for of who was asked for so often, ms.
    pub(crate) fn pause(&self, asked: u32) -> u64 {
        let every = u64::try_from(self.check_every.as_millis()).unwrap_or(u64::MAX);
        every.saturating_mul(1 << asked.saturating_sub(1).min(4))
    }
}

impl Config {
    /// The defaults, for a broker clients reach at `advertise`.
    pub fn new(name: BrokerName, advertise: impl Into<String>) -> Self {
        Self {
            name,
            cluster: "DefaultCluster".to_owned(),
            advertise: advertise.into(),
            name_servers: Vec::new(),
            auto_create_queues: None,
            auto_create_settings: Vec::new(),
            auto_create_groups: true,
            permission: Permission::ReadWrite,
            max_message_size: limits::MESSAGE_BODY,
            delivery_threads: std::thread::available_parallelism()
                .map_or(2, |n| n.get().clamp(2, 16)),
            durability: Durability::Local,
            flush_timeout: Duration::from_secs(5),
            delays: Delays::default(),
            transactions: Transactions::default(),
            plugin_probation: Duration::from_secs(24 * 60 * 60),
            tombstone_grace: Duration::from_secs(24 * 60 * 60),
            filters: Vec::new(),
            settings: Vec::new(),
        }
    }
}
