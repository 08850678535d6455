# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Target "guest-image": files to boot guests, made from the guest root.
#   initramfs.cpio  busybox, tools/guest/init and the few modules that a Debian
#                   kernel needs to access its root; UML boots it as well
#   root.erofs      the guest root without files that only builds need: under TCG a
#                   block device is several times faster than a shared folder
#   vmlinuz         the guest root's kernel

GUEST_IMAGE_MODULES=(virtio_pci virtio_blk erofs overlay 9p 9pnet_virtio virtio_net)

guest_image_hash() {
	local root
	root=$(print_guest_root) || return 1
	{ cat "$TOOLS/setup/guest-image.sh" "$TOOLS/guest/init"; echo "$root"; } | sha256sum | cut -c1-10
}

print_guest_image() { product_find guest-image "$(guest_image_hash)"; }

setup_guest_image() {
	local dir
	setup_guest_root
	dir=$(print_guest_image) || true
	if [ -z "$dir" ]; then
		apt_need guest-image erofs-utils cpio xz-utils
		with_lock guest-image guest_image_make
		dir=$(print_guest_image)
	fi
	product_done guest-image "$dir"
	ready "guest-image: ready: $dir"
}

guest_image_make() {
	local root dir release
	[ -z "$(print_guest_image)" ] || return 0
	root=$(print_guest_root)/root
	release=$(guest_release "$root")
	dir=$CACHE/guest-image/$release-$(guest_image_hash)
	mkdir -p "$dir"
	step guest-image "10 s" "initramfs" guest_initramfs "$root" "$root" "$release" "$dir"
	step guest-image "15 s" "root.erofs" guest_erofs "$root" "$dir"
	cp "$root/boot/vmlinuz-$release" "$dir/vmlinuz"
	echo "$release" >"$dir/release"
	touch "$dir/.done"
	product_prune guest-image
}

guest_release() { basename "$(ls -d "$1"/usr/lib/modules/*)"; }

# guest_initramfs ROOT BASE RELEASE DIR: busybox of ROOT, modules of BASE/lib/modules. Modules
# are unpacked and numbered in the order of loading, so that the guest needs no modprobe, no
# decompression and no index.
guest_initramfs() {
	local root=$1 base=$2 release=$3 tree=$4/initramfs path n=10
	rm -rf "$tree" && mkdir -p "$tree"/{bin,proc,sys,dev,modules/"$release"} || return
	cp "$root/usr/bin/busybox" "$tree/bin/" && cp "$TOOLS/guest/init" "$tree/init" && chmod +x "$tree/init" || return
	for path in $(guest_modules "$base" "$release"); do
		n=$((n + 1))
		case $path in
		*.xz) xz -dc "$path" ;;
		*)    cat "$path" ;;
		esac >"$tree/modules/$release/$n-$(basename "${path%.xz}")" || return
	done
	(cd "$tree" && find . | LC_ALL=C sort | cpio --quiet -o -H newc >../initramfs.cpio) && rm -rf "$tree"
}

guest_modules() {
	local m
	for m in "${GUEST_IMAGE_MODULES[@]}"; do
		modprobe -d "$1" -S "$2" --show-depends "$m"
	done | awk '$1 == "insmod" && !seen[$2]++ {print $2}'
}

guest_erofs() {
	local pattern
	# regular expressions on paths below the root
	pattern='^(boot|usr/src|usr/include|usr/lib/gcc|usr/libexec/gcc|var/cache|var/lib/apt|usr/share/(cmake|doc|man|locale|perl|gdb)|usr/lib/x86_64-linux-gnu/[^/]*\.a)(/|$)'
	rm -f "$2/root.erofs" &&
	mkfs.erofs --quiet -x-1 -T0 --exclude-regex="$pattern" "$2/root.erofs" "$1/"
}
