/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The operations of the core that concern several transports: for a device and its objects
 * (transports.c), and for one queue pair (path.c).
 */
#ifndef VRD_PATH_H
#define VRD_PATH_H

#include "transport.h"

/* ---- transports.c: control or front end thread with dev->lock, unless stated ---- */

/*
 * Sets dev->transports and the fields derived from it.  @names are separated by commas, the
 * most preferred first.  0 or -EINVAL with @err.  Called before other threads know the
 * device.
 */
int vrd_transports_choose(struct vrd_device *dev, const char *names, struct vrd_error *err);
int vrd_transports_open(struct vrd_device *dev, const struct vrd_device_config *cfg,
			struct vrd_error *err);
void vrd_transports_close(struct vrd_device *dev);

/* What all transports of the device support, without the core's limits.  Any thread. */
struct vrd_caps vrd_device_caps(struct vrd_device *dev);
uint8_t vrd_transports_port_state(struct vrd_device *dev);
void vrd_transports_stats(struct vrd_device *dev,
			  void (*fn)(void *opaque, const char *name, uint64_t value),
			  void *opaque);
void vrd_transports_resumed(struct vrd_device *dev);
void vrd_transports_mem_changed(struct vrd_device *dev);

int vrd_transports_gid_add(struct vrd_device *dev, uint32_t index, const uint8_t gid[16]);
void vrd_transports_gid_del(struct vrd_device *dev, uint32_t index, const uint8_t gid[16]);
int vrd_transports_pd_alloc(struct vrd_device *dev, struct vrd_pd *pd);
void vrd_transports_pd_dealloc(struct vrd_device *dev, struct vrd_pd *pd);
int vrd_transports_mr_reg(struct vrd_device *dev, struct vrd_mr *mr);
void vrd_transports_mr_dereg(struct vrd_device *dev, struct vrd_mr *mr);
int vrd_transports_cq_create(struct vrd_cq *cq);
void vrd_transports_cq_destroy(struct vrd_cq *cq);
int vrd_transports_srq_create(struct vrd_srq *srq);
void vrd_transports_srq_destroy(struct vrd_srq *srq);
void vrd_transports_srq_free(struct vrd_srq *srq);
/* -EOPNOTSUPP: the core counts the receives. */
int vrd_transports_srq_modify(struct vrd_srq *srq, uint32_t limit);
int vrd_transports_srq_query(struct vrd_srq *srq, uint32_t *limit);
/*
 * Makes the private parts.  vrd_transports_qp_free() frees them; without qp_destroy() if the
 * QP was never published.
 */
int vrd_transports_qp_create(struct vrd_qp *qp);
/*
 * Claims the QP's number in dev->qps: qp->qpn if a transport chose it, else the core chooses
 * one.
 */
int vrd_transports_qp_number(struct vrd_qp *qp);
void vrd_transports_qp_destroy(struct vrd_qp *qp);
void vrd_transports_qp_free(struct vrd_qp *qp);

/* Poller, without any lock. */
void vrd_transports_srq_run(struct vrd_srq *srq);
bool vrd_transports_poll(struct vrd_device *dev, struct vrd_poller *poller);
bool vrd_transports_poll_sleep(struct vrd_device *dev, struct vrd_poller *poller);

/* ---- path.c: control thread ----------------------------------------------------- */

/* Sets the path for RESET and INIT.  For a new QP, or under both ring locks. */
void vrd_path_init(struct vrd_qp *qp);
/*
 * A checked MODIFY_QP: begin under both ring locks, modify without them, then commit under
 * both locks if modify returned 0, else cancel under both locks.  For a change to RESET:
 * first commit, then modify, no cancel.
 */
void vrd_path_begin(struct vrd_qp *qp, const struct vrd_qp_change *change);
int vrd_path_modify(struct vrd_qp *qp, const struct vrd_qp_change *change);
void vrd_path_commit(struct vrd_qp *qp, const struct vrd_qp_change *change);
void vrd_path_cancel(struct vrd_qp *qp, const struct vrd_qp_change *change);

#endif /* VRD_PATH_H */
