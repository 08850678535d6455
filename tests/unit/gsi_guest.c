// SPDX-License-Identifier: GPL-2.0-or-later
/* Test guests with a QP 1 of the host's fabric.  See gsi_guest.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ipv6.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "gsi_guest.h"
#include "vrd_mad.h"

/* Each send and each receive has its own place. */
#define SENDS		4096U
#define RECVS		1024U
#define SEND_LEN	((SENDS + 1) * VRD_MAD_LEN)
#define BUF_LEN		(SEND_LEN + RECVS * 512)

/* ---- network ------------------------------------------------------------------- */

static bool add_v4(int fd, const char *address, unsigned int n)
{
	struct ifreq ifr = { 0 };
	struct sockaddr_in *in = (void *)&ifr.ifr_addr;

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), n ? "lo:%u" : "lo", n);
	in->sin_family = AF_INET;
	return inet_pton(AF_INET, address, &in->sin_addr) == 1 && !ioctl(fd, SIOCSIFADDR, &ifr);
}

static bool add_v6(const char *address)
{
	struct in6_ifreq ifr = { .ifr6_prefixlen = 128, .ifr6_ifindex = 1 };
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool done = fd >= 0 && inet_pton(AF_INET6, address, &ifr.ifr6_addr) == 1 &&
		    !ioctl(fd, SIOCSIFADDR, &ifr);

	close(fd);
	return done;
}

bool gsi_network(const char *const *addresses, unsigned int num)
{
	struct ifreq up = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_LOOPBACK };
	bool done;
	int fd;

	if (unshare(CLONE_NEWNET) && unshare(CLONE_NEWUSER | CLONE_NEWNET))
		return false;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	done = fd >= 0 && !ioctl(fd, SIOCSIFFLAGS, &up);
	for (unsigned int i = 0; done && i < num; i++)
		done = strchr(addresses[i], ':') ? add_v6(addresses[i]) :
						   add_v4(fd, addresses[i], i + 1);
	close(fd);
	return done;
}

void gsi_gid(uint8_t gid[16], const char *address)
{
	memset(gid, 0, 16);
	if (inet_pton(AF_INET6, address, gid) == 1)
		return;
	gid[10] = 0xff;
	gid[11] = 0xff;
	if (inet_pton(AF_INET, address, gid + 12) != 1)
		guest_fatal("%s is no address", address);
}

/* ---- keys ------------------------------------------------------------------------- */

static char folder[] = "/tmp/vrd-gsi-XXXXXX";
static char files[8][64];
static unsigned int num_files;

static void remove_files(void)
{
	for (unsigned int i = 0; i < num_files; i++)
		unlink(files[i]);
	rmdir(folder);
}

const char *gsi_key_file(const char *name, const char *bytes, unsigned int mode)
{
	ssize_t len = strlen(bytes);
	char *path;
	int fd;

	if (!num_files) {
		if (!mkdtemp(folder))
			guest_fatal("no folder");
		atexit(remove_files);
	}
	path = files[num_files++];
	snprintf(path, sizeof(files[0]), "%s/%s", folder, name);
	fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, bytes, len) != len || fchmod(fd, mode))
		guest_fatal("%s cannot be made", path);
	close(fd);
	return path;
}

/* ---- guests --------------------------------------------------------------------------- */

static void bring_up(struct guest_qp *qp)
{
	struct virtio_rdma_qp_attr attr = {
		.state = VIRTIO_RDMA_QPS_INIT, .port_num = 1, .qkey = htole32(GSI_QKEY),
	};
	uint32_t status;

	status = guest_qp_modify(qp, VIRTIO_RDMA_QP_STATE | VIRTIO_RDMA_QP_PKEY_INDEX |
				 VIRTIO_RDMA_QP_QKEY, &attr);
	attr.state = VIRTIO_RDMA_QPS_RTR;
	if (!status)
		status = guest_qp_modify(qp, VIRTIO_RDMA_QP_STATE, &attr);
	attr.state = VIRTIO_RDMA_QPS_RTS;
	if (!status)
		status = guest_qp_modify(qp, VIRTIO_RDMA_QP_STATE | VIRTIO_RDMA_QP_SQ_PSN, &attr);
	if (status)
		guest_fatal("QP 1 does not come up: %u", status);
}

void gsi_guest_open(struct gsi_guest *gg, struct vrd_engine *engine, uint8_t id,
		    const char *fabric, const char *address, unsigned int num_recv)
{
	struct guest_config cfg = {
		.name = address, .id = id, .fabric = fabric, .mem_size = 16 << 20,
		.transports = "mad,memory",
#ifdef __SANITIZE_THREAD__
		.host_mapped = true,	/* the thread sanitizer identifies memory by its address */
#endif
	};
	struct guest_qp_init init = {
		.type = VIRTIO_RDMA_QPT_GSI, .max_send_sge = 2, .max_recv_sge = 2,
		.sq_entries = SENDS, .rq_entries = RECVS,
	};

	memset(gg, 0, sizeof(*gg));
	gg->g = guest_create_stopped(engine, &cfg);
	vrd_gsi_set_ifindex(vrd_gsi_port(gg->g->dev), 1);
	guest_start_queues(gg->g);
	gsi_gid(gg->gid, address);
	if (guest_init(gg->g) || guest_add_gid(gg->g, 0, gg->g->gid) ||
	    guest_add_gid(gg->g, 1, gg->gid) ||
	    guest_ctx_create(gg->g, VIRTIO_RDMA_CTX_KERNEL, &gg->ctx) ||
	    guest_pd_alloc(&gg->ctx, &gg->pd))
		guest_fatal("%s: no context or PD", address);
	gg->buf = guest_alloc(gg->g, BUF_LEN);
	if (guest_mr_reg(gg->g, gg->pd, gg->buf, BUF_LEN, VIRTIO_RDMA_ACCESS_LOCAL_WRITE, &gg->mr) ||
	    guest_cq_create(&gg->ctx, 8192, 0, &gg->scq) ||
	    guest_cq_create(&gg->ctx, 8192, 0, &gg->rcq))
		guest_fatal("%s: no region or CQ", address);
	init.pd = gg->pd;
	init.send_cq = &gg->scq;
	init.recv_cq = &gg->rcq;
	if (guest_qp_create(&gg->ctx, &init, &gg->qp))
		guest_fatal("%s: no QP 1", address);
	while (num_recv--)
		gsi_post_recv(gg, GSI_RECV_LEN);
	bring_up(&gg->qp);
}

