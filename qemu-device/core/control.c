// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The control thread of a device, and the envelope of commands.
 *
 * The thread takes commands off the control virtqueue, goes on with those that
 * were pending (cmd_queue.c), and refills the event and completion queues when
 * the driver kicks them.  It waits for nothing but the next kick or follow-up.
 *
 * A command's bytes are copied once and never read again; what is checked here
 * (length, header, room for the response) the handlers need not look at.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE		/* pthread_setname_np() */
#endif
#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "control.h"
#include "event.h"
#include "poller.h"
#include "request.h"
#include "trace.h"
#include "virtq.h"

#define MAX_RESPONSE	sizeof(((struct vrd_cmd *)0)->rsp_buf)

/* Commands and follow-ups that are carried out before dev->lock is released. */
#define BATCH		16

/* epoll's datum of the internal eventfd; others are queue numbers. */
#define WAKE		UINT32_MAX

struct vrd_control {
	pthread_t thread;
	int epoll_fd, wake_fd;
	_Atomic bool stop, abandoned;
	_Atomic unsigned int shell_waits;	/* shell threads that want dev->lock */

	struct vrd_lock followups_lock;		/* a leaf */
	STAILQ_HEAD(, vrd_followup) followups;
	_Atomic bool followups_due;
};

/* ---- commands ---------------------------------------------------------- */

struct vrd_command {
	const char *name;
	struct vrd_layout layout;
	vrd_cmd_fn *fn;
	uint64_t feature;		/* VRD_F() that it needs, or 0 */
};

#define SIZE(name)	sizeof(struct virtio_rdma_##name)

/*
 * Lengths of a command that has not grown since version 1 of the ABI.  When a
 * structure grows, its old length stays here as a number in *_min.
 */
