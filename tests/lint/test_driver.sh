#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The guest driver meets the kernel's rules: checkpatch --strict, sparse and W=1 report nothing,
# on the kernels of Debian 13 and Debian 12, and on a 32-bit machine no 64-bit length or address is
# cut unnoticed.  Prints TAP.
set -u
cd "$(dirname "$0")/../.." || exit 1
drivers=drivers/infiniband/hw/virtio_rdma
n=0

report() {	# NAME STATUS OUTPUT
	n=$((n + 1))
	if [ "$2" = 0 ]; then
		echo "ok $n - $1"
	else
		echo "not ok $n - $1"
		echo "$3" | grep -v '^$' | tail -40 | sed 's/^/# /'
	fi
}

skip() {	# NAME WHY
	n=$((n + 1))
	echo "ok $n - $1 # SKIP $2"
}

uml=$(tools/setup.sh --print uml 2>/dev/null)
if [ -n "$uml" ]; then
	# The headers of the ABI are checked with the driver.
	for file in $drivers/*.[ch] include/uapi/linux/virtio_rdma.h include/uapi/rdma/virtio_rdma-abi.h; do
		# compat.h may check the version; TRACE_EVENT has a layout of its own.
		case $file in
		*/compat.h) more=,LINUX_VERSION_CODE,CONSTANT_COMPARISON ;;
		*/trace.h) more=,OPEN_ENDED_LINE,PARENTHESIS_ALIGNMENT ;;
		*) more= ;;
		esac
		out=$("$uml/scripts/checkpatch.pl" --strict --no-tree --no-summary --terse \
			--ignore "FILE_PATH_CHANGES$more" -f "$file" 2>&1)
		if [ -n "$out" ]; then
			report "checkpatch --strict $file" 1 "$out"
		else
			report "checkpatch --strict $file" 0 ""
		fi
	done
else
	skip "checkpatch" "no kernel tree: run tools/setup.sh uml"
fi

# A build prints warnings only for files that it compiles, so each starts from scratch.
warnings() { grep -E '(warning|error):' <<<"$1"; }

build() {	# NAME TARGET MAKE-ARGUMENTS...
	local name=$1 target=$2 out status
	shift 2
	rm -rf build/obj/module-*
	out=$(tools/build-module.sh "$target" "$@" 2>&1)
	status=$?
	if [ $status = 0 ] && found=$(warnings "$out"); then
		out=$found
		status=1
	fi
	report "$name" $status "$out"
}

if [ -n "$uml" ]; then
	build "W=1, 6.12 (UML tree)" uml W=1
	if command -v sparse >/dev/null; then
		build "sparse, 6.12 (UML tree)" uml C=2 CF=-D__CHECK_ENDIAN__
	else
		skip "sparse" "sparse is not installed: run tools/setup.sh packages"
	fi
else
	skip "W=1 and sparse on 6.12" "no kernel tree: run tools/setup.sh uml"
fi
if tools/setup.sh --print guest-root >/dev/null 2>&1; then
	build "W=1, Debian 13's headers" guest W=1
else
	skip "W=1, Debian 13's headers" "no guest root: run tools/setup.sh guest-root"
fi
old=$(ls -d /usr/src/linux-headers-6.1.*-amd64 2>/dev/null | sort -V | tail -n 1)
if [ -n "$old" ]; then
	build "W=1, Debian 12's headers ($(basename "$old"))" "$old" W=1
else
	skip "W=1, Debian 12's headers" "linux-headers-amd64 of Debian 12 is not installed"
fi

# On a 32-bit machine size_t and unsigned long are shorter than u64.  Such a conversion must be
# explicit, beside the check that the value fits.
i386=$(tools/setup.sh --print headers-i386 2>/dev/null)
name="W=1 and no implicit conversion from 64 bits to a size, 32-bit x86"
if [ -n "$i386" ]; then
	rm -rf build/obj/module-*
	out=$(tools/build-module.sh "$i386" ARCH=i386 W=1 KCFLAGS=-Wconversion 2>&1)
	status=$?
	if [ $status = 0 ]; then
		found=$(awk -v drivers="$drivers/" 'index($0, drivers) && /warning:/ &&
			(!/-W(sign-)?conversion\]/ || /long long.* to [^a-z]*(size_t|ssize_t|long (unsigned )?int)/)' <<<"$out")
		[ -z "$found" ] || { out=$found; status=1; }
	fi
	report "$name" $status "$out"
else
	skip "$name" "no headers: run tools/setup.sh headers-i386"
fi
echo "1..$n"
