// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * KUnit tests of the driver's pure logic: arithmetic of the rings (ring.h),
 * cookies (cookie.h), work requests and completions (encode.c), statuses.
 */
#include <kunit/test.h>

#include "cmd.h"
#include "encode.h"

static void test_status(struct kunit *test)
{
	static const int expected[] = {
		0, -EINVAL, -EOPNOTSUPP, -ENOMEM, -ENOENT, -EBUSY, -EPERM,
		-EFAULT, -EEXIST, -EIO, -ETIMEDOUT, -ENODEV, -EADDRNOTAVAIL,
	};
	u32 i;

	for (i = 0; i < ARRAY_SIZE(expected); i++)
		KUNIT_EXPECT_EQ(test, vrdma_status_to_errno(i), expected[i]);
	KUNIT_EXPECT_EQ(test, vrdma_status_to_errno(i), -EIO);
	KUNIT_EXPECT_EQ(test, vrdma_status_to_errno(U32_MAX), -EIO);
}

/* ---- rings --------------------------------------------------------------- */

static void test_ring_wrap(struct kunit *test)
{
	u32 tail = U32_MAX - 2, head = tail + 4;	/* across the wrap */

	KUNIT_EXPECT_EQ(test, vrdma_ring_used(head, tail), 4u);
	KUNIT_EXPECT_TRUE(test, vrdma_ring_full(head, tail, 4));
	KUNIT_EXPECT_FALSE(test, vrdma_ring_full(head, tail, 8));
	KUNIT_EXPECT_TRUE(test, vrdma_ring_holds(head, tail, tail));
	KUNIT_EXPECT_TRUE(test, vrdma_ring_holds(head, tail, 0));
	KUNIT_EXPECT_FALSE(test, vrdma_ring_holds(head, tail, head));
	KUNIT_EXPECT_FALSE(test, vrdma_ring_holds(head, tail, tail - 1));
	KUNIT_EXPECT_FALSE(test, vrdma_ring_holds(tail, tail, tail));
	KUNIT_EXPECT_EQ(test, vrdma_ring_offset(U32_MAX, 8, 6), 7u << 6);
	KUNIT_EXPECT_EQ(test, vrdma_ring_offset(0, 8, 6), 0u);
}

static void test_phase(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, vrdma_cqe_phase(0, 4), 1);
	KUNIT_EXPECT_EQ(test, vrdma_cqe_phase(3, 4), 1);
	KUNIT_EXPECT_EQ(test, vrdma_cqe_phase(4, 4), 0);
	KUNIT_EXPECT_EQ(test, vrdma_cqe_phase(8, 4), 1);
	/* The phase is continuous at the wrap of the index, for any ring size. */
	KUNIT_EXPECT_EQ(test, vrdma_cqe_phase(U32_MAX, 4), 0);
	KUNIT_EXPECT_EQ(test, vrdma_cqe_phase(U32_MAX, 1), 0);
	KUNIT_EXPECT_EQ(test, vrdma_cqe_phase(0, 1), 1);
}

static void test_stride(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, vrdma_stride(0, VRDMA_SQ_MIN_SHIFT), 0);
	KUNIT_EXPECT_EQ(test, vrdma_stride(64, VRDMA_SQ_MIN_SHIFT), 0);
	KUNIT_EXPECT_EQ(test, vrdma_stride(65, VRDMA_SQ_MIN_SHIFT), 1);
	KUNIT_EXPECT_EQ(test, vrdma_stride(4096, VRDMA_SQ_MIN_SHIFT), 6);
	KUNIT_EXPECT_EQ(test, vrdma_send_wqe_size(false, 2, 0), 64u);
	KUNIT_EXPECT_EQ(test, vrdma_send_wqe_size(false, 1, 33), 65u);
	KUNIT_EXPECT_EQ(test, vrdma_send_wqe_size(true, 4, 0), 128u);
	KUNIT_EXPECT_EQ(test, vrdma_recv_wqe_size(1), 32u);
}

