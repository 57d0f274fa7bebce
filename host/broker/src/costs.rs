//! Costs: the fuel a message takes, by version. A version that takes far more than the one it came for does so on
//! every message; what becomes of that ([`crate::trouble`]) becomes of it before anybody has to look for the reason.
//!
//! Like is compared with like: the same question, about messages of the same topic. A call costs something whatever is
//! in it, so a message costs less in a large batch than in a small one: what a version takes is only held against
//! what another took in batches of the same size or of smaller ones. Who takes much is asked in small batches,
//! though; so where there were none, larger ones do, and what a call may cost by itself is left out.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};

use quern_plugins::Subscription;
use quern_protocol::TopicId;

use crate::limits;
use crate::plugins::versioned;

/// Of a name, what it is asked, and the topic; that this is the same for others too is as unlikely as it is harmless.
type Question = u64;

/// Calls by what a message of theirs took.
type Calls = BTreeMap<u64, u64>;

/// What one version took, by the size of the batch.
type BySize = BTreeMap<u32, Calls>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Costs(Mutex<HashMap<Question, BTreeMap<u32, BySize>>>);

/// What one call took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent {
    pub(crate) topic: TopicId,
    pub(crate) messages: usize,
    pub(crate) fuel: u64,
}

impl Spent {
    /// Batches of one message, of two and three, of four to seven, and so on.
    fn size(self) -> u32 {
        self.messages.max(1).ilog2()
    }

    /// Of a message, to an eighth: the many sizes there are become few.
    fn of_message(self) -> u64 {
        let fuel = self.fuel / self.messages.max(1) as u64;
        let shift = fuel.checked_ilog2().unwrap_or(0).saturating_sub(3);
        fuel >> shift << shift
    }
}

/// The number of the version that is asked, and what it is asked; `None` = it has no versions to be compared with.
fn question(asked: &Subscription, spent: Spent) -> Option<(Question, u32)> {
    let (name, version) = versioned(asked.plugin().name())?;
    let mut hasher = DefaultHasher::new();
    let what = (name, asked.expression(), asked.params(), spent.topic);
    what.hash(&mut hasher);
    Some((hasher.finish(), version))
}

impl Costs {
    /// Notes a call; `true` = it is time to compare.
    pub(crate) fn spent(&self, asked: &Subscription, spent: Spent) -> bool {
        question(asked, spent).is_some_and(|it| self.note(it, spent))
    }

    fn note(&self, (question, version): (Question, u32), spent: Spent) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= limits::SUBSCRIPTIONS && !all.contains_key(&question) {
            all.clear();
        }
        let versions = all.entry(question).or_default();
        while versions.len() >= limits::COSTS && !versions.contains_key(&version) {
            versions.pop_first();
        }
        let by_size = versions.entry(version).or_default();
        let calls = by_size.entry(spent.size()).or_default();
        *calls.entry(spent.of_message()).or_default() += 1;
        let count: u64 = calls.values().sum();
        count >= limits::COST_CALLS && count.is_multiple_of(limits::COSTS_COMPARED)
    }

    /// Why calls like this one are too much beside another version, if they are.
    pub(crate) fn compare(&self, asked: &Subscription, other: u32, spent: Spent) -> Option<String> {
        self.compared(question(asked, spent)?, other, spent)
    }

    fn compared(
        &self,
        (question, version): (Question, u32),
        other: u32,
        spent: Spent,
    ) -> Option<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let versions = all.get(&question)?;
        let size = spent.size();
        let mine = p99(versions.get(&version)?.get(&size)?)?;
        let others = versions.get(&other)?;
        let of_calls = |(_, calls): (&u32, &Calls)| p99(calls);
        let alike = others.range(..=size).rev().find_map(of_calls);
        let (mine, others) = match alike {
            Some(others) => (mine, others),
            None => {
                let larger = others.range(size..).find_map(of_calls)?;
                (mine.saturating_sub(limits::CALL_FUEL >> size), larger)
            }
        };
        let costly = limits::COSTLY;
        (mine > costly.saturating_mul(others)).then(|| {
            format!(
                "a message takes {mine} fuel, by 99 of 100 calls, and {others} with version {other}: more than {costly} \
                 times as much"
            )
        })
    }
}

/// What 99 of 100 calls take at the most; `None` = too few to say.
fn p99(calls: &Calls) -> Option<u64> {
    let all: u64 = calls.values().sum();
    if all < limits::COST_CALLS {
        return None;
    }
    let mut beyond = all / 100;
    for (fuel, count) in calls.iter().rev() {
        match beyond.checked_sub(*count) {
            Some(rest) => beyond = rest,
            None => return Some(*fuel),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_far_more_than_the_version_before_is_told_and_like_is_compared_with_like() {
        let costs = Costs::default();
        let spend = |version, messages, fuel| {
            let spent = Spent {
                topic: TopicId(1),
                messages,
                fuel,
            };
            costs.note((7, version), spent);
            costs.compared((7, version), 1, spent)
        };
        let calls = limits::COST_CALLS;
        for _ in 0..calls {
            assert_eq!(spend(1, 100, 30_000), None);
            // A message may take more in a call of a few than in one of a hundred …
            assert_eq!(spend(2, 8, 20_000), None);
            assert_eq!(spend(3, 100, 110_000), None, "less than four times as much");
        }
        for n in 1..calls {
            assert_eq!(spend(2, 100, 200_000), None, "{n}");
        }
        let why = spend(2, 100, 200_000).unwrap();
        assert!(
            why.contains("1920 fuel") && why.contains("288 with version 1"),
            "{why}"
        );
        // … but not in one of more.
        for n in 1..calls {
            assert_eq!(spend(5, 4_000, 40_000_000), None, "{n}");
        }
        assert!(spend(5, 4_000, 40_000_000).is_some());
        // Nor what takes far more than a call can cost by itself.
        for n in 1..calls {
            assert_eq!(spend(3, 8, 50_000), None, "{n}");
        }
        assert!(spend(3, 8, 50_000).is_some());
        // One call in a hundred may take what it wants.
        for n in 0..500 {
            let fuel = if n % 200 == 199 { 900_000 } else { 30_000 };
            assert_eq!(spend(4, 100, fuel), None, "{n}");
        }
    }

    #[test]
    fn few_versions_are_remembered_the_last_ones() {
        let costs = Costs::default();
        let spent = Spent {
            topic: TopicId(1),
            messages: 1,
            fuel: 1,
        };
        for version in 1..=20 {
            costs.note((7, version), spent);
        }
        let all = costs.0.lock().unwrap();
        let right: Vec<u32> = (21 - limits::COSTS as u32..=20).collect();
        assert_eq!(all[&7].keys().copied().collect::<Vec<_>>(), right);
    }
}
