# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Target "rdma-core": the source of Debian 13's rdma-core, in which our provider is built.
# (tools/build-provider.sh uses a copy; this one is not changed.)

RDMA_CORE_PATTERN='^56\.'

setup_rdma_core() {
	local dir
	dir=$(print_rdma_core) || true
	if [ -z "$dir" ]; then
		with_lock rdma-core rdma_core_make
		dir=$(print_rdma_core)
	fi
	product_done rdma-core "$dir"
	ready "rdma-core: ready: $dir"
}

print_rdma_core() { product_find rdma-core source; }

rdma_core_make() {
	local version tar dir
	[ -z "$(print_rdma_core)" ] || return 0
	apt_need rdma-core dpkg-dev
	apt_sources
	version=$(apt_source_version rdma-core "$RDMA_CORE_PATTERN")
	[ -n "$version" ] || die "the mirror lists no rdma-core source $RDMA_CORE_PATTERN (Debian 13's)"
	dir=$CACHE/rdma-core/$version-source
	step rdma-core "2 s" "fetching $version" apt_source_tar rdma-core "$version" "$CACHE/dl"
	tar=$(apt_source_newest rdma-core)
	rm -rf "$dir"
	mkdir -p "$dir"
	step rdma-core "1 s" "unpacking" tar -xf "$tar" --strip-components=1 -C "$dir"
	touch "$dir/.done"
}
