// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * The life of a device: from its virtqueues to a registered ib_device, its failure, and its
 * end.  Called by main.c in process context, one call at a time for a device; the failure is
 * handled in death_work.
 *
 * The order at the end of a device is always: no command is sent (dead); the device is
 * reset, callbacks have ended, the virtqueues are deleted (halted); then users are informed,
 * work requests are flushed and memory is freed.  Otherwise a device that is only slow could
 * write into memory that has been reused.
 */
#include <linux/dma-mapping.h>
#include <linux/etherdevice.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/virtio_config.h>

#include "cmd.h"

static const struct ib_device_ops vrdma_ops = {
	.owner = THIS_MODULE,
	.driver_id = RDMA_DRIVER_UNKNOWN,
	.uverbs_abi_ver = VIRTIO_RDMA_UVERBS_ABI_VERSION,

	.add_gid = vrdma_add_gid,
	.alloc_hw_device_stats = vrdma_alloc_hw_device_stats,
	.alloc_hw_port_stats = vrdma_alloc_hw_port_stats,
	.alloc_pd = vrdma_alloc_pd,
	.alloc_ucontext = vrdma_alloc_ucontext,
	.create_ah = vrdma_create_ah,
	.create_qp = vrdma_create_qp,
	.create_user_ah = vrdma_create_ah,
	.dealloc_pd = vrdma_dealloc_pd,
	.dealloc_ucontext = vrdma_dealloc_ucontext,
	.del_gid = vrdma_del_gid,
	.dereg_mr = vrdma_dereg_mr,
	.destroy_ah = vrdma_destroy_ah,
	.destroy_cq = vrdma_destroy_cq,
	.destroy_qp = vrdma_destroy_qp,
	.disassociate_ucontext = vrdma_disassociate_ucontext,
	.fill_res_cq_entry = vrdma_fill_res_cq,
	.fill_res_mr_entry = vrdma_fill_res_mr,
	.fill_res_qp_entry = vrdma_fill_res_qp,
	.get_dev_fw_str = vrdma_get_fw_str,
	.get_dma_mr = vrdma_get_dma_mr,
	.get_hw_stats = vrdma_get_hw_stats,
	.get_link_layer = vrdma_get_link_layer,
	.get_port_immutable = vrdma_get_port_immutable,
	.mmap = vrdma_mmap,
	.mmap_free = vrdma_mmap_free,
	.modify_qp = vrdma_modify_qp,
	.poll_cq = vrdma_poll_cq,
	.post_recv = vrdma_post_recv,
	.post_send = vrdma_post_send,
	.query_ah = vrdma_query_ah,
	.query_device = vrdma_query_device,
	.query_pkey = vrdma_query_pkey,
	.query_port = vrdma_query_port,
	.query_qp = vrdma_query_qp,
	.reg_user_mr = vrdma_op_reg_user_mr,
	.req_notify_cq = vrdma_req_notify_cq,

	VRDMA_CQ_OPS
	VRDMA_PORT_EVENT_OPS

	INIT_RDMA_OBJ_SIZE(ib_ah, vrdma_ah, ibah),
	INIT_RDMA_OBJ_SIZE(ib_cq, vrdma_cq, ibcq),
	INIT_RDMA_OBJ_SIZE(ib_pd, vrdma_pd, ibpd),
	INIT_RDMA_OBJ_SIZE(ib_qp, vrdma_qp, ibqp),
	INIT_RDMA_OBJ_SIZE(ib_ucontext, vrdma_ucontext, ibuc),
};

static const struct ib_device_ops vrdma_srq_ops = {
	.create_srq = vrdma_create_srq,
	.destroy_srq = vrdma_destroy_srq,
	.modify_srq = vrdma_modify_srq,
	.post_srq_recv = vrdma_post_srq_recv,
	.query_srq = vrdma_query_srq,

	VRDMA_SRQ_RES_OPS

	INIT_RDMA_OBJ_SIZE(ib_srq, vrdma_srq, ibsrq),
};

