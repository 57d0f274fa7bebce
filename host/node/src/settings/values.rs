//! How values are read: a text becomes what it means, or the reason why it does not, which follows the key
//! and the value in a sentence.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use quern_protocol::{Durability, limits};
use quern_store::{ReadMode, Retention};

use super::key::{Draft, Expanded};

pub(super) fn only(value: &str, only: &str) -> Result<(), String> {
    match value == only {
        true => Ok(()),
        false => Err("cannot be had here".to_owned()),
    }
}

pub(super) fn number<T: std::str::FromStr>(value: &str) -> Result<T, String> {
    value.parse().map_err(|_| "is no such number".to_owned())
}

pub(super) fn at_least<T: PartialOrd>(least: T, number: T) -> Result<T, String> {
    match number >= least {
        true => Ok(number),
        false => Err("is too small".to_owned()),
    }
}

pub(super) fn at_most<T: PartialOrd>(most: T, number: T) -> Result<T, String> {
    match number <= most {
        true => Ok(number),
        false => Err("is too large".to_owned()),
    }
}

pub(super) fn switch(value: &str) -> Result<bool, String> {
    value.parse().map_err(|_| "is neither".to_owned())
}

pub(super) fn word(value: &str) -> Result<String, String> {
    let is_word = (1..=limits::NAME).contains(&value.len()) && !value.contains(char::is_control);
    match is_word {
        true => Ok(value.to_owned()),
        false => Err("is no such name".to_owned()),
    }
}

pub(super) fn ip(value: &str) -> Result<IpAddr, String> {
    value.parse().map_err(|_| "is no address".to_owned())
}

pub(super) fn listen(value: &str) -> Result<Expanded, String> {
    let address: SocketAddr = value
        .parse()
        .map_err(|_| "is no IP address and port, as in 127.0.0.1:10911 or [::]:10911".to_owned())?;
    Ok(vec![
        ("bindAddress", address.ip().to_string()),
        ("listenPort", address.port().to_string()),
    ])
}

