//! Quernstone: broker and name server in one process, and our own client in `drive.rs`.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::Peer;
use crate::place::{Place, Site};
use crate::processes::Server;
use crate::work::{Class, Work};

pub(crate) struct Quern;

impl Peer for Quern {
    fn name(&self) -> &'static str {
        super::OURS
    }

    fn version(&self) -> Result<String> {
        Ok(env!("CARGO_PKG_VERSION").to_owned())
    }

    fn durability(&self, class: Class) -> &'static str {
        match class {
            Class::Durable => "--durability local",
            Class::Cached => "--durability fast",
        }
    }

    fn can(&self, _: Work) -> bool {
        true
    }

    fn prepare(&self, place: &Place) -> Result<()> {
        ensure!(
            place.quern.is_file(),
            "needs {}: cargo build --release builds it, --quern names another",
            place.quern.display()
        );
        Ok(())
    }

    fn servers(&self, site: &Site<'_>) -> Result<Vec<Server>> {
        let mut command = Command::new(&site.place.quern);
        command
            .arg("start")
            .args([
                "--namesrv-listen",
                &format!("127.0.0.1:{}", site.ports.name_server),
            ])
            .args(["--listen", &format!("127.0.0.1:{}", site.ports.broker)])
            .arg("--data")
            .arg(site.dir.join("data"))
            .args(self.durability(site.class).split(' '))
            // Its development CA.
            .env("HOME", &site.dir)
            .env_remove("XDG_DATA_HOME");
        Ok(vec![Server {
            name: "quern",
            command,
            opens: None,
        }])
    }

    fn driver(&self, site: &Site<'_>) -> Result<Command> {
        let own = std::env::current_exe().context("finding this program")?;
        let mut command = Command::new(own);
        command
            .args(["drive", &format!("127.0.0.1:{}", site.ports.name_server)])
            .env("HOME", &site.dir)
            .env_remove("XDG_DATA_HOME");
        Ok(command)
    }
}
