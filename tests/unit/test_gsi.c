// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * QP 1 of devices on the host's fabric, and the MAD channel: two engines represent two
 * hosts, with addresses of one private network.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gsi_guest.h"
#include "mad/mad_channel.h"
#include "tap.h"
#include "vrd_mad.h"

#define KEY		"a key that both hosts have, of more than 32 bytes\n"
#define HOST_A1		"10.77.0.1"
#define HOST_A2		"10.77.0.2"
#define HOST_B1		"10.77.1.1"
#define HOST_B2		"10.77.1.2"
#define NO_DAEMON	"10.77.2.1"
#define STRANGER	"10.77.3.1"
#define V6_A		"fd77::1"
#define V6_B		"fd77::2"
#define MAD_PORT	17
#define SOME		200

static const char *const addresses[] = {
	HOST_A1, HOST_A2, HOST_B1, HOST_B2, NO_DAEMON, STRANGER, V6_A, V6_B,
};
static const char *key_file, *other_key;

struct host {
	struct vrd_engine *engine;
	struct gsi_guest g1, g2;
};

static struct host a, b;

static struct vrd_engine *engine_at(const char *address, const char *key)
{
	struct vrd_engine *engine = guest_engine(1, 0);
	struct vrd_mad_options opts = { .key_file = key, .port = MAD_PORT, .listen = address };
	struct vrd_mad_setup *setup;
	struct vrd_error err = { "", "" };

	if (vrd_mad_setup(&opts, &setup, &err) || vrd_mads_start(engine, setup, &err))
		guest_fatal("no channel: %s (%s)", err.msg, err.hint);
	return engine;
}

/* Waits until a counter has this value. */
static bool becomes(struct gsi_guest *gg, const char *name, uint64_t value)
{
	for (int ms = 0; ms < GSI_WAIT_MS; ms++) {
		if (gsi_stat(gg, name) == value)
			return true;
		usleep(1000);
	}
	diag("%s is %llu", name, (unsigned long long)gsi_stat(gg, name));
	return false;
}

static bool engine_becomes(struct vrd_engine *engine, const char *name, uint64_t value)
{
	for (int ms = 0; ms < GSI_WAIT_MS; ms++) {
		if (gsi_engine_stat(engine, name) == value)
			return true;
		usleep(1000);
	}
	diag("%s is %llu", name, (unsigned long long)gsi_engine_stat(engine, name));
	return false;
}

/* ---- one host ------------------------------------------------------------------- */

