// SPDX-License-Identifier: GPL-2.0-or-later
/* Datagrams and shared receive queues on the host's device.  See native.h. */
#include <unistd.h>

#include "native.h"

static struct virtio_rdma_av av;

static void open_ud(void)
{
	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_UD, .max_recv_sge = 2 };

	mem_pattern(p.a.buf, MEM_BUF, MEM_SEED_A);
	memset(p.b.buf, 0, MEM_BUF);
	mem_pair_qps_init(&p, &init, 256);
	mem_pair_connect(&p);
	av = (struct virtio_rdma_av){
		.pd = htole32(p.a.pd), .dqpn = htole32(p.b.qp.qpn), .qkey = htole32(MEM_QKEY),
		.hop_limit = 64, .tclass = 0x20,
	};
	memcpy(av.dgid, gid_b, 16);
}

static void send_ud(uint8_t opcode, uint32_t length)
{
	struct mem_wr w = mem_wr(&p.a, &p.b, opcode, length);

	w.wr.av = &av;
	w.wr.imm = htobe32(0xabad1dea);
	mem_post(&p.a, &w);
}

static void delivered(uint8_t opcode, uint32_t length)
{
	struct virtio_rdma_cqe cqe = { 0 };
	const uint8_t *ip = p.b.buf + 20;
	int status;

	recv_now(0, GRH + 2048);
	send_ud(opcode, length);
	is(mem_status(&p.a.scq), 0, "UD: %u bytes are sent", length);
	status = mem_cqe(&p.b.rcq, &cqe);
	ok(!status && le32toh(cqe.byte_len) == GRH + length && le32toh(cqe.src_qp) == p.a.qp.qpn &&
	   cqe.flags & VIRTIO_RDMA_CQE_GRH && cqe.flags & VIRTIO_RDMA_CQE_IPV4 &&
	   mem_has_pattern(p.b.buf + GRH, length, MEM_SEED_A),
	   "they arrive, with their header");
	ok(opcode != SENDI || (cqe.flags & VIRTIO_RDMA_CQE_IMM && cqe.imm == htobe32(0xabad1dea)),
	   "and the immediate data");
	ok(ip[0] == 0x45 && !memcmp(ip + 12, gid_a + 12, 4) && !memcmp(ip + 16, gid_b + 12, 4) &&
	   ip[1] == 0x20, "source, destination and traffic class in it");
}

static void dropped(const char *what)
{
	send_ud(SEND, 64);
	is(mem_status(&p.a.scq), 0, "%s: the sender succeeds", what);
	ok(mem_no_cqe(&p.b.rcq) && guest_qp_state(&p.a.qp) == VIRTIO_RDMA_QPS_RTS,
	   "%s: nothing arrives", what);
}

static void test_ud(void)
{
	struct guest_sge small;
	uint64_t drops;

	open_ud();
	delivered(SEND, 1);
	delivered(SEND, 1024);
	delivered(SENDI, 100);
	recv_now(0, GRH + 2048);
	av.qkey = htole32(MEM_QKEY + 1);
	dropped("UD: wrong Q_Key");
	av.qkey = htole32(MEM_QKEY);
	av.dqpn = htole32(0xfffff0);
	dropped("UD: a QP that does not exist");
	av.dqpn = htole32(p.b.qp.qpn);

	/* No neighbour has this address: resolution fails. */
	drops = guest_stat(p.a.g, "ud_drops");
	av.dgid[15] = 250;
	dropped("UD: an address that nobody has");
	ok(guest_stat(p.a.g, "ud_drops") == drops + 1, "UD: the drop is counted");
	memcpy(av.dgid, gid_b, 16);
	send_ud(SEND, 77);
	ok(mem_status(&p.a.scq) == 0 && mem_status(&p.b.rcq) == 0, "UD: and the next one arrives");

	small = (struct guest_sge){ p.b.mr.iova, GRH + 63, p.b.mr.lkey };
	guest_post_recv(&p.b.qp, &small, 1);
	dropped("UD: longer than the receive");
	drop();

	open_ud();
	av.pd = htole32(p.a.pd + 1);
	send_ud(SEND, 64);
	is(mem_status(&p.a.scq), WC(LOC_QP_OP_ERR), "UD: address vector of another PD");
	drop();
}

