#!/bin/sh
# Runs a command apart from the machine: in namespaces and in a control group of its own, with no network but loopback.
# Called by apart.py in a mount namespace: apart.sh GROUP COMMAND...
set -e
group=/sys/fs/cgroup/$1
shift
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "$group"
echo $$ > "$group/cgroup.procs"
# shellcheck disable=SC2016 # for the inner shell
exec unshare -m -p -u -i -C -n -f --mount-proc --kill-child sh -ec '
    umount /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    ip link set lo up
    exec "$@"' sh "$@"
