// SPDX-License-Identifier: GPL-2.0-or-later
/* Two test guests whose devices are on both paths.  See paths.h. */
#include "paths.h"

struct mem_pair p;

/* A GID that no guest of a fabric has. */
static const uint8_t elsewhere[16] = { [10] = 0xff, 0xff, 10, 0, 0, 99 };

void paths_open(unsigned int pollers, const char *fabric_a, const char *fabric_b)
{
	struct guest_config a = {
		.host_mapped = MEM_HOST_MAPPED, .ibdev = NULL_IBDEV, .transports = "memory,ibverbs",
		.fabric = fabric_a,
	}, b = a;

	b.fabric = fabric_b;
	memcpy(a.gid, null_gids[1], 16);
	memcpy(b.gid, null_gids[0], 16);
	mem_pair_open_with(&p, pollers, 64 << 20, &a, &b);
}

/* ---- ends ------------------------------------------------------------------------------- */

void open_end(struct mem_end *end, uint8_t type)
{
	struct guest_qp_init init = { .type = type, .max_recv_sge = end->srq ? 0 : 2 };

	mem_end_open(end, &init, 512);
}

static const uint8_t *gid_of(const struct mem_end *to)
{
	return to ? to->g->gid : elsewhere;
}

static uint32_t qpn_of(const struct mem_end *to)
{
	return to ? to->qp.qpn : NULL_SRC_QP;
}

void attr_to(struct mem_end *end, const struct mem_end *to)
{
	mem_attr_to(end, gid_of(to), qpn_of(to));
	end->attr.path_mtu = 3;
}

void bring_up(struct mem_end *end, const struct mem_end *to)
{
	uint32_t status;

	attr_to(end, to);
	status = mem_bring_up(end, RTS);
	if (status)
		guest_fatal("a QP on its way to RTS answers %u", status);
}

void connect_ends(struct mem_end *x, struct mem_end *y)
{
	bring_up(x, y);
	bring_up(y, x);
}

/* ---- data ------------------------------------------------------------------------------- */

bool arrives(struct mem_end *end, enum ibv_wc_status status, const void *data, uint32_t length)
{
	for (int ms = 0; ms < MEM_WAIT_MS; ms++) {
		if (null_receive(end->qp.qpn, status, data, length))
			return true;
		usleep(1000);
	}
	return false;
}

bool host_carries(struct mem_end *x)
{
	static const uint8_t opcodes[] = { SEND, W, READ };
	static const uint8_t wcs[] = { WC(SEND), WC(RDMA_WRITE), WC(RDMA_READ) };
	struct virtio_rdma_cqe cqe;
	bool good = true;
	uint32_t index;

	for (unsigned int i = 0; i < 3 && good; i++) {
		struct mem_wr w = mem_wr(x, x, opcodes[i], 10000);

		mem_post(x, &w);
		good = mem_cqe(&x->scq, &cqe) == 0 && cqe.opcode == wcs[i];
	}
	index = x->qp.rq.producer;
	mem_recv(x, 0, 64);
	return good && arrives(x, IBV_WC_SUCCESS, NULL, 33) && mem_cqe(&x->rcq, &cqe) == 0 &&
	       le32toh(cqe.wqe_index) == index && le32toh(cqe.byte_len) == 33;
}

struct virtio_rdma_av av_to(const struct mem_end *from, const struct mem_end *to)
{
	return mem_av(from, gid_of(to), qpn_of(to));
}

void datagram(uint8_t *to, uint32_t payload, uint32_t seed)
{
	mem_pattern(to, GRH, seed + 1);
	to[0] = 0x60;			/* of an IPv6 header */
	mem_pattern(to + GRH, payload, seed);
}
