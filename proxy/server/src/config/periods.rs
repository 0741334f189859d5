//! Durations on the command line and in the environment, written as in manifests.

use std::time::Duration;

use artifactapi_crds::duration::DurationString;
use clap::Args;

use crate::upkeep::collection::Schedule;

/// How often when nobody says.
const INTERVAL: &str = "1h";
/// How long when nobody says.
const GRACE: &str = "24h";
/// How long requests under way may take when nobody says.
const DRAIN: &str = "60s";

/// Flags of the collection in the background.
#[derive(Args, Clone, Debug)]
pub struct CollectionFlags {
    /// How often what is no longer needed is collected
    #[arg(long, env = "ARTIFACTAPI_GC_INTERVAL", value_name = "DURATION", default_value = INTERVAL)]
    pub gc_interval: String,
    /// How long bytes that nothing names are kept before they are condemned, and again before they are deleted
    #[arg(long, env = "ARTIFACTAPI_GC_GRACE", value_name = "DURATION", default_value = GRACE)]
    pub gc_grace: String,
}

impl CollectionFlags {
    /// As written, or what they are when nobody says.
    pub fn of(interval: Option<String>, grace: Option<String>) -> Self {
        CollectionFlags {
            gc_interval: interval.unwrap_or_else(|| INTERVAL.into()),
            gc_grace: grace.unwrap_or_else(|| GRACE.into()),
        }
    }

    /// Checks them.
    pub fn schedule(&self, errors: &mut Vec<String>) -> Option<Schedule> {
        let mut read = |flag: &str, text: &str| {
            let period = period(text).map_err(|why| errors.push(format!("{flag}: {text:?} {why}")));
            period.ok()
        };
        let interval = read("--gc-interval (ARTIFACTAPI_GC_INTERVAL)", &self.gc_interval);
        let grace = read("--gc-grace (ARTIFACTAPI_GC_GRACE)", &self.gc_grace);
        if interval.is_some_and(|interval| interval.is_zero()) {
            errors.push("--gc-interval (ARTIFACTAPI_GC_INTERVAL): must be longer than nothing".into());
            return None;
        }
        Some(Schedule { interval: interval?, grace: grace? })
    }
}

/// Flag of the orderly end.
#[derive(Args, Clone, Debug)]
pub struct DrainFlag {
    /// How long requests under way may take once told to stop; whoever kills what does not end has to wait longer
    #[arg(long, env = "ARTIFACTAPI_DRAIN", value_name = "DURATION", default_value = DRAIN)]
    pub drain: String,
}

impl DrainFlag {
    /// As written, or what it is when nobody says.
    pub fn of(drain: Option<String>) -> Self {
        DrainFlag { drain: drain.unwrap_or_else(|| DRAIN.into()) }
    }

    /// Checks it.
    pub fn time(&self, errors: &mut Vec<String>) -> Option<Duration> {
        let text = self.drain.as_str();
        let checked = match period(text) {
            Ok(time) if time < Duration::from_secs(1) => Err("must be a second or more, as 60s".into()),
            read => read,
        };
        checked.map_err(|why| errors.push(format!("--drain (ARTIFACTAPI_DRAIN): {text:?} {why}"))).ok()
    }
}

/// A duration as manifests have them, or whole days as in `30d`: people think of a token's life in days.
///
/// # Errors
/// What is wrong, for whoever wrote it.
pub fn long_period(text: &str) -> Result<Duration, String> {
    let Some(days) = text.strip_suffix('d') else { return period(text) };
    let days: u32 = days.parse().map_err(|_| "must be a duration such as 12h or 30d".to_owned())?;
    period(&format!("{}h", u64::from(days) * 24))
}

/// A duration as manifests have them.
///
/// # Errors
/// What is wrong, for whoever wrote it.
pub fn period(text: &str) -> Result<Duration, String> {
    DurationString(text.to_owned()).parse().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_may_be_counted_in_days() {
        let hours = |n: u64| Ok(Duration::from_secs(n * 3600));
        for (text, want) in
            [("30d", hours(720)), ("12h", hours(12)), ("0s", hours(0)), ("3650d", hours(87_600))]
        {
            assert_eq!(long_period(text), want, "{text}");
        }
        for bad in ["", "d", "1.5d", "-1d", "3651d", "5", "1w", "99999999999d"] {
            assert!(long_period(bad).is_err(), "{bad}");
        }
    }
}
