//! The one extractor: method and raw URI → [`Route`] (RS-20, RS-25, RS-34). Pure and total.
//!
//! This is why no router crate stands in front: routers decode path parameters, so that npm's `@scope%2fname`
//! would become two segments and a guard could see another path than its handler. Here the path below a
//! repository stays exactly as it was sent; only the format's canonicaliser ever decodes it. The result
//! borrows from the URI and allocates nothing.

use http::{Method, Uri, Version};

/// What a request is addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// `/api/v1/remote/{name}/{path}`.
    Remote(Below<'a>),
    /// `/api/v1/virtual/{name}/{path}`.
    Virtual(Below<'a>),
    /// `/api/v1/local/{name}/{path}`.
    Local(Below<'a>),
    /// `/v2/`: whether this is a registry.
    RegistryPing,
    /// `/v2/{path}`: the first segment may name a repository, `ns` or the root mirror may choose one.
    Registry(Registry<'a>),
    /// `/token`: short-lived tokens for registry clients.
    Token,
    /// `/livez`.
    Livez,
    /// `/readyz`, `/healthz`.
    Readyz {
        /// `?verbose`: one line per check.
        verbose: bool,
    },
    /// `/.well-known/terraform.json`.
    TerraformDiscovery,
    /// `/api/v2/…`: management, which answers in problem+json.
    Management,
    /// `/`.
    Root,
    /// Nothing here.
    Unknown,
    /// The request target has a form that an origin server does not serve.
    Malformed(&'static str),
}

/// A path below a named repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Below<'a> {
    /// The name's segment as sent.
    pub name: &'a str,
    /// Raw path after the name and its slash.
    pub path: &'a str,
    /// Raw query, empty when there is none.
    pub query: &'a str,
}

/// A path of the registry API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registry<'a> {
    /// Raw path after `/v2/`, never empty.
    pub path: &'a str,
    /// Raw query, empty when there is none.
    pub query: &'a str,
    /// Raw value of `ns`: the registry that a mirror stands in for.
    pub ns: Option<&'a str>,
}

impl<'a> Registry<'a> {
    /// The first segment and what follows its slash (empty when nothing does).
    pub fn split_name(&self) -> (&'a str, &'a str) {
        self.path.split_once('/').unwrap_or((self.path, ""))
    }
}

/// What is wrong with a target that names another host.
const NOT_A_FORWARD_PROXY: &str =
    "this server answers for itself only; ask for a path such as /api/v1/remote/{name}/…, not for a URL";

/// Reads a request's target.
pub fn extract<'a>(method: &Method, uri: &'a Uri, version: Version) -> Route<'a> {
    if *method == Method::CONNECT {
        return Route::Malformed(NOT_A_FORWARD_PROXY);
    }
    // HTTP/2 carries scheme and authority beside the path; in HTTP/1 they mean that a proxy is wanted.
    let names_host = uri.scheme().is_some() || uri.authority().is_some();
    if names_host && version < Version::HTTP_2 {
        return Route::Malformed(NOT_A_FORWARD_PROXY);
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Route::Malformed("the host must not carry a user name");
    }
    let query = uri.query().unwrap_or_default();
    of_path(uri.path(), query)
}

fn of_path<'a>(path: &'a str, query: &'a str) -> Route<'a> {
    let Some(path) = path.strip_prefix('/') else { return Route::Unknown };
    if let Some(rest) = path.strip_prefix("api/v1/") {
        return repository(rest, query);
    }
    if let Some(rest) = path.strip_prefix("v2/") {
        return match rest {
            "" => Route::RegistryPing,
            _ => Route::Registry(Registry { path: rest, query, ns: parameter(query, "ns") }),
        };
    }
    match path {
        "" => Route::Root,
        "v2" => Route::RegistryPing,
        "token" => Route::Token,
        "livez" => Route::Livez,
        "readyz" | "healthz" => Route::Readyz { verbose: has_parameter(query, "verbose") },
        ".well-known/terraform.json" => Route::TerraformDiscovery,
        _ if path == "api/v2" || path.starts_with("api/v2/") => Route::Management,
        _ => Route::Unknown,
    }
}

fn repository<'a>(rest: &'a str, query: &'a str) -> Route<'a> {
    let Some((kind, rest)) = rest.split_once('/') else { return Route::Unknown };
    let (name, path) = rest.split_once('/').unwrap_or((rest, ""));
    let below = Below { name, path, query };
    match kind {
        _ if name.is_empty() => Route::Unknown,
        "remote" => Route::Remote(below),
        "virtual" => Route::Virtual(below),
        "local" => Route::Local(below),
        _ => Route::Unknown,
    }
}

/// The first value of `name`; a parameter without a value counts as empty.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

fn has_parameter(query: &str, name: &str) -> bool {
    parameter(query, name).is_some()
}

#[cfg(test)]
mod tests {
    use artifactapi_model::{RepoPath, Spelling};
    use proptest::prelude::*;

    use super::*;

