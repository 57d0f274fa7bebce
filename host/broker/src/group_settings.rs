//! What is set of groups, and `SetGroup`. The truth is in the log, as group records; this table is what
//! they say, applied in log order.

use std::collections::BTreeMap;
use std::sync::Mutex;

use quern_protocol::retry::is_reserved_topic;
use quern_protocol::{
    FilterFailure, ForbiddenTopic, GroupName, GroupSetting, QueueId, QueuePosition, RecordKind,
    SetGroup, SetGroupReply, TopicName, WireError, limits as wire,
};

use crate::gate::Turn;
use crate::leases::GroupChange;
use crate::offsets::Commit;
use crate::topics::Topic;
use crate::{Broker, limits, reply};

/// All that can be set of a group, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) retries: u16,
    delays: Vec<u32>,
    consume: bool,
    pub(crate) on_filter_failure: FilterFailure,
    broadcast: bool,
    from_min: bool,
    /// And who forbade each.
    forbidden: BTreeMap<TopicName, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            retries: limits::RETRIES,
            delays: limits::RETRY_DELAYS.to_vec(),
            consume: true,
            on_filter_failure: FilterFailure::default(),
            broadcast: true,
            from_min: true,
            forbidden: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// How long a message waits that has been given back so many times, ms.
    pub(crate) fn delay(&self, attempts: u16) -> u32 {
        let index = usize::from(attempts).saturating_sub(1);
        let last = self.delays.last();
        self.delays.get(index).or(last).copied().unwrap_or(0)
    }

    fn set(&mut self, setting: GroupSetting) {
        match setting {
            GroupSetting::Retries(retries) => self.retries = retries,
            GroupSetting::RetryDelays(delays) => self.delays = delays,
            GroupSetting::Consume(consume) => self.consume = consume,
            GroupSetting::OnFilterFailure(policy) => self.on_filter_failure = policy,
            GroupSetting::Broadcast(broadcast) => self.broadcast = broadcast,
            GroupSetting::FromMin(from_min) => self.from_min = from_min,
            GroupSetting::Forbid(it) => drop(self.forbidden.insert(it.topic, it.by)),
            GroupSetting::Allow(topic) => drop(self.forbidden.remove(&topic)),
        }
    }

    /// Those that came later are told only where they say something, so that earlier releases understand.
    fn all(&self) -> Vec<GroupSetting> {
        let mut all = vec![
            GroupSetting::Retries(self.retries),
            GroupSetting::RetryDelays(self.delays.clone()),
            GroupSetting::Consume(self.consume),
        ];
        if self.on_filter_failure != FilterFailure::default() {
            all.push(GroupSetting::OnFilterFailure(self.on_filter_failure));
        }
        if !self.broadcast {
            all.push(GroupSetting::Broadcast(false));
        }
        if !self.from_min {
            all.push(GroupSetting::FromMin(false));
        }
        let forbid = |(topic, by): (&TopicName, &String)| {
            GroupSetting::Forbid(ForbiddenTopic {
                topic: topic.clone(),
                by: by.clone(),
            })
        };
        all.extend(self.forbidden.iter().map(forbid));
        all
    }
}

/// Settings of the groups that have some of their own.
#[derive(Debug, Default)]
pub(crate) struct GroupSettings(Mutex<BTreeMap<GroupName, Settings>>);

const POISONED: &str = "no code that can panic runs under the settings lock";

impl GroupSettings {
    /// Applies what the log says. Applying it twice changes nothing.
    pub(crate) fn apply(&self, group: GroupName, settings: Vec<GroupSetting>) {
        let mut groups = self.0.lock().expect(POISONED);
        let known = groups.entry(group).or_default();
        settings.into_iter().for_each(|it| known.set(it));
    }

    pub(crate) fn forget(&self, group: &GroupName) {
        self.0.lock().expect(POISONED).remove(group);
    }

    pub(crate) fn knows(&self, group: &GroupName) -> bool {
        self.0.lock().expect(POISONED).contains_key(group)
    }

    pub(crate) fn of(&self, group: &GroupName) -> Settings {
        let groups = self.0.lock().expect(POISONED);
        groups.get(group).cloned().unwrap_or_default()
    }

    /// What becomes of messages that a filter of this group fails on.
    pub(crate) fn on_filter_failure(&self, group: &GroupName) -> FilterFailure {
        let groups = self.0.lock().expect(POISONED);
        let settings = groups.get(group);
        settings.map_or_else(FilterFailure::default, |it| it.on_filter_failure)
    }

    fn may_broadcast(&self, group: &GroupName) -> bool {
        let groups = self.0.lock().expect(POISONED);
        groups.get(group).is_none_or(|settings| settings.broadcast)
    }

    fn may_begin_at_first(&self, group: &GroupName) -> bool {
        let groups = self.0.lock().expect(POISONED);
        groups.get(group).is_none_or(|settings| settings.from_min)
    }

    fn may_consume(&self, group: &GroupName) -> bool {
        let groups = self.0.lock().expect(POISONED);
        groups.get(group).is_none_or(|settings| settings.consume)
    }

    /// Who keeps a group from a topic.
    fn forbidden_by(&self, group: &GroupName, topic: &TopicName) -> Option<String> {
        let groups = self.0.lock().expect(POISONED);
        groups.get(group)?.forbidden.get(topic).cloned()
    }

    fn count(&self) -> usize {
        self.0.lock().expect(POISONED).len()
    }

