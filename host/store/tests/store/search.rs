//! Searches through the key index: page by page the same, those that wait included, whatever was lost.

use quern_protocol::{Message, RecordView, TopicId};
use quern_store::fs::Fs as _;
use quern_store::sim::SimFs;
use quern_store::{Append, Due, Lookup, Most, Part, Search, Store};

use crate::derived::{in_steps, strip};

const ALL: Most = Most {
    records: usize::MAX,
    bytes: usize::MAX,
    took: u64::MAX,
};
const TOPICS: [TopicId; 2] = [TopicId(1), TopicId(2)];
const MESSAGES: usize = 600;

/// Every message has the key, and shares its id with two others.
fn append(n: usize) -> Append {
    let message = Message::new("t", format!("{n} {}", "x".repeat(900)));
    let id = format!("id{}", n / 3);
    Append {
        topic: TOPICS[n % 2],
        blocks: message.key("k").encode(&id, 0).unwrap(),
        count: 1,
        ..Append::default()
    }
}

/// Numbers of what a search finds page by page, and how many pages there were.
fn pages(store: &Store, search: &Search<'_>, most: Most) -> (Vec<usize>, usize) {
    let (mut search, mut all, mut pages) = (search.clone(), Vec::new(), 0);
    loop {
        let page = store.search(&search, &most).unwrap();
        assert!(page.unreadable.is_empty(), "{:?}", page.unreadable);
        assert!(page.records.len() <= most.records);
        all.extend(page.records.iter().map(|record| {
            let view = RecordView::parse(record).unwrap();
            let body = str::from_utf8(view.block.stored_body()).unwrap();
            let number = body.split(' ').next().unwrap();
            number.parse::<usize>().unwrap()
        }));
        pages += 1;
        match page.next {
            Some(next) => {
                assert!(next < search.before, "it goes on");
                search.before = next;
            }
            None => return (all, pages),
        }
    }
}

fn check(store: &Store, how: &str) {
    let bounds = [
        ALL,
        Most { records: 1, ..ALL },
        Most { records: 7, ..ALL },
        Most {
            bytes: 5_000,
            ..ALL
        },
        Most { bytes: 1, ..ALL },
        Most { took: 0, ..ALL },
    ];
    for most in bounds {
        for topics in [&TOPICS[..1], &TOPICS[..]] {
            let search = Search::new(topics, Lookup::Key("k"));
            let is_of = |n: &usize| topics.contains(&TOPICS[n % 2]) && n % 3 != 2;
            let expected: Vec<_> = (0..MESSAGES).rev().filter(is_of).collect();
            assert_eq!(pages(store, &search, most).0, expected, "{how}: {most:?}");
        }
        let search = Search::new(&TOPICS, Lookup::UniqueId("id70"));
        let found = pages(store, &search, most).0;
        assert_eq!(found, [212, 211, 210], "{how}: {most:?}");
    }
    let search = Search::new(&TOPICS, Lookup::Key("k"));
    let tens = pages(store, &search, Most { records: 10, ..ALL });
    assert_eq!(tens.1, 40, "{how}");
    let never = Search {
        stored: 5..=9,
        ..search
    };
    assert!(pages(store, &never, ALL).0.is_empty(), "{how}");
}

#[test]
fn a_search_is_the_same_page_by_page_and_finds_what_waits_by_its_id() {
    let fs = SimFs::default();
    let (store, _, mut steps) = in_steps(&fs, None);
    for n in 0..MESSAGES {
        // One in three waits, and is found by its id alone.
        match n % 3 {
            2 => drop(store.submit_later(append(n), Due::In(1_000_000_000))),
            _ => drop(store.submit(append(n))),
        }
        while steps.step(Part::Appender) || steps.step(Part::Syncer) || steps.step(Part::Maker) {}
    }
    check(&store, "live");
    let image = fs.crash(1);
    check(&in_steps(&image, None).0, "after a crash");
    steps.close().unwrap();
    drop(store);
    strip(&fs);
    let (store, _, _steps) = in_steps(&fs, None);
    check(&store, "from the log alone");
    // One that cannot be read costs the others nothing.
    let search = Search::new(&TOPICS, Lookup::UniqueId("id70"));
    let page = store.search(&search, &ALL).unwrap();
    let middle = RecordView::parse(&page.records[1]).unwrap();
    let at = middle.header.position.0 as usize;
    let names = fs.list("/q/commitlog".as_ref()).unwrap();
    let bases = names.iter().filter_map(|it| it.strip_suffix(".seg"));
    let bases = bases.map(|it| it.parse::<usize>().unwrap());
    let base = bases.filter(|base| *base <= at).max().unwrap();
    let file = format!("/q/commitlog/{base:020}.seg");
    fs.flip(file.as_ref(), at - base + 100, 1);
    let page = store.search(&search, &ALL).unwrap();
    assert_eq!((page.records.len(), page.unreadable.len()), (2, 1));
}
