//! A part of the store panics: a mistake of ours, which nobody may wait for in vain.

use std::sync::mpsc;
use std::time::Duration;

use quern_protocol::RecordKind;
use quern_store::sim::SimFs;
use quern_store::{Acknowledge, Append, AppendError, Dispatched, Observer, StateRecord, Store};

use super::{batch, config, env, wait};

/// Panics at the message that brings its queue to so many.
struct Panics(u64);

impl Observer for Panics {
    fn dispatched(&mut self, event: Dispatched<'_>) {
        if let Dispatched::Message { next, .. } = event {
            assert!(next.0 < self.0, "as the test wants it");
        }
    }

    fn snapshot(&mut self) -> Vec<StateRecord> {
        Vec::new()
    }
}

/// 20 appends to a log that panics at the 11th: what is answered, and what closing it says.
fn appends(acknowledge: Acknowledge, at_once: usize) -> (Vec<Result<(), AppendError>>, String) {
    let observer = Box::new(Panics(11));
    let (store, _) = Store::open(config("/q".as_ref()), env(SimFs::default()), observer).unwrap();
    let mut answers = Vec::new();
    for _ in 0..20 / at_once {
        let one = |_| Append {
            acknowledge,
            ..batch(0, &["b".to_owned()])
        };
        let pending: Vec<_> = (0..at_once).map(one).map(|it| store.submit(it)).collect();
        answers.extend(pending.into_iter().map(|it| wait(it).map(drop)));
    }
    let state = wait(store.submit_state(RecordKind::Topic, b"later"));
    assert!(matches!(state, Err(AppendError::Failed(_))), "{state:?}");
    let closed = store.close().unwrap_err();
    (answers, closed.to_string())
}

#[test]
fn nobody_waits_for_a_thread_that_has_panicked() {
    let (said, hears) = mpsc::channel();
    std::thread::spawn(move || {
        for acknowledge in [Acknowledge::Durable, Acknowledge::Written] {
            for at_once in [1, 4, 20] {
                let _ = said.send((acknowledge, at_once, appends(acknowledge, at_once)));
            }
        }
    });
    for _ in 0..6 {
        let heard = hears.recv_timeout(Duration::from_secs(60));
        let (acknowledge, at_once, (answers, closed)) = heard.expect("nobody waits in vain");
        let what = format!("{acknowledge:?}, {at_once} at once: {answers:?}, {closed}");
        assert_eq!(answers.len(), 20, "{what}");
        assert!(
            answers[..10 / at_once * at_once].iter().all(Result::is_ok),
            "{what}"
        );
        let last = answers.last().unwrap();
        assert!(
            matches!(last, Err(AppendError::Failed(_))) || acknowledge == Acknowledge::Written,
            "{what}"
        );
        assert!(closed.contains("panicked"), "{what}");
    }
}
