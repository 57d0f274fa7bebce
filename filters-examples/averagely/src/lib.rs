//! The built-in even allocation: neighbouring queues to one member, the first members one more. As
//! RocketMQ's `AllocateMessageQueueAveragely`.

use quern_plugin::{AllocationStrategy, Description, Owners, Params, Request, shares};

pub struct Averagely;

impl AllocationStrategy for Averagely {
    fn describe() -> Description {
        let summary = "equal shares of neighbouring queues";
        Description::new("averagely", env!("CARGO_PKG_VERSION"), summary)
    }

    fn allocate(request: &Request, _: &Params) -> Result<Owners, String> {
        Ok(shares::averagely(
            request.members.len(),
            request.queues.len(),
        ))
    }
}

quern_plugin::export_allocation_strategy!(Averagely);
