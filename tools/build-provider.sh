#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Builds the rdma-core provider as it would be built upstream: as one of the providers of a copy
# of rdma-core's tree, with Debian 13's compiler. Results, as a layer for guests:
#   build/guest/usr/lib/x86_64-linux-gnu/libibverbs/libvirtio_rdma-rdmav34.so
#   build/guest/etc/libibverbs.d/virtio_rdma.driver
# Options are passed to cmake (-DCMAKE_BUILD_TYPE=Debug, ...).
set -euo pipefail
# shellcheck source=tools/setup/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/setup/common.sh"

work=$TOP/build/obj/provider
layer=$TOP/build/guest
name=virtio_rdma

# insert_before FILE PATTERN LINE: once; the files are rdma-core's CMakeLists.txt.
insert_before() {
	grep -qxF -- "$3" "$1" || sed -i "0,/$2/s|^\(.*$2.*\)|$3\n\1|" "$1"
	grep -qxF -- "$3" "$1" || die "$1 has no line like '$2' any more"
}

lay_over() {
	local source
	source=$("$TOOLS/setup.sh" --print rdma-core)
	if [ "$(cat "$work/.source" 2>/dev/null)" != "$source" ]; then
		rm -rf "$work"
		mkdir -p "$work"
		cp -r "$source" "$work/src"
		echo "$source" >"$work/.source"
	fi
	overlay "$TOP/providers/$name" "$work/src/providers/$name"
	copy_if_changed "$TOP/include/uapi/rdma/$name-abi.h" "$work/src/kernel-headers/rdma/$name-abi.h"
	copy_if_changed "$TOP/include/uapi/linux/$name.h" "$work/src/kernel-headers/linux/$name.h"
	insert_before "$work/src/CMakeLists.txt" 'add_subdirectory(providers\/siw)' "add_subdirectory(providers/$name)"
	insert_before "$work/src/kernel-headers/CMakeLists.txt" 'linux\/vfio.h' "  linux/$name.h"
	# The header must be in two lists: that of published headers and that of headers converted to
	# request and response structures (kernel-abi/). Both contain siw's.
	grep -q "rdma/$name-abi.h" "$work/src/kernel-headers/CMakeLists.txt" ||
		sed -i "s|^  rdma/siw-abi.h|  rdma/$name-abi.h\n&|" "$work/src/kernel-headers/CMakeLists.txt"
}

build() {
	mkdir -p "$work/build"
	"$TOOLS/in-guest-root.sh" "$work" "
		[ -e build/build.ninja ] && [ '$*' = \"\$(cat build/.options 2>/dev/null)\" ] ||
			cmake -S src -B build -G Ninja -Wno-dev -DCMAKE_BUILD_TYPE=RelWithDebInfo \
				-DCMAKE_INSTALL_PREFIX=/usr -DCMAKE_INSTALL_SYSCONFDIR=/etc \
				-DNO_MAN_PAGES=1 -DNO_PYVERBS=1 $* >cmake.log 2>&1 || { tail -n 30 cmake.log; exit 1; }
		echo '$*' >build/.options
		ninja -C build -j$JOBS $name-rdmav34"
}

install_layer() {
	copy_if_changed "$work/build/lib/lib$name-rdmav34.so" \
		"$layer/usr/lib/x86_64-linux-gnu/libibverbs/lib$name-rdmav34.so"
	copy_if_changed "$work/build/providers/$name/$name.driver" \
		"$layer/etc/libibverbs.d/$name.driver"
	say "provider: $layer/usr/lib/x86_64-linux-gnu/libibverbs/lib$name-rdmav34.so"
}

[ -e "$TOP/providers/$name/CMakeLists.txt" ] || die "providers/$name/CMakeLists.txt is missing"
need_root "building inside the guest root"
VRDMA_QUIET=1 "$TOOLS/setup.sh" guest-root rdma-core
mkdir -p "$TOP/build"
locked() { lay_over; build "$@"; install_layer; }
with_lock "provider-$(config_hash <(echo "$TOP"))" locked "$@"
