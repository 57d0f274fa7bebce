//! A file system that becomes read-only under a node that runs. No administrator can do that, for files are open for
//! writing; the kernel does it after an error of the file system itself, and ext4 has a file to ask for one.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use quern_harness::{Node, World, said, wait_until};

use crate::QUERN;

const IMAGE: u64 = 96 * 1024 * 1024;
const SENT: usize = 20;

/// A file with an ext4, and where it is mounted for a node.
struct Disk {
    image: PathBuf,
    mounted: PathBuf,
}

fn tool(name: &str, args: &[&str], path: &Path) -> Result<Output> {
    let output = Command::new(name).args(args).arg(path).output();
    output.with_context(|| format!("{name} {args:?}"))
}

impl Disk {
    fn new(files: &World) -> Result<Self> {
        let disk = Self {
            image: files.path("image"),
            mounted: files.path("disk"),
        };
        std::fs::create_dir(&disk.mounted)?;
        std::fs::File::create(&disk.image)?.set_len(IMAGE)?;
        let made = tool("mkfs.ext4", &["-q", "-F"], &disk.image)?;
        ensure!(made.status.success(), "{}", said(&made));
        Ok(disk)
    }

    /// Runs a command for which it is mounted.
    fn mounting(&self, command: &str) -> String {
        let (image, mounted) = (self.image.display(), self.mounted.display());
        format!(
            "unshare -m sh -c 'mount -o loop,errors=remount-ro {image} {mounted} && exec {command}'"
        )
    }

    /// Why it cannot be done here.
    fn is_missing() -> Option<&'static str> {
        let files = World::new(QUERN).ok()?;
        let Ok(disk) = Self::new(&files) else {
            return Some("needs mkfs.ext4");
        };
        // The file only root may write, of a device only root may have.
        let asks = format!(
            "sh -c \"test -w /sys/fs/ext4/\\$(basename \\$(findmnt -no SOURCE {}))/trigger_fs_error\"",
            disk.mounted.display()
        );
        let tried = tool("sh", &["-c", &disk.mounting(&asks)], Path::new(""));
        let is_there = tried.is_ok_and(|it| it.status.success());
        (!is_there).then_some("needs root, a loop device and ext4")
    }

    /// A `quern` whose `start` finds it mounted.
    fn quern(&self, files: &World) -> Result<PathBuf> {
        let script = files.path("quern-on-a-disk");
        let start = self.mounting(&format!("{QUERN} \"$@\""));
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = start ] || exec {QUERN} \"$@\"\nexec {start} sh \"$@\"\n"
        );
        std::fs::write(&script, text)?;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
        Ok(script)
    }

    /// The line about it in what a process says of its mounts.
    fn mount(&self, pid: u32) -> Result<String> {
        let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
        let place = format!(" {} ", self.mounted.display());
        let mut lines = mounts.lines().filter(|it| it.contains(&place));
        Ok(lines.next().context("it is mounted")?.to_owned())
    }

    /// The kernel is told of an error, and lets nobody write any more.
    fn becomes_read_only(&self, pid: u32) -> Result<()> {
        let line = self.mount(pid)?;
        let device = line.split(" /dev/").nth(1).context("it has a device")?;
        let device = device.split(' ').next().context("with a name")?;
        let trigger = format!("/sys/fs/ext4/{device}/trigger_fs_error");
        std::fs::write(trigger, "a test of a broker")?;
        wait_until("the file system to be read-only", || {
            let line = self.mount(pid)?;
            Ok(line.contains("emergency_ro") || line.contains(" ro,"))
        })
    }

    /// As whoever mends a machine does, once nobody has it mounted.
    fn mend(&self) -> Result<()> {
        wait_until("the loop device to be gone", || {
            let held = tool("losetup", &["-j"], &self.image)?;
            Ok(held.stdout.is_empty())
        })?;
        let mended = tool("e2fsck", &["-fy"], &self.image)?;
        // Errors that were corrected are 1; the mark alone is one.
        ensure!(mended.status.code() <= Some(1), "{}", said(&mended));
        Ok(())
    }
}

/// Producers are told with a code, consumers go on, and a start on the mended disk has all that was acknowledged.
#[test]
fn a_disk_that_becomes_read_only_is_told_and_what_was_acknowledged_stays() -> Result<()> {
    if let Some(why) = Disk::is_missing() {
        eprintln!("SKIP read-only remount: {why}");
        return Ok(());
    }
    let files = World::new(QUERN)?;
    let disk = Disk::new(&files)?;
    let script = disk.quern(&files)?;
    let world = World::new(script.to_str().context("a plain path")?)?;
    let mut node = Node::at(disk.mounted.join("data"))?;
    node.start(&world, &[])?;
    let namesrv = node.namesrv.clone();
    let at = ["--namesrv", namesrv.as_str()];
    let quern = |args: &[&str]| world.ok(&[args, &at].concat());
    quern(&["topic", "create", "t", "--queues", "1"])?;
    let mut sent = String::new();
    for n in 0..SENT {
        let body = format!("sent {n}");
        quern(&["produce", "t", &body])?;
        sent += &(body + "\n");
    }

    disk.becomes_read_only(node.pid().context("it runs")?)?;
    for _ in 0..2 {
        world.fails(&["produce", "t", "too late", at[0], at[1]], 1, "Q-4002")?;
        assert_eq!(quern(&["consume", "t"])?, sent);
    }
    ensure!(node.said().contains("Q-4002"), "{}", node.said());
    let code = node.stop()?;
    ensure!(code != Some(0), "the end is not clean: {code:?}");

    disk.mend()?;
    node.start(&world, &[])?;
    assert_eq!(quern(&["consume", "t"])?, sent);
    quern(&["produce", "t", "sent again"])?;
    assert_eq!(quern(&["consume", "t"])?, sent + "sent again\n");
    assert_eq!(node.stop()?, Some(0));
    Ok(())
}
