//! Which messages attempts to pop were given, by the token they have: whoever asks again under the same number, because
//! the answer was lost, is given them again. The broker forgets it when it ends: then they come when their time is over.

use std::collections::HashMap;
use std::sync::Mutex;

use quern_protocol::{GroupName, QueueId, TopicId};

use crate::limits;

/// One attempt of a group, at one queue.
pub(crate) type Attempt = (GroupName, TopicId, QueueId, u64);

#[derive(Debug)]
struct Given {
    token: u64,
    /// Then others may have them, ms since 1970.
    until: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Attempts(Mutex<HashMap<Attempt, Given>>);

const POISONED: &str = "no code that can panic runs under the attempts lock";

impl Attempts {
    /// An attempt is about to be given messages with this token.
    pub(crate) fn note(&self, attempt: Attempt, token: u64, (now, until): (u64, u64)) {
        let mut table = self.0.lock().expect(POISONED);
        if table.len() >= limits::POP_ATTEMPTS {
            table.retain(|_, given| given.until > now);
        }
        // One that is not noted waits until its messages' time is over.
        if table.len() < limits::POP_ATTEMPTS {
            table.insert(attempt, Given { token, until });
        }
    }

    /// What an attempt was given has this token.
    pub(crate) fn token(&self, attempt: &Attempt) -> Option<u64> {
        let table = self.0.lock().expect(POISONED);
        table.get(attempt).map(|given| given.token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_bounded_and_what_is_over_makes_room() {
        let attempts = Attempts::default();
        let attempt = |n: u64| (GroupName::new("g").unwrap(), TopicId(1), QueueId(0), n);
        let most = limits::POP_ATTEMPTS as u64;
        for n in 0..most {
            attempts.note(attempt(n), n, (0, 100 + n % 2));
        }
        attempts.note(attempt(most), 7, (100 - 1, 200));
        assert_eq!(attempts.token(&attempt(most)), None);
        attempts.note(attempt(most), 7, (100, 200));
        assert_eq!(attempts.token(&attempt(most)), Some(7));
        assert_eq!(attempts.token(&attempt(0)), None, "its time is over");
        assert_eq!(attempts.token(&attempt(1)), Some(1));
    }
}
