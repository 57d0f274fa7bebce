//! Disks that fail and disks that are slow, under a real file system.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use fastrand::Rng;
use quern_store::exercise::QUEUES;
use quern_store::exercise::first_entries;
use quern_store::fs::{Fs, RealFs};
use quern_store::{AppendError, ReadError};

use crate::disk::Trouble;
use crate::export::lock;
use crate::failures;
use crate::load::{Acknowledged, Load};
use crate::mounted::Kind;
use crate::rig::{Rig, open, pause, wait_until};

type Run = fn(Kind, &mut Rng) -> Result<String>;

pub(crate) const ALL: [(&str, Run); 4] = [
    ("write-back fails: who is told, what is left", write_back),
    ("writes fail under load", writes_fail),
    ("reads fail", reads_fail),
    ("flushes take 200 ms", slow),
];

/// Every record begins with it: data, not the file system's own.
const RECORD: &[u8] = b"QRC0";

struct Table {
    rig: std::cell::RefCell<Rig>,
    dir: std::path::PathBuf,
}

impl failures::Rig for Table {
    fn fs(&self) -> &dyn Fs {
        &RealFs
    }

    fn dir(&self) -> &Path {
        &self.dir
    }

    fn next_write_back_fails(&self) {
        self.rig.borrow().trouble(Trouble {
            no_write_of: Some(vec![b'B'; 512]),
            ..Trouble::default()
        });
    }

    fn heal(&self) {
        self.rig.borrow().trouble(Trouble::default());
    }

    fn write_back(&self, name: &str) {
        self.next_write_back_fails();
        let disk = std::sync::Arc::clone(&self.rig.borrow().disk);
        let before = lock(&disk).failures;
        let file = RealFs.open(&self.dir.join(name)).expect("it is there");
        // It starts writing, and asks nobody how that went.
        file.evict().expect("no more than advice");
        wait_until("write-back", || Ok(lock(&disk).failures > before)).expect("it is on its way");
        // The page is still on its way back when the disk has already failed it.
        pause(Duration::from_millis(50));
        self.heal();
    }

    fn forget(&self, _: &str) {
        self.rig
            .borrow_mut()
            .remount()
            .expect("it was mounted before");
    }
}

fn write_back(kind: Kind, _: &mut Rng) -> Result<String> {
    let rig = Rig::new(kind)?;
    let dir = rig.path("table");
    std::fs::create_dir(&dir)?;
    let rig = std::cell::RefCell::new(rig);
    failures::check(&Table { rig, dir });
    Ok("as simulated: told once to each descriptor, then never; the data is lost".to_owned())
}

/// The log is poisoned at the first failure; the next process has what was acknowledged, and so has
/// the one after a power cut.
fn writes_fail(kind: Kind, random: &mut Rng) -> Result<String> {
    let mut rig = Rig::new(kind)?;
    let acknowledged = Acknowledged::default();
    let mut lives = 0;
    for _ in 0..5 {
        let data = rig.path("data");
        // The kernel tells of an old failure once more.
        let (store, _) = open(&data).or_else(|_| open(&data))?;
        let last = acknowledged.now().check(&store, &[])?;
        let load = Load::start(&store, &acknowledged, last);
        pause(Duration::from_millis(random.u64(20..200)));
        rig.trouble(Trouble {
            no_write_of: Some(RECORD.to_vec()),
            ..Trouble::default()
        });
        pause(Duration::from_millis(100));
        rig.trouble(Trouble::default());
        let refused = load.stop()?;
        let failed = matches!(refused, Some(AppendError::Failed(_)));
        ensure!(failed, "the log has not failed: {refused:?}");
        ensure!(store.close().is_err(), "and closed cleanly");
        drop(store);
        let cut = rig.cut(&acknowledged, random);
        rig.look(&cut)?;
        if random.bool() {
            rig.remount()?;
        }
        lives += 1;
    }
    let owed = acknowledged.now().len();
    Ok(format!(
        "{lives} logs poisoned, {owed} acknowledged messages there each time"
    ))
}

fn reads_fail(kind: Kind, _: &mut Rng) -> Result<String> {
    let rig = Rig::new(kind)?;
    let data = rig.path("data");
    let acknowledged = Acknowledged::default();
    let (store, _) = open(&data)?;
    let load = Load::start(&store, &acknowledged, 0);
    pause(Duration::from_millis(300));
    load.stop()?;
    store.close()?;
    drop(store);
    let (store, _) = open(&data)?;
    let entries = first_entries(&store, 50)?;
    let log = data.join("commitlog");
    let first = log.join(format!("{:020}.seg", 0));
    let file = RealFs.open_to_read(&first)?;
    file.evict()?;
    rig.trouble(Trouble {
        no_read_of: Some(RECORD.to_vec()),
        ..Trouble::default()
    });
    let mut refused = 0;
    for entry in &entries {
        match store.record(entry) {
            Err(ReadError::Io { .. }) => refused += 1,
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
    }
    ensure!(refused > 0, "every read went through");
    let window = file.map(0, 1 << 20);
    ensure!(window.is_err(), "a window is read in before it is used");
    rig.trouble(Trouble::default());
    acknowledged.now().check(&store, &[])?;
    ensure!(file.map(0, 1 << 20)?.len() == 1 << 20);
    store.close()?;
    Ok(format!(
        "{refused} of {} told, no signal; all read once it is well",
        entries.len()
    ))
}

fn slow(kind: Kind, random: &mut Rng) -> Result<String> {
    let rig = Rig::new(kind)?;
    let acknowledged = Acknowledged::default();
    let (store, _) = open(&rig.path("data"))?;
    rig.trouble(Trouble {
        slow: Duration::from_millis(200),
        ..Trouble::default()
    });
    let load = Load::start(&store, &acknowledged, 0);
    for _ in 0..4 {
        pause(Duration::from_millis(random.u64(100..700)));
        let cut = rig.cut(&acknowledged, random);
        rig.look(&cut)?;
    }
    let refused = load.stop()?;
    ensure!(refused.is_none(), "{refused:?}");
    rig.trouble(Trouble::default());
    store.close()?;
    let owed = acknowledged.now().len();
    ensure!(owed > QUEUES as usize, "nothing was acknowledged");
    Ok(format!(
        "{owed} acknowledged messages, 4 power cuts meanwhile, all there"
    ))
}
