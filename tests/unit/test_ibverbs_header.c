// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The ibverbs transport finds out whether the header of a datagram is IPv4's or IPv6's, in
 * the guest's memory.  On a host device that does nothing (tests/null): the test writes the
 * header before the host completes the receive.
 */
#include <string.h>
#include <unistd.h>

#include "grh.h"
#include "mem_pair.h"
#include "null_verbs.h"
#include "tap.h"

#define GRH	VIRTIO_RDMA_CQE_GRH
#define IPV4	VIRTIO_RDMA_CQE_IPV4

static struct mem_pair p;
static struct mem_end *b = &p.b;
static uint8_t v4[VRD_GRH_LEN], v6[VRD_GRH_LEN];

static void fresh(void)
{
	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_UD, .max_recv_sge = 2 };

	mem_pair_qps_init(&p, &init, 512);
	mem_pair_connect(&p);
}

/* A datagram for the next receive of b: its CQE. */
static bool arrives(struct virtio_rdma_cqe *cqe)
{
	for (int ms = 0; ms < MEM_WAIT_MS; ms++) {
		if (null_receive(b->qp.qpn, IBV_WC_SUCCESS, NULL, MEM_GRH + 8))
			return mem_cqe(&b->rcq, cqe) == 0;
		/* The poller passes the receive on. */
		usleep(1000);
	}
	return false;
}

/* A receive at @offset, in which the host finds this header. */
static void header(uint32_t offset, const uint8_t *bytes, uint8_t flags, const char *what)
{
	struct virtio_rdma_cqe cqe = { 0 };

	memcpy(b->buf + offset, bytes, VRD_GRH_LEN);
	mem_recv(b, offset, 100);
	ok(arrives(&cqe) && cqe.flags == flags && !cqe.sl &&
	   le32toh(cqe.byte_len) == MEM_GRH + 8, "%s", what);
}

static void test_types(void)
{
	uint8_t bytes[VRD_GRH_LEN];

	fresh();
	header(0, v4, GRH | IPV4, "an IPv4 header");
	header(0, v6, GRH, "an IPv6 header");
	/* IBTA A17.4.5.2: the first 20 bytes are undefined. */
	memcpy(bytes, v6, 20);
	memcpy(bytes + 20, v4 + 20, 20);
	header(0, bytes, GRH | IPV4, "an IPv4 header behind what looks like IPv6");
	memset(bytes, 0xff, 20);
	header(0, bytes, GRH | IPV4, "an IPv4 header behind 0xff");
	memset(bytes, 0, 20);
	bytes[30]++;
	header(0, bytes, GRH | IPV4, "an IPv4 header without a checksum");
	memcpy(bytes, v6, 20);
	header(0, bytes, GRH, "behind what looks like IPv6 it needs one");
	bytes[20] = 0x46;
	bytes[30] -= 2;
	header(0, bytes, GRH, "and has no IP options");
	bytes[20] = 0x45;
	bytes[30]++;
	header(0, bytes, GRH | IPV4, "as this one");
	memset(bytes, 0, sizeof(bytes));
	header(0, bytes, GRH, "nothing at all");
	header(4096 - 20, v4, GRH | IPV4, "a header on two pages");
	mem_pair_drop_qps(&p);
}

static void test_laps(void)
{
	bool good = true;

	fresh();
	for (uint32_t i = 0; i < 1000 && good; i++) {
		struct virtio_rdma_cqe cqe = { 0 };
		bool is_v4 = i / 3 % 2;

		memcpy(b->buf + i * 128, is_v4 ? v4 : v6, VRD_GRH_LEN);
		mem_recv(b, i * 128, 128);
		good = arrives(&cqe) && cqe.flags == (is_v4 ? GRH | IPV4 : GRH);
	}
	ok(good, "several laps of the receive queue");
	mem_pair_drop_qps(&p);
}

