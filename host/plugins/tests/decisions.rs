//! Selectors and strategies at the boundary of the runtime: what ours do where RocketMQ has no say
//! (`oracle.rs` has the rest), and what becomes of those that misbehave.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::sync::Arc;

use quern_plugins::{
    Batch, Config, Field, GroupQueue, HOSTILE_SELECTOR, HOSTILE_STRATEGY, Member, Number, Plugin,
    Request, Route, RouteQueue, Runtime, Selected, Selector, Strategy, SubscribeError, Worker,
};

fn runtime() -> Runtime {
    Runtime::new(&Config {
        instances: 8,
        ..Config::default()
    })
    .unwrap()
}

fn built_in(runtime: &Runtime, name: &str) -> Arc<Plugin> {
    runtime.built_in(name).unwrap().unwrap()
}

fn mode(mode: &str) -> Vec<(String, String)> {
    vec![("mode".to_owned(), mode.to_owned())]
}

/// `broker/id:zone`, latency and backlog.
fn route(queues: &[(&str, u32, u32)]) -> Route {
    let queues = queues.iter().map(|(place, latency_us, backlog)| {
        let (name, zone) = place.split_once(':').unwrap();
        let (broker, id) = name.split_once('/').unwrap();
        RouteQueue {
            broker: broker.to_owned(),
            id: id.parse().unwrap(),
            zone: zone.to_owned(),
            latency_us: *latency_us,
            backlog: *backlog,
        }
    });
    Route::new(queues.collect())
}

#[derive(Clone, Copy, Default)]
struct Sent<'a> {
    key: Option<&'a str>,
    zone: Option<&'a str>,
    sequence: i64,
    random: i64,
}

fn select(worker: &mut Worker, selector: &Selector, route: &Route, sent: &[Sent<'_>]) -> Selected {
    let needs = selector.needs();
    let mut batch = Batch::new(needs);
    for message in sent {
        batch.begin_message();
        for field in &needs.fields {
            batch.text(match field {
                Field::OrderKey => message.key,
                Field::Zone => message.zone,
                other => panic!("nobody said {other:?}"),
            });
        }
        for number in &needs.numbers {
            batch.number(match number {
                Number::Sequence => message.sequence,
                Number::Random => message.random,
                other => panic!("nobody said {other:?}"),
            });
        }
        batch.end_message();
    }
    worker.select(selector, route, &batch)
}

fn chosen(selected: Selected) -> Vec<usize> {
    assert_eq!(selected.fault, None);
    selected.queues.into_iter().map(Option::unwrap).collect()
}

fn in_turn(count: i64) -> Vec<Sent<'static>> {
    let sent = |sequence| Sent {
        sequence,
        ..Sent::default()
    };
    (0..count).map(sent).collect()
}

#[test]
fn queues_in_turn_and_queues_that_are_fast() {
    let runtime = runtime();
    let mut worker = runtime.worker();
    let open = |worker: &mut Worker, name| worker.open(&built_in(&runtime, name), &[]).unwrap();
    let three = route(&[("a/0:x", 0, 0), ("a/1:x", 0, 0), ("b/0:y", 0, 0)]);
    for name in [
        "round-robin",
        "hash",
        "fifo",
        "machine-room",
        "least-latency",
    ] {
        let selector = open(&mut worker, name);
        let found = chosen(select(&mut worker, &selector, &three, &in_turn(7)));
        assert_eq!(found, [0, 1, 2, 0, 1, 2, 0], "{name} without a key");
    }
    let least = open(&mut worker, "least-latency");
    let slow = route(&[
        ("a/0:", 100, 0),
        ("b/0:", 900, 0),
        ("c/0:", 120, 3),
        ("d/0:", 0, 90),
        ("e/0:", 110, 4),
    ]);
    let found = chosen(select(&mut worker, &least, &slow, &in_turn(4)));
    assert_eq!(found, [0, 2, 4, 0], "b is slow, d is busy");
    // Another route is told at once.
    let found = chosen(select(&mut worker, &least, &three, &in_turn(3)));
    assert_eq!(found, [0, 1, 2]);
}

