//! The built-in least-latency selector: queues in turn, but for those whose broker appends more than
//! twice as slowly as the median, or has more than twice its backlog. What is unknown counts as fast.

use quern_plugin::{Batch, Description, Figure, Needs, Params, Queue, QueueSelector, Refusal};

/// Indices of the queues that are fast enough; never empty once there is a route.
#[derive(Default)]
pub struct LeastLatency(Vec<usize>);

impl QueueSelector for LeastLatency {
    fn describe() -> Description {
        let summary = "queues of brokers that are not slow, in turn";
        Description::new("least-latency", env!("CARGO_PKG_VERSION"), summary)
    }

    fn open(_: &Params) -> Result<Self, Refusal> {
        Ok(Self::default())
    }

    fn needs(&self) -> Needs {
        Needs::new().figure(Figure::Sequence)
    }

    fn route(&mut self, queues: &[Queue]) {
        let latency = twice_the_median(queues.iter().map(|it| it.latency_us));
        let backlog = twice_the_median(queues.iter().map(|it| it.backlog));
        let fast = |queue: &Queue| {
            u64::from(queue.latency_us) <= latency && u64::from(queue.backlog) <= backlog
        };
        let indices = 0..queues.len();
        self.0 = indices
            .clone()
            .filter(|index| fast(&queues[*index]))
            .collect();
        if self.0.is_empty() {
            self.0 = indices.collect();
        }
    }

    fn select(&self, _: &[Queue], batch: &Batch, message: usize) -> Result<usize, String> {
        let turn = batch.number(message, 0).unwrap_or(0);
        Ok(self.0[turn.rem_euclid(self.0.len() as i64) as usize])
    }
}

/// Of the figures that are known; with none of them, nobody is slow.
fn twice_the_median(figures: impl Iterator<Item = u32>) -> u64 {
    let mut known: Vec<u32> = figures.filter(|figure| *figure > 0).collect();
    known.sort_unstable();
    match known.len() {
        0 => u64::MAX,
        len => u64::from(known[(len - 1) / 2]) * 2,
    }
}

quern_plugin::export_queue_selector!(LeastLatency);
