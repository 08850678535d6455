// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Descriptors that a front end's client shares with the device: whatever it does
 * to the counter and to O_NONBLOCK, which belong to both, no poller, control
 * thread or front end blocks, and other guests are served.  Closing what a
 * client gave does not block either.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_ring.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mem_pair.h"
#include "shm.h"
#include "tap.h"

static struct mem_pair victim;
static struct guest *evil;
static struct guest_side side;
static _Atomic bool stop;

/* A thread that blocks for ever ends the test here. */
static void on_alarm(int sig)
{
	static const char text[] = "Bail out! a thread of the device is blocked\n";

	(void)sig;
	if (write(STDOUT_FILENO, text, sizeof(text) - 1))
		_exit(1);
	_exit(1);
}

static void open_guests(void)
{
	struct guest_config cfg = { .name = "evil", .fabric = "other", .id = 66,
				    .mem_size = 16 << 20, .host_mapped = MEM_HOST_MAPPED };

	/* One poller for all of them. */
	mem_pair_open(&victim, 1, 16 << 20);
	mem_pair_qps(&victim);
	mem_pair_connect(&victim);
	evil = guest_create(victim.engine, &cfg);
	guest_side_open(evil, 1 << 16, 1024, NULL, &side);
	if (guest_qp_connect(&side.qp, evil->gid, side.qp.qpn))
		guest_fatal("the evil guest's QP");
}

/* Writes of the neighbour that complete; the first that does not ends it. */
static unsigned int neighbour(unsigned int n)
{
	struct virtio_rdma_cqe cqe;
	unsigned int i;

	for (i = 0; i < n; i++) {
		guest_post_rdma(&victim.a.qp, VIRTIO_RDMA_WR_RDMA_WRITE, VIRTIO_RDMA_WQE_SIGNALED,
				victim.a.buf, 8, victim.a.mr.lkey,
				guest_addr(victim.b.g, victim.b.buf), victim.b.mr.rkey);
		if (!guest_poll_wait(&victim.a.scq, &cqe, MEM_WAIT_MS) || cqe.status)
			break;
	}
	return i;
}

/* One completion event of the evil guest, which its poller signals. */
static void evil_event(void)
{
	struct virtio_rdma_cqe cqe;

	while (guest_poll(&side.cq, &cqe))
		;
	guest_arm(&side.cq, false);
	guest_post_rdma(&side.qp, VIRTIO_RDMA_WR_RDMA_WRITE, VIRTIO_RDMA_WQE_SIGNALED, side.mem, 8,
			side.mr.lkey, guest_addr(evil, side.mem + 4096), side.mr.rkey);
	guest_poll_wait(&side.cq, &cqe, MEM_WAIT_MS);
}

/* Gives event buffers back without looking at the call descriptor. */
static void evil_drain(void)
{
	struct guest_vq *vq = &evil->vqs[VIRTIO_RDMA_VQ_COMP_BASE];
	struct guest_desc desc;
	uint32_t id, len;

	while (guest_vq_take(vq, &id, &len)) {
		desc = (struct guest_desc) { guest_addr(evil, vq->buf + id * vq->buf_size),
					     vq->buf_size, VRING_DESC_F_WRITE };
		guest_vq_add(vq, id, &desc, 1);
	}
}

static void set_blocking(int fd, bool blocking)
{
	int flags = fcntl(fd, F_GETFL);

	fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
}

/* The counter is full, and writing to it blocks. */
static void fill(int fd)
{
	const uint64_t full = UINT64_MAX - 1;
	uint64_t old;

	set_blocking(fd, false);
	if (read(fd, &old, sizeof(old)) < 0 && errno != EAGAIN)
		guest_fatal("read: %s", strerror(errno));
	if (write(fd, &full, sizeof(full)) < 0 && errno != EAGAIN)
		guest_fatal("write: %s", strerror(errno));
	set_blocking(fd, true);
}

