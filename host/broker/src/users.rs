//! `PluginUsers`: before a name stands for another version, those who use it are asked for: members of groups this
//! broker coordinates, groups something is bound to, producers whose selector was used of late. What they ask the new
//! version has to accept, unless the active one does not either.

use std::sync::Arc;

use quern_plugins::{Kind, Strategy, Worker};
use quern_protocol::{
    Filter, GroupName, PluginName, PluginUsers, PluginUsersReply, RefusedUser, Selector, TopicName,
    WireError,
};

use crate::accepted::Params;
use crate::plugin_admin::newest;
use crate::plugins::{Named, no_version};
use crate::pool::Who;
use crate::shelf::Found;
use crate::{Broker, filters, reply};

/// Answers the request.
pub(crate) async fn users(
    broker: &Arc<Broker>,
    request: PluginUsers,
) -> Result<PluginUsersReply, WireError> {
    let name = request.name;
    let found = broker.state.plugins.find(&name);
    let named = found.filter(|it| !it.versions.is_empty());
    let named = named.ok_or_else(|| reply::no_plugin(name.as_str()))?;
    let version = request.version.unwrap_or_else(|| newest(&named));
    refused(broker, &name, &named, version).await
}

/// Who would be refused by a version, of those who use the name.
pub(crate) async fn refused(
    broker: &Arc<Broker>,
    name: &PluginName,
    named: &Named,
    version: u32,
) -> Result<PluginUsersReply, WireError> {
    let plugins = &broker.state.plugins;
    let found = broker.shelf.exactly(plugins, name, version);
    let found = found.ok_or_else(|| no_version(name, named, version))?;
    let active = named.active.filter(|it| *it != version);
    let active = active.and_then(|it| broker.shelf.exactly(plugins, name, it));
    let mut refused = Vec::new();
    for user in of(broker, name, named).await? {
        let Err(reason) = accepts(broker, found.clone(), &user).await else {
            continue;
        };
        // Who is refused now is no worse off.
        if let Some(active) = &active
            && accepts(broker, active.clone(), &user).await.is_ok()
        {
            refused.push(user.refused(reason));
        }
    }
    Ok(PluginUsersReply { version, refused })
}

/// Somebody, and what is asked.
struct User {
    group: Option<GroupName>,
    topic: Option<TopicName>,
    /// The same in words.
    asks: String,
    expression: String,
    params: Params,
}

impl User {
    /// Who names a selector or a strategy.
    fn of(it: &Selector, group: Option<GroupName>, topic: Option<TopicName>) -> Self {
        let params = it.params.iter();
        let params = params.map(|(name, value)| format!(" {name}={value}"));
        Self {
            group,
            topic,
            asks: format!("{}{}", it.plugin, params.collect::<String>()),
            expression: String::new(),
            params: it.params.clone(),
        }
    }

    fn refused(self, reason: WireError) -> RefusedUser {
        RefusedUser {
            group: self.group,
            topic: self.topic,
            asks: self.asks,
            reason,
        }
    }
}

async fn of(
    broker: &Arc<Broker>,
    name: &PluginName,
    named: &Named,
) -> Result<Vec<User>, WireError> {
    let version = named.active.or_else(|| named.newest_there());
    let found = version.and_then(|it| broker.shelf.exactly(&broker.state.plugins, name, it));
    let Some(found) = found else {
        return Ok(Vec::new());
    };
    let by_name = |it: &Selector| it.plugin == name.as_str();
    Ok(match broker.loaded(found).await?.kind() {
        Kind::Filter | Kind::BodyFilter => {
            let mut users = Vec::new();
            for (group, topic, filter) in asked(broker) {
                let (expression, params) = match &filter {
                    Filter::Plugin(it)
                        if it.plugin.name == *name && it.plugin.version.is_none() =>
                    {
                        (&it.expression, &it.params[..])
                    }
                    Filter::Expression { language, text } if named.language() == Some(language) => {
                        (text, &[][..])
                    }
                    _ => continue,
                };
                users.push(User {
                    asks: filter.to_string(),
                    expression: expression.clone(),
                    params: params.to_vec(),
                    group: Some(group),
                    topic: Some(topic),
                });
            }
            users
        }
        Kind::QueueSelector => {
            let used = broker.selectors.used_of_late(broker.store.steady_ms());
            let used = used.iter().filter(|(_, it)| by_name(it));
            let used = used.filter_map(|(topic, it)| {
                let topic = broker.state.topics.by_id(*topic)?;
                Some(User::of(it, None, Some(topic.name.clone())))
            });
            used.collect()
        }
        Kind::AllocationStrategy => {
            let groups = broker.groups.strategies().into_iter();
            let groups = groups.filter(|(_, it)| by_name(it));
            let groups = groups.map(|(group, it)| User::of(&it, Some(group), None));
            groups.collect()
        }
    })
}

/// What groups ask for and have bound to them.
fn asked(broker: &Broker) -> Vec<(GroupName, TopicName, Filter)> {
    let mut asked = broker.groups.subscriptions();
    for bound in broker.state.bindings.list() {
        for filter in bound.filters {
            asked.push((bound.group.clone(), bound.topic.clone(), filter.into()));
        }
    }
    asked
}

async fn accepts(broker: &Arc<Broker>, found: Found, user: &User) -> Result<(), WireError> {
    let plugin = broker.loaded(found).await?;
    let params = user.params.clone();
    match plugin.kind() {
        Kind::Filter | Kind::BodyFilter => {
            let found = Found::Loaded(plugin);
            filters::subscription(broker, Who::Others, found, &user.expression, &params).await?;
            Ok(())
        }
        Kind::QueueSelector => {
            let work = move |worker: &mut Worker| worker.open(&plugin, &params).map(drop);
            let opened = broker.delivery.run(Who::Others, work).await?;
            opened.map_err(|error| filters::refused("", &error))
        }
        Kind::AllocationStrategy => {
            let work = move |_: &mut Worker| Strategy::bind(&plugin, &params).map(drop);
            let bound = broker.delivery.run(Who::Others, work).await?;
            bound.map_err(|error| filters::refused("", &error))
        }
    }
}
