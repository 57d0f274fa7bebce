//! What a plugin in C may have at most, said by what tests of an author's own begin with.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use quern_harness::{World, said};

use crate::QUERN;

/// Each names one more than there may be, which leaves no room for the end of what it names.
#[test]
fn what_is_beyond_the_limits_is_said() -> Result<()> {
    let world = World::new(QUERN)?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let many = |one: &str| format!("{{{}}}", vec![one; 17].join(", "));
    for (about, text) in [
        (
            format!(".reads = {}", many("\"@tag\"")),
            ".reads names at most 16, and @tag is one more",
        ),
        (
            format!(".params = {}", many("{\"n\", QUERN_INTEGER}")),
            "there are at most 16 .params, and n is one more",
        ),
        (
            format!(
                ".params = {{{{\"n\", QUERN_CHOICE, .choices = {}}}}}",
                many("\"a\"")
            ),
            "parameter n has at most 16 .choices",
        ),
    ] {
        let code = format!(
            "#include \"testing.h\"\nconst struct quern_about about = {{{about}}};\n\
             int main(void) {{ quern_test_plugin(&about); return 0; }}\n"
        );
        std::fs::write(world.path("beyond.c"), code)?;
        let mut compiler = Command::new("cc");
        compiler.args(["-std=gnu17", "-Iguest-sdk/c", "-o"]);
        compiler.args([world.path("beyond"), world.path("beyond.c")]);
        let compiled = compiler
            .arg("guest-sdk/c/testing.c")
            .current_dir(&root)
            .output()?;
        ensure!(compiled.status.success(), "{}", said(&compiled));
        let ran = Command::new(world.path("beyond")).output()?;
        let told = said(&ran);
        ensure!(
            ran.status.code() == Some(1) && told.contains(text),
            "{told}"
        );
    }
    Ok(())
}
