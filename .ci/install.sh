#!/bin/sh
# Installs airgap @VERSION@ on Linux (@PLATFORM@) without a network.
#
#   ./install.sh TARGET [--workstation] [--with postgres,capture,otlp,ceremony] [--python PYTHON]
#
# TARGET, for instance /opt/airgap, gets versions/@VERSION@ (an environment of its own) and bin/airgap. Run the
# next release's install.sh with the same TARGET to upgrade: homes are elsewhere and stay as they are.
# To go back: ln -sfn versions/OLD TARGET/current. To uninstall: rm -r TARGET.
set -eu
umask 022 # Others than who installs it are to run it.

version=@VERSION@
platform=@PLATFORM@
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

fail() {
    printf 'install.sh: error: %s\n' "$1" >&2
    printf 'install.sh: hint: %s\n' "$2" >&2
    exit 1
}

usage() {
    sed -n '2,9s/^# \{0,1\}//p' "$0"
}

target='' parts='core' python=''
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --workstation) parts="$parts importer" ;;
        --with)
            [ $# -gt 1 ] || fail '--with names nothing' 'give --with postgres,capture,otlp,ceremony, or some of them'
            shift
            for part in $(printf '%s' "$1" | tr ',' ' '); do
                case $part in
                    postgres | capture | otlp | ceremony | importer) parts="$parts $part" ;;
                    *) fail "there is no part $part" 'postgres, capture, otlp and ceremony are there' ;;
                esac
            done ;;
        --python)
            [ $# -gt 1 ] || fail '--python names nothing' 'give the path of a Python 3.11 or newer'
            shift
            python=$1 ;;
        -*) fail "unknown option $1" './install.sh --help' ;;
        *)
            [ -z "$target" ] || fail "two targets: $target and $1" 'name one folder'
            target=$1 ;;
    esac
    shift
done
[ -n "$target" ] || { usage >&2; exit 2; }

[ "$(uname -s)" = Linux ] || fail "this is $(uname -s)" 'this release is for Linux'
[ "$(uname -m)" = "$platform" ] || fail "this machine is $(uname -m), the release is for $platform" 'take the release for this machine'
command -v sha256sum >/dev/null || fail 'there is no sha256sum here' 'install coreutils'
(cd "$here" && sha256sum --check --quiet --strict SHA256SUMS >/dev/null 2>&1) ||
    fail "the release is damaged: $(cd "$here" && sha256sum --check --quiet SHA256SUMS 2>/dev/null | head -n 1)" \
        'copy it again, check its signature, and unpack it anew'

pythons() {
    for file in "$here"/wheels/orjson-*.whl; do
        printf '%s\n' "$file" | sed 's/.*-cp3\([0-9]*\)-.*/3.\1/'
    done | sort -u | tr '\n' ' '
}

fits() {
    [ "$("$1" -c 'import sys; print(sys.version_info >= (3, 11) and sys.implementation.name)' 2>/dev/null)" = cpython ]
}

if [ -z "$python" ]; then
    for name in python3.13 python3.12 python3.11 python3; do
        if command -v "$name" >/dev/null && fits "$name"; then
            python=$(command -v "$name")
            tag=$("$python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
            # shellcheck disable=SC2144 # one file of that name is enough
            if ls "$here"/wheels/orjson-*-"$tag"-*.whl >/dev/null 2>&1; then break; fi
            python=''
        fi
    done
    [ -n "$python" ] || fail 'no Python that this release fits was found' \
        "it has wheels for $(pythons)(CPython): install one of these, or name it with --python"
else
    fits "$python" || fail "$python is no CPython 3.11 or newer" 'name another one with --python'
    tag=$("$python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
    ls "$here"/wheels/orjson-*-"$tag"-*.whl >/dev/null 2>&1 ||
        fail "the release has no wheels for $python ($tag)" "it has them for $(pythons)"
fi
"$python" -c 'import venv, ssl, sqlite3' 2>/dev/null ||
    fail "$python lacks venv, ssl or sqlite3" 'install the whole of Python: on Debian python3-venv, on Red Hat python3.11'
"$python" -c 'import platform; raise SystemExit(platform.libc_ver()[0] != "glibc")' ||
    fail 'this system has no glibc' 'musl systems (Alpine) need wheels of their own: build airgap from source there'

real=$("$python" -c 'import os, sys; print(os.path.realpath(sys.executable))')
at=$real
while [ "$at" != / ]; do
    # Searched, or run, by others: the last letter of -rwxr-xr-x.
    case $(ls -ld "$at") in
        [!\ ]????????[xt]*) ;;
        *)
            printf 'install.sh: warning: %s\n' "others than $(id -un) can't run $real, by which airgap runs: see $at" >&2
            printf 'install.sh: hint: %s\n' 'name another Python with --python, such as /usr/bin/python3' >&2
            break ;;
    esac
    at=$(dirname "$at")
done

place="$target/versions/$version"
[ ! -e "$place" ] || fail "airgap $version is installed in $target already" \
    "to add parts, or to install it anew: rm -r '$place', then this command again with every part that is wanted; homes stay"
if [ -e "$target" ] && [ ! -d "$target/versions" ] && [ -n "$(ls -A "$target" 2>/dev/null)" ]; then
    fail "$target is there and is no airgap installation" 'name a folder that does not exist yet'
fi
mkdir -p "$target/versions" "$target/bin" 2>/dev/null || fail "$target can't be written to" 'run it as who may, or name another folder'
room=$(df -Pk "$target" | awk 'NR == 2 { print $4 }')
[ "$room" -ge 204800 ] || fail "only $((room / 1024)) MiB are free in $target" 'an installation takes 200 MiB'

trap 'rm -rf "$place"' EXIT
trap 'exit 130' INT TERM
"$python" -m venv --without-pip "$place"
set -- "$here"/wheels/pip-*.whl
pip="$1/pip"
set --
for part in $parts airgap; do
    # A part can need nothing beyond the core.
    [ ! -s "$here/locks/$part.lock" ] || set -- "$@" --requirement "$here/locks/$part.lock"
done
"$place/bin/python" -I "$pip" --isolated --disable-pip-version-check --no-cache-dir install --quiet \
    --no-index --find-links "$here/wheels" --no-deps --require-hashes "$@" ||
    fail "pip could not install $parts" 'read its message above; nothing of this installation was kept'
"$place/bin/airgap" --version >/dev/null || fail 'what was installed does not start' 'report it with the message above'
"$place/bin/airgap" man --to "$place/share/man" --quiet
trap - EXIT
ln -sfn "versions/$version" "$target/current"
ln -sfn ../current/bin/airgap "$target/bin/airgap"
printf 'Installed %s in %s (%s).\n' "$("$target/bin/airgap" --version)" "$target" "$("$place/bin/python" --version)"
printf 'Next: %s/bin/airgap init --help; manual pages: man -M %s/current/share/man airgap\n' "$target" "$target"
