//! Plugins at work in a broker. A filter that fails holds back its own subscription and nothing else:
//! whatever it does, no message is lost or passed on unjudged, and the broker says which plugin failed
//! and why. A selector that fails refuses what has an order key, and nothing else. A filter that reads
//! bodies is given them.

use std::path::Path;

use quern_broker::Config;
use quern_plugins::{BODY_FILTER, HOSTILE, HOSTILE_SELECTOR, Runtime};
use quern_protocol::{
    BrokerName, Code, Compression, Filter, Message, Placed, Placement, PluginReport, QueueId,
    QueueOffset, Selector, Send, SendSelected, SendSelectedReply, Status, WriteQueues,
};
use quern_quic::{CallError, Connection};
use quern_store::sim::SimFs;

use crate::{WITHIN, ask, config, connect, create, fill, pull, topic};

/// A broker with a plugin besides those that are always there, and a connection to it.
async fn broker(dir: &Path, (name, bytes): (&str, &[u8])) -> Connection {
    let plugins = Runtime::new(&quern_plugins::Config::default()).unwrap();
    let config = Config {
        filters: vec![plugins.load(name, bytes).unwrap()],
        ..config()
    };
    connect(dir, config, &plugins, &SimFs::default()).await
}

fn report<'a>(plugins: &'a [PluginReport], name: &str) -> &'a PluginReport {
    let found = plugins.iter().find(|plugin| plugin.name == name);
    found.unwrap_or_else(|| panic!("{name} among {plugins:?}"))
}

