//! What a bench measures by itself though no caller can: the share of the work that is not the disk's.

use std::io;
use std::path::Path;
use std::sync::Arc;

use quern_protocol::{LogPosition, QueueId, QueueOffset, TopicId};

use crate::Entry;
use crate::consume_queue::ConsumeQueues;
use crate::fs::RealFs;
use crate::queue_log::QueueLog;

/// Consume queues without a log.
#[derive(Debug)]
pub struct Dispatching(ConsumeQueues);

impl Dispatching {
    /// In an empty directory.
    pub fn new(dir: &Path) -> io::Result<Self> {
        let log = QueueLog::empty(Arc::new(RealFs), dir)?;
        Ok(Self(ConsumeQueues::new(log)))
    }

    /// What a batch of so many messages brings to its queue, which ends at `first`.
    pub fn append(&self, key: (TopicId, QueueId), first: u64, position: u64, count: u64) {
        let entry = |n| Entry {
            offset: QueueOffset(first + n),
            position: LogPosition(position + n * 1_200),
            size: 1_200,
            tag_code: 7,
        };
        self.0.append(key, (0..count).map(entry));
    }
}
