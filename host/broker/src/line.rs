//! Whose turn it is. Jobs wait in line, and next is one of whoever has used the least time so far: who asks for what is
//! heavy waits for the others as long as they would have to wait for it, however many jobs it has in line.
//!
//! Each has an account of the time its turns took. Those who are served now have used about as much as each other; who
//! has used less, for it wants little or was away, goes before them, but by [`CREDIT`] at most: that it has used nothing
//! for a day is no reason to hold up everybody for a day. A turn costs [`SLICE`] from its beginning, and what it really
//! took from its end: so who is served by several threads at once is not taken for one that uses nothing meanwhile.
//!
//! How far they are who are served now goes on at least half as fast as if all were served alike who have used something
//! of late. So who uses less than half of what others do always goes first; and who waits is passed by others only until
//! they come behind it, however many there are, and however many come for the first time.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;

/// A turn is over after so long, if others wait, ns.
pub(crate) const SLICE: u64 = 1_000_000;
/// Who comes is so far ahead of those who are served, ns.
const CREDIT: u64 = 5 * SLICE;
/// Where more have used something of late, those who come for the first time are not waited for by all of them.
const ALIKE: usize = 64;

/// The time that was used, ns, and who of those with the same came first.
type Place = (u64, u64);

/// See the module. `W` is whose jobs they are.
#[derive(Debug)]
pub(crate) struct Line<W, J> {
    accounts: HashMap<W, Account<J>>,
    /// Those with jobs that wait.
    order: BTreeMap<Place, W>,
    /// Those with nothing to do, for as long as they have used something of late.
    idle: BTreeMap<Place, W>,
    /// So far are those who are served now.
    now: u64,
    came: u64,
}

#[derive(Debug)]
struct Account<J> {
    used: u64,
    jobs: VecDeque<J>,
    /// In the order if a job waits, among the idle if there is nothing to do.
    place: Option<Place>,
    /// Turns that have begun and are not over.
    turns: u32,
}

impl<J> Default for Account<J> {
    fn default() -> Self {
        Self {
            used: 0,
            jobs: VecDeque::new(),
            place: None,
            turns: 0,
        }
    }
}

impl<W: Clone + Eq + Hash, J> Line<W, J> {
    pub(crate) fn new() -> Self {
        Self {
            accounts: HashMap::new(),
            order: BTreeMap::new(),
            idle: BTreeMap::new(),
            now: CREDIT,
            came: 0,
        }
    }

    /// A job comes, behind those of the same.
    pub(crate) fn put(&mut self, who: W, job: J) {
        let account = self.accounts.entry(who.clone()).or_default();
        account.jobs.push_back(job);
        if account.jobs.len() == 1 {
            self.enter(who);
        }
    }

    /// The next, whose turn begins.
    pub(crate) fn next(&mut self) -> Option<(W, J)> {
        let (_, who) = self.order.pop_first()?;
        let account = self.accounts.get_mut(&who)?;
        let job = account.jobs.pop_front()?;
        self.now = self.now.max(account.used);
        account.place = None;
        account.used += SLICE;
        account.turns += 1;
        if !account.jobs.is_empty() {
            self.enter(who.clone());
        }
        Some((who, job))
    }

    /// A turn is over that took so many ns; `rest` goes on with the next turn of the same.
    pub(crate) fn over(&mut self, who: W, took: u64, rest: Option<J>) {
        self.forget();
        let alike = self.accounts.len().min(ALIKE);
        self.now += took / (2 * alike).max(1) as u64;
        let Some(account) = self.accounts.get_mut(&who) else {
            return;
        };
        account.turns -= 1;
        account.used = account.used - SLICE + took;
        if let Some(job) = rest {
            account.jobs.push_front(job);
        }
        self.enter(who);
    }

    /// Gets its place, by what it has used.
    fn enter(&mut self, who: W) {
        let Some(account) = self.accounts.get_mut(&who) else {
            return;
        };
        if let Some(place) = account.place.take() {
            self.order.remove(&place);
            self.idle.remove(&place);
        }
        let places = match account.jobs.is_empty() {
            false => &mut self.order,
            true if account.turns == 0 => &mut self.idle,
            true => return,
        };
        account.used = account.used.max(self.now - CREDIT);
        self.came += 1;
        let place = (account.used, self.came);
        account.place = Some(place);
        places.insert(place, who);
    }

