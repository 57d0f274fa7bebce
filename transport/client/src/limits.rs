//! Every bound of the client.

use std::time::Duration;

/// Messages under way per producer, and …
pub(crate) const IN_FLIGHT: usize = 64 * 1024;
/// … their bytes; beyond, `send` waits.
pub(crate) const IN_FLIGHT_BYTES: usize = 32 * 1024 * 1024;
/// Replies are waited for at a broker for so long at once.
pub(crate) const FETCH_REPLIES: Duration = Duration::from_secs(5);
/// A broker that failed is left alone for so long, doubling, …
pub(crate) const AVOID_FAILED: Duration = Duration::from_secs(1);
/// … at most; then it is asked …
pub(crate) const AVOID_FAILED_MOST: Duration = Duration::from_secs(30);
/// … and has so long to answer.
pub(crate) const ASK_HEALTH: Duration = Duration::from_secs(1);
/// A broker that refuses messages of a topic gets none of it for so long while there are others.
pub(crate) const AVOID_REFUSED: Duration = Duration::from_secs(1);
/// A send that takes longer makes its broker one that is slow, which is left alone for 20 times that, …
pub(crate) const SLOW: Duration = Duration::from_millis(500);
/// … at most so long.
pub(crate) const AVOID_SLOW_MOST: Duration = Duration::from_secs(300);
/// Longest a send waits for a connection to a broker while there are others.
pub(crate) const CONNECT: Duration = Duration::from_secs(1);
/// Smaller bodies are not worth compressing, bytes.
pub(crate) const COMPRESS_ABOVE: usize = 1024;
/// Messages handed to a producer and not yet looked at.
pub(crate) const HANDED_OVER: usize = 16 * 1024;
/// A frame is sent at the latest with this many messages or bytes.
pub(crate) const BATCH_MESSAGES: usize = 256;
pub(crate) const BATCH_BYTES: usize = 64 * 1024;
/// While fewer frames of a topic are unanswered, messages go at once; beyond, they wait for company so long.
pub(crate) const FRAMES_AT_ONCE: usize = 4;
pub(crate) const LINGER: Duration = Duration::from_millis(1);
/// Unanswered frames of one topic.
pub(crate) const FRAMES: usize = 64;
/// Unanswered frames of one queue that a broker can still recognise when they come again.
pub(crate) const NUMBERED: usize = 5;
/// Batches of messages on their way to the application; how much of each queue that is, is bounded by itself.
pub(crate) const BATCHES: usize = 1_024;
/// Bytes one pull asks for.
pub(crate) const PULL_BYTES: u32 = 1024 * 1024;
/// Messages one pull asks for.
pub(crate) const PULL_MESSAGES: u32 = 1_024;
/// Bytes of a queue that may be on their way to a consumer at once.
pub(crate) const GRANTED_BYTES: i64 = 2 * 1024 * 1024;
/// A route is asked for again after this long, …
pub(crate) const ROUTE_AGE: Duration = Duration::from_secs(30);
/// … after this long if no name server answered, …
pub(crate) const ROUTE_AGAIN: Duration = Duration::from_secs(10);
/// … which one that is asked again has so long for. Leases are renewed meanwhile: so long, behind half of their term, is
/// less than the term.
pub(crate) const ASK_AGAIN: Duration = Duration::from_secs(2);
/// The next name server is asked too when one has not answered for this long.
pub(crate) const NEXT_NAME_SERVER: Duration = Duration::from_millis(250);
/// A pull is held this long by the broker.
pub(crate) const POLL: Duration = Duration::from_secs(15);
/// What may pass on the way of a held pull besides.
pub(crate) const POLL_SLACK: Duration = Duration::from_secs(5);
/// A coordinator that hears of a member by nothing else is asked again at least this often: three times a session. Leases are
/// renewed when half of their term is over.
pub(crate) const RENEW: Duration = Duration::from_secs(3);
/// Questions are waited for so long at once, where the broker holds as long.
pub(crate) const ASKED: Duration = Duration::from_millis(quern_protocol::limits::HELD_MS as u64);
/// A coordinator that hears of a member by its leases is asked again after this: so old may be what a member knows of brokers and queues.
pub(crate) const HELD: Duration = Duration::from_secs(30);
/// Batches of popped messages that wait for the application, one of each broker and topic.
pub(crate) const TAKEN: usize = 64;
/// Questions to a member that are answered at once.
pub(crate) const ANSWERS: usize = 16;
/// Transactions that are asked about at once.
pub(crate) const CHECKS: usize = 16;
/// A broker that did not give what was asked is asked again after this long.
pub(crate) const AGAIN: Duration = Duration::from_millis(250);
/// Longest a broker may take to check, compile and try a component.
pub(crate) const LET_IN: Duration = Duration::from_secs(900);
/// Which brokers there are is asked again after this long.
pub(crate) const BROKERS_AGE: Duration = Duration::from_secs(10);
/// Longest a consumer that ends waits for its queues to be given back.
pub(crate) const GIVE_BACK: Duration = Duration::from_secs(3);
/// Whether a member has its queues is looked at this often.
pub(crate) const LOOK: Duration = Duration::from_millis(20);
/// Consumed offsets are committed this often.
pub(crate) const COMMIT: Duration = Duration::from_secs(5);
/// Longest a closing client waits for its goodbyes to leave.
pub(crate) const GOODBYE: Duration = Duration::from_secs(1);
/// Trace records that wait to be sent; beyond, they are dropped …
pub(crate) const TRACED: usize = 16 * 1024;
/// … those of one message …
pub(crate) const TRACED_AT_ONCE: u64 = 100;
/// … so many messages are under way …
pub(crate) const TRACES_UNDER_WAY: usize = 64;
/// … how often it is told that some are lost …
pub(crate) const TRACE_TOLD: Duration = Duration::from_secs(10);
/// … and how long the first record waits for others.
pub(crate) const TRACE_LINGER: Duration = Duration::from_millis(500);
/// Messages of the trace topic that are read for one message.
pub(crate) const TRACE_PAGES: usize = 256;
/// Bytes of messages a search brings of one broker, the last page apart …
pub(crate) const FOUND_BYTES: usize = 64 * 1024 * 1024;
/// … and what a search by time reads of one queue at once.
pub(crate) const FOUND_PAGE: u32 = 64 * 1024;
