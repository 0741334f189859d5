//! Who may do what. A robot holds grants; whoever shows one of its tokens may do what they say, and what anyone may.
//! Pure: nothing here knows of headers, hashes or databases.

pub mod token;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{name::RepoName, repository::ReadAccess};

pub use token::{RobotToken, TokenId};

/// What can be done to a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Reading.
    Pull,
    /// Writing.
    Push,
    /// Deleting.
    Delete,
}

impl Action {
    /// All of them.
    pub const ALL: [Action; 3] = [Action::Pull, Action::Push, Action::Delete];

    /// The word in manifests, scopes and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Pull => "pull",
            Action::Push => "push",
            Action::Delete => "delete",
        }
    }
}

/// A text that is no action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an action is pull, push or delete")]
pub struct InvalidAction;

impl FromStr for Action {
    type Err = InvalidAction;
    fn from_str(text: &str) -> Result<Self, InvalidAction> {
        Action::ALL.into_iter().find(|action| action.as_str() == text).ok_or(InvalidAction)
    }
}

/// A pattern of repository names: `*` stands for any characters, none included.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Glob(String);

/// A text that is no pattern of repository names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a repository name, in which * stands for any characters")]
pub struct InvalidGlob;

impl Glob {
    /// Takes 1 to 63 characters `a-z`, `0-9`, `-` and `*`.
    pub fn parse(text: &str) -> Option<Self> {
        let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'*';
        ((1..=63).contains(&text.len()) && text.bytes().all(known)).then(|| Glob(text.to_owned()))
    }

    /// Whether `name` matches; linear in both but for the product of stars and 63 characters.
    pub fn matches(&self, name: &RepoName) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.as_str().strip_prefix(first) else { return false };
        let mut parts: Vec<&str> = parts.collect();
        let Some(last) = parts.pop() else { return rest.is_empty() };
        for part in parts {
            // The leftmost place leaves the most for what follows.
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

impl TryFrom<String> for Glob {
    type Error = InvalidGlob;
    fn try_from(text: String) -> Result<Self, InvalidGlob> {
        Glob::parse(&text).ok_or(InvalidGlob)
    }
}

impl From<Glob> for String {
    fn from(glob: Glob) -> String {
        glob.0
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Actions in some repositories.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// In which.
    pub repositories: Vec<Glob>,
    /// What.
    pub actions: BTreeSet<Action>,
}

impl fmt::Display for Grant {
    /// As the command line takes it: `team-*,tools=pull,push`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let globs: Vec<String> = self.repositories.iter().map(ToString::to_string).collect();
        let actions: Vec<&str> = self.actions.iter().map(|action| action.as_str()).collect();
        write!(f, "{}={}", globs.join(","), actions.join(","))
    }
}

/// A grant that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGrant {
    /// It has no `=`.
    #[error("must be GLOB[,GLOB]=ACTION[,ACTION], as in team-*=pull,push")]
    Shape,
    /// What stands before `=`.
    #[error(transparent)]
    Glob(#[from] InvalidGlob),
    /// What stands after it.
    #[error(transparent)]
    Action(#[from] InvalidAction),
}

impl FromStr for Grant {
    type Err = InvalidGrant;
    fn from_str(text: &str) -> Result<Self, InvalidGrant> {
        let (globs, actions) = text.split_once('=').ok_or(InvalidGrant::Shape)?;
        let glob = |text: &str| Glob::parse(text.trim()).ok_or(InvalidGlob);
        Ok(Grant {
            repositories: globs.split(',').map(glob).collect::<Result<_, _>>()?,
            actions: actions.split(',').map(|action| action.trim().parse()).collect::<Result<_, _>>()?,
        })
    }
}

/// Which robot is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RobotKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name there.
    pub name: RepoName,
}

impl fmt::Display for RobotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A machine account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Robot {
    /// Which. Its grants count in its own namespace only.
    pub key: RobotKey,
    /// What it may do.
    pub grants: Vec<Grant>,
    /// Life of its tokens unless another one is asked for; `None` = no end.
    pub token_ttl: Option<Duration>,
}

impl Robot {
    /// Whether a grant allows `action` in the repository `name` of `namespace`.
    pub fn may(&self, namespace: &str, name: &RepoName, action: Action) -> bool {
        let covers = |grant: &Grant| {
            grant.actions.contains(&action) && grant.repositories.iter().any(|glob| glob.matches(name))
        };
        self.key.namespace == namespace && self.grants.iter().any(covers)
    }
}

/// Whose a request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// Nobody in particular.
    Anonymous,
    /// A robot.
    Robot(Arc<Robot>),
}

/// What a short-lived token was made for: actions by repository.
pub type Scopes = BTreeMap<RepoName, BTreeSet<Action>>;

/// Who asks, and for what the token shown was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Whose the request is.
    pub account: Account,
    /// All that a short-lived token lets do of what the account may; `None` = everything.
    pub scopes: Option<Scopes>,
}

impl Caller {
    /// Somebody who shows nothing.
    pub const ANONYMOUS: Caller = Caller { account: Account::Anonymous, scopes: None };

    /// The robot that asks, if it is one.
    pub fn robot(&self) -> Option<&Arc<Robot>> {
        match &self.account {
            Account::Anonymous => None,
            Account::Robot(robot) => Some(robot),
        }
    }
}

/// A repository, Remote, Virtual or Local, as far as rights go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protected<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a RepoName,
    /// Who may read.
    pub read: ReadAccess,
    /// Whether anyone may write; never true of what is read only.
    pub anonymous_write: bool,
}

impl Protected<'_> {
    /// Whether anyone may do it.
    pub fn is_open_to(&self, action: Action) -> bool {
        match action {
            Action::Pull => self.read == ReadAccess::Anonymous,
            Action::Push | Action::Delete => self.anonymous_write,
        }
    }
}

/// Whether a caller may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Allowed,
    /// Its account may, but the short-lived token it shows was made for less: it has to ask for another.
    OutOfScope,
    /// Its account may not.
    Denied,
    /// Nobody in particular asks: it has to say who it is.
    Unknown,
}

/// Whether `caller` may do `action` in `repository`.
pub fn may(caller: &Caller, repository: &Protected<'_>, action: Action) -> Verdict {
    if repository.is_open_to(action) {
        return Verdict::Allowed;
    }
    let Account::Robot(robot) = &caller.account else { return Verdict::Unknown };
    if !robot.may(repository.namespace, repository.name, action) {
        return Verdict::Denied;
    }
    match &caller.scopes {
        Some(scopes) if !scopes.get(repository.name).is_some_and(|actions| actions.contains(&action)) => {
            Verdict::OutOfScope
        }
        _ => Verdict::Allowed,
    }
}

#[cfg(test)]
mod tests;
