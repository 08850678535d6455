// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Devices with several transports, as the core composes them: which transports a device has,
 * operations that one of them refuses, the path of a connection and of each datagram.
 *
 * Guest a has three transports: "near" has private parts of objects but carries nothing,
 * memory, and "wire", which reaches everybody and only counts what it is given.  Both are
 * made here, and the core knows nothing of them: what passes here needs no change for
 * a new transport.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "mem_pair.h"
#include "path.h"
#include "tap.h"

#define SIGNALED	VIRTIO_RDMA_WQE_SIGNALED
#define S(name)		VIRTIO_RDMA_S_##name
#define QPS(name)	VIRTIO_RDMA_QPS_##name

/* A GID that no guest has. */
static const uint8_t elsewhere[16] = { [10] = 0xff, 0xff, 10, 0, 0, 99 };

static struct mem_pair p;

/* ---- near: counts the objects that it has parts of ------------------------------------- */

static _Atomic int near_gids, near_pds, near_mrs, near_cqs, near_srqs;

#define NEAR(what, type) \
	static int near_##what##_make(type *obj) { (void)obj; near_##what##s++; return 0; } \
	static void near_##what##_unmake(type *obj) { (void)obj; near_##what##s--; }
NEAR(pd, struct vrd_pd)
NEAR(mr, struct vrd_mr)
NEAR(cq, struct vrd_cq)
NEAR(srq, struct vrd_srq)

static int near_gid_add(struct vrd_device *dev, uint32_t index, const uint8_t gid[16])
{
	(void)dev;
	(void)index;
	(void)gid;
	near_gids++;
	return 0;
}

static void near_gid_del(struct vrd_device *dev, uint32_t index, const uint8_t gid[16])
{
	(void)dev;
	(void)index;
	(void)gid;
	near_gids--;
}

static const struct vrd_transport_ops near_transport = {
	.name		= "near",
	.slot		= VRD_SLOT_IBVERBS,
	.gid_add	= near_gid_add,
	.gid_del	= near_gid_del,
	.pd_alloc	= near_pd_make,
	.pd_dealloc	= near_pd_unmake,
	.mr_reg		= near_mr_make,
	.mr_dereg	= near_mr_unmake,
	.cq_create	= near_cq_make,
	.cq_destroy	= near_cq_unmake,
	.srq_create	= near_srq_make,
	.srq_free	= near_srq_unmake,
};

/* ---- wire: takes everything, delivers nothing -------------------------------------------- */

struct wire_qp {
	struct vrd_qp *qp;
	uint32_t num_held;
	struct vrd_wr held[64];			/* not complete yet; sq.lock */
};

static _Atomic int wire_refuses;		/* a negative errno, or 0 */
static _Atomic uint8_t wire_refused_state;	/* of QPs, for that errno */
static _Atomic bool wire_holds;			/* it completes nothing */
static _Atomic unsigned int wire_sent, wire_qps, wire_inits, wire_rtrs, wire_commits;

#define REFUSE(name, type) \
	static int wire_##name(type *obj) { (void)obj; return wire_refuses; }
REFUSE(pd_alloc, struct vrd_pd)
REFUSE(mr_reg, struct vrd_mr)
REFUSE(cq_create, struct vrd_cq)
REFUSE(srq_create, struct vrd_srq)

static int wire_gid_add(struct vrd_device *dev, uint32_t index, const uint8_t gid[16])
{
	(void)dev;
	(void)index;
	(void)gid;
	return wire_refuses;
}

static void wire_query(struct vrd_device *dev, struct vrd_caps *caps)
{
	(void)dev;
	*caps = (struct vrd_caps){
		.features = VRD_F(SRQ) | VRD_F(ATOMIC) | VRD_F(RESIZE_CQ),
		.max_mr_size = UINT64_MAX, .max_msg_sz = 1 << 20,
		.max_qp_rd_atom = 16, .max_qp_init_rd_atom = 200,
		.max_mtu = 5, .active_mtu = 3, .active_width = 1, .active_speed = 8,
	};
}

static uint8_t wire_port_state(struct vrd_device *dev)
{
	(void)dev;
	return VIRTIO_RDMA_PORT_DOWN;
}

static int wire_qp_create(struct vrd_qp *qp)
{
	struct wire_qp *wq = wire_refuses ? NULL : calloc(1, sizeof(*wq));

	if (!wq)
		return -ENOMEM;
	wq->qp = qp;
	qp->priv[VRD_SLOT_MAD] = wq;
	wire_qps++;
	return 0;
}

