//! The broker: topics, groups, send, pull, filtering.
