//! Asking one member of a group, through the broker that coordinates it.

use std::time::Duration;

use quern_protocol::{AskMember, Code, MemberAnswer, MemberQuestion, MemberState, group};

use crate::admin::Admin;
use crate::client;
use crate::consumer::MessageView;
use crate::error::{Error, Result};

/// What became of a message that a member was given to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// Who had it.
    pub member: String,
    /// How long its listener took.
    pub took: Duration,
    /// Why it was not consumed.
    pub failed: Option<String>,
}

impl Admin {
    /// Has the listener of a member of a group consume one message, whoever has its queue, and tells what it said.
    /// Nothing is committed for it, and nothing given back; `None` asks whichever member comes first. RocketMQ's
    /// `consumeMessageDirectly`.
    ///
    /// ```
    /// # quernstone::testing::run(async |client| {
    /// use std::time::Duration;
    /// use quern_client::{Filter, Message, MessageSearch};
    ///
    /// # let producer = client.producer("shop").start().await?;
    /// # let sent = producer.send(Message::new("orders", "A7")).await?;
    /// let consumer = client.consumer("billing").subscribe("orders", Filter::All).start().await?;
    /// let (stop, until) = tokio::sync::oneshot::channel::<()>();
    /// let listener = |_| async { Err("the card was declined".to_owned()) };
    /// let listening = tokio::spawn(consumer.listen(8, listener, async { let _ = until.await; }));
    ///
    /// let found = client.admin().find(&MessageSearch::id(sent.message_id())).await?;
    /// let message = &found.messages[0].message;
    /// # while client.admin().try_message("billing", None, message, Duration::from_secs(5)).await.is_err() {}
    /// let tried = client.admin().try_message("billing", None, message, Duration::from_secs(30)).await?;
    /// assert_eq!(tried.failed.as_deref(), Some("the card was declined"));
    /// # stop.send(()).ok();
    /// # listening.await??;
    /// # Ok(())
    /// # });
    /// ```
    pub async fn try_message(
        &self,
        group: &str,
        member: Option<&str>,
        message: &MessageView,
        wait: Duration,
    ) -> Result<Tried> {
        let queue = message.queue();
        let question = MemberQuestion::Consume {
            topic: queue.topic.clone(),
            broker: queue.broker.clone(),
            queue: queue.queue,
            offset: message.offset(),
        };
        match self.ask_member(group, member, question, wait).await? {
            (member, MemberAnswer::Consumed { took_ms, failed }) => Ok(Tried {
                member,
                took: Duration::from_millis(took_ms),
                failed,
            }),
            (member, other) => Err(cannot(&member, other)),
        }
    }

    /// How a member of a group is doing, as it sees itself: RocketMQ's `consumerStatus`.
    pub async fn member_state(
        &self,
        group: &str,
        member: &str,
        wait: Duration,
    ) -> Result<MemberState> {
        let asked = self.ask_member(group, Some(member), MemberQuestion::State, wait);
        match asked.await? {
            (_, MemberAnswer::State(state)) => Ok(*state),
            (member, other) => Err(cannot(&member, other)),
        }
    }

    async fn ask_member(
        &self,
        name: &str,
        member: Option<&str>,
        question: MemberQuestion,
        wait: Duration,
    ) -> Result<(String, MemberAnswer)> {
        let name = client::group(name)?;
        let brokers = self.brokers().await?;
        let coordinator = group::coordinator(&name, brokers.iter().map(|it| &it.broker));
        let coordinator = brokers.iter().find(|it| Some(&it.broker) == coordinator);
        let Some(coordinator) = coordinator else {
            let text = "no broker is registered with this name server";
            return Err(Error::new(Code::NO_ROUTE, text));
        };
        let request = AskMember {
            group: name,
            member: member.map(str::to_owned),
            question,
            wait_ms: wait.as_millis().min(u128::from(u32::MAX)) as u32,
        };
        let client = self.client();
        let within = client.0.within + wait;
        let asked = client.call_with(&coordinator.address, &request, Vec::new(), within);
        let reply = asked.await?;
        Ok((reply.member, reply.answer))
    }
}

fn cannot(member: &str, answer: MemberAnswer) -> Error {
    let text = match answer {
        MemberAnswer::Unable(why) => format!("member {member:?} cannot: {why}"),
        other => format!("member {member:?} answers something else: {other:?}"),
    };
    Error::new(Code::MEMBER_UNABLE, text)
}
