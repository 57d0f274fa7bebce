//! `quern consume --exec`: a command decides for each message whether it is consumed.

use std::process::Stdio;

use quern_client::MessageView;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::failure::Failure;

/// Runs a shell's command, the body on its stdin, the rest in its environment. Returns why the message is
/// not consumed, if it is not.
pub(crate) async fn consume(
    command: &str,
    message: &MessageView,
) -> Result<Option<String>, Failure> {
    let queue = message.queue();
    let mut child = Command::new("sh")
        .args(["-c", command])
        .env("QUERN_TOPIC", queue.topic.as_str())
        .env("QUERN_QUEUE", queue.queue.to_string())
        .env("QUERN_OFFSET", message.offset().to_string())
        .env("QUERN_ID", message.message_id())
        .env("QUERN_TAG", message.tag())
        .env("QUERN_KEYS", message.keys())
        .env("QUERN_ATTEMPTS", message.attempts().to_string())
        .stdin(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read what it is given may still be content.
        let _ = stdin.write_all(message.body()).await;
    }
    let status = child.wait().await?;
    Ok((!status.success()).then(|| format!("{command}: {status}")))
}
