//! A queue selector: a message goes to a queue of its own region, the rest go anywhere.
//!
//! The region is a property of the message; a broker's region is the zone it states. Within a region
//! messages with one order key share a queue.

use quern_plugin::{
    Batch, Description, Figure, Needs, Param, Params, Queue, QueueSelector, Refusal, Text, java,
};

pub struct RegionRouter {
    property: String,
}

impl QueueSelector for RegionRouter {
    fn describe() -> Description {
        let property = Param::text("property", "the property that names the region");
        let summary = "queues of the message's own region";
        Description::new("region-router", env!("CARGO_PKG_VERSION"), summary)
            .param(property.default("region"))
    }

    fn open(params: &Params) -> Result<Self, Refusal> {
        Ok(Self {
            property: params.text("property").to_owned(),
        })
    }

    fn needs(&self) -> Needs {
        Needs::new()
            .text(Text::Property(self.property.clone()))
            .text(Text::OrderKey)
            .figure(Figure::Sequence)
    }

    fn select(&self, queues: &[Queue], batch: &Batch, message: usize) -> Result<usize, String> {
        let region = batch.text(message, 0).unwrap_or("");
        let local = |index: &usize| queues[*index].zone.eq_ignore_ascii_case(region);
        let mut choice: Vec<usize> = (0..queues.len()).filter(local).collect();
        if choice.is_empty() {
            choice = (0..queues.len()).collect();
        }
        let number = match batch.text(message, 1) {
            Some(key) => java::hash_code(key).into(),
            None => batch.number(message, 0).unwrap_or(0),
        };
        Ok(choice[number.rem_euclid(choice.len() as i64) as usize])
    }
}

quern_plugin::export_queue_selector!(RegionRouter);
