//! What can be said of uploaded bytes by reading them once, before a compiler sees them: a
//! component and not a module, nothing imported but the host, a known export, UTF-8 strings, and
//! nothing so large that compiling it would take for ever. Whether they are valid is the compiler's
//! to say.

use wasmparser::{
    CanonicalFunction, CanonicalOption, ComponentExternalKind, ComponentTypeRef, Encoding,
    Instance, Parser, Payload,
};

use crate::error::LoadError;
use crate::limits::{self, Class};
use crate::plugin::Kind;

/// Custom section that carries the cases an author has tested with.
const VECTORS: &str = "quern:vectors";

/// All that a plugin may import: the second brings types only.
const ALLOWED: [&str; 2] = ["quern:plugin/host@0.1.0", "quern:plugin/types@0.1.0"];

/// What reading found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    pub kind: Kind,
    /// The author's cases, NDJSON; empty = none.
    pub(crate) vectors: Vec<u8>,
}

impl Checked {
    /// The cases the component carries, one JSON document a line; empty = none.
    pub fn cases(&self) -> &[u8] {
        &self.vectors
    }
}

/// Reads a component once, in time linear to its length.
pub fn check(bytes: &[u8]) -> Result<Checked, LoadError> {
    at_most("a component, bytes", bytes.len(), limits::COMPONENT)?;
    if !bytes.starts_with(b"\0asm") {
        let message = "these bytes are not WebAssembly".to_owned();
        return Err(LoadError::Component(message));
    }
    let mut reading = Reading::new(limits::class(bytes.len()));
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(|error| broken(&error))?;
        reading.take(payload)?;
    }
    let kind = reading.kind.ok_or_else(|| {
        LoadError::Export("none of the contract's interfaces is exported".to_owned())
    })?;
    if !reading.has_about {
        let message = "quern:plugin/about@0.1.0 is not exported".to_owned();
        return Err(LoadError::Export(message));
    }
    Ok(Checked {
        kind,
        vectors: reading.vectors,
    })
}

/// A component with the author's cases inside, in place of those it had.
pub fn with_vectors(component: &[u8], vectors: &[u8]) -> Result<Vec<u8>, LoadError> {
    at_most("cases, bytes", vectors.len(), limits::VECTORS)?;
    let mut out = Vec::with_capacity(component.len() + vectors.len() + 32);
    let mut depth = 0u32;
    let mut kept_upto = 0;
    for payload in Parser::new(0).parse_all(component) {
        let payload = payload.map_err(|error| broken(&error))?;
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CustomSection(section) if depth == 0 && section.name() == VECTORS => {
                // The section's id and length come before its range.
                let range = section.range();
                let start = range.start - 1 - leb_len(range.len());
                out.extend_from_slice(&component[kept_upto..start]);
                kept_upto = range.end;
            }
            _ => {}
        }
    }
    out.extend_from_slice(&component[kept_upto..]);
    if !vectors.is_empty() {
        let mut section = Vec::with_capacity(vectors.len() + VECTORS.len() + 1);
        put_leb(&mut section, VECTORS.len());
        section.extend_from_slice(VECTORS.as_bytes());
        section.extend_from_slice(vectors);
        out.push(0);
        put_leb(&mut out, section.len());
        out.extend_from_slice(&section);
    }
    Ok(out)
}

fn leb_len(value: usize) -> usize {
    let mut bytes = Vec::new();
    put_leb(&mut bytes, value);
    bytes.len()
}

