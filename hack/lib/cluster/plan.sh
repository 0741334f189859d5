# Where the node of hack/cluster keeps what it has, and what its addresses and names are. Sourced.

fail() { printf "hack/cluster: %s\n" "$*" >&2; exit 1; }

CLUSTER_DIR=${ARTIFACTAPI_CLUSTER_DIR:-$ARTIFACTAPI_CACHE/cluster}
CLUSTER_NET=${ARTIFACTAPI_CLUSTER_NET:-10.213}
[[ $CLUSTER_NET =~ ^[0-9]{1,3}\.[0-9]{1,3}$ ]] || fail "ARTIFACTAPI_CLUSTER_NET is $CLUSTER_NET and not two numbers such as 10.213"

POD_NET=$CLUSTER_NET.0.0/24
POD_GATEWAY=$CLUSTER_NET.0.1
SERVICE_NET=$CLUSTER_NET.1.0/24
# The machine's end of the link to the node, and the node's.
MACHINE=$CLUSTER_NET.2.1
NODE=$CLUSTER_NET.2.2
LINK=aapi${CLUSTER_NET//./-}
# The control groups of its pods, below the root of every hierarchy.
GROUP=artifactapi-${CLUSTER_NET//./-}
API=https://$NODE:6443
DNS=$NODE
PKI=$CLUSTER_DIR/pki
ETC=$CLUSTER_DIR/etc
LOG=$CLUSTER_DIR/log
KUBECONFIG_FILE=$CLUSTER_DIR/kubeconfig
# Where packets wait until it is known whether a policy lets them through.
POLICY_QUEUE=100
# Tells that the directory is one of hack/cluster's, which may be removed.
MARK=$CLUSTER_DIR/node-of-hack-cluster
# Says why nobody enforces policies, where nobody can.
UNENFORCED=$CLUSTER_DIR/unenforced
# What sandboxes of pods are made of, and whoever wants a shell in a pod.
BUSYBOX_IMAGE=localhost/busybox:1
# So many claims at a time: what one has let go of is offered again.
VOLUMES=16
VOLUMES_DIR=/var/lib/volumes
