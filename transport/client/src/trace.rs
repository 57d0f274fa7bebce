//! What became of one message: where it is, what it waited for, and for each group that consumes its topic
//! what its filter says, how far the group is, and the copies it has given back. All of it is read from what
//! the log holds.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use quern_protocol::retry::{dead_letter_topic, retry_topic};
use quern_protocol::trace::TraceRecord;
use quern_protocol::{
    ExplainDelivery, ExplainDeliveryReply, Filter, GroupName, MessageHandle, MessageState,
    TopicGroups,
};

use crate::admin::Admin;
use crate::error::{ErrorKind, Result};
use crate::find::{Found, MessageSearch};
use crate::limits;

/// What became of a message.
#[derive(Debug, Clone)]
pub struct MessageTrace {
    /// The message; once it is delivered, that which its consumers read.
    pub message: Found,
    /// What it was while it waited, if it did and that is still there.
    pub waited: Option<Found>,
    /// Others with its id that no group has given back: it was sent again.
    pub again: Vec<Found>,
    /// Those that consume its topic, by name. Empty while it waits.
    pub groups: Vec<GroupTrace>,
}

/// What a message is to one group.
#[derive(Debug, Clone)]
pub struct GroupTrace {
    /// Its name.
    pub group: GroupName,
    /// What its members ask for; `None` = it has none now, or they pop, so nobody knows.
    pub filter: Option<Filter>,
    /// What the filter says, and how far the group is.
    pub explained: ExplainDeliveryReply,
    /// The message in its retry topic and among its dead letters, the oldest first.
    pub copies: Vec<GroupCopy>,
}

/// A message that a group has given back, or was sent again only for it.
#[derive(Debug, Clone)]
pub struct GroupCopy {
    /// The copy.
    pub found: Found,
    /// It was given back too often.
    pub is_dead: bool,
    /// Whether the group is done with it, or somebody with the dead letter.
    pub is_consumed: bool,
}

impl Admin {
    /// Tells what became of a message that was found, `others` with the same id beside it.
    pub async fn trace(&self, message: &Found, others: &[Found]) -> Result<MessageTrace> {
        let (message, waited) = self.both(message).await?;
        let topic = message.message.queue().topic.clone();
        let mut groups = match message.state {
            MessageState::Queued => self.groups_of(&message).await?,
            _ => BTreeMap::new(),
        };
        // A group may have forgotten all but what it has given back.
        let names = others.iter().filter_map(|it| {
            let name = it.message.queue().topic.as_str();
            let prefixes = ["%RETRY%", "%DLQ%"];
            let group = prefixes.iter().find_map(|it| name.strip_prefix(it))?;
            GroupName::new(group).ok()
        });
        for name in names {
            groups.entry(name).or_default();
        }
        let traced = groups
            .into_iter()
            .map(|(group, filter)| self.trace_group(&message, others, group, filter));
        let traced = join_all(traced).await.into_iter().collect::<Result<_>>()?;
        let is_again = |it: &&Found| {
            it.state == MessageState::Queued
                && it.message.queue().topic == topic
                && it.message.handle() != message.message.handle()
        };
        let again = others.iter().filter(is_again).cloned().collect();
        Ok(MessageTrace {
            message,
            waited,
            again,
            groups: traced,
        })
    }

    /// The message as its consumers read it, and as it waited.
    async fn both(&self, found: &Found) -> Result<(Found, Option<Found>)> {
        let broker = &found.message.queue().broker;
        let at = |position| MessageHandle {
            broker: broker.clone(),
            position,
        };
        if let MessageState::Delivered { position, .. } = found.state {
            return Ok((self.message_at(&at(position)).await?, Some(found.clone())));
        }
        let waited = match found.message.waited_as() {
            // It may have gone since.
            Some(position) => self.message_at(&at(position)).await.ok(),
            None => None,
        };
        Ok((found.clone(), waited))
    }

    /// What clients that trace have written of the message of an id, in the order it happened, by their clocks.
    /// Nothing when there is no such topic.
    pub async fn records_of(&self, id: &str, trace_topic: &str) -> Result<Vec<TraceRecord>> {
        let search = MessageSearch::key(trace_topic, id).most(limits::TRACE_PAGES);
        let found = match self.find(&search).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            found => found?,
        };
        let mut records = Vec::new();
        for it in &found.messages {
            let body = String::from_utf8_lossy(it.message.body());
            let of_it = TraceRecord::decode(&body).into_iter();
            records.extend(of_it.filter(|it| it.message_id == id));
        }
        records.sort_by_key(|it| it.at);
        Ok(records)
    }

    /// Who consumes the topic of a message as its broker knows, and what they ask for as their coordinators do.
    async fn groups_of(&self, message: &Found) -> Result<BTreeMap<GroupName, Option<Filter>>> {
        let request = TopicGroups {
            topic: message.message.queue().topic.clone(),
        };
        let mut groups: BTreeMap<GroupName, Option<Filter>> = BTreeMap::new();
        for (_, reply) in self.ask_those_who_have_it(&request).await? {
            for it in reply.groups {
                let filter = groups.entry(it.group).or_default();
                *filter = filter.take().or(it.filter);
            }
        }
        Ok(groups)
    }

    async fn trace_group(
        &self,
        message: &Found,
        others: &[Found],
        group: GroupName,
        filter: Option<Filter>,
    ) -> Result<GroupTrace> {
        let explained = match message.state {
            MessageState::Queued => self.explain(message, &group, filter.clone()).await?,
            _ => ExplainDeliveryReply::default(),
        };
        let (retry, dead) = (retry_topic(&group)?, dead_letter_topic(&group)?);
        let mut copies = Vec::new();
        for found in others {
            let topic = &found.message.queue().topic;
            let is_dead = *topic == dead;
            // What has only waited has become another of these.
            let counts = matches!(
                found.state,
                MessageState::Queued | MessageState::Waits { .. }
            );
            if !counts || !is_dead && *topic != retry {
                continue;
            }
            let explained = match found.state {
                MessageState::Queued => self.explain(found, &group, None).await?,
                _ => ExplainDeliveryReply::default(),
            };
            copies.push(GroupCopy {
                is_consumed: explained.is_past(found.message.offset()),
                is_dead,
                found: found.clone(),
            });
        }
        copies.sort_by_key(|it| (it.found.message.stored_at(), it.found.message.position()));
        Ok(GroupTrace {
            group,
            filter,
            explained,
            copies,
        })
    }

    /// What a group's filter says of a message in a queue, and how far the group is.
    pub async fn explain(
        &self,
        found: &Found,
        group: &GroupName,
        filter: Option<Filter>,
    ) -> Result<ExplainDeliveryReply> {
        let queue = found.message.queue();
        let request = ExplainDelivery {
            topic: queue.topic.clone(),
            queue: queue.queue,
            offset: found.message.offset(),
            group: group.clone(),
            filter,
        };
        let broker = self.client().0.routes.broker(queue).await?;
        self.client().call(&broker.address, &request).await
    }
}
