//! Allocation strategies: who of a group consumes which queue?

use crate::about::{Description, Params};
use crate::refusal::Refusal;

/// A member of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub id: String,
    /// Where it stands; empty = unknown.
    pub zone: String,
    pub weight: u32,
}

/// A queue that somebody shall consume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedQueue {
    pub broker: String,
    pub id: u32,
    /// Where its broker stands; empty = unknown.
    pub zone: String,
    /// Today's owner, an index into the members.
    pub owner: Option<usize>,
    /// Messages not yet consumed, where that is known.
    pub lag: Option<u64>,
}

/// What is to be shared out among whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub group: String,
    pub topic: String,
    /// Sorted by id, as Java sorts.
    pub members: Vec<Member>,
    /// Sorted by broker name and id.
    pub queues: Vec<OwnedQueue>,
}

/// The owner of each queue, an index into the members; `None` = nobody, on purpose.
pub type Owners = Vec<Option<usize>>;

/// An allocation strategy. It keeps nothing between calls: each gets a fresh instance.
///
/// ```
/// use quern_plugin::{
///     AllocationStrategy, Description, Member, OwnedQueue, Owners, Params, Request,
/// };
///
/// /// Everything to the first member; the others stand by.
/// struct OneLeads;
///
/// impl AllocationStrategy for OneLeads {
///     fn describe() -> Description {
///         Description::new("one-leads", "1.0.0", "all queues to the first member")
///     }
///     fn allocate(request: &Request, _: &Params) -> Result<Owners, String> {
///         let first = if request.members.is_empty() { None } else { Some(0) };
///         Ok(vec![first; request.queues.len()])
///     }
/// }
///
/// # #[cfg(target_family = "wasm")]
/// quern_plugin::export_allocation_strategy!(OneLeads);
///
/// let request = Request {
///     group: "billing".to_owned(),
///     topic: "orders".to_owned(),
///     members: vec![Member { id: "m".to_owned(), zone: String::new(), weight: 1 }],
///     queues: vec![OwnedQueue {
///         broker: "broker-a".to_owned(),
///         id: 0,
///         zone: String::new(),
///         owner: None,
///         lag: None,
///     }],
/// };
/// assert_eq!(OneLeads::allocate(&request, &Params::default()), Ok(vec![Some(0)]));
/// ```
pub trait AllocationStrategy: 'static {
    fn describe() -> Description;

    /// Looks at the parameters when the strategy is bound, not at a rebalance.
    fn check(_params: &Params) -> Result<(), Refusal> {
        Ok(())
    }

    /// One owner, or nobody, for each queue of the request.
    fn allocate(request: &Request, params: &Params) -> Result<Owners, String>;
}
