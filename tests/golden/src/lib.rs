//! Frozen bytes and their checker.