/* Where the header cannot be found the datagram arrives nevertheless. */
static void test_lost(void)
{
	struct guest_sge two[2] = {
		{ b->mr.iova, 20, b->mr.lkey }, { b->mr.iova + 20, 80, b->mr.lkey },
	};
	struct virtio_rdma_cqe cqe = { 0 };
	struct guest_mr gone;
	struct guest_sge sge;

	fresh();
	memcpy(b->buf, v4, VRD_GRH_LEN);
	guest_post_recv(&b->qp, two, 2);
	ok(arrives(&cqe) && cqe.flags == GRH, "a first SGE that is shorter than the header");
	guest_post_recv(&b->qp, NULL, 0);
	ok(arrives(&cqe) && cqe.flags == GRH, "a receive without an SGE");
	sge = (struct guest_sge){ b->mr.iova, 100, b->mr.lkey ^ 0x5500 };
	guest_post_recv(&b->qp, &sge, 1);
	ok(arrives(&cqe) && cqe.flags == GRH, "an unknown key, which a real host refuses");
	sge = (struct guest_sge){ b->mr.iova + MEM_BUF - 39, 100, b->mr.lkey };
	guest_post_recv(&b->qp, &sge, 1);
	ok(arrives(&cqe) && cqe.flags == GRH, "out of bounds, which a real host refuses");

	if (guest_mr_reg(b->g, b->pd, b->buf, MEM_BUF, MEM_ALL_ACCESS, &gone))
		guest_fatal("no MR");
	sge = (struct guest_sge){ gone.iova, 100, gone.lkey };
	guest_post_recv(&b->qp, &sge, 1);
	ok(arrives(&cqe) && cqe.flags == (GRH | IPV4), "another region");
	guest_post_recv(&b->qp, &sge, 1);
	usleep(20000);		/* the host has it, most likely; it may not */
	guest_mr_dereg(&gone);
	ok(arrives(&cqe) && cqe.flags == GRH, "a region that was deregistered meanwhile");
	mem_pair_drop_qps(&p);
}

/* Cookies are the guest's to choose: those that share a place hide each other. */
static void test_srq(void)
{
	struct virtio_rdma_cqe cqe;
	struct guest_srq srq;
	struct guest_sge sge;
	bool good = true;

	if (guest_srq_create(&b->ctx, b->pd, 16, 1, &srq))
		guest_fatal("no SRQ");
	b->srq = &srq;
	fresh();
	for (uint32_t lap = 0; lap < 5 && good; lap++) {
		for (uint32_t i = 0; i < 16; i++) {
			memcpy(b->buf + i * 128, (lap + i) % 2 ? v4 : v6, VRD_GRH_LEN);
			sge = (struct guest_sge){ b->mr.iova + i * 128, 128, b->mr.lkey };
			guest_post_srq(&srq, 0xc0de0000 + lap * 64 + i, &sge, 1);
		}
		for (uint32_t i = 0; i < 16 && good; i++)
			good = arrives(&cqe) &&
			       le32toh(cqe.wqe_index) == 0xc0de0000 + lap * 64 + i &&
			       cqe.flags == ((lap + i) % 2 ? GRH | IPV4 : GRH);
	}
	ok(good, "receives of an SRQ");
	for (uint32_t i = 0; i < 16; i++)
		guest_post_srq(&srq, i << 4, &sge, 1);
	for (uint32_t i = 0; i < 16 && good; i++)
		good = arrives(&cqe) && le32toh(cqe.wqe_index) == i << 4 &&
		       cqe.flags & GRH;
	ok(good, "receives of an SRQ whose cookies share a place");
	mem_pair_drop_qps(&p);
	b->srq = NULL;
	guest_srq_destroy(&srq);
}

int main(void)
{
	struct guest_config a = { .ibdev = NULL_IBDEV, .host_mapped = MEM_HOST_MAPPED }, other = a;
	uint8_t to_v4[16], from_v6[16];

	memcpy(a.gid, null_gids[1], 16);
	memcpy(other.gid, null_gids[0], 16);
	memcpy(to_v4, null_gids[1], 16);
	memcpy(from_v6, null_gids[0], 16);
	vrd_grh_fill(v4, &(struct vrd_grh){ .sgid = to_v4, .dgid = to_v4, .hop_limit = 64,
					    .tclass = 0x20 }, 8);
	vrd_grh_fill(v6, &(struct vrd_grh){ .sgid = from_v6, .dgid = from_v6, .hop_limit = 64 }, 8);
	mem_pair_open_with(&p, 1, 64 << 20, &a, &other);
	test_types();
	test_laps();
	test_lost();
	test_srq();
	mem_pair_close(&p);
	return tap_done();
}
