/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sizes and offsets of both ABI headers, checked by the compiler.  Compiled as
 * C and C++, for 64 and 32 bits, little- and big-endian (test_abi.sh).
 *
 * The numbers here are the ABI: a change that makes this file fail breaks
 * drivers and providers that exist.
 */
#include <linux/virtio_rdma.h>
#include <rdma/virtio_rdma-abi.h>

#ifdef __cplusplus
#define SAME(a, b) static_assert((a) == (b), #a " is not " #b)
#else
#define SAME(a, b) _Static_assert((a) == (b), #a " is not " #b)
#endif
#define SIZE(type, n) SAME(sizeof(struct type), n)
#define AT(type, field, n) SAME(__builtin_offsetof(struct type, field), n)

/* Configuration space and headers. */
SIZE(virtio_rdma_config, 8);
AT(virtio_rdma_config, num_comp_vectors, 6);
SIZE(virtio_rdma_cmd_hdr, 8);
AT(virtio_rdma_cmd_hdr, length, 4);
SIZE(virtio_rdma_rsp_hdr, 8);
SIZE(virtio_rdma_extent, 16);
AT(virtio_rdma_extent, pages, 8);
SIZE(virtio_rdma_buf, 8);
AT(virtio_rdma_buf, handle, 4);
SIZE(virtio_rdma_create_buf_req, 24);
AT(virtio_rdma_create_buf_req, total_pages, 16);
AT(virtio_rdma_create_buf_req, extents, 24);
SIZE(virtio_rdma_create_buf_rsp, 16);
SIZE(virtio_rdma_fill_buf_req, 16);
AT(virtio_rdma_fill_buf_req, extents, 16);

