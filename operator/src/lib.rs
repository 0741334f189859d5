//! The operator: Remotes, Virtuals, Locals and Robots of a cluster, made the configuration of the proxies.
//!
//! It meets the proxies in one place only, the [`sink`]; it dials no upstream and no proxy. [`operator`] is where it
//! comes together.

pub mod api;
pub mod behind;
pub mod besides;
pub mod ceilings;
pub mod conditions;
pub mod config;
pub mod events;
pub mod health;
pub mod lease;
pub mod locals;
pub mod memo;
pub mod metrics;
pub mod names;
pub mod operator;
pub mod pace;
pub mod picture;
pub mod plan;
pub mod purge;
pub mod rbac;
pub mod remotes;
pub mod robots;
pub mod run;
pub mod secrets;
pub mod seen;
pub mod sink;
pub mod status;
#[cfg(test)]
mod tests;
pub mod upstreams;
pub mod validate;
pub mod virtuals;
pub mod watches;
pub mod world;
