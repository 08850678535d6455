/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The rules of MODIFY_QP: which attributes may change, in which states, and to which values:
 * IBTA 10.3.1 and 11.2.5.2.  Pure functions.
 */
#ifndef VRD_QP_RULES_H
#define VRD_QP_RULES_H

#include <stdint.h>

#include "transport.h"

/*
 * Checks whether a QP of @type in state @from may go to @to with the attributes of @mask.
 * 0, -EINVAL, or -EOPNOTSUPP for unknown bits of the mask.
 */
int vrd_qp_check_transition(uint8_t type, uint8_t from, uint8_t to, uint32_t mask);

/* Checks whether the attributes of @mask are within the device's range. */
int vrd_qp_check_attr(const struct vrd_device *dev, const struct vrd_caps *caps,
		      const struct virtio_rdma_qp_attr *attr, uint32_t mask);

/* Copies the attributes of @mask. */
void vrd_qp_merge_attr(struct virtio_rdma_qp_attr *to, const struct virtio_rdma_qp_attr *from,
		       uint32_t mask);

#endif /* VRD_QP_RULES_H */
