# Puts an image of one layer together, for hack/image and for the node of hack/cluster. Sourced.

# As images call this machine.
image_architecture() {
    case $(uname -m) in
        x86_64) echo amd64 ;;
        aarch64) echo arm64 ;;
        *) uname -m ;;
    esac
}

# What makes an archive the same, byte by byte, whenever and by whomever it is made.
PACKING=(--sort=name --mtime=@0 --numeric-owner --format=gnu)

# pack_image ARCHIVE REFERENCE LAYER CREATED CONFIG: an archive that `docker load`, `podman load`, `ctr images import` and
# `skopeo copy oci-archive:` take. LAYER is an archive of all files, CONFIG the members of the configuration's `config`.
# Leaves the image's digest, and the bytes of its layer as they travel and as they are on a disk, in PACKED.
pack_image() {
    local archive=$1 reference=$2 layer_file=$3 created=$4 settings=$5
    local media=application/vnd.oci.image architecture layout diff layer config manifest
    architecture=$(image_architecture)
    layout=$(mktemp -d "${layer_file%/*}/packing.XXXXXX")
    chmod 0755 "$layout"
    mkdir -p "$layout/blobs/sha256"
    diff=$(sha256sum "$layer_file" | cut -d' ' -f1)
    layer=$(gzip -n <"$layer_file" | image_blob "$layout")
    config=$(image_blob "$layout" <<END
{"architecture":"$architecture","os":"linux","created":"$created","config":{$settings},"rootfs":{"type":"layers","diff_ids":["sha256:$diff"]},"history":[{"created":"$created","created_by":"hack/${0##*/}"}]}
END
    )
    manifest=$(printf '{"schemaVersion":2,"mediaType":"%s.manifest.v1+json","config":%s,"layers":[%s]}' $media \
        "$(image_descriptor "$layout" "$config" $media.config.v1+json)" \
        "$(image_descriptor "$layout" "$layer" $media.layer.v1.tar+gzip)" | image_blob "$layout")
    printf '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
    printf '{"schemaVersion":2,"mediaType":"%s.index.v1+json","manifests":[{"mediaType":"%s.manifest.v1+json","digest":"sha256:%s","size":%s,"annotations":{"io.containerd.image.name":"%s","org.opencontainers.image.ref.name":"%s"},"platform":{"architecture":"%s","os":"linux"}}]}' \
        $media $media "$manifest" "$(image_size "$layout" "$manifest")" "$reference" "${reference##*:}" "$architecture" >"$layout/index.json"
    # Beside the OCI layout, what `docker load` of before version 25 reads.
    printf '[{"Config":"blobs/sha256/%s","RepoTags":["%s"],"Layers":["blobs/sha256/%s"]}]' "$config" "$reference" "$layer" >"$layout/manifest.json"
    PACKED=("sha256:$manifest" "$(image_size "$layout" "$layer")" "$(stat -c %s "$layer_file")")
    tar "${PACKING[@]}" --owner=0 --group=0 -C "$layout" -cf "$archive" .
    rm -r "$layout"
}

# image_blob LAYOUT: keeps what comes by standard input where its digest says, and prints that.
image_blob() {
    local digest
    cat >"$1/new"
    digest=$(sha256sum "$1/new" | cut -d' ' -f1)
    mv "$1/new" "$1/blobs/sha256/$digest"
    printf '%s' "$digest"
}

image_size() { stat -c %s "$1/blobs/sha256/$2"; }

image_descriptor() { printf '{"mediaType":"%s","digest":"sha256:%s","size":%s}' "$3" "$2" "$(image_size "$1" "$2")"; }