    /// Who has nothing to do and all the credit there is would get the same account again.
    fn forget(&mut self) {
        while let Some(first) = self.idle.first_entry() {
            if first.key().0 > self.now - CREDIT {
                return;
            }
            self.accounts.remove(&first.remove());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREADS: usize = 3;
    /// The longest turn there is here, ns.
    const LONGEST: u64 = 3 * SLICE;
    /// What another may be served while one waits for its turn.
    const BOUND: u64 = CREDIT + THREADS as u64 * LONGEST;

    /// The same as plainly as it can be said: of those who wait, the one who has used the least, and who came first of
    /// those with the same.
    struct Plain {
        used: HashMap<usize, u64>,
        /// Whose jobs wait, and since when they are in line.
        wait: Vec<(usize, u64)>,
        jobs: HashMap<usize, VecDeque<u32>>,
        turns: HashMap<usize, u32>,
        now: u64,
        came: u64,
    }

    impl Plain {
        fn new() -> Self {
            Self {
                used: HashMap::new(),
                wait: Vec::new(),
                jobs: HashMap::new(),
                turns: HashMap::new(),
                now: CREDIT,
                came: 0,
            }
        }

        /// Those who have used something of late, or want to.
        fn alike(&self) -> u64 {
            let is_late = |(who, used): &(&usize, &u64)| {
                let has = |turns: Option<&u32>| turns.is_some_and(|it| *it > 0);
                let waits = self.jobs.get(who).is_some_and(|it| !it.is_empty());
                **used > self.now - CREDIT || has(self.turns.get(who)) || waits
            };
            self.used.iter().filter(is_late).count().min(ALIKE) as u64
        }

        fn enter(&mut self, who: usize) {
            self.wait.retain(|(it, _)| *it != who);
            if self.jobs.entry(who).or_default().is_empty() {
                return;
            }
            let used = self.used.entry(who).or_default();
            *used = (*used).max(self.now - CREDIT);
            self.came += 1;
            self.wait.push((who, self.came));
        }

        fn put(&mut self, who: usize, job: u32) {
            self.jobs.entry(who).or_default().push_back(job);
            if self.wait.iter().all(|(it, _)| *it != who) {
                self.enter(who);
            }
        }

        fn next(&mut self) -> Option<(usize, u32)> {
            let place = |it: &&(usize, u64)| (self.used[&it.0], it.1);
            let (who, _) = *self.wait.iter().min_by_key(place)?;
            let used = self.used.entry(who).or_default();
            self.now = self.now.max(*used);
            *used += SLICE;
            *self.turns.entry(who).or_default() += 1;
            let job = self.jobs.entry(who).or_default().pop_front();
            self.enter(who);
            job.map(|job| (who, job))
        }

        fn over(&mut self, who: usize, took: u64, rest: Option<u32>) {
            self.now += took / (2 * self.alike());
            *self.turns.entry(who).or_default() -= 1;
            let used = self.used.entry(who).or_default();
            *used = *used - SLICE + took;
            if let Some(job) = rest {
                self.jobs.entry(who).or_default().push_front(job);
            }
            self.enter(who);
        }
    }

    /// Jobs of many, at work on some threads, by a seed.
    struct World {
        random: fastrand::Rng,
        line: Line<usize, u32>,
        plain: Plain,
        /// Whose turns there are.
        turns: Vec<(usize, u32)>,
        served: Vec<u64>,
        /// Who has waited for its turn since when: what each had been served then.
        waits: HashMap<usize, Vec<u64>>,
        longest_wait: u64,
        put: u32,
        done: Vec<u32>,
    }

    impl World {
        fn new(seed: u64, many: usize) -> Self {
            Self {
                random: fastrand::Rng::with_seed(seed),
                line: Line::new(),
                plain: Plain::new(),
                turns: Vec::new(),
                served: vec![0; many],
                waits: HashMap::new(),
                longest_wait: 0,
                put: 0,
                done: Vec::new(),
            }
        }

        fn put(&mut self, who: usize) {
            self.put += 1;
            self.line.put(who, self.put);
            self.plain.put(who, self.put);
            let is_at_work = self.turns.iter().any(|(it, _)| *it == who);
            if !is_at_work {
                let served = self.served.clone();
                self.waits.entry(who).or_insert(served);
            }
        }

        /// The threads that have nothing to do begin turns.
        fn begin(&mut self) {
            while self.turns.len() < THREADS {
                let next = self.line.next();
                assert_eq!(next, self.plain.next());
                let Some((who, job)) = next else {
                    return;
                };
                let before = self.waits.remove(&who);
                for other in 0..self.served.len() {
                    let since = before
                        .as_ref()
                        .map_or(0, |it| self.served[other] - it[other]);
                    if other != who {
                        self.longest_wait = self.longest_wait.max(since);
                    }
                }
                self.turns.push((who, job));
            }
        }

        /// One of the turns ends, of whoever has worked at it.
        fn end(&mut self, took: impl Fn(&mut fastrand::Rng, usize) -> u64, is_done: bool) {
            let which = self.random.usize(..self.turns.len());
            let (who, job) = self.turns.swap_remove(which);
            let took = took(&mut self.random, who);
            self.served[who] += took;
            let rest = (!is_done).then_some(job);
            self.line.over(who, took, rest);
            self.plain.over(who, took, rest);
            if is_done {
                self.done.push(job);
            }
        }
    }

    #[test]
    fn next_is_who_has_used_the_least_and_nobody_waits_for_long() {
        for seed in 0..60 {
            let many = 2 + seed as usize % 20;
            let mut world = World::new(seed, many);
            // Some come often, some now and then; some take long, some no time to speak of.
            let often: Vec<u8> = (0..many).map(|_| world.random.u8(1..)).collect();
            let heavy: Vec<u64> = (0..many).map(|_| world.random.u64(1..=LONGEST)).collect();
            for _ in 0..2_000 {
                let who = world.random.usize(..many);
                if world.random.u8(..) < often[who] {
                    world.put(who);
                }
                world.begin();
                if !world.turns.is_empty() && world.random.bool() {
                    let is_done = world.random.bool();
                    world.end(|random, who| random.u64(..heavy[who]), is_done);
                }
            }
            assert!(
                world.longest_wait <= BOUND,
                "seed {seed}: {} ns",
                world.longest_wait
            );
            // What has come is done, once.
            world.begin();
            while !world.turns.is_empty() {
                world.end(|_, _| 1, true);
                world.begin();
            }
            world.done.sort_unstable();
            assert_eq!(world.done, Vec::from_iter(1..=world.put), "seed {seed}");
        }
    }

    #[test]
    fn who_always_wants_something_has_the_same_share_however_much_it_wants() {
        for seed in 0..20 {
            let many = 2 + seed as usize % 9;
            let mut world = World::new(seed, many);
            let heavy: Vec<u64> = (0..many).map(|_| world.random.u64(1..=LONGEST)).collect();
            // One has as many jobs in line as there are threads, the next many more.
            for who in 0..many {
                for _ in 0..THREADS << (who % 4) {
                    world.put(who);
                }
            }
            for _ in 0..5_000 {
                world.begin();
                world.end(|_, who| heavy[who], false);
            }
            let (least, most) = (world.served.iter().min(), world.served.iter().max());
            let apart = most.zip(least).map(|(most, least)| most - least);
            assert!(apart <= Some(BOUND), "seed {seed}: {:?}", world.served);
        }
    }

    #[test]
    fn who_was_away_is_next_and_has_no_more_than_its_credit() {
        let mut line = Line::new();
        for job in 0..2 {
            line.put("always", job);
        }
        let turn = |line: &mut Line<&'static str, u32>, took| {
            let (who, job) = line.next().unwrap();
            line.over(who, took, Some(job));
            who
        };
        for _ in 0..10_000 {
            turn(&mut line, SLICE);
        }
        line.put("away", 7);
        let turns: Vec<_> = (0..100).map(|_| turn(&mut line, SLICE)).collect();
        let first = turns.iter().take_while(|it| **it == "away").count() as u64;
        assert!((1..=2 * CREDIT / SLICE).contains(&first), "{turns:?}");
        let away = turns.iter().filter(|it| **it == "away").count() as u64;
        assert!(away <= 50 + CREDIT / SLICE, "{turns:?}");
    }

    /// Whoever waits is passed by those who come for the first time, but not for ever.
    #[test]
    fn a_stream_of_new_ones_starves_nobody() {
        let mut line = Line::new();
        let turn = |line: &mut Line<usize, ()>, took| {
            let (who, ()) = line.next().unwrap();
            line.over(who, took, None);
            who
        };
        // It has used all it may before others come.
        line.put(0, ());
        turn(&mut line, LONGEST);
        line.put(0, ());
        let mut since = 0;
        for who in 1..10_000 {
            line.put(who, ());
            match turn(&mut line, SLICE) {
                0 => {
                    since = 0;
                    line.put(0, ());
                }
                _ => since += 1,
            }
            assert!(since <= ALIKE * (CREDIT / SLICE) as usize, "{who}");
        }
    }

    #[test]
    fn who_wants_little_goes_before_those_who_want_much_though_these_are_away_at_times() {
        let (mut line, mut waits) = (Line::new(), Vec::new());
        let turn = |line: &mut Line<usize, u32>| {
            let (who, left) = line.next()?;
            let took = if who == 0 { SLICE / 10 } else { SLICE };
            line.over(who, took, (left > 1).then_some(left - 1));
            Some(who)
        };
        for round in 0..10_000 {
            // A few of sixteen, for two turns each; and one who wants a tenth of a turn.
            for greedy in 0..4 {
                line.put(1 + (4 * round + greedy) % 16, 2);
            }
            line.put(0, 1);
            waits.push(std::iter::from_fn(|| turn(&mut line)).position(|it| it == 0));
            while turn(&mut line).is_some() {}
        }
        assert!(waits[100..].iter().all(|it| *it == Some(0)));
    }

    #[test]
    fn accounts_of_those_who_are_gone_are_forgotten() {
        let (mut line, mut most) = (Line::new(), 0);
        for who in 0..100_000 {
            line.put(who, ());
            let (who, ()) = line.next().unwrap();
            line.over(who, SLICE / 2, None);
            most = most.max(line.accounts.len());
        }
        assert!(most <= 4 * ALIKE, "{most}");
        assert!(line.order.is_empty());
    }
}
