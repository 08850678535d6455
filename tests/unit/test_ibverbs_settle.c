// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The host's RDMA stack does not give memory back (tests/null): a reset and another memory
 * table do not wait for it, the device has not settled until it does, and vrdmad holds only
 * the client whose device it is.
 */
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mem_pair.h"
#include "null_verbs.h"
#include "tap.h"
#include "vrdmad/conn.h"

#define QUIET_MS	50
/* A call that waits for the host takes VRD_SETTLE_MS. */
#define SOON_NS		(VRD_SETTLE_MS * 1000000ULL / 2)

static struct mem_pair p;
static struct guest_config config = { .ibdev = NULL_IBDEV, .host_mapped = MEM_HOST_MAPPED };

static bool readable(int fd, int timeout_ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	return poll(&pfd, 1, timeout_ms) == 1;
}

static void drain_settled(struct vrd_device *dev)
{
	uint64_t count;

	while (read(vrd_device_settled_fd(dev), &count, sizeof(count)) > 0)
		;
}

/* ---- the core --------------------------------------------------------------------- */

/* A memory table without the buffer of @end. */
static int take_memory(struct mem_end *end)
{
	struct guest *g = end->g;
	uint64_t from = end->buf - g->mem, to = from + MEM_BUF;
	struct vrd_mem_region region[2] = {
		{ .addr = g->base, .size = from, .fd = g->memfd,
		  .host = config.host_mapped ? g->mem : NULL },
		{ .addr = g->base + to, .size = g->cfg.mem_size - to, .fd = g->memfd,
		  .fd_offset = to, .host = config.host_mapped ? g->mem + to : NULL },
	};

	return vrd_device_set_mem_table(g->dev, region, 2, NULL);
}

static _Atomic bool answered;

static void *dereg(void *arg)
{
	struct mem_end *end = arg;

	if (guest_mr_dereg(&end->mr))
		guest_fatal("DEREG_MR");
	atomic_store(&answered, true);
	return NULL;
}

static void test_table(void)
{
	struct mem_end end = { .g = guest_create(p.engine, &config) };
	struct guest_ctx ctx;
	pthread_t thread;
	uint64_t start;
	uint32_t pd;

	mem_end_setup(&end);
	drain_settled(end.g->dev);
	null_hold(NULL_DEREG_MR, 0);
	pthread_create(&thread, NULL, dereg, &end);
	ok(null_held_reaches(NULL_DEREG_MR, 1) && vrd_device_settle(end.g->dev, 0),
	   "the device is settled while the guest deregisters a region");
	null_release(NULL_DEREG_MR);
	pthread_join(thread, NULL);
	if (guest_mr_reg(end.g, end.pd, end.buf, MEM_BUF, MEM_ALL_ACCESS, &end.mr))
		guest_fatal("REG_MR");

	null_hold(NULL_DEREG_MR, 0);
	start = guest_now_ns();
	is(take_memory(&end), 0, "a memory table without the pages of a region");
	ok(guest_now_ns() - start < SOON_NS, "does not wait for the host");
	ok(null_held_reaches(NULL_DEREG_MR, 1), "whose deregistration has begun");
	ok(!vrd_device_settle(end.g->dev, 0) && !readable(vrd_device_settled_fd(end.g->dev), 0),
	   "the device has not settled");
	ok(!guest_ctx_create(end.g, 0, &ctx) && !guest_pd_alloc(&ctx, &pd),
	   "other commands are served");
	is(take_memory(&end), 0, "the same table again");
	guest_set_memory(end.g);
	ok(null_held(NULL_DEREG_MR) == 1, "no region is deregistered twice");

	atomic_store(&answered, false);
	pthread_create(&thread, NULL, dereg, &end);
	usleep(QUIET_MS * 1000);
	ok(!atomic_load(&answered), "DEREG_MR waits for the host");
	null_release(NULL_DEREG_MR);
	pthread_join(thread, NULL);
	ok(atomic_load(&answered), "and is answered when it has ended");
	ok(vrd_device_settle(end.g->dev, 5000) && readable(vrd_device_settled_fd(end.g->dev), 5000),
	   "the device settles");
	guest_destroy(end.g);
}

static void test_reset(void)
{
	struct mem_end end = { .g = guest_create(p.engine, &config) };
	long before = null_objects();
	uint64_t start;

	mem_end_setup(&end);
	drain_settled(end.g->dev);
	null_hold(NULL_DEREG_MR, 0);
	start = guest_now_ns();
	vrd_device_reset(end.g->dev);
	ok(guest_now_ns() - start < SOON_NS, "a reset does not wait for the host");
	ok(!vrd_device_settle(end.g->dev, 0), "the device has not settled");
	ok(!vrd_device_settle(end.g->dev, 20), "nor a little later");
	null_release(NULL_DEREG_MR);
	ok(vrd_device_settle(end.g->dev, 5000) && readable(vrd_device_settled_fd(end.g->dev), 5000),
	   "it settles when the host answers");
	ok(null_objects_reach(before), "and all objects of the host are given back");
	guest_destroy(end.g);
}

/* ---- vrdmad --------------------------------------------------------------------------- */

struct client {
	struct guest *g;
	struct vrdmad_socket_options opt;
	struct vrdmad_ratelimit rl;
	struct vrdmad_session session;
	struct vrdmad_conn conn;
	int fd;
	bool lost;
};

static struct vrdmad_log quiet;
static struct client *clients[2];

static void conn_lost(struct vrdmad_conn *conn)
{
	struct client *c = vrdmad_container_of(conn, struct client, conn);

	c->lost = true;
	vrdmad_conn_close(conn);
	vrdmad_session_reset(&c->session);
}

