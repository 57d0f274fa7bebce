//! The key index: finds messages by key and by unique id, across all segments. Derived data: of the
//! segment that is written to it is in memory, of each sealed one in a file; where a file is missing or
//! damaged, the segment is read and the file made anew. Little-endian. A message that waits is in it with
//! its id alone.
//!
//! ```text
//! index/<base>.idx, 64 B + buckets + entries; crc of 0..8 and 12..end of the buckets
//!  0 u8[8] "QUERNIDX"   8 u32 crc   12 u32 bits    16 u8[16] log uuid
//! 32 u64 base           40 u64 end of the segment  48 u64 entries   56 u64 zero
//! 64 2^bits buckets, 8 B: u32 entries before · u32 crc of the bucket's entries
//!    entries, 16 B, sorted: u64 hash · u64 position
//! ```
//!
//! A hash begins with the number of its bucket, so a look-up reads the buckets once and then one
//! bucket. Hashes may collide: whoever looks compares the message itself.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use quern_protocol::block::crc_around;
use quern_protocol::message::UNIQUE_KEY;
use quern_protocol::{Block, RecordKind, TopicId};

use crate::fs::{self, File, Fs};
use crate::group::{Scanned, verify};
use crate::le::{id_at, u32_at, u64_at};
use crate::scan::{Next, Scan};
use crate::segment::{LogId, Segment};

const MAGIC: &[u8; 8] = b"QUERNIDX";
const HEADER: usize = 64;
const BUCKET: usize = 8;
const ENTRY: usize = 16;
/// Entries of a bucket, about: 2 KiB.
const PER_BUCKET: usize = 128;
const BITS_MAX: u32 = 24;
/// Entries in memory that are kept together: 256 KiB.
const CHUNK: usize = 16 * 1024;

/// What to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// One of the message's keys.
    Key(&'a str),
    /// The id its producer gave it.
    UniqueId(&'a str),
}

impl Lookup<'_> {
    pub(crate) fn hash(self, topic: TopicId) -> u64 {
        let (kind, text) = match self {
            Self::Key(text) => (0, text),
            Self::UniqueId(text) => (1, text),
        };
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
        digest.update(&topic.0.to_le_bytes());
        digest.update(&[kind]);
        digest.update(text.as_bytes());
        digest.finalize()
    }

    pub(crate) fn is_of(self, block: &Block<'_>) -> bool {
        match self {
            Self::Key(key) => block.keys().split_ascii_whitespace().any(|it| it == key),
            Self::UniqueId(id) => block.property(UNIQUE_KEY) == Some(id),
        }
    }
}

/// Hashes of all that a message can be found by.
pub(crate) fn hashes(
    kind: RecordKind,
    topic: TopicId,
    block: &Block<'_>,
    mut each: impl FnMut(u64),
) {
    if kind.is_state() {
        return;
    }
    if kind.is_queued() {
        for key in block.keys().split_ascii_whitespace() {
            each(Lookup::Key(key).hash(topic));
        }
    }
    if let Some(id) = block.property(UNIQUE_KEY) {
        each(Lookup::UniqueId(id).hash(topic));
    }
}

/// One way to find one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) hash: u64,
    pub(crate) position: u64,
}

/// Entries of a segment, as they came. Most are in chunks that never change, so that whoever looks through
/// them holds up nobody who adds.
#[derive(Debug, Default)]
struct Run {
    /// All of the segment's messages from here on are in.
    from: u64,
    chunks: Vec<Arc<[Entry]>>,
    newest: Vec<Entry>,
}

impl Run {
    fn add(&mut self, entries: impl Iterator<Item = Entry>) {
        self.newest.extend(entries);
        if self.newest.len() >= CHUNK {
            self.chunks.push(std::mem::take(&mut self.newest).into());
        }
    }

    fn all(&self) -> Vec<Arc<[Entry]>> {
        let newest = Arc::from(&self.newest[..]);
        self.chunks.iter().cloned().chain([newest]).collect()
    }
}

/// A file of the index, its buckets read.
#[derive(Debug)]
struct Index {
    file: Arc<dyn File>,
    bits: u32,
    entries: u64,
    buckets: Vec<u8>,
}

/// The index of one log.
#[derive(Debug)]
pub(crate) struct KeyIndex {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    log: LogId,
    /// By the base of their segment: the one that is written to, and those not yet in a file.
    runs: RwLock<BTreeMap<u64, Run>>,
    files: Mutex<HashMap<u64, Arc<Index>>>,
}

