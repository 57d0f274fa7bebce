//! A log whose beginning is gone, and in which a record has the last offset there can be: nothing comes behind that, and
//! nobody adds to it.

use std::path::Path;
use std::sync::Arc;

use quern_protocol::block::crc_around;
use quern_protocol::{QueueId, QueueOffset, TopicId};
use quern_store::audit::audit;
use quern_store::fs::Fs;
use quern_store::repair::{Mode, repair};
use quern_store::sim::SimFs;
use quern_store::{Config, Stateless, Store};

use crate::{batch, config, env, wait};

const SEGMENT: usize = 64 * 1024;
const SEGMENT_HEADER: usize = 4_096;
const GROUP_HEADER: usize = 64;

fn small() -> Config {
    Config {
        segment_size: Some(SEGMENT as u64),
        ..config("/q".as_ref())
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// The segment with one batch in it as the second of its log, the first being gone; the records of the last group have
/// these offsets.
fn moved(segment: &mut [u8], offset: u64) {
    put(segment, 32, &(SEGMENT as u64).to_le_bytes());
    let crc = crc_around(&segment[..SEGMENT_HEADER], 12..16);
    put(segment, 12, &crc.to_le_bytes());
    let (mut at, mut previous) = (SEGMENT_HEADER, 0_u32);
    while u32_at(segment, at) == u32::from_le_bytes(*b"QGRP") {
        let position = (SEGMENT + at) as u64;
        let len = u32_at(segment, at + 4) as usize;
        let group = &mut segment[at..at + len];
        put(group, 12, &previous.to_le_bytes());
        put(group, 16, &position.to_le_bytes());
        put(group, 24, &0_u64.to_le_bytes());
        let (mut inside, mut crcs) = (GROUP_HEADER, Vec::new());
        while inside < len {
            let record = u32_at(group, inside + 4) as usize;
            let header = &mut group[inside..inside + 56];
            put(header, 16, &(position + inside as u64).to_le_bytes());
            put(header, 24, &offset.to_le_bytes());
            assert_eq!(header[53], 0, "no extensions");
            let crc = crc_around(header, 8..12).to_le_bytes();
            put(header, 8, &crc);
            crcs.extend(crc);
            inside += record;
        }
        let crc = crc_around(&crcs, 0..0);
        put(group, 48, &crc.to_le_bytes());
        previous = crc_around(&group[..GROUP_HEADER], 8..12);
        put(group, 8, &previous.to_le_bytes());
        at += len;
    }
}

/// A log that is nothing but this.
fn log_with(offset: u64) -> SimFs {
    let fs = SimFs::default();
    let (store, _) = Store::open(small(), env(fs.clone()), Box::new(Stateless)).unwrap();
    wait(store.submit(batch(0, &["the last".to_owned()]))).unwrap();
    drop(store);
    let log = Path::new("/q/commitlog");
    let mut segment = vec![0; SEGMENT];
    let file = fs.open(&log.join(format!("{:020}.seg", 0))).unwrap();
    file.read_at(&mut segment, 0).unwrap();
    moved(&mut segment, offset);
    let format = fs.open("/q/FORMAT".as_ref()).unwrap();
    let mut text = vec![0; format.len().unwrap() as usize];
    format.read_at(&mut text, 0).unwrap();
    let fs = SimFs::default();
    fs.create_dir("/q".as_ref()).unwrap();
    fs.create_dir(log).unwrap();
    let names = [
        (log.join(format!("{SEGMENT:020}.seg")), segment),
        ("/q/FORMAT".into(), text),
    ];
    for (name, bytes) in names {
        let file = fs.create(&name, 0).unwrap();
        file.write_at(&bytes, 0).unwrap();
        file.sync_data().unwrap();
    }
    for dir in [Path::new("/q"), log] {
        fs.sync_dir(dir).unwrap();
    }
    fs
}

#[test]
fn nothing_comes_behind_the_last_offset_there_can_be() {
    for (offset, is_there) in [(7, true), (u64::MAX - 1, true), (u64::MAX, false)] {
        let fs = log_with(offset);
        let fs: Arc<dyn Fs> = Arc::new(fs);
        let found = repair("/q".as_ref(), &fs, Mode::DryRun, &mut |_| {}).unwrap();
        assert_eq!(found.lost, [], "{offset}");
        let audited = audit("/q".as_ref(), &*fs, &mut |_| {
            std::ops::ControlFlow::Continue(())
        });
        assert_eq!(audited.unwrap().messages, 1, "{offset}");
        let env = quern_store::Env {
            fs: Arc::clone(&fs),
            clock: Arc::new(quern_store::clock::RealClock::default()),
        };
        let (store, report) = Store::open(small(), env, Box::new(Stateless)).unwrap();
        let (topic, queue) = (TopicId(1), QueueId(0));
        let (first, end) = store.range(topic, queue);
        let entries = store.entries(topic, queue, first, 10).unwrap();
        assert_eq!(report.torn.is_none(), is_there, "{offset}: {report:?}");
        assert_eq!(entries.len(), usize::from(is_there), "{offset}");
        if is_there {
            assert_eq!((first, end), (QueueOffset(offset), QueueOffset(offset + 1)));
        }
        store.close().unwrap();
    }
}