static void test_range(struct kunit *test)
{
	KUNIT_EXPECT_TRUE(test, vrdma_range_ok(8192, 4096, 128, 5, 4096));
	KUNIT_EXPECT_FALSE(test, vrdma_range_ok(8192, 4096, 129, 5, 4096));
	KUNIT_EXPECT_FALSE(test, vrdma_range_ok(8192, 2048, 1, 5, 4096));
	KUNIT_EXPECT_FALSE(test, vrdma_range_ok(4096, U32_MAX & ~4095u, 1, 5,
						4096));
	KUNIT_EXPECT_FALSE(test, vrdma_range_ok(4096, 0, U32_MAX, 12, 4096));
	KUNIT_EXPECT_TRUE(test, vrdma_range_ok(4096, 3968, 1, 7, 128));
	KUNIT_EXPECT_FALSE(test, vrdma_range_ok(0, 0, 1, 5, 4096));
}

/* Each cookie is handed out once and returned once, in any order. */
static void test_cookies(struct kunit *test)
{
	struct vrdma_cookies c;
	u32 next[4], seen = 0, i, cookie;

	vrdma_cookies_init(&c, next, 4);
	for (i = 0; i < 4; i++) {
		cookie = vrdma_cookie_take(&c);
		KUNIT_ASSERT_LT(test, cookie, 4u);
		seen |= BIT(cookie);
	}
	KUNIT_EXPECT_EQ(test, seen, 15u);
	KUNIT_EXPECT_EQ(test, vrdma_cookie_take(&c), VRDMA_COOKIE_NONE);

	/* Invalid cookies that a device may write into a CQE. */
	KUNIT_EXPECT_FALSE(test, vrdma_cookie_put(&c, 4));
	KUNIT_EXPECT_FALSE(test, vrdma_cookie_put(&c, VRDMA_COOKIE_TAKEN));
	KUNIT_EXPECT_FALSE(test, vrdma_cookie_put(&c, VRDMA_COOKIE_NONE));
	KUNIT_EXPECT_TRUE(test, vrdma_cookie_put(&c, 2));
	KUNIT_EXPECT_FALSE(test, vrdma_cookie_put(&c, 2));
	KUNIT_EXPECT_TRUE(test, vrdma_cookie_put(&c, 0));
	/* The last free cookie: its link is no cookie. */
	KUNIT_EXPECT_EQ(test, vrdma_cookie_take(&c), 0u);
	KUNIT_EXPECT_EQ(test, vrdma_cookie_take(&c), 2u);
	KUNIT_EXPECT_EQ(test, vrdma_cookie_take(&c), VRDMA_COOKIE_NONE);
	KUNIT_EXPECT_TRUE(test, vrdma_cookie_put(&c, 3));
	KUNIT_EXPECT_EQ(test, vrdma_cookie_take(&c), 3u);
}

static void test_arm(struct kunit *test)
{
	u32 arm = vrdma_arm_next(0, 0, true);

	KUNIT_EXPECT_EQ(test, arm, 4u | VIRTIO_RDMA_ARM_SOLICITED);
	/* A request for any CQE replaces one for solicited CQEs. */
	arm = vrdma_arm_next(arm, 0, false);
	KUNIT_EXPECT_EQ(test, arm, 8u | VIRTIO_RDMA_ARM_ANY);
	/* A request for solicited CQEs does not replace a pending one for any CQE ... */
	KUNIT_EXPECT_EQ(test, vrdma_arm_next(arm, 0, true),
			12u | VIRTIO_RDMA_ARM_ANY);
	/* ... but does after that one was answered. */
	KUNIT_EXPECT_EQ(test, vrdma_arm_next(arm, arm, true),
			12u | VIRTIO_RDMA_ARM_SOLICITED);
	/* The sequence number wraps. */
	KUNIT_EXPECT_EQ(test, vrdma_arm_next(0xfffffffd, 0xfffffffd, false),
			(u32)VIRTIO_RDMA_ARM_ANY);
}

/* ---- encoders ------------------------------------------------------------ */

static const struct vrdma_send_limits rc = {
	.type = IB_QPT_RC, .max_sge = 4, .max_inline = 64,
};

static const struct vrdma_send_limits ud = {
	.type = IB_QPT_UD, .max_sge = 2, .max_inline = 32, .qkey = 0x1234,
};

