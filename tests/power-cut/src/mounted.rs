//! Loop devices and mounted file systems, undone when dropped.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Runs a tool to its end; what it printed.
fn tool(name: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(name).args(args).output();
    let output = output.with_context(|| format!("{name} does not run"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("{name} {args:?}: {}", said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path of ours is text")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ext4,
    Xfs,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Ext4, Self::Xfs];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    /// XFS wants to be told that a copy of what is mounted may be mounted, too.
    fn mount_options(self) -> &'static [&'static str] {
        match self {
            Self::Ext4 => &["-t", "ext4"],
            Self::Xfs => &["-t", "xfs", "-o", "nouuid"],
        }
    }

    /// Makes it on a device.
    fn make(self, device: &str) -> Result<()> {
        match self {
            // All of it now: what is made lazily would be written at any time.
            Self::Ext4 => tool(
                "mkfs.ext4",
                &[
                    "-q",
                    "-F",
                    "-E",
                    "lazy_itable_init=0,lazy_journal_init=0,nodiscard",
                    device,
                ],
            ),
            Self::Xfs => tool("mkfs.xfs", &["-q", "-f", "-K", device]),
        }?;
        Ok(())
    }
}

/// A block device on a file.
#[derive(Debug)]
pub(crate) struct Loop(String);

impl Loop {
    pub(crate) fn on(file: &Path) -> Result<Self> {
        Ok(Self(tool("losetup", &["--find", "--show", text(file)?])?))
    }

    pub(crate) fn make(&self, kind: Kind) -> Result<()> {
        kind.make(&self.0)
    }

    pub(crate) fn mount(&self, kind: Kind, at: &Path) -> Result<Mounted> {
        std::fs::create_dir_all(at)?;
        tool(
            "mount",
            &[kind.mount_options(), &[&self.0, text(at)?]].concat(),
        )?;
        Ok(Mounted(at.to_owned()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if let Err(error) = tool("losetup", &["--detach", &self.0]) {
            eprintln!("left behind: {error:#}");
        }
    }
}

/// A mounted file system.
#[derive(Debug)]
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = text(&self.0).and_then(|path| tool("umount", &[path]));
        if let Err(error) = unmounted {
            eprintln!("left behind: {error:#}");
        }
    }
}

/// What this machine lacks for it; `None` when it has all.
pub(crate) fn lacking() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("root".to_owned());
    }
    if std::fs::File::open("/dev/fuse").is_err() {
        return Some("/dev/fuse".to_owned());
    }
    let tools = [
        ("losetup", "--version"),
        ("mount", "--version"),
        ("mkfs.ext4", "-V"),
        ("mkfs.xfs", "-V"),
    ];
    let lacks = |(name, version): &(&str, &str)| tool(name, &[version]).is_err();
    let missing = tools.iter().find(|it| lacks(it));
    missing.map(|(name, _)| (*name).to_owned())
}
