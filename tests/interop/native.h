/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ibverbs transport on a real RDMA device of the host (Soft-RoCE), driven by the test
 * guest of tests/unit: two guests whose GIDs are two addresses of the device's port.
 *
 *   native [-H] [-m FABRIC-A,FABRIC-B] IBDEV IP-A IP-B[,IP-C] [TEST...]
 *
 * With -m both devices have the memory transport as well, in these fabrics; in one fabric
 * they reach each other by memory.  The test "paths" has a third guest.  With -H the guests' memory is in huge pages,
 * 96 of 2 MiB each.
 */
#ifndef NATIVE_H
#define NATIVE_H

#include "mem_pair.h"
#include "tap.h"

#define W	VIRTIO_RDMA_WR_RDMA_WRITE
#define WI	VIRTIO_RDMA_WR_RDMA_WRITE_WITH_IMM
#define SEND	VIRTIO_RDMA_WR_SEND
#define SENDI	VIRTIO_RDMA_WR_SEND_WITH_IMM
#define READ	VIRTIO_RDMA_WR_RDMA_READ
#define CAS	VIRTIO_RDMA_WR_ATOMIC_CMP_AND_SWP
#define FADD	VIRTIO_RDMA_WR_ATOMIC_FETCH_AND_ADD
#define SIGNALED VIRTIO_RDMA_WQE_SIGNALED
#define WC(name) VIRTIO_RDMA_WC_##name
#define GRH	MEM_GRH

/* Longest message of the tests (or the port's max_msg_sz), and the memory for it. */
#define BIG	(64ULL << 20)

extern struct mem_pair p;
extern const char *ibdev;
extern bool by_memory;			/* the host's device carries no traffic between the
					 * guests */
extern bool has_atomics;			/* the devices have this capability */
extern char fabric_a[], fabric_b[];
extern uint8_t gid_a[16], gid_b[16], gid_c[16];

/* New QPs of a type, in RTS, with the port's MTU; patterns in both buffers. */
void fresh_type(uint8_t type);
void fresh(void);
uint8_t port_mtu(struct guest *g);
uint32_t port_max_msg_sz(struct guest *g);
void drop(void);
/*
 * A receive of b's that the host has when this returns.  The poller passes it on, and an
 * unreliable message would be lost if it arrived first.
 */
void recv_now(uint32_t offset, uint32_t length);

void test_data(void);		/* native_data.c */
void test_datagrams(void);	/* native_ud.c */
void test_errors(void);		/* native_errors.c */
void test_memory(void);		/* native_memory.c */
void test_life(void);		/* native_life.c */
void test_huge(void);		/* native_huge.c */
void bench(void);		/* native_bench.c */
void test_both_paths(void);		/* native_paths.c */

#endif /* NATIVE_H */
