//! Who goes back to what a version decided.

use quern_client::PluginRef;
use serde::Serialize;

use crate::connect::Options;
use crate::failure::Failure;
use crate::output::{self, thousands};

#[derive(Serialize)]
struct Row {
    /// The version that decided.
    plugin: String,
    broker: String,
    group: String,
    topic: String,
    queues: u32,
    messages: u64,
}

/// Lets groups go back; without a version, to where the one before the active one began to decide.
pub(super) async fn replay(plugin: &PluginRef, options: &Options) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let name = plugin.name.as_str();
    let replayed = client.admin().replay_plugin(name, plugin.version).await?;
    let rows = replayed.into_iter().flat_map(|(broker, reply)| {
        let plugin = PluginRef::exact(&plugin.name, reply.version).to_string();
        reply.rewound.into_iter().map(move |it| Row {
            plugin: plugin.clone(),
            broker: broker.to_string(),
            group: it.group.to_string(),
            topic: it.topic.to_string(),
            queues: it.queues,
            messages: it.messages,
        })
    });
    let rows: Vec<Row> = rows.collect();
    output::rows(
        options.output,
        &rows,
        &[
            "DECIDED BY",
            "BROKER",
            "GROUP",
            "TOPIC",
            "QUEUES",
            "JUDGED AGAIN",
        ],
        |row| {
            let names = [&row.plugin, &row.broker, &row.group, &row.topic];
            let counts = [thousands(row.queues.into()), thousands(row.messages)];
            names.into_iter().cloned().chain(counts).collect()
        },
        "no group has anything to go back for",
    )
}
