//! What one process is asked to be: roles, addresses, directory, identity.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quern_broker::{Delays, Transactions};
use quern_protocol::{
    BrokerName, Cleanup, Code, Durability, MessageType, Permission, TopicSetting, limits,
};
use quern_store::{Progress, ReadMode, Retention};

use crate::settings::Origins;

/// Which roles run in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Roles {
    /// Name server and broker.
    Both,
    NameServer,
    Broker,
}

impl Roles {
    pub fn has_name_server(self) -> bool {
        self != Self::Broker
    }

    pub fn has_broker(self) -> bool {
        self != Self::NameServer
    }

    /// Whether there is a role in both.
    pub fn overlap(self, other: Self) -> bool {
        self.has_broker() && other.has_broker() || self.has_name_server() && other.has_name_server()
    }
}

/// Where certificates come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The per-user development CA; `allow_remote` (`tls.allow_dev_ca`) lets it serve beyond loopback.
    Development { allow_remote: bool },
    /// A directory with `node.pem`, `node.key` and the cluster's `ca.pem`.
    Files(PathBuf),
}

/// One process.
#[derive(Debug, Clone)]
pub struct Config {
    pub roles: Roles,
    /// The broker's data. Default: `./quern-data`.
    pub data: PathBuf,
    /// Default: `broker-a`.
    pub name: BrokerName,
    /// Default: `DefaultCluster`.
    pub cluster: String,
    /// UDP address of the name server. Default: `127.0.0.1:9876`.
    pub namesrv_listen: SocketAddr,
    /// UDP address of the broker. Default: `127.0.0.1:10911`.
    pub listen: SocketAddr,
    /// `HOST:PORT` clients reach the broker at. Default: the address it listens on.
    pub advertise: Option<String>,
    /// Host clients reach the broker at, at the port it listens on; `advertise` goes before it.
    /// Default: none.
    pub advertise_host: Option<String>,
    /// Other name servers to register with, `HOST:PORT` each; the one in this process is added.
    pub name_servers: Vec<String>,
    /// Topics are made by the first send to them. Default: no, they are made explicitly.
    pub auto_create_topics: bool,
    /// Queues of such a topic. Default: 8.
    pub default_queues: u32,
    /// What else such a topic is like.
    pub topic_template: TopicTemplate,
    /// Groups exist as soon as somebody consumes for them. Default: yes.
    pub auto_create_groups: bool,
    /// What clients may do with all topics of the broker. Default: read and write.
    pub permission: Permission,
    /// Largest body of a message, bytes; at most 4 MiB, the default.
    pub max_message_size: usize,
    pub identity: Identity,
    /// Where the development CA is kept. `None` = the user's own, which clients believe by default.
    pub dev_ca: Option<PathBuf>,
    /// Size of a log segment, bytes; `None` = by the size of the file system.
    pub segment_size: Option<u64>,
    /// How safe messages are whose send and topic do not say. Default: on the broker's disk.
    pub durability: Durability,
    /// A send that waits longer for the disk is answered `FlushDiskTimeout`. Default: 5 s.
    pub flush_timeout: Duration,
    /// What messages for later may ask for.
    pub delays: Delays,
    /// What becomes of transactions whose producers do not say how they ended.
    pub transactions: Transactions,
    /// A version of a plugin that has been active for less is quarantined as soon as it fails too often; one that was
    /// longer is not asked for a while first.
    pub plugin_probation: Duration,
    /// A message with a key and no body lets its key go from a compacted topic, but not before it is so old.
    pub tombstone_grace: Duration,
    /// Messages that may wait for their time; each takes about 100 bytes of memory. Default: 2,000,000.
    pub most_delayed: usize,
    /// How long messages are kept.
    pub retention: Retention,
    /// How old messages are read.
    pub read_mode: ReadMode,
    /// Says while the broker's log is read how far that is.
    pub progress: Arc<Progress>,
    /// A program whose `main` calls [`crate::plugin_child_main`] first: it compiles plugins, in a
    /// process of its own with limits. `None` = only the plugins built into this program run, and
    /// no others are taken in.
    pub compiler: Option<PathBuf>,
    /// Where compiled plugins are kept; several nodes of one user may share it. `None` = with the data.
    pub plugin_cache: Option<PathBuf>,
    /// Who gave which value, for those who ask the running node.
    pub origins: Origins,
}

