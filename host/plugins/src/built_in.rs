//! The plugins we ship: embedded components of `filters-examples`, compiled when first asked for.

use std::sync::{Arc, Mutex, PoisonError};

use crate::error::LoadError;
use crate::plugin::{Kind, Plugin};

/// One of them, as far as it is known without running it. What the component says of itself is the
/// same; a test compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltIn {
    pub name: &'static str,
    pub kind: Kind,
    /// The expression language consumers name to get it.
    pub language: Option<&'static str>,
}

impl BuiltIn {
    const fn filter(name: &'static str, language: &'static str) -> Self {
        Self {
            name,
            kind: Kind::Filter,
            language: Some(language),
        }
    }

    const fn selector(name: &'static str) -> Self {
        Self {
            name,
            kind: Kind::QueueSelector,
            language: None,
        }
    }

    const fn strategy(name: &'static str) -> Self {
        Self {
            name,
            kind: Kind::AllocationStrategy,
            language: None,
        }
    }
}

/// All of them, each a folder of `filters-examples` and a line of `build.rs`.
pub(crate) const ALL: &[BuiltIn] = &[
    BuiltIn::filter("tag", "TAG"),
    BuiltIn::filter("sql92", "SQL92"),
    BuiltIn::selector("hash"),
    BuiltIn::selector("fifo"),
    BuiltIn::selector("round-robin"),
    BuiltIn::selector("random"),
    BuiltIn::selector("least-latency"),
    BuiltIn::selector("machine-room"),
    BuiltIn::strategy("averagely"),
    BuiltIn::strategy("averagely-by-circle"),
    BuiltIn::strategy("by-config"),
    BuiltIn::strategy("by-machine-room"),
    BuiltIn::strategy("machine-room-nearby"),
    BuiltIn::strategy("consistent-hash"),
    BuiltIn::strategy("sticky"),
];

// `components(name)` gives the bytes of each.
include!(concat!(env!("OUT_DIR"), "/components.rs"));

/// Those compiled so far, in the order of [`ALL`].
#[derive(Debug)]
pub(crate) struct Shelf(Vec<Mutex<Option<Arc<Plugin>>>>);

impl Shelf {
    pub(crate) fn new() -> Self {
        Self(ALL.iter().map(|_| Mutex::default()).collect())
    }

    /// Takes one off the shelf, compiling it if nobody has. `None` = there is no such built-in.
    pub(crate) fn take(
        &self,
        name: &str,
        load: impl FnOnce(&'static str, &'static [u8]) -> Result<Arc<Plugin>, LoadError>,
    ) -> Option<Result<Arc<Plugin>, LoadError>> {
        let index = ALL.iter().position(|it| it.name == name)?;
        let mut place = self.0[index].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plugin) = &*place {
            return Some(Ok(Arc::clone(plugin)));
        }
        let name = ALL[index].name;
        let loaded = load(name, component(name));
        if let Ok(plugin) = &loaded {
            *place = Some(Arc::clone(plugin));
        }
        Some(loaded)
    }

    /// One, if somebody has taken it.
    pub(crate) fn one_taken(&self, name: &str) -> Option<Arc<Plugin>> {
        let index = ALL.iter().position(|it| it.name == name)?;
        // One that is being compiled right now is not there yet.
        self.0[index].try_lock().ok()?.clone()
    }

    /// Those that somebody has taken.
    pub(crate) fn taken(&self) -> Vec<Arc<Plugin>> {
        // One that is being compiled right now is not there yet.
        let plugins = self.0.iter().filter_map(|it| it.try_lock().ok()?.clone());
        plugins.collect()
    }
}
