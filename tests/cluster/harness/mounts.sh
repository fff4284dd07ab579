# SPDX-License-Identifier: Apache-2.0
# Make a node's view of the files, inside its new mount namespace.
# Usage: mounts.sh FOLDER HOSTNAME KEEP...   (FOLDER: the node's; KEEP: folders left as on the host)
set -e
state=$1
hostname "$2"
shift 2

mount -t tmpfs -o mode=755 run /run
mkdir -p /run/lock /run/netns /run/ensconce /run/aesmd

# folders whose path the layers below could hide
number=0
for folder in "$state" "$@"; do
  number=$((number + 1))
  mkdir -p "/run/keep/$number"
  mount --bind "$folder" "/run/keep/$number"
done

# what the node writes to the system's folders goes to layers of its own
for folder in etc opt usr var; do
  mkdir -p "$state/layers/$folder" "$state/layers/$folder.work"
  mount -t overlay -o "lowerdir=/$folder,upperdir=$state/layers/$folder,workdir=$state/layers/$folder.work" \
    overlay "/$folder"
done
number=0
for folder in "$state" "$@"; do
  number=$((number + 1))
  mount --bind "/run/keep/$number" "$folder"
done

# overlayfs can't lie on overlayfs, and the host can look into these
for folder in var/lib/containerd var/lib/kubelet var/lib/ensconce var/log/pods run/ensconce run/aesmd; do
  mkdir -p "$state/files/$folder" "/$folder"
  mount --bind "$state/files/$folder" "/$folder"
done
rm -rf /etc/cni/net.d && mkdir -p /etc/cni/net.d
cp "$state/pods.conflist" /etc/cni/net.d/

# devices: the host's, and what a test adds stays here
mkdir /run/dev
mount -t tmpfs -o mode=755 dev /run/dev
for device in null zero full random urandom tty kmsg fuse kvm net/tun loop-control; do
  if [ -e "/dev/$device" ]; then
    mkdir -p "$(dirname "/run/dev/$device")"
    cp -a "/dev/$device" "/run/dev/$device"
  fi
done
mkdir /run/dev/pts /run/dev/shm /run/dev/mqueue
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts /run/dev/pts
mount -t tmpfs -o mode=1777 shm /run/dev/shm
mount -t mqueue mqueue /run/dev/mqueue
ln -s pts/ptmx /run/dev/ptmx
ln -s /proc/self/fd /run/dev/fd
ln -s /proc/self/fd/0 /run/dev/stdin
ln -s /proc/self/fd/1 /run/dev/stdout
ln -s /proc/self/fd/2 /run/dev/stderr
mount --rbind /run/dev /dev

# the kubelet would set these for the whole machine; it leaves alone what has its value
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
  kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  file="$state/sysctl/${setting%=*}"
  mkdir -p "$(dirname "$file")"
  echo "${setting#*=}" > "$file"
  mount --bind "$file" "/proc/sys/${setting%=*}"
done
echo 1 > /proc/sys/net/ipv4/ip_forward

mount --make-rshared /
