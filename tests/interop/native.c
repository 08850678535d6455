// SPDX-License-Identifier: GPL-2.0-or-later
/* Two test guests on a host's RDMA device.  See native.h. */
#include <arpa/inet.h>
#include <stdlib.h>

#include "native.h"

struct mem_pair p;
const char *ibdev;
uint8_t gid_a[16], gid_b[16];

static uint8_t port_mtu(struct guest *g)
{
	struct virtio_rdma_query_port_req req = { .port_num = htole32(1) };
	struct virtio_rdma_query_port_rsp rsp;

	if (guest_command(g, VIRTIO_RDMA_CMD_QUERY_PORT, &req, &rsp))
		guest_fatal("QUERY_PORT");
	return rsp.active_mtu;
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

void recv_now(uint32_t offset, uint32_t length)
{
	mem_recv(&p.b, offset, length);
	/* After a change of the memory table all rings are looked at. */
	guest_set_memory(p.b.g);
}

int wait_cqe(struct guest_cq *cq, struct virtio_rdma_cqe *cqe)
{
	return guest_poll_wait(cq, cqe, MEM_WAIT_MS) ? cqe->status : -1;
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

int main(int argc, char **argv)
{
	struct guest_config a = { 0 }, b;

	if (argc < 4) {
		fprintf(stderr, "usage: %s IBDEV IP-A IP-B [TEST]\n", argv[0]);
		return 2;
	}
	ibdev = argv[1];
	parse_gid(argv[2], gid_a);
	parse_gid(argv[3], gid_b);
	a.ibdev = ibdev;
	b = a;
	memcpy(a.gid, gid_a, 16);
	memcpy(b.gid, gid_b, 16);
	mem_pair_open_with(&p, 1, 192 << 20, &a, &b);

	const struct {
		const char *name;
		void (*fn)(void);
	} tests[] = {
		{ "data", test_data }, { "datagrams", test_datagrams }, { "errors", test_errors },
		{ "memory", test_memory }, { "life", test_life },
	};

	for (unsigned int i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		if (argc < 5 || !strcmp(argv[4], tests[i].name))
			tests[i].fn();
	mem_pair_close(&p);
	return tap_done();
}
