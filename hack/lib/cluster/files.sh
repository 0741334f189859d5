# The files that the node of hack/cluster is made from: certificates, configurations, manifests, one image. Sourced.

# issue NAME SUBJECT [ALTERNATIVES]: a key and a certificate for a client, or for a server with such names.
issue() {
    local file="$PKI/$1" names=${3:+subjectAltName=$3}
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -keyout "$file.key" -subj "$2" -out "$file.csr"
    openssl x509 -req -in "$file.csr" -CA "$PKI/ca.crt" -CAkey "$PKI/ca.key" -CAcreateserial -days 365 -out "$file.crt" \
        -extfile <(printf '%s\n' "extendedKeyUsage=clientAuth,serverAuth" "$names")
} 2>>"$LOG/openssl.log"

write_certificates() {
    mkdir -p -m 0700 "$PKI"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 365 -subj /CN=artifactapi-cluster \
        -keyout "$PKI/ca.key" -out "$PKI/ca.crt" 2>>"$LOG/openssl.log"
    issue api /CN=kube-apiserver "IP:$NODE,IP:127.0.0.1,IP:$CLUSTER_NET.1.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
    issue kubelet /O=system:nodes/CN=system:node:node "IP:$NODE,DNS:node"
    issue admin /O=system:masters/CN=admin
    issue api-to-kubelet /O=system:masters/CN=kube-apiserver
    issue controllers /CN=system:kube-controller-manager
    issue scheduler /CN=system:kube-scheduler
    issue proxy /CN=system:kube-proxy
    issue dns /CN=system:coredns
    openssl genrsa -out "$PKI/accounts.key" 2048 2>>"$LOG/openssl.log"
    openssl rsa -in "$PKI/accounts.key" -pubout -out "$PKI/accounts.pub" 2>>"$LOG/openssl.log"
    # As a pod has it: it knows no kubeconfig.
    mkdir -p "$PKI/policies"
    cp "$PKI/ca.crt" "$PKI/policies/ca.crt"
    openssl rand -hex 32 >"$PKI/policies/token"
    echo "$(<"$PKI/policies/token"),system:network-policies,network-policies" >"$PKI/tokens.csv"
    local who
    for who in kubelet controllers scheduler proxy dns admin; do write_kubeconfig "$who" >"$PKI/$who.kubeconfig"; done
    install -m 0600 "$PKI/admin.kubeconfig" "$KUBECONFIG_FILE"
}

# write_kubeconfig NAME: one that needs no other file.
write_kubeconfig() {
    local data; data() { base64 -w 0 <"$PKI/$1"; }
    cat <<END
apiVersion: v1
kind: Config
current-context: artifactapi
clusters: [{name: artifactapi, cluster: {server: "$API", certificate-authority-data: $(data ca.crt)}}]
users: [{name: $1, user: {client-certificate-data: $(data "$1.crt"), client-key-data: $(data "$1.key")}}]
contexts: [{name: artifactapi, context: {cluster: artifactapi, user: $1}}]
END
}

write_containerd() {
    local plugins=/usr/lib/cni
    [[ -x $plugins/bridge ]] || plugins=/opt/cni/bin
    cat >"$ETC/containerd.toml" <<END
version = 2
[plugins."io.containerd.internal.v1.opt"]
path = "/var/lib/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "$BUSYBOX_IMAGE"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "$plugins"
conf_dir = "$ETC/cni"
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "$ETC/certs.d"
END
    # ?ns= mirrors go into certs.d/_default/hosts.toml; containerd reads it at every pull.
    mkdir -p "$ETC/certs.d" "$ETC/cni"
    cat >"$ETC/cni/10-pods.conflist" <<END
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "pods", "isGateway": true, "hairpinMode": true, "ipam": {"type": "host-local",
   "ranges": [[{"subnet": "$POD_NET", "gateway": "$POD_GATEWAY"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
END
}

write_kubelet() {
    # The machine's disks may be fuller than a node's should be: nothing is evicted for that, and no image removed.
    cat >"$ETC/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: "$PKI/ca.crt"}}
authorization: {mode: Webhook}
tlsCertFile: "$PKI/kubelet.crt"
tlsPrivateKeyFile: "$PKI/kubelet.key"
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /$GROUP
cgroupsPerQOS: true
enforceNodeAllocatable: []
failSwapOn: false
evictionHard: {memory.available: 50Mi}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
serializeImagePulls: false
# What pods have of Secrets follows sooner than after a minute.
syncFrequency: 10s
clusterDNS: ["$DNS"]
clusterDomain: cluster.local
resolvConf: "$ETC/resolv.conf"
END
    printf 'nameserver %s\n' "$DNS" >"$ETC/resolv.conf"
}

write_dns() {
    cat >"$ETC/Corefile" <<END
.:53 {
    bind $DNS
    errors
    hosts {
        $MACHINE machine.internal
        fallthrough
    }
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        kubeconfig $PKI/dns.kubeconfig
        ttl 1
    }
}
END
}

# Who, of those who live in pods, did what: for tests of roles.
write_audit() {
    cat >"$ETC/audit.yaml" <<'END'
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, userGroups: ["system:serviceaccounts:kube-system"]}
- {level: None, nonResourceURLs: ["*"]}
- {level: Metadata, userGroups: ["system:serviceaccounts"]}
- {level: None}
END
}

# What the API server is told once it answers: who may read names, and which volumes there are.
write_objects() {
    cat <<'END'
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: coredns}
rules:
- {apiGroups: [""], resources: [services, pods, namespaces], verbs: [list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: coredns}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: coredns}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: "system:coredns"}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: network-policies}
rules:
- {apiGroups: [""], resources: [pods, namespaces], verbs: [list, watch]}
- {apiGroups: [networking.k8s.io], resources: [networkpolicies], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: network-policies}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: network-policies}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: "system:network-policies"}]
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: standard, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
END
    local number
    for number in $(seq "$VOLUMES"); do
        cat <<END
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: volume-$number}
spec:
  capacity: {storage: 1Ti}
  accessModes: [ReadWriteOnce]
  storageClassName: standard
  persistentVolumeReclaimPolicy: Retain
  local: {path: $VOLUMES_DIR/$number}
  nodeAffinity:
    required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [node]}]}]}
END
    done
}

write_files() {
    mkdir -p "$ETC" "$LOG"
    write_certificates
    write_containerd
    write_kubelet
    write_dns
    write_audit
    write_objects >"$ETC/objects.yaml"
    local root=$CLUSTER_DIR/busybox applet
    mkdir -p "$root/bin" "$root/tmp"
    chmod 1777 "$root/tmp"
    cp "$(command -v busybox)" "$root/bin/busybox"
    for applet in $(busybox --list); do [[ $applet == busybox ]] || ln -sf busybox "$root/bin/$applet"; done
    tar "${PACKING[@]}" --owner=0 --group=0 -C "$root" -cf "$ETC/busybox.layer" .
    pack_image "$ETC/busybox.tar" "$BUSYBOX_IMAGE" "$ETC/busybox.layer" 1970-01-01T00:00:00Z \
        '"User":"65534:65534","Env":["PATH=/bin"],"Cmd":["/bin/busybox","tail","-f","/dev/null"]'
    rm -r "$root" "$ETC/busybox.layer"
}
