# Where built things are kept between checkouts, and which versions the tests are held against. Sourced.

: "${ARTIFACTAPI_CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/artifactapi}"
export ARTIFACTAPI_CACHE
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$ARTIFACTAPI_CACHE/target}"
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-never}"

CRANE_VERSION=v0.22.1
HELM_VERSION=v3.22.0
CARGO_DENY_VERSION=0.20.2
CARGO_FUZZ_VERSION=0.13.2
# Debian packages that clients, fixtures and services come from.
APT_PACKAGES=(createrepo-c curl dnf jq openssl puppet-agent rpm skopeo xz-utils zstd busybox-static unzip)
