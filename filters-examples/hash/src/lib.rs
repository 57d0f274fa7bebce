//! The built-in hash selector: messages with one order key share a queue, as with RocketMQ's
//! `SelectMessageQueueByHash`. A message without a key takes the queues in turn.

use quern_plugin::{
    Batch, Description, Figure, Needs, Params, Queue, QueueSelector, Refusal, Text, java,
};

pub struct Hash;

impl QueueSelector for Hash {
    fn describe() -> Description {
        let summary = "messages with one order key to one queue";
        Description::new("hash", env!("CARGO_PKG_VERSION"), summary)
    }

    fn open(_: &Params) -> Result<Self, Refusal> {
        Ok(Self)
    }

    fn needs(&self) -> Needs {
        Needs::new().text(Text::OrderKey).figure(Figure::Sequence)
    }

    fn select(&self, queues: &[Queue], batch: &Batch, message: usize) -> Result<usize, String> {
        let count = queues.len() as i64;
        let number = match batch.text(message, 0) {
            // Java's remainder has the sign of the hash.
            Some(key) => (i64::from(java::hash_code(key)) % count).abs(),
            None => batch.number(message, 0).unwrap_or(0).rem_euclid(count),
        };
        Ok(number as usize)
    }
}

quern_plugin::export_queue_selector!(Hash);
