/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QP 1: as long as gsi.c is not there, a device has none.  Who adds it deletes
 * this file, and includes gsi.h in its place.
 */
#ifndef VRD_IBV_QP1_H
#define VRD_IBV_QP1_H

#include <errno.h>

#include "backend.h"

struct vrd_gsi_port_config {
	unsigned int ifindex;
	bool host_cm;
};

#define vrd_gsi_port_open(dev, cfg, port, err)	((void)(dev), (void)(cfg), (void)(err), 0)
#define vrd_gsi_port_close(port)		((void)(port))
#define vrd_gsi_gid_add(port, index, gid)	((void)(port), (void)(index), (void)(gid), 0)
#define vrd_gsi_gid_del(port, index)		((void)(port), (void)(index))
#define vrd_gsi_qp_create(port, qp)		((void)(port), (void)(qp), -EOPNOTSUPP)
#define vrd_gsi_qp_modify(qp, state, attr, mask) \
	((void)(qp), (void)(state), (void)(attr), (void)(mask), -EOPNOTSUPP)
#define vrd_gsi_qp_query(qp, attr)		((void)(qp), (void)(attr))
#define vrd_gsi_qp_destroy(qp)			((void)(qp))
#define vrd_gsi_qp_free(qp)			((void)(qp))
#define vrd_gsi_sq_run(qp, budget)		((void)(qp), (void)(budget), VRD_RUN_IDLE)
#define vrd_gsi_rq_run(qp)			((void)(qp))
#define vrd_gsi_rq_psn(port, qpn, psn)		((void)(port), (void)(qpn), (void)(psn))
#define vrd_gsi_forget_qp(port, qpn)		((void)(port), (void)(qpn))

#endif /* VRD_IBV_QP1_H */
