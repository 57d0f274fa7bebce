//! Which messages attempts to pop were given, by the tokens they have: whoever asks again under the same number, because
//! the answer was lost, is given them again. The broker forgets it when it ends: then they come when their time is over.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};

use quern_protocol::{GroupName, QueueId, TopicId};

use crate::limits;

/// One attempt of a group, at one topic.
pub(crate) type Attempt = (GroupName, TopicId, u64);

/// Until when others may not have what was given, ms since 1970, and which of those with the same.
type End = (u64, u64);

#[derive(Debug)]
struct Given {
    /// Queues with the token their messages have, the first to be given first.
    tokens: Vec<(QueueId, u64)>,
    end: End,
}

#[derive(Debug, Default)]
struct Table {
    given: HashMap<Attempt, Given>,
    by_end: BTreeMap<End, Attempt>,
    /// Of all of them.
    tokens: usize,
    noted: u64,
}

impl Table {
    fn forget_first(&mut self) {
        let first = self.by_end.pop_first();
        let given = first.and_then(|(_, attempt)| self.given.remove(&attempt));
        self.tokens -= given.map_or(0, |it| it.tokens.len());
    }

    /// Those whose time is over go, and of the others those whose time is over next, until there is room.
    fn make_room(&mut self, now: u64) {
        while let Some(((until, _), _)) = self.by_end.first_key_value()
            && (*until <= now || self.tokens >= limits::POP_ATTEMPTS)
        {
            self.forget_first();
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Attempts(Mutex<Table>);

impl Attempts {
    fn table(&self) -> MutexGuard<'_, Table> {
        let table = self.0.lock();
        table.expect("no code that can panic runs under the attempts lock")
    }

    /// An attempt is about to be given messages of a queue with this token.
    pub(crate) fn note(
        &self,
        attempt: Attempt,
        (queue, token): (QueueId, u64),
        (now, until): (u64, u64),
    ) {
        let mut table = self.table();
        table.make_room(now);
        table.noted += 1;
        let before = table.given.remove(&attempt);
        let (mut tokens, mut end) = (Vec::new(), (until, table.noted));
        if let Some(before) = before {
            table.by_end.remove(&before.end);
            table.tokens -= before.tokens.len();
            tokens = before.tokens;
            tokens.retain(|(it, _)| *it != queue);
            end.0 = until.max(before.end.0);
        }
        tokens.push((queue, token));
        table.tokens += tokens.len();
        table.by_end.insert(end, attempt.clone());
        table.given.insert(attempt, Given { tokens, end });
    }

    /// The queues an attempt was given something of, in that order.
    pub(crate) fn queues(&self, attempt: &Attempt) -> Vec<QueueId> {
        let table = self.table();
        let given = table.given.get(attempt);
        given.map_or_else(Vec::new, |it| {
            it.tokens.iter().map(|(queue, _)| *queue).collect()
        })
    }

    /// What an attempt was given of a queue has this token.
    pub(crate) fn token(&self, attempt: &Attempt, queue: QueueId) -> Option<u64> {
        let table = self.table();
        let mut tokens = table.given.get(attempt)?.tokens.iter();
        tokens.find(|(it, _)| *it == queue).map(|(_, token)| *token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(n: u64) -> Attempt {
        (GroupName::new("g").unwrap(), TopicId(1), n)
    }

    #[test]
    fn what_is_noted_is_bounded_and_what_is_over_first_makes_room() {
        let (attempts, queue) = (Attempts::default(), QueueId(0));
        let most = limits::POP_ATTEMPTS as u64;
        for n in 0..most {
            attempts.note(attempt(n), (queue, n), (0, 100 + n % 2));
        }
        let token = |n| attempts.token(&attempt(n), queue);
        assert_eq!((token(0), token(1)), (Some(0), Some(1)));
        attempts.note(attempt(most), (queue, 7), (99, 200));
        assert_eq!(token(most), Some(7));
        assert_eq!((token(0), token(2)), (None, Some(2)), "the first goes");
        attempts.note(attempt(most + 1), (queue, 8), (100, 200));
        assert_eq!((token(2), token(1)), (None, Some(1)), "its time is over");
        assert_eq!(attempts.table().tokens as u64, most / 2 + 2);
    }

    #[test]
    fn an_attempt_has_a_token_of_each_queue_and_knows_their_order() {
        let attempts = Attempts::default();
        for (queue, token) in [(2, 1), (0, 2), (2, 3)] {
            attempts.note(attempt(1), (QueueId(queue), token), (0, 100 - token));
        }
        assert_eq!(attempts.queues(&attempt(1)), [QueueId(0), QueueId(2)]);
        assert_eq!(attempts.token(&attempt(1), QueueId(2)), Some(3));
        attempts.note(attempt(2), (QueueId(5), 4), (98, 200));
        let queues = attempts.queues(&attempt(1));
        assert_eq!(queues.len(), 2, "as long as any of it is hidden");
        attempts.note(attempt(2), (QueueId(5), 5), (99, 200));
        assert!(attempts.queues(&attempt(1)).is_empty());
        assert_eq!(attempts.table().tokens, 1);
    }
}
