// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * The port's GID table.  The core's table follows the addresses of the netdev;
 * the device's follows the core's.
 *
 * The core may add and delete GIDs with the RTNL held, so these operations do
 * not wait for the device: they only note what the table should be, and a work
 * item sends the changes.  It deletes before it adds, because a GID that moved to
 * another index exists only once.  What needs a GID in the device's table,
 * MODIFY_QP and the creation of address handles, waits for the work item
 * (vrdma_gids_settle()).
 *
 * If the device refuses a GID, the core keeps it; its use fails at the device.
 */
#include <linux/if_vlan.h>
#include <rdma/ib_cache.h>

#include "cmd.h"

/* The GID index of an address vector is one byte. */
#define VRDMA_MAX_GIDS		256

static bool vrdma_gid_same(const struct vrdma_gid_params *a,
			   const struct vrdma_gid_params *b)
{
	return !memcmp(a, b, sizeof(*a));
}

/* Deletes GIDs that the device should no longer have.  gids->lock is held. */
static void vrdma_gids_delete(struct vrdma_dev *dev)
{
	struct vrdma_gids *gids = &dev->gids;
	struct vrdma_gid *gid;
	u32 i;

	for (i = 0; i < gids->num; i++) {
		gid = &gids->table[i];
		if (!gid->held ||
		    (gid->wanted && vrdma_gid_same(&gid->want, &gid->have)))
			continue;
		gid->held = false;
		mutex_unlock(&gids->lock);
		/* If this fails, the device refuses the next ADD_GID for index @i. */
		vrdma_cmd_del_gid(dev, i);
		mutex_lock(&gids->lock);
	}
}

static void vrdma_gid_report(struct vrdma_dev *dev, const u8 *gid, int error)
{
	if (error == -EPERM)
		ibdev_notice_ratelimited(&dev->ibdev,
					 "the host does not allow the address %pI6c\n",
					 gid);
	else if (error && !vrdma_dead(dev))
		ibdev_notice_ratelimited(&dev->ibdev,
					 "the host refuses the address %pI6c (%d)\n",
					 gid, error);
}

/* Adds GIDs that the device should have.  gids->lock is held. */
static void vrdma_gids_add(struct vrdma_dev *dev)
{
	struct vrdma_gids *gids = &dev->gids;
	struct vrdma_gid_params p;
	struct vrdma_gid *gid;
	int ret;
	u32 i;

	for (i = 0; i < gids->num; i++) {
		gid = &gids->table[i];
		if (!gid->wanted || gid->held || gid->refused)
			continue;
		p = gid->want;
		mutex_unlock(&gids->lock);
		ret = vrdma_cmd_add_gid(dev, i, &p);
		vrdma_gid_report(dev, p.gid, ret);
		mutex_lock(&gids->lock);
		/* The core may have changed the entry meanwhile. */
		if (!ret) {
			gid->have = p;
			gid->held = true;
		} else if (gid->wanted && vrdma_gid_same(&gid->want, &p)) {
			gid->refused = ret;
		}
	}
}

/*
 * The commands do not fail for lack of the guest's memory: the core assumes that
 * the tables are the same, so an error is one of the device.
 *
 * Only this work item sends GID commands, so @have and @held are its own.  The
 * lock is not held while the device works: the core may wait for it under the
 * RTNL.
 */
static void vrdma_gid_work(struct work_struct *work)
{
	struct vrdma_dev *dev = container_of(work, struct vrdma_dev,
					     gids.work);
	struct vrdma_gids *gids = &dev->gids;

	mutex_lock(&gids->lock);
	while (gids->changed && !vrdma_dead(dev)) {
		gids->changed = false;
		vrdma_gids_delete(dev);
		vrdma_gids_add(dev);
	}
	mutex_unlock(&gids->lock);
}

static void vrdma_gids_change(struct vrdma_dev *dev)
{
	dev->gids.changed = true;
	queue_work(dev->wq, &dev->gids.work);
}

/* Reads the layer 2 parameters of the GID, which the device needs as well. */
static int vrdma_gid_params(struct vrdma_dev *dev,
			    const struct ib_gid_attr *attr,
			    struct vrdma_gid_params *p)
{
	u16 vlan_id;
	int ret;

	ret = rdma_read_gid_l2_fields(attr, &vlan_id, p->smac);
	if (ret)
		return ret;
	p->vlan_id = VIRTIO_RDMA_VLAN_NONE;
	if (vlan_id < VLAN_N_VID) {
		/* Without the feature the device would send packets without a tag. */
		if (!vrdma_has(dev, VIRTIO_RDMA_F_VLAN_GID))
			return -EOPNOTSUPP;
		p->vlan_id = vlan_id;
	}
	memcpy(p->gid, attr->gid.raw, sizeof(p->gid));
	return 0;
}

int vrdma_add_gid(const struct ib_gid_attr *attr, void **context)
{
	struct vrdma_dev *dev = to_vrdma_dev(attr->device);
	struct vrdma_gids *gids = &dev->gids;
	struct vrdma_gid_params p;
	struct vrdma_gid *gid;
	int ret;

	if (attr->index >= gids->num)
		return -EINVAL;
	if (vrdma_dead(dev))
		return -EIO;
	ret = vrdma_gid_params(dev, attr, &p);
	if (ret)
		return ret;
	mutex_lock(&gids->lock);
	gid = &gids->table[attr->index];
	gid->want = p;
	gid->wanted = true;
	gid->refused = 0;
	vrdma_gids_change(dev);
	mutex_unlock(&gids->lock);
	return 0;
}

int vrdma_del_gid(const struct ib_gid_attr *attr, void **context)
{
	struct vrdma_dev *dev = to_vrdma_dev(attr->device);
	struct vrdma_gids *gids = &dev->gids;

	if (attr->index >= gids->num)
		return -EINVAL;
	mutex_lock(&gids->lock);
	gids->table[attr->index].wanted = false;
	vrdma_gids_change(dev);
	mutex_unlock(&gids->lock);
	return 0;
}

/* Waits until the work item has sent all changes of the table so far to the device. */
void vrdma_gids_settle(struct vrdma_dev *dev)
{
	flush_work(&dev->gids.work);
}

void vrdma_gids_init(struct vrdma_dev *dev)
{
	mutex_init(&dev->gids.lock);
	INIT_WORK(&dev->gids.work, vrdma_gid_work);
}

/* Called when the port's attributes are known, before the ib_device is registered. */
int vrdma_gids_alloc(struct vrdma_dev *dev)
{
	struct vrdma_gids *gids = &dev->gids;

	gids->num = min_t(u32, dev->port.gid_tbl_len, VRDMA_MAX_GIDS);
	gids->table = kcalloc(gids->num, sizeof(*gids->table), GFP_KERNEL);
	return gids->table ? 0 : -ENOMEM;
}

/* The ib_device is not registered, so the table does not change. */
void vrdma_gids_cleanup(struct vrdma_dev *dev)
{
	cancel_work_sync(&dev->gids.work);
	kfree(dev->gids.table);
	dev->gids.table = NULL;
}
