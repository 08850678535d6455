// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ibverbs transport: a device on a port of the host's RDMA device: its limits, capabilities
 * and life.
 *
 * All except vrd_ibv_port_refresh() runs on a control or front end thread under dev->lock.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>

#include "mad/gsi.h"
#include "ibv.h"
#include "log.h"

/* IBTA's longest message, for hosts that report no limit or a larger one. */
#define MAX_MSG		(1U << 31)
/* A limit below this is too small for the memory of any guest. */
#define SMALL_MEMLOCK	(64ULL << 20)

int vrd_ibv_errno(int host)
{
	switch (host) {
	case 0:
		return 0;
	case EINVAL:
	case ENOMEM:
	case EBUSY:
	case EPERM:
	case EFAULT:
	case EOPNOTSUPP:
	case ETIMEDOUT:
		return -host;
	case ENOSYS:
		return -EOPNOTSUPP;
	case EACCES:
		return -EPERM;
	case EAGAIN:		/* RLIMIT_MEMLOCK, on some kernels */
		return -ENOMEM;
	case EHOSTUNREACH:
	case ENETUNREACH:
	case ENODATA:		/* the neighbour does not answer */
		return -ETIMEDOUT;
	default:
		return -EIO;
	}
}

/* ---- limits and capabilities --------------------------------------------- */

static void lower(uint32_t *limit, uint32_t host)
{
	if (host && host < *limit)
		*limit = host;
}

static uint32_t floor_power_of_two(uint32_t n)
{
	return n ? 1U << (31 - __builtin_clz(n)) : 0;
}

static uint32_t positive(int n)
{
	return n > 0 ? (uint32_t)n : 0;
}

static void set_limits(struct vrd_ibv_dev *vdev, const struct ibv_device_attr *attr)
{
	struct vrd_limits *l = &vdev->dev->limits;

	lower(&l->max_pd, positive(attr->max_pd));
	lower(&l->max_mr, positive(attr->max_mr));
	lower(&l->max_cq, positive(attr->max_cq));
	lower(&l->max_qp, positive(attr->max_qp));
	lower(&l->max_srq, positive(attr->max_srq));
	/* Rings have power-of-two sizes, up to the limit rounded up. */
	lower(&l->max_cqe, floor_power_of_two(positive(attr->max_cqe)));
	lower(&l->max_qp_wr, floor_power_of_two(positive(attr->max_qp_wr)));
	if (attr->max_srq > 0)
		lower(&l->max_qp_wr, floor_power_of_two(positive(attr->max_srq_wr)));
	lower(&l->max_sge, positive(attr->max_sge));
	lower(&l->max_sge, positive(attr->max_sge_rd));
	if (attr->max_srq > 0)
		lower(&l->max_sge, positive(attr->max_srq_sge));
}

/* True if the host can create QPs of this type with this inline size. */
static bool has_type(struct ibv_pd *pd, struct ibv_cq *cq, enum ibv_qp_type type,
		     uint32_t max_inline)
{
	struct ibv_qp_init_attr init = {
		.send_cq = cq, .recv_cq = cq, .qp_type = type,
		.cap = { 1, 1, 1, 1, max_inline },
	};
	struct ibv_qp *qp = ibv_create_qp(pd, &init);

	if (!qp)
		return false;
	ibv_destroy_qp(qp);
	return true;
}

static int find_types(struct vrd_ibv_dev *vdev, struct vrd_error *err)
{
	struct ibv_cq *cq = ibv_create_cq(vdev->ctx, 1, NULL, NULL, 0);
	uint32_t *max_inline = &vdev->dev->limits.max_inline;
	bool rc, ud;

	if (!cq)
		return vrd_fail(err, -errno, "", "ibdev %s: no completion queue: %s",
				vdev->ibdev->name, strerror(errno));
	rc = has_type(vdev->own_pd, cq, IBV_QPT_RC, 0);
	ud = has_type(vdev->own_pd, cq, IBV_QPT_UD, 0);
	if (has_type(vdev->own_pd, cq, IBV_QPT_UC, 0))
		vdev->caps.features |= VRD_F(UC);
	/* 32 bytes are always offered: make_bounce() emulates inline data that the host lacks. */
	while (*max_inline > 32 && !has_type(vdev->own_pd, cq, IBV_QPT_RC, *max_inline))
		*max_inline /= 2;
	ibv_destroy_cq(cq);
	if (!rc || !ud)
		return vrd_fail(err, -EOPNOTSUPP, "use one that has both, as RoCE cards and rdma_rxe",
				"ibdev %s has no %s queue pairs, which every guest needs",
				vdev->ibdev->name, rc ? "UD" : "RC");
	return 0;
}

