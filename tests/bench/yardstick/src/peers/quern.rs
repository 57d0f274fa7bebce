//! Quernstone: broker and name server in one process, and our own client in `drive.rs`.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::Peer;
use crate::place::{LOOPBACK, Place, Site, make};
use crate::processes::Server;
use crate::work::{Class, Work};

pub(crate) struct Quern;

/// A user's own filter: what `a = 7` is in SQL92.
const SOURCE: &str = "quern_plugin::filter! {
    /// One value of a hundred.
    fn accept(a: integer) -> bool {
        a == Some(7)
    }
}
";
const CASES: &str = r#"{"what": "the seventh", "message": {"properties": {"a": 7}}, "expect": true}
{"what": "any other", "message": {"properties": {"a": 8}}, "expect": false}
"#;
/// Where it is in the cache.
const COMPONENT: &str = "quern-own/own/own.wasm";

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
            "needs {}: cargo build --profile dist builds it, --quern names another",
            place.quern.display()
        );
        // As an author would make it: from an empty folder, with `quern` and cargo alone.
        let quern = std::fs::metadata(&place.quern)?;
        let built = quern.modified()?.duration_since(std::time::UNIX_EPOCH)?;
        // The SDK it is built with is in the binary.
        let made_from = format!("{} {}{SOURCE}", quern.len(), built.as_nanos());
        place.once("quern-own", &made_from, |dir| {
            let quern = || Command::new(&place.quern);
            make(quern().args(["plugin", "new", "own"]).current_dir(dir))?;
            let folder = dir.join("own");
            std::fs::write(folder.join("src/lib.rs"), SOURCE)?;
            std::fs::write(folder.join("cases.ndjson"), CASES)?;
            make(quern().args(["plugin", "build"]).current_dir(folder))
        })?;
        Ok(())
    }

    fn servers(&self, site: &Site<'_>) -> Result<Vec<Server>> {
        let mut command = Command::new(&site.place.quern);
        command
            .arg("start")
            .args(["--namesrv-listen", &site.at(site.ports.name_server)])
            .args(["--listen", &site.at(site.ports.broker)])
            .arg("--data")
            .arg(site.dir.join("data"))
            .args(self.durability(site.class).split(' '))
            // Its development CA.
            .env("HOME", &site.dir)
            .env_remove("XDG_DATA_HOME");
        if site.host != LOOPBACK {
            // The other end of the path is this machine too.
            command.arg("--allow-dev-ca");
        }
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
            .args(["drive", &site.at(site.ports.name_server)])
            .arg(site.at(site.ports.broker))
            .arg(site.place.cache.join(COMPONENT))
            .env("HOME", &site.dir)
            .env_remove("XDG_DATA_HOME");
        Ok(command)
    }
}