static void test_local(void)
{
	struct virtio_rdma_cqe cqe;
	const uint8_t *p, *ip;
	uint32_t sum = 0;

	is(gsi_send(&a.g1, 1, a.g2.gid, 1), 0, "a MAD to another guest of the host");
	p = gsi_recv(&a.g2, &cqe, GSI_WAIT_MS);
	ok(p && !cqe.status && cqe.opcode == VIRTIO_RDMA_WC_RECV && le32toh(cqe.qpn) == 1 &&
	   cqe.flags == (VIRTIO_RDMA_CQE_GRH | VIRTIO_RDMA_CQE_IPV4) && cqe.sl == 3 &&
	   le32toh(cqe.src_qp) == 1 && le32toh(cqe.byte_len) == GSI_RECV_LEN,
	   "its receive");
	ip = p ? p + 20 : (const uint8_t *)"";
	for (int i = 0; i < 20; i += 2)
		sum += ip[i] << 8 | ip[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	ok(ip[0] == 0x45 && ip[1] == 0x18 && ip[8] == 61 && !memcmp(ip + 12, a.g1.gid + 12, 4) &&
	   !memcmp(ip + 16, a.g2.gid + 12, 4) && sum == 0xffff, "with an IPv4 header");
	is(gsi_send(&a.g1, 0, a.g2.g->gid, 2), 0, "to a link-local GID");
	p = gsi_recv(&a.g2, &cqe, GSI_WAIT_MS);
	ok(p && cqe.flags == VIRTIO_RDMA_CQE_GRH && p[0] == 0x61 && p[1] == 0x81 && p[2] == 0x23 &&
	   p[7] == 61 && !memcmp(p + 8, a.g1.g->gid, 16) && !memcmp(p + 24, a.g2.g->gid, 16),
	   "with an IPv6 header");
	ok(gsi_send(&a.g1, 1, a.g1.gid, 3) == 0 && gsi_got(&a.g1, 3, a.g1.gid, GSI_WAIT_MS),
	   "and to itself");
	ok(gsi_stat(&a.g1, "mads_sent") == 3 && gsi_stat(&a.g1, "mads_local") == 3 &&
	   gsi_stat(&a.g2, "mads_received") == 2, "all are counted");
}

/* In ERR or SQE: to RESET and back to RTS. */
static void restart_qp(struct gsi_guest *gg)
{
	struct virtio_rdma_qp_attr attr = { .state = VIRTIO_RDMA_QPS_RTS, .cur_state = VIRTIO_RDMA_QPS_SQE };

	if (guest_qp_modify(&gg->qp, VIRTIO_RDMA_QP_STATE | VIRTIO_RDMA_QP_CUR_STATE, &attr))
		guest_fatal("QP 1 does not leave SQE");
}

static void test_bad_sends(void)
{
	uint8_t mad[512] = { 0 };
	struct virtio_rdma_cqe cqe;
	uint64_t before = gsi_stat(&a.g2, "mads_received");
	struct virtio_rdma_av av = { .pd = htole32(a.g1.pd), .dqpn = htole32(1), .sgid_index = 1,
				     .qkey = htole32(0x1234) };
	struct guest_sge sge = { a.g1.mr.iova, VRD_MAD_LEN, a.g1.mr.lkey };
	struct guest_wr wr = { .opcode = VIRTIO_RDMA_WR_SEND, .flags = VIRTIO_RDMA_WQE_SIGNALED,
			       .num_sge = 1, .sge = &sge, .av = &av };

	is(gsi_send(&a.g1, 7, a.g2.gid, 1), VIRTIO_RDMA_WC_LOC_QP_OP_ERR,
	   "a source GID that is not in its table");
	is(guest_qp_state(&a.g1.qp), VIRTIO_RDMA_QPS_SQE, "stops sending");
	is(gsi_send(&a.g1, 1, a.g2.gid, 1), VIRTIO_RDMA_WC_WR_FLUSH_ERR, "until it is restarted");
	restart_qp(&a.g1);
	for (uint32_t len = 0; len < 512; len += 255) {
		gsi_post(&a.g1, 1, a.g2.gid, mad, len);
		ok(guest_poll_wait(&a.g1.scq, &cqe, GSI_WAIT_MS) &&
		   cqe.status == VIRTIO_RDMA_WC_LOC_LEN_ERR, "%u bytes are no MAD", len);
		restart_qp(&a.g1);
	}
	memcpy(av.dgid, a.g2.gid, 16);
	guest_post_send(&a.g1.qp, &wr);
	ok(guest_poll_wait(&a.g1.scq, &cqe, GSI_WAIT_MS) && !cqe.status,
	   "a Q_Key that is not QP 1's is sent");
	av.qkey = htole32(GSI_QKEY);
	av.dqpn = htole32(2);
	guest_post_send(&a.g1.qp, &wr);
	ok(guest_poll_wait(&a.g1.scq, &cqe, GSI_WAIT_MS) && !cqe.status, "and so is another QP");
	av.dqpn = htole32(1);
	av.pd = htole32(a.g1.pd + 1);
	guest_post_send(&a.g1.qp, &wr);
	ok(guest_poll_wait(&a.g1.scq, &cqe, GSI_WAIT_MS) &&
	   cqe.status == VIRTIO_RDMA_WC_LOC_QP_OP_ERR, "an address vector of another PD is not");
	restart_qp(&a.g1);
	sge.lkey ^= 0x100;
	av.pd = htole32(a.g1.pd);
	guest_post_send(&a.g1.qp, &wr);
	ok(guest_poll_wait(&a.g1.scq, &cqe, GSI_WAIT_MS) &&
	   cqe.status == VIRTIO_RDMA_WC_LOC_PROT_ERR, "nor a key of nobody");
	restart_qp(&a.g1);
	is(gsi_stat(&a.g2, "mads_received"), before, "nothing of that arrived");
	is(gsi_stat(&a.g1, "mads_dropped_route"), 2, "two were dropped");
}

/* More MADs than the inbox holds while the receiver is paused; and without receives. */
static void test_flood(void)
{
	struct virtio_rdma_cqe cqe;
	unsigned int got = 0;

	guest_stop_queues(a.g2.g);
	for (unsigned int i = 0; i < SOME; i++)
		gsi_send(&a.g1, 1, a.g2.gid, i);
	guest_start_queues(a.g2.g);
	while (gsi_recv(&a.g2, &cqe, got == VRD_GSI_INBOX ? 30 : 1000))
		got++;
	is(got, VRD_GSI_INBOX, "a paused guest gets what its inbox holds");
	is(gsi_stat(&a.g2, "mads_dropped_full"), SOME - VRD_GSI_INBOX, "the rest is dropped");
	for (unsigned int i = 0; i < got; i++)
		gsi_post_recv(&a.g2, GSI_RECV_LEN);

	/* The long-term rate is 4096 a second; 1024 may come at once. */
	for (unsigned int i = 0; i < 3000; i++) {
		uint8_t mad[VRD_MAD_LEN] = { 0 };

		gsi_post(&a.g1, 1, a.g1.gid, mad, sizeof(mad));
	}
	for (unsigned int i = 0; i < 3000; i++)
		if (!guest_poll_wait(&a.g1.scq, &cqe, GSI_WAIT_MS) || cqe.status)
			guest_fatal("a send fails");
	ok(gsi_stat(&a.g1, "mads_dropped_quota") > 0, "a flood exceeds the quota, and sends succeed");
	while (gsi_recv(&a.g1, &cqe, 50))
		gsi_post_recv(&a.g1, GSI_RECV_LEN);
	usleep(300000);
	ok(gsi_send(&a.g2, 1, a.g1.gid, 77) == 0 && gsi_got(&a.g1, 77, a.g2.gid, GSI_WAIT_MS),
	   "others are not hindered");
	gsi_post_recv(&a.g1, GSI_RECV_LEN);
	ok(gsi_send(&a.g1, 1, a.g2.gid, 78) == 0 && gsi_got(&a.g2, 78, a.g1.gid, GSI_WAIT_MS),
	   "and itself may send again");
	gsi_post_recv(&a.g2, GSI_RECV_LEN);
}

static void test_receives(void)
{
	struct gsi_guest c;
	struct virtio_rdma_cqe cqe;

	gsi_guest_open(&c, a.engine, 9, "default", "10.77.9.9", 0);
	gsi_send(&a.g1, 1, c.gid, 1);
	ok(becomes(&c, "mads_dropped_recv", 1), "without a receive a MAD is lost");
	gsi_post_recv(&c, GSI_RECV_LEN - 1);
	gsi_send(&a.g1, 1, c.gid, 2);
	ok(becomes(&c, "mads_dropped_recv", 2), "so it is if the receive is too short");
	ok(!gsi_recv(&c, &cqe, 30), "and the receive stays");
	guest_qp_reset(&c.qp);
	gsi_send(&a.g1, 1, c.gid, 3);
	ok(becomes(&c, "mads_dropped_recv", 3), "in RESET nothing is received");
	is(guest_qp_destroy(&c.qp), 0, "QP 1 goes");
	gsi_send(&a.g1, 1, c.gid, 4);
	ok(becomes(&c, "mads_dropped_recv", 4), "and then nothing is received either");
	gsi_guest_close(&c);

	gsi_guest_open(&c, a.engine, 9, "another", "10.77.9.9", 4);
	gsi_send(&a.g1, 1, c.gid, 1);
	ok(!gsi_recv(&c, &cqe, 50), "guests of another fabric are not reached");
	is(guest_add_gid(c.g, 2, a.g1.gid), VIRTIO_RDMA_S_EXIST, "nor can one take their GIDs");
	gsi_guest_close(&c);
}

/* A receive fails while more MADs wait: those get no receive, which are flushed. */
static void test_receive_fails(void)
{
	struct gsi_guest c;
	struct virtio_rdma_cqe cqe;
	struct guest_sge bad;

	gsi_guest_open(&c, a.engine, 9, "default", "10.77.9.9", 0);
	bad = (struct guest_sge){ c.mr.iova, GSI_RECV_LEN, c.mr.lkey ^ 0x100 };
	guest_post_recv(&c.qp, &bad, 1);
	gsi_post_recv(&c, GSI_RECV_LEN);
	guest_stop_queues(c.g);
	gsi_send(&a.g1, 1, c.gid, 1);
	gsi_send(&a.g1, 1, c.gid, 2);
	guest_start_queues(c.g);
	ok(guest_poll_wait(&c.rcq, &cqe, GSI_WAIT_MS) &&
	   cqe.status == VIRTIO_RDMA_WC_LOC_PROT_ERR, "a bad receive fails");
	ok(guest_poll_wait(&c.rcq, &cqe, GSI_WAIT_MS) &&
	   cqe.status == VIRTIO_RDMA_WC_WR_FLUSH_ERR, "the next is flushed, although a MAD waited");
	is(guest_qp_state(&c.qp), VIRTIO_RDMA_QPS_ERR, "QP 1 is in ERR");
	gsi_guest_close(&c);
}

/* ---- two hosts -------------------------------------------------------------------- */

static void test_channel(void)
{
	uint64_t got = gsi_stat(&b.g1, "mads_received");
	bool all = true;

	is(gsi_send(&a.g1, 1, b.g1.gid, 10), 0, "a MAD to a guest of another host");
	ok(gsi_got(&b.g1, 10, a.g1.gid, GSI_WAIT_MS), "arrives");
	ok(gsi_send(&b.g1, 1, a.g1.gid, 11) == 0 && gsi_got(&a.g1, 11, b.g1.gid, GSI_WAIT_MS),
	   "and one back");
	ok(gsi_stat(&a.g1, "mads_channel_sent") == 1 && gsi_stat(&b.g1, "mads_channel_received") == 1,
	   "through the channel");
	is(gsi_engine_stat(a.engine, "mad_connected") + gsi_engine_stat(b.engine, "mad_connected"), 1,
	   "over one connection");
	for (unsigned int i = 0; i < 100; i++) {
		gsi_send(&a.g1, 1, b.g1.gid, i);
		all &= gsi_got(&b.g1, i, a.g1.gid, GSI_WAIT_MS);
		gsi_post_recv(&b.g1, GSI_RECV_LEN);
	}
	ok(all && gsi_stat(&b.g1, "mads_received") == got + 101, "a hundred more, in order");
	ok(gsi_send(&a.g2, 1, b.g2.gid, 12) == 0 && gsi_got(&b.g2, 12, a.g2.gid, GSI_WAIT_MS),
	   "other guests have a connection of their own");
	is(gsi_engine_stat(a.engine, "mad_peers"), 2, "two peers");
}

/* One guest uses more addresses than the channel remembers. */
static void test_addresses(void)
{
	uint64_t dropped = gsi_stat(&a.g2, "mads_dropped_route");
	uint64_t peers = gsi_engine_stat(a.engine, "mad_peers");
	bool all = true;
	uint8_t gid[16];

	gsi_gid(gid, "10.88.0.0");
	for (unsigned int i = 0; i < VRD_MAD_MAX_CONNS + 64 && all; i++) {
		gid[14] = i / 250;
		gid[15] = 1 + i % 250;
		/* From an address that the host does not have: no daemon is contacted. */
		gsi_send(&a.g2, 0, gid, i);
		all = becomes(&a.g2, "mads_dropped_route", ++dropped);
	}
	ok(all, "MADs to very many addresses that nobody serves are dropped");
	is(gsi_engine_stat(a.engine, "mad_peers"), peers, "and the connections of others stay");
}

/* The maximum number that a guest has in flight, all at once, before a connection exists. */
static void test_burst(void)
{
	uint8_t mad[VRD_MAD_LEN];
	struct virtio_rdma_cqe cqe;
	unsigned int got = 0;

	for (unsigned int i = 0; i < VRD_MAD_MAX_PENDING; i++) {
		gsi_fill(mad, i);
		gsi_post(&a.g1, 1, b.g2.gid, mad, sizeof(mad));
	}
	while (gsi_recv(&b.g2, &cqe, got < VRD_MAD_MAX_PENDING ? GSI_WAIT_MS : 30))
		got++;
	is(got, VRD_MAD_MAX_PENDING, "MADs wait for their connection");
	while (guest_poll_wait(&a.g1.scq, &cqe, 100))
		;
	while (got--)
		gsi_post_recv(&b.g2, GSI_RECV_LEN);
}

static void test_unserved(void)
{
	struct virtio_rdma_cqe cqe;
	uint64_t dropped = gsi_stat(&a.g1, "mads_dropped_route");
	uint8_t gid[16];

	gsi_gid(gid, NO_DAEMON);
	is(gsi_send(&a.g1, 1, gid, 1), 0, "to an address without a daemon");
	ok(becomes(&a.g1, "mads_dropped_route", dropped + 1), "is dropped");
	gsi_send(&a.g1, 1, gid, 1);
	ok(becomes(&a.g1, "mads_dropped_route", dropped + 2), "and the next without asking");
	gsi_gid(gid, "127.0.0.1");
	gsi_send(&a.g1, 1, gid, 1);
	ok(becomes(&a.g1, "mads_dropped_route", dropped + 3), "so is one to the loopback address");
	gsi_gid(gid, "224.0.0.1");
	gsi_send(&a.g1, 1, gid, 1);
	ok(becomes(&a.g1, "mads_dropped_route", dropped + 4), "and to a multicast one");

	/* The daemon exists, but the guest's GID does not. */
	guest_del_gid(b.g1.g, 1);
	gsi_send(&a.g1, 1, b.g1.gid, 5);
	ok(!gsi_recv(&b.g1, &cqe, 50), "a guest without the GID gets nothing");
	/*
	 * The connection ended; the next attempt learns that no guest has the GID, and
	 * remembers it for 5 s.
	 */
	ok(engine_becomes(a.engine, "mad_peers", 2), "its connection has ended");
	gsi_send(&a.g1, 1, b.g1.gid, 6);
	ok(becomes(&a.g1, "mads_dropped_route", dropped + 5), "a new one says that it is not served");
	guest_add_gid(b.g1.g, 1, b.g1.gid);
	ok(gsi_send(&b.g1, 1, a.g1.gid, 7) == 0 && gsi_got(&a.g1, 7, b.g1.gid, GSI_WAIT_MS),
	   "the other direction works at once");
	gsi_post_recv(&a.g1, GSI_RECV_LEN);
	ok(gsi_send(&a.g1, 1, b.g1.gid, 8) == 0 && gsi_got(&b.g1, 8, a.g1.gid, GSI_WAIT_MS),
	   "and with its connection this one");
	gsi_post_recv(&b.g1, GSI_RECV_LEN);
}

/* The other host's daemon stops and starts again. */
static void test_restart(void)
{
	bool arrived = false;

	gsi_guest_close(&b.g1);
	gsi_guest_close(&b.g2);
	vrd_engine_destroy(b.engine);
	ok(engine_becomes(a.engine, "mad_peers", 0), "a daemon that dies is missed");
	b.engine = engine_at(HOST_B1, key_file);
	gsi_guest_open(&b.g1, b.engine, 3, "default", HOST_B1, 900);
	for (unsigned int i = 0; i < 20 && !arrived; i++) {
		gsi_send(&a.g1, 1, b.g1.gid, 40);
		arrived = gsi_got(&b.g1, 40, a.g1.gid, 500);
	}
	ok(arrived, "one that came back is found again");
}

static void test_other_key(void)
{
	struct vrd_engine *engine = engine_at(HOST_B2, other_key);
	uint64_t dropped = gsi_stat(&a.g1, "mads_dropped_route");
	uint64_t failed = gsi_engine_stat(a.engine, "mad_auth_failed");
	struct virtio_rdma_cqe cqe;

	gsi_guest_open(&b.g2, engine, 4, "default", HOST_B2, 4);
	gsi_send(&a.g1, 1, b.g2.gid, 1);
	ok(becomes(&a.g1, "mads_dropped_route", dropped + 1), "a daemon of another key is none");
	ok(!gsi_recv(&b.g2, &cqe, 50), "it gets nothing");
	ok(engine_becomes(engine, "mad_auth_failed", 1) &&
	   engine_becomes(a.engine, "mad_auth_failed", failed + 1), "both know why");
	gsi_send(&b.g2, 1, a.g1.gid, 1);
	ok(engine_becomes(a.engine, "mad_auth_failed", failed + 2), "nor can it send");
	gsi_guest_close(&b.g2);
	vrd_engine_destroy(engine);
}

static void test_ipv6(void)
{
	struct vrd_engine *ea = engine_at(V6_A, key_file), *eb = engine_at(V6_B, key_file);
	struct gsi_guest ga, gb;

	gsi_guest_open(&ga, ea, 1, "default", V6_A, 4);
	gsi_guest_open(&gb, eb, 2, "default", V6_B, 4);
	ok(gsi_send(&ga, 1, gb.gid, 1) == 0 && gsi_got(&gb, 1, ga.gid, GSI_WAIT_MS),
	   "a MAD between IPv6 addresses");
	ok(gsi_send(&gb, 1, ga.gid, 2) == 0 && gsi_got(&ga, 2, gb.gid, GSI_WAIT_MS), "and back");
	gsi_guest_close(&ga);
	gsi_guest_close(&gb);
	vrd_engine_destroy(ea);
	vrd_engine_destroy(eb);
}

/* ---- strangers ----------------------------------------------------------------------- */

/* A connection to A's daemon from @from; -1: refused. */
static int stranger(const char *from)
{
	struct sockaddr_in addr = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	inet_pton(AF_INET, from, &addr.sin_addr);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)))
		guest_fatal("bind: %s", strerror(errno));
	inet_pton(AF_INET, HOST_A1, &addr.sin_addr);
	addr.sin_port = htons(MAD_PORT);
	if (!connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return fd;
	close(fd);
	return -1;
}

