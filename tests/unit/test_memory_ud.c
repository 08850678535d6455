// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory transport: datagrams of UD QPs and of QP 1: headers, Q_Keys, what is dropped, and
 * that no sender can use another sender's identity.
 */
#include <unistd.h>

#include "mem_pair.h"
#include "objects.h"
#include "tap.h"

static struct mem_pair pair;
static struct mem_end *a = &pair.a, *b = &pair.b;

#define WC(name)	VIRTIO_RDMA_WC_##name
#define IN(end, name)	mem_in_state(end, VIRTIO_RDMA_QPS_##name)
#define QKEY		0x11223344U
#define GRH		40

static void ud_fresh(void)
{
	struct guest_qp_init init = {
		.type = VIRTIO_RDMA_QPT_UD, .max_recv_sge = 4, .max_send_sge = 4, .max_inline = 64,
	};

	mem_pattern(a->buf, MEM_BUF, MEM_SEED_A);
	mem_pattern(b->buf, MEM_BUF, MEM_SEED_B);
	mem_pair_qps_init(&pair, &init, 64);
	mem_pair_connect(&pair);
}

static struct virtio_rdma_av av_to(struct mem_end *from, struct mem_end *to)
{
	struct virtio_rdma_av av = {
		.pd = htole32(from->pd),
		.dqpn = htole32(to->qp.qpn),
		.qkey = htole32(QKEY),
		.flow_label = htole32(0xabcde),
		.hop_limit = 63,
		.tclass = 0x2c,
		.sl = 5,
	};

	memcpy(av.dgid, to->g->gid, 16);
	return av;
}

static void ud_send(struct mem_end *from, const struct virtio_rdma_av *av, uint32_t length)
{
	struct mem_wr w = mem_wr(from, from, VIRTIO_RDMA_WR_SEND, length);

	w.wr.av = av;
	mem_post(from, &w);
}

/* ---- delivery ------------------------------------------------------------------- */

static void test_ipv6(void)
{
	struct virtio_rdma_av av;
	struct virtio_rdma_cqe cqe;
	const uint8_t *grh = b->buf;

	ud_fresh();
	av = av_to(a, b);
	mem_recv(b, 0, 4096);
	ud_send(a, &av, 1001);
	ok(mem_status(&a->scq) == 0, "a datagram is sent");
	ok(guest_poll_wait(&b->rcq, &cqe, MEM_WAIT_MS) && !cqe.status &&
	   cqe.opcode == VIRTIO_RDMA_WC_RECV && le32toh(cqe.byte_len) == 1001 + GRH &&
	   cqe.flags == VIRTIO_RDMA_CQE_GRH && le32toh(cqe.src_qp) == a->qp.qpn && cqe.sl == 5 &&
	   !cqe.pkey_index, "its receive has length, source and service level");
	ok(!memcmp(b->buf + GRH, a->buf, 1001) && b->buf[GRH + 1001] != 0 &&
	   !memcmp(grh + 8, a->g->gid, 16) && !memcmp(grh + 24, b->g->gid, 16),
	   "the data, and both GIDs in the header");
	/* 8 UDP + 12 BTH + 8 DETH + 1004 with pad + 4 ICRC */
	ok(grh[0] == 0x62 && grh[1] == 0xca && grh[2] == 0xbc && grh[3] == 0xde &&
	   (grh[4] << 8 | grh[5]) == 1036 && grh[6] == 17 && grh[7] == 63,
	   "an IPv6 header: class, flow, length, UDP, hop limit");
	mem_pair_drop_qps(&pair);
}

