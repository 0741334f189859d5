# Installs what the tests need and this machine lacks; asks nobody and changes nothing that is there. Sourced.

missing_tools=()

# Reports a tool that cannot be had here; the tests that need it skip themselves by name.
lacks() {
    missing_tools+=("$1: $2")
    printf 'NOT AVAILABLE: %s (%s)\n' "$1" "$2" >&2
}

# older VERSION THAN: whether it is.
older() { [[ $1 != "$2" && $(printf '%s\n' "$1" "$2" | sort -V | head -1) == "$1" ]]; }

# Says at the start what a build would say an hour later: Debian 12 has a Rust and a Go that are too old.
need_toolchains() {
    local rust go
    rust=$(rustc --version 2>/dev/null | cut -d' ' -f2) || true
    if [[ -z $rust ]] || older "$rust" "$RUST_NEEDED"; then
        echo "Rust $RUST_NEEDED or later is needed, and ${rust:-none} is installed: https://rustup.rs" >&2
        exit 1
    fi
    command -v cc >/dev/null || { echo "a C compiler is needed, and there is no cc: apt-get install gcc libc6-dev" >&2; exit 1; }
    go=$(go env GOVERSION 2>/dev/null) || true
    # Without Go there are only fewer tests; with one that is too old, hours of builds that fail.
    if [[ -n $go ]] && older "${go#go}" "$GO_NEEDED"; then
        echo "Go $GO_NEEDED or later is needed, and ${go#go} is installed: https://go.dev/dl" >&2
        exit 1
    fi
}

