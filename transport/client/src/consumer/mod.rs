//! Consuming: pull by hand, or go on where a group has stopped.

mod group;
mod message;
mod pull;

pub use group::{Consumer, ConsumerBuilder, From};
pub use message::MessageView;
pub use pull::{PullConsumer, PullOptions, PullResult};