static void test_ipv4(void)
{
	uint8_t four[2][16] = {
		{ [10] = 0xff, 0xff, 10, 1, 0, 1 }, { [10] = 0xff, 0xff, 10, 1, 0, 2 },
	};
	struct virtio_rdma_av av;
	struct virtio_rdma_cqe cqe;
	const uint8_t *ip = b->buf + 20;
	uint32_t sum = 0;
	bool zero = true;

	ud_fresh();
	if (guest_add_gid(a->g, 1, four[0]) || guest_add_gid(b->g, 1, four[1]))
		guest_fatal("no GID");
	av = av_to(a, b);
	memcpy(av.dgid, four[1], 16);
	av.sgid_index = 1;
	mem_recv(b, 0, 4096);
	ud_send(a, &av, 64);
	ok(mem_status(&a->scq) == 0 && guest_poll_wait(&b->rcq, &cqe, MEM_WAIT_MS) &&
	   cqe.flags == (VIRTIO_RDMA_CQE_GRH | VIRTIO_RDMA_CQE_IPV4) &&
	   le32toh(cqe.byte_len) == 64 + GRH, "a datagram over IPv4");
	for (int i = 0; i < 20; i++)
		zero &= b->buf[i] == 0;
	for (int i = 0; i < 20; i += 2)
		sum += ip[i] << 8 | ip[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	ok(zero && ip[0] == 0x45 && ip[1] == 0x2c && (ip[2] << 8 | ip[3]) == 20 + 32 + 64 &&
	   ip[8] == 63 && ip[9] == 17 && !memcmp(ip + 12, four[0] + 12, 4) &&
	   !memcmp(ip + 16, four[1] + 12, 4), "20 bytes of nothing, and the IPv4 header");
	ok(sum == 0xffff, "with a valid checksum");
	ok(guest_add_gid(a->g, 2, four[1]) == VIRTIO_RDMA_S_EXIST,
	   "a GID that another device has is refused");
	guest_del_gid(a->g, 1);
	guest_del_gid(b->g, 1);
	mem_pair_drop_qps(&pair);
}

static void test_sizes(void)
{
	struct guest_sge to[3], from[3];
	struct virtio_rdma_av av;
	struct virtio_rdma_cqe cqe;
	uint8_t small[33];
	bool right;

	ud_fresh();
	av = av_to(a, b);
	mem_recv(b, 0, 8192);
	ud_send(a, &av, 4096);
	ok(mem_status(&a->scq) == 0 && mem_status(&b->rcq) == 0 &&
	   !memcmp(a->buf, b->buf + GRH, 4096), "a datagram of the MTU");
	mem_recv(b, 0, GRH);
	ud_send(a, &av, 0);
	ok(mem_status(&a->scq) == 0 && guest_poll_wait(&b->rcq, &cqe, MEM_WAIT_MS) &&
	   le32toh(cqe.byte_len) == GRH, "one of no bytes");

	/* Header and payload scattered over SGEs that divide both of them. */
	to[0] = (struct guest_sge){ b->mr.iova, 13, b->mr.lkey };
	to[1] = (struct guest_sge){ b->mr.iova + 10000, 100, b->mr.lkey };
	to[2] = (struct guest_sge){ b->mr.iova + 20001, 4000, b->mr.lkey };
	from[0] = (struct guest_sge){ a->mr.iova + 5, 1, a->mr.lkey };
	from[1] = (struct guest_sge){ a->mr.iova + 6, 0, 0 };
	from[2] = (struct guest_sge){ a->mr.iova + 6, 199, a->mr.lkey };
	struct guest_wr wr = {
		.opcode = VIRTIO_RDMA_WR_SEND_WITH_IMM, .imm = htobe32(99), .av = &av,
		.flags = VIRTIO_RDMA_WQE_SIGNALED, .num_sge = 3, .sge = from,
	};
	guest_post_recv(&b->qp, to, 3);
	guest_post_send(&a->qp, &wr);
	right = mem_status(&a->scq) == 0 && guest_poll_wait(&b->rcq, &cqe, MEM_WAIT_MS) &&
		cqe.flags == (VIRTIO_RDMA_CQE_GRH | VIRTIO_RDMA_CQE_IMM) &&
		cqe.imm == htobe32(99) && le32toh(cqe.byte_len) == 200 + GRH;
	ok(right && !memcmp(b->buf + 10000 + 27, a->buf + 5, 73) &&
	   !memcmp(b->buf + 20001, a->buf + 5 + 73, 127), "scattered, with immediate");

	for (unsigned int i = 0; i < sizeof(small); i++)
		small[i] = i * 3;
	wr = (struct guest_wr){
		.opcode = VIRTIO_RDMA_WR_SEND, .av = &av, .inline_data = small,
		.inline_len = sizeof(small),
		.flags = VIRTIO_RDMA_WQE_SIGNALED | VIRTIO_RDMA_WQE_INLINE,
	};
	mem_recv(b, 0, 4096);
	guest_post_send(&a->qp, &wr);
	ok(mem_status(&a->scq) == 0 && mem_status(&b->rcq) == 0 &&
	   !memcmp(b->buf + GRH, small, sizeof(small)), "inline");
	mem_pair_drop_qps(&pair);
}

static void test_loopback(void)
{
	struct virtio_rdma_av av;

	ud_fresh();
	av = av_to(a, a);
	mem_recv(a, 8192, 4096);
	ud_send(a, &av, 500);
	ok(mem_status(&a->scq) == 0 && mem_status(&a->rcq) == 0 &&
	   !memcmp(a->buf, a->buf + 8192 + GRH, 500), "to oneself");
	mem_pair_drop_qps(&pair);
}

/* ---- dropped -------------------------------------------------------------------- */

/* The sender succeeds, the receiver gets nothing, both stay in RTS. */
static void dropped(const struct virtio_rdma_av *av, uint32_t length, const char *what)
{
	uint64_t drops = guest_stat(a->g, "ud_drops");
	uint64_t counted;

	ud_send(a, av, length);
	ok(mem_status(&a->scq) == 0 && mem_no_cqe(&b->rcq) && IN(a, RTS) && IN(b, RTS) &&
	   mem_no_event(a) && mem_no_event(b), "dropped: %s", what);
	counted = guest_stat(a->g, "ud_drops") + guest_stat(b->g, "ud_drops") - drops;
	ok(counted == 1, "and counted");
}

static void test_drops(void)
{
	struct virtio_rdma_av av;

	ud_fresh();
	av = av_to(a, b);
	dropped(&av, 64, "no receive posted");
	mem_recv(b, 0, 2048);

	av.qkey = htole32(QKEY + 1);
	dropped(&av, 64, "wrong Q_Key");
	av = av_to(a, b);
	dropped(&av, 2048 - GRH + 1, "longer than the receive");
	av.dqpn = htole32(0xfffff0);
	dropped(&av, 64, "no such QP");
	av = av_to(a, b);
	av.dqpn = htole32(1);
	dropped(&av, 64, "no QP 1");
	av = av_to(a, b);
	av.dgid[9] ^= 1;
	dropped(&av, 64, "no such GID");
	memset(av.dgid, 0xff, 16);
	dropped(&av, 64, "multicast");

	av = av_to(a, b);
	ud_send(a, &av, 2048 - GRH);
	ok(mem_status(&a->scq) == 0 && mem_status(&b->rcq) == 0 &&
	   !memcmp(a->buf, b->buf + GRH, 2048 - GRH), "the receive is still there for one that fits");

	mem_recv(b, 0, 2048);
	guest_stop_queues(b->g);
	ud_send(a, &av, 64);
	ok(mem_status(&a->scq) == 0, "a paused receiver does not keep the sender waiting");
	guest_start_queues(b->g);
	ok(mem_no_cqe(&b->rcq), "and gets nothing");
	mem_pair_drop_qps(&pair);

	/* In states that do not receive. */
	ud_fresh();
	av = av_to(a, b);
	mem_recv(b, 0, 2048);
	guest_qp_reset(&b->qp);
	ud_send(a, &av, 64);
	ok(mem_status(&a->scq) == 0 && mem_no_cqe(&b->rcq), "dropped: receiver in RESET");
	mem_bring_up(b, VIRTIO_RDMA_QPS_RTR);
	mem_recv(b, 0, 2048);
	ud_send(a, &av, 64);
	ok(mem_status(&a->scq) == 0 && mem_status(&b->rcq) == 0, "a receiver in RTR receives");
	mem_pair_drop_qps(&pair);
}

static void test_receiver_errors(void)
{
	struct guest_sge bad = { b->mr.iova, 2048, b->mr.lkey ^ 0x100 };
	struct virtio_rdma_av av;

	ud_fresh();
	av = av_to(a, b);
	guest_post_recv(&b->qp, &bad, 1);
	mem_recv(b, 0, 2048);
	ud_send(a, &av, 64);
	ok(mem_status(&a->scq) == 0 && IN(a, RTS), "bad receive SGE: the sender succeeds");
	ok(mem_status(&b->rcq) == WC(LOC_PROT_ERR) && IN(b, ERR) &&
	   mem_status(&b->rcq) == WC(WR_FLUSH_ERR), "the receiver's completion, ERR, flush");
	mem_pair_drop_qps(&pair);
}

/* While another thread holds the receiver's sq.lock its move to ERR is deferred. */
static void test_receiver_error_deferred(void)
{
	struct guest_sge bad = { b->mr.iova, 2048, b->mr.lkey ^ 0x100 };
	struct virtio_rdma_av av;
	struct vrd_qp *qp;

	ud_fresh();
	av = av_to(a, b);
	qp = vrd_table_find(&b->g->dev->qps, b->qp.qpn);
	guest_post_recv(&b->qp, &bad, 1);
	mem_recv(b, 0, 2048);
	vrd_lock(&qp->sq.lock);
	ud_send(a, &av, 64);
	ok(mem_status(&a->scq) == 0 && mem_status(&b->rcq) == WC(LOC_PROT_ERR),
	   "the state cannot be changed: a receive fails");
	ud_send(a, &av, 64);
	ok(mem_status(&a->scq) == 0 && mem_no_cqe(&b->rcq), "the next datagram is dropped");
	vrd_unlock(&qp->sq.lock);
	ok(mem_status(&b->rcq) == WC(WR_FLUSH_ERR) && IN(b, ERR), "its receive is flushed");
	mem_pair_drop_qps(&pair);
}

/* ---- the sender's errors ------------------------------------------------------------ */

static void sender_error(struct virtio_rdma_av av, uint32_t length, uint32_t lkey_xor,
			 uint8_t status, const char *what)
{
	struct virtio_rdma_qp_attr attr = {
		.state = VIRTIO_RDMA_QPS_RTS, .cur_state = VIRTIO_RDMA_QPS_SQE,
	};
	struct mem_wr w = mem_wr(a, a, VIRTIO_RDMA_WR_SEND, length);

	av.dqpn = htole32(b->qp.qpn);
	mem_recv(b, 0, 8192);
	mem_recv(a, 0, 8192);
	w.wr.av = &av;
	w.wr.flags = 0;
	w.sge.lkey ^= lkey_xor;
	w.wr.sge = &w.sge;
	guest_write_send(&a->qp, &w.wr);
	guest_write_send(&a->qp, &w.wr);
	guest_ring_sq(&a->qp);
	ok(mem_status(&a->scq) == status && mem_status(&a->scq) == WC(WR_FLUSH_ERR) && IN(a, SQE),
	   "%s: completion, flush, SQE", what);
	ok(mem_no_cqe(&b->rcq) && mem_no_cqe(&a->rcq) && IN(b, RTS),
	   "%s: nothing is received, receives stay", what);
	ok(!guest_qp_modify(&a->qp, VIRTIO_RDMA_QP_STATE | VIRTIO_RDMA_QP_CUR_STATE, &attr),
	   "%s: back to RTS", what);
	av = av_to(a, b);
	ud_send(a, &av, 8);
	ok(mem_status(&a->scq) == 0 && mem_status(&b->rcq) == 0, "%s: and sends again", what);
}

static void test_sender_errors(void)
{
	struct virtio_rdma_av good, av;

	ud_fresh();
	good = av_to(a, b);
	av = good;
	av.pd = htole32(a->pd + 1);
	sender_error(av, 64, 0, WC(LOC_QP_OP_ERR), "address vector of another PD");
	av = good;
	av.sgid_index = 3;
	sender_error(av, 64, 0, WC(LOC_QP_OP_ERR), "source GID that the device has not");
	av = good;
	av.sgid_index = 255;
	sender_error(av, 64, 0, WC(LOC_QP_OP_ERR), "source GID index out of range");
	av = good;
	av.reserved[3] = 1;
	sender_error(av, 64, 0, WC(LOC_QP_OP_ERR), "reserved byte of the address vector");
	sender_error(good, 4097, 0, WC(LOC_LEN_ERR), "longer than the MTU");
	sender_error(good, 64, 0x100, WC(LOC_PROT_ERR), "unknown lkey");
	mem_pair_drop_qps(&pair);
}

/* ---- QP 1 ----------------------------------------------------------------------------- */

/*
 * QP 1 of both guests, created in their kernel contexts, with the well-known Q_Key.  A
 * datagram to it from a process's QP, with that Q_Key written into the ring, does not
 * arrive.
 */
static void test_gsi(void)
{
	struct mem_pair kernel = { .a.g = a->g, .b.g = b->g };
	struct mem_end *ends[2] = { &kernel.a, &kernel.b };
	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_GSI, .max_recv_sge = 2 };
	struct virtio_rdma_av av;
	struct virtio_rdma_cqe cqe;

	for (int i = 0; i < 2; i++) {
		struct mem_end *end = ends[i];

		if (guest_ctx_create(end->g, VIRTIO_RDMA_CTX_KERNEL, &end->ctx) ||
		    guest_pd_alloc(&end->ctx, &end->pd))
			guest_fatal("no kernel context");
		end->buf = i ? b->buf : a->buf;
		/* As the kernel's MAD layer does: DMA addresses and the DMA key. */
		end->mr = (struct guest_mr){
			.g = end->g, .iova = guest_addr(end->g, end->buf),
			.lkey = VIRTIO_RDMA_LOCAL_DMA_LKEY,
		};
	}
	mem_pair_qps_init(&kernel, &init, 64);
	for (int i = 0; i < 2; i++)
		ends[i]->attr.qkey = htole32(0x80010000);
	mem_pair_connect(&kernel);
	ok(kernel.a.qp.qpn == 1 && kernel.b.qp.qpn == 1, "each device has a QP 1");

	ud_fresh();
	mem_recv(&kernel.b, 0, 4096);
	av = av_to(&kernel.a, &kernel.b);
	av.qkey = htole32(0x80010000);
	ud_send(&kernel.a, &av, 256);
	ok(mem_status(&kernel.a.scq) == 0 && guest_poll_wait(&kernel.b.rcq, &cqe, MEM_WAIT_MS) &&
	   !cqe.status && le32toh(cqe.src_qp) == 1 && le32toh(cqe.qpn) == 1 &&
	   !memcmp(kernel.b.buf + GRH, kernel.a.buf, 256), "a MAD from QP 1 to QP 1");

	mem_recv(&kernel.b, 0, 4096);
	av = av_to(a, &kernel.b);
	av.qkey = htole32(0x80010000);
	ud_send(a, &av, 256);
	ok(mem_status(&a->scq) == 0 && mem_no_cqe(&kernel.b.rcq),
	   "a process that writes QP 1's Q_Key into its ring does not reach QP 1");

	/* The other direction: a privileged Q_Key in a request stands for the QP's own. */
	mem_recv(b, 0, 4096);
	av = av_to(a, b);
	av.qkey = htole32(0x80000000);
	ud_send(a, &av, 8);
	ok(mem_status(&a->scq) == 0 && mem_status(&b->rcq) == 0,
	   "a Q_Key with the top bit set stands for the QP's own");
	mem_pair_drop_qps(&pair);
	mem_pair_drop_qps(&kernel);
}

