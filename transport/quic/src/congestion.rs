//! How fast to send on a network: governed as the machine's TCP is.
//!
//! Who has set a machine up for long or lossy paths has chosen BBR for its TCP; QUIC then takes no notice of single
//! losses either. Everywhere else it is Cubic, as TCP's default is. Why so: `docs/decisions/0031-congestion-as-of-the-machine.md`.

use std::sync::{Arc, LazyLock};

use quinn::congestion::{BbrConfig, ControllerFactory, CubicConfig};

/// What the kernel's TCP is governed by; there is no such file but on Linux.
const OF_TCP: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

type Factory = Arc<dyn ControllerFactory + Send + Sync>;

/// Looked at once: connections of one process are alike.
pub(crate) fn of_the_machine() -> Factory {
    static FOUND: LazyLock<Factory> =
        LazyLock::new(|| named(&std::fs::read_to_string(OF_TCP).unwrap_or_default()));
    Arc::clone(&FOUND)
}

/// As the kernel calls it. There are several versions of BBR, in kernels of vendors.
fn named(name: &str) -> Factory {
    if name.trim().starts_with("bbr") {
        Arc::new(BbrConfig::default())
    } else {
        Arc::new(CubicConfig::default())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use quinn::congestion::{Bbr, Cubic};

    use super::named;

    #[test]
    fn networks_get_what_the_kernel_names() {
        let made = |name| named(name).build(Instant::now(), 1_200).into_any();
        for name in ["bbr\n", "bbr2\n"] {
            assert!(made(name).is::<Bbr>(), "{name}");
        }
        for name in ["cubic\n", "reno\n", ""] {
            assert!(made(name).is::<Cubic>(), "{name}");
        }
    }
}