static void wire_qp_destroy(struct vrd_qp *qp)
{
	(void)qp;
}

static void wire_qp_free(struct vrd_qp *qp)
{
	free(qp->priv[VRD_SLOT_MAD]);
	qp->priv[VRD_SLOT_MAD] = NULL;
	wire_qps--;
}

static enum vrd_run wire_sq_run(struct vrd_qp *qp, unsigned int budget)
{
	struct wire_qp *wq = qp->priv[VRD_SLOT_MAD];

	while (!wire_holds && wq->num_held) {
		for (uint32_t i = 0; i < wq->num_held; i++)
			vrd_complete_send(qp, &wq->held[i], wq->held[i].req.length);
		wq->num_held = 0;
	}
	if (qp->state == QPS(ERR))
		return vrd_sq_flush(qp, budget) ? VRD_RUN_MORE : VRD_RUN_IDLE;
	if (qp->state != QPS(RTS))
		return VRD_RUN_WAIT;
	while (budget-- && wq->num_held < 64) {
		struct vrd_wr *wr = &wq->held[wq->num_held];

		if (vrd_sq_peek(qp, wr) != VRD_FETCH_OK ||
		    (qp->send_path && !vrd_path_carries(qp, wr)))
			break;
		vrd_sq_advance(qp);
		wq->num_held++;
		wire_sent++;
	}
	if (!wq->num_held)
		return VRD_RUN_IDLE;
	return wire_holds ? VRD_RUN_WAIT : VRD_RUN_MORE;
}

static bool wire_sq_idle(struct vrd_qp *qp)
{
	struct wire_qp *wq = qp->priv[VRD_SLOT_MAD];

	/* wire_release() brings the QP back, or at once if that has been. */
	if (wq->num_held && !wire_holds)
		vrd_qp_schedule(qp);
	return !wq->num_held;
}

static int wire_modify(struct vrd_qp *qp, const struct vrd_qp_change *change)
{
	(void)qp;
	if (wire_refuses && change->to == wire_refused_state)
		return wire_refuses;
	wire_inits += change->to == QPS(INIT);
	wire_rtrs += change->to == QPS(RTR);
	return 0;
}

static void wire_commit(struct vrd_qp *qp, const struct vrd_qp_change *change)
{
	(void)qp;
	wire_commits += change->to == QPS(RTR);
}

static const struct vrd_path_ops wire_path = {
	.sq_run		= wire_sq_run,
	.modify		= wire_modify,
	.commit		= wire_commit,
	.sq_idle	= wire_sq_idle,
};

static const struct vrd_transport_ops wire_transport = {
	.name		= "wire",
	.slot		= VRD_SLOT_MAD,
	.qp_types	= VRD_QPT_DATA,
	.path		= &wire_path,
	.device_query	= wire_query,
	.port_state	= wire_port_state,
	.gid_add	= wire_gid_add,
	.pd_alloc	= wire_pd_alloc,
	.mr_reg		= wire_mr_reg,
	.cq_create	= wire_cq_create,
	.srq_create	= wire_srq_create,
	.qp_create	= wire_qp_create,
	.qp_destroy	= wire_qp_destroy,
	.qp_free	= wire_qp_free,
};

/* ---- the guests ------------------------------------------------------------------------ */

static struct guest *make_guest(const char *name, uint8_t id, bool wired)
{
	struct guest_config cfg = {
		.name = name, .id = id, .mem_size = 64 << 20, .host_mapped = MEM_HOST_MAPPED,
	};
	struct guest *g = guest_create_stopped(p.engine, &cfg);

	if (wired) {
		g->dev->transports[0] = &near_transport;
		g->dev->transports[1] = &vrd_memory_transport;
		g->dev->transports[2] = &wire_transport;
		g->dev->several = true;
	}
	guest_start_queues(g);
	if (guest_init(g) || guest_add_gid(g, 0, g->gid))
		guest_fatal("INIT or ADD_GID");
	return g;
}

static void open_guests(void)
{
	p.engine = guest_engine(1, 50);
	p.a.g = make_guest("a", 1, true);
	p.b.g = make_guest("b", 2, false);
	mem_end_setup(&p.a);
	mem_end_setup(&p.b);
}

