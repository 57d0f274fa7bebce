//! Groups this broker coordinates: who is a member, and whose the queues shall be. Nothing of it
//! survives a restart, for nothing has to: members join again within seconds, and meanwhile their leases
//! hold.
//!
//! Told the time, by the store's steady clock.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use quern_protocol::retry::is_retry_topic;
use quern_protocol::{
    BrokerName, Code, Filter, GroupMember, GroupName, JoinGroup, QueueId, Selector, Share,
    Subscription, TopicName, WireError,
};
use tokio::sync::Notify;

use crate::alarm::Next;
use crate::{limits, reply};

#[derive(Debug)]
struct Member {
    zone: String,
    weight: u32,
    strategy: Option<Selector>,
    subscriptions: Vec<Subscription>,
    /// Of what it said when it joined.
    fingerprint: u64,
    /// Steady ms of its last sign of life.
    heard: u64,
    /// Steady ms from which it is taken for gone.
    gone_at: u64,
    /// Of its last request to join.
    ticket: u64,
    /// The news of the group it was last answered with.
    news: u64,
}

/// A request to join that was let in.
#[derive(Debug)]
pub(crate) struct Joined {
    /// Rings when the group's queues are shared out anew, or a member is gone.
    pub(crate) bell: Arc<Notify>,
    /// Which of the member's requests it is.
    pub(crate) ticket: u64,
}

impl Member {
    fn new(now: u64, request: JoinGroup) -> Self {
        let fingerprint = request.fingerprint();
        let mut subscriptions = request.subscriptions;
        subscriptions.sort_by(|a, b| a.topic.cmp(&b.topic));
        Self {
            zone: request.zone,
            weight: request.weight,
            strategy: request.strategy,
            subscriptions,
            fingerprint,
            heard: now,
            gone_at: now + limits::SESSION,
            ticket: 0,
            news: 0,
        }
    }

    fn hear(&mut self, now: u64) {
        (self.heard, self.gone_at) = (now, now + limits::SESSION);
    }

    /// What every member has to have in common.
    fn wants(&self) -> Vec<(&TopicName, &Filter)> {
        // Of its retry topic a member may know before others do.
        let all = self.subscriptions.iter();
        let all = all.filter(|it| !is_retry_topic(&it.topic));
        all.map(|it| (&it.topic, &it.filter)).collect()
    }

    fn is_like(&self, other: &Self) -> bool {
        (&self.zone, self.weight) == (&other.zone, other.weight)
            && self.strategy == other.strategy
            && self.subscriptions == other.subscriptions
    }

    /// In words.
    fn describe(&self) -> String {
        let wants = self.wants().into_iter();
        let wants: Vec<_> = wants
            .map(|(topic, filter)| match filter {
                Filter::All => topic.to_string(),
                filter => format!("{topic} by {filter}"),
            })
            .collect();
        let strategy = self.strategy.as_ref().map(|it| it.plugin.as_str());
        let strategy = strategy.unwrap_or(limits::STRATEGY);
        format!("{}, shared out by {strategy}", wants.join(" and "))
    }
}

/// Whose each queue shall be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Who has decided, and why if it is not who was asked for.
    pub(crate) strategy: String,
    pub(crate) owners: BTreeMap<(TopicName, BrokerName, QueueId), String>,
}

/// A group whose queues are to be shared out.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    pub(crate) group: GroupName,
    pub(crate) strategy: Option<Selector>,
    /// Id, zone, weight.
    pub(crate) members: Vec<(String, String, u32)>,
    /// Of each topic, the queues of each broker.
    pub(crate) topics: BTreeMap<TopicName, BTreeMap<BrokerName, u32>>,
    pub(crate) before: Plan,
    /// The generation that comes of it, as counted here.
    pub(crate) generation: u64,
}

/// What a member is told.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    pub(crate) generation: u64,
    pub(crate) members: u32,
    pub(crate) strategy: String,
    pub(crate) shares: Vec<Share>,
    /// The member is to look for what there is, for it was last told …
    pub(crate) has_news: bool,
    /// … other than these.
    pub(crate) news: u64,
}

