//! `ReplayPlugin`: what a version of a filter decided before another took its place is judged again, for the groups it
//! decided for. [`crate::replays`] says what they get then; here they are marked and taken back.

use std::sync::Arc;

use quern_plugins::Subscription;
use quern_protocol::{
    Code, PluginKind, PluginName, PluginRef, QueueOffset, QueuePosition, RecordKind, ReplayPlugin,
    ReplayPluginReply, Rewound, WireError,
};
use quern_store::Held;

use crate::chain::Chain;
use crate::gate::Turn;
use crate::offsets::Commit;
use crate::plugins::{Named, PluginRecord, no_version, versioned};
use crate::pool::Who;
use crate::replays::{Decided, Mark, Replay, ReplayBegan};
use crate::scan::Scan;
use crate::topics::Topic;
use crate::{Broker, filters, lease, reply};

/// Answers the request.
pub(crate) async fn replay(
    broker: &Arc<Broker>,
    request: ReplayPlugin,
) -> Result<ReplayPluginReply, WireError> {
    let one_change_at_a_time = broker.plugin_changes().await;
    let name = request.name;
    let found = broker.state.plugins.find(&name);
    let named = found.filter(|it| !it.versions.is_empty());
    let named = named.ok_or_else(|| reply::no_plugin(name.as_str()))?;
    let kind = named.kind();
    if !matches!(kind, Some(PluginKind::Filter | PluginKind::BodyFilter)) {
        let text = format!("{name} is no filter: what it has decided cannot be decided again");
        return Err(WireError::new(Code::NOT_A_FILTER, text));
    }
    let version = request.version.or_else(|| named.last_retired());
    let version = version.ok_or_else(|| never_decided(&name, "another version"))?;
    let (activated_at, after) = can_replay(&name, &named, version)?;
    let decided = broker.state.replays.decided(&name, activated_at, &after);
    let (turn, mut rewound) = (&one_change_at_a_time, Vec::new());
    for ((group, topic), queues) in decided {
        let Some(topic) = broker.state.topics.by_id(topic) else {
            continue;
        };
        let began = ReplayBegan {
            group,
            topic: topic.id,
            queues: Vec::new(),
        };
        rewound.extend(take_back(broker, turn, (&name, version, &topic), (began, queues)).await?);
    }
    tracing::info!(plugin = %name, version, ?rewound, "what a version decided is judged again");
    Ok(ReplayPluginReply { version, rewound })
}

/// When the version was activated last, and when those after it were.
fn can_replay(
    name: &PluginName,
    named: &Named,
    version: u32,
) -> Result<(u64, Vec<u64>), WireError> {
    if named.active == Some(version) {
        let text = format!(
            "{name}@{version} is active and would decide the same again; first say: quern plugin rollback {name}"
        );
        return Err(WireError::new(Code::PLUGIN_IN_USE, text));
    }
    // It is asked what it has let through.
    if !named.versions.contains_key(&version) {
        return Err(no_version(name, named, version));
    }
    let exact = || PluginRef::exact(name, version).to_string();
    let replayable = named.replayable(version);
    replayable.ok_or_else(|| never_decided(name, &exact()))
}

fn never_decided(name: &PluginName, what: &str) -> WireError {
    let text = format!(
        "{what} of {name} was not active of late, so there is nothing it decided; quern plugin info {name} says which was"
    );
    WireError::new(Code::NOTHING_TO_ROLL_BACK, text)
}

/// Takes one group back; `None` = it has nothing to go back for. Who commits nothing is not taken back, and members
/// lose the queues, to begin again.
async fn take_back(
    broker: &Arc<Broker>,
    of_plugins: &Turn,
    (name, version, topic): (&PluginName, u32, &Topic),
    (mut began, decided): (ReplayBegan, Vec<Decided>),
) -> Result<Option<Rewound>, WireError> {
    let of_groups = broker.group_changes().await;
    let group = began.group.clone();
    let stretch = |it: &Decided| {
        let seen_until = broker.state.offsets.next(&group, topic.id, it.queue)?;
        let judged_until = it.until.map_or(seen_until, |until| until.min(seen_until));
        let (begin, _) = broker.store.range(topic.id, it.queue);
        let first = it.first.max(begin);
        (first < judged_until).then_some((first, judged_until, seen_until))
    };
    let queues = decided.iter().filter(|it| stretch(it).is_some());
    let queues: Vec<_> = queues.map(|it| it.queue).collect();
    let owners = broker.state.leases.owners(&group, topic.id);
    let owned = queues.iter().filter(|queue| owners.contains_key(queue));
    let owned = owned.copied().collect();
    lease::take_back(broker, &of_groups, (&group, topic), owned).await?;
    let queues = queues.into_iter();
    let closed = broker.pop_gates.close(&group, topic.id, queues).await;
    // Nobody commits any more.
    let (mut back, mut messages) = (Vec::new(), 0);
    for it in &decided {
        let Some((offset, judged_until, seen_until)) = stretch(it) else {
            continue;
        };
        messages += judged_until.0 - offset.0;
        back.push(QueuePosition {
            queue: it.queue,
            offset,
        });
        let replay = Replay {
            name: name.clone(),
            version,
            judged_until,
            seen_until,
        };
        began.queues.push((it.queue, replay));
    }
    if back.is_empty() {
        return Ok(None);
    }
    let rewound = Rewound {
        group: group.clone(),
        topic: topic.name.clone(),
        queues: back.len() as u32,
        messages,
    };
    // In this order: until the group is back, the first has no effect.
    let record = PluginRecord::Replaying(began);
    broker
        .change(of_plugins, RecordKind::Plugin, &record)
        .await?;
    let record = Commit {
        group,
        topic: topic.id,
        offsets: back,
    };
    let kind = RecordKind::OffsetCommit;
    let held: Held = Box::new((of_groups, closed));
    broker.log_holding(kind, &record, held).await?;
    Ok(Some(rewound))
}

