//! Topics, groups, routes and brokers, for tools and set-up code.

use std::time::Duration;

use futures_util::future::try_join_all;
use quern_protocol::{
    BrokerEntry, BrokerName, BrokerRoute, Code, ConfigEntry, CountMessages, CreateTopic,
    DelayedMessage, DeleteGroup, DeleteTopic, DeletedTopic, DescribeConfig, DescribeGroup,
    DescribeGroupReply, DescribeTopic, DescribeTopicReply, EndTransaction, GroupSetting,
    GroupSummary, ListDelayed, ListDeletedTopics, ListGroups, ListTopics, ListTransactions,
    LogPosition, MessageHandle, OpenTransaction, Operation, QueueCount, ResendDeadLetters,
    RestoreTopic, SetGroup, SetTopic, Status, StatusReply, TopicName, TopicSetting, TopicSettings,
    TopicSummary, TransactionEnd, TransactionOutcome, WaitFigures, WaitFiguresReply,
};

use crate::client::{self, Client};
use crate::connections::again_if_lost;
use crate::error::{Error, Result};

/// Administration of one cluster.
///
/// ```
/// # quernstone::testing::run(async |client| {
/// use quern_client::{Filter, Message, Permission, TopicSetting};
/// use std::time::Duration;
///
/// let admin = client.admin();
/// admin.create_topic("orders", 8).await?;
/// admin.change_topic("orders", vec![TopicSetting::Permission(Permission::Read)]).await?;
///
/// // A topic that may only be read says so at once.
/// let producer = client.producer("shop").start().await?;
/// let refused = producer.send(Message::new("orders", "A7")).await.unwrap_err();
/// println!("{refused}: {:?}", refused.kind());
///
/// for (broker, summary) in admin.list_topics().await? {
///     println!("{broker}: {summary:?}");
/// }
///
/// // A topic that was deleted by mistake comes back; when nobody wants it back it goes.
/// admin.delete_topic_after("orders", Duration::from_secs(3600)).await?;
/// admin.restore_topic("orders").await?;
/// admin.delete_topic("orders").await?;
/// # Ok(())
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct Admin(Client);

impl Admin {
    pub(crate) fn new(client: Client) -> Self {
        Self(client)
    }

    /// Brokers that are alive.
    pub async fn brokers(&self) -> Result<Vec<BrokerEntry>> {
        self.0.0.routes.brokers().await
    }

    pub(crate) fn client(&self) -> &Client {
        &self.0
    }

    pub(crate) async fn some_broker(&self) -> Result<Vec<BrokerEntry>> {
        let brokers = self.brokers().await?;
        if brokers.is_empty() {
            return Err(Error::new(
                Code::NO_ROUTE,
                "no broker is registered with this name server",
            ));
        }
        Ok(brokers)
    }

    /// Asks every broker the same question about one topic. Returns the answers of those who have it; an
    /// error when nobody does.
    pub(crate) async fn ask_those_who_have_it<O: Operation + Sync>(
        &self,
        request: &O,
    ) -> Result<Vec<(BrokerName, O::Reply)>> {
        self.ask_all_but(Code::NOT_FOUND, request).await
    }

    /// The answers of all brokers but those that answer with this code; its error when all of them do.
    pub(crate) async fn ask_all_but<O: Operation + Sync>(
        &self,
        excused: Code,
        request: &O,
    ) -> Result<Vec<(BrokerName, O::Reply)>> {
        let brokers = self.some_broker().await?;
        match self.asked(brokers, &[excused], request).await? {
            (answers, Some(error)) if answers.is_empty() => Err(error),
            (answers, _) => Ok(answers),
        }
    }

