//! The space behind small groups is written to before they come.

use quern_store::Store;
use quern_store::fs::Fs as _;
use quern_store::sim::{Ask, Asked, Fault, SimFs};

use crate::{batch, bodies, env, open, wait};

const PAGE: u64 = 4096;

/// The lengths of writes to segments by messages of so many bytes, one after the other.
fn writes(fs: &SimFs, store: &Store, count: usize, len: usize) -> Vec<(u64, usize)> {
    fs.asked();
    for _ in 0..count {
        wait(store.submit(batch(0, &["x".repeat(len)]))).unwrap();
    }
    // Not its header. A descriptor goes by the name that the file had when it was opened.
    let is_group = |it: &Asked| it.path.starts_with("/q/commitlog") && it.at >= PAGE;
    let asked = fs.asked().into_iter();
    let written = asked.filter(|it| it.what == Ask::Write && is_group(it));
    written.map(|it| (it.at, it.len)).collect()
}

#[test]
fn of_small_groups_few_are_the_first_on_their_page() {
    let fs = SimFs::default();
    let (store, _) = open("/q".as_ref(), env(fs.clone())).unwrap();
    let written = writes(&fs, &store, 300, 1_000);
    let mut upto = 0;
    let mut first = 0;
    for (at, len) in &written {
        let end = at + *len as u64;
        if end.next_multiple_of(PAGE) > upto {
            first += 1;
            upto = end.next_multiple_of(PAGE);
        }
    }
    // 300 groups on some 85 pages: one of 64 and more is the first there, and writes the zeros.
    assert!((2..=8).contains(&first), "{first} of {}", written.len());
    assert_eq!(written.len(), 300 + first / 2, "{first}");
}

#[test]
fn a_large_group_is_written_once_and_zeros_end_with_the_segment() {
    let fs = SimFs::default();
    let (store, _) = open("/q".as_ref(), env(fs.clone())).unwrap();
    let large = writes(&fs, &store, 3, 100_000);
    assert_eq!(large.len(), 3, "{large:?}");
    let small = writes(&fs, &store, 800, 1_000);
    let end = small.iter().map(|(at, len)| at + *len as u64).max();
    assert_eq!(end, Some(1 << 20), "to the end of the segment");
}

/// Zeros are a favour. Where there is no space for them, messages go on.
#[test]
fn zeros_that_find_no_space_cost_nobody_anything() {
    let fs = SimFs::default();
    let (store, _) = open("/q".as_ref(), env(fs.clone())).unwrap();
    // All that is made ahead is there, so nobody else asks for space.
    let made = |_| {
        std::thread::yield_now();
        fs.list("/q/commitlog".as_ref()).unwrap().len() == 4
    };
    assert!((0..10_000_000).any(made));
    fs.asked();
    // The group itself still finds some.
    fs.inject(Some(Fault::NoSpace(1)));
    wait(store.submit(batch(0, &["first".to_owned()]))).unwrap();
    let writes = fs.asked().into_iter().filter(|it| it.what == Ask::Write);
    assert_eq!(writes.count(), 2);
    fs.inject(None);
    wait(store.submit(batch(0, &["second".to_owned()]))).unwrap();
    assert_eq!(bodies(&store, 0), ["first", "second"]);
}
