//! rocketmq-rust, the port of RocketMQ to Rust, from crates.io: name server and broker, driven by RocketMQ's own client.

use std::process::Command;

use anyhow::Result;

use super::Peer;
use super::rocketmq::{RocketMq, durability, settings};
use crate::place::{Place, Site, make, need};
use crate::processes::Server;
use crate::versions;
use crate::work::{Class, Filter, Work};

pub(crate) struct RocketMqRust;

const NAME: &str = "rocketmq-rust";

impl Peer for RocketMqRust {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> Result<String> {
        Ok(versions::of(NAME)?.to_owned())
    }

    fn durability(&self, class: Class) -> &'static str {
        durability(class)
    }

    fn can(&self, work: Work) -> bool {
        // By SQL92 it let nothing through within a minute.
        !matches!(
            work,
            Work::Drain(Filter::Sql | Filter::SqlHalf | Filter::Own)
        )
    }

    fn greeting(&self) -> Option<Vec<u8>> {
        RocketMq.greeting()
    }

    fn prepare(&self, place: &Place) -> Result<()> {
        RocketMq.prepare(place)?;
        need("cargo", "--version")?;
        let version = versions::of(NAME)?;
        let package = |name: &str| format!("{name}@{version}");
        place.once(NAME, version, |dir| {
            eprintln!("… which takes half an hour on two cores, once; --peers leaves it out");
            let build = dir.join("build");
            make(
                Command::new("cargo")
                    .args(["install", "--locked", "--root"])
                    .arg(dir)
                    .args([package("rocketmq-namesrv"), package("rocketmq-broker")])
                    .env("CARGO_TARGET_DIR", &build),
            )?;
            Ok(std::fs::remove_dir_all(&build)?)
        })?;
        Ok(())
    }

    fn servers(&self, site: &Site<'_>) -> Result<Vec<Server>> {
        let home = site.dir.join("home");
        std::fs::create_dir_all(home.join("conf"))?;
        let of = |binary: &str| {
            let mut command = Command::new(site.place.cache.join(NAME).join("bin").join(binary));
            command.env("ROCKETMQ_HOME", &home).current_dir(&home);
            command
        };
        let mut name_server = of("rocketmq-namesrv-rust");
        let port = site.ports.name_server.to_string();
        name_server.args(["--listenPort", &port]);
        let mut server = of("rocketmq-broker-rust");
        server.arg("-c").arg(settings(site)?);
        Ok(vec![
            Server {
                name: "namesrv",
                command: name_server,
                opens: Some(site.at(site.ports.name_server)),
            },
            Server {
                name: "broker",
                command: server,
                opens: None,
            },
        ])
    }

    fn driver(&self, site: &Site<'_>) -> Result<Command> {
        RocketMq.driver(site)
    }
}
