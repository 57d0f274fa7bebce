//! `quern group create` and `set`: whether a group may consume, how often, and how much later, a group gets again what it has given back.

use clap::{Args, ValueEnum};
use quern_client::{BrokerName, Error, FilterFailure, ForbiddenTopic, GroupSetting, TopicName};
use serde::Serialize;

use crate::connect::Options;
use crate::failure::Failure;
use crate::group::behind;
use crate::{output, time};

/// A delay, in ms.
pub(crate) fn delay(text: &str) -> Result<u32, String> {
    let ms = time::delay(text)?;
    u32::try_from(ms).map_err(|_| format!("{text:?} is too long"))
}

#[derive(Serialize)]
struct SettingRow {
    broker: String,
    retries: u16,
    retry_delays_ms: Vec<u32>,
    consume: bool,
    on_filter_failure: OnFailure,
    broadcast: bool,
    from_min: bool,
    forbidden: Vec<Forbidden>,
}

/// A topic the group may not consume.
#[derive(Serialize)]
struct Forbidden {
    topic: String,
    by: String,
}

/// What can be set of a group.
#[derive(Debug, Args)]
pub(crate) struct Settings {
    /// A message is given to the group so many times more before it is a dead letter. Usually 16.
    #[arg(long, value_name = "COUNT")]
    retries: Option<u16>,
    /// How long each time is waited: 10s,30s,1m; the last for all that follow. Usually 10s to 2h.
    #[arg(long, value_name = "DELAYS", value_delimiter = ',', value_parser = delay)]
    retry_delays: Vec<u32>,
    /// Whether the group may consume (consumeEnable). Off, its members keep their queues and wait.
    #[arg(long, value_enum)]
    consume: Option<Switch>,
    /// What becomes of a message a filter of the group fails on.
    #[arg(long, value_enum, value_name = "WHAT")]
    on_filter_failure: Option<OnFailure>,
    /// Whether its consumers may broadcast, so that each takes every message (consumeBroadcastEnable).
    #[arg(long, value_enum)]
    broadcast: Option<Switch>,
    /// Whether a group that has committed nothing may begin with what is there (consumeFromMinEnable). Off, it
    /// begins with what comes once it is there, whatever its consumers ask for.
    #[arg(long, value_enum)]
    from_min: Option<Switch>,
    /// Keep the group from this topic; may be given several times. Its members wait, new ones are refused.
    #[arg(long, value_name = "TOPIC")]
    forbid: Vec<String>,
    /// Let it consume this topic again.
    #[arg(long, value_name = "TOPIC")]
    allow: Vec<String>,
    /// Who forbids it, for those who are refused. Usually you: USER@HOST.
    #[arg(long, value_name = "NAME", requires = "forbid")]
    by: Option<String>,
}

/// Who gives this command, as far as the system tells.
fn somebody() -> String {
    let user = ["USER", "LOGNAME"].into_iter();
    let user = user.filter_map(|name| std::env::var(name).ok());
    let user = user.into_iter().find(|it| !it.is_empty());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut name = user.unwrap_or_else(|| "somebody".to_owned());
    if !host.trim().is_empty() {
        name = format!("{name}@{}", host.trim());
    }
    name.truncate(name.floor_char_boundary(64));
    name
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum OnFailure {
    /// It waits, and what is behind it; the filter is asked again. The usual.
    Stall,
    /// The group gets it, with the property QUERN_UNJUDGED that says why.
    Pass,
    /// It becomes a dead letter of the group; what is behind it goes on.
    Park,
}

impl OnFailure {
    fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |it| it.get_name().to_owned())
    }
}

impl From<OnFailure> for FilterFailure {
    fn from(it: OnFailure) -> Self {
        match it {
            OnFailure::Stall => Self::Stall,
            OnFailure::Pass => Self::Pass,
            OnFailure::Park => Self::Park,
        }
    }
}

