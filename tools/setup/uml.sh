# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Targets "uml" and "uml-debug": User Mode Linux from Debian 12's newer kernel source. The tree
# is kept, because modules are built against it:
#   linux       the kernel
#   modules/    its own modules, as a layer for a guest (usr/lib/modules/...)

UML_PATCHES=("$CONFIG"/uml-patches/*.patch)

setup_uml()       { uml_flavour uml "$CONFIG/uml.config"; }
setup_uml_debug() { uml_debug uml_flavour uml-debug "$CONFIG/uml.config" "$CONFIG/uml-debug.config"; }
print_uml()       { uml_find uml "$CONFIG/uml.config"; }
print_uml_debug() { uml_debug uml_find uml-debug "$CONFIG/uml.config" "$CONFIG/uml-debug.config"; }
uml_find()        { product_find "$1" "$(uml_hash "${@:2}")"; }
uml_hash()        { config_hash "$@" "${UML_PATCHES[@]}"; }

# uml_debug COMMAND...: also applies the patches that only lock debugging needs.
uml_debug() {
	local all=("${UML_PATCHES[@]}" "$CONFIG"/uml-debug-patches/*.patch)
	local UML_PATCHES=("${all[@]}")
	"$@"
}

uml_flavour() {
	local name=$1 hash dir
	shift
	hash=$(uml_hash "$@")
	dir=$(product_find "$name" "$hash") || true
	if [ -z "$dir" ]; then
		apt_need "$name" build-essential flex bison bc libelf-dev libssl-dev xz-utils kmod patch
		with_lock "$name" uml_make "$name" "$hash" "$@"
		dir=$(product_find "$name" "$hash")
	fi
	product_done "$name" "$dir"
	ready "$name: ready: $dir/linux ($(cat "$dir/include/config/kernel.release"))"
}

uml_make() {
	local name=$1 hash=$2 deb version dir
	shift 2
	[ -z "$(product_find "$name" "$hash")" ] || return 0   # built while we waited for the lock
	step "$name" "10 s" "fetching the kernel source" uml_fetch
	deb=$(uml_deb)
	version=$(dpkg-deb -f "$deb" Version)
	dir=$CACHE/$name/$version-$hash
	# An interrupted build continues where it stopped, but never with an incomplete source.
	[ -e "$dir/.unpacked" ] || step "$name" "15 s" "unpacking linux $version" uml_unpack "$deb" "$dir"
	step "$name" "10 s" "configuring" uml_configure "$dir" "$@"
	step "$name" "5 min on 2 processors" "building linux $version" \
		make -C "$dir" ARCH=um -j"$JOBS" linux modules
	step "$name" "2 s" "installing its modules" \
		make -C "$dir" ARCH=um INSTALL_MOD_PATH="$dir/modules/usr" INSTALL_MOD_STRIP=1 modules_install
	touch "$dir/.done"
	product_prune "$name"
}

uml_deb() {
	# shellcheck disable=SC2012
	ls -t "$CACHE"/dl/linux-source-6.12_*.deb 2>/dev/null | head -1
}

uml_fetch() {
	[ -n "$(uml_deb)" ] && return 0
	apt_sources && apt_fetch "$CACHE/dl" apt-get download linux-source-6.12
}

uml_unpack() {
	rm -rf "$2" && mkdir -p "$2" &&
	dpkg-deb --fsys-tarfile "$1" | tar -xO ./usr/src/linux-source-6.12.tar.xz |
		tar -xJ --strip-components=1 -C "$2" &&
	cat "${UML_PATCHES[@]}" | patch -d "$2" -p1 &&
	touch "$2/.unpacked"
}

uml_configure() {
	local dir=$1
	shift
	(cd "$dir" && make ARCH=um x86_64_defconfig &&
		scripts/kconfig/merge_config.sh -m .config "$@" &&
		make ARCH=um olddefconfig) && uml_check "$dir" "$@"
}

# Find options that kconfig dropped silently, because their absence would be noticed late.
uml_check() {
	local dir=$1 line name want got rc=0
	shift
	while read -r line; do
		name=${line%%=*} want=${line#*=}
		[ "$want" = n ] && want=
		# the last value of a name counts: fragments may override each other
		got=$(grep "^$name=" "$dir/.config" | cut -d= -f2-) || true
		[ "$got" = "$want" ] || { echo "kconfig: wanted $line, got '$got'"; rc=1; }
	done < <(sed -nE 's/^(CONFIG_[A-Z0-9_]+=.*)/\1/p' "$@" | awk -F= '{last[$1] = $0} END {for (n in last) print last[n]}')
	return $rc
}
