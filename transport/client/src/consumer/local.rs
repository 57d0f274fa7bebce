//! Offsets in a file of this machine, for consumers that have every queue to themselves.
//!
//! A text: `quern offsets 1`, then a line `TOPIC BROKER QUEUE OFFSET` for each queue. It is replaced as a
//! whole, so a crash leaves the old one or the new one, and one process at a time uses it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use quern_protocol::{BrokerName, Code, QueueId, QueueOffset, TopicName};

use super::progress::Due;
use crate::error::{Error, Result};
use crate::routes::MessageQueue;

const HEADING: &str = "quern offsets 1";

type Offsets = BTreeMap<MessageQueue, QueueOffset>;

#[derive(Debug)]
pub(super) struct LocalOffsets {
    path: PathBuf,
    offsets: Arc<Mutex<Offsets>>,
    /// Held for as long as it is open.
    _lock: File,
}

const POISONED: &str = "no code that can panic runs under the offsets lock";

impl LocalOffsets {
    /// Opens the file, which need not be there yet. Blocks.
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        let unusable = |why: String| {
            let text = format!("the file of offsets {}: {why}", path.display());
            Error::new(Code::BAD_CONFIG, text)
        };
        if let Some(dir) = path.parent().filter(|it| !it.as_os_str().is_empty()) {
            fs::create_dir_all(dir).map_err(|error| unusable(error.to_string()))?;
        }
        let lock = File::create(beside(&path, "lock"));
        let lock = lock.map_err(|error| unusable(error.to_string()))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => unusable("another consumer uses it".to_owned()),
            TryLockError::Error(error) => unusable(error.to_string()),
        })?;
        let offsets = match fs::read_to_string(&path) {
            Ok(text) => parse(&text).map_err(unusable)?,
            Err(error) if error.kind() == ErrorKind::NotFound => Offsets::new(),
            Err(error) => return Err(unusable(error.to_string())),
        };
        Ok(Self {
            offsets: Arc::new(Mutex::new(offsets)),
            _lock: lock,
            path,
        })
    }

    pub(super) fn of(&self, queue: &MessageQueue) -> Option<QueueOffset> {
        self.offsets.lock().expect(POISONED).get(queue).copied()
    }

    /// On the disk when this returns.
    pub(super) async fn save(&self, due: &[Due]) -> Result<()> {
        let (path, offsets) = (self.path.clone(), Arc::clone(&self.offsets));
        let news: Vec<_> = due.iter().map(|it| (it.queue.clone(), it.offset)).collect();
        let save = move || {
            // Held while it is written: the last to write has all.
            let mut offsets = offsets.lock().expect(POISONED);
            offsets.extend(news);
            write(&path, &offsets)
        };
        let saved = tokio::task::spawn_blocking(save).await;
        let saved = saved.unwrap_or_else(|_| Err(io::Error::other("writing it broke off")));
        saved.map_err(|error| {
            let text = format!("the file of offsets {}: {error}", self.path.display());
            Error::new(Code::INTERNAL, text)
        })
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

fn write(path: &Path, offsets: &Offsets) -> io::Result<()> {
    let mut text = format!("{HEADING}\n");
    for (queue, offset) in offsets {
        let _ = writeln!(
            text,
            "{} {} {} {offset}",
            queue.topic, queue.broker, queue.queue
        );
    }
    let new = beside(path, "new");
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let dir = path.parent().filter(|it| !it.as_os_str().is_empty());
    File::open(dir.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

/// The reason when it is no such text.
fn parse(text: &str) -> std::result::Result<Offsets, String> {
    let mut lines = text.lines().zip(1..);
    match lines.next() {
        Some((HEADING, _)) => {}
        _ => return Err(format!("it does not begin with {HEADING:?}")),
    }
    let line = |(line, number): (&str, u32)| {
        let parsed = line_of(line);
        parsed.ok_or_else(|| format!("line {number} is no TOPIC BROKER QUEUE OFFSET: {line:?}"))
    };
    lines.map(line).collect()
}

fn line_of(line: &str) -> Option<(MessageQueue, QueueOffset)> {
    let [topic, broker, queue, offset] = line.split(' ').collect::<Vec<_>>().try_into().ok()?;
    let queue = MessageQueue {
        topic: TopicName::new(topic).ok()?,
        broker: BrokerName::new(broker).ok()?,
        queue: QueueId(queue.parse().ok()?),
    };
    Some((queue, QueueOffset(offset.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_read_again_and_anything_else_is_refused() {
        let dir = std::env::temp_dir().join(format!("quern-offsets-{}", std::process::id()));
        let path = dir.join("g.offsets");
        let queue = MessageQueue {
            topic: TopicName::new("t").unwrap(),
            broker: BrokerName::new("broker-a").unwrap(),
            queue: QueueId(3),
        };
        let open = LocalOffsets::open(path.clone()).unwrap();
        assert_eq!(open.of(&queue), None);
        let twice = LocalOffsets::open(path.clone()).unwrap_err();
        assert!(twice.message().contains("another consumer"), "{twice}");
        let offsets = Offsets::from([(queue.clone(), QueueOffset(7))]);
        write(&path, &offsets).unwrap();
        drop(open);
        let open = LocalOffsets::open(path.clone()).unwrap();
        assert_eq!(open.of(&queue), Some(QueueOffset(7)));
        drop(open);
        for (bad, why) in [
            ("", "does not begin"),
            ("quern offsets 2\n", "does not begin"),
            ("quern offsets 1\nt broker-a 3\n", "line 2"),
            ("quern offsets 1\nt broker-a 3 x\n", "line 2"),
        ] {
            fs::write(&path, bad).unwrap();
            let error = LocalOffsets::open(path.clone()).unwrap_err();
            assert!(error.message().contains(why), "{error}");
        }
        fs::remove_dir_all(dir).unwrap();
    }
}