#[derive(Debug)]
struct Group {
    members: BTreeMap<String, Member>,
    /// 0 = its queues have not been shared out yet.
    generation: u64,
    plan: Result<Plan, WireError>,
    /// Counts what members are to look for that no sharing out tells them.
    news: u64,
    /// Something has changed since the plan was made, or since it is being made.
    is_stale: bool,
    is_being_planned: bool,
    bell: Arc<Notify>,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            members: BTreeMap::new(),
            generation: 0,
            plan: Ok(Plan::default()),
            news: 0,
            is_stale: false,
            is_being_planned: false,
            bell: Arc::default(),
        }
    }
}

impl Group {
    fn conflict(&self, id: &str, member: &Member) -> Option<WireError> {
        let differs = |(other, it): &(&String, &Member)| {
            other.as_str() != id && (it.wants() != member.wants() || it.strategy != member.strategy)
        };
        let (other, its) = self.members.iter().find(differs)?;
        let text = format!(
            "member {id:?} wants {}, and member {other:?} of the same group {}; they have to want the same",
            member.describe(),
            its.describe()
        );
        Some(WireError::new(Code::SUBSCRIPTIONS_DIFFER, text).after_ms(1_000))
    }

    /// Of each topic, the queues of each broker: as many as any member knows of, for those who have not
    /// heard of new ones will.
    fn topics(&self) -> BTreeMap<TopicName, BTreeMap<BrokerName, u32>> {
        let mut topics: BTreeMap<_, BTreeMap<_, u32>> = BTreeMap::new();
        let subscriptions = self.members.values().flat_map(|it| &it.subscriptions);
        for subscription in subscriptions {
            let brokers = topics.entry(subscription.topic.clone()).or_default();
            for route in &subscription.route {
                let queues = brokers.entry(route.broker.clone()).or_default();
                *queues = (*queues).max(route.queues);
            }
        }
        topics
    }

    fn strategy(&self) -> Option<&Selector> {
        self.members.values().find_map(|it| it.strategy.as_ref())
    }

    fn work(&self, name: &GroupName, strategy: Option<Selector>) -> Work {
        let members = self.members.iter();
        Work {
            group: name.clone(),
            strategy,
            members: members
                .map(|(id, it)| (id.clone(), it.zone.clone(), it.weight))
                .collect(),
            topics: self.topics(),
            before: self.plan.clone().unwrap_or_default(),
            generation: self.generation + 1,
        }
    }

    fn remove(&mut self, gone: impl Fn(&str, &Member) -> bool) -> bool {
        let before = self.members.len();
        self.members.retain(|id, member| !gone(id, member));
        let removed = self.members.len() < before;
        self.is_stale |= removed;
        if removed {
            self.bell.notify_waiters();
        }
        removed
    }

    /// The member has asked to join, and is known.
    fn joined(&mut self, member: &str) -> Joined {
        let ticket = fastrand::u64(..);
        if let Some(member) = self.members.get_mut(member) {
            member.ticket = ticket;
        }
        Joined {
            bell: Arc::clone(&self.bell),
            ticket,
        }
    }
}

/// The groups of one coordinator.
#[derive(Debug, Default)]
pub(crate) struct Groups(Mutex<HashMap<GroupName, Group>>);

const POISONED: &str = "no code that can panic runs under the groups lock";

impl Groups {
    /// A sign of life.
    pub(crate) fn join(&self, now: u64, request: JoinGroup) -> Result<Joined, WireError> {
        let mut groups = self.0.lock().expect(POISONED);
        let full = |what: &str, most: usize| {
            let text = format!("this broker takes no more than {most} {what}");
            WireError::new(Code::RETRY_AFTER, text).after_ms(1_000)
        };
        if groups.len() >= limits::GROUPS && !groups.contains_key(&request.group) {
            return Err(full("groups", limits::GROUPS));
        }
        let group = groups.entry(request.group.clone()).or_default();
        let id = request.member.clone();
        let mut member = Member::new(now, request);
        // It has just looked.
        member.news = group.news;
        if let Some(conflict) = group.conflict(&id, &member) {
            return Err(conflict);
        }
        let is_full = group.members.len() >= limits::MEMBERS;
        match group.members.get_mut(&id) {
            Some(known) if known.is_like(&member) => {
                known.hear(now);
                known.fingerprint = member.fingerprint;
            }
            None if is_full => return Err(full("members of a group", limits::MEMBERS)),
            _ => {
                group.members.insert(id.clone(), member);
                group.is_stale = true;
            }
        }
        Ok(group.joined(&id))
    }

