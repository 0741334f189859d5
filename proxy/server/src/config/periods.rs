//! Durations on the command line and in the environment, written as in manifests.

use std::time::Duration;

use artifactapi_crds::duration::DurationString;
use clap::Args;

use crate::upkeep::collection::Schedule;

/// How often when nobody says.
const INTERVAL: &str = "1h";
/// How long when nobody says.
const GRACE: &str = "24h";

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

/// A duration as manifests have them.
///
/// # Errors
/// What is wrong, for whoever wrote it.
pub fn period(text: &str) -> Result<Duration, String> {
    DurationString(text.to_owned()).parse().map_err(|error| error.to_string())
}
