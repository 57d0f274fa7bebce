//! Standing still: a consumer that is suspended keeps its queues and is given nothing.

use std::sync::Arc;

use super::group::Consumer;
use super::membership::Shared;

/// Suspends a consumer, and has it go on, while a listener has it (RocketMQ's `suspend` and `resume`). Cheap to clone.
///
/// ```
/// # quernstone::testing::run(async |client| {
/// # use quern_client::{Filter, Message};
/// # client.admin().create_topic("orders", 4).await?;
/// let consumer = client.consumer("billing").subscribe("orders", Filter::All).start().await?;
/// let switch = consumer.switch();
/// let listener = |message: quern_client::MessageView| async move {
///     println!("{}", message.message_id());
///     Ok(())
/// };
/// let until = async {
///     switch.suspend(); // the database is to be away for a moment
///     switch.resume();
/// };
/// consumer.listen(8, listener, until).await?;
/// # Ok(())
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct ConsumerSwitch(Arc<Shared>);

impl ConsumerSwitch {
    /// No more messages are handed out. Those at work are worked on, and committed; queues stay this member's, and what
    /// was read of them ahead waits.
    pub fn suspend(&self) {
        self.0.suspended.send_replace(true);
    }

    /// Goes on where it was suspended.
    pub fn resume(&self) {
        self.0.suspended.send_replace(false);
    }

    /// Whether it stands still.
    pub fn is_suspended(&self) -> bool {
        *self.0.suspended.borrow()
    }
}

impl Consumer {
    /// Suspends this consumer, also when a listener has it.
    pub fn switch(&self) -> ConsumerSwitch {
        ConsumerSwitch(Arc::clone(&self.shared))
    }

    /// Resolves when it is not suspended.
    pub(super) async fn goes_on(&self) {
        let mut suspended = self.shared.suspended.subscribe();
        // The sender is in what is shared, which is ours.
        let _ = suspended.wait_for(|it| !*it).await;
    }
}