/* Commands. */
SIZE(virtio_rdma_init_req, 16);
AT(virtio_rdma_init_req, num_comp_vectors, 8);
SIZE(virtio_rdma_query_device_req, 8);
SIZE(virtio_rdma_query_device_rsp, 160);
AT(virtio_rdma_query_device_rsp, node_guid, 8);
AT(virtio_rdma_query_device_rsp, max_mr_size, 24);
AT(virtio_rdma_query_device_rsp, vendor_id, 32);
AT(virtio_rdma_query_device_rsp, max_qp, 64);
AT(virtio_rdma_query_device_rsp, max_inline, 88);
AT(virtio_rdma_query_device_rsp, max_srq, 100);
AT(virtio_rdma_query_device_rsp, max_fast_reg_pages, 124);
AT(virtio_rdma_query_device_rsp, max_xrcd, 132);
AT(virtio_rdma_query_device_rsp, page_sizes, 144);
SIZE(virtio_rdma_query_port_req, 16);
SIZE(virtio_rdma_query_port_rsp, 24);
AT(virtio_rdma_query_port_rsp, active_speed, 12);
AT(virtio_rdma_query_port_rsp, gid_tbl_len, 16);
AT(virtio_rdma_query_port_rsp, max_msg_sz, 20);
SIZE(virtio_rdma_add_gid_req, 40);
AT(virtio_rdma_add_gid_req, gid_type, 12);
AT(virtio_rdma_add_gid_req, vlan_id, 14);
AT(virtio_rdma_add_gid_req, smac, 32);
AT(virtio_rdma_add_gid_req, gid, 16);
SIZE(virtio_rdma_del_gid_req, 16);
SIZE(virtio_rdma_create_ctx_req, 24);
AT(virtio_rdma_create_ctx_req, db_page, 16);
SIZE(virtio_rdma_create_ctx_rsp, 16);
SIZE(virtio_rdma_destroy_req, 16);
SIZE(virtio_rdma_alloc_pd_req, 16);
SIZE(virtio_rdma_alloc_pd_rsp, 16);
SIZE(virtio_rdma_reg_mr_req, 48);
AT(virtio_rdma_reg_mr_req, iova, 16);
AT(virtio_rdma_reg_mr_req, total_pages, 32);
AT(virtio_rdma_reg_mr_req, num_extents, 40);
AT(virtio_rdma_reg_mr_req, extents, 48);
SIZE(virtio_rdma_reg_mr_rsp, 24);
SIZE(virtio_rdma_reg_mr_more_req, 16);
AT(virtio_rdma_reg_mr_more_req, extents, 16);
SIZE(virtio_rdma_reg_dma_mr_req, 16);
SIZE(virtio_rdma_create_cq_req, 40);
AT(virtio_rdma_create_cq_req, ring_offset, 24);
AT(virtio_rdma_create_cq_req, buf, 32);
AT(virtio_rdma_create_cq_req, extents, 40);
SIZE(virtio_rdma_create_cq_rsp, 16);
SIZE(virtio_rdma_resize_cq_req, 32);
AT(virtio_rdma_resize_cq_req, buf, 24);
AT(virtio_rdma_resize_cq_req, extents, 32);
SIZE(virtio_rdma_create_qp_req, 80);
AT(virtio_rdma_create_qp_req, srqn, 24);
AT(virtio_rdma_create_qp_req, qp_type, 28);
AT(virtio_rdma_create_qp_req, sq_entries, 32);
AT(virtio_rdma_create_qp_req, rq_ctrl_offset, 64);
AT(virtio_rdma_create_qp_req, xrcd, 68);
AT(virtio_rdma_create_qp_req, buf, 72);
AT(virtio_rdma_create_qp_req, extents, 80);
SIZE(virtio_rdma_create_qp_rsp, 24);
SIZE(virtio_rdma_av, 48);
AT(virtio_rdma_av, pd, 20);
AT(virtio_rdma_av, qkey, 28);
AT(virtio_rdma_av, dmac, 32);
AT(virtio_rdma_av, sl, 41);
SIZE(virtio_rdma_qp_attr, 88);
AT(virtio_rdma_qp_attr, pkey_index, 12);
AT(virtio_rdma_qp_attr, access_flags, 16);
AT(virtio_rdma_qp_attr, dest_qpn, 32);
AT(virtio_rdma_qp_attr, av, 40);
SIZE(virtio_rdma_modify_qp_req, 104);
AT(virtio_rdma_modify_qp_req, attr, 16);
SIZE(virtio_rdma_query_qp_req, 16);
SIZE(virtio_rdma_query_qp_rsp, 96);
SIZE(virtio_rdma_create_srq_req, 56);
AT(virtio_rdma_create_srq_req, entries, 16);
AT(virtio_rdma_create_srq_req, limit, 32);
AT(virtio_rdma_create_srq_req, stride_shift, 36);
AT(virtio_rdma_create_srq_req, xrcd, 40);
AT(virtio_rdma_create_srq_req, buf, 48);
AT(virtio_rdma_create_srq_req, extents, 56);
SIZE(virtio_rdma_create_srq_rsp, 16);
AT(virtio_rdma_create_srq_rsp, slot, 12);
SIZE(virtio_rdma_modify_srq_req, 24);
AT(virtio_rdma_modify_srq_req, limit, 16);
SIZE(virtio_rdma_query_srq_req, 16);
SIZE(virtio_rdma_query_srq_rsp, 16);
AT(virtio_rdma_query_srq_rsp, limit, 8);
SIZE(virtio_rdma_query_stats_req, 8);
SIZE(virtio_rdma_query_stats_rsp, 272);
AT(virtio_rdma_query_stats_rsp, counters, 16);

/* Events. */
SIZE(virtio_rdma_event, 16);
SIZE(virtio_rdma_comp_event, 8);

/* Shared words: each side's on lines of their own. */
SIZE(virtio_rdma_db_page, 4096);
AT(virtio_rdma_db_page, summary, 64);
AT(virtio_rdma_db_page, dirty, 128);
SAME(VIRTIO_RDMA_DB_GROUPS * 64, VIRTIO_RDMA_DB_SLOTS);
SIZE(virtio_rdma_ring_ctrl, 128);
AT(virtio_rdma_ring_ctrl, need_db, 64);
SIZE(virtio_rdma_cq_ctrl, 128);
AT(virtio_rdma_cq_ctrl, arm, 4);
AT(virtio_rdma_cq_ctrl, fired, 64);

