// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Devices with both transports: datagrams, each of which has its path, and which arrive on both.
 */
#include "grh.h"
#include "paths.h"

static bool is_signaled(uint32_t i, uint32_t total)
{
	return i % 5 == 0 || i + 1 == total;
}

/* Both in RTS; the destination address decides the path of a datagram. */
static void open_ud(struct mem_end *x, struct mem_end *y)
{
	open_end(x, VIRTIO_RDMA_QPT_UD);
	open_end(y, VIRTIO_RDMA_QPT_UD);
	bring_up(x, NULL);
	bring_up(y, NULL);
}

/* One QP sends to a guest of the fabric, and to other addresses. */
static void test_ud_send(void)
{
	const uint32_t total = 2000, depth = 40;
	uint32_t posted = 0, done = 0, at_y = 0, local = 0;
	uint64_t tx = guest_stat(p.a.g, "host_tx_bytes");
	struct virtio_rdma_av to_y, to_host;
	struct mem_end x = p.a, y = p.b;
	struct virtio_rdma_cqe cqe;
	bool good = true;

	open_ud(&x, &y);
	to_y = av_to(&x, &y);
	to_host = av_to(&x, NULL);
	for (uint32_t i = 0; i < 128; i++)
		mem_recv(&y, i * 1024, 1024);
	mem_pattern(x.buf, 4096, 7);
	while (done < total && good) {
		while (posted < total && posted - done < depth) {
			bool host = posted / 3 % 2 || posted % 7 == 0;

			local += !host;
			mem_write_ud(&x, host ? &to_host : &to_y, 0, 500,
				     is_signaled(posted, total) ? SIGNALED : 0);
			posted++;
			if (posted % 4 == 0)
				guest_ring_sq(&x.qp);
		}
		guest_ring_sq(&x.qp);
		while (!is_signaled(done, total))
			done++;
		good = !mem_cqe(&x.scq, &cqe) && le32toh(cqe.wqe_index) == done;
		done++;
		while (guest_poll(&y.rcq, &cqe)) {
			uint8_t *slot = y.buf + at_y % 128 * 1024;

			good &= !cqe.status && le32toh(cqe.byte_len) == GRH + 500 &&
				le32toh(cqe.src_qp) == x.qp.qpn &&
				mem_has_pattern(slot + GRH, 500, 7);
			memset(slot, 0, 1024);
			mem_recv(&y, at_y++ % 128 * 1024, 1024);
		}
	}
	ok(good && done == total, "UD: 2000 datagrams from one QP on both paths complete in order");
	while (at_y < local && guest_poll_wait(&y.rcq, &cqe, MEM_WAIT_MS))
		at_y++;
	is(at_y, local, "UD: those to a guest of the fabric have come");
	is(guest_stat(p.a.g, "host_tx_bytes") - tx, (uint64_t)(total - local) * 500,
	   "UD: the host was given the others");
	mem_end_close(&x);
	mem_end_close(&y);
}