/// Writes down that these decide here, unless it is known.
pub(crate) async fn mark(broker: &Broker, scan: &Scan, chain: &Chain) {
    let Some(group) = &scan.reader else {
        return;
    };
    let place = (scan.topic.id, scan.view.queue);
    for deciders in chain.links.iter().map(|it| &it.deciders) {
        let Some(name) = &deciders.follows else {
            continue;
        };
        let version = versioned(deciders.usual.plugin().name());
        let since = version.and_then(|(_, it)| broker.state.plugins.marked_since(name, it));
        let Some(activated_at) = since else {
            continue;
        };
        let replays = &broker.state.replays;
        if replays.is_marked(group, place, (name, activated_at), scan.from) {
            continue;
        }
        let mark = PluginRecord::Marked(Mark {
            name: name.clone(),
            activated_at,
            group: group.clone(),
            topic: place.0,
            queue: place.1,
            first: scan.from,
        });
        // What is there to be delivered is, even where nothing can be written.
        if let Err(error) = broker.log(RecordKind::Plugin, &mark).await {
            tracing::warn!(plugin = %name, %group, %error, "a replay will not know where a version began to decide");
        }
    }
}

/// Who a look that goes back over what was decided before asks besides, and up to where.
#[derive(Debug, Clone, Default)]
pub(crate) struct Before {
    /// What all of these let through was delivered.
    pub(crate) by: Vec<Subscription>,
    pub(crate) judged_until: QueueOffset,
    /// Up to here, all that was let through since was delivered.
    pub(crate) seen_until: QueueOffset,
}

impl Before {
    pub(crate) fn was_asked_about(&self, offset: QueueOffset) -> bool {
        !self.by.is_empty() && offset < self.judged_until
    }

    pub(crate) fn is_seen(&self, offset: QueueOffset) -> bool {
        (self.judged_until..self.seen_until).contains(&offset)
    }
}

/// `None` = nothing of what this look meets was decided before.
pub(crate) async fn before(broker: &Arc<Broker>, scan: &Scan, chain: &Chain) -> Option<Before> {
    let place = (scan.topic.id, scan.view.queue);
    let group = scan.reader.as_ref()?;
    let replay = broker.state.replays.of(group, place, scan.from)?;
    let mut before = Before {
        by: Vec::new(),
        judged_until: replay.judged_until,
        seen_until: replay.seen_until,
    };
    let deciders = chain.links.iter().map(|it| &it.deciders);
    for it in deciders.filter(|it| it.follows.as_ref() == Some(&replay.name)) {
        let (text, params) = (it.usual.expression(), it.usual.params());
        match asked(broker, Who::Group(group.clone()), &replay, (text, params)).await {
            Ok(subscription) => before.by.push(subscription),
            // It can tell no more: better twice than never.
            Err(error) => {
                tracing::debug!(plugin = %replay.name, %error, "what a version let through is delivered again");
                before.by.clear();
                break;
            }
        }
    }
    Some(before)
}

async fn asked(
    broker: &Arc<Broker>,
    who: Who,
    replay: &Replay,
    (text, params): (&str, &[(String, String)]),
) -> Result<Subscription, WireError> {
    let (name, version) = (&replay.name, replay.version);
    let found = broker
        .shelf
        .exactly(&broker.state.plugins, name, version)
        .ok_or_else(|| reply::no_plugin(&PluginRef::exact(name, version).to_string()))?;
    filters::subscription(broker, who, found, text, params).await
}
