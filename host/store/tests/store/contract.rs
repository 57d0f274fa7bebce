//! What a file system owes the store, held against the machine's and the simulated one: the words of
//! `src/fs.rs` as a table of cases.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use quern_store::fs::{File, Fs, RealFs};
use quern_store::sim::{Fault, SimFs};

use crate::failures;

type Case = (&'static str, fn(&dyn Fs, &Path));

const CASES: &[Case] = &[
    (
        "a new file is zeros, and replaces what was there",
        |fs, dir| {
            let path = dir.join("a");
            let file = fs.create(&path, 0).unwrap();
            assert!(file.is_empty().unwrap());
            file.write_at(b"old", 0).unwrap();
            let file = fs.create(&path, 10_000).unwrap();
            assert_eq!(contents(&*file), [0; 10_000]);
            assert_eq!(contents(&*fs.open(&path).unwrap()), [0; 10_000]);
        },
    ),
    (
        "writes are read back, by every descriptor, and make a file longer",
        |fs, dir| {
            let file = fs.create(&dir.join("a"), 1_000).unwrap();
            let other = fs.open(&dir.join("a")).unwrap();
            file.write_at(b"begin", 0).unwrap();
            file.write_at(b"end", 4_000).unwrap();
            let mut expected = vec![0; 4_003];
            expected[..5].copy_from_slice(b"begin");
            expected[4_000..].copy_from_slice(b"end");
            assert_eq!(contents(&*other), expected);
            file.sync_data().unwrap();
            file.evict().unwrap();
            assert_eq!(contents(&*other), expected);
        },
    ),
    ("a read is short only at the end", |fs, dir| {
        let file = fs.create(&dir.join("a"), 0).unwrap();
        file.write_at(b"0123456789", 0).unwrap();
        let mut buffer = [b'-'; 8];
        assert_eq!(file.read_at(&mut buffer, 4).unwrap(), 6);
        assert_eq!(&buffer, b"456789--");
        assert_eq!(file.read_at(&mut buffer, 10).unwrap(), 0);
        assert_eq!(file.read_at(&mut buffer, 1 << 40).unwrap(), 0);
    }),
    (
        "a read that must not wait is the same, or says that it would wait",
        |fs, dir| {
            let file = fs.create(&dir.join("a"), 0).unwrap();
            file.write_at(b"0123456789", 0).unwrap();
            let check = || {
                let mut buffer = [b'-'; 8];
                match file.read_now(&mut buffer, 4) {
                    Ok(read) => assert_eq!((read, &buffer), (6, b"456789--")),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
            };
            check();
            file.sync_data().unwrap();
            file.evict().unwrap();
            check();
            file.read_at(&mut [0; 10], 0).unwrap();
            check();
        },
    ),
    ("what was cut off comes back as zeros", |fs, dir| {
        let file = fs.create(&dir.join("a"), 0).unwrap();
        file.write_at(&[7; 2_000], 0).unwrap();
        file.sync_data().unwrap();
        file.truncate(700).unwrap();
        assert_eq!(contents(&*file), [7; 700]);
        file.truncate(2_000).unwrap();
        assert_eq!(contents(&*file), [vec![7; 700], vec![0; 1_300]].concat());
        file.sync_data().unwrap();
        file.evict().unwrap();
        assert_eq!(contents(&*file), [vec![7; 700], vec![0; 1_300]].concat());
    }),
    ("what is not there is said to be not there", |fs, dir| {
        let nowhere = dir.join("nowhere");
        let inside = nowhere.join("a");
        let there = dir.join("there");
        fs.create(&there, 0).unwrap();
        let kinds = [
            fs.open(&nowhere).err(),
            fs.open_to_read(&nowhere).err(),
            fs.list(&nowhere).err(),
            fs.remove(&nowhere).err(),
            fs.rename(&nowhere, &dir.join("b")).err(),
            fs.rename(&there, &inside).err(),
            fs.create(&inside, 0).err(),
            fs.lock(&inside).err(),
        ];
        for (index, error) in kinds.into_iter().enumerate() {
            let kind = error.map(|it| it.kind());
            assert_eq!(kind, Some(ErrorKind::NotFound), "call {index}");
        }
    }),
    ("names are listed in order, directories too", |fs, dir| {
        for name in ["b", "a", "c"] {
            fs.create(&dir.join(name), 0).unwrap();
        }
        fs.create_dir(&dir.join("d/e")).unwrap();
        // Again is no mistake.
        fs.create_dir(&dir.join("d/e")).unwrap();
        fs.create(&dir.join("d/e/f"), 0).unwrap();
        assert_eq!(fs.list(dir).unwrap(), ["a", "b", "c", "d"]);
        assert_eq!(fs.list(&dir.join("d")).unwrap(), ["e"]);
        fs.sync_dir(dir).unwrap();
        assert!(
            fs.create_dir(&dir.join("a/x")).is_err(),
            "a file is in the way"
        );
    }),
    (
        "a file keeps what it holds when its name changes, and takes another's place",
        |fs, dir| {
            let (a, b) = (dir.join("a"), dir.join("b"));
            let file = fs.create(&a, 0).unwrap();
            file.write_at(b"a", 0).unwrap();
            let replaced = fs.create(&b, 0).unwrap();
            replaced.write_at(b"b", 0).unwrap();
            fs.rename(&a, &b).unwrap();
            assert_eq!(fs.list(dir).unwrap(), ["b"]);
            assert_eq!(contents(&*fs.open(&b).unwrap()), b"a");
            file.write_at(b"a", 1).unwrap();
            assert_eq!(contents(&*fs.open(&b).unwrap()), b"aa");
            assert_eq!(contents(&*replaced), b"b");
        },
    ),
    (
        "a removed file lives on in those who have it open",
        |fs, dir| {
            let path = dir.join("a");
            let file = fs.create(&path, 0).unwrap();
            file.write_at(b"still here", 0).unwrap();
            let window = file.map(6, 4).unwrap();
            fs.remove(&path).unwrap();
            assert!(fs.list(dir).unwrap().is_empty());
            assert_eq!(contents(&*file), b"still here");
            file.sync_data().unwrap();
            drop(file);
            assert_eq!(&window[..], b"here");
        },
    ),
    (
        "a window shows what is read, and no more than there is",
        |fs, dir| {
            let path = dir.join("a");
            let file = fs.create(&path, 0).unwrap();
            let bytes: Vec<u8> = (0..20_000u32).map(|n| (n % 251) as u8).collect();
            file.write_at(&bytes, 0).unwrap();
            file.sync_data().unwrap();
            let file = fs.open_to_read(&path).unwrap();
            for (at, len) in [(0, 20_000), (5_000, 1), (4_095, 8_194), (20_000, 0), (7, 0)] {
                let window = file.map(at, len).unwrap();
                assert_eq!(window, bytes[at as usize..at as usize + len], "{at} {len}");
            }
            for (at, len) in [(0, 20_001), (20_001, 0), (u64::MAX, 2), (1 << 62, 1)] {
                let kind = file.map(at, len).unwrap_err().kind();
                assert_eq!(kind, ErrorKind::UnexpectedEof, "{at} {len}");
            }
        },
    ),
    ("a hint changes nothing, wherever it points", |fs, dir| {
        let file = fs.create(&dir.join("a"), 0).unwrap();
        file.write_at(b"here", 0).unwrap();
        for (at, len) in [(0, 4), (2, 10_000), (1 << 40, 1), (0, 0)] {
            file.will_read(at, len);
        }
        assert_eq!(contents(&*file), b"here");
    }),
    ("who only reads cannot write", |fs, dir| {
        fs.create(&dir.join("a"), 100).unwrap();
        let file = fs.open_to_read(&dir.join("a")).unwrap();
        assert!(file.write_at(b"x", 0).is_err());
        assert!(file.truncate(0).is_err());
        assert_eq!(contents(&*file), [0; 100]);
    }),
    ("a lock is held by one, and keeps readers out", |fs, dir| {
        let path = dir.join("lock");
        let nobody = fs.lock_to_read(&path).unwrap();
        assert!(
            matches!(nobody, Ok(None)),
            "nothing to lock, nobody to keep out"
        );
        let held = fs.lock(&path).unwrap().ok().unwrap();
        assert_eq!(fs.list(dir).unwrap(), ["lock"]);
        assert!(fs.lock(&path).unwrap().is_err());
        assert!(fs.lock_to_read(&path).unwrap().is_err());
        drop(held);
        let reader = fs.lock_to_read(&path).unwrap();
        assert!(matches!(reader, Ok(Some(_))));
        assert!(fs.lock(&path).unwrap().is_err());
        drop(reader);
        assert!(fs.lock(&path).unwrap().is_ok());
    }),
    (
        "a file that does not fit leaves nothing behind",
        |fs, dir| {
            let (free, capacity) = (fs.free_space(dir).unwrap(), fs.capacity(dir).unwrap());
            assert!(0 < free && free <= capacity);
            let kind = fs.create(&dir.join("a"), capacity + 1).unwrap_err().kind();
            assert_eq!(kind, ErrorKind::StorageFull);
            assert!(fs.list(dir).unwrap().is_empty());
        },
    ),
];

fn contents(file: &dyn File) -> Vec<u8> {
    failures::contents(file)
}

#[test]
fn both_file_systems_keep_the_same_contract() {
    let root = tempfile::tempdir().unwrap();
    for (number, (name, case)) in CASES.iter().enumerate() {
        let worlds: [(&str, Box<dyn Fs>, PathBuf); 2] = [
            (
                "real",
                Box::new(RealFs),
                root.path().join(number.to_string()),
            ),
            ("simulated", Box::new(SimFs::default()), "/d".into()),
        ];
        for (world, fs, dir) in &worlds {
            eprintln!("{world}: {name}");
            fs.create_dir(dir).unwrap();
            case(&**fs, dir);
        }
    }
}

/// Write-back that fails, as measured on ext4 and XFS; `tests/power-cut` holds both kernels'
/// file systems against the same table.
#[test]
fn the_simulated_disk_tells_of_failed_write_back_as_linux_does() {
    struct Simulated(SimFs);
    impl failures::Rig for Simulated {
        fn fs(&self) -> &dyn Fs {
            &self.0
        }
        fn dir(&self) -> &Path {
            Path::new("/d")
        }
        fn next_write_back_fails(&self) {
            self.0.inject(Some(Fault::SyncError(0)));
        }
        fn heal(&self) {
            self.0.inject(None);
        }
        fn write_back(&self, name: &str) {
            // Half of the sectors get through by chance: those of the table are one each.
            self.0.write_back(&self.dir().join(name), true);
        }
        fn forget(&self, name: &str) {
            self.0.forget(&self.dir().join(name));
        }
    }
    let fs = SimFs::default();
    fs.create_dir("/d".as_ref()).unwrap();
    failures::check(&Simulated(fs));
}

#[test]
fn the_simulated_disk_fails_in_every_way_it_is_told_to() {
    let fs = SimFs::default();
    let path = Path::new("/a");
    let file = fs.create(path, 4_096).unwrap();
    let read = || file.read_at(&mut [0; 512], 512);
    let cases: [(Fault, ErrorKind); 4] = [
        (Fault::WriteError(1), ErrorKind::Other),
        (Fault::NoSpace(1), ErrorKind::StorageFull),
        (Fault::NoQuota(1), ErrorKind::QuotaExceeded),
        (Fault::Halt(1), ErrorKind::Other),
    ];
    for (fault, kind) in cases {
        fs.inject(Some(fault));
        file.write_at(&[1; 8], 0).unwrap();
        assert_eq!(file.write_at(&[2; 8], 0).unwrap_err().kind(), kind);
        fs.inject(None);
        file.write_at(&[3; 8], 0).unwrap();
    }
    fs.inject(Some(Fault::ReadError(1)));
    read().unwrap();
    assert!(read().is_err());
    read().unwrap();
    // As much as the disk has.
    fs.resize(10_000);
    assert_eq!(fs.free_space(path).unwrap(), 10_000 - 4_096);
    assert_eq!(
        file.write_at(&[0; 10_000], 1).unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    fs.remove(path).unwrap();
    fs.resize(1 << 20);
    drop(file);
    assert_eq!(fs.free_space(path).unwrap(), 1 << 20);
}

#[test]
fn the_simulated_disk_is_damaged_sector_by_sector() {
    let fs = SimFs::default();
    let path = Path::new("/a");
    let file = fs.create(path, 0).unwrap();
    let sector = |byte: u8| [byte; 512];
    for round in 0..2 {
        for n in 0..4u8 {
            file.write_at(&sector(n + 1 + 10 * round), u64::from(n) * 512)
                .unwrap();
        }
        file.sync_data().unwrap();
    }
    fs.sync_dir("/".as_ref()).unwrap();
    let now = |fs: &SimFs| {
        let all = contents(&*fs.open(path).unwrap());
        all.chunks(512).map(|it| it[0]).collect::<Vec<_>>()
    };
    assert_eq!(now(&fs), [11, 12, 13, 14]);
    fs.make_stale(path, 1);
    assert_eq!(now(&fs), [11, 2, 13, 14]);
    fs.misdirect(path, 3, 0);
    assert_eq!(now(&fs), [14, 2, 13, 4]);
    fs.flip(path, 1_024, 0x80);
    assert_eq!(now(&fs), [14, 2, 13 | 0x80, 4]);
    // It is the disk's, not the machine's.
    assert_eq!(now(&fs.crash(1)), [14, 2, 13 | 0x80, 4]);
    fs.make_unreadable(path, 2);
    assert!(file.read_at(&mut [0; 1], 1_535).is_err());
    assert!(file.map(1_000, 100).is_err());
    file.read_at(&mut [0; 1_024], 0).unwrap();
    file.write_at(&sector(5), 1_024).unwrap();
    assert_eq!(now(&fs), [14, 2, 5, 4]);
}

/// Every subset of what is not synced, and nothing else, is what some crash leaves.
#[test]
fn crashes_leave_every_subset_of_what_was_not_synced() {
    use std::collections::BTreeSet;
    let fs = SimFs::default();
    fs.create_dir("/d".as_ref()).unwrap();
    let path = |name: &str| Path::new("/d").join(name);
    let kept = fs.create(&path("kept"), 0).unwrap();
    kept.write_at(&[1; 1_024], 0).unwrap();
    kept.sync_data().unwrap();
    fs.create(&path("gone"), 0).unwrap();
    fs.create(&path("old"), 0).unwrap();
    fs.sync_dir("/d".as_ref()).unwrap();
    kept.write_at(&[2; 1_024], 512).unwrap();
    fs.remove(&path("gone")).unwrap();
    fs.rename(&path("old"), &path("new")).unwrap();
    let mut seen: [BTreeSet<String>; 3] = Default::default();
    for seed in 0..200 {
        let after = fs.crash(seed);
        let names = after.list("/d".as_ref()).unwrap();
        let with = |name: &str| names.iter().any(|it| it == name);
        assert!(
            with("old") != with("new"),
            "a name changes at once: {names:?}"
        );
        seen[0].insert(with("gone").to_string());
        seen[1].insert(with("new").to_string());
        let bytes = contents(&*after.open(&path("kept")).unwrap());
        let sectors = bytes.chunks(512).map(|it| it[0].to_string());
        seen[2].insert(sectors.collect::<Vec<_>>().join(" "));
        assert_eq!(after.digest(), fs.crash(seed).digest(), "by seed");
    }
    assert_eq!(seen[0].len() + seen[1].len(), 4);
    // The length survives or not; if so, each of two sectors.
    let expected = ["1 1", "1 2", "1 1 0", "1 1 2", "1 2 0", "1 2 2"];
    assert_eq!(seen[2], expected.map(str::to_owned).into());
}
