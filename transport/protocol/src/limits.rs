//! Every bound of the protocol. A peer that passes one gets an error that names it.

/// Bytes of a frame before its header.
pub const FRAME_PREFIX: usize = 24;
/// Largest postcard header of a frame.
pub const FRAME_HEADER: usize = 16 * 1024;
/// Largest raw body of a frame.
pub const FRAME_BODY: usize = 8 * 1024 * 1024;
/// Largest message body (RocketMQ's `maxMessageSize`).
pub const MESSAGE_BODY: usize = 4 * 1024 * 1024;
/// How many times longer than its compressed form a body may be …
pub const EXPANSION: usize = 256;
/// … beyond this many bytes, up to which it may be as short as it likes.
pub const EXPANDS_FREELY: usize = 64 * 1024;
/// Largest tag in bytes.
pub const TAG: usize = 255;
/// Largest list of keys in bytes, separators included.
pub const KEYS: usize = 4 * 1024;
/// Largest set of encoded properties in bytes, the system's included.
pub const PROPERTIES: usize = 32 * 1024;
/// Largest set of encoded notes of a record in bytes.
pub const NOTES: usize = 8 * 1024;
/// Largest topic, group or broker name in bytes.
pub const NAME: usize = 127;
/// Most messages one `Send` frame may carry.
pub const SEND_MESSAGES: usize = 65_536;
/// Most message bytes one `Send` frame may carry: what fits a log group with its headers.
pub const SEND_BYTES: usize = FRAME_BODY - 64 * 1024;
/// Most bytes that the compressed messages of one `Send` frame may come to once decompressed.
pub const SEND_RAW_BYTES: usize = 32 * 1024 * 1024;
/// Most messages one `Pull` may ask for.
pub const PULL_MESSAGES: u32 = 4_096;
/// Most bytes a `Pull` reply carries, unless its first message alone is larger.
pub const PULL_BYTES: u32 = 4 * 1024 * 1024;
/// Longest a `Pull` may be held, ms.
pub const PULL_WAIT_MS: u32 = 30_000;
/// Most messages one `Pop` may ask for.
pub const POP_MESSAGES: u32 = 256;
/// How long a `Pop` may hide them, ms.
pub const POP_INVISIBLE_MS: std::ops::RangeInclusive<u32> = 10..=12 * 60 * 60 * 1000;
/// Most receipts of popped messages in one request.
pub const RECEIPTS: usize = 1_024;
/// Most messages a `FindMessages` is answered with at once.
pub const FOUND_MESSAGES: u32 = 64;
/// Largest filter expression in bytes.
pub const EXPRESSION: usize = 4 * 1024;
/// Most bytes of a selector's name and parameters.
pub const SELECTOR: usize = 4 * 1024;
/// Most bytes of a filter's plugin name and parameters.
pub const FILTER_PARAMS: usize = 4 * 1024;
/// Most bytes of one `UploadChunk`.
pub const UPLOAD_CHUNK: usize = 1024 * 1024;
/// Most brokers a `SendSelected` may name as its route …
pub const ROUTE_BROKERS: usize = 256;
/// … and most queues of all of them.
pub const ROUTE_QUEUES: usize = 64 * 1024;
/// Topics a member of a group may subscribe to.
pub const GROUP_TOPICS: usize = 256;
/// Bytes in which someone names themselves who forbids a group a topic.
pub const FORBIDDEN_BY: usize = 64;
/// Bytes of the reason for which a message was given back.
pub const REASON: usize = 1_024;
/// Lines of a plugin's log in one reply.
pub const PLUGIN_LINES: u32 = 1_000;
/// Longest a broker that has said [`crate::LONG_HOLDS`] holds a `JoinGroup` or `AwaitQuestions`, ms.
pub const HELD_MS: u32 = 60_000;
/// Longest a `LeaseQueues` may be held, and a `JoinGroup` by any other broker, ms.
pub const GROUP_WAIT_MS: u32 = 5_000;
/// How long a topic may keep its messages, ms: a second to ten years.
pub const TOPIC_RETENTION_MS: std::ops::RangeInclusive<u64> = 1_000..=3_660 * 24 * 60 * 60 * 1000;
/// Most queues of a topic on one broker.
pub const QUEUES_PER_TOPIC: u32 = 1_024;
