//! Where consume queues lie on disk: the blocks of all queues one after the other in common files, so
//! that a hundred thousand queues are not a hundred thousand files. Derived data: what is damaged here
//! is made anew from the commit log. Little-endian.
//!
//! ```text
//! consumequeue/00000000.blk …   64 MiB each; a block does not cross a border of 1 MiB
//! queue block, 24 B + entries, zeros to a multiple of 64; crc of 0..12 and 16..end of the entries
//!   0 u32 topic id  4 u32 queue id  8 u32 count, 1 to 203  12 u32 crc  16 u64 first offset
//!  24 entries, 20 B: u64 position · u32 size · u64 tag hash
//!
//! consumequeue/00000000.dir …   which blocks a full file holds, so that a start need not read it
//!   0 u8[8] "QUERNDIR"  8 u32 crc of 0..8 and 12..end  12 u32 blocks  16 u64 highest position
//!  24 blocks, 24 B: u32 topic id · u32 queue id · u64 first offset · u32 place / 64 · u32 count
//! ```
//!
//! A place (`at`) counts bytes through all files. The newest stay in memory, so that reading the head
//! of a queue touches no disk. The dispatcher appends; the keeper makes what is here durable.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use bytes::Bytes;
use quern_protocol::block::crc_around;
use quern_protocol::{QueueId, TopicId};

use crate::consume_queue::{Key, Packed};
use crate::fs::{self, File, Fs};
use crate::le::{u32_at, u64_at};
use crate::limits;

const FILE: u64 = 64 * 1024 * 1024;
const CHUNK: u64 = 1024 * 1024;
const HEAD: usize = 24;
const ENTRY: usize = 20;
const ALIGN: usize = 64;
/// Entries of a full block: 24 + 203 × 20 bytes are 4,084.
pub(crate) const BLOCK: usize = 203;
const DIR_MAGIC: &[u8; 8] = b"QUERNDIR";
const DIR_ENTRY: usize = 24;

/// A block, without its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) key: Key,
    pub(crate) first: u64,
    pub(crate) at: u64,
    pub(crate) count: u32,
}

#[derive(Debug)]
struct Active {
    /// Place of the chunk that is being filled.
    start: u64,
    chunk: Vec<u8>,
    /// How much of it is in the file.
    written: usize,
    blocks: Vec<Place>,
    highest: u64,
}

/// A full file whose directory is not yet written.
#[derive(Debug)]
struct Full {
    number: u64,
    blocks: Vec<Place>,
    highest: u64,
}

#[derive(Debug, Default)]
struct Files {
    open: BTreeMap<u64, Arc<dyn File>>,
    /// Highest position in each full file: below the log's head, the file may go.
    highest: BTreeMap<u64, u64>,
    recent: VecDeque<(u64, Bytes)>,
}

/// The block files of one log.
#[derive(Debug)]
pub(crate) struct QueueLog {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    active: Mutex<Active>,
    files: RwLock<Files>,
    full: Mutex<Vec<Full>>,
}

const POISONED: &str = "no code that can panic runs under a queue log's lock";

fn name(number: u64, kind: &str) -> String {
    format!("{number:08}.{kind}")
}

fn damaged(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn encode(key: Key, first: u64, entries: &[Packed], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&key.0.0.to_le_bytes());
    out.extend_from_slice(&key.1.0.to_le_bytes());
    out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&first.to_le_bytes());
    for entry in entries {
        out.extend_from_slice(&entry.position.to_le_bytes());
        out.extend_from_slice(&entry.size.to_le_bytes());
        out.extend_from_slice(&i64::from(entry.tag_code).to_le_bytes());
    }
    let crc = crc_around(&out[start..], 12..16);
    out[start + 12..start + 16].copy_from_slice(&crc.to_le_bytes());
    out.resize(start + block_len(entries.len()), 0);
}

fn block_len(count: usize) -> usize {
    (HEAD + count * ENTRY).next_multiple_of(ALIGN)
}

