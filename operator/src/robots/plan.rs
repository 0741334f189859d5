//! What is to be done about a robot's tokens and its Secret. Pure.
//!
//! The order of the two writes is: the token's row first, then the Secret. A crash in between leaves a row of which
//! nobody knows the token; it is revoked when it is [`ORPHAN`] old. A Secret whose token has no row is of no use and
//! gets another one. A token that was replaced lives out its time, or [`REPLACED`] where tokens have no end; of more
//! than [`KEPT`] the oldest end.

use std::time::Duration;

use artifactapi_model::{
    Timestamp,
    account::{RobotToken, TokenId},
    ports::accounts::TokenRow,
};

use super::secret::Found;

/// How long a row may be there before the Secret with its token is.
pub const ORPHAN: Duration = Duration::from_secs(120);
/// How long a token without an end is good after it was replaced.
pub const REPLACED: Duration = Duration::from_secs(3600);

/// How long a token is there before another one can be asked for.
pub const PACE: Duration = Duration::from_secs(2);
/// Replaced tokens that live out their time; of more, the oldest end.
pub const KEPT: usize = 3;

/// What is known of a robot.
pub struct Known<'a> {
    /// Its Secret.
    pub found: &'a Found,
    /// The tokens that the operator has made for it.
    pub rows: &'a [TokenRow],
    /// Life of its tokens.
    pub ttl: Option<Duration>,
    /// The request for another token on the robot.
    pub requested_at: Option<&'a str>,
    /// Now.
    pub now: Timestamp,
}

/// What is to be done.
#[derive(Debug, Default)]
pub struct Plan {
    /// What to do about the Secret.
    pub step: Step,
    /// Tokens that end now.
    pub revoke: Vec<TokenId>,
    /// When it is to be looked at again although nothing happens.
    pub again: Option<Duration>,
}

/// What to do about the Secret.
#[derive(Debug, Default)]
pub enum Step {
    /// Nothing: it is as it has to be, with this token.
    Keep {
        /// When the token ends.
        expires_at: Option<Timestamp>,
    },
    /// It is written anew with the token it has.
    Mend {
        /// The token.
        token: RobotToken,
        /// When the token ends.
        expires_at: Option<Timestamp>,
    },
    /// It is written with another token.
    Renew {
        /// Why, for the log.
        why: &'static str,
    },
    /// It is somebody else's.
    #[default]
    LeaveAlone,
}

/// What is to be done about `known`.
pub fn plan(known: &Known<'_>) -> Plan {
    let Known { found, rows, ttl, requested_at, now } = known;
    let current = match found {
        Found::Nothing => Err("there is no Secret"),
        // What was handed out before is in use: it ends by its own time.
        Found::Foreign => return Plan::default(),
        Found::Ours { token: None, .. } => Err("the Secret holds no token"),
        Found::Ours { token: Some(token), is_whole, requested_at: answered, .. } => {
            match rows.iter().find(|row| row.id == token.id()) {
                None => Err("the token in the Secret is not known"),
                Some(row) if requested_at.is_some() && answered.as_deref() != *requested_at => {
                    match (row.created_at + PACE).since(*now) {
                        Duration::ZERO => Err("another token is asked for"),
                        left => Ok((row, token, *is_whole, Some(left))),
                    }
                }
                Some(row) => match rotation(row, *ttl, *now) {
                    None => Err("the token has lived two thirds of its life"),
                    Some(left) => Ok((row, token, *is_whole, left)),
                },
            }
        }
    };
    match current {
        Err(why) => {
            // Those that are there live out their time; looked at again with the new one.
            Plan { step: Step::Renew { why }, revoke: Vec::new(), again: Some(ORPHAN) }
        }
        Ok((row, token, is_whole, left)) => {
            let (revoke, next) = idle(rows, Some(row), *now);
            let expires_at = row.expires_at;
            let step = match is_whole {
                true => Step::Keep { expires_at },
                false => Step::Mend { token: token.clone(), expires_at },
            };
            Plan { step, revoke, again: left.into_iter().chain(next).min() }
        }
    }
}

