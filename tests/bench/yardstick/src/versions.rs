//! What is measured, in which version: the file `versions` beside this crate, and nowhere else.

use anyhow::{Context as _, Result};

const PINNED: &str = include_str!("../versions");

/// The version of a peer or of what it is driven with.
pub(crate) fn of(name: &str) -> Result<&'static str> {
    find(PINNED, name).with_context(|| format!("the file `versions` has no line for `{name}`"))
}

fn find<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(name)).then(|| words.next())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_by_its_whole_name() {
        let text = "# nats 0\nnats-server  2.15.2\nnats 1.0\n";
        assert_eq!(find(text, "nats"), Some("1.0"));
        assert_eq!(find(text, "nats-server"), Some("2.15.2"));
        assert_eq!(find(text, "kafka"), None);
    }

    #[test]
    fn every_peer_is_pinned() {
        for name in [
            "rocketmq",
            "rocketmq-rust",
            "kafka",
            "kafka-scala",
            "slf4j-simple",
            "nats-server",
            "nats.go",
        ] {
            assert!(of(name).is_ok_and(|it| it.starts_with(|c: char| c.is_ascii_digit())));
        }
    }
}
