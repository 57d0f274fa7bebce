//! Whether the next sync should wait a little for those whom the last one has answered. They send again at once,
//! and without this they would wait for the whole of the next sync first: senders fall into two crowds, each of
//! which waits for the other's sync. A sync that takes milliseconds is worth waiting a part of that for; one
//! that is quick is not, and neither are senders that do not come back.
//!
//! Decided without I/O: it is told what happens, and the time.

/// A share of what a sync takes.
const SHARE: u64 = 4;
/// A shorter wait is not worth its wake-up, µs.
const LEAST: u64 = 100;
/// µs.
const MOST: u64 = 2_000;
/// After waits in vain so many syncs go by at the most without one, as a power of two.
const PATIENCE: u32 = 6;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    /// What a sync has taken lately, µs.
    sync_us: u64,
    open: Option<Open>,
    in_vain: u32,
    skip: u32,
}

#[derive(Debug)]
struct Open {
    until: u64,
    awaited: usize,
    came: usize,
}

/// A sync that has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Synced {
    /// Now, µs.
    pub(crate) at: u64,
    /// What it took, µs.
    pub(crate) took: u64,
    /// Batches that are answered now.
    pub(crate) answered: usize,
    /// Batches that wait already.
    pub(crate) waiting: usize,
}

impl Gathering {
    pub(crate) fn synced(&mut self, sync: Synced) {
        // More like the quick ones: a disk that stutters is not worth a wait each time.
        self.sync_us = if sync.took < self.sync_us {
            sync.took.midpoint(self.sync_us)
        } else {
            (self.sync_us * 7 + sync.took) / 8
        };
        let most = (self.sync_us / SHARE).min(MOST);
        // A lone sender has nobody to wait for.
        let is_crowd = sync.answered > 0 && sync.answered + sync.waiting > 1;
        if most < LEAST || !is_crowd {
            return;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return;
        }
        self.open = Some(Open {
            until: sync.at + most,
            awaited: sync.answered,
            came: 0,
        });
    }

    /// Another batch has come. True: it was the last that was waited for.
    pub(crate) fn came(&mut self) -> bool {
        let Some(open) = &mut self.open else {
            return false;
        };
        open.came += 1;
        let are_all = open.came >= open.awaited;
        if are_all {
            self.close();
        }
        are_all
    }

    /// How much longer to wait, µs; `None` = not at all. True beside it: it has just ended.
    pub(crate) fn look(&mut self, now: u64) -> (Option<u64>, bool) {
        let left = self
            .open
            .as_ref()
            .map(|open| open.until.saturating_sub(now));
        match left {
            Some(0) => {
                self.close();
                (None, true)
            }
            left => (left, false),
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Nobody is waited for any more.
    pub(crate) fn close(&mut self) {
        let Some(open) = self.open.take() else {
            return;
        };
        if open.came * 2 >= open.awaited {
            self.in_vain = 0;
        } else {
            self.in_vain = (self.in_vain + 1).min(PATIENCE);
            self.skip = (1 << self.in_vain) - 1;
        }
    }

    /// As if syncs had taken so long, µs.
    pub(crate) fn expect(&mut self, sync_us: u64) {
        self.sync_us = sync_us;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(took: u64) -> Gathering {
        let mut gathering = Gathering::default();
        gathering.expect(took);
        gathering
    }

    fn synced(took: u64, answered: usize, waiting: usize) -> Synced {
        Synced {
            at: 1_000,
            took,
            answered,
            waiting,
        }
    }

    #[test]
    fn a_slow_sync_waits_for_those_it_has_answered_and_no_longer() {
        let mut gathering = after(4_000);
        gathering.synced(synced(4_000, 2, 1));
        assert_eq!(gathering.look(1_000), (Some(1_000), false));
        assert!(!gathering.came());
        assert_eq!(gathering.look(1_500), (Some(500), false));
        assert!(gathering.came());
        assert_eq!(gathering.look(1_500), (None, false));
        gathering.synced(synced(4_000, 2, 0));
        assert_eq!(gathering.look(2_000), (None, true), "its time is over");
        assert!(!gathering.is_open());
    }

    #[test]
    fn nobody_waits_for_nobody_or_where_a_sync_is_quick() {
        let cases = [
            ("alone", 4_000, 1, 0),
            ("nobody was answered", 4_000, 0, 9),
            ("quick", 300, 9, 9),
        ];
        for (name, took, answered, waiting) in cases {
            let mut gathering = after(took);
            gathering.synced(synced(took, answered, waiting));
            assert!(!gathering.is_open(), "{name}");
        }
        let mut slow = after(1_000_000);
        slow.synced(synced(1_000_000, 9, 9));
        assert_eq!(slow.look(1_000).0, Some(MOST));
    }

    #[test]
    fn who_does_not_come_back_is_waited_for_ever_less() {
        let mut gathering = after(4_000);
        let mut waited = Vec::new();
        for round in 0..200 {
            gathering.synced(synced(4_000, 4, 4));
            if gathering.is_open() {
                waited.push(round);
                gathering.look(u64::MAX);
            }
        }
        assert_eq!(waited, [0, 2, 6, 14, 30, 62, 126, 190]);
        // One that is answered by half of them is worth it again.
        gathering.skip = 0;
        gathering.synced(synced(4_000, 4, 4));
        gathering.came();
        gathering.came();
        gathering.close();
        gathering.synced(synced(4_000, 4, 4));
        assert!(gathering.is_open());
    }
}
