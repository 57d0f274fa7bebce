//! What plugins have accepted: subscriptions, selectors, strategies. Each is made once of a plugin, an
//! expression and parameters, and kept while there is room.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::limits;

/// Name and value of each.
pub(crate) type Params = Vec<(String, String)>;

/// What is asked of which plugin: its id, the expression, the parameters.
pub(crate) type Asked = (u64, String, Params);

/// See the module.
#[derive(Debug)]
pub(crate) struct Accepted<T>(Mutex<HashMap<Asked, T>>);

impl<T> Default for Accepted<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Accepted<T> {
    pub(crate) fn known(&self, asked: &Asked) -> Option<T> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(asked).cloned()
    }

    /// The one there is, or else what `make` makes, which may take long.
    pub(crate) fn known_or<E>(
        &self,
        asked: Asked,
        make: impl FnOnce(&Asked) -> Result<T, E>,
    ) -> Result<T, E> {
        if let Some(known) = self.known(&asked) {
            return Ok(known);
        }
        let made = make(&asked)?;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= limits::SUBSCRIPTIONS {
            all.clear();
        }
        all.insert(asked, made.clone());
        Ok(made)
    }
}
