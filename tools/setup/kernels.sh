# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Targets "kernel-oldest" and "kernel-newest": the oldest and newest kernels that the driver
# supports, to build against and to boot in QEMU guests. The oldest is Debian 12's; the newest
# is the newest in Debian 13's backports at the time of set-up. A newer one in the backports is
# another product. They are never installed here, except for the headers of the oldest, because
# Debian 12 has their compiler.
#   release         output of uname -r in the guest
#   vmlinuz
#   initramfs.cpio  like guest-image's, with this kernel's modules
#   modules/        a layer for guests: usr/lib/modules/RELEASE
#   headers/        of the newest: a layer for the guest root, which has its compiler

KERNEL_RECIPE=1       # one more when the functions below make something else
KERNEL_OLDEST='6\.1\.'

# Modules that no guest of ours can use: three quarters of all.
KERNEL_EXCLUDE=(sound drivers/gpu drivers/media drivers/net/wireless drivers/staging drivers/iio
	drivers/usb drivers/hwmon drivers/input drivers/video drivers/scsi drivers/mtd)

kernel_hash() {
	{ cat "$TOOLS/setup/guest-image.sh" "$TOOLS/guest/init"; echo "$KERNEL_RECIPE ${KERNEL_EXCLUDE[*]}"; } |
		sha256sum | cut -c1-10
}

print_kernel_oldest() { product_find kernel-oldest "$(kernel_hash)"; }
print_kernel_newest() { product_find kernel-newest "$(kernel_hash)"; }
setup_kernel_oldest() { setup_guest_root; with_lock kernel-oldest kernel_flavour oldest; }
setup_kernel_newest() { setup_guest_root; with_lock kernel-newest kernel_flavour newest; }

kernel_flavour() {
	local name=kernel-$1 release dir
	need_root "adding apt sources"
	apt_need "$name" kmod cpio xz-utils
	"kernel_lists_$1"
	release=$(kernel_release "apt_$1")
	[ -n "$release" ] || die "the mirror offers no linux-image-amd64 for $name"
	[ "$1" != oldest ] || apt_need "$name" "linux-headers-$release"
	dir=$CACHE/$name/$release-$(kernel_hash)
	if [ ! -e "$dir/.done" ]; then
		step "$name" "10 s" "fetching Linux $release" kernel_fetch "apt_$1" "$release" "$dir"
		step "$name" "20 s" "unpacking it" kernel_unpack "$release" "$dir"
		step "$name" "5 s" "its initramfs" kernel_initramfs "$release" "$dir"
		echo "$release" >"$dir/release"
		touch "$dir/.done"
		product_prune "$name"
	fi
	touch "$dir/.done"    # print_*() uses the latest
	product_done "$name" "$dir"
	ready "$name: ready: $dir ($release)"
}

kernel_lists_oldest() { apt_sources; }
apt_oldest() { "$@"; }

# Debian 13's backports, which this machine's apt does not use: an apt with its own lists,
# updated once a day.
kernel_lists_newest() {
	local dir=$CACHE/apt-newest uri keyring text
	read -r uri keyring <<<"$(apt_mirror)"
	text="deb [signed-by=$keyring] $uri trixie-backports main"
	mkdir -p "$dir"/lists/partial "$dir"/archives/partial
	if [ "$(cat "$dir/sources.list" 2>/dev/null)" != "$text" ] ||
			[ -z "$(find "$dir/lists" -maxdepth 1 -name '*Packages*' -mmin -1440)" ]; then
		echo "$text" >"$dir/sources.list"
		# If the mirror cannot be reached, use the newest kernel in the old list.
		if (step kernel-newest "2 s" "reading the mirror's list of trixie-backports" apt_newest apt-get update); then
			find "$dir/lists" -maxdepth 1 -name '*Packages*' -exec touch {} +
		else
			print_kernel_newest >/dev/null || die "kernel-newest: the mirror has no list of trixie-backports"
			say "kernel-newest: goes on with the list that is there"
		fi
	fi
}

# apt_newest COMMAND...: apt-get or apt-cache with only those lists.
apt_newest() {
	local dir=$CACHE/apt-newest command=$1
	shift
	"$command" -o Dir::Etc::SourceList="$dir/sources.list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::State::Lists="$dir/lists" -o Dir::State::status=/dev/null \
		-o Dir::Cache::archives="$dir/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= \
		-o Acquire::Languages=none -o APT::Sandbox::User=root "$@"
}

# kernel_release APT: the newest kernel that linux-image-amd64 depends on, as uname -r prints
# it.
kernel_release() {
	local pattern=.
	[ "$1" != apt_oldest ] || pattern="^$KERNEL_OLDEST"
	"$1" apt-cache show linux-image-amd64 |
		sed -n 's/^Depends:.*linux-image-\([0-9][^ ,]*-amd64\).*/\1/p' | grep -E "$pattern" | sort -V | tail -1
}

# kernel_packages APT RELEASE: the image and the packages that it is split into since 6.17; for
# the newest also its headers, with their dependencies.
kernel_packages() {
	local apt=$1 release=$2 names=("linux-image-$2")
	[ "$apt" != apt_newest ] || names+=("linux-headers-$release")
	{
		printf '%s\n' "${names[@]}"
		"$apt" apt-cache show "${names[@]}" | grep '^Depends:' |
			grep -oE 'linux-(base|binary|modules|headers|kbuild)-[0-9][^ ,]*'
	} | sort -u
}

kernel_fetch() {
	local packages
	mapfile -t packages < <(kernel_packages "$1" "$2")
	rm -rf "$3" && mkdir -p "$3/deb" && cd "$3/deb" && "$1" apt-get download "${packages[@]}"
}

# Debian 12's packages still have their modules in /lib, which a layer must not contain.
kernel_unpack() {
	local release=$1 dir=$2 deb to pattern exclude=()
	for pattern in "${KERNEL_EXCLUDE[@]}"; do
		exclude+=(--exclude="*/kernel/$pattern")
	done
	for deb in "$dir"/deb/*.deb; do
		case ${deb##*/} in
		linux-headers-* | linux-kbuild-*) to=$dir/headers ;;
		*)                                to=$dir/modules ;;
		esac
		mkdir -p "$to" &&
		dpkg-deb --fsys-tarfile "$deb" |
			tar -x -C "$to" "${exclude[@]}" --transform='s,^\./lib\(/\|$\),./usr/lib\1,' || return
	done
	rm -rf "$dir/deb" &&
	mv "$(find "$dir/modules" -name "vmlinuz*" -type f -print -quit)" "$dir/vmlinuz" &&
	rm -rf "$dir"/modules/{boot,etc} "$dir"/{modules,headers}/usr/share &&
	depmod -b "$dir/modules/usr" "$release"
}

kernel_initramfs() {
	local root
	root=$(print_guest_root)/root &&
	guest_initramfs "$root" "$2/modules/usr" "$1" "$2"
}
