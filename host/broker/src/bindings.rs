//! Filters that operators bind to groups, `ChangeBindings` and `ListBindings`. The truth is in the log; names of
//! topics and groups are all it knows, so every broker has the same bindings, and none ends with a topic or a group
//! that is deleted: only an operator ends what an operator began.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use quern_plugins::Kind;
use quern_protocol::{
    BindingChange, ChangeBindings, ChangeBindingsReply, Code, Filter, GroupBindings, GroupName,
    ListBindingsReply, PluginFilter, PluginName, RecordKind, TopicName, WireError,
};

use crate::plugins::PluginRecord;
use crate::shelf::Found;
use crate::{Broker, filters, limits, reply};

type Bound = BTreeMap<GroupName, Vec<PluginFilter>>;

/// What is bound, by topic and group.
#[derive(Debug, Default)]
pub(crate) struct Bindings(RwLock<BTreeMap<TopicName, Bound>>);

impl Bindings {
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<TopicName, Bound>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies a record of the log: all that is bound to a group for a topic from now on.
    pub(crate) fn apply(&self, now: GroupBindings) {
        let mut topics = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let groups = topics.entry(now.topic.clone()).or_default();
        match now.filters.is_empty() {
            true => groups.remove(&now.group),
            false => groups.insert(now.group, now.filters),
        };
        if groups.is_empty() {
            topics.remove(&now.topic);
        }
    }

    fn filters(&self, topic: &TopicName, group: &GroupName) -> Vec<PluginFilter> {
        let topics = self.read();
        let found = topics.get(topic).and_then(|it| it.get(group));
        found.cloned().unwrap_or_default()
    }

    /// What decides for a group besides what it asks for itself.
    pub(crate) fn of(&self, topic: &TopicName, group: Option<&GroupName>) -> Vec<Filter> {
        let Some(group) = group else {
            return Vec::new();
        };
        let filters = self.filters(topic, group).into_iter();
        filters.map(Filter::Plugin).collect()
    }

    pub(crate) fn list(&self) -> Vec<GroupBindings> {
        let topics = self.read();
        let all = topics.iter().flat_map(|(topic, groups)| {
            let groups = groups.iter();
            groups.map(|(group, filters)| GroupBindings {
                topic: topic.clone(),
                group: group.clone(),
                filters: filters.clone(),
            })
        });
        all.collect()
    }

    /// The records that make bindings like these.
    pub(crate) fn snapshot(&self) -> Vec<PluginRecord> {
        self.list().into_iter().map(PluginRecord::Bound).collect()
    }

    /// To whom a plugin is bound, if to anybody: by its name alone, or by this version's number.
    pub(crate) fn user(&self, name: &PluginName, version: Option<u32>) -> Option<String> {
        let is_it = |it: &PluginFilter| it.plugin.name == *name && it.plugin.version == version;
        let all = self.list();
        let found = all.iter().find(|it| it.filters.iter().any(is_it))?;
        Some(format!("group {} for topic {}", found.group, found.topic))
    }

    fn count(&self) -> usize {
        self.read().values().map(BTreeMap::len).sum()
    }
}

pub(crate) async fn change(
    broker: &Arc<Broker>,
    request: ChangeBindings,
) -> Result<ChangeBindingsReply, WireError> {
    let _one_change_at_a_time = broker.plugin_changes().await;
    let (topic, group) = (request.topic, request.group);
    let bindings = &broker.state.bindings;
    let before = bindings.filters(&topic, &group);
    let filters = match request.change {
        BindingChange::Bind(filter) => {
            can_filter(broker, &filter).await?;
            if before.is_empty() && bindings.count() >= limits::BINDINGS {
                let most = limits::BINDINGS;
                let text = format!("filters are bound to {most} groups, this broker's limit");
                return Err(reply::bad_request(text));
            }
            bind(before.clone(), filter, &group)?
        }
        BindingChange::Unbind(name) => {
            let mut filters = before.clone();
            filters.retain(|it| it.plugin.name != name);
            if filters.len() == before.len() {
                let text = format!("{name} is not bound to group {group} for topic {topic}");
                return Err(WireError::new(Code::NOT_BOUND, text));
            }
            filters
        }
    };
    if filters != before {
        let now = GroupBindings {
            topic,
            group,
            filters: filters.clone(),
        };
        tracing::info!(topic = %now.topic, group = %now.group, filters = ?now.filters, "bound");
        broker
            .log(RecordKind::Plugin, &PluginRecord::Bound(now))
            .await?;
    }
    Ok(ChangeBindingsReply { filters })
}