const POISONED: &str = "no code that can panic runs under a key index's lock";

fn path(dir: &Path, base: u64) -> PathBuf {
    dir.join(format!("{base:020}.idx"))
}

fn damaged() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "a file of the key index is damaged",
    )
}

impl KeyIndex {
    pub(crate) fn new(fs: Arc<dyn Fs>, dir: PathBuf, log: LogId) -> Self {
        Self {
            fs,
            dir,
            log,
            runs: RwLock::default(),
            files: Mutex::default(),
        }
    }

    /// Messages of a segment are added from `from` on.
    pub(crate) fn begin(&self, base: u64, from: u64) {
        let mut runs = self.runs.write().expect(POISONED);
        runs.entry(base).or_insert_with(|| Run {
            from,
            ..Run::default()
        });
    }

    /// Adds a batch of the newest segment.
    pub(crate) fn add(&self, entries: impl Iterator<Item = Entry>) {
        let mut runs = self.runs.write().expect(POISONED);
        if let Some((_, run)) = runs.iter_mut().next_back() {
            run.add(entries);
        }
    }

    /// Adds what precedes the position that all is in from, now that the segment has been read up to there.
    pub(crate) fn add_older(&self, base: u64, first: u64, up_to: u64, entries: &[Entry]) {
        let mut runs = self.runs.write().expect(POISONED);
        // Somebody else may have been faster.
        if let Some(run) = runs.get_mut(&base).filter(|run| run.from == up_to) {
            run.chunks.insert(0, entries.into());
            run.from = first;
        }
    }

    /// Segments that are no longer written to, and whose entries are only in memory.
    pub(crate) fn unwritten(&self) -> Vec<u64> {
        let runs = self.runs.read().expect(POISONED);
        let sealed = runs.len().saturating_sub(1);
        runs.keys().take(sealed).copied().collect()
    }

    /// Of a segment, what has one of these hashes, which are sorted.
    pub(crate) fn find(&self, base: u64, hashes: &[u64]) -> Found {
        let in_memory = {
            let runs = self.runs.read().expect(POISONED);
            runs.get(&base).map(|run| (run.from, run.all()))
        };
        if let Some((unknown_below, chunks)) = in_memory {
            let entries = chunks.iter().flat_map(|chunk| chunk.iter());
            return Found {
                entries: matching(entries, hashes),
                unknown_below,
            };
        }
        match self.in_file(base, hashes) {
            Ok(entries) => Found {
                entries,
                unknown_below: base,
            },
            Err(_) => Found {
                entries: Vec::new(),
                unknown_below: u64::MAX,
            },
        }
    }

    fn in_file(&self, base: u64, hashes: &[u64]) -> io::Result<Vec<Entry>> {
        let known = self.files.lock().expect(POISONED).get(&base).cloned();
        let index = match known {
            Some(index) => index,
            None => {
                let file = self.fs.open_to_read(&path(&self.dir, base))?;
                let index = Arc::new(Index::read(file, base, &self.log)?);
                let mut files = self.files.lock().expect(POISONED);
                files.insert(base, Arc::clone(&index));
                index
            }
        };
        let found = index.find(hashes);
        if found.is_err() {
            self.files.lock().expect(POISONED).remove(&base);
        }
        found
    }

    /// Writes the file of a sealed segment: of what was added, or of `entries`, all there are.
    pub(crate) fn write(&self, base: u64, end: u64, entries: Option<Vec<Entry>>) -> io::Result<()> {
        let mut entries = match entries {
            Some(entries) => entries,
            None => {
                let runs = self.runs.read().expect(POISONED);
                runs.get(&base)
                    .map_or_else(Vec::new, |run| run.all().concat())
            }
        };
        entries.sort_unstable();
        let bytes = encode(&entries, base, end, &self.log);
        self.fs.create_dir(&self.dir)?;
        let name = format!("{base:020}.idx");
        fs::write_whole(&*self.fs, &self.dir, &name, &bytes)?;
        self.runs.write().expect(POISONED).remove(&base);
        Ok(())
    }

