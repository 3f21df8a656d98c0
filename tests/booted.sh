#!/bin/bash
# Boots a real systemd apart from the machine, with airgap installed and its examples laid out as they tell. Called by
# booting.py as process 1 of namespaces: booted.sh OPT NOTIFY
set -eu
opt=$1 notify=$2
mount -t tmpfs tmpfs /run
mkdir -p /run/up /run/work /run/units /run/lock
: > /run/up/fstab
mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/up,workdir=/run/work /etc
mount --bind "$opt" /opt
mount -t tmpfs tmpfs /var/lib
mount -t tmpfs tmpfs /var/log
mount -t tmpfs tmpfs /media
mkdir /media/stick
# Of the machine's own units none but the journal, and the targets that every service asks for.
cp /lib/systemd/system/systemd-journald.service /lib/systemd/system/systemd-journald.socket \
    /lib/systemd/system/systemd-journald-dev-log.socket /run/units
for target in sysinit basic sockets timers paths slices shutdown umount; do
    printf '[Unit]\nDefaultDependencies=no\n' > "/run/units/$target.target"
done
printf '[Unit]\nWants=basic.target systemd-journald.service\nAfter=systemd-journald.service\n' > /run/units/tested.target
mount --bind /run/units /lib/systemd/system
mkdir -p /etc/systemd/system /etc/systemd/journald.conf.d /etc/sysusers.d /etc/tmpfiles.d /etc/airgap
printf '[Journal]\nAudit=no\nReadKMsg=no\nStorage=volatile\n' > /etc/systemd/journald.conf.d/tested.conf
for kind in sysusers tmpfiles; do
    /opt/airgap/bin/airgap examples $kind/ --to /etc/$kind.d --quiet
done
/opt/airgap/bin/airgap examples systemd/ --to /etc/systemd/system --quiet
systemd-sysusers
systemd-tmpfiles --create /etc/tmpfiles.d/airgap.conf
printf 'lcl_EXAMPLE_not_a_real_key\n' > /etc/airgap/license.key
printf 'battery staple\n' > /etc/airgap/passphrase
chmod 600 /etc/airgap/*
# As on a real machine: what systemd mounts for a service, the service sees.
mount --make-rshared /
export container=airgap-test NOTIFY_SOCKET="$notify"
exec /lib/systemd/systemd --system --unit=tested.target --log-target=console --log-level=notice
