//! State records: what the broker keeps in its own log besides messages. A body is a version byte
//! and postcard. Adding a field means a new version, decoded into the newest type here.

use quern_protocol::RecordKind;
use quern_store::StateRecord;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::Bindings;
use crate::group_settings::GroupSettings;
use crate::leases::{GroupChange, Leases};
use crate::offsets::{Commit, Offsets};
use crate::parks::Parks;
use crate::plugins::{PluginRecord, Plugins};
use crate::pops::Pops;
use crate::replays::Replays;
use crate::topics::{TopicChange, Topics};

/// A type that is the body of a state record.
pub(crate) trait Body: Serialize + DeserializeOwned {
    const VERSION: u8;

    fn to_record(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![Self::VERSION])
            .expect("state records hold only strings, integers and sequences")
    }

    fn from_record(body: &[u8]) -> Result<Self, BadState> {
        match body.split_first() {
            Some((version, rest)) if *version == Self::VERSION => {
                postcard::from_bytes(rest).map_err(BadState::Decode)
            }
            Some((version, _)) => Err(BadState::Version(*version)),
            None => Err(BadState::Empty),
        }
    }
}

/// Why a state record cannot be applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadState {
    #[error("its body is empty")]
    Empty,
    #[error("version {0} belongs to a later release")]
    Version(u8),
    #[error("it does not decode: {0}")]
    Decode(postcard::Error),
}

/// What the state records of the log add up to.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) topics: Topics,
    pub(crate) offsets: Offsets,
    pub(crate) leases: Leases,
    pub(crate) plugins: Plugins,
    pub(crate) bindings: Bindings,
    pub(crate) group_settings: GroupSettings,
    pub(crate) pops: Pops,
    pub(crate) parks: Parks,
    pub(crate) replays: Replays,
}

impl State {
    /// Applies one record, in log order.
    pub(crate) fn apply(&self, kind: RecordKind, body: &[u8]) -> Result<(), BadState> {
        match kind {
            RecordKind::Topic => {
                let change = TopicChange::from_record(body)?;
                if let TopicChange::Deleted(id) = change {
                    self.offsets.forget_topic(id);
                    self.leases.forget_topic(id);
                    self.pops.forget_topic(id);
                    self.parks.forget_topic(id);
                    self.replays.forget_topic(id);
                }
                self.topics.apply(change);
            }
            RecordKind::OffsetCommit => {
                let commit = Commit::from_record(body)?;
                self.pops.reset(&commit);
                self.parks.committed(&commit);
                self.replays.committed(&commit);
                self.offsets.apply(commit);
            }
            RecordKind::Group => {
                let change = GroupChange::from_record(body)?;
                match change {
                    GroupChange::Set { group, settings } => {
                        self.group_settings.apply(group, settings);
                    }
                    GroupChange::Popped(change) => {
                        let consumed = self.pops.apply(change);
                        if !consumed.offsets.is_empty() {
                            self.parks.committed(&consumed);
                            self.replays.committed(&consumed);
                            self.offsets.apply(consumed);
                        }
                    }
                    GroupChange::Parked(change) => self.parks.apply(change),
                    GroupChange::Deleted(ref group) => {
                        self.offsets.forget_group(group);
                        self.pops.forget_group(group);
                        self.parks.forget_group(group);
                        self.replays.forget_group(group);
                        self.group_settings.forget(group);
                        self.leases.apply(change);
                    }
                    change => self.leases.apply(change),
                }
            }
            RecordKind::Plugin => match PluginRecord::from_record(body)? {
                PluginRecord::Bound(now) => self.bindings.apply(now, Vec::new()),
                PluginRecord::BoundElse(now, otherwise) => self.bindings.apply(now, otherwise),
                PluginRecord::Marked(mark) => self.replays.mark(mark),
                PluginRecord::Replaying(began) => self.replays.began(began),
                record => {
                    let stands = match &record {
                        PluginRecord::Stands(name, _) => Some(name.clone()),
                        _ => None,
                    };
                    self.plugins.apply(record);
                    if let Some(name) = stands
                        && let Some(named) = self.plugins.find(&name)
                    {
                        self.replays.activated(&name, &named.activations);
                    }
                }
            },
            // Of no meaning here, or of a later release that can do without them.
            _ => {}
        }
        Ok(())
    }

