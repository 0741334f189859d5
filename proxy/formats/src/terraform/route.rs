//! The paths of both faces, and the names in them.

use std::fmt;

use crate::PlanError;

/// Longest name, version or file name, in bytes.
const MAX_NAME: usize = 128;
const SUMS: &str = "SHA256SUMS";
const SIGNATURE: &str = "SHA256SUMS.sig";

/// One path below a terraform repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// The discovery document.
    Discovery,
    /// The versions of a provider.
    Versions(Provider),
    /// The download document of a package.
    Download(Package),
    /// A file that a download document names.
    File(Package, File),
    /// The mirror's list of versions.
    MirrorIndex {
        /// As in provider addresses.
        hostname: String,
        /// The provider.
        provider: Provider,
    },
    /// The mirror's archives of one version.
    MirrorVersion {
        /// As in provider addresses.
        hostname: String,
        /// The provider.
        provider: Provider,
        /// Its version.
        version: String,
    },
    /// A file of a package below the mirror's own address, so that it tells its host.
    MirrorFile {
        /// As in provider addresses.
        hostname: String,
        /// The package.
        package: Package,
        /// The file.
        file: File,
    },
}

/// A provider without its host: namespace and type, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Provider {
    namespace: String,
    /// The type, as in `terraform-provider-{name}`.
    pub(super) name: String,
}

/// One version of a provider for one platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Package {
    /// The provider.
    pub(super) provider: Provider,
    /// Its version, without `v`.
    pub(super) version: String,
    /// Operating system, as Go calls it.
    pub(super) os: String,
    /// Architecture, as Go calls it.
    pub(super) arch: String,
}

/// A file of a package, by the name we give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum File {
    /// The provider itself, under upstream's file name.
    Archive(String),
    /// SHA-256 of the archives of all platforms.
    Sums,
    /// The detached OpenPGP signature over it.
    Signature,
}

impl Route {
    /// Reads a canonical path.
    ///
    /// # Errors
    /// [`PlanError::NotFound`] for what neither protocol knows.
    pub(super) fn parse(path: &str) -> Result<Self, PlanError> {
        let segments: Vec<&str> = path.split('/').collect();
        Self::of(&segments).ok_or(PlanError::NotFound(
            "neither the provider registry nor the mirror protocol has such a path",
        ))
    }

    fn of(segments: &[&str]) -> Option<Self> {
        Some(match segments {
            [".well-known", "terraform.json"] => Route::Discovery,
            ["v1", "providers", namespace, name, "versions"] => {
                Route::Versions(Provider::of(namespace, name)?)
            }
            ["v1", "providers", namespace, name, version, "download", os, arch, file @ ..] => {
                let provider = Provider::of(namespace, name)?;
                let package = Package::of(provider, version, os, arch)?;
                match file {
                    [] => Route::Download(package),
                    [file] => Route::File(package, File::of(file)?),
                    _ => return None,
                }
            }
            [hostname, namespace, name, version, "download", os, arch, file] => {
                let package = Package::of(Provider::of(namespace, name)?, version, os, arch)?;
                Route::MirrorFile { hostname: (*hostname).to_owned(), package, file: File::of(file)? }
            }
            [hostname, namespace, name, file] => {
                let provider = Provider::of(namespace, name)?;
                let hostname = (*hostname).to_owned();
                match file.strip_suffix(".json")? {
                    "index" => Route::MirrorIndex { hostname, provider },
                    version => {
                        let version = Some(version).filter(|version| is_version(version))?.to_owned();
                        Route::MirrorVersion { hostname, provider, version }
                    }
                }
            }
            _ => return None,
        })
    }
}

impl Provider {
    fn of(namespace: &str, name: &str) -> Option<Self> {
        (is_label(namespace) && is_label(name))
            .then(|| Provider { namespace: namespace.to_ascii_lowercase(), name: name.to_ascii_lowercase() })
    }

    /// Its part of the registry, without trailing slash.
    pub(super) fn base(&self) -> String {
        format!("v1/providers/{self}")
    }

    /// Path of its versions document.
    pub(super) fn versions(&self) -> String {
        format!("{}/versions", self.base())
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Package {
    /// A package, or `None` when a part is no such name.
    pub(super) fn of(provider: Provider, version: &str, os: &str, arch: &str) -> Option<Self> {
        (is_version(version) && is_platform(os) && is_platform(arch)).then(|| Package {
            provider,
            version: version.to_owned(),
            os: os.to_owned(),
            arch: arch.to_owned(),
        })
    }

    /// Path of its download document.
    pub(super) fn download(&self) -> String {
        format!("{}/{}/download/{}/{}", self.provider.base(), self.version, self.os, self.arch)
    }

    /// What its archive is called by convention.
    pub(super) fn archive(&self) -> String {
        let Package { provider, version, os, arch } = self;
        format!("terraform-provider-{}_{version}_{os}_{arch}.zip", provider.name)
    }

    /// Path of one of its files.
    pub(super) fn file(&self, file: &File) -> String {
        format!("{}/{}", self.download(), file.name())
    }
}

impl File {
    /// The file called `name`; archives end in `.zip`.
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            SUMS => Some(File::Sums),
            SIGNATURE => Some(File::Signature),
            _ => is_archive(name).then(|| File::Archive(name.to_owned())),
        }
    }

    /// Its name in our paths.
    pub(super) fn name(&self) -> &str {
        match self {
            File::Archive(name) => name,
            File::Sums => SUMS,
            File::Signature => SIGNATURE,
        }
    }
}

/// ASCII letters, digits and single inner dashes (`ParseProviderPart` of hashicorp/terraform-registry-address).
fn is_label(text: &str) -> bool {
    text.len() <= MAX_NAME
        && text.split('-').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// A semantic version without `v`, as far as a path needs to know.
pub(super) fn is_version(text: &str) -> bool {
    let core = text.split(['-', '+']).next().unwrap_or_default();
    let mut numbers = core.split('.');
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    text.len() <= MAX_NAME
        && (0..3).all(|_| numbers.next().is_some_and(number))
        && numbers.next().is_none()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-+".contains(&b))
}

fn is_platform(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// A plain file name: it becomes a path segment and part of a relative URL (RS-26, RS-56).
pub(super) fn is_archive(name: &str) -> bool {
    name.len() <= 255
        && name.ends_with(".zip")
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-+".contains(&b))
}
