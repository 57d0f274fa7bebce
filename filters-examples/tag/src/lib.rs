//! The built-in tag filter.
