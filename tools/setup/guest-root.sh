# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Target "guest-root": Debian 13 in a folder, the root of all guests and the place where
# programs for guests are compiled (with its headers and compiler). It is not written to after
# it was made: guests see it through an overlay, and builds use a read-only view
# (tools/in-guest-root.sh).
#   root/   the system

GUEST_ROOT_RECIPE=1   # one more when the functions below make something else

guest_root_hash()  { { config_hash "$CONFIG/guest-packages"; echo $GUEST_ROOT_RECIPE; } | sha256sum | cut -c1-10; }
print_guest_root() { product_find guest-root "$(guest_root_hash)"; }

setup_guest_root() {
	local dir
	dir=$(print_guest_root) || true
	if [ -z "$dir" ]; then
		need_root "debootstrap"
		apt_need guest-root debootstrap
		with_lock guest-root guest_root_make
		dir=$(print_guest_root)
	fi
	product_done guest-root "$dir"
	ready "guest-root: ready: $dir/root"
}

guest_root_make() {
	local dir uri keyring
	[ -z "$(print_guest_root)" ] || return 0
	dir=$CACHE/guest-root/trixie-$(guest_root_hash)
	read -r uri keyring <<<"$(apt_mirror)"
	step guest-root "1 min" "debootstrap of Debian 13" guest_root_bootstrap "$dir" "$uri" "$keyring"
	step guest-root "2 min" "installing its packages" guest_root_install "$dir"
	touch "$dir/.done"
	product_prune guest-root
}

guest_root_bootstrap() {
	local root=$1/root
	rm -rf "$1" && mkdir -p "$1" &&
	debootstrap --variant=minbase --keyring="$3" trixie "$root" "$2" &&
	# A cache needs no fsync; documentation and translations are not used here.
	cat >"$root/etc/dpkg/dpkg.cfg.d/virtio-rdma" <<-'END' &&
	force-unsafe-io
	path-exclude=/usr/share/doc/*
	path-exclude=/usr/share/man/*
	path-exclude=/usr/share/info/*
	path-exclude=/usr/share/locale/*
	END
	printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" &&
	chmod +x "$root/usr/sbin/policy-rc.d"
}

# Uses a mount namespace of its own, so that nothing stays mounted after any kind of end.
# INITRD=No: we make a small initramfs ourselves.
guest_root_install() {
	local root=$1/root packages
	packages=$(sed -e '/^#/d' -e '/^$/d' "$CONFIG/guest-packages" | tr '\n' ' ')
	# shellcheck disable=SC2016
	unshare --mount --propagation private sh -ec '
		mount -t proc proc "$1/proc"
		INITRD=No chroot "$1" apt-get update
		INITRD=No chroot "$1" apt-get install -y --no-install-recommends $2
		chroot "$1" apt-get clean' sh "$root" "$packages" &&
	# RDMA locks registered memory: no limit for the users of a guest.
	printf '* - memlock unlimited\nroot - memlock unlimited\n' >"$root/etc/security/limits.d/rdma.conf" &&
	echo guest >"$root/etc/hostname" &&
	rm -f "$root"/boot/initrd.img-* && mkdir -p "$root/vrdma"
}