#define PLAIN(req, rsp)			{ SIZE(req), SIZE(req), SIZE(rsp), SIZE(rsp), 0 }
#define EXTENTS(req, field, rsp)	{ SIZE(req), SIZE(req), SIZE(rsp), SIZE(rsp), \
					  offsetof(struct virtio_rdma_##req, field) }

static const struct vrd_command commands[] = {
	[VIRTIO_RDMA_CMD_INIT] = {
		"INIT", PLAIN(init_req, rsp_hdr), vrd_cmd_init
	},
	[VIRTIO_RDMA_CMD_QUERY_DEVICE] = {
		"QUERY_DEVICE", PLAIN(query_device_req, query_device_rsp), vrd_cmd_query_device
	},
	[VIRTIO_RDMA_CMD_QUERY_PORT] = {
		"QUERY_PORT", PLAIN(query_port_req, query_port_rsp), vrd_cmd_query_port
	},
	[VIRTIO_RDMA_CMD_ADD_GID] = {
		"ADD_GID", PLAIN(add_gid_req, rsp_hdr), vrd_cmd_add_gid
	},
	[VIRTIO_RDMA_CMD_DEL_GID] = {
		"DEL_GID", PLAIN(del_gid_req, rsp_hdr), vrd_cmd_del_gid
	},
	[VIRTIO_RDMA_CMD_CREATE_CTX] = {
		"CREATE_CTX", PLAIN(create_ctx_req, create_ctx_rsp), vrd_cmd_create_ctx
	},
	[VIRTIO_RDMA_CMD_DESTROY_CTX] = {
		"DESTROY_CTX", PLAIN(destroy_req, rsp_hdr), vrd_cmd_destroy_ctx
	},
	[VIRTIO_RDMA_CMD_ALLOC_PD] = {
		"ALLOC_PD", PLAIN(alloc_pd_req, alloc_pd_rsp), vrd_cmd_alloc_pd
	},
	[VIRTIO_RDMA_CMD_DEALLOC_PD] = {
		"DEALLOC_PD", PLAIN(destroy_req, rsp_hdr), vrd_cmd_dealloc_pd
	},
	[VIRTIO_RDMA_CMD_REG_MR] = {
		"REG_MR", EXTENTS(reg_mr_req, num_extents, reg_mr_rsp), vrd_cmd_reg_mr
	},
	[VIRTIO_RDMA_CMD_REG_MR_MORE] = {
		"REG_MR_MORE", EXTENTS(reg_mr_more_req, num_extents, reg_mr_rsp), vrd_cmd_reg_mr_more
	},
	[VIRTIO_RDMA_CMD_REG_DMA_MR] = {
		"REG_DMA_MR", PLAIN(reg_dma_mr_req, reg_mr_rsp), vrd_cmd_reg_dma_mr,
		VRD_F(DMA_KEY)
	},
	[VIRTIO_RDMA_CMD_DEREG_MR] = {
		"DEREG_MR", PLAIN(destroy_req, rsp_hdr), vrd_cmd_dereg_mr
	},
	[VIRTIO_RDMA_CMD_CREATE_CQ] = {
		"CREATE_CQ", EXTENTS(create_cq_req, buf.num_extents, create_cq_rsp), vrd_cmd_create_cq
	},
	[VIRTIO_RDMA_CMD_RESIZE_CQ] = {
		"RESIZE_CQ", EXTENTS(resize_cq_req, buf.num_extents, rsp_hdr), vrd_cmd_resize_cq,
		VRD_F(RESIZE_CQ)
	},
	[VIRTIO_RDMA_CMD_DESTROY_CQ] = {
		"DESTROY_CQ", PLAIN(destroy_req, rsp_hdr), vrd_cmd_destroy_cq
	},
	[VIRTIO_RDMA_CMD_CREATE_QP] = {
		"CREATE_QP", EXTENTS(create_qp_req, buf.num_extents, create_qp_rsp), vrd_cmd_create_qp
	},
	[VIRTIO_RDMA_CMD_MODIFY_QP] = {
		"MODIFY_QP", PLAIN(modify_qp_req, rsp_hdr), vrd_cmd_modify_qp
	},
	[VIRTIO_RDMA_CMD_QUERY_QP] = {
		"QUERY_QP", PLAIN(query_qp_req, query_qp_rsp), vrd_cmd_query_qp
	},
	[VIRTIO_RDMA_CMD_DESTROY_QP] = {
		"DESTROY_QP", PLAIN(destroy_req, rsp_hdr), vrd_cmd_destroy_qp
	},
	[VIRTIO_RDMA_CMD_QUERY_STATS] = {
		"QUERY_STATS", PLAIN(query_stats_req, query_stats_rsp), vrd_cmd_query_stats
	},
	[VIRTIO_RDMA_CMD_CREATE_SRQ] = {
		"CREATE_SRQ", EXTENTS(create_srq_req, buf.num_extents, create_srq_rsp), vrd_cmd_create_srq,
		VRD_F(SRQ)
	},
	[VIRTIO_RDMA_CMD_MODIFY_SRQ] = {
		"MODIFY_SRQ", PLAIN(modify_srq_req, rsp_hdr), vrd_cmd_modify_srq,
		VRD_F(SRQ)
	},
	[VIRTIO_RDMA_CMD_QUERY_SRQ] = {
		"QUERY_SRQ", PLAIN(query_srq_req, query_srq_rsp), vrd_cmd_query_srq,
		VRD_F(SRQ)
	},
	[VIRTIO_RDMA_CMD_DESTROY_SRQ] = {
		"DESTROY_SRQ", PLAIN(destroy_req, rsp_hdr), vrd_cmd_destroy_srq,
		VRD_F(SRQ)
	},
};

_Static_assert(SIZE(create_qp_req) <= VRD_MAX_FIXED && SIZE(modify_qp_req) <= VRD_MAX_FIXED,
	       "the largest requests fit");
_Static_assert(SIZE(query_stats_rsp) <= MAX_RESPONSE && SIZE(query_device_rsp) <= MAX_RESPONSE,
	       "the largest responses fit");

static const struct vrd_command *find_command(uint32_t opcode)
{
	if (opcode >= sizeof(commands) / sizeof(commands[0]) || !commands[opcode].fn)
		return NULL;
	return &commands[opcode];
}

/* Each status has one meaning; so has each errno that a command returns. */
static uint32_t status_of(int ret)
{
	switch (-ret) {
	case 0:			return VIRTIO_RDMA_S_OK;
	case EINVAL:		return VIRTIO_RDMA_S_INVAL;
	case EOPNOTSUPP:	return VIRTIO_RDMA_S_UNSUPPORTED;
	case ENOMEM:		return VIRTIO_RDMA_S_NOMEM;
	case ENOENT:		return VIRTIO_RDMA_S_NOENT;
	case EBUSY:		return VIRTIO_RDMA_S_BUSY;
	case EPERM:		return VIRTIO_RDMA_S_PERM;
	case EFAULT:		return VIRTIO_RDMA_S_FAULT;
	case EEXIST:		return VIRTIO_RDMA_S_EXIST;
	case ETIMEDOUT:		return VIRTIO_RDMA_S_TIMEOUT;
	case ENODEV:		return VIRTIO_RDMA_S_NOT_READY;
	case EADDRNOTAVAIL:	return VIRTIO_RDMA_S_ADDR;
	default:		return VIRTIO_RDMA_S_IO;
	}
}

/* Nothing is done unless the response can be written. */
static int check_room(struct vrd_cmd *cmd, const struct vrd_layout *layout)
{
	cmd->room = vrd_response_length(layout, cmd->elem->writable);
	if (!cmd->room)
		return -EINVAL;
	return vrd_vq_can_write(cmd->dev->vqs[VIRTIO_RDMA_VQ_CONTROL], cmd->elem, cmd->room) ?
	       0 : -EFAULT;
}

void vrd_command_check(struct vrd_cmd *cmd, const struct vrd_vq_elem *elem)
{
	const struct virtio_rdma_cmd_hdr *hdr = (const void *)cmd->raw;
	const struct vrd_command *c;

	cmd->req = cmd->fixed;
	cmd->refusal = -EINVAL;
	cmd->malformed = true;
	if (!cmd->rsp || cmd->req_len < sizeof(*hdr) || elem->readable > VRD_MAX_REQUEST)
		return;
	cmd->malformed = false;
	cmd->opcode = le32toh(hdr->opcode);
	c = find_command(cmd->opcode);
	cmd->command = c;
	cmd->refusal = -EOPNOTSUPP;
	if (!c || c->feature & ~cmd->dev->features)
		return;
	cmd->refusal = vrd_request_parse(&c->layout, cmd->raw, cmd->req_len, cmd->fixed,
					 &cmd->extents);
	if (!cmd->refusal)
		cmd->refusal = check_room(cmd, &c->layout);
}

int vrd_command_begin(struct vrd_cmd *cmd)
{
	/* INIT makes the device ready; before it everything else is refused. */
	if (!cmd->dev->initialised && cmd->opcode != VIRTIO_RDMA_CMD_INIT && !cmd->malformed)
		return -ENODEV;
	return cmd->refusal ? cmd->refusal : cmd->command->fn(cmd);
}

uint32_t vrd_command_end(struct vrd_cmd *cmd, int ret)
{
	struct virtio_rdma_rsp_hdr *rsp = cmd->rsp;
	const struct vrd_command *c = cmd->command;
	struct vrd_device *dev = cmd->dev;
	uint32_t status = status_of(ret);

	vrd_stat_add(dev, VIRTIO_RDMA_STAT_COMMANDS, 1);
	vrd_trace_command(dev->name, cmd->opcode, status, cmd->req_len);
	vrd_dev_log(dev, VRD_LOG_DEBUG, "command %s (%u), %u bytes: status %u",
		    c ? c->name : "?", cmd->opcode, cmd->req_len, status);
	if (!ret)
		return cmd->room;
	memset(cmd->rsp_buf, 0, sizeof(cmd->rsp_buf));
	rsp->status = htole32(status);
	return sizeof(*rsp);
}

/* ---- the thread -------------------------------------------------------- */

void vrd_device_lock(struct vrd_device *dev)
{
	atomic_fetch_add(&dev->control->shell_waits, 1);
	pthread_mutex_lock(&dev->lock);
	atomic_fetch_sub(&dev->control->shell_waits, 1);
}

void vrd_device_unlock(struct vrd_device *dev)
{
	pthread_mutex_unlock(&dev->lock);
}

/* A mutex is not fair: who gives it back and wants it again at once gets it. */
static void let_shell_in(struct vrd_control *ctl)
{
	static const struct timespec moment = { .tv_nsec = 20000 };

	while (atomic_load(&ctl->shell_waits))
		nanosleep(&moment, NULL);
}

/* The device whose control thread this is, or NULL. */
static _Thread_local struct vrd_device *current_device;

/* ---- follow-ups -------------------------------------------------------- */

void vrd_control_followup(struct vrd_device *dev, struct vrd_followup *f)
{
	struct vrd_control *ctl = dev->control;
	bool first;

	vrd_lock(&ctl->followups_lock);
	first = STAILQ_EMPTY(&ctl->followups);
	STAILQ_INSERT_TAIL(&ctl->followups, f, link);
	atomic_store(&ctl->followups_due, true);
	/* Under the lock: once @f has run, the device may be gone. */
	if (first && current_device != dev)
		vrd_control_wake(dev);
	vrd_unlock(&ctl->followups_lock);
}

/* One; dev->lock is held.  False: there is none. */
static bool run_followup(struct vrd_device *dev)
{
	struct vrd_control *ctl = dev->control;
	struct vrd_followup *f;

	if (!atomic_load_explicit(&ctl->followups_due, memory_order_relaxed))
		return false;
	vrd_lock(&ctl->followups_lock);
	f = STAILQ_FIRST(&ctl->followups);
	if (f)
		STAILQ_REMOVE_HEAD(&ctl->followups, link);
	if (STAILQ_EMPTY(&ctl->followups))
		atomic_store(&ctl->followups_due, false);
	vrd_unlock(&ctl->followups_lock);
	if (!f)
		return false;
	f->fn(f);
	return true;
}

/* ---- commands ---------------------------------------------------------- */

/* A few; false: there is nothing to do. */
static bool run_batch(struct vrd_device *dev)
{
	unsigned int left = BATCH;

	vrd_cmds_flush(dev);
	while (left && run_followup(dev))
		left--;
	while (left && vrd_cmds_take(dev))
		left--;
	vrd_cmds_signal(dev);
	return left < BATCH;
}

static void run_commands(struct vrd_device *dev)
{
	bool more = true;

	while (more && !atomic_load(&dev->control->stop)) {
		let_shell_in(dev->control);
		pthread_mutex_lock(&dev->lock);
		more = run_batch(dev);
		if (!more) {
			vrd_cmds_want_kick(dev);
			more = run_batch(dev);
		}
		pthread_mutex_unlock(&dev->lock);
	}
}

static void refill(struct vrd_device *dev, unsigned int index)
{
	bool events = index == VIRTIO_RDMA_VQ_EVENT || index >= VIRTIO_RDMA_VQ_COMP_BASE;

	if (events && vrd_event_refill(dev, dev->vqs[index]))
		vrd_control_wake(dev);
}

static void control_free(struct vrd_control *ctl)
{
	close(ctl->wake_fd);
	close(ctl->epoll_fd);
	free(ctl);
}

/* On the control thread: nothing is under way any more. */
static bool is_left_alone(struct vrd_device *dev)
{
	bool alone;

	if (!atomic_load(&dev->control->abandoned))
		return false;
	pthread_mutex_lock(&dev->lock);
	alone = !dev->ends.num && !dev->cmds.num_running;
	pthread_mutex_unlock(&dev->lock);
	return alone;
}

static void *control_main(void *opaque)
{
	struct vrd_device *dev = opaque;
	struct vrd_control *ctl = dev->control;
	struct epoll_event ev[16];
	uint64_t count;
	unsigned int q;
	int i, n;

	current_device = dev;
	while (!atomic_load(&ctl->stop)) {
		n = epoll_wait(ctl->epoll_fd, ev, 16, -1);
		for (i = 0; i < n; i++) {
			if (ev[i].data.u32 != WAKE) {
				refill(dev, ev[i].data.u32);
				continue;
			}
			/* nothing to be told by an error: the count does not matter */
			if (read(ctl->wake_fd, &count, sizeof(count)) < 0)
				continue;
			for (q = 0; q < dev->num_vqs; q++)
				refill(dev, q);
		}
		run_commands(dev);
		if (is_left_alone(dev)) {
			struct vrd_engine *engine = dev->engine;

			control_free(ctl);
			dev->control = NULL;
			vrd_device_finish(dev);
			vrd_engine_abandoned(engine, -1);
			break;
		}
	}
	return NULL;
}

void vrd_control_wake(struct vrd_device *dev)
{
	uint64_t one = 1;

	if (write(dev->control->wake_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		vrd_log(dev->engine, VRD_LOG_ERROR, "%s: cannot wake the control thread: %s",
			dev->name, strerror(errno));
}

int vrd_control_watch(struct vrd_device *dev, unsigned int vq, int fd)
{
	/*
	 * Edge triggered: each kick is one event, and the counter is never read.
	 * read() could block: the other process may have cleared O_NONBLOCK.
	 */
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET, .data.u32 = vq };

	return epoll_ctl(dev->control->epoll_fd, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

void vrd_control_unwatch(struct vrd_device *dev, int fd)
{
	/* It may have been let go already. */
	(void)epoll_ctl(dev->control->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

int vrd_control_create(struct vrd_device *dev, struct vrd_error *err)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = WAKE };
	struct vrd_control *ctl;
	sigset_t all, old;
	char name[16];
	int ret;

	ctl = calloc(1, sizeof(*ctl));
	if (!ctl)
		return vrd_fail(err, -ENOMEM, "", "out of memory");
	vrd_lock_init(&ctl->followups_lock, VRD_LOCK_LEAF);
	STAILQ_INIT(&ctl->followups);
	ctl->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	ctl->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (ctl->epoll_fd < 0 || ctl->wake_fd < 0 ||
	    epoll_ctl(ctl->epoll_fd, EPOLL_CTL_ADD, ctl->wake_fd, &ev)) {
		ret = vrd_fail(err, -errno, "raise the limit of open files (ulimit -n)",
			       "control thread of %s: %s", dev->name, strerror(errno));
		goto close;
	}
	dev->control = ctl;

	/* The process's signals belong to the shell's threads. */
	sigfillset(&all);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGSEGV);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&ctl->thread, NULL, control_main, dev);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret) {
		ret = vrd_fail(err, -ret, "", "control thread of %s: %s", dev->name,
			       strerror(ret));
		dev->control = NULL;
		goto close;
	}
	snprintf(name, sizeof(name), "vrd-ctl %.7s", dev->name);
	pthread_setname_np(ctl->thread, name);
	return 0;
close:
	if (ctl->wake_fd >= 0)
		close(ctl->wake_fd);
	if (ctl->epoll_fd >= 0)
		close(ctl->epoll_fd);
	free(ctl);
	return ret;
}

void vrd_control_destroy(struct vrd_device *dev)
{
	struct vrd_control *ctl = dev->control;

	if (!ctl)
		return;
	atomic_store(&ctl->stop, true);
	vrd_control_wake(dev);
	pthread_join(ctl->thread, NULL);
	control_free(ctl);
	dev->control = NULL;
}

void vrd_control_abandon(struct vrd_device *dev)
{
	struct vrd_control *ctl = dev->control;

	vrd_engine_abandoned(dev->engine, 1);
	pthread_detach(ctl->thread);
	/* After this the device is the thread's. */
	atomic_store(&ctl->abandoned, true);
	vrd_control_wake(dev);
}

