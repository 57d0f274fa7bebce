//! The order of names: as Java sorts strings, by UTF-16 units, so that RocketMQ's answers are ours.

use std::cmp::Ordering;

/// `String.compareTo`. UTF-8 order differs beyond U+FFFF.
pub(crate) fn compare(left: &str, right: &str) -> Ordering {
    left.encode_utf16().cmp(right.encode_utf16())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_decide_not_characters() {
        assert_eq!(compare("a", "b"), Ordering::Less);
        assert_eq!(compare("\u{ff5a}", "\u{1F600}"), Ordering::Greater);
        assert!("\u{ff5a}" < "\u{1F600}");
    }
}