static int set_caps(struct vrd_ibv_dev *vdev, struct vrd_error *err)
{
	struct ibv_device_attr_ex ex = { .comp_mask = 0 };
	const struct ibv_device_attr *attr = &ex.orig_attr;
	int ret = ibv_query_device_ex(vdev->ctx, NULL, &ex);

	if (ret)
		return vrd_fail(err, -ret, "", "ibdev %s: query_device: %s", vdev->ibdev->name,
				strerror(ret));
	set_limits(vdev, attr);
	vdev->caps.max_mr_size = attr->max_mr_size;
	vdev->caps.max_qp_rd_atom = positive(attr->max_qp_rd_atom);
	vdev->caps.max_qp_init_rd_atom = positive(attr->max_qp_init_rd_atom);
	vdev->caps.local_ca_ack_delay = attr->local_ca_ack_delay;
	if (attr->atomic_cap != IBV_ATOMIC_NONE)
		vdev->caps.features |= VRD_F(ATOMIC);
	if (attr->atomic_cap == IBV_ATOMIC_GLOB)
		vdev->caps.features |= VRD_F(ATOMIC_GLOBAL);
	if (attr->device_cap_flags & IBV_DEVICE_RC_RNR_NAK_GEN)
		vdev->caps.features |= VRD_F(RNR_NAK);
	if (attr->max_srq > 0)
		vdev->caps.features |= VRD_F(SRQ);
	if (attr->phys_port_cnt < vdev->port_num)
		return vrd_fail(err, -EINVAL, "name one that it has",
				"ibdev %s has no port %u: its ports are 1 to %u", vdev->ibdev->name,
				vdev->port_num, attr->phys_port_cnt);
	return 0;
}

static void vrd_ibv_device_query(struct vrd_device *dev, struct vrd_caps *caps)
{
	struct vrd_ibv_dev *vdev = vrd_ibv_dev(dev);

	*caps = vdev->caps;
	caps->active_mtu = atomic_load(&vdev->active_mtu);
}

/* ---- the port --------------------------------------------------------------- */

int vrd_ibv_port_refresh(struct vrd_ibv_dev *vdev, struct ibv_port_attr *attr)
{
	int ret = ibv_query_port(vdev->ctx, vdev->port_num, attr);

	if (ret)
		return ret;
	/* Both sides use IBTA's numbers. */
	atomic_store(&vdev->port_state, (uint8_t)attr->state);
	atomic_store(&vdev->active_mtu, (uint8_t)attr->active_mtu);
	return 0;
}

static uint8_t vrd_ibv_port_state(struct vrd_device *dev)
{
	struct vrd_ibv_dev *vdev = vrd_ibv_dev(dev);
	uint8_t state = atomic_load(&vdev->port_state);

	if (atomic_load(&vdev->dead) || !state)
		return VIRTIO_RDMA_PORT_DOWN;
	return state > VIRTIO_RDMA_PORT_ACTIVE ? VIRTIO_RDMA_PORT_ACTIVE : state;
}

