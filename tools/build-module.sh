#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Builds the guest driver out of tree, from a copy, so that the sources stay clean.
#
#   tools/build-module.sh guest [MAKE-ARGUMENT...]  Debian 13's kernel, in the guest root
#   tools/build-module.sh uml|uml-debug ...         our User Mode Linux kernel
#   tools/build-module.sh oldest|newest ...         the oldest and newest kernel: Debian 12's,
#                                                   Debian 13's newest backport
#   tools/build-module.sh KERNEL-TREE ...           any other tree or headers folder
#
# MAKE-ARGUMENTs are kbuild's: W=1, C=2, V=1, ...
# All but the last put a layer for guests into build/guest, build/uml, build/kernel-oldest...:
# usr/lib/modules/RELEASE/updates/virtio_rdma.ko and the module index with it.
# The last leaves build/modules/RELEASE/virtio_rdma.ko.
set -euo pipefail
# shellcheck source=tools/setup/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/setup/common.sh"

module=virtio_rdma
[ $# -ge 1 ] || { sed -n '4,16s/^# \{0,1\}//p' "$0" >&2; exit 2; }
kernel=$1
shift

# The copy has the project's layout, because sources include ../include/uapi.
copy_sources() {
	mkdir -p "$1"
	overlay_kept "$TOP/drivers" "$1/drivers"
	overlay_kept "$TOP/include" "$1/include"
	copy_if_changed "$TOP/Kbuild" "$1/Kbuild"
}

# Like overlay(), but keeps files that the last build created beside the sources.
overlay_kept() {
	mkdir -p "$2"
	rsync -rlpc --delete --exclude='*.o' --exclude='*.ko' --exclude='*.mod' --exclude='*.mod.c' \
		--exclude='.*.cmd' --exclude='modules.order' --exclude='.module-common*' "$1/" "$2/"
}

# result OBJ: where kbuild stored the module; Kbuild at the top may descend or not.
result() {
	local ko
	ko=$(find "$1" -name "$module.ko" -print -quit)
	[ -n "$ko" ] || die "the build made no $module.ko in $1"
	echo "$ko"
}

# install_layer KO LAYER BASE RELEASE: modprobe in a guest finds only modules of the index, so
# the layer has an index of BASE's modules together with ours. Building it takes seconds, so
# this is only repeated if the data of our module in it has changed.
install_layer() {
	local ko=$1 base=$3 release=$4 to=$2/usr/lib/modules/$4 facts
	facts="$base $(modinfo -F alias "$ko") $(modinfo -F depends "$ko") $(modinfo -F softdep "$ko")"
	mkdir -p "$to/updates"
	strip --strip-debug -o "$ko.stripped" "$ko"    # 10 MB would take long to load under TCG
	copy_if_changed "$ko.stripped" "$to/updates/$module.ko"
	[ "$(cat "$to/.indexed" 2>/dev/null)" != "$facts" ] || return 0
	make_index "$2/usr" "$base" "$release"
	echo "$facts" >"$to/.indexed"
}

# Debian 13's depmod: Debian 12's cannot write elsewhere (-o).
make_index() {
	# shellcheck disable=SC2016
	unshare --mount --propagation private sh -ec '
		root=$1 usr=$2 base=$3 release=$4
		mount -t tmpfs tmpfs "$root/mnt"
		mkdir -p "$root/mnt/in/lib/modules/$release" "$root/mnt/out"
		mount -t overlay -o "ro,lowerdir=$usr/lib/modules/$release:$base" overlay \
			"$root/mnt/in/lib/modules/$release"
		mount --bind "$usr" "$root/mnt/out"
		exec chroot "$root" depmod -b /mnt/in -o /mnt/out "$release"
		' sh "$(guest_root)" "$@"
}

guest_root() { echo "$("$TOOLS/setup.sh" --print guest-root)/root"; }

build_guest() {
	local root release obj=$TOP/build/obj/module-guest
	VRDMA_QUIET=1 "$TOOLS/setup.sh" guest-root
	root=$(guest_root)
	release=$(basename "$(ls -d "$root"/usr/lib/modules/*)")
	copy_sources "$obj"
	"$TOOLS/in-guest-root.sh" "$obj" "make --no-print-directory -C /usr/lib/modules/$release/build M=/mnt/work -j$JOBS modules $*"
	install_layer "$(result "$obj")" "$TOP/build/guest" "$root/usr/lib/modules/$release" "$release"
	say "module: $TOP/build/guest/usr/lib/modules/$release/updates/$module.ko"
}

build_uml() {
	local flavour=$1 tree release obj=$TOP/build/obj/module-$1
	shift
	VRDMA_QUIET=1 "$TOOLS/setup.sh" "$flavour" guest-root
	tree=$("$TOOLS/setup.sh" --print "$flavour")
	release=$(cat "$tree/include/config/kernel.release")
	copy_sources "$obj"
	make --no-print-directory -C "$tree" ARCH=um M="$obj" -j"$JOBS" modules "$@"
	install_layer "$(result "$obj")" "$TOP/build/$flavour" "$tree/modules/usr/lib/modules/$release" "$release"
	say "module: $TOP/build/$flavour/usr/lib/modules/$release/updates/$module.ko"
}

# The oldest kernel's headers are installed here; the newest's are a layer over the guest root.
build_kernel() {
	local name=kernel-$1 dir release obj headers
	shift
	VRDMA_QUIET=1 "$TOOLS/setup.sh" packages guest-root "$name"
	dir=$("$TOOLS/setup.sh" --print "$name")
	release=$(cat "$dir/release")
	obj=$TOP/build/obj/module-$name
	headers=/usr/src/linux-headers-$release
	copy_sources "$obj"
	if [ -d "$dir/headers" ]; then
		"$TOOLS/in-guest-root.sh" "$obj" \
			"make --no-print-directory -C $headers M=/mnt/work -j$JOBS modules $*" "$dir/headers"
	else
		make --no-print-directory -C "$headers" M="$obj" -j"$JOBS" modules "$@"
	fi
	install_layer "$(result "$obj")" "$TOP/build/$name" "$dir/modules/usr/lib/modules/$release" "$release"
	say "module: $TOP/build/$name/usr/lib/modules/$release/updates/$module.ko"
}

build_other() {
	local tree=$1 release obj
	shift
	release=$(make -s -C "$tree" kernelrelease 2>/dev/null | tail -1)
	[ -n "$release" ] || die "$tree is no kernel tree or headers folder prepared for modules"
	obj=$TOP/build/obj/module-$release
	copy_sources "$obj"
	make --no-print-directory -C "$tree" M="$obj" -j"$JOBS" modules "$@"
	copy_if_changed "$(result "$obj")" "$TOP/build/modules/$release/$module.ko"
	say "module: $TOP/build/modules/$release/$module.ko"
}

dispatch() {
	case $kernel in
	guest)         build_guest "$@" ;;
	uml|uml-debug) build_uml "$kernel" "$@" ;;
	oldest|newest) build_kernel "$kernel" "$@" ;;
	*)
		[ -d "$kernel" ] || die "'$kernel' is neither guest, uml, uml-debug, oldest, newest nor a folder"
		build_other "$(cd "$kernel" && pwd)" "$@" ;;
	esac
}

[ -e "$TOP/Kbuild" ] || die "no Kbuild in $TOP: nothing to build yet"
with_lock "module-$(config_hash <(echo "$TOP/$kernel"))" dispatch "$@"
