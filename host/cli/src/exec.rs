//! Commands that decide: `quern consume --exec` whether a message is consumed, `quern tx answer --exec` how a
//! transaction ended.

use std::process::{Output, Stdio};

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
    Ok(decide(command, message, false).await?.err())
}

/// The same; if it is consumed and that is asked for, what the command has printed.
pub(crate) async fn decide(
    command: &str,
    message: &MessageView,
    is_heard: bool,
) -> Result<Result<Vec<u8>, String>, Failure> {
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
    if is_heard {
        child.stdout(Stdio::piped());
    }
    let output = run(child, command, message.body()).await?;
    Ok(match output.status.success() {
        true => Ok(output.stdout),
        false => Err(format!("{command}: {}", output.status)),
    })
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
    let output = run(child, command, message.body()).await?;
    Ok(match output.status.code() {
        Some(0) => TransactionState::Commit,
        Some(1) => TransactionState::RollBack,
        _ => TransactionState::Unknown,
    })
}

async fn run(mut shell: Command, command: &str, body: &[u8]) -> Result<Output, Failure> {
    let shell = shell.args(["-c", command]).stdin(Stdio::piped());
    let mut child = shell.spawn()?;
    let stdin = child.stdin.take();
    let give = async {
        if let Some(mut stdin) = stdin {
            // One that does not read what it is given may still be content.
            let _ = stdin.write_all(body).await;
        }
    };
    // At once, so that neither waits for the other.
    let ((), output) = tokio::join!(give, child.wait_with_output());
    Ok(output?)
}
