//! Byte quantities as Kubernetes writes them: `10Gi`, `500M`, or a plain number of bytes.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::limits;

/// The pattern in the schema.
pub(crate) const PATTERN: &str = "^[0-9]+(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$";

/// A number of bytes: an integer, or text with a decimal (`k`, `M`, `G`, `T`, `P`) or binary (`Ki` … `Pi`)
/// suffix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ByteQuantity {
    /// Bytes.
    Bytes(i64),
    /// Digits with an optional suffix.
    Text(String),
}

/// Why a value is no byte quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuantity {
    /// Not digits with a known suffix.
    #[error("must be a number of bytes, or a quantity such as 500Mi or 10Gi")]
    Syntax,
    /// Below one byte.
    #[error("must be at least 1 byte; leave the field out for no limit")]
    TooSmall,
    /// More than 2^63 - 1 bytes.
    #[error("must be below 8192Pi")]
    TooLarge,
}

impl ByteQuantity {
    /// The number of bytes, 1 to 2^63 - 1 (what a database integer holds).
    ///
    /// # Errors
    /// [`InvalidQuantity`].
    pub fn parse(&self) -> Result<u64, InvalidQuantity> {
        let bytes = match self {
            ByteQuantity::Bytes(bytes) => u64::try_from(*bytes).map_err(|_| InvalidQuantity::TooSmall)?,
            ByteQuantity::Text(text) => parse_text(text)?,
        };
        match bytes {
            0 => Err(InvalidQuantity::TooSmall),
            bytes if i64::try_from(bytes).is_err() => Err(InvalidQuantity::TooLarge),
            bytes => Ok(bytes),
        }
    }
}

fn parse_text(text: &str) -> Result<u64, InvalidQuantity> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, suffix) = text.split_at(digits_end);
    let factor = match suffix {
        "" => 1,
        "k" => 1000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "P" => 1_000_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "Pi" => 1 << 50,
        _ => return Err(InvalidQuantity::Syntax),
    };
    if digits.is_empty() || text.len() > limits::SCALAR as usize {
        return Err(InvalidQuantity::Syntax);
    }
    let number: u64 = digits.parse().map_err(|_| InvalidQuantity::TooLarge)?;
    number.checked_mul(factor).ok_or(InvalidQuantity::TooLarge)
}

impl JsonSchema for ByteQuantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ByteQuantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "pattern": PATTERN,
            "maxLength": limits::SCALAR,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_and_suffixes() {
        for (value, want) in [
            (ByteQuantity::Bytes(1), Ok(1)),
            (ByteQuantity::Bytes(0), Err(InvalidQuantity::TooSmall)),
            (ByteQuantity::Bytes(-1), Err(InvalidQuantity::TooSmall)),
            (ByteQuantity::Text("10Gi".into()), Ok(10 << 30)),
            (ByteQuantity::Text("500M".into()), Ok(500_000_000)),
            (ByteQuantity::Text("42".into()), Ok(42)),
            (ByteQuantity::Text("0Gi".into()), Err(InvalidQuantity::TooSmall)),
            (ByteQuantity::Text("10GB".into()), Err(InvalidQuantity::Syntax)),
            (ByteQuantity::Text("1.5Gi".into()), Err(InvalidQuantity::Syntax)),
            (ByteQuantity::Text("Gi".into()), Err(InvalidQuantity::Syntax)),
            (ByteQuantity::Text(String::new()), Err(InvalidQuantity::Syntax)),
            (ByteQuantity::Text("8192Pi".into()), Err(InvalidQuantity::TooLarge)),
            (ByteQuantity::Text("99999999999999999999".into()), Err(InvalidQuantity::TooLarge)),
        ] {
            assert_eq!(value.parse(), want, "{value:?}");
        }
    }
}
