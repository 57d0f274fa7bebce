//! Queue selectors: which queue does a message go to?

use crate::about::{Description, Params};
use crate::batch::Batch;
use crate::needs::Needs;
use crate::refusal::Refusal;

/// A queue that takes messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    pub broker: String,
    pub id: u32,
    /// Where its broker stands; empty = unknown.
    pub zone: String,
    /// Moving average of its broker's appends; 0 = unknown.
    pub latency_us: u32,
    /// Requests that wait for its broker's log.
    pub backlog: u32,
}

/// A queue selector: one value per binding.
pub trait QueueSelector: Sized + 'static {
    fn describe() -> Description;

    /// Understands its parameters.
    fn open(params: &Params) -> Result<Self, Refusal>;

    /// What [`QueueSelector::select`] reads of a message.
    fn needs(&self) -> Needs;

    /// The queues to choose from, never none, sorted by broker name and id. Called before the first
    /// message, when they change, and now and then with fresh figures. Whatever is derived from
    /// them may be kept; nothing else may: the same message and queues get the same answer.
    fn route(&mut self, _queues: &[Queue]) {}

    /// Index of the queue this message goes to.
    fn select(&self, queues: &[Queue], batch: &Batch, message: usize) -> Result<usize, String>;
}
