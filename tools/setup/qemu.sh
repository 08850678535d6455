# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Target "qemu": the source of Debian 13's QEMU (10.0.x) and its build dependencies.
# tools/build-qemu.sh builds it, always with our files, because our patch changes headers that
# all files include.
#   src/    the source, later with our files
#   build/  the build folder, made by build-qemu.sh

QEMU_PATTERN='^1:10\.0\.'

setup_qemu() {
	local dir
	dir=$(print_qemu) || true
	if [ -z "$dir" ]; then
		# shellcheck disable=SC2046
		apt_need qemu $(print_packages | grep -E '^(build-essential|ninja|meson|python3|pkg-config|flex|bison|bzip2|lib(glib2|pixman|slirp|fdt|cap-ng|attr1|seccomp)|seabios|ipxe|qemu-system-data|rsync|xz-utils|dpkg-dev)')
		with_lock qemu qemu_make
		dir=$(print_qemu)
	fi
	product_done qemu "$dir"
	ready "qemu: ready: $dir/src"
}

print_qemu() { product_find qemu "$(config_hash "$CONFIG/qemu.options")"; }

qemu_make() {
	local version tar dir
	[ -z "$(print_qemu)" ] || return 0
	apt_sources
	version=$(apt_source_version qemu "$QEMU_PATTERN")
	[ -n "$version" ] || die "the mirror lists no QEMU source $QEMU_PATTERN (Debian 13's)"
	step qemu "5 s" "fetching $version" apt_source_tar qemu "$version" "$CACHE/dl"
	tar=$(apt_source_newest qemu)
	version=$(basename "$tar" | sed -E 's/^qemu_([^+]*).*/\1/')
	dir=$CACHE/qemu/$version-$(config_hash "$CONFIG/qemu.options")
	[ -e "$dir/.unpacked" ] || step qemu "20 s" "unpacking $version" qemu_unpack "$tar" "$dir"
	touch "$dir/.done"
	product_prune qemu
}

# Debian removes the edk2 firmware from its source, but the build rules name the files. Empty
# files are sufficient, because none of our guests boots from them.
qemu_unpack() {
	local f
	rm -rf "$2" && mkdir -p "$2/src" && tar -xf "$1" --strip-components=1 -C "$2/src" &&
	for f in $(grep -o "'edk2-[^']*fd'" "$2/src/pc-bios/meson.build" | tr -d "'"); do
		[ -e "$2/src/pc-bios/$f.bz2" ] || bzip2 </dev/null >"$2/src/pc-bios/$f.bz2" || return
	done && touch "$2/.unpacked"
}
