//! Panics reach the host's log before they become a trap: WebAssembly itself shows neither message
//! nor place.

use std::sync::Once;

use crate::bindings::host::{Level, log};

static READY: Once = Once::new();

/// Has panics reported. The `export_…` macros see to it; who implements the bare contract calls this at
/// every way into the plugin that may come first.
pub fn report_panics() {
    READY.call_once(|| {
        std::panic::set_hook(Box::new(|panic| log(Level::Error, &panic.to_string())));
    });
}
