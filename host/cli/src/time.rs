//! Times and delays, as people write and read them.

use jiff::Timestamp;

pub(crate) use quern_node::settings::delay;

/// A moment: RFC 3339, or ms since 1970. In ms since 1970.
pub(crate) fn moment(text: &str) -> Result<u64, String> {
    if let Ok(ms) = text.parse() {
        return Ok(ms);
    }
    let parsed: Result<Timestamp, _> = text.parse();
    let ms = parsed.ok().map(|it| it.as_millisecond());
    ms.and_then(|ms| u64::try_from(ms).ok())
        .ok_or_else(|| "a time is as 2030-01-31T08:00:00Z, or ms since 1970".to_owned())
}

/// A moment, or an age: `15m` is a quarter of an hour ago. In ms since 1970.
pub(crate) fn moment_or_age(text: &str) -> Result<u64, String> {
    let Ok(ago) = text.parse::<jiff::SignedDuration>() else {
        return moment(text).map_err(|why| format!("{why}, or an age, as 15m"));
    };
    let at = (Timestamp::now() - ago.abs()).as_millisecond();
    Ok(u64::try_from(at).unwrap_or(0))
}

/// ms since 1970, as a moment to read.
pub(crate) fn shown(ms: u64) -> String {
    let at = i64::try_from(ms).ok().map(Timestamp::from_millisecond);
    match at {
        Some(Ok(at)) => format!("{at:.3}"),
        _ => ms.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_they_are_shown() {
        for ms in [0, 1_700_000_000_123] {
            assert_eq!(moment(&shown(ms)), Ok(ms));
            assert_eq!(moment(&ms.to_string()), Ok(ms));
        }
        assert_eq!(moment("2026-11-27T18:00:00+01:00"), Ok(1_795_798_800_000));
        let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap();
        let hour_ago = moment_or_age("1h").unwrap();
        assert!((3_600_000..3_700_000).contains(&(now - hour_ago)));
        assert_eq!(moment_or_age("1700000000123"), Ok(1_700_000_000_123));
        for bad in ["", "tomorrow", "2026-11-27", "-5", "1960-01-01T00:00:00Z"] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }
}
