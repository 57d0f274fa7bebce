//! What goes wrong with storage, as facts.

use std::io;
use std::path::PathBuf;

use quern_protocol::{Code, LogPosition, ProducerId, QueueOffset};

/// Why a store did not open. Nothing was changed, unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("data directory {dir} is in use by process {pid}", dir = dir.display())]
    Locked { dir: PathBuf, pid: String },
    #[error(
        "{dir} holds files and no FORMAT file: it is not a data directory (found {found:?})",
        dir = dir.display()
    )]
    Foreign { dir: PathBuf, found: String },
    #[error(
        "{dir} was written in format {found}; this version reads format {ours}",
        dir = dir.display()
    )]
    Format {
        dir: PathBuf,
        found: String,
        ours: u16,
    },
    #[error("{dir} is not a data directory: it has no FORMAT file", dir = dir.display())]
    NotData { dir: PathBuf },
    #[error("data directory {path} cannot be used: {source}", path = path.display())]
    Unusable { path: PathBuf, source: io::Error },
    #[error(
        "{file} is damaged at {position}, below {durable} which was durable: corruption, not a crash ({why}). \
         Nothing was changed. Look: quern store check {dir}; put it aside and go on with the rest: \
         quern store repair {dir}",
        dir = dir.display()
    )]
    Corrupt {
        dir: PathBuf,
        file: String,
        position: LogPosition,
        durable: LogPosition,
        why: String,
    },
    #[error(
        "the log of {dir} at {position} belongs to a later format: {what}. Nothing was changed",
        dir = dir.display()
    )]
    Later {
        dir: PathBuf,
        position: LogPosition,
        what: String,
    },
    #[error(
        "the log has a hole: segment {missing} is not there, yet later ones are. Nothing was changed. Restore it, or go \
         on without it: quern store repair DIR"
    )]
    Hole { missing: LogPosition },
    #[error("segment_size is {size} bytes; it is at least {min}")]
    SegmentSize { size: u64, min: u64 },
}

impl OpenError {
    pub fn code(&self) -> Code {
        match self {
            Self::Locked { .. } => Code::DIRECTORY_LOCKED,
            Self::Foreign { .. } | Self::NotData { .. } => Code::DIRECTORY_FOREIGN,
            Self::Format { .. } | Self::Later { .. } => Code::FORMAT_UNKNOWN,
            Self::Unusable { source, .. } if is_full(source) => Code::DISK_FULL,
            Self::Unusable { .. } => Code::DIRECTORY_UNUSABLE,
            Self::Corrupt { .. } | Self::Hole { .. } => Code::DATA_CORRUPT,
            Self::SegmentSize { .. } => Code::BAD_CONFIG,
        }
    }
}

pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Why messages were not stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    #[error(
        "the disk is full; nothing of this request was stored. Once there is space the broker goes on by itself"
    )]
    DiskFull,
    /// What was under way may or may not be in the log.
    #[error("the log has failed and takes no more messages: {0}")]
    Failed(String),
    #[error("a batch of {len} bytes does not fit a segment of {max}; nothing of it was stored")]
    TooLarge { len: usize, max: u64 },
    #[error("the log is closed")]
    Closed,
    #[error("{0} messages wait already, the most this log takes; nothing was stored")]
    TooManyWait(usize),
    /// Nothing of it was stored.
    #[error("batch {found} of this producer does not follow: the next is {expected}")]
    OutOfSequence { expected: u32, found: u32 },
    #[error(
        "nothing is known of producer {0} here: it was silent for more than a day, or is new and did not begin at 0"
    )]
    UnknownProducer(ProducerId),
    #[error("producer epoch {epoch} is over: {newest} has taken its place")]
    Fenced { epoch: u16, newest: u16 },
}

impl AppendError {
    pub fn code(&self) -> Code {
        match self {
            Self::DiskFull => Code::DISK_FULL,
            Self::Failed(_) => Code::STORAGE_FAILED,
            Self::TooLarge { .. } => Code::TOO_LARGE,
            Self::Closed => Code::GOING_AWAY,
            Self::TooManyWait(_) => Code::RETRY_AFTER,
            Self::OutOfSequence { .. } => Code::OUT_OF_SEQUENCE,
            Self::UnknownProducer(_) => Code::UNKNOWN_PRODUCER,
            Self::Fenced { .. } => Code::FENCED,
        }
    }
}

/// Why a record could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("the record at {position} is damaged: {why}")]
    Damaged { position: LogPosition, why: String },
    #[error("the record at {position} could not be read: {why}")]
    Io { position: LogPosition, why: String },
    /// Nothing is lost: queues are made from the log.
    #[error(
        "the queue cannot be read at offset {offset}: {why}. Stop the broker, remove consumequeue/ from its \
         data directory and start it again: it is made anew from the log"
    )]
    Queue { offset: QueueOffset, why: String },
}

impl ReadError {
    /// What lies there is no record.
    pub(crate) fn damaged<E: std::fmt::Display>(position: LogPosition) -> impl FnOnce(E) -> Self {
        move |why| Self::Damaged {
            position,
            why: why.to_string(),
        }
    }

    pub fn code(&self) -> Code {
        match self {
            Self::Damaged { .. } => Code::DATA_CORRUPT,
            Self::Io { .. } | Self::Queue { .. } => Code::STORAGE_FAILED,
        }
    }
}

/// The log was not marked as cleanly closed; the next start verifies it.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    #[error("the log had failed: {0}")]
    Failed(String),
    #[error("the checkpoint could not be written: {0}")]
    Checkpoint(#[from] io::Error),
}
