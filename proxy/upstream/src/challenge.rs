//! `WWW-Authenticate`, parsed as RFC 9110, 11.6.1 has it: several headers, several challenges in each,
//! quoted strings with commas in them, schemes and parameter names in any case. Pure and total.

use http::{HeaderMap, header::WWW_AUTHENTICATE};

/// Most challenges read from one response.
const MAX_CHALLENGES: usize = 16;
/// Most parameters read from one challenge.
const MAX_PARAMETERS: usize = 32;
/// Longest header value that is looked at, in bytes.
const MAX_VALUE: usize = 8 * 1024;

/// One challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Scheme, lower case.
    pub scheme: String,
    /// Parameters in order; names lower case, values unquoted.
    pub parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The first parameter called `name` (lower case).
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// What a token service wants to hear (the Distribution token specification).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BearerChallenge {
    /// Token endpoint, as written.
    pub(crate) realm: String,
    /// Audience.
    pub(crate) service: Option<String>,
    /// Scopes, split at spaces, sorted, without repetition.
    pub(crate) scopes: Vec<String>,
}

impl BearerChallenge {
    /// Reads a Bearer challenge with a realm; other challenges give `None`.
    pub(crate) fn of(challenge: &Challenge) -> Option<Self> {
        if challenge.scheme != "bearer" {
            return None;
        }
        let mut scopes: Vec<String> = challenge
            .parameters
            .iter()
            .filter(|(name, _)| name == "scope")
            .flat_map(|(_, value)| value.split_ascii_whitespace().map(str::to_owned))
            .collect();
        scopes.sort_unstable();
        scopes.dedup();
        Some(BearerChallenge {
            realm: challenge.parameter("realm").filter(|realm| !realm.is_empty())?.to_owned(),
            service: challenge.parameter("service").map(str::to_owned),
            scopes,
        })
    }
}

/// Every challenge of a response, in order. Values that are not text or too long are skipped.
pub(crate) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let mut all = Vec::new();
    for value in headers.get_all(WWW_AUTHENTICATE) {
        if let Ok(text) = std::str::from_utf8(value.as_bytes())
            && text.len() <= MAX_VALUE
        {
            all.extend(parse(text));
        }
    }
    all.truncate(MAX_CHALLENGES);
    all
}

/// The challenges of one header value. What cannot be read ends the list; what was read before stands.
pub fn parse(value: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = Cursor(value);
    while challenges.len() < MAX_CHALLENGES {
        rest.skip_separators();
        let Some(word) = rest.token() else { break };
        let spaced = rest.skip_space();
        // `name=` directly after a word continues the challenge before it; a scheme never has a `=`,
        // while a token68 ("Negotiate YWJj==") has one only behind a space.
        if rest.starts_with('=') && !challenges.is_empty() {
            let Some(parameter) = rest.value() else { break };
            push_parameter(challenges.last_mut(), word, parameter);
        } else if spaced || rest.is_at_boundary() {
            challenges.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
            rest.skip_token68();
        } else {
            break;
        }
    }
    challenges
}

fn push_parameter(challenge: Option<&mut Challenge>, name: &str, value: String) {
    if let Some(challenge) = challenge
        && challenge.parameters.len() < MAX_PARAMETERS
    {
        challenge.parameters.push((name.to_ascii_lowercase(), value));
    }
}

/// What is left of a header value.
struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn starts_with(&self, wanted: char) -> bool {
        self.0.starts_with(wanted)
    }

    fn is_at_boundary(&self) -> bool {
        self.0.is_empty() || self.0.starts_with(',')
    }

    fn skip_separators(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t', ',']);
    }

    fn skip_space(&mut self) -> bool {
        let before = self.0.len();
        self.0 = self.0.trim_start_matches([' ', '\t']);
        self.0.len() < before
    }

    fn token(&mut self) -> Option<&'a str> {
        let is_tchar = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let end = self.0.find(|c| !is_tchar(c)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        (!token.is_empty()).then_some(token)
    }

    /// `=` and a token or a quoted string.
    fn value(&mut self) -> Option<String> {
        self.0 = self.0.strip_prefix('=')?;
        self.skip_space();
        let Some(quoted) = self.0.strip_prefix('"') else {
            // Unquoted realms (`realm=https://host/token`) are sent though not allowed.
            let end = self.0.find([',', ' ', '\t']).unwrap_or(self.0.len());
            let (value, rest) = self.0.split_at(end);
            self.0 = rest;
            return Some(value.to_owned());
        };
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.0 = &quoted[at + 1..];
                    return Some(value);
                }
                '\\' => value.push(characters.next()?.1),
                other => value.push(other),
            }
        }
        None
    }

    /// The credentials form that is not a list of parameters; no scheme used here has one.
    fn skip_token68(&mut self) {
        let end = self.0.find([',', ' ', '\t']).unwrap_or(self.0.len());
        let word = &self.0[..end];
        let body = word.trim_end_matches('=');
        let is_token68 = body.chars().all(|c| c.is_ascii_alphanumeric() || "-._~+/".contains(c));
        let at_end = self.0[end..].trim_start_matches([' ', '\t']);
        if is_token68 && (at_end.is_empty() || at_end.starts_with(',')) {
            self.0 = &self.0[end..];
        }
    }
}

#[cfg(test)]
#[path = "challenge/tests.rs"]
mod tests;
