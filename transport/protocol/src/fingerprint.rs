//! Fingerprints: 64 bits by which two sides see that they have the same, without saying it. Whoever may send a
//! fingerprint may send the whole as well, so they guard against accidents, not against forgery.

use serde::Serialize;

use crate::frame::encode;

/// FNV-1a, mixed so that what is similar differs in all bits.
pub(crate) fn mixed(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let mut hash = bytes
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// Of a value, by its encoding.
pub(crate) fn of(value: &impl Serialize) -> u64 {
    mixed(encode(value))
}

/// Of entries in any order.
pub(crate) fn of_all<T: Serialize>(entries: impl IntoIterator<Item = T>) -> u64 {
    let entries = entries.into_iter().map(|entry| of(&entry));
    entries.fold(0, u64::wrapping_add)
}
