//! State records: what the broker keeps in its own log besides messages. A body is a version byte
//! and postcard. Adding a field means a new version, decoded into the newest type here.

use quern_protocol::RecordKind;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::offsets::{Commit, Offsets};
use crate::topics::{TopicChange, Topics};

/// A type that is the body of a state record.
pub(crate) trait Body: Serialize + DeserializeOwned {
    const VERSION: u8;

    fn to_record(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![Self::VERSION])
            .expect("state records hold only strings, integers and sequences")
    }

    fn from_record(body: &[u8]) -> Result<Self, BadState> {
        match body.split_first() {
            Some((version, rest)) if *version == Self::VERSION => {
                postcard::from_bytes(rest).map_err(BadState::Decode)
            }
            Some((version, _)) => Err(BadState::Version(*version)),
            None => Err(BadState::Empty),
        }
    }
}

/// Why a state record cannot be applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadState {
    #[error("its body is empty")]
    Empty,
    #[error("version {0} belongs to a later release")]
    Version(u8),
    #[error("it does not decode: {0}")]
    Decode(postcard::Error),
}

/// What the state records of the log add up to.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) topics: Topics,
    pub(crate) offsets: Offsets,
}

impl State {
    /// Applies one record, in log order.
    pub(crate) fn apply(&self, kind: RecordKind, body: &[u8]) -> Result<(), BadState> {
        match kind {
            RecordKind::Topic => {
                let change = TopicChange::from_record(body)?;
                if let TopicChange::Deleted(id) = change {
                    self.offsets.forget_topic(id);
                }
                self.topics.apply(change);
            }
            RecordKind::OffsetCommit => self.offsets.apply(Commit::from_record(body)?),
            RecordKind::Message => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is on a disk may be anything: it is applied or refused.
    #[test]
    fn no_body_of_a_state_record_panics() {
        let mut chance = 1u64;
        let mut next = |below: u64| {
            chance = chance.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (chance >> 33) % below
        };
        for _ in 0..50_000 {
            let kind = [RecordKind::Topic, RecordKind::OffsetCommit][next(2) as usize];
            // Small numbers are tags and lengths that fit; others are those that do not.
            let mut body = vec![if next(5) == 0 { next(256) as u8 } else { 1 }];
            for _ in 0..next(64) {
                let below = if next(4) == 0 { 256 } else { 6 };
                body.push(next(below) as u8);
            }
            let _ = State::default().apply(kind, &body);
        }
    }
}
