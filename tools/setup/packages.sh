# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Target "packages": what must be installed on the host.

setup_packages() {
	local list
	mapfile -t list < <(sed -e '/^#/d' -e '/^$/d' "$CONFIG/host-packages")
	apt_need "building and testing" "${list[@]}"
	ready "packages: ready"
}

print_packages() { sed -e '/^#/d' -e '/^$/d' "$CONFIG/host-packages"; }
