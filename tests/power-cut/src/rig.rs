//! A file system on a disk whose power can be cut, a store on it, and the look at what is left.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;
use fuser::BackgroundSession;
use quern_store::exercise::Ledger;
use quern_store::{Config, Env, OpenError, Report, Stateless, Store};
use tempfile::TempDir;

use crate::disk::{Disk, Image, Trouble};
use crate::export::{self, Shared, lock};
use crate::load::{Acknowledged, Load};
use crate::mounted::{Kind, Loop, Mounted};

/// The smallest that XFS takes, and some.
const SIZE: u64 = 384 * 1024 * 1024;
const SEGMENT: u64 = 1024 * 1024;

/// Fields are dropped from the top: unmounted, detached, no longer shown.
pub(crate) struct Rig {
    mounted: Option<Mounted>,
    device: Loop,
    _session: BackgroundSession,
    pub(crate) disk: Shared,
    pub(crate) kind: Kind,
    dir: TempDir,
}

/// A disk as a power cut left it, and what had been acknowledged before.
pub(crate) struct Cut {
    image: Image,
    owed: Ledger,
}

/// What was found on such a disk.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) owed: usize,
    pub(crate) torn: bool,
    pub(crate) segments: usize,
}

pub(crate) fn open(dir: &Path) -> Result<(Store, Report), OpenError> {
    let config = Config {
        segment_size: Some(SEGMENT),
        ..Config::new(dir)
    };
    Store::open(config, Env::real(), Box::new(Stateless))
}

impl Rig {
    pub(crate) fn new(kind: Kind) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let shown = dir.path().join("shown");
        std::fs::create_dir(&shown)?;
        let disk = Shared::new(std::sync::Mutex::new(Disk::default()));
        let session = export::mount(&disk, SIZE, &shown)?;
        let device = Loop::on(&shown.join(export::NAME))?;
        device.make(kind)?;
        let mounted = device.mount(kind, &dir.path().join("live"))?;
        Ok(Self {
            mounted: Some(mounted),
            device,
            _session: session,
            disk,
            kind,
            dir,
        })
    }

    /// On the file system.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("live").join(name)
    }

    /// The kernel forgets everything it knows of the file system.
    pub(crate) fn remount(&mut self) -> Result<()> {
        self.mounted = None;
        self.mounted = Some(
            self.device
                .mount(self.kind, &self.dir.path().join("live"))?,
        );
        Ok(())
    }

    pub(crate) fn trouble(&self, trouble: Trouble) {
        lock(&self.disk).trouble = trouble;
    }

    /// First what is owed, then the disk: an acknowledgement in between is one too many to ask for.
    pub(crate) fn cut(&self, acknowledged: &Acknowledged, random: &mut Rng) -> Cut {
        let owed = acknowledged.now();
        let image = lock(&self.disk).cut(random);
        Cut { image, owed }
    }

    /// Starts a store on what is left, looks for what is owed, and has it go on.
    pub(crate) fn look(&self, cut: &Cut) -> Result<Found> {
        let file = self.dir.path().join("left");
        cut.image.save(&file, SIZE)?;
        let device = Loop::on(&file)?;
        let mounted = device.mount(self.kind, &self.dir.path().join("again"))?;
        let (store, report) = open(&mounted.path().join("data"))?;
        let last = cut.owed.check(&store, &[])?;
        let more = Acknowledged::default();
        let load = Load::start(&store, &more, last);
        let refused = load.stop()?;
        ensure!(refused.is_none(), "it does not go on: {refused:?}");
        store.close()?;
        drop(store);
        Ok(Found {
            owed: cut.owed.len(),
            torn: report.torn.is_some(),
            segments: report.segments,
        })
    }
}

/// For something that happens by itself, soon.
pub(crate) fn wait_until(what: &str, mut so: impl FnMut() -> Result<bool>) -> Result<()> {
    for _ in 0..2_000 {
        if so()? {
            return Ok(());
        }
        pause(Duration::from_millis(5));
    }
    Err(anyhow::anyhow!("waited in vain for {what}"))
}

pub(crate) fn pause(time: Duration) {
    #[expect(
        clippy::disallowed_methods,
        reason = "chance decides when power is cut"
    )]
    std::thread::sleep(time);
}

/// Keeps a store busy and cuts its power again and again; the lives of the store are short, so that
/// starts and ends are cut, too.
pub(crate) fn cut_often(rig: &Rig, cuts: usize, random: &mut Rng) -> Result<Vec<Cut>> {
    let data = rig.path("data");
    let acknowledged = Acknowledged::default();
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (worker_done, worker_knows) = (Arc::clone(&done), acknowledged.clone());
    let lives = std::thread::spawn(move || -> Result<()> {
        while !worker_done.load(std::sync::atomic::Ordering::Relaxed) {
            let (store, _) = open(&data)?;
            let last = worker_knows.now().check(&store, &[])?;
            let load = Load::start(&store, &worker_knows, last);
            pause(Duration::from_millis(300));
            let refused = load.stop()?;
            ensure!(refused.is_none(), "refused: {refused:?}");
            if last % 2 == 0 {
                store.close()?;
            }
        }
        Ok(())
    });
    let mut taken = Vec::with_capacity(cuts);
    while taken.len() < cuts && !lives.is_finished() {
        pause(Duration::from_millis(random.u64(1..60)));
        taken.push(rig.cut(&acknowledged, random));
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    lives.join().ok().context("the store's thread panicked")??;
    Ok(taken)
}
