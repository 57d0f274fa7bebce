//! Maps by the numbers that [`crate::plugin::next_id`] gives out. Nobody from outside chooses them, so they need
//! no hash that withstands an attack; the usual one costs a tenth of a call into a guest.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// By such a number.
pub(crate) type ById<T> = HashMap<u64, T, BuildHasherDefault<Spread>>;

/// Spreads numbers that were given out one after the other.
#[derive(Default)]
pub(crate) struct Spread(u64);

/// Odd, and without a pattern: 2^64 divided by the golden ratio.
const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(FACTOR);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
