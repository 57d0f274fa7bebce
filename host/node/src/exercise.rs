//! A store driven by hand on the machine's own file system, for the tests that kill it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use quern_store::exercise::{Broken, Script, run};
use quern_store::fs::RealFs;

/// See [`quern_store::exercise`]: `said` is what earlier runs have said, `say` gets what this one
/// says, whole lines.
pub fn exercise(
    dir: &Path,
    script: Script,
    said: &str,
    say: &mut dyn FnMut(&str) -> io::Result<()>,
) -> Result<(), Broken> {
    run(dir, Arc::new(RealFs), script, said, say)
}
