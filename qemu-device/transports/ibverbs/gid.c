// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ibverbs transport: lookup of a guest's GIDs in the table of the host's port.
 *
 * The host sends only from addresses of its own.  A guest's GID is one of them if the host's
 * administrator added the guest's IP address to the host's netdev.  If not, connecting fails
 * with a status of its own, and the log names the command that adds the address.
 *
 * Threads: control thread and worker; vdev->lock for the copy of the table.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#include "ibv.h"
#include "log.h"

static const uint8_t v4_prefix[12] = { [10] = 0xff, [11] = 0xff };

static bool is_v4(const uint8_t gid[16])
{
	return !memcmp(gid, v4_prefix, sizeof(v4_prefix));
}

void vrd_ibv_gid_format(const uint8_t gid[16], char *buf, size_t size)
{
	if (!inet_ntop(is_v4(gid) ? AF_INET : AF_INET6, is_v4(gid) ? gid + 12 : gid, buf,
		       (socklen_t)size))
		buf[0] = '\0';
}

int vrd_ibv_gids_refresh(struct vrd_ibv_dev *vdev)
{
	struct ibv_gid_entry *gids = calloc(VRD_IBV_MAX_GIDS, sizeof(*gids)), *old;
	ssize_t num;

	if (!gids)
		return -ENOMEM;
	num = ibv_query_gid_table(vdev->ctx, gids, VRD_IBV_MAX_GIDS, 0);
	if (num < 0) {
		free(gids);
		return (int)num;
	}
	pthread_mutex_lock(&vdev->lock);
	old = vdev->gids;
	vdev->gids = gids;
	vdev->num_gids = (unsigned int)num;
	pthread_mutex_unlock(&vdev->lock);
	free(old);
	return 0;
}

/*
 * The index in an address vector has eight bits: a larger index would be truncated and
 * identify the address of another guest.
 */
static bool usable(const struct vrd_ibv_dev *vdev, const struct ibv_gid_entry *entry)
{
	return entry->port_num == vdev->port_num && entry->gid_type == IBV_GID_TYPE_ROCE_V2 &&
	       entry->gid_index <= UINT8_MAX;
}

static int find(struct vrd_ibv_dev *vdev, const uint8_t gid[16])
{
	int index = -EADDRNOTAVAIL;

	pthread_mutex_lock(&vdev->lock);
	for (unsigned int i = 0; i < vdev->num_gids; i++) {
		const struct ibv_gid_entry *entry = &vdev->gids[i];

		if (usable(vdev, entry) && !memcmp(entry->gid.raw, gid, 16)) {
			index = (int)entry->gid_index;
			break;
		}
	}
	pthread_mutex_unlock(&vdev->lock);
	return index;
}

bool vrd_ibv_gid_at(struct vrd_ibv_dev *vdev, unsigned int index, uint8_t gid[16],
		    unsigned int *ifindex)
{
	bool found = false;

	pthread_mutex_lock(&vdev->lock);
	for (unsigned int i = 0; i < vdev->num_gids; i++) {
		const struct ibv_gid_entry *entry = &vdev->gids[i];

		if (!usable(vdev, entry) || entry->gid_index != index)
			continue;
		memcpy(gid, entry->gid.raw, 16);
		if (ifindex)
			*ifindex = entry->ndev_ifindex;
		found = true;
		break;
	}
	pthread_mutex_unlock(&vdev->lock);
	return found;
}

/* Finds the netdev of the host's port by any of its GIDs. */
static unsigned int port_ifindex(struct vrd_ibv_dev *vdev)
{
	unsigned int ifindex = 0;

	pthread_mutex_lock(&vdev->lock);
	for (unsigned int i = 0; i < vdev->num_gids && !ifindex; i++)
		if (vdev->gids[i].port_num == vdev->port_num)
			ifindex = vdev->gids[i].ndev_ifindex;
	pthread_mutex_unlock(&vdev->lock);
	return ifindex;
}

int vrd_ibv_gid_index(struct vrd_ibv_dev *vdev, const uint8_t gid[16])
{
	char address[INET6_ADDRSTRLEN], ifname[IF_NAMESIZE] = "";
	int index = find(vdev, gid);

	if (index >= 0)
		return index;
	/* The event of the table's change may be pending. */
	if (!vrd_ibv_gids_refresh(vdev))
		index = find(vdev, gid);
	if (index >= 0)
		return index;
	vrd_ibv_gid_format(gid, address, sizeof(address));
	if (!if_indextoname(port_ifindex(vdev), ifname))
		strcpy(ifname, "IFNAME");
	vrd_dev_log(vdev->dev, VRD_LOG_WARN,
		    "port %u of %s has no RoCE v2 GID for the guest's address %s: add it on the host, as in: ip addr add %s/%s dev %s",
		    vdev->port_num, vdev->ibdev->name, address, address,
		    is_v4(gid) ? "32" : "128", ifname);
	return -EADDRNOTAVAIL;
}

/*
 * Nothing is done when a GID is added.  Whether the host has it is checked when it is used,
 * because a guest has addresses from which it never sends by RDMA.
 */
void vrd_ibv_gid_del(struct vrd_device *dev, uint32_t index, const uint8_t gid[16])
{
	(void)index;
	(void)gid;
	vrd_ibv_ah_flush(vrd_ibv_dev(dev));
}
