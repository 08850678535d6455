#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Without libibverbs, librdmacm and libsodium the device builds and works; a device on the
# host's RDMA network is refused.  Prints TAP.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${BUILD:-$PWD/build}
n=0

check() {	# NAME COMMAND...
	local name=$1 out
	shift
	n=$((n + 1))
	if out=$("$@" 2>&1); then
		echo "ok $n - $name"
	else
		echo "not ok $n - $name"
		echo "$out" | tail -20 | sed 's/^/# /'
	fi
}

no_names() {	# of functions or libraries
	! "$@" | grep -E 'ibv_|rdma_|sodium|crypto_|libibverbs|librdmacm'
}

refuses_ibdev() {
	local out
	! out=$("$build/vrdmad-noibv/vrdmad" --socket "/tmp/no-ibverbs.$$,mac=52:54:00:12:00:01,ibdev=rxe0" 2>&1) &&
		grep -q 'this build has no transport' <<<"$out"
}

check "vrdmad is built" make -s -C qemu-device vrdmad IBVERBS=0 WERROR=1 "BUILD=$build"
check "it has no undefined symbol of the libraries" no_names nm -u "$build/vrdmad-noibv/vrdmad"
check "it does not need them" no_names ldd "$build/vrdmad-noibv/vrdmad"
check "it refuses ibdev=" refuses_ibdev
check "unit tests are built" make -s -C tests/unit asan-noibv "BUILD=$build"
for test in test_memory_rc test_commands test_features; do
	check "$test passes" "$build/tests/asan-noibv/$test"
done
echo "1..$n"
