#!/bin/sh
# crun, as Podman calls it, without limits: to set them takes a right that root does not have everywhere
# (CAP_SYS_RESOURCE), and Podman's own control group for pods lets nobody make the devices that a container has.
set -e
echo $$ > /sys/fs/cgroup/first/cgroup.procs
bundle='' next=''
for word; do
    [ -z "$next" ] || bundle=$word
    next=''
    [ "$word" != --bundle ] || next=yes
done
if [ -n "$bundle" ]; then
    jq 'del(.linux.resources) | .linux.cgroupsPath |= sub("^/libpod_parent/([^/]*/)?"; "/apart/")' \
        "$bundle/config.json" > "$bundle/config.new"
    mv "$bundle/config.new" "$bundle/config.json"
fi
exec crun "$@"