void gsi_guest_close(struct gsi_guest *gg)
{
	guest_destroy(gg->g);
	gg->g = NULL;
}

/* ---- MADs -------------------------------------------------------------------------------- */

void gsi_fill(uint8_t mad[VRD_MAD_LEN], uint8_t seed)
{
	for (unsigned int i = 0; i < VRD_MAD_LEN; i++)
		mad[i] = seed + i * 7;
}

static uint8_t *recv_place(struct gsi_guest *gg, uint32_t index)
{
	return gg->buf + SEND_LEN + index % RECVS * 512;
}

void gsi_post_recv(struct gsi_guest *gg, uint32_t length)
{
	uint64_t addr = gg->mr.iova + (recv_place(gg, gg->receives++) - gg->buf);
	struct guest_sge sge[2] = {
		{ addr, length < 40 ? length : 40, gg->mr.lkey },
		{ addr + 40, length < 40 ? 0 : length - 40, gg->mr.lkey },
	};

	guest_post_recv(&gg->qp, sge, 2);
}

void gsi_post(struct gsi_guest *gg, uint8_t sgid_index, const uint8_t dgid[16], const void *mad,
	      uint32_t length)
{
	struct virtio_rdma_av av = {
		.pd = htole32(gg->pd), .dqpn = htole32(1), .qkey = htole32(GSI_QKEY),
		.flow_label = htole32(0x12345), .sgid_index = sgid_index, .hop_limit = 61,
		.tclass = 0x18, .sl = 3,
	};
	uint8_t *place = gg->buf + gg->qp.sq.producer % SENDS * VRD_MAD_LEN;
	struct guest_sge sge = { gg->mr.iova + (place - gg->buf), length, gg->mr.lkey };
	struct guest_wr wr = {
		.opcode = VIRTIO_RDMA_WR_SEND, .flags = VIRTIO_RDMA_WQE_SIGNALED, .num_sge = 1,
		.sge = &sge, .av = &av,
	};

	memcpy(av.dgid, dgid, 16);
	memcpy(place, mad, length);
	guest_post_send(&gg->qp, &wr);
}

int gsi_send(struct gsi_guest *gg, uint8_t sgid_index, const uint8_t dgid[16], uint8_t seed)
{
	uint8_t mad[VRD_MAD_LEN];
	struct virtio_rdma_cqe cqe;

	gsi_fill(mad, seed);
	gsi_post(gg, sgid_index, dgid, mad, sizeof(mad));
	return guest_poll_wait(&gg->scq, &cqe, GSI_WAIT_MS) ? cqe.status : -1;
}

/* Sleep between polls: the MAD thread needs a CPU as well. */
const uint8_t *gsi_recv(struct gsi_guest *gg, struct virtio_rdma_cqe *cqe, int timeout_ms)
{
	for (; !guest_poll(&gg->rcq, cqe); timeout_ms--) {
		if (timeout_ms <= 0)
			return NULL;
		usleep(1000);
	}
	return recv_place(gg, le32toh(cqe->wqe_index));
}

bool gsi_got(struct gsi_guest *gg, uint8_t seed, const uint8_t sgid[16], int timeout_ms)
{
	struct virtio_rdma_cqe cqe;
	const uint8_t *p = gsi_recv(gg, &cqe, timeout_ms);
	uint8_t mad[VRD_MAD_LEN];
	bool v4 = p && cqe.flags & VIRTIO_RDMA_CQE_IPV4;

	if (!p || cqe.status || le32toh(cqe.byte_len) != GSI_RECV_LEN || le32toh(cqe.src_qp) != 1)
		return false;
	gsi_fill(mad, seed);
	return !memcmp(p + 40, mad, sizeof(mad)) &&
	       !memcmp(p + (v4 ? 32 : 8), sgid + (v4 ? 12 : 0), v4 ? 4 : 16);
}

/* ---- counters ------------------------------------------------------------------------------- */

struct stat_query {
	const char *name;
	uint64_t value;
	bool found;
};

static void match(void *opaque, const char *name, uint64_t value)
{
	struct stat_query *query = opaque;

	if (strcmp(name, query->name))
		return;
	query->value = value;
	query->found = true;
}

uint64_t gsi_stat(struct gsi_guest *gg, const char *name)
{
	struct stat_query query = { .name = name };

	vrd_gsi_port_stats(vrd_gsi_port(gg->g->dev), match, &query);
	if (!query.found)
		guest_fatal("QP 1 has no counter %s", name);
	return query.value;
}

uint64_t gsi_engine_stat(struct vrd_engine *engine, const char *name)
{
	struct stat_query query = { .name = name };

	vrd_mads_stats(engine, match, &query);
	if (!query.found)
		guest_fatal("the channel has no counter %s", name);
	return query.value;
}
