//! The broker: topics, groups, send, pull and filtering, on top of the store.
//!
//! One value, [`Broker`], holds what all sessions share. A session gives each frame to the table in
//! `requests.rs`; the functions named there do the work and return the reply. What must survive is
//! in the store's log, messages and state alike; everything else here is derived from it.

mod accepted;
mod admin;
mod alarm;
mod allocation;
mod bindings;
mod breakers;
mod chain;
mod checks;
mod cold;
mod config;
mod costs;
mod delay;
mod durability;
mod explain;
mod filters;
mod find;
mod gate;
mod giving;
mod group_admin;
mod group_settings;
mod groups;
mod health;
mod hold;
mod in_use;
mod join;
mod lease;
mod leases;
mod limits;
mod line;
mod long_poll;
mod metrics;
mod offsets;
mod park;
mod parks;
mod plugin_admin;
mod plugin_logs;
mod plugins;
mod pool;
mod pop;
mod pop_again;
mod pop_attempts;
mod pop_gates;
mod popped;
mod pops;
mod pull;
mod questions;
mod registration;
mod replay;
mod replays;
mod replies;
mod reply;
mod requests;
mod retry;
mod scan;
mod select;
mod selectors;
mod send;
mod session;
mod shares;
mod shelf;
mod state;
mod status;
mod subscribe;
mod to_the_end;
mod topic_deletion;
mod topic_retention;
mod topics;
mod transactions;
mod trials;
mod trouble;
mod upload;
mod users;
mod verdicts;
mod wait_figures;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use quern_plugins::{Digest, Runtime, RuntimeError, Worker};
use quern_protocol::frame::{Frame, Outgoing};
use quern_protocol::{Code, ComponentDigest, RecordKind, TopicName, WireError, being_deleted};
use quern_quic::{Connector, Listener};
use quern_store::{
    Dispatched, Env, Held, Keep, KeptTopics, Observer, OpenError, Report, StateRecord, Steps, Store,
};
use tokio::sync::{Notify, watch};

