//! Where things are: the cache of what was fetched and built, outside of the repository, and for each
//! turn a directory and ports nobody else has.

use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::work::Class;

/// The cache.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) cache: PathBuf,
    /// The `quern` binary to measure.
    pub(crate) quern: PathBuf,
}

/// Where one broker lives for one turn.
#[derive(Debug)]
pub(crate) struct Site<'a> {
    pub(crate) place: &'a Place,
    pub(crate) dir: PathBuf,
    pub(crate) class: Class,
    pub(crate) ports: Ports,
    /// The address of this machine at which its driver finds it.
    pub(crate) host: &'static str,
}

/// Where brokers are, but for those at the end of a path.
pub(crate) const LOOPBACK: &str = "127.0.0.1";

impl Site<'_> {
    pub(crate) fn at(&self, port: u16) -> String {
        format!("{}:{port}", self.host)
    }
}

/// Ports that were free just now, for UDP and TCP, on 127.0.0.1 as on all other addresses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) name_server: u16,
    pub(crate) broker: u16,
    pub(crate) more: u16,
}

impl Ports {
    pub(crate) fn find() -> Result<Self> {
        let mut held = Vec::new();
        let mut port = || {
            let found = free()?;
            held.push(found.1);
            Ok::<_, anyhow::Error>(found.0)
        };
        Ok(Self {
            name_server: port()?,
            broker: port()?,
            more: port()?,
        })
    }
}

/// Letters of a line of a log that is told.
const LINE: usize = 300;

type Held = (TcpListener, UdpSocket, TcpListener);

/// One whose second neighbour below is free too: RocketMQ takes it without being asked.
fn free() -> Result<(u16, Held)> {
    for _ in 0..100 {
        let tcp = TcpListener::bind(("127.0.0.1", 0)).context("looking for a free port")?;
        let port = tcp.local_addr()?.port();
        let udp = UdpSocket::bind(("127.0.0.1", port));
        let below = TcpListener::bind(("127.0.0.1", port - 2));
        if let (Ok(udp), Ok(below)) = (udp, below) {
            return Ok((port, (tcp, udp, below)));
        }
    }
    bail!("no port of 127.0.0.1 is free for both TCP and UDP")
}

impl Place {
    /// `$XDG_CACHE_HOME/quern-bench`, or `~/.cache/quern-bench`.
    pub(crate) fn usual_cache() -> Result<PathBuf> {
        let of = |name| {
            std::env::var_os(name)
                .filter(|it| !it.is_empty())
                .map(PathBuf::from)
        };
        let cache = of("XDG_CACHE_HOME").filter(|it| it.is_absolute());
        let cache = cache.or_else(|| of("HOME").map(|home| home.join(".cache")));
        let cache = cache.context("neither XDG_CACHE_HOME nor HOME is set: say --cache DIR")?;
        Ok(cache.join("quern-bench"))
    }

    /// Makes what a peer needs in its own directory of the cache, unless that has been done from the
    /// same sources: `source` is all that decides what comes out.
    pub(crate) fn once(
        &self,
        name: &str,
        source: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let dir = self.cache.join(name);
        let stamp = dir.join("made-from");
        if std::fs::read_to_string(&stamp).is_ok_and(|it| it == source) {
            return Ok(dir);
        }
        if dir.exists() {
            std::fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
        }
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        eprintln!("preparing {name} in {} …", dir.display());
        make(&dir)?;
        std::fs::write(&stamp, source)?;
        Ok(dir)
    }
}

/// A command of the toolchain; its output is told when it fails.
pub(crate) fn make(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("`{name}` cannot be run"))?;
    ensure!(
        output.status.success(),
        "`{name}` failed: {}",
        last_words(&format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ))
    );
    Ok(())
}

/// An error that names the tool unless it answers.
pub(crate) fn need(tool: &str, asked: &str) -> Result<()> {
    let answer = Command::new(tool).arg(asked).stdin(Stdio::null()).output();
    match answer {
        Ok(output) if output.status.success() => Ok(()),
        _ => bail!("needs `{tool}`, which is not there"),
    }
}

