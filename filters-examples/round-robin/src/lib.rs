//! The built-in round-robin selector: queues in turn. The broker counts.

use quern_plugin::{Batch, Description, Figure, Needs, Params, Queue, QueueSelector, Refusal};

pub struct RoundRobin;

impl QueueSelector for RoundRobin {
    fn describe() -> Description {
        Description::new("round-robin", env!("CARGO_PKG_VERSION"), "queues in turn")
    }

    fn open(_: &Params) -> Result<Self, Refusal> {
        Ok(Self)
    }

    fn needs(&self) -> Needs {
        Needs::new().figure(Figure::Sequence)
    }

    fn select(&self, queues: &[Queue], batch: &Batch, message: usize) -> Result<usize, String> {
        let turn = batch.number(message, 0).unwrap_or(0);
        Ok(turn.rem_euclid(queues.len() as i64) as usize)
    }
}

quern_plugin::export_queue_selector!(RoundRobin);
