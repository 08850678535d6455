// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Devices with both paths: queue pairs and devices that are destroyed, stopped and started
 * again under traffic of both paths.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "paths.h"

/* Source of sends and target of WRITEs: separate from receives. */
#define FROM	(512U << 10)
#define TO	(640U << 10)

struct flood {
	pthread_t thread;
	_Atomic bool stop;
	_Atomic uint32_t qpn;			/* the owner */
	bool data;				/* into our memory: UD */
	uint64_t done;
};

/* The host has messages for it, without end. */
static void *host_floods(void *arg)
{
	static uint8_t data[GRH + 64];
	struct flood *f = arg;

	while (!f->stop) {
		uint32_t qpn = f->qpn;

		if (qpn && null_receive(qpn, IBV_WC_SUCCESS, f->data ? data : NULL, GRH + 64))
			f->done++;
		else
			usleep(10);
	}
	return NULL;
}

/* b sends datagrams to it, and to other addresses in between. */
static void *guest_floods(void *arg)
{
	struct flood *f = arg;
	struct mem_end y = p.b;
	struct virtio_rdma_cqe cqe;

	open_end(&y, VIRTIO_RDMA_QPT_UD);
	bring_up(&y, NULL);
	while (!f->stop) {
		struct virtio_rdma_av to_x = av_to(&y, &p.a), to_host = av_to(&y, NULL);

		to_x.dqpn = htole32(f->qpn);
		mem_write_ud(&y, &to_host, FROM, 64, 0);
		for (unsigned int i = 0; i < 8; i++)
			mem_write_ud(&y, &to_x, FROM, 64, i == 7 ? SIGNALED : 0);
		guest_ring_sq(&y.qp);
		if (mem_cqe(&y.scq, &cqe))
			guest_fatal("a datagram to a QP that comes and goes fails");
		f->done++;
	}
	mem_end_close(&y);
	return NULL;
}

static void post_apart(struct mem_end *from, struct mem_end *to, uint8_t opcode)
{
	struct mem_wr w = mem_wr(from, to, opcode, 64);

	w.sge.addr += FROM;
	w.wr.remote_addr += TO;
	mem_post(from, &w);
}

/* Requests of its own as well; @type RC: by memory and by the host in turn. */
static void test_destroy(uint8_t type, struct guest_srq *srq, const char *name)
{
	struct flood host = { .data = type == VIRTIO_RDMA_QPT_UD }, guest = { .stop = false };
	long before = null_objects();
	unsigned int received = 0, rounds = 0;
	bool good = true, posted[30] = { false };

	if (pthread_create(&host.thread, NULL, host_floods, &host) ||
	    pthread_create(&guest.thread, NULL, guest_floods, &guest))
		guest_fatal("no thread");
	/* Each way of removal, on each path, at least once. */
	for (uint64_t until = guest_now_ns() + 700000000ULL;
	     good && (guest_now_ns() < until || rounds < 8); rounds++) {
		bool ud = type == VIRTIO_RDMA_QPT_UD, local = !ud && rounds / 4 % 2;
		struct mem_end x = p.a, y = p.b;
		struct virtio_rdma_cqe cqe;

		x.srq = srq;
		open_end(&x, type);
		open_end(&y, VIRTIO_RDMA_QPT_RC);
		bring_up(&x, local ? &y : NULL);
		host.qpn = guest.qpn = x.qp.qpn;
		if (local)
			bring_up(&y, &x);
		for (uint32_t i = 0; i < 30; i++) {
			struct virtio_rdma_av av = av_to(&x, i % 3 ? NULL : &y);

			if (srq && !posted[i])
				mem_post_srq(&x, i);
			else if (!srq)
				mem_recv(&x, 4096 * i, 1024);
			posted[i] = true;
			if (ud) {
				mem_write_ud(&x, &av, FROM, 64, SIGNALED);
				guest_ring_sq(&x.qp);
			} else {
				post_apart(&x, &y, i % 3 ? W : SEND);
			}
			if (!local)
				continue;
			mem_recv(&y, 4096 * i, 1024);
			post_apart(&y, &x, i % 3 ? W : SEND);
		}
		usleep(rounds % 7 * 300);
		if (rounds % 4 == 1)
			good &= !guest_qp_set_state(&x.qp, ERR);
		if (rounds % 4 == 2)
			good &= !guest_qp_reset(&x.qp);
		if (guest_qp_destroy(&x.qp))
			guest_fatal("DESTROY_QP");
		for (; guest_poll(&x.rcq, &cqe); received++)
			if (srq) {
				uint32_t slot = le32toh(cqe.wqe_index) - MEM_COOKIE;

				good &= slot < 30 && posted[slot];
				posted[slot % 30] = false;
			}
		if (guest_cq_destroy(&x.scq) || guest_cq_destroy(&x.rcq))
			guest_fatal("DESTROY_CQ");
		mem_drop_events(x.g);
		mem_end_close(&y);
	}
	host.stop = guest.stop = true;
	pthread_join(host.thread, NULL);
	pthread_join(guest.thread, NULL);
	ok(good && host.done && guest.done, "%s: %u QPs go under traffic of both paths", name,
	   rounds);
	diag("%u received; %llu of the host's, %llu of b's", received,
	     (unsigned long long)host.done, (unsigned long long)guest.done);
	/* Address handles may be cached. */
	ok(null_objects() <= before + 2, "%s: the host keeps nothing", name);
}

