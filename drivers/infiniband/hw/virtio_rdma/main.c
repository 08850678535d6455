// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * virtio-rdma: the virtio driver.  Binds to the device, makes an ib_device of
 * it, and makes a new one after the device was reset (by its host, or by
 * suspend and resume).  Entered by the virtio core and by reset_work.
 */
#include <linux/dma-mapping.h>
#include <linux/etherdevice.h>
#include <linux/module.h>
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

static const struct ib_device_ops vrdma_resize_ops = {
	VRDMA_RESIZE_OPS
};

/* What vrdma_dev_kill() could not do itself: tell the users. */
static void vrdma_death_work(struct work_struct *work)
{
	struct vrdma_dev *dev = container_of(work, struct vrdma_dev,
					     death_work);
	struct ib_event event = {
		.device = &dev->ibdev,
		.event = IB_EVENT_DEVICE_FATAL,
		.element.port_num = 1,
	};

	/* Before the event, so that who hears of it finds it true. */
	vrdma_ucontexts_tell_death(dev);
	/* Not before it is registered, nor after. */
	if (ib_device_try_get(&dev->ibdev)) {
		ib_dispatch_event(&event);
		ib_device_put(&dev->ibdev);
	}
	vrdma_qps_tell_last_wqe(dev);
	vrdma_wake_user_cqs(dev);
	/* Kernel users wait for the completions of what they posted. */
	queue_work(dev->wq, &dev->flush_work);
}

/* Accepted if the device offers them. */
static const unsigned int vrdma_features[] = {
	VIRTIO_RDMA_F_UC,
	VIRTIO_RDMA_F_SRQ,
	VIRTIO_RDMA_F_ATOMIC,
	VIRTIO_RDMA_F_ATOMIC_GLOBAL,
	VIRTIO_RDMA_F_RESIZE_CQ,
	VIRTIO_RDMA_F_DMA_KEY,
	VIRTIO_RDMA_F_RNR_NAK,
};

static void vrdma_read_features(struct vrdma_dev *dev)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(vrdma_features); i++) {
		if (virtio_has_feature(dev->vdev, vrdma_features[i]))
			dev->features |= BIT_ULL(vrdma_features[i]);
	}
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

/* What the rest of the driver relies on. */
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

static void vrdma_dev_init(struct vrdma_dev *dev, struct virtio_device *vdev)
{
	dev->vdev = vdev;
	vrdma_ctrl_init(dev);
	spin_lock_init(&dev->port_lock);
	mutex_init(&dev->port_mutex);
	xa_init_flags(&dev->qps, XA_FLAGS_LOCK_IRQ);
	xa_init_flags(&dev->cqs, XA_FLAGS_LOCK_IRQ);
	xa_init_flags(&dev->srqs, XA_FLAGS_LOCK_IRQ);
	init_waitqueue_head(&dev->qpn_free);
	INIT_LIST_HEAD(&dev->user_dbs);
	spin_lock_init(&dev->user_dbs_lock);
	INIT_LIST_HEAD(&dev->parked);
	spin_lock_init(&dev->park_lock);
	INIT_WORK(&dev->event_work, vrdma_event_work);
	INIT_WORK(&dev->death_work, vrdma_death_work);
	INIT_WORK(&dev->flush_work, vrdma_flush_work);
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
	ibdev->dev.parent = &dev->vdev->dev;
	/* A post of no requests is how a process wakes the device. */
	ibdev->uverbs_cmd_mask |= BIT_ULL(IB_USER_VERBS_CMD_POST_SEND) |
				  BIT_ULL(IB_USER_VERBS_CMD_POST_SRQ_RECV);
	strscpy(ibdev->node_desc, "virtio-rdma", sizeof(ibdev->node_desc));
	ib_set_device_ops(ibdev, &vrdma_ops);
	if (vrdma_has(dev, VIRTIO_RDMA_F_RESIZE_CQ))
		ib_set_device_ops(ibdev, &vrdma_resize_ops);
	if (vrdma_has(dev, VIRTIO_RDMA_F_SRQ))
		ib_set_device_ops(ibdev, &vrdma_srq_ops);

	/* With its netdev, so that the GIDs are there from the start. */
	vrdma_netdev_pair(dev);
	ret = ib_register_device(ibdev, "vrdma%d", dev->vdev->dev.parent);
	if (ret)
		return ret;
	ret = vrdma_netdev_start(dev);
	if (ret)
		ib_unregister_device(ibdev);
	return ret;
}

/*
 * Stops the device and gives everything back: from here on no callback runs,
 * and the device touches no memory.
 */