/// The block that `bytes` begin with.
fn decode(bytes: &[u8], at: u64) -> io::Result<(Place, Vec<Packed>)> {
    let cut = || damaged(format!("the queue block at {at} is cut short"));
    if bytes.len() < HEAD {
        return Err(cut());
    }
    let count = u32_at(bytes, 8) as usize;
    if count == 0 || count > BLOCK {
        return Err(damaged(format!("no queue block begins at {at}")));
    }
    let bytes = bytes.get(..HEAD + count * ENTRY).ok_or_else(cut)?;
    if u32_at(bytes, 12) != crc_around(bytes, 12..16) {
        return Err(damaged(format!(
            "the checksum of the queue block at {at} is wrong"
        )));
    }
    let place = Place {
        key: (TopicId(u32_at(bytes, 0)), QueueId(u32_at(bytes, 4))),
        first: u64_at(bytes, 16),
        at,
        count: count as u32,
    };
    let entries = bytes[HEAD..].chunks_exact(ENTRY).map(|entry| Packed {
        position: u64_at(entry, 0),
        size: u32_at(entry, 8),
        tag_code: u64_at(entry, 12) as i32,
    });
    Ok((place, entries.collect()))
}

impl Active {
    fn new(start: u64) -> Self {
        Self {
            start,
            chunk: Vec::with_capacity(CHUNK as usize),
            written: 0,
            blocks: Vec::new(),
            highest: 0,
        }
    }

    fn end(&self) -> u64 {
        self.start + self.chunk.len() as u64
    }
}

impl QueueLog {
    /// No blocks yet; what an earlier life has left is removed.
    pub(crate) fn empty(fs: Arc<dyn Fs>, dir: &Path) -> io::Result<Self> {
        fs.create_dir(dir)?;
        for old in fs.list(dir)? {
            fs.remove(&dir.join(old))?;
        }
        Ok(Self {
            fs,
            dir: dir.to_owned(),
            active: Mutex::new(Active::new(0)),
            files: RwLock::default(),
            full: Mutex::default(),
        })
    }

    /// What lies before `end`, and the log to go on with from there. Any error means that what is here
    /// cannot be used.
    pub(crate) fn load(fs: Arc<dyn Fs>, dir: &Path, end: u64) -> io::Result<(Self, Vec<Place>)> {
        let this = Self {
            fs,
            dir: dir.to_owned(),
            active: Mutex::new(Active::new(end / CHUNK * CHUNK)),
            files: RwLock::default(),
            full: Mutex::default(),
        };
        let mut places = Vec::new();
        let names = this.fs.list(dir)?;
        let mut numbers: Vec<u64> = names
            .iter()
            .filter_map(|name| name.strip_suffix(".blk")?.parse().ok())
            .collect();
        numbers.sort_unstable();
        let last = end / FILE;
        for number in numbers.iter().filter(|number| **number > last) {
            this.remove(*number)?;
        }
        numbers.retain(|number| *number <= last);
        let gap = numbers.windows(2).any(|pair| pair[0] + 1 != pair[1]);
        let complete = numbers.last() == Some(&last) || end.is_multiple_of(FILE);
        if gap || !complete {
            return Err(damaged("a file of queue blocks is missing".to_owned()));
        }
        for number in numbers {
            this.load_file(number, end, &mut places)?;
        }
        Ok((this, places))
    }

    fn load_file(&self, number: u64, end: u64, places: &mut Vec<Place>) -> io::Result<()> {
        let file = self.fs.open(&self.dir.join(name(number, "blk")))?;
        let is_full = (number + 1) * FILE <= end;
        let known = if is_full {
            self.read_directory(number).ok()
        } else {
            None
        };
        let (blocks, highest) = match known {
            Some(known) => known,
            None => scan(&*file, number, end.min((number + 1) * FILE))?,
        };
        places.extend_from_slice(&blocks);
        let mut files = self.files.write().expect(POISONED);
        files.open.insert(number, Arc::clone(&file));
        if is_full {
            files.highest.insert(number, highest);
            return Ok(());
        }
        drop(files);
        let mut active = self.active.lock().expect(POISONED);
        let mut chunk = vec![0; (end - active.start) as usize];
        if file.read_at(&mut chunk, active.start % FILE)? != chunk.len() {
            return Err(damaged("a file of queue blocks is cut short".to_owned()));
        }
        active.written = chunk.len();
        active.chunk = chunk;
        active.blocks = blocks;
        active.highest = highest;
        Ok(())
    }

    /// Appends a block; it can be read at once. After an error nothing has changed, and it can be tried
    /// again.
    pub(crate) fn append(&self, key: Key, first: u64, entries: &[Packed]) -> io::Result<u64> {
        let mut active = self.active.lock().expect(POISONED);
        if active.chunk.len() + block_len(entries.len()) > CHUNK as usize {
            self.next_chunk(&mut active)?;
        }
        let at = active.end();
        encode(key, first, entries, &mut active.chunk);
        let last = entries.last().map_or(0, |entry| entry.position);
        active.highest = active.highest.max(last);
        active.blocks.push(Place {
            key,
            first,
            at,
            count: entries.len() as u32,
        });
        Ok(at)
    }

