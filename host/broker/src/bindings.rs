//! Filters that operators bind to groups, `ChangeBindings` and `ListBindings`. The truth is in the log; names of
//! topics and groups are all it knows, so every broker has the same bindings, and none ends with a topic or a group
//! that is deleted: only an operator ends what an operator began.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use quern_plugins::{Kind, Runtime};
use quern_protocol::{
    BindingChange, BindingStatesReply, ChangeBindings, ChangeBindingsReply, Code, Filter,
    GroupBindings, GroupName, ListBindingsReply, Otherwise, PluginFilter, PluginName, RecordKind,
    TopicName, WireError,
};

use crate::plugins::PluginRecord;
use crate::pool::Who;
use crate::shelf::Found;
use crate::{Broker, filters, limits, reply};

/// A filter that is bound, and what decides where it cannot say.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct BoundFilter {
    pub(crate) filter: PluginFilter,
    pub(crate) otherwise: Option<PluginFilter>,
}

type Bound = BTreeMap<GroupName, Vec<BoundFilter>>;

/// What is bound, by topic and group.
#[derive(Debug, Default)]
pub(crate) struct Bindings(RwLock<BTreeMap<TopicName, Bound>>);

impl Bindings {
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<TopicName, Bound>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies a record of the log: all that is bound to a group for a topic from now on.
    pub(crate) fn apply(&self, now: GroupBindings, otherwise: Vec<Option<PluginFilter>>) {
        let mut topics = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let groups = topics.entry(now.topic.clone()).or_default();
        let otherwise = otherwise.into_iter().chain(std::iter::repeat(None));
        let filters = now.filters.into_iter().zip(otherwise);
        let filters = filters.map(|(filter, otherwise)| BoundFilter { filter, otherwise });
        let filters: Vec<_> = filters.collect();
        match filters.is_empty() {
            true => groups.remove(&now.group),
            false => groups.insert(now.group, filters),
        };
        if groups.is_empty() {
            topics.remove(&now.topic);
        }
    }

    fn filters(&self, topic: &TopicName, group: &GroupName) -> Vec<BoundFilter> {
        let topics = self.read();
        let found = topics.get(topic).and_then(|it| it.get(group));
        found.cloned().unwrap_or_default()
    }

    /// What decides for a group besides what it asks for itself.
    pub(crate) fn of(&self, topic: &TopicName, group: Option<&GroupName>) -> Vec<filters::Bound> {
        let Some(group) = group else {
            return Vec::new();
        };
        let filters = self.filters(topic, group).into_iter();
        let asked = filters.map(|it| filters::Bound {
            filter: it.filter.into(),
            otherwise: it.otherwise.map(Filter::from),
        });
        asked.collect()
    }

    fn each<T>(&self, row: impl Fn(&TopicName, &GroupName, &[BoundFilter]) -> T) -> Vec<T> {
        let topics = self.read();
        let all = topics.iter().flat_map(|(topic, groups)| {
            let groups = groups.iter();
            groups.map(|(group, filters)| row(topic, group, filters))
        });
        all.collect()
    }

    pub(crate) fn list(&self) -> Vec<GroupBindings> {
        self.each(group_bindings)
    }

    /// Those that something stands in for.
    fn otherwise(&self) -> Vec<Otherwise> {
        let rows = self.each(|topic, group, filters| {
            let some = filters.iter().filter_map(|it| {
                Some(Otherwise {
                    topic: topic.clone(),
                    group: group.clone(),
                    plugin: it.filter.plugin.name.clone(),
                    otherwise: it.otherwise.clone()?,
                })
            });
            some.collect::<Vec<_>>()
        });
        rows.into_iter().flatten().collect()
    }

