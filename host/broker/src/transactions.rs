//! Transactions as their producers and operators see them: `EndTransaction` and `ListTransactions`. Which are
//! open is the store's to know, and how one ended is what the log says.

use std::sync::Arc;

use bytes::Bytes;
use quern_protocol::block::Pairs;
use quern_protocol::message::UNIQUE_KEY;
use quern_protocol::transaction::{PRODUCER_GROUP, parked_topic};
use quern_protocol::{
    Block, Code, EndTransaction, EndTransactionReply, ListTransactions, ListTransactionsReply,
    LogPosition, OpenTransaction, QueueId, RecordKind, RecordView, TransactionEnd,
    TransactionOutcome, WireError,
};
use quern_store::{AppendOne, ReadError};

use crate::find::delivered;
use crate::topics::Topic;
use crate::{Broker, delay, limits, reply};

/// What a half says of itself.
pub(crate) struct Half {
    pub(crate) position: LogPosition,
    pub(crate) message: AppendOne,
}

impl Half {
    fn block(&self) -> Option<Block<'_>> {
        Block::lengths(&self.message.block).ok()
    }

    fn id(&self) -> String {
        let block = self.block();
        let id = block.as_ref().and_then(|it| it.property(UNIQUE_KEY));
        id.unwrap_or_default().to_owned()
    }

    /// Empty for one that names none.
    pub(crate) fn group(&self) -> String {
        let notes = Pairs::parse(&self.message.notes);
        let group = notes.and_then(|it| it.get(PRODUCER_GROUP));
        group.unwrap_or_default().to_owned()
    }
}

