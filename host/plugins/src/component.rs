//! From a core module, as `cargo build --target wasm32-unknown-unknown` leaves it, to a component.

use crate::error::LoadError;
use crate::verify;

/// The component of a module that was built with an SDK of ours, with its author's cases inside. Bytes that
/// are a component already only get the cases.
pub fn component_of(bytes: &[u8], cases: &str) -> Result<Vec<u8>, LoadError> {
    crate::case::parse(cases)?;
    let component = if wasmparser::Parser::is_component(bytes) {
        bytes.to_vec()
    } else {
        let encoded = wit_component::ComponentEncoder::default()
            .validate(true)
            .module(bytes)
            .and_then(|encoder| encoder.encode());
        encoded.map_err(|error| LoadError::Component(format!("{error:#}")))?
    };
    let component = match cases {
        "" => component,
        cases => verify::with_vectors(&component, cases.as_bytes())?,
    };
    verify::check(&component)?;
    Ok(component)
}
