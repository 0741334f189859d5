//! What a request to a Virtual is about: the package it names, and how a member shows that it has it.
//!
//! The first member that has the *name* owns it, with all its versions and files; whatever is asked about that name
//! goes to the owner. So index and download are decided by the same question (RS-48), and a member that is
//! never asked about a name cannot learn it (RS-49).

use artifactapi_model::{PackageType, PathError, RepoPath, Spelling};

use crate::{PlanError, Request, docker, goproxy, link, merge::directory_of, npm, puppet, pypi, terraform};

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One of these packages, likeliest first: file names do not always tell where the name ends.
    Packages(Vec<Package>),
    /// Something that is no package's: the first member that answers has it. `name` is what `reserved` patterns
    /// see of it, empty when it names nothing.
    Anything {
        /// A name.
        name: String,
        /// Whether it tells a member about packages that it may not be asked for (npm's audit).
        tells: bool,
    },
}

/// A package, and what shows that a member has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name, as `reserved` patterns see it and as its ecosystem normalises it.
    pub name: String,
    /// Canonical path (then `?query`) of the document that exists where the package does.
    pub proof: String,
    /// Whether that document must also list the path that is asked for.
    pub lists: bool,
}

impl Subject {
    fn package(name: impl Into<String>, proof: impl Into<String>) -> Self {
        Subject::Packages(vec![Package { name: name.into(), proof: proof.into(), lists: false }])
    }

    fn anything(name: impl Into<String>) -> Self {
        Subject::Anything { name: name.into(), tells: false }
    }
}

/// The canonical path of `raw_path` in a Virtual of `package_type`.
///
/// # Errors
/// [`PathError`] for one that is malformed.
pub fn path(package_type: PackageType, raw_path: &str) -> Result<RepoPath, PathError> {
    let spelling = match package_type {
        PackageType::Npm => Spelling::NpmScope,
        _ => Spelling::Plain,
    };
    RepoPath::parse(raw_path, spelling)
}

/// What `request` is about in a Virtual of `package_type`.
///
/// # Errors
/// [`PlanError`], as the type's plan would give it.
pub fn subject(package_type: PackageType, request: &Request<'_>) -> Result<Subject, PlanError> {
    let path = path(package_type, request.raw_path)?;
    // A signed link carries the index that named the file. Whether it may be believed only the member can tell that
    // made it, and no other serves it; until then it is a name like one that a client writes into a path.
    let linked = link::claimed_index(&path)?;
    let about = linked.as_deref().unwrap_or(path.as_str());
    Ok(match package_type {
        PackageType::Docker => {
            let image = docker::image(about)?;
            Subject::package(image, format!("{image}/tags/list?n=1"))
        }
        PackageType::Npm => npm(about)?,
        PackageType::Pypi => pypi(about, linked.is_none())?,
        PackageType::Goproxy => match goproxy::module_of(about) {
            // Also of a record in the checksum database: whoever keeps that would learn the name.
            goproxy::Named::Module(module) | goproxy::Named::Record(module) => {
                Subject::package(module, format!("{module}/@v/list"))
            }
            goproxy::Named::Nothing => Subject::anything(""),
        },
        PackageType::Puppet => match puppet::module(about, request.query) {
            Some(module) => Subject::package(module.clone(), format!("v3/modules/{module}")),
            // A search.
            None => Subject::Anything { name: String::new(), tells: about.starts_with("v3/") },
        },
        PackageType::Terraform => match terraform::provider(about)? {
            Some((name, proof)) => Subject::package(name, proof),
            None => Subject::anything(""),
        },
        // What no merge knows of the united types: keys, release lists.
        PackageType::Generic | PackageType::Helm | PackageType::Rpm | PackageType::Alpine => {
            Subject::anything(about)
        }
    })
}

/// What belongs to the registry as a whole may carry names in its query or body (audit, search), unless it is known
/// to carry none.
fn npm(about: &str) -> Result<Subject, PlanError> {
    const HARMLESS: [&str; 3] = ["-/ping", "-/whoami", "-/npm/v1/keys"];
    Ok(match npm::subject(about)? {
        Some(name) => Subject::package(name, name),
        None => Subject::Anything { name: String::new(), tells: !HARMLESS.contains(&about) },
    })
}

