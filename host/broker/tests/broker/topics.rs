//! What a topic allows: permissions, the type of message it takes, and whether that has to have a key. Whatever is
//! refused is not stored.

use quern_plugins::Runtime;
use quern_protocol::{
    Cleanup, Code, CountMessages, Filter, Later, Message, MessageType, Permission, QueueId,
    ResendMessage, Selector, Send, SendSelected, SetTopic, TopicSetting,
};
use quern_quic::Connection;
use quern_store::sim::SimFs;

use crate::{WITHIN, ask, connect, create, pull, topic};

/// How a message is sent: with an order key or not, to a queue or where a selector says.
async fn send(connection: &Connection, has_key: bool, is_selected: bool) -> Option<u16> {
    let message = Message::new("t", "x");
    let message = match has_key {
        true => message.order_by("k"),
        false => message,
    };
    let block = vec![message.encode("id", 0).unwrap()];
    let outcome = match is_selected {
        false => {
            let request = Send::new(topic(), QueueId(0), 1);
            connection.call(&request, block, WITHIN).await.map(drop)
        }
        true => {
            let request = SendSelected::new(topic(), 1, Selector::named("hash"));
            connection.call(&request, block, WITHIN).await.map(drop)
        }
    };
    outcome.err().map(|error| error.code().number)
}

async fn set(connection: &Connection, setting: TopicSetting) {
    let settings = vec![setting];
    let topic = topic();
    ask(connection, &SetTopic { topic, settings }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permission_and_type_are_enforced_on_every_way_in_and_out() {
    let dir = tempfile::tempdir().unwrap();
    let plugins = Runtime::new(&quern_plugins::Config::default()).unwrap();
    let fs = SimFs::default();
    let connection = connect(dir.path(), crate::config(), &plugins, &fs).await;
    create(&connection, 1).await;
    let (closed, wrong) = (
        Some(Code::TOPIC_CLOSED.number),
        Some(Code::WRONG_TYPE.number),
    );
    let mut stored = 0;
    // Permission, type; what a message without an order key hears, and one with.
    for (permission, messages, plain, keyed) in [
        (Permission::ReadWrite, None, None, None),
        (Permission::Write, None, None, None),
        (Permission::Read, None, closed, closed),
        (Permission::Nothing, None, closed, closed),
        (Permission::ReadWrite, Some(MessageType::Fifo), wrong, None),
        (
            Permission::ReadWrite,
            Some(MessageType::Normal),
            None,
            wrong,
        ),
        (Permission::Read, Some(MessageType::Normal), closed, closed),
    ] {
        set(&connection, TopicSetting::Permission(permission)).await;
        set(&connection, TopicSetting::Messages(messages)).await;
        let what = format!("{permission} {messages:?}");
        for is_selected in [false, true] {
            for (has_key, expected) in [(false, plain), (true, keyed)] {
                let heard = send(&connection, has_key, is_selected).await;
                assert_eq!(heard, expected, "{what}, key {has_key}, {is_selected}");
                stored += u32::from(heard.is_none());
            }
        }
        let pulled = pull(&connection, 0, Filter::All).await;
        match pulled {
            Ok((pulled, _)) => {
                assert!(permission.can_read(), "{what}");
                assert_eq!(pulled.messages, stored, "{what}");
            }
            Err(error) => {
                assert!(!permission.can_read(), "{what}");
                assert_eq!(error.code(), Code::TOPIC_CLOSED, "{what}");
            }
        }
    }
}

/// Each way in asks for a key, for later or at once; what is wrong with a request stores none of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compacted_topic_takes_no_message_without_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let plugins = Runtime::new(&quern_plugins::Config::default()).unwrap();
    let fs = SimFs::default();
    let connection = connect(dir.path(), crate::config(), &plugins, &fs).await;
    create(&connection, 1).await;
    set(&connection, TopicSetting::Cleanup(Cleanup::Compact)).await;
    let block = |key: &str| {
        let message = Message::new("t", "x");
        let message = match key {
            "" => message,
            key => message.key(key),
        };
        message.encode("id", 0).unwrap()
    };
    let mut stored = 0;
    for (keys, is_taken) in [
        (&["k"][..], true),
        (&["a", "b c"], true),
        (&[""], false),
        (&[" "], false),
        (&["a", "", "b"], false),
    ] {
        let blocks = || keys.iter().map(|key| block(key)).collect();
        let count = keys.len() as u32;
        let at_once = Send::new(topic(), QueueId(0), count);
        let later = Send {
            later: Some(Later::In(3_600_000)),
            ..at_once.clone()
        };
        let selected = SendSelected::new(topic(), count, Selector::named("hash"));
        let heard = [
            connection.call(&at_once, blocks(), WITHIN).await.err(),
            connection.call(&later, blocks(), WITHIN).await.err(),
            connection.call(&selected, blocks(), WITHIN).await.err(),
        ];
        for error in heard {
            let code = error.map(|error| error.code());
            let expected = (!is_taken).then_some(Code::KEY_MISSING);
            assert_eq!(code, expected, "{keys:?}");
        }
        stored += if is_taken { 2 * u64::from(count) } else { 0 };
    }
    let count = CountMessages {
        topic: topic(),
        group: None,
    };
    let counted = ask(&connection, &count).await.queues;
    let counted: Vec<_> = counted.iter().map(|it| it.messages).collect();
    assert_eq!(counted, [stored]);

    // Nor is what was there before sent again without one.
    let delete = TopicSetting::Cleanup(Cleanup::Delete);
    set(&connection, delete).await;
    let request = Send::new(topic(), QueueId(0), 1);
    let sent = connection.call(&request, vec![block("")], WITHIN).await;
    let again = ResendMessage {
        topic: topic(),
        queue: QueueId(0),
        offset: sent.unwrap().0.first,
        group: None,
        dry_run: false,
    };
    set(&connection, TopicSetting::Cleanup(Cleanup::Compact)).await;
    let answer = connection.call(&again, Vec::new(), WITHIN).await;
    assert_eq!(
        answer.err().map(|error| error.code()),
        Some(Code::KEY_MISSING)
    );
}

/// Whichever of the two settings comes first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn for_ever_and_for_an_hour_is_a_contradiction() {
    let dir = tempfile::tempdir().unwrap();
    let plugins = Runtime::new(&quern_plugins::Config::default()).unwrap();
    let fs = SimFs::default();
    let connection = connect(dir.path(), crate::config(), &plugins, &fs).await;
    create(&connection, 1).await;
    set(&connection, TopicSetting::Cleanup(Cleanup::Compact)).await;
    let (retention, compact) = (
        TopicSetting::Retention(Some(3_600_000)),
        TopicSetting::Cleanup(Cleanup::Compact),
    );
    let refused = async |settings: &[TopicSetting]| {
        let set = SetTopic {
            topic: topic(),
            settings: settings.to_vec(),
        };
        let answer = connection.call(&set, Vec::new(), WITHIN).await;
        answer.err().map(|error| error.code())
    };
    let bad = Some(Code::BAD_REQUEST);
    assert_eq!(refused(&[retention]).await, bad);
    let delete = TopicSetting::Cleanup(Cleanup::Delete);
    assert_eq!(refused(&[delete, retention]).await, None);
    assert_eq!(refused(&[compact]).await, bad);
    assert_eq!(
        refused(&[compact, TopicSetting::Retention(None)]).await,
        None
    );
}
