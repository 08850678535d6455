// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * KUnit tests of the GID table (gid.c), with a device that has a table of its own and
 * refuses a GID that it has at another index.
 */
#include <linux/delay.h>
#include <linux/etherdevice.h>
#include <rdma/ib_cache.h>

#include "fakedev.h"

#define NUM_GIDS	16

struct table {
	u8 gid[NUM_GIDS][16];
	bool used[NUM_GIDS];
	int refused;
	struct net_device *ndev;	/* netdev of the core's GIDs */
	u16 vlan_id;			/* from the last ADD_GID */
	u8 smac[ETH_ALEN];
};

static bool table_has(const struct table *t, const u8 *gid)
{
	int i;

	for (i = 0; i < NUM_GIDS; i++)
		if (t->used[i] && !memcmp(t->gid[i], gid, 16))
			return true;
	return false;
}

static void serve_gid(struct fakedev *f, struct fakedev_cmd *cmd)
{
	struct virtio_rdma_add_gid_req *add = f->req;
	struct virtio_rdma_del_gid_req *del = f->req;
	struct table *t = f->priv;
	u32 i = le32_to_cpu(add->index);

	KUNIT_ASSERT_LT(f->test, i, (u32)NUM_GIDS);
	switch (fakedev_opcode(f)) {
	case VIRTIO_RDMA_CMD_ADD_GID:
		if (t->used[i] || table_has(t, add->gid)) {
			t->refused++;
			fakedev_status(f, cmd, VIRTIO_RDMA_S_EXIST);
			return;
		}
		memcpy(t->gid[i], add->gid, 16);
		memcpy(t->smac, add->smac, ETH_ALEN);
		t->vlan_id = le16_to_cpu(add->vlan_id);
		KUNIT_EXPECT_EQ(f->test, add->gid_type,
				VIRTIO_RDMA_GID_ROCE_V2);
		t->used[i] = true;
		break;
	case VIRTIO_RDMA_CMD_DEL_GID:
		i = le32_to_cpu(del->index);
		KUNIT_EXPECT_TRUE(f->test, t->used[i]);
		t->used[i] = false;
		break;
	default:
		KUNIT_FAIL(f->test, "command %u", fakedev_opcode(f));
	}
	fakedev_status(f, cmd, VIRTIO_RDMA_S_OK);
}

static struct fakedev *gid_open(struct kunit *test, struct table *t,
				void (*serve)(struct fakedev *f,
					      struct fakedev_cmd *cmd))
{
	struct fakedev *f = fakedev_open(test, 16, serve);

	f->priv = t;
	t->ndev = alloc_etherdev(0);
	KUNIT_ASSERT_NOT_NULL(test, t->ndev);
	eth_hw_addr_random(t->ndev);
	f->dev.port.gid_tbl_len = NUM_GIDS;
	KUNIT_ASSERT_EQ(test, vrdma_gids_alloc(&f->dev), 0);
	return f;
}

static void gid_close(struct fakedev *f)
{
	struct table *t = f->priv;

	vrdma_gids_cleanup(&f->dev);
	free_netdev(t->ndev);
	fakedev_close(f);
}

static void gid_attr(struct fakedev *f, struct ib_gid_attr *attr, u32 index,
		     u8 last)
{
	const struct table *t = f->priv;

	memset(attr, 0, sizeof(*attr));
	RCU_INIT_POINTER(attr->ndev, t->ndev);
	attr->device = &f->dev.ibdev;
	attr->index = index;
	memset(attr->gid.raw, 0xfe, sizeof(attr->gid.raw));
	attr->gid.raw[15] = last;
}

static int add(struct fakedev *f, u32 index, u8 last)
{
	struct ib_gid_attr attr;

	gid_attr(f, &attr, index, last);
	return vrdma_add_gid(&attr, NULL);
}

static int del(struct fakedev *f, u32 index)
{
	struct ib_gid_attr attr;

	gid_attr(f, &attr, index, 0);
	return vrdma_del_gid(&attr, NULL);
}

/* With the RTNL held, no caller waits for a device that does not answer. */
static void test_no_wait(struct kunit *test)
{
	struct table t = {};
	struct fakedev *f = gid_open(test, &t, NULL);
	unsigned long start = jiffies;
	int i;

	for (i = 0; i < NUM_GIDS; i++)
		KUNIT_EXPECT_EQ(test, add(f, i, i), 0);
	KUNIT_EXPECT_EQ(test, del(f, 3), 0);
	KUNIT_EXPECT_EQ(test, add(f, 3, 99), 0);
	KUNIT_EXPECT_TRUE(test, time_before(jiffies, start + HZ));
	KUNIT_EXPECT_EQ(test, add(f, NUM_GIDS, 1), -EINVAL);
	msleep(100);

	/* The device answers from now on. */
	f->serve = serve_gid;
	schedule_work(&f->work);
	vrdma_gids_settle(&f->dev);
	for (i = 0; i < NUM_GIDS; i++) {
		KUNIT_EXPECT_TRUE(test, t.used[i]);
		KUNIT_EXPECT_EQ(test, t.gid[i][15], i == 3 ? 99 : i);
	}
	KUNIT_EXPECT_EQ(test, t.refused, 0);
	KUNIT_EXPECT_FALSE(test, vrdma_dead(&f->dev));
	gid_close(f);
}