static void empty(int fd)
{
	uint64_t count;

	set_blocking(fd, false);
	if (read(fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		guest_fatal("read: %s", strerror(errno));
}

static void full_call(void)
{
	int call = evil->vqs[VIRTIO_RDMA_VQ_COMP_BASE].call;
	uint64_t before;

	fill(call);
	before = guest_stat(evil, "interrupts");
	for (unsigned int i = 0; i < 20; i++) {
		evil_event();
		evil_drain();
	}
	ok(guest_stat_reaches(evil, "interrupts", before + 1, MEM_WAIT_MS),
	   "a poller signals a call eventfd that is full and blocking");
	is(neighbour(100), 100, "and serves the other guest");
	empty(call);
	evil_event();
	ok(guest_stat_reaches(evil, "interrupts", before + 2, MEM_WAIT_MS), "signals again");
	is(poll(&(struct pollfd) { .fd = call, .events = POLLIN }, 1, MEM_WAIT_MS), 1,
	   "and the signal arrives");
	empty(call);
	evil_drain();
}

/* Fills, empties, blocks and unblocks all the time. */
static void *flip_call(void *arg)
{
	int call = evil->vqs[VIRTIO_RDMA_VQ_COMP_BASE].call;

	(void)arg;
	while (!atomic_load(&stop)) {
		fill(call);
		set_blocking(call, false);
		set_blocking(call, true);
	}
	return NULL;
}

static void flipped_call(void)
{
	uint64_t end = guest_now_ns() + 1000000000ULL;
	unsigned int done = 0, wanted = 0;
	pthread_t t;

	atomic_store(&stop, false);
	pthread_create(&t, NULL, flip_call, NULL);
	while (guest_now_ns() < end && done == wanted) {
		evil_event();
		evil_drain();
		done += neighbour(10);
		wanted += 10;
	}
	atomic_store(&stop, true);
	pthread_join(t, NULL);
	is(done, wanted, "a client that changes counter and flag all the time: %u writes", done);
	empty(evil->vqs[VIRTIO_RDMA_VQ_COMP_BASE].call);
}

/* Takes the counter away between epoll_wait() and whatever follows. */
static void *flip_kick(void *arg)
{
	int kick = evil->vqs[VIRTIO_RDMA_VQ_EVENT].kick;
	uint64_t count;

	(void)arg;
	while (!atomic_load(&stop)) {
		const uint64_t one = 1;

		if (write(kick, &one, sizeof(one)) < 0)
			continue;
		set_blocking(kick, false);
		if (read(kick, &count, sizeof(count)) < 0)
			continue;
		set_blocking(kick, true);
	}
	return NULL;
}

static uint32_t query(struct guest *g)
{
	struct virtio_rdma_query_stats_req req = { { 0 } };
	struct virtio_rdma_query_stats_rsp rsp;

	return guest_command(g, VIRTIO_RDMA_CMD_QUERY_STATS, &req, &rsp);
}

static void flipped_kick(void)
{
	uint64_t end = guest_now_ns() + 1000000000ULL;
	unsigned int good = 0, n = 0;
	pthread_t t;

	atomic_store(&stop, false);
	pthread_create(&t, NULL, flip_kick, NULL);
	for (; guest_now_ns() < end; n++)
		good += !query(evil);
	atomic_store(&stop, true);
	pthread_join(t, NULL);
	ok(good == n && n, "a kick eventfd that is emptied and made to block: %u commands", n);
	set_blocking(evil->vqs[VIRTIO_RDMA_VQ_EVENT].kick, false);
}

static void full_control_call(void)
{
	struct guest_vq *vq = &evil->vqs[VIRTIO_RDMA_VQ_CONTROL];
	struct virtio_rdma_cmd_hdr req = { .opcode = htole32(VIRTIO_RDMA_CMD_QUERY_STATS) };
	uint64_t end = guest_now_ns() + MEM_WAIT_MS * 1000000ULL;
	struct guest_desc desc[2] = {
		{ guest_addr(evil, evil->cmd_req), sizeof(req), 0 },
		{ guest_addr(evil, evil->cmd_rsp), sizeof(struct virtio_rdma_query_stats_rsp),
		  VRING_DESC_F_WRITE },
	};
	uint32_t id, len;
	bool done = true;

	fill(vq->call);
	memcpy(evil->cmd_req, &req, sizeof(req));
	for (unsigned int i = 0; i < 3 && done; i++) {
		guest_vq_add(vq, 0, desc, 2);
		guest_vq_kick(vq);
		while (!(done = guest_vq_take(vq, &id, &len)) && guest_now_ns() < end)
			usleep(100);
	}
	ok(done, "the control thread answers although its call eventfd is full and blocking");
	vrd_device_vq_set_call(evil->dev, VIRTIO_RDMA_VQ_CONTROL, vq->call);
	ok(true, "and the front end can set it again, which signals it");
	empty(vq->call);
}

/* What is no eventfd at all. */
static void strange_call(void)
{
	struct guest_vq *vq = &evil->vqs[VIRTIO_RDMA_VQ_COMP_BASE];
	char full[4096] = "";
	int p[2];

	if (pipe(p))
		guest_fatal("pipe: %s", strerror(errno));
	set_blocking(p[1], false);
	while (write(p[1], full, sizeof(full)) > 0)
		;
	set_blocking(p[1], true);
	vrd_device_vq_set_call(evil->dev, VIRTIO_RDMA_VQ_COMP_BASE, p[1]);
	evil_event();
	evil_drain();
	is(neighbour(100), 100, "a full pipe as call descriptor");
	vrd_device_vq_set_call(evil->dev, VIRTIO_RDMA_VQ_COMP_BASE, vq->call);
	close(p[0]);
	close(p[1]);
	evil_drain();
	empty(vq->call);
}

/* A TCP socket whose close() waits 8 seconds for its peer; -1: no network. */
static int lingering_socket(int *peer)
{
	const struct linger linger = { 1, 8 };
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sin);
	static char data[65536];
	int l, fd;

	l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (l < 0 || fd < 0 || bind(l, (void *)&sin, sizeof(sin)) || listen(l, 1) ||
	    getsockname(l, (void *)&sin, &len) || connect(fd, (void *)&sin, sizeof(sin)))
		return -1;
	*peer = accept(l, NULL, NULL);
	close(l);
	if (*peer < 0 || setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)))
		return -1;
	while (send(fd, data, sizeof(data), MSG_DONTWAIT) > 0)
		;
	return fd;
}

