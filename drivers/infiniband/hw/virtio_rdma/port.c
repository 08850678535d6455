// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Attributes of the device and of its port, and the port's state.  Called by the
 * core and by netdev.c and vq.c, in process context.
 *
 * The port is ACTIVE while the device says so and the paired netdev is up: the
 * addresses come from there, and neighbours are resolved over it.
 */
#include <rdma/ib_addr.h>
#include <rdma/ib_mad.h>

#include "cmd.h"

static int vrdma_int(u32 value)
{
	return min_t(u32, value, INT_MAX);
}

int vrdma_query_device(struct ib_device *ibdev, struct ib_device_attr *attr,
		       struct ib_udata *udata)
{
	struct vrdma_dev *dev = to_vrdma_dev(ibdev);
	const struct vrdma_attr *a = &dev->attr;

	/* The core passes no udata, or an empty one before 7.x. */
	if (udata && (udata->inlen || udata->outlen))
		return -EINVAL;

	memset(attr, 0, sizeof(*attr));
	attr->fw_ver = a->fw_ver;
	attr->sys_image_guid = ibdev->node_guid;
	attr->max_mr_size = a->max_mr_size;
	attr->page_size_cap = ~(u64)(VIRTIO_RDMA_PAGE_SIZE - 1);
	attr->vendor_id = a->vendor_id;
	attr->vendor_part_id = a->vendor_part_id;
	attr->hw_ver = a->hw_ver;
	attr->device_cap_flags = IB_DEVICE_SYS_IMAGE_GUID |
				 IB_DEVICE_PORT_ACTIVE_EVENT |
				 IB_DEVICE_CURR_QP_STATE_MOD;
	if (vrdma_has(dev, VIRTIO_RDMA_F_RNR_NAK))
		attr->device_cap_flags |= IB_DEVICE_RC_RNR_NAK_GEN;
	attr->kernel_cap_flags = IBK_LOCAL_DMA_LKEY;
	attr->max_qp = vrdma_int(a->max_qp);
	attr->max_qp_wr = vrdma_int(a->max_qp_wr);
	attr->max_send_sge = vrdma_int(min(a->max_send_sge,
					   a->max_send_sge_ud));
	attr->max_recv_sge = vrdma_int(a->max_recv_sge);
	attr->max_sge_rd = vrdma_int(a->max_sge_rd);
	attr->max_cq = vrdma_int(a->max_cq);
	attr->max_cqe = vrdma_int(a->max_cqe);
	attr->max_mr = vrdma_int(a->max_mr);
	attr->max_pd = vrdma_int(a->max_pd);
	attr->max_qp_rd_atom = vrdma_int(a->max_qp_rd_atom);
	attr->max_qp_init_rd_atom = vrdma_int(a->max_qp_init_rd_atom);
	if (vrdma_has(dev, VIRTIO_RDMA_F_SRQ)) {
		attr->max_srq = vrdma_int(a->max_srq);
		attr->max_srq_wr = vrdma_int(a->max_srq_wr);
		attr->max_srq_sge = vrdma_int(a->max_srq_sge);
	}
	if (vrdma_has(dev, VIRTIO_RDMA_F_MEM_MGT)) {
		attr->device_cap_flags |= IB_DEVICE_MEM_MGT_EXTENSIONS;
		attr->kernel_cap_flags |= IBK_SG_GAPS_REG;
		attr->max_fast_reg_page_list_len = a->max_fast_reg_pages;
	}
	attr->max_res_rd_atom = min_t(u64, (u64)a->max_qp * a->max_qp_rd_atom,
				      INT_MAX);
	if (vrdma_has(dev, VIRTIO_RDMA_F_ATOMIC_GLOBAL))
		attr->atomic_cap = IB_ATOMIC_GLOB;
	else if (vrdma_has(dev, VIRTIO_RDMA_F_ATOMIC))
		attr->atomic_cap = IB_ATOMIC_HCA;
	/* An address handle uses no resource of the device. */
	attr->max_ah = INT_MAX;
	attr->max_pkeys = 1;
	attr->local_ca_ack_delay = min_t(u32, a->local_ca_ack_delay, 31);
	return 0;
}

