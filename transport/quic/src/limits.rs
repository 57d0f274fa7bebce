//! Every bound of the transport: what one peer may hold, and how long it may take.

use std::time::Duration;

/// Bidirectional streams a peer may have open at once.
pub const STREAMS: u32 = 32;
/// Unidirectional streams a peer may have open at once.
pub const UNI_STREAMS: u32 = 4;
/// Bytes one stream may have unread.
pub const STREAM_WINDOW: u32 = 512 * 1024;
/// Bytes a connection may have unread before it has a lane, and unacknowledged on the way out.
pub const FIRST_WINDOW: u32 = 64 * 1024;
/// What each lane adds to its connection's receive window.
pub const LANE_WINDOW: u32 = 512 * 1024;
/// Unacknowledged bytes a connection with a lane may hold.
pub const SEND_WINDOW: u64 = 1024 * 1024;
/// The same two for a connection between nodes.
pub const PEER_WINDOW: u32 = 32 * 1024 * 1024;
/// What all lanes of a process together may add to receive windows.
pub const WINDOW_POOL: u64 = 512 * 1024 * 1024;
/// Bytes of frames above [`ASSEMBLED_FREE`] that may be half received at once, in the process.
pub const ASSEMBLY: usize = 64 * 1024 * 1024;
/// Frames up to this size are not charged to the assembly budget.
pub const ASSEMBLED_FREE: usize = 64 * 1024;
/// How long a frame above [`ASSEMBLED_FREE`] may take to arrive.
pub const ASSEMBLY_WAIT: Duration = Duration::from_secs(10);
/// Connections of one listener.
pub const CONNECTIONS: usize = 10_000;
/// Handshakes under way above which a new address must first prove itself.
pub const HANDSHAKES_FREE: usize = 256;
/// Handshakes under way above which new ones are refused.
pub const HANDSHAKES: usize = 1_024;
/// Accepted connections waiting for [`crate::Listener::accept`].
pub const ACCEPT_QUEUE: usize = 64;
/// Unanswered initial packets a listener keeps, and their bytes: each and together.
pub const INCOMING: usize = 1_024;
pub const INCOMING_BYTES: u64 = 64 * 1024;
pub const INCOMING_BYTES_TOTAL: u64 = 16 * 1024 * 1024;
/// How long a handshake may take.
pub const HANDSHAKE_WAIT: Duration = Duration::from_secs(3);
/// How long a connector tries one address.
pub const CONNECT_WAIT: Duration = Duration::from_secs(3);
/// How long after one address of a name the next one is tried as well.
pub const RACE_DELAY: Duration = Duration::from_millis(250);
/// How long a new connection may stay silent.
pub const FIRST_FRAME_WAIT: Duration = Duration::from_secs(3);
/// How long the last words on a stream may take to be acknowledged.
pub const LAST_WORDS_WAIT: Duration = Duration::from_secs(1);
/// Silence after which a connection counts as lost, and how often the connecting side breaks it.
pub const IDLE: Duration = Duration::from_secs(15);
pub const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// The same two where somebody is asked seldom, and asked anew over another connection when no answer comes. A listener
/// grants that much to whoever says it; the shorter of both sides' silence counts.
pub const SELDOM_IDLE: Duration = Duration::from_secs(90);
pub const SELDOM_KEEP_ALIVE: Duration = Duration::from_secs(30);
/// The same two between nodes.
pub const PEER_IDLE: Duration = Duration::from_secs(5);
pub const PEER_KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Requests one stream of a server may have under way.
pub const STREAM_REQUESTS: usize = 1_024;
/// Subscriptions one stream of a server may have: every queue of a thousand topics, and more.
pub const STREAM_SUBSCRIPTIONS: usize = 16 * 1024;
/// Frames of one subscription that wait to be taken; a broker that obeys the credit stays far below.
pub const UNREAD_FRAMES: usize = 64 * 1024;
/// Replies one stream gathers before it insists on writing.
pub const BATCH_BYTES: usize = 64 * 1024;
pub const BATCH_FRAMES: usize = 256;
/// Bodies from this size on travel as they lie instead of being copied into the batch.
pub const COPIED_BODY: usize = 16 * 1024;
/// Requests a connection makes at once on streams of their own.
pub const CALLS: usize = 8;
/// Requests one lane may have under way.
pub const LANE_CALLS: usize = 8_192;
/// Request bytes one lane may have under way.
pub const LANE_BYTES: usize = 32 * 1024 * 1024;
/// Asked of the kernel for each socket and direction.
pub const SOCKET_BUFFER: usize = 4 * 1024 * 1024;
/// Largest payload of one IPv4 datagram, hence of one segmented send.
pub const DATAGRAM: usize = 65_507;