#[test]
fn random_is_within_range_and_even() {
    let runtime = runtime();
    let mut worker = runtime.worker();
    let random = worker.open(&built_in(&runtime, "random"), &[]).unwrap();
    let four = route(&[
        ("a/0:", 0, 0),
        ("a/1:", 0, 0),
        ("a/2:", 0, 0),
        ("a/3:", 0, 0),
    ]);
    let mut dice = 0x5eedu64;
    let mut counts = [0u32; 4];
    for _ in 0..40 {
        let throw = |_| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            Sent {
                random: (dice >> 11) as i64,
                ..Sent::default()
            }
        };
        let sent: Vec<Sent<'_>> = (0..256).map(throw).collect();
        for queue in chosen(select(&mut worker, &random, &four, &sent)) {
            counts[queue] += 1;
        }
    }
    assert!(
        counts.iter().all(|count| (2_300..2_820).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn a_machine_room_keeps_its_own_messages() {
    let runtime = runtime();
    let mut worker = runtime.worker();
    let rooms = worker
        .open(&built_in(&runtime, "machine-room"), &[])
        .unwrap();
    let route = route(&[("a/0:x", 0, 0), ("b/0:y", 0, 0), ("b/1:y", 0, 0)]);
    let sent = |zone, key| Sent {
        zone,
        key: Some(key),
        ..Sent::default()
    };
    // Java's hash of "k" is 107, of "l" 108.
    let found = select(
        &mut worker,
        &rooms,
        &route,
        &[
            sent(Some("x"), "k"),
            sent(Some("y"), "k"),
            sent(Some("y"), "l"),
            sent(Some("z"), "k"),
            sent(None, "l"),
        ],
    );
    assert_eq!(chosen(found), [0, 2, 1, 2, 0]);
}

#[test]
fn a_hostile_selector_chooses_nothing_and_harms_nobody() {
    let runtime = runtime();
    let mut worker = runtime.worker();
    let hostile = runtime.load("hostile", HOSTILE_SELECTOR).unwrap();
    let hash = worker.open(&built_in(&runtime, "hash"), &[]).unwrap();
    let two = route(&[("a/0:", 0, 0), ("a/1:", 0, 0)]);
    for (how, code, said) in [
        ("trap", 4301, "as asked"),
        ("route-trap", 4301, "2 queues"),
        ("loop", 4302, "computing"),
        ("beyond", 4304, "queue number 1000 of 2"),
        ("short", 4304, "queues for"),
        ("long", 4304, "queues for"),
        ("fail", 4305, "as asked"),
    ] {
        let selector = worker.open(&hostile, &mode(how)).unwrap();
        for len in [1, 3] {
            let selected = select(&mut worker, &selector, &two, &vec![Sent::default(); len]);
            assert_eq!(selected.queues, vec![None; len], "{how}");
            let fault = selected.fault.unwrap();
            assert_eq!(fault.code, code, "{how}: {fault}");
            assert!(fault.message.contains(said), "{how}: {fault}");
        }
        let found = chosen(select(&mut worker, &hash, &two, &in_turn(2)));
        assert_eq!(found, [0, 1], "after {how}");
    }
    for (how, code) in [
        ("open-trap", 4301),
        ("open-loop", 4302),
        ("needs-trap", 4301),
    ] {
        match worker.open(&hostile, &mode(how)) {
            Err(SubscribeError::Fault(fault)) => assert_eq!(fault.code, code, "{how}"),
            answer => panic!("{how}: {answer:?}"),
        }
    }
    match worker.open(&hostile, &mode("refuse")) {
        Err(SubscribeError::Refused(refusal)) => {
            assert_eq!(
                (refusal.at, refusal.len),
                (6, 0),
                "a span lies in the value"
            );
        }
        answer => panic!("{answer:?}"),
    }
    assert!(worker.open(&hostile, &mode("needs-many")).is_err());
    // Only the message at fault is without a queue.
    let poison = worker.open(&hostile, &mode("poison")).unwrap();
    let mut sent = [Sent::default(); 9];
    sent[4].key = Some("poison");
    let selected = select(&mut worker, &poison, &two, &sent);
    let none: Vec<usize> = (0..9).filter(|it| selected.queues[*it].is_none()).collect();
    assert_eq!(none, [4]);
    assert!(selected.fault.unwrap().message.contains("poisoned"));
}

#[test]
fn a_plugin_is_asked_only_for_what_it_decides() {
    let runtime = runtime();
    let mut worker = runtime.worker();
    let (hash, tag) = (built_in(&runtime, "hash"), built_in(&runtime, "tag"));
    for refused in [
        worker.subscribe(&hash, "", &[]).map(|_| ()),
        worker.open(&tag, &[]).map(|_| ()),
        Strategy::bind(&hash, &[]).map(|_| ()),
    ] {
        let Err(SubscribeError::Refused(refusal)) = refused else {
            panic!("{refused:?}");
        };
        assert!(refusal.reason.contains("not a"), "{refusal}");
    }
}

/// A group of members `m0 …` and queues `b/0 …` with these owners.
fn group(members: usize, owners: &[Option<usize>]) -> Request {
    let members = (0..members).map(|index| Member {
        id: format!("m{index}"),
        zone: String::new(),
        weight: 1,
    });
    let queues = owners.iter().enumerate().map(|(id, owner)| GroupQueue {
        broker: "b".to_owned(),
        id: id as u32,
        zone: String::new(),
        owner: owner.map(|index| format!("m{index}")),
        lag: Some(7),
    });
    Request::new("g", "t", members.collect(), queues.collect())
}

#[test]
fn sticky_is_even_and_moves_as_little_as_can_be() {
    let runtime = runtime();
    let sticky = Strategy::bind(&built_in(&runtime, "sticky"), &[]).unwrap();
    let mut dice = 0x5eedu64;
    let mut throw = |of: usize| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (dice >> 33) as usize % of
    };
    for _ in 0..120 {
        let (members, queues) = (1 + throw(9), throw(34));
        // Owners beyond the members have left.
        let before: Vec<Option<usize>> = (0..queues)
            .map(|_| Some(throw(10)).filter(|it| *it < 10))
            .collect();
        let after = sticky.allocate(&group(members, &before)).unwrap();
        let mut loads = vec![0usize; members];
        after.iter().for_each(|owner| loads[owner.unwrap()] += 1);
        let (most, least) = (loads.iter().max().unwrap(), loads.iter().min().unwrap());
        assert!(most - least <= 1, "{members} {before:?} {after:?}");
        // The fewest moves there can be: nobody may keep more than a share.
        let mut had = vec![0usize; members];
        let alive = |owner: &&Option<usize>| owner.is_some_and(|it| it < members);
        before
            .iter()
            .filter(alive)
            .for_each(|owner| had[owner.unwrap()] += 1);
        had.sort_unstable_by(|left, right| right.cmp(left));
        let share = |place: usize| queues / members + usize::from(place < queues % members);
        let keep: usize = had
            .iter()
            .enumerate()
            .map(|(place, had)| (*had).min(share(place)))
            .sum();
        let kept = before
            .iter()
            .zip(&after)
            .filter(|(was, is)| was == is)
            .count();
        assert_eq!(kept, keep, "{members} {before:?} {after:?}");
        let again = sticky.allocate(&group(members, &after)).unwrap();
        assert_eq!(again, after, "nothing changed, so nothing moves");
    }
    assert_eq!(
        sticky.allocate(&group(0, &[None, None])).unwrap(),
        [None, None]
    );
}

#[test]
fn strategies_check_their_parameters_when_bound() {
    let runtime = runtime();
    let bind = |name: &str, params: &[(&str, &str)]| {
        let owned = params
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Strategy::bind(&built_in(&runtime, name), &owned.collect::<Vec<_>>())
    };
    let by_config = bind("by-config", &[("m1", "b/0, b/2"), ("m9", "b/1")]).unwrap();
    let owners = by_config.allocate(&group(2, &[None; 4])).unwrap();
    assert_eq!(
        owners,
        [Some(1), None, Some(1), None],
        "m9 is away, b/3 is not listed"
    );
    for (second, at, len) in [("b/1,b/0", 4, 3), ("b/1,b1", 4, 2)] {
        match bind("by-config", &[("m1", "b/0"), ("m2", second)]) {
            Err(SubscribeError::Refused(refusal)) => {
                assert_eq!((refusal.at, refusal.len), (at, len), "{second}: {refusal}");
            }
            answer => panic!("{second}: {answer:?}"),
        }
    }
    for (name, params) in [
        ("by-machine-room", &[][..]),
        ("machine-room-nearby", &[("inner", "sticky")][..]),
        ("consistent-hash", &[("points", "ten")][..]),
        ("averagely", &[("points", "1")][..]),
    ] {
        assert!(bind(name, params).is_err(), "{name} {params:?}");
    }
    // A zone nobody knows is no zone to be near to.
    let nearby = bind("machine-room-nearby", &[]).unwrap();
    let fault = nearby.allocate(&group(2, &[None; 2])).unwrap_err();
    assert_eq!(fault.code, 4305);
    assert!(fault.message.contains("zone of member m0"), "{fault}");
}

#[test]
fn a_hostile_strategy_gives_no_owners_and_remembers_nothing() {
    let runtime = runtime();
    let hostile = runtime.load("hostile", HOSTILE_STRATEGY).unwrap();
    let request = group(3, &[None; 5]);
    for (how, code, said) in [
        ("trap", 4301, "as asked"),
        ("loop", 4302, "computing"),
        ("beyond", 4304, "member number 3 of 3"),
        ("short", 4304, "4 owners for 5 queues"),
        ("long", 4304, "6 owners for 5 queues"),
        ("fail", 4305, "as asked"),
    ] {
        let strategy = Strategy::bind(&hostile, &mode(how)).unwrap();
        let fault = strategy.allocate(&request).unwrap_err();
        assert_eq!(fault.code, code, "{how}: {fault}");
        assert!(fault.message.contains(said), "{how}: {fault}");
    }
    for (how, code) in [("check-trap", 4301), ("check-loop", 4302)] {
        match Strategy::bind(&hostile, &mode(how)) {
            Err(SubscribeError::Fault(fault)) => assert_eq!(fault.code, code, "{how}"),
            answer => panic!("{how}: {answer:?}"),
        }
    }
    match Strategy::bind(&hostile, &mode("refuse")) {
        Err(SubscribeError::Refused(refusal)) => assert_eq!((refusal.at, refusal.len), (2, 4)),
        answer => panic!("{answer:?}"),
    }
    let counting = Strategy::bind(&hostile, &mode("count")).unwrap();
    for _ in 0..3 {
        assert_eq!(counting.allocate(&request).unwrap(), [Some(0); 5]);
    }
}
