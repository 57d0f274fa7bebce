//! Writes what the targets begin with: `seeds DIR` makes a folder for each, from what today's store
//! writes.

use std::io;
use std::path::Path;

use quern_fuzz::{GOOD, block_of, good_records};

fn main() -> io::Result<()> {
    let into = std::env::args_os().nth(1);
    let into = into.ok_or_else(|| io::Error::other("which directory?"))?;
    let save = |target: &str, number: usize, bytes: &[u8]| {
        let dir = Path::new(&into).join(target);
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join(format!("seed-{number}")), bytes)
    };
    let [(.., format), (.., checkpoint), (.., segment)] = &*GOOD;
    save("format", 0, format)?;
    save("checkpoint", 0, checkpoint)?;
    save("segment", 0, segment)?;
    for (number, record) in good_records().into_iter().enumerate() {
        save("record", number, record)?;
        save("block", number, block_of(record))?;
    }
    Ok(())
}
