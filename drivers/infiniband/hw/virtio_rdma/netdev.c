// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Pairing with the Ethernet device of the same MAC address, whose IP addresses
 * become the port's GIDs.  It may appear later, disappear, or change its address:
 * a netdevice notifier queues pair_work, which looks for a match and reports it to
 * the core.
 *
 * A netdev whose permanent address matches is preferred to one whose current
 * address matches.  Upper devices (VLAN, bridge, bond, macvlan, ...) share the
 * address of a lower one and are never paired with.
 */
#include <linux/etherdevice.h>
#include <linux/if_arp.h>
#include <linux/if_macvlan.h>
#include <linux/if_vlan.h>
#include <linux/rtnetlink.h>
#include <net/net_namespace.h>
#include <rdma/ib_cache.h>

#include "vrdma.h"

static bool vrdma_netdev_eligible(const struct net_device *ndev)
{
	if (ndev->type != ARPHRD_ETHER || ndev->addr_len != ETH_ALEN ||
	    ndev->reg_state != NETREG_REGISTERED ||
	    (ndev->flags & IFF_LOOPBACK))
		return false;
	if (is_vlan_dev(ndev) || netif_is_macvlan(ndev) ||
	    netif_is_bridge_master(ndev) || netif_is_bond_master(ndev) ||
	    netif_is_team_master(ndev) || netif_is_l3_master(ndev))
		return false;
	/* Any other upper device. */
	return list_empty(&ndev->adj_list.lower);
}

/*
 * The netdev to pair with, or NULL; the RTNL is held.  Its permanent address
 * counts in any namespace.  Its current address counts only in the initial one,
 * because a user who owns a namespace can give any address to a device there.
 */
static struct net_device *vrdma_netdev_find(struct vrdma_dev *dev)
{
	struct net_device *ndev, *found = NULL;
	struct net *net;

	ASSERT_RTNL();
	if (!is_valid_ether_addr(dev->mac))
		return NULL;
	down_read(&net_rwsem);
	for_each_net(net) {
		for_each_netdev(net, ndev) {
			if (!vrdma_netdev_eligible(ndev))
				continue;
			if (ether_addr_equal(ndev->perm_addr, dev->mac)) {
				found = ndev;
				goto out;
			}
			if (!found && net_eq(net, &init_net) &&
			    ether_addr_equal(ndev->dev_addr, dev->mac))
				found = ndev;
		}
	}
out:
	up_read(&net_rwsem);
	return found;
}

/* Pairs with @ndev, or with no netdev; the RTNL is held.  Returns whether the netdev changed. */
static bool vrdma_netdev_set(struct vrdma_dev *dev, struct net_device *ndev)
{
	struct net_device *old;

	ASSERT_RTNL();
	spin_lock(&dev->port_lock);
	old = dev->netdev;
	dev->netdev = ndev;
	spin_unlock(&dev->port_lock);
	if (old == ndev)
		return false;
	if (ib_device_set_netdev(&dev->ibdev, ndev, 1)) {
		spin_lock(&dev->port_lock);
		dev->netdev = NULL;
		spin_unlock(&dev->port_lock);
	}
	return true;
}

/* Whether the paired netdev can carry traffic. */
bool vrdma_netdev_up(struct vrdma_dev *dev)
{
	bool up;

	spin_lock(&dev->port_lock);
	up = dev->netdev && netif_running(dev->netdev) &&
	     netif_carrier_ok(dev->netdev);
	spin_unlock(&dev->port_lock);
	return up;
}

/* The first pairing, before the ib_device is registered. */
void vrdma_netdev_pair(struct vrdma_dev *dev)
{
	rtnl_lock();
	vrdma_netdev_set(dev, vrdma_netdev_find(dev));
	rtnl_unlock();
	/* The ib_device has no name yet. */
	if (dev->netdev)
		dev_info(&dev->vdev->dev, "paired with %s (%pM)\n",
			 netdev_name(dev->netdev), dev->mac);
	else
		dev_warn(&dev->vdev->dev,
			 "no Ethernet device has the MAC address %pM: the port stays down until one comes (give the guest a network card with this mac=)\n",
			 dev->mac);
	dev->port_up = vrdma_netdev_up(dev) &&
		       dev->port.state == VIRTIO_RDMA_PORT_ACTIVE;
}

static void vrdma_pair_work(struct work_struct *work)
{
	struct vrdma_dev *dev = container_of(work, struct vrdma_dev, pair_work);
	bool changed;

	rtnl_lock();
	if (dev->netdev_stop) {
		rtnl_unlock();
		return;
	}
	changed = vrdma_netdev_set(dev, vrdma_netdev_find(dev));
	if (changed && dev->netdev)
		ibdev_info(&dev->ibdev, "paired with %s (%pM)\n",
			   netdev_name(dev->netdev), dev->mac);
	rtnl_unlock();

	/* The core creates GIDs from the addresses that the netdev has now. */
	if (changed && ib_device_try_get(&dev->ibdev)) {
		rdma_roce_rescan_device(&dev->ibdev);
		ib_device_put(&dev->ibdev);
	}
	vrdma_port_check(dev);
}

/* The RTNL is held. */
static int vrdma_netdev_event(struct notifier_block *nb, unsigned long event,
			      void *ptr)
{
	struct vrdma_dev *dev = container_of(nb, struct vrdma_dev, netdev_nb);
	struct net_device *ndev = netdev_notifier_info_to_dev(ptr);

	if (dev->netdev_stop)
		return NOTIFY_DONE;
	switch (event) {
	case NETDEV_UNREGISTER:
		/* The core's reference must be dropped before this returns. */
		if (ndev == dev->netdev) {
			vrdma_netdev_set(dev, NULL);
			queue_work(dev->wq, &dev->pair_work);
		}
		break;
	case NETDEV_REGISTER:
	case NETDEV_CHANGEADDR:
	case NETDEV_CHANGEUPPER:
		queue_work(dev->wq, &dev->pair_work);
		break;
	case NETDEV_UP:
	case NETDEV_DOWN:
	case NETDEV_CHANGE:
		if (ndev == dev->netdev)
			queue_work(dev->wq, &dev->pair_work);
		break;
	}
	return NOTIFY_DONE;
}

int vrdma_netdev_start(struct vrdma_dev *dev)
{
	INIT_WORK(&dev->pair_work, vrdma_pair_work);
	dev->netdev_nb.notifier_call = vrdma_netdev_event;
	return register_netdevice_notifier(&dev->netdev_nb);
}

/*
 * To be called before the ib_device is unregistered, when the core drops the
 * pairing and its reference: port events may still use it until then.
 */
void vrdma_netdev_unpair(struct vrdma_dev *dev)
{
	rtnl_lock();
	dev->netdev_stop = true;
	spin_lock(&dev->port_lock);
	dev->netdev = NULL;
	spin_unlock(&dev->port_lock);
	rtnl_unlock();
}

void vrdma_netdev_stop(struct vrdma_dev *dev)
{
	vrdma_netdev_unpair(dev);
	/* Sends an unregister event for every netdev, which is ignored now. */
	unregister_netdevice_notifier(&dev->netdev_nb);
	cancel_work_sync(&dev->pair_work);
}
