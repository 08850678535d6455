// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Life cycle of queue pairs and of the port on the host's device: many at once, pauses,
 * errors of addresses, events.  See native.h; runs commands on the host.
 */
#include <stdlib.h>
#include <unistd.h>

#include "native.h"

static void host(const char *command)
{
	if (system(command))
		guest_fatal("%s", command);
}

/* The next event of this type; others are skipped. */
static bool event_comes(struct guest *g, uint32_t type, uint32_t id, int timeout_ms)
{
	struct virtio_rdma_event event;

	while (guest_event(g, &event, timeout_ms))
		if (le32toh(event.type) == type && le32toh(event.id) == id)
			return true;
	return false;
}

static uint8_t port_state(struct guest *g)
{
	struct virtio_rdma_query_port_req req = { .port_num = htole32(1) };
	struct virtio_rdma_query_port_rsp rsp;

	return guest_command(g, VIRTIO_RDMA_CMD_QUERY_PORT, &req, &rsp) ? 0xff : rsp.state;
}

/* ---- many at once --------------------------------------------------------------- */

enum { QPS = 64, ROUNDS = 20 };

static bool connect_one(struct guest_qp *a, struct guest_qp *b)
{
	struct virtio_rdma_qp_attr attr = p.a.attr;
	bool good;

	attr.dest_qpn = htole32(b->qpn);
	memcpy(attr.av.dgid, gid_b, 16);
	p.a.qp = *a;
	p.a.attr = attr;
	good = !mem_bring_up(&p.a, VIRTIO_RDMA_QPS_RTS);
	attr.dest_qpn = htole32(a->qpn);
	memcpy(attr.av.dgid, gid_a, 16);
	p.b.qp = *b;
	p.b.attr = attr;
	return good && !mem_bring_up(&p.b, VIRTIO_RDMA_QPS_RTS);
}

static void many_qps(void)
{
	struct guest_qp a[QPS], b[QPS];
	struct guest_cq cq_a, cq_b;
	struct guest_qp_init init = {
		.type = VIRTIO_RDMA_QPT_RC, .pd = p.a.pd, .send_cq = &cq_a, .recv_cq = &cq_a,
		.sq_entries = 16, .rq_entries = 16,
	};
	struct virtio_rdma_cqe cqe;
	bool good = true;

	/* Checks for the attributes of connections. */
	fresh();
	drop();
	if (guest_cq_create(&p.a.ctx, 4096, 0, &cq_a) || guest_cq_create(&p.b.ctx, 4096, 0, &cq_b))
		guest_fatal("no CQ");
	for (unsigned int i = 0; i < QPS; i++) {
		init.pd = p.a.pd;
		init.send_cq = init.recv_cq = &cq_a;
		good &= !guest_qp_create(&p.a.ctx, &init, &a[i]);
		init.pd = p.b.pd;
		init.send_cq = init.recv_cq = &cq_b;
		good &= !guest_qp_create(&p.b.ctx, &init, &b[i]) && connect_one(&a[i], &b[i]);
	}
	ok(good, "%d QPs on each side are connected", QPS);
	mem_pattern(p.a.buf, MEM_BUF, 21);
	memset(p.b.buf, 0, MEM_BUF);
	for (unsigned int r = 0; r < ROUNDS && good; r++) {
		for (unsigned int i = 0; i < QPS; i++) {
			struct guest_sge rsge = { p.b.mr.iova + i * 4096, 4096, p.b.mr.lkey };

			guest_post_recv(&b[i], &rsge, 1);
			guest_post_rdma(&a[i], r % 2 ? SEND : W, SIGNALED, p.a.buf + i * 4096, 4096,
					p.a.mr.lkey, p.b.mr.iova + i * 4096, p.b.mr.rkey);
			if (!(r % 2))
				guest_post_rdma(&a[i], SEND, 0, p.a.buf, 0, p.a.mr.lkey, 0, 0);
		}
		for (unsigned int i = 0; i < QPS && good; i++)
			good = !mem_cqe(&cq_a, &cqe) && !mem_cqe(&cq_b, &cqe);
	}
	ok(good && mem_has_pattern(p.b.buf, QPS * 4096, 21), "all of them at once, %d rounds", ROUNDS);

	/* With outstanding work on all of them. */
	for (unsigned int i = 0; i < QPS; i++)
		guest_post_rdma(&a[i], SEND, SIGNALED, p.a.buf, 64, p.a.mr.lkey, 0, 0);
	for (unsigned int i = 0; i < QPS; i++)
		good &= !guest_qp_destroy(&a[i]) && !guest_qp_destroy(&b[i]);
	good &= !guest_cq_destroy(&cq_a) && !guest_cq_destroy(&cq_b);
	ok(good, "they are destroyed with work outstanding");
	p.a.qp.g = NULL;
	p.b.qp.g = NULL;
}

