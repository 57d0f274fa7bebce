//! The topics of this broker. The truth is in the log, as one record per creation, change and deletion;
//! this table is what those records say, applied in log order. Ids are never reused.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, RwLock};

use quern_protocol::{
    Cleanup, Durability, MessageType, Permission, QueueId, TopicId, TopicName, TopicSetting,
};
use serde::{Deserialize, Serialize};

use crate::state::{self, Body as _};

/// A topic as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Topic {
    pub(crate) id: TopicId,
    pub(crate) name: TopicName,
    pub(crate) read_queues: u32,
    pub(crate) write_queues: u32,
    /// ms since 1970.
    pub(crate) created_at: u64,
    /// Of messages that do not name a class; `None` = the broker's. Not a field of the record: see
    /// [`TopicChange::CreatedWith`].
    #[serde(skip)]
    pub(crate) durability: Option<Durability>,
    /// Not a field of the record either.
    #[serde(skip)]
    pub(crate) rules: Rules,
    /// It is being deleted: closed, and gone then, ms since 1970. Not a field of the record either.
    #[serde(skip)]
    pub(crate) gone_at: Option<u64>,
}

/// What may be done with a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rules {
    pub(crate) permission: Permission,
    /// `None` = any message.
    pub(crate) messages: Option<MessageType>,
    /// How long its messages are kept, ms; `None` = as long as the log is.
    pub(crate) retention_ms: Option<u64>,
    pub(crate) cleanup: Cleanup,
}

impl Rules {
    pub(crate) fn is_compacted(&self) -> bool {
        self.cleanup == Cleanup::Compact
    }
}

impl Topic {
    pub(crate) fn has_read_queue(&self, queue: QueueId) -> bool {
        queue.0 < self.read_queues
    }

    pub(crate) fn has_write_queue(&self, queue: QueueId) -> bool {
        queue.0 < self.write_queues
    }

    pub(crate) fn set(&mut self, setting: TopicSetting) {
        match setting {
            TopicSetting::Durability(class) => self.durability = class,
            TopicSetting::ReadQueues(queues) => self.read_queues = queues,
            TopicSetting::WriteQueues(queues) => self.write_queues = queues,
            TopicSetting::Permission(permission) => self.rules.permission = permission,
            TopicSetting::Messages(messages) => self.rules.messages = messages,
            TopicSetting::Retention(ms) => self.rules.retention_ms = ms,
            TopicSetting::Cleanup(cleanup) => self.rules.cleanup = cleanup,
        }
    }

    /// All that can be set, as it is. What came later is told only where it says something, so that earlier
    /// releases understand.
    pub(crate) fn settings(&self) -> Vec<TopicSetting> {
        let retention = self.rules.retention_ms;
        let retention = retention.map(|ms| TopicSetting::Retention(Some(ms)));
        let settings = [
            TopicSetting::ReadQueues(self.read_queues),
            TopicSetting::WriteQueues(self.write_queues),
            TopicSetting::Durability(self.durability),
            TopicSetting::Permission(self.rules.permission),
            TopicSetting::Messages(self.rules.messages),
        ];
        let cleanup = TopicSetting::Cleanup(self.rules.cleanup);
        let cleanup = (self.rules.cleanup != Cleanup::default()).then_some(cleanup);
        let later = retention.into_iter().chain(cleanup);
        settings.into_iter().chain(later).collect()
    }
}

/// The body of a topic record (kind 32), version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TopicChange {
    Created(Topic),
    Deleted(TopicId),
    Set(TopicId, Vec<TopicSetting>),
    /// A topic some of whose settings the plain record cannot tell.
    CreatedWith(Topic, Vec<TopicSetting>),
    /// Nobody can use it, and it is deleted at this time, ms since 1970, unless it is restored before.
    Doomed(TopicId, u64),
    Restored(TopicId),
}

impl TopicChange {
    pub(crate) fn created(topic: Topic) -> Self {
        if topic.durability.is_none() && topic.rules == Rules::default() {
            return Self::Created(topic);
        }
        let settings = topic.settings();
        Self::CreatedWith(topic, settings)
    }
}

#[derive(Debug, Default)]
struct Table {
    by_name: HashMap<TopicName, Arc<Topic>>,
    by_id: HashMap<TopicId, Arc<Topic>>,
    /// Those that are being deleted, and until when they can come back.
    doomed: BTreeMap<TopicId, u64>,
    next_id: u32,
}

