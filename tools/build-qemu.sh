#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Builds QEMU with our devices: Debian's source, with our files copied over it if their content
# differs (so that only changes are compiled), and a patch that is as small as possible.
#
#   tools/build-qemu.sh [NINJA-TARGET...]     default: the emulator
#
#   qemu-device/hw/rdma/    -> hw/rdma/              qemu-device/core/ -> hw/rdma/core/
#   qemu-device/transports/ -> hw/rdma/transports/   include/uapi/     -> hw/rdma/uapi/
#   qemu-device/qemu.patch is applied
#
# Result: build/qemu/qemu-system-x86_64, which knows where its firmware is.
set -euo pipefail
# shellcheck source=tools/setup/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/setup/common.sh"

device=$TOP/qemu-device
out=$TOP/build/qemu

# apply_patch DIR: always applies the patch to the original files (kept in pristine/), so that a
# changed patch need not be reverted.
apply_patch() {
	local dir=$1 scratch file patch=$device/qemu.patch
	local -a touched=()
	[ -e "$patch" ] && mapfile -t touched < <(sed -nE 's|^\+\+\+ b/([^[:space:]]+).*|\1|p' "$patch")
	# restore files that an earlier patch changed and this one does not
	if [ -d "$dir/pristine" ]; then
		while IFS= read -r file; do
			case " ${touched[*]} " in *" $file "*) ;; *) copy_if_changed "$dir/pristine/$file" "$dir/src/$file" ;; esac
		done < <(cd "$dir/pristine" && find . -type f | sed 's|^\./||')
	fi
	[ ${#touched[@]} -gt 0 ] || return 0
	scratch=$(mktemp -d)
	for file in "${touched[@]}"; do
		[ -e "$dir/pristine/$file" ] || copy_if_changed "$dir/src/$file" "$dir/pristine/$file"
		mkdir -p "$scratch/$(dirname "$file")"
		cp "$dir/pristine/$file" "$scratch/$file"
	done
	if ! patch -d "$scratch" -p1 --no-backup-if-mismatch <"$patch" >"$scratch/.log"; then
		cat "$scratch/.log" >&2
		die "qemu-device/qemu.patch does not apply to $(cat "$dir/src/VERSION")"
	fi
	for file in "${touched[@]}"; do
		copy_if_changed "$scratch/$file" "$dir/src/$file"
	done
	rm -rf "$scratch"
}

lay_over() {
	local to=$1/src/hw/rdma list
	[ -d "$device/hw/rdma" ] || { say "qemu: no qemu-device/hw/rdma: building QEMU as it is"; return; }
	mkdir -p "$to"
	rsync -rlpc --delete --exclude=/core --exclude=/transports --exclude=/uapi "$device/hw/rdma/" "$to/"
	overlay "$device/core" "$to/core"
	overlay "$device/transports" "$to/transports"
	overlay "$TOP/include/uapi" "$to/uapi"
	[ ! -d "$device/include" ] || rsync -rlpc "$device/include/" "$1/src/include/"
	# meson.build lists these folders when meson runs, so meson has to run again for a new file
	list=$(cd "$to" && find core transports -name '*.c' | sort)
	[ "$list" = "$(cat "$1/sources" 2>/dev/null)" ] && return
	touch "$to/meson.build"
	echo "$list" >"$1/sources"
}

# The binary is copied because the tree is shared by all checkouts of this user. The wrapper
# names the firmware folders, which are in three Debian packages.
install_result() {
	mkdir -p "$out/lib"
	cmp -s "$1/build/qemu-system-x86_64" "$out/lib/qemu-system-x86_64" || {
		cp "$1/build/qemu-system-x86_64" "$out/lib/.new"
		mv -f "$out/lib/.new" "$out/lib/qemu-system-x86_64"   # a running guest keeps the old one
	}
	cat >"$out/qemu-system-x86_64.new" <<-'END'
	#!/bin/sh
	# Written by tools/build-qemu.sh.
	here=$(dirname "$(readlink -f "$0")")
	exec "$here/lib/qemu-system-x86_64" -L /usr/share/seabios -L /usr/share/qemu \
		-L /usr/lib/ipxe/qemu "$@"
	END
	chmod +x "$out/qemu-system-x86_64.new"
	mv -f "$out/qemu-system-x86_64.new" "$out/qemu-system-x86_64"
	say "qemu: $out/qemu-system-x86_64"
}

configure() {
	local options
	mapfile -t options < <(sed -e '/^#/d' -e '/^$/d' "$CONFIG/qemu.options")
	rm -rf "$1/build" && mkdir -p "$1/build" && cd "$1/build" &&
	../src/configure --python=/usr/bin/python3 "${options[@]}"
}

build() {
	local log=$LOGS/qemu-device.log targets=("$@")
	[ ${#targets[@]} -gt 0 ] || targets=(qemu-system-x86_64)
	lay_over "$dir"
	apply_patch "$dir"
	[ -e "$dir/build/build.ninja" ] || step qemu "20 s" "configuring" configure "$dir"
	say "qemu: building in $dir/build (4 min on 2 processors the first time; source with our files: $dir/src; log: $log)"
	if ! ninja -C "$dir/build" -j"$JOBS" "${targets[@]}" >"$log" 2>&1; then
		grep -E -A8 '(FAILED|error:|ERROR|warning:)' "$log" | tail -n 60 >&2 || tail -n 40 "$log" >&2
		die "QEMU did not build; the whole log is $log"
	fi
	grep -E -A5 'warning:.*' "$log" >&2 || true
	[ ! -e "$dir/build/qemu-system-x86_64" ] || install_result "$dir"
}

VRDMA_QUIET=1 "$TOOLS/setup.sh" qemu
dir=$("$TOOLS/setup.sh" --print qemu)
mkdir -p "$LOGS"
with_lock qemu build "$@"
