//! Which right each request needs: one row for every route, and one for every endpoint of a registry.
//!
//! Every match is without `_`: a route or an endpoint that is added does not compile before it has its row here
//! (RS-53). [`crate::http::locals`] obeys the rows of endpoints. [`crate::http::handle`] serves only repositories that
//! nothing can change, so that of [`Rule::Needs`] nothing but [`Rule::where_nothing_changes`] counts yet.

use artifactapi_model::account::Action;
use http::Method;

use crate::http::{locals::route::Endpoint, route::Route};

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Nothing: the page is for everyone, or there is nothing here.
    Open,
    /// The page looks for itself whom it answers.
    Own,
    /// The right to do this in the repository that is named.
    Needs(Action),
    /// The right that [`of_endpoint`] says.
    ByEndpoint,
}

impl Rule {
    /// What is needed in a repository that nothing can change, whatever is tried: to see it. What tries to change it
    /// is then told that it cannot.
    pub fn where_nothing_changes(self) -> Action {
        match self {
            Rule::Open | Rule::Own | Rule::Needs(_) | Rule::ByEndpoint => Action::Pull,
        }
    }
}

/// The rule of `route` for `method`.
pub fn rule(route: &Route<'_>, method: &Method) -> Rule {
    match route {
        Route::Remote(_) | Route::Virtual(_) => Rule::Needs(Action::Pull),
        Route::Local(_) => Rule::Needs(of_method(method)),
        Route::Registry(_) => Rule::ByEndpoint,
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

/// What `method` needs at an endpoint of a Local. An upload is the pusher's own, also to look at and to give up.
pub fn of_endpoint(endpoint: &Endpoint, method: &Method) -> Action {
    match endpoint {
        Endpoint::Uploads | Endpoint::Upload(_) => Action::Push,
        Endpoint::Blob(_) | Endpoint::Manifest(_) | Endpoint::Tags | Endpoint::Referrers(_) => {
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
    use crate::http::{locals, route};

    const METHODS: [Method; 7] =
        [Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::PATCH, Method::DELETE, Method::TRACE];
    const FILES: &str = "pull pull push push push delete delete";

    fn row(target: &str) -> String {
        let uri = target.parse().unwrap();
        let rule = |method| match rule(&route::extract(&method, &uri, http::Version::HTTP_11), &method) {
            Rule::Open => "open",
            Rule::Own => "own",
            Rule::Needs(action) => action.as_str(),
            Rule::ByEndpoint => "endpoint",
        };
        METHODS.map(rule).join(" ")
    }

    #[test]
    fn rs_53_every_route_and_verb_has_its_right() {
        for (target, want) in [
            ("/api/v1/remote/r/x", "pull"),
            ("/api/v1/virtual/r/x", "pull"),
            ("/v2/", "own"),
            ("/v2", "own"),
            ("/token", "own"),
            ("/v2/l/a/manifests/latest", "endpoint"),
            ("/v2/_catalog", "endpoint"),
            ("/v2/l/", "endpoint"),
            ("/livez", "open"),
            ("/readyz", "open"),
            ("/.well-known/terraform.json", "open"),
            ("/api/v2/x", "open"),
            ("/", "open"),
            ("/nothing", "open"),
        ] {
            assert_eq!(row(target), [want; METHODS.len()].join(" "), "{target}");
        }
        assert_eq!(row("/api/v1/local/r/x"), FILES);
    }

    #[test]
    fn rs_53_every_endpoint_and_verb_has_its_right() {
        const UPLOADS: &str = "push push push push push push push";
        let digest = format!("sha256:{}", "0".repeat(64));
        for (path, want) in [
            ("a/manifests/latest".to_owned(), FILES),
            (format!("a/manifests/{digest}"), FILES),
            (format!("a/blobs/{digest}"), FILES),
            ("a/tags/list".into(), FILES),
            (format!("a/referrers/{digest}"), FILES),
            ("a/blobs/uploads".into(), UPLOADS),
            ("a/blobs/uploads/".into(), UPLOADS),
            ("a/blobs/uploads/x".into(), UPLOADS),
            ("a/blobs/%75ploads/x".into(), UPLOADS),
            ("a/blobs/uploads/manifests/latest".into(), FILES),
            (format!("uploads/blobs/{digest}"), FILES),
        ] {
            let route = locals::route::parse(&path).unwrap();
            let row = METHODS.map(|method| of_endpoint(&route.endpoint, &method).as_str()).join(" ");
            assert_eq!(row, want, "{path}");
        }
    }

    #[test]
    fn a_repository_that_nothing_changes_only_asks_who_may_see_it() {
        for rule in [Rule::Needs(Action::Delete), Rule::ByEndpoint, Rule::Own, Rule::Open] {
            assert_eq!(rule.where_nothing_changes(), Action::Pull);
        }
    }
}
