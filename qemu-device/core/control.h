/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control path: the thread that takes commands off the control virtqueue,
 * the commands, and what they share.
 *
 * Everything here runs on the device's control thread or on the shell's, under
 * dev->lock, except for the functions that make and wake the thread.
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
	   vrd_cmd_reg_dma_mr, vrd_cmd_dereg_mr, vrd_cmd_create_buf, vrd_cmd_fill_buf,
	   vrd_cmd_destroy_buf;
/* cmd_cq.c */
vrd_cmd_fn vrd_cmd_create_cq, vrd_cmd_resize_cq, vrd_cmd_destroy_cq;
/* cmd_qp.c */
vrd_cmd_fn vrd_cmd_create_qp, vrd_cmd_modify_qp, vrd_cmd_query_qp, vrd_cmd_destroy_qp;

/* cmd_srq.c */
vrd_cmd_fn vrd_cmd_create_srq, vrd_cmd_modify_srq, vrd_cmd_query_srq, vrd_cmd_destroy_srq;

/*
 * All of a kind, for reset and INIT; nothing depends on them any more.  Pollers do not
 * know them any more either: vrd_poller_detach_all().
 */
void vrd_qp_destroy_all(struct vrd_device *dev);
void vrd_srq_destroy_all(struct vrd_device *dev);
void vrd_cq_destroy_all(struct vrd_device *dev);
void vrd_pd_destroy_all(struct vrd_device *dev);
void vrd_ctx_destroy_all(struct vrd_device *dev);
void vrd_gid_del_all(struct vrd_device *dev);
/* Everything that a driver made. */
void vrd_device_clear(struct vrd_device *dev);

/* Parts of a ring buffer: they lie in it and do not overlap. */
struct vrd_span {
	uint64_t offset, len;
};

/* -EINVAL if two spans overlap; *@end gets where the last one ends. */
int vrd_spans_check(const struct vrd_span *span, unsigned int num, uint64_t *end);

static inline bool vrd_is_power_of_two(uint64_t n)
{
	return n && !(n & (n - 1));
}

/* Smallest power of two that is not below @n, which is not zero. */
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
 * In its place while calls of the host are under way: the thread goes on with
 * what they bring, and then ends the device (vrd_device_finish()).
 */
void vrd_control_abandon(struct vrd_device *dev);
/* device.c: the last part of vrd_device_destroy(); there is no control thread. */
void vrd_device_finish(struct vrd_device *dev);
/* Has it look at all queues; any thread. */
void vrd_control_wake(struct vrd_device *dev);
/* Each write to @fd has it look at queue @vq; unwatch before @fd is closed. */
int vrd_control_watch(struct vrd_device *dev, unsigned int vq, int fd);
void vrd_control_unwatch(struct vrd_device *dev, int fd);

/* dev->lock for the shell: it comes before the control thread's next command,
 * however many a guest has queued.
 */
void vrd_device_lock(struct vrd_device *dev);
void vrd_device_unlock(struct vrd_device *dev);

#endif /* VRD_CONTROL_H */