    /// A sign of life of a member that wants what it has wanted before, by the fingerprint of that.
    pub(crate) fn go_on(
        &self,
        now: u64,
        group: &GroupName,
        member: &str,
        fingerprint: u64,
    ) -> Result<Joined, WireError> {
        let mut groups = self.0.lock().expect(POISONED);
        let known = groups.get_mut(group).and_then(|group| {
            let known = group.members.get_mut(member)?;
            if known.fingerprint != fingerprint {
                return None;
            }
            known.hear(now);
            Some(group.joined(member))
        });
        known.ok_or_else(|| reply::unknown_member(group, Some(member)))
    }

    /// Another sign of life, if it is a member here.
    pub(crate) fn hear(&self, now: u64, group: &GroupName, member: &str) {
        let mut groups = self.0.lock().expect(POISONED);
        let group = groups.get_mut(group);
        if let Some(member) = group.and_then(|it| it.members.get_mut(member)) {
            member.hear(now);
        }
    }

    /// A member is answered with these news.
    pub(crate) fn told(&self, group: &GroupName, member: &str, news: u64) {
        let mut groups = self.0.lock().expect(POISONED);
        let group = groups.get_mut(group);
        if let Some(member) = group.and_then(|it| it.members.get_mut(member)) {
            member.news = news;
        }
    }

    /// The members of a group are to look for what there is: more than any of them knows.
    pub(crate) fn look_again(&self, group: &GroupName) {
        let mut groups = self.0.lock().expect(POISONED);
        if let Some(group) = groups.get_mut(group) {
            group.news += 1;
            group.bell.notify_waiters();
        }
    }

    /// Whether a group has such a member; `None` = any.
    pub(crate) fn has(&self, group: &GroupName, member: Option<&str>) -> bool {
        let groups = self.0.lock().expect(POISONED);
        groups.get(group).is_some_and(|group| match member {
            Some(member) => group.members.contains_key(member),
            None => !group.members.is_empty(),
        })
    }

    /// Returns whether it was there.
    pub(crate) fn leave(&self, group: &GroupName, member: &str) -> bool {
        let mut groups = self.0.lock().expect(POISONED);
        let group = groups.get_mut(group);
        group.is_some_and(|group| group.remove(|id, _| id == member))
    }

    /// The connection of its request has ended: it is taken for gone soon, unless it comes back before, or has
    /// already.
    pub(crate) fn lost(&self, now: u64, group: &GroupName, member: &str, ticket: u64) {
        let mut groups = self.0.lock().expect(POISONED);
        let group = groups.get_mut(group);
        if let Some(member) = group.and_then(|it| it.members.get_mut(member))
            && member.ticket == ticket
        {
            member.gone_at = member.gone_at.min(now + limits::COME_BACK);
        }
    }

    /// Lets those go that have been silent for too long. Returns the groups that have changed.
    pub(crate) fn expire(&self, now: u64) -> Vec<GroupName> {
        let mut groups = self.0.lock().expect(POISONED);
        let mut changed = Vec::new();
        groups.retain(|name, group| {
            let silent = |_: &str, member: &Member| member.gone_at <= now;
            if group.remove(silent) {
                changed.push(name.clone());
            }
            // Whoever makes its plan will look for it.
            !group.members.is_empty() || group.is_being_planned
        });
        changed
    }

    /// When the next one will have been silent for too long. One that nobody is in any more is looked at later.
    pub(crate) fn next_gone(&self, later: u64) -> Next {
        let groups = self.0.lock().expect(POISONED);
        let next = groups.values().map(|group| {
            let gone = group.members.values().map(|it| it.gone_at);
            gone.min().unwrap_or(later)
        });
        next.min()
    }

    /// What has to be shared out, to whoever asks first; [`Self::planned`] is told what became of it.
    pub(crate) fn work(&self, name: &GroupName) -> Option<Work> {
        let mut groups = self.0.lock().expect(POISONED);
        let group = groups.get_mut(name)?;
        let strategy = group.members.values().next()?.strategy.clone();
        if !group.is_stale || group.is_being_planned {
            return None;
        }
        group.is_stale = false;
        group.is_being_planned = true;
        Some(group.work(name, strategy))
    }

