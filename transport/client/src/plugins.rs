//! Plugins of a cluster: upload components, say which version a name stands for, and see what they do.

use std::collections::HashMap;

use bytes::Bytes;
use quern_protocol::{
    BeginUpload, BindingChange, BindingStates, BindingStatesReply, BrokerEntry, BrokerName,
    ChangeBindings, ChangePlugin, ChangePluginReply, Code, ComponentDigest, DescribePlugin,
    DescribePluginReply, FallBacks, FinishUpload, FinishUploadReply, GroupBindings, GroupName,
    ListBindings, ListPlugins, PluginAbout, PluginChange, PluginFallBacks, PluginFilter,
    PluginHealth, PluginLogs, PluginLogsReply, PluginName, PluginSummary, PluginUsers,
    ReplayPlugin, ReplayPluginReply, TopicName, TrialMove, TrialMoves, UploadChunk, VersionHealth,
    limits as wire,
};
use ring::digest::{SHA256, digest};

use crate::admin::Admin;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;

/// What became of an upload: the same version on every broker.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Uploaded {
    /// The version these bytes are.
    pub version: u32,
    /// False: every broker had them as this version already.
    pub is_new: bool,
    /// What the component says of itself, and what its trial found.
    pub about: PluginAbout,
    /// Who has it now.
    pub brokers: Vec<BrokerName>,
}

impl Admin {
    /// Makes a component the next version of a name on every broker; bytes a broker has are not sent
    /// again, and an upload that was cut short goes on where it stopped. The name goes on standing for
    /// what it did before. `progress` is told how many bytes a broker has, and of how many; then
    /// the broker checks, compiles and tries them, which may take seconds.
    pub async fn upload_plugin(
        &self,
        name: &str,
        component: &Bytes,
        mut progress: impl FnMut(&BrokerName, usize),
    ) -> Result<Uploaded> {
        let name = PluginName::new(name)?;
        let hash = digest(&SHA256, component);
        let hash = hash.as_ref().try_into();
        let digest = ComponentDigest(hash.map_err(|_| Error::new(Code::INTERNAL, "no SHA-256"))?);
        let brokers = self.some_broker().await?;
        let version = self.version_for(&brokers, &name, &digest).await?;
        let mut uploaded: Option<Uploaded> = None;
        for broker in brokers {
            self.send(&broker, digest, component, &mut progress).await?;
            let finish = FinishUpload {
                digest,
                name: name.clone(),
                version: Some(version),
            };
            let client = self.client();
            let finish = client.call_with(&broker.address, &finish, Vec::new(), limits::LET_IN);
            let FinishUploadReply {
                version,
                is_new,
                about,
            } = finish.await?;
            let all = uploaded.get_or_insert(Uploaded {
                version,
                is_new: false,
                about,
                brokers: Vec::new(),
            });
            all.is_new |= is_new;
            all.brokers.push(broker.broker);
        }
        uploaded.ok_or_else(|| Error::new(Code::NO_ROUTE, "no broker is registered"))
    }

    /// The number these bytes have anywhere; else one above all that the name has had.
    async fn version_for(
        &self,
        brokers: &[BrokerEntry],
        name: &PluginName,
        digest: &ComponentDigest,
    ) -> Result<u32> {
        let mut newest = 0;
        for broker in brokers {
            let client = self.client();
            let listed = client.call(&broker.address, &ListPlugins {}).await?;
            let mut plugins = listed.plugins.iter();
            let Some(found) = plugins.find(|it| it.name == *name && !it.built_in) else {
                continue;
            };
            newest = newest.max(found.newest);
            let describe = DescribePlugin { name: name.clone() };
            let described = client.call(&broker.address, &describe).await?;
            let mut versions = described.versions.iter();
            if let Some(known) = versions.find(|it| it.digest == *digest) {
                return Ok(known.version);
            }
        }
        Ok(newest.saturating_add(1))
    }

