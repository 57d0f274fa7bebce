//! `quern plugin bind`, `unbind`, `bindings`: filters for consumers that know nothing of them.

use std::collections::BTreeMap;

use clap::Args;
use quern_client::{BrokerName, Filter, GroupBindings, PluginFilter, PluginRef};
use serde::Serialize;

use crate::connect::Options;
use crate::consume::param;
use crate::failure::Failure;
use crate::output;

/// Whose messages are meant.
#[derive(Debug, Args)]
pub(crate) struct Whose {
    /// The topic.
    #[arg(long)]
    topic: String,
    /// The group.
    #[arg(long)]
    group: String,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Args)]
pub(crate) struct BindArgs {
    #[arg(value_name = "NAME[@VERSION]")]
    plugin: PluginRef,
    #[command(flatten)]
    whose: Whose,
    /// A parameter of the plugin; may be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = param)]
    param: Vec<(String, String)>,
    /// What the plugin is asked, if it understands expressions.
    #[arg(long, value_name = "TEXT", default_value = "")]
    expression: String,
    /// Decides about messages the plugin fails on, and about all while it cannot be asked: tag or sql92, and what that
    /// is asked, as in "sql92:region = 'eu'".
    #[arg(long = "else", value_name = "NAME:EXPRESSION", value_parser = otherwise)]
    otherwise: Option<PluginFilter>,
}

fn otherwise(text: &str) -> Result<PluginFilter, String> {
    let (name, expression) = text.split_once(':').unwrap_or((text, ""));
    let filter = Filter::plugin(name).map_err(|error| error.to_string())?;
    Ok(filter.expression(expression))
}

#[derive(Debug, Args)]
pub(crate) struct UnbindArgs {
    name: String,
    #[command(flatten)]
    whose: Whose,
}

#[derive(Serialize)]
struct Row {
    topic: String,
    group: String,
    /// In the order they are asked.
    filters: Vec<String>,
    brokers: Vec<String>,
}

pub(super) async fn bind(args: BindArgs) -> Result<(), Failure> {
    let Whose {
        topic,
        group,
        options,
    } = args.whose;
    let filter = PluginFilter {
        plugin: args.plugin,
        params: args.param,
        expression: args.expression,
    };
    let client = options.connect.client().await?;
    let admin = client.admin();
    match args.otherwise {
        Some(otherwise) => {
            let both = (filter, otherwise);
            admin.bind_filter_or_else(&topic, &group, both).await?
        }
        None => admin.bind_filter(&topic, &group, filter).await?,
    };
    show(&client, &options, |it| is_of(it, &topic, &group)).await
}

pub(super) async fn unbind(args: UnbindArgs) -> Result<(), Failure> {
    let Whose {
        topic,
        group,
        options,
    } = args.whose;
    let client = options.connect.client().await?;
    let admin = client.admin();
    admin.unbind_filter(&topic, &group, &args.name).await?;
    show(&client, &options, |it| is_of(it, &topic, &group)).await
}

pub(super) async fn bindings(options: &Options) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    show(&client, options, |_| true).await
}

fn is_of(bindings: &GroupBindings, topic: &str, group: &str) -> bool {
    bindings.topic.as_str() == topic && bindings.group.as_str() == group
}

/// A row for what is the same on all brokers; more, where they differ.
async fn show(
    client: &quern_client::Client,
    options: &Options,
    is_wanted: impl Fn(&GroupBindings) -> bool,
) -> Result<(), Failure> {
    let mut rows = BTreeMap::<_, Vec<BrokerName>>::new();
    let states = client.admin().binding_states().await?;
    let otherwise = |on: &BrokerName, it: &GroupBindings, filter: &PluginFilter| {
        let states = states.iter().filter(|(broker, _)| broker == on);
        let mut all = states.flat_map(|(_, states)| &states.otherwise);
        let found = all.find(|other| {
            (&other.topic, &other.group, &other.plugin)
                == (&it.topic, &it.group, &filter.plugin.name)
        });
        found.map(|it| Filter::Plugin(it.otherwise.clone()))
    };
    for (broker, it) in client.admin().list_bindings().await? {
        if !is_wanted(&it) {
            continue;
        }
        let filters = it.filters.iter().map(|filter| {
            let named = Filter::Plugin(filter.clone());
            match otherwise(&broker, &it, filter) {
                Some(otherwise) => format!("{named}, else {otherwise}"),
                None => named.to_string(),
            }
        });
        let filters: Vec<_> = filters.collect();
        let key = (it.topic.to_string(), it.group.to_string(), filters);
        rows.entry(key).or_default().push(broker);
    }
    let rows = rows
        .into_iter()
        .map(|((topic, group, filters), brokers)| Row {
            topic,
            group,
            filters,
            brokers: brokers.iter().map(ToString::to_string).collect(),
        });
    let row = |it: &Row| {
        vec![
            it.topic.clone(),
            it.group.clone(),
            it.filters.join(", then "),
            it.brokers.join(", "),
        ]
    };
    output::rows(
        options.output,
        &rows.collect::<Vec<_>>(),
        &["TOPIC", "GROUP", "FILTERS", "BROKERS"],
        row,
        "nothing is bound",
    )
}
