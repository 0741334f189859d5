# Where built things are kept between checkouts, and which versions the tests are held against. Sourced.

: "${ARTIFACTAPI_CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/artifactapi}"
export ARTIFACTAPI_CACHE
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$ARTIFACTAPI_CACHE/target}"
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-never}"

RUST_NEEDED=1.95
GO_NEEDED=1.26
CONFORMANCE_VERSION=v0.0.0-20260831232431-97274622c111
COREDNS_VERSION=v1.14.7
CRANE_VERSION=v0.22.1
DISTRIBUTION_VERSION=v3.1.2
HELM_VERSION=v3.22.0
CARGO_DENY_VERSION=0.20.2
CARGO_FUZZ_VERSION=0.13.2
TERRAFORM_VERSION=v1.5.7
UV_VERSION=0.13.9
REGCTL_VERSION=v0.11.7
# With the go.mod of hack/tools/kubernetes, where the staging repositories of this version stand.
KUBERNETES_VERSION=v1.34.4
# Decides what network policies let through on the node of hack/cluster.
NETWORK_POLICIES_VERSION=v0.8.0
# Definitions of other projects that the chart has objects of.
GATEWAY_API_VERSION=v1.4.1
PROMETHEUS_OPERATOR_VERSION=v0.85.0
MINIO_VERSION=v0.0.0-20260212201848-7aac2a2c5b7c
# Debian packages that clients, fixtures and services come from.
APT_PACKAGES=(binutils containernetworking-plugins createrepo-c curl dnf etcd-server faketime gnupg iptables jq openssl postgresql puppet-agent redis-server rpm skopeo strace xz-utils zstd busybox-static unzip)
# Programs that may come from elsewhere, with the Debian package for where they do not.
APT_PROGRAMS=(buildah:buildah ctr:containerd dockerd:docker.io npm:npm pip:python3-pip podman:podman python3:python3 runc:runc tar:tar)
