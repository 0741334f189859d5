//! URLs of upstreams and egress proxies.

use artifactapi_model::PackageType;
use url::Url;

use crate::error::Errors;

/// Where Docker Hub's registry answers.
const DOCKER_HUB_REGISTRY: &str = "registry-1.docker.io";
/// Names of Docker Hub under which users know it, but where no registry answers or another one than is meant.
const DOCKER_HUB_ALIASES: [&str; 2] = ["docker.io", "index.docker.io"];

/// An http or https URL without user name, query and fragment. Messages never repeat the text.
pub(super) fn plain(path: &str, text: &str, errors: &mut Errors) -> Option<Url> {
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => {
            errors.push(path, "url", format!("is not a URL: {error}"));
            return None;
        }
    };
    let complaint = if !matches!(url.scheme(), "http" | "https") {
        "must begin with http:// or https://"
    } else if url.host_str().is_none_or(str::is_empty) {
        "must name a host"
    } else if !url.username().is_empty() || url.password().is_some() {
        "must not hold a user name or password"
    } else if url.query().is_some() || url.fragment().is_some() {
        "must have no query and no fragment"
    } else {
        return Some(url);
    };
    errors.push(path, "url", complaint);
    None
}

/// An upstream root, whose path ends in `/` so that paths can be joined to it. Everything that is bound to the
/// upstream's origin (credentials, token realms, redirects) is bound to the one returned here.
pub(super) fn base(path: &str, text: &str, package_type: PackageType, errors: &mut Errors) -> Option<Url> {
    let mut url = plain(path, text, errors)?;
    let is_alias = url.host_str().is_some_and(|host| DOCKER_HUB_ALIASES.contains(&host));
    // With a port it is somebody's own registry, as in image references.
    if package_type == PackageType::Docker && is_alias && url.port().is_none() {
        errors.keep(
            path,
            "url",
            url.set_host(Some(DOCKER_HUB_REGISTRY)).map_err(|error| error.to_string()),
        )?;
    }
    if !url.path().ends_with('/') {
        let with_slash = format!("{}/", url.path());
        url.set_path(&with_slash);
    }
    Some(url)
}
