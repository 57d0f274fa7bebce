//! What those share who use the same name at once. Where nobody uses it any more it is forgotten, in time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(crate) struct InUse<K, V> {
    known: HashMap<K, Arc<V>>,
    /// With less of them nobody looks which are in use.
    least: usize,
    /// With so many somebody does.
    most: usize,
}

impl<K: Clone + Eq + Hash, V> InUse<K, V> {
    pub(crate) fn new(least: usize) -> Self {
        Self {
            known: HashMap::new(),
            least,
            most: least,
        }
    }

    /// What stands for a name; made if nothing does.
    pub(crate) fn of(&mut self, name: &K, make: impl FnOnce() -> V) -> Arc<V> {
        if let Some(known) = self.known.get(name) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.most {
            self.known.retain(|_, it| Arc::strong_count(it) > 1);
            // Not all of them are looked at for each that comes, however many are in use.
            self.most = self.least.max(2 * self.known.len());
        }
        let made = Arc::new(make());
        self.known.insert(name.clone(), Arc::clone(&made));
        made
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }
}