install_debian_packages() {
    local package program wanted=()
    command -v dpkg-query >/dev/null || { lacks "Debian packages" "this is no Debian"; return; }
    for package in "${APT_PACKAGES[@]}"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || wanted+=("$package")
    done
    for program in "${APT_PROGRAMS[@]}"; do
        command -v "${program%%:*}" >/dev/null || wanted+=("${program#*:}")
    done
    (( ${#wanted[@]} )) || return 0
    (( EUID == 0 )) || { lacks "${wanted[*]}" "installing them needs root"; return; }
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q >/dev/null || true
    apt-get install -q -y --no-install-recommends "${wanted[@]}" >/dev/null || lacks "${wanted[*]}" "apt-get failed"
}

# install_go_tool NAME MODULE VERSION: builds it once into a directory of its version.
install_go_tool() {
    local dir="$ARTIFACTAPI_CACHE/tools/$1-$3"
    if [[ ! -x "$dir/$1" ]]; then
        command -v go >/dev/null || { lacks "$1" "it is built with go, which is not installed"; return; }
        GOBIN="$dir" GOFLAGS=-trimpath CGO_ENABLED=0 go install "$2@$3" || { lacks "$1" "go install failed"; return; }
        # What is built is called as its directory is.
        [[ -x "$dir/$1" ]] || mv "$dir/${2##*/}" "$dir/$1"
    fi
    PATH="$dir:$PATH"
}

# install_kubernetes PROGRAM…: builds those of its programs that are not there yet into the directory of its version.
install_kubernetes() {
    local version=$KUBERNETES_VERSION dir="$ARTIFACTAPI_CACHE/tools/kubernetes-$KUBERNETES_VERSION" flags="-s -w" package program
    local minor=${version#v1.}; minor=${minor%%.*}
    local wanted=()
    for program in "$@"; do [[ -x "$dir/$program" ]] || wanted+=("k8s.io/kubernetes/cmd/$program"); done
    PATH="$dir:$PATH"
    (( ${#wanted[@]} )) || return 0
    command -v go >/dev/null || { lacks "Kubernetes" "it is built with go, which is not installed"; return; }
    grep -qF "k8s.io/kubernetes $version" hack/tools/kubernetes/go.mod \
        || { lacks "Kubernetes" "hack/tools/kubernetes builds another version than $version"; return; }
    # As its own build says which version it is.
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        flags+=" -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=$minor"
    done
    # A build that is cut off leaves nothing that looks whole.
    mkdir -p "$dir/new"
    (cd hack/tools/kubernetes && CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "$flags" -o "$dir/new/" "${wanted[@]}") \
        || { lacks "Kubernetes" "go build failed"; return; }
    mv "$dir"/new/* "$dir/"
    rmdir "$dir/new"
}

# install_go_files NAME MODULE VERSION FILE…: copies files out of a module into a directory of its version.
install_go_files() {
    local name=$1 module=$2 version=$3 dir="$ARTIFACTAPI_CACHE/tools/$1-$3" answer source file
    shift 3
    [[ -d "$dir" ]] && return
    command -v go >/dev/null || { lacks "$name" "it comes by go, which is not installed"; return; }
    # What is wrong stands in what it prints; where nothing is, the directory.
    answer=$(go mod download -json "$module@$version" 2>&1) || true
    source=$(sed -n 's/^\t"Dir": "\(.*\)",$/\1/p' <<<"$answer")
    [[ -n "$source" ]] || { lacks "$name" "go mod download failed: $(sed -n 's/^\t"Error": //p' <<<"$answer" | head -1)"; return; }
    mkdir -p "$dir.new"
    for file in "$@"; do cp "$source/$file" "$dir.new/" || { lacks "$name" "$file is not in $module@$version"; return; }; done
    chmod -R u+w "$dir.new"
    mv "$dir.new" "$dir"
}

# install_cargo_tool NAME VERSION: builds it once into a directory of its version.
install_cargo_tool() {
    local dir="$ARTIFACTAPI_CACHE/tools/$1-$2"
    if [[ ! -x "$dir/bin/$1" ]]; then
        CARGO_TARGET_DIR="$ARTIFACTAPI_CACHE/tools/target" cargo install --quiet --locked --root "$dir" --version "$2" "$1" \
            || { lacks "$1" "cargo install failed"; return; }
    fi
    PATH="$dir/bin:$PATH"
}

# install_python_tool NAME VERSION: puts it into a directory of its version, without touching Python's own.
install_python_tool() {
    local dir="$ARTIFACTAPI_CACHE/tools/$1-$2"
    if [[ ! -x "$dir/bin/$1" ]]; then
        command -v pip >/dev/null || { lacks "$1" "it comes by pip, which is not installed"; return; }
        pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$dir" "$1==$2" \
            || { lacks "$1" "pip install failed"; return; }
    fi
    PATH="$dir/bin:$PATH"
}

# What hack/cluster needs beyond that: of use to root alone.
install_node() {
    (( EUID == 0 )) || { lacks "a node of Kubernetes" "it needs root"; return; }
    install_kubernetes kube-controller-manager kube-scheduler kubelet kube-proxy
    install_go_tool coredns github.com/coredns/coredns "$COREDNS_VERSION"
    install_go_tool kube-network-policies sigs.k8s.io/kube-network-policies/cmd "$NETWORK_POLICIES_VERSION"
}

install_helm() { install_go_tool helm helm.sh/helm/v3/cmd/helm "$HELM_VERSION"; }

install_fuzzer() {
    install_cargo_tool cargo-fuzz "$CARGO_FUZZ_VERSION"
}

install_tools() {
    install_debian_packages
    install_go_tool conformance github.com/opencontainers/distribution-spec/conformance "$CONFORMANCE_VERSION"
    install_go_tool crane github.com/google/go-containerregistry/cmd/crane "$CRANE_VERSION"
    install_helm
    install_go_tool registry github.com/distribution/distribution/v3/cmd/registry "$DISTRIBUTION_VERSION"
    install_go_tool regctl github.com/regclient/regclient/cmd/regctl "$REGCTL_VERSION"
    install_go_tool minio github.com/minio/minio "$MINIO_VERSION"
    install_kubernetes kube-apiserver kubectl
    install_go_files definitions-gateway-api sigs.k8s.io/gateway-api "$GATEWAY_API_VERSION" \
        config/crd/standard/gateway.networking.k8s.io_httproutes.yaml
    install_go_files definitions-prometheus github.com/prometheus-operator/prometheus-operator "$PROMETHEUS_OPERATOR_VERSION" \
        example/prometheus-operator-crd/monitoring.coreos.com_{prometheusrules,servicemonitors}.yaml
    install_node
    install_cargo_tool cargo-deny "$CARGO_DENY_VERSION"
    install_python_tool uv "$UV_VERSION"
    # Any terraform will do: the newer ones cannot be built by go install.
    command -v terraform >/dev/null \
        || install_go_tool terraform github.com/hashicorp/terraform "$TERRAFORM_VERSION"
    # Debian's puppet-agent is on PATH; Puppet's own package keeps its programs aside.
    command -v puppet >/dev/null || [[ ! -d /opt/puppetlabs/bin ]] || PATH="$PATH:/opt/puppetlabs/bin"
    export PATH
    # Debian starts what it installs, or not: the tests start their own.
    if command -v minio >/dev/null && command -v redis-server >/dev/null && compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then
        export ARTIFACTAPI_REQUIRE_SERVICES=1
    fi
}

# The node of the tests ends with those that started it, or here, where they were killed; another run's is left alone.
end_node_of_tests() {
    local home=$ARTIFACTAPI_CACHE/cluster-of-tests
    [[ -d $home ]] || return 0
    ARTIFACTAPI_CLUSTER_DIR=$home ARTIFACTAPI_CLUSTER_NET=10.214 flock --nonblock "$home.lock" hack/cluster down || true
}
