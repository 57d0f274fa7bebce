//! A sync that waits for those whom the last one has answered does not wait for ever.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use quern_store::clock::ManualClock;
use quern_store::sim::SimFs;
use quern_store::{Acknowledge, Append, Env, Stateless, Store};

use crate::{batch, config, some_bodies, wait};

#[test]
fn what_came_during_a_slow_sync_is_written_though_nobody_comes_back() {
    let fs = SimFs::default();
    let clock = Arc::new(ManualClock::default());
    let env = Env {
        fs: Arc::new(fs.clone()),
        clock: Arc::clone(&clock) as Arc<_>,
    };
    let (store, _) = Store::open(config("/q".as_ref()), env, Box::new(Stateless)).unwrap();
    let held = fs.hold_syncs();
    let first = Append {
        acknowledge: Acknowledge::Written,
        ..batch(0, &some_bodies(0, 1))
    };
    wait(store.submit(first)).unwrap();
    held.wait_for(1);
    let second = store.submit(batch(0, &some_bodies(1, 1)));
    // So slow that the next one is worth a wait for whoever sent the first.
    clock.pass(40);
    drop(held);
    let (answer, answered) = mpsc::channel();
    std::thread::spawn(move || answer.send(wait(second)));
    let outcome = (0..60_000).find_map(|_| {
        clock.pass(1);
        answered.recv_timeout(Duration::from_millis(1)).ok()
    });
    assert_eq!(outcome.unwrap().unwrap().first.0, 1);
}