fn put_leb(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn broken(error: &wasmparser::BinaryReaderError) -> LoadError {
    LoadError::Component(error.to_string())
}

fn at_most(what: &'static str, have: usize, most: usize) -> Result<(), LoadError> {
    match have > most {
        true => Err(LoadError::TooLarge { what, have, most }),
        false => Ok(()),
    }
}

/// Counts and findings so far.
struct Reading {
    class: &'static Class,
    kind: Option<Kind>,
    has_about: bool,
    vectors: Vec<u8>,
    /// Components and modules around what is being read; 0 = the outermost.
    depth: usize,
    modules: usize,
    core_instances: usize,
    /// Types, imports, exports, functions and so on: all that is counted and takes memory.
    items: usize,
}

impl Reading {
    fn new(class: &'static Class) -> Self {
        Self {
            class,
            kind: None,
            has_about: false,
            vectors: Vec::new(),
            depth: 0,
            modules: 0,
            core_instances: 0,
            items: 0,
        }
    }

    fn take(&mut self, payload: Payload<'_>) -> Result<(), LoadError> {
        match payload {
            Payload::Version { encoding, .. } if self.depth == 0 && self.modules == 0 => {
                if encoding != Encoding::Component {
                    let message = "these bytes are a core module; make a component of it with \
                                   `quern plugin build`";
                    return Err(LoadError::Component(message.to_owned()));
                }
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                self.depth += 1;
                self.modules += 1;
                at_most("modules and components", self.modules, limits::MODULES)?;
                at_most("nesting", self.depth, limits::NESTING)?;
            }
            Payload::End(_) => self.depth = self.depth.saturating_sub(1),
            Payload::CodeSectionEntry(body) => {
                at_most("a function, bytes", body.range().len(), self.class.function)?;
            }
            Payload::CustomSection(section) if self.depth == 0 && section.name() == VECTORS => {
                at_most("cases, bytes", section.data().len(), limits::VECTORS)?;
                self.vectors = section.data().to_vec();
            }
            Payload::ComponentImportSection(section) if self.depth == 0 => {
                self.count(section.count())?;
                for import in section {
                    let import = import.map_err(|error| broken(&error))?;
                    let is_type = matches!(import.ty, ComponentTypeRef::Type(_));
                    if !is_type && !ALLOWED.contains(&import.name.name) {
                        return Err(LoadError::Import(import.name.name.to_owned()));
                    }
                }
            }
            Payload::ComponentExportSection(section) if self.depth == 0 => {
                self.count(section.count())?;
                for export in section {
                    let export = export.map_err(|error| broken(&error))?;
                    if export.kind == ComponentExternalKind::Instance {
                        self.export(export.name.name)?;
                    }
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                self.count(section.count())?;
                for function in section {
                    strings(&function.map_err(|error| broken(&error))?)?;
                }
            }
            Payload::InstanceSection(section) => {
                self.count(section.count())?;
                for instance in section {
                    let instance = instance.map_err(|error| broken(&error))?;
                    // The others are bundles of what is there.
                    if matches!(instance, Instance::Instantiate { .. }) {
                        self.core_instances += 1;
                    }
                }
                let most = self.class.core_instances;
                at_most("core instances", self.core_instances, most)?;
            }
            other => self.count(counted(&other))?,
        }
        Ok(())
    }

    fn count(&mut self, more: u32) -> Result<(), LoadError> {
        self.items = self.items.saturating_add(more as usize);
        at_most("types, imports, functions …", self.items, limits::ITEMS)
    }

    fn export(&mut self, name: &str) -> Result<(), LoadError> {
        if name == "quern:plugin/about@0.1.0" {
            self.has_about = true;
            return Ok(());
        }
        let interface = name.strip_prefix("quern:plugin/");
        let of_contract = interface.and_then(|it| it.strip_suffix("@0.1.0"));
        let kind = |interface| {
            let mut all = Kind::ALL.into_iter();
            all.find(|kind| kind.interface() == interface)
        };
        let Some(kind) = of_contract.and_then(kind) else {
            return match interface {
                Some(_) => Err(LoadError::Export(format!(
                    "{name} is not known here; this host speaks quern:plugin@0.1.0"
                ))),
                // Never called: other languages' tools leave some behind.
                None => Ok(()),
            };
        };
        match self.kind.replace(kind) {
            None => Ok(()),
            Some(other) => Err(LoadError::Export(format!(
                "{other} and {kind} are both exported; a plugin is of one kind"
            ))),
        }
    }
}

/// How many things a section declares.
fn counted(payload: &Payload<'_>) -> u32 {
    match payload {
        Payload::TypeSection(it) => it.count(),
        Payload::ImportSection(it) => it.count(),
        Payload::FunctionSection(it) => it.count(),
        Payload::TableSection(it) => it.count(),
        Payload::MemorySection(it) => it.count(),
        Payload::GlobalSection(it) => it.count(),
        Payload::ExportSection(it) => it.count(),
        Payload::ElementSection(it) => it.count(),
        Payload::DataSection(it) => it.count(),
        Payload::CoreTypeSection(it) => it.count(),
        Payload::ComponentInstanceSection(it) => it.count(),
        Payload::ComponentAliasSection(it) => it.count(),
        Payload::ComponentTypeSection(it) => it.count(),
        Payload::ComponentImportSection(it) => it.count(),
        Payload::ComponentExportSection(it) => it.count(),
        _ => 0,
    }
}

/// Strings cross the border as UTF-8 only: transcoding is where hosts have had their holes.
fn strings(function: &CanonicalFunction) -> Result<(), LoadError> {
    let options = match function {
        CanonicalFunction::Lift { options, .. } | CanonicalFunction::Lower { options, .. } => {
            options
        }
        _ => return Ok(()),
    };
    let other = [CanonicalOption::UTF16, CanonicalOption::CompactUTF16];
    match options.iter().any(|option| other.contains(option)) {
        true => Err(LoadError::Component(
            "its strings are not UTF-8; build it with a tool that uses UTF-8".to_owned(),
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HOSTILE;

    #[test]
    fn vectors_are_put_in_replaced_and_taken_out() {
        assert_eq!(check(HOSTILE).unwrap().vectors, b"");
        let one = with_vectors(HOSTILE, b"one").unwrap();
        assert_eq!(check(&one).unwrap().vectors, b"one");
        let long = vec![b'x'; 1_000];
        let two = with_vectors(&one, &long).unwrap();
        assert_eq!(check(&two).unwrap().vectors, long);
        assert_eq!(with_vectors(&two, b"").unwrap(), HOSTILE);
    }
}