    fn next_chunk(&self, active: &mut Active) -> io::Result<()> {
        // Zeros, so that nothing of an earlier life is taken for a block.
        active.chunk.resize(CHUNK as usize, 0);
        self.write(active)?;
        let next = active.start + CHUNK;
        let chunk = std::mem::replace(&mut active.chunk, Vec::with_capacity(CHUNK as usize));
        let mut files = self.files.write().expect(POISONED);
        files.recent.push_back((active.start, Bytes::from(chunk)));
        if files.recent.len() > limits::RECENT_QUEUE_CHUNKS {
            files.recent.pop_front();
        }
        if next.is_multiple_of(FILE) {
            let number = active.start / FILE;
            files.highest.insert(number, active.highest);
            self.full.lock().expect(POISONED).push(Full {
                number,
                blocks: std::mem::take(&mut active.blocks),
                highest: std::mem::take(&mut active.highest),
            });
        }
        active.start = next;
        active.written = 0;
        Ok(())
    }

    /// Brings the chunk to its file.
    fn write(&self, active: &mut Active) -> io::Result<()> {
        if active.written == active.chunk.len() {
            return Ok(());
        }
        let file = self.file(active.start / FILE, true)?;
        let at = active.start % FILE + active.written as u64;
        file.write_at(&active.chunk[active.written..], at)?;
        active.written = active.chunk.len();
        Ok(())
    }