static void test_encode_write(struct kunit *test)
{
	struct ib_sge sge[2] = {
		{ .addr = 0x1122334455667788, .length = 100, .lkey = 7 },
		{ .addr = 0x1000, .length = 3, .lkey = 8 },
	};
	struct ib_rdma_wr wr = {
		.wr.opcode = IB_WR_RDMA_WRITE_WITH_IMM,
		.wr.send_flags = IB_SEND_SIGNALED | IB_SEND_FENCE,
		.wr.sg_list = sge,
		.wr.num_sge = 2,
		.wr.ex.imm_data = cpu_to_be32(0xcafe),
		.remote_addr = 0xdeadbeef000,
		.rkey = 0x99,
	};
	u8 buf[256] __aligned(8);
	struct virtio_rdma_rc_wqe *wqe = (void *)buf;

	memset(buf, 0xff, sizeof(buf));
	KUNIT_ASSERT_EQ(test, vrdma_encode_send(&rc, &wr.wr, wqe), 0);
	KUNIT_EXPECT_EQ(test, wqe->ctrl.opcode,
			VIRTIO_RDMA_WR_RDMA_WRITE_WITH_IMM);
	KUNIT_EXPECT_EQ(test, wqe->ctrl.num_sge, 2);
	KUNIT_EXPECT_EQ(test, le16_to_cpu(wqe->ctrl.flags),
			VIRTIO_RDMA_WQE_SIGNALED | VIRTIO_RDMA_WQE_FENCE);
	KUNIT_EXPECT_EQ(test, be32_to_cpu(wqe->ctrl.imm), 0xcafeu);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(wqe->ctrl.inline_len), 0u);
	KUNIT_EXPECT_EQ(test, le16_to_cpu(wqe->ctrl.reserved), 0);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(wqe->remote_addr), 0xdeadbeef000ull);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(wqe->rkey), 0x99u);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(wqe->reserved), 0u);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(wqe->sge[0].addr),
			0x1122334455667788ull);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(wqe->sge[1].length), 3u);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(wqe->sge[1].lkey), 8u);
}

static void test_encode_inline(struct kunit *test)
{
	u8 data[70], buf[256] __aligned(8);
	struct ib_sge sge[2] = {
		{ .addr = (uintptr_t)data, .length = 10 },
		{ .addr = (uintptr_t)data + 10, .length = 54 },
	};
	struct ib_send_wr wr = {
		.opcode = IB_WR_SEND,
		.send_flags = IB_SEND_INLINE,
		.sg_list = sge,
		.num_sge = 2,
	};
	struct virtio_rdma_rc_wqe *wqe = (void *)buf;
	int i;

	for (i = 0; i < sizeof(data); i++)
		data[i] = i;
	KUNIT_ASSERT_EQ(test, vrdma_encode_send(&rc, &wr, wqe), 0);
	KUNIT_EXPECT_EQ(test, wqe->ctrl.num_sge, 0);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(wqe->ctrl.inline_len), 64u);
	KUNIT_EXPECT_EQ(test, le16_to_cpu(wqe->ctrl.flags),
			VIRTIO_RDMA_WQE_INLINE);
	KUNIT_EXPECT_EQ(test, memcmp(buf + 32, data, 64), 0);

	sge[1].length = 55;
	KUNIT_EXPECT_EQ(test, vrdma_encode_send(&rc, &wr, wqe), -EINVAL);
	/* Lengths whose sum overflows 32 bits. */
	sge[1].length = U32_MAX;
	KUNIT_EXPECT_EQ(test, vrdma_encode_send(&rc, &wr, wqe), -EINVAL);
}

static void test_encode_atomic(struct kunit *test)
{
	struct ib_sge sge = { .addr = 8, .length = 8, .lkey = 1 };
	struct ib_atomic_wr wr = {
		.wr.opcode = IB_WR_ATOMIC_CMP_AND_SWP,
		.wr.sg_list = &sge,
		.wr.num_sge = 1,
		.remote_addr = 0x40,
		.rkey = 2,
		.compare_add = 11,
		.swap = 22,
	};
	struct virtio_rdma_atomic_wqe wqe;

	KUNIT_ASSERT_EQ(test, vrdma_encode_send(&rc, &wr.wr, &wqe), 0);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(wqe.compare), 11ull);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(wqe.swap_add), 22ull);
	wr.wr.opcode = IB_WR_ATOMIC_FETCH_AND_ADD;
	KUNIT_ASSERT_EQ(test, vrdma_encode_send(&rc, &wr.wr, &wqe), 0);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(wqe.swap_add), 11ull);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(wqe.compare), 0ull);
	wr.wr.num_sge = 2;
	KUNIT_EXPECT_EQ(test, vrdma_encode_send(&rc, &wr.wr, &wqe), -EINVAL);
}

