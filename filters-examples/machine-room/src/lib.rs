//! The built-in machine-room selector: queues in the sender's own zone, by the hash of the order key
//! or in turn; if there are none, among all.

use quern_plugin::{
    Batch, Description, Figure, Needs, Params, Queue, QueueSelector, Refusal, Text, java,
};

pub struct MachineRoom;

impl QueueSelector for MachineRoom {
    fn describe() -> Description {
        let summary = "queues in the sender's zone, by order key";
        Description::new("machine-room", env!("CARGO_PKG_VERSION"), summary)
    }

    fn open(_: &Params) -> Result<Self, Refusal> {
        Ok(Self)
    }

    fn needs(&self) -> Needs {
        let needs = Needs::new().text(Text::Zone).text(Text::OrderKey);
        needs.figure(Figure::Sequence)
    }

    fn select(&self, queues: &[Queue], batch: &Batch, message: usize) -> Result<usize, String> {
        let zone = batch.text(message, 0).unwrap_or("");
        let near = |queue: &Queue| zone.is_empty() || queue.zone == zone;
        let nearby = queues.iter().filter(|queue| near(queue)).count();
        let count = if nearby == 0 { queues.len() } else { nearby };
        let number = match batch.text(message, 1) {
            Some(key) => (i64::from(java::hash_code(key)) % count as i64).abs(),
            None => batch
                .number(message, 0)
                .unwrap_or(0)
                .rem_euclid(count as i64),
        } as usize;
        if nearby == 0 {
            return Ok(number);
        }
        let mut indices = (0..queues.len()).filter(|index| near(&queues[*index]));
        indices.nth(number).ok_or_else(|| "no queue".to_owned())
    }
}

quern_plugin::export_queue_selector!(MachineRoom);
