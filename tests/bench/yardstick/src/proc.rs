//! What processes spent, as the kernel tells it in `/proc`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Of some processes together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Usage {
    /// User and system time, that of children that were waited for included.
    pub(crate) cpu_us: f64,
    pub(crate) rss_bytes: u64,
    /// Of those, memory that is no file's: a mapped log is not counted.
    pub(crate) anonymous_bytes: u64,
    /// The most there ever was, files included.
    pub(crate) peak_bytes: u64,
    /// Bytes for which pages of files were made dirty.
    pub(crate) written_bytes: u64,
}

/// µs of one tick of the kernel's accounts.
fn tick_us() -> f64 {
    1e6 / rustix::param::clock_ticks_per_second() as f64
}

fn read(pid: u32, file: &str) -> Result<String> {
    let path = PathBuf::from(format!("/proc/{pid}/{file}"));
    std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

/// Of all these processes, summed up.
pub(crate) fn usage(pids: &[u32]) -> Result<Usage> {
    let mut sum = Usage::default();
    for &pid in pids {
        let one = parse(
            &read(pid, "stat")?,
            &read(pid, "status")?,
            &read(pid, "io")?,
            tick_us(),
        );
        let one = one.with_context(|| format!("the accounts of process {pid} make no sense"))?;
        sum.cpu_us += one.cpu_us;
        sum.rss_bytes += one.rss_bytes;
        sum.anonymous_bytes += one.anonymous_bytes;
        sum.peak_bytes += one.peak_bytes;
        sum.written_bytes += one.written_bytes;
    }
    Ok(sum)
}

fn parse(stat: &str, status: &str, io: &str, tick_us: f64) -> Option<Usage> {
    // The name, in parentheses, may have anything in it; times are fields 14 to 17.
    let (_, rest) = stat.rsplit_once(')')?;
    let times = rest.split_whitespace().skip(11).take(4);
    let ticks: Vec<u64> = times.map_while(|it| it.parse().ok()).collect();
    let kilobytes = |name: &str| Some(field(status, name)? * 1024);
    (ticks.len() == 4).then_some(())?;
    Some(Usage {
        cpu_us: ticks.iter().sum::<u64>() as f64 * tick_us,
        rss_bytes: kilobytes("VmRSS:")?,
        anonymous_bytes: kilobytes("RssAnon:")?,
        peak_bytes: kilobytes("VmHWM:")?,
        written_bytes: field(io, "write_bytes:")?,
    })
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Time all cores together have not been idle.
pub(crate) fn busy_us() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    let ticks = busy_ticks(&text).context("/proc/stat makes no sense")?;
    Ok(ticks as f64 * tick_us())
}

/// All but idle (4th) and waiting for a disk (5th); guests (9th and 10th) are in user already.
fn busy_ticks(stat: &str) -> Option<u64> {
    let all = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks = all.split_whitespace().take(8).enumerate();
    ticks
        .filter(|(at, _)| !matches!(at, 3 | 4))
        .map(|(_, it)| it.parse::<u64>().ok())
        .sum()
}

/// The processor, as a report names it.
pub(crate) fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find(|line| line.starts_with("model name"));
    let name = name.and_then(|line| line.split_once(": "));
    name.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned())
}

/// The kind of file system a directory is on.
pub(crate) fn file_system(dir: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounted(&mounts, dir).unwrap_or("unknown").to_owned()
}

/// That of the longest mount point above it.
fn mounted<'a>(mounts: &'a str, dir: &Path) -> Option<&'a str> {
    let all = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    let above = all.filter(|(point, _)| dir.starts_with(point));
    above
        .max_by_key(|(point, _)| point.len())
        .map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 200 0 0 30 12 5 3 20 0 9 0 100 1 2";
    const STATUS: &str =
        "Name:\ta\nVmHWM:\t   90 kB\nVmRSS:\t   80 kB\nRssAnon:\t   70 kB\nRssFile:\t 10 kB\n";
    const IO: &str = "rchar: 1\nwchar: 2\nwrite_bytes: 4096\ncancelled_write_bytes: 0\n";

    #[test]
    fn a_process_whose_name_has_parentheses() {
        let wanted = Usage {
            cpu_us: 500_000.0,
            rss_bytes: 80 * 1024,
            anonymous_bytes: 70 * 1024,
            peak_bytes: 90 * 1024,
            written_bytes: 4096,
        };
        assert_eq!(parse(STAT, STATUS, IO, 10_000.0), Some(wanted));
        assert_eq!(parse("7 (a) S 1", STATUS, IO, 1.0), None);
        assert_eq!(parse(STAT, "Name:\ta\n", IO, 1.0), None);
    }

    #[test]
    fn waiting_for_a_disk_is_not_busy() {
        let stat = "cpu  10 1 5 1000 500 2 3 4 7 8\ncpu0 1 1 1 1\n";
        assert_eq!(busy_ticks(stat), Some(10 + 1 + 5 + 2 + 3 + 4));
        assert_eq!(busy_ticks("intr 1"), None);
    }

    #[test]
    fn the_nearest_mount_counts() {
        let mounts = "a / ext4 rw 0 0\nb /data xfs rw 0 0\nc /dat tmpfs rw 0 0\n";
        assert_eq!(mounted(mounts, Path::new("/data/x")), Some("xfs"));
        assert_eq!(mounted(mounts, Path::new("/database")), Some("ext4"));
    }

    #[test]
    fn this_process_has_accounts() {
        let own = usage(&[std::process::id()]).expect("there is /proc");
        assert!(own.rss_bytes > 0 && own.peak_bytes >= own.anonymous_bytes);
        assert!(busy_us().is_ok_and(|it| it > 0.0));
    }
}
