//! `JoinGroup` and `LeaveGroup`: a member's life with its coordinator. Queues are shared out on a delivery
//! thread, by a task nobody can cancel; those who wait for it hear its bell.

use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use quern_protocol::{
    GroupName, JoinGroup, JoinGroupReply, LeaveGroup, LeaveGroupReply, PluginName, PluginRef,
    Selector, WireError, limits as wire,
};

use crate::alarm::{Alarms, By};
use crate::groups::Joined;
use crate::{Broker, allocation, group_settings, limits, reply};

pub(crate) async fn join(
    broker: &Arc<Broker>,
    request: JoinGroup,
) -> Result<JoinGroupReply, WireError> {
    if broker.is_draining() {
        return Err(reply::going_away());
    }
    if let Some(beyond) = request.beyond_limits() {
        return Err(reply::bad_request(beyond));
    }
    group_settings::admit(broker, &request.group)?;
    if request.generation == 0 {
        group_settings::is_open(broker, &request.group)?;
        for subscription in &request.subscriptions {
            group_settings::may_have(broker, &request.group, &subscription.topic)?;
        }
    }
    let wait = Duration::from_millis(request.wait_ms.min(wire::HELD_MS).into());
    let mut over = pin!(tokio::time::sleep(wait));
    let known = request.generation;
    let (group, member) = (request.group.clone(), request.member.clone());
    let now = broker.store.steady_ms();
    let Joined { bell, ticket } = match request.again {
        Some(fingerprint) => broker.groups.go_on(now, &group, &member, fingerprint)?,
        None => broker.groups.join(now, request)?,
    };
    broker.alarms.members.due(now + limits::SESSION);
    let mut here = Here {
        broker,
        group,
        member,
        ticket,
        is_answered: false,
    };
    loop {
        let mut rung = pin!(bell.notified());
        rung.as_mut().enable();
        share_out(broker, &here.group);
        let standing = broker.groups.standing(&here.group, &here.member);
        let is_over = over.is_elapsed() || broker.is_draining();
        match standing {
            Ok(Some(it)) if is_over || it.generation != known || it.has_news => {
                here.is_answered = true;
                broker.groups.told(&here.group, &here.member, it.news);
                return Ok(JoinGroupReply {
                    generation: it.generation,
                    members: it.members,
                    strategy: it.strategy,
                    session_ms: limits::SESSION as u32,
                    shares: it.shares,
                });
            }
            Err(error) => {
                here.is_answered = true;
                return Err(error);
            }
            Ok(None) if broker.is_draining() => return Err(reply::going_away()),
            Ok(None) if !broker.groups.has(&here.group, Some(&here.member)) => {
                here.is_answered = true;
                return Err(reply::unknown_member(&here.group, Some(&here.member)));
            }
            // The first sharing out is worth waiting for.
            Ok(None) => rung.await,
            Ok(Some(_)) => tokio::select! {
                () = rung => {}
                () = over.as_mut() => {}
            },
        }
    }
}

/// A member whose request is held. Dropped without an answer, its connection has ended.
struct Here<'a> {
    broker: &'a Broker,
    group: GroupName,
    member: String,
    ticket: u64,
    is_answered: bool,
}

impl Drop for Here<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            let now = self.broker.store.steady_ms();
            let groups = &self.broker.groups;
            groups.lost(now, &self.group, &self.member, self.ticket);
            self.broker.alarms.members.due(now + limits::COME_BACK);
        }
    }
}

pub(crate) fn leave(broker: &Arc<Broker>, request: &LeaveGroup) -> LeaveGroupReply {
    if broker.groups.leave(&request.group, &request.member) {
        tracing::debug!(group = %request.group, member = request.member, "left");
        broker.alarms.members.ring();
        share_out(broker, &request.group);
    }
    LeaveGroupReply {}
}

/// Misses members that have gone silent, for as long as the broker is there.
pub(crate) async fn miss(broker: Weak<Broker>, alarms: Arc<Alarms>) {
    let alarm = &alarms.members;
    loop {
        let Some(there) = broker.upgrade() else {
            return;
        };
        alarm.awake();
        let now = there.store.steady_ms();
        for group in there.groups.expire(now) {
            tracing::info!(%group, "members have gone silent; sharing out their queues");
            share_out(&there, &group);
        }
        let next = there.groups.next_gone(now + limits::MISS);
        drop(there);
        if !alarm.sleep(&broker, By::Steady, next).await {
            return;
        }
    }
}

/// What a strategy's name stands for has changed, or what has become of this version: every group that uses it is
/// shared out anew.
pub(crate) fn share_out_by(broker: &Arc<Broker>, name: &PluginName, version: Option<u32>) {
    let is_it = |strategy: &Selector| {
        let named = strategy.plugin.parse::<PluginRef>();
        named.is_ok_and(|it| it.name == *name && (it.version.is_none() || it.version == version))
    };
    for group in broker.groups.shared_out_by(is_it) {
        share_out(broker, &group);
    }
}

/// A strategy is tried in the shadow: whoever uses it by its name is looked at, and nothing is shared out anew.
pub(crate) fn look_at(broker: &Arc<Broker>, name: &PluginName) {
    for work in broker.groups.standing_by(|it| it.plugin == name.as_str()) {
        let broker = Arc::clone(broker);
        tokio::spawn(async move { allocation::look(&broker, work).await });
    }
}

/// Has the queues of a group shared out, if something about it has changed and nobody is at it.
fn share_out(broker: &Arc<Broker>, group: &GroupName) {
    let Some(mut work) = broker.groups.work(group) else {
        return;
    };
    let broker = Arc::clone(broker);
    tokio::spawn(async move {
        loop {
            let group = work.group.clone();
            let plan = allocation::plan(&broker, work).await;
            broker.groups.planned(&group, plan, broker.store.now_ms());
            match broker.groups.work(&group) {
                Some(more) => work = more,
                None => return,
            }
        }
    });
}
