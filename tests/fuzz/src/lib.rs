//! What the targets share: bytes are tried as they are and with their checksums put right, or no
//! mutation would get behind the first of them; and a data directory on a simulated disk in which one
//! file is the fuzzer's.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use quern_protocol::block::crc_around;
use quern_protocol::{Code, QueueId, QueueOffset, RecordView, TopicId};
use quern_store::audit::{Item, audit};
use quern_store::clock::ManualClock;
use quern_store::exercise::{Script, run};
use quern_store::fs::Fs;
use quern_store::sim::SimFs;
use quern_store::{Config, Env, Stateless, Store};

const DIR: &str = "/q";
const SEGMENT: &str = "commitlog/00000000000000000000.seg";
const SEGMENT_HEADER: usize = 4_096;
const GROUP_HEADER: usize = 64;
const RECORD_HEADER: usize = 56;
/// Bytes of a segment, whatever its header says.
const SEGMENT_MAX: usize = 64 * 1024;

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes(field.try_into().ok()?))
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// A block's checksum; it has to have its header.
pub fn mend_block(bytes: &mut [u8]) -> Option<()> {
    let len = u32_at(bytes, 0)? as usize;
    let block = bytes.get_mut(..len).filter(|it| it.len() >= 8)?;
    let crc = crc_around(block, 4..8);
    put(block, 4, crc);
    Some(())
}

/// Bytes between a record's header and its block, as its flags announce them.
fn extensions(record: &[u8]) -> Option<usize> {
    let flags = *record.get(53)?;
    let fixed = [1, 2].map(|flag| usize::from(flags & flag != 0) * 16);
    let mut len = fixed.iter().sum();
    if flags & 16 != 0 {
        let notes = u32_at(record, RECORD_HEADER + len)? as usize;
        len += (4 + notes.min(record.len())).next_multiple_of(8);
    }
    Some(len)
}

/// A record's checksums, its block's too; its length.
pub fn mend_record(bytes: &mut [u8]) -> Option<usize> {
    let len = u32_at(bytes, 4)? as usize;
    let record = bytes.get_mut(..len)?;
    let block = RECORD_HEADER + extensions(record)?;
    mend_block(record.get_mut(block..)?);
    let block_crc = u32_at(record, block + 4)?;
    put(record, 12, block_crc);
    let crc = crc_around(&record[..block], 8..12);
    put(record, 8, crc);
    Some(len)
}

/// All checksums of a segment, as far as it can be followed.
fn mend_segment(bytes: &mut [u8]) -> Option<()> {
    let header = bytes.get_mut(..SEGMENT_HEADER)?;
    let crc = crc_around(header, 12..16);
    put(header, 12, crc);
    let (mut at, mut previous) = (SEGMENT_HEADER, 0);
    loop {
        let len = u32_at(bytes, at + 4)? as usize;
        let group = bytes.get_mut(at..at.checked_add(len)?)?;
        if len < GROUP_HEADER {
            return None;
        }
        let mut crcs = Vec::new();
        let mut inside = GROUP_HEADER;
        while let Some(record) = mend_record(&mut group[inside..]).filter(|len| *len > 0) {
            crcs.extend_from_slice(&group[inside + 8..inside + 12]);
            inside += record;
        }
        put(group, 12, previous);
        let records = crc_around(&crcs, 0..0);
        put(group, 48, records);
        previous = crc_around(&group[..GROUP_HEADER], 8..12);
        put(group, 8, previous);
        at += len;
    }
}

/// A slot's checksum.
fn mend_checkpoint(bytes: &mut [u8]) -> Option<()> {
    for slot in 0..2 {
        let slot = bytes.get_mut(slot * 4_096..(slot + 1) * 4_096)?;
        let crc = crc_around(slot, 8..12);
        put(slot, 8, crc);
    }
    Some(())
}

/// The file of a data directory that is the fuzzer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Format,
    Checkpoint,
    Segment,
}

/// The files of a data directory as today's store writes them, without the zeros at their ends.
pub static GOOD: LazyLock<[(Which, &str, Vec<u8>); 3]> = LazyLock::new(|| {
    fastrand::seed(1);
    let fs = SimFs::default();
    let script = run(
        DIR.as_ref(),
        Arc::new(fs.clone()),
        Script::Write,
        "",
        &mut |_| Ok(()),
    );
    script.expect("a good disk");
    let read = |name: &str| {
        let file = fs.open(&Path::new(DIR).join(name)).expect("it was written");
        let mut bytes = vec![0; file.len().expect("it is open") as usize];
        file.read_at(&mut bytes, 0).expect("the disk is well");
        let used = bytes.iter().rposition(|byte| *byte != 0);
        bytes.truncate(used.map_or(0, |last| last + 1).next_multiple_of(8));
        bytes
    };
    [
        (Which::Format, "FORMAT", read("FORMAT")),
        (Which::Checkpoint, "checkpoint", read("checkpoint")),
        (Which::Segment, SEGMENT, read(SEGMENT)),
    ]
});