/* ---- devices that stop, and start again -------------------------------------------------- */

struct traffic {
	pthread_t thread;
	_Atomic bool stop;
	_Atomic uint64_t rounds;
	const char *wrong;
};

/* a's requests on all paths, each awaited: none is lost, whichever device is suspended. */
static void *traffic(void *arg)
{
	struct mem_end x = p.a, y = p.b, z = p.a, u = p.a;
	struct traffic *t = arg;
	struct virtio_rdma_av to_host;

	open_end(&x, VIRTIO_RDMA_QPT_RC);
	open_end(&y, VIRTIO_RDMA_QPT_RC);
	open_end(&z, VIRTIO_RDMA_QPT_RC);
	open_end(&u, VIRTIO_RDMA_QPT_UD);
	connect_ends(&x, &y);
	bring_up(&z, NULL);
	bring_up(&u, NULL);
	to_host = av_to(&u, NULL);
	for (uint32_t seed = 1; !t->stop && !t->wrong; seed++) {
		struct mem_wr w = mem_wr(&x, &y, W, 20000);

		mem_pattern(x.buf, 20000, seed);
		mem_post(&x, &w);
		if (mem_status(&x.scq))
			t->wrong = "a WRITE by memory fails";
		else if (!mem_has_pattern(y.buf, 20000, seed))
			t->wrong = "a WRITE by memory has other bytes";
		mem_post(&z, &w);
		mem_recv(&z, 0, 64);
		if (mem_status(&z.scq))
			t->wrong = "a WRITE by the host fails";
		if (!arrives(&z, IBV_WC_SUCCESS, NULL, 64) || mem_status(&z.rcq))
			t->wrong = "a receive of the host's is lost";
		mem_recv(&u, 4096, 1024);
		mem_write_ud(&u, &to_host, 0, 64, SIGNALED);
		guest_ring_sq(&u.qp);
		if (mem_status(&u.scq))
			t->wrong = "a datagram fails";
		if (!arrives(&u, IBV_WC_SUCCESS, NULL, GRH + 64) || mem_status(&u.rcq))
			t->wrong = "a datagram from the host is lost";
		t->rounds++;
	}
	/* Its commands need the queues. */
	while (!t->stop)
		usleep(1000);
	mem_end_close(&x);
	mem_end_close(&y);
	mem_end_close(&z);
	mem_end_close(&u);
	return NULL;
}

static void test_suspend(void)
{
	struct traffic t = { .stop = false };
	unsigned int rounds = 0;

	if (pthread_create(&t.thread, NULL, traffic, &t))
		guest_fatal("no thread");
	while (!t.rounds && !t.wrong)
		usleep(1000);
	for (uint64_t until = guest_now_ns() + 1000000000ULL; guest_now_ns() < until; rounds++) {
		struct guest *g = rounds % 2 ? p.a.g : p.b.g;

		if (rounds % 3) {
			guest_stop_queues(g);
			usleep(rounds % 5 * 500);
			guest_start_queues(g);
		} else {
			guest_set_memory(g);
		}
		usleep(1000);
	}
	t.stop = true;
	pthread_join(t.thread, NULL);
	ok(!t.wrong && t.rounds > 3,
	   "%u times suspended, or with another memory table, under traffic: %s", rounds,
	   t.wrong ? t.wrong : "nothing is lost");
	diag("%llu rounds", (unsigned long long)t.rounds);
}

static void end_of(struct mem_end *end)
{
	*end = (struct mem_end){ .g = end->g };
	mem_end_setup(end);
}

/*
 * A reset waits for memory regions alone: workers give the host's other objects back, and the
 * device counts those that are left.
 */
static bool all_ended(struct guest *g)
{
	for (unsigned int i = 0; i < 20000 && guest_stat(g, "objects_ending"); i++)
		usleep(1000);
	return !guest_stat(g, "objects_ending");
}

