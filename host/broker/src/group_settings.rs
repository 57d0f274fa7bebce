//! What is set of groups, and `SetGroup`. The truth is in the log, as group records; this table is what
//! they say, applied in log order.

use std::collections::BTreeMap;
use std::sync::Mutex;

use quern_protocol::{GroupName, GroupSetting, RecordKind, SetGroup, SetGroupReply, WireError};

use crate::leases::GroupChange;
use crate::{Broker, limits, reply};

/// All that can be set of a group, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) retries: u16,
    delays: Vec<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            retries: limits::RETRIES,
            delays: limits::RETRY_DELAYS.to_vec(),
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
        }
    }

    fn all(&self) -> Vec<GroupSetting> {
        vec![
            GroupSetting::Retries(self.retries),
            GroupSetting::RetryDelays(self.delays.clone()),
        ]
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

pub(crate) async fn set(broker: &Broker, request: SetGroup) -> Result<SetGroupReply, WireError> {
    request.settings.iter().try_for_each(check)?;
    let known = &broker.state.group_settings;
    if !request.settings.is_empty() {
        let _one_change_at_a_time = broker.group_changes().await;
        if known.count() >= limits::GROUPS && !known.knows(&request.group) {
            return Err(reply::bad_request(format!(
                "this broker keeps settings of {} groups, its limit",
                limits::GROUPS
            )));
        }
        let change = GroupChange::Set {
            group: request.group.clone(),
            settings: request.settings,
        };
        broker.log(RecordKind::Group, &change).await?;
    }
    Ok(SetGroupReply {
        settings: known.of(&request.group).all(),
    })
}

fn check(setting: &GroupSetting) -> Result<(), WireError> {
    match setting {
        GroupSetting::Retries(_) => Ok(()),
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
