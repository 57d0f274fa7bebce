//! The built-in random selector: any queue. The broker throws the dice, so that the same batch gets
//! the same answer.

use quern_plugin::{Batch, Description, Figure, Needs, Params, Queue, QueueSelector, Refusal};

pub struct Random;

impl QueueSelector for Random {
    fn describe() -> Description {
        Description::new("random", env!("CARGO_PKG_VERSION"), "any queue")
    }

    fn open(_: &Params) -> Result<Self, Refusal> {
        Ok(Self)
    }

    fn needs(&self) -> Needs {
        Needs::new().figure(Figure::Random)
    }

    fn select(&self, queues: &[Queue], batch: &Batch, message: usize) -> Result<usize, String> {
        let random = batch.number(message, 0).unwrap_or(0);
        Ok(random.rem_euclid(queues.len() as i64) as usize)
    }
}

quern_plugin::export_queue_selector!(Random);