static const struct ib_device_ops vrdma_mem_mgt_ops = {
	.alloc_mr = vrdma_alloc_mr,
	.map_mr_sg = vrdma_map_mr_sg,
};

static const struct ib_device_ops vrdma_resize_ops = {
	VRDMA_RESIZE_OPS
};

/*
 * The PCI function of a virtio device, or NULL.  The ib_device belongs to it:
 * tools derive topology and NUMA node from the ib_device's path.
 */
static struct device *vrdma_pci_parent(struct virtio_device *vdev)
{
	struct device *parent = vdev->dev.parent;

	return parent && dev_is_pci(parent) ? parent : NULL;
}

/*
 * A function that was removed by surprise accesses no memory, and a reset would wait for it
 * without end.
 */
static bool vrdma_is_removed(struct virtio_device *vdev)
{
#ifdef CONFIG_PCI
	struct device *parent = vrdma_pci_parent(vdev);

	return parent && !pci_device_is_present(to_pci_dev(parent));
#else
	return false;
#endif
}

/*
 * Halts the device: on return it is reset, no callback runs and its queues are deleted, so
 * it accesses no memory.  The device must be dead.  Called by death_work, or after
 * death_work was flushed.
 */
void vrdma_dev_halt(struct vrdma_dev *dev)
{
	if (dev->halted)
		return;
	if (!vrdma_is_removed(dev->vdev))
		virtio_reset_device(dev->vdev);
	/* Not every transport's reset waits for callbacks that are running. */
	virtio_synchronize_cbs(dev->vdev);
	/* Wait for callers that saw the device alive and may still notify it. */
	synchronize_rcu();
	vrdma_vqs_close(dev);

	spin_lock(&dev->park_lock);
	/* Pairs with the acquire in vrdma_halted(). */
	smp_store_release(&dev->halted, true);
	spin_unlock(&dev->park_lock);
	vrdma_buf_free_parked(dev);
	complete_all(&dev->halt_done);
}

/* Second half of vrdma_dev_kill(), which cannot sleep. */
void vrdma_death_work(struct work_struct *work)
{
	struct vrdma_dev *dev = container_of(work, struct vrdma_dev,
					     death_work);
	struct ib_event event = {
		.device = &dev->ibdev,
		.event = IB_EVENT_DEVICE_FATAL,
		.element.port_num = 1,
	};

	vrdma_dev_halt(dev);
	/* Before the event, so that the provider finds the device dead when it gets the event. */
	vrdma_status_clear_alive(dev);
	/* Fails while the ib_device is not registered. */
	if (ib_device_try_get(&dev->ibdev)) {
		ib_dispatch_event(&event);
		ib_device_put(&dev->ibdev);
	}
	vrdma_qps_raise_last_wqe(dev);
	vrdma_wake_user_cqs(dev);
	/* Kernel users wait for the completions of their work requests. */
	queue_work(dev->wq, &dev->flush_work);
}

/* Reads and checks the configuration space: the number of vectors to use. */
static int vrdma_read_config(struct vrdma_dev *dev, u32 *num_comp)
{
	struct virtio_device *vdev = dev->vdev;
	u16 vectors;

	virtio_cread_le(vdev, struct virtio_rdma_config, num_comp_vectors,
			&vectors);
	virtio_cread_bytes(vdev, offsetof(struct virtio_rdma_config, mac),
			   dev->mac, ETH_ALEN);
	if (!vectors || vectors > VIRTIO_RDMA_MAX_COMP_VECTORS) {
		dev_err(&vdev->dev,
			"the device claims %u completion vectors; it has to have 1 to %u\n",
			vectors, VIRTIO_RDMA_MAX_COMP_VECTORS);
		return -EINVAL;
	}
	if (!is_valid_ether_addr(dev->mac))
		dev_warn(&vdev->dev,
			 "the device has no valid MAC address (%pM), so no Ethernet device pairs with it: set mac= or netdev= on the host\n",
			 dev->mac);
	*num_comp = min_t(u32, vectors, num_online_cpus());
	return 0;
}

