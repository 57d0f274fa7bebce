//! NATS JetStream, server and client from the Go module proxy. A topic is a stream with a subject for
//! each tag.

use std::process::Command;

use anyhow::Result;

use super::Peer;
use crate::place::{Place, Site, make, need};
use crate::processes::Server;
use crate::versions;
use crate::work::{Class, Filter, Work};

pub(crate) struct Nats;

const DRIVER: &str = include_str!("../../drivers/nats/main.go");

impl Peer for Nats {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn version(&self) -> Result<String> {
        Ok(versions::of("nats-server")?.to_owned())
    }

    fn durability(&self, class: Class) -> &'static str {
        match class {
            Class::Durable => "sync_interval: always",
            Class::Cached => "sync_interval: 2m",
        }
    }

    fn can(&self, work: Work) -> bool {
        !matches!(
            work,
            Work::Drain(Filter::Sql | Filter::SqlHalf | Filter::Own)
        )
    }

    fn greeting(&self) -> Option<Vec<u8>> {
        Some(b"CONNECT {\"verbose\":false}\r\nPING\r\n".to_vec())
    }

    fn prepare(&self, place: &Place) -> Result<()> {
        need("go", "version")?;
        let (server, client) = (versions::of("nats-server")?, versions::of("nats.go")?);
        place.once("nats-server", server, |dir| {
            let package = format!("github.com/nats-io/nats-server/v2@v{server}");
            make(
                Command::new("go")
                    .args(["install", &package])
                    .env("GOBIN", dir),
            )
        })?;
        let module =
            format!("module driver\n\ngo 1.24\n\nrequire github.com/nats-io/nats.go v{client}\n");
        place.once("nats-driver", &format!("{module}{DRIVER}"), |dir| {
            std::fs::write(dir.join("go.mod"), &module)?;
            std::fs::write(dir.join("main.go"), DRIVER)?;
            make(Command::new("go").args(["mod", "tidy"]).current_dir(dir))?;
            make(
                Command::new("go")
                    .args(["build", "-o", "driver", "."])
                    .current_dir(dir),
            )
        })?;
        Ok(())
    }

    fn servers(&self, site: &Site<'_>) -> Result<Vec<Server>> {
        let file = site.dir.join("nats.conf");
        let text = format!(
            "listen: \"{}\"\njetstream {{\n  store_dir: \"{}\"\n  max_file_store: 1TB\n  {}\n}}\n",
            site.at(site.ports.broker),
            site.dir.join("data").display(),
            self.durability(site.class),
        );
        std::fs::write(&file, text)?;
        let mut command = Command::new(site.place.cache.join("nats-server/nats-server"));
        command.arg("-c").arg(file);
        Ok(vec![Server {
            name: "nats-server",
            command,
            opens: None,
        }])
    }

    fn driver(&self, site: &Site<'_>) -> Result<Command> {
        let mut command = Command::new(site.place.cache.join("nats-driver/driver"));
        command.args(["-server", &site.at(site.ports.broker)]);
        if site.class == Class::Durable {
            // Two to three times as fast as messages by themselves; ten times as slow where nobody waits for a disk.
            command.arg("-atomic");
        }
        Ok(command)
    }
}
