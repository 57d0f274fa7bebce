//! Where what is taken out of a log is kept: torn tails, and what a repair replaces.

use std::io;
use std::path::Path;

use crate::fs::Fs;

/// In the data directory.
pub(crate) const DIR: &str = "quarantine";

/// Moves a file of a data directory there; its new name.
pub(crate) fn put_aside(fs: &dyn Fs, dir: &Path, file: &Path) -> io::Result<String> {
    let aside = dir.join(DIR);
    fs.create_dir(&aside)?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let name = free_name(fs, &aside, &name)?;
    fs.rename(file, &aside.join(&name))?;
    fs.sync_dir(&aside)?;
    Ok(format!("{DIR}/{name}"))
}

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
