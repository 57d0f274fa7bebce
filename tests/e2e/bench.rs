//! A node, and what the tests of plugins do with it again and again.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Output};

use anyhow::{Context as _, Result, ensure};
use quern_client::{PluginTrial, TrialKind};
use quern_harness::{Node, World, said, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::world_with_node;

/// An example that lets through a share of the keys.
pub(crate) const ROLLOUT: &str = "quern-example-percentage-rollout";

/// A canary of the second version, of which only the share matters.
pub(crate) fn canary(permille: u32) -> PluginTrial {
    PluginTrial {
        version: 2,
        how: TrialKind::Canary,
        permille,
        since: 0,
    }
}

/// What cargo has built of a guest, before it is a component.
pub(crate) fn module(package: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let built = root.join("target/guests/wasm32-unknown-unknown/release");
    let module = built.join(package.replace('-', "_")).with_extension("wasm");
    module.to_string_lossy().into_owned()
}

/// A consumer that runs on, and what it has printed.
pub(crate) struct Running {
    child: Child,
    file: PathBuf,
}

impl Running {
    /// Whole lines so far.
    pub(crate) fn lines(&self) -> Result<Vec<String>> {
        let text = fs::read_to_string(&self.file)?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        Ok(whole.lines().map(str::to_owned).collect())
    }

    pub(crate) fn printed(&self) -> Result<Vec<usize>> {
        let numbers = self.lines()?.into_iter().map(|it| Ok(it.parse()?));
        let mut numbers = numbers.collect::<Result<Vec<usize>>>()?;
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Waits for as many messages as this, and compares them all.
    pub(crate) fn has(&self, what: &BTreeSet<usize>) -> Result<()> {
        wait_until("messages", || Ok(self.printed()?.len() >= what.len()))?;
        let printed = self.printed()?;
        ensure!(
            printed == Vec::from_iter(what.iter().copied()),
            "{printed:?}"
        );
        Ok(())
    }

    /// Tells it to stop, which it does in good order; all it has printed.
    pub(crate) fn stop(mut self) -> Result<Vec<String>> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?).context("it has an id")?;
        kill_process(pid, Signal::TERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "a consumer ended with {status}");
        self.lines()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) struct Bench {
    pub(crate) world: World,
    pub(crate) node: Node,
}

impl Bench {
    /// Nothing is on it yet.
    pub(crate) fn bare() -> Result<Self> {
        Self::with(&[])
    }

    /// The same with more settings.
    pub(crate) fn with(more: &[&str]) -> Result<Self> {
        let (world, node) = world_with_node(more)?;
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

    /// Sends them with more to say; how that ended.
    pub(crate) fn try_to_produce(&self, args: &[&str], lines: &str) -> Result<Output> {
        let file = self.world.path("lines.ndjson");
        fs::write(&file, lines)?;
        let file = file.to_string_lossy();
        let at = self.node.namesrv.as_str();
        let from = ["--ndjson", "--file", &file, "--namesrv", at];
        self.world.run(&[&["produce"], args, &from[..]].concat())
    }

    /// The same where it has to go well; what was said.
    pub(crate) fn produce_so(&self, args: &[&str], lines: &str) -> Result<String> {
        let output = self.try_to_produce(args, lines)?;
        ensure!(output.status.success(), "{}", said(&output));
        Ok(said(&output))
    }

    /// A consumer that runs on, printing to a file of this name.
    pub(crate) fn run(&self, name: &str, args: &[&str]) -> Result<Running> {
        let file = self.world.path(name);
        let at = ["--namesrv", self.node.namesrv.as_str()];
        let follow = [&["consume", "t", "--follow"], args, &at[..]].concat();
        let mut command = self.world.command(&follow);
        let child = command.stdout(File::create(&file)?).spawn()?;
        Ok(Running { child, file })
    }

    /// States of the versions of a plugin.
    pub(crate) fn states(&self, name: &str) -> Result<Vec<String>> {
        let versions = self.list(&["plugin", "info", name])?;
        let state = |it: &Value| it["state"].as_str().map(str::to_owned);
        let states = versions.iter().map(|it| state(it).context("a state"));
        states.collect()
    }

    /// What a plugin is, and how it does.
    pub(crate) fn listed(&self, name: &str) -> Result<Value> {
        let all = self.list(&["plugin", "ls"])?;
        let found = all.into_iter().find(|it| it["plugin"] == name);
        found.context("it is listed")
    }

    /// The trial of `p`, as it stands.
    pub(crate) fn trial(&self) -> Result<Value> {
        let mut trials = self.list(&["plugin", "trial", "p"])?;
        trials.pop().context("a trial")
    }

    /// Uploads a guest as the next version of a name; the file of its component.
    pub(crate) fn upload(&self, package: &str, name: &str) -> Result<String> {
        let component = self.world.path("component.wasm");
        let component = component.to_string_lossy().into_owned();
        let build = ["plugin", "build", &module(package), "-o", &component];
        self.world.ok(&build)?;
        self.quern(&["plugin", "upload", &component, "--name", name])?;
        Ok(component)
    }

    /// Uploads a guest as the next version of a name, and lets the name stand for it.
    pub(crate) fn take_in(&self, package: &str, name: &str) -> Result<()> {
        let component = self.upload(package, name)?;
        self.activate_new(&component, name)
    }

    /// The same of a component that is built.
    pub(crate) fn activate_new(&self, component: &str, name: &str) -> Result<()> {
        let upload = ["plugin", "upload", component, "--name", name, "--activate"];
        self.quern(&upload)?;
        Ok(())
    }
}
