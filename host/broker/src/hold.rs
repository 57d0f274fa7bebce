//! Requests that are held until there is something to answer with.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use quern_protocol::WireError;
use tokio::sync::Notify;

use crate::{Broker, reply};

/// Looks again whenever the bell rings, until there is something, or for so long. Longer than `most` is
/// refused.
pub(crate) async fn until_some<T, F>(
    broker: &Broker,
    (wait_ms, most): (u32, u32),
    bell: &Notify,
    look: impl Fn() -> F,
) -> Result<Vec<T>, WireError>
where
    F: Future<Output = Result<Vec<T>, WireError>>,
{
    if wait_ms > most {
        return Err(reply::bad_request(format!(
            "a request is held at most {most} ms, not {wait_ms}"
        )));
    }
    let wait = Duration::from_millis(wait_ms.into());
    let mut over = pin!(tokio::time::sleep(wait));
    loop {
        if broker.is_draining() {
            return Err(reply::going_away());
        }
        // Registered before looking, or what comes between look and wait would be missed.
        let mut rung = pin!(bell.notified());
        rung.as_mut().enable();
        let found = look().await?;
        if !found.is_empty() || wait_ms == 0 || over.is_elapsed() {
            return Ok(found);
        }
        tokio::select! {
            () = rung => {}
            () = over.as_mut() => {}
        }
    }
}
