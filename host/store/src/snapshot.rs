//! What the log adds up to at one position: the observer's state, where queues end, what producers have
//! sent. It is kept in two places.
//!
//! In the log, as records of kind 20, so that segments whose state it holds can go and `commitlog/`
//! alone is enough. A record's body is a version byte and a [`Chunk`] in postcard; a snapshot is complete
//! with its last chunk, and counts only then.
//!
//! In the file `state`, beside what is known of the log and of the queue log at that position, so that a
//! start need not read the log from its beginning. Replaced as a whole; never evidence. Little-endian.
//!
//! ```text
//! state, 72 B + items; crc of 0..8 and 12..end
//!  0 u8[8] "QUERNSTA"   8 u32 crc   12 u32 version = 1   16 u8[16] log uuid
//! 32 u64 as_of          40 u64 replay_from, a group begins there
//! 48 u64 end of the queue log   56 u32 crc of the group before replay_from   60 u32 zero
//! 64 u64 head, the log began there
//! 72 items in postcard
//! ```

use std::collections::HashMap;
use std::io;
use std::path::Path;

use quern_protocol::block::crc_around;
use quern_protocol::{LogPosition, QueueId, QueueOffset, RecordKind, TopicId};
use serde::{Deserialize, Serialize};

use crate::consume_queue::{Entry, Key};
use crate::dispatch::StateRecord;
use crate::fs::{self, Fs};
use crate::le::{id_at, u32_at, u64_at};
use crate::producers::Sent;
use crate::segment::LogId;
use crate::wait_list::Waiting;

const MAGIC: &[u8; 8] = b"QUERNSTA";
const VERSION: u32 = 1;
const HEADER: usize = 72;
const NAME: &str = "state";
/// Of the body of a snapshot record.
const CHUNK_VERSION: u8 = 1;

/// One thing that a snapshot says. Kinds are only added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Item {
    /// Kind and body of a state record.
    State(u8, Vec<u8>),
    /// A queue: its first message that is there, and where its next one goes.
    Queue(TopicId, QueueId, u64, u64),
    Producer(Sent),
    /// Only in the file: of every timer the log has the record.
    Timer(Waiting),
    /// The same of one that was appended again, there.
    Carried(Waiting, LogPosition),
    /// The same of messages whose transaction's outcome is not known, each with the place of its record.
    Half(Waiting, LogPosition),
    /// Only in the file, too: a message whose copy stands there, its size, its tag's code.
    Kept(TopicId, QueueId, QueueOffset, LogPosition, u32, i32),
}

impl Item {
    /// A copy stands for this message.
    pub(crate) fn kept((key, it): (Key, Entry)) -> Self {
        Self::Kept(key.0, key.1, it.offset, it.position, it.size, it.tag_code)
    }
}

/// Part of a snapshot in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chunk {
    /// The snapshot is true of everything before this position.
    pub(crate) as_of: u64,
    pub(crate) index: u32,
    pub(crate) is_last: bool,
    pub(crate) items: Vec<Item>,
}

const INFALLIBLE: &str = "snapshots hold only bytes, numbers and sequences";