static void vrdma_dev_stop(struct vrdma_dev *dev)
{
	virtio_reset_device(dev->vdev);
	/* Not every transport's reset waits for callbacks that are running. */
	virtio_synchronize_cbs(dev->vdev);
	/*
	 * An event of the last moment may still be worked on, with buffers of the
	 * event queue, and wait for an answer that will not come.
	 */
	vrdma_ctrl_shut(dev);
	cancel_work_sync(&dev->event_work);
	vrdma_vqs_close(dev);
	destroy_workqueue(dev->wq);
	vrdma_buf_free_parked(dev);
	xa_destroy(&dev->srqs);
	xa_destroy(&dev->cqs);
	xa_destroy(&dev->qps);
}

/* A new incarnation, of a device with its features negotiated; vd->lock held. */
static int vrdma_dev_create(struct vrdma_vdev *vd)
{
	struct virtio_device *vdev = vd->vdev;
	struct vrdma_dev *dev;
	u32 num_comp;
	int ret;

	dev = ib_alloc_device(vrdma_dev, ibdev);
	if (!dev)
		return -ENOMEM;
	vrdma_dev_init(dev, vdev);
	vrdma_read_features(dev);
	ret = vrdma_read_config(dev, &num_comp);
	if (ret)
		goto err_dealloc;
	dev->wq = alloc_workqueue("virtio_rdma.%d", WQ_UNBOUND, 0, vdev->index);
	if (!dev->wq) {
		ret = -ENOMEM;
		goto err_dealloc;
	}
	/* The queues' callbacks find it here. */
	vd->dev = dev;
	ret = vrdma_vqs_open(dev, num_comp);
	if (ret)
		goto err_wq;
	virtio_device_ready(vdev);

	ret = vrdma_vqs_fill(dev);
	if (ret)
		goto err_stop;
	ret = vrdma_cmd_init(dev, num_comp);
	if (ret) {
		dev_err(&vdev->dev, "the device refused INIT (%d)\n", ret);
		goto err_stop;
	}
	ret = vrdma_cmd_query_device(dev, &dev->attr);
	if (!ret)
		ret = vrdma_port_refresh(dev);
	if (!ret)
		ret = vrdma_check_attr(dev);
	if (!ret)
		ret = vrdma_kctx_open(dev);
	if (ret)
		goto err_stop;
	ret = vrdma_dev_register(dev);
	if (ret)
		goto err_kctx;
	return 0;

err_kctx:
	vrdma_kctx_close(dev);
err_stop:
	vrdma_dev_stop(dev);
	goto err_forget;
err_wq:
	destroy_workqueue(dev->wq);
err_forget:
	vd->dev = NULL;
err_dealloc:
	ib_dealloc_device(&dev->ibdev);
	return ret;
}

/*
 * The end of an incarnation; vd->lock held.  Kernel users are removed and
 * contexts disassociated first, with commands still working if the device does;
 * then the device is reset, and what it may have used is freed.
 */
static void vrdma_dev_destroy(struct vrdma_vdev *vd)
{
	struct vrdma_dev *dev = vd->dev;

	if (!dev)
		return;
	if (virtqueue_is_broken(dev->ctrl.vq))
		vrdma_dev_kill(dev, "it was removed");
	/* A dead device's users hear of it first. */
	flush_work(&dev->death_work);
	vrdma_netdev_stop(dev);
	ib_unregister_device(&dev->ibdev);
	vrdma_kctx_close(dev);
	vrdma_dev_stop(dev);
	vd->dev = NULL;
	ib_dealloc_device(&dev->ibdev);
}