fn hostile(text: &str) -> Filter {
    Filter::Expression {
        language: "HOSTILE".to_owned(),
        text: text.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_precedes_the_failing_message_is_delivered_and_the_rest_waits() {
    let dir = tempfile::tempdir().unwrap();
    let connection = broker(dir.path(), ("hostile", HOSTILE)).await;
    fill(&connection, &["a", "b", "poison", "c"]).await;
    let (reply, tags) = pull(&connection, 0, hostile("poison")).await.unwrap();
    assert_eq!(tags, ["a", "b"]);
    assert_eq!(reply.next, QueueOffset(2));
    let stall = reply.stall.expect("it says that delivery waits");
    assert_eq!(
        (stall.offset, stall.code),
        (QueueOffset(2), Code::PLUGIN_TRAP.number)
    );
    assert!(stall.message.contains("hostile 0.0.1"), "{}", stall.message);
    assert!((1..=1_000).contains(&stall.retry_ms), "{}", stall.retry_ms);
    // Until then the guest is not even asked.
    let calls = || async {
        let plugins = ask(&connection, &Status {}).await.plugins;
        report(&plugins, "hostile").calls
    };
    let before = calls().await;
    let (reply, tags) = pull(&connection, 2, hostile("poison")).await.unwrap();
    assert!(tags.is_empty() && reply.stall.is_some());
    assert_eq!(calls().await, before);
    // Another filter and no filter at all do not notice.
    let (reply, tags) = pull(&connection, 0, Filter::All).await.unwrap();
    assert_eq!(tags, ["a", "b", "poison", "c"]);
    assert_eq!(reply.stall, None);
    let (reply, tags) = pull(&connection, 0, Filter::tag("poison || c"))
        .await
        .unwrap();
    assert_eq!(tags, ["poison", "c"]);
    assert_eq!(reply.stall, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_to_fail_has_its_code_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let connection = broker(dir.path(), ("hostile", HOSTILE)).await;
    fill(&connection, &["a", "b", "c"]).await;
    for (how, code) in [
        ("trap", Code::PLUGIN_TRAP),
        ("loop", Code::PLUGIN_FUEL),
        ("bomb", Code::PLUGIN_MEMORY),
        ("short", Code::PLUGIN_ANSWER),
        ("long", Code::PLUGIN_ANSWER),
        ("spare", Code::PLUGIN_ANSWER),
        ("fail", Code::PLUGIN_FAILURE),
    ] {
        let (reply, tags) = pull(&connection, 0, hostile(how)).await.unwrap();
        assert!(tags.is_empty(), "{how}");
        assert_eq!(reply.next, QueueOffset(0), "{how}");
        assert_eq!(
            reply.stall.map(|stall| stall.code),
            Some(code.number),
            "{how}"
        );
        let (_, tags) = pull(&connection, 0, Filter::All).await.unwrap();
        assert_eq!(tags, ["a", "b", "c"], "after {how}");
    }
    for (how, code) in [
        ("compile-loop", Code::PLUGIN_FUEL),
        ("compile-trap", Code::PLUGIN_TRAP),
    ] {
        let refused = pull(&connection, 0, hostile(how)).await.unwrap_err();
        assert_eq!(refused.code(), code, "{how}: {refused}");
    }
    let unknown = Filter::Expression {
        language: "GLOB".to_owned(),
        text: "a*".to_owned(),
    };
    let refused = pull(&connection, 0, unknown).await.unwrap_err();
    assert_eq!(refused.code(), Code::LANGUAGE_UNKNOWN);
    let plugins = ask(&connection, &Status {}).await.plugins;
    assert!(report(&plugins, "hostile").faults >= 9, "{plugins:?}");
    // What nobody has asked for is not there yet.
    assert!(plugins.iter().all(|plugin| plugin.name != "tag"));
}

/// Sends a message for each order key; `None` = it has none.
async fn select(
    connection: &Connection,
    selector: Selector,
    keys: &[Option<&str>],
) -> Result<SendSelectedReply, CallError> {
    let blocks = keys.iter().map(|key| {
        let message = Message::new("t", "x");
        let message = match key {
            Some(key) => message.order_by(*key),
            None => message,
        };
        message.encode("id", 0).unwrap()
    });
    let request = SendSelected {
        topic: topic(),
        messages: keys.len() as u32,
        selector,
        group: None,
        zone: String::new(),
        route: Vec::new(),
        durability: None,
        choose_only: false,
    };
    let sent = connection.call(&request, blocks.collect(), WITHIN).await?;
    Ok(sent.0)
}

fn code(placement: &Placement) -> u16 {
    match &placement.placed {
        Placed::Refused(error) => error.code,
        _ => 0,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_selector_that_fails_refuses_what_has_an_order_key_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let connection = broker(dir.path(), ("hostile-selector", HOSTILE_SELECTOR)).await;
    create(&connection, 2).await;
    let hostile = |mode| Selector::named("hostile-selector").param("mode", mode);
    let mut stored = 0;
    for (mode, expected) in [
        ("trap", Code::PLUGIN_TRAP),
        ("loop", Code::PLUGIN_FUEL),
        ("beyond", Code::PLUGIN_ANSWER),
        ("fail", Code::PLUGIN_FAILURE),
    ] {
        let keys = [None, Some("k"), None];
        let reply = select(&connection, hostile(mode), &keys).await.unwrap();
        assert_eq!(reply.selector, "hostile-selector 0.0.1");
        let codes: Vec<u16> = reply.placements.iter().map(code).collect();
        assert_eq!(codes, [0, expected.number, 0], "{mode}");
        // The others took the queues in turn, and the answer says so.
        for place in [0, 2] {
            let placement = &reply.placements[place];
            assert!(placement.fell_back, "{mode}");
            assert!(
                matches!(placement.placed, Placed::Stored { queue, .. } if queue.0 == 0),
                "{mode}: {placement:?}"
            );
            stored += 1;
        }
    }
    // One bad message costs its neighbours nothing.
    let keys = [Some("a"), Some("poison"), Some("b")];
    let reply = select(&connection, hostile("poison"), &keys).await.unwrap();
    let codes: Vec<u16> = reply.placements.iter().map(code).collect();
    assert_eq!(codes, [0, Code::PLUGIN_TRAP.number, 0]);
    assert!(!reply.placements[0].fell_back);
    stored += 2;
    // One that cannot even be opened is no more than one that fails.
    let keys = [None, Some("k")];
    let reply = select(&connection, hostile("open-loop"), &keys)
        .await
        .unwrap();
    let codes: Vec<u16> = reply.placements.iter().map(code).collect();
    assert_eq!(codes, [0, Code::PLUGIN_FUEL.number]);
    assert!(reply.placements[0].fell_back);
    stored += 1;
    let (pulled, _) = pull(&connection, 0, Filter::All).await.unwrap();
    assert_eq!(pulled.messages, stored, "all in queue 0, each once");

    for (selector, expected) in [
        (Selector::named("nobody"), Code::SELECTOR_UNKNOWN),
        (Selector::named("tag"), Code::SELECTOR_UNKNOWN),
        (hostile("refuse"), Code::PARAMETER_REFUSED),
        (hostile(&"x".repeat(5_000)), Code::BAD_REQUEST),
    ] {
        let refused = select(&connection, selector, &[None]).await.unwrap_err();
        assert_eq!(refused.code(), expected, "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_of_another_broker_are_chosen_among_and_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let connection = broker(dir.path(), ("hostile-selector", HOSTILE_SELECTOR)).await;
    create(&connection, 2).await;
    let block = Message::new("t", "x")
        .order_by("k")
        .encode("id", 0)
        .unwrap();
    let request = SendSelected {
        route: vec![WriteQueues {
            broker: BrokerName::new("a").unwrap(),
            queues: 3,
        }],
        ..SendSelected::new(topic(), 1, Selector::named("hash"))
    };
    let sent = connection
        .call(&request, vec![block], WITHIN)
        .await
        .unwrap();
    // Java's hash of "k" is 107: the third of a/0, a/1, a/2, b/0, b/1.
    let elsewhere = Placed::Elsewhere {
        broker: BrokerName::new("a").unwrap(),
        queue: QueueId(2),
    };
    assert_eq!(sent.0.placements[0].placed, elsewhere);
    // Its own queues are only named when it shall only choose, and nothing is stored.
    for (choose_only, is_stored) in [(true, false), (false, true)] {
        let request = SendSelected {
            choose_only,
            ..SendSelected::new(topic(), 1, Selector::named("hash"))
        };
        let block = Message::new("t", "x").order_by("k").encode("id", 0);
        let sent = connection
            .call(&request, vec![block.unwrap()], WITHIN)
            .await
            .unwrap();
        let placed = &sent.0.placements[0].placed;
        assert_eq!(
            matches!(placed, Placed::Stored { .. }),
            is_stored,
            "{placed:?}"
        );
        assert_eq!(matches!(placed, Placed::Elsewhere { .. }), !is_stored);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_that_reads_bodies_is_given_them() {
    let dir = tempfile::tempdir().unwrap();
    let connection = broker(dir.path(), ("json-field", BODY_FILTER)).await;
    // More than one batch of bodies, and one that is large.
    let tags: Vec<String> = (0..150).map(|n| n.to_string()).collect();
    create(&connection, 1).await;
    let blocks = tags.iter().enumerate().map(|(n, tag)| {
        let padding = if n == 70 { 600_000 } else { 9 };
        let body = format!("{{\"n\":{n},\"padding\":\"{}\"}}", "x".repeat(padding));
        // Of every four, three are compressed.
        let compression = Compression::ALL.get(n % 4).copied();
        let message = Message::new("t", body).tag(tag);
        message.encode_with("id", 0, compression).unwrap()
    });
    let send = Send::new(topic(), QueueId(0), tags.len() as u32);
    connection
        .call(&send, blocks.collect(), WITHIN)
        .await
        .unwrap();
    let filter = Filter::Expression {
        language: "JSON".to_owned(),
        text: "n >= 60".to_owned(),
    };
    let (mut from, mut delivered) = (0, Vec::new());
    while from < 150 {
        let (reply, tags) = pull(&connection, from, filter.clone()).await.unwrap();
        assert_eq!(reply.stall, None);
        assert!(reply.next.0 > from);
        from = reply.next.0;
        delivered.extend(tags);
    }
    assert_eq!(delivered, tags[60..]);
}
