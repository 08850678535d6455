# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Extra Debian suites, from the mirror that this machine already uses.
#
# Needed in addition to Debian 12: source packages (bookworm-backports and trixie) and single
# packages of bookworm-backports. Backports never replace an installed package by themselves
# (their priority is below the release's). Binary packages of trixie are only used in the guest
# root.

APT_EXTRA=/etc/apt/sources.list.d/virtio-rdma.sources

# Prints "URI KEYRING" of the machine's own Debian archive (not security, not updates).
apt_mirror() {
	local line uri keyring
	# shellcheck disable=SC2016  # apt expands these
	line=$(apt-get indextargets --format '$(REPO_URI)|$(RELEASE)|$(SIGNED_BY)' 'Created-By: Packages' |
		grep -v -e '-security|' | grep -m1 -E '\|(bookworm|stable|12)\|') ||
		die "no Debian 12 (bookworm) source is configured in /etc/apt: this set-up derives all others from it"
	uri=${line%%|*}
	keyring=${line##*|}
	[ -f "$keyring" ] || keyring=$(apt_keyring)
	echo "${uri%/} $keyring"
}

# indextargets does not always print the key ring: read it from the source lists.
apt_keyring() {
	local k
	k=$(grep -rhoE '(Signed-By:[[:space:]]*|signed-by=)/[^] ]+debian[^] ]*' \
		/etc/apt/sources.list /etc/apt/sources.list.d/ 2>/dev/null |
		sed -E 's/.*(:[[:space:]]*|=)//' | head -1) || true
	[ -f "$k" ] || k=/usr/share/keyrings/debian-archive-keyring.gpg
	echo "$k"
}

apt_extra_text() {
	local uri keyring
	read -r uri keyring <<<"$(apt_mirror)"
	cat <<-END
	# Written by virtio-rdma's tools/setup.sh; safe to delete.
	Types: deb-src
	URIs: $uri
	Suites: bookworm bookworm-updates bookworm-backports trixie
	Components: main
	Signed-By: $keyring

	Types: deb
	URIs: $uri
	Suites: bookworm-backports
	Components: main
	Signed-By: $keyring
	END
}

# apt_sources: adds the extra suites; updates the lists if this changed them or if they are
# older than a day.
apt_sources() {
	local text
	need_root "adding apt sources"
	text=$(apt_extra_text)
	if [ "$(cat $APT_EXTRA 2>/dev/null)" != "$text" ]; then
		printf '%s\n' "$text" >$APT_EXTRA
		apt_update
	elif [ -z "$(find /var/lib/apt/lists -maxdepth 1 -name '*trixie*Sources*' -mmin -1440 2>/dev/null)" ]; then
		apt_update
	fi
}

apt_update() { step apt "5 s" "reading the mirror's package lists" apt-get update; }

# apt_missing PACKAGE...: prints those that are not installed ("name/suite" is allowed).
apt_missing() {
	local p
	for p; do
		dpkg-query -W -f '${db:Status-Abbrev}' "${p%%/*}" 2>/dev/null | grep -q '^ii' || echo "$p"
	done
}

# apt_need WHAT PACKAGE...: installs what is missing; does not call apt if nothing is.
apt_need() {
	local what=$1 missing
	shift
	mapfile -t missing < <(apt_missing "$@")
	[ ${#missing[@]} = 0 ] && return 0
	with_lock apt apt_install "$what" "${missing[@]}"
}

apt_install() {
	local what=$1
	shift
	apt_sources
	step apt "a few s to 2 min" "installing for $what: $*" \
		apt-get install -y --no-install-recommends "$@"
}

# apt_fetch DIR COMMAND...: runs an apt-get download command in DIR. If it fails, updates the
# lists and repeats it, because a list that is hours old may name files that were removed.
apt_fetch() {
	local dir=$1
	shift
	mkdir -p "$dir"
	(cd "$dir" && "$@") && return 0
	apt-get update && (cd "$dir" && "$@")
}

# apt_source_version PACKAGE PATTERN: the newest source version that matches.
apt_source_version() {
	apt-cache showsrc "$1" 2>/dev/null | awk '/^Version:/ {print $2}' | grep -E "$2" |
		sort -V | tail -1
}

# apt_source_tar PACKAGE VERSION DIR: fetches only the upstream tar file; apt takes its checksum
# from the signed list (some mirrors lack the .dsc files).
apt_source_tar() {
	apt_fetch "$3" apt-get source --download-only --tar-only "$1=$2" &&
	[ -n "$(apt_source_newest "$1")" ]
}

# apt_source_newest PACKAGE: the tar file fetched last.
apt_source_newest() {
	# shellcheck disable=SC2012
	ls -t "$CACHE/dl/$1"_*.orig.tar.* 2>/dev/null | head -1
}