    /// Groups whose queues such a strategy shares out; they need to be shared out anew.
    pub(crate) fn shared_out_by(&self, is_it: impl Fn(&Selector) -> bool) -> Vec<GroupName> {
        let mut groups = self.0.lock().expect(POISONED);
        let mut found = Vec::new();
        for (name, group) in groups.iter_mut() {
            if group.strategy().is_some_and(&is_it) {
                group.is_stale = true;
                found.push(name.clone());
            }
        }
        found
    }

    /// What is shared out by such a strategy, as it is: nobody has to do anything about it.
    pub(crate) fn standing_by(&self, is_it: impl Fn(&Selector) -> bool) -> Vec<Work> {
        let groups = self.0.lock().expect(POISONED);
        let groups = groups.iter().filter_map(|(name, group)| {
            let strategy = group.strategy().filter(|it| is_it(it))?;
            // One that is being shared out is compared then.
            let stands = group.plan.is_ok() && !group.is_stale && !group.is_being_planned;
            stands.then(|| group.work(name, Some(strategy.clone())))
        });
        groups.collect()
    }

    /// `wall_ms` makes generations of one coordinator differ from those of another.
    pub(crate) fn planned(&self, name: &GroupName, plan: Result<Plan, WireError>, wall_ms: u64) {
        let mut groups = self.0.lock().expect(POISONED);
        if let Some(group) = groups.get_mut(name) {
            group.is_being_planned = false;
            group.plan = plan;
            group.generation = (group.generation + 1).max(wall_ms);
            group.bell.notify_waiters();
        }
    }

    /// What a member is told; `None` = it is none, or there is nothing to tell yet.
    pub(crate) fn standing(
        &self,
        name: &GroupName,
        member: &str,
    ) -> Result<Option<Standing>, WireError> {
        let groups = self.0.lock().expect(POISONED);
        let Some(group) = groups.get(name) else {
            return Ok(None);
        };
        // The plan there is may not know this member.
        let is_known = !group.is_stale && !group.is_being_planned;
        let Some(its) = group.members.get(member).filter(|_| is_known) else {
            return Ok(None);
        };
        let plan = group.plan.as_ref().map_err(Clone::clone)?;
        let mut shares: Vec<Share> = Vec::new();
        for ((topic, broker, queue), owner) in &plan.owners {
            if owner != member {
                continue;
            }
            match shares.last_mut() {
                Some(share) if (&share.topic, &share.broker) == (topic, broker) => {
                    share.queues.push(*queue);
                }
                _ => shares.push(Share {
                    topic: topic.clone(),
                    broker: broker.clone(),
                    queues: vec![*queue],
                }),
            }
        }
        Ok(Some(Standing {
            generation: group.generation,
            members: group.members.len() as u32,
            strategy: plan.strategy.clone(),
            shares,
            has_news: its.news != group.news,
            news: group.news,
        }))
    }

    /// Members of each group.
    pub(crate) fn list(&self) -> HashMap<GroupName, u32> {
        let groups = self.0.lock().expect(POISONED);
        let groups = groups.iter();
        groups
            .map(|(name, group)| (name.clone(), group.members.len() as u32))
            .collect()
    }

    /// What the members of each group ask of a topic, of those that do.
    pub(crate) fn filters(&self, topic: &TopicName) -> BTreeMap<GroupName, Filter> {
        let groups = self.0.lock().expect(POISONED);
        let filters = groups.iter().filter_map(|(name, group)| {
            let mut wanted = group.members.values().flat_map(|it| &it.subscriptions);
            let wanted = wanted.find(|it| it.topic == *topic)?;
            Some((name.clone(), wanted.filter.clone()))
        });
        filters.collect()
    }

    /// What the members of each group ask of its topics.
    pub(crate) fn subscriptions(&self) -> Vec<(GroupName, TopicName, Filter)> {
        let groups = self.0.lock().expect(POISONED);
        let all = groups.iter().flat_map(|(name, group)| {
            // All members want the same.
            let member = group.members.values().next();
            let wants = member.map(Member::wants).unwrap_or_default().into_iter();
            wants.map(move |(topic, filter)| (name.clone(), topic.clone(), filter.clone()))
        });
        all.collect()
    }