static int open_port(struct vrd_ibv_dev *vdev, struct vrd_error *err)
{
	const char *name = vdev->ibdev->name;
	struct ibv_port_attr attr = { 0 };
	int ret;

	if (vdev->ctx->device->transport_type != IBV_TRANSPORT_IB)
		return vrd_fail(err, -EOPNOTSUPP, "use a RoCE device, as rdma_rxe makes one",
				"ibdev %s speaks iWARP or something else: queue pairs are connected by RoCE's addresses here",
				name);
	ret = vrd_ibv_port_refresh(vdev, &attr);
	if (ret)
		return vrd_fail(err, -ret, "", "ibdev %s: query of port %u: %s", name,
				vdev->port_num, strerror(ret));
	if (attr.link_layer != IBV_LINK_LAYER_ETHERNET)
		return vrd_fail(err, -EOPNOTSUPP, "use a RoCE port; InfiniBand's GIDs are not a guest's to choose",
				"port %u of ibdev %s is no Ethernet port", vdev->port_num, name);
	vdev->caps.max_msg_sz = attr.max_msg_sz && attr.max_msg_sz < MAX_MSG ? attr.max_msg_sz :
									       MAX_MSG;
	vdev->caps.max_mtu = (uint8_t)attr.max_mtu;
	vdev->caps.active_width = attr.active_width;
	vdev->caps.active_speed = attr.active_speed;
	return 0;
}

/* Adds the addresses of GID table entries to the addresses that the guest may use. */
static int open_gids(struct vrd_ibv_dev *vdev, const struct vrd_device_config *cfg,
		     unsigned int *ifindex, struct vrd_error *err)
{
	struct vrd_device *dev = vdev->dev;
	int ret = vrd_ibv_gids_refresh(vdev);
	bool any = false;

	if (ret)
		return vrd_fail(err, ret, "", "ibdev %s: no GID table: %s", vdev->ibdev->name,
				strerror(-ret));
	for (unsigned int i = 0; i < vdev->num_gids && !any; i++) {
		any = vdev->gids[i].port_num == vdev->port_num &&
		      vdev->gids[i].gid_type == IBV_GID_TYPE_ROCE_V2;
		*ifindex = vdev->gids[i].ndev_ifindex;
	}
	if (!any)
		return vrd_fail(err, -EADDRNOTAVAIL, "give its netdev an IP address, and bring it up",
				"port %u of ibdev %s has no RoCE v2 GID", vdev->port_num,
				vdev->ibdev->name);
	for (unsigned int i = 0; i < cfg->num_gid_indexes; i++) {
		if (dev->num_allowed_gids == VRD_MAX_ALLOWED_GIDS)
			return vrd_fail(err, -EINVAL, "", "more than %d allowed GIDs",
					VRD_MAX_ALLOWED_GIDS);
		if (!vrd_ibv_gid_at(vdev, cfg->gid_indexes[i],
				    dev->allowed_gids[dev->num_allowed_gids], ifindex))
			return vrd_fail(err, -EINVAL, "rdma link and ibv_devinfo -v show the table",
					"GID index %u of ibdev %s, port %u, is no RoCE v2 GID",
					cfg->gid_indexes[i], vdev->ibdev->name, vdev->port_num);
		dev->num_allowed_gids++;
	}
	return 0;
}

/* ---- opening ------------------------------------------------------------------- */

/*
 * Creates a handle to the port itself.  Link-local GIDs are tried last, because not every
 * host can resolve its own link-local address.
 */
struct ibv_ah *vrd_ibv_ah_to_self(struct vrd_ibv_dev *vdev, struct ibv_pd *pd)
{
	struct ibv_ah_attr attr = {
		.grh.hop_limit = 1, .is_global = 1, .port_num = vdev->port_num,
	};
	struct ibv_ah *ah = NULL;

	for (unsigned int local = 0; local < 2; local++) {
		for (unsigned int i = 0; i < UINT8_MAX && !ah; i++) {
			if (!vrd_ibv_gid_at(vdev, i, attr.grh.dgid.raw, NULL) ||
			    local != (attr.grh.dgid.raw[0] == 0xfe))
				continue;
			attr.grh.sgid_index = (uint8_t)i;
			ah = ibv_create_ah(pd, &attr);
		}
	}
	return ah;
}

