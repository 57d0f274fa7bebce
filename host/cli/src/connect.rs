//! Finding the cluster: the options every client command shares.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use quern_client::{Client, Trust};

use crate::failure::Failure;
use crate::output::Output;

#[derive(Debug, Clone, Args)]
pub(crate) struct Connect {
    /// Name servers, HOST:PORT, separated by commas or quoted semicolons.
    #[arg(
        long,
        env = "NAMESRV_ADDR",
        default_value = "127.0.0.1:9876",
        value_name = "ADDR"
    )]
    pub(crate) namesrv: String,
    /// Believe servers with certificates of this authority (PEM) instead of the development CA.
    #[arg(long, env = "QUERN_CA", value_name = "FILE", conflicts_with = "pin")]
    pub(crate) ca: Option<PathBuf>,
    /// Believe servers of the authority with this fingerprint, sha256:…
    #[arg(long, env = "QUERN_PIN", value_name = "FINGERPRINT")]
    pub(crate) pin: Option<String>,
    /// How long one request may take, seconds.
    #[arg(
        long,
        env = "QUERN_TIMEOUT",
        default_value_t = 3.0,
        value_name = "SECONDS"
    )]
    pub(crate) timeout: f64,
}

/// What commands that ask and show share.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) connect: Connect,
    /// Form of the result.
    #[arg(short, long, value_enum, default_value_t = Output::Human)]
    pub(crate) output: Output,
}

impl Connect {
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        self.client_that_traces(false).await
    }

    /// One that writes down what it sends and consumes, if it is to.
    pub(crate) async fn client_that_traces(&self, traces: bool) -> Result<Client, Failure> {
        let within = Duration::try_from_secs_f64(self.timeout)
            .map_err(|_| Failure::usage(format!("--timeout {} is no time", self.timeout)))?;
        let mut builder = Client::builder()
            .namesrv([&self.namesrv])
            .request_timeout(within);
        if let Some(file) = &self.ca {
            builder = builder.trust(Trust::ca_file(file).map_err(quern_client::Error::from)?);
        }
        if let Some(pin) = &self.pin {
            builder = builder.trust(Trust::pin(pin).map_err(quern_client::Error::from)?);
        }
        if traces {
            builder = builder.trace();
        }
        Ok(builder.build().await?)
    }

    /// The defaults, with name servers of one's own.
    pub(crate) fn to(namesrv: String) -> Self {
        Self {
            namesrv,
            ca: None,
            pin: None,
            timeout: 3.0,
        }
    }
}
