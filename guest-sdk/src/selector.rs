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
///
/// ```
/// use quern_plugin::{
///     Batch, BatchBuilder, Description, Figure, Needs, Params, Queue, QueueSelector, Refusal, Text,
/// };
///
/// /// Urgent messages to the first queue, the others to the rest in turn.
/// struct Urgent;
///
/// impl QueueSelector for Urgent {
///     fn describe() -> Description {
///         Description::new("urgent", "1.0.0", "a queue of their own for urgent messages")
///     }
///     fn open(_: &Params) -> Result<Self, Refusal> {
///         Ok(Self)
///     }
///     fn needs(&self) -> Needs {
///         Needs::new().text(Text::Tag).figure(Figure::Sequence)
///     }
///     fn select(&self, queues: &[Queue], batch: &Batch, message: usize) -> Result<usize, String> {
///         let others = queues.len() as i64 - 1;
///         match batch.text(message, 0) {
///             Some("urgent") => Ok(0),
///             _ if others == 0 => Ok(0),
///             _ => Ok(1 + batch.number(message, 0).unwrap_or(0).rem_euclid(others) as usize),
///         }
///     }
/// }
///
/// # #[cfg(target_family = "wasm")]
/// quern_plugin::export_queue_selector!(Urgent);
///
/// let queue = |id| Queue {
///     broker: "broker-a".to_owned(),
///     id,
///     zone: String::new(),
///     latency_us: 0,
///     backlog: 0,
/// };
/// let queues = [queue(0), queue(1), queue(2)];
/// let batch = BatchBuilder::default().message(&[Some("urgent")], &[7]).message(&[None], &[7]);
/// let batch = batch.build();
/// assert_eq!(Urgent.select(&queues, &batch, 0), Ok(0));
/// assert_eq!(Urgent.select(&queues, &batch, 1), Ok(2));
/// ```
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