    /// What these brokers answer, and the last error of those that answer with one of these codes.
    async fn asked<O: Operation + Sync>(
        &self,
        brokers: Vec<BrokerEntry>,
        excused: &[Code],
        request: &O,
    ) -> Result<(Vec<(BrokerName, O::Reply)>, Option<Error>)> {
        let (mut answers, mut last) = (Vec::new(), None);
        for broker in brokers {
            match self.0.call(&broker.address, request).await {
                Ok(reply) => answers.push((broker.broker, reply)),
                Err(error) if excused.contains(&error.coded()) => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Ok((answers, last))
    }

    /// What each of these brokers lists.
    pub(crate) async fn listed<O: Operation + Sync, T>(
        &self,
        brokers: Vec<BrokerEntry>,
        request: &O,
        items: impl Fn(O::Reply) -> Vec<T>,
    ) -> Result<Vec<(BrokerName, T)>> {
        let (answers, _) = self.asked(brokers, &[], request).await?;
        Ok(by_broker(answers, items))
    }

    /// What brokers list that know the question, and have what it is about; all are asked at once.
    pub(crate) async fn listed_by_newer<O: Operation + Sync, T>(
        &self,
        request: &O,
        items: impl Fn(O::Reply) -> Vec<T>,
    ) -> Result<Vec<(BrokerName, T)>> {
        let excused = [Code::UNSUPPORTED, Code::NOT_FOUND, Code::TOPIC_DELETED];
        let brokers = self.some_broker().await?.into_iter();
        let asked = brokers.map(|broker| self.asked(vec![broker], &excused, request));
        let asked = try_join_all(asked).await?;
        let answers = asked.into_iter().flat_map(|(answers, _)| answers);
        Ok(by_broker(answers.collect(), items))
    }

    /// Creates a topic with this many queues on every broker. Returns the brokers that have it now;
    /// an error when it existed on all of them.
    pub async fn create_topic(&self, name: &str, queues: u32) -> Result<Vec<BrokerName>> {
        self.create_topic_with(name, queues, Vec::new()).await
    }

    /// The same, with settings that are not the brokers' defaults.
    pub async fn create_topic_with(
        &self,
        name: &str,
        queues: u32,
        settings: Vec<TopicSetting>,
    ) -> Result<Vec<BrokerName>> {
        let request = CreateTopic {
            settings,
            ..CreateTopic::new(TopicName::new(name)?, queues)
        };
        let created = self.ask_all_but(Code::ALREADY_EXISTS, &request).await;
        self.0.0.routes.doubt(&request.topic);
        Ok(created?.into_iter().map(|(broker, _)| broker).collect())
    }

    /// Changes settings of a topic on every broker that has it, on each of them all or none. Returns
    /// what holds there now.
    pub async fn change_topic(
        &self,
        name: &str,
        settings: Vec<TopicSetting>,
    ) -> Result<Vec<(BrokerName, Vec<TopicSetting>)>> {
        let request = SetTopic {
            topic: TopicName::new(name)?,
            settings,
        };
        let set = self.ask_those_who_have_it(&request).await;
        self.0.0.routes.doubt(&request.topic);
        let set = set?.into_iter();
        Ok(set.map(|(broker, it)| (broker, it.settings)).collect())
    }

    /// The settings of a topic on each broker that has it.
    pub async fn topic_settings(&self, name: &str) -> Result<Vec<(BrokerName, Vec<TopicSetting>)>> {
        let request = TopicSettings {
            topic: TopicName::new(name)?,
        };
        let found = self.ask_those_who_have_it(&request).await?.into_iter();
        Ok(found.map(|(broker, it)| (broker, it.settings)).collect())
    }

    /// A topic on each broker that has it.
    pub async fn describe_topic(
        &self,
        name: &str,
    ) -> Result<Vec<(BrokerName, DescribeTopicReply)>> {
        let request = DescribeTopic {
            topic: TopicName::new(name)?,
        };
        self.ask_those_who_have_it(&request).await
    }

    /// How many messages are in each queue of a topic; with a group, only those that it has not consumed, as far as it
    /// has committed. What a compacted topic has let go is not counted. Brokers of releases that cannot count say
    /// nothing.
    pub async fn count_messages(
        &self,
        topic: &str,
        group: Option<&str>,
    ) -> Result<Vec<(BrokerName, QueueCount)>> {
        let request = CountMessages {
            topic: TopicName::new(topic)?,
            group: group.map(client::group).transpose()?,
        };
        self.listed_by_newer(&request, |it| it.queues).await
    }

    /// Messages of a topic that wait for their time, at most so many of each broker, the soonest first.
    pub async fn list_delayed(
        &self,
        topic: &str,
        most: usize,
    ) -> Result<Vec<(BrokerName, DelayedMessage)>> {
        let topic = TopicName::new(topic)?;
        let mut all = Vec::new();
        for broker in self.0.0.routes.of(&topic, false).await?.iter() {
            let (mut behind, mut left) = ((0, LogPosition(0)), most);
            while left > 0 {
                let request = ListDelayed {
                    topic: topic.clone(),
                    behind,
                    messages: u32::try_from(left).unwrap_or(u32::MAX),
                };
                let found = self.0.call(&broker.address, &request).await?.messages;
                let Some(last) = found.last() else { break };
                behind = (last.due_at, last.position);
                left = left.saturating_sub(found.len());
                all.extend(found.into_iter().map(|it| (broker.broker.clone(), it)));
            }
        }
        all.sort_by_key(|(_, it)| (it.due_at, it.position));
        all.truncate(most);
        Ok(all)
    }

    /// The settings each broker runs with.
    pub async fn broker_settings(&self) -> Result<Vec<(BrokerName, Vec<ConfigEntry>)>> {
        let mut all = Vec::new();
        for broker in self.some_broker().await? {
            let entries = self.settings_at(&broker.address).await?;
            all.push((broker.broker, entries));
        }
        Ok(all)
    }

    /// The settings each name server that was given to this client runs with, by its address.
    pub async fn name_server_settings(&self) -> Result<Vec<(String, Vec<ConfigEntry>)>> {
        let mut all = Vec::new();
        for address in self.0.0.routes.name_servers() {
            let entries = self.settings_at(address).await?;
            all.push((address.clone(), entries));
        }
        Ok(all)
    }

    /// The settings of the broker or name server at this address, `HOST:PORT`.
    pub async fn settings_at(&self, address: &str) -> Result<Vec<ConfigEntry>> {
        let reply = self.0.call(address, &DescribeConfig {}).await?;
        Ok(reply.entries)
    }

    /// Transactions whose end is not known, of one topic or of all, at most so many of each broker, the
    /// oldest first.
    pub async fn list_transactions(
        &self,
        topic: Option<&str>,
        most: usize,
    ) -> Result<Vec<(BrokerName, OpenTransaction)>> {
        let topic = topic.map(TopicName::new).transpose()?;
        let mut all = Vec::new();
        for broker in self.some_broker().await? {
            let (mut behind, mut left) = ((0, LogPosition(0)), most);
            while left > 0 {
                let request = ListTransactions {
                    topic: topic.clone(),
                    behind,
                    messages: u32::try_from(left).unwrap_or(u32::MAX),
                };
                let asked = again_if_lost(|| self.0.call(&broker.address, &request));
                let found = match asked.await {
                    Ok(found) => found.transactions,
                    Err(error) if error.coded() == Code::NOT_FOUND => break,
                    Err(error) => return Err(error),
                };
                let Some(last) = found.last() else { break };
                behind = (last.stored_at, last.position);
                left = left.saturating_sub(found.len());
                all.extend(found.into_iter().map(|it| (broker.broker.clone(), it)));
            }
        }
        all.sort_by_key(|(_, it)| (it.stored_at, it.position));
        all.truncate(most);
        Ok(all)
    }

    /// What waits on each broker, for its transaction or for its time, and what became of what has waited.
    pub async fn wait_figures(&self) -> Result<Vec<(BrokerName, WaitFiguresReply)>> {
        self.ask_those_who_have_it(&WaitFigures {}).await
    }

    /// Ends a transaction in place of its producer, or only tells how it ended. Returns its message's id, and
    /// what holds.
    pub async fn end_transaction(
        &self,
        topic: &str,
        handle: &MessageHandle,
        end: Option<TransactionEnd>,
    ) -> Result<(String, TransactionOutcome)> {
        let request = EndTransaction {
            topic: TopicName::new(topic)?,
            position: handle.position,
            message_id: String::new(),
            end,
        };
        let reply = self.0.end_transaction(handle, &request).await?;
        Ok((reply.message_id, reply.outcome))
    }

    /// All topics of all brokers.
    pub async fn list_topics(&self) -> Result<Vec<(BrokerName, TopicSummary)>> {
        let brokers = self.brokers().await?;
        let topics = self.listed(brokers, &ListTopics {}, |it| it.topics);
        let mut all = topics.await?;
        all.sort_by(|a, b| (&a.1.topic, &a.0).cmp(&(&b.1.topic, &b.0)));
        Ok(all)
    }

    /// Deletes a topic everywhere, at once and for good; returns how many messages can no longer be read.
    pub async fn delete_topic(&self, name: &str) -> Result<u64> {
        self.delete_topic_after(name, Duration::ZERO).await
    }

    /// Closes a topic everywhere, and deletes it after a while, until when [`Self::restore_topic`] brings it back.
    /// Returns how many messages can no longer be read. Of a topic that is being deleted already, only the time changes.
    pub async fn delete_topic_after(&self, name: &str, grace: Duration) -> Result<u64> {
        let request = DeleteTopic {
            topic: TopicName::new(name)?,
            grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
        };
        let deleted = self.ask_those_who_have_it(&request).await;
        self.0.0.routes.doubt(&request.topic);
        Ok(deleted?.iter().map(|(_, reply)| reply.messages).sum())
    }

    /// Brings a topic back that is being deleted, with its messages, and the offsets of its groups. Returns how
    /// many messages it has.
    pub async fn restore_topic(&self, name: &str) -> Result<u64> {
        let request = RestoreTopic {
            topic: TopicName::new(name)?,
        };
        let restored = self.ask_those_who_have_it(&request).await;
        self.0.0.routes.doubt(&request.topic);
        Ok(restored?.iter().map(|(_, reply)| reply.messages).sum())
    }

    /// Topics of all brokers that can still be brought back.
    pub async fn deleted_topics(&self) -> Result<Vec<(BrokerName, DeletedTopic)>> {
        let brokers = self.brokers().await?;
        let topics = self.listed(brokers, &ListDeletedTopics {}, |it| it.topics);
        let mut all = topics.await?;
        all.sort_by(|a, b| (&a.1.topic, &a.0).cmp(&(&b.1.topic, &b.0)));
        Ok(all)
    }

    /// What each broker knows of which groups.
    pub async fn list_groups(&self) -> Result<Vec<(BrokerName, GroupSummary)>> {
        let brokers = self.brokers().await?;
        self.listed(brokers, &ListGroups {}, |it| it.groups).await
    }

    /// A group on each broker that knows it: its members on the one that coordinates it, its queues on
    /// those that have them.
    pub async fn describe_group(
        &self,
        name: &str,
    ) -> Result<Vec<(BrokerName, DescribeGroupReply)>> {
        let group = client::group(name)?;
        self.ask_those_who_have_it(&DescribeGroup { group }).await
    }

    /// Forgets what a group has committed, everywhere; returns of how many queues. An error when it has
    /// members.
    pub async fn delete_group(&self, name: &str) -> Result<u32> {
        let group = client::group(name)?;
        let deleted = self.ask_those_who_have_it(&DeleteGroup { group }).await?;
        Ok(deleted.iter().map(|(_, reply)| reply.queues).sum())
    }

    /// Changes settings of a group on every broker, on each of them all or none. Returns what holds there
    /// now.
    pub async fn change_group(
        &self,
        name: &str,
        settings: Vec<GroupSetting>,
    ) -> Result<Vec<(BrokerName, Vec<GroupSetting>)>> {
        let group = client::group(name)?;
        let request = SetGroup { group, settings };
        let set = self.ask_those_who_have_it(&request).await?.into_iter();
        Ok(set.map(|(broker, it)| (broker, it.settings)).collect())
    }

    /// Sends dead letters of a group back to where they come from, all or so many of each broker. Returns
    /// how many there were.
    pub async fn resend_dead_letters(&self, group: &str, most: Option<u32>) -> Result<u64> {
        let topic = self.0.dead_letter_topic(group)?;
        let group = client::group(group)?;
        let mut resent = 0;
        for broker in self.0.0.routes.of(&topic, false).await?.iter() {
            let mut left = most.unwrap_or(u32::MAX);
            loop {
                let request = ResendDeadLetters {
                    group: group.clone(),
                    messages: left,
                };
                let reply = self.0.call(&broker.address, &request).await?;
                resent += u64::from(reply.resent);
                left = left.saturating_sub(reply.resent);
                if reply.left == 0 || reply.resent == 0 || left == 0 {
                    break;
                }
            }
        }
        Ok(resent)
    }

    /// Who serves a topic.
    pub async fn route(&self, name: &str) -> Result<Vec<BrokerRoute>> {
        let topic = TopicName::new(name)?;
        Ok(self.0.0.routes.now(&topic).await?.to_vec())
    }

    /// What the broker at an address says of itself.
    pub async fn status(&self, address: &str) -> Result<StatusReply> {
        self.0.call(address, &Status {}).await
    }
}

/// Each item of each broker's reply.
fn by_broker<R, T>(
    answers: Vec<(BrokerName, R)>,
    items: impl Fn(R) -> Vec<T>,
) -> Vec<(BrokerName, T)> {
    let all = answers.into_iter().flat_map(|(broker, reply)| {
        let items = items(reply).into_iter();
        items.map(move |item| (broker.clone(), item))
    });
    all.collect()
}