/// The records of the good segment.
pub fn good_records() -> Vec<&'static [u8]> {
    let segment = &GOOD[2].2[..];
    let mut records = Vec::new();
    let mut at = SEGMENT_HEADER;
    while let Some(len) = u32_at(segment, at + 4).filter(|len| *len as usize >= GROUP_HEADER) {
        let end = at + len as usize;
        let mut inside = at + GROUP_HEADER;
        while inside < end
            && let Some(len) = u32_at(segment, inside + 4)
        {
            records.extend(segment.get(inside..inside + len as usize));
            inside += len as usize;
        }
        at = end;
    }
    records
}

/// The block of a good record.
pub fn block_of(record: &[u8]) -> &[u8] {
    &record[RECORD_HEADER + extensions(record).unwrap_or(0)..]
}

/// A directory with this file in place of a good one.
fn directory(which: Which, bytes: &[u8]) -> SimFs {
    let fs = SimFs::default();
    let dir = Path::new(DIR);
    fs.create_dir(&dir.join("commitlog"))
        .expect("the disk is empty");
    for (it, name, good) in &*GOOD {
        let mut bytes = if *it == which { bytes } else { good }.to_vec();
        match it {
            Which::Segment => bytes.resize(SEGMENT_MAX, 0),
            Which::Checkpoint => bytes.resize(2 * 4_096, 0),
            Which::Format => {}
        }
        let file = fs.create(&dir.join(name), 0).expect("there is room");
        file.write_at(&bytes, 0).expect("there is room");
        file.sync_data().expect("the disk is well");
    }
    // Whoever comes makes it.
    fs.create(&dir.join("lock"), 0).expect("there is room");
    for names in [dir.to_owned(), dir.join("commitlog")] {
        fs.sync_dir(&names).expect("the disk is well");
    }
    fs
}

/// Nothing panics; what is refused is left as it is; what opens can be read, and goes on.
pub fn try_directory(which: Which, bytes: &[u8]) {
    try_one(&directory(which, bytes));
    let mut mended = bytes.to_vec();
    let whole = match which {
        Which::Format => None,
        Which::Checkpoint => mend_checkpoint(&mut mended),
        // It is followed until it cannot be any more.
        Which::Segment => {
            mend_segment(&mut mended);
            Some(())
        }
    };
    if whole.is_some() {
        try_one(&directory(which, &mended));
    }
}

fn try_one(fs: &SimFs) {
    fastrand::seed(1);
    let before = fs.digest();
    let audited = audit(DIR.as_ref(), fs, &mut |item| {
        if let Item::Record { bytes, .. } = item {
            RecordView::parse(bytes).expect("what the audit hands out is verified");
        }
        ControlFlow::Continue(())
    });
    assert_eq!(fs.digest(), before, "an audit only looks");
    let config = Config {
        segment_size: Some(SEGMENT_MAX as u64),
        ..Config::new(DIR)
    };
    let env = Env {
        fs: Arc::new(fs.clone()),
        clock: Arc::new(ManualClock::default()),
    };
    match Store::open_in_steps(&config, env, Box::new(Stateless)) {
        Err(error) => {
            assert_ne!(error.code(), Code::INTERNAL, "{error}");
            assert_eq!(
                fs.digest(),
                before,
                "refused, so nothing is changed: {error}"
            );
        }
        Ok((store, _, steps)) => {
            audited.expect("what opens can be audited");
            for (topic, queue) in [(1, 0), (1, 1), (2, 0)] {
                let (topic, queue) = (TopicId(topic), QueueId(queue));
                let (first, _) = store.range(topic, queue);
                let entries = store.entries(topic, queue, QueueOffset(first.0), 1_000);
                for entry in entries.expect("the disk is well") {
                    let record = store.record(&entry).expect("it was verified a moment ago");
                    RecordView::parse(&record).expect("it was verified");
                }
            }
            steps.close().expect("the disk is well");
        }
    }
}
