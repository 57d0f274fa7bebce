//! The built-in sticky allocation: as even as can be, and as few queues as can be change their owner.
//! Ours; RocketMQ has none.

use std::cmp::Reverse;

use quern_plugin::{AllocationStrategy, Description, Owners, Params, Request};

pub struct Sticky;

impl AllocationStrategy for Sticky {
    fn describe() -> Description {
        let summary = "equal shares, moving as few queues as can be";
        Description::new("sticky", env!("CARGO_PKG_VERSION"), summary)
    }

    fn allocate(request: &Request, _: &Params) -> Result<Owners, String> {
        let members = request.members.len();
        let queues = request.queues.len();
        let Some(share) = queues.checked_div(members) else {
            return Ok(vec![None; queues]);
        };
        let mut load = vec![0; members];
        for queue in &request.queues {
            if let Some(owner) = queue.owner {
                load[owner] += 1;
            }
        }
        // One more for those who have most already: that moves least.
        let mut by_load: Vec<usize> = (0..members).collect();
        by_load.sort_by_key(|member| Reverse(load[*member]));
        let mut room = vec![share; members];
        for member in by_load.into_iter().take(queues % members) {
            room[member] += 1;
        }
        let mut owners: Owners = Vec::with_capacity(queues);
        for queue in &request.queues {
            let kept = queue.owner.filter(|owner| room[*owner] > 0);
            if let Some(owner) = kept {
                room[owner] -= 1;
            }
            owners.push(kept);
        }
        let mut next = 0;
        for owner in owners.iter_mut().filter(|owner| owner.is_none()) {
            while room[next] == 0 {
                next += 1;
            }
            room[next] -= 1;
            *owner = Some(next);
        }
        Ok(owners)
    }
}

quern_plugin::export_allocation_strategy!(Sticky);