    async fn send(
        &self,
        broker: &BrokerEntry,
        digest: ComponentDigest,
        component: &Bytes,
        progress: &mut impl FnMut(&BrokerName, usize),
    ) -> Result<()> {
        let client = self.client();
        let size = component.len() as u64;
        let begin = BeginUpload { digest, size };
        let begun = client.call(&broker.address, &begin).await?;
        let mut at = begun.received;
        loop {
            let done = usize::try_from(at).unwrap_or(usize::MAX);
            progress(&broker.broker, done.min(component.len()));
            if done >= component.len() {
                return Ok(());
            }
            let end = component.len().min(done + wire::UPLOAD_CHUNK);
            let piece = vec![component.slice(done..end)];
            let chunk = UploadChunk { digest, at };
            let sent = client.call_with(&broker.address, &chunk, piece, limits::LET_IN);
            at = sent.await?.received;
        }
    }

    /// Changes what a name stands for, or removes a version, on every broker that has the name. Durable
    /// when this returns; the next look at a queue is decided by it. Before a version is activated, all brokers are
    /// asked whether it accepts what is asked of the active one; if it does not, nothing changes, and the error says
    /// whom it would refuse ([`PluginChange::ActivateAnyway`] does not ask).
    pub async fn change_plugin(
        &self,
        name: &str,
        change: PluginChange,
    ) -> Result<Vec<(BrokerName, ChangePluginReply)>> {
        let name = PluginName::new(name)?;
        if let PluginChange::Activate { version } = change {
            self.is_accepted(&name, version).await?;
        }
        self.ask_those_who_have_it(&ChangePlugin { name, change })
            .await
    }

    /// Lets groups go back to where a version of a filter, which decides no more, began to decide for them: what it has
    /// rejected is judged again. `None` = the version that was active before. Returns who has gone back, broker by broker.
    pub async fn replay_plugin(
        &self,
        name: &str,
        version: Option<u32>,
    ) -> Result<Vec<(BrokerName, ReplayPluginReply)>> {
        let name = PluginName::new(name)?;
        self.ask_those_who_have_it(&ReplayPlugin { name, version })
            .await
    }

    /// Whether all who use a plugin could use this version of it.
    async fn is_accepted(&self, name: &PluginName, version: Option<u32>) -> Result<()> {
        let users = PluginUsers {
            name: name.clone(),
            version,
        };
        let asked = self.listed_by_newer(&users, |it| vec![it]).await?;
        let mut replies = asked.into_iter().map(|(_, it)| it);
        let Some(mut all) = replies.next() else {
            return Ok(());
        };
        for more in replies {
            let unknown = more
                .refused
                .into_iter()
                .filter(|it| !all.refused.contains(it));
            let unknown: Vec<_> = unknown.collect();
            all.refused.extend(unknown);
        }
        match all.refusal(name) {
            Some(refused) => Err(refused.into()),
            None => Ok(()),
        }
    }

    /// Puts a filter behind what the consumers of a group ask for, on every broker; running ones have it with their
    /// next look at a queue. A plugin of that name that is bound already is replaced. Returns all that is bound now.
    pub async fn bind_filter(
        &self,
        topic: &str,
        group: &str,
        filter: PluginFilter,
    ) -> Result<Vec<PluginFilter>> {
        self.bind(topic, group, BindingChange::Bind(filter)).await
    }

    /// The same; where the filter fails, or cannot be asked, `otherwise` decides, which is a part of the brokers:
    /// `tag` or `sql92`.
    pub async fn bind_filter_or_else(
        &self,
        topic: &str,
        group: &str,
        (filter, otherwise): (PluginFilter, PluginFilter),
    ) -> Result<Vec<PluginFilter>> {
        let change = BindingChange::BindElse(filter, otherwise);
        self.bind(topic, group, change).await
    }

    async fn bind(
        &self,
        topic: &str,
        group: &str,
        change: BindingChange,
    ) -> Result<Vec<PluginFilter>> {
        self.describe_topic(topic).await?;
        let request = ChangeBindings {
            topic: TopicName::new(topic)?,
            group: GroupName::new(group)?,
            change,
        };
        let mut bound = Vec::new();
        for broker in self.some_broker().await? {
            let reply = self.client().call(&broker.address, &request).await?;
            bound = reply.filters;
        }
        Ok(bound)
    }

