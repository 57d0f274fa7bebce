//! The Wasm plugin runtime.
