# SPDX-License-Identifier: GPL-2.0-or-later
#
# virtio-rdma: targets for users and developers.  Each target does the set-up that it needs,
# prints its steps, and continues where it was interrupted. Products of third-party sources go
# to a cache outside the checkout (VRDMA_CACHE, by default ~/.cache/virtio-rdma); our own
# products go to build/.

ifneq ($(KERNELRELEASE),)
# Called by kbuild: make -C KERNEL_TREE M=this-folder modules
include $(src)/Kbuild
else

SHELL := /bin/bash
SETUP := tools/setup.sh

# Device of make demo: vhost-user-rdma-pci (two guests on one vrdmad) or virtio-rdma-pci (the
# device inside QEMU).
DEVICE ?= vhost-user-rdma-pci
# Transport of the device: memory (guests of one host), or ibverbs (also the host's RDMA device,
# which the demo creates with Soft-RoCE in a UML kernel).
BACKEND ?= memory

.PHONY: help
help:
	@echo 'virtio-rdma: RDMA for virtual machines without an RDMA card'
	@echo
	@echo '  make demo [DEVICE=virtio-rdma-pci]   two Debian guests do RDMA to each other'
	@echo '  make demo BACKEND=ibverbs            a guest, a guest of the same host, and a plain RoCE machine'
	@echo '  make check                           the whole test suite'
	@echo '  make check-full                      that, hosts with guests on Soft-RoCE, other kernels, lockdep and KASAN'
	@echo
	@echo '  make modules [KDIR=...]              the guest driver, for one kernel tree'
	@echo '  make vrdmad                          the vhost-user daemon'
	@echo '  make provider                        the rdma-core provider (Debian 13)'
	@echo '  make qemu                            QEMU with both devices'
	@echo '  make setup                           only the packages and third-party parts'
	@echo '  make shell GUEST=uml|qemu            an interactive guest'
	@echo '  make check TIER=unit                 one tier: $(TIERS)'
	@echo '  make fuzz MINUTES=20                 the fuzzers, longer than make check does'
	@echo '  make soak MINUTES=20                 the unit tests over and over, on a machine that is too busy'
	@echo '  make bench [BENCH=guests] [QUICK=1]  measures speed, beside Soft-RoCE and memcpy'
	@echo '  make bench-native [QUICK=1]          cost of the data path, with no virtual machine'
	@echo '  make coverage                        lines of the device that unit tests and seeds reach'
	@echo '  make clean                           removes build/ (the cache stays)'

TIERS := lint abi unit fuzz qtest uml qemu interop hosts matrix debug

# ---- set-up -----------------------------------------------------------------

.PHONY: setup setup-packages
setup:
	@$(SETUP) packages uml guest-image guest-mpi rdma-core qemu

setup-packages:
	@$(SETUP) packages

# ---- products ---------------------------------------------------------------

.PHONY: vrdmad provider qemu modules modules-guest modules-uml
vrdmad: setup-packages
	@$(MAKE) --no-print-directory -C qemu-device vrdmad

provider:
	@$(SETUP) packages guest-root rdma-core
	@tools/build-provider.sh

qemu:
	@$(SETUP) packages qemu
	@tools/build-qemu.sh

# A user's own kernel by KDIR=, else the running one if it has headers, else
# the Debian 13 guest's.
KDIR ?= $(wildcard /lib/modules/$(shell uname -r)/build)
modules:
ifneq ($(KDIR),)
	@tools/build-module.sh $(KDIR)
else
	@$(MAKE) --no-print-directory modules-guest
endif

modules-guest:
	@$(SETUP) packages guest-root
	@tools/build-module.sh guest

modules-uml:
	@$(SETUP) packages uml
	@tools/build-module.sh uml

# ---- the two commands ---------------------------------------------------------

.PHONY: demo check shell
demo:
	@$(SETUP) packages guest-image rdma-core qemu
	@$(MAKE) --no-print-directory vrdmad provider modules-guest qemu
ifeq ($(BACKEND),ibverbs)
	@$(SETUP) uml
	@tools/demo_ibverbs.py
else ifeq ($(BACKEND),memory)
	@tools/demo.py --device $(DEVICE)
else
	@echo 'BACKEND is memory or ibverbs, not "$(BACKEND)"' >&2; exit 2
endif

check:
	@tests/run.py $(TIER)

.PHONY: check-full
check-full:
	@tests/run.py --full

MINUTES ?= 10
.PHONY: fuzz soak coverage
fuzz: setup-packages
	@$(MAKE) --no-print-directory -s -C tests/fuzz
	@tests/fuzz/run.py --minutes $(MINUTES)

soak: setup-packages
	@$(MAKE) --no-print-directory -s -C tests/unit
	@tests/soak.py --minutes $(MINUTES)

coverage: setup-packages
	@tests/coverage.py

# Both need the whole machine.  BENCH: the parts to measure, of native host guests control;
# QUICK=1: fewer and shorter runs.
.PHONY: bench
bench:
	@tests/bench/bench.py $(if $(QUICK),--quick) $(BENCH)

# Two CPUs: the test guest on one, the poller on the other.
.PHONY: bench-native
bench-native:
	@tests/bench/bench.py $(if $(QUICK),--quick) native

GUEST ?= uml
shell:
	@$(SETUP) packages uml guest-root rdma-core
	@$(MAKE) --no-print-directory vrdmad provider modules-$(if $(filter uml,$(GUEST)),uml,guest)
	@tools/guest.py shell $(GUEST)

.PHONY: clean
clean:
	rm -rf build

endif
