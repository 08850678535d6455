#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs a shell command inside the guest root (Debian 13), to build for guests.
#
#   tools/in-guest-root.sh FOLDER COMMAND [LAYER]
#
# FOLDER of the host appears as /mnt/work; the command can write only there and to /tmp. LAYER
# is a folder that is laid over the root. The mounts are in a mount namespace of the command, so
# nothing is left behind when it ends, and the root is not changed.
set -euo pipefail
# shellcheck source=tools/setup/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/setup/common.sh"

[ $# = 2 ] || [ $# = 3 ] || { sed -n '4,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }
need_root "building inside the guest root"
root=$("$TOOLS/setup.sh" --print guest-root)/root
mkdir -p "$1"
folder=$(cd "$1" && pwd)

# shellcheck disable=SC2016
exec unshare --mount --propagation private sh -ec '
	root=$1 folder=$2
	if [ -n "$4" ]; then
		mount -t overlay -o "ro,lowerdir=$4:$root" overlay "$root"
	else
		mount --bind "$root" "$root"
		mount -o remount,ro,bind "$root"
	fi
	mount -t proc proc "$root/proc"
	mount -t tmpfs tmpfs "$root/tmp"
	mount -t tmpfs tmpfs "$root/mnt"
	mkdir "$root/mnt/work"
	mount --bind "$folder" "$root/mnt/work"
	for node in null zero full random urandom; do
		mount --bind "/dev/$node" "$root/dev/$node"
	done
	exec chroot "$root" /usr/bin/env -i \
		PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LC_ALL=C.UTF-8 \
		/bin/sh -ec "cd /mnt/work; $3"' sh "$root" "$folder" "$2" "${3:-}"
