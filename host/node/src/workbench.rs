//! What a plugin's author does without a broker, in the broker's own engine: make a component, and ask it
//! the cases that say what it must answer.

use std::path::PathBuf;
use std::sync::Arc;

use quern_plugins::case::{self, Case, Outcome, parse};
pub use quern_plugins::case::{CaseMessage, Ready};
use quern_plugins::{
    Compiled, Compiler, Config, LoadError, Plugin, Runtime, RuntimeError, SubscribeError, Worker,
};
pub use quern_plugins::{Judged, Kind, Subscription, Verdict, component_of, of_world};

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
    compiled: Compiled,
    plugin: Arc<Plugin>,
    worker: Worker,
    cases: Vec<Case>,
}

/// What became of a case.
#[derive(Debug)]
pub struct Tested {
    /// What the case is about.
    pub what: String,
    pub expected: String,
    /// What the plugin said.
    pub said: String,
    /// Fuel it took to say it, or to refuse.
    pub fuel: u64,
    /// To ask again; `None` = it was refused.
    pub ready: Option<Ready>,
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
        let compiled = runtime.compiled(component)?;
        let mut cases = parse(&String::from_utf8_lossy(compiled.checked().cases()))?;
        cases.extend(parse(more)?);
        let plugin = runtime.plugin("plugin", &compiled)?;
        Ok(Self {
            plugin,
            worker: runtime.worker(),
            runtime,
            compiled,
            cases,
        })
    }

    /// Whether a broker would let it in: the trial an upload ends with.
    pub fn trial(&self) -> Result<(), WorkbenchError> {
        self.runtime.try_out(&self.compiled)?;
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

    /// How many cases there are.
    pub fn cases(&self) -> usize {
        self.cases.len()
    }

    /// Asks it one of its cases; `None` = there are fewer.
    pub fn test(&mut self, number: usize) -> Option<Tested> {
        let case = self.cases.get(number)?;
        let (worker, plugin) = (&mut self.worker, &self.plugin);
        let before = plugin.metrics().fuel;
        let ready = case::ready(worker, plugin, &[case], 1);
        let prepared = plugin.metrics().fuel;
        let (said, ready, before) = match ready {
            Ok(ready) => (ready.ask(worker), Some(ready), prepared),
            Err(outcome) => (outcome, None, before),
        };
        Some(Tested {
            what: case.title(number + 1),
            expected: case.right().to_string(),
            said: said.to_string(),
            fuel: plugin.metrics().fuel - before,
            ready,
        })
    }

    /// Asks what was asked before; an answer that was one stays one.
    pub fn ask(&mut self, ready: &Ready) {
        ready.ask(&mut self.worker);
    }

    /// Fuel the plugin has used so far.
    pub fn fuel(&self) -> u64 {
        self.plugin.metrics().fuel
    }

    /// So many messages of its cases, laid out for this expression and these parameters; without any, for
    /// those of the first case that it accepts.
    pub fn load(
        &mut self,
        asked: Option<(&str, &[(String, String)])>,
        messages: usize,
    ) -> Result<Ready, WorkbenchError> {
        let cases = chosen(&self.cases, asked);
        let all: Vec<&Case> = cases.iter().collect();
        let ready = case::ready(&mut self.worker, &self.plugin, &all, messages);
        ready.map_err(refused)
    }

    /// The same messages for a condition of the built-in SQL92.
    pub fn load_sql(&mut self, condition: &str, messages: usize) -> Result<Ready, WorkbenchError> {
        let sql = self.runtime.built_in("sql92");
        let sql = sql.ok_or_else(|| WorkbenchError::Refused("there is no sql92".to_owned()))??;
        let cases = chosen(&self.cases, Some((condition, &[])));
        let all: Vec<&Case> = cases.iter().collect();
        case::ready(&mut self.worker, &sql, &all, messages).map_err(refused)
    }
}

fn refused(outcome: Outcome) -> WorkbenchError {
    WorkbenchError::Refused(outcome.to_string())
}

/// Cases whose messages can be judged together, the first saying under what.
fn chosen(cases: &[Case], asked: Option<(&str, &[(String, String)])>) -> Vec<Case> {
    let expects = |case: &&Case| case.refused.is_none();
    let mut chosen: Vec<Case> = cases.iter().filter(expects).cloned().collect();
    if chosen.is_empty() {
        chosen.push(Case::default());
    }
    if let (Some(first), Some((expression, params))) = (chosen.first_mut(), asked) {
        first.expression = expression.to_owned();
        first.params = params.iter().cloned().collect();
    }
    chosen
}
