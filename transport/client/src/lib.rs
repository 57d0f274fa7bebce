//! The client SDK: what applications link to talk to Quernstone.
//!
//! ```
//! use quern_client::{Client, Filter, Message};
//!
//! # quernstone::testing::run(async |client| {
//! # #[cfg(any())]
//! let client = Client::connect("quern://127.0.0.1:9876").await?;
//! let producer = client.producer("order-producers").start().await?;
//! let sent = producer
//!     .send(Message::new("orders", "{\"sku\":\"A7\"}").tag("paid").key("order-42"))
//!     .await?;
//! println!("{} is durable at {:?}", sent.message_id(), sent.queue());
//!
//! let mut billing = client
//!     .consumer("billing")
//!     .subscribe("orders", Filter::tag("paid || refunded"))
//!     .start()
//!     .await?;
//! let message = billing.recv().await?;
//! println!("{}", String::from_utf8_lossy(message.body()));
//! billing.shutdown().await?;
//! # Ok(())
//! # });
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod admin;
mod client;
mod connections;
mod consumer;
mod error;
mod find;
mod health;
mod letter;
mod limits;
mod members;
mod message_id;
mod plugins;
mod producer;
mod request;
mod routes;
mod trace;
mod tracer;
mod transaction;

pub use crate::admin::Admin;
pub use crate::client::{Client, ClientBuilder};
pub use crate::consumer::{
    Consumer, ConsumerBuilder, ConsumerSwitch, Delivery, From, LitePullConsumer, MessageView,
    PullConsumer, PullOptions, PullResult, SimpleConsumer, SimpleConsumerBuilder,
};
pub use crate::error::{Error, ErrorKind, Result};
pub use crate::find::{Found, FoundMessages, MessageSearch};
pub use crate::members::Tried;
pub use crate::plugins::{PluginLog, Uploaded};
pub use crate::producer::{Producer, ProducerBuilder, SendResult, Sending};
pub use crate::request::Reply;
pub use crate::routes::MessageQueue;
pub use crate::trace::{GroupCopy, GroupTrace, MessageTrace};
pub use crate::transaction::{
    Committed, Transaction, TransactionProducer, TransactionProducerBuilder, TransactionState,
    UndecidedMessage,
};
pub use quern_protocol::retry;
pub use quern_protocol::trace::{
    TRACE_TOPIC, TraceRecord, Traced, TracedEnd, TracedKind, TracedSend,
};
pub use quern_protocol::transaction::parked_topic;
pub use quern_protocol::{
    Activation, BadHandle, BadPluginRef, BindingStatesReply, BrokerEntry, BrokerName, BrokerRoute,
    ChangePluginReply, Cleanup, ComponentDigest, Compression, ConfigEntry, ConfigOrigin,
    DelayFigures, DelayedMessage, DeletedTopic, DescribeGroupReply, DescribePluginReply,
    Disagreement, Durability, ExplainDeliveryReply, FallBacks, Filter, FilterFailure,
    ForbiddenTopic, GroupBindings, GroupMember, GroupQueue, GroupSetting, GroupSummary,
    HiddenMessage, LogLevel, LogPosition, MemberQueue, MemberState, Message, MessageHandle,
    MessageState, MessageType, OpenBreaker, OpenTransaction, Opinion, OpinionRole, Otherwise,
    Permission, PluginAbout, PluginChange, PluginFaults, PluginFigures, PluginFilter, PluginKind,
    PluginLine, PluginLogsReply, PluginName, PluginRef, PluginSummary, PluginTrial, PoppedQueue,
    Priority, Quarantined, QueueCount, QueueId, QueueOffset, ReconsumeReply, ReplayPluginReply,
    ReplyOutcome, ResendMessageReply, Rewound, Said, Selector, SendStatus, Stall, StatusReply,
    TopicName, TopicSetting, TopicSummary, TopicWaits, TransactionEnd, TransactionFigures,
    TransactionOutcome, TrialKind, TrialMove, TrialReport, Unjudged, VersionHealth, VersionReport,
    VersionState, WaitFiguresReply,
};
pub use quern_quic::{NodeIdentity, Trust};
