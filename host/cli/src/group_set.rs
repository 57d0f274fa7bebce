//! `quern group set`: how often, and how much later, a group gets again what it has given back.

use quern_client::{BrokerName, GroupSetting};
use serde::Serialize;

use crate::connect::Options;
use crate::failure::Failure;
use crate::group::behind;
use crate::output;

/// A number of ms, s, m or h, in ms.
pub(crate) fn delay(text: &str) -> Result<u32, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("a delay is a number of ms, s, m or h, as 30s".to_owned()),
    };
    let number: u32 = digits
        .parse()
        .map_err(|_| format!("{text:?} has no number"))?;
    let ms = number.checked_mul(factor);
    ms.ok_or_else(|| format!("{text:?} is too long"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_have_units() {
        assert_eq!(delay("500ms"), Ok(500));
        assert_eq!(delay("2h"), Ok(7_200_000));
        for bad in ["", "10", "s", "9999999h", "1d", "1 s"] {
            assert!(delay(bad).is_err(), "{bad}");
        }
    }
}