static void test_encode_ud(struct kunit *test)
{
	struct vrdma_ah ah = { .av.pd = cpu_to_le32(3), .av.hop_limit = 64 };
	struct ib_ud_wr wr = {
		.wr.opcode = IB_WR_SEND,
		.ah = &ah.ibah,
		.remote_qpn = 17,
		.remote_qkey = 0x80010000,
	};
	u8 buf[256] __aligned(8);
	struct virtio_rdma_ud_wqe *wqe = (void *)buf;

	KUNIT_ASSERT_EQ(test, vrdma_encode_send(&ud, &wr.wr, wqe), 0);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(wqe->av.dqpn), 17u);
	/* The top bit selects the QP's own Q_Key. */
	KUNIT_EXPECT_EQ(test, le32_to_cpu(wqe->av.qkey), 0x1234u);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(wqe->av.pd), 3u);
	KUNIT_EXPECT_EQ(test, wqe->av.hop_limit, 64);
	wr.wr.opcode = IB_WR_RDMA_WRITE;
	KUNIT_EXPECT_EQ(test, vrdma_encode_send(&ud, &wr.wr, wqe), -EINVAL);
	wr.wr.opcode = IB_WR_SEND;
	wr.ah = NULL;
	KUNIT_EXPECT_EQ(test, vrdma_encode_send(&ud, &wr.wr, wqe), -EINVAL);
}

static void test_encode_reg_mr(struct kunit *test)
{
	struct virtio_rdma_reg_entry list[2] = {};
	dma_addr_t dma = 0x123000;
	struct vrdma_buf buf = { .dma = &dma };
	struct vrdma_mr mr = {
		.ibmr.iova = 0x5040,
		.ibmr.length = 8000,
		.ibmr.page_size = 8192,
		.buf = &buf,
		.list = list,
		.max_entries = 2,
		.num_entries = 2,
	};
	struct ib_reg_wr wr = {
		.wr.opcode = IB_WR_REG_MR,
		.mr = &mr.ibmr,
		.key = 0x77,
		.access = IB_ACCESS_LOCAL_WRITE | IB_ACCESS_RELAXED_ORDERING,
	};
	struct vrdma_send_limits ud = rc;
	struct virtio_rdma_reg_mr_wqe wqe;

	KUNIT_ASSERT_EQ(test, vrdma_encode_send(&rc, &wr.wr, &wqe), 0);
	KUNIT_EXPECT_EQ(test, wqe.ctrl.opcode, VIRTIO_RDMA_WR_REG_MR);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(wqe.key), 0x77u);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(wqe.access),
			(u32)VIRTIO_RDMA_ACCESS_LOCAL_WRITE);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(wqe.iova), 0x5040ull);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(wqe.length), 8000ull);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(wqe.list), 0x123000ull);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(wqe.num_entries), 2u);
	KUNIT_EXPECT_EQ(test, wqe.page_shift, 13);
	mr.gaps = true;
	KUNIT_ASSERT_EQ(test, vrdma_encode_send(&rc, &wr.wr, &wqe), 0);
	KUNIT_EXPECT_EQ(test, wqe.page_shift, 0);

	ud.type = IB_QPT_UD;
	KUNIT_EXPECT_EQ(test, vrdma_encode_send(&ud, &wr.wr, &wqe), -EINVAL);
	wr.access |= IB_ACCESS_MW_BIND;
	KUNIT_EXPECT_EQ(test, vrdma_encode_send(&rc, &wr.wr, &wqe), -EINVAL);
	wr.access = 0;
	mr.num_entries = 0;
	KUNIT_EXPECT_EQ(test, vrdma_encode_send(&rc, &wr.wr, &wqe), -EINVAL);
	mr.num_entries = 2;
	mr.list = NULL;
	KUNIT_EXPECT_EQ(test, vrdma_encode_send(&rc, &wr.wr, &wqe), -EINVAL);
}

