//! What a plugin author links.