/// Spellings of one name that people may reserve: as its ecosystem writes it, and as it travels.
pub fn spellings(package_type: PackageType, name: &str) -> Vec<String> {
    let mut spellings = vec![name.to_owned()];
    match package_type {
        PackageType::Goproxy => spellings.push(goproxy::unescaped(name)),
        PackageType::Docker => spellings.extend(name.strip_prefix("library/").map(str::to_owned)),
        PackageType::Terraform => {
            // Without its host, as on the registry face.
            let without_host = name.split_once('/').map(|(_, rest)| rest).filter(|rest| rest.contains('/'));
            spellings.extend(without_host.map(str::to_owned));
        }
        PackageType::Puppet => {
            spellings.push(name.replacen('-', "/", 1));
            // To the Forge all cases are one name.
            let lower = name.to_ascii_lowercase();
            if lower != name {
                spellings.extend([lower.replacen('-', "/", 1), lower]);
            }
        }
        // An index that does not lie below `simple/` has its project as people write it.
        PackageType::Pypi => {
            let normalised = pypi::normalised(name);
            if normalised != name {
                spellings.push(normalised);
            }
        }
        _ => {}
    }
    spellings
}

/// A page says its project; a file's name may be read in several ways, and only a page that lists it decides.
fn pypi(about: &str, is_path: bool) -> Result<Subject, PlanError> {
    // A file below the page that names it.
    let about = directory_of(about).unwrap_or(about);
    if let Some((name, proof)) = pypi::project(about) {
        return Ok(Subject::package(name, proof));
    }
    if !is_path {
        // An index that is no project's page: whoever has it.
        return Ok(Subject::anything(pypi::last_name(about)));
    }
    let candidates = pypi::projects(about);
    if candidates.is_empty() {
        return Ok(Subject::anything(pypi::last_name(about)));
    }
    let package = |name: String| Package { proof: format!("simple/{name}/"), name, lists: true };
    Ok(Subject::Packages(candidates.into_iter().map(package).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Method, testing};

    fn ask(package_type: PackageType, target: &str) -> String {
        let (raw_path, query) = target.split_once('?').unwrap_or((target, ""));
        let request = Request { method: Method::Get, raw_path, query, accept: "" };
        match subject(package_type, &request) {
            Ok(Subject::Packages(packages)) => {
                let show = |it: &Package| {
                    format!("{} by {}{}", it.name, it.proof, if it.lists { " listing it" } else { "" })
                };
                packages.iter().map(show).collect::<Vec<_>>().join(", ")
            }
            Ok(Subject::Anything { name, tells }) => {
                format!("anything {name:?}{}", if tells { " telling" } else { "" })
            }
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn every_path_of_a_package_is_about_that_package() {
        use PackageType as T;
        let digest = format!("sha256:{}", "0".repeat(64));
        for (package_type, target, want) in [
            (T::Generic, "dir/file.zip", "anything \"dir/file.zip\"".to_owned()),
            (T::Docker, "a/b/manifests/latest", "a/b by a/b/tags/list?n=1".into()),
            (T::Docker, &format!("a/blobs/{digest}"), "a by a/tags/list?n=1".into()),
            (T::Docker, "a/tags/list?n=5", "a by a/tags/list?n=1".into()),
            (T::Npm, "lodash", "lodash by lodash".into()),
            (T::Npm, "@corp%2ftool", "@corp/tool by @corp/tool".into()),
            (T::Npm, "@corp/tool/-/tool-1.0.0.tgz", "@corp/tool by @corp/tool".into()),
            (T::Npm, "lodash/1.0.0", "lodash by lodash".into()),
            (T::Npm, "-/package/@corp%2ftool/dist-tags", "@corp/tool by @corp/tool".into()),
            (T::Npm, "-/npm/v1/attestations/@corp%2ftool@1.0.0", "@corp/tool by @corp/tool".into()),
            (T::Npm, "-/npm/v1/keys", "anything \"\"".into()),
            (T::Pypi, "simple/Flask_X/", "flask-x by simple/flask-x/".into()),
            (T::Pypi, "pypi/flask/json", "flask by simple/flask/".into()),
            (T::Pypi, "pypi/simple/json", "simple by simple/simple/".into()),
            (T::Pypi, "pypi/simple/Corp_Secret/", "corp-secret by pypi/simple/corp-secret/".into()),
            (T::Pypi, "Corp_Secret/", "anything \"corp-secret\"".into()),
            (T::Pypi, "whl/cpu/corp.secret/index.html", "anything \"corp-secret\"".into()),
            (T::Pypi, "whl/cpu/Corp_secret", "anything \"corp-secret\"".into()),
            (T::Pypi, "packages/ab/Flask-3.0.0-py3-none-any.whl", "flask by simple/flask/ listing it".into()),
            (
                T::Pypi,
                "packages/foo-1.0-beta.zip",
                "foo by simple/foo/ listing it, foo-1-0 by simple/foo-1-0/ listing it".into(),
            ),
            (T::Goproxy, "example.com/!a/b/@v/list", "example.com/!a/b by example.com/!a/b/@v/list".into()),
            (T::Goproxy, "example.com/a/@v/v1.0.0.zip", "example.com/a by example.com/a/@v/list".into()),
            (T::Goproxy, "example.com/a/@latest", "example.com/a by example.com/a/@v/list".into()),
            (
                T::Goproxy,
                "sumdb/sum.golang.org/lookup/example.com/a@v1.0.0",
                "example.com/a by example.com/a/@v/list".into(),
            ),
            (T::Goproxy, "sumdb/sum.golang.org/latest", "anything \"\"".into()),
            (T::Puppet, "v3/releases?module=corp-tool&limit=1", "corp-tool by v3/modules/corp-tool".into()),
            (T::Puppet, "v3/releases?module=Corp-Tool", "Corp-Tool by v3/modules/Corp-Tool".into()),
            (T::Puppet, "v3/releases?limit=1&module=corp/tool", "corp-tool by v3/modules/corp-tool".into()),
            (T::Puppet, "v3/releases/corp-tool-1.0.0", "corp-tool by v3/modules/corp-tool".into()),
            (T::Puppet, "v3/modules/corp-tool", "corp-tool by v3/modules/corp-tool".into()),
            (T::Puppet, "v3/files/corp-tool-1.0.0.tar.gz", "corp-tool by v3/modules/corp-tool".into()),
            (T::Puppet, "v3/modules/corp-tool/", "corp-tool by v3/modules/corp-tool".into()),
            (T::Puppet, "v3/modules?query=x", "anything \"\" telling".into()),
            (T::Npm, "-/v1/search?text=x", "anything \"\" telling".into()),
            (T::Pypi, "root/dev/+simple/Flask/", "flask by root/dev/+simple/flask/".into()),
            (T::Pypi, "simple/secret/index.html", "secret by simple/secret/".into()),
            (T::Pypi, "simple/secret/-/m/one/-/top/x/other-1.whl", "secret by simple/secret/".into()),
            (
                T::Terraform,
                "v1/providers/Corp/tool/versions",
                "corp/tool by v1/providers/corp/tool/versions".into(),
            ),
            (
                T::Terraform,
                "v1/providers/corp/tool/1.0.0/download/linux/amd64",
                "corp/tool by v1/providers/corp/tool/versions".into(),
            ),
            (
                T::Terraform,
                "reg.test/corp/tool/1.0.0.json",
                "reg.test/corp/tool by reg.test/corp/tool/index.json".into(),
            ),
            (
                T::Terraform,
                "reg.test/corp/tool/1.0.0/download/linux/amd64/terraform-provider-tool_1.0.0_linux_amd64.zip",
                "reg.test/corp/tool by reg.test/corp/tool/index.json".into(),
            ),
            (T::Terraform, ".well-known/terraform.json", "anything \"\"".into()),
            (T::Alpine, "keys/a.rsa.pub", "anything \"keys/a.rsa.pub\"".into()),
        ] {
            assert_eq!(ask(package_type, target), want, "{package_type} {target}");
        }
        assert!(ask(T::Pypi, "-/x/AAAA/f.whl").starts_with("error"));
        assert!(ask(T::Generic, "a/../b").starts_with("error"));
    }

    #[test]
    fn a_name_is_reserved_however_it_is_spelled() {
        for (package_type, name, other) in [
            (PackageType::Goproxy, "example.com/!my!corp/x", "example.com/MyCorp/x"),
            (PackageType::Docker, "library/foo", "foo"),
            (PackageType::Terraform, "reg.test/corp/x", "corp/x"),
            (PackageType::Puppet, "corp-tool", "corp/tool"),
            (PackageType::Pypi, "Corp_Tool", "corp-tool"),
        ] {
            assert_eq!(spellings(package_type, name), [name, other]);
        }
        let of_a_module = spellings(PackageType::Puppet, "Corp-Tool");
        assert_eq!(of_a_module, ["Corp-Tool", "Corp/Tool", "corp/tool", "corp-tool"]);
        assert_eq!(spellings(PackageType::Npm, "@corp/x"), ["@corp/x"]);
        assert_eq!(spellings(PackageType::Terraform, "corp/x"), ["corp/x"]);
    }

    #[test]
    fn an_audit_tells_names() {
        let request = Request {
            method: Method::Post,
            raw_path: "-/npm/v1/security/advisories/bulk",
            query: "",
            accept: "",
        };
        let about = subject(PackageType::Npm, &request).unwrap();
        assert_eq!(about, Subject::Anything { name: String::new(), tells: true });
    }

    #[test]
    fn a_signed_link_is_about_the_project_whose_page_named_it() {
        let remote = testing::remote(PackageType::Pypi, "https://up.test/");
        let url = url::Url::parse("https://files.test/a/foo-1.0.whl").unwrap();
        let raw_path = testing::links().link(&remote, "simple/foo/", &url).unwrap();
        let request = Request { method: Method::Get, raw_path: &raw_path, query: "", accept: "" };
        let about = subject(PackageType::Pypi, &request).unwrap();
        assert_eq!(about, Subject::package("foo", "simple/foo/"));
    }
}