/// How long until `row` is to be replaced: `None` now, `Some(None)` never.
fn rotation(row: &TokenRow, ttl: Option<Duration>, now: Timestamp) -> Option<Option<Duration>> {
    let Some(expires_at) = row.expires_at else {
        // It was made when tokens had no end.
        return if ttl.is_some() { None } else { Some(None) };
    };
    let life = expires_at.since(row.created_at);
    // One that was given a longer life than tokens have now is replaced sooner.
    let life = ttl.map_or(life, |ttl| ttl.min(life));
    let left = (row.created_at + life * 2 / 3).since(now);
    (!left.is_zero()).then_some(Some(left))
}

/// Of the tokens beside the `current` one, those that end now, and how long until the next does.
fn idle(rows: &[TokenRow], current: Option<&TokenRow>, now: Timestamp) -> (Vec<TokenId>, Option<Duration>) {
    let (mut ended, mut next) = (Vec::new(), None::<Duration>);
    let mut newest: Vec<_> = rows.iter().map(|row| (row.created_at, &row.id)).collect();
    newest.sort_unstable();
    let too_old = newest.iter().rev().nth(KEPT + 1).copied();
    for row in rows.iter().filter(|row| current.is_none_or(|current| current.id != row.id)) {
        let end = match current {
            // Replaced: the database ends it, or we do.
            Some(current) if (row.created_at, &row.id) < (current.created_at, &current.id) => {
                if too_old.is_some_and(|too_old| (row.created_at, &row.id) <= too_old) {
                    ended.push(row.id.clone());
                    continue;
                }
                row.expires_at.unwrap_or(current.created_at + REPLACED)
            }
            // Nobody was ever given it.
            _ => row.created_at + ORPHAN,
        };
        match end.since(now) {
            Duration::ZERO => ended.push(row.id.clone()),
            left => next = Some(next.map_or(left, |next| next.min(left))),
        }
    }
    (ended, next)
}

#[cfg(test)]
mod tests {
    use artifactapi_model::{account::RobotKey, ports::accounts::Source};

    use super::*;

    const HOUR: i64 = 3_600_000;

    fn row(token: &RobotToken, created: i64, expires: Option<i64>) -> TokenRow {
        TokenRow {
            id: token.id(),
            robot: RobotKey { namespace: "ns".into(), name: "ci".parse().unwrap() },
            source: Source::Manifest,
            created_at: Timestamp(created),
            expires_at: expires.map(Timestamp),
            used_at: None,
        }
    }

    fn ours(token: Option<&RobotToken>, is_whole: bool, answered: Option<&str>) -> Found {
        Found::Ours {
            token: token.cloned(),
            is_whole,
            is_mendable: true,
            requested_at: answered.map(str::to_owned),
            version: None,
        }
    }

    fn step(plan: &Plan) -> String {
        match &plan.step {
            Step::Keep { .. } => "keep".into(),
            Step::Mend { .. } => "mend".into(),
            Step::Renew { why } => (*why).into(),
            Step::LeaveAlone => "leave".into(),
        }
    }