    /// Reads a segment up to a position for what its messages can be found by; what is damaged is left
    /// out.
    pub(crate) fn read(&self, segment: &Segment, up_to: u64) -> io::Result<Vec<Entry>> {
        let mut scan = Scan::new(segment, self.log);
        let mut entries = Vec::new();
        let mut position = segment.first();
        while position < up_to.min(segment.end()) {
            let group = match scan.group(position, None)? {
                Next::Group { header, bytes, .. } => verify(&bytes, &header)
                    .ok()
                    .map(|records| (header.len, collect(&records, &mut entries))),
                Next::Nothing(_) => None,
            };
            match group {
                Some((len, ())) => position += u64::from(len),
                None => match scan.resume(position)? {
                    Some(next) => position = next,
                    None => break,
                },
            }
        }
        Ok(entries)
    }

    /// Whether all of a sealed segment's messages are in memory.
    pub(crate) fn is_whole(&self, base: u64, first: u64) -> bool {
        let runs = self.runs.read().expect(POISONED);
        runs.get(&base).is_some_and(|run| run.from <= first)
    }

    /// The log begins at `head` now.
    pub(crate) fn forget_before(&self, head: u64) -> io::Result<()> {
        self.runs
            .write()
            .expect(POISONED)
            .retain(|base, _| *base >= head);
        self.files
            .lock()
            .expect(POISONED)
            .retain(|base, _| *base >= head);
        let names = match self.fs.list(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            names => names?,
        };
        for name in names {
            let base = name.strip_suffix(".idx").and_then(|base| base.parse().ok());
            if base.is_some_and(|base: u64| base < head) {
                self.fs.remove(&self.dir.join(name))?;
            }
        }
        Ok(())
    }
}

/// What the index knows of one segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// In no order.
    pub(crate) entries: Vec<Entry>,
    /// Messages before this position are not in.
    pub(crate) unknown_below: u64,
}

/// Those entries that have one of these hashes, which are sorted.
pub(crate) fn matching<'a>(entries: impl Iterator<Item = &'a Entry>, hashes: &[u64]) -> Vec<Entry> {
    let here = |entry: &&Entry| match hashes {
        [one] => entry.hash == *one,
        many => many.binary_search(&entry.hash).is_ok(),
    };
    entries.filter(here).copied().collect()
}

