//! A disk that is really full: a small file system in a mount namespace of the node's own.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use quern_harness::{Node, World};

use crate::QUERN;

/// Room for a few segments, and something that can be taken away.
const DISK: &str = "48m";
const BALLAST: &str = "16m";
const BODY: usize = 1_000_000;

/// The flags with which `unshare` gives us a namespace to mount in; `None` where it may not.
fn unshare_flags() -> Option<&'static str> {
    ["-m", "-rm"].into_iter().find(|flags| {
        let tried = Command::new("unshare")
            .args([flags, "mount", "-t", "tmpfs", "tmpfs", "/mnt"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        tried.is_ok_and(|status| status.success())
    })
}

/// A `quern` whose `start` finds `disk` small and half filled.
fn quern_on_a_small_disk(files: &World, flags: &str) -> Result<(PathBuf, PathBuf)> {
    let disk = files.path("disk");
    std::fs::create_dir(&disk)?;
    let script = files.path("quern-on-a-small-disk");
    let text = format!(
        "#!/bin/sh\n\
         [ \"$1\" = start ] || exec {QUERN} \"$@\"\n\
         exec unshare {flags} sh -c 'mount -t tmpfs -o size={DISK} tmpfs \"$0\" &&\n\
         fallocate -l {BALLAST} \"$0/ballast\" && exec {QUERN} \"$@\"' {} \"$@\"\n",
        disk.display()
    );
    std::fs::write(&script, text)?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    Ok((script, disk))
}

/// Producers are told, consumers go on, and with space again so does everything, without a restart.
#[test]
fn a_full_disk_refuses_loses_nothing_and_goes_on_when_there_is_room() -> Result<()> {
    let Some(flags) = unshare_flags() else {
        eprintln!("SKIP F10 disk full: needs root, or user namespaces, to mount a small disk");
        return Ok(());
    };
    let files = World::new(QUERN)?;
    let (script, disk) = quern_on_a_small_disk(&files, flags)?;
    let world = World::new(script.to_str().context("a plain path")?)?;
    let mut node = Node::at(disk.join("data"))?;
    node.start(&world, &[])?;
    let at = ["--namesrv", node.namesrv.as_str()];
    let quern = |args: &[&str]| world.ok(&[args, &at].concat());
    quern(&["topic", "create", "t", "--queues", "1"])?;

    let body = files.path("body").to_string_lossy().into_owned();
    std::fs::write(&body, "x".repeat(BODY))?;
    let mut stored = 0;
    let refused = loop {
        let output = world.run(&["produce", "t", "--file", &body, at[0], at[1]])?;
        if !output.status.success() {
            break output;
        }
        stored += 1;
        ensure!(stored < 48, "48 MiB hold no 48 MB and what belongs to them");
    };
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    ensure!(said.contains("Q-4001"), "{said}");
    let count = || -> Result<usize> { Ok(quern(&["consume", "t"])?.lines().count()) };
    assert_eq!(count()?, stored);

    // Its own file system is seen through the process.
    let pid = node.pid().context("it runs")?;
    let inside = format!("/proc/{pid}/root{}", disk.join("ballast").display());
    std::fs::remove_file(inside)?;
    quern(&["produce", "t", "room again"])?;
    assert_eq!(count()?, stored + 1);
    ensure!(node.said().contains("Q-4001"), "{}", node.said());
    assert_eq!(node.stop()?, Some(0));
    Ok(())
}
