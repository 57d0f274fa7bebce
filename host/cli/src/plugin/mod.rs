//! `quern plugin …`: make, build and test without a broker; upload, activate, roll back and look at on one.

mod author;
mod binding;
mod kind;
mod logs;
mod new;
mod project;
mod replay;
mod show;
mod trials;
mod trying;

use std::path::PathBuf;

use bytes::Bytes;
use clap::{Args, Subcommand};
use quern_client::{PluginChange, PluginName, PluginRef, TrialKind};

use crate::connect::Options;
use crate::failure::Failure;
use crate::output::{self, Output, thousands};

pub(crate) use author::read;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a folder for a plugin of one's own, which builds and tests as it is.
    New(new::Args),
    /// Build the plugin of this folder and make a component of it; or make one of what `cargo build --target
    /// wasm32-unknown-unknown --release` has built.
    Build {
        /// The .wasm file cargo has made; by default cargo is run, and NAME.wasm written to this folder.
        module: Option<PathBuf>,
        /// Cases to take along, one JSON document a line: brokers run them before they let the plugin in. By
        /// default cases.ndjson of this folder.
        #[arg(long, value_name = "FILE")]
        cases: Option<PathBuf>,
        /// Where the component goes. By default beside the module, as NAME.component.wasm.
        #[arg(long, short = 'o', value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Ask a component its cases, in the broker's own engine and without a broker.
    Test {
        /// By default the plugin of this folder, built anew.
        component: Option<PathBuf>,
        /// More cases than the component carries, one JSON document a line.
        #[arg(long, value_name = "FILE")]
        cases: Option<PathBuf>,
        /// Form of the result.
        #[arg(short, long, value_enum, default_value_t = Output::Human)]
        output: Output,
    },
    /// What a message costs, in time and fuel, in batches of 1, 32 and 256, in the broker's own engine.
    Bench(author::BenchArgs),
    /// Ask a filter about the latest messages of a topic, here: nothing is uploaded, nothing changes.
    Try(trying::Args),
    /// Take a component in, on every broker, as the next version of a name.
    Upload {
        /// By default the plugin of this folder, built anew.
        component: Option<PathBuf>,
        /// By default the file's name up to its first dot.
        #[arg(long)]
        name: Option<String>,
        /// Let the name stand for this version at once.
        #[arg(long)]
        activate: bool,
        #[command(flatten)]
        options: Options,
    },
    /// All plugins: those that are part of the brokers, and those taken in.
    Ls {
        #[command(flatten)]
        options: Options,
    },
    /// The versions of a plugin, what they do and did.
    Info {
        name: String,
        #[command(flatten)]
        options: Options,
    },
    /// What a plugin logs, its panics included: the lines brokers keep, and with --follow those that come.
    Logs(logs::Args),
    /// Let a name stand for one of its versions: NAME@VERSION, or NAME for the newest. Refused if that does not accept
    /// what somebody asks of the active one.
    Activate {
        #[arg(value_name = "NAME[@VERSION]")]
        plugin: PluginRef,
        /// Whoever has to wait then.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        options: Options,
    },
    /// Let a version run beside the active one, which decides, and count where the two disagree.
    Shadow {
        #[command(flatten)]
        share: Share,
        #[command(flatten)]
        options: Options,
    },
    /// Let a version decide a share, always the same one.
    Canary {
        #[command(flatten)]
        share: Share,
        #[command(flatten)]
        options: Options,
    },
    /// What a trial, shadow or canary, has come to since the broker's start.
    Trial {
        name: String,
        /// End it: the active version decides everything again.
        #[arg(long)]
        end: bool,
        #[command(flatten)]
        options: Options,
    },
    /// Let a name stand for the version that was active before.
    Rollback {
        name: PluginName,
        /// Groups go back to where the version that is left began to decide for them: what it has rejected is judged
        /// again. What it let through is not delivered again.
        #[arg(long)]
        replay: bool,
        #[command(flatten)]
        options: Options,
    },
    /// After a roll-back, by hand or of itself: let groups go back to where a version of a filter, by default the one that
    /// was active before, began to decide for them.
    Replay {
        #[arg(value_name = "NAME[@VERSION]")]
        plugin: PluginRef,
        #[command(flatten)]
        options: Options,
    },
    /// Put a filter behind what the consumers of a group ask for, without a change of theirs: what both let through is
    /// delivered. Bound again, a plugin gets its new version and parameters.
    Bind(binding::BindArgs),
    /// Take a bound filter away again. What it has rejected is not delivered any more.
    Unbind(binding::UnbindArgs),
    /// What is bound to whom.
    Bindings {
        #[command(flatten)]
        options: Options,
    },
    /// Let a name stand for nothing: who uses it waits.
    Disable {
        name: String,
        #[command(flatten)]
        options: Options,
    },
    /// Remove a version that is not active.
    Rm {
        #[arg(value_name = "NAME@VERSION")]
        plugin: PluginRef,
        #[command(flatten)]
        options: Options,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Share {
    /// By default the newest version.
    #[arg(value_name = "NAME[@VERSION]")]
    plugin: PluginRef,
    /// Of the messages, in blocks of 1,024 of a queue; of a selector's order keys, of a strategy's groups. A tenth of
    /// a per cent is the least.
    #[arg(long, value_name = "PERCENT", value_parser = permille)]
    share: u32,
}

fn permille(text: &str) -> Result<u32, String> {
    let number = text.trim_end_matches('%').parse::<f64>().ok();
    let number = number.filter(|it| (0.1..=100.0).contains(it));
    let number = number.ok_or_else(|| "a share is 0.1 to 100 per cent, as in 5%".to_owned())?;
    Ok((number * 10.0).round() as u32)
}

impl Share {
    fn begin(&self, how: TrialKind) -> PluginChange {
        PluginChange::Try {
            version: self.plugin.version,
            how,
            permille: self.share,
        }
    }
}

pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::New(args) => new::run(&args),
        Command::Build { module, cases, out } => {
            author::build(module.as_deref(), cases.as_deref(), out)
        }
        Command::Test {
            component,
            cases,
            output,
        } => {
            let component = project::component(component)?;
            author::test(&component, cases.as_deref(), output)
        }
        Command::Bench(args) => author::bench(args),
        Command::Try(args) => trying::run(args).await,
        Command::Upload {
            component,
            name,
            activate,
            options,
        } => {
            let component = project::component(component)?;
            upload(&component, name, activate, &options).await
        }
        Command::Ls { options } => show::ls(&options).await,
        Command::Bind(args) => binding::bind(args).await,
        Command::Unbind(args) => binding::unbind(args).await,
        Command::Bindings { options } => binding::bindings(&options).await,
        Command::Logs(args) => logs::run(args).await,
        Command::Info { name, options } => show::info(&name, &options).await,
        Command::Activate {
            plugin,
            force,
            options,
        } => {
            let change = activation(plugin.version, force);
            change_plugin(plugin.name.as_str(), change, &options).await
        }
        Command::Shadow { share, options } => begin(&share, TrialKind::Shadow, &options).await,
        Command::Canary { share, options } => begin(&share, TrialKind::Canary, &options).await,
        Command::Trial { name, end, options } => {
            if end {
                change_plugin(&name, PluginChange::EndTrial, &options).await?;
            }
            trials::trial(&name, &options).await
        }
        Command::Rollback {
            name,
            replay,
            options,
        } => roll_back(name, replay, &options).await,
        Command::Replay { plugin, options } => replay::replay(&plugin, &options).await,
        Command::Disable { name, options } => {
            change_plugin(&name, PluginChange::Disable, &options).await
        }
        Command::Rm { plugin, options } => {
            let version = plugin.version.ok_or_else(|| {
                Failure::usage(format!("say which version: {}@VERSION", plugin.name))
            })?;
            let change = PluginChange::Remove { version };
            change_plugin(plugin.name.as_str(), change, &options).await
        }
    }
}