/* To one QP from both paths. */
static void test_ud_receive(void)
{
	struct mem_end x = p.a, y = p.b;
	uint64_t rx = guest_stat(p.a.g, "host_rx_bytes"), bytes = 0, drops;
	struct virtio_rdma_av to_x;
	struct virtio_rdma_cqe cqe;
	uint8_t data[4096 + GRH], header[GRH];
	bool good = true;
	uint32_t first;

	open_ud(&x, &y);
	to_x = av_to(&y, &x);
	/* Many more than the host has receives. */
	for (uint32_t i = 0; i < 600 && good; i++) {
		uint32_t length = 200 + i, slot = i % 64 * 2048;
		bool host = i % 3;

		mem_recv(&x, slot, 1024);
		if (host) {
			datagram(data, length, i);
			bytes += length;
			good = arrives(&x, IBV_WC_SUCCESS, data, GRH + length);
		} else {
			mem_pattern(y.buf, length, i);
			mem_write_ud(&y, &to_x, 0, length, SIGNALED);
			guest_ring_sq(&y.qp);
			good = mem_status(&y.scq) == 0;
		}
		good &= mem_cqe(&x.rcq, &cqe) == 0 && le32toh(cqe.wqe_index) == i &&
			le32toh(cqe.src_qp) == (host ? NULL_SRC_QP : y.qp.qpn) &&
			le32toh(cqe.byte_len) == GRH + length && cqe.flags & VIRTIO_RDMA_CQE_GRH &&
			mem_has_pattern(x.buf + slot + GRH, length, i) &&
			(!host || (cqe.flags == VIRTIO_RDMA_CQE_GRH &&
				   !memcmp(x.buf + slot, data, GRH)));
	}
	ok(good, "UD: 600 datagrams of both paths take the receives in order, with their headers");
	is(guest_stat(p.a.g, "host_rx_bytes") - rx, bytes, "UD: the host's are counted");

	drops = guest_stat(p.a.g, "ud_drops");
	good = arrives(&x, IBV_WC_SUCCESS, data, GRH + 64) && mem_no_cqe(&x.rcq);
	ok(good && guest_stat(p.a.g, "ud_drops") == drops + 1, "UD: dropped without a receive");
	first = x.qp.rq.producer;
	mem_recv(&x, 0, GRH + 64);
	ok(arrives(&x, IBV_WC_SUCCESS, data, GRH + 65) &&
	   arrives(&x, IBV_WC_SUCCESS, data, GRH - 1) &&
	   mem_no_cqe(&x.rcq), "UD: so is one that does not fit, or is none");
	ok(arrives(&x, IBV_WC_SUCCESS, data, GRH + 64) && mem_in_order(&x.rcq, 0, first, 1),
	   "UD: the receive is there for one that does");
	mem_recv(&x, 0, GRH + 4096);
	datagram(data, 4096, 5);
	ok(arrives(&x, IBV_WC_SUCCESS, data, GRH + 4096) && mem_in_order(&x.rcq, 0, first + 1, 1) &&
	   mem_has_pattern(x.buf + GRH, 4096, 5), "UD: the longest one");

	/* The host's device wrote an IPv4 header, and left what was in front of it. */
	memset(data, 0x66, GRH);
	vrd_grh_fill(header, &(struct vrd_grh){ .sgid = null_gids[1], .dgid = null_gids[1] }, 64);
	memcpy(data + 20, header + 20, 20);
	mem_recv(&x, 0, 1024);
	ok(arrives(&x, IBV_WC_SUCCESS, data, GRH + 64) && mem_cqe(&x.rcq, &cqe) == 0 &&
	   cqe.flags == (VIRTIO_RDMA_CQE_GRH | VIRTIO_RDMA_CQE_IPV4) &&
	   !memcmp(x.buf, header, GRH), "UD: an IPv4 header from the host is told as such");
	first++;

	/* A receive without registered memory: an error of the receiver. */
	struct guest_sge bad = { x.mr.iova, 1024, x.mr.lkey ^ 0x55 };

	guest_post_recv(&x.qp, &bad, 1);
	mem_recv(&x, 0, 1024);
	ok(arrives(&x, IBV_WC_SUCCESS, data, GRH + 64) &&
	   mem_in_order(&x.rcq, WC(LOC_PROT_ERR), first + 2, 1) && mem_in_state(&x, ERR) &&
	   mem_in_order(&x.rcq, WC(WR_FLUSH_ERR), first + 3, 1),
	   "UD: into a bad receive, in its place");
	mem_end_close(&x);

	/* The host's own receive fails. */
	open_end(&x, VIRTIO_RDMA_QPT_UD);
	bring_up(&x, NULL);
	for (uint32_t i = 0; i < 20; i++)
		mem_recv(&x, 0, 1024);
	ok(arrives(&x, IBV_WC_GENERAL_ERR, NULL, 0) && mem_in_state(&x, ERR) &&
	   mem_in_order(&x.rcq, WC(WR_FLUSH_ERR), 0, 20),
	   "UD: an error of the host's receive: flushed");
	mem_end_close(&x);
	mem_end_close(&y);
}