fn collect(records: &[Scanned<'_>], entries: &mut Vec<Entry>) {
    for Scanned { header, block } in records {
        let position = header.position.0;
        hashes(header.kind, header.topic, block, |hash| {
            entries.push(Entry { hash, position })
        });
    }
}

fn bucket_of(hash: u64, bits: u32) -> usize {
    hash.checked_shr(64 - bits).unwrap_or(0) as usize
}

fn encode(entries: &[Entry], base: u64, end: u64, log: &LogId) -> Vec<u8> {
    let wanted = (entries.len() / PER_BUCKET).max(1);
    let bits = wanted.ilog2().min(BITS_MAX);
    let buckets = 1usize << bits;
    let mut out = vec![0; HEADER + buckets * BUCKET];
    out.reserve_exact(entries.len() * ENTRY);
    out[0..8].copy_from_slice(MAGIC);
    out[12..16].copy_from_slice(&bits.to_le_bytes());
    out[16..32].copy_from_slice(log);
    out[32..40].copy_from_slice(&base.to_le_bytes());
    out[40..48].copy_from_slice(&end.to_le_bytes());
    out[48..56].copy_from_slice(&(entries.len() as u64).to_le_bytes());
    let mut from = 0;
    for bucket in 0..buckets {
        let rest = &entries[from..];
        let count = rest.partition_point(|entry| bucket_of(entry.hash, bits) <= bucket);
        let start = out.len();
        for entry in &rest[..count] {
            out.extend_from_slice(&entry.hash.to_le_bytes());
            out.extend_from_slice(&entry.position.to_le_bytes());
        }
        let crc = crc_around(&out[start..], 0..0);
        let at = HEADER + bucket * BUCKET;
        out[at..at + 4].copy_from_slice(&(from as u32).to_le_bytes());
        out[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
        from += count;
    }
    let crc = crc_around(&out[..HEADER + buckets * BUCKET], 8..12);
    out[8..12].copy_from_slice(&crc.to_le_bytes());
    out
}

impl Index {
    fn read(file: Arc<dyn File>, base: u64, log: &LogId) -> io::Result<Self> {
        let mut head = vec![0; HEADER];
        let whole = file.read_at(&mut head, 0)? == HEADER;
        let bits = u32_at(&head, 12);
        if !whole || &head[0..8] != MAGIC || bits > BITS_MAX {
            return Err(damaged());
        }
        let len = HEADER + (BUCKET << bits);
        let mut bytes = vec![0; len];
        let is_ours = file.read_at(&mut bytes, 0)? == len
            && u32_at(&bytes, 8) == crc_around(&bytes, 8..12)
            && id_at(&bytes, 16) == *log
            && u64_at(&bytes, 32) == base;
        if !is_ours {
            return Err(damaged());
        }
        Ok(Self {
            file,
            bits,
            entries: u64_at(&bytes, 48),
            buckets: bytes.split_off(HEADER),
        })
    }

    /// What has one of these hashes, which are sorted: each bucket is read once.
    fn find(&self, hashes: &[u64]) -> io::Result<Vec<Entry>> {
        let mut found = Vec::new();
        let of_one_bucket = |a: &u64, b: &u64| bucket_of(*a, self.bits) == bucket_of(*b, self.bits);
        for hashes in hashes.chunk_by(of_one_bucket) {
            let bucket = self.bucket(bucket_of(hashes[0], self.bits))?;
            let entries = bucket.chunks_exact(ENTRY).map(|entry| Entry {
                hash: u64_at(entry, 0),
                position: u64_at(entry, 8),
            });
            found.extend(entries.filter(|it| hashes.binary_search(&it.hash).is_ok()));
        }
        Ok(found)
    }

    fn bucket(&self, bucket: usize) -> io::Result<Vec<u8>> {
        let at = bucket * BUCKET;
        let from = u64::from(u32_at(&self.buckets, at));
        let to = match self.buckets.len() - BUCKET == at {
            true => self.entries,
            false => u64::from(u32_at(&self.buckets, at + BUCKET)),
        };
        let len = to.saturating_sub(from) as usize * ENTRY;
        let mut bytes = vec![0; len];
        let start = (HEADER + self.buckets.len()) as u64 + from * ENTRY as u64;
        let read = self.file.read_at(&mut bytes, start)?;
        if read != len || crc_around(&bytes, 0..0) != u32_at(&self.buckets, at + 4) {
            return Err(damaged());
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::SimFs;

    fn entries(count: u64) -> Vec<Entry> {
        let entry = |n: u64| Entry {
            hash: Lookup::Key(&format!("k{}", n / 2)).hash(TopicId(1)),
            position: n * 64,
        };
        (0..count).map(entry).collect()
    }

    #[test]
    fn every_entry_is_found_in_its_file_and_damage_is_noticed() {
        for count in [0, 1, 100, 10_000] {
            let fs = SimFs::default();
            let index = || KeyIndex::new(Arc::new(fs.clone()), "/q/index".into(), [1; 16]);
            let first = index();
            first.begin(4_096, 4_096);
            first.add(entries(count).into_iter());
            first.begin(8_192, 8_192);
            assert_eq!(first.unwritten(), [4_096]);
            let look = |index: &KeyIndex, n: u64| {
                let mut found =
                    index.find(4_096, &[Lookup::Key(&format!("k{n}")).hash(TopicId(1))]);
                found.entries.sort_unstable();
                found
            };
            let in_memory: Vec<_> = (0..count / 2 + 2).map(|n| look(&first, n)).collect();
            first.write(4_096, 8_192, None).unwrap();
            let mut hashes: Vec<_> = entries(count + 4).iter().map(|it| it.hash).collect();
            hashes.sort_unstable();
            for index in [&first, &index()] {
                let mut all = index.find(4_096, &hashes).entries;
                all.sort_unstable_by_key(|it| it.position);
                assert_eq!(all, entries(count), "many at once");
                for (n, found) in in_memory.iter().enumerate() {
                    assert_eq!(look(index, n as u64), *found, "{n} of {count}");
                }
            }
            let path = path("/q/index".as_ref(), 4_096);
            let len = fs.open(&path).unwrap().len().unwrap() as usize;
            for at in (0..len).step_by(len / 50 + 1) {
                fs.flip(&path, at, 4);
                let again = index();
                for (n, found) in in_memory.iter().enumerate().step_by(97) {
                    let now = look(&again, n as u64);
                    assert!(now == *found || now.unknown_below == u64::MAX, "byte {at}");
                }
                fs.flip(&path, at, 4);
            }
        }
    }
}