/// Reads those that are open still, on a thread that may block. One that is damaged is lost, and told.
pub(crate) async fn read(
    broker: &Broker,
    positions: Vec<LogPosition>,
) -> Result<Vec<Half>, WireError> {
    if positions.is_empty() {
        return Ok(Vec::new());
    }
    let store = broker.store.clone();
    let read = move || {
        let mut halves = Vec::with_capacity(positions.len());
        for position in positions {
            match store.half(position) {
                Ok(Some(message)) => halves.push(Half { position, message }),
                Ok(None) => {}
                Err(error @ ReadError::Damaged { .. }) => {
                    tracing::error!(code = "Q-4007", %error, "a transaction's message is lost");
                    store.forget_half(position);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(halves)
    };
    let found = broker.cold.run(&None, read).await?;
    found.map_err(|error| reply::read_failed(&error))
}

pub(crate) async fn end(
    broker: &Arc<Broker>,
    request: EndTransaction,
) -> Result<EndTransactionReply, WireError> {
    if broker.is_draining() && request.end.is_some() {
        return Err(reply::going_away());
    }
    reply::not_reserved(&request.topic)?;
    let topic = broker.topic(&request.topic)?;
    loop {
        let half = read(broker, vec![request.position]).await?;
        let half = half.into_iter().find(|it| it.message.topic == topic.id);
        let Some(half) = half else {
            return ended(broker, &topic, request).await;
        };
        let message_id = half.id();
        if !request.message_id.is_empty() && request.message_id != message_id {
            return Err(unknown(&request));
        }
        let outcome = match request.end {
            None => Some(TransactionOutcome::Undecided),
            Some(end) => decide(broker, request.position, end).await?,
        };
        if let Some(outcome) = outcome {
            return Ok(EndTransactionReply {
                message_id,
                outcome,
            });
        }
        // Somebody else's end is on its way to the disk.
        broker.store.half_settled(request.position).await;
    }
}

fn unknown(request: &EndTransaction) -> WireError {
    let text = format!(
        "no transaction of topic \"{}\" with this message is known at {}: it never was there, or ended so long ago that the log has let it go",
        request.topic, request.position
    );
    WireError::new(Code::NOT_FOUND, text)
}

/// `None` when somebody else decides just now.
async fn decide(
    broker: &Arc<Broker>,
    position: LogPosition,
    end: TransactionEnd,
) -> Result<Option<TransactionOutcome>, WireError> {
    let (decided, queue) = match end {
        TransactionEnd::RollBack => (broker.store.roll_back_half(position), QueueId(0)),
        TransactionEnd::Commit => {
            let reader = Arc::clone(broker);
            let commit = move || {
                let mut queue = QueueId(0);
                let committed = reader.store.commit_half(position, |it| {
                    delay::place(&reader, it);
                    it.notes = Bytes::new();
                    queue = it.queue;
                });
                committed.map(|it| (it, queue))
            };
            let committed = broker.cold.run(&None, commit).await?;
            committed.map_err(|error| reply::read_failed(&error))?
        }
    };
    let Some(decided) = decided else {
        return Ok(None);
    };
    let appended = decided.await;
    let appended = appended.map_err(|error| reply::append_failed(&error))?;
    broker.checks.forget(position);
    let waits = &broker.metrics.waits;
    Ok(Some(match end {
        TransactionEnd::RollBack => {
            waits.rolled_back.add(1);
            TransactionOutcome::RolledBack
        }
        TransactionEnd::Commit => {
            waits.committed.add(1);
            TransactionOutcome::Committed {
                queue,
                offset: appended.first,
            }
        }
    }))
}

/// How a transaction ended that is not open any more, as the log tells it.
async fn ended(
    broker: &Broker,
    topic: &Topic,
    request: EndTransaction,
) -> Result<EndTransactionReply, WireError> {
    let parked = broker.state.topics.find(&parked_topic()).map(|it| it.id);
    let (store, topic) = (broker.store.clone(), topic.id);
    let not_found = unknown(&request);
    let find = move || -> Result<Option<EndTransactionReply>, ReadError> {
        let half = store.record_at(request.position)?;
        let half = half.as_ref().and_then(|it| RecordView::trusted(it).ok());
        let half = half.filter(|it| it.header.kind == RecordKind::Half && it.header.topic == topic);
        let id = half.as_ref().and_then(|it| it.block.property(UNIQUE_KEY));
        let id = id.unwrap_or(&request.message_id).to_owned();
        if id.is_empty() || !request.message_id.is_empty() && request.message_id != id {
            return Ok(None);
        }
        let outcome = match delivered(&store, topic, &id, request.position)? {
            Some(at) => Some(TransactionOutcome::Committed {
                queue: at.queue,
                offset: at.queue_offset,
            }),
            None => match parked {
                Some(parked) => delivered(&store, parked, &id, request.position)?.map(|at| {
                    TransactionOutcome::Parked {
                        offset: at.queue_offset,
                    }
                }),
                None => None,
            },
        };
        let rolled_back = half.map(|_| TransactionOutcome::RolledBack);
        Ok(outcome.or(rolled_back).map(|outcome| EndTransactionReply {
            message_id: id,
            outcome,
        }))
    };
    let found = broker.cold.run(&None, find).await?;
    let found = found.map_err(|error| reply::read_failed(&error))?;
    found.ok_or(not_found)
}

pub(crate) async fn list(
    broker: &Arc<Broker>,
    request: ListTransactions,
) -> Result<ListTransactionsReply, WireError> {
    let topic = request.topic.as_ref();
    let topic = topic.map(|it| broker.topic(it)).transpose()?;
    let most = limits::LISTED.min(request.messages as usize);
    let open = broker
        .store
        .undecided(topic.map(|it| it.id), request.behind, most);
    let halves = read(broker, open.iter().map(|it| it.position).collect()).await?;
    let mut halves = halves.into_iter().peekable();
    let transactions = open.iter().filter_map(|open| {
        let half = halves.next_if(|it| it.position == open.position)?;
        let topic = broker.state.topics.by_id(open.topic)?;
        Some(OpenTransaction {
            topic: topic.name.clone(),
            position: open.position,
            stored_at: open.due_at,
            group: half.group(),
            message_id: half.id(),
            keys: half.block().map_or("", |it| it.keys()).to_owned(),
            asked: broker.checks.asked(open.position),
        })
    });
    let transactions = transactions.collect();
    Ok(ListTransactionsReply { transactions })
}