static void test_ud_states(void)
{
	struct virtio_rdma_av to_y, to_host, bad;
	struct virtio_rdma_qp_attr attr;
	struct mem_end x = p.a, y = p.b;
	uint32_t next;

	open_ud(&x, &y);
	bad = to_y = av_to(&x, &y);
	to_host = av_to(&x, NULL);
	for (uint32_t i = 0; i < 20; i++)
		mem_recv(&y, 0, 1024);

	/* An error of the memory path behind requests that the host still has. */
	for (uint32_t i = 0; i < 2; i++)
		mem_write_ud(&x, &to_host, 0, 64, 0);
	bad.pd = htole32(x.pd + 1);
	next = x.qp.sq.producer;
	mem_write_ud(&x, &bad, 0, 64, 0);
	mem_write_ud(&x, &to_host, 0, 64, 0);
	mem_write_ud(&x, &to_y, 0, 64, 0);
	guest_ring_sq(&x.qp);
	ok(mem_in_order(&x.scq, WC(LOC_QP_OP_ERR), next, 1),
	   "UD: a bad request to a guest fails in its place");
	ok(mem_in_order(&x.scq, WC(WR_FLUSH_ERR), next + 1, 2), "UD: those behind it are flushed");
	is(guest_qp_state(&x.qp), SQE, "UD: the send queue alone is in error");
	x.attr.state = RTS;
	x.attr.qkey = htole32(MEM_QKEY);
	is(guest_qp_modify(&x.qp, VIRTIO_RDMA_QP_STATE | VIRTIO_RDMA_QP_QKEY, &x.attr), 0,
	   "UD: back to RTS");
	next = x.qp.sq.producer;
	for (uint32_t i = 0; i < 6; i++)
		mem_write_ud(&x, i % 2 ? &to_host : &to_y, 0, 64, SIGNALED);
	guest_ring_sq(&x.qp);
	ok(mem_in_order(&x.scq, 0, next, 6), "UD: both paths are open again");

	is(guest_qp_set_state(&x.qp, VIRTIO_RDMA_QPS_SQD), 0, "UD: SQD");
	next = x.qp.sq.producer;
	for (uint32_t i = 0; i < 6; i++)
		mem_write_ud(&x, i % 2 ? &to_host : &to_y, 0, 64, SIGNALED);
	guest_ring_sq(&x.qp);
	ok(mem_no_cqe(&x.scq) && !guest_qp_query(&x.qp, &attr) && !attr.sq_draining,
	   "UD: nothing is sent, nothing drains");
	ok(!guest_qp_set_state(&x.qp, RTS) && mem_in_order(&x.scq, 0, next, 6), "UD: in RTS it is");

	is(guest_qp_set_state(&x.qp, ERR), 0, "UD: to ERR");
	next = x.qp.sq.producer;
	for (uint32_t i = 0; i < 6; i++) {
		mem_write_ud(&x, i % 2 ? &to_host : &to_y, 0, 64, 0);
		mem_recv(&x, 0, 1024);
	}
	guest_ring_sq(&x.qp);
	ok(mem_in_order(&x.scq, WC(WR_FLUSH_ERR), next, 6) &&
	   mem_in_order(&x.rcq, WC(WR_FLUSH_ERR), 0, 6), "UD: both queues flush");

	/* The host's QP fails by itself, and cannot be recovered. */
	if (guest_qp_reset(&x.qp))
		guest_fatal("RESET");
	bring_up(&x, NULL);
	for (uint32_t i = 0; i < 3; i++)
		mem_recv(&x, 0, 1024);
	null_next_status(IBV_WC_LOC_QP_OP_ERR);
	mem_write_ud(&x, &to_y, 0, 64, 0);
	mem_write_ud(&x, &to_host, 0, 64, 0);
	mem_write_ud(&x, &to_y, 0, 64, 0);
	guest_ring_sq(&x.qp);
	ok(mem_in_order(&x.scq, WC(LOC_QP_OP_ERR), 1, 1) &&
	   mem_in_order(&x.scq, WC(WR_FLUSH_ERR), 2, 1),
	   "UD: a request that the host does not carry out, and what is behind it");
	ok(guest_qp_set_state(&x.qp, RTS) && mem_in_state(&x, ERR) &&
	   mem_in_order(&x.rcq, WC(WR_FLUSH_ERR), 0, 3),
	   "UD: a QP whose host's is in ERR goes there");
	mem_end_close(&x);
	mem_end_close(&y);
}