static struct vrd_qp *qp_of(struct mem_end *end)
{
	struct vrd_qp *qp;

	/* The thread sanitizer sees no other order between the control thread and this one. */
	pthread_mutex_lock(&end->g->dev->lock);
	qp = vrd_table_find(&end->g->dev->qps, end->qp.qpn);
	pthread_mutex_unlock(&end->g->dev->lock);
	return qp;
}

static bool is_on(struct mem_end *end, const struct vrd_transport_ops *transport)
{
	return vrd_qp_path(qp_of(end)) == transport->path;
}

static void open_end(struct mem_end *end, uint8_t type)
{
	struct guest_qp_init init = { .type = type, .max_recv_sge = 2 };

	mem_end_open(end, &init, 256);
}

static void release(struct mem_end *end)
{
	wire_holds = false;
	vrd_qp_schedule(qp_of(end));
}

/* ---- lists ------------------------------------------------------------------------------ */

static bool refused(const char *names, const char *message)
{
	struct vrd_device_config cfg = {
		.name = "d", .mac = { 2, 0, 0, 0, 0, 9 }, .num_comp_vectors = 1, .transports = names,
	};
	struct vrd_error err = { "", "" };
	struct vrd_device *dev;
	bool good = vrd_device_create(p.engine, &cfg, &dev, &err) && strstr(err.msg, message);

	if (!good)
		diag("%s: %s", names, err.msg);
	return good;
}

static void test_lists(void)
{
	struct vrd_device_config cfg = {
		.name = "d", .mac = { 2, 0, 0, 0, 0, 9 }, .num_comp_vectors = 1,
		.transports = "memory",
	};
	struct vrd_error err;
	struct vrd_device *dev;

	ok(refused("magic", "no transport \"magic\"") && refused("memory,", "no transport \"\"") &&
	   refused("", "no transport \"\"") && refused("memory,mad,x", "no transport \"x\""),
	   "a transport that does not exist");
	ok(refused("memory,memory", "twice"), "one that is named twice");
	ok(refused("mad", "carries data"), "none that carries data");
	if (vrd_device_create(p.engine, &cfg, &dev, &err))
		guest_fatal("no device: %s", err.msg);
	ok(dev->transports[0] == &vrd_memory_transport && !dev->transports[1] && !dev->several &&
	   !dev->owner, "memory alone");
	vrd_device_destroy(dev);
	cfg.transports = "memory,mad";
	if (vrd_device_create(p.engine, &cfg, &dev, &err))
		guest_fatal("no device: %s", err.msg);
	ok(dev->transports[0] == &vrd_memory_transport && dev->transports[2] == NULL &&
	   !dev->several, "the order is that of the names; QP 1 is no data");
	vrd_device_destroy(dev);
}

/* ---- the device and its objects ----------------------------------------------------------- */

static void test_caps(void)
{
	struct vrd_caps caps = vrd_device_caps(p.a.g->dev);

	is(caps.features, VRD_F(SRQ), "features are those of both; atomics need to be global for both");
	ok(caps.max_msg_sz == 1 << 20 && caps.max_qp_rd_atom == 16 && caps.max_qp_init_rd_atom == 128,
	   "limits are the lower ones");
	ok(caps.active_mtu == 3 && caps.active_width == 1 && caps.active_speed == 8 &&
	   vrd_transports_port_state(p.a.g->dev) == VIRTIO_RDMA_PORT_DOWN,
	   "the port is that of the last transport");
}

