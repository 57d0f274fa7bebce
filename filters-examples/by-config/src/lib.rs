//! The built-in allocation by hand: a parameter for each member, named by its id, lists its queues:
//! `consumer-1 = broker-a/0, broker-a/1`. A queue nobody lists is nobody's, and so is one whose
//! member is away. One that is listed twice is refused when the strategy is bound: RocketMQ, which
//! takes each member's list unchecked, would have it consumed twice.

use std::collections::HashMap;

use quern_plugin::{AllocationStrategy, Description, Owners, Params, Refusal, Request};

pub struct ByConfig;

impl AllocationStrategy for ByConfig {
    fn describe() -> Description {
        let summary = "queues by hand, a list for each member";
        Description::new("by-config", env!("CARGO_PKG_VERSION"), summary)
            .any_param("a member's id, and its queues: broker-a/0, broker-a/1")
    }

    fn check(params: &Params) -> Result<(), Refusal> {
        listed(params).map(|_| ())
    }

    fn allocate(request: &Request, params: &Params) -> Result<Owners, String> {
        let listed = listed(params).map_err(|refusal| refusal.reason().to_owned())?;
        let owner = |broker: &str, id: u32| {
            let member = listed.get(&(broker, id))?;
            request.members.iter().position(|it| it.id == *member)
        };
        let queues = request.queues.iter();
        Ok(queues.map(|queue| owner(&queue.broker, queue.id)).collect())
    }
}

/// Which member each queue is listed for.
fn listed(params: &Params) -> Result<HashMap<(&str, u32), &str>, Refusal> {
    let mut owners = HashMap::new();
    for (member, queues) in params.iter() {
        for entry in queues.split(',') {
            let at = entry.as_ptr() as usize - queues.as_ptr() as usize;
            let refuse = |reason: String| Refusal::param_at(member, at, entry.len(), reason);
            let queue = entry.trim().rsplit_once('/');
            let queue = queue.and_then(|(broker, id)| Some((broker, id.parse().ok()?)));
            let Some(queue) = queue else {
                let reason = format!("{:?} is not a queue", entry.trim());
                return Err(refuse(reason).help("write broker-a/0, broker-a/1"));
            };
            if let Some(other) = owners.insert(queue, member) {
                let reason = format!("{} belongs to {other} already", entry.trim());
                return Err(refuse(reason));
            }
        }
    }
    Ok(owners)
}

quern_plugin::export_allocation_strategy!(ByConfig);
