#!/bin/sh
# The first process of a node: it runs in mount, pid, uts, ipc and network namespaces of the node's own, and when it is killed
# everything of the node dies with it. Environment: NODE (name), FOLDER (of the node), BINARIES, IMAGES, KUBECONFIG, ADDRESS, LOGS.
# In the node FOLDER is /run/node: paths of sockets below it may not pass 107 characters.
set -eu

echo "$NODE" > /proc/sys/kernel/hostname
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/node /run/logs /run/overlay /run/containerd
mount --bind "$FOLDER" /run/node
mount --bind "$LOGS" /run/logs

# kubelet and CNI keep state at fixed paths below these folders; pods still read the machine's files there
for folder in lib log; do
    mkdir -p "/run/overlay/$folder/upper" "/run/overlay/$folder/work"
    mount -t overlay overlay -o "lowerdir=/var/$folder,upperdir=/run/overlay/$folder/upper,workdir=/run/overlay/$folder/work" "/var/$folder"
done

# the kubelet writes these for the whole machine where they differ: show it what it wants, in this namespace only
for setting in vm/overcommit_memory=1 kernel/panic=10 kernel/panic_on_oops=1; do
    shown="/run/$(echo "${setting%%=*}" | tr / .)"
    echo "${setting#*=}" > "$shown"
    mount --bind "$shown" "/proc/sys/${setting%%=*}"
done
mount --make-rshared /

export PATH="$BINARIES:$PATH"
keep() {
    log="/run/logs/$NODE-$1.log"
    shift
    while :; do
        "$@" >> "$log" 2>&1 || true
        sleep 1
    done
}

keep containerd containerd --config "/run/node/containerd.toml" &
until [ -S /run/containerd/containerd.sock ]; do sleep 0.05; done
if [ ! -e "/run/node/imported" ]; then
    for image in "$IMAGES"/*.tar; do ctr --namespace k8s.io images import "$image" > /dev/null; done
    touch "/run/node/imported"
fi
until [ -e "/run/node/go" ]; do sleep 0.05; done
keep kubelet kubelet --config="/run/node/kubelet.yaml" --kubeconfig="$KUBECONFIG" --root-dir="/run/node/kubelet" \
    --hostname-override="$NODE" --node-ip="$ADDRESS" --cert-dir="/run/node/kubelet/pki" &
keep kube-proxy kube-proxy --config="/run/node/kube-proxy.yaml" &
wait
