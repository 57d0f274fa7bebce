//! A filter: delivers a fixed share of all keys, always the same ones.
//!
//! For trying a new consumer on five per cent of the customers: raising the share keeps those that
//! are in, and every message of one customer gets the same answer.

use quern_plugin::{Batch, Description, Filter, Needs, Param, Params, Refusal, Text};

pub struct Rollout {
    property: Option<String>,
    /// Of 2^32 places on the ring, so many are in.
    places: u64,
    salt: u32,
}

impl Filter for Rollout {
    fn describe() -> Description {
        let percent = Param::number("percent", "share of the keys, 0 to 100");
        let key = Param::text(
            "key",
            "the property that tells customers apart; empty = the keys",
        );
        let salt = Param::text("salt", "another salt, another choice of keys");
        let summary = "a fixed share of the keys";
        Description::new("percentage-rollout", env!("CARGO_PKG_VERSION"), summary)
            .param(percent)
            .param(key.default(""))
            .param(salt.default(""))
    }

    fn compile(_: &str, params: &Params) -> Result<Self, Refusal> {
        let percent = params.number("percent");
        if !(0.0..=100.0).contains(&percent) {
            let len = params.text("percent").len();
            return Err(Refusal::param("percent", len, "a share is 0 to 100"));
        }
        let key = params.text("key");
        Ok(Self {
            property: (!key.is_empty()).then(|| key.to_owned()),
            places: (percent / 100.0 * (1u64 << 32) as f64) as u64,
            salt: mix(0, params.text("salt").as_bytes()),
        })
    }

    fn needs(&self) -> Needs {
        Needs::new().text(match &self.property {
            Some(name) => Text::Property(name.clone()),
            None => Text::Keys,
        })
    }

    fn matches(&self, batch: &Batch, message: usize) -> Result<bool, String> {
        let key = batch.text(message, 0);
        Ok(key.is_some_and(|key| u64::from(mix(self.salt, key.as_bytes())) < self.places))
    }
}

/// Murmur3's finisher over FNV-1a: even, and the same everywhere.
fn mix(salt: u32, bytes: &[u8]) -> u32 {
    let hash = bytes.iter().fold(0x811c_9dc5 ^ salt, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    let hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    let hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

quern_plugin::export_filter!(Rollout);
