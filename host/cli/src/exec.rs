//! Commands that decide: `quern consume --exec` whether a message is consumed, `quern tx answer --exec` how a
//! transaction ended.

use std::process::{ExitStatus, Stdio};

use quern_client::{MessageView, TransactionState, UndecidedMessage};
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
    let mut child = Command::new("sh");
    child
        .env("QUERN_TOPIC", queue.topic.as_str())
        .env("QUERN_QUEUE", queue.queue.to_string())
        .env("QUERN_OFFSET", message.offset().to_string())
        .env("QUERN_ID", message.message_id())
        .env("QUERN_TAG", message.tag())
        .env("QUERN_KEYS", message.keys())
        .env("QUERN_ATTEMPTS", message.attempts().to_string());
    let status = run(child, command, message.body()).await?;
    Ok((!status.success()).then(|| format!("{command}: {status}")))
}

/// The same for a transaction: exit code 0 commits, 1 rolls back.
pub(crate) async fn check(
    command: &str,
    message: &UndecidedMessage,
) -> Result<TransactionState, Failure> {
    let mut child = Command::new("sh");
    child
        .env("QUERN_TOPIC", message.topic().as_str())
        .env("QUERN_HANDLE", message.handle().to_string())
        .env("QUERN_ID", message.message_id())
        .env("QUERN_TAG", message.tag())
        .env("QUERN_KEYS", message.keys())
        .env("QUERN_ASKED", message.asked().to_string());
    let status = run(child, command, message.body()).await?;
    Ok(match status.code() {
        Some(0) => TransactionState::Commit,
        Some(1) => TransactionState::RollBack,
        _ => TransactionState::Unknown,
    })
}

async fn run(mut shell: Command, command: &str, body: &[u8]) -> Result<ExitStatus, Failure> {
    let shell = shell.args(["-c", command]).stdin(Stdio::piped());
    let mut child = shell.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read what it is given may still be content.
        let _ = stdin.write_all(body).await;
    }
    Ok(child.wait().await?)
}
