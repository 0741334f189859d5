//! What replicas tell each other through the coordinator's messages and the database's notifications. Losing
//! one costs freshness for as long as an entry lives in memory, never correctness.

use serde::{Deserialize, Serialize};

use crate::key::{ArtifactKey, Epoch, RepoId};

/// Longest notice that is sent, in bytes; PostgreSQL's NOTIFY takes less than 8,000.
const MAX_NOTICE: usize = 7_900;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "notice", rename_all = "snake_case", deny_unknown_fields)]
pub enum Notice {
    /// The stored row of one key has changed or is gone.
    Changed {
        /// Its repository.
        repo: i64,
        /// Its epoch.
        epoch: i64,
        /// Canonical path with query.
        path: String,
        /// The replica that changed it, which knows already; empty when it was the command line.
        by: String,
    },
    /// The same for every key whose path begins with `prefix`.
    ChangedBelow {
        /// Their repository.
        repo: i64,
        /// Their epoch.
        epoch: i64,
        /// Beginning of their paths; empty means all.
        prefix: String,
    },
    /// An upstream host asked for a pause (RS-91).
    Paused {
        /// `host:port`.
        host: String,
        /// End of the pause, milliseconds since 1970.
        until: i64,
    },
    /// The breaker of an upstream host opened (RS-94), so that nobody else finds out the hard way.
    Failing {
        /// `host:port`.
        host: String,
        /// The replica that tells.
        by: String,
    },
    /// The configuration has a new version.
    Configured {
        /// Which.
        version: i64,
    },
    /// Robots or tokens have changed: whoever remembers some asks again.
    Accounts,
    /// An upstream answers that did not, or the other way round: whoever follows observations looks again.
    Observed,
    /// Somebody asks how an upstream is: whoever can looks for probes.
    Probe,
}

impl Notice {
    /// The row of `key` has changed, by the hand of the replica `by`.
    pub fn changed(key: &ArtifactKey, by: &str) -> Self {
        let (RepoId(repo), Epoch(epoch)) = (key.repo, key.epoch);
        Notice::Changed { repo, epoch, path: key.path.to_string(), by: by.to_owned() }
    }

    /// JSON. A notice too long to send says more than it had to: its repository has changed.
    pub fn encode(&self) -> String {
        // Strings and numbers always serialise.
        let text = serde_json::to_string(self).unwrap_or_default();
        match self {
            Notice::Changed { repo, epoch, .. } | Notice::ChangedBelow { repo, epoch, .. }
                if text.len() > MAX_NOTICE =>
            {
                Notice::ChangedBelow { repo: *repo, epoch: *epoch, prefix: String::new() }.encode()
            }
            _ => text,
        }
    }

    /// Reads one; `None` for anything that is none of ours.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_read_and_nothing_else() {
        let key = ArtifactKey { repo: RepoId(3), epoch: Epoch(1), path: "a/ü?x=\"1\"".into() };
        for notice in [
            Notice::changed(&key, "me"),
            Notice::ChangedBelow { repo: 3, epoch: 1, prefix: "a/".into() },
            Notice::Paused { host: "h:443".into(), until: 5 },
            Notice::Failing { host: "h:443".into(), by: "me".into() },
            Notice::Configured { version: 7 },
            Notice::Accounts,
            Notice::Observed,
            Notice::Probe,
        ] {
            assert_eq!(Notice::parse(notice.encode().as_bytes()), Some(notice));
        }
        for foreign in
            ["", "x", "{}", "[]", r#"{"notice":"else"}"#, r#"{"notice":"configured","version":"1"}"#]
        {
            assert_eq!(Notice::parse(foreign.as_bytes()), None, "{foreign}");
        }
    }

    #[test]
    fn a_notice_fits_postgresql() {
        let key = ArtifactKey { repo: RepoId(3), epoch: Epoch(1), path: "\u{1}".repeat(8192).into() };
        let text = Notice::changed(&key, "me").encode();
        assert_eq!(
            Notice::parse(text.as_bytes()),
            Some(Notice::ChangedBelow { repo: 3, epoch: 1, prefix: String::new() })
        );
    }
}
