//! Compiled plugins. Here is the crate's one `unsafe`: wasmtime runs what it is given as machine
//! code, so nothing may become an [`Artefact`] but what a compiler of ours has just answered, or
//! what the cache has verified with the node's key.

use wasmtime::Engine;
use wasmtime::component::Component;

/// Machine code of one component, made by this host.
pub(crate) struct Artefact {
    bytes: Vec<u8>,
    /// Where the code begins.
    from: usize,
}

impl Artefact {
    /// What [`crate::child`] has compiled for us: in a child process that runs the same program, or
    /// in this one.
    pub(crate) fn compiled(code: Vec<u8>) -> Self {
        Self {
            bytes: code,
            from: 0,
        }
    }

    /// What [`crate::cache`] has read, after its MAC was found right: code from `from` on.
    pub(crate) fn verified(bytes: Vec<u8>, from: usize) -> Self {
        Self { bytes, from }
    }

    pub(crate) fn code(&self) -> &[u8] {
        &self.bytes[self.from..]
    }

    /// The component, ready to be instantiated. An artefact of other settings is an error.
    #[expect(unsafe_code, reason = "wasmtime cannot check machine code")]
    pub(crate) fn load(&self, engine: &Engine) -> wasmtime::Result<Component> {
        // SAFETY: by construction the bytes are the unmodified answer of wasmtime's own compiler,
        // on this machine: see the two constructors. They are in memory of ours, not in a file that
        // could change meanwhile.
        unsafe { Component::deserialize(engine, self.code()) }
    }
}