/* Registers a small region, so that a limit is found now and not when the guest runs. */
static int open_own(struct vrd_ibv_dev *vdev, struct vrd_error *err)
{
	struct rlimit lim = { RLIM_INFINITY, RLIM_INFINITY };

	vdev->own_pd = ibv_alloc_pd(vdev->ctx);
	if (!vdev->own_pd)
		return vrd_fail(err, -errno, "", "ibdev %s: no protection domain: %s",
				vdev->ibdev->name, strerror(errno));
	vdev->own_mr = ibv_reg_mr(vdev->own_pd, vdev->own_bytes, sizeof(vdev->own_bytes), 0);
	if (!vdev->own_mr)
		return vrd_fail(err, -errno, "raise the limit of locked memory (ulimit -l unlimited; LimitMEMLOCK=infinity)",
				"ibdev %s: cannot register memory: %s", vdev->ibdev->name,
				strerror(errno));
	vdev->own_ah = vrd_ibv_ah_to_self(vdev, vdev->own_pd);
	if (!vdev->own_ah)
		return vrd_fail(err, -EADDRNOTAVAIL, "give its netdev an IP address",
				"ibdev %s: no address of port %u leads to itself",
				vdev->ibdev->name, vdev->port_num);
	getrlimit(RLIMIT_MEMLOCK, &lim);
	if (lim.rlim_cur != RLIM_INFINITY && lim.rlim_cur < SMALL_MEMLOCK)
		vrd_log(vdev->dev->engine, VRD_LOG_WARN,
			"%s: this process may lock only %llu KiB: guests will not register much memory; raise it (ulimit -l unlimited; LimitMEMLOCK=infinity)",
			vdev->dev->name, (unsigned long long)lim.rlim_cur >> 10);
	return 0;
}

static void free_dev(struct vrd_ibv_dev *vdev)
{
	if (vdev->own_ah)
		ibv_destroy_ah(vdev->own_ah);
	if (vdev->own_mr)
		ibv_dereg_mr(vdev->own_mr);
	if (vdev->own_pd)
		ibv_dealloc_pd(vdev->own_pd);
	vrd_ibdev_close(vdev->ibdev);
	free(vdev->gids);
	pthread_cond_destroy(&vdev->idle);
	pthread_mutex_destroy(&vdev->lock);
	vdev->dev->priv[VRD_SLOT_IBVERBS] = NULL;
	free(vdev);
}

static int open_parts(struct vrd_ibv_dev *vdev, const struct vrd_device_config *cfg,
		      struct vrd_error *err)
{
	unsigned int ifindex = 0;
	int ret = 0;

	if (cfg->ibdev_opened)
		vdev->ibdev = vrd_ibdev_get(cfg->ibdev_opened);
	else
		ret = vrd_ibdev_open(cfg->ibdev, &vdev->ibdev, err);
	if (ret)
		return ret;
	vdev->ctx = vdev->ibdev->ctx;
	ret = set_caps(vdev, err);
	if (!ret)
		ret = open_port(vdev, err);
	if (!ret)
		ret = open_gids(vdev, cfg, &ifindex, err);
	if (!ret)
		ret = open_own(vdev, err);
	if (!ret)
		ret = find_types(vdev, err);
	if (ret)
		return ret;
	ret = vrd_ibv_polls_open(vdev, err);
	if (ret)
		return ret;
	vrd_gsi_set_ifindex(vrd_gsi_port(vdev->dev), ifindex);
	ret = vrd_ibv_worker_start(vdev, err);
	if (ret)
		vrd_ibv_polls_close(vdev);
	return ret;
}

static int vrd_ibv_device_open(struct vrd_device *dev, const struct vrd_device_config *cfg,
			       struct vrd_error *err)
{
	struct vrd_ibv_dev *vdev;
	int ret;

	if (!cfg->ibdev && !cfg->ibdev_opened)
		return vrd_fail(err, -EINVAL, "ibv_devices lists them",
				"transport ibverbs needs the name of a host's RDMA device: ibdev=");
	vdev = aligned_alloc(_Alignof(struct vrd_ibv_dev), sizeof(*vdev));
	if (!vdev)
		return vrd_fail(err, -ENOMEM, "", "out of memory");
	memset(vdev, 0, sizeof(*vdev));
	vdev->dev = dev;
	vdev->port_num = cfg->ibdev_port ? (uint8_t)cfg->ibdev_port : 1;
	pthread_mutex_init(&vdev->lock, NULL);
	pthread_cond_init(&vdev->idle, NULL);
	TAILQ_INIT(&vdev->ah_lru);
	TAILQ_INIT(&vdev->ah_work);
	TAILQ_INIT(&vdev->ah_dead);
	if (getrandom(&vdev->ah_seed, sizeof(vdev->ah_seed), GRND_NONBLOCK) < 0)
		vdev->ah_seed = (uintptr_t)vdev ^ (uint64_t)time(NULL) << 32;
	dev->priv[VRD_SLOT_IBVERBS] = vdev;
	ret = open_parts(vdev, cfg, err);
	if (ret) {
		free_dev(vdev);
		return ret;
	}
	vrd_log(dev->engine, VRD_LOG_INFO, "%s: port %u of %s", dev->name, vdev->port_num,
		vdev->ibdev->name);
	return 0;
}

