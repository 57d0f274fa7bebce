//! Consuming: pull by hand, or as a member of a group.
//!
//! A group's consumer is several tasks: its membership with the coordinator, a holder of leases for each
//! broker, a puller for each queue. They meet in the progress, and the application's side reads from one
//! bounded channel.

mod broadcast;
mod give_back;
mod group;
mod holder;
mod listener;
mod lite_pull;
mod local;
mod membership;
mod message;
mod orderly;
mod progress;
mod pull;
mod puller;
mod questions;
mod ready;
mod simple;
mod switch;

pub use group::{Consumer, ConsumerBuilder, From};
pub use lite_pull::LitePullConsumer;
pub use message::MessageView;
pub use pull::{PullConsumer, PullOptions, PullResult};
pub use simple::{Delivery, SimpleConsumer, SimpleConsumerBuilder};
pub use switch::ConsumerSwitch;
