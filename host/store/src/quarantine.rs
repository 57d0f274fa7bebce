//! Where what is taken out of a log is kept: torn tails, and what a repair replaces.

use std::io;
use std::path::Path;

use crate::fs::Fs;

/// In the data directory.
pub(crate) const DIR: &str = "quarantine";

/// A name that nothing has yet in a directory.
pub(crate) fn free_name(fs: &dyn Fs, dir: &Path, name: &str) -> io::Result<String> {
    let taken = fs.list(dir)?;
    let mut numbered = (2..).map(|number| format!("{name}.{number}"));
    let mut free = name.to_owned();
    while taken.contains(&free) {
        free = numbered.next().unwrap_or_default();
    }
    Ok(free)
}
