//! A queue selector: which queue does a message go to that its sender left open?

use quern_plugin::{
    Batch, Description, Figure, Needs, Params, Queue, QueueSelector, Refusal, Text, java,
};

/// Urgent messages have the first queue for themselves.
pub struct Urgent;

impl QueueSelector for Urgent {
    fn describe() -> Description {
        let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        Description::new(name, version, "a queue of their own for urgent messages")
    }

    fn open(_: &Params) -> Result<Self, Refusal> {
        Ok(Self)
    }

    fn needs(&self) -> Needs {
        Needs::new()
            .text(Text::Tag)
            .text(Text::OrderKey)
            .figure(Figure::Sequence)
    }

    fn select(&self, queues: &[Queue], batch: &Batch, message: usize) -> Result<usize, String> {
        let others = queues.len() as i64 - 1;
        if others == 0 || batch.text(message, 0) == Some("urgent") {
            return Ok(0);
        }
        // Messages with one order key share a queue; the others take them in turn.
        let number = match batch.text(message, 1) {
            Some(key) => java::hash_code(key).into(),
            None => batch.number(message, 0).unwrap_or(0),
        };
        Ok(1 + number.rem_euclid(others) as usize)
    }
}

quern_plugin::export_queue_selector!(Urgent);