/* Waits until the daemon closes; returns the number of bytes that it sent, -1: it did not close. */
static ssize_t ends(int fd, int timeout_ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	char bytes[512];
	ssize_t said = 0;

	while (poll(&pfd, 1, timeout_ms) == 1) {
		ssize_t n = recv(fd, bytes, sizeof(bytes), 0);

		if (n <= 0) {
			close(fd);
			return said;
		}
		said += n;
	}
	close(fd);
	return -1;
}

static void test_garbage(void)
{
	uint64_t failed = gsi_engine_stat(a.engine, "mad_auth_failed");
	uint8_t bytes[4096];
	int fd = stranger(STRANGER);

	srandom(1);
	for (unsigned int i = 0; i < sizeof(bytes); i++)
		bytes[i] = random();
	ok(fd >= 0 && send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL) > 0 && ends(fd, 2000) == 0,
	   "a stranger that sends garbage is cut off without a word");
	ok(engine_becomes(a.engine, "mad_auth_failed", failed + 1), "and counted");
	fd = stranger(STRANGER);
	memcpy(bytes, "vrdmad\0\1", 8);
	ok(fd >= 0 && send(fd, bytes, 72, MSG_NOSIGNAL) == 72 && ends(fd, 2000) == 0,
	   "so is one that knows the first eight bytes");
	fd = stranger(STRANGER);
	ok(fd >= 0 && send(fd, bytes, 71, MSG_NOSIGNAL) == 71 &&
	   ends(fd, VRD_MAD_HANDSHAKE_MS + 2000) == 0, "and one that never ends its hello");
	fd = stranger(HOST_A2);
	ok(fd >= 0 && ends(fd, 2000) == 0, "one that has a guest's own address is refused");
}

