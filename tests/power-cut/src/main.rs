//! Cuts the power of a store's disk. A disk in memory with a write cache is shown by FUSE, a loop
//! device sits on it, a real file system on that, a real store works there. At random moments what
//! was flushed, and any part of what was not, is copied and mounted again: everything that had been
//! acknowledged by then must be there. The same disk then fails writes and reads, and is slow.
//!
//! Needs root, FUSE, loop devices, and the tools of ext4 and XFS; says what is missing.

mod disk;
mod export;
#[expect(
    clippy::unwrap_used,
    reason = "a test of host/store, which stops at the first surprise"
)]
#[path = "../../../host/store/tests/store/failures.rs"]
mod failures;
mod load;
mod mounted;
mod rig;
mod troubles;

use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Parser;
use fastrand::Rng;

use crate::mounted::Kind;
use crate::rig::{Rig, cut_often};

/// Cuts that one store has to live through before the disk is a new one.
const CUTS: usize = 25;

/// Cuts the power of a store's disk and looks for what it had acknowledged.
#[derive(Debug, Parser)]
struct Args {
    /// How often, over all file systems.
    #[arg(long, default_value_t = 200)]
    images: usize,
    /// Decides when, and what of the unflushed survives.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(what) = mounted::lacking() {
        println!("SKIP F3 F4 F11 F12 F14 power cuts and failing disks: needs {what}");
        return Ok(());
    }
    let mut random = Rng::with_seed(args.seed);
    println!("FILES   WHAT                                          TIMES  FOUND");
    for kind in Kind::ALL {
        let began = Instant::now();
        let images = args.images.div_ceil(Kind::ALL.len());
        let said = power_cuts(kind, images, &mut random)?;
        let seconds = began.elapsed().as_secs();
        tell(kind, "power cut", images, &format!("{said}; {seconds} s"));
        for (what, trouble) in troubles::ALL {
            let said = trouble(kind, &mut random);
            let said = said.with_context(|| format!("{}: {what}", kind.name()))?;
            tell(kind, what, 1, &said);
        }
    }
    Ok(())
}

fn tell(kind: Kind, what: &str, times: usize, said: &str) {
    println!("{:<7} {what:<45} {times:>5}  {said}", kind.name());
}

fn power_cuts(kind: Kind, images: usize, random: &mut Rng) -> Result<String> {
    let (mut messages, mut torn, mut segments, mut looked) = (0, 0, 0, 0);
    while looked < images {
        let rig = Rig::new(kind)?;
        let cuts = cut_often(&rig, CUTS.min(images - looked), random)?;
        for cut in cuts {
            let found = rig.look(&cut);
            let found = found.with_context(|| format!("{}, image {looked}", kind.name()))?;
            messages += found.owed;
            torn += usize::from(found.torn);
            segments = segments.max(found.segments);
            looked += 1;
        }
    }
    Ok(format!(
        "{messages} acknowledged messages, all there; {torn} torn tails; up to {segments} segments"
    ))
}
