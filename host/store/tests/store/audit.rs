//! Looking at a log offline: it says the same as recovery would, and more, and changes nothing.

use std::ops::ControlFlow;
use std::path::Path;

use quern_protocol::Code;
use quern_store::audit::{Audit, Item, audit};
use quern_store::fs::{Fs, RealFs};
use quern_store::sim::SimFs;

use crate::{SEGMENT, batch, env, open, some_bodies, wait};

const DIR: &str = "/q";

fn look(fs: &dyn Fs) -> Audit {
    audit(DIR.as_ref(), fs, &mut |_| ControlFlow::Continue(())).unwrap()
}

/// Forty messages in twenty groups; the end of the log.
fn filled(close: bool) -> (SimFs, usize) {
    let fs = SimFs::default();
    let (store, _) = open(DIR.as_ref(), env(fs.clone())).unwrap();
    for n in 0..20 {
        wait(store.submit(batch(0, &some_bodies(n, 2)))).unwrap();
    }
    let end = store.durable().0 as usize;
    if close {
        store.close().unwrap();
    }
    drop(store);
    (fs, end)
}

fn contents(fs: &SimFs) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 20];
    let file = fs.open(SEGMENT.as_ref()).unwrap();
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn a_good_log_is_told_whole_and_in_order() {
    for close in [true, false] {
        let (fs, end) = filled(close);
        let mut told = (0, 0, Vec::new());
        let found = audit(DIR.as_ref(), &fs, &mut |item| {
            match item {
                Item::Segment { .. } => told.0 += 1,
                Item::Group { .. } => told.1 += 1,
                Item::Record { header, .. } => told.2.push(header.queue_offset.0),
                Item::Recalled { .. } => {}
            }
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!((found.messages, found.end.0 as usize), (40, end));
        assert_eq!((told.0, told.1), (found.segments, found.groups));
        assert_eq!(told.2, (0..40).collect::<Vec<_>>());
        assert_eq!((found.damage.as_slice(), found.torn), ([].as_slice(), None));
        assert_eq!(found.clean, close);
        // Enough is enough.
        let mut seen = 0;
        let until_ten = &mut |item: Item<'_>| {
            seen += u32::from(matches!(item, Item::Record { .. }));
            if seen < 10 {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        };
        audit(DIR.as_ref(), &fs, until_ten).unwrap();
        assert_eq!(seen, 10);
    }
}

/// A thousand single and double flips: what the audit calls damage is what keeps the store from
/// opening, what it calls torn is what the store puts aside; and it reads on behind the damage.
#[test]
fn it_judges_as_recovery_does_and_sees_all_of_it() {
    let (mut damaged, mut torn) = (0, 0);
    for seed in 0..500u64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (fs, end) = filled(random.bool());
        let flips: Vec<usize> = (0..random.usize(1..3))
            .map(|_| match random.bool() {
                true => random.usize(4_096..end),
                // In the last groups, or right behind them.
                false => random.usize(end - 6_000..end + 100),
            })
            .collect();
        for at in &flips {
            fs.flip(SEGMENT.as_ref(), *at, 1 << random.u8(0..8));
        }
        // Or what is behind the last checkpoint would not be read again.
        let _ = fs.remove("/q/state".as_ref());
        let before = contents(&fs);
        let found = look(&fs);
        assert!(before == contents(&fs), "seed {seed}: it only looks");
        assert!(found.messages >= 40 - 8 * flips.len() as u64, "seed {seed}");
        let opened = open(DIR.as_ref(), env(fs));
        match &opened {
            Err(error) => {
                damaged += 1;
                assert_eq!(error.code(), Code::DATA_CORRUPT, "seed {seed}: {error}");
                assert!(!found.damage.is_empty(), "seed {seed}: {error}, {found:?}");
            }
            Ok((_, report)) => {
                assert_eq!(found.damage, [], "seed {seed} {flips:?}");
                let (ours, theirs) = (&found.torn, &report.torn);
                torn += u32::from(theirs.is_some());
                assert_eq!(
                    ours.as_ref().map(|it| (it.from, it.to.0 - it.from.0)),
                    theirs.as_ref().map(|it| (it.position, it.bytes)),
                    "seed {seed} {flips:?}"
                );
                // That a tail was cut is noted in its place.
                let note = if theirs.is_some() { 64 } else { 0 };
                assert_eq!(found.end.0 + note, report.end.0, "seed {seed}");
            }
        }
    }
    assert!(damaged > 100 && torn > 20, "{damaged} damaged, {torn} torn");
}

#[test]
fn what_is_no_data_directory_or_in_use_is_said() {
    let look = |dir: &Path| audit(dir, &RealFs, &mut |_| ControlFlow::Continue(()));
    let dir = tempfile::tempdir().unwrap();
    let error = look(dir.path()).unwrap_err();
    assert_eq!(error.code(), Code::DIRECTORY_FOREIGN, "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    let error = look(&dir.path().join("nowhere")).unwrap_err();
    assert_eq!(error.code(), Code::DIRECTORY_UNUSABLE, "{error}");
    let used = dir.path().join("used");
    let (store, _) = open(&used, env(RealFs)).unwrap();
    assert_eq!(look(&used).unwrap_err().code(), Code::DIRECTORY_LOCKED);
    store.close().unwrap();
    drop(store);
    assert!(look(&used).unwrap().clean);
}