use crate::alarm::Alarms;
use crate::allocation::Allocation;
use crate::breakers::Breakers;
use crate::checks::Checks;
use crate::cold::ColdReads;
pub use crate::config::{Config, Delays, Transactions};
use crate::costs::Costs;
use crate::filters::Filters;
use crate::gate::{Gate, Turn};
use crate::giving::Givings;
use crate::groups::Groups;
use crate::health::Health;
use crate::long_poll::LongPoll;
use crate::metrics::Metrics;
use crate::pool::{Bounds, Delivery};
use crate::pop_attempts::Attempts;
use crate::pop_gates::Gates;
use crate::questions::Questions;
use crate::replies::Replies;
use crate::selectors::Selectors;
use crate::shelf::Shelf;
use crate::state::{Body, State};
use crate::topics::Topic;
pub use crate::topics::TopicNames;
use crate::trials::Trials;
use crate::verdicts::Verdicts;

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error(transparent)]
    Plugins(#[from] RuntimeError),
    #[error("threads for delivery could not be started: {0}")]
    Threads(#[from] std::io::Error),
    #[error("a state record of the log cannot be applied: {0}")]
    State(String),
}

impl StartError {
    pub fn code(&self) -> Code {
        match self {
            Self::Store(error) => error.code(),
            Self::State(_) => Code::FORMAT_UNKNOWN,
            Self::Plugins(_) | Self::Threads(_) => Code::INTERNAL,
        }
    }
}

/// What all sessions of one broker share.
#[derive(Debug)]
pub struct Broker {
    config: Config,
    store: Store,
    state: Arc<State>,
    waits: Arc<LongPoll>,
    alarms: Arc<Alarms>,
    shelf: Shelf,
    filters: Filters,
    verdicts: Verdicts,
    selectors: Selectors,
    trials: Trials,
    health: Health,
    breakers: Breakers,
    costs: Costs,
    allocation: Allocation,
    groups: Groups,
    delivery: Delivery,
    cold: ColdReads,
    pop_attempts: Attempts,
    pop_gates: Gates,
    checks: Checks,
    replies: Replies,
    questions: Questions,
    givings: Givings,
    metrics: Metrics,
    started_at: u64,
    topic_gate: Gate,
    group_gate: Gate,
    plugin_gate: Gate,
    park_gate: Gate,
    /// Somebody writes the dead letters of what is parked that are missing.
    mending: AtomicBool,
    /// Counts changes of the topic table, for those who tell name servers.
    topics_version: Arc<watch::Sender<u64>>,
    /// By the address of each name server that knows this broker: the version of the topics it knows.
    published: watch::Sender<BTreeMap<String, u64>>,
    draining: AtomicBool,
    connections: AtomicUsize,
    under_way: AtomicUsize,
    idle: Notify,
}

/// Tells whoever watches that the topics are others than they were, when it is dropped.
struct TopicsChange {
    version: Arc<watch::Sender<u64>>,
    alarms: Arc<Alarms>,
}

impl Drop for TopicsChange {
    fn drop(&mut self) {
        self.alarms.deletion.ring();
        self.alarms.retention.ring();
        self.version.send_modify(|version| *version += 1);
    }
}

impl Broker {
    /// Opens the store and rebuilds topics and offsets from its log. Blocks while the log is read.
    pub fn open(
        config: Config,
        store: quern_store::Config,
        env: Env,
        plugins: &Runtime,
    ) -> Result<(Arc<Self>, Report), StartError> {
        let (heard, observer) = listen(&config);
        let (store, report) = Store::open(store, env, Box::new(observer))?;
        let threads = config.delivery_threads.max(1);
        let broker = Self::on(
            store,
            heard,
            config,
            plugins,
            (threads, ColdReads::start()?),
        )?;
        Ok((broker, report))
    }

    /// The same, but without threads: the log takes its turns when it is told to, what has to be read is read at
    /// once, and no guest runs. For simulations, which ask by [`Self::answer`].
    pub fn open_in_steps(
        config: Config,
        store: &quern_store::Config,
        env: Env,
        plugins: &Runtime,
    ) -> Result<(Arc<Self>, Report, Steps), StartError> {
        let (heard, observer) = listen(&config);
        let (store, report, steps) = Store::open_in_steps(store, env, Box::new(observer))?;
        let broker = Self::on(store, heard, config, plugins, (0, ColdReads::at_once()))?;
        Ok((broker, report, steps))
    }

    fn on(
        store: Store,
        heard: Heard,
        config: Config,
        plugins: &Runtime,
        (threads, cold): (usize, ColdReads),
    ) -> Result<Arc<Self>, StartError> {
        let Heard {
            state,
            waits,
            alarms,
            first_bad,
        } = heard;
        if let Ok(bad) = first_bad.try_recv() {
            return Err(StartError::State(bad));
        }
        store.retain_topics(|id| state.topics.exists(id));
        state.leases.begin(store.steady_ms());
        let bounds = Bounds {
            all: limits::SCAN_QUEUE,
            each: limits::SCAN_SHARE,
        };
        let broker = Self {
            delivery: Delivery::start(
                "quern-deliver",
                threads,
                bounds,
                Worker::sweep,
                pool::of_the_processor,
            )?,
            cold,
            shelf: Shelf::new(plugins, &config.filters),
            filters: Filters::default(),
            verdicts: Verdicts::default(),
            selectors: Selectors::default(),
            trials: Trials::default(),
            health: Health::default(),
            breakers: Breakers::default(),
            costs: Costs::default(),
            allocation: Allocation::default(),
            groups: Groups::default(),
            pop_attempts: Attempts::default(),
            pop_gates: Gates::default(),
            checks: Checks::default(),
            replies: Replies::default(),
            questions: Questions::default(),
            givings: Givings::default(),
            metrics: Metrics::default(),
            started_at: store.now_ms(),
            topic_gate: Gate::default(),
            group_gate: Gate::default(),
            plugin_gate: Gate::default(),
            park_gate: Gate::default(),
            mending: AtomicBool::new(false),
            topics_version: Arc::new(watch::Sender::new(0)),
            published: watch::Sender::new(BTreeMap::new()),
            draining: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            idle: Notify::new(),
            config,
            store,
            state,
            waits,
            alarms,
        };
        broker.collect_components();
        let clock = broker.store.clone();
        plugins.logs().tell_time(move || clock.now_ms());
        Ok(Arc::new(broker))
    }

    /// What a peer would be answered.
    pub async fn answer(self: &Arc<Self>, frame: Frame) -> Outgoing {
        requests::handle(self, frame).await
    }

    /// Once what a broker that serves does all the time: delivers what is due, sets aside what nobody decides.
    pub async fn do_chores(self: &Arc<Self>) -> Result<(), WireError> {
        delay::deliver_due(self).await?;
        checks::look(self).await
    }

    /// What an upload left that ended between the disk and the log. It can be tried again.
    fn collect_components(&self) {
        let Some(components) = self.shelf.runtime().components() else {
            return;
        };
        let named = |digest: &Digest| self.state.plugins.has(&ComponentDigest(*digest.bytes()));
        if let Err(error) = components.collect(named) {
            tracing::warn!(%error, "components nobody needs cannot be removed");
        }
    }

    /// Serves everyone who connects, until the listener is closed.
    pub async fn serve(self: Arc<Self>, listener: Arc<Listener>) {
        let (broker, alarms) = (Arc::downgrade(&self), &self.alarms);
        tokio::spawn(join::miss(broker.clone(), Arc::clone(alarms)));
        tokio::spawn(delay::deliver(broker.clone(), Arc::clone(alarms)));
        tokio::spawn(checks::watch(broker.clone(), Arc::clone(alarms)));
        tokio::spawn(topic_deletion::sweep(broker, Arc::clone(alarms)));
        self.begin_queues().await;
        park::mend(&self);
        while let Some(connection) = listener.accept().await {
            let broker = Arc::clone(&self);
            tokio::spawn(session::Session::run(broker, connection));
        }
    }

    /// What is too old is not served from the first request on.
    async fn begin_queues(self: &Arc<Self>) {
        let mut known = topic_retention::Beginnings::default();
        let looked = topic_retention::look(self, &mut known).await;
        if let Err(error) = &looked {
            tracing::warn!(%error, "messages that are too old may be served for a moment");
        }
        let (broker, alarms) = (Arc::downgrade(self), Arc::clone(&self.alarms));
        let soon = (alarms, looked.is_err());
        tokio::spawn(topic_retention::advance(broker, known, soon));
    }

    /// Keeps this broker registered with its name servers until it drains.
    pub fn register(self: &Arc<Self>, connector: &Connector) {
        for address in &self.config.name_servers {
            let task = registration::Registration::new(self, connector, address);
            tokio::spawn(task.run());
        }
    }

    /// Takes no more messages, answers held pulls, waits for requests under way.
    pub async fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        drop(self.topics_change());
        self.waits.wake_all();
        self.groups.wake_all();
        self.questions.wake_all();
        self.state.leases.wake_all();
        let quiet = async {
            loop {
                let idle = self.idle.notified();
                if self.under_way.load(Ordering::SeqCst) == 0 {
                    break;
                }
                idle.await;
            }
        };
        if tokio::time::timeout(limits::DRAIN, quiet).await.is_err() {
            tracing::warn!("requests are still under way; shutting down without them");
        }
    }

    /// Makes everything durable and marks the log as cleanly closed.
    pub fn close(&self) -> Result<(), quern_store::CloseError> {
        self.store.close()
    }

    pub fn name(&self) -> &quern_protocol::BrokerName {
        &self.config.name
    }

    /// A topic that can be used.
    fn topic(&self, name: &TopicName) -> Result<Arc<Topic>, WireError> {
        let found = self.state.topics.named(name);
        let topic = found.ok_or_else(|| reply::no_topic(name))?;
        match topic.gone_at {
            None => Ok(topic),
            Some(gone_at) => Err(being_deleted(name, gone_at)),
        }
    }

    /// Appends a state record; it is durable and applied when this returns.
    async fn log<B: Body>(&self, kind: RecordKind, body: &B) -> Result<(), WireError> {
        let pending = self.store.submit_state(kind, &body.to_record());
        let appended = pending.await;
        appended.map_err(|error| reply::append_failed(&error))?;
        Ok(())
    }

    /// The same for a change that begins with what those before have made of the state.
    async fn change<B: Body>(
        &self,
        turn: &Turn,
        kind: RecordKind,
        body: &B,
    ) -> Result<(), WireError> {
        self.log_holding(kind, body, turn.held()).await
    }

    /// The same, and holds something until then, even if nobody waits for that any more.
    async fn log_holding<B: Body>(
        &self,
        kind: RecordKind,
        body: &B,
        held: Held,
    ) -> Result<(), WireError> {
        let body = body.to_record();
        let appended = self.store.submit_state_holding(kind, &body, held).await;
        appended.map_err(|error| reply::append_failed(&error))?;
        Ok(())
    }

    async fn topic_changes(&self) -> Turn {
        self.topic_gate.enter().await
    }

    async fn group_changes(&self) -> Turn {
        self.group_gate.enter().await
    }

    async fn plugin_changes(&self) -> Turn {
        self.plugin_gate.enter().await
    }

    async fn parking(&self) -> Turn {
        self.park_gate.enter().await
    }

    /// To be dropped when the topics are others.
    fn topics_change(&self) -> TopicsChange {
        TopicsChange {
            version: Arc::clone(&self.topics_version),
            alarms: Arc::clone(&self.alarms),
        }
    }

    /// Waits until the name servers that know this broker know the topics it has now, so that who made one finds it.
    /// One that does not answer is not waited for longer than it is worth.
    async fn topics_are_published(&self) {
        let version = *self.topics_version.borrow();
        let mut published = self.published.subscribe();
        let all = published.wait_for(|known| known.values().all(|it| *it >= version));
        if tokio::time::timeout(limits::PUBLISH, all).await.is_err() {
            tracing::debug!("a name server has not said yet that it knows a topic that was made");
        }
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    fn count_connection(self: &Arc<Self>) -> Counted {
        Counted::new(self, |broker| &broker.connections)
    }

    fn count_request(self: &Arc<Self>) -> Counted {
        Counted::new(self, |broker| &broker.under_way)
    }
}

/// What the log has said so far.
struct Heard {
    state: Arc<State>,
    waits: Arc<LongPoll>,
    alarms: Arc<Alarms>,
    first_bad: Receiver<String>,
}

fn listen(config: &Config) -> (Heard, LogObserver) {
    let tombstones = config.tombstone_grace.as_millis();
    let (bad_state, first_bad) = sync_channel(1);
    let heard = Heard {
        state: Arc::default(),
        waits: Arc::default(),
        alarms: Arc::default(),
        first_bad,
    };
    let observer = LogObserver {
        state: Arc::clone(&heard.state),
        waits: Arc::clone(&heard.waits),
        tombstones: u64::try_from(tombstones).unwrap_or(u64::MAX),
        alarms: Arc::clone(&heard.alarms),
        first_check: config.transactions.first_check,
        bad_state,
    };
    (heard, observer)
}

/// Hears what the log says.
struct LogObserver {
    state: Arc<State>,
    waits: Arc<LongPoll>,
    /// How long they stay, ms.
    tombstones: u64,
    alarms: Arc<Alarms>,
    /// A transaction that has been open for so long is to be looked at.
    first_check: Duration,
    bad_state: SyncSender<String>,
}

impl Observer for LogObserver {
    fn dispatched(&mut self, event: Dispatched<'_>) {
        match event {
            Dispatched::Message { topic, queue, .. } => self.waits.wake(topic, queue),
            Dispatched::Waiting { kind, due_at } => match kind {
                RecordKind::Half => self
                    .alarms
                    .checks
                    .due(checks::after(due_at, self.first_check)),
                _ => self.alarms.timers.due(due_at),
            },
            Dispatched::State { kind, body, .. } => {
                if let Err(error) = self.state.apply(kind, body) {
                    // Only the first is kept: the broker does not start with any.
                    let _ = self.bad_state.try_send(format!("{kind:?}: {error}"));
                }
            }
        }
    }

    fn snapshot(&mut self) -> Vec<StateRecord> {
        self.state.snapshot()
    }

    fn kept_topics(&self) -> KeptTopics {
        let tombstones = self.tombstones;
        let kept = self.state.topics.keeping().into_iter().filter_map(|it| {
            let keep = match it.rules.is_compacted() {
                true => Keep::Newest { tombstones },
                false => Keep::For(it.rules.retention_ms?),
            };
            Some((it.id, keep))
        });
        kept.collect()
    }
}

/// One more connection or request, until dropped.
struct Counted {
    broker: Arc<Broker>,
    counter: fn(&Broker) -> &AtomicUsize,
}

impl Counted {
    fn new(broker: &Arc<Broker>, counter: fn(&Broker) -> &AtomicUsize) -> Self {
        counter(broker).fetch_add(1, Ordering::SeqCst);
        Self {
            broker: Arc::clone(broker),
            counter,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let before = (self.counter)(&self.broker).fetch_sub(1, Ordering::SeqCst);
        if before == 1 && self.broker.is_draining() {
            self.broker.idle.notify_waiters();
        }
    }
}
