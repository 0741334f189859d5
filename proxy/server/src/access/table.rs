//! Which right each request needs: one row for every route, and below a registry one for every endpoint.
//!
//! Every match is without `_`: a route or an endpoint that is added does not compile before it has its row here
//! (RS-53). What a row says is obeyed in [`crate::http::handle`].

use artifactapi_model::account::Action;
use http::Method;

use crate::http::route::Route;

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Nothing: the page is for everyone, or there is nothing here.
    Open,
    /// The page looks for itself whom it answers.
    Own,
    /// The right to do this in the repository that is named.
    Needs(Action),
}

impl Rule {
    /// What is needed in a repository that nothing can change, whatever is tried: to see it. What tries to change it
    /// is then told that it cannot.
    pub fn where_nothing_changes(self) -> Action {
        match self {
            Rule::Open | Rule::Own | Rule::Needs(_) => Action::Pull,
        }
    }

    /// What is needed in a repository that can be written to.
    pub fn where_things_change(self) -> Action {
        match self {
            Rule::Needs(action) => action,
            // No row of a repository says so; if one did, it must not open anything.
            Rule::Open | Rule::Own => Action::Delete,
        }
    }
}

/// The rule of `route` for `method`.
pub fn rule(route: &Route<'_>, method: &Method) -> Rule {
    match route {
        Route::Remote(_) | Route::Virtual(_) => Rule::Needs(Action::Pull),
        Route::Local(_) => Rule::Needs(of_method(method)),
        Route::Registry(registry) => Rule::Needs(of_endpoint(Endpoint::of(registry.path), method)),
        Route::RegistryPing | Route::Token => Rule::Own,
        Route::Livez
        | Route::Readyz { .. }
        | Route::TerraformDiscovery
        | Route::Management
        | Route::Root
        | Route::Unknown
        | Route::Malformed(_) => Rule::Open,
    }
}

/// What a path below `/v2/` is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `blobs/uploads/` and everything below.
    Uploads,
    /// `blobs/{digest}`.
    Blob,
    /// `manifests/{reference}`.
    Manifest,
    /// `tags/list`.
    Tags,
    /// `referrers/{digest}`.
    Referrers,
    /// Anything else: `_catalog`, `{name}/`, nothing.
    Other,
}

impl Endpoint {
    /// Reads a raw path from the right, since an image may be called `a/blobs/uploads`.
    pub fn of(path: &str) -> Self {
        let mut segments = path.rsplit('/');
        let mut next = || segments.next().unwrap_or_default();
        match [next(), next(), next()] {
            ["" | "uploads", "blobs", _] | ["", "uploads", "blobs"] | [_, "uploads", "blobs"] => {
                Endpoint::Uploads
            }
            [_, "blobs", _] => Endpoint::Blob,
            [_, "manifests", _] => Endpoint::Manifest,
            ["list", "tags", _] => Endpoint::Tags,
            [_, "referrers", _] => Endpoint::Referrers,
            _ => Endpoint::Other,
        }
    }
}

/// What `method` needs at an endpoint. An upload is the pusher's own, also to look at and to give up.
pub fn of_endpoint(endpoint: Endpoint, method: &Method) -> Action {
    match endpoint {
        Endpoint::Uploads => Action::Push,
        Endpoint::Blob | Endpoint::Manifest | Endpoint::Tags | Endpoint::Referrers | Endpoint::Other => {
            of_method(method)
        }
    }
}

fn of_method(method: &Method) -> Action {
    match *method {
        Method::GET | Method::HEAD | Method::OPTIONS => Action::Pull,
        Method::PUT | Method::POST | Method::PATCH => Action::Push,
        // Whatever else there is, it needs the most.
        _ => Action::Delete,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::route;

    fn row(target: &str) -> String {
        let uri = target.parse().unwrap();
        let rule = |method| match rule(&route::extract(&method, &uri, http::Version::HTTP_11), &method) {
            Rule::Open => "open",
            Rule::Own => "own",
            Rule::Needs(action) => action.as_str(),
        };
        [Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::PATCH, Method::DELETE, Method::TRACE]
            .map(rule)
            .join(" ")
    }

    #[test]
    fn rs_53_every_route_and_verb_has_its_right() {
        const FILES: &str = "pull pull push push push delete delete";
        for (target, want) in [
            ("/api/v1/remote/r/x", "pull pull pull pull pull pull pull"),
            ("/api/v1/virtual/r/x", "pull pull pull pull pull pull pull"),
            ("/api/v1/local/r/x", FILES),
            ("/v2/", "own own own own own own own"),
            ("/v2", "own own own own own own own"),
            ("/token", "own own own own own own own"),
            ("/v2/l/a/manifests/latest", FILES),
            ("/v2/l/a/blobs/sha256:00", FILES),
            ("/v2/l/a/tags/list", FILES),
            ("/v2/l/a/referrers/sha256:00", FILES),
            ("/v2/_catalog", FILES),
            ("/v2/l/", FILES),
            ("/v2/l/a/blobs/uploads", "push push push push push push push"),
            ("/v2/l/a/blobs/uploads/", "push push push push push push push"),
            ("/v2/l/a/blobs/uploads/id?x=y", "push push push push push push push"),
            ("/v2/l/a/blobs/uploads/manifests/latest", FILES),
            ("/v2/l/uploads/blobs/sha256:00", FILES),
            ("/livez", "open open open open open open open"),
            ("/readyz", "open open open open open open open"),
            ("/.well-known/terraform.json", "open open open open open open open"),
            ("/api/v2/x", "open open open open open open open"),
            ("/", "open open open open open open open"),
            ("/nothing", "open open open open open open open"),
        ] {
            assert_eq!(row(target), want, "{target}");
        }
    }

    #[test]
    fn a_repository_that_nothing_changes_only_asks_who_may_see_it() {
        for action in Action::ALL {
            assert_eq!(Rule::Needs(action).where_nothing_changes(), Action::Pull);
            assert_eq!(Rule::Needs(action).where_things_change(), action);
        }
    }
}
