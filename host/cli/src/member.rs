//! Reading a topic as a member of a group: its share of the queues, from where the group has stopped.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quern_client::{
    Client, Consumer, ErrorKind, Filter, From, MessageQueue, MessageView, PullOptions, QueueOffset,
    Selector,
};

use quern_protocol::GroupName;

use crate::exec;
use crate::failure::Failure;
use crate::read::Begin;

/// How a member takes part.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) group: String,
    pub(crate) topic: String,
    pub(crate) filter: Filter,
    /// Where the group begins if it has committed nothing.
    pub(crate) begin: Begin,
    pub(crate) strategy: Option<Selector>,
    pub(crate) by_priority: bool,
    /// Of one that broadcasts: where its offsets are kept.
    pub(crate) broadcast: Option<PathBuf>,
    pub(crate) follow: bool,
}

/// How a command is run: so many messages at once, or so many queues.
pub(crate) enum How {
    Concurrently(usize),
    Orderly(usize),
}

/// A member of a group.
pub(crate) struct Member {
    consumer: Consumer,
    /// Where to stop; `None` = never.
    ends: Option<Vec<(MessageQueue, QueueOffset)>>,
    broadcasts: bool,
}

/// Whether all is read is looked at this often.
const LOOK: Duration = Duration::from_millis(20);

impl Member {
    pub(crate) async fn join(client: &Client, part: &Part) -> Result<Self, Failure> {
        try_filter(client, &part.group, (&part.topic, &part.filter)).await?;
        let mut builder = client.consumer(&part.group);
        builder = builder.subscribe(&part.topic, part.filter.clone());
        builder = builder.from(match part.begin {
            Begin::First => From::First,
            Begin::Last => From::Last,
            Begin::Time(at) => From::Time(at),
            Begin::Offset(offset) => From::Offset(offset),
        });
        if part.by_priority {
            builder = builder.by_priority();
        }
        if let Some(strategy) = &part.strategy {
            builder = builder.allocate(strategy.clone());
        }
        if let Some(offsets) = &part.broadcast {
            builder = builder.broadcast(offsets);
        }
        let consumer = builder.start().await?;
        tracing::info!(member = consumer.member(), group = part.group, "joined");
        let ends = match part.follow {
            true => None,
            false => Some(consumer.ends().await?),
        };
        Ok(Self {
            consumer,
            ends,
            broadcasts: part.broadcast.is_some(),
        })
    }

    /// The next message; `None` when this member's share is read to its end. What was returned before
    /// counts as consumed.
    pub(crate) async fn next(&mut self) -> Result<Option<MessageView>, Failure> {
        loop {
            match tokio::time::timeout(LOOK, self.consumer.recv()).await {
                Ok(message) => return Ok(Some(message?)),
                Err(_) if self.is_read() => return Ok(None),
                Err(_) => {}
            }
        }
    }

    fn is_read(&self) -> bool {
        let Some(ends) = &self.ends else {
            return false;
        };
        let end = |queue: &MessageQueue| ends.iter().find(|(it, _)| it == queue);
        // A queue that came to this member since, or went, is not waited for.
        self.consumer.positions().iter().all(|(queue, position)| {
            let end = end(queue).map_or(QueueOffset(0), |(_, end)| *end);
            position.is_some_and(|position| position >= end)
        })
    }

    /// The message comes again later.
    pub(crate) async fn give_back(&self, message: &MessageView, why: &str) -> Result<(), Failure> {
        if self.broadcasts {
            eprintln!("{why}: broadcast messages do not come again");
            return Ok(());
        }
        let given = self.consumer.give_back(message, why).await?;
        tracing::info!(topic = %given.topic, attempts = given.attempts, due_at = given.due_at, why, "given back");
        Ok(())
    }

    /// Has a command decide on messages, several at once, until told to stop; then leaves.
    pub(crate) async fn listen(
        self,
        how: How,
        command: String,
        until: impl Future<Output = ()>,
    ) -> Result<(), Failure> {
        let command = Arc::new(command);
        let judge = move |message: MessageView| {
            let command = Arc::clone(&command);
            async move {
                match exec::consume(&command, &message).await {
                    Ok(None) => Ok(()),
                    Ok(Some(why)) => Err(why),
                    Err(failure) => Err(failure.to_string()),
                }
            }
        };
        match how {
            How::Concurrently(workers) => self.consumer.listen(workers, judge, until).await?,
            How::Orderly(workers) => self.consumer.listen_orderly(workers, judge, until).await?,
        }
        Ok(())
    }

    /// Commits what was returned, and leaves.
    pub(crate) async fn leave(self) -> Result<(), Failure> {
        Ok(self.consumer.shutdown().await?)
    }
}

/// The first who asks for a filter waits for its compiler, which may take longer than a pull.
const FILTER_TRIES: usize = 4;

/// A filter that is refused is told before anybody joins.
pub(crate) async fn try_filter(
    client: &Client,
    group: &str,
    (topic, filter): (&str, &Filter),
) -> Result<(), Failure> {
    let pull = client.pull_consumer();
    if let Some(queue) = pull.queues(topic).await?.first() {
        let (_, end) = pull.offset_range(queue).await?;
        let options = PullOptions {
            filter: filter.clone(),
            ..PullOptions::default()
        };
        let group = GroupName::new(group);
        let group = group.map_err(|error| Failure::usage(error.to_string()))?;
        let mut tries = FILTER_TRIES;
        loop {
            tries -= 1;
            match pull.pull_for(Some(&group), queue, end, &options).await {
                Err(error) if error.kind() == ErrorKind::Timeout && tries > 0 => {}
                tried => break tried.map(drop)?,
            }
        }
    }
    Ok(())
}
