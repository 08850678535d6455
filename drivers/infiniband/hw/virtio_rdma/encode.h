/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Work requests and completions as the device's rings hold them.  Pure
 * functions: memory in, memory out.
 */
#ifndef VRDMA_ENCODE_H
#define VRDMA_ENCODE_H

#include <rdma/ib_verbs.h>
#include <linux/virtio_rdma.h>

/**
 * struct vrdma_send_limits - what a send queue takes
 * @type:       of the QP
 * @sig_all:    every work request is signaled
 * @qkey:       the QP's Q_Key, for datagrams whose own has its top bit set
 * @max_sge:    entries of a list
 * @max_inline: bytes
 */
struct vrdma_send_limits {
	enum ib_qp_type type;
	bool sig_all;
	u32 qkey;
	u32 max_sge;
	u32 max_inline;
};

int vrdma_encode_send(const struct vrdma_send_limits *lim,
		      const struct ib_send_wr *wr, void *wqe);
int vrdma_encode_recv(u32 max_sge, const struct ib_recv_wr *wr, void *wqe);
void vrdma_decode_cqe(const struct virtio_rdma_cqe *cqe, struct ib_wc *wc);

#endif /* VRDMA_ENCODE_H */
