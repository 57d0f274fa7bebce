//! `Send`: check the blocks, hand them to the log, answer when they are as durable as they have to be.
//!
//! Everything up to the hand-over happens when the request is first polled. The session polls
//! requests of a stream in the order they arrived, so messages of one stream keep their order.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quern_protocol::block::blocks;
use quern_protocol::message::{MessageError, ORDER_KEY, UNIQUE_KEY, is_reserved};
use quern_protocol::priority::PRIORITY;
use quern_protocol::request::{CORRELATION_ID, REPLY_TO, TTL};
use quern_protocol::{
    Block, BlockError, Code, CreateTopic, Later, MessageType, Permission, Send, SendReply,
    TopicName, WireError, limits,
};
use quern_store::{Acknowledge, Append};

use crate::topics::Topic;
use crate::{Broker, admin, delay, durability, reply};

pub(crate) async fn send(
    broker: &Broker,
    request: Send,
    body: Bytes,
    patience: Duration,
) -> Result<SendReply, WireError> {
    if broker.is_draining() {
        return Err(reply::going_away());
    }
    check_blocks(broker, request.messages, &body)?;
    let topic = topic(broker, &request.topic).await?;
    check_rules(broker, &topic, &body, request.later.as_ref())?;
    reply::queue_exists(&topic, request.queue, topic.has_write_queue(request.queue))?;
    let late = pin!(tokio::time::sleep(patience));
    let acknowledge = match durability::of_send(broker, &topic, request.durability)? {
        // One that waits is known by its place in the log: what nobody may know by another's is durable first.
        Acknowledge::Written if request.later.is_some() && !cfg!(zoo = "z29") => {
            Acknowledge::Durable
        }
        asked => asked,
    };
    let append = Append {
        topic: topic.id,
        queue: request.queue,
        blocks: body,
        count: request.messages,
        producer: request.batch,
        acknowledge,
    };
    let pending = delay::submit(broker, append, request.later.as_ref())?;
    let (status, appended) = durability::reached(pending, acknowledge, late).await?;
    broker.metrics.messages_in.add(request.messages.into());
    if let Some(later) = &request.later {
        broker.metrics.waits.stored(later, request.messages.into());
    }
    Ok(SendReply {
        status,
        first: appended.first,
        position: appended.position,
        stored_at: appended.stored_at,
    })
}

/// The topic of a send, made by it if that is allowed.
pub(crate) async fn topic(broker: &Broker, name: &TopicName) -> Result<Arc<Topic>, WireError> {
    reply::not_reserved(name)?;
    match broker.topic(name) {
        Err(error) if error.is(Code::NOT_FOUND) => auto_create(broker, name).await,
        found => found,
    }
}

/// Every block is verified before any is stored.
pub(crate) fn check_blocks(broker: &Broker, messages: u32, body: &Bytes) -> Result<(), WireError> {
    if body.len() > limits::SEND_BYTES {
        return Err(WireError::new(
            Code::TOO_LARGE,
            format!(
                "a send carries {} bytes of messages, the limit is {}",
                body.len(),
                limits::SEND_BYTES
            ),
        ));
    }
    let mut found = 0;
    for (index, block) in blocks(body).enumerate() {
        let block = block.map_err(|error| reply::bad_block(index, &error))?;
        check_properties(index, &block)?;
        check_size(index, &block, broker.config.max_message_size)?;
        found += 1;
    }
    if found != messages as usize || found == 0 || found > limits::SEND_MESSAGES {
        return Err(reply::bad_request(format!(
            "a send announces {} messages and carries {found}; allowed are 1 to {}",
            messages,
            limits::SEND_MESSAGES
        )));
    }
    check_bodies(body)
}