/// Removes a directory of this run; what is left of it is told.
pub(crate) fn remove(dir: &Path) {
    if let Err(error) = std::fs::remove_dir_all(dir)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        eprintln!("{} is left over: {error}", dir.display());
    }
}

/// What a line of a log says that tells why a process ended.
const COMPLAINTS: [&str; 10] = [
    "error",
    "exception",
    "fatal",
    "[ftl]",
    "panic",
    "in use",
    "cannot",
    "denied",
    "no space",
    "not found",
];

/// What a log complains of at its end, or what it ends with, on one line.
pub(crate) fn last_words(text: &str) -> String {
    let lines = text.lines().map(str::trim);
    // Where something was thrown comes after what it was.
    let lines: Vec<&str> = lines
        .filter(|it| !it.is_empty() && !it.starts_with("at ") && !it.starts_with("... "))
        .collect();
    let last = &lines[lines.len().saturating_sub(60)..];
    let is_complaint = |line: &str| {
        let line = line.to_lowercase();
        COMPLAINTS.iter().any(|it| line.contains(it))
    };
    let complaints: Vec<&str> = last.iter().copied().filter(|it| is_complaint(it)).collect();
    let (of, most) = if complaints.is_empty() {
        (last, 6)
    } else {
        (&complaints[..], 3)
    };
    let words = of[of.len().saturating_sub(most)..].iter();
    let words: Vec<String> = words.map(|it| it.chars().take(LINE).collect()).collect();
    words.join(" | ")
}

/// Bytes that are free on the disk of a directory.
fn room(dir: &Path) -> Result<u64> {
    let disk = rustix::fs::statvfs(dir)
        .with_context(|| format!("asking for room in {}", dir.display()))?;
    Ok(disk.f_bavail * disk.f_frsize)
}

/// An error when the disk has no room at all any more.
pub(crate) fn has_room(dir: &Path) -> Result<()> {
    ensure!(
        room(dir)? >> 20 > 0,
        "the disk of {} is full",
        dir.display()
    );
    Ok(())
}

/// An error when the disk has not so much room.
pub(crate) fn need_room(dir: &Path, bytes: u64) -> Result<()> {
    let free = room(dir)?;
    ensure!(
        free >= bytes,
        "{} has {} MiB free and a run needs {} MiB: say --cache DIR for another disk",
        dir.display(),
        free >> 20,
        bytes >> 20
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_three() {
        let ports = Ports::find().expect("there are free ports");
        assert_ne!(ports.name_server, ports.broker);
        assert_ne!(ports.broker, ports.more);
    }

    #[test]
    fn what_was_made_from_the_same_is_not_made_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = Place {
            cache: dir.path().to_owned(),
            quern: PathBuf::new(),
        };
        let mut made = 0;
        for source in ["a", "a", "b"] {
            let once = place.once("peer", source, |_| {
                made += 1;
                Ok(())
            });
            assert!(once.is_ok());
        }
        assert_eq!(made, 2);
        // What failed is tried again.
        assert!(place.once("peer", "c", |_| bail!("no")).is_err());
        let again = place.once("peer", "c", |_| {
            made += 1;
            Ok(())
        });
        assert!(again.is_ok() && made == 3);
    }

    #[test]
    fn missing_tools_and_full_disks_are_named() {
        let missing = need("no-such-tool", "--version").expect_err("it is not there");
        assert!(missing.to_string().contains("`no-such-tool`"));
        assert!(has_room(Path::new("/tmp")).is_ok());
        let full = need_room(Path::new("/"), u64::MAX).expect_err("no disk is that large");
        assert!(full.to_string().contains("MiB free"));
    }

    #[test]
    fn the_end_of_a_log() {
        assert_eq!(
            last_words("1\n2\n\n3\n4\n5\n 6\n7\n"),
            "2 | 3 | 4 | 5 | 6 | 7"
        );
        let thrown = "up\njava.lang.IllegalStateException: bind failed\n\tat a.b(C.java:1)\nCaused by: Address already in use\n\tat d\n\t... 7 more\nbye\n";
        assert_eq!(
            last_words(thrown),
            "java.lang.IllegalStateException: bind failed | Caused by: Address already in use"
        );
        assert_eq!(last_words(""), "");
    }
}
