//! What a topic allows: permissions, and the type of message it takes. Whatever is refused is not stored.

use quern_plugins::Runtime;
use quern_protocol::{
    Code, Filter, Message, MessageType, Permission, QueueId, Selector, Send, SendSelected,
    SetTopic, TopicSetting,
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
