//! Message ids: 32 hexadecimal digits, unique without asking anybody. 64 random bits per process,
//! 64 that count, so that ids of one process sort by age.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

static PROCESS: OnceLock<u64> = OnceLock::new();
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// The next id of this process.
pub(crate) fn next() -> String {
    let process = PROCESS.get_or_init(|| fastrand::u64(..));
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{process:016X}{count:016X}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_are_unique_and_sort_by_age() {
        let ids: Vec<_> = (0..1_000).map(|_| super::next()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(ids.iter().all(|id| id.len() == 32));
    }
}
