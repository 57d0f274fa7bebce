//! One process: composes the roles one configuration asks for, and takes them down in order.
//!
//! Roles in one process meet as they would apart: the broker registers with the name server over
//! QUIC, so there is one path and no special case.

mod config;
mod exercise;
mod identity;
pub mod offline;
pub mod settings;
pub mod workbench;

use std::net::SocketAddr;
use std::sync::Arc;

use quern_broker::Broker;
pub use quern_broker::{Delays, Transactions};
use quern_nameserver::NameServer;
use quern_plugins::{Compiler, Runtime};
use quern_protocol::{BrokerName, Code, ConfigEntry};
use quern_quic::{
    BindError, CloseReason, Connector, Door, ListenConfig, Listener, TlsError, Trust,
};
use quern_store::{Env, Report};
pub use quern_store::{Progress, ReadMode, Retention};

pub use quern_plugins::plugin_child_main;

pub use crate::config::{BadConfig, Config, Identity, Roles, TopicTemplate};
pub use crate::exercise::exercise;
use crate::identity::Credentials;
pub use quern_store::exercise::SCRIPTS;

/// Why a process did not start. Whatever had started is stopped again.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] BadConfig),
    #[error("{role} cannot listen: {source}")]
    Bind {
        role: &'static str,
        source: BindError,
    },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Broker(#[from] quern_broker::StartError),
    #[error("the plugin runtime did not start: {0}")]
    Plugins(#[from] quern_plugins::RuntimeError),
    #[error("opening the store panicked; its message is above")]
    Panicked,
}

impl StartError {
    pub fn code(&self) -> Code {
        match self {
            Self::Config(error) => error.code(),
            Self::Bind { source, .. } => source.code(),
            Self::Tls(error) => error.code(),
            Self::Broker(error) => error.code(),
            Self::Plugins(_) | Self::Panicked => Code::INTERNAL,
        }
    }
}

/// The log could not be closed cleanly; the next start verifies it.
#[derive(Debug, thiserror::Error)]
#[error("the log was not closed cleanly: {0}")]
pub struct ShutdownError(#[from] quern_store::CloseError);

/// A running process.
#[derive(Debug)]
pub struct Node {
    namesrv: Option<Arc<Listener>>,
    broker: Option<RunningBroker>,
    fingerprint: Option<String>,
    trust: Trust,
    ignored: Vec<ConfigEntry>,
}

#[derive(Debug)]
struct RunningBroker {
    broker: Arc<Broker>,
    listener: Arc<Listener>,
    report: Report,
}

impl Node {
    /// Starts the roles: name server first, so that the broker finds it.
    pub async fn start(mut config: Config) -> Result<Self, StartError> {
        config.check()?;
        let credentials = Credentials::load(&config, &config.hosts())?;
        let env = Env::real();
        let mut node = Self {
            namesrv: None,
            broker: None,
            fingerprint: credentials.fingerprint.clone(),
            trust: credentials.peers.clone(),
            ignored: config.ignored(),
        };
        if config.roles.has_name_server() {
            let listener = bind("the name server", config.namesrv_listen, &credentials)?;
            config.namesrv_listen = listener.local_addr();
            let clock = Arc::clone(&env.clock);
            let name = listener.local_addr().to_string();
            let settings = config.entries(Roles::NameServer);
            let server = NameServer::new(name, Box::new(move || clock.wall_ms()), settings);
            tokio::spawn(server.serve(Arc::clone(&listener)));
            node.namesrv = Some(listener);
        }
        if config.roles.has_broker() {
            let started = start_broker(config, &credentials, env).await;
            match started {
                Ok(broker) => node.broker = Some(broker),
                Err(error) => {
                    // The first error is the one that counts.
                    let _ = node.shutdown().await;
                    return Err(error);
                }
            }
        }
        Ok(node)
    }

    /// Where the name server listens, if this process has one.
    pub fn namesrv_addr(&self) -> Option<SocketAddr> {
        self.namesrv.as_ref().map(|listener| listener.local_addr())
    }

    /// Where the broker listens, if this process has one.
    pub fn broker_addr(&self) -> Option<SocketAddr> {
        self.broker.as_ref().map(|it| it.listener.local_addr())
    }

    pub fn broker_name(&self) -> Option<&BrokerName> {
        self.broker.as_ref().map(|it| it.broker.name())
    }

    /// What the store found when it opened.
    pub fn report(&self) -> Option<&Report> {
        self.broker.as_ref().map(|it| &it.report)
    }

    /// Of the development CA, when that is used.
    pub fn fingerprint(&self) -> Option<&str> {
        self.fingerprint.as_deref()
    }

    /// The authority that this node's certificate is from: whom its clients believe.
    pub fn trust(&self) -> Trust {
        self.trust.clone()
    }

    /// Settings that were given and have no effect, with the reason.
    pub fn ignored(&self) -> &[ConfigEntry] {
        &self.ignored
    }

    /// Deregisters, finishes what is under way, flushes, and closes every connection with a reason.
    pub async fn shutdown(self) -> Result<(), ShutdownError> {
        let mut closed = Ok(());
        if let Some(RunningBroker {
            broker, listener, ..
        }) = self.broker
        {
            broker.drain().await;
            listener.close(CloseReason::GoingAway);
            listener.drained().await;
            let close = tokio::task::spawn_blocking(move || broker.close());
            // A panic in there has been printed; the log is then simply not marked clean.
            closed = close.await.unwrap_or(Ok(()));
        }
        if let Some(listener) = self.namesrv {
            listener.close(CloseReason::GoingAway);
            listener.drained().await;
        }
        Ok(closed?)
    }
}

fn bind(
    role: &'static str,
    address: SocketAddr,
    credentials: &Credentials,
) -> Result<Arc<Listener>, StartError> {
    let secret = credentials.identity.secret(&format!("reset {address}"));
    let config = ListenConfig::new(
        address,
        credentials.identity.clone(),
        credentials.peers.clone(),
        secret,
    );
    let listener = Listener::bind(config).map_err(|source| StartError::Bind { role, source })?;
    Ok(Arc::new(listener))
}

async fn start_broker(
    mut config: Config,
    credentials: &Credentials,
    env: Env,
) -> Result<RunningBroker, StartError> {
    let connector = Connector::new(
        credentials.peers.clone(),
        Some(credentials.identity.clone()),
        Door::Peer,
    )
    .map_err(|source| StartError::Bind {
        role: "the broker's way to name servers",
        source,
    })?;
    // Bound before the log is read: a port in use is told at once. Connections wait until then.
    let listener = bind("the broker", config.listen, credentials)?;
    config.listen = listener.local_addr();
    let advertise = config.advertised();
    let broker = quern_broker::Config {
        settings: config.entries(Roles::Broker),
        cluster: config.cluster.clone(),
        name_servers: config.all_name_servers(),
        auto_create_queues: config.auto_create_topics.then_some(config.default_queues),
        auto_create_settings: config.topic_template.settings(),
        auto_create_groups: config.auto_create_groups,
        permission: config.permission,
        max_message_size: config.max_message_size,
        durability: config.durability,
        flush_timeout: config.flush_timeout,
        delays: config.delays.clone(),
        transactions: config.transactions.clone(),
        plugin_probation: config.plugin_probation,
        tombstone_grace: config.tombstone_grace,
        ..quern_broker::Config::new(
            config.name.clone(),
            advertise.unwrap_or_else(|| listener.local_addr().to_string()),
        )
    };
    let store = quern_store::Config {
        segment_size: config.segment_size,
        retention: config.retention.clone(),
        most_waiting: config.most_delayed,
        read_mode: config.read_mode,
        progress: Arc::clone(&config.progress),
        ..quern_store::Config::new(config.data.clone())
    };
    let plugins = quern_plugins::Config {
        compiler: match &config.compiler {
            Some(program) => Compiler::Child(program.clone()),
            None => Compiler::InProcess,
        },
        dir: Some(config.data.join("plugins")),
        cache: config.plugin_cache.clone(),
        ..quern_plugins::Config::default()
    };
    let open = tokio::task::spawn_blocking(move || {
        let plugins = Runtime::new(&plugins)?;
        Ok::<_, StartError>(Broker::open(broker, store, env, &plugins)?)
    });
    let opened = open.await.map_err(|_| StartError::Panicked)?;
    let (broker, report) = opened.inspect_err(|_| listener.close(CloseReason::GoingAway))?;
    tokio::spawn(Arc::clone(&broker).serve(Arc::clone(&listener)));
    broker.register(&connector);
    Ok(RunningBroker {
        broker,
        listener,
        report,
    })
}
