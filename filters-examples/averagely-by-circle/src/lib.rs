//! The built-in allocation in turn: each member one queue, then each another. As RocketMQ's
//! `AllocateMessageQueueAveragelyByCircle`.

use quern_plugin::{AllocationStrategy, Description, Owners, Params, Request, shares};

pub struct ByCircle;

impl AllocationStrategy for ByCircle {
    fn describe() -> Description {
        let summary = "equal shares, dealt in turn";
        Description::new("averagely-by-circle", env!("CARGO_PKG_VERSION"), summary)
    }

    fn allocate(request: &Request, _: &Params) -> Result<Owners, String> {
        Ok(shares::in_turn(request.members.len(), request.queues.len()))
    }
}

quern_plugin::export_allocation_strategy!(ByCircle);
