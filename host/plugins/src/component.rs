//! From a core module, as `cargo build --target wasm32-unknown-unknown` leaves it, to a component.

use std::path::Path;

use wit_component::StringEncoding;

use crate::error::LoadError;
use crate::{verify, wasi};

fn broken(error: &impl std::fmt::Display) -> LoadError {
    LoadError::Component(format!("{error:#}"))
}

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
            // For those that want it; all others are what they are without.
            .and_then(|encoder| encoder.adapter(wasi::NAME, &wasi::adapter()))
            .and_then(|encoder| encoder.encode());
        encoded.map_err(|error| broken(&error))?
    };
    let component = match cases {
        "" => component,
        cases => verify::with_vectors(&component, cases.as_bytes())?,
    };
    verify::check(&component)?;
    Ok(component)
}

/// The same module, and which world of the contract in `wit` it is of: for languages that cannot say so themselves.
pub fn of_world(mut module: Vec<u8>, wit: &Path, world: &str) -> Result<Vec<u8>, LoadError> {
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_dir(wit).map_err(|error| broken(&error))?;
    let world = resolve.select_world(&[package], Some(world));
    let world = world.map_err(|error| broken(&error))?;
    let utf8 = StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut module, &resolve, world, utf8)
        .map_err(|error| broken(&error))?;
    Ok(module)
}