static void test_refusals(void)
{
	int gids = near_gids, pds = near_pds, mrs = near_mrs, cqs = near_cqs, srqs = near_srqs;
	struct guest_qp_init init = { .type = VIRTIO_RDMA_QPT_RC, .pd = p.a.pd };
	struct guest_cq cq, other;
	struct guest_srq srq;
	struct guest_mr mr;
	struct guest_qp qp;
	uint32_t pd;

	ok(gids == 1 && pds == 1 && mrs == 1, "each transport has its part of every object");
	if (guest_cq_create(&p.a.ctx, 16, 0, &cq))
		guest_fatal("CQ");
	init.send_cq = init.recv_cq = &cq;
	cqs++;
	wire_refuses = -ENOMEM;
	ok(guest_add_gid(p.a.g, 5, elsewhere) == S(NOMEM) && near_gids == gids,
	   "ADD_GID that the last one refuses is undone");
	ok(!guest_add_gid(p.b.g, 5, elsewhere), "by the memory transport as well: it is free");
	ok(guest_pd_alloc(&p.a.ctx, &pd) == S(NOMEM) && near_pds == pds, "ALLOC_PD");
	ok(guest_mr_reg(p.a.g, p.a.pd, p.a.buf, 4096, MEM_ALL_ACCESS, &mr) == S(NOMEM) &&
	   near_mrs == mrs, "REG_MR");
	ok(guest_cq_create(&p.a.ctx, 16, 0, &other) == S(NOMEM) && near_cqs == cqs, "CREATE_CQ");
	ok(guest_srq_create(&p.a.ctx, p.a.pd, 16, 1, &srq) == S(NOMEM) && near_srqs == srqs,
	   "CREATE_SRQ");
	ok(guest_qp_create(&p.a.ctx, &init, &qp) == S(NOMEM) && !wire_qps, "CREATE_QP");
	wire_refuses = 0;
	if (guest_del_gid(p.b.g, 5))
		guest_fatal("DEL_GID");
	ok(!guest_add_gid(p.a.g, 5, elsewhere) && near_gids == gids + 1 &&
	   !guest_del_gid(p.a.g, 5) && near_gids == gids, "ADD_GID and DEL_GID reach all");
	ok(!guest_cq_destroy(&cq) && near_cqs == cqs - 1, "DESTROY_CQ reaches all");
}

/* ---- connections ---------------------------------------------------------------------------- */

static void test_connections(void)
{
	struct mem_end x = p.a, y = p.b, z = p.a;
	unsigned int sent = wire_sent;
	struct mem_wr w;

	open_end(&x, VIRTIO_RDMA_QPT_RC);
	open_end(&y, VIRTIO_RDMA_QPT_RC);
	open_end(&z, VIRTIO_RDMA_QPT_RC);
	ok(wire_qps == 2 && is_on(&z, &vrd_memory_transport), "a new QP has a part in each transport");
	mem_attr_to(&x, y.g->gid, y.qp.qpn);
	mem_attr_to(&y, x.g->gid, x.qp.qpn);
	mem_attr_to(&z, elsewhere, 77);
	mem_connect(&x, &y);
	ok(is_on(&x, &vrd_memory_transport) && wire_inits == 1 && !wire_rtrs,
	   "a peer that memory reaches: the other transport stays in INIT");
	ok(mem_carries(&x, &y, 3) && wire_sent == sent, "memory carries it");

	wire_refuses = -ETIMEDOUT;
	wire_refused_state = QPS(RTR);
	ok(mem_bring_up(&z, QPS(RTR)) == S(TIMEOUT) && guest_qp_state(&z.qp) == QPS(INIT) &&
	   is_on(&z, &vrd_memory_transport) && !wire_commits, "RTR that the path refuses leaves none");
	wire_refuses = 0;
	ok(!mem_to_rtr(&z) && is_on(&z, &wire_transport) && wire_commits == 1,
	   "any other peer: the last transport");
	w = mem_wr(&z, &z, VIRTIO_RDMA_WR_RDMA_WRITE, 64);
	ok(!mem_to_rts(&z), "RTS");
	mem_post(&z, &w);
	ok(!mem_status(&z.scq) && wire_sent == sent + 1, "which carries it");
	is(guest_stat(p.a.g, "qps_memory") * 10 + guest_stat(p.a.g, "qps_wire"), 11,
	   "connections are counted by transport");
	ok(!guest_qp_set_state(&z.qp, QPS(ERR)) && !guest_qp_reset(&z.qp) &&
	   is_on(&z, &vrd_memory_transport), "RESET forgets the path");

	/* The same QP to a peer that memory reaches. */
	mem_end_close(&x);
	open_end(&x, VIRTIO_RDMA_QPT_RC);
	if (guest_qp_reset(&y.qp))
		guest_fatal("RESET");
	mem_attr_to(&z, y.g->gid, y.qp.qpn);
	mem_attr_to(&y, z.g->gid, z.qp.qpn);
	mem_connect(&z, &y);
	ok(is_on(&z, &vrd_memory_transport) && mem_carries(&z, &y, 4), "and the next one is chosen anew");

	/* Two ends with different paths. */
	if (guest_qp_reset(&y.qp))
		guest_fatal("RESET");
	mem_attr_to(&y, x.g->gid, x.qp.qpn);
	mem_attr_to(&x, elsewhere, y.qp.qpn);
	mem_connect(&x, &y);
	w = mem_wr(&y, &x, VIRTIO_RDMA_WR_RDMA_WRITE, 64);
	mem_post(&y, &w);
	is(mem_status(&y.scq), VIRTIO_RDMA_WC_RETRY_EXC_ERR,
	   "memory does not deliver to a QP on another path");
	mem_end_close(&x);
	mem_end_close(&y);
	mem_end_close(&z);
	is(wire_qps, 0, "no part is left");
}