/* A handshake is recorded and replayed by a peer without the key. */
static void test_replay(void)
{
	struct vrd_mad_session s;
	struct vrd_mad_key key;
	struct vrd_error err;
	uint8_t out[VRD_MAD_WIRE_MAX], local[16], remote[16], in[VRD_MAD_WIRE_MAX];
	uint64_t failed = gsi_engine_stat(a.engine, "mad_auth_failed");
	size_t len;
	int fd;

	if (vrd_mad_key_load(key_file, &key, &err))
		guest_fatal("%s", err.msg);
	gsi_gid(local, STRANGER);
	gsi_gid(remote, HOST_A1);
	len = vrd_mad_session_start(&s, &key, false, false, local, remote, out);
	for (unsigned int i = 0; i < 2; i++) {
		fd = stranger(STRANGER);
		ok(send(fd, out, len, MSG_NOSIGNAL) == (ssize_t)len &&
		   recv(fd, in, sizeof(in), MSG_WAITALL) == sizeof(in), "a hello is answered");
		memset(in, 0, sizeof(in));
		ok(send(fd, in, VRD_MAD_HEADER_LEN + VRD_MAD_RECORD_LEN, MSG_NOSIGNAL) > 0 &&
		   ends(fd, 2000) == 0, "but what follows must come from who has the key");
	}
	ok(engine_becomes(a.engine, "mad_auth_failed", failed + 2), "and is counted otherwise");
	/* From another address the same hello is not answered. */
	fd = stranger(NO_DAEMON);
	ok(send(fd, out, len, MSG_NOSIGNAL) > 0 && ends(fd, 2000) == 0,
	   "a hello from another address is not");
}