    fn file(&self, number: u64, make: bool) -> io::Result<Arc<dyn File>> {
        if let Some(file) = self.files.read().expect(POISONED).open.get(&number) {
            return Ok(Arc::clone(file));
        }
        if !make {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        let file = self.fs.create(&self.dir.join(name(number, "blk")), 0)?;
        let mut files = self.files.write().expect(POISONED);
        files.open.insert(number, Arc::clone(&file));
        Ok(file)
    }

    /// A block's entries. May block.
    pub(crate) fn read(&self, place: Place) -> io::Result<Vec<Packed>> {
        if let Some(entries) = self.in_memory(place) {
            return entries;
        }
        let file = self.file(place.at / FILE, false)?;
        let mut bytes = vec![0; block_len(place.count as usize)];
        let read = file.read_at(&mut bytes, place.at % FILE)?;
        check(place, decode(&bytes[..read], place.at)?)
    }

    /// The same, if that takes no reading from disk.
    pub(crate) fn in_memory(&self, place: Place) -> Option<io::Result<Vec<Packed>>> {
        {
            let active = self.active.lock().expect(POISONED);
            if let Some(from) = place.at.checked_sub(active.start) {
                let bytes = active.chunk.get(from as usize..).unwrap_or_default();
                return Some(decode(bytes, place.at).and_then(|it| check(place, it)));
            }
        }
        let files = self.files.read().expect(POISONED);
        let after = files.recent.partition_point(|(at, _)| *at <= place.at);
        let (start, chunk) = files.recent.get(after.checked_sub(1)?)?;
        let bytes = chunk.get((place.at - start) as usize..)?;
        Some(decode(bytes, place.at).and_then(|it| check(place, it)))
    }

    /// Makes everything appended so far durable; returns where it ends.
    pub(crate) fn flush(&self) -> io::Result<u64> {
        let end = {
            let mut active = self.active.lock().expect(POISONED);
            self.write(&mut active)?;
            active.end()
        };
        let full = std::mem::take(&mut *self.full.lock().expect(POISONED));
        if let Err(error) = self.seal(&full) {
            self.full.lock().expect(POISONED).extend(full);
            return Err(error);
        }
        if !end.is_multiple_of(FILE) {
            self.file(end / FILE, false)?.sync_data()?;
        }
        self.fs.sync_dir(&self.dir)?;
        Ok(end)
    }

    fn seal(&self, full: &[Full]) -> io::Result<()> {
        for it in full {
            self.file(it.number, false)?.sync_data()?;
            let bytes = encode_directory(&it.blocks, it.highest);
            fs::write_whole(&*self.fs, &self.dir, &name(it.number, "dir"), &bytes)?;
        }
        Ok(())
    }

    fn read_directory(&self, number: u64) -> io::Result<(Vec<Place>, u64)> {
        let path = self.dir.join(name(number, "dir"));
        let bytes = fs::read_all(&*self.fs.open_to_read(&path)?)?;
        decode_directory(&bytes, number)
    }

    /// Removes the files that hold nothing at or behind the head of the log; returns the place before
    /// which nothing is left, if any went.
    pub(crate) fn forget_before(&self, head: u64) -> io::Result<Option<u64>> {
        let dead: Vec<u64> = {
            let files = self.files.read().expect(POISONED);
            let full = self.full.lock().expect(POISONED);
            let waiting = |number: &u64| full.iter().any(|it| it.number == *number);
            let dead = files
                .highest
                .iter()
                .take_while(|(number, highest)| **highest < head && !waiting(number));
            dead.map(|(number, _)| *number).collect()
        };
        for number in &dead {
            self.remove(*number)?;
            let mut files = self.files.write().expect(POISONED);
            files.highest.remove(number);
            files.open.remove(number);
        }
        Ok(dead.last().map(|number| (number + 1) * FILE))
    }

    fn remove(&self, number: u64) -> io::Result<()> {
        for kind in ["dir", "blk"] {
            match self.fs.remove(&self.dir.join(name(number, kind))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A block that reads well may still be another one.
fn check(place: Place, (found, entries): (Place, Vec<Packed>)) -> io::Result<Vec<Packed>> {
    if found == place {
        Ok(entries)
    } else {
        let at = place.at;
        Err(damaged(format!("another queue's block lies at {at}")))
    }
}

/// All blocks of a file, read and verified.
fn scan(file: &dyn File, number: u64, end: u64) -> io::Result<(Vec<Place>, u64)> {
    let (mut places, mut highest) = (Vec::new(), 0);
    let mut start = number * FILE;
    while start < end {
        let mut chunk = vec![0; CHUNK.min(end - start) as usize];
        let read = file.read_at(&mut chunk, start % FILE)?;
        // A full chunk may end early: the next block did not fit.
        let is_last = end - start <= CHUNK && !end.is_multiple_of(CHUNK);
        if is_last && read != chunk.len() {
            return Err(damaged("a file of queue blocks is cut short".to_owned()));
        }
        let mut at = 0;
        while at + HEAD <= read && (is_last || chunk[at..at + HEAD].iter().any(|byte| *byte != 0)) {
            let (place, entries) = decode(&chunk[at..read], start + at as u64)?;
            highest = highest.max(entries.last().map_or(0, |entry| entry.position));
            at += block_len(entries.len());
            places.push(place);
        }
        start += CHUNK;
    }
    Ok((places, highest))
}

fn encode_directory(blocks: &[Place], highest: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(24 + blocks.len() * DIR_ENTRY);
    out.extend_from_slice(DIR_MAGIC);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(blocks.len() as u32).to_le_bytes());
    out.extend_from_slice(&highest.to_le_bytes());
    for block in blocks {
        out.extend_from_slice(&block.key.0.0.to_le_bytes());
        out.extend_from_slice(&block.key.1.0.to_le_bytes());
        out.extend_from_slice(&block.first.to_le_bytes());
        out.extend_from_slice(&((block.at % FILE / ALIGN as u64) as u32).to_le_bytes());
        out.extend_from_slice(&block.count.to_le_bytes());
    }
    let crc = crc_around(&out, 8..12);
    out[8..12].copy_from_slice(&crc.to_le_bytes());
    out
}

fn decode_directory(bytes: &[u8], number: u64) -> io::Result<(Vec<Place>, u64)> {
    let bad = || damaged(format!("the directory of queue file {number} is damaged"));
    if bytes.len() < 24 || &bytes[0..8] != DIR_MAGIC || u32_at(bytes, 8) != crc_around(bytes, 8..12)
    {
        return Err(bad());
    }
    let blocks = u32_at(bytes, 12) as usize;
    if bytes.len() != 24 + blocks * DIR_ENTRY {
        return Err(bad());
    }
    let places = bytes[24..].chunks_exact(DIR_ENTRY).map(|it| Place {
        key: (TopicId(u32_at(it, 0)), QueueId(u32_at(it, 4))),
        first: u64_at(it, 8),
        at: number * FILE + u64::from(u32_at(it, 16)) * ALIGN as u64,
        count: u32_at(it, 20),
    });
    Ok((places.collect(), u64_at(bytes, 16)))
}