    /// Takes a bound filter away again, on every broker. What it has rejected is not delivered any more. Returns
    /// all that is bound now.
    pub async fn unbind_filter(
        &self,
        topic: &str,
        group: &str,
        plugin: &str,
    ) -> Result<Vec<PluginFilter>> {
        let request = ChangeBindings {
            topic: TopicName::new(topic)?,
            group: GroupName::new(group)?,
            change: BindingChange::Unbind(PluginName::new(plugin)?),
        };
        let replies = self.ask_all_but(Code::NOT_BOUND, &request).await?;
        let mut replies = replies.into_iter();
        Ok(replies.next().map(|(_, it)| it.filters).unwrap_or_default())
    }

    /// What is bound to groups, broker by broker.
    pub async fn list_bindings(&self) -> Result<Vec<(BrokerName, GroupBindings)>> {
        let brokers = self.some_broker().await?;
        self.listed(brokers, &ListBindings {}, |it| it.bindings)
            .await
    }

    /// What stands in for bound filters, and which filters are not asked for a while, broker by broker.
    pub async fn binding_states(&self) -> Result<Vec<(BrokerName, BindingStatesReply)>> {
        self.listed_by_newer(&BindingStates {}, |it| vec![it]).await
    }

    /// All plugins of all brokers, those that are part of the brokers included.
    pub async fn list_plugins(&self) -> Result<Vec<(BrokerName, PluginSummary)>> {
        let brokers = self.some_broker().await?;
        self.listed(brokers, &ListPlugins {}, |it| it.plugins).await
    }

    /// Which plugins fail, how, what became of the messages, and who is quarantined, broker by broker.
    pub async fn plugin_health(&self) -> Result<Vec<(BrokerName, VersionHealth)>> {
        let brokers = self.some_broker().await?;
        self.listed(brokers, &PluginHealth {}, |it| it.versions)
            .await
    }

    /// What was done instead where selectors, strategies and bound filters failed, broker by broker.
    pub async fn plugin_fall_backs(&self) -> Result<Vec<(BrokerName, FallBacks)>> {
        let request = PluginFallBacks {};
        self.listed_by_newer(&request, |it| it.versions).await
    }

    /// What a selector or strategy that is tried in the shadow would have decided otherwise, broker by broker.
    pub async fn trial_moves(&self, name: &str) -> Result<Vec<(BrokerName, TrialMove)>> {
        let name = PluginName::new(name)?;
        self.listed_by_newer(&TrialMoves { name }, |it| it.moves)
            .await
    }

    /// Reads what the guests of a plugin say, beginning with what the brokers keep.
    pub fn plugin_log(&self, name: &str) -> Result<PluginLog> {
        Ok(PluginLog {
            admin: self.clone(),
            name: PluginName::new(name)?,
            next: HashMap::new(),
        })
    }

    /// A plugin on each broker that has it.
    pub async fn describe_plugin(
        &self,
        name: &str,
    ) -> Result<Vec<(BrokerName, DescribePluginReply)>> {
        let name = PluginName::new(name)?;
        self.ask_those_who_have_it(&DescribePlugin { name }).await
    }
}

/// What the guests of a plugin say, broker by broker.
#[derive(Debug)]
pub struct PluginLog {
    admin: Admin,
    name: PluginName,
    next: HashMap<BrokerName, u64>,
}

impl PluginLog {
    /// What has been said since this was asked last; an error when no broker knows the plugin.
    pub async fn news(&mut self) -> Result<Vec<(BrokerName, PluginLogsReply)>> {
        let (mut all, mut unknown) = (Vec::new(), None);
        for entry in self.admin.some_broker().await? {
            let request = PluginLogs {
                name: self.name.clone(),
                from: self.next.get(&entry.broker).copied(),
                max_lines: wire::PLUGIN_LINES,
            };
            match self.admin.client().call(&entry.address, &request).await {
                Ok(reply) => {
                    self.next.insert(entry.broker.clone(), reply.next);
                    all.push((entry.broker, reply));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => unknown = Some(error),
                Err(error) => return Err(error),
            }
        }
        match unknown {
            Some(error) if all.is_empty() => Err(error),
            _ => Ok(all),
        }
    }
}
