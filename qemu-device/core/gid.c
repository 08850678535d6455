// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Rules for the GIDs that a device may use.
 *
 * A device may always use the link-local GID of its MAC address.  For all other GIDs, the
 * host's owner may list those that the device may use (allow-gid=).  Without a list it may
 * use any GID that is not reserved for another device of the fabric.  Reserved are GIDs that
 * are derived from another device's MAC address, with any prefix, and those in another
 * device's list.  Reservations are valid for the whole life of a device, whether or not its
 * guest runs.
 *
 * Control threads, under dev->lock.
 */
#include <string.h>

#include "transport.h"
#include "gid.h"

void vrd_eui64(const uint8_t mac[6], uint8_t eui[8])
{
	eui[0] = mac[0] ^ 2;
	eui[1] = mac[1];
	eui[2] = mac[2];
	eui[3] = 0xff;
	eui[4] = 0xfe;
	memcpy(eui + 5, mac + 3, 3);
}

/* True if the interface identifier is that of the device's MAC address. */
static bool is_made_from_mac(const struct vrd_device *dev, const uint8_t gid[16])
{
	uint8_t eui[8];

	vrd_eui64(dev->config.mac, eui);
	return !memcmp(gid + 8, eui, sizeof(eui));
}

static bool is_listed(const struct vrd_device *dev, const uint8_t gid[16])
{
	unsigned int i;

	for (i = 0; i < dev->num_allowed_gids; i++) {
		if (!memcmp(gid, dev->allowed_gids[i], 16))
			return true;
	}
	return false;
}

bool vrd_gid_is_own(const struct vrd_device *dev, const uint8_t gid[16])
{
	static const uint8_t link_local[8] = { 0xfe, 0x80 };

	return !memcmp(gid, link_local, sizeof(link_local)) && is_made_from_mac(dev, gid);
}

struct claim {
	const struct vrd_device *dev;
	const uint8_t *gid;
};

static bool is_reserved_by(const struct vrd_device *other, const void *opaque)
{
	const struct claim *c = opaque;

	return other != c->dev && other->fabric == c->dev->fabric &&
	       (is_made_from_mac(other, c->gid) || is_listed(other, c->gid));
}

bool vrd_gid_is_allowed(const struct vrd_device *dev, const uint8_t gid[16])
{
	struct claim claim = { dev, gid };

	if (vrd_gid_is_own(dev, gid) || is_listed(dev, gid))
		return true;
	if (dev->num_allowed_gids || dev->own_gids_only)
		return false;
	if (is_made_from_mac(dev, gid))
		return true;
	return !vrd_engine_any_device(dev->engine, is_reserved_by, &claim);
}
