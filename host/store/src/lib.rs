//! The storage engine: commit log, consume queues, recovery.
