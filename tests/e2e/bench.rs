//! A node, and what the tests of plugins do with it again and again.

use std::path::Path;

use anyhow::Result;
use quern_harness::{Node, World};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::world_with_node;

/// An example that lets through a share of the keys.
pub(crate) const ROLLOUT: &str = "quern-example-percentage-rollout";

/// What cargo has built of a guest, before it is a component.
pub(crate) fn module(package: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let built = root.join("target/guests/wasm32-unknown-unknown/release");
    let module = built.join(package.replace('-', "_")).with_extension("wasm");
    module.to_string_lossy().into_owned()
}

pub(crate) struct Bench {
    pub(crate) world: World,
    pub(crate) node: Node,
}

impl Bench {
    /// Nothing is on it yet.
    pub(crate) fn bare() -> Result<Self> {
        let (world, node) = world_with_node(&[])?;
        Ok(Self { world, node })
    }

    pub(crate) fn quern(&self, args: &[&str]) -> Result<String> {
        let at = ["--namesrv", self.node.namesrv.as_str()];
        self.world.ok(&[args, &at].concat())
    }

    pub(crate) fn fails(&self, args: &[&str], exit: i32, code: &str) -> Result<String> {
        let at = ["--namesrv", self.node.namesrv.as_str()];
        self.world.fails(&[args, &at].concat(), exit, code)
    }

    pub(crate) fn json(&self, args: &[&str]) -> Result<Value> {
        self.parsed(args)
    }

    pub(crate) fn list(&self, args: &[&str]) -> Result<Vec<Value>> {
        self.parsed(args)
    }

    fn parsed<T: DeserializeOwned>(&self, args: &[&str]) -> Result<T> {
        let printed = self.quern(&[args, &["-o", "json"]].concat())?;
        Ok(serde_json::from_str(&printed)?)
    }

    /// Sends what these lines say, a JSON document each.
    pub(crate) fn produce(&self, topic: &str, lines: &str) -> Result<()> {
        let at = self.node.namesrv.as_str();
        let produce = ["produce", topic, "--ndjson", "-", "--namesrv", at];
        self.world.ok_with_input(&produce, lines.as_bytes())?;
        Ok(())
    }

    /// Uploads a guest as the next version of a name, and lets the name stand for it.
    pub(crate) fn take_in(&self, package: &str, name: &str) -> Result<()> {
        let component = self.world.path("component.wasm");
        let component = component.to_string_lossy().into_owned();
        let build = ["plugin", "build", &module(package), "-o", &component];
        self.world.ok(&build)?;
        self.activate_new(&component, name)
    }

    /// The same of a component that is built.
    pub(crate) fn activate_new(&self, component: &str, name: &str) -> Result<()> {
        let upload = ["plugin", "upload", component, "--name", name, "--activate"];
        self.quern(&upload)?;
        Ok(())
    }
}