/* A guest is reset with QPs on all paths, while its neighbour sends requests. */
static void test_reset(void)
{
	struct guest_config cfg = {
		.host_mapped = MEM_HOST_MAPPED, .ibdev = NULL_IBDEV, .transports = "memory,ibverbs",
		.fabric = "h", .name = "c", .id = 3,
	};
	struct vrd_engine *engine = guest_engine(2, 50);
	struct vrd_error err;
	long fresh;
	struct mem_end c, d;
	bool good = true;

	memcpy(cfg.gid, null_gids[0], 16);
	c = (struct mem_end){ .g = guest_create(engine, &cfg) };
	cfg.name = "d";
	cfg.id = 4;
	memcpy(cfg.gid, null_gids[1], 16);
	d = (struct mem_end){ .g = guest_create(engine, &cfg) };
	end_of(&d);
	fresh = null_objects();
	for (unsigned int i = 0; i < 6 && good; i++) {
		struct mem_end x, z, u, s, y = d;
		struct guest_srq srq;

		end_of(&c);
		x = z = u = s = c;
		open_end(&x, VIRTIO_RDMA_QPT_RC);
		open_end(&y, VIRTIO_RDMA_QPT_RC);
		open_end(&z, VIRTIO_RDMA_QPT_RC);
		open_end(&u, VIRTIO_RDMA_QPT_UD);
		if (guest_srq_create(&c.ctx, c.pd, SRQ_ENTRIES, 1, &srq))
			guest_fatal("no SRQ");
		s.srq = &srq;
		open_end(&s, VIRTIO_RDMA_QPT_RC);
		connect_ends(&x, &y);
		bring_up(&z, NULL);
		bring_up(&u, NULL);
		bring_up(&s, NULL);
		for (uint32_t k = 0; k < 20; k++) {
			mem_recv(&u, TO, 1024);
			mem_post_srq(&s, k);
		}
		good = mem_carries(&x, &y, i) && mem_carries(&y, &x, i) && host_carries(&z) &&
		       arrives(&u, IBV_WC_SUCCESS, NULL, GRH + 8) &&
		       arrives(&s, IBV_WC_SUCCESS, NULL, 8);
		for (uint32_t k = 0; k < 40; k++) {
			struct mem_wr w = mem_wr(&y, &x, W, 100000), v = mem_wr(&z, &y, W, 64);

			mem_post(&y, &w);
			mem_post(&z, &v);
			mem_recv(&z, 0, 1024);
		}
		vrd_device_reset(c.g->dev);
		for (uint32_t k = 0, failed = 0; k < 40; k++) {
			int status = mem_status(&y.scq);

			good &= status == (failed ? WC(WR_FLUSH_ERR) : WC(RETRY_EXC_ERR)) ||
				(!failed && !status);
			failed |= status != 0;
		}
		mem_end_close(&y);
		good &= all_ended(c.g) && null_objects() == fresh;
		if (null_objects() != fresh)
			diag("%ld objects of the host, %ld were expected", null_objects(), fresh);
		for (unsigned int k = 0; k < c.g->num_vqs; k++)
			c.g->vqs[k].running = false;
		if (vrd_device_set_features(c.g->dev, vrd_device_features(c.g->dev) & (3ULL << 32 | VRD_DEVICE_FEATURES),
					    &err))
			guest_fatal("features: %s", err.msg);
		guest_start_queues(c.g);
		if (guest_init(c.g) || guest_add_gid(c.g, 0, c.g->gid))
			guest_fatal("INIT or ADD_GID");
	}
	ok(good, "a device is reset six times with QPs on all paths: the host keeps nothing");

	/* The device is destroyed with all its objects. */
	struct mem_end x, u;

	end_of(&c);
	x = u = c;
	open_end(&x, VIRTIO_RDMA_QPT_RC);
	open_end(&u, VIRTIO_RDMA_QPT_UD);
	bring_up(&x, NULL);
	bring_up(&u, NULL);
	mem_recv(&u, 0, 1024);
	guest_destroy(c.g);
	guest_destroy(d.g);
	vrd_engine_destroy(engine);
	is(null_objects(), 0, "a device that goes with its QPs leaves nothing");
}

int main(void)
{
	struct guest_srq srq;

	test_reset();
	paths_open(2, "f", "f");
	test_destroy(VIRTIO_RDMA_QPT_UD, NULL, "UD");
	test_destroy(VIRTIO_RDMA_QPT_RC, NULL, "RC");
	if (guest_srq_create(&p.a.ctx, p.a.pd, SRQ_ENTRIES, 1, &srq))
		guest_fatal("no SRQ");
	null_forgets = true;
	test_destroy(VIRTIO_RDMA_QPT_RC, &srq, "RC with an SRQ");
	if (guest_srq_destroy(&srq))
		guest_fatal("DESTROY_SRQ");
	test_suspend();
	mem_pair_close(&p);
	is(null_objects(), 0, "at the end the host has no object");
	return tap_done();
}