    /// The records that make bindings like these.
    pub(crate) fn snapshot(&self) -> Vec<PluginRecord> {
        self.each(record)
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

fn group_bindings(topic: &TopicName, group: &GroupName, filters: &[BoundFilter]) -> GroupBindings {
    GroupBindings {
        topic: topic.clone(),
        group: group.clone(),
        filters: filters.iter().map(|it| it.filter.clone()).collect(),
    }
}

/// Earlier releases understand it unless something stands in for a filter.
fn record(topic: &TopicName, group: &GroupName, filters: &[BoundFilter]) -> PluginRecord {
    let now = group_bindings(topic, group, filters);
    match filters.iter().all(|it| it.otherwise.is_none()) {
        true => PluginRecord::Bound(now),
        false => {
            let otherwise = filters.iter().map(|it| it.otherwise.clone());
            PluginRecord::BoundElse(now, otherwise.collect())
        }
    }
}

pub(crate) async fn change(
    broker: &Arc<Broker>,
    request: ChangeBindings,
) -> Result<ChangeBindingsReply, WireError> {
    let one_change_at_a_time = broker.plugin_changes().await;
    let (topic, group) = (request.topic, request.group);
    let bindings = &broker.state.bindings;
    let before = bindings.filters(&topic, &group);
    let change = match request.change {
        BindingChange::Bind(filter) => Ok(BoundFilter {
            filter,
            otherwise: None,
        }),
        BindingChange::BindElse(filter, otherwise) => Ok(BoundFilter {
            filter,
            otherwise: Some(otherwise),
        }),
        BindingChange::Unbind(name) => Err(name),
    };
    let filters = match change {
        Ok(filter) => {
            can_filter(broker, &filter.filter).await?;
            if let Some(otherwise) = &filter.otherwise {
                can_stand_in(broker, otherwise).await?;
            }
            if before.is_empty() && bindings.count() >= limits::BINDINGS {
                let most = limits::BINDINGS;
                let text = format!("filters are bound to {most} groups, this broker's limit");
                return Err(reply::bad_request(text));
            }
            bind(before.clone(), filter, &group)?
        }
        Err(name) => {
            let mut filters = before.clone();
            filters.retain(|it| it.filter.plugin.name != name);
            if filters.len() == before.len() {
                let text = format!("{name} is not bound to group {group} for topic {topic}");
                return Err(WireError::new(Code::NOT_BOUND, text));
            }
            filters
        }
    };
    if filters != before {
        tracing::info!(%topic, %group, ?filters, "bound");
        let record = record(&topic, &group, &filters);
        let turn = &one_change_at_a_time;
        broker.change(turn, RecordKind::Plugin, &record).await?;
    }
    Ok(ChangeBindingsReply {
        filters: filters.into_iter().map(|it| it.filter).collect(),
    })
}

fn bind(
    mut filters: Vec<BoundFilter>,
    filter: BoundFilter,
    group: &GroupName,
) -> Result<Vec<BoundFilter>, WireError> {
    let name = &filter.filter.plugin.name;
    let mut known = filters.iter_mut();
    if let Some(known) = known.find(|it| it.filter.plugin.name == *name) {
        *known = filter;
        return Ok(filters);
    }
    if filters.len() >= limits::BOUND {
        let bound = filters.iter().map(|it| it.filter.plugin.to_string());
        let bound: Vec<_> = bound.collect();
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
    filters::subscription(broker, Who::Others, Found::Loaded(plugin), text, params).await?;
    Ok(())
}

/// What has to decide when nobody else can must always be there.
async fn can_stand_in(broker: &Arc<Broker>, otherwise: &PluginFilter) -> Result<(), WireError> {
    let mut built_ins = Runtime::built_ins().iter();
    let name = &otherwise.plugin;
    if !built_ins.any(|it| it.name == name.name.as_str() && name.version.is_none()) {
        let text =
            format!("{name} is no part of the broker; tag and sql92 can stand in for a filter");
        return Err(reply::bad_request(text));
    }
    can_filter(broker, otherwise).await
}

/// `BindingStates`.
pub(crate) fn states(broker: &Broker) -> BindingStatesReply {
    BindingStatesReply {
        otherwise: broker.state.bindings.otherwise(),
        open: broker.breakers.open(broker.store.steady_ms()),
    }
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

    fn alone(filter: PluginFilter) -> BoundFilter {
        BoundFilter {
            filter,
            otherwise: None,
        }
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
        let otherwise = vec![None, Some(filter("tag").expression("a"))];
        let two = vec![filter("geo@3"), filter("pii")];
        bindings.apply(bound("g", two), otherwise.clone());
        bindings.apply(bound("h", vec![filter("pii")]), Vec::new());
        let of = || bindings.of(&topic, Some(&group));
        let asked = |filter: PluginFilter, otherwise: Option<PluginFilter>| filters::Bound {
            filter: filter.into(),
            otherwise: otherwise.map(Filter::from),
        };
        let pii = asked(filter("pii"), otherwise[1].clone());
        assert_eq!(of(), [asked(filter("geo@3"), None), pii]);
        assert_eq!(bindings.of(&topic, None), []);
        let pii = PluginName::new("pii").unwrap();
        assert!(bindings.user(&pii, None).unwrap().contains("group g"));
        assert_eq!(bindings.user(&pii, Some(1)), None);
        let again = Bindings::default();
        for record in bindings.snapshot() {
            match record {
                PluginRecord::Bound(now) => again.apply(now, Vec::new()),
                PluginRecord::BoundElse(now, otherwise) => again.apply(now, otherwise),
                record => panic!("{record:?}"),
            }
        }
        assert_eq!(again.snapshot(), bindings.snapshot());
        assert_eq!(again.otherwise().len(), 1);
        bindings.apply(bound("g", Vec::new()), Vec::new());
        bindings.apply(bound("h", Vec::new()), Vec::new());
        assert_eq!((of(), bindings.list()), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_name_is_bound_once_and_there_is_room_for_two() {
        let group = GroupName::new("g").unwrap();
        let one = bind(Vec::new(), alone(filter("geo@1")), &group).unwrap();
        let two = bind(one, alone(filter("pii")), &group).unwrap();
        let newer = alone(filter("geo@2").param("min", "1"));
        let replaced = bind(two, newer.clone(), &group).unwrap();
        assert_eq!(replaced, [newer, alone(filter("pii"))]);
        let fourth = bind(replaced, alone(filter("more")), &group).unwrap_err();
        assert_eq!(fourth.code, Code::CHAIN_TOO_LONG.number);
    }
}
