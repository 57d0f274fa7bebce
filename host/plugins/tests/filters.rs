//! The runtime at its boundary: the tag language as RocketMQ speaks it (`filters-examples/tag`),
//! guests that misbehave (`tests/guests/hostile`), and bytes that are no plugin.

use std::sync::Arc;

use quern_plugins::{
    Batch, COMPONENT_LIMIT, Config, Field, HOSTILE, LoadError, Plugin, Runtime, Snapshot,
    SubscribeError, Subscription, Verdict, Worker,
};

use Verdict::{Deliver, Reject, Unjudged};

fn runtime() -> Runtime {
    Runtime::new(&Config {
        instances: 8,
        ..Config::default()
    })
    .expect("the runtime starts")
}

fn tag(runtime: &Runtime) -> Arc<Plugin> {
    let tag = runtime.built_in("tag").expect("we ship it");
    tag.expect("and it is sound")
}

/// A runtime, its hostile plugin and a worker.
fn hostile() -> (Runtime, Arc<Plugin>, Worker) {
    let runtime = runtime();
    let loaded = runtime.load("hostile", HOSTILE);
    let plugin = loaded.expect("the hostile guest looks like any other");
    let worker = runtime.worker();
    (runtime, plugin, worker)
}

/// Messages that carry these tags and nothing else.
fn tagged(subscription: &Subscription, tags: &[Option<&str>]) -> Batch {
    let needs = subscription.needs();
    assert!(needs.fields.iter().all(|field| *field == Field::Tag));
    let mut batch = Batch::new(needs);
    for tag in tags {
        batch.begin_message();
        for _ in &needs.fields {
            batch.text(*tag);
        }
        batch.end_message();
    }
    batch
}

fn verdicts(
    worker: &mut Worker,
    subscription: &Subscription,
    tags: &[Option<&str>],
) -> Vec<Verdict> {
    let judged = worker.judge(subscription, &tagged(subscription, tags));
    assert_eq!(judged.fault, None);
    judged.verdicts
}

#[test]
fn what_we_ship_says_of_itself_what_we_say_of_it() {
    let runtime = runtime();
    for known in Runtime::built_ins() {
        let plugin = runtime.built_in(known.name).unwrap().unwrap();
        assert_eq!(plugin.name(), known.name);
        assert_eq!(plugin.kind(), known.kind, "{}", known.name);
        assert_eq!(plugin.language(), known.language, "{}", known.name);
        assert!(!plugin.summary().is_empty(), "{}", known.name);
    }
    assert!(runtime.built_in("nothing").is_none());
    assert_eq!(runtime.built_ins_in_use().len(), Runtime::built_ins().len());
}

#[test]
fn the_tag_language() {
    let runtime = runtime();
    let tag = &tag(&runtime);
    assert_eq!((tag.name(), tag.language()), ("tag", Some("TAG")));
    assert_eq!(tag.digest().len(), 64);
    let mut worker = runtime.worker();
    let tags = [
        None,
        Some("paid"),
        Some("refunded"),
        Some("*"),
        Some("Paid"),
        Some("paid "),
    ];
    // Expression, and which of the tags above it delivers; `None` = refused.
    let cases: &[(&str, Option<[u8; 6]>)] = &[
        ("*", Some([1, 1, 1, 1, 1, 1])),
        ("", Some([1, 1, 1, 1, 1, 1])),
        ("paid", Some([0, 1, 0, 0, 0, 0])),
        ("paid || refunded", Some([0, 1, 1, 0, 0, 0])),
        ("\tpaid||refunded\n", Some([0, 1, 1, 0, 0, 0])),
        ("||paid||", Some([0, 1, 0, 0, 0, 0])),
        ("paid | refunded", Some([0, 0, 0, 0, 0, 0])),
        ("other", Some([0, 0, 0, 0, 0, 0])),
        (" * ", Some([0, 0, 0, 1, 0, 0])),
        ("*||paid", Some([0, 1, 0, 1, 0, 0])),
        ("||", None),
        ("|| ||", None),
        (" ", None),
    ];
    for (expression, wanted) in cases {
        let answer = worker.subscribe(tag, expression, &[]);
        match (answer, wanted) {
            (Ok(subscription), Some(wanted)) => {
                let wanted = wanted.map(|it| if it == 1 { Deliver } else { Reject });
                let found = verdicts(&mut worker, &subscription, &tags);
                assert_eq!(found, wanted, "{expression:?}");
            }
            (Err(SubscribeError::Refused(refusal)), None) => {
                assert!(refusal.help.is_some(), "{expression:?}: {refusal}");
            }
            (answer, _) => panic!("{expression:?}: {answer:?}"),
        }
    }
}