static void client_connect(struct client *c, struct vrdmad_loop *loop)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) ||
	    vrdmad_conn_open(&c->conn, loop, &c->session, fds[0], conn_lost))
		guest_fatal("no connection");
	c->fd = fds[1];
	c->session.protocol_features = UINT64_MAX;	/* negotiated */
	c->lost = false;
}

static void client_open(struct client *c, struct vrdmad_loop *loop, const char *name)
{
	memset(c, 0, sizeof(*c));
	snprintf(c->opt.name, sizeof(c->opt.name), "%s", name);
	c->g = guest_create(p.engine, &config);
	vrdmad_session_init(&c->session, c->g->dev, &c->opt, &quiet, &c->rl);
	client_connect(c, loop);
}

/* Runs the loop until there is something to read for @c, or @timeout_ms have passed. */
static bool runs_until_reply(struct vrdmad_loop *loop, struct client *c, int timeout_ms)
{
	for (uint64_t end = guest_now_ns() + timeout_ms * 1000000ULL;
	     !readable(c->fd, 0) && !c->lost;) {
		struct epoll_event event;
		struct vrdmad_source *src;

		if (guest_now_ns() > end)
			return false;
		if (epoll_wait(loop->epfd, &event, 1, 1) != 1) {
			for (unsigned int i = 0; i < 2; i++)
				vrdmad_conn_check_deadline(&clients[i]->conn, vrdmad_now_ms());
			continue;
		}
		src = event.data.ptr;
		src->ready(src, event.events);
	}
	return !c->lost;
}

static void request(struct client *c, uint32_t what)
{
	struct vu_header hdr = { .request = what, .flags = VU_VERSION };

	if (write(c->fd, &hdr, sizeof(hdr)) != sizeof(hdr))
		guest_fatal("the client cannot write");
}

static bool reply(struct client *c, uint32_t what)
{
	struct __attribute__((packed)) { struct vu_header hdr; uint64_t value; } r;

	return read(c->fd, &r, sizeof(r)) == sizeof(r) && r.hdr.request == what;
}

static void test_vrdmad(void)
{
	static struct client a, b;
	struct mem_end end = { 0 };
	struct vrdmad_loop loop;
	uint64_t start;

	vrdmad_log_init(&quiet, VRD_LOG_ERROR);
	if (vrdmad_loop_open(&loop))
		guest_fatal("no loop");
	clients[0] = &a;
	clients[1] = &b;
	config.id = 5;
	client_open(&a, &loop, "a");
	config.id = 6;
	memcpy(config.gid, null_gids[0], 16);
	client_open(&b, &loop, "b");

	end.g = a.g;
	mem_end_setup(&end);
	drain_settled(a.g->dev);
	null_hold(NULL_DEREG_MR, 0);
	request(&a, VU_RESET_DEVICE);
	request(&a, VU_GET_QUEUE_NUM);
	ok(!runs_until_reply(&loop, &a, QUIET_MS) && !a.lost, "a client that resets its device is held");
	request(&b, VU_GET_QUEUE_NUM);
	ok(runs_until_reply(&loop, &b, 1000) && reply(&b, VU_GET_QUEUE_NUM),
	   "another one is served meanwhile");
	null_release(NULL_DEREG_MR);
	ok(readable(vrd_device_settled_fd(a.g->dev), 5000), "the host answers");
	vrdmad_conn_settled(&a.conn);
	ok(runs_until_reply(&loop, &a, 1000) && reply(&a, VU_GET_QUEUE_NUM), "the client is released");

	/* A host that does not answer at all. */
	guest_start_queues(a.g);
	if (guest_init(a.g))
		guest_fatal("INIT");
	mem_end_setup(&end);
	null_hold(NULL_DEREG_MR, 0);
	start = guest_now_ns();
	request(&a, VU_RESET_DEVICE);
	request(&a, VU_GET_QUEUE_NUM);
	ok(runs_until_reply(&loop, &a, 4 * VRD_SETTLE_MS) && reply(&a, VU_GET_QUEUE_NUM) &&
	   /* vrdmad's clock has whole milliseconds. */
	   guest_now_ns() - start >= (VRD_SETTLE_MS - 1) * 1000000ULL,
	   "a client is held for a limited time");

	/* A client that hangs up, and the next one of the same guest. */
	request(&a, VU_RESET_DEVICE);
	runs_until_reply(&loop, &a, QUIET_MS);
	shutdown(a.fd, SHUT_RDWR);
	close(a.fd);
	a.fd = -1;
	for (int i = 0; i < 1000 && !a.lost; i++)
		runs_until_reply(&loop, &b, 1);
	ok(a.lost, "the end of a client that is held is noticed");
	client_connect(&a, &loop);
	request(&a, VU_GET_QUEUE_NUM);
	ok(!runs_until_reply(&loop, &a, QUIET_MS) && !a.lost, "the next client is held at once");
	null_release(NULL_DEREG_MR);
	ok(vrd_device_settle(a.g->dev, 5000), "the host answers late");
	vrdmad_conn_settled(&a.conn);
	ok(runs_until_reply(&loop, &a, 1000) && reply(&a, VU_GET_QUEUE_NUM), "and the client is served");

	for (unsigned int i = 0; i < 2; i++) {
		vrdmad_conn_close(&clients[i]->conn);
		vrdmad_session_reset(&clients[i]->session);
		close(clients[i]->fd);
		guest_destroy(clients[i]->g);
	}
	vrdmad_loop_close(&loop);
}

int main(void)
{
	memcpy(config.gid, null_gids[1], 16);
	config.id = 4;
	p.engine = guest_engine(1, 50);
	test_table();
	test_reset();
	test_vrdmad();
	vrd_engine_destroy(p.engine);
	return tap_done();
}
