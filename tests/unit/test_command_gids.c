// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ADD_GID and DEL_GID: the table, the fields, and the GIDs that a device may use.
 */
#include <linux/virtio_config.h>
#include <string.h>

#include "objects.h"
#include "rawdev.h"
#include "tap.h"

#define FEATURES ((1ULL << VIRTIO_F_VERSION_1) | (1ULL << VIRTIO_F_ACCESS_PLATFORM))

#define CMD(name)	VIRTIO_RDMA_CMD_##name
#define S(name)		VIRTIO_RDMA_S_##name

static void gids(struct raw *r)
{
	struct virtio_rdma_del_gid_req del = { .hdr.opcode = CMD(DEL_GID) };
	struct virtio_rdma_rsp_hdr rsp;
	uint8_t own[16], other[16] = { 0xfd, 1 }, zero[16] = { 0 }, mcast[16] = { 0xff, 2 };
	struct raw *peer = raw_new_peer(r, NULL, FEATURES);

	raw_recover(r);
	raw_recover(peer);
	raw_link_local(r, own);
	is(raw_add_gid(r, 0, own), S(OK), "the MAC's link-local GID");
	is(raw_add_gid(r, 0, other), S(EXIST), "an index that is taken");
	is(raw_add_gid(r, 2, own), S(OK), "a GID that is at another index already");
	is(raw_add_gid(r, 1, zero), S(INVAL), "no GID");
	is(raw_add_gid(r, 1, mcast), S(INVAL), "a multicast GID");
	is(raw_add_gid(r, 32, other), S(INVAL), "an index beyond the table");
	is(raw_add_gid(r, UINT32_MAX, other), S(INVAL), "the largest index");
	is(raw_add_gid(r, 1, other), S(OK), "any other GID, nothing being forbidden");
	is(raw_add_gid(peer, 0, other), S(EXIST), "which no other device may have then");
	is(raw_add_gid(peer, 0, own), S(PERM), "nor its link-local one");
	del.index = 1;
	is(raw_cmd(r, &del, sizeof(del), &rsp, sizeof(rsp)), S(OK), "DEL_GID");
	is(raw_cmd(r, &del, sizeof(del), &rsp, sizeof(rsp)), S(NOENT), "twice");
	del.index = 32;
	is(raw_cmd(r, &del, sizeof(del), &rsp, sizeof(rsp)), S(INVAL), "beyond the table");
	is(raw_add_gid(peer, 0, other), S(OK), "and then the other device may");
	is(raw_init(r), S(OK), "INIT");
	is(raw_add_gid(r, 5, own), S(OK), "forgets the GIDs");
	raw_free(peer);
}