/* Queries the port's state and attributes from the device. */
int vrdma_port_refresh(struct vrdma_dev *dev)
{
	struct vrdma_port_attr attr;
	int ret;

	ret = vrdma_cmd_query_port(dev, &attr);
	if (ret)
		return ret;
	spin_lock(&dev->port_lock);
	dev->port = attr;
	spin_unlock(&dev->port_lock);
	return 0;
}

static bool vrdma_port_active(struct vrdma_dev *dev)
{
	u8 state;

	spin_lock(&dev->port_lock);
	state = dev->port.state;
	spin_unlock(&dev->port_lock);
	return !vrdma_dead(dev) && state == VIRTIO_RDMA_PORT_ACTIVE &&
	       vrdma_netdev_up(dev);
}

/* Reports to the core if the port went up or down since the last report. */
void vrdma_port_check(struct vrdma_dev *dev)
{
	struct ib_event event = {
		.device = &dev->ibdev,
		.element.port_num = 1,
	};
	bool up;

	mutex_lock(&dev->port_mutex);
	up = vrdma_port_active(dev);
	/* Fails while the ib_device is not registered. */
	if (up != dev->port_up && ib_device_try_get(&dev->ibdev)) {
		dev->port_up = up;
		event.event = up ? IB_EVENT_PORT_ACTIVE : IB_EVENT_PORT_ERR;
		ib_dispatch_event(&event);
		ib_device_put(&dev->ibdev);
	}
	mutex_unlock(&dev->port_mutex);
}

int vrdma_query_port(struct ib_device *ibdev, u32 port,
		     struct ib_port_attr *attr)
{
	struct vrdma_dev *dev = to_vrdma_dev(ibdev);
	struct vrdma_port_attr p;

	spin_lock(&dev->port_lock);
	p = dev->port;
	spin_unlock(&dev->port_lock);

	/* The core has zeroed attr. */
	if (vrdma_port_active(dev)) {
		attr->state = IB_PORT_ACTIVE;
		attr->phys_state = IB_PORT_PHYS_STATE_LINK_UP;
	} else {
		attr->state = IB_PORT_DOWN;
		attr->phys_state = IB_PORT_PHYS_STATE_DISABLED;
	}
	attr->max_mtu = clamp_val(p.max_mtu, IB_MTU_256, IB_MTU_4096);
	attr->active_mtu = clamp_val(p.active_mtu, IB_MTU_256, attr->max_mtu);
	attr->phys_mtu = ib_mtu_enum_to_int(attr->max_mtu);
	attr->gid_tbl_len = dev->gids.num;
	attr->ip_gids = true;
	attr->port_cap_flags = IB_PORT_CM_SUP | IB_PORT_REINIT_SUP |
			       IB_PORT_DEVICE_MGMT_SUP |
			       IB_PORT_VENDOR_CLASS_SUP;
	attr->max_msg_sz = p.max_msg_sz;
	attr->pkey_tbl_len = 1;
	attr->max_vl_num = 1;
	attr->active_width = p.active_width;
	attr->active_speed = p.active_speed;
	return 0;
}

int vrdma_get_port_immutable(struct ib_device *ibdev, u32 port,
			     struct ib_port_immutable *immutable)
{
	struct vrdma_dev *dev = to_vrdma_dev(ibdev);

	immutable->core_cap_flags = RDMA_CORE_PORT_IBA_ROCE_UDP_ENCAP;
	immutable->gid_tbl_len = dev->gids.num;
	immutable->pkey_tbl_len = 1;
	immutable->max_mad_size = IB_MGMT_MAD_SIZE;
	return 0;
}

enum rdma_link_layer vrdma_get_link_layer(struct ib_device *ibdev, u32 port)
{
	return IB_LINK_LAYER_ETHERNET;
}

int vrdma_query_pkey(struct ib_device *ibdev, u32 port, u16 index, u16 *pkey)
{
	if (index)
		return -EINVAL;
	*pkey = IB_DEFAULT_PKEY_FULL;
	return 0;
}

void vrdma_get_fw_str(struct ib_device *ibdev, char *str)
{
	u64 ver = to_vrdma_dev(ibdev)->attr.fw_ver;

	snprintf(str, IB_FW_VERSION_NAME_MAX, "%u.%u.%u", (u32)(ver >> 32),
		 (u32)(ver >> 16) & 0xffff, (u32)ver & 0xffff);
}
