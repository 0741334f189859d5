# How the node of hack/cluster begins, is looked at, and ends. Sourced.

# The process that the node ends with; nothing when it does not run.
keeper() { alive pid; }

# The process that file $1 of the node's directory names, while it lives.
alive() {
    local id began
    [[ -r $CLUSTER_DIR/$1 ]] || return 0
    read -r id began <"$CLUSTER_DIR/$1" || true
    # Ids are given again: only the one that began then is meant.
    [[ -z $id || $(start_of "$id") != "$began" ]] || echo "$id"
}

# The node's first process as this machine counts, which the keeper has just started; nothing when it does not run.
first_process() {
    local id; id=$(keeper)
    [[ -z $id ]] || tr -d ' \n' 2>/dev/null <"/proc/$id/task/$id/children" || true
}

# When process $1 began, in ticks since the machine's start; nothing when it has ended, whether that was noticed or not.
start_of() { sed -n 's/.*) //; /^[ZX]/!p' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20 || true; }

on_node() {
    local first; first=$(first_process)
    [[ -n $first ]] || fail "the node does not run: hack/cluster up starts it"
    nsenter --target "$first" --mount --pid --net -- "$@"
}

kube() { kubectl --kubeconfig "$KUBECONFIG_FILE" --request-timeout=10s "$@"; }

# until_good SECONDS WHAT COMMAND…: tries again until it succeeds; when it does not, tells why it last failed.
until_good() {
    local end=$((SECONDS + $1)) what=$2 why
    shift 2
    until why=$("$@" 2>&1 >/dev/null); do
        [[ -n $(keeper) ]] || { tail -n 5 "$LOG/node.log" >&2; fail "the node has ended before $what; what its parts said is in $LOG"; }
        (( SECONDS < end )) || fail "waited in vain for $what: ${why:-$* fails and says nothing}; what its parts say is in $LOG"
        sleep 0.2
    done
}

install_cluster_tools() {
    [[ $(uname -s) == Linux ]] || fail "a node needs Linux"
    (( EUID == 0 )) || fail "a node needs root"
    # Not all that the tests need.
    local APT_PACKAGES=(busybox-static containernetworking-plugins etcd-server iptables openssl) APT_PROGRAMS=(ctr:containerd runc:runc)
    install_debian_packages
    install_kubernetes kube-apiserver kubectl
    install_node
    export PATH
    local program
    for program in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl coredns kube-network-policies etcd containerd ctr runc iptables ip nsenter unshare openssl busybox ps; do
        command -v "$program" >/dev/null || fail "$program is not installed"
    done
    [[ -x /usr/lib/cni/bridge || -x /opt/cni/bin/bridge ]] || fail "the CNI plugins are not installed"
}

# One at a time begins or ends a node: who comes second waits, and finds what the first has made of it.
take_turn() {
    mkdir -p "$(dirname "$CLUSTER_DIR")"
    exec {TURN}<"$(dirname "$CLUSTER_DIR")"
    flock "$TURN"
}

cluster_up() {
    install_cluster_tools
    take_turn
    # An `up` that was killed has left one that nobody reaches; one whose first process was killed is about to end.
    if [[ -z $(keeper) || -z $(alive attached) ]]; then
        end_keeper
        remove_remains
        [[ -z $(ip -o route show to root "$CLUSTER_NET.0.0/16") ]] \
            || fail "$CLUSTER_NET.0.0/16 is in use here: set ARTIFACTAPI_CLUSTER_NET to two other numbers"
        mkdir -p "$CLUSTER_DIR"
        touch "$MARK"
        write_files
        start_node
    fi
    until_good 240 "the API server" kube get --raw /readyz
    until_good 60 "its first objects" kube apply -f "$ETC/objects.yaml"
    until_good 60 "the default service account" kube get serviceaccount default
    [[ -e $UNENFORCED ]] || until_good 60 "whoever enforces network policies" on_node grep -q "^ *$POLICY_QUEUE " /proc/net/netfilter/nfnetlink_queue
    until_good 120 "the node" kube wait --for=condition=Ready node/node --timeout=1s
    cluster_status
}

start_node() {
    local program
    make_groups
    # Everything that the first process starts ends with it, and it with this keeper.
    program=$(realpath hack/lib/cluster/node)
    export ARTIFACTAPI_CLUSTER_DIR=$CLUSTER_DIR ARTIFACTAPI_CLUSTER_NET=$CLUSTER_NET
    become_keeper "$program" </dev/null >>"$LOG/node.log" 2>&1 {TURN}<&- &
    disown $!
    local end=$((SECONDS + 10))
    until [[ -s $CLUSTER_DIR/pid ]]; do
        (( SECONDS < end )) || fail "the node's first process does not begin: $(tail -n 5 "$LOG/node.log")"
        sleep 0.05
    done
    until_good 10 "the node's network" attach
    local first; first=$(first_process)
    echo "$first $(start_of "$first")" >"$CLUSTER_DIR/attached"
}

