//! Filters bound to a group, beside what its consumers ask for: chains decide alike however little they are asked
//! for at once, and what a bound filter fails on becomes what the group wants.

use bytes::Bytes;
use quern_broker::Config;
use quern_plugins::{HOSTILE, Runtime};
use quern_protocol::record::records;
use quern_protocol::retry::UNJUDGED;
use quern_protocol::{
    BindingChange, ChangeBindings, Filter, FilterFailure, GroupName, GroupSetting, PluginFilter,
    PluginName, Pull, PullReply, QueueId, QueueOffset, RecordView, SetGroup,
};
use quern_quic::Connection;
use quern_store::sim::SimFs;

use crate::{WITHIN, ask, config, connect, fill, topic};

fn group() -> GroupName {
    GroupName::new("g").unwrap()
}

async fn broker(dir: &std::path::Path) -> Connection {
    let plugins = Runtime::new(&quern_plugins::Config::default()).unwrap();
    let config = Config {
        filters: vec![plugins.load("hostile", HOSTILE).unwrap()],
        ..config()
    };
    connect(dir, config, &plugins, &SimFs::default()).await
}

async fn change(connection: &Connection, change: BindingChange) -> Vec<PluginFilter> {
    let request = ChangeBindings {
        topic: topic(),
        group: group(),
        change,
    };
    ask(connection, &request).await.filters
}

async fn bind(connection: &Connection, plugin: &str, text: &str) {
    let filter = Filter::plugin(plugin).unwrap().expression(text);
    let bound = change(connection, BindingChange::Bind(filter.clone())).await;
    assert_eq!(bound.last(), Some(&filter));
}

/// Tags, and whether the message says that nobody has judged it.
fn seen(body: &Bytes) -> Vec<(String, bool)> {
    let seen = records(body).map(|record| {
        let record = record.unwrap();
        let view = RecordView::parse(&record).unwrap();
        let tag = view.block.tag().to_owned();
        (tag, view.notes.get(UNJUDGED).is_some())
    });
    seen.collect()
}

struct Ask {
    group: Option<GroupName>,
    from: u64,
    max: u32,
    filter: Filter,
}

fn by(filter: Filter) -> Ask {
    Ask {
        group: Some(group()),
        from: 0,
        max: 1_000,
        filter,
    }
}

async fn pull(connection: &Connection, asked: &Ask) -> (PullReply, Vec<(String, bool)>) {
    let pull = Pull {
        broadcast: false,
        group: asked.group.clone(),
        topic: topic(),
        queue: QueueId(0),
        from: QueueOffset(asked.from),
        max_messages: asked.max,
        max_bytes: 1 << 20,
        wait_ms: 0,
        filter: asked.filter.clone(),
    };
    let (reply, body) = connection.call(&pull, Vec::new(), WITHIN).await.unwrap();
    let seen = seen(&body);
    (reply, seen)
}

fn tags(seen: &[(String, bool)]) -> Vec<&str> {
    seen.iter().map(|(tag, _)| &tag[..]).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_filters_of_a_chain_let_through_what_comes_however_few_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let connection = broker(dir.path()).await;
    let sent = ["a", "ab", "b", "abc", "c", "ba", "bc", "cab", "ac", "cba"];
    fill(&connection, &sent).await;
    bind(&connection, "sql92", "TAGS CONTAINS 'b'").await;
    bind(&connection, "hostile", "poison").await;
    let right = ["ab", "abc", "ba", "cab", "cba"];
    for max in 1..=6 {
        let mut asked = Ask {
            max,
            ..by(Filter::sql("TAGS CONTAINS 'a'"))
        };
        let mut all = Vec::new();
        while asked.from < sent.len() as u64 {
            let (reply, some) = pull(&connection, &asked).await;
            assert!(some.len() <= max as usize && reply.next.0 > asked.from);
            asked.from = reply.next.0;
            all.extend(some);
        }
        assert_eq!(tags(&all), right, "{max} at once");
    }
    let (_, bound_alone) = pull(&connection, &by(Filter::All)).await;
    let with_b: Vec<_> = sent.into_iter().filter(|it| it.contains('b')).collect();
    assert_eq!(tags(&bound_alone), with_b);
    let nobody = Ask {
        group: None,
        ..by(Filter::All)
    };
    let (_, all) = pull(&connection, &nobody).await;
    assert_eq!(tags(&all), sent);
    for name in ["sql92", "hostile"] {
        let name = PluginName::new(name).unwrap();
        change(&connection, BindingChange::Unbind(name)).await;
    }
    let (_, all) = pull(&connection, &by(Filter::All)).await;
    assert_eq!(tags(&all), sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_bound_filter_fails_on_becomes_what_its_group_wants() {
    let dir = tempfile::tempdir().unwrap();
    let connection = broker(dir.path()).await;
    fill(&connection, &["a", "poison", "b", "poison", "c"]).await;
    bind(&connection, "hostile", "poison").await;
    let policy = async |policy| {
        let settings = vec![GroupSetting::OnFilterFailure(policy)];
        let group = group();
        ask(&connection, &SetGroup { group, settings }).await
    };
    // Those before it, and what the group asks for itself, say it first.
    let spared = by(Filter::tag("a || b"));
    let (reply, some) = pull(&connection, &spared).await;
    assert_eq!((tags(&some), reply.stall), (vec!["a", "b"], None));
    let most = || by(Filter::sql("TAGS IS NOT NULL AND TAGS <> 'b'"));
    let (reply, some) = pull(&connection, &most()).await;
    assert_eq!((tags(&some), reply.next), (vec!["a"], QueueOffset(1)));
    let stall = reply.stall.unwrap();
    assert_eq!((stall.code, stall.offset), (4301, QueueOffset(1)));
    // An operator who unbinds it helps at once, and who looks again within a second notices.
    assert!(stall.retry_ms <= 1_000, "{stall:?}");
    let name = PluginName::new("hostile").unwrap();
    change(&connection, BindingChange::Unbind(name)).await;
    let again = Ask { from: 1, ..most() };
    let (reply, some) = pull(&connection, &again).await;
    assert_eq!(tags(&some), ["poison", "poison", "c"]);
    assert_eq!(reply.stall, None);

    bind(&connection, "hostile", "poison").await;
    policy(FilterFailure::Pass).await;
    let (_, some) = pull(&connection, &most()).await;
    assert_eq!(tags(&some), ["a", "poison", "poison", "c"]);
    assert!(
        some.iter()
            .all(|(tag, unjudged)| (tag == "poison") == *unjudged)
    );
    // The other way round: what a filter fails on, another may reject.
    let failing = Filter::Expression {
        language: "HOSTILE".to_owned(),
        text: "poison".to_owned(),
    };
    bind(&connection, "sql92", "TAGS <> 'poison'").await;
    let (reply, some) = pull(&connection, &by(failing)).await;
    assert_eq!((tags(&some), reply.stall), (vec!["a", "b", "c"], None));
    let name = PluginName::new("sql92").unwrap();
    change(&connection, BindingChange::Unbind(name)).await;

    policy(FilterFailure::Park).await;
    let (reply, some) = pull(&connection, &most()).await;
    assert_eq!((tags(&some), reply.stall), (vec!["a", "c"], None));
    assert_eq!(reply.next, QueueOffset(5));
}
