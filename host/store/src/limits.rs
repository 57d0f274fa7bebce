//! Every bound of the store.

/// Smallest and largest segment, bytes.
pub(crate) const SEGMENT_MIN: u64 = 8 * 1024 * 1024;
pub(crate) const SEGMENT_MAX: u64 = 256 * 1024 * 1024;
/// A segment is this fraction of its file system, within those bounds.
pub(crate) const SEGMENT_SHARE: u64 = 256;
/// Bytes waiting for the appender; beyond, sessions stop reading.
pub(crate) const SUBMITTED: usize = 16 * 1024 * 1024;
/// Bytes written and not yet durable; one batch is always admitted.
pub(crate) const UNSYNCED: usize = 16 * 1024 * 1024;
/// A file of the reserve is this fraction of a segment, and no smaller than this unless segments are.
pub(crate) const RESERVE_SHARE: u64 = 4;
pub(crate) const RESERVE_MIN: u64 = 2 * 1024 * 1024;
/// A group is closed after the batch that passes this.
pub(crate) const GROUP: usize = 1024 * 1024;
/// While a sync is running, a group is written as soon as this much waits.
pub(crate) const GROUP_WHILE_SYNCING: usize = 64 * 1024;
/// The space behind a small group is written to so far ahead, bytes, to the end of a page …
pub(crate) const ZEROED: u64 = 256 * 1024;
pub(crate) const PAGE: u64 = 4096;
/// … or this fraction of a segment, if that is less. Small is what is less than …
pub(crate) const ZEROED_SHARE: u64 = 8;
/// … this fraction of it: 64 KiB.
pub(crate) const SMALL_GROUP_SHARE: u64 = 4;
/// Group buffers kept for readers at the head of the log.
pub(crate) const TAIL_CACHE: usize = 64 * 1024 * 1024;
/// Bytes of group buffers that wait to be used again.
pub(crate) const FREE_BUFFERS: usize = 16 * 1024 * 1024;
/// Memory of a stretch that is shorter is not kept to be used again, bytes.
pub(crate) const KEPT_STRETCH: usize = 32 * 1024;
/// Bytes of stretches that wait to be used again.
pub(crate) const FREE_STRETCHES: usize = 8 * 1024 * 1024;
/// Records are read in one stretch if no more than this lies between them, bytes …
pub(crate) const STRETCH_GAP: u64 = 16 * 1024;
/// … up to so much at once.
pub(crate) const STRETCH: u64 = 1024 * 1024;
/// The disk is told of so many bytes that are read next.
pub(crate) const ANNOUNCED: usize = 4 * 1024 * 1024;
/// The log counts as written to for so long after a sync, ms …
pub(crate) const WRITTEN_TO: u64 = 100;
/// … and then a thread that reads many records asks the disk for no more than this at once, bytes.
pub(crate) const READ_BESIDE_WRITES: usize = 128 * 1024;
/// A stretch that is shorter is not worth a mapping, bytes.
pub(crate) const MAPPED: usize = 64 * 1024;
/// No group can have been written further than this behind the last durable one.
pub(crate) const TAIL_SCAN: u64 = 32 * 1024 * 1024;
/// Largest group: a batch of 8 MiB, the headers of 65,536 records, and what was before it.
pub(crate) const GROUP_MAX: usize = 16 * 1024 * 1024;
/// Chunks of 1 MiB of the queue log that are kept in memory, so that the head of a queue is found there.
pub(crate) const RECENT_QUEUE_CHUNKS: usize = 8;
/// So much of the log at the most is read again at a start, if its queues can keep up. Bytes.
pub(crate) const CHECKPOINT: u64 = 256 * 1024 * 1024;
/// A state snapshot is written once the log has grown by so many times its size.
pub(crate) const SNAPSHOT_SHARE: u64 = 8;
/// Largest chunk of a snapshot in the log, bytes; an item that is larger has one of its own.
pub(crate) const SNAPSHOT_CHUNK: usize = 256 * 1024;
/// The keeper looks at the disk and at the age of segments this often, ms.
pub(crate) const KEEPER_PAUSE: u64 = 10_000;
/// The same while something is refused for want of space, ms.
pub(crate) const KEEPER_PAUSE_WHEN_FULL: u64 = 500;
/// The appender looks again this often before it sleeps.
pub(crate) const SPINS: u32 = 200;
/// The wall clock may differ this much from the steady one before the log ignores it, ms.
pub(crate) const CLOCK_JUMP: u64 = 5 * 60 * 1000;
/// The scrub verifies so much at a look, bytes: a terabyte in a week.
pub(crate) const SCRUB_SLICE: u64 = 16 * 1024 * 1024;
/// Damaged ranges that are remembered.
pub(crate) const DAMAGE: usize = 1_000;
/// Messages that wait for their time, and as many for their transaction's outcome, unless it is said otherwise; each takes about 100 bytes of memory.
pub(crate) const WAITING: usize = 2_000_000;
/// So many bytes of records that have to stay are appended again at once, the last apart …
pub(crate) const CARRIED_AT_ONCE: usize = 8 * 1024 * 1024;
/// … and more after this, ms.
pub(crate) const KEEPER_PAUSE_WHEN_CARRYING: u64 = 100;
/// Messages of which there are copies behind their segments, unless it is said otherwise; each takes about 40 bytes of
/// memory.
pub(crate) const KEPT: usize = 2_000_000;
/// Messages of compacted topics that are compared with the rest of the log at once, about; each takes some 100 bytes of
/// memory meanwhile, and its key …
pub(crate) const COMPARED: usize = 64 * 1024;
/// … or so many bytes of them: keys can be long, and who is asked to stop should not wait.
pub(crate) const COMPARED_BYTES: usize = 32 * 1024 * 1024;
/// A message that the disk does not give, and that has to be kept, is tried again for so long, ms …
pub(crate) const UNREADABLE_MS: u64 = 60 * 60 * 1000;
/// … and so often.
pub(crate) const UNREADABLE_TRIES: u32 = 100;
/// What compacted topics keep is at the most this fraction of the log, or the log is larger than it may be.
pub(crate) const COMPACTED_SHARE: u64 = 2;
/// A producer that has sent nothing for so long is forgotten, ms of the log's time.
pub(crate) const PRODUCER_AGE: u64 = 24 * 60 * 60 * 1000;
/// Producers, by queue, that are remembered.
pub(crate) const PRODUCERS: usize = 100_000;
/// Read for a record's header; one with longer extensions is read whole.
pub(crate) const HEADER_READ: usize = 128;