/* ---- datagrams ------------------------------------------------------------------------------ */

static void test_datagrams(void)
{
	struct mem_end x = p.a, y = p.b;
	struct virtio_rdma_av near, far;
	struct virtio_rdma_cqe cqe;
	unsigned int sent = wire_sent;
	bool good;

	open_end(&x, VIRTIO_RDMA_QPT_UD);
	open_end(&y, VIRTIO_RDMA_QPT_UD);
	mem_attr_to(&x, y.g->gid, y.qp.qpn);
	mem_attr_to(&y, x.g->gid, x.qp.qpn);
	mem_connect(&x, &y);
	near = mem_av(&x, y.g->gid, y.qp.qpn);
	far = mem_av(&x, elsewhere, 77);
	for (uint32_t i = 0; i < 16; i++)
		mem_recv(&y, i * 1024, 1024);

	/* near, far, near: the last one waits for the second. */
	wire_holds = true;
	mem_write_ud(&x, &near, 0, 100, SIGNALED);
	mem_write_ud(&x, &far, 0, 100, SIGNALED);
	mem_write_ud(&x, &near, 0, 100, SIGNALED);
	guest_ring_sq(&x.qp);
	ok(!mem_cqe(&x.scq, &cqe) && le32toh(cqe.wqe_index) == 0 && mem_no_cqe(&x.scq) &&
	   wire_sent == sent + 1, "a datagram waits for one before it on another path");
	ok(mem_status(&y.rcq) == 0 && mem_no_cqe(&y.rcq), "and has not been delivered");
	release(&x);
	ok(mem_in_order(&x.scq, 0, 1, 2) && mem_status(&y.rcq) == 0, "then both complete, in order");

	good = true;
	for (uint32_t i = 0; i < 200 && good; i++) {
		for (uint32_t n = 0; n < 8; n++)
			mem_write_ud(&x, (i + n) % 3 ? &far : &near, 0, 100, SIGNALED);
		guest_ring_sq(&x.qp);
		good = mem_in_order(&x.scq, 0, 3 + i * 8, 8);
		while (guest_poll(&y.rcq, &cqe))
			mem_recv(&y, le32toh(cqe.wqe_index) % 16 * 1024, 1024);
	}
	ok(good, "1600 datagrams on both paths complete in order");

	/* In ERR the rest is flushed after what a transport has. */
	wire_holds = true;
	mem_write_ud(&x, &far, 0, 100, SIGNALED);
	mem_write_ud(&x, &near, 0, 100, SIGNALED);
	guest_ring_sq(&x.qp);
	ok(mem_no_cqe(&x.scq) && !guest_qp_set_state(&x.qp, QPS(ERR)) && mem_no_cqe(&x.scq),
	   "in ERR a transport has a datagram still");
	/* Nothing else runs this transport now: it completes by itself, and schedules the QP. */
	vrd_lock(&qp_of(&x)->sq.lock);
	wire_holds = false;
	wire_sq_run(qp_of(&x), 0);
	vrd_unlock(&qp_of(&x)->sq.lock);
	vrd_qp_schedule(qp_of(&x));
	ok(mem_cqe(&x.scq, &cqe) == 0 && mem_cqe(&x.scq, &cqe) == VIRTIO_RDMA_WC_WR_FLUSH_ERR,
	   "the next one is flushed when that is complete");
	mem_end_close(&x);
	mem_end_close(&y);
	is(wire_qps, 0, "no part is left");
}

int main(void)
{
	open_guests();
	test_lists();
	test_caps();
	test_refusals();
	test_connections();
	test_datagrams();
	mem_pair_close(&p);
	ok(!near_gids && !near_pds && !near_mrs && !near_cqs && !near_srqs,
	   "a device that is destroyed leaves no part of an object");
	return tap_done();
}