static void test_encode_inv(struct kunit *test)
{
	struct ib_send_wr wr = {
		.opcode = IB_WR_LOCAL_INV,
		.ex.invalidate_rkey = 0x1234,
	};
	struct vrdma_send_limits uc = rc;
	u8 buf[256] __aligned(8);
	struct virtio_rdma_wqe_ctrl *ctrl = (void *)buf;

	uc.type = IB_QPT_UC;
	KUNIT_ASSERT_EQ(test, vrdma_encode_send(&uc, &wr, buf), 0);
	KUNIT_EXPECT_EQ(test, ctrl->opcode, VIRTIO_RDMA_WR_LOCAL_INV);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(ctrl->inv_rkey), 0x1234u);
	wr.num_sge = 1;
	KUNIT_EXPECT_EQ(test, vrdma_encode_send(&rc, &wr, buf), -EINVAL);
	wr.num_sge = 0;
	wr.opcode = IB_WR_SEND_WITH_INV;
	KUNIT_EXPECT_EQ(test, vrdma_encode_send(&uc, &wr, buf), -EINVAL);
	KUNIT_ASSERT_EQ(test, vrdma_encode_send(&rc, &wr, buf), 0);
	KUNIT_EXPECT_EQ(test, ctrl->opcode, VIRTIO_RDMA_WR_SEND_WITH_INV);
	KUNIT_EXPECT_EQ(test, le32_to_cpu(ctrl->inv_rkey), 0x1234u);
}

/* Maps pieces of these places and lengths; returns how many the region has. */
static int map_pieces(struct vrdma_mr *mr, const u32 (*piece)[2], int num,
		      unsigned int *offset)
{
	struct scatterlist sg[4];
	int i;

	sg_init_table(sg, num);
	for (i = 0; i < num; i++) {
		sg_dma_address(&sg[i]) = piece[i][0];
		sg_dma_len(&sg[i]) = piece[i][1];
	}
	return vrdma_map_mr_sg(&mr->ibmr, sg, num, offset);
}

static void test_map_mr_sg(struct kunit *test)
{
	static const u32 pages[][2] = {
		{ 0x1800, 0x800 }, { 0x5000, 0x1000 }, { 0x6000, 0x1000 }, { 0x9000, 5 },
	};
	static const u32 gaps[][2] = {
		{ 0x1800, 0x700 }, { 0x5000, 0x1000 }, { 0x6001, 0x1000 },
	};
	struct vrdma_dev *dev = kunit_kzalloc(test, sizeof(*dev), GFP_KERNEL);
	struct virtio_rdma_reg_entry list[3];
	struct vrdma_mr mr = { .list = list, .max_entries = 3 };
	unsigned int offset = 0x10;

	KUNIT_ASSERT_NOT_NULL(test, dev);
	dev->attr.page_sizes = SZ_4K | SZ_64K;
	mr.ibmr.device = &dev->ibdev;
	mr.ibmr.page_size = SZ_4K;

	/* The second and the third are one. */
	KUNIT_EXPECT_EQ(test, map_pieces(&mr, pages, 4, &offset), 4);
	KUNIT_EXPECT_EQ(test, offset, 0u);
	KUNIT_EXPECT_EQ(test, mr.num_entries, 3u);
	KUNIT_EXPECT_EQ(test, mr.ibmr.iova, 0x1810ull);
	KUNIT_EXPECT_EQ(test, mr.ibmr.length, 0x7f0ull + 0x2000 + 5);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(list[0].addr), 0x1810ull);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(list[0].length), 0x7f0ull);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(list[1].addr), 0x5000ull);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(list[1].length), 0x2000ull);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(list[2].length), 5ull);
	mr.max_entries = 2;
	KUNIT_EXPECT_EQ(test, map_pieces(&mr, pages, 4, NULL), 3);
	KUNIT_EXPECT_EQ(test, mr.ibmr.length, 0x2800ull);

	/* A gap ends the mapping, unless the region may have gaps. */
	KUNIT_EXPECT_EQ(test, map_pieces(&mr, gaps, 3, NULL), 1);
	mr.gaps = true;
	mr.max_entries = 3;
	KUNIT_EXPECT_EQ(test, map_pieces(&mr, gaps, 3, NULL), 3);
	KUNIT_EXPECT_EQ(test, mr.ibmr.length, 0x2700ull);
	offset = 0x700;
	KUNIT_EXPECT_EQ(test, map_pieces(&mr, gaps, 3, &offset), -EINVAL);
	mr.gaps = false;
	mr.ibmr.page_size = SZ_8K;
	KUNIT_EXPECT_EQ(test, map_pieces(&mr, pages, 4, NULL), -EINVAL);
}

