//! How fast to send on a network: governed as the machine's TCP is.
//!
//! Who has set a machine up for long or lossy paths has chosen BBR for its TCP; QUIC then takes no notice of single
//! losses either. Everywhere else it is Cubic, as TCP's default is. Why so: `docs/decisions/0031-congestion-as-of-the-machine.md`.

use std::sync::{Arc, LazyLock};

use quinn::congestion::{BbrConfig, ControllerFactory, CubicConfig};

/// What the kernel's TCP is governed by; there is no such file but on Linux.
const OF_TCP: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

static MACHINE_HAS_BBR: LazyLock<bool> = LazyLock::new(|| {
    let name = std::fs::read_to_string(OF_TCP).unwrap_or_default();
    is_bbr(&name)
});

/// There are several versions of it, in kernels of vendors.
fn is_bbr(name: &str) -> bool {
    name.trim().starts_with("bbr")
}

pub(crate) fn of_the_machine() -> Arc<dyn ControllerFactory + Send + Sync> {
    if *MACHINE_HAS_BBR {
        Arc::new(BbrConfig::default())
    } else {
        Arc::new(CubicConfig::default())
    }
}

#[cfg(test)]
mod tests {
    use super::is_bbr;

    #[test]
    fn what_the_kernel_says_is_understood() {
        assert!(is_bbr("bbr\n") && is_bbr("bbr2\n"));
        assert!(!is_bbr("cubic\n") && !is_bbr("") && !is_bbr("reno\n"));
    }
}