/// What a topic is like that is made by its first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TopicTemplate {
    /// The messages it takes; `None` = any.
    pub messages: Option<MessageType>,
    /// Of messages that do not say; `None` = as the broker has it.
    pub durability: Option<Durability>,
    /// How long messages are kept; `None` = as long as the log is.
    pub retention: Option<Duration>,
    /// What becomes of messages in time.
    pub cleanup: Cleanup,
}

impl TopicTemplate {
    /// The same as settings of a topic.
    pub(crate) fn settings(&self) -> Vec<TopicSetting> {
        let ms = |it: Duration| u64::try_from(it.as_millis()).unwrap_or(u64::MAX);
        let messages = self.messages.map(|it| TopicSetting::Messages(Some(it)));
        let durability = self.durability.map(|it| TopicSetting::Durability(Some(it)));
        let retention = self.retention;
        let retention = retention.map(|it| TopicSetting::Retention(Some(ms(it))));
        let cleanup = (self.cleanup != Cleanup::default()).then_some(self.cleanup);
        let cleanup = cleanup.map(TopicSetting::Cleanup);
        let settings = [messages, durability, retention, cleanup];
        settings.into_iter().flatten().collect()
    }
}

impl Config {
    /// The defaults of every setting.
    pub fn new(roles: Roles) -> Self {
        Self {
            roles,
            data: PathBuf::from("quern-data"),
            name: BrokerName::new("broker-a").expect("the default name is legal"),
            cluster: "DefaultCluster".to_owned(),
            namesrv_listen: SocketAddr::from(([127, 0, 0, 1], 9876)),
            listen: SocketAddr::from(([127, 0, 0, 1], 10911)),
            advertise: None,
            advertise_host: None,
            name_servers: Vec::new(),
            auto_create_topics: false,
            default_queues: 8,
            topic_template: TopicTemplate::default(),
            auto_create_groups: true,
            permission: Permission::ReadWrite,
            max_message_size: limits::MESSAGE_BODY,
            identity: Identity::Development {
                allow_remote: false,
            },
            dev_ca: None,
            segment_size: None,
            durability: Durability::Local,
            flush_timeout: Duration::from_secs(5),
            delays: Delays::default(),
            transactions: Transactions::default(),
            plugin_probation: Duration::from_secs(24 * 60 * 60),
            tombstone_grace: Duration::from_secs(24 * 60 * 60),
            most_delayed: quern_store::DEFAULT_WAITING,
            retention: Retention::default(),
            read_mode: ReadMode::default(),
            progress: Arc::default(),
            compiler: None,
            plugin_cache: None,
            origins: Origins::default(),
        }
    }

    /// Where clients shall connect to, if somebody has said so.
    pub(crate) fn advertised(&self) -> Option<String> {
        let at_port = |host: &String| match host.contains(':') {
            true => format!("[{host}]:{}", self.listen.port()),
            false => format!("{host}:{}", self.listen.port()),
        };
        let advertise = self.advertise.clone();
        advertise.or_else(|| self.advertise_host.as_ref().map(at_port))
    }

    fn listening(&self) -> impl Iterator<Item = SocketAddr> {
        let name_server = self.roles.has_name_server().then_some(self.namesrv_listen);
        let broker = self.roles.has_broker().then_some(self.listen);
        name_server.into_iter().chain(broker)
    }

    /// What others may call this node: a certificate that is made for it is valid for all of that.
    pub(crate) fn hosts(&self) -> Vec<String> {
        let host = |address: String| {
            let host = address.rsplit_once(':').map_or(&*address, |(host, _)| host);
            host.trim_matches(['[', ']']).to_owned()
        };
        let listening = self.listening().map(|it| it.ip());
        let listening = listening.filter(|it| !it.is_unspecified() && !it.is_loopback());
        let mut hosts: Vec<String> = listening.map(|it| it.to_string()).collect();
        hosts.extend(self.advertised().map(host));
        hosts.dedup();
        hosts
    }

    /// Name servers to register with: the one in this process, and the others.
    pub(crate) fn all_name_servers(&self) -> Vec<String> {
        if !self.roles.has_name_server() {
            return self.name_servers.clone();
        }
        let own = self.namesrv_listen;
        // Registered twice, a broker would be taken for two that quarrel about a name.
        let is_own = |address: &str| {
            let parts = address.rsplit_once(':');
            parts.is_some_and(|(host, port)| {
                let host = host.trim_matches(['[', ']']);
                let ip = host.parse::<IpAddr>().ok();
                let is_here = host == "localhost" || ip.is_some_and(|ip| ip.is_loopback());
                let hears_here = own.ip().is_loopback() || own.ip().is_unspecified();
                let is_same = ip == Some(own.ip()) || is_here && hears_here;
                is_same && port == own.port().to_string()
            })
        };
        let others = self.name_servers.iter().filter(|it| !is_own(it)).cloned();
        std::iter::once(own.to_string()).chain(others).collect()
    }

