/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The destruction of an object: from its removal from the tables until its memory is freed.
 *
 * An object is freed when it has no users any more.  Users are the objects that were created
 * from it, and calls of the host's RDMA stack that a worker still makes for it.  A reset
 * does not wait for a call that hangs: the objects that the call uses remain, removed from
 * all tables, until it returns.
 *
 * Control thread and front end, under dev->lock, except for @release.
 */
#ifndef VRD_END_H
#define VRD_END_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "cmd.h"

#define vrd_end_of(end, type, member) \
	((struct type *)((char *)(end) - offsetof(struct type, member)))

/* 0 or a negative errno; vrd_ends_fini() is needed in both cases. */
int vrd_ends_init(struct vrd_ends *ends);
void vrd_ends_fini(struct vrd_ends *ends);

/*
 * Ends an object that was removed from the tables and from the pollers.  It is freed as soon
 * as @users is zero, perhaps before this returns; see vrd_end_unuse().  @guards_memory:
 * until then the host may write to the guest's memory.
 */
void vrd_end(struct vrd_device *dev, struct vrd_end *end, uint32_t users, bool guards_memory);
/* The same for a command, which is answered with @ret when the object has been freed. */
int vrd_end_for(struct vrd_cmd *cmd, struct vrd_end *end, uint32_t users, bool guards_memory,
		int ret);
/*
 * For all objects of a kind, at a reset or INIT.  Gathers an object that was removed from the
 * tables; *@users is its user count.
 */
void vrd_end_gather(struct vrd_end_list *list, struct vrd_end *end, uint32_t *users);
/*
 * Ends the gathered objects.  Waits for one grace period, however many there are: afterwards
 * no poller uses one of them.
 */
void vrd_end_gathered(struct vrd_device *dev, struct vrd_end_list *list, bool guards_memory);
/* Decrements the object's own user count *@users. */
void vrd_end_unuse(struct vrd_device *dev, struct vrd_end *end, uint32_t *users);

/* @cmd completes when there is no object left with @guards_memory. */
int vrd_ends_wait_guards(struct vrd_cmd *cmd, vrd_cmd_step_fn *step);
/*
 * vrd_ends_wait() waits from now on for the objects with @guards_memory that are ending now.
 * A guest that goes on ending others cannot make it wait longer.
 */
void vrd_ends_mark(struct vrd_device *dev);
/*
 * Waits until none of these objects is left, or (@all) no object is being destroyed and no
 * command is running.  Releases dev->lock while it waits.  False: it timed out.
 */
bool vrd_ends_wait(struct vrd_device *dev, bool all, unsigned int timeout_ms);

#endif /* VRD_END_H */