async fn begin(share: &Share, how: TrialKind, options: &Options) -> Result<(), Failure> {
    let name = share.plugin.name.as_str();
    change_plugin(name, share.begin(how), options).await?;
    trials::trial(name, options).await
}

async fn roll_back(name: PluginName, replay: bool, options: &Options) -> Result<(), Failure> {
    change_plugin(name.as_str(), PluginChange::RollBack, options).await?;
    match replay {
        true => replay::replay(&PluginRef::active(name), options).await,
        false => Ok(()),
    }
}

/// Unless it is forced, brokers ask first whether all who use the plugin could go on.
fn activation(version: Option<u32>, force: bool) -> PluginChange {
    match force {
        true => PluginChange::ActivateAnyway { version },
        false => PluginChange::Activate { version },
    }
}

async fn upload(
    file: &std::path::Path,
    name: Option<String>,
    activate: bool,
    options: &Options,
) -> Result<(), Failure> {
    let component = Bytes::from(author::read(file)?);
    let stem = file.file_name().and_then(|it| it.to_str()).unwrap_or("");
    let stem = stem.split('.').next().unwrap_or(stem);
    let name = name.unwrap_or_else(|| stem.to_owned());
    let client = options.connect.client().await?;
    let admin = client.admin();
    let size = component.len();
    let uploaded = admin.upload_plugin(&name, &component, |broker, done| {
        eprintln!(
            "{broker} has {} of {} bytes{}",
            thousands(done as u64),
            thousands(size as u64),
            if done == size {
                "; checking, compiling, trying"
            } else {
                ""
            }
        );
    });
    let uploaded = uploaded.await?;
    let (about, version) = (&uploaded.about, uploaded.version);
    eprintln!(
        "{name}@{version}: {}, {} of its cases passed, {} fuel a message",
        about.kind,
        about.cases,
        thousands(about.fuel_per_message)
    );
    if !uploaded.is_new {
        eprintln!("these bytes were {name}@{version} before");
    }
    if activate {
        let change = PluginChange::Activate {
            version: Some(version),
        };
        return change_plugin(&name, change, options).await;
    }
    output::print(&format!("{name}@{version}\n"))
}

async fn change_plugin(name: &str, change: PluginChange, options: &Options) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let changed = client.admin().change_plugin(name, change).await?;
    let rows: Vec<_> = changed
        .into_iter()
        .map(|(broker, it)| show::Changed {
            plugin: name.to_owned(),
            broker: broker.to_string(),
            before: it.before,
            active: it.active,
        })
        .collect();
    show::changed(&rows, options.output)
}
