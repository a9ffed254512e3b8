#!/bin/sh
# The first process of a node: it runs in mount, pid, uts, ipc and network namespaces of the node's own, and when it is killed
# everything of the node dies with it. Environment: NODE (name), FOLDER (of the node), BINARIES, IMAGES, KUBECONFIG, ADDRESS, LOGS.
set -eu

echo "$NODE" > /proc/sys/kernel/hostname
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/node /run/overlay /run/containerd
mount --bind "$FOLDER" /run/node

# kubelet and CNI keep state at fixed paths below these folders; pods still read the machine's files there
for folder in lib log; do
    mkdir -p "/run/overlay/$folder/upper" "/run/overlay/$folder/work"
    mount -t overlay overlay -o "lowerdir=/var/$folder,upperdir=/run/overlay/$folder/upper,workdir=/run/overlay/$folder/work" "/var/$folder"
done
# where the home lies below /var/lib the node's folder has to shine through: an overlay cannot carry container layers
case "$FOLDER" in /var/lib/* | /var/log/*) mount --bind /run/node "$FOLDER" ;; esac
umount /run/node

# the kubelet writes these for the whole machine where they differ: show it what it wants, in this namespace only
for setting in vm/overcommit_memory=1 kernel/panic=10 kernel/panic_on_oops=1; do
    shown="/run/$(echo "${setting%%=*}" | tr / .)"
    echo "${setting#*=}" > "$shown"
    mount --bind "$shown" "/proc/sys/${setting%%=*}"
done
mount --make-rshared /

export PATH="$BINARIES:$PATH"
keep() {
    log="$LOGS/$NODE-$1.log"
    shift
    while :; do
        "$@" >> "$log" 2>&1 || true
        sleep 1
    done
}

keep containerd containerd --config "$FOLDER/containerd.toml" &
until [ -S /run/containerd/containerd.sock ]; do sleep 0.05; done
if [ ! -e "$FOLDER/imported" ]; then
    for image in "$IMAGES"/*.tar; do ctr --namespace k8s.io images import "$image" > /dev/null; done
    touch "$FOLDER/imported"
fi
until [ -e "$FOLDER/go" ]; do sleep 0.05; done
keep kubelet kubelet --config="$FOLDER/kubelet.yaml" --kubeconfig="$KUBECONFIG" --root-dir="$FOLDER/kubelet" \
    --hostname-override="$NODE" --node-ip="$ADDRESS" --cert-dir="$FOLDER/kubelet/pki" &
keep kube-proxy kube-proxy --config="$FOLDER/kube-proxy.yaml" &
wait