/* ---- load ------------------------------------------------------------------------------- */

static void test_many(void)
{
	struct virtio_rdma_av av;
	struct virtio_rdma_cqe cqe;
	bool right = true;

	ud_fresh();
	av = av_to(a, b);
	for (uint32_t round = 0; round < 50; round++) {
		for (uint32_t i = 0; i < 32; i++)
			mem_recv(b, i * 512, 512);
		for (uint32_t i = 0; i < 32; i++) {
			struct mem_wr w = mem_wr(a, a, VIRTIO_RDMA_WR_SEND_WITH_IMM, 128);

			w.wr.av = &av;
			w.wr.imm = round * 32 + i;
			mem_post(a, &w);
		}
		for (uint32_t i = 0; i < 32; i++) {
			right &= mem_status(&a->scq) == 0;
			right &= guest_poll_wait(&b->rcq, &cqe, MEM_WAIT_MS) && !cqe.status &&
				 cqe.imm == round * 32 + i;
		}
	}
	ok(right, "1600 datagrams arrive in order");
	mem_pair_drop_qps(&pair);
}

int main(void)
{
	mem_pair_open(&pair, 2, 0);
	test_ipv6();
	test_ipv4();
	test_sizes();
	test_loopback();
	test_drops();
	test_receiver_errors();
	test_receiver_error_deferred();
	test_sender_errors();
	test_gsi();
	test_many();
	mem_pair_close(&pair);
	return tap_done();
}
