//! The order of semantic versions, as lenient as Helm's parser (Masterminds/semver, `NewVersion`): a leading `v`,
//! leading zeros, and missing minor and patch numbers are fine.

use semver::{BuildMetadata, Prerelease, Version};

/// A version's place. What is no version comes before all others, and build metadata does not count.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Order(Option<Version>);

impl Order {
    /// The place of `version`.
    pub(crate) fn of(version: &str) -> Self {
        Order(parse(version))
    }

    /// Whether it is a version that is no preview of another.
    pub(crate) fn is_release(&self) -> bool {
        self.0.as_ref().is_some_and(|version| version.pre.is_empty())
    }
}

fn parse(version: &str) -> Option<Version> {
    let version = version.strip_prefix('v').unwrap_or(version);
    let (version, build) = version.split_once('+').map_or((version, None), |(v, build)| (v, Some(build)));
    if build.is_some_and(|build| build.is_empty() || BuildMetadata::new(build).is_err()) {
        return None;
    }
    let (core, pre) = version.split_once('-').map_or((version, None), |(core, pre)| (core, Some(pre)));
    let pre = match pre {
        Some("") => return None,
        Some(pre) => Prerelease::new(pre).ok()?,
        None => Prerelease::EMPTY,
    };
    let mut numbers = [0; 3];
    for (place, number) in core.split('.').enumerate() {
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *numbers.get_mut(place)? = number.parse().ok()?;
    }
    let [major, minor, patch] = numbers;
    Some(Version { major, minor, patch, pre, build: BuildMetadata::EMPTY })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_sort_as_helm_sorts_them() {
        let ascending = [
            "",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "v1",
            "1.0.1+b",
            "1.2",
            "1.10",
            "2.0.0",
            "10.0.0",
        ];
        for pair in ascending.windows(2) {
            assert!(Order::of(pair[0]) < Order::of(pair[1]), "{pair:?}");
        }
        for same in ["v1.0.0", "01.0", "1.0.0+a", "1.0.0+b-c"] {
            assert_eq!(Order::of(same), Order::of("1"), "{same}");
        }
        for none in [
            "latest",
            "1.x",
            "1.2.3.4",
            "1.0.0-",
            "1.0.0+",
            "1.0.0-a..b",
            "-1",
            "99999999999999999999",
            "1.0.0 ",
        ] {
            assert_eq!(Order::of(none), Order::of(""), "{none}");
            assert!(!Order::of(none).is_release(), "{none}");
        }
        assert!(Order::of("1.0.0+a-b").is_release() && !Order::of("1.0.0-rc.1").is_release());
    }
}
