//! Every bound of the broker.

use std::time::Duration;

/// Queue entries one scan looks at before it gives way to others.
pub(crate) const SCAN_ENTRIES: usize = 8_192;
/// Stored bytes one scan reads before it gives way to others, its last message apart.
pub(crate) const SCAN_BYTES: usize = 8 * 1024 * 1024;
/// A scan whose filter takes longer answers with what it has, µs.
pub(crate) const SCAN_US: u64 = 5_000;
/// Messages a scan reads before its filter judges them …
pub(crate) const STEP_MESSAGES: usize = 256;
/// … and bytes.
pub(crate) const STEP_BYTES: usize = 1024 * 1024;
/// Threads that read from disk for consumers that lag …
pub(crate) const COLD_THREADS: usize = 4;
/// … of which one group, or all who search, keep so many busy …
pub(crate) const COLD_SHARE: usize = 2;
/// … and reads that wait for one of them.
pub(crate) const COLD_QUEUE: usize = 1_024;
/// Shares of threads that are remembered when nobody uses them.
pub(crate) const SHARES: usize = 1_024;
/// Bytes of one frame of a subscription, unless its first message alone is larger.
pub(crate) const DELIVERY_BYTES: usize = 256 * 1024;
/// A subscriber is told at the latest after this long how far it is, when the filter lets nothing through.
pub(crate) const TELL_PROGRESS: Duration = Duration::from_secs(5);
/// Scans in line for a delivery thread; beyond, a pull waits until there is room …
pub(crate) const SCAN_QUEUE: usize = 4_096;
/// … and so many of one group, in line or at work.
pub(crate) const SCAN_SHARE: usize = 32;
/// Subscriptions, selectors and strategies kept, of each so many; all are made anew when there are more.
pub(crate) const SUBSCRIPTIONS: usize = 16_384;
/// A selector that was not asked for so long is nobody's any more, ms.
pub(crate) const SELECTOR_IN_USE: u64 = 10 * 60 * 1000;
/// Verdicts remembered, bytes.
pub(crate) const VERDICTS: usize = 64 * 1024 * 1024;
/// Stalled deliveries remembered.
pub(crate) const STALLS: usize = 4_096;
/// Longest that who makes a topic waits for name servers to know of it.
pub(crate) const PUBLISH: Duration = Duration::from_secs(1);
/// A stalled delivery is tried again after this long, doubling …
pub(crate) const STALL_FIRST: Duration = Duration::from_secs(1);
/// … up to this.
pub(crate) const STALL_LAST: Duration = Duration::from_secs(30);
/// Whoever waits for a stall to end looks again this often, ms.
pub(crate) const STALL_TOLD: u64 = 1_000;
/// Filters bound to a group for a topic, besides what its consumers ask for.
pub(crate) const BOUND: usize = 2;
/// Groups and topics that something is bound to.
pub(crate) const BINDINGS: usize = 10_000;
/// One look meets so many messages its filter fails on, and ends, where the group passes or parks them.
pub(crate) const FAULTS_OF_A_LOOK: usize = 32;
/// Messages of a queue parked for a group and not committed beyond.
pub(crate) const PARKED: usize = 10_000;
/// A dead letter that could not be written is after this, doubling …
pub(crate) const PARK_AGAIN: Duration = Duration::from_secs(1);
/// … up to this.
pub(crate) const PARK_AGAIN_LAST: Duration = Duration::from_secs(300);
/// A version that fails on so many messages …
pub(crate) const QUARANTINE_FAULTS: u64 = 5;
/// … within this, ms, is quarantined if they are more than one in a thousand …
pub(crate) const QUARANTINE_WINDOW: u64 = 60_000;
/// … and of those so many are told apart.
pub(crate) const FAULTS_REMEMBERED: usize = 1_000;
/// Calls of a version and as many of the one before say which costs more …
pub(crate) const COST_CALLS: u64 = 50;
/// … and so many times as much fuel is too much.
pub(crate) const COSTLY: u64 = 4;
/// What a call may cost by itself, whatever is in it.
pub(crate) const CALL_FUEL: u64 = 32_000;
/// They are compared with every so many calls.
pub(crate) const COSTS_COMPARED: u64 = 10;
/// Versions of one name whose costs are remembered.
pub(crate) const COSTS: usize = 4;
/// Breakers that are remembered; those that are open go last.
pub(crate) const BREAKERS: usize = 4_096;
/// One that opens so often …
pub(crate) const OPENINGS: usize = 3;
/// … within this, ms, or so many that are open for one version, quarantine it.
pub(crate) const OPENINGS_WINDOW: u64 = 10 * 60 * 1000;
pub(crate) const OPEN_BREAKERS: usize = 2;
/// Topics of one broker.
pub(crate) const TOPICS: usize = 100_000;
/// A topic that is deleted can come back for so long at the most, ms …
pub(crate) const DELETION_GRACE: u64 = 30 * 24 * 60 * 60 * 1000;
/// … and one that cannot be ended then is tried again after this, ms.
pub(crate) const DELETION_AGAIN: u64 = 500;
/// Whether messages of topics that say how long have become too old is looked at no more often than this, ms, …
pub(crate) const RETENTION_LOOK: u64 = 500;
/// … of each queue no more often than this, ms, or a hundredth of that time.
pub(crate) const RETENTION_REST: u64 = 10_000;
/// A member of a group that is silent for so long is taken for gone, ms.
pub(crate) const SESSION: u64 = 10_000;
/// A queue is a member's for so long after it was last asked for, ms.
pub(crate) const LEASE: u64 = 10_000;
/// A member whose connection has ended may come back for so long, ms.
pub(crate) const COME_BACK: u64 = 1_000;
/// Whether a group that nobody is in any more can go is looked at after this, ms.
pub(crate) const MISS: u64 = 500;
/// Groups one broker coordinates, and members of each.
pub(crate) const GROUPS: usize = 16_384;
pub(crate) const MEMBERS: usize = 1_024;
/// A message is given to a group so many times more, if the group says nothing …
pub(crate) const RETRIES: u16 = 16;
/// … after so long each time, ms: RocketMQ's delay levels from the third on.
pub(crate) const RETRY_DELAYS: [u32; 16] = [
    10_000, 30_000, 60_000, 120_000, 180_000, 240_000, 300_000, 360_000, 420_000, 480_000, 540_000,
    600_000, 1_200_000, 1_800_000, 3_600_000, 7_200_000,
];
/// Topics one group may be forbidden.
pub(crate) const FORBIDDEN: usize = 64;
/// Delays a group may have …
pub(crate) const RETRY_DELAY_COUNT: usize = 64;
/// … and the longest, ms.
pub(crate) const RETRY_DELAY: u32 = 24 * 60 * 60 * 1000;
/// Messages given back again for want of an answer whose first time may still be on its way.
pub(crate) const GIVEN_AGAIN: usize = 1_024;
/// Dead letters sent back at once, and bytes, the last apart.
pub(crate) const RESEND: u32 = 256;
pub(crate) const RESEND_BYTES: usize = 4 * 1024 * 1024;
/// The machine's clock may have been set: what waits for a moment of it looks this often. A step forward of less than
/// five minutes is believed, so a message whose time it jumps over waits no longer than this.
pub(crate) const CLOCK_LOOK: Duration = Duration::from_secs(1);
/// Between two looks for messages whose time has come is such a rest, ms, doubling while they are decided elsewhere …
pub(crate) const TIMER_REST: u64 = 2;
/// … up to this, which it is after one that failed, too; …
pub(crate) const TIMER_AGAIN: u64 = 50;
/// … and so many are delivered at once, and bytes, the last apart.
pub(crate) const FIRED: usize = 2_048;
pub(crate) const FIRED_BYTES: usize = 4 * 1024 * 1024;
/// Messages that wait listed at once.
pub(crate) const LISTED: usize = 256;
/// Messages of a queue that are hidden from a group at once; beyond, no new ones are given.
pub(crate) const HIDDEN: usize = 10_000;
/// Queues that are popped and remembered when nobody does.
pub(crate) const POP_GATES: usize = 16 * 1024;
/// A message whose time is over so soon is not acknowledged while others are given what is over, ms.
pub(crate) const SOON_OVER: u64 = 100;
/// Attempts to pop whose messages are known, of all groups and queues together.
pub(crate) const POP_ATTEMPTS: usize = 16 * 1024;
/// Whether messages are visible again is looked at this often at the least.
pub(crate) const POP_LOOK: Duration = Duration::from_secs(1);
/// Transactions that could not be looked at, or not be set aside, are looked at again after this, ms.
pub(crate) const CHECK_AGAIN: u64 = 500;
/// Replies that wait for who asked, of all inboxes, …
pub(crate) const REPLIES: usize = 65_536;
/// … and their bytes.
pub(crate) const REPLIES_BYTES: usize = 64 * 1024 * 1024;
/// Longest one waits, ms.
pub(crate) const REPLY_KEPT: u64 = 60 * 60 * 1000;
/// Those nobody waits for any more are looked for this often, ms.
pub(crate) const REPLIES_LOOK: u64 = 1_000;
/// A producer is asked about so many at once, and bytes, the first apart.
pub(crate) const CHECKS: usize = 64;
pub(crate) const CHECKS_BYTES: usize = 1024 * 1024;
/// Messages looked at that have the id of a transaction's.
pub(crate) const SAME_ID: usize = 16;
/// Topics an id is looked for in that names none.
pub(crate) const SEARCHED_TOPICS: usize = 1_024;
/// A search is answered after so long, found or not, and gone on with, ms.
pub(crate) const SEARCH: u64 = 1_000;
/// Earlier versions that are asked about a message, for an explanation.
pub(crate) const OPINIONS: usize = 8;
/// Who shares out the queues of a group that names nobody.
pub(crate) const STRATEGY: &str = "averagely";
/// Names of plugins taken in, and versions of each.
pub(crate) const PLUGINS: usize = 1_000;
pub(crate) const PLUGIN_VERSIONS: usize = 100;
/// Changes of what a name stands for that are remembered.
pub(crate) const ACTIVATIONS: usize = 32;
/// Of the last of them it is known where they began to decide.
pub(crate) const MARKED_ACTIVATIONS: usize = 4;
/// Messages a version on trial may fail on …
pub(crate) const TRIAL_FAULTS: usize = 5;
/// … and messages of each side that are named where two versions disagree.
pub(crate) const DISAGREEMENTS: u64 = 32;
/// Messages and queues that are named which a version on trial would have sent elsewhere.
pub(crate) const MOVES: usize = 1_024;
/// Questions to members that are not answered yet …
pub(crate) const QUESTIONS: usize = 1_024;
/// … and the longest that who asked waits, ms.
pub(crate) const QUESTION_WAIT: u32 = 15 * 60 * 1000;
/// A name server is told of life this often.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(1);
/// Whether it still has the same table of topics is looked at this often, ms.
pub(crate) const CONFIRM: u64 = 30_000;
/// Longest a name server may take to answer.
pub(crate) const NAME_SERVER_ANSWER: Duration = Duration::from_secs(3);
/// Longest a shutdown waits for requests under way.
pub(crate) const DRAIN: Duration = Duration::from_secs(10);
