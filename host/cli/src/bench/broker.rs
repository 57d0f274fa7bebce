//! The broker under measurement: a process of its own, so that its processor time is its own too.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use quern_client::Client;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::failure::Failure;

/// A broker, ours or somebody else's.
pub(crate) struct Broker {
    pub(crate) namesrv: String,
    own: Option<(Child, PathBuf)>,
}

const START: Duration = Duration::from_secs(30);

impl Broker {
    pub(crate) fn elsewhere(namesrv: &str) -> Self {
        Self {
            namesrv: namesrv.to_owned(),
            own: None,
        }
    }

    /// Starts one in a directory that must not exist yet.
    pub(crate) async fn start(data: &Path) -> Result<Self, Failure> {
        if data.exists() {
            return Err(Failure::new(
                4,
                format!(
                    "{} exists; the run would remove it at its end",
                    data.display()
                ),
            ));
        }
        let port = || -> std::io::Result<String> {
            let socket = UdpSocket::bind(("127.0.0.1", 0))?;
            Ok(socket.local_addr()?.to_string())
        };
        let (namesrv, listen) = (port()?, port()?);
        let mut child = Command::new(std::env::current_exe()?)
            .args(["start", "--namesrv-listen", &namesrv, "--listen", &listen])
            .arg("--data")
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stderr = child.stderr.take();
        let mut lines = BufReader::new(stderr.ok_or_else(|| Failure::new(1, "no stderr"))?).lines();
        let heard = async {
            let mut said = Vec::new();
            while let Some(line) = lines.next_line().await? {
                if line.contains("Ctrl-C drains") {
                    return Ok(None);
                }
                said.push(line);
            }
            Ok::<_, std::io::Error>(Some(said.join("\n")))
        };
        match tokio::time::timeout(START, heard).await {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(said))) => {
                return Err(Failure::new(1, format!("the broker did not start: {said}")));
            }
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(Failure::new(7, "the broker did not start within 30 s")),
        }
        // Whatever it says from now on is shown, and never fills the pipe.
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                eprintln!("broker: {line}");
            }
        });
        Ok(Self {
            namesrv,
            own: Some((child, data.to_owned())),
        })
    }

    /// Waits until it is registered.
    pub(crate) async fn ready(&self, client: &Client) -> Result<(), Failure> {
        let deadline = Instant::now() + START;
        while client.admin().brokers().await?.is_empty() {
            if Instant::now() >= deadline {
                return Err(Failure::new(7, "no broker registered within 30 s"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Where clients reach it.
    pub(crate) async fn address(&self, client: &Client) -> Result<String, Failure> {
        let brokers = client.admin().brokers().await?;
        let first = brokers.into_iter().next();
        first
            .map(|broker| broker.address)
            .ok_or_else(|| Failure::new(3, "no broker is registered"))
    }

    /// Stops our own and removes its data.
    pub(crate) async fn stop(&mut self) {
        if let Some((mut child, data)) = self.own.take() {
            let killed = child.kill().await;
            let removed = std::fs::remove_dir_all(&data);
            for failed in [killed, removed].into_iter().filter_map(Result::err) {
                eprintln!("cleaning up {}: {failed}", data.display());
            }
        }
    }
}