impl Table {
    fn put(&mut self, topic: Topic) {
        self.next_id = self.next_id.max(topic.id.0.saturating_add(1));
        match topic.gone_at {
            Some(at) => drop(self.doomed.insert(topic.id, at)),
            None => drop(self.doomed.remove(&topic.id)),
        }
        let topic = Arc::new(topic);
        self.by_id.insert(topic.id, Arc::clone(&topic));
        self.by_name.insert(topic.name.clone(), topic);
    }

    fn change(&mut self, id: TopicId, change: impl FnOnce(&mut Topic)) {
        if let Some(topic) = self.by_id.get(&id) {
            let mut topic = (**topic).clone();
            change(&mut topic);
            self.put(topic);
        }
    }
}

/// Names of topics as a log's records tell them, deleted ones too: for those who read a log offline.
#[derive(Debug, Default)]
pub struct TopicNames(HashMap<TopicId, TopicName>);

impl TopicNames {
    /// Learns from a topic record's body; the reason when it does not decode.
    pub fn learn(&mut self, body: &[u8]) -> Result<(), String> {
        let change = TopicChange::from_record(body).map_err(|error| error.to_string())?;
        if let TopicChange::Created(topic) | TopicChange::CreatedWith(topic, _) = change {
            self.0.insert(topic.id, topic.name);
        }
        Ok(())
    }

    /// The name this id was given.
    pub fn of(&self, id: TopicId) -> Option<&TopicName> {
        self.0.get(&id)
    }
}

/// All topics; cheap to look up, changed only through the log.
#[derive(Debug, Default)]
pub(crate) struct Topics(RwLock<Table>);

const POISONED: &str = "no code that can panic runs under the topics lock";

impl Topics {
    /// Applies a change the log contains. Applying one twice changes nothing.
    pub(crate) fn apply(&self, change: TopicChange) {
        let mut table = self.0.write().expect(POISONED);
        match change {
            TopicChange::Created(topic) => table.put(topic),
            TopicChange::CreatedWith(mut topic, settings) => {
                settings.into_iter().for_each(|it| topic.set(it));
                table.put(topic);
            }
            TopicChange::Set(id, settings) => {
                table.change(id, |topic| {
                    settings.into_iter().for_each(|it| topic.set(it))
                });
            }
            TopicChange::Doomed(id, at) => table.change(id, |topic| topic.gone_at = Some(at)),
            TopicChange::Restored(id) => table.change(id, |topic| topic.gone_at = None),
            TopicChange::Deleted(id) => {
                table.next_id = table.next_id.max(id.0.saturating_add(1));
                table.doomed.remove(&id);
                if let Some(topic) = table.by_id.remove(&id) {
                    table.by_name.remove(&topic.name);
                }
            }
        }
    }

    /// One that can be used.
    pub(crate) fn find(&self, name: &TopicName) -> Option<Arc<Topic>> {
        self.named(name).filter(|topic| topic.gone_at.is_none())
    }

    /// The one that has this name, though it may be on its way out.
    pub(crate) fn named(&self, name: &TopicName) -> Option<Arc<Topic>> {
        self.0.read().expect(POISONED).by_name.get(name).cloned()
    }

    pub(crate) fn by_id(&self, id: TopicId) -> Option<Arc<Topic>> {
        self.0.read().expect(POISONED).by_id.get(&id).cloned()
    }

    pub(crate) fn exists(&self, id: TopicId) -> bool {
        self.0.read().expect(POISONED).by_id.contains_key(&id)
    }

    /// Those that say how long their messages are kept.
    pub(crate) fn with_retention(&self) -> Vec<Arc<Topic>> {
        self.filtered(|it| it.rules.retention_ms.is_some())
    }

    /// Those that say what outlives its segment of the log.
    pub(crate) fn keeping(&self) -> Vec<Arc<Topic>> {
        self.filtered(|it| it.rules.retention_ms.is_some() || it.rules.is_compacted())
    }

    fn filtered(&self, is_meant: impl Fn(&Topic) -> bool) -> Vec<Arc<Topic>> {
        let table = self.0.read().expect(POISONED);
        let all = table.by_id.values();
        all.filter(|it| is_meant(it)).cloned().collect()
    }

    /// Whether it can be used.
    pub(crate) fn is_open(&self, id: TopicId) -> bool {
        self.by_id(id).is_some_and(|topic| topic.gone_at.is_none())
    }

    /// Those that can still come back, by name, and until when.
    pub(crate) fn being_deleted(&self) -> Vec<(Arc<Topic>, u64)> {
        let mut all: Vec<_> = {
            let table = self.0.read().expect(POISONED);
            let doomed = table.doomed.iter();
            doomed
                .filter_map(|(id, at)| Some((Arc::clone(table.by_id.get(id)?), *at)))
                .collect()
        };
        all.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        all
    }

