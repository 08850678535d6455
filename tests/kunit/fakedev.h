/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A device for KUnit tests: real vrings of the virtio core, opened by the driver; a function
 * of the test answers the commands.
 */
#ifndef VRDMA_FAKEDEV_H
#define VRDMA_FAKEDEV_H

#include <kunit/test.h>
#include <linux/virtio.h>
#include <linux/virtio_ring.h>

#include "cmd.h"

/* A request with a thousand extents must fit. */
#define FAKEDEV_REQ_MAX		SZ_128K

/* Control, event, doorbell and one completion queue. */
#define FAKEDEV_VQS		(VIRTIO_RDMA_VQ_COMP_BASE + 1)

/**
 * struct fakedev_cmd - a command as the device sees it
 * @head:    first descriptor of the chain
 * @req_len: bytes of the request, now in fakedev.req
 * @rsp:     the response buffer, memory of the driver
 * @rsp_len: its size in bytes
 */
struct fakedev_cmd {
	u16 head;
	u32 req_len;
	void *rsp;
	u32 rsp_len;
};

/**
 * struct fakedev_queue - the device's end of a virtqueue
 * @vq:    the driver's end, or NULL when the driver has deleted it
 * @ring:  the vring that both ends use
 * @pages: its memory
 * @taken: chains taken from the available ring
 * @used:  chains returned
 * @kicks: notifications
 */
struct fakedev_queue {
	struct virtqueue *vq;
	struct vring ring;
	void *pages;
	u16 taken;
	u16 used;
	atomic_t kicks;
};

/**
 * struct fakedev - a device, and the driver's view of it
 * @vdev:     the virtio device
 * @dev:      the driver's device, not registered with the RDMA core
 * @num:      descriptors of the control queue
 * @q:        the virtqueues
 * @resets:   how often the driver reset the device
 * @may_reset: a reset waits for this completion (fakedev_hold_reset())
 * @fail_adds: how many buffers, offered to the device next, cannot be mapped
 * @serve:    called for each command, may answer it; NULL: the device is silent
 * @priv:     for use by the test
 * @req:      the request of the command being served
 */
struct fakedev {
	struct kunit *test;
	struct virtio_device vdev;
	struct vrdma_dev dev;
	unsigned int num;
	struct fakedev_queue q[FAKEDEV_VQS];
	int resets;
	struct completion may_reset;
	unsigned int fail_adds;
	struct work_struct work;
	void (*serve)(struct fakedev *f, struct fakedev_cmd *cmd);
	void *priv;
	void *req;
};

struct fakedev *fakedev_open(struct kunit *test, unsigned int num,
			     void (*serve)(struct fakedev *f,
					   struct fakedev_cmd *cmd));
void fakedev_close(struct fakedev *f);
int fakedev_try(struct kunit *test, unsigned int num);

int fakedev_add_inbuf(struct virtqueue *vq, struct scatterlist *sg,
		      unsigned int num, void *data, gfp_t gfp);
bool fakedev_take(struct fakedev *f, struct fakedev_cmd *cmd);
bool fakedev_put_event(struct fakedev *f, unsigned int queue,
		       const void *event, u32 len);
void fakedev_interrupt(struct fakedev *f, unsigned int queue);
void fakedev_return(struct fakedev *f, u32 head, u32 used_len);
void fakedev_answer(struct fakedev *f, struct fakedev_cmd *cmd, const void *rsp,
		    u32 len);
void fakedev_status(struct fakedev *f, struct fakedev_cmd *cmd, u32 status);

static inline u32 fakedev_opcode(const struct fakedev *f)
{
	const struct virtio_rdma_cmd_hdr *hdr = f->req;

	return le32_to_cpu(hdr->opcode);
}

static inline struct fakedev_queue *fakedev_ctrl(struct fakedev *f)
{
	return &f->q[VIRTIO_RDMA_VQ_CONTROL];
}

/* Blocks a reset of the device until fakedev_let_reset(). */
static inline void fakedev_hold_reset(struct fakedev *f)
{
	reinit_completion(&f->may_reset);
}

static inline void fakedev_let_reset(struct fakedev *f)
{
	complete_all(&f->may_reset);
}

/* Returns false if the driver does not halt a dead device in time. */
static inline bool fakedev_wait_halt(struct fakedev *f)
{
	return wait_for_completion_timeout(&f->dev.halt_done, 10 * HZ);
}

/* Sets the time, in seconds, for which the device may be silent. */
static inline void fakedev_set_timeout(struct fakedev *f, unsigned int seconds)
{
	f->dev.ctrl.limit = seconds * HZ;
}

#endif /* VRDMA_FAKEDEV_H */
