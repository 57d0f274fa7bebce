//! A message that is given back once more, because whoever gave it back heard no answer, is given back once: it is
//! known by the number it was given back under, which stands in its record.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use quern_protocol::message::UNIQUE_KEY;
use quern_protocol::retry::GIVING;
use quern_protocol::{GivingBack, Reconsume, ReconsumeReply, RecordView, TopicId, WireError};
use quern_store::{Lookup, Most, ReadError, Search};
use tokio::sync::Notify;

use crate::to_the_end::to_the_end;
use crate::{Broker, limits, reply, retry};

#[derive(Debug, Default)]
struct Table {
    under_way: HashSet<u64>,
    /// What became of those that came again, of late: what was said before may still be on its way.
    again: VecDeque<(u64, ReconsumeReply)>,
}

/// Those that are under way.
#[derive(Debug, Default)]
pub(crate) struct Givings {
    table: Mutex<Table>,
    /// Rings when one is over.
    over: Notify,
}

impl Givings {
    fn table(&self) -> MutexGuard<'_, Table> {
        let table = self.table.lock();
        table.expect("no code that can panic runs under the givings lock")
    }

    fn came_again(&self, id: u64) -> Option<ReconsumeReply> {
        let table = self.table();
        let found = table.again.iter().find(|(it, _)| *it == id);
        found.map(|(_, reply)| reply.clone())
    }

    fn remember(&self, id: u64, reply: &ReconsumeReply) {
        let mut table = self.table();
        if table.again.len() >= limits::GIVEN_AGAIN {
            table.again.pop_front();
        }
        table.again.push_back((id, reply.clone()));
    }

    /// Waits until nobody else is at it.
    async fn begin(&self, id: u64) -> UnderWay<'_> {
        loop {
            let over = self.over.notified();
            if self.table().under_way.insert(id) {
                return UnderWay { givings: self, id };
            }
            over.await;
        }
    }
}

struct UnderWay<'a> {
    givings: &'a Givings,
    id: u64,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.givings.table().under_way.remove(&self.id);
        self.givings.over.notify_waiters();
    }
}

/// How it stands in a record.
pub(crate) fn note(giving: GivingBack) -> String {
    format!("{:016x}", giving.id)
}

/// Gives a message back, unless that is done.
pub(crate) async fn once(
    broker: &Arc<Broker>,
    request: Reconsume,
    giving: GivingBack,
) -> Result<ReconsumeReply, WireError> {
    let there = Arc::clone(broker);
    // Or the same one, coming again, would not see what it does.
    let give = async move {
        let broker = there;
        let _under_way = broker.givings.begin(giving.id).await;
        if let Some(reply) = broker.givings.came_again(giving.id) {
            return Ok(reply);
        }
        if !giving.is_again {
            return retry::give_back(&broker, &request).await;
        }
        let reply = match find(&broker, &request, giving).await? {
            Some(reply) => reply,
            None => retry::give_back(&broker, &request).await?,
        };
        broker.givings.remember(giving.id, &reply);
        Ok(reply)
    };
    to_the_end(broker, give).await
}

/// What became of one that was heard before. A message without an id cannot be found.
async fn find(
    broker: &Arc<Broker>,
    request: &Reconsume,
    giving: GivingBack,
) -> Result<Option<ReconsumeReply>, WireError> {
    let (retry, dead) = retry::topics_of(&request.group)?;
    let topics = [retry, dead].map(|it| broker.state.topics.find(&it));
    let topics: Vec<_> = topics.into_iter().flatten().collect();
    let topic = broker.topic(&request.topic)?;
    let record = retry::record(broker, &topic, request.queue, request.offset).await?;
    let (store, note) = (broker.store.clone(), note(giving));
    let look = move || -> Result<Option<(TopicId, u16, u64)>, ReadError> {
        let view = RecordView::trusted(&record).ok();
        let id = view.as_ref().and_then(|it| it.block.property(UNIQUE_KEY));
        let Some(id) = id else {
            return Ok(None);
        };
        let ids: Vec<_> = topics.iter().map(|it| it.id).collect();
        let mut search = Search::new(&ids, Lookup::UniqueId(id));
        let page = Most {
            records: limits::SAME_ID,
            bytes: limits::RESEND_BYTES,
            took: limits::SEARCH,
        };
        loop {
            let mut found = store.search(&search, &page)?;
            for record in &found.records {
                let view = RecordView::trusted(record).ok();
                if let Some(view) = view.filter(|it| it.notes.get(GIVING) == Some(&note)) {
                    let due_at = view.header.extensions.origin.map_or(0, |it| it.due_at);
                    return Ok(Some((view.header.topic, view.header.attempts, due_at)));
                }
            }
            // What cannot be read may be it.
            if let Some(error) = found.unreadable.pop() {
                return Err(error);
            }
            match found.next {
                Some(next) => search.before = next,
                None => return Ok(None),
            }
        }
    };
    let found = broker.cold.search(look).await?;
    let found = found.map_err(|error| reply::read_failed(&error))?;
    Ok(found.and_then(|(topic, attempts, due_at)| {
        let topic = broker.state.topics.by_id(topic)?;
        Some(ReconsumeReply {
            topic: topic.name.clone(),
            attempts,
            due_at,
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_same_one_waits_for_itself_and_others_do_not() {
        let givings = Givings::default();
        let first = givings.begin(1).await;
        let other = givings.begin(2).await;
        let mut again = std::pin::pin!(givings.begin(1));
        drop(other);
        tokio::select! {
            biased;
            _ = again.as_mut() => panic!("two are at it"),
            () = tokio::task::yield_now() => {}
        }
        drop(first);
        let again = again.await;
        assert_eq!(givings.table().under_way.len(), 1);
        drop(again);
        assert!(givings.table().under_way.is_empty());
    }
}
