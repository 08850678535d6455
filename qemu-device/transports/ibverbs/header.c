// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ibverbs transport: finds out whether the header of a datagram is IPv4's or IPv6's.
 *
 * A completion of the host has no field for this (IBV_WC_GRH only says that there is a
 * header), but the guest's CQE has one.  So the header is read in the guest's memory, where
 * the host's device wrote it.  To find it, the first SGE of each receive that a UD QP may
 * take from the host is stored here.
 *
 * The guest may change these bytes before they are read: only a flag in its own CQE is wrong
 * then.
 *
 * Poller of the context, except for vrd_ibv_places_alloc() (control thread).
 */
#include <stdlib.h>
#include <string.h>

#include "grh.h"
#include "ibv.h"

struct vrd_ibv_place {
	uint64_t addr;
	uint32_t lkey;
	uint32_t index;			/* index of the receive, as in its CQE */
	bool known;			/* the SGE has room for the header */
};

struct vrd_ibv_places {
	uint32_t mask;
	struct vrd_ibv_place at[];
};

struct vrd_ibv_places *vrd_ibv_places_alloc(uint32_t entries)
{
	struct vrd_ibv_places *p = calloc(1, sizeof(*p) + (size_t)entries * sizeof(p->at[0]));

	if (p)
		p->mask = entries - 1;
	return p;
}

/*
 * Receives of an SRQ are identified by the guest's cookies.  If two cookies share a slot,
 * the newer one overwrites the older one; our drivers' cookies are below the number of
 * entries.
 */
void vrd_ibv_place_set(struct vrd_ibv_places *p, const struct vrd_recv_wr *wr)
{
	if (p)
		p->at[wr->index & p->mask] = (struct vrd_ibv_place){
			.addr = wr->sge[0].addr,
			.lkey = wr->sge[0].lkey,
			.index = wr->index,
			.known = wr->num_sge && wr->sge[0].length >= VRD_GRH_LEN,
		};
}

/* Returns false if the memory is no longer registered, or not present. */
static bool read_header(struct vrd_qp *qp, const struct vrd_ibv_place *place,
			uint8_t out[VRD_GRH_LEN])
{
	const struct vrd_mr *mr;
	uint64_t done = 0, run;
	const uint8_t *from;

	mr = vrd_mr_find_pd(qp, vrd_qp_recv_pd(qp), place->lkey, place->addr, VRD_GRH_LEN,
			    VIRTIO_RDMA_ACCESS_LOCAL_WRITE, false);
	if (!mr)
		return false;
	/* The header may cross a page. */
	for (; done < VRD_GRH_LEN; done += run) {
		from = vrd_mr_at(qp->dev, mr, place->addr + done, VRD_GRH_LEN - done, false, &run);
		if (!from)
			return false;
		memcpy(out + done, from, run);
	}
	return true;
}

bool vrd_ibv_header_is_v4(struct vrd_qp *qp, const struct vrd_ibv_places *p, uint32_t index)
{
	const struct vrd_ibv_place *place;
	uint8_t header[VRD_GRH_LEN];

	if (!p)
		return false;
	place = &p->at[index & p->mask];
	return place->known && place->index == index && read_header(qp, place, header) &&
	       vrd_grh_is_v4(header);
}
