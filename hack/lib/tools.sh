# Installs what the tests need and this machine lacks; asks nobody and changes nothing that is there. Sourced.

missing_tools=()

# Reports a tool that cannot be had here; the tests that need it skip themselves by name.
lacks() {
    missing_tools+=("$1: $2")
    printf 'NOT AVAILABLE: %s (%s)\n' "$1" "$2" >&2
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
    local name=$1 module=$2 version=$3 dir="$ARTIFACTAPI_CACHE/tools/$1-$3" source file
    shift 3
    [[ -d "$dir" ]] && return
    command -v go >/dev/null || { lacks "$name" "it comes by go, which is not installed"; return; }
    source=$(go mod download -json "$module@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
    [[ -n "$source" ]] || { lacks "$name" "go mod download failed"; return; }
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
}

install_fuzzer() {
    install_cargo_tool cargo-fuzz "$CARGO_FUZZ_VERSION"
}

install_tools() {
    install_debian_packages
    install_go_tool conformance github.com/opencontainers/distribution-spec/conformance "$CONFORMANCE_VERSION"
    install_go_tool crane github.com/google/go-containerregistry/cmd/crane "$CRANE_VERSION"
    install_go_tool helm helm.sh/helm/v3/cmd/helm "$HELM_VERSION"
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