/// Bodies of the records that bring a snapshot to the log, each of about `most` bytes.
pub(crate) fn chunks(as_of: u64, items: &[Item], most: usize) -> Vec<Vec<u8>> {
    let mut parts: Vec<Vec<Item>> = vec![Vec::new()];
    let mut bytes = 0;
    for item in items {
        let size = postcard::experimental::serialized_size(item).expect(INFALLIBLE);
        if bytes > 0 && bytes + size > most {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(part) = parts.last_mut() {
            part.push(item.clone());
        }
    }
    let last = parts.len() - 1;
    let encode = |(index, items)| {
        let chunk = Chunk {
            as_of,
            index: index as u32,
            is_last: index == last,
            items,
        };
        postcard::to_extend(&chunk, vec![CHUNK_VERSION]).expect(INFALLIBLE)
    };
    parts.into_iter().enumerate().map(encode).collect()
}

/// State records that a snapshot record's body has.
pub(crate) fn state_of(body: &[u8]) -> Vec<(RecordKind, Vec<u8>)> {
    let items = decode(body).map_or_else(Vec::new, |chunk| chunk.items);
    let state = items.into_iter().filter_map(|item| match item {
        Item::State(kind, body) => Some((RecordKind::from_number(kind)?, body)),
        Item::Queue(..)
        | Item::Producer(_)
        | Item::Timer(_)
        | Item::Carried(..)
        | Item::Half(..)
        | Item::Kept(..) => None,
    });
    state.collect()
}

/// `None` for a body of a later version, or none at all.
fn decode(body: &[u8]) -> Option<Chunk> {
    match body.split_first() {
        Some((&CHUNK_VERSION, rest)) => postcard::from_bytes(rest).ok(),
        _ => None,
    }
}

/// Puts the chunks of the log's snapshots together, in log order.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    as_of: u64,
    chunks: u32,
    items: Vec<Item>,
}

impl Assembly {
    /// A snapshot that is complete with this chunk. One that begins anew gives up what came before; a
    /// body that does not decode is none of ours.
    pub(crate) fn add(&mut self, body: &[u8]) -> Option<(u64, Vec<Item>)> {
        let chunk = decode(body)?;
        if chunk.index == 0 {
            *self = Self {
                as_of: chunk.as_of,
                ..Self::default()
            };
        } else if chunk.index != self.chunks || chunk.as_of != self.as_of {
            return None;
        }
        self.chunks += 1;
        self.items.extend(chunk.items);
        chunk
            .is_last
            .then(|| (self.as_of, std::mem::take(&mut self.items)))
    }
}

/// What a snapshot says, sorted.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) state: Vec<StateRecord>,
    pub(crate) queues: HashMap<Key, (u64, u64)>,
    pub(crate) producers: Vec<Sent>,
    /// The kind of what waits, and the place of its record.
    pub(crate) waiting: Vec<(RecordKind, Waiting, LogPosition)>,
    pub(crate) kept: Vec<(Key, Entry)>,
}

impl Contents {
    /// The error names a state record of a later format.
    pub(crate) fn new(items: Vec<Item>) -> Result<Self, u8> {
        let mut this = Self::default();
        for item in items {
            match item {
                Item::State(kind, body) => {
                    let kind = RecordKind::from_number(kind).ok_or(kind)?;
                    this.state.push(StateRecord { kind, body });
                }
                Item::Queue(topic, queue, min, next) => {
                    this.queues.insert((topic, queue), (min, next));
                }
                Item::Producer(sent) => this.producers.push(sent),
                Item::Timer(timer) => {
                    this.waiting
                        .push((RecordKind::Timer, timer, timer.position));
                }
                Item::Carried(timer, at) => this.waiting.push((RecordKind::Timer, timer, at)),
                Item::Half(half, at) => this.waiting.push((RecordKind::Half, half, at)),
                Item::Kept(topic, queue, offset, position, size, tag_code) => {
                    let entry = Entry {
                        offset,
                        position,
                        size,
                        tag_code,
                    };
                    this.kept.push(((topic, queue), entry));
                }
            }
        }
        Ok(this)
    }
}

/// The file `state`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StateFile {
    pub(crate) as_of: u64,
    /// Where the log began.
    pub(crate) head: u64,
    /// Behind this, some queue entries are not in the queue log.
    pub(crate) replay_from: u64,
    pub(crate) previous_crc: u32,
    pub(crate) queue_log_end: u64,
    pub(crate) items: Vec<Item>,
}

