//! The format file of a data directory.

#![no_main]

use libfuzzer_sys::fuzz_target;
use quern_fuzz::{Which, try_directory};

fuzz_target!(|bytes: &[u8]| try_directory(Which::Format, bytes));
