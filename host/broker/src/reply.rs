//! From what goes wrong inside to what the asker is told: the one place where causes get codes.

use std::io;

use quern_plugins::{Fault, LoadError};
use quern_protocol::record::RecordError;
use quern_protocol::retry::is_reserved_topic;
use quern_protocol::{
    BlockError, Code, GroupName, Kind, Permission, QueueId, TopicName, WireError,
};
use quern_store::{AppendError, ReadError};

use crate::Broker;
use crate::topics::Topic;

pub(crate) fn no_topic(name: &TopicName) -> WireError {
    WireError::new(
        Code::NOT_FOUND,
        format!("topic \"{name}\" does not exist here; create it: quern topic create {name}"),
    )
}

/// `exists` says whether the queue is open for what the caller wants to do.
pub(crate) fn queue_exists(topic: &Topic, queue: QueueId, exists: bool) -> Result<(), WireError> {
    if exists {
        return Ok(());
    }
    Err(WireError::new(
        Code::NOT_FOUND,
        format!(
            "topic \"{}\" has no queue {queue} for this; it reads from {} and writes to {} queues, from 0",
            topic.name, topic.read_queues, topic.write_queues
        ),
    ))
}

/// Only the broker writes to such a topic.
pub(crate) fn not_reserved(name: &TopicName) -> Result<(), WireError> {
    if !is_reserved_topic(name) {
        return Ok(());
    }
    let text = format!("topic \"{name}\" is the system's: messages come to it by being given back");
    Err(WireError::new(Code::RESERVED_NAME, text))
}

/// `to` says what for; `allows` whether a permission includes it.
pub(crate) fn topic_is_open(
    broker: &Broker,
    topic: &Topic,
    to: &str,
    allows: fn(Permission) -> bool,
) -> Result<(), WireError> {
    let (name, permission) = (&topic.name, topic.rules.permission);
    let closed = |text: String| Err(WireError::new(Code::TOPIC_CLOSED, text));
    if !allows(broker.config.permission) {
        return closed(format!(
            "broker \"{}\" is closed to those who {to}: its brokerPermission is {}; start it with 6 to open it",
            broker.config.name, broker.config.permission
        ));
    }
    if !allows(permission) {
        return closed(format!(
            "topic \"{name}\" is closed to those who {to}: its permission is {permission}; open it: quern topic set {name} --perm rw"
        ));
    }
    Ok(())
}

pub(crate) fn group_closed(group: &GroupName) -> WireError {
    WireError::new(
        Code::GROUP_CLOSED,
        format!(
            "group \"{group}\" is not allowed to consume; allow it: quern group set {group} --consume on"
        ),
    )
    .after_ms(1_000)
}

pub(crate) fn topic_forbidden(group: &GroupName, topic: &TopicName, by: &str) -> WireError {
    WireError::new(
        Code::TOPIC_FORBIDDEN,
        format!(
            "group \"{group}\" is forbidden to consume topic \"{topic}\", says {by}; allow it: quern group set {group} --allow {topic}"
        ),
    )
    .after_ms(1_000)
}

/// `None` = it has none at all.
pub(crate) fn unknown_member(group: &GroupName, member: Option<&str>) -> WireError {
    let text = match member {
        Some(member) => {
            format!("group \"{group}\" has no member {member:?} that this broker knows")
        }
        None => format!("group \"{group}\" has no members that this broker knows"),
    };
    WireError::new(Code::UNKNOWN_MEMBER, text)
}

pub(crate) fn no_broadcast(group: &GroupName) -> WireError {
    WireError::new(
        Code::BROADCAST_REFUSED,
        format!(
            "group \"{group}\" is not allowed to broadcast; consume as its member, or allow it: quern group set {group} --broadcast on"
        ),
    )
}

/// Who pops shares with nobody who owns queues.
pub(crate) fn has_members(group: &GroupName) -> WireError {
    let text = format!(
        "group \"{group}\" has members that own its queues: a group is consumed by members or popped, not both"
    );
    WireError::new(Code::GROUP_BUSY, text)
}

pub(crate) fn bad_record(error: &RecordError) -> WireError {
    WireError::new(Code::DATA_CORRUPT, error.to_string())
}

pub(crate) fn no_group(group: &GroupName) -> WireError {
    WireError::new(
        Code::NO_GROUP,
        format!(
            "group \"{group}\" does not exist here, and its consumers do not make it (autoCreateSubscriptionGroup is false); make it: quern group create {group}"
        ),
    )
}

pub(crate) fn bad_request(text: impl Into<String>) -> WireError {
    WireError::new(Code::BAD_REQUEST, text)
}

pub(crate) fn bad_block(index: usize, error: &BlockError) -> WireError {
    WireError::new(
        error.code(),
        format!("message {index} of the request: {error}"),
    )
}

pub(crate) fn going_away() -> WireError {
    WireError::new(
        Code::GOING_AWAY,
        "this broker is shutting down and takes no new messages",
    )
    .after_ms(1_000)
}

pub(crate) fn append_failed(error: &AppendError) -> WireError {
    WireError::new(error.code(), error.to_string())
}

pub(crate) fn read_failed(error: &ReadError) -> WireError {
    WireError::new(error.code(), error.to_string())
}

/// A plugin cannot be compiled or loaded.
pub(crate) fn not_loaded(error: &LoadError) -> WireError {
    let code = *Code::find(error.code()).unwrap_or(&Code::INTERNAL);
    WireError::new(code, error.to_string())
}

/// A guest has failed at what it was asked.
pub(crate) fn failed(fault: &Fault) -> WireError {
    let code = *Code::find(fault.code).unwrap_or(&Code::INTERNAL);
    WireError::new(code, fault.to_string())
}

pub(crate) fn of_a_name_server(kind: Kind) -> WireError {
    WireError::new(
        Code::UNSUPPORTED,
        format!(
            "{} is a question for a name server, and this is a broker; the usual port of a name server is 9876",
            kind.name()
        ),
    )
}

pub(crate) fn no_plugin(name: &str) -> WireError {
    let text = format!("no plugin is called {name:?} here; quern plugin ls shows those there are");
    WireError::new(Code::NOT_FOUND, text)
}

/// Components of plugins cannot be read or written.
pub(crate) fn components_failed(error: &io::Error) -> WireError {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::DISK_FULL,
        _ => Code::DIRECTORY_UNUSABLE,
    };
    WireError::new(code, format!("the directory for plugins: {error}"))
}

/// A delivery thread is gone: a bug, told once where it happened.
pub(crate) fn delivery_stopped() -> WireError {
    WireError::new(
        Code::INTERNAL,
        "the broker's delivery threads have stopped; see its log",
    )
}

/// A task of ours has panicked: a bug, told once where it happened.
pub(crate) fn broke_off() -> WireError {
    WireError::new(
        Code::INTERNAL,
        "the request broke off; see the broker's log",
    )
}