    /// Settings that are each legal and make no sense together.
    pub(crate) fn check(&self) -> Result<(), BadConfig> {
        for address in self.listening() {
            let remote = !address.ip().is_loopback();
            let refused = Identity::Development {
                allow_remote: false,
            };
            if remote && self.identity == refused {
                return Err(BadConfig::RemoteDevelopment(address));
            }
            if self.roles.has_broker()
                && address == self.listen
                && address.ip().is_unspecified()
                && self.advertised().is_none()
            {
                return Err(BadConfig::NoAdvertise(address));
            }
        }
        if self.roles == Roles::Broker && self.name_servers.is_empty() {
            return Err(BadConfig::NoNameServer);
        }
        if self.roles.has_broker() && self.durability > Durability::Local {
            return Err(BadConfig::NoReplicas(self.durability));
        }
        Ok(())
    }
}

/// Why settings were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadConfig {
    #[error(
        "{0} can be reached from other machines, and the development CA is for this one only. \
         Give certificates with --tls-dir DIR, or say --allow-dev-ca if you mean it"
    )]
    RemoteDevelopment(SocketAddr),
    #[error(
        "the broker listens on {0}, which is no address clients could connect to. \
         Say which with --advertise HOST:PORT"
    )]
    NoAdvertise(SocketAddr),
    #[error("a broker without a name server in its process needs --namesrv HOST:PORT[,HOST:PORT]")]
    NoNameServer,
    #[error(
        "durability {0} needs replicas, and a broker has none yet. \
         Say --durability local for this broker's disk, or fast for its page cache"
    )]
    NoReplicas(Durability),
}

impl BadConfig {
    pub fn code(&self) -> Code {
        Code::BAD_CONFIG
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_valid_for_all_that_others_may_call_a_node() {
        let lan = Config {
            namesrv_listen: SocketAddr::from(([10, 0, 0, 1], 9876)),
            listen: SocketAddr::from(([10, 0, 0, 1], 10911)),
            advertise: Some("[fd00::1]:10911".to_owned()),
            ..Config::new(Roles::Both)
        };
        assert_eq!(lan.hosts(), ["10.0.0.1", "fd00::1"]);
        let any = SocketAddr::from(([0, 0, 0, 0], 10911));
        let broker = Config {
            listen: any,
            advertise: Some("shop.example:10911".to_owned()),
            ..Config::new(Roles::Broker)
        };
        assert_eq!(broker.hosts(), ["shop.example"]);
        assert!(Config::new(Roles::Both).hosts().is_empty());
    }

    #[test]
    fn what_makes_no_sense_together_is_refused_with_a_way_out() {
        let both = || Config::new(Roles::Both);
        let any = SocketAddr::from(([0, 0, 0, 0], 10911));
        let lan = SocketAddr::from(([10, 0, 0, 1], 9876));
        let remote = Identity::Development { allow_remote: true };
        let cases = [
            (both(), Ok(())),
            (
                Config {
                    namesrv_listen: lan,
                    ..both()
                },
                Err(BadConfig::RemoteDevelopment(lan)),
            ),
            (
                Config {
                    listen: any,
                    identity: remote.clone(),
                    ..both()
                },
                Err(BadConfig::NoAdvertise(any)),
            ),
            (
                Config {
                    listen: any,
                    identity: remote,
                    advertise: Some("b:10911".to_owned()),
                    ..both()
                },
                Ok(()),
            ),
            (
                Config {
                    roles: Roles::Broker,
                    ..both()
                },
                Err(BadConfig::NoNameServer),
            ),
            (
                Config {
                    durability: Durability::Quorum,
                    ..both()
                },
                Err(BadConfig::NoReplicas(Durability::Quorum)),
            ),
            // The broker's address does not matter to a name server alone.
            (
                Config {
                    roles: Roles::NameServer,
                    listen: any,
                    ..both()
                },
                Ok(()),
            ),
        ];
        for (config, expected) in cases {
            assert_eq!(config.check(), expected, "{config:?}");
        }
    }
}