static unsigned int still_open(const int *fds, unsigned int num)
{
	unsigned int open = 0;

	for (unsigned int i = 0; i < num; i++) {
		struct pollfd pfd = { .fd = fds[i], .events = POLLIN };

		open += fds[i] >= 0 && poll(&pfd, 1, 0) == 0;
	}
	return open;
}

static void test_crowd(void)
{
	uint64_t refused = gsi_engine_stat(a.engine, "mad_refused"), start = guest_now_ns(), rounds;
	unsigned int open;
	int fds[SOME];

	for (unsigned int i = 0; i < SOME; i++)
		fds[i] = stranger(STRANGER);
	/* Until the daemon has handled all of them. */
	for (int ms = 0; ms < GSI_WAIT_MS; ms++) {
		open = still_open(fds, SOME);
		if (open <= VRD_MAD_MAX_STRANGERS_ADDR)
			break;
		usleep(1000);
	}
	/* If that took so long that some timed out, others took their place. */
	rounds = 1 + (guest_now_ns() - start) / (VRD_MAD_HANDSHAKE_MS * 1000000ULL);
	ok(rounds == 1 ? open == VRD_MAD_MAX_STRANGERS_ADDR : open <= VRD_MAD_MAX_STRANGERS_ADDR,
	   "of one address few strangers are borne");
	ok(gsi_engine_stat(a.engine, "mad_refused") >=
	   refused + SOME - rounds * VRD_MAD_MAX_STRANGERS_ADDR, "the others are refused");
	ok(gsi_send(&a.g1, 1, b.g1.gid, 50) == 0 && gsi_got(&b.g1, 50, a.g1.gid, GSI_WAIT_MS),
	   "meanwhile MADs get through");
	ok(gsi_send(&a.g2, 1, b.g1.gid, 51) == 0 && gsi_got(&b.g1, 51, a.g2.gid, GSI_WAIT_MS),
	   "and new connections are made");
	for (unsigned int i = 0; i < SOME; i++)
		close(fds[i]);
}

