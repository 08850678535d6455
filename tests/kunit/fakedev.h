/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The device's end of a control queue, for KUnit tests: real vrings of the
 * virtio core, on which a function of the test serves the commands.
 */
#ifndef VRDMA_FAKEDEV_H
#define VRDMA_FAKEDEV_H

#include <kunit/test.h>
#include <linux/virtio.h>
#include <linux/virtio_ring.h>

#include "cmd.h"

/* Requests of a thousand extents have to fit. */
#define FAKEDEV_REQ_MAX		SZ_128K

/**
 * struct fakedev_cmd - a command as the device sees it
 * @head:    descriptor that the chain starts with
 * @req_len: bytes of the request, now in fakedev.req
 * @rsp:     where the response goes: memory of the driver's
 * @rsp_len: and how much of it there is
 */
struct fakedev_cmd {
	u16 head;
	u32 req_len;
	void *rsp;
	u32 rsp_len;
};

/**
 * struct fakedev - a device and, beside it, the driver's idea of it
 * @vdev:     what the virtio core knows
 * @vd:       what the driver keeps of a bound device
 * @dev:      an incarnation, with its command engine initialised
 * @vq:       the driver's end of the control queue
 * @doorbell: the driver's end of the doorbell queue
 * @ring:     the device's end of the control queue
 * @taken:    commands taken from it
 * @kicks:    notifications of the control queue
 * @rung:     notifications of the doorbell queue
 * @serve:    answers a command, or not; NULL: the device is silent
 * @priv:     the test's own
 * @req:      the request of the command being served
 */
struct fakedev {
	struct kunit *test;
	struct virtio_device vdev;
	struct vrdma_vdev vd;
	struct vrdma_dev dev;
	struct virtqueue *vq;
	struct virtqueue *doorbell;
	struct vring ring;
	void *pages[2];
	u16 taken;
	u16 used;
	atomic_t kicks;
	atomic_t rung;
	struct work_struct work;
	void (*serve)(struct fakedev *f, struct fakedev_cmd *cmd);
	void *priv;
	void *req;
};

struct fakedev *fakedev_open(struct kunit *test, unsigned int num,
			     void (*serve)(struct fakedev *f,
					   struct fakedev_cmd *cmd));
void fakedev_close(struct fakedev *f);

bool fakedev_take(struct fakedev *f, struct fakedev_cmd *cmd);
void fakedev_return(struct fakedev *f, u32 head, u32 used_len);
void fakedev_answer(struct fakedev *f, struct fakedev_cmd *cmd, const void *rsp,
		    u32 len);
void fakedev_status(struct fakedev *f, struct fakedev_cmd *cmd, u32 status);

static inline u32 fakedev_opcode(const struct fakedev *f)
{
	const struct virtio_rdma_cmd_hdr *hdr = f->req;

	return le32_to_cpu(hdr->opcode);
}

/* kunit_cmd.c: the engine's limit, a module parameter of the driver. */
void fakedev_set_timeout(unsigned int seconds);

#endif /* VRDMA_FAKEDEV_H */
