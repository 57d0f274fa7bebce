//! The built-in allocation of some machine rooms: only queues of brokers named `room@name` in one of
//! the rooms given, shared evenly; what is left over is dealt from the end. As RocketMQ's
//! `AllocateMessageQueueByMachineRoom`.

use quern_plugin::{AllocationStrategy, Description, Owners, Param, Params, Request};

pub struct ByMachineRoom;

impl AllocationStrategy for ByMachineRoom {
    fn describe() -> Description {
        let summary = "queues of some machine rooms, shared evenly";
        let rooms = Param::text("rooms", "names of machine rooms, separated by commas");
        Description::new("by-machine-room", env!("CARGO_PKG_VERSION"), summary).param(rooms)
    }

    fn allocate(request: &Request, params: &Params) -> Result<Owners, String> {
        let rooms: Vec<&str> = params.text("rooms").split(',').map(str::trim).collect();
        let members = request.members.len();
        let allowed = |index: &usize| {
            room(&request.queues[*index].broker).is_some_and(|room| rooms.contains(&room))
        };
        let chosen: Vec<usize> = (0..request.queues.len()).filter(allowed).collect();
        let mut owners = vec![None; request.queues.len()];
        let Some(each) = chosen.len().checked_div(members) else {
            return Ok(owners);
        };
        for (place, queue) in chosen.into_iter().enumerate() {
            let owner = match place < each * members {
                true => place / each,
                false => place - each * members,
            };
            owners[queue] = Some(owner);
        }
        Ok(owners)
    }
}

/// As Java splits: `@` at the end does not count, then exactly one must be left.
fn room(broker: &str) -> Option<&str> {
    let (room, name) = broker.trim_end_matches('@').split_once('@')?;
    (!name.contains('@')).then_some(room)
}

quern_plugin::export_allocation_strategy!(ByMachineRoom);
