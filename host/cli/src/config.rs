//! `quern config …`: what nodes run with, what a file says, which settings there are. And RocketMQ's own
//! commands for the same, `quern mqadmin getBrokerConfig` and `getNamesrvConfig`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use quern_client::{Client, ConfigEntry};
use quern_node::{Roles, settings};
use serde::Serialize;

use crate::connect::{Connect, Options};
use crate::failure::Failure;
use crate::mqadmin;
use crate::output::{self, Output};
use crate::start::refused;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The settings brokers and name servers run with, and where each comes from.
    Show {
        /// Only of this broker or name server: a broker's name, or HOST:PORT.
        #[arg(long, value_name = "NODE")]
        of: Option<String>,
        /// Only settings that somebody gave a value.
        #[arg(long)]
        given: bool,
        #[command(flatten)]
        options: Options,
    },
    /// Read a file and say what a node would make of it; nothing is started.
    Check {
        /// A broker.conf, or with --namesrv a namesrv.properties.
        file: PathBuf,
        /// It is a name server's.
        #[arg(long)]
        namesrv: bool,
        /// Form of the result.
        #[arg(short, long, value_enum, default_value_t = Output::Human)]
        output: Output,
    },
    /// Every setting there is, as Markdown.
    Keys {
        /// Those of a name server.
        #[arg(long)]
        namesrv: bool,
    },
}

#[derive(Serialize)]
struct Row {
    node: String,
    key: String,
    value: String,
    from: String,
    /// Why it has no effect; None = it has one.
    ignored: Option<String>,
}

pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Show { of, given, options } => show(of.as_deref(), given, &options).await,
        Command::Check {
            file,
            namesrv,
            output,
        } => check(&file, role(namesrv), output),
        Command::Keys { namesrv } => output::print(&settings::tables(role(namesrv))),
    }
}

fn role(namesrv: bool) -> Roles {
    match namesrv {
        true => Roles::NameServer,
        false => Roles::Broker,
    }
}

async fn show(of: Option<&str>, given: bool, options: &Options) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let nodes = nodes(&client, of).await?;
    let all = nodes.into_iter().flat_map(|(node, entries)| {
        let entries = entries.into_iter();
        entries.map(move |entry| row(&node, entry))
    });
    let is_shown = |row: &Row| !given || row.from != "default";
    rows(options.output, &all.filter(is_shown).collect::<Vec<_>>())
}

type Nodes = Vec<(String, Vec<ConfigEntry>)>;

async fn nodes(client: &Client, of: Option<&str>) -> Result<Nodes, Failure> {
    let admin = client.admin();
    if let Some(address) = of.filter(|of| of.contains(':')) {
        let entries = admin.settings_at(address).await?;
        return Ok(vec![(address.to_owned(), entries)]);
    }
    let brokers = admin.broker_settings().await?.into_iter();
    let brokers = brokers.map(|(name, entries)| (name.to_string(), entries));
    let Some(name) = of else {
        let mut all = admin.name_server_settings().await?;
        all.extend(brokers);
        return Ok(all);
    };
    let found: Vec<_> = brokers.filter(|(it, _)| it == name).collect();
    match found.is_empty() {
        true => Err(Failure::new(
            3,
            format!("no broker named {name} is registered"),
        )),
        false => Ok(found),
    }
}

fn row(node: &str, entry: ConfigEntry) -> Row {
    Row {
        node: node.to_owned(),
        key: entry.key,
        value: entry.value,
        from: entry.origin.to_string(),
        ignored: entry.ignored,
    }
}

fn rows(output: Output, rows: &[Row]) -> Result<(), Failure> {
    output::rows(
        output,
        rows,
        &["NODE", "KEY", "VALUE", "FROM", ""],
        |row| {
            let why = row.ignored.as_ref();
            vec![
                row.node.clone(),
                row.key.clone(),
                row.value.clone(),
                row.from.clone(),
                why.map_or_else(String::new, |why| format!("no effect: {why}")),
            ]
        },
        "nothing was given: every setting is as it is by default",
    )
}

fn check(file: &std::path::Path, of: Roles, output: Output) -> Result<(), Failure> {
    let given = settings::read(file, of).map_err(|bad| refused(&[bad]))?;
    let config = settings::resolve(of, given).map_err(|bad| refused(&bad))?;
    let name = file.display().to_string();
    let entries = config.entries(of).into_iter();
    let given = entries.filter(|it| it.origin.to_string() != "default");
    rows(output, &given.map(|it| row(&name, it)).collect::<Vec<_>>())
}

/// Commands of RocketMQ's `mqadmin`, by their own names.
#[derive(Debug, Subcommand)]
pub(crate) enum MqAdmin {
    /// The settings a broker runs with.
    #[command(name = "getBrokerConfig")]
    GetBrokerConfig {
        /// Of this broker, HOST:PORT.
        #[arg(short, value_name = "ADDR", conflicts_with = "cluster")]
        broker: Option<String>,
        /// Of the brokers of this cluster.
        #[arg(short, value_name = "CLUSTER")]
        cluster: Option<String>,
        #[command(flatten)]
        names: NameServers,
    },
    /// The settings name servers run with.
    #[command(name = "getNamesrvConfig")]
    GetNamesrvConfig {
        #[command(flatten)]
        names: NameServers,
    },
    #[command(flatten)]
    Message(mqadmin::Command),
}

#[derive(Debug, Args)]
pub(crate) struct NameServers {
    /// Name servers, HOST:PORT, separated by commas or quoted semicolons.
    #[arg(
        short,
        env = "NAMESRV_ADDR",
        default_value = "127.0.0.1:9876",
        value_name = "ADDR"
    )]
    pub(crate) namesrv: String,
}

pub(crate) async fn mqadmin(command: MqAdmin) -> Result<(), Failure> {
    match command {
        MqAdmin::GetBrokerConfig {
            broker,
            cluster,
            names,
        } => {
            eprintln!("the same: quern config show [--of BROKER]");
            let client = Connect::to(names.namesrv).client().await?;
            if let Some(address) = broker {
                let entries = client.admin().settings_at(&address).await?;
                return print(&address, &entries);
            }
            let brokers = client.admin().brokers().await?;
            let is_asked = |name: &str| cluster.as_ref().is_none_or(|cluster| cluster == name);
            for it in brokers.iter().filter(|it| is_asked(&it.cluster)) {
                print(&it.address, &client.admin().settings_at(&it.address).await?)?;
            }
            Ok(())
        }
        MqAdmin::Message(command) => mqadmin::run(command).await,
        MqAdmin::GetNamesrvConfig { names } => {
            eprintln!("the same: quern config show --of HOST:PORT");
            let client = Connect::to(names.namesrv).client().await?;
            for (address, entries) in client.admin().name_server_settings().await? {
                print(&address, &entries)?;
            }
            Ok(())
        }
    }
}

/// As `mqadmin` prints it: scripts read this.
fn print(node: &str, entries: &[ConfigEntry]) -> Result<(), Failure> {
    let mut text = format!("============{node}============\n");
    for it in entries.iter().filter(|it| it.ignored.is_none()) {
        text.push_str(&format!("{:<50}=  {}\n", it.key, it.value));
    }
    output::print(&text)
}
