//! The smaller parts of a Remote's spec.

use std::time::Duration;

use artifactapi_model::{PackageType, repository as model};
use ipnet::IpNet;

use super::{duration, patterns, urls};
use crate::{
    duration::DurationString,
    error::Errors,
    remotes::{
        Delivery, DockerOptions, Egress, GenericOptions, OnUpstreamGone, PUBLIC_HOSTS, Retention, Timeouts,
    },
};

pub(super) fn docker(
    package_type: PackageType,
    options: Option<&DockerOptions>,
    errors: &mut Errors,
) -> model::DockerOptions {
    let Some(DockerOptions { ban_tags, mirror_for, root_mirror }) = options else {
        return model::DockerOptions::default();
    };
    if package_type != PackageType::Docker {
        errors.push("spec.docker", "typeBlock", "only a Remote of type docker has this block");
    }
    model::DockerOptions {
        ban_tags: patterns::whole("spec.docker.banTags", ban_tags, errors),
        mirror_for: hosts("spec.docker.mirrorFor", mirror_for, errors),
        root_mirror: *root_mirror,
    }
}

pub(super) fn query_parameters(
    package_type: PackageType,
    options: Option<&GenericOptions>,
    errors: &mut Errors,
) -> Vec<String> {
    let Some(GenericOptions { query_parameters }) = options else { return Vec::new() };
    if package_type != PackageType::Generic {
        errors.push("spec.generic", "typeBlock", "only a Remote of type generic has this block");
    }
    let mut sorted = query_parameters.clone();
    sorted.sort_unstable();
    sorted.dedup();
    sorted
}

pub(super) fn on_upstream_gone(value: OnUpstreamGone) -> model::OnUpstreamGone {
    match value {
        OnUpstreamGone::Keep => model::OnUpstreamGone::Keep,
        OnUpstreamGone::Evict => model::OnUpstreamGone::Evict,
    }
}

pub(super) fn delivery(value: Delivery) -> model::Delivery {
    match value {
        Delivery::Proxy => model::Delivery::Proxy,
        Delivery::Redirect => model::Delivery::Redirect,
        Delivery::Auto => model::Delivery::Auto,
    }
}

/// `host` or `host:port` in lower case, each as an URL's authority could hold it.
pub(super) fn hosts(path: &str, hosts: &[String], errors: &mut Errors) -> Vec<String> {
    let mut seen = Vec::with_capacity(hosts.len());
    for (index, host) in hosts.iter().enumerate() {
        let lower = host.to_ascii_lowercase();
        if !is_host(&lower) {
            errors.push(
                format!("{path}[{index}]"),
                "host",
                "must be a host or host:port, without scheme and path",
            );
        } else if !seen.contains(&lower) {
            seen.push(lower);
        }
    }
    seen
}

/// Whether an URL with this authority is that host and port, and nothing else.
fn is_host(text: &str) -> bool {
    let plain = !text.is_empty()
        && !text.contains(['/', '?', '#', '@', '\\', '%'])
        && !text.contains(char::is_whitespace);
    plain
        && !text.ends_with(':')
        && url::Url::parse(&format!("http://{text}/"))
            .is_ok_and(|url| url.host_str().is_some() && url.port() != Some(0))
}

pub(super) fn file_hosts(list: &[String], errors: &mut Errors) -> model::FileHosts {
    if list == [PUBLIC_HOSTS] {
        return model::FileHosts::Public;
    }
    if list.iter().any(|host| host == PUBLIC_HOSTS) {
        errors.push("spec.fileHosts", "publicAlone", "public stands for every public host: give it alone");
    }
    model::FileHosts::Only(hosts("spec.fileHosts", list, errors))
}

pub(super) fn egress(egress: Option<&Egress>, errors: &mut Errors) -> model::Egress {
    let Some(Egress { allow_cidrs, proxy_url }) = egress else { return model::Egress::default() };
    let networks = allow_cidrs.iter().enumerate().filter_map(|(index, text)| {
        let path = format!("spec.egress.allowCIDRs[{index}]");
        let parsed = text.parse::<IpNet>().map_err(|_| "must be a network such as 10.1.0.0/16 or fd00::/8");
        errors.keep(path, "cidr", parsed).map(|network| network.trunc())
    });
    let allow_cidrs = networks.collect();
    let proxy_url = proxy_url.as_deref().and_then(|text| urls::plain("spec.egress.proxyURL", text, errors));
    model::Egress { allow_cidrs, proxy_url }
}

pub(super) fn timeouts(timeouts: &Timeouts, errors: &mut Errors) -> model::Timeouts {
    let Timeouts { connect, first_byte, idle } = timeouts;
    model::Timeouts {
        connect: positive("spec.timeouts.connect", connect, errors),
        first_byte: positive("spec.timeouts.firstByte", first_byte, errors),
        idle: positive("spec.timeouts.idle", idle, errors),
    }
}

fn positive(path: &str, text: &DurationString, errors: &mut Errors) -> Duration {
    match text.parse() {
        Ok(Duration::ZERO) => {
            errors.push(
                path,
                "duration",
                "must be more than 0s: without a limit a dead upstream holds clients for ever",
            );
            Duration::ZERO
        }
        _ => duration(path, text, errors),
    }
}

pub(super) fn max_concurrent(value: i32, errors: &mut Errors) -> usize {
    match usize::try_from(value) {
        Ok(value @ 1..) => value,
        _ => {
            errors.push("spec.maxConcurrent", "minimum", "must be at least 1");
            1
        }
    }
}

pub(super) fn retention(retention: Option<&Retention>, errors: &mut Errors) -> model::Retention {
    let Some(Retention { unused_for, max_bytes }) = retention else { return model::Retention::default() };
    model::Retention {
        unused_for: unused_for.as_ref().map(|text| positive_retention(text, errors)),
        max_bytes: max_bytes
            .as_ref()
            .and_then(|bytes| errors.keep("spec.retention.maxBytes", "quantity", bytes.parse())),
    }
}

fn positive_retention(text: &DurationString, errors: &mut Errors) -> Duration {
    let path = "spec.retention.unusedFor";
    if text.parse() == Ok(Duration::ZERO) {
        errors.push(path, "duration", "must be more than 0s; leave it out to keep everything");
    }
    duration(path, text, errors)
}