    /// The changes that make a table like this one.
    pub(crate) fn snapshot(&self) -> Vec<GroupChange> {
        let groups = self.0.lock().expect(POISONED);
        let change = |(group, settings): (&GroupName, &Settings)| GroupChange::Set {
            group: group.clone(),
            settings: settings.all(),
        };
        groups.iter().map(change).collect()
    }
}

/// Whether a group may consume here: it is known, or made by consuming.
pub(crate) fn admit(broker: &Broker, group: &GroupName) -> Result<(), WireError> {
    let state = &broker.state;
    let is_known = || {
        state.group_settings.knows(group)
            || state.offsets.count(group) > 0
            || state.leases.in_use(broker.store.steady_ms(), group)
    };
    match broker.config.auto_create_groups || is_known() {
        true => Ok(()),
        false => Err(reply::no_group(group)),
    }
}

/// Whether a group is allowed to consume.
pub(crate) fn is_open(broker: &Broker, group: &GroupName) -> Result<(), WireError> {
    match broker.state.group_settings.may_consume(group) {
        true => Ok(()),
        false => Err(reply::group_closed(group)),
    }
}

/// Whether nobody forbids a group this topic.
pub(crate) fn may_have(
    broker: &Broker,
    group: &GroupName,
    topic: &TopicName,
) -> Result<(), WireError> {
    match broker.state.group_settings.forbidden_by(group, topic) {
        None => Ok(()),
        Some(by) => Err(reply::topic_forbidden(group, topic, &by)),
    }
}

/// Whether consumers of a group may take all queues each.
pub(crate) fn may_broadcast(broker: &Broker, group: &GroupName) -> Result<(), WireError> {
    match broker.state.group_settings.may_broadcast(group) {
        true => Ok(()),
        false => Err(reply::no_broadcast(group)),
    }
}

/// Whether it is still to be said where a group begins with a topic.
pub(crate) fn has_to_begin(broker: &Broker, group: &GroupName, topic: &Topic) -> bool {
    let state = &broker.state;
    !state.group_settings.may_begin_at_first(group)
        && !is_reserved_topic(&topic.name)
        && !state.offsets.knows(group, topic.id)
}

/// A group that may not begin with what is there (`consumeFromMinEnable`) begins where all queues of the topic end
/// now, the first time it comes; that is committed, so it is the same for all its members and after a crash.
/// The caller sees to it that there is one change of groups at a time.
pub(crate) async fn begin(
    broker: &Broker,
    turn: &Turn,
    group: &GroupName,
    topic: &Topic,
) -> Result<(), WireError> {
    if !has_to_begin(broker, group, topic) {
        return Ok(());
    }
    let end = |queue| QueuePosition {
        queue: QueueId(queue),
        offset: broker.store.range(topic.id, QueueId(queue)).1,
    };
    let commit = Commit {
        group: group.clone(),
        topic: topic.id,
        offsets: (0..topic.read_queues).map(end).collect(),
    };
    let kind = RecordKind::OffsetCommit;
    broker.change(turn, kind, &commit).await
}

pub(crate) async fn set(broker: &Broker, request: SetGroup) -> Result<SetGroupReply, WireError> {
    request.settings.iter().try_for_each(check)?;
    let known = &broker.state.group_settings;
    if !request.settings.is_empty() {
        let one_change_at_a_time = broker.group_changes().await;
        if known.count() >= limits::GROUPS && !known.knows(&request.group) {
            return Err(reply::bad_request(format!(
                "this broker keeps settings of {} groups, its limit",
                limits::GROUPS
            )));
        }
        let mut after = known.of(&request.group);
        request.settings.iter().for_each(|it| after.set(it.clone()));
        if after.forbidden.len() > limits::FORBIDDEN {
            return Err(reply::bad_request(format!(
                "a group is forbidden at most {} topics; `--consume off` keeps it from all",
                limits::FORBIDDEN
            )));
        }
        let change = GroupChange::Set {
            group: request.group.clone(),
            settings: request.settings,
        };
        let turn = &one_change_at_a_time;
        broker.change(turn, RecordKind::Group, &change).await?;
        // A pull that is held may not be answered any more.
        broker.waits.wake_all();
    }
    Ok(SetGroupReply {
        settings: known.of(&request.group).all(),
    })
}

fn check(setting: &GroupSetting) -> Result<(), WireError> {
    match setting {
        GroupSetting::Retries(_)
        | GroupSetting::Consume(_)
        | GroupSetting::OnFilterFailure(_)
        | GroupSetting::Broadcast(_)
        | GroupSetting::FromMin(_)
        | GroupSetting::Allow(_) => Ok(()),
        GroupSetting::Forbid(it) => {
            let is_name = (1..=wire::FORBIDDEN_BY).contains(&it.by.len());
            if is_name && !it.by.chars().any(char::is_control) {
                return Ok(());
            }
            Err(reply::bad_request(format!(
                "who forbids a topic has a name of 1 to {} bytes without control characters",
                wire::FORBIDDEN_BY
            )))
        }
        GroupSetting::RetryDelays(delays) => {
            let is_delay = |delay: &u32| (1..=limits::RETRY_DELAY).contains(delay);
            let is_count = (1..=limits::RETRY_DELAY_COUNT).contains(&delays.len());
            if is_count && delays.iter().all(is_delay) {
                return Ok(());
            }
            Err(reply::bad_request(format!(
                "a group has 1 to {} delays of 1 to {} ms",
                limits::RETRY_DELAY_COUNT,
                limits::RETRY_DELAY
            )))
        }
    }
}
