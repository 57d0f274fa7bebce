//! What those who ask plugins find out about versions while they do: that one has failed too often, or takes too much.
//! They find it on a delivery thread, and act on it when they are done.

use std::sync::Arc;

use quern_plugins::Subscription;

use crate::Broker;
use crate::breakers::Asker;
use crate::costs::Spent;
use crate::health::{self, Asked};
use crate::plugins::versioned;
use crate::trials::{self, Tried};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    /// The version on trial is to be tried no longer, and why.
    pub(crate) trial_is_over: Option<(Tried, String)>,
    /// The plugin has failed on too much: its name, and how.
    quarantine: Option<(String, String)>,
}

impl Trouble {
    pub(crate) fn add(&mut self, more: Self) {
        let Self {
            trial_is_over,
            quarantine,
        } = more;
        if trial_is_over.is_some() {
            self.trial_is_over = trial_is_over;
        }
        if quarantine.is_some() {
            self.quarantine = quarantine;
        }
    }

    /// What came of asking a plugin. Whether it fails too often is not for one asker alone to know; where it is known who
    /// asks, one that was good for long is first left alone for a while ([`crate::breakers`]).
    pub(crate) fn asked(
        &mut self,
        broker: &Broker,
        plugin: &str,
        asker: Option<&Asker>,
        asked: &Asked<'_>,
    ) {
        let mut why = broker.health.asked(plugin, asked);
        // What is impure is so however long it went unseen, and asking it later does not help.
        if let Some(asker) = asker.filter(|_| !asked.is_impure() && !broker.is_new(plugin)) {
            why = broker.breakers.asked(asker, asked);
        }
        if let Some(why) = why {
            self.quarantine = Some((plugin.to_owned(), why));
        }
    }

    /// What a call took: a version that is on trial, or that a name stands for and has not for long, is not to take far
    /// more than the one it came for.
    pub(crate) fn spent(
        &mut self,
        broker: &Broker,
        decider: &Subscription,
        tried: Option<&Tried>,
        spent: Spent,
    ) {
        let plugin = decider.plugin().name();
        if !broker.costs.spent(decider, spent) {
            return;
        }
        let Some((name, version)) = versioned(plugin) else {
            return;
        };
        let named = broker.state.plugins.find(&name);
        let other = named.and_then(|it| match tried {
            Some(_) => it.active,
            None if it.active == Some(version) => it.before(),
            None => None,
        });
        // Who goes back to an earlier one has reasons for it.
        let other = other.filter(|it| *it < version);
        let Some(why) = other.and_then(|other| broker.costs.compare(decider, other, spent)) else {
            return;
        };
        match tried {
            Some(tried) => self.trial_is_over = Some((tried.clone(), why)),
            None if broker.is_new(plugin) => self.quarantine = Some((plugin.to_owned(), why)),
            // One that was good for long is the measure of others.
            None => {}
        }
    }

    /// The version on trial has failed too often.
    pub(crate) fn too_many_faults(&mut self, tried: &Tried) {
        self.trial_is_over = Some((tried.clone(), trials::TOO_MANY_FAULTS.to_owned()));
    }

    /// Ends the trial, takes the version out of service, in its own time.
    pub(crate) fn act(self, broker: &Arc<Broker>) {
        if let Some((tried, why)) = self.trial_is_over {
            trials::end(broker, tried, why);
        }
        if let Some((plugin, why)) = self.quarantine {
            health::quarantine(broker, &plugin, why);
        }
    }
}