/* The rest of the driver relies on these. */
static int vrdma_check_attr(struct vrdma_dev *dev)
{
	const struct vrdma_attr *attr = &dev->attr;

	if (!attr->max_qp || !attr->max_cq || !attr->max_pd || !attr->max_qp_wr ||
	    !attr->max_cqe || !attr->max_send_sge || !attr->max_recv_sge ||
	    !attr->node_guid || !dev->port.gid_tbl_len) {
		dev_err(&dev->vdev->dev,
			"the device reports limits of zero: it cannot be used\n");
		return -EINVAL;
	}
	return 0;
}

void vrdma_dev_init(struct vrdma_dev *dev, struct virtio_device *vdev)
{
	dev->vdev = vdev;
	dev->ibdev.dev.parent = vrdma_pci_parent(vdev) ?: &vdev->dev;
	init_completion(&dev->halt_done);
	vrdma_ctrl_init(dev);
	spin_lock_init(&dev->port_lock);
	mutex_init(&dev->port_mutex);
	xa_init_flags(&dev->qps, XA_FLAGS_LOCK_IRQ);
	xa_init_flags(&dev->cqs, XA_FLAGS_LOCK_IRQ);
	xa_init_flags(&dev->srqs, XA_FLAGS_LOCK_IRQ);
	init_waitqueue_head(&dev->qpn_free);
	INIT_LIST_HEAD(&dev->parked);
	spin_lock_init(&dev->park_lock);
	INIT_WORK(&dev->event_work, vrdma_event_work);
	INIT_DELAYED_WORK(&dev->refill_work, vrdma_refill_work);
	INIT_WORK(&dev->death_work, vrdma_death_work);
	INIT_WORK(&dev->flush_work, vrdma_flush_work);
	vrdma_gids_init(dev);
}

static int vrdma_dev_register(struct vrdma_dev *dev)
{
	struct ib_device *ibdev = &dev->ibdev;
	int ret;

	ibdev->node_type = RDMA_NODE_IB_CA;
	ibdev->node_guid = cpu_to_be64(dev->attr.node_guid);
	ibdev->phys_port_cnt = 1;
	ibdev->num_comp_vectors = dev->num_comp;
	ibdev->local_dma_lkey = VIRTIO_RDMA_LOCAL_DMA_LKEY;
	/* A process wakes the device by a post of zero requests. */
	ibdev->uverbs_cmd_mask |= BIT_ULL(IB_USER_VERBS_CMD_POST_SEND) |
				  BIT_ULL(IB_USER_VERBS_CMD_POST_SRQ_RECV) |
				  BIT_ULL(IB_USER_VERBS_CMD_REQ_NOTIFY_CQ);
	strscpy(ibdev->node_desc, "virtio-rdma", sizeof(ibdev->node_desc));
	ib_set_device_ops(ibdev, &vrdma_ops);
	if (vrdma_has(dev, VIRTIO_RDMA_F_RESIZE_CQ))
		ib_set_device_ops(ibdev, &vrdma_resize_ops);
	if (vrdma_has(dev, VIRTIO_RDMA_F_SRQ))
		ib_set_device_ops(ibdev, &vrdma_srq_ops);

	if (vrdma_has(dev, VIRTIO_RDMA_F_MEM_MGT))
		ib_set_device_ops(ibdev, &vrdma_mem_mgt_ops);

	/* With the netdev, so that the GIDs exist from the start. */
	vrdma_netdev_pair(dev);
	ret = ib_register_device(ibdev, "vrdma%d", dev->dma_dev);
	if (ret)
		return ret;
	ret = vrdma_netdev_start(dev);
	if (ret) {
		vrdma_netdev_unpair(dev);
		ib_unregister_device(ibdev);
	}
	return ret;
}

