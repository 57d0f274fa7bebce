//! The built-in allocation by nearness: members share the queues of their own zone; the queues of a
//! zone without members are shared among all. As RocketMQ's `AllocateMachineRoomNearby`; its resolver
//! is the zones that brokers and consumers state.

use quern_plugin::{AllocationStrategy, Description, Owners, Param, Params, Request, shares};

pub struct Nearby;

impl AllocationStrategy for Nearby {
    fn describe() -> Description {
        let inner = Param::choice(
            "inner",
            &["averagely", "averagely-by-circle"],
            "how a zone's queues are shared",
        );
        let summary = "queues to members of their own zone";
        Description::new("machine-room-nearby", env!("CARGO_PKG_VERSION"), summary)
            .param(inner.default("averagely"))
    }

    fn allocate(request: &Request, params: &Params) -> Result<Owners, String> {
        let inner: fn(usize, usize) -> Owners = match params.text("inner") {
            "averagely-by-circle" => shares::in_turn,
            _ => shares::averagely,
        };
        if let Some(member) = request.members.iter().find(|it| it.zone.is_empty()) {
            return Err(format!("nobody knows the zone of member {}", member.id));
        }
        let mut owners = vec![None; request.queues.len()];
        let mut done: Vec<&str> = Vec::new();
        for queue in &request.queues {
            let zone = queue.zone.as_str();
            if zone.is_empty() {
                return Err(format!("nobody knows the zone of broker {}", queue.broker));
            }
            if done.contains(&zone) {
                continue;
            }
            done.push(zone);
            let in_zone = |index: &usize| request.queues[*index].zone == zone;
            let queues: Vec<usize> = (0..owners.len()).filter(in_zone).collect();
            let near = |index: &usize| request.members[*index].zone == zone;
            let mut members: Vec<usize> = (0..request.members.len()).filter(near).collect();
            if members.is_empty() {
                members = (0..request.members.len()).collect();
            }
            let shared = inner(members.len(), queues.len());
            for (queue, owner) in queues.into_iter().zip(shared) {
                owners[queue] = owner.map(|index| members[index]);
            }
        }
        Ok(owners)
    }
}

quern_plugin::export_allocation_strategy!(Nearby);
