//! An allocation strategy: who of a group consumes which queue?

use quern_plugin::{AllocationStrategy, Description, Owners, Params, Request};

/// Shares by weight: who weighs twice as much gets twice as many queues.
pub struct ByWeight;

impl AllocationStrategy for ByWeight {
    fn describe() -> Description {
        let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        Description::new(name, version, "shares by the members' weights")
    }

    fn allocate(request: &Request, _: &Params) -> Result<Owners, String> {
        let mut owned = vec![0; request.members.len()];
        let owner = || {
            // Whose share is the least full; of equals the first.
            let least = (0..owned.len()).min_by_key(|member| {
                let weight = u64::from(request.members[*member].weight.max(1));
                (owned[*member] + 1) * 1_000_000 / weight
            })?;
            owned[least] += 1;
            Some(least)
        };
        Ok(std::iter::repeat_with(owner)
            .take(request.queues.len())
            .collect())
    }
}

quern_plugin::export_allocation_strategy!(ByWeight);
