//! `quern group set`: how often, and how much later, a group gets again what it has given back.

use quern_client::{BrokerName, GroupSetting};
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
}

/// Changes what is given, and shows what holds.
pub(crate) async fn set(
    group: &str,
    retries: Option<u16>,
    retry_delays: Vec<u32>,
    options: &Options,
) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let delays = (!retry_delays.is_empty()).then_some(GroupSetting::RetryDelays(retry_delays));
    let settings = retries.map(GroupSetting::Retries).into_iter().chain(delays);
    let holds = client
        .admin()
        .change_group(group, settings.collect())
        .await?;
    let row = |(broker, settings): (BrokerName, Vec<GroupSetting>)| {
        let mut row = SettingRow {
            broker: broker.to_string(),
            retries: 0,
            retry_delays_ms: Vec::new(),
        };
        for setting in settings {
            match setting {
                GroupSetting::Retries(retries) => row.retries = retries,
                GroupSetting::RetryDelays(delays) => row.retry_delays_ms = delays,
            }
        }
        row
    };
    let rows: Vec<_> = holds.into_iter().map(row).collect();
    output::rows(
        options.output,
        &rows,
        &["BROKER", "RETRIES", "DELAYS"],
        |row| {
            let delays = row
                .retry_delays_ms
                .iter()
                .map(|ms| behind(Some(u64::from(*ms))));
            let delays = delays.collect::<Vec<_>>().join(", ");
            vec![row.broker.clone(), row.retries.to_string(), delays]
        },
        "there are no brokers",
    )
}
