//! Verdicts are remembered: nobody is asked twice about a message, whoever reads it, and what nobody has said is
//! asked again.

use std::path::Path;

use quern_broker::Config;
use quern_plugins::{HOSTILE, Runtime};
use quern_protocol::{
    Code, DescribePlugin, Filter, PluginHealth, PluginName, PullReply, QueueOffset, Status,
};
use quern_quic::Connection;
use quern_store::sim::SimFs;

use crate::{ask, config, connect, fill, pull};

async fn broker(dir: &Path) -> Connection {
    let plugins = Runtime::new(&quern_plugins::Config::default()).unwrap();
    let config = Config {
        filters: vec![plugins.load("hostile", HOSTILE).unwrap()],
        ..config()
    };
    connect(dir, config, &plugins, &SimFs::default()).await
}

fn filter(language: &str, text: &str) -> Filter {
    Filter::Expression {
        language: language.to_owned(),
        text: text.to_owned(),
    }
}

/// Messages SQL92 was asked about, and those it was not, for its verdict was known.
async fn asked(connection: &Connection) -> (u64, u64) {
    let name = PluginName::new("sql92").unwrap();
    let mut versions = ask(connection, &DescribePlugin { name }).await.versions;
    let it = versions.pop().unwrap();
    let known = it
        .counters
        .iter()
        .find(|(name, _)| name == "quern:remembered");
    (
        it.figures.unwrap().messages,
        known.map_or(0, |(_, count)| *count),
    )
}

/// Tags of all messages, and where the last pull left off.
async fn drained(connection: &Connection, filter: &Filter) -> (PullReply, Vec<String>) {
    pull(connection, 0, filter.clone()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_asked_about_a_message_twice() {
    let dir = tempfile::tempdir().unwrap();
    let connection = broker(dir.path()).await;
    let sent: Vec<&str> = (0..90).map(|n| ["a", "b", "c"][n % 3]).collect();
    fill(&connection, &sent).await;
    let not_b = filter("SQL92", "TAGS <> 'b'");
    let right: Vec<_> = sent.iter().filter(|it| **it != "b").copied().collect();
    for round in 0..=3 {
        let (reply, tags) = drained(&connection, &not_b).await;
        assert_eq!(tags, right, "round {round}");
        assert_eq!(reply.next, QueueOffset(90));
        assert_eq!(asked(&connection).await, (90, 90 * round));
    }
    // From the middle too; and who asks something else is another matter, though it says the same.
    let (_, tags) = pull(&connection, 45, not_b).await.unwrap();
    assert_eq!(tags, right[30..]);
    assert_eq!(asked(&connection).await, (90, 270 + 45));
    let (_, tags) = drained(&connection, &filter("SQL92", "TAGS <>  'b'")).await;
    assert_eq!(tags, right);
    assert_eq!(asked(&connection).await, (180, 315));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_has_said_is_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let connection = broker(dir.path()).await;
    fill(&connection, &["a", "poison", "b"]).await;
    for _ in 0..3 {
        let (reply, tags) = drained(&connection, &filter("HOSTILE", "poison")).await;
        assert_eq!((tags, reply.next), (vec!["a".to_owned()], QueueOffset(1)));
        assert_eq!(
            reply.stall.map(|it| it.code),
            Some(Code::PLUGIN_TRAP.number)
        );
    }
    let (_, tags) = drained(&connection, &filter("HOSTILE", "all")).await;
    assert_eq!(tags, ["a", "poison", "b"]);
}

/// It delivers every seventh it is asked about, whichever that is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_now_this_and_now_that_is_found_out_and_not_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let connection = broker(dir.path()).await;
    fill(&connection, &["a", "b", "c", "d", "e", "f"]).await;
    for times in 1..=2 {
        let (reply, tags) = drained(&connection, &filter("HOSTILE", "counter")).await;
        assert_eq!((tags, reply.next), (Vec::new(), QueueOffset(0)), "{times}");
        let stall = reply.stall.unwrap();
        assert_eq!(stall.code, Code::PLUGIN_IMPURE.number);
        assert!(stall.message.contains("another order"), "{}", stall.message);
    }
    let versions = ask(&connection, &PluginHealth {}).await.versions;
    let it = versions
        .iter()
        .find(|it| it.plugin.as_str() == "hostile")
        .unwrap();
    assert!(
        it.faults.failures > 0 && it.last_fault.contains("Q-4107"),
        "{it:?}"
    );
    // What it says to another question is not remembered either.
    let calls = || async {
        let plugins = ask(&connection, &Status {}).await.plugins;
        let found = plugins.into_iter().find(|it| it.name == "hostile");
        found.unwrap().messages
    };
    let before = calls().await;
    for times in 1..=2 {
        let (_, tags) = drained(&connection, &filter("HOSTILE", "all")).await;
        assert_eq!(tags, ["a", "b", "c", "d", "e", "f"]);
        assert_eq!(calls().await, before + 6 * times);
    }
}
