#!/bin/sh
# Runs a command apart from the machine: in namespaces and in a control group of its own, with no network but loopback.
# Called by apart.py in a mount namespace: apart.sh GROUP COMMAND...
set -e
group=/sys/fs/cgroup/$1
shift
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# Podman makes no group for a pod where there is nothing to control; one controller is enough, and stays.
if [ -z "$(cat /sys/fs/cgroup/cgroup.subtree_control)" ]; then
    read -r one _ < /sys/fs/cgroup/cgroup.controllers
    echo "+$one" > /sys/fs/cgroup/cgroup.subtree_control
fi
mkdir "$group" "$group/first"
echo $$ > "$group/cgroup.procs"
# The group is the root of what is seen; a group that hands out to others holds no process itself.
# shellcheck disable=SC2016 # for the inner shells
exec unshare -C sh -ec '
    echo $$ > "$0/first/cgroup.procs"
    exec unshare -m -p -u -i -n -f --mount-proc --kill-child sh -ec "
        umount /sys/fs/cgroup
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
        ip link set lo up
        exec \"\$@\"" sh "$@"' "$group" "$@"
