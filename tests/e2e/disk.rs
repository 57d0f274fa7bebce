//! Disks that are really full, cannot be written, or are gone: small file systems in a mount
//! namespace of the node's own, and directories taken away.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use quern_harness::{Node, World, said, wait_until};

use crate::{QUERN, world_with_node};

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
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    ensure!(said(&refused).contains("Q-4001"), "{}", said(&refused));
    let count = || -> Result<usize> { Ok(quern(&["consume", "t"])?.lines().count()) };
    assert_eq!(count()?, stored);
    // What a group has read is still noted: records of the broker's own are small.
    let read = |from: &str| quern(&["consume", "t", "--group", "readers", "--from", from]);
    assert_eq!(read("first")?.lines().count(), stored);
    assert_eq!(read("first")?, "");

    // Its own file system is seen through the process.
    let pid = node.pid().context("it runs")?;
    let inside = format!("/proc/{pid}/root{}", disk.join("ballast").display());
    std::fs::remove_file(inside)?;
    // By itself, once spare and reserves are there again.
    wait_until("messages are taken again", || {
        let output = world.run(&["produce", "t", "room again", at[0], at[1]])?;
        let is_taken = output.status.success();
        ensure!(
            is_taken || said(&output).contains("Q-4001"),
            "{}",
            said(&output)
        );
        Ok(is_taken)
    })?;
    assert_eq!(count()?, stored + 1);
    assert_eq!(read("first")?, "room again\n");
    ensure!(node.said().contains("Q-4001"), "{}", node.said());
    assert_eq!(node.stop()?, Some(0));
    Ok(())
}

/// A `quern` for which `dir` lies on a medium that cannot be written.
fn quern_that_cannot_write(files: &World, flags: &str, dir: &Path) -> Result<PathBuf> {
    let script = files.path("quern-that-cannot-write");
    let text = format!(
        "#!/bin/sh\n\
         exec unshare {flags} sh -c 'mount --bind \"$0\" \"$0\" &&\n\
         mount -o remount,bind,ro \"$0\" && exec {QUERN} \"$@\"' {} \"$@\"\n",
        dir.display()
    );
    std::fs::write(&script, text)?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

/// Every file below, and what is in it.
fn contents(dir: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            all.extend(contents(&path)?);
        } else {
            all.insert(path.clone(), std::fs::read(&path)?);
        }
    }
    Ok(all)
}

/// It does not start, says why, and all is as it was; looking at the data works.
#[test]
fn a_disk_that_cannot_be_written_is_refused_and_can_be_looked_at() -> Result<()> {
    let Some(flags) = unshare_flags() else {
        eprintln!("SKIP read-only disk: needs root, or user namespaces, to mount one");
        return Ok(());
    };
    let (world, mut node) = world_with_node(&[])?;
    let namesrv = node.namesrv.clone();
    world.ok(&["topic", "create", "t", "--namesrv", &namesrv])?;
    world.ok(&["produce", "t", "written before", "--namesrv", &namesrv])?;
    // As a crash leaves it: so that a start would have most to write.
    node.kill()?;
    let before = contents(node.data())?;
    let script = quern_that_cannot_write(&world, flags, node.data())?;
    let reader = World::new(script.to_str().context("a plain path")?)?;
    let data = node.data().to_string_lossy().into_owned();
    let start = [
        "start",
        "--data",
        &data,
        "--listen",
        &node.broker,
        "--namesrv-listen",
        &namesrv,
    ];
    reader.fails(&start, 5, "Q-4006")?;
    let exported = reader.ok(&["store", "export", &data, "--topic", "t"])?;
    ensure!(exported.contains("written before"), "{exported}");
    ensure!(contents(node.data())? == before, "something was changed");
    node.start(&world, &[])?;
    let consumed = world.ok(&["consume", "t", "--namesrv", &namesrv])?;
    assert_eq!(consumed, "written before\n");
    Ok(())
}

/// Producers are told as soon as a new file is needed; what is in open files is served all the same.
#[test]
fn a_directory_taken_away_is_told_and_what_was_read_stays_readable() -> Result<()> {
    let (world, mut node) = world_with_node(&[])?;
    let at = ["--namesrv", node.namesrv.as_str()];
    let quern = |args: &[&str]| world.ok(&[args, &at].concat());
    quern(&["topic", "create", "t", "--queues", "1"])?;
    quern(&["produce", "t", "still here"])?;
    std::fs::rename(node.data(), world.path("elsewhere"))?;
    std::fs::remove_dir_all(world.path("elsewhere"))?;
    let body = world.path("body").to_string_lossy().into_owned();
    std::fs::write(&body, "x".repeat(BODY))?;
    let produce = ["produce", "t", "--file", &body, at[0], at[1]];
    // The segment that is open, and the one made ahead.
    let refused = (0..40).find_map(|_| match world.run(&produce) {
        Ok(output) if output.status.success() => None,
        other => Some(other),
    });
    let refused = refused.context("forty messages of 1 MB fit into no file")??;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(said.contains("Q-4002"), "{said}");
    let first = quern(&["consume", "t", "-n", "1"])?;
    assert_eq!(first, "still here\n");
    // The end is not clean, and says so.
    let code = node.stop()?;
    ensure!(code != Some(0), "{code:?}");
    Ok(())
}