    #[test]
    fn a_token_is_made_once_and_replaced_when_it_must_be() {
        let token = RobotToken::generate().unwrap();
        let other = RobotToken::generate().unwrap();
        let ends = row(&token, 0, Some(3 * HOUR));
        let endless = row(&token, 0, None);
        let ttl = Some(Duration::from_secs(3 * 3600));
        let whole = || ours(Some(&token), true, None);
        for (found, rows, ttl, requested, now, want) in [
            (Found::Nothing, vec![], None, None, 0, "there is no Secret"),
            (Found::Foreign, vec![ends.clone()], ttl, None, 0, "leave"),
            (ours(None, false, None), vec![ends.clone()], ttl, None, 0, "the Secret holds no token"),
            (whole(), vec![], ttl, None, 0, "the token in the Secret is not known"),
            (whole(), vec![row(&other, 0, None)], ttl, None, 0, "the token in the Secret is not known"),
            (whole(), vec![ends.clone()], ttl, None, 0, "keep"),
            (whole(), vec![ends.clone()], ttl, None, 2 * HOUR - 1, "keep"),
            (whole(), vec![ends.clone()], ttl, None, 2 * HOUR, "the token has lived two thirds of its life"),
            (whole(), vec![ends.clone()], None, None, HOUR, "keep"),
            (whole(), vec![endless.clone()], None, None, 900 * HOUR, "keep"),
            (whole(), vec![endless], ttl, None, 0, "the token has lived two thirds of its life"),
            (ours(Some(&token), false, None), vec![ends.clone()], ttl, None, 0, "mend"),
            (whole(), vec![ends.clone()], ttl, Some("a"), 1_999, "keep"),
            (whole(), vec![ends.clone()], ttl, Some("a"), 2_000, "another token is asked for"),
            (ours(Some(&token), true, Some("a")), vec![ends.clone()], ttl, Some("a"), 0, "keep"),
            (ours(Some(&token), true, Some("a")), vec![ends], ttl, None, 0, "keep"),
        ] {
            let known =
                Known { found: &found, rows: &rows, ttl, requested_at: requested, now: Timestamp(now) };
            let plan = plan(&known);
            assert_eq!(step(&plan), want);
            assert_eq!(plan.revoke, [], "{want}");
        }
    }

    #[test]
    fn a_replaced_token_lives_out_its_time_and_no_token_lives_for_ever() {
        let [old, current, lost] = [(); 3].map(|()| RobotToken::generate().unwrap());
        let found = ours(Some(&current), true, None);
        let at = |rows: &[TokenRow], now: i64| {
            let known = Known { found: &found, rows, ttl: None, requested_at: None, now: Timestamp(now) };
            plan(&known)
        };
        let rows = [row(&old, 0, None), row(&current, HOUR, None)];
        let before = at(&rows, HOUR + 1);
        assert_eq!((step(&before).as_str(), before.revoke.len()), ("keep", 0));
        assert_eq!(before.again, Some(REPLACED - Duration::from_millis(1)));
        assert_eq!(at(&rows, 2 * HOUR).revoke, [old.id()]);
        // With an end of its own it ends by that.
        let rows = [row(&old, 0, Some(9 * HOUR)), row(&current, HOUR, None)];
        assert_eq!(at(&rows, 2 * HOUR).revoke, []);
        assert_eq!(at(&rows, 9 * HOUR).revoke, [old.id()]);
        // A crash between row and Secret.
        let rows = [row(&current, 0, None), row(&lost, HOUR, None)];
        let soon = at(&rows, HOUR + 1000);
        assert_eq!((soon.revoke.len(), soon.again), (0, Some(ORPHAN - Duration::from_secs(1))));
        assert_eq!(at(&rows, HOUR + 120_000).revoke, [lost.id()]);
    }

    #[test]
    fn however_often_another_is_asked_for_few_live() {
        let tokens: Vec<RobotToken> = (0..6).map(|_| RobotToken::generate().unwrap()).collect();
        let rows: Vec<TokenRow> =
            (0..).zip(&tokens).map(|(at, token)| row(token, at * 10_000, Some(900 * HOUR))).collect();
        let found = ours(Some(&tokens[5]), true, None);
        let known =
            Known { found: &found, rows: &rows, ttl: None, requested_at: None, now: Timestamp(60_000) };
        assert_eq!(plan(&known).revoke, [tokens[0].id(), tokens[1].id()]);
    }

    #[test]
    fn a_secret_of_somebody_else_ends_no_token() {
        let token = RobotToken::generate().unwrap();
        let rows = [row(&token, 0, None)];
        let known = Known {
            found: &Found::Foreign,
            rows: &rows,
            ttl: None,
            requested_at: None,
            now: Timestamp(HOUR),
        };
        assert_eq!(plan(&known).revoke, []);
    }
}
