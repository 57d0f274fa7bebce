//! Every bound of the store.

/// Smallest and largest segment, bytes.
pub(crate) const SEGMENT_MIN: u64 = 8 * 1024 * 1024;
pub(crate) const SEGMENT_MAX: u64 = 256 * 1024 * 1024;
/// A segment is this fraction of its file system, within those bounds.
pub(crate) const SEGMENT_SHARE: u64 = 256;
/// Bytes waiting for the appender; beyond, sessions stop reading.
pub(crate) const SUBMITTED: usize = 16 * 1024 * 1024;
/// Bytes written and not yet durable; one batch is always admitted.
pub(crate) const UNSYNCED: usize = 8 * 1024 * 1024;
/// A group is closed after the batch that passes this.
pub(crate) const GROUP: usize = 1024 * 1024;
/// While a sync is running, a group is written as soon as this much waits.
pub(crate) const GROUP_WHILE_SYNCING: usize = 64 * 1024;
/// Group buffers kept for readers at the head of the log.
pub(crate) const TAIL_CACHE: usize = 64 * 1024 * 1024;
/// No group can have been written further than this behind the last durable one.
pub(crate) const TAIL_SCAN: u64 = 32 * 1024 * 1024;
/// Largest group: a batch of 8 MiB, the headers of 65,536 records, and what was before it.
pub(crate) const GROUP_MAX: usize = 16 * 1024 * 1024;
/// Entries of a consume queue that lie together.
pub(crate) const QUEUE_CHUNK: usize = 8_192;
/// The appender looks again this often before it sleeps.
pub(crate) const SPINS: u32 = 200;
/// The wall clock may differ this much from the steady one before the log ignores it, ms.
pub(crate) const CLOCK_JUMP: u64 = 5 * 60 * 1000;