/* Many handles: each datagram has another address vector; all handles are used and released. */
static void test_many_handles(void)
{
	int sent = 0, received = 0;
	unsigned int i;

	open_ud();
	for (i = 0; i < 600 && !sent && !received; i++) {
		av.flow_label = htole32(i);
		av.tclass = i & 0xfc;
		recv_now(0, GRH + 64);
		send_ud(SEND, 64);
		sent = mem_status(&p.a.scq);
		received = mem_status(&p.b.rcq);
	}
	ok(!sent && !received, "UD: 600 address vectors, one after the other");
	if (sent || received)
		printf("# datagram %u: sent with status %d, received with status %d\n", i - 1, sent,
		       received);
	drop();
}

/* ---- shared receive queues ----------------------------------------------------------- */

static void test_srq(uint8_t type, const char *name)
{
	struct guest_qp_init init = { .type = type };
	struct virtio_rdma_event event;
	struct virtio_rdma_cqe cqe;
	struct guest_srq srq;
	struct guest_sge sge;
	bool good = true;
	uint32_t limit;

	is(guest_srq_create(&p.b.ctx, p.b.pd, 64, 1, &srq), 0, "%s: SRQ", name);
	mem_pattern(p.a.buf, MEM_BUF, MEM_SEED_A);
	memset(p.b.buf, 0, MEM_BUF);
	p.b.srq = &srq;
	mem_pair_qps_init(&p, &init, 256);
	p.a.attr.path_mtu = p.b.attr.path_mtu = 3;
	p.a.attr.timeout = p.b.attr.timeout = 14;
	mem_pair_connect(&p);
	is(guest_srq_arm(&srq, 8), 0, "%s: the limit is armed", name);
	for (uint32_t i = 0; i < 16; i++) {
		sge = (struct guest_sge){ p.b.mr.iova + i * 4096, 4096, p.b.mr.lkey };
		guest_post_srq(&srq, 0xc0de0000 + i, &sge, 1);
	}
	limit = guest_srq_limit(&srq);
	for (uint32_t i = 0; i < 16 && good; i++) {
		struct mem_wr w = mem_wr(&p.a, &p.b, SEND, 1000);

		w.sge.addr += i * 64;
		mem_post(&p.a, &w);
		good = mem_status(&p.a.scq) == 0 && mem_cqe(&p.b.rcq, &cqe) == 0 &&
		       le32toh(cqe.wqe_index) == 0xc0de0000 + i &&
		       !memcmp(p.b.buf + i * 4096, p.a.buf + i * 64, 1000);
	}
	ok(good, "%s: 16 SENDs take its receives, and cookies come back", name);
	ok(limit == 8 || limit == 0, "%s: the limit can be asked", name);
	good = false;
	while (guest_event(p.b.g, &event, 1000))
		if (le32toh(event.type) == VIRTIO_RDMA_EVENT_SRQ_LIMIT_REACHED &&
		    le32toh(event.id) == srq.srqn) {
			good = true;
			break;
		}
	ok(good, "%s: SRQ_LIMIT_REACHED", name);
	is(guest_qp_set_state(&p.b.qp, VIRTIO_RDMA_QPS_ERR), 0, "%s: its QP to ERR", name);
	good = false;
	while (guest_event(p.b.g, &event, 1000))
		if (le32toh(event.type) == VIRTIO_RDMA_EVENT_QP_LAST_WQE_REACHED &&
		    le32toh(event.id) == p.b.qp.qpn) {
			good = true;
			break;
		}
	ok(good, "%s: LAST_WQE_REACHED", name);
	drop();
	p.b.srq = NULL;
	is(guest_srq_destroy(&srq), 0, "%s: the SRQ is destroyed", name);
}

void test_datagrams(void)
{
	test_ud();
	test_many_handles();
	test_srq(VIRTIO_RDMA_QPT_RC, "RC with an SRQ");
}
