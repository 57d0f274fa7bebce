//! `ExplainDelivery`: what those who decide for a group say of one message when they are asked again, and how
//! far the group is. `TopicGroups`: who consumes a topic. Nothing of it counts: no trial, no stall.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use quern_plugins::{Batch, Subscription, Verdict, Worker};
use quern_protocol::frame::Outgoing;
use quern_protocol::{
    Activation, ExplainDelivery, ExplainDeliveryReply, Filter, HiddenMessage, Opinion, OpinionRole,
    PluginRef, PoppedQueue, QueueId, QueueOffset, Said, Tag, TopicGroup, TopicGroups,
    TopicGroupsReply, WireError,
};

use crate::filters::{self, Bound};
use crate::pool::Who;
use crate::topics::Topic;
use crate::trials::Side;
use crate::{Broker, find, limits, reply, retry};

pub(crate) async fn explain(
    broker: &Arc<Broker>,
    request: ExplainDelivery,
) -> Result<Outgoing, WireError> {
    let topic = broker.topic(&request.topic)?;
    let (queue, offset, group) = (request.queue, request.offset, &request.group);
    if let Some(beyond) = request.filter.as_ref().and_then(Filter::beyond_limits) {
        return Err(reply::bad_request(beyond));
    }
    let record = find::stored(broker, &topic, queue, offset).await?;
    // Who asks for nothing that is known still has what is bound to it.
    let asked = request.filter.clone().unwrap_or(Filter::All);
    let view = broker.view(&asked, Some(group), (&topic, queue));
    let message = Message {
        topic: &topic,
        queue,
        offset,
        record: &record,
    };
    let mut opinions = message.opinions(broker, &view.filter).await?;
    for bound in &view.bound {
        opinions.append(&mut message.opinions_of_bound(broker, bound).await?);
    }
    let stalled = request
        .filter
        .as_ref()
        .and_then(|_| broker.filters.stalled(&view));
    let stall = stalled.map(|it| it.told(broker.store.steady_ms()));
    let state = &broker.state;
    let popped = state.pops.queue(group, topic.id, queue);
    let explained = ExplainDeliveryReply {
        opinions,
        committed: state.offsets.next(group, topic.id, queue),
        owner: state.leases.owners(group, topic.id).remove(&queue),
        popped: popped.map(|it| PoppedQueue {
            next: it.next,
            hidden: it.hidden.get(&offset).map(|it| HiddenMessage {
                until: it.until,
                times: it.times,
            }),
        }),
        stall,
    };
    Ok(Outgoing::reply::<ExplainDelivery>(&explained, Vec::new())?)
}

/// The one that is asked about.
struct Message<'a> {
    topic: &'a Arc<Topic>,
    queue: QueueId,
    offset: QueueOffset,
    record: &'a Bytes,
}

