/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What MODIFY_QP may change, when, and to which values: IBTA 10.3.1 and
 * 11.2.5.2.  Pure functions.
 */
#ifndef VRD_QP_RULES_H
#define VRD_QP_RULES_H

#include <stdint.h>

#include "transport.h"

/*
 * May a QP of @type in state @from go to @to with the attributes of @mask?
 * 0, -EINVAL, or -EOPNOTSUPP for bits of the mask that nobody knows.
 */
int vrd_qp_check_transition(uint8_t type, uint8_t from, uint8_t to, uint32_t mask);

/* Are the attributes of @mask within range for the device? */
int vrd_qp_check_attr(const struct vrd_device *dev, const struct vrd_caps *caps,
		      const struct virtio_rdma_qp_attr *attr, uint32_t mask);

/* Takes those of @mask over. */
void vrd_qp_merge_attr(struct virtio_rdma_qp_attr *to, const struct virtio_rdma_qp_attr *from,
		       uint32_t mask);

#endif /* VRD_QP_RULES_H */
