//! The nouns and messages of the Quernstone protocol, and their bytes.
//!
//! Everything two processes say to each other is defined here and only here: ids, the message block
//! a producer lays out, the log record that carries it, the frame on the wire, one file per group of
//! operations, the error codes. The crate does no I/O and reads no clock, so every byte it makes is
//! a pure function of its input and can be frozen in `tests/golden`.

pub mod block;
pub mod compression;
pub mod config;
pub mod delay;
pub mod durability;
pub mod error;
pub mod frame;
pub mod group;
pub mod ids;
pub mod limits;
pub mod message;
pub mod operation;
pub mod priority;
pub mod record;
pub mod request;
pub mod retry;
pub mod trace;
pub mod transaction;

mod binding;
mod binding_states;
mod broker;
mod explain;
mod fall_backs;
mod find;
mod fingerprint;
mod heartbeat;
mod member;
mod offsets;
mod plugin;
mod plugin_health;
mod plugin_logs;
mod plugin_users;
mod pop;
mod pull;
mod replay;
mod route;
mod select;
mod send;
mod session;
mod subscribe;
mod topic;
mod topic_deletion;
mod topic_rules;
mod trial_moves;
mod wait_figures;

pub use binding::{
    BindingChange, ChangeBindings, ChangeBindingsReply, GroupBindings, ListBindings,
    ListBindingsReply,
};
pub use binding_states::{BindingStates, BindingStatesReply, OpenBreaker, Otherwise};
pub use block::{Block, BlockError};
pub use broker::{PluginReport, Status, StatusReply};
pub use compression::Compression;
pub use config::{ConfigEntry, ConfigOrigin, DescribeConfig, DescribeConfigReply};
pub use delay::{
    BadHandle, DelayedMessage, Later, ListDelayed, ListDelayedReply, MessageHandle, RecallMessage,
    RecallMessageReply,
};
pub use durability::Durability;
pub use error::{Code, Retry, WireError};
pub use explain::{
    ExplainDelivery, ExplainDeliveryReply, HiddenMessage, Opinion, OpinionRole, PoppedQueue, Said,
    TopicGroup, TopicGroups, TopicGroupsReply,
};
pub use fall_backs::{FallBacks, PluginFallBacks, PluginFallBacksReply};
pub use find::{
    FindMessages, FindMessagesReply, FoundMessage, MessageAt, MessageAtReply, MessageKey,
    MessageState, ResendMessage, ResendMessageReply,
};
pub use group::{
    DeleteGroup, DeleteGroupReply, DescribeGroup, DescribeGroupReply, GroupMember, GroupQueue,
    GroupSummary, JoinGroup, JoinGroupReply, Lease, LeaseQueues, LeaseQueuesReply, Leased,
    LeaveGroup, LeaveGroupReply, ListGroups, ListGroupsReply, ReadQueues, Share, Subscription,
    Taken,
};
pub use heartbeat::{Heartbeat, HeartbeatReply};
pub use ids::{
    BrokerName, Epoch, GroupName, LogPosition, NameError, PluginName, ProducerId, QueueId,
    QueueOffset, TopicId, TopicName,
};
pub use member::{
    AnswerQuestion, AnswerQuestionReply, AskMember, AskMemberReply, Asked, AwaitQuestions,
    AwaitQuestionsReply, MemberAnswer, MemberQuestion, MemberQueue, MemberState,
};
pub use message::{Message, Tag};
pub use offsets::{
    CommitOffsets, CommitOffsetsReply, OffsetAt, OffsetAtReply, OffsetRange, OffsetRangeReply,
    QueryOffsets, QueryOffsetsReply, QueuePosition,
};
pub use operation::{Kind, Operation, Request};
pub use plugin::{
    Activation, BadPluginRef, BeginUpload, BeginUploadReply, ChangePlugin, ChangePluginReply,
    ComponentDigest, DescribePlugin, DescribePluginReply, Disagreement, FinishUpload,
    FinishUploadReply, ListPlugins, ListPluginsReply, PluginAbout, PluginChange, PluginFigures,
    PluginKind, PluginRef, PluginSummary, PluginTrial, TrialKind, TrialReport, UploadChunk,
    UploadChunkReply, VersionReport, VersionState,
};
pub use plugin_health::{
    PluginFaults, PluginHealth, PluginHealthReply, Quarantined, Unjudged, VersionHealth,
};
pub use plugin_logs::{LogLevel, PluginLine, PluginLogs, PluginLogsReply};
pub use plugin_users::{PluginUsers, PluginUsersReply, RefusedUser};
pub use pop::{
    AckPopped, AckPoppedReply, HidePopped, HidePoppedReply, Pop, PopReply, Popped, Receipt,
};
pub use priority::Priority;
pub use pull::{Filter, PluginFilter, Pull, PullReply, Stall};
pub use record::{Extensions, Origin, ProducerStamp, RecordHeader, RecordKind, RecordView};
pub use replay::{ReplayPlugin, ReplayPluginReply, Rewound};
pub use request::{FetchReplies, FetchRepliesReply, Replied, Reply, ReplyOutcome, ReplyReply};
pub use retry::{
    FilterFailure, ForbiddenTopic, GivingBack, GroupSetting, Reconsume, ReconsumeReply,
    ResendDeadLetters, ResendDeadLettersReply, SetGroup, SetGroupReply,
};
pub use route::{
    BrokerEntry, BrokerRoute, Brokers, BrokersReply, ConfirmBroker, ConfirmBrokerReply,
    PublishTopics, PublishTopicsReply, RegisterBroker, RegisterBrokerReply, Route, RouteReply,
    TopicQueues,
};
pub use select::{Placed, Placement, Selector, SendSelected, SendSelectedReply, WriteQueues};
pub use send::{ProducerBatch, Send, SendReply, SendStatus};
pub use session::{Cancel, Hello, HelloReply, LONG_HOLDS, MINOR, Role};
pub use subscribe::{Credit, Subscribe};
pub use topic::{
    CountMessages, CountMessagesReply, CreateTopic, CreateTopicReply, DescribeTopic,
    DescribeTopicReply, ListTopics, ListTopicsReply, QueueCount, QueueReport, SetTopic,
    SetTopicReply, TopicSetting, TopicSettings, TopicSettingsReply, TopicSummary,
};
pub use topic_deletion::{
    DeleteTopic, DeleteTopicReply, DeletedTopic, ListDeletedTopics, ListDeletedTopicsReply,
    RestoreTopic, RestoreTopicReply, being_deleted,
};
pub use topic_rules::{Cleanup, MessageType, Permission, UnknownRule};
pub use transaction::{
    EndTransaction, EndTransactionReply, ListTransactions, ListTransactionsReply, OpenTransaction,
    PollTransactions, PollTransactionsReply, TransactionCheck, TransactionEnd, TransactionOutcome,
};
pub use trial_moves::{TrialMove, TrialMoves, TrialMovesReply};
pub use wait_figures::{
    DelayFigures, TopicWaits, TransactionFigures, WaitFigures, WaitFiguresReply,
};