static void pass(int socket, int fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec iov = { "x", 1 };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			     .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&mh);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (sendmsg(socket, &mh, 0) != 1)
		guest_fatal("sendmsg: %s", strerror(errno));
}

static void slow_close(void)
{
	int call = evil->vqs[VIRTIO_RDMA_VQ_COMP_BASE].call, sv[2], peer, slow;
	uint64_t begin;

	slow = lingering_socket(&peer);
	if (slow < 0) {
		ok(true, "a slow close # SKIP there is no loopback network");
		return;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv))
		guest_fatal("socketpair: %s", strerror(errno));
	vrd_device_vq_set_call(evil->dev, VIRTIO_RDMA_VQ_COMP_BASE, sv[1]);
	pass(sv[0], slow);
	/* The device has the last descriptor of both sockets now. */
	close(slow);
	close(sv[1]);
	close(sv[0]);
	begin = guest_now_ns();
	vrd_device_vq_set_call(evil->dev, VIRTIO_RDMA_VQ_COMP_BASE, call);
	ok(guest_now_ns() - begin < 4000000000ULL,
	   "a call socket whose close() takes 8 seconds is let go at once");
	ok(vrd_device_pending_closes(evil->dev) == 1, "and counted until it is closed");
	close(peer);
	empty(call);
}

int main(void)
{
	signal(SIGALRM, on_alarm);
	signal(SIGPIPE, SIG_IGN);
	alarm(300);
	open_guests();
	is(neighbour(10), 10, "two guests on one poller");
	full_call();
	flipped_call();
	flipped_kick();
	full_control_call();
	strange_call();
	slow_close();
	fill(evil->vqs[VIRTIO_RDMA_VQ_COMP_BASE].call);
	guest_side_close(&side);
	guest_destroy(evil);
	ok(true, "the device is destroyed with a full and blocking call eventfd");
	mem_pair_drop_qps(&victim);
	mem_pair_close(&victim);
	return tap_done();
}
