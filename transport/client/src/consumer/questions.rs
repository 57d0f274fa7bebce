//! What a member is asked while it consumes: how it is doing, and what its listener says of one message. It asks its
//! coordinator for questions all the time, beside everything else it does.

use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use quern_protocol::{
    AnswerQuestion, Asked, AwaitQuestions, Code, Hello, MemberAnswer, MemberQuestion, MemberState,
    QueueOffset, Role,
};
use quern_quic::Backoff;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::listener::judge;
use super::membership::{Presence, Shared};
use crate::consumer::MessageView;
use crate::error::Result;
use crate::limits;
use crate::routes::MessageQueue;

type Judged = std::result::Result<(), String>;
type Judging = Pin<Box<dyn Future<Output = Judged> + Send>>;

/// A listener, whatever its type.
#[derive(Clone)]
pub(super) struct Listening(Arc<dyn Fn(MessageView) -> Judging + Send + Sync>);

impl std::fmt::Debug for Listening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a listener")
    }
}

impl Shared {
    /// From now on this listener is asked about messages it is given to try; `None` = nobody is.
    pub(super) fn listens<L, F>(&self, listener: Option<&Arc<L>>)
    where
        L: Fn(MessageView) -> F + Send + Sync + 'static,
        F: Future<Output = Judged> + Send + 'static,
    {
        let listening = listener.map(|listener| {
            let listener = Arc::clone(listener);
            Listening(Arc::new(move |message| -> Judging {
                Box::pin(listener(message))
            }))
        });
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = listening;
    }

    fn listener(&self) -> Option<Listening> {
        let listener = self.listener.lock();
        listener.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Answers what a member is asked.
pub(super) struct Answering {
    shared: Arc<Shared>,
    presence: Presence,
    /// Address of the coordinator that knows this member.
    coordinator: watch::Receiver<Option<String>>,
}

impl Answering {
    pub(super) fn new(
        shared: &Arc<Shared>,
        presence: &Presence,
        coordinator: watch::Receiver<Option<String>>,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            presence: presence.clone(),
            coordinator,
        }
    }

    /// For as long as the membership lasts.
    pub(super) async fn run(self) {
        let mut coordinator = self.coordinator.clone();
        let mut backoff = Backoff::new();
        let mut answers = JoinSet::new();
        loop {
            let Some(address) = coordinator.borrow_and_update().clone() else {
                if coordinator.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let began = Instant::now();
            let asked = tokio::select! {
                asked = self.asked(&address) => asked,
                _ = coordinator.changed() => continue,
            };
            match asked {
                Ok(questions) => {
                    backoff.healthy(began.elapsed());
                    for asked in questions {
                        while answers.len() >= limits::ANSWERS {
                            answers.join_next().await;
                        }
                        let (shared, address) = (Arc::clone(&self.shared), address.clone());
                        let presence = self.presence.clone();
                        answers
                            .spawn(async move { shared.answer(&presence, asked, &address).await });
                    }
                }
                // Of an earlier release; the next coordinator may be a newer one.
                Err(error) if error.coded() == Code::UNSUPPORTED => {
                    if coordinator.changed().await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "not asked for questions; trying again");
                    tokio::time::sleep(backoff.next(fastrand::f64())).await;
                }
            }
        }
    }

    async fn asked(&self, address: &str) -> Result<Vec<Asked>> {
        let request = AwaitQuestions {
            group: self.shared.group.clone(),
            member: self.shared.member.clone(),
            wait_ms: self
                .shared
                .hold(address, limits::ASKED, limits::POLL)
                .await?,
        };
        let held = self.shared.held(address, &request, request.wait_ms);
        Ok(held.await?.questions)
    }
}

impl Shared {
    async fn answer(&self, presence: &Presence, asked: Asked, address: &str) {
        let answer = match asked.question {
            MemberQuestion::State => MemberAnswer::State(Box::new(self.state(presence))),
            MemberQuestion::Consume {
                topic,
                broker,
                queue,
                offset,
            } => {
                let place = MessageQueue {
                    topic,
                    broker,
                    queue,
                };
                self.consume(&place, offset).await
            }
        };
        let answer = AnswerQuestion {
            number: asked.number,
            answer,
        };
        if let Err(error) = self.client.call(address, &answer).await {
            tracing::debug!(%error, "a question is not answered");
        }
    }

    /// What the listener says of a message, whoever has its queue.
    async fn consume(&self, place: &MessageQueue, offset: QueueOffset) -> MemberAnswer {
        let Some(Listening(listener)) = self.listener() else {
            let why = "this member has no listener: its application takes messages itself";
            return MemberAnswer::Unable(why.to_owned());
        };
        let message = match self.client.admin().message(place, offset).await {
            Ok(message) => message,
            Err(error) => return MemberAnswer::Unable(error.to_string()),
        };
        let traced = self.hand_out(&message);
        let began = Instant::now();
        let judged = judge(|it| listener(it), message, self.flow.consume_timeout).await;
        if let Some(traced) = traced {
            traced.end(judged.is_ok());
        }
        MemberAnswer::Consumed {
            took_ms: began.elapsed().as_millis() as u64,
            failed: judged.err(),
        }
    }

    fn state(&self, presence: &Presence) -> MemberState {
        let ms = |it: Duration| format!("{} ms", it.as_millis());
        let yes = |it: bool| if it { "yes" } else { "no" }.to_owned();
        let strategy = presence.strategy.as_ref().map(|it| it.plugin.clone());
        let (flow, threshold) = (&self.flow, &self.flow.threshold);
        let properties = [
            ("client", self.client.id().to_owned()),
            ("zone", presence.zone.clone()),
            ("weight", presence.weight.to_string()),
            ("strategy", strategy.unwrap_or_default()),
            ("from", format!("{:?}", self.from)),
            ("listener", yes(self.listener().is_some())),
            ("suspended", yes(*self.suspended.borrow())),
            ("polling", yes(flow.pulls)),
            ("pull threshold", format!("{} messages", threshold.messages)),
            ("pull threshold size", format!("{} bytes", threshold.bytes)),
            ("max span", threshold.span.to_string()),
            ("consume timeout", ms(flow.consume_timeout)),
            ("suspend time", ms(flow.suspend)),
        ];
        let properties = properties
            .into_iter()
            .filter(|(_, value)| !value.is_empty());
        MemberState {
            software: Hello::new(Role::Client).software,
            started_at: self.started_at,
            properties: properties
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            subscriptions: self.subscriptions.clone(),
            queues: self.progress.report(),
        }
    }
}
