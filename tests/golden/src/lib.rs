//! Frozen bytes: whatever leaves a process. The checkers are in `tests/`.
//!
//! `wire/v1.tsv` frames, blocks and records · `codes.tsv` error codes · `wit/` the plugin
//! contract in its binary form · `plugins/` what RocketMQ's own classes answer, and their generator ·
//! `store/` data directories, and what reading them gives.
//!
//! To add: write the sample in the checker, run it once with `QUERN_GOLDEN=write`, commit the new
//! lines. Lines that are there are never rewritten. To change a byte that is frozen: a new version
//! of the operation's header (wire), a new format number (disk), a new package version (WIT); the
//! old lines stay, and the old bytes stay readable.