# Says itself which process it is, before there is anything to end: whoever started it may be killed.
become_keeper() {
    local id=$BASHPID
    echo "$id $(start_of "$id")" >"$CLUSTER_DIR/pid.new"
    mv "$CLUSTER_DIR/pid.new" "$CLUSTER_DIR/pid"
    exec setsid unshare --fork --kill-child=KILL --pid --mount-proc --mount --net -- "$1"
}

# The link between the machine and the node, once that has a network of its own.
attach() {
    local first; first=$(first_process)
    [[ -n $first && $(readlink "/proc/$first/ns/net") != "$(readlink /proc/self/ns/net)" ]] || return 1
    ip link add "$LINK" type veth peer name machine netns "$first" \
        && ip address add "$MACHINE/24" dev "$LINK" \
        && ip link set "$LINK" up \
        && ip route add "$CLUSTER_NET.0.0/23" via "$NODE" dev "$LINK"
}

# The group that all pods are in, for every hierarchy of them.
hierarchies() {
    local root=/sys/fs/cgroup
    if [[ -e $root/cgroup.controllers ]]; then echo "$root"; else find "$root" -mindepth 1 -maxdepth 1 -type d; fi
}

make_groups() {
    local root file
    for root in $(hierarchies); do
        mkdir -p "$root/$GROUP"
        for file in cpuset.mems cpuset.cpus; do
            [[ ! -e $root/$file ]] || cat "$root/$file" >"$root/$GROUP/$file"
        done
    done
}

cluster_down() {
    (( EUID == 0 )) || fail "ending a node needs root"
    take_turn
    end_keeper
    remove_remains
}

# Ends the node. Its first process is gone when all others of it are.
end_keeper() {
    local file id end=$((SECONDS + 30))
    for file in pid attached; do
        while id=$(alive $file) && [[ -n $id ]]; do
            kill -KILL "$id" 2>/dev/null || true
            (( SECONDS < end )) || fail "process $id of the node does not end"
            sleep 0.05
        done
    done
}

# Removes what a node that has ended, however it ended, left: a directory and its groups.
remove_remains() {
    local end=$((SECONDS + 30)) root why
    # The link goes with the node's network, which the kernel may keep for a while after its last process.
    ip link delete "$LINK" 2>/dev/null || true
    for root in $(hierarchies); do
        [[ ! -d $root/$GROUP ]] || until why=$(find "$root/$GROUP" -depth -type d -exec rmdir {} + 2>&1); do
            (( SECONDS < end )) || fail "the groups of the node's pods do not go, as if they still had processes: $why"
            sleep 0.1
        done
    done
    rmdir "$CLUSTER_DIR" 2>/dev/null || true
    [[ -e $CLUSTER_DIR ]] || return 0
    [[ -e $MARK ]] || fail "$CLUSTER_DIR is not a directory of this command's: it has no ${MARK##*/}"
    # The mark goes last: what is cut off here is gone on with.
    find "$CLUSTER_DIR" -mindepth 1 -maxdepth 1 ! -path "$MARK" -exec rm -rf --one-file-system {} + \
        && rm "$MARK" && rmdir "$CLUSTER_DIR" || fail "$CLUSTER_DIR cannot be removed"
}

cluster_status() {
    local first name ok=0
    first=$(first_process)
    [[ -n $first ]] || { echo "the node does not run"; return 1; }
    echo "node: process $first, address $NODE, files in $CLUSTER_DIR"
    PATH="$ARTIFACTAPI_CACHE/tools/kubernetes-$KUBERNETES_VERSION:$PATH"
    local processes; processes=$(on_node ps -e -o comm=)
    local names=(etcd kube-apiserver kube-controller-manager kube-scheduler containerd kubelet kube-proxy coredns)
    if [[ -e $UNENFORCED ]]; then
        echo "network policies: NOT ENFORCED, $(<"$UNENFORCED")"
    else
        names+=(kube-network-policies)
    fi
    for name in "${names[@]}"; do
        # The kernel keeps 15 letters of a name.
        if grep -qx "${name:0:15}" <<<"$processes"; then echo "$name: runs"; else echo "$name: DOES NOT RUN, see $LOG/$name.log"; ok=1; fi
    done
    kube get nodes || ok=1
    kube get pods --all-namespaces || ok=1
    [[ $(kube get node node -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}') == True ]] || ok=1
    echo "export KUBECONFIG=$KUBECONFIG_FILE"
    return $ok
}

cluster_load() {
    local file
    (( $# )) || fail "load needs an archive of an image"
    for file in "$@"; do
        [[ -r $file ]] || fail "$file cannot be read"
        # By standard input: not every directory of the machine is seen on the node.
        on_node ctr -n k8s.io images import - <"$file"
    done
}
