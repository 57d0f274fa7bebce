//! The built-in consistent-hash allocation: a member that comes or goes moves few queues. As
//! RocketMQ's `AllocateMessageQueueConsistentHash`, ring and key alike.

use std::collections::BTreeMap;

use md5::{Digest as _, Md5};
use quern_plugin::{AllocationStrategy, Description, Owners, Param, Params, Request};

pub struct ConsistentHash;

impl AllocationStrategy for ConsistentHash {
    fn describe() -> Description {
        let points = Param::integer("points", "places of each member on the ring, 1 to 1000");
        let summary = "few queues move when a member comes or goes";
        Description::new("consistent-hash", env!("CARGO_PKG_VERSION"), summary)
            .param(points.default(10))
    }

    fn allocate(request: &Request, params: &Params) -> Result<Owners, String> {
        let points = params.integer("points").clamp(1, 1_000);
        let mut ring = BTreeMap::new();
        for (index, member) in request.members.iter().enumerate() {
            for point in 0..points {
                // Where two meet, the later member wins.
                ring.insert(place(&format!("{}-{point}", member.id)), index);
            }
        }
        let owner = |broker: &str, id: u32| {
            let topic = &request.topic;
            let key = format!("MessageQueue [topic={topic}, brokerName={broker}, queueId={id}]");
            let behind = ring.range(place(&key)..).next();
            let found = behind.or_else(|| ring.first_key_value());
            found.map(|(_, member)| *member)
        };
        let queues = request.queues.iter();
        Ok(queues.map(|queue| owner(&queue.broker, queue.id)).collect())
    }
}

/// The first four bytes of the MD5, big-endian.
fn place(key: &str) -> u32 {
    let digest = Md5::digest(key.as_bytes());
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

quern_plugin::export_allocation_strategy!(ConsistentHash);
