//! How much of the data directory's file system stays free.

use artifactapi_crds::quantity::ByteQuantity;
use artifactapi_engine::gc::room::MinFree;
use clap::Args;

/// Most hundredths that can be kept free: a cache that may hold nothing is none.
const MOST: u8 = 90;

/// Flag of the room that stays free.
#[derive(Args, Clone, Debug)]
pub struct RoomFlag {
    /// How much of the file system of the data directory stays free, as 5Gi or 10%. When less is, the least recently
    /// used of what Remotes have cached goes, and never what was pushed; 0 turns that off [default: 10%, at most 10Gi]
    #[arg(long, env = "ARTIFACTAPI_MIN_FREE", value_name = "SIZE")]
    pub min_free: Option<String>,
}

impl RoomFlag {
    /// Checks it.
    pub fn floor(&self, errors: &mut Vec<String>) -> Option<MinFree> {
        // A chart sets every variable, also those that say nothing.
        let text = self.min_free.as_deref().unwrap_or_default().trim();
        let parsed = parse(text);
        if parsed.is_none() {
            errors.push(format!(
                "--min-free (ARTIFACTAPI_MIN_FREE): {text:?} is neither a number of bytes as 5Gi, nor 1% to {MOST}%, nor 0"
            ));
        }
        parsed
    }
}

fn parse(text: &str) -> Option<MinFree> {
    match (text, text.strip_suffix('%')) {
        ("", _) => Some(MinFree::Usual),
        ("0", _) => Some(MinFree::Bytes(0)),
        (_, Some(percent)) => {
            percent.parse().ok().filter(|percent| (1..=MOST).contains(percent)).map(MinFree::Percent)
        }
        (text, None) => ByteQuantity::Text(text.to_owned()).parse().ok().map(MinFree::Bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_hundredths() {
        for (text, want) in [
            ("", MinFree::Usual),
            ("0", MinFree::Bytes(0)),
            ("5Gi", MinFree::Bytes(5 << 30)),
            ("1000000", MinFree::Bytes(1_000_000)),
            ("1%", MinFree::Percent(1)),
            ("90%", MinFree::Percent(90)),
        ] {
            assert_eq!(parse(text), Some(want), "{text:?}");
        }
        for bad in ["0%", "91%", "256%", "1.5%", "%", "5GB", "-1", "half", "10 %"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
