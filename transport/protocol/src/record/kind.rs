//! What records are: their kinds, and the numbers these have on disk and wire.

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// What a record is. Numbers are only added; 0 and 255 stay unused. From 16 on the block is the
        /// broker's own, and its body begins with a version byte.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum RecordKind {
            $($(#[$doc])* $name = $number,)*
        }

        impl RecordKind {
            pub const ALL: &[Self] = &[$(Self::$name),*];

            pub fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    Message = 1,
    /// A transaction's message before its outcome is known: in no queue.
    Half = 2,
    /// A message for later: in no queue until it is due.
    Timer = 3,
    /// The half this one's origin names is not to be delivered.
    Rollback = 16,
    /// The timer this one's origin names is not to be delivered.
    TimerCancel = 17,
    OffsetCommit = 18,
    /// Part of what the state of the log adds up to, so that older records may go.
    Snapshot = 20,
    Topic = 32,
    Group = 33,
    /// A producer id was given out.
    Producer = 34,
    Plugin = 35,
    Access = 36,
    /// A damaged range that an operator has put aside.
    Quarantine = 37,
}

impl RecordKind {
    /// Whether its records have a place in a consume queue.
    pub fn is_queued(self) -> bool {
        self == Self::Message
    }

    /// Whether its block is the broker's own.
    pub fn is_state(self) -> bool {
        self as u8 >= 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_their_numbers_and_no_other_is_known() {
        let known = |number| RecordKind::from_number(number).is_some();
        assert_eq!(
            (0..=255).filter(|it| known(*it)).count(),
            RecordKind::ALL.len()
        );
        assert!(
            RecordKind::ALL
                .iter()
                .all(|it| RecordKind::from_number(*it as u8) == Some(*it))
        );
        assert!(!known(0) && !known(255));
    }
}