#[test]
fn tags_with_one_hash_are_told_apart() {
    let runtime = runtime();
    let mut worker = runtime.worker();
    let tag = &tag(&runtime);
    let subscription = worker.subscribe(tag, "Aa", &[]).unwrap();
    assert_eq!(subscription.needs().fields, [Field::Tag]);
    assert_eq!(subscription.needs().tag_codes.as_deref(), Some(&[2112][..]));
    let found = verdicts(&mut worker, &subscription, &[Some("Aa"), Some("BB")]);
    assert_eq!(found, [Deliver, Reject]);
    let twin = worker.subscribe(tag, "BB", &[]).unwrap();
    assert_eq!(twin.needs().tag_codes, subscription.needs().tag_codes);
    // Java hashes UTF-16 units: this one is a surrogate pair.
    let astral = worker.subscribe(tag, "\u{1F600}", &[]).unwrap();
    assert_eq!(astral.needs().tag_codes.as_deref(), Some(&[1_772_899][..]));
    let all = worker.subscribe(tag, "*", &[]).unwrap();
    assert_eq!(all.needs().tag_codes, None);
}

#[test]
fn batches_of_every_length() {
    let runtime = runtime();
    let mut worker = runtime.worker();
    let paid = worker.subscribe(&tag(&runtime), "paid", &[]).unwrap();
    for len in [0, 1, 31, 32, 33, 63, 64, 65, 255, 256] {
        let tag = |index: usize| (index.is_multiple_of(3)).then_some("paid");
        let tags: Vec<_> = (0..len).map(tag).collect();
        let found = verdicts(&mut worker, &paid, &tags);
        let wanted = tags
            .iter()
            .map(|tag| if tag.is_some() { Deliver } else { Reject });
        assert_eq!(found, wanted.collect::<Vec<_>>(), "{len} messages");
    }
}

#[test]
fn a_subscription_serves_every_worker() {
    let runtime = runtime();
    let paid = runtime
        .worker()
        .subscribe(&tag(&runtime), "paid", &[])
        .unwrap();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (mut worker, paid) = (runtime.worker(), paid.clone());
            std::thread::spawn(move || verdicts(&mut worker, &paid, &[Some("paid"), None]))
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), [Deliver, Reject]);
    }
}

#[test]
fn a_hostile_guest_judges_nothing_and_harms_nobody() {
    let (runtime, plugin, mut worker) = hostile();
    let paid = worker.subscribe(&tag(&runtime), "paid", &[]).unwrap();
    let cases = [
        ("loop", 4302),
        ("bomb", 4303),
        ("trap", 4301),
        ("deep", 4301),
        ("short", 4304),
        ("long", 4304),
        ("spare", 4304),
        ("huge", 4304),
        ("fail", 4305),
    ];
    for (expression, code) in cases {
        let subscription = worker.subscribe(&plugin, expression, &[]).unwrap();
        for len in [1, 7, 33] {
            let judged = worker.judge(&subscription, &tagged(&subscription, &vec![Some("t"); len]));
            assert_eq!(judged.verdicts, vec![Unjudged; len], "{expression}");
            let fault = judged.fault.unwrap();
            assert_eq!(fault.code, code, "{expression}: {fault}");
            assert_eq!((&*fault.plugin, &*fault.version), ("hostile", "0.0.1"));
        }
        let found = verdicts(&mut worker, &paid, &[Some("paid"), None]);
        assert_eq!(found, [Deliver, Reject], "after {expression}");
    }
    let good = worker.subscribe(&plugin, "anything else", &[]).unwrap();
    assert_eq!(verdicts(&mut worker, &good, &[None]), [Deliver]);
}

#[test]
fn only_the_messages_at_fault_are_unjudged() {
    let (_runtime, plugin, mut worker) = hostile();
    let subscription = worker.subscribe(&plugin, "poison", &[]).unwrap();
    for poisoned in [&[0][..], &[255], &[100], &[3, 4], &[0, 128, 255]] {
        let tag = |index| {
            if poisoned.contains(&index) {
                Some("poison")
            } else {
                Some("sound")
            }
        };
        let tags: Vec<_> = (0..256).map(tag).collect();
        let judged = worker.judge(&subscription, &tagged(&subscription, &tags));
        for (index, verdict) in judged.verdicts.iter().enumerate() {
            let wanted = if poisoned.contains(&index) {
                Unjudged
            } else {
                Deliver
            };
            assert_eq!(
                *verdict, wanted,
                "message {index} with {poisoned:?} poisoned"
            );
        }
        assert_eq!(judged.fault.unwrap().code, 4301);
    }
}

#[test]
fn a_batch_too_heavy_in_one_piece_is_judged_in_parts() {
    let (_runtime, plugin, mut worker) = hostile();
    let heavy = worker.subscribe(&plugin, "heavy", &[]).unwrap();
    let judged = worker.judge(&heavy, &tagged(&heavy, &[None; 256]));
    assert_eq!(judged.verdicts, [Deliver; 256]);
    assert_eq!(judged.fault, None);
    assert!(plugin.metrics().out_of_fuel > 0);
}

