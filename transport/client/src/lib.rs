//! The client SDK: producer, consumers, admin.