static void test_encode_refused(struct kunit *test)
{
	struct ib_send_wr wr = { .opcode = IB_WR_SEND, .num_sge = 5 };
	struct ib_recv_wr rwr = { .num_sge = 2 };
	u8 buf[256] __aligned(8);

	KUNIT_EXPECT_EQ(test, vrdma_encode_send(&rc, &wr, buf), -EINVAL);
	wr.num_sge = -1;
	KUNIT_EXPECT_EQ(test, vrdma_encode_send(&rc, &wr, buf), -EINVAL);
	wr.num_sge = 0;
	wr.send_flags = IB_SEND_IP_CSUM;
	KUNIT_EXPECT_EQ(test, vrdma_encode_send(&rc, &wr, buf), -EINVAL);
	wr.send_flags = 0;
	wr.opcode = IB_WR_REG_MR_INTEGRITY;
	KUNIT_EXPECT_EQ(test, vrdma_encode_send(&rc, &wr, buf), -EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, vrdma_encode_recv(1, &rwr, buf), -EINVAL);
}

static void test_decode(struct kunit *test)
{
	struct virtio_rdma_cqe cqe = {
		.byte_len = cpu_to_le32(40 + 8),
		.imm = cpu_to_be32(5),
		.src_qp = cpu_to_le32(9),
		.opcode = VIRTIO_RDMA_WC_RECV,
		.flags = VIRTIO_RDMA_CQE_GRH | VIRTIO_RDMA_CQE_IMM |
			 VIRTIO_RDMA_CQE_IPV4,
	};
	struct ib_wc wc;

	vrdma_decode_cqe(&cqe, &wc);
	KUNIT_EXPECT_EQ(test, (int)wc.status, (int)IB_WC_SUCCESS);
	KUNIT_EXPECT_EQ(test, (int)wc.opcode, (int)IB_WC_RECV);
	KUNIT_EXPECT_EQ(test, wc.byte_len, 48u);
	KUNIT_EXPECT_EQ(test, wc.src_qp, 9u);
	KUNIT_EXPECT_EQ(test, wc.wc_flags, IB_WC_GRH | IB_WC_WITH_IMM |
					   IB_WC_WITH_NETWORK_HDR_TYPE);
	KUNIT_EXPECT_EQ(test, wc.network_hdr_type, RDMA_NETWORK_IPV4);

	/* An undefined status is an error. */
	cqe.status = 200;
	vrdma_decode_cqe(&cqe, &wc);
	KUNIT_EXPECT_EQ(test, (int)wc.status, (int)IB_WC_GENERAL_ERR);
	KUNIT_EXPECT_EQ(test, wc.wc_flags, 0);
}

static struct kunit_case pure_cases[] = {
	KUNIT_CASE(test_ring_wrap),
	KUNIT_CASE(test_phase),
	KUNIT_CASE(test_stride),
	KUNIT_CASE(test_range),
	KUNIT_CASE(test_cookies),
	KUNIT_CASE(test_arm),
	KUNIT_CASE(test_encode_write),
	KUNIT_CASE(test_encode_inline),
	KUNIT_CASE(test_encode_atomic),
	KUNIT_CASE(test_encode_ud),
	KUNIT_CASE(test_encode_reg_mr),
	KUNIT_CASE(test_encode_inv),
	KUNIT_CASE(test_map_mr_sg),
	KUNIT_CASE(test_encode_refused),
	KUNIT_CASE(test_decode),
	KUNIT_CASE(test_status),
	{}
};

static struct kunit_suite pure_suite = {
	.name = "virtio_rdma_pure",
	.test_cases = pure_cases,
};

kunit_test_suite(pure_suite);

MODULE_DESCRIPTION("KUnit tests of virtio_rdma");
MODULE_LICENSE("GPL");