impl StateFile {
    fn encode(&self, log: &LogId) -> Vec<u8> {
        let mut out = vec![0; HEADER];
        out[0..8].copy_from_slice(MAGIC);
        out[12..16].copy_from_slice(&VERSION.to_le_bytes());
        out[16..32].copy_from_slice(log);
        out[32..40].copy_from_slice(&self.as_of.to_le_bytes());
        out[40..48].copy_from_slice(&self.replay_from.to_le_bytes());
        out[48..56].copy_from_slice(&self.queue_log_end.to_le_bytes());
        out[64..72].copy_from_slice(&self.head.to_le_bytes());
        out[56..60].copy_from_slice(&self.previous_crc.to_le_bytes());
        let mut out = postcard::to_extend(&self.items, out).expect(INFALLIBLE);
        let crc = crc_around(&out, 8..12);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// `None` for whatever is not a whole state file of this log.
    fn decode(bytes: &[u8], log: &LogId) -> Option<Self> {
        let is_ours = bytes.len() >= HEADER
            && &bytes[0..8] == MAGIC
            && u32_at(bytes, 8) == crc_around(bytes, 8..12)
            && u32_at(bytes, 12) == VERSION
            && id_at(bytes, 16) == *log;
        if !is_ours {
            return None;
        }
        Some(Self {
            as_of: u64_at(bytes, 32),
            head: u64_at(bytes, 64),
            replay_from: u64_at(bytes, 40),
            previous_crc: u32_at(bytes, 56),
            queue_log_end: u64_at(bytes, 48),
            items: postcard::from_bytes(&bytes[HEADER..]).ok()?,
        })
    }

    /// `None` when there is none that can be used.
    pub(crate) fn read(fs: &dyn Fs, dir: &Path, log: &LogId) -> io::Result<Option<Self>> {
        match fs.open_to_read(&dir.join(NAME)) {
            Ok(file) => Ok(Self::decode(&fs::read_all(&*file)?, log)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What is made anew must not be taken for what this knows.
    pub(crate) fn remove(fs: &dyn Fs, dir: &Path) -> io::Result<()> {
        match fs.remove(&dir.join(NAME)) {
            Ok(()) => fs.sync_dir(dir),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Durable when this returns; until then the one before is there.
    pub(crate) fn write(&self, fs: &dyn Fs, dir: &Path, log: &LogId) -> io::Result<u64> {
        let bytes = self.encode(log);
        fs::write_whole(fs, dir, NAME, &bytes)?;
        Ok(bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;

    fn items(count: u32) -> Vec<Item> {
        let item = |n: u32| match n % 2 {
            0 => Item::State(32, vec![n as u8; 100_000]),
            _ => Item::Queue(TopicId(n), QueueId(0), 0, u64::from(n)),
        };
        (0..count).map(item).collect()
    }

    #[test]
    fn a_snapshot_comes_back_from_its_chunks_and_not_from_some_of_them() {
        let items = items(20);
        let bodies = chunks(77, &items, limits::SNAPSHOT_CHUNK);
        assert!(bodies.len() > 2);
        let mut assembly = Assembly::default();
        let mut whole = None;
        // One that was begun and given up, then the whole.
        for body in bodies[..2].iter().chain(&bodies) {
            whole = assembly.add(body);
        }
        assert_eq!(whole, Some((77, items.clone())));
        let mut assembly = Assembly::default();
        let some = bodies.iter().enumerate().filter(|(index, _)| *index != 1);
        assert!(
            some.map(|(_, body)| assembly.add(body))
                .all(|it| it.is_none())
        );
        assert_eq!(chunks(1, &[], 100).len(), 1);
    }

    #[test]
    fn a_state_file_reads_back_and_no_damage_passes() {
        let log = [3; 16];
        let file = StateFile {
            as_of: 9_000,
            head: 2_048,
            replay_from: 4_096,
            previous_crc: 5,
            queue_log_end: 128,
            items: vec![Item::Queue(TopicId(1), QueueId(2), 0, 3)],
        };
        let bytes = file.encode(&log);
        assert_eq!(StateFile::decode(&bytes, &log), Some(file));
        assert_eq!(StateFile::decode(&bytes, &[4; 16]), None);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(StateFile::decode(&damaged, &log), None, "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert_eq!(StateFile::decode(&bytes[..len], &log), None, "cut at {len}");
        }
    }
}