pub(super) fn host_port(value: &str) -> Result<String, String> {
    let parts = value.rsplit_once(':');
    let is_address = parts.is_some_and(|(host, port)| {
        word(host).is_ok() && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    match is_address {
        true => Ok(value.to_owned()),
        false => Err(format!("has {value:?}, which is no HOST:PORT")),
    }
}

pub(super) fn directory(value: &str) -> Result<PathBuf, String> {
    match value.is_empty() || value.contains('\0') {
        true => Err("is no directory".to_owned()),
        false => Ok(PathBuf::from(value)),
    }
}

pub(super) fn name_servers(draft: &mut Draft, value: &str) -> Result<(), String> {
    let addresses = value.split([',', ';']).map(str::trim);
    let addresses = addresses.filter(|address| !address.is_empty());
    draft.config.name_servers = addresses.map(host_port).collect::<Result<_, _>>()?;
    Ok(())
}

/// A number, or `None` for the word that stands for its absence.
pub(super) fn unless_word(value: &str, word: &str) -> Result<Option<u64>, String> {
    match value == word {
        true => Ok(None),
        false => number(value).map(Some),
    }
}

pub(super) fn or_word(number: Option<u64>, word: &str) -> String {
    number.map_or_else(|| word.to_owned(), |number| number.to_string())
}

pub(super) fn segment_size(draft: &mut Draft, value: &str) -> Result<(), String> {
    const LEAST: u64 = 64 * 1024;
    draft.config.segment_size = match unless_word(value, "auto")? {
        Some(size) => Some(at_least(LEAST, size)?),
        None => None,
    };
    Ok(())
}

pub(super) fn flush_disk_type(draft: &mut Draft, value: &str) -> Result<(), String> {
    draft.config.durability = match value {
        "SYNC_FLUSH" => Durability::Local,
        "ASYNC_FLUSH" => Durability::Fast,
        class => class.parse().map_err(|_| "names no class")?,
    };
    Ok(())
}

pub(super) fn template_type(draft: &mut Draft, value: &str) -> Result<(), String> {
    draft.config.topic_template.messages = match value {
        "mixed" => None,
        named => Some(named.parse().map_err(|_| "names no type of message")?),
    };
    Ok(())
}

pub(super) fn template_durability(draft: &mut Draft, value: &str) -> Result<(), String> {
    draft.config.topic_template.durability = match value {
        "default" => None,
        "local" => Some(Durability::Local),
        "fast" => Some(Durability::Fast),
        _ => return Err("is no class a broker can give alone".to_owned()),
    };
    Ok(())
}

pub(super) fn template_retention(draft: &mut Draft, value: &str) -> Result<(), String> {
    draft.config.topic_template.retention = match value {
        "default" => None,
        value => {
            let ms = delay(value)?;
            if !limits::TOPIC_RETENTION_MS.contains(&ms) {
                return Err("is not within 1s and 3660d".to_owned());
            }
            Some(Duration::from_millis(ms))
        }
    };
    Ok(())
}

pub(super) fn template_cleanup(draft: &mut Draft, value: &str) -> Result<(), String> {
    draft.config.topic_template.cleanup = value.parse().map_err(|_| "names no policy")?;
    Ok(())
}

pub(super) fn hours(draft: &mut Draft, value: &str) -> Result<(), String> {
    let hours = value.split([',', ';']).map(str::trim);
    let hours = hours.filter(|hour| !hour.is_empty());
    let hours = hours.map(|hour| at_most(23, number::<u8>(hour)?));
    let hours: Vec<u8> = hours.collect::<Result<_, _>>()?;
    if hours.is_empty() {
        return Err("names no hour".to_owned());
    }
    draft.config.retention.hours = hours;
    Ok(())
}

pub(super) fn shown_hours(retention: &Retention) -> String {
    let hours = retention.hours.iter().map(|hour| format!("{hour:02}"));
    hours.collect::<Vec<_>>().join(";")
}

pub(super) fn store_read(draft: &mut Draft, value: &str) -> Result<(), String> {
    draft.config.read_mode = match value {
        "pread" => ReadMode::Pread,
        "mmap" => ReadMode::Mmap,
        _ => return Err("is neither".to_owned()),
    };
    Ok(())
}

/// Units of delays and what each has of ms, the largest first.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// A number of ms, s, m, h or d, in ms.
pub fn delay(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = UNITS
        .iter()
        .find(|(unit, _)| *unit == &text[digits.len()..]);
    let Some((_, factor)) = unit else {
        return Err("a delay is a number of ms, s, m, h or d, as 30s".to_owned());
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("{text:?} has no number"))?;
    let ms = number.checked_mul(*factor);
    ms.ok_or_else(|| format!("{text:?} is too long"))
}

pub(super) fn shown_delay(delay: &Duration) -> String {
    let ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    let fits = |(_, factor): &&(&str, u64)| ms.is_multiple_of(*factor);
    let unit = UNITS.iter().find(fits);
    unit.map_or_else(String::new, |(unit, factor)| {
        format!("{}{unit}", ms / factor)
    })
}

pub(super) fn delay_levels(draft: &mut Draft, value: &str) -> Result<(), String> {
    let levels = value.split_whitespace();
    let levels = levels.map(|level| {
        let ms = delay(level).map_err(|_| format!("has {level:?}, which is no delay"))?;
        Ok(Duration::from_millis(ms))
    });
    draft.config.delays.levels = levels.collect::<Result<_, String>>()?;
    Ok(())
}

pub(super) fn shown_levels(levels: &[Duration]) -> String {
    levels.iter().map(shown_delay).collect::<Vec<_>>().join(" ")
}

/// Milliseconds, or a number with a unit.
pub(super) fn take_delay(setting: &mut Duration, value: &str) -> Result<(), String> {
    let ms = value.parse().or_else(|_| delay(value));
    *setting = Duration::from_millis(ms.map_err(|_| "is no delay")?);
    Ok(())
}

/// Seconds, or a number with a unit.
pub(super) fn longest_delay(draft: &mut Draft, value: &str) -> Result<(), String> {
    draft.config.delays.longest = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => Duration::from_millis(delay(value).map_err(|_| "is no delay")?),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_have_units() {
        assert_eq!(delay("500ms"), Ok(500));
        assert_eq!(delay("2h"), Ok(7_200_000));
        assert_eq!(delay("40d"), Ok(3_456_000_000));
        for bad in ["", "10", "s", "1w", "1 s", "99999999999999999d"] {
            assert!(delay(bad).is_err(), "{bad}");
        }
        for text in ["500ms", "90s", "2h", "40d"] {
            let ms = delay(text).unwrap_or_default();
            assert_eq!(shown_delay(&Duration::from_millis(ms)), text);
        }
    }
}