/* ---- set-up ----------------------------------------------------------------------------- */

static int setup_with(const char *key, const char *listen, struct vrd_error *err)
{
	struct vrd_mad_options opts = { .key_file = key, .port = MAD_PORT, .listen = listen };
	struct vrd_mad_setup *setup;
	int ret;

	*err = (struct vrd_error){ "", "" };
	ret = vrd_mad_setup(&opts, &setup, err);
	if (!ret)
		vrd_mad_setup_free(setup);
	return ret;
}

static void test_setup(void)
{
	struct vrd_error err;

	ok(setup_with("/nonexistent/key", STRANGER, &err) == -ENOENT && err.hint[0],
	   "a key file that is missing: %s", err.msg);
	ok(setup_with(gsi_key_file("open", KEY, 0644), STRANGER, &err) == -EPERM && err.hint[0],
	   "one that others may read: %s", err.msg);
	ok(setup_with(gsi_key_file("group", KEY, 0640), STRANGER, &err) == -EPERM, "or the group");
	ok(setup_with(gsi_key_file("short", "1234567890123456789012345678901\n\n", 0600), STRANGER,
		      &err) == -EINVAL && strstr(err.msg, "31 bytes"), "one too short: %s", err.msg);
	ok(setup_with("/tmp", STRANGER, &err) == -EINVAL, "a folder: %s", err.msg);
	ok(setup_with(key_file, "here", &err) == -EINVAL, "no address: %s", err.msg);
	ok(setup_with(key_file, HOST_A1, &err) == -EADDRINUSE && err.hint[0],
	   "an address that is taken: %s", err.msg);
	ok(setup_with(key_file, STRANGER, &err) == 0, "the right ones");
}

