// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * KUnit tests of the translation of a QP's attributes to the device's format and back
 * (qp_state.c, ah.c).  Includes the source, because the two functions are static.
 */
#include <kunit/test.h>

#include "qp_state.c"

/* Sets every field; fields that could be confused have different values. */
static void attr_fill(struct ib_qp_attr *attr)
{
	static const u8 dmac[ETH_ALEN] = { 2, 3, 4, 5, 6, 7 };
	union ib_gid dgid;
	int i;

	memset(attr, 0, sizeof(*attr));
	attr->qp_state = IB_QPS_RTS;
	attr->cur_qp_state = IB_QPS_SQD;
	attr->path_mtu = IB_MTU_2048;
	attr->qkey = 0x80123456;
	attr->rq_psn = 0xabcdef;
	attr->sq_psn = 0x123456;
	attr->dest_qp_num = 0xfedcba;
	attr->qp_access_flags = IB_ACCESS_REMOTE_WRITE | IB_ACCESS_REMOTE_READ;
	attr->en_sqd_async_notify = 1;
	attr->max_rd_atomic = 11;
	attr->max_dest_rd_atomic = 13;
	attr->min_rnr_timer = 17;
	attr->port_num = 1;
	attr->timeout = 19;
	attr->retry_cnt = 5;
	attr->rnr_retry = 6;
	for (i = 0; i < sizeof(dgid.raw); i++)
		dgid.raw[i] = 0xa0 + i;
	attr->ah_attr.type = RDMA_AH_ATTR_TYPE_ROCE;
	rdma_ah_set_grh(&attr->ah_attr, &dgid, 0x54321, 9, 64, 0x88);
	rdma_ah_set_sl(&attr->ah_attr, 3);
	rdma_ah_set_port_num(&attr->ah_attr, 1);
	memcpy(attr->ah_attr.roce.dmac, dmac, ETH_ALEN);
}

static struct vrdma_dev *limits(struct kunit *test)
{
	struct vrdma_dev *dev = kunit_kzalloc(test, sizeof(*dev), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, dev);
	dev->attr.max_qp_rd_atom = 13;
	dev->attr.max_qp_init_rd_atom = 11;
	return dev;
}

/* Each bit of the mask encodes its field, and no other. */
static void test_attr_one_bit(struct kunit *test)
{
#define FIELD(name)	offsetof(struct virtio_rdma_qp_attr, name), \
			sizeof_field(struct virtio_rdma_qp_attr, name)
	static const struct {
		int mask;
		size_t offset;
		size_t size;
	} bits[] = {
		{ IB_QP_STATE, FIELD(state) },
		{ IB_QP_CUR_STATE, FIELD(cur_state) },
		{ IB_QP_EN_SQD_ASYNC_NOTIFY, FIELD(en_sqd_async_notify) },
		{ IB_QP_ACCESS_FLAGS, FIELD(access_flags) },
		{ IB_QP_PORT, FIELD(port_num) },
		{ IB_QP_QKEY, FIELD(qkey) },
		{ IB_QP_AV, FIELD(av) },
		{ IB_QP_PATH_MTU, FIELD(path_mtu) },
		{ IB_QP_TIMEOUT, FIELD(timeout) },
		{ IB_QP_RETRY_CNT, FIELD(retry_cnt) },
		{ IB_QP_RNR_RETRY, FIELD(rnr_retry) },
		{ IB_QP_RQ_PSN, FIELD(rq_psn) },
		{ IB_QP_MAX_QP_RD_ATOMIC, FIELD(max_rd_atomic) },
		{ IB_QP_MIN_RNR_TIMER, FIELD(min_rnr_timer) },
		{ IB_QP_SQ_PSN, FIELD(sq_psn) },
		{ IB_QP_MAX_DEST_RD_ATOMIC, FIELD(max_dest_rd_atomic) },
		{ IB_QP_DEST_QPN, FIELD(dest_qpn) },
	};
	struct vrdma_dev *dev = limits(test);
	struct virtio_rdma_qp_attr out;
	/* The only P_Key index is 0, so this bit sets no byte. */
	int i, all = IB_QP_PKEY_INDEX;
	struct ib_qp_attr attr;
	u8 *bytes = (u8 *)&out;

	attr_fill(&attr);
	for (i = 0; i < ARRAY_SIZE(bits); i++) {
		all |= bits[i].mask;
		memset(&out, 0xff, sizeof(out));
		KUNIT_EXPECT_EQ(test, vrdma_qp_encode_attr(dev, &out, &attr,
							   bits[i].mask), 0);
		KUNIT_EXPECT_NOT_NULL_MSG(test,
					  memchr_inv(bytes + bits[i].offset, 0,
						     bits[i].size),
					  "mask %#x sets nothing",
					  bits[i].mask);
		memset(bytes + bits[i].offset, 0, bits[i].size);
		KUNIT_EXPECT_NULL_MSG(test, memchr_inv(bytes, 0, sizeof(out)),
				      "mask %#x sets more", bits[i].mask);
	}
	/* Every supported attribute was tested. */
	KUNIT_EXPECT_EQ(test, all, VRDMA_QP_MASK);
	KUNIT_EXPECT_EQ(test, vrdma_qp_encode_attr(dev, &out, &attr, 0), 0);
	KUNIT_EXPECT_NULL(test, memchr_inv(bytes, 0, sizeof(out)));
}