fn bind(
    mut filters: Vec<PluginFilter>,
    filter: PluginFilter,
    group: &GroupName,
) -> Result<Vec<PluginFilter>, WireError> {
    let name = &filter.plugin.name;
    if let Some(known) = filters.iter_mut().find(|it| it.plugin.name == *name) {
        *known = filter;
        return Ok(filters);
    }
    if filters.len() >= limits::BOUND {
        let bound: Vec<_> = filters.iter().map(|it| it.plugin.to_string()).collect();
        let text = format!(
            "{name} would be a fourth filter: {} are bound to group {group}, and what its consumers ask for is \
             the first",
            bound.join(" and ")
        );
        return Err(WireError::new(Code::CHAIN_TOO_LONG, text));
    }
    filters.push(filter);
    Ok(filters)
}

/// Fails here, rather than where messages wait.
async fn can_filter(broker: &Arc<Broker>, filter: &PluginFilter) -> Result<(), WireError> {
    if let Some(beyond) = Filter::Plugin(filter.clone()).beyond_limits() {
        return Err(reply::bad_request(beyond));
    }
    let found = broker.shelf.find(&broker.state.plugins, &filter.plugin);
    let found = found.unwrap_or_else(|| Err(reply::no_plugin(filter.plugin.name.as_str())))?;
    let plugin = broker.loaded(found).await?;
    if !matches!(plugin.kind(), Kind::Filter | Kind::BodyFilter) {
        let text = format!("{} is a {}, not a filter", filter.plugin, plugin.kind());
        return Err(WireError::new(Code::NOT_A_FILTER, text));
    }
    let (text, params) = (&filter.expression, &filter.params);
    filters::subscription(broker, Found::Loaded(plugin), text, params).await?;
    Ok(())
}

pub(crate) fn list(broker: &Broker) -> ListBindingsReply {
    ListBindingsReply {
        bindings: broker.state.bindings.list(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(plugin: &str) -> PluginFilter {
        Filter::plugin(plugin).unwrap()
    }

    fn bound(group: &str, filters: Vec<PluginFilter>) -> GroupBindings {
        GroupBindings {
            topic: TopicName::new("t").unwrap(),
            group: GroupName::new(group).unwrap(),
            filters,
        }
    }

    #[test]
    fn the_last_record_of_a_group_says_all_and_a_snapshot_says_it_again() {
        let bindings = Bindings::default();
        let (topic, group) = (TopicName::new("t").unwrap(), GroupName::new("g").unwrap());
        bindings.apply(bound("g", vec![filter("geo@3"), filter("pii")]));
        bindings.apply(bound("h", vec![filter("pii")]));
        let of = || bindings.of(&topic, Some(&group));
        assert_eq!(of(), [filter("geo@3").into(), filter("pii").into()]);
        assert_eq!(bindings.of(&topic, None), []);
        let pii = PluginName::new("pii").unwrap();
        assert!(bindings.user(&pii, None).unwrap().contains("group g"));
        assert_eq!(bindings.user(&pii, Some(1)), None);
        let again = Bindings::default();
        for record in bindings.snapshot() {
            let PluginRecord::Bound(record) = record else {
                panic!("{record:?}");
            };
            again.apply(record);
        }
        assert_eq!(again.list(), bindings.list());
        bindings.apply(bound("g", Vec::new()));
        bindings.apply(bound("h", Vec::new()));
        assert_eq!((of(), bindings.list()), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_name_is_bound_once_and_there_is_room_for_two() {
        let group = GroupName::new("g").unwrap();
        let one = bind(Vec::new(), filter("geo@1"), &group).unwrap();
        let two = bind(one, filter("pii"), &group).unwrap();
        let replaced = bind(two, filter("geo@2").param("min", "1"), &group).unwrap();
        let right = [filter("geo@2").param("min", "1"), filter("pii")];
        assert_eq!(replaced, right);
        let fourth = bind(replaced, filter("more"), &group).unwrap_err();
        assert_eq!(fourth.code, Code::CHAIN_TOO_LONG.number);
    }
}
