// SPDX-License-Identifier: GPL-2.0-or-later
/* Two test guests on a host's RDMA device.  See native.h. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "native.h"
#include "transport.h"

struct mem_pair p;
const char *ibdev;
uint8_t gid_a[16], gid_b[16], gid_c[16];
bool by_memory, has_atomics;
char fabric_a[64], fabric_b[64];

static struct virtio_rdma_query_port_rsp port(struct guest *g)
{
	struct virtio_rdma_query_port_req req = { .port_num = htole32(1) };
	struct virtio_rdma_query_port_rsp rsp;

	if (guest_command(g, VIRTIO_RDMA_CMD_QUERY_PORT, &req, &rsp))
		guest_fatal("QUERY_PORT");
	return rsp;
}

uint8_t port_mtu(struct guest *g)
{
	return port(g).active_mtu;
}

uint32_t port_max_msg_sz(struct guest *g)
{
	return le32toh(port(g).max_msg_sz);
}

void fresh_type(uint8_t type)
{
	struct guest_qp_init init = { .type = type, .max_recv_sge = 2, .max_send_sge = 4 };

	mem_pattern(p.a.buf, MEM_BUF, MEM_SEED_A);
	mem_pattern(p.b.buf, MEM_BUF, MEM_SEED_B);
	mem_pair_qps_init(&p, &init, 256);
	p.a.attr.path_mtu = port_mtu(p.a.g);
	p.b.attr.path_mtu = port_mtu(p.b.g);
	/* 67 ms: Soft-RoCE's threads share few CPUs with this program. */
	p.a.attr.timeout = 14;
	p.b.attr.timeout = 14;
	mem_pair_connect(&p);
}

void fresh(void)
{
	fresh_type(VIRTIO_RDMA_QPT_RC);
}

void drop(void)
{
	mem_pair_drop_qps(&p);
}

/*
 * True if the poller has taken all receives of b's ring and posted them to the host, or if it
 * leaves them on the ring, because the QP's path takes them when messages arrive.
 */
static bool is_handed_over(struct vrd_qp *qp)
{
	bool done;

	vrd_lock(&qp->rq.lock);
	done = !qp->rq.want_db || qp->rq.head == p.b.qp.rq.producer;
	vrd_unlock(&qp->rq.lock);
	return done;
}

void recv_now(uint32_t offset, uint32_t length)
{
	/* Only this thread sends commands, so the QP is not destroyed meanwhile. */
	struct vrd_qp *qp = vrd_table_find(&p.b.g->dev->qps, p.b.qp.qpn);

	mem_recv(&p.b, offset, length);
	for (int ms = 0; !is_handed_over(qp); ms++) {
		if (ms == MEM_WAIT_MS)
			guest_fatal("the host does not get a receive of QP %u", p.b.qp.qpn);
		usleep(1000);
	}
}

static void parse_gid(const char *text, uint8_t gid[16])
{
	struct in_addr v4;

	if (inet_pton(AF_INET6, text, gid) == 1)
		return;
	if (inet_pton(AF_INET, text, &v4) != 1)
		guest_fatal("%s is no IP address", text);
	memset(gid, 0, 10);
	memset(gid + 10, 0xff, 2);
	memcpy(gid + 12, &v4, 4);
}

static void usage(const char *name)
{
	fprintf(stderr, "usage: %s [-H] [-m FABRIC-A,FABRIC-B] IBDEV IP-A IP-B[,IP-C] [TEST...]\n", name);
	exit(2);
}

static void open_guests(bool paths, bool huge)
{
	struct guest_config a = { .ibdev = ibdev, .huge_pages = huge }, b;

	if (paths) {
		a.transports = "memory,ibverbs";
		a.fabric = fabric_a;
	}
	b = a;
	if (paths)
		b.fabric = fabric_b;
	memcpy(a.gid, gid_a, 16);
	memcpy(b.gid, gid_b, 16);
	mem_pair_open_with(&p, 1, 192 << 20, &a, &b);
	has_atomics = vrd_device_features(p.a.g->dev) >> VIRTIO_RDMA_F_ATOMIC & 1;
}

static bool is_named(const char *test, char **names)
{
	while (*names && strcmp(*names, test))
		names++;
	return *names;
}

int main(int argc, char **argv)
{
	const struct {
		const char *name;
		void (*fn)(void);
		bool by_name;		/* runs only when it is named */
	} tests[] = {
		{ "data", test_data, false }, { "datagrams", test_datagrams, false },
		{ "errors", test_errors, false }, { "memory", test_memory, false },
		{ "life", test_life, false }, { "paths", test_both_paths, true },
		{ "huge", test_huge, true }, { "bench", bench, true },
	};
	const char *name = argv[0];
	bool paths = false, huge = false;
	char *second;
	int opt;

	while ((opt = getopt(argc, argv, "Hm:")) != -1) {
		if (opt == 'H') {
			huge = true;
			continue;
		}
		if (opt != 'm' || sscanf(optarg, "%63[^,],%63s", fabric_a, fabric_b) != 2)
			usage(name);
		paths = true;
	}
	argc -= optind;
	argv += optind;
	if (argc < 3)
		usage(name);
	ibdev = argv[0];
	parse_gid(argv[1], gid_a);
	second = strchr(argv[2], ',');
	if (second) {
		*second = '\0';
		parse_gid(second + 1, gid_c);
	}
	parse_gid(argv[2], gid_b);
	by_memory = paths && !strcmp(fabric_a, fabric_b);

	open_guests(paths, huge);
	for (unsigned int i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		if (argc > 3 ? is_named(tests[i].name, argv + 3) : !tests[i].by_name)
			tests[i].fn();
	if (paths && !is_named("paths", argv + 3)) {
		uint64_t host = guest_stat(p.a.g, "host_tx_bytes");

		ok(by_memory ? !guest_stat(p.a.g, "qps_ibverbs") && host < (1 << 20) :
			       !guest_stat(p.a.g, "qps_memory") && host > (1 << 20),
		   "it went by way of %s", by_memory ? "memory" : "the host's device");
	}
	mem_pair_close(&p);
	return tap_done();
}
