#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The ABI headers have the same layout for every compiler that may include
# them, compile alone, and have no hidden padding.  Prints TAP.
set -u
cd "$(dirname "$0")/../.." || exit 1
n=0

check() {	# NAME COMMAND...
	local name=$1 out
	shift
	n=$((n + 1))
	if out=$("$@" 2>&1); then
		echo "ok $n - $name"
	else
		echo "not ok $n - $name"
		echo "$out" | head -20 | sed 's/^/# /'
	fi
}

skip() {	# NAME WHY
	n=$((n + 1))
	echo "ok $n - $1 # SKIP $2"
}

flags=(-fsyntax-only -Wall -Wextra -Werror -Iinclude/uapi)
layout=tests/abi/layout.c
# Struct declarations of the kernel use flexible arrays and C11 anonymous
# unions; both are fine in C++ as extensions.
check "layout, C, 64 bits" gcc -std=c11 "${flags[@]}" $layout
check "layout, C++, 64 bits" g++ -std=c++17 -x c++ "${flags[@]}" $layout
if echo 'int x;' | gcc -m32 -x c -fsyntax-only - 2>/dev/null; then
	check "layout, C, 32 bits" gcc -m32 -std=c11 "${flags[@]}" $layout
	check "layout, C++, 32 bits" g++ -m32 -std=c++17 -x c++ "${flags[@]}" $layout
else
	skip "layout, 32 bits" "gcc -m32 does not work here: install gcc-multilib"
fi
if command -v clang >/dev/null; then
	big=(clang --target=powerpc64-linux-gnu -isystem "/usr/include/$(gcc -print-multiarch)")
	check "layout, big-endian (powerpc64)" "${big[@]}" -std=c11 "${flags[@]}" $layout
	check "layout, clang" clang -std=c11 "${flags[@]}" $layout
else
	skip "layout, big-endian" "clang is not installed"
fi
for header in linux/virtio_rdma.h rdma/virtio_rdma-abi.h; do
	check "$header compiles alone, without padding" \
		gcc -std=c11 -Wpadded -x c "${flags[@]}" include/uapi/$header
done
# Requests and responses of drivers older and newer than the device.
growth=$(mktemp)
check "growth.c compiles" gcc -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Werror -Iinclude/uapi \
	-Iqemu-device/core -Iqemu-device/transports -fsanitize=address,undefined \
	-o "$growth" tests/abi/growth.c qemu-device/core/request.c
while IFS= read -r line; do
	n=$((n + 1))
	case $line in
	"ok "*) echo "ok $n - growth: ${line#* - }" ;;
	"not ok "*) echo "not ok $n - growth: ${line#* - }" ;;
	*) n=$((n - 1)) ;;
	esac
done < <("$growth" || echo "not ok 0 - the program fails")
rm -f "$growth"
# This check can fail: a layout with one wrong number must not compile.
if sed 's/SIZE(virtio_rdma_cqe, 32)/SIZE(virtio_rdma_cqe, 40)/' $layout |
		gcc -std=c11 "${flags[@]}" -x c - 2>/dev/null; then
	n=$((n + 1))
	echo "not ok $n - a wrong size is noticed"
else
	n=$((n + 1))
	echo "ok $n - a wrong size is noticed"
fi
echo "1..$n"
