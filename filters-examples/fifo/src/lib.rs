//! The built-in selector for message groups: jump consistent hash, as RocketMQ's gRPC proxy chooses.
//! With one queue more, few groups move. A message without a group, or with a blank one, takes the
//! queues in turn.

use quern_plugin::{
    Batch, Description, Figure, Needs, Params, Queue, QueueSelector, Refusal, Text, java,
};

pub struct Fifo;

impl QueueSelector for Fifo {
    fn describe() -> Description {
        let summary = "messages of one group to one queue, few groups moving when queues are added";
        Description::new("fifo", env!("CARGO_PKG_VERSION"), summary)
    }

    fn open(_: &Params) -> Result<Self, Refusal> {
        Ok(Self)
    }

    fn needs(&self) -> Needs {
        Needs::new().text(Text::OrderKey).figure(Figure::Sequence)
    }

    fn select(&self, queues: &[Queue], batch: &Batch, message: usize) -> Result<usize, String> {
        let group = batch
            .text(message, 0)
            .filter(|group| !group.trim().is_empty());
        Ok(match group {
            Some(group) => jump(java::hash_code(group).into(), queues.len()),
            None => {
                let turn = batch.number(message, 0).unwrap_or(0);
                turn.rem_euclid(queues.len() as i64) as usize
            }
        })
    }
}

/// Guava's `Hashing.consistentHash`; the hash is sign-extended.
fn jump(hash: i64, buckets: usize) -> usize {
    let mut state = hash as u64;
    let mut chosen = 0usize;
    loop {
        state = state
            .wrapping_mul(2_862_933_555_777_941_757)
            .wrapping_add(1);
        let fraction = ((state >> 33) + 1) as f64 / (1u64 << 31) as f64;
        let next = (chosen as f64 + 1.0) / fraction;
        if next >= buckets as f64 {
            return chosen;
        }
        chosen = next as usize;
    }
}

quern_plugin::export_queue_selector!(Fifo);
