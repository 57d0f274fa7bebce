//! What those who ask plugins find out about versions while they do: that one has failed too often. They find it on a
//! delivery thread, and act on it when they are done.

use std::sync::Arc;

use crate::Broker;
use crate::breakers::Asker;
use crate::health::{self, Asked};
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