/* GIDs of a device are reserved from its creation on, whether or not its guest runs. */
static void reserved_gids(struct raw *r)
{
	struct raw *peer = raw_new_peer(r, NULL, FEATURES);
	uint8_t own[16], mine[16], global[16], listed[16] = { 0xfd, 9 }, other[16] = { 0xfd, 10 };
	unsigned int count;

	raw_recover(r);
	raw_link_local(peer, own);
	raw_link_local(r, mine);
	memcpy(global, own, 16);
	memcpy(global, (uint8_t []) { 0x20, 1, 0xd, 0xb8 }, 4);
	is(raw_add_gid(r, 1, own), S(PERM), "the link-local GID of a device that does not run");
	is(raw_add_gid(r, 1, global), S(PERM), "another GID that is made from its MAC");
	peer->dev->num_allowed_gids = 1;
	memcpy(peer->dev->allowed_gids[0], listed, 16);
	is(raw_add_gid(r, 1, listed), S(PERM), "a GID that its owner listed for it");
	raw_recover(peer);
	is(raw_add_gid(peer, 0, own), S(OK), "its link-local GID is its own");
	is(raw_add_gid(peer, 1, listed), S(OK), "and so is the listed one");
	is(raw_add_gid(peer, 2, other), S(PERM), "others are not");
	is(raw_add_gid(peer, 3, global), S(PERM), "nor, beside a list, another one of its MAC");
	peer->dev->num_allowed_gids = 0;
	is(raw_add_gid(peer, 3, global), S(OK), "which without a list it may have");
	r->dev->own_gids_only = true;
	is(raw_add_gid(r, 1, other), S(PERM), "a device without any list of others");
	is(raw_add_gid(r, 2, mine), S(OK), "has its own");
	r->dev->own_gids_only = false;
	raw_free(peer);
	is(raw_add_gid(r, 3, global), S(OK), "a device that is gone reserves nothing");
	is(raw_add_gid(r, 4, own), S(OK), "not even its link-local GID");

	/* Hot-plug: the owner comes after the GID was taken. */
	count = raw_stat(r, "commands");
	peer = raw_new_peer(r, NULL, FEATURES);
	raw_recover(peer);
	is(raw_add_gid(peer, 0, own), S(OK), "its owner gets it all the same");
	is(raw_add_gid(r, 5, own), S(PERM), "and the other one not again");
	is(raw_destroy(r, VIRTIO_RDMA_CMD_DEL_GID, 4), S(OK), "which may delete what it had");
	is(raw_destroy(r, VIRTIO_RDMA_CMD_DEL_GID, 4), S(NOENT), "once");
	ok(raw_stat(r, "commands") > count, "its guest goes on");
	raw_free(peer);
	raw_recover(r);
}

/* What a GID stands for beside its number. */
static void gid_fields(struct raw *r)
{
	uint8_t own[16];
	struct virtio_rdma_add_gid_req good, q;
	struct virtio_rdma_rsp_hdr rsp;

	raw_recover(r);
	raw_link_local(r, own);
	good = raw_gid_fill(r, 0, own);
#define TRY(change, want, what)							\
	do {									\
		q = good;							\
		change;								\
		is(raw_cmd(r, &q, sizeof(q), &rsp, sizeof(rsp)), S(want), "GID: " what);	\
	} while (0)
	TRY(q.gid_type = 1, UNSUPPORTED, "RoCE v1");
	TRY(q.gid_type = 0, UNSUPPORTED, "type 0");
	TRY(q.vlan_id = 5, UNSUPPORTED, "a VLAN, which was not negotiated");
	TRY(q.vlan_id = 0, UNSUPPORTED, "VLAN 0");
	TRY(q.reserved0 = 1, INVAL, "reserved0");
	TRY(q.reserved1[1] = 1, INVAL, "reserved1");
	TRY(q.smac[0] |= 1, INVAL, "a multicast source MAC");
	TRY(memset(q.smac, 0, 6), INVAL, "no source MAC");
	TRY(q.smac[5] ^= 1, OK, "another MAC than the netdev's, as a macvlan has it");
#undef TRY
}

/* An owner who lists GIDs: the guest gets these and its link-local GID. */
static void anti_spoofing(struct raw *r)
{
	uint8_t own[16], allowed[16] = { 0xfd, 7 }, forged[16] = { 0xfd, 8 };

	raw_recover(r);
	r->dev->num_allowed_gids = 1;
	memcpy(r->dev->allowed_gids[0], allowed, 16);
	raw_link_local(r, own);
	is(raw_add_gid(r, 0, forged), S(PERM), "a GID that the owner did not allow");
	is(raw_add_gid(r, 0, allowed), S(OK), "one that he did");
	is(raw_add_gid(r, 1, own), S(OK), "the MAC's link-local one");
	own[15] ^= 1;
	is(raw_add_gid(r, 2, own), S(PERM), "another's link-local one");
	r->dev->num_allowed_gids = 0;
}

int main(void)
{
	struct raw *r = raw_new(NULL, FEATURES);

	gids(r);
	reserved_gids(r);
	gid_fields(r);
	anti_spoofing(r);
	raw_free(r);
	return tap_done();
}