/* All objects of the device are gone, and with the PDs all address handles. */
static void vrd_ibv_device_close(struct vrd_device *dev)
{
	struct vrd_ibv_dev *vdev = vrd_ibv_dev(dev);

	vrd_ibv_worker_stop(vdev);
	vrd_ibv_polls_close(vdev);
	free_dev(vdev);
}

static void vrd_ibv_device_stats(struct vrd_device *dev,
				 void (*fn)(void *opaque, const char *name, uint64_t value),
				 void *opaque)
{
	struct vrd_ibv_dev *vdev = vrd_ibv_dev(dev);

	fn(opaque, "host_tx_bytes", atomic_load(&vdev->tx_bytes));
	fn(opaque, "host_rx_bytes", atomic_load(&vdev->rx_bytes));
}

/* ---- protection domains ----------------------------------------------------------- */

static int vrd_ibv_pd_alloc(struct vrd_pd *pd)
{
	struct vrd_ibv_dev *vdev = vrd_ibv_dev(pd->ctx->dev);

	errno = 0;
	pd->priv[VRD_SLOT_IBVERBS] = ibv_alloc_pd(vdev->ctx);
	return pd->priv[VRD_SLOT_IBVERBS] ? 0 : vrd_ibv_errno(errno ? errno : EIO);
}

static void vrd_ibv_pd_dealloc(struct vrd_pd *pd)
{
	struct vrd_ibv_dev *vdev = vrd_ibv_dev(pd->ctx->dev);
	int ret;

	vrd_ibv_ah_flush_pd(vdev, pd);
	ret = ibv_dealloc_pd(pd->priv[VRD_SLOT_IBVERBS]);
	if (ret)
		vrd_dev_log(vdev->dev, VRD_LOG_ERROR, "the host keeps a protection domain: %s",
			    strerror(ret));
}

const struct vrd_transport_ops vrd_ibverbs_transport = {
	.name		= "ibverbs",
	.slot		= VRD_SLOT_IBVERBS,
	.qp_types	= VRD_QPT_DATA,
	.owns_numbers	= true,
	.blocks		= true,
	.companion	= &vrd_mad_transport,	/* QP 1 of the host's port is in use by the host */
	.path		= &vrd_ibv_path,
	.device_open	= vrd_ibv_device_open,
	.device_close	= vrd_ibv_device_close,
	.device_stats	= vrd_ibv_device_stats,
	.device_query	= vrd_ibv_device_query,
	.port_state	= vrd_ibv_port_state,
	.gid_del	= vrd_ibv_gid_del,
	.pd_alloc	= vrd_ibv_pd_alloc,
	.pd_dealloc	= vrd_ibv_pd_dealloc,
	.mr_reg		= vrd_ibv_mr_reg,
	.mr_dereg	= vrd_ibv_mr_dereg,
	.mem_changed	= vrd_ibv_mem_changed,
	.cq_create	= vrd_ibv_cq_create,
	.cq_destroy	= vrd_ibv_cq_destroy,
	.srq_create	= vrd_ibv_srq_create,
	.srq_modify	= vrd_ibv_srq_modify,
	.srq_query	= vrd_ibv_srq_query,
	.srq_destroy	= vrd_ibv_srq_destroy,
	.srq_free	= vrd_ibv_srq_free,
	.qp_create	= vrd_ibv_qp_create,
	.qp_destroy	= vrd_ibv_qp_destroy,
	.qp_free	= vrd_ibv_qp_free,
	.srq_run	= vrd_ibv_srq_run,
	.poll		= vrd_ibv_poll,
	.poll_sleep	= vrd_ibv_poll_sleep,
};