/* Attributes are unchanged after encoding and decoding. */
static void test_attr_round_trip(struct kunit *test)
{
	struct vrdma_dev *dev = limits(test);
	struct virtio_rdma_qp_attr wire;
	struct ib_qp_attr in, out;
	const struct ib_global_route *a, *b;

	attr_fill(&in);
	KUNIT_ASSERT_EQ(test, vrdma_qp_encode_attr(dev, &wire, &in,
						   VRDMA_QP_MASK), 0);
	wire.sq_draining = 1;
	memset(&out, 0xff, sizeof(out));
	vrdma_qp_decode_attr(&out, &wire);

	KUNIT_EXPECT_EQ(test, (int)out.qp_state, (int)in.qp_state);
	KUNIT_EXPECT_EQ(test, (int)out.cur_qp_state, (int)in.qp_state);
	KUNIT_EXPECT_EQ(test, (int)out.path_mtu, (int)in.path_mtu);
	KUNIT_EXPECT_EQ(test, out.qkey, in.qkey);
	KUNIT_EXPECT_EQ(test, out.rq_psn, in.rq_psn);
	KUNIT_EXPECT_EQ(test, out.sq_psn, in.sq_psn);
	KUNIT_EXPECT_EQ(test, out.dest_qp_num, in.dest_qp_num);
	KUNIT_EXPECT_EQ(test, out.qp_access_flags, in.qp_access_flags);
	KUNIT_EXPECT_EQ(test, out.pkey_index, in.pkey_index);
	KUNIT_EXPECT_EQ(test, out.en_sqd_async_notify, in.en_sqd_async_notify);
	KUNIT_EXPECT_EQ(test, out.sq_draining, 1);
	KUNIT_EXPECT_EQ(test, out.max_rd_atomic, in.max_rd_atomic);
	KUNIT_EXPECT_EQ(test, out.max_dest_rd_atomic, in.max_dest_rd_atomic);
	KUNIT_EXPECT_EQ(test, out.min_rnr_timer, in.min_rnr_timer);
	KUNIT_EXPECT_EQ(test, out.port_num, in.port_num);
	KUNIT_EXPECT_EQ(test, out.timeout, in.timeout);
	KUNIT_EXPECT_EQ(test, out.retry_cnt, in.retry_cnt);
	KUNIT_EXPECT_EQ(test, out.rnr_retry, in.rnr_retry);

	KUNIT_EXPECT_EQ(test, (int)out.ah_attr.type, (int)in.ah_attr.type);
	KUNIT_EXPECT_EQ(test, rdma_ah_get_sl(&out.ah_attr),
			rdma_ah_get_sl(&in.ah_attr));
	KUNIT_EXPECT_EQ(test, rdma_ah_get_port_num(&out.ah_attr), 1u);
	KUNIT_EXPECT_EQ(test, memcmp(out.ah_attr.roce.dmac,
				     in.ah_attr.roce.dmac, ETH_ALEN), 0);
	a = rdma_ah_read_grh(&in.ah_attr);
	b = rdma_ah_read_grh(&out.ah_attr);
	KUNIT_EXPECT_EQ(test, memcmp(a->dgid.raw, b->dgid.raw, 16), 0);
	KUNIT_EXPECT_EQ(test, b->flow_label, a->flow_label);
	KUNIT_EXPECT_EQ(test, b->sgid_index, a->sgid_index);
	KUNIT_EXPECT_EQ(test, b->hop_limit, a->hop_limit);
	KUNIT_EXPECT_EQ(test, b->traffic_class, a->traffic_class);
}

