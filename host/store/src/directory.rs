//! The data directory: is it ours, is it free, and what is its log called?
//!
//! `FORMAT` is text, two lines: `quern store format 1` and `log` with 32 hexadecimal digits. It is
//! the first file written, so a directory that has none and is not empty is not ours, unless there is a
//! commit log in it: that is enough to make all else anew.

use std::io;
use std::path::Path;

use crate::error::OpenError;
use crate::fs::{self, Fs, Lock};
use crate::segment::{FORMAT, LogId, SEGMENT_HEADER, SegmentHeader};

const FORMAT_FILE: &str = "FORMAT";
const LOCK_FILE: &str = "lock";
const FIRST_LINE: &str = "quern store format ";

/// Makes or enters a data directory; it is ours alone while the lock is held.
pub(crate) fn enter(fs: &dyn Fs, dir: &Path) -> Result<(Lock, LogId), OpenError> {
    let unusable = |source| OpenError::Unusable {
        path: dir.to_owned(),
        source,
    };
    fs.create_dir(dir).map_err(unusable)?;
    // Before anything is written into a directory that may not be ours to write to.
    if read_format(fs, dir)?.is_none() && log_inside(fs, dir).is_none() {
        refuse_foreign(fs, dir)?;
    }
    let lock = match fs.lock(&dir.join(LOCK_FILE)).map_err(unusable)? {
        Ok(lock) => lock,
        Err(pid) => {
            return Err(locked(dir, pid));
        }
    };
    let log = match read_format(fs, dir)? {
        Some(log) => log,
        None => {
            let log = log_inside(fs, dir).unwrap_or_else(new_log_id);
            let text = format!("{FIRST_LINE}{FORMAT}\nlog {}\n", hex(&log));
            fs::write_whole(fs, dir, FORMAT_FILE, text.as_bytes()).map_err(unusable)?;
            log
        }
    };
    let log_dir = dir.join("commitlog");
    fs.create_dir(&log_dir).map_err(unusable)?;
    // A process that was killed may have left names that no crash of the machine would keep; from
    // here on they are relied upon.
    for names in [dir, &log_dir] {
        fs.sync_dir(names).map_err(unusable)?;
    }
    Ok((lock, log))
}

/// Looks into a data directory without changing it; the lock keeps it as it is meanwhile.
pub(crate) fn look(fs: &dyn Fs, dir: &Path) -> Result<(Option<Lock>, LogId), OpenError> {
    let unusable = |source| OpenError::Unusable {
        path: dir.to_owned(),
        source,
    };
    fs.list(dir).map_err(unusable)?;
    let Some(log) = read_format(fs, dir)? else {
        return Err(OpenError::NotData {
            dir: dir.to_owned(),
        });
    };
    match fs.lock_to_read(&dir.join(LOCK_FILE)).map_err(unusable)? {
        Ok(lock) => Ok((lock, log)),
        Err(pid) => Err(locked(dir, pid)),
    }
}

/// Keeps everybody else out of a data directory that is there.
pub(crate) fn look_alone(fs: &dyn Fs, dir: &Path) -> Result<Lock, OpenError> {
    let unusable = |source| OpenError::Unusable {
        path: dir.to_owned(),
        source,
    };
    let taken = fs.lock(&dir.join(LOCK_FILE)).map_err(unusable)?;
    taken.map_err(|pid| locked(dir, pid))
}

fn locked(dir: &Path, pid: String) -> OpenError {
    let pid = if pid.is_empty() {
        "unknown".to_owned()
    } else {
        pid
    };
    OpenError::Locked {
        dir: dir.to_owned(),
        pid,
    }
}

/// The log whose segments lie in a directory without a FORMAT file.
fn log_inside(fs: &dyn Fs, dir: &Path) -> Option<LogId> {
    let log_dir = dir.join("commitlog");
    let names = fs.list(&log_dir).ok()?;
    let segment = names.iter().find(|name| name.ends_with(".seg"))?;
    let mut bytes = vec![0; SEGMENT_HEADER as usize];
    let file = fs.open_to_read(&log_dir.join(segment)).ok()?;
    let read = file.read_at(&mut bytes, 0).ok()?;
    Some(SegmentHeader::decode(&bytes[..read]).ok()?.log)
}

/// For a directory without a FORMAT file.
fn refuse_foreign(fs: &dyn Fs, dir: &Path) -> Result<(), OpenError> {
    let names = fs.list(dir).map_err(|source| OpenError::Unusable {
        path: dir.to_owned(),
        source,
    })?;
    // What a first start leaves behind that was stopped before it wrote FORMAT.
    let ours = |name: &&String| *name != LOCK_FILE && **name != format!("{FORMAT_FILE}.new");
    match names.iter().find(ours) {
        None => Ok(()),
        Some(found) => Err(OpenError::Foreign {
            dir: dir.to_owned(),
            found: found.clone(),
        }),
    }
}

fn read_format(fs: &dyn Fs, dir: &Path) -> Result<Option<LogId>, OpenError> {
    let read = || -> io::Result<Vec<u8>> {
        let file = fs.open_to_read(&dir.join(FORMAT_FILE))?;
        fs::read_all(&*file)
    };
    let bytes = match read() {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(OpenError::Unusable {
                path: dir.join(FORMAT_FILE),
                source,
            });
        }
    };
    let unknown = |found: &str| OpenError::Format {
        dir: dir.to_owned(),
        found: found.to_owned(),
        ours: FORMAT,
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let Some(number) = first.strip_prefix(FIRST_LINE) else {
        return Err(unknown("that does not say which it is"));
    };
    if number != FORMAT.to_string() {
        return Err(unknown(number));
    }
    let log = lines
        .next()
        .and_then(|line| line.strip_prefix("log "))
        .and_then(unhex);
    log.map(Some)
        .ok_or_else(|| unknown(&format!("{FORMAT}, yet its FORMAT file is damaged")))
}

fn new_log_id() -> LogId {
    fastrand::u128(..).to_le_bytes()
}

fn hex(id: &LogId) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<LogId> {
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    let mut id = [0; 16];
    for (index, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[index * 2..index * 2 + 2], 16).ok()?;
    }
    Some(id)
}