#[test]
fn what_precedes_the_first_fault_is_judged_even_if_patience_ends() {
    let (_runtime, plugin, mut worker) = hostile();
    let subscription = worker.subscribe(&plugin, "poison", &[]).unwrap();
    let mut tags = [Some("poison"); 256];
    tags[..5].fill(Some("sound"));
    let judged = worker.judge(&subscription, &tagged(&subscription, &tags));
    assert_eq!(
        judged.verdicts[..6],
        [Deliver, Deliver, Deliver, Deliver, Deliver, Unjudged]
    );
    assert!(
        judged.verdicts[6..]
            .iter()
            .all(|verdict| *verdict == Unjudged)
    );
    assert!(plugin.metrics().calls < 100, "{:?}", plugin.metrics());
}

#[test]
fn compiling_is_limited_too() {
    let (_runtime, plugin, mut worker) = hostile();
    for (expression, code) in [("compile-loop", 4302), ("compile-trap", 4301)] {
        match worker.subscribe(&plugin, expression, &[]) {
            Err(SubscribeError::Fault(fault)) => assert_eq!(fault.code, code, "{fault}"),
            answer => panic!("{expression}: {answer:?}"),
        }
    }
    for expression in ["needs-many", "needs-other", "needs-random"] {
        match worker.subscribe(&plugin, expression, &[]) {
            Err(SubscribeError::Refused(refusal)) => {
                assert!(refusal.reason.contains("need"), "{refusal}");
            }
            answer => panic!("{expression}: {answer:?}"),
        }
    }
    match worker.subscribe(&plugin, "refuse", &[]) {
        Err(SubscribeError::Refused(refusal)) => {
            assert!(
                refusal.reason.len() <= 1_024,
                "{} bytes",
                refusal.reason.len()
            );
            assert_eq!(
                (refusal.at, refusal.len),
                (6, 0),
                "a span lies in the expression"
            );
        }
        answer => panic!("{answer:?}"),
    }
}

#[test]
fn what_happened_is_counted() {
    let (runtime, plugin, mut worker) = hostile();
    let tag = &tag(&runtime);
    let paid = worker.subscribe(tag, "paid", &[]).unwrap();
    let before = tag.metrics();
    verdicts(&mut worker, &paid, &[None; 10]);
    let after = tag.metrics();
    assert_eq!(
        (after.calls - before.calls, after.messages - before.messages),
        (1, 10)
    );
    assert!(after.fuel > before.fuel);
    assert_eq!(after.faults(), 0);

    type Read = fn(&Snapshot) -> u64;
    let cases: [(&str, Read); 5] = [
        ("trap", |it| it.traps),
        ("loop", |it| it.out_of_fuel),
        ("bomb", |it| it.out_of_memory),
        ("short", |it| it.bad_answers),
        ("fail", |it| it.failures),
    ];
    for (expression, counter) in cases {
        let subscription = worker.subscribe(&plugin, expression, &[]).unwrap();
        let before = plugin.metrics();
        worker.judge(&subscription, &tagged(&subscription, &[None]));
        let after = plugin.metrics();
        assert_eq!(counter(&after) - counter(&before), 1, "{expression}");
        assert_eq!(after.faults() - before.faults(), 1, "{expression}");
    }
    let chatty = worker.subscribe(&plugin, "chatty", &[]).unwrap();
    verdicts(&mut worker, &chatty, &[None; 3]);
    let counters = plugin.counters();
    assert_eq!(counters.len(), 16, "the guest tried a thousand names");
    assert!(
        counters.iter().all(|(_, count)| *count == 2),
        "{counters:?}"
    );
}

#[test]
fn what_is_no_plugin_is_refused() {
    const MODULE: &[u8] = b"\0asm\x01\0\0\0";
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";
    // An empty instance type, imported under a name of WASI.
    let mut wasi = EMPTY.to_vec();
    wasi.extend(b"\x07\x03\x01\x42\x00");
    let name = b"wasi:clocks/monotonic-clock@0.2.0";
    wasi.extend([0x0a, name.len() as u8 + 5, 1, 0, name.len() as u8]);
    wasi.extend(name);
    wasi.extend([5, 0]);
    let cut = &HOSTILE[..HOSTILE.len() / 2];
    let large = vec![0; COMPONENT_LIMIT + 1];
    let cases: &[(&str, &[u8], u16)] = &[
        ("nothing", b"", 4101),
        ("garbage", b"GIF89a, not Wasm at all", 4101),
        ("a core module", MODULE, 4101),
        ("half a component", cut, 4101),
        ("WASI", &wasi, 4102),
        ("no exports", EMPTY, 4103),
        ("too large", &large, 4104),
    ];
    let runtime = runtime();
    for (what, bytes, code) in cases {
        let error = runtime.load("bad", bytes).unwrap_err();
        assert_eq!(error.code(), *code, "{what}: {error}");
    }
    match runtime.load("bad", &wasi) {
        Err(LoadError::Import(name)) => assert!(name.starts_with("wasi:")),
        answer => panic!("{answer:?}"),
    }
}