/* Virtqueues, INIT and the device's attributes. */
static int vrdma_dev_start(struct vrdma_dev *dev, u32 num_comp)
{
	struct virtio_device *vdev = dev->vdev;
	int ret;

	virtio_device_ready(vdev);
	/* Allow extents of any size, so that contiguous memory is one extent. */
	if (dev->dma_dev->dma_parms)
		dma_set_max_seg_size(dev->dma_dev, UINT_MAX);

	ret = vrdma_vqs_fill(dev);
	if (ret)
		return ret;
	ret = vrdma_cmd_init(dev, num_comp);
	if (ret) {
		dev_err(&vdev->dev, "the device refused INIT (%d)\n", ret);
		return ret;
	}
	ret = vrdma_cmd_query_device(dev, &dev->attr);
	if (!ret)
		ret = vrdma_port_refresh(dev);
	if (!ret)
		ret = vrdma_check_attr(dev);
	return ret;
}

/* Ends a device that has queues: halts it, unless it is halted already. */
static void vrdma_dev_stop(struct vrdma_dev *dev)
{
	vrdma_ctrl_shut(dev);
	/* If the device has died, this work was queued under ctrl.lock: wait for it. */
	flush_work(&dev->death_work);
	vrdma_dev_halt(dev);
	vrdma_gids_cleanup(dev);
	destroy_workqueue(dev->wq);
	xa_destroy(&dev->srqs);
	xa_destroy(&dev->cqs);
	xa_destroy(&dev->qps);
}

/* Creates the device for a virtio device that has negotiated @features; sets its priv. */
struct vrdma_dev *vrdma_dev_create(struct virtio_device *vdev, u64 features)
{
	struct vrdma_dev *dev;
	u32 num_comp;
	int ret;

	dev = ib_alloc_device(vrdma_dev, ibdev);
	if (!dev)
		return ERR_PTR(-ENOMEM);
	vrdma_dev_init(dev, vdev);
	dev->features = features;
	ret = vrdma_read_config(dev, &num_comp);
	if (ret)
		goto err_dealloc;
	ret = vrdma_status_alloc(dev);
	if (ret)
		goto err_dealloc;
	/* Storage may depend on the device to write back memory. */
	dev->wq = alloc_workqueue("virtio_rdma.%d",
				  WQ_UNBOUND | WQ_MEM_RECLAIM, 0, vdev->index);
	if (!dev->wq) {
		ret = -ENOMEM;
		goto err_status;
	}
	/* The queues' callbacks find it here. */
	vdev->priv = dev;
	ret = vrdma_vqs_open(dev, num_comp);
	if (ret)
		goto err_wq;
	ret = vrdma_dev_start(dev, num_comp);
	if (!ret)
		ret = vrdma_gids_alloc(dev);
	if (!ret)
		ret = vrdma_kctx_open(dev);
	if (ret)
		goto err_stop;
	ret = vrdma_dev_register(dev);
	if (ret)
		goto err_kctx;
	return dev;

err_kctx:
	vrdma_kctx_close(dev);
err_stop:
	vrdma_dev_stop(dev);
	goto err_forget;
err_wq:
	destroy_workqueue(dev->wq);
err_forget:
	vdev->priv = NULL;
err_status:
	vrdma_status_free(dev);
err_dealloc:
	ib_dealloc_device(&dev->ibdev);
	return ERR_PTR(ret);
}

/*
 * Kernel users are removed and contexts disassociated first, with commands still
 * working if the device does; then the device is halted.
 */
void vrdma_dev_destroy(struct vrdma_dev *dev)
{
	struct virtio_device *vdev = dev->vdev;

	/* If the device was removed, end its pending commands now. */
	vrdma_ctrl_check(dev);
	/* The users of a dead device are informed before it is unregistered. */
	flush_work(&dev->death_work);
	vrdma_netdev_stop(dev);
	ib_unregister_device(&dev->ibdev);
	/* No command is pending any more. */
	vrdma_gids_settle(dev);
	vrdma_kctx_close(dev);
	vrdma_dev_stop(dev);
	vdev->priv = NULL;
	vrdma_status_free(dev);
	ib_dealloc_device(&dev->ibdev);
}