/* Bits that exceed a field are cut off; access rights that the device does not have are dropped. */
static void test_attr_masked(struct kunit *test)
{
	struct vrdma_dev *dev = limits(test);
	struct virtio_rdma_qp_attr out;
	struct ib_qp_attr attr;

	attr_fill(&attr);
	attr.rq_psn = 0xff000001;
	attr.sq_psn = 0xff000002;
	attr.qp_access_flags = ~0;
	rdma_ah_set_grh(&attr.ah_attr, NULL, 0xfffabcde, 0, 1, 0);
	rdma_ah_set_sl(&attr.ah_attr, 0xf7);
	KUNIT_ASSERT_EQ(test, vrdma_qp_encode_attr(dev, &out, &attr,
						   VRDMA_QP_MASK), 0);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(out.rq_psn), 1u);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(out.sq_psn), 2u);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(out.access_flags),
			(u32)VRDMA_QP_ACCESS);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(out.av.flow_label), 0xabcdeu);
	KUNIT_EXPECT_EQ(test, out.av.sl, 7);
	/* These fields are only used for datagrams. */
	KUNIT_EXPECT_EQ(test, le32_to_cpu(out.av.pd), 0u);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(out.av.dqpn), 0u);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(out.av.qkey), 0u);
}

static int encode(struct vrdma_dev *dev, const struct ib_qp_attr *attr)
{
	struct virtio_rdma_qp_attr out;

	return vrdma_qp_encode_attr(dev, &out, attr, VRDMA_QP_MASK);
}

static void test_attr_refused(struct kunit *test)
{
	struct vrdma_dev *dev = limits(test);
	struct ib_qp_attr good, attr;

	attr_fill(&good);
	KUNIT_EXPECT_EQ(test, encode(dev, &good), 0);
	attr = good;
	attr.pkey_index = 1;
	KUNIT_EXPECT_EQ(test, encode(dev, &attr), -EINVAL);
	attr = good;
	attr.path_mtu = 0;
	KUNIT_EXPECT_EQ(test, encode(dev, &attr), -EINVAL);
	attr.path_mtu = IB_MTU_4096 + 1;
	KUNIT_EXPECT_EQ(test, encode(dev, &attr), -EINVAL);
	attr = good;
	attr.max_rd_atomic = 12;
	KUNIT_EXPECT_EQ(test, encode(dev, &attr), -EINVAL);
	attr = good;
	attr.max_dest_rd_atomic = 14;
	KUNIT_EXPECT_EQ(test, encode(dev, &attr), -EINVAL);
	attr = good;
	attr.ah_attr.type = RDMA_AH_ATTR_TYPE_IB;
	KUNIT_EXPECT_EQ(test, encode(dev, &attr), -EINVAL);
	attr = good;
	rdma_ah_set_ah_flags(&attr.ah_attr, 0);
	KUNIT_EXPECT_EQ(test, encode(dev, &attr), -EINVAL);
}

/* Attributes written by the device may have any value. */
static void test_attr_hostile(struct kunit *test)
{
	struct virtio_rdma_qp_attr in;
	struct ib_qp_attr attr;

	memset(&in, 0xff, sizeof(in));
	vrdma_qp_decode_attr(&attr, &in);
	KUNIT_EXPECT_EQ(test, (int)attr.qp_state, (int)IB_QPS_ERR);
	KUNIT_EXPECT_EQ(test, (int)attr.cur_qp_state, (int)IB_QPS_ERR);
	KUNIT_EXPECT_EQ(test, attr.qp_access_flags, VRDMA_QP_ACCESS);
	KUNIT_EXPECT_EQ(test, rdma_ah_get_port_num(&attr.ah_attr), 1u);
	KUNIT_EXPECT_NULL(test, rdma_ah_read_grh(&attr.ah_attr)->sgid_attr);
}

static struct kunit_case qp_cases[] = {
	KUNIT_CASE(test_attr_one_bit),
	KUNIT_CASE(test_attr_round_trip),
	KUNIT_CASE(test_attr_masked),
	KUNIT_CASE(test_attr_refused),
	KUNIT_CASE(test_attr_hostile),
	{}
};

static struct kunit_suite qp_suite = {
	.name = "virtio_rdma_qp",
	.test_cases = qp_cases,
};

kunit_test_suite(qp_suite);