    /// The strategies of groups that name one.
    pub(crate) fn strategies(&self) -> Vec<(GroupName, Selector)> {
        let groups = self.0.lock().expect(POISONED);
        let named = groups.iter();
        let named =
            named.filter_map(|(name, group)| Some((name.clone(), group.strategy()?.clone())));
        named.collect()
    }

    /// Generation, strategy, members; `None` = this broker does not coordinate it.
    pub(crate) fn describe(
        &self,
        now: u64,
        name: &GroupName,
    ) -> Option<(u64, String, Vec<GroupMember>)> {
        let groups = self.0.lock().expect(POISONED);
        let group = groups.get(name)?;
        let member = |(id, it): (&String, &Member)| GroupMember {
            member: id.clone(),
            zone: it.zone.clone(),
            weight: it.weight,
            silent_ms: now.saturating_sub(it.heard),
            subscriptions: it
                .subscriptions
                .iter()
                .map(|it| (it.topic.clone(), it.filter.clone()))
                .collect(),
        };
        let strategy = group.plan.as_ref().map(|it| it.strategy.clone());
        Some((
            group.generation,
            strategy.unwrap_or_default(),
            group.members.iter().map(member).collect(),
        ))
    }

    /// Lets everybody look again: the broker is shutting down.
    pub(crate) fn wake_all(&self) {
        for group in self.0.lock().expect(POISONED).values() {
            group.bell.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quern_protocol::ReadQueues;

    fn group() -> GroupName {
        GroupName::new("g").unwrap()
    }

    fn join(member: &str, filter: Filter, queues: u32) -> JoinGroup {
        JoinGroup {
            group: group(),
            member: member.to_owned(),
            zone: String::new(),
            weight: 1,
            strategy: None,
            subscriptions: vec![Subscription {
                topic: TopicName::new("t").unwrap(),
                filter,
                route: vec![ReadQueues {
                    broker: BrokerName::new("b").unwrap(),
                    queues,
                }],
            }],
            generation: 0,
            wait_ms: 0,
            again: None,
        }
    }

    /// Every queue to the first member.
    fn plan(work: &Work) -> Plan {
        let mut plan = Plan::default();
        for (topic, brokers) in &work.topics {
            for (broker, queues) in brokers {
                for queue in 0..*queues {
                    let key = (topic.clone(), broker.clone(), QueueId(queue));
                    plan.owners.insert(key, work.members[0].0.clone());
                }
            }
        }
        plan
    }

    #[test]
    fn a_plan_is_made_for_every_change_and_by_one_at_a_time() {
        let groups = Groups::default();
        groups.join(0, join("b", Filter::All, 2)).unwrap();
        let work = groups.work(&group()).unwrap();
        assert!(groups.work(&group()).is_none(), "somebody is at it");
        assert!(groups.standing(&group(), "b").unwrap().is_none());
        groups.planned(&group(), Ok(plan(&work)), 7);
        let before = groups.standing(&group(), "b").unwrap().unwrap();
        assert_eq!(before.shares[0].queues, [QueueId(0), QueueId(1)]);
        // A change while a plan is being made is not forgotten, and a plan that does not know it not told.
        groups.join(1, join("c", Filter::All, 2)).unwrap();
        let work = groups.work(&group()).unwrap();
        groups.join(1, join("a", Filter::All, 3)).unwrap();
        groups.planned(&group(), Ok(plan(&work)), 7);
        assert!(groups.standing(&group(), "a").unwrap().is_none());
        let work = groups.work(&group()).unwrap();
        assert_eq!(work.members.len(), 3);
        groups.planned(&group(), Ok(plan(&work)), 7);
        let after = groups.standing(&group(), "a").unwrap().unwrap();
        assert!(after.generation > before.generation);
        assert_eq!(after.shares[0].queues.len(), 3, "as many as any knows of");
        let none = groups.standing(&group(), "b").unwrap().unwrap();
        assert!(none.shares.is_empty());
        // Saying the same again changes nothing.
        groups.join(2, join("a", Filter::All, 3)).unwrap();
        assert!(groups.work(&group()).is_none());
    }

    #[test]
    fn silence_ends_a_membership_and_a_lost_connection_shortens_it() {
        let groups = Groups::default();
        let [_, first, _] = ["a", "b", "c"].map(|member| {
            let joined = groups.join(0, join(member, Filter::All, 1));
            joined.unwrap().ticket
        });
        // It has come back on another connection before the end of the first one was noticed.
        let again = groups.join(50, join("b", Filter::All, 1)).unwrap().ticket;
        groups.lost(99, &group(), "b", first);
        assert_eq!(groups.next_gone(7), Some(limits::SESSION));
        groups.lost(100, &group(), "b", again);
        assert_eq!(groups.next_gone(7), Some(100 + limits::COME_BACK));
        assert!(groups.expire(99 + limits::COME_BACK).is_empty());
        assert_eq!(groups.expire(100 + limits::COME_BACK), [group()]);
        groups.join(5_000, join("a", Filter::All, 1)).unwrap();
        assert_eq!(groups.expire(limits::SESSION), [group()]);
        let (_, _, members) = groups.describe(limits::SESSION, &group()).unwrap();
        assert_eq!(members.len(), 1);
        assert_eq!(members[0].member, "a");
        assert!(groups.leave(&group(), "a"));
        assert!(groups.work(&group()).is_none(), "for nobody");
        groups
            .join(limits::SESSION, join("d", Filter::All, 1))
            .unwrap();
        assert!(groups.work(&group()).is_some());
        groups.planned(&group(), Ok(Plan::default()), 7);
        assert!(groups.leave(&group(), "d"));
        assert!(!groups.leave(&group(), "a"));
        assert_eq!(groups.next_gone(7), Some(7), "it is let go then");
        groups.expire(limits::SESSION);
        assert!(groups.list().is_empty(), "nobody is left, nothing is kept");
        assert_eq!(groups.next_gone(7), None);
    }

    #[test]
    fn what_a_member_asks_of_its_leases_is_a_sign_of_life() {
        let groups = Groups::default();
        for member in ["a", "b"] {
            groups.join(0, join(member, Filter::All, 1)).unwrap();
        }
        groups.hear(limits::SESSION - 1, &group(), "a");
        groups.hear(limits::SESSION - 1, &group(), "nobody");
        assert_eq!(groups.expire(limits::SESSION), [group()]);
        assert!(groups.has(&group(), Some("a")));
        assert!(!groups.has(&group(), Some("b")));
        assert!(!groups.has(&group(), Some("nobody")));
        assert_eq!(groups.next_gone(7), Some(2 * limits::SESSION - 1));
    }

    #[test]
    fn a_fingerprint_stands_for_what_a_member_has_said() {
        let groups = Groups::default();
        let first = join("a", Filter::All, 1);
        let again =
            |it: &JoinGroup, now| groups.go_on(now, &it.group, &it.member, it.fingerprint());
        let unknown = again(&first, 0).unwrap_err();
        assert_eq!(unknown.code, Code::UNKNOWN_MEMBER.number);
        groups.join(0, first.clone()).unwrap();
        again(&first, limits::SESSION - 1).unwrap();
        assert!(groups.expire(limits::SESSION).is_empty(), "it is heard");
        let mut other = first.clone();
        other.subscriptions[0].route[0].queues = 2;
        assert!(again(&other, 1).is_err(), "of more queues it has to tell");
        groups.join(1, other.clone()).unwrap();
        again(&other, 1).unwrap();
        assert!(again(&first, 1).is_err());
    }

    #[test]
    fn members_that_want_different_things_are_named() {
        let groups = Groups::default();
        groups.join(0, join("a", Filter::tag("x"), 1)).unwrap();
        let refused = groups.join(0, join("b", Filter::tag("y"), 1)).unwrap_err();
        assert_eq!(refused.code, Code::SUBSCRIPTIONS_DIFFER.number);
        for part in ["\"a\"", "\"b\"", "\"x\"", "\"y\""] {
            assert!(refused.message.contains(part), "{refused:?}");
        }
        // Alone, a member may change its mind.
        groups.join(0, join("a", Filter::tag("y"), 1)).unwrap();
        groups.join(0, join("b", Filter::tag("y"), 1)).unwrap();
    }
}