/* Ring entries. */
SIZE(virtio_rdma_sge, 16);
SIZE(virtio_rdma_wqe_ctrl, 16);
AT(virtio_rdma_wqe_ctrl, imm, 8);
AT(virtio_rdma_wqe_ctrl, inv_rkey, 8);
AT(virtio_rdma_wqe_ctrl, pkey_index, 12);
SIZE(virtio_rdma_rc_wqe, 32);
AT(virtio_rdma_rc_wqe, remote_addr, 16);
AT(virtio_rdma_rc_wqe, sge, 32);
SIZE(virtio_rdma_atomic_wqe, 64);
AT(virtio_rdma_atomic_wqe, swap_add, 32);
AT(virtio_rdma_atomic_wqe, sge, 48);
SIZE(virtio_rdma_ud_wqe, 64);
AT(virtio_rdma_ud_wqe, av, 16);
AT(virtio_rdma_ud_wqe, sge, 64);
/* Of features to come: in one line, which the device copies first. */
SIZE(virtio_rdma_bind_mw_wqe, 64);
AT(virtio_rdma_bind_mw_wqe, addr, 32);
SIZE(virtio_rdma_reg_entry, 16);
SIZE(virtio_rdma_reg_mr_wqe, 64);
AT(virtio_rdma_reg_mr_wqe, list, 40);
AT(virtio_rdma_reg_mr_wqe, page_shift, 52);
SIZE(virtio_rdma_flush_wqe, 64);
AT(virtio_rdma_flush_wqe, length, 32);
SIZE(virtio_rdma_cqe64, 64);
AT(virtio_rdma_cqe64, timestamp, 32);
SIZE(virtio_rdma_alloc_mr_req, 16);
SIZE(virtio_rdma_alloc_mw_req, 16);
SIZE(virtio_rdma_alloc_mw_rsp, 16);
SIZE(virtio_rdma_alloc_xrcd_req, 16);
SIZE(virtio_rdma_alloc_xrcd_rsp, 16);
SIZE(virtio_rdma_mcast_req, 32);
SIZE(virtio_rdma_modify_cq_req, 16);
SIZE(virtio_rdma_recv_wqe, 16);
AT(virtio_rdma_recv_wqe, sge, 16);
SIZE(virtio_rdma_cqe, 32);
AT(virtio_rdma_cqe, imm, 12);
AT(virtio_rdma_cqe, src_qp, 16);
AT(virtio_rdma_cqe, vendor_err, 23);
AT(virtio_rdma_cqe, srqn, 24);
AT(virtio_rdma_cqe, opcode, 28);
AT(virtio_rdma_cqe, status, 29);
AT(virtio_rdma_cqe, phase, 31);

/* uverbs. */
SIZE(virtio_rdma_status_page, 8);
SIZE(virtio_rdma_alloc_ucontext_resp, 32);
AT(virtio_rdma_alloc_ucontext_resp, db_mmap_offset, 8);
AT(virtio_rdma_alloc_ucontext_resp, status_mmap_offset, 24);
SIZE(virtio_rdma_alloc_pd_resp, 8);
SIZE(virtio_rdma_create_cq, 40);
AT(virtio_rdma_create_cq, entries, 16);
SIZE(virtio_rdma_create_cq_resp, 8);
SIZE(virtio_rdma_resize_cq, 32);
SIZE(virtio_rdma_create_qp, 48);
AT(virtio_rdma_create_qp, sq_stride_shift, 40);
AT(virtio_rdma_create_qp, comp_mask, 44);
SIZE(virtio_rdma_create_qp_resp, 16);
SIZE(virtio_rdma_create_srq, 40);
AT(virtio_rdma_create_srq, entries, 16);
AT(virtio_rdma_create_srq, stride_shift, 28);
AT(virtio_rdma_create_srq, comp_mask, 32);
SIZE(virtio_rdma_create_srq_resp, 8);
SIZE(virtio_rdma_create_ah_resp, 8);
