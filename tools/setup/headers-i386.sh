# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Target "headers-i386": the kernel headers of Debian 12's 32-bit x86, to compile the driver as
# a 32-bit machine does. They are not installed: the folder is for "make -C FOLDER M=... ARCH=i386".
#   usr/src/linux-headers-*-686-pae    that folder; link "headers"

HEADERS_I386_RECIPE=1    # one more when the functions below make something else

headers_i386_hash() { echo "$HEADERS_I386_RECIPE 6.1" | sha256sum | cut -c1-10; }
print_headers_i386() { echo "$(product_find headers-i386 "$(headers_i386_hash)")/headers" | grep -v '^/headers'; }
setup_headers_i386() { with_lock headers-i386 headers_i386; }

# apt_i386 COMMAND...: apt-get or apt-cache for Debian 12's i386, with their own lists.
apt_i386() {
	local dir=$CACHE/apt-i386 command=$1
	shift
	"$command" -o APT::Architecture=i386 -o APT::Architectures=i386 \
		-o Dir::Etc::SourceList="$dir/sources.list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::State::Lists="$dir/lists" -o Dir::State::status=/dev/null \
		-o Dir::Cache::archives="$dir/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= \
		-o Acquire::Languages=none -o APT::Sandbox::User=root "$@"
}

headers_i386() {
	local dir uri keyring
	apt_need headers-i386 linux-kbuild-6.1
	dir=$(product_find headers-i386 "$(headers_i386_hash)") || true
	if [ -z "$dir" ]; then
		need_root "adding apt lists"
		read -r uri keyring <<<"$(apt_mirror)"
		mkdir -p "$CACHE"/apt-i386/lists/partial "$CACHE"/apt-i386/archives/partial
		echo "deb [signed-by=$keyring] $uri bookworm main" >"$CACHE/apt-i386/sources.list"
		step headers-i386 "3 s" "reading the mirror's list of i386" apt_i386 apt-get update
		dir=$CACHE/headers-i386/6.1-$(headers_i386_hash)
		step headers-i386 "5 s" "fetching 12 MB of headers" headers_i386_fetch "$dir"
	fi
	product_done headers-i386 "$dir"
	ready "headers-i386: ready: $dir/headers"
}

headers_i386_fetch() {
	local dir=$1 release deb
	release=$(apt_i386 apt-cache search '^linux-headers-6\.1\.[0-9.-]*-686-pae$' |
		sed -n 's/^linux-headers-\([^ ]*\)-686-pae .*/\1/p' | sort -V | tail -1)
	[ -n "$release" ] || return
	rm -rf "$dir" && mkdir -p "$dir/deb" "$dir/usr/lib" &&
	(cd "$dir/deb" && apt_i386 apt-get download "linux-headers-$release-686-pae" "linux-headers-$release-common") &&
	for deb in "$dir"/deb/*.deb; do
		dpkg-deb -x "$deb" "$dir" || return
	done &&
	rm -rf "$dir/deb" "$dir/usr/share" &&
	# The headers refer to the package with the build programs, which runs on this machine, and
	# to their common part by its installed path.
	ln -sfn /usr/lib/linux-kbuild-6.1 "$dir/usr/lib/linux-kbuild-6.1" &&
	sed -i "s,/usr/src/,$dir/usr/src/," "$dir/usr/src/linux-headers-$release-686-pae/Makefile" &&
	ln -sfn "usr/src/linux-headers-$release-686-pae" "$dir/headers"
}
