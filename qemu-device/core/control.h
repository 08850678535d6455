/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control path: the thread that takes commands off the control virtqueue, the commands,
 * and their shared definitions.
 *
 * All functions run on the device's control thread or on the front end's, under dev->lock,
 * except for those that create and wake the thread.
 */
#ifndef VRD_CONTROL_H
#define VRD_CONTROL_H

#include "transport.h"
#include "cmd.h"
#include "mr.h"
#include "path.h"

/* cmd_device.c */
vrd_cmd_fn vrd_cmd_init, vrd_cmd_query_device, vrd_cmd_query_port, vrd_cmd_add_gid,
	   vrd_cmd_del_gid, vrd_cmd_create_ctx, vrd_cmd_destroy_ctx, vrd_cmd_query_stats;
/* cmd_mr.c */
vrd_cmd_fn vrd_cmd_alloc_pd, vrd_cmd_dealloc_pd, vrd_cmd_reg_mr, vrd_cmd_reg_mr_more,
	   vrd_cmd_reg_dma_mr, vrd_cmd_alloc_mr, vrd_cmd_dereg_mr, vrd_cmd_create_buf,
	   vrd_cmd_fill_buf, vrd_cmd_destroy_buf;
/* cmd_cq.c */
vrd_cmd_fn vrd_cmd_create_cq, vrd_cmd_resize_cq, vrd_cmd_destroy_cq;
/* cmd_qp.c */
vrd_cmd_fn vrd_cmd_create_qp, vrd_cmd_modify_qp, vrd_cmd_query_qp, vrd_cmd_destroy_qp;

/* cmd_srq.c */
vrd_cmd_fn vrd_cmd_create_srq, vrd_cmd_modify_srq, vrd_cmd_query_srq, vrd_cmd_destroy_srq;

/*
 * Destroy all objects of a kind, for reset and INIT.  No other object depends on them any
 * more, and pollers do not use them any more: vrd_poller_detach_all().
 */
void vrd_qp_destroy_all(struct vrd_device *dev);
void vrd_srq_destroy_all(struct vrd_device *dev);
void vrd_cq_destroy_all(struct vrd_device *dev);
void vrd_pd_destroy_all(struct vrd_device *dev);
void vrd_ctx_destroy_all(struct vrd_device *dev);
void vrd_gid_del_all(struct vrd_device *dev);
/* Destroys all objects that a driver created. */
void vrd_device_clear(struct vrd_device *dev);

/* Parts of a ring buffer. */
struct vrd_span {
	uint64_t offset, len;
};

/* -EINVAL if two spans overlap; *@end is set to the end of the last one. */
int vrd_spans_check(const struct vrd_span *span, unsigned int num, uint64_t *end);

static inline bool vrd_is_power_of_two(uint64_t n)
{
	return n && !(n & (n - 1));
}

/* Smallest power of two that is not less than @n.  @n is not zero. */
static inline uint64_t vrd_round_up_power_of_two(uint64_t n)
{
	uint64_t p = 1;

	while (p < n)
		p <<= 1;
	return p;
}

/* --- control.c: the thread --- */

int vrd_control_create(struct vrd_device *dev, struct vrd_error *err);
void vrd_control_destroy(struct vrd_device *dev);
/*
 * Replaces vrd_control_destroy() while calls of the host are in progress: the thread handles
 * their results, and then ends the device (vrd_device_finish()).
 */
void vrd_control_abandon(struct vrd_device *dev);
/* device.c: the last part of vrd_device_destroy(); there is no control thread any more. */
void vrd_device_finish(struct vrd_device *dev);
/* device.c: the driver of before is gone without a reset; dev->lock. */
void vrd_device_forget(struct vrd_device *dev);
/* device_vq.c: stops all virtqueues; dev->lock. */
void vrd_device_stop_vqs(struct vrd_device *dev);
/* Makes the thread check all queues; any thread. */
void vrd_control_wake(struct vrd_device *dev);
/* Each write to @fd makes the thread check queue @vq; unwatch @fd before closing it. */
int vrd_control_watch(struct vrd_device *dev, unsigned int vq, int fd);
void vrd_control_unwatch(struct vrd_device *dev, int fd);

/*
 * Takes dev->lock for a front end thread, before the control thread's next batch of
 * commands, however many commands a guest has queued.
 */
void vrd_device_lock(struct vrd_device *dev);
void vrd_device_unlock(struct vrd_device *dev);

#endif /* VRD_CONTROL_H */
