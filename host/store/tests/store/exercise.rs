//! The scripts that a store is killed in, on a disk that stops at every change in turn and then loses
//! what was not synced.

use std::sync::Arc;

use quern_store::exercise::{Broken, SCRIPTS, Script, run};
use quern_store::sim::{Fault, SimFs};

fn exercise(fs: &SimFs, script: Script, said: &mut String) -> Result<(), Broken> {
    let before = said.clone();
    let say = &mut |lines: &str| {
        said.push_str(lines);
        Ok(())
    };
    run("/q".as_ref(), Arc::new(fs.clone()), script, &before, say)
}

#[test]
fn stopped_at_every_change_and_powered_off_it_keeps_what_it_acknowledged() {
    for (name, script) in SCRIPTS {
        let mut stops = 0;
        for n in 0.. {
            fastrand::seed(n);
            let fs = SimFs::default();
            fs.inject(Some(Fault::Halt(n)));
            let mut said = String::new();
            if exercise(&fs, script, &mut said).is_ok() {
                break;
            }
            stops += 1;
            for seed in 0..4 {
                let after = fs.crash(n * 4 + seed);
                exercise(&after, script, &mut said.clone())
                    .unwrap_or_else(|error| panic!("{name} stopped at change {n}: {error}"));
            }
        }
        assert!(stops > 40, "{name} makes {stops} changes");
    }
}

#[test]
fn what_is_missing_or_was_never_written_is_told() {
    let fs = SimFs::default();
    let mut said = String::new();
    exercise(&fs, Script::Write, &mut said).unwrap();
    let acknowledged = said.lines().filter(|line| line.starts_with("stored"));
    assert!(acknowledged.count() > 10, "{said}");
    exercise(&fs.crash(0), Script::Recover, &mut said.clone()).unwrap();
    let wrong = [
        "stored 0 1000 99999\n",
        "state 99999\n",
        "epoch 99999\n",
        "stored 0 0 2\n",
        "kept 2 0 99999\n",
        "kept 3 0 99999\n",
    ];
    for line in wrong {
        let mut more = format!("{said}{line}");
        let error = exercise(&fs.crash(0), Script::Write, &mut more).unwrap_err();
        assert!(matches!(error, Broken::Promise(_)), "{line} {error}");
    }
    // Of the last line some may be missing.
    exercise(&fs, Script::Write, &mut format!("{said}stored 0 100")).unwrap();
}