impl Message<'_> {
    async fn opinions(
        &self,
        broker: &Arc<Broker>,
        filter: &Filter,
    ) -> Result<Vec<Opinion>, WireError> {
        let deciders = match filters::deciders(broker, &Who::Others, filter).await {
            Ok(Some(deciders)) => deciders,
            Ok(None) => return Ok(Vec::new()),
            // Nobody can be asked, and that is what members are told too.
            Err(error) => {
                return Ok(vec![silent(
                    filter.to_string(),
                    OpinionRole::Decides,
                    error,
                )]);
            }
        };
        let is_canary = deciders.side(self.queue, self.offset) == Side::Canary;
        let role = |decides: bool| match decides {
            true => OpinionRole::Decides,
            false => OpinionRole::Compared,
        };
        let usual = &deciders.usual;
        let mut opinions = vec![self.ask(broker, usual, role(!is_canary)).await?];
        if let Some(on) = &deciders.on_trial
            && deciders.side(self.queue, self.offset) != Side::Usual
        {
            let opinion = self.ask(broker, &on.subscription, role(is_canary));
            opinions.push(opinion.await?);
            opinions.sort_by_key(|it| it.role != OpinionRole::Decides);
        }
        opinions.extend(self.earlier(broker, filter, usual).await?);
        Ok(opinions)
    }

    /// The same of a bound filter; where that fails, who decides instead.
    async fn opinions_of_bound(
        &self,
        broker: &Arc<Broker>,
        bound: &Bound,
    ) -> Result<Vec<Opinion>, WireError> {
        let mut opinions = self.opinions(broker, &bound.filter).await?;
        let mut instead = Vec::new();
        for it in &mut opinions {
            match (&it.role, &it.said, &bound.otherwise) {
                (OpinionRole::Decides, Said::Fails { .. }, Some(otherwise)) => {
                    it.role = OpinionRole::StoodInFor;
                    instead = self.opinions(broker, otherwise).await?;
                }
                (OpinionRole::Decides, ..) => it.role = OpinionRole::Bound,
                _ => {}
            }
        }
        for it in &mut instead {
            it.role = OpinionRole::Bound;
        }
        opinions.append(&mut instead);
        Ok(opinions)
    }

    /// Those that decided between when the message was stored and now.
    async fn earlier(
        &self,
        broker: &Arc<Broker>,
        filter: &Filter,
        now: &Subscription,
    ) -> Result<Vec<Opinion>, WireError> {
        let plugins = &broker.state.plugins;
        let (name, text, params) = match filter {
            Filter::Plugin(it) if it.plugin.version.is_none() => {
                (Some(it.plugin.name.clone()), &it.expression, &it.params[..])
            }
            Filter::Expression { language, text } => (plugins.speaker(language), text, &[][..]),
            _ => return Ok(Vec::new()),
        };
        let Some((name, named)) = name.and_then(|it| Some((it.clone(), plugins.find(&it)?))) else {
            return Ok(Vec::new());
        };
        let stored_at = retry::parse(self.record)?.header.stored_at;
        let mut opinions = Vec::new();
        for (version, role) in windows(&named.activations, stored_at) {
            let exact = PluginRef::exact(&name, version);
            if now.plugin().name() == exact.to_string() {
                continue;
            }
            let found = broker.shelf.find(plugins, &exact);
            let found = found.unwrap_or_else(|| Err(reply::no_plugin(name.as_str())));
            let subscription = match found {
                Ok(found) => filters::subscription(broker, Who::Others, found, text, params).await,
                Err(error) => Err(error),
            };
            opinions.push(match subscription {
                Ok(subscription) => self.ask(broker, &subscription, role).await?,
                Err(error) => silent(exact.to_string(), role, error),
            });
        }
        Ok(opinions)
    }

    async fn ask(
        &self,
        broker: &Arc<Broker>,
        subscription: &Subscription,
        role: OpinionRole,
    ) -> Result<Opinion, WireError> {
        let plugin = subscription.plugin();
        Ok(Opinion {
            plugin: plugin.name().to_owned(),
            digest: plugin.digest().to_owned(),
            role,
            said: self.judged(broker, subscription).await?,
        })
    }

    async fn judged(
        &self,
        broker: &Arc<Broker>,
        subscription: &Subscription,
    ) -> Result<Said, WireError> {
        let tag = Tag::code(retry::parse(self.record)?.block.tag());
        let codes = subscription.needs().tag_codes.as_deref();
        if codes.is_some_and(|codes| !codes.contains(&tag)) {
            return Ok(Said::Reject);
        }
        let (subscription, record) = (subscription.clone(), self.record.clone());
        let topic = Arc::clone(self.topic);
        let work = move |worker: &mut Worker| {
            let mut batch = Batch::new(subscription.needs());
            let view = retry::parse(&record)?;
            filters::add(&mut batch, &subscription, &topic.name, &view);
            Ok::<_, WireError>(worker.judge(&subscription, &batch))
        };
        let judged = broker.delivery.run(Who::Others, work).await??;
        Ok(match (judged.verdicts.first(), judged.fault) {
            (Some(Verdict::Deliver), _) => Said::Deliver,
            (Some(Verdict::Reject), _) => Said::Reject,
            (_, Some(fault)) => Said::Fails {
                code: fault.code,
                message: fault.to_string(),
            },
            (_, None) => return Err(reply::delivery_stopped()),
        })
    }
}

/// One that cannot be asked.
fn silent(plugin: String, role: OpinionRole, error: WireError) -> Opinion {
    Opinion {
        plugin,
        digest: String::new(),
        role,
        said: Said::Fails {
            code: error.code,
            message: error.message,
        },
    }
}

/// The versions that were active at some time since then and are not the last, the latest first.
fn windows(activations: &[Activation], since: u64) -> Vec<(u32, OpinionRole)> {
    let mut windows = BTreeMap::new();
    for pair in activations.windows(2) {
        let (from, until) = (pair[0].at, pair[1].at);
        if let Some(version) = pair[0].version.filter(|_| until >= since) {
            windows.insert(version, (until, from));
        }
    }
    let mut windows: Vec<_> = windows.into_iter().collect();
    windows.sort_by_key(|(_, (until, _))| std::cmp::Reverse(*until));
    windows.truncate(limits::OPINIONS);
    let role = |(version, (until, from))| (version, OpinionRole::Decided { from, until });
    windows.into_iter().map(role).collect()
}

pub(crate) fn groups(broker: &Broker, request: &TopicGroups) -> TopicGroupsReply {
    let state = &broker.state;
    let asked = broker.groups.filters(&request.topic);
    let mut groups: BTreeSet<_> = asked.keys().cloned().collect();
    // Who coordinates a group need not have its topics.
    if let Some(topic) = state.topics.find(&request.topic) {
        let committed = state.offsets.groups().into_keys();
        groups.extend(committed.filter(|group| state.offsets.knows(group, topic.id)));
        groups.extend(state.pops.groups(topic.id));
        groups.extend(state.leases.groups(topic.id));
    }
    let groups = groups.into_iter().map(|group| TopicGroup {
        filter: asked.get(&group).cloned(),
        group,
    });
    TopicGroupsReply {
        groups: groups.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_ended_before_the_message_have_nothing_to_say() {
        let at = |at, version| Activation { version, at };
        let all = [
            at(10, Some(1)),
            at(20, Some(2)),
            at(30, None),
            at(40, Some(1)),
            at(50, Some(3)),
        ];
        let versions = |since| -> Vec<_> {
            let all = windows(&all, since).into_iter();
            all.map(|(version, _)| version).collect()
        };
        assert_eq!(versions(0), [1, 2]);
        assert_eq!(versions(30), [1, 2]);
        assert_eq!(versions(31), [1]);
        assert_eq!(versions(51), [0; 0]);
        let role = OpinionRole::Decided {
            from: 40,
            until: 50,
        };
        assert_eq!(windows(&all, 45), [(1, role)]);
    }
}
