//! What is done to its end, whoever has gone away meanwhile: a request is dropped with the stream it came by, wherever it
//! waits just then, and of what belongs together a part would be left undone until the next start, or for ever.

use std::future::Future;
use std::sync::Arc;

use quern_protocol::WireError;
use quern_protocol::frame::{Frame, Outgoing};
use quern_protocol::operation::Kind;

use crate::{Broker, reply, requests};

/// A broker that drains waits for it as for a request.
pub(crate) async fn to_the_end<A: Send + 'static>(
    broker: &Arc<Broker>,
    work: impl Future<Output = Result<A, WireError>> + Send + 'static,
) -> Result<A, WireError> {
    let counted = broker.count_request();
    let done = tokio::spawn(async move {
        let _under_way = counted;
        work.await
    });
    done.await.unwrap_or_else(|_| Err(reply::broke_off()))
}

/// Answers one frame; nothing of it is left undone.
pub(crate) async fn answer(broker: &Arc<Broker>, frame: Frame) -> Result<Outgoing, WireError> {
    if !has_to_end(frame.kind) {
        return requests::answer(broker, frame).await;
    }
    let there = Arc::clone(broker);
    to_the_end(broker, async move { requests::answer(&there, frame).await }).await
}

/// Requests of which something follows when the log has what they change, or that change several things.
fn has_to_end(kind: u16) -> bool {
    matches!(
        Kind::from_number(kind),
        Some(
            Kind::CreateTopic
                | Kind::SetTopic
                | Kind::DeleteTopic
                | Kind::RestoreTopic
                | Kind::SetGroup
                | Kind::DeleteGroup
                | Kind::FinishUpload
                | Kind::ChangePlugin
                | Kind::ReplayPlugin
                | Kind::ChangeBindings
                | Kind::ResendMessage
                | Kind::ResendDeadLetters
        )
    )
}