/* Another thread creates the handles; the queue waits, on both paths. */
static void test_ud_handles(void)
{
	struct virtio_rdma_av to_y, to_host;
	struct mem_end x = p.a, y = p.b;

	open_ud(&x, &y);
	to_y = av_to(&x, &y);
	to_host = av_to(&x, NULL);
	to_host.tclass = 3;
	null_slow_ah = true;
	for (uint32_t i = 0; i < 6; i++) {
		mem_recv(&y, 0, 1024);
		mem_write_ud(&x, i % 3 == 1 ? &to_host : &to_y, 0, 64, SIGNALED);
	}
	guest_ring_sq(&x.qp);
	ok(mem_in_order(&x.scq, 0, 0, 1) && mem_no_cqe(&x.scq),
	   "UD: a datagram waits for its handle");
	null_slow_ah = false;
	ok(mem_in_order(&x.scq, 0, 1, 5), "UD: and is sent, with all behind it");
	mem_end_close(&x);
	mem_end_close(&y);
}

/* UD with an SRQ: the host has bounce receives, none of the SRQ. */
static void test_srq_ud(void)
{
	struct mem_end x = p.a, y = p.b;
	struct virtio_rdma_cqe cqe;
	struct virtio_rdma_av to_x;
	uint8_t data[GRH + 64];
	struct guest_srq srq;
	bool good = true;

	if (guest_srq_create(&p.a.ctx, p.a.pd, SRQ_ENTRIES, 1, &srq))
		guest_fatal("no SRQ");
	x.srq = &srq;
	null_srq_taken = 0;
	open_ud(&x, &y);
	to_x = av_to(&y, &x);
	for (uint32_t i = 0; i < 100 && good; i++) {
		uint32_t slot = i % SRQ_ENTRIES;

		mem_post_srq(&x, slot);
		if (i % 2) {
			datagram(data, 64, i);
			good = arrives(&x, IBV_WC_SUCCESS, data, GRH + 64);
		} else {
			mem_pattern(y.buf, 64, i);
			mem_write_ud(&y, &to_x, 0, 64, SIGNALED);
			guest_ring_sq(&y.qp);
			good = mem_status(&y.scq) == 0;
		}
		good &= mem_cqe(&x.rcq, &cqe) == 0 && le32toh(cqe.wqe_index) == MEM_COOKIE + slot &&
			mem_has_pattern(x.buf + slot * 4096 + GRH, 64, i);
	}
	ok(good && !null_srq_taken, "SRQ: datagrams of both paths");
	mem_end_close(&x);
	mem_end_close(&y);
	is(guest_srq_destroy(&srq), 0, "SRQ: destroyed");
}

int main(void)
{
	paths_open(2, "f", "f");
	test_ud_send();
	test_ud_receive();
	test_ud_states();
	test_ud_handles();
	test_srq_ud();
	mem_pair_close(&p);
	is(null_objects(), 0, "at the end the host has no object");
	return tap_done();
}