/* Takes a reset device back to where probe() finds it. */
static int vrdma_renegotiate(struct virtio_device *vdev)
{
	int ret;

	virtio_reset_device(vdev);
	virtio_add_status(vdev, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	virtio_add_status(vdev, VIRTIO_CONFIG_S_DRIVER);
	ret = vdev->config->finalize_features(vdev);
	if (ret)
		return ret;
	virtio_add_status(vdev, VIRTIO_CONFIG_S_FEATURES_OK);
	if (!(vdev->config->get_status(vdev) & VIRTIO_CONFIG_S_FEATURES_OK))
		return -ENODEV;
	return 0;
}

/*
 * The device asked for a reset, as its host lost the state; or the guest was
 * resumed.
 */
static void vrdma_reset_work(struct work_struct *work)
{
	struct vrdma_vdev *vd = container_of(work, struct vrdma_vdev,
					     reset_work);
	struct virtio_device *vdev = vd->vdev;
	bool lost;
	int ret;

	mutex_lock(&vd->lock);
	lost = vdev->config->get_status(vdev) & VIRTIO_CONFIG_S_NEEDS_RESET;
	if (vd->frozen || !(lost || vd->resumed))
		goto out;
	vd->resumed = false;
	if (vd->dev)
		vrdma_dev_kill(vd->dev, "it lost its state and asks for a reset");
	vrdma_dev_destroy(vd);
	ret = vrdma_renegotiate(vdev);
	if (!ret)
		ret = vrdma_dev_create(vd);
	if (ret) {
		virtio_add_status(vdev, VIRTIO_CONFIG_S_FAILED);
		dev_err(&vdev->dev,
			"it does not start anew after the reset (%d): rebind the driver to try again\n",
			ret);
	} else {
		dev_info(&vdev->dev, "started anew after a reset\n");
	}
out:
	mutex_unlock(&vd->lock);
}

/* May run in interrupt context. */
static void vrdma_config_changed(struct virtio_device *vdev)
{
	struct vrdma_vdev *vd = vdev->priv;

	/* Reading the status may sleep, so the work does it. */
	if (vd)
		queue_work(system_freezable_wq, &vd->reset_work);
}

static int vrdma_validate(struct virtio_device *vdev)
{
	if (!virtio_has_feature(vdev, VIRTIO_F_VERSION_1)) {
		dev_err(&vdev->dev,
			"the device does not offer VIRTIO_F_VERSION_1: add disable-legacy=on,disable-modern=off on the host\n");
		return -ENODEV;
	}
	if (!virtio_has_feature(vdev, VIRTIO_F_ACCESS_PLATFORM)) {
		dev_err(&vdev->dev,
			"the device does not offer VIRTIO_F_ACCESS_PLATFORM: add iommu_platform=on on the host\n");
		return -ENODEV;
	}
	/* Without the one, the other says nothing. */
	if (!virtio_has_feature(vdev, VIRTIO_RDMA_F_ATOMIC))
		__virtio_clear_bit(vdev, VIRTIO_RDMA_F_ATOMIC_GLOBAL);
	return 0;
}

static int vrdma_probe(struct virtio_device *vdev)
{
	struct device *dma_dev = vdev->dev.parent;
	struct vrdma_vdev *vd;
	int ret;

	ret = dma_set_mask_and_coherent(dma_dev, DMA_BIT_MASK(64));
	if (ret) {
		dev_err(&vdev->dev, "no 64-bit DMA (%d)\n", ret);
		return ret;
	}
	/* So that contiguous memory is one extent, whatever its size. */
	if (dma_dev->dma_parms)
		dma_set_max_seg_size(dma_dev, UINT_MAX);

	vd = kzalloc(sizeof(*vd), GFP_KERNEL);
	if (!vd)
		return -ENOMEM;
	vd->vdev = vdev;
	mutex_init(&vd->lock);
	INIT_WORK(&vd->reset_work, vrdma_reset_work);
	vdev->priv = vd;

	mutex_lock(&vd->lock);
	ret = vrdma_dev_create(vd);
	mutex_unlock(&vd->lock);
	if (ret) {
		/* A change of the configuration may have queued it already. */
		cancel_work_sync(&vd->reset_work);
		vdev->priv = NULL;
		kfree(vd);
	}
	return ret;
}

static void vrdma_remove(struct virtio_device *vdev)
{
	struct vrdma_vdev *vd = vdev->priv;

	/* The core has disabled config_changed(). */
	cancel_work_sync(&vd->reset_work);
	mutex_lock(&vd->lock);
	vrdma_dev_destroy(vd);
	mutex_unlock(&vd->lock);
	vdev->priv = NULL;
	kfree(vd);
}

#ifdef CONFIG_PM_SLEEP
/*
 * Suspend and resume are an unbind and a bind to the users of the ib_device:
 * the device keeps nothing over a reset.
 */
static int vrdma_freeze(struct virtio_device *vdev)
{
	struct vrdma_vdev *vd = vdev->priv;

	mutex_lock(&vd->lock);
	vd->frozen = true;
	vrdma_dev_destroy(vd);
	mutex_unlock(&vd->lock);
	return 0;
}

static int vrdma_restore(struct virtio_device *vdev)
{
	struct vrdma_vdev *vd = vdev->priv;

	mutex_lock(&vd->lock);
	vd->frozen = false;
	vd->resumed = true;
	mutex_unlock(&vd->lock);
	/*
	 * Children of a device that has not resumed yet cannot be registered:
	 * the work runs when processes run again.
	 */
	queue_work(system_freezable_wq, &vd->reset_work);
	return 0;
}
#endif

static const struct virtio_device_id vrdma_id_table[] = {
	{ VIRTIO_ID_RDMA, VIRTIO_DEV_ANY_ID },
	{ 0 },
};
MODULE_DEVICE_TABLE(virtio, vrdma_id_table);

static struct virtio_driver vrdma_driver = {
	.driver.name = KBUILD_MODNAME,
	.driver.owner = THIS_MODULE,
	.id_table = vrdma_id_table,
	.feature_table = vrdma_features,
	.feature_table_size = ARRAY_SIZE(vrdma_features),
	.validate = vrdma_validate,
	.probe = vrdma_probe,
	.remove = vrdma_remove,
	.config_changed = vrdma_config_changed,
#ifdef CONFIG_PM_SLEEP
	.freeze = vrdma_freeze,
	.restore = vrdma_restore,
#endif
};
module_virtio_driver(vrdma_driver);

MODULE_DESCRIPTION("virtio-rdma: RDMA device for virtual machines");
MODULE_LICENSE("Dual BSD/GPL");