    /// The records that bring a new state to where this one is.
    pub(crate) fn snapshot(&self) -> Vec<StateRecord> {
        let topics = self.topics.snapshot().into_iter();
        let topics = topics.map(|change| (RecordKind::Topic, change.to_record()));
        let offsets = self.offsets.snapshot().into_iter();
        let offsets = offsets.map(|commit| (RecordKind::OffsetCommit, commit.to_record()));
        let settings = self.group_settings.snapshot();
        let pops = self.pops.snapshot().into_iter().map(GroupChange::Popped);
        let groups = self.leases.snapshot().into_iter().chain(settings);
        let parks = self.parks.snapshot().into_iter().map(GroupChange::Parked);
        let groups = groups.chain(pops).chain(parks);
        let groups = groups.map(|change| (RecordKind::Group, change.to_record()));
        let plugins = self.plugins.snapshot().into_iter();
        let plugins = plugins.chain(self.bindings.snapshot());
        let plugins = plugins.chain(self.replays.snapshot());
        let plugins = plugins.map(|record| (RecordKind::Plugin, record.to_record()));
        let all = topics.chain(offsets).chain(groups).chain(plugins);
        all.map(|(kind, body)| StateRecord { kind, body }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topics::{Rules, Topic};
    use quern_protocol::{Cleanup, Durability, MessageType, Permission, TopicSetting};
    use quern_protocol::{
        GroupName, GroupSetting, QueueId, QueueOffset, QueuePosition, TopicId, TopicName,
    };

    fn topic(id: u32) -> TopicChange {
        TopicChange::Created(Topic {
            id: TopicId(id),
            name: TopicName::new(format!("t{id}")).unwrap(),
            read_queues: 4,
            write_queues: 4,
            created_at: 0,
            durability: None,
            rules: Rules::default(),
            gone_at: None,
        })
    }

    fn granted(topic: u32) -> GroupChange {
        GroupChange::Granted {
            group: GroupName::new("g").unwrap(),
            topic: TopicId(topic),
            member: "m".to_owned(),
            epoch: 9,
            queues: vec![QueueId(0), QueueId(1)],
        }
    }

    fn commit(topic: u32, group: &str, offset: u64) -> Commit {
        Commit {
            group: GroupName::new(group).unwrap(),
            topic: TopicId(topic),
            offsets: vec![QueuePosition {
                queue: QueueId(1),
                offset: QueueOffset(offset),
            }],
        }
    }

    #[test]
    fn a_snapshot_gives_the_same_state_again() {
        let state = State::default();
        for id in 1..=3 {
            let body = topic(id).to_record();
            state.apply(RecordKind::Topic, &body).unwrap();
            let body = commit(id, "g", 7).to_record();
            state.apply(RecordKind::OffsetCommit, &body).unwrap();
            let body = granted(id).to_record();
            state.apply(RecordKind::Group, &body).unwrap();
        }
        let set = GroupChange::Set {
            group: GroupName::new("g").unwrap(),
            settings: vec![GroupSetting::Retries(3)],
        };
        let body = set.to_record();
        state.apply(RecordKind::Group, &body).unwrap();
        for change in [
            TopicChange::Deleted(TopicId(3)),
            TopicChange::Deleted(TopicId(1)),
        ] {
            state.apply(RecordKind::Topic, &change.to_record()).unwrap();
        }
        let slower = vec![
            TopicSetting::Durability(Some(Durability::Fast)),
            TopicSetting::WriteQueues(2),
            TopicSetting::Permission(Permission::Read),
            TopicSetting::Messages(Some(MessageType::Fifo)),
            TopicSetting::Retention(Some(60_000)),
            TopicSetting::Cleanup(Cleanup::Compact),
        ];
        let set = TopicChange::Set(TopicId(2), slower);
        state.apply(RecordKind::Topic, &set.to_record()).unwrap();
        let snapshot = state.snapshot();
        let again = State::default();
        for StateRecord { kind, body } in &snapshot {
            again.apply(*kind, body).unwrap();
        }
        assert_eq!(again.snapshot(), snapshot);
        assert_eq!(again.topics.next_id(), TopicId(4), "ids are never reused");
        let [topic] = &again.topics.list()[..] else {
            panic!("one topic is left");
        };
        assert_eq!(
            (topic.durability, topic.write_queues, topic.read_queues),
            (Some(Durability::Fast), 2, 4)
        );
        let rules = Rules {
            permission: Permission::Read,
            messages: Some(MessageType::Fifo),
            retention_ms: Some(60_000),
            cleanup: Cleanup::Compact,
        };
        assert_eq!(topic.rules, rules);
        assert_eq!(
            snapshot.len(),
            5,
            "a topic, an id that was used, an offset, a lease, a group's settings"
        );
    }

    /// What is on a disk may be anything: it is applied or refused.
    #[test]
    fn no_body_of_a_state_record_panics() {
        let mut chance = 1u64;
        let mut next = |below: u64| {
            chance = chance.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (chance >> 33) % below
        };
        for _ in 0..50_000 {
            let kinds = [
                RecordKind::Topic,
                RecordKind::OffsetCommit,
                RecordKind::Group,
                RecordKind::Plugin,
            ];
            let kind = kinds[next(4) as usize];
            // Small numbers are tags and lengths that fit; others are those that do not.
            let mut body = vec![if next(5) == 0 { next(256) as u8 } else { 1 }];
            for _ in 0..next(64) {
                let below = if next(4) == 0 { 256 } else { 6 };
                body.push(next(below) as u8);
            }
            let _ = State::default().apply(kind, &body);
        }
    }
}
