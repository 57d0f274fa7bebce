//! Every bound of the name server.

use std::time::Duration;

/// A broker that has been silent this long is gone.
pub const EXPIRY: Duration = Duration::from_secs(10);
/// A broker whose connection is lost may come back for so long before its routes go.
pub const COME_BACK: Duration = Duration::from_secs(1);
/// How often silence is looked for while one has half of its time behind it.
pub(crate) const SWEEP: Duration = Duration::from_millis(500);
/// Brokers one name server keeps.
pub(crate) const BROKERS: usize = 10_000;
/// Topics of one broker.
pub(crate) const TOPICS_PER_BROKER: usize = 100_000;
