//! What a plugin's author does without a broker, in the broker's own engine: make a component, and ask it
//! the cases that say what it must answer.

use std::path::PathBuf;
use std::sync::Arc;

pub use quern_plugins::case::CaseMessage;
use quern_plugins::case::{self, Case, parse};
use quern_plugins::{
    Compiler, Config, LoadError, Plugin, Runtime, RuntimeError, SubscribeError, Worker, check,
};
pub use quern_plugins::{Judged, Kind, Subscription, Verdict, component_of};

/// Why a plugin cannot be tested.
#[derive(Debug, thiserror::Error)]
pub enum WorkbenchError {
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error("Q-{} {source}", source.code())]
    Load {
        #[from]
        source: LoadError,
    },
    #[error("{0}")]
    Refused(String),
}

/// A plugin on the bench.
#[derive(Debug)]
pub struct Workbench {
    runtime: Runtime,
    component: Vec<u8>,
    plugin: Arc<Plugin>,
    worker: Worker,
    cases: Vec<Case>,
}

/// What became of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tested {
    /// What the case is about.
    pub what: String,
    pub expected: String,
    /// What the plugin said.
    pub said: String,
    /// Fuel it took, instance included.
    pub fuel: u64,
}

impl Tested {
    /// Whether the plugin said what was expected.
    pub fn passed(&self) -> bool {
        self.expected == self.said
    }
}

impl Workbench {
    /// Checks and compiles a component, `compiler` being a program whose `main` calls
    /// [`crate::plugin_child_main`]. Its cases are those it carries, and these.
    pub fn open(component: &[u8], more: &str, compiler: PathBuf) -> Result<Self, WorkbenchError> {
        let config = Config {
            compiler: Compiler::Child(compiler),
            ..Config::default()
        };
        let runtime = Runtime::new(&config)?;
        let checked = check(component)?;
        let mut cases = parse(&String::from_utf8_lossy(checked.cases()))?;
        cases.extend(parse(more)?);
        let plugin = runtime.load("plugin", component)?;
        Ok(Self {
            plugin,
            worker: runtime.worker(),
            runtime,
            component: component.to_vec(),
            cases,
        })
    }

    /// Whether a broker would let it in: the trial an upload ends with.
    pub fn trial(&self) -> Result<(), WorkbenchError> {
        self.runtime.admit(&self.component, |_| ())?;
        Ok(())
    }

    pub fn kind(&self) -> Kind {
        self.plugin.kind()
    }

    /// The author's version and what it does, in the author's words.
    pub fn about(&self) -> (&str, &str) {
        (self.plugin.version(), self.plugin.summary())
    }

    /// What a filter is asked from now on.
    pub fn subscribe(
        &mut self,
        expression: &str,
        params: &[(String, String)],
    ) -> Result<Subscription, WorkbenchError> {
        let subscribed = self.worker.subscribe(&self.plugin, expression, params);
        subscribed.map_err(|error| {
            WorkbenchError::Refused(match error {
                SubscribeError::Refused(refusal) => refusal.shown(expression),
                SubscribeError::Fault(fault) => fault.to_string(),
            })
        })
    }

    /// What it says of messages, in their order.
    pub fn judge(&mut self, subscription: &Subscription, messages: &[CaseMessage]) -> Judged {
        case::judge(&mut self.worker, subscription, messages)
    }

    /// Asks it all cases.
    pub fn test(&mut self) -> Vec<Tested> {
        let (worker, plugin) = (&mut self.worker, &self.plugin);
        let cases = self.cases.iter().enumerate();
        let tested = cases.map(|(number, case)| {
            let before = plugin.metrics().fuel;
            let said = case.run(worker, plugin);
            Tested {
                what: case.title(number + 1),
                expected: case.right().to_string(),
                said: said.to_string(),
                fuel: plugin.metrics().fuel - before,
            }
        });
        tested.collect()
    }
}
