# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Target "guest-mpi": UCX, libfabric, Open MPI, MPICH and ssh (config/guest-mpi-packages), as a
# layer over the guest root. Only guests that request the layer have them, so that the image of
# all other guests stays small.
#   layer/   the files that differ from the guest root's

GUEST_MPI_RECIPE=1    # one more when the functions below make something else

guest_mpi_hash() {
	local root
	root=$(print_guest_root) || return 1
	{ config_hash "$CONFIG/guest-mpi-packages"; echo "$GUEST_MPI_RECIPE $root"; } | sha256sum | cut -c1-10
}

print_guest_mpi() { product_find guest-mpi "$(guest_mpi_hash)"; }

setup_guest_mpi() {
	local dir
	setup_guest_root
	dir=$(print_guest_mpi) || true
	if [ -z "$dir" ]; then
		need_root "installing packages in a chroot"
		with_lock guest-mpi guest_mpi_make
		dir=$(print_guest_mpi)
	fi
	product_done guest-mpi "$dir"
	ready "guest-mpi: ready: $dir/layer"
}

guest_mpi_make() {
	local dir
	[ -z "$(print_guest_mpi)" ] || return 0
	dir=$CACHE/guest-mpi/trixie-$(guest_mpi_hash)
	rm -rf "$dir" && mkdir -p "$dir"
	step guest-mpi "40 s" "installing UCX, Open MPI and MPICH" guest_mpi_install "$(print_guest_root)/root" "$dir"
	touch "$dir/.done"
	product_prune guest-mpi
}

# apt runs on an overlay whose upper folder becomes the layer. That folder is on a tmpfs of this
# mount namespace, because not every file system supports an upper folder. Whiteouts (device
# 0:0) of files that apt removed are deleted: they have no effect in a lower layer that a guest
# sees through hostfs.
guest_mpi_install() {
	local root=$1 dir=$2 install only
	install=$(sed -n -e 's/^\([a-z].*\)/\1/p' "$CONFIG/guest-mpi-packages" | tr '\n' ' ')
	only=$(sed -n -e 's/^+//p' "$CONFIG/guest-mpi-packages" | tr '\n' ' ')
	# shellcheck disable=SC2016
	unshare --mount --propagation private sh -ec '
		root=$1 dir=$2
		mount -t tmpfs -o size=1536m,mode=755 tmpfs "$root/mnt"
		mkdir "$root/mnt/upper" "$root/mnt/work" "$root/mnt/all"
		mount -t overlay -o "lowerdir=$root,upperdir=$root/mnt/upper,workdir=$root/mnt/work" overlay "$root/mnt/all"
		cd "$root/mnt/all"
		mount -t proc proc proc
		mount -t tmpfs tmpfs mnt
		chroot . apt-get update
		chroot . apt-get install -y --no-install-recommends $3
		chroot . sh -ec "cd /mnt; apt-get download $4; for deb in *.deb; do dpkg-deb -x \$deb /; done"
		chroot . ldconfig
		chroot . apt-get clean
		rm -rf var/lib/apt/lists/* var/cache/* var/log/*
		umount mnt proc
		cd "$root/mnt/upper"
		find . -type c -delete
		cp -a . "$dir/layer"' sh "$root" "$dir" "$install" "$only"
}
