//! Durations as Kubernetes writes them: `5m`, `1h30m`, `1.5s`, `0s`.

use std::{borrow::Cow, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::limits;

/// Longest duration a manifest may ask for: ten years, far from any overflow of a clock.
pub const MAX_DURATION: Duration = Duration::from_secs(87_600 * 3600);

/// The pattern in the schema.
pub(crate) const PATTERN: &str = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$";

/// A duration as text: one or more decimal numbers with a unit `h`, `m`, `s` or `ms`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DurationString(pub String);

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDuration {
    /// Not numbers with units.
    #[error("must be a duration such as 90s, 5m or 1h30m")]
    Syntax,
    /// Days and longer units, which Kubernetes does not know.
    #[error("must be a duration in h, m, s or ms; there is no longer unit, so write 720h for 30 days")]
    LongUnit,
    /// More than [`MAX_DURATION`].
    #[error("must be at most 87600h (ten years)")]
    TooLong,
}

impl DurationString {
    /// Reads the text.
    ///
    /// # Errors
    /// [`InvalidDuration`]; the text itself is not repeated.
    pub fn parse(&self) -> Result<Duration, InvalidDuration> {
        let mut rest = self.0.as_str();
        let mut total = Duration::ZERO;
        if rest.is_empty() {
            return Err(InvalidDuration::Syntax);
        }
        while !rest.is_empty() {
            let number = take_while(&mut rest, |c| c.is_ascii_digit() || c == '.');
            let unit = take_while(&mut rest, |c| c.is_ascii_alphabetic());
            let seconds = seconds(number)? * unit_seconds(unit)?;
            let part = Duration::try_from_secs_f64(seconds).map_err(|_| InvalidDuration::TooLong)?;
            total = total.checked_add(part).ok_or(InvalidDuration::TooLong)?;
        }
        if total > MAX_DURATION { Err(InvalidDuration::TooLong) } else { Ok(total) }
    }
}

impl From<Duration> for DurationString {
    /// In one unit, the largest that divides it.
    fn from(duration: Duration) -> Self {
        let (millis, seconds) = (duration.as_millis(), duration.as_secs());
        DurationString(match (millis % 1_000, seconds % 60, seconds % 3_600) {
            (0, 0, 0) if seconds > 0 => format!("{}h", seconds / 3_600),
            (0, 0, _) if seconds > 0 => format!("{}m", seconds / 60),
            (0, _, _) => format!("{seconds}s"),
            _ => format!("{millis}ms"),
        })
    }
}

fn take_while<'a>(rest: &mut &'a str, wanted: impl Fn(char) -> bool) -> &'a str {
    let end = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
    let (head, tail) = rest.split_at(end);
    *rest = tail;
    head
}

fn seconds(number: &str) -> Result<f64, InvalidDuration> {
    let framed = number.starts_with(|c: char| c.is_ascii_digit()) && number.ends_with(|c: char| c != '.');
    if !framed || number.len() > limits::SCALAR as usize {
        return Err(InvalidDuration::Syntax);
    }
    number.parse().map_err(|_| InvalidDuration::Syntax)
}

fn unit_seconds(unit: &str) -> Result<f64, InvalidDuration> {
    match unit {
        "ms" => Ok(0.001),
        "s" => Ok(1.0),
        "m" => Ok(60.0),
        "h" => Ok(3600.0),
        "d" | "w" | "y" => Err(InvalidDuration::LongUnit),
        _ => Err(InvalidDuration::Syntax),
    }
}

impl From<&str> for DurationString {
    fn from(text: &str) -> Self {
        DurationString(text.to_owned())
    }
}

impl JsonSchema for DurationString {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": PATTERN, "maxLength": limits::SCALAR })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_kubernetes_writes() {
        for (text, millis) in [
            ("0s", 0),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1.5s", 1500),
            ("250ms", 250),
            ("720h", 2_592_000_000),
        ] {
            assert_eq!(DurationString::from(text).parse(), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong_with_the_rest() {
        use InvalidDuration::*;
        for (text, want) in [
            ("", Syntax),
            ("5", Syntax),
            ("m", Syntax),
            ("-5m", Syntax),
            ("5 m", Syntax),
            ("1.s", Syntax),
            (".5s", Syntax),
            ("1..5s", Syntax),
            ("30d", LongUnit),
            ("1w", LongUnit),
            ("87601h", TooLong),
            ("99999999999999999999999h", TooLong),
        ] {
            assert_eq!(DurationString::from(text).parse(), Err(want), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_agrees_with_the_schema(text in "\\PC{0,12}|([0-9.]{1,8}(ms|s|m|h|d)){0,3}") {
            let schema = jsonschema::validator_for(
                &serde_json::json!({ "pattern": PATTERN, "maxLength": limits::SCALAR }),
            ).unwrap();
            let parsed = DurationString(text.clone()).parse();
            if parsed.is_ok() {
                prop_assert!(schema.is_valid(&text.clone().into()), "{text}");
            } else if parsed != Err(InvalidDuration::TooLong) {
                prop_assert!(!schema.is_valid(&text.clone().into()), "{text}");
            }
        }
    }
}