    /// When the first of them cannot any more.
    pub(crate) fn next_over(&self) -> Option<u64> {
        let table = self.0.read().expect(POISONED);
        table.doomed.values().min().copied()
    }

    /// Those whose time of grace is over.
    pub(crate) fn over(&self, now: u64) -> Vec<TopicId> {
        let table = self.0.read().expect(POISONED);
        let over = table.doomed.iter().filter(|(_, at)| **at <= now);
        over.map(|(id, _)| *id).collect()
    }

    /// Those that can be used, sorted by name.
    pub(crate) fn list(&self) -> Vec<Arc<Topic>> {
        let mut all: Vec<_> = {
            let table = self.0.read().expect(POISONED);
            let all = table.by_name.values();
            all.filter(|it| it.gone_at.is_none()).cloned().collect()
        };
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    pub(crate) fn count(&self) -> usize {
        self.0.read().expect(POISONED).by_id.len()
    }

    pub(crate) fn next_id(&self) -> TopicId {
        // Id 0 is the broker's own: state records belong to it.
        TopicId(self.0.read().expect(POISONED).next_id.max(1))
    }

    /// The changes that make a table like this one.
    pub(crate) fn snapshot(&self) -> Vec<TopicChange> {
        let table = self.0.read().expect(POISONED);
        let mut all: Vec<_> = table
            .by_id
            .values()
            .map(|topic| (**topic).clone())
            .collect();
        all.sort_by_key(|topic| topic.id);
        let mut changes: Vec<_> = all.into_iter().map(TopicChange::created).collect();
        let doomed = table.doomed.iter();
        changes.extend(doomed.map(|(id, at)| TopicChange::Doomed(*id, *at)));
        // The highest id that was ever given, if nothing has it now.
        if let Some(last) = table.next_id.checked_sub(1).map(TopicId)
            && !table.by_id.contains_key(&last)
        {
            changes.push(TopicChange::Deleted(last));
        }
        changes
    }
}

impl state::Body for TopicChange {
    const VERSION: u8 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(id: u32, name: &str) -> Topic {
        Topic {
            id: TopicId(id),
            name: TopicName::new(name).unwrap(),
            read_queues: 4,
            write_queues: 4,
            created_at: 0,
            durability: None,
            rules: Rules::default(),
            gone_at: None,
        }
    }

    #[test]
    fn ids_are_never_reused_and_a_name_may_be() {
        let topics = Topics::default();
        assert_eq!(topics.next_id(), TopicId(1));
        topics.apply(TopicChange::Created(topic(1, "a")));
        topics.apply(TopicChange::Created(topic(1, "a")));
        topics.apply(TopicChange::Deleted(TopicId(1)));
        topics.apply(TopicChange::Deleted(TopicId(1)));
        assert_eq!((topics.count(), topics.next_id()), (0, TopicId(2)));
        topics.apply(TopicChange::Created(topic(2, "a")));
        let name = TopicName::new("a").unwrap();
        assert_eq!(topics.find(&name).unwrap().id, TopicId(2));
        assert!(!topics.exists(TopicId(1)));
    }

    #[test]
    fn one_that_is_being_deleted_keeps_its_name_and_comes_back_as_it_was() {
        let topics = Topics::default();
        topics.apply(TopicChange::created(topic(1, "a")));
        topics.apply(TopicChange::Set(
            TopicId(1),
            vec![TopicSetting::WriteQueues(2)],
        ));
        let name = TopicName::new("a").unwrap();
        let before = topics.find(&name).unwrap();
        topics.apply(TopicChange::Doomed(TopicId(1), 100));
        assert_eq!(topics.find(&name), None);
        assert!(topics.exists(TopicId(1)) && !topics.is_open(TopicId(1)));
        assert!(topics.list().is_empty());
        assert_eq!((topics.over(99), topics.over(100).len()), (Vec::new(), 1));
        // A snapshot says so, too.
        let again = Topics::default();
        topics.snapshot().into_iter().for_each(|it| again.apply(it));
        assert_eq!(again.snapshot(), topics.snapshot());
        assert_eq!(again.named(&name).unwrap().gone_at, Some(100));
        topics.apply(TopicChange::Restored(TopicId(1)));
        assert_eq!(topics.find(&name).unwrap(), before);
        topics.apply(TopicChange::Doomed(TopicId(1), 100));
        topics.apply(TopicChange::Deleted(TopicId(1)));
        assert!(topics.over(u64::MAX).is_empty());
        assert_eq!(topics.next_id(), TopicId(2));
    }
}