impl From<FilterFailure> for OnFailure {
    fn from(it: FilterFailure) -> Self {
        match it {
            FilterFailure::Stall => Self::Stall,
            FilterFailure::Pass => Self::Pass,
            FilterFailure::Park => Self::Park,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

impl Settings {
    fn all(self) -> Result<Vec<GroupSetting>, Failure> {
        let delays = self.retry_delays;
        let delays = (!delays.is_empty()).then_some(GroupSetting::RetryDelays(delays));
        let consume = self
            .consume
            .map(|it| GroupSetting::Consume(it == Switch::On));
        let retries = self.retries.map(GroupSetting::Retries);
        let on_failure = self.on_filter_failure;
        let on_failure = on_failure.map(|it| GroupSetting::OnFilterFailure(it.into()));
        let is_on = |it: Switch| it == Switch::On;
        let broadcast = self.broadcast.map(|it| GroupSetting::Broadcast(is_on(it)));
        let from_min = self.from_min.map(|it| GroupSetting::FromMin(is_on(it)));
        let all = [retries, delays, consume, on_failure, broadcast, from_min];
        let mut all: Vec<_> = all.into_iter().flatten().collect();
        let by = self.by.unwrap_or_else(somebody);
        for topic in self.forbid {
            let topic = TopicName::new(topic).map_err(Error::from)?;
            let by = by.clone();
            all.push(GroupSetting::Forbid(ForbiddenTopic { topic, by }));
        }
        for topic in self.allow {
            let topic = TopicName::new(topic).map_err(Error::from)?;
            all.push(GroupSetting::Allow(topic));
        }
        Ok(all)
    }
}

/// Makes a group on every broker, for those that do not let consumers make it.
pub(crate) async fn create(
    group: &str,
    settings: Settings,
    options: &Options,
) -> Result<(), Failure> {
    let mut settings = settings.all()?;
    if settings.is_empty() {
        settings.push(GroupSetting::Consume(true));
    }
    change(group, settings, options).await
}

/// Changes what is given, and shows what holds.
pub(crate) async fn set(group: &str, settings: Settings, options: &Options) -> Result<(), Failure> {
    change(group, settings.all()?, options).await
}

async fn change(
    group: &str,
    settings: Vec<GroupSetting>,
    options: &Options,
) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let holds = client.admin().change_group(group, settings).await?;
    let row = |(broker, settings): (BrokerName, Vec<GroupSetting>)| {
        let mut row = SettingRow {
            broker: broker.to_string(),
            retries: 0,
            retry_delays_ms: Vec::new(),
            consume: true,
            on_filter_failure: OnFailure::Stall,
            broadcast: true,
            from_min: true,
            forbidden: Vec::new(),
        };
        for setting in settings {
            match setting {
                GroupSetting::Retries(retries) => row.retries = retries,
                GroupSetting::RetryDelays(delays) => row.retry_delays_ms = delays,
                GroupSetting::Consume(consume) => row.consume = consume,
                GroupSetting::OnFilterFailure(policy) => row.on_filter_failure = policy.into(),
                GroupSetting::Broadcast(broadcast) => row.broadcast = broadcast,
                GroupSetting::FromMin(from_min) => row.from_min = from_min,
                GroupSetting::Forbid(it) => row.forbidden.push(Forbidden {
                    topic: it.topic.to_string(),
                    by: it.by,
                }),
                GroupSetting::Allow(_) => {}
            }
        }
        row
    };
    let rows: Vec<_> = holds.into_iter().map(row).collect();
    output::rows(
        options.output,
        &rows,
        &[
            "BROKER",
            "CONSUME",
            "BROADCAST",
            "FROM MIN",
            "ON FAILURE",
            "RETRIES",
            "DELAYS",
            "FORBIDDEN",
        ],
        |row| {
            let delays = row
                .retry_delays_ms
                .iter()
                .map(|ms| behind(Some(u64::from(*ms))));
            let delays = delays.collect::<Vec<_>>().join(", ");
            let switch = |on: bool| if on { "on" } else { "off" }.to_owned();
            vec![
                row.broker.clone(),
                switch(row.consume),
                switch(row.broadcast),
                switch(row.from_min),
                row.on_filter_failure.name(),
                row.retries.to_string(),
                delays,
                forbidden(&row.forbidden),
            ]
        },
        "there are no brokers",
    )
}

fn forbidden(topics: &[Forbidden]) -> String {
    let topics = topics.iter();
    let topics: Vec<_> = topics
        .map(|it| format!("{} by {}", it.topic, it.by))
        .collect();
    match topics.is_empty() {
        true => "-".to_owned(),
        false => topics.join(", "),
    }
}