/* ---- pause, addresses ---------------------------------------------------------------- */

static void pause_and_resume(void)
{
	struct mem_wr w = mem_wr(&p.a, &p.b, W, 4096);

	fresh();
	guest_stop_queues(p.a.g);
	memset(p.b.buf, 0, 4096);
	mem_post(&p.a, &w);
	usleep(50000);
	ok(p.b.buf[100] == 0, "a paused device posts nothing");
	guest_start_queues(p.a.g);
	ok(mem_status(&p.a.scq) == 0 && mem_has_pattern(p.b.buf, 4096, MEM_SEED_A),
	   "and goes on when it is resumed");
	drop();
}

static void bad_addresses(void)
{
	uint8_t other[16];
	struct virtio_rdma_qp_attr attr;

	fresh();
	drop();
	memcpy(other, gid_a, 16);
	other[15] = 201;
	is(guest_add_gid(p.a.g, 5, other), 0, "a GID that the host's port does not have");

	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_RC };

	mem_pair_qps_init(&p, &init, 16);
	p.a.attr.path_mtu = 3;
	p.a.attr.av.sgid_index = 5;
	is(mem_bring_up(&p.a, VIRTIO_RDMA_QPS_RTR), VIRTIO_RDMA_S_ADDR,
	   "connecting from it: the host's port lacks this GID");
	host("ip addr add 192.168.77.201/32 dev eth0; sleep 0.3");
	attr = p.a.attr;
	attr.state = VIRTIO_RDMA_QPS_RTR;
	is(guest_qp_modify(&p.a.qp, VIRTIO_RDMA_QP_STATE | VIRTIO_RDMA_QP_AV |
			   VIRTIO_RDMA_QP_PATH_MTU | VIRTIO_RDMA_QP_DEST_QPN |
			   VIRTIO_RDMA_QP_RQ_PSN | VIRTIO_RDMA_QP_MAX_DEST_RD_ATOMIC |
			   VIRTIO_RDMA_QP_MIN_RNR_TIMER, &attr), 0,
	   "after what the log says was done on the host, it goes");
	host("ip addr del 192.168.77.201/32 dev eth0");
	is(guest_del_gid(p.a.g, 5), 0, "DEL_GID");
	p.b.attr.path_mtu = 5;
	is(mem_bring_up(&p.b, VIRTIO_RDMA_QPS_RTR), VIRTIO_RDMA_S_INVAL,
	   "a path MTU above the port's is refused");
	drop();
}

/* ---- the port ---------------------------------------------------------------------------- */

static void port_events(void)
{
	struct mem_wr w = mem_wr(&p.a, &p.b, W, 4096);

	fresh();
	host("ip link set eth0 down");
	ok(event_comes(p.a.g, VIRTIO_RDMA_EVENT_PORT_ERR, 1, 5000), "netdev down: PORT_ERR");
	is(port_state(p.a.g), VIRTIO_RDMA_PORT_DOWN, "the port is DOWN");
	host("ip link set eth0 up");
	ok(event_comes(p.a.g, VIRTIO_RDMA_EVENT_PORT_ACTIVE, 1, 5000), "netdev up: PORT_ACTIVE");
	is(port_state(p.a.g), VIRTIO_RDMA_PORT_ACTIVE, "the port is ACTIVE");
	mem_post(&p.a, &w);
	ok(mem_status(&p.a.scq) == 0, "the connection has survived");
	host("ip addr add 192.168.77.202/24 dev eth0");
	ok(event_comes(p.a.g, VIRTIO_RDMA_EVENT_GID_CHANGE, 1, 5000), "a new address: GID_CHANGE");
	host("ip addr del 192.168.77.202/24 dev eth0");
	drop();
}

void test_life(void)
{
	many_qps();
	pause_and_resume();
	bad_addresses();
	port_events();
}