/* A GID moves to a lower index, and two GIDs swap their indices. */
static void test_moves(struct kunit *test)
{
	struct table t = {};
	struct fakedev *f = gid_open(test, &t, serve_gid);

	add(f, 5, 50);
	add(f, 6, 60);
	add(f, 7, 70);
	vrdma_gids_settle(&f->dev);
	KUNIT_EXPECT_TRUE(test, t.used[5] && t.used[6] && t.used[7]);

	del(f, 5);
	add(f, 2, 50);
	del(f, 6);
	del(f, 7);
	add(f, 6, 70);
	add(f, 7, 60);
	vrdma_gids_settle(&f->dev);
	KUNIT_EXPECT_EQ(test, t.refused, 0);
	KUNIT_EXPECT_FALSE(test, t.used[5]);
	KUNIT_EXPECT_TRUE(test, t.used[2] && t.used[6] && t.used[7]);
	KUNIT_EXPECT_EQ(test, t.gid[2][15], 50);
	KUNIT_EXPECT_EQ(test, t.gid[6][15], 70);
	KUNIT_EXPECT_EQ(test, t.gid[7][15], 60);

	/* Deleted and added again before the work item has run: no command is sent. */
	del(f, 2);
	add(f, 2, 50);
	vrdma_gids_settle(&f->dev);
	KUNIT_EXPECT_TRUE(test, t.used[2]);
	KUNIT_EXPECT_EQ(test, t.refused, 0);
	gid_close(f);
}

/* A refused GID is not deleted, and not added again until it changes. */
static void test_gid_refused(struct kunit *test)
{
	struct table t = {};
	struct fakedev *f = gid_open(test, &t, serve_gid);

	add(f, 1, 10);
	vrdma_gids_settle(&f->dev);
	add(f, 2, 10);
	vrdma_gids_settle(&f->dev);
	KUNIT_EXPECT_EQ(test, t.refused, 1);
	add(f, 3, 30);
	vrdma_gids_settle(&f->dev);
	KUNIT_EXPECT_EQ(test, t.refused, 1);
	KUNIT_EXPECT_TRUE(test, t.used[3]);
	/* serve_gid() checks that only existing GIDs are deleted. */
	del(f, 2);
	vrdma_gids_settle(&f->dev);
	add(f, 2, 20);
	vrdma_gids_settle(&f->dev);
	KUNIT_EXPECT_TRUE(test, t.used[2]);
	KUNIT_EXPECT_EQ(test, t.refused, 1);
	gid_close(f);
}

/* The device gets the MAC address and VLAN of the GID's netdev. */
static void test_gid_l2(struct kunit *test)
{
	struct table t = {};
	struct fakedev *f = gid_open(test, &t, serve_gid);

	add(f, 1, 10);
	vrdma_gids_settle(&f->dev);
	KUNIT_EXPECT_TRUE(test, ether_addr_equal(t.smac, t.ndev->dev_addr));
	KUNIT_EXPECT_EQ(test, t.vlan_id, VIRTIO_RDMA_VLAN_NONE);
	/* The same GID with another MAC address is deleted and added again. */
	eth_hw_addr_random(t.ndev);
	add(f, 1, 10);
	vrdma_gids_settle(&f->dev);
	KUNIT_EXPECT_TRUE(test, ether_addr_equal(t.smac, t.ndev->dev_addr));
	KUNIT_EXPECT_EQ(test, t.refused, 0);
	gid_close(f);
}

/* A silent device is found dead, and the core can still change the table. */
static void test_gid_dead(struct kunit *test)
{
	struct table t = {};
	struct fakedev *f = gid_open(test, &t, NULL);

	fakedev_set_timeout(f, 1);
	KUNIT_EXPECT_EQ(test, add(f, 0, 1), 0);
	vrdma_gids_settle(&f->dev);
	KUNIT_EXPECT_TRUE(test, vrdma_dead(&f->dev));
	KUNIT_EXPECT_EQ(test, add(f, 1, 1), -EIO);
	KUNIT_EXPECT_EQ(test, del(f, 0), 0);
	gid_close(f);
}

static struct kunit_case gid_cases[] = {
	KUNIT_CASE(test_no_wait),
	KUNIT_CASE(test_moves),
	KUNIT_CASE(test_gid_refused),
	KUNIT_CASE(test_gid_l2),
	KUNIT_CASE(test_gid_dead),
	{}
};

static struct kunit_suite gid_suite = {
	.name = "virtio_rdma_gid",
	.test_cases = gid_cases,
};

kunit_test_suite(gid_suite);
