//! `token`: robots' tokens, made and revoked by hand. Proxies may be running; they hear of it within a second, and
//! at the latest within a minute.

use std::{process::ExitCode, time::Duration};

use artifactapi_crds::DEFAULT_NAMESPACE;
use artifactapi_model::{
    RepoName, Timestamp,
    account::{Grant, Robot, RobotKey, RobotToken, TokenId},
    ports::{
        Accounts,
        accounts::{Source, TokenRow},
    },
};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Failure, data::Data, runtime};
use crate::{config::periods::long_period, telemetry::access_line::rfc3339};

/// What is to be done.
#[derive(Subcommand, Clone, Debug)]
pub(super) enum Command {
    /// Makes a token for a robot and prints it, this once; whoever has it may what the robot may
    ///
    /// It is the password of docker login, pip, helm, netrc and the like (any user name), and npm's _authToken.
    Create {
        /// Name of the robot; one that no manifest makes is made here, with --allow
        #[arg(value_parser = robot_name)]
        robot: RepoName,
        /// Grants of a robot made here, which replace those it has: repositories (`*` stands for any characters) and
        /// pull, push or delete
        #[arg(long, value_name = "GLOB[,GLOB]=ACTION[,ACTION]")]
        allow: Vec<Grant>,
        /// Life of the token, as 12h or 30d [default: the robot's tokenTTL, or no end]
        #[arg(long, value_name = "DURATION", value_parser = long_period)]
        ttl: Option<Duration>,
        #[command(flatten)]
        common: Common,
    },
    /// Lists tokens, and robots that have none
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Revokes a token for good
    Revoke {
        /// Its id, as `token list` shows it
        id: TokenId,
        #[command(flatten)]
        common: Common,
    },
    /// Removes a robot that was made here, with all its tokens
    Forget {
        /// Its name
        #[arg(value_parser = robot_name)]
        robot: RepoName,
        #[command(flatten)]
        common: Common,
    },
}

/// What all of them take.
#[derive(Args, Clone, Debug)]
pub(super) struct Common {
    /// Namespace of the robot; its grants are for repositories of the same
    #[arg(long, default_value = DEFAULT_NAMESPACE)]
    namespace: String,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: Data,
}

fn robot_name(text: &str) -> Result<RepoName, String> {
    RepoName::try_from(text).map_err(|_| {
        "must be 1 to 63 characters a-z, 0-9 and '-', first and last a letter or digit".to_owned()
    })
}

/// Does it.
pub(super) fn run(command: &Command) -> Result<ExitCode, Failure> {
    runtime()?.block_on(async {
        match command {
            Command::Create { robot, allow, ttl, common } => create(robot, allow, *ttl, common).await?,
            Command::List { common } => list(common).await?,
            Command::Revoke { id, common } => {
                if !common.data.database().await?.accounts.revoke_token(id).await? {
                    return Err(format!("there is no token {id}; see `artifactapi token list`").into());
                }
                say(common, &json!({ "revoked": id.as_str() }), &format!("token {id} is revoked"));
            }
            Command::Forget { robot, common } => {
                let key = key(robot, common);
                if !common.data.database().await?.accounts.remove_robot(&key).await? {
                    return Err(
                        format!("no robot {key} was made here; one of a manifest goes with that").into()
                    );
                }
                say(common, &json!({ "forgotten": key.to_string() }), &format!("robot {key} is gone"));
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn key(name: &RepoName, common: &Common) -> RobotKey {
    RobotKey { namespace: common.namespace.clone(), name: name.clone() }
}

fn say(common: &Common, document: &Value, sentence: &str) {
    if common.json { println!("{document}") } else { println!("{sentence}") }
}

async fn create(
    name: &RepoName,
    allow: &[Grant],
    ttl: Option<Duration>,
    common: &Common,
) -> Result<(), Failure> {
    let accounts = common.data.database().await?.accounts;
    let robot = robot(&*accounts, &key(name, common), allow).await?;
    let token = RobotToken::generate()?;
    let ttl = ttl.or(robot.token_ttl);
    let made = accounts.add_token(&robot.key, &token.hash(), ttl, Source::Hand).await?;
    let Some(made) = made else { return Err(format!("robot {} went meanwhile", robot.key).into()) };
    if common.json {
        let document = json!({
            "token": token.expose(),
            "id": made.id.as_str(),
            "robot": robot.key.to_string(),
            "expiresAt": made.expires_at.map(rfc3339),
        });
        println!("{document}");
    } else {
        // The token alone, so that it can be piped to where it belongs.
        println!("{}", token.expose());
        let ends = made.expires_at.map_or("does not end".into(), |at| format!("ends {}", rfc3339(at)));
        eprintln!("token {} of robot {} {ends}; it is not shown again", made.id, robot.key);
    }
    Ok(())
}

/// The robot as it is to be.
async fn robot(accounts: &dyn Accounts, key: &RobotKey, allow: &[Grant]) -> Result<Robot, Failure> {
    let known = accounts.robots().await?.into_iter().find(|(robot, _)| robot.key == *key);
    match known {
        Some((robot, _)) if allow.is_empty() => Ok(robot),
        Some((_, Source::Manifest)) => {
            Err(format!("a manifest says what robot {key} may do: change it there, or leave out --allow")
                .into())
        }
        None if allow.is_empty() => {
            Err(format!("there is no robot {key}; say with --allow what a new one may do").into())
        }
        _ => {
            let robot = Robot { key: key.clone(), grants: allow.to_vec(), token_ttl: None };
            if accounts.put_robot(&robot).await? {
                Ok(robot)
            } else {
                Err(format!("a manifest has made robot {key} meanwhile").into())
            }
        }
    }
}

async fn list(common: &Common) -> Result<(), Failure> {
    let accounts = common.data.database().await?.accounts;
    let (robots, tokens) = (accounts.robots().await?, accounts.tokens().await?);
    if common.json {
        let tokens_of = |robot: &Robot| -> Vec<Value> {
            let rows = tokens.iter().filter(|token| token.robot == robot.key);
            rows.map(document).collect()
        };
        let document = |(robot, source): &(Robot, Source)| {
            json!({
                "robot": robot.key.to_string(),
                "source": source.as_str(),
                "grants": robot.grants,
                "tokens": tokens_of(robot),
            })
        };
        println!("{}", Value::from_iter(robots.iter().map(document)));
        return Ok(());
    }
    for (robot, source) in &robots {
        let grants: Vec<String> = robot.grants.iter().map(ToString::to_string).collect();
        println!("robot {} (by {}): {}", robot.key, source.as_str(), grants.join(" "));
        for token in tokens.iter().filter(|token| token.robot == robot.key) {
            let ends = token.expires_at.map_or("never".into(), rfc3339);
            let used = token.used_at.map_or("not yet".into(), rfc3339);
            println!("  {}  made {}  ends {ends}  used {used}", token.id, rfc3339(token.created_at));
        }
    }
    if robots.is_empty() {
        println!("there are no robots");
    }
    Ok(())
}

fn document(token: &TokenRow) -> Value {
    let TokenRow { id, robot: _, source, created_at, expires_at, used_at } = token;
    let time = |at: Option<Timestamp>| at.map(rfc3339);
    json!({
        "id": id.as_str(),
        "source": source.as_str(),
        "createdAt": rfc3339(*created_at),
        "expiresAt": time(*expires_at),
        "usedAt": time(*used_at),
    })
}