int main(void)
{
	if (!gsi_network(addresses, sizeof(addresses) / sizeof(addresses[0]))) {
		printf("1..0 # SKIP no network namespace of its own: needs root or user namespaces\n");
		return 0;
	}
	key_file = gsi_key_file("key", KEY, 0600);
	other_key = gsi_key_file("other", "another key of more than thirty-two bytes", 0600);
	a.engine = engine_at(HOST_A1 "," HOST_A2, key_file);
	b.engine = engine_at(HOST_B1 "," HOST_B2, key_file);
	gsi_guest_open(&a.g1, a.engine, 1, "default", HOST_A1, 400);
	gsi_guest_open(&a.g2, a.engine, 2, "default", HOST_A2, 400);
	gsi_guest_open(&b.g1, b.engine, 3, "default", HOST_B1, 400);
	gsi_guest_open(&b.g2, b.engine, 4, "default", HOST_B2, 400);
	test_local();
	test_bad_sends();
	test_flood();
	test_receives();
	test_receive_fails();
	test_channel();
	test_addresses();
	test_burst();
	test_unserved();
	test_setup();
	test_garbage();
	test_replay();
	test_restart();
	test_crowd();
	test_other_key();
	test_ipv6();
	gsi_guest_close(&a.g1);
	gsi_guest_close(&a.g2);
	gsi_guest_close(&b.g1);
	vrd_engine_destroy(a.engine);
	vrd_engine_destroy(b.engine);
	return tap_done();
}