/// Whoever reads a message later can rely on its body.
fn check_bodies(body: &Bytes) -> Result<(), WireError> {
    let compressed = || {
        let all = blocks(body).flatten().enumerate();
        all.filter(|(_, block)| block.compression().is_some())
    };
    let raw: usize = compressed().map(|(_, block)| block.raw_len()).sum();
    if raw > limits::SEND_RAW_BYTES {
        let most = limits::SEND_RAW_BYTES;
        let why = format!(
            "the compressed messages of a send come to {raw} bytes, the limit is {most}: send them in several"
        );
        return Err(WireError::new(Code::TOO_LARGE, why));
    }
    for (index, block) in compressed() {
        let read = block.body().map_err(BlockError::Body);
        read.map_err(|error| reply::bad_block(index, &error))?;
    }
    Ok(())
}

/// What the topic allows. The blocks have been verified.
pub(crate) fn check_rules(
    broker: &Broker,
    topic: &Topic,
    body: &Bytes,
    later: Option<&Later>,
) -> Result<(), WireError> {
    reply::topic_is_open(broker, topic, "send", Permission::can_write)?;
    if topic.rules.messages.is_none() && !topic.rules.is_compacted() && later.is_none() {
        return Ok(());
    }
    for (index, block) in blocks(body).flatten().enumerate() {
        check_key(topic, index, &block)?;
        let has_order_key = block.properties().any(|(name, _)| name == ORDER_KEY);
        let has_priority = block.property(PRIORITY).is_some();
        let found = MessageType::of(has_order_key, has_priority, later);
        if has_order_key && later.is_some() {
            let error = MessageError::OrderedAndWaiting;
            let why = format!("message {index} of the request: {error}");
            return Err(WireError::new(error.code(), why));
        }
        if let Some(messages) = topic.rules.messages.filter(|it| *it != found) {
            let name = &topic.name;
            let why = format!(
                "topic \"{name}\" takes {messages} messages only, and message {index} of the request is {found}"
            );
            return Err(WireError::new(Code::WRONG_TYPE, why));
        }
    }
    Ok(())
}

/// What is compacted, is by key.
pub(crate) fn check_key(topic: &Topic, index: usize, block: &Block<'_>) -> Result<(), WireError> {
    let has_key = block.keys().split_ascii_whitespace().next().is_some();
    if has_key || !topic.rules.is_compacted() {
        return Ok(());
    }
    let name = &topic.name;
    let why = format!(
        "topic \"{name}\" keeps the newest message of each key, and message {index} of the request has no key: \
         give it one (--key, Message::key)"
    );
    Err(WireError::new(Code::KEY_MISSING, why))
}

fn check_size(index: usize, block: &Block<'_>, most: usize) -> Result<(), WireError> {
    let size = block.raw_len();
    if size <= most {
        return Ok(());
    }
    Err(WireError::new(
        Code::TOO_LARGE,
        format!(
            "message {index} of the request has a body of {size} bytes, this broker's limit (maxMessageSize) is {most}"
        ),
    ))
}

/// Properties of the system that its own clients set.
const ALLOWED: [&str; 6] = [
    UNIQUE_KEY,
    ORDER_KEY,
    PRIORITY,
    REPLY_TO,
    CORRELATION_ID,
    TTL,
];

fn check_properties(index: usize, block: &Block<'_>) -> Result<(), WireError> {
    match block
        .properties()
        .find(|(name, _)| !ALLOWED.contains(name) && is_reserved(name))
    {
        None => Ok(()),
        Some((name, _)) => Err(WireError::new(
            Code::RESERVED_NAME,
            format!("message {index} of the request sets the system's property {name:?}"),
        )),
    }
}

async fn auto_create(broker: &Broker, name: &TopicName) -> Result<Arc<Topic>, WireError> {
    let Some(queues) = broker.config.auto_create_queues else {
        return Err(reply::no_topic(name));
    };
    let request = CreateTopic {
        settings: broker.config.auto_create_settings.clone(),
        ..CreateTopic::new(name.clone(), queues)
    };
    match admin::create(broker, request).await {
        // Somebody else was faster.
        Err(error) if error.is(Code::ALREADY_EXISTS) => broker.topic(name),
        created => {
            tracing::info!(topic = %name, queues, "topic created by its first message");
            created
        }
    }
}