    fn route(target: &str) -> Route<'static> {
        let uri: &'static Uri = Box::leak(Box::new(target.parse().unwrap()));
        extract(&Method::GET, uri, Version::HTTP_11)
    }

    fn below(name: &'static str, path: &'static str, query: &'static str) -> Below<'static> {
        Below { name, path, query }
    }

    #[test]
    fn knows_every_address() {
        for (target, want) in [
            ("/", Route::Root),
            ("/token?service=h&scope=repository:a:pull", Route::Token),
            ("/livez", Route::Livez),
            ("/readyz", Route::Readyz { verbose: false }),
            ("/readyz?verbose", Route::Readyz { verbose: true }),
            ("/healthz?a&verbose=1", Route::Readyz { verbose: true }),
            ("/v2", Route::RegistryPing),
            ("/v2/", Route::RegistryPing),
            ("/v2/?ns=docker.io", Route::RegistryPing),
            ("/.well-known/terraform.json", Route::TerraformDiscovery),
            ("/api/v2/remotes", Route::Management),
            ("/api/v1/remote/pypi/simple/flask/", Route::Remote(below("pypi", "simple/flask/", ""))),
            ("/api/v1/remote/pypi", Route::Remote(below("pypi", "", ""))),
            ("/api/v1/remote/pypi/", Route::Remote(below("pypi", "", ""))),
            ("/api/v1/remote/n/@a%2fb?x=%2f", Route::Remote(below("n", "@a%2fb", "x=%2f"))),
            ("/api/v1/remote/n//etc", Route::Remote(below("n", "/etc", ""))),
            ("/api/v1/virtual/all/x", Route::Virtual(below("all", "x", ""))),
            ("/api/v1/local/mine/x", Route::Local(below("mine", "x", ""))),
            ("/api/v1/remote/", Route::Unknown),
            ("/api/v1/remote//x", Route::Unknown),
            ("/api/v1/other/n/x", Route::Unknown),
            ("/api/v1", Route::Unknown),
            ("/api/v2x", Route::Unknown),
            ("/v2x/", Route::Unknown),
            ("/%61pi/v1/remote/n/x", Route::Unknown),
        ] {
            assert_eq!(route(target), want, "{target}");
        }
        let ns = route("/v2/library/alpine/manifests/latest?ns=docker.io&n=1");
        let Route::Registry(registry) = ns else { panic!("{ns:?}") };
        assert_eq!(registry.ns, Some("docker.io"));
        assert_eq!(registry.split_name(), ("library", "alpine/manifests/latest"));
    }

    #[test]
    fn rs_34_is_no_forward_proxy() {
        for target in [
            "http://evil.test/",
            "http://evil.test/api/v1/remote/pypi/x",
            "https://user@evil.test/v2/",
            "evil.test:443",
        ] {
            assert!(matches!(route(target), Route::Malformed(_)), "{target}");
        }
        let connect: Uri = "evil.test:443".parse().unwrap();
        assert!(matches!(extract(&Method::CONNECT, &connect, Version::HTTP_2), Route::Malformed(_)));
        let userinfo: Uri = "https://me@proxy.test/livez".parse().unwrap();
        assert!(matches!(extract(&Method::GET, &userinfo, Version::HTTP_2), Route::Malformed(_)));
        let plain: Uri = "https://proxy.test/livez".parse().unwrap();
        assert_eq!(extract(&Method::GET, &plain, Version::HTTP_2), Route::Livez);
        for target in
            ["//evil.test/", "//evil.test/api/v1/remote/pypi/x", "/@evil.test/", "/http://evil.test/", "*"]
        {
            assert_eq!(route(target), Route::Unknown, "{target}");
        }
    }

    proptest! {
        /// RS-25: what is looked up by name and what is handed to the handler are parts of one split, so that
        /// they cannot disagree; nothing is lost, added or decoded on the way.
        #[test]
        fn rs_25_name_and_path_put_together_are_the_target(
            name in "[a-z0-9%.-]{1,12}",
            path in "([a-z0-9@!+~:._-]|%2[ef5]|%5c|/|\\.\\.){0,30}",
            query in "([a-z&=%]){0,10}",
        ) {
            let target = format!("/api/v1/remote/{name}/{path}?{query}");
            let Ok(uri) = target.parse::<Uri>() else { return Ok(()) };
            let Route::Remote(below) = extract(&Method::GET, &uri, Version::HTTP_11) else {
                return Err(TestCaseError::fail(target));
            };
            prop_assert_eq!(below.name, &name);
            prop_assert_eq!(below.path, &path);
            prop_assert_eq!(below.query, &query);
            if let Ok(canonical) = RepoPath::parse(below.path, Spelling::Plain) {
                prop_assert!(!canonical.as_str().split('/').any(|segment| segment == ".."));
            }
        }

        #[test]
        fn rs_20_never_panics(target in "\\PC{0,60}|[/a-z0-9%@:?&=.]{0,60}") {
            if let Ok(uri) = target.parse::<Uri>() {
                for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
                    let _ = extract(&Method::GET, &uri, version);
                }
            }
        }
    }
}
