/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The end of an object: from the moment that nobody finds it any more until its
 * memory is free.
 *
 * An object ends when nothing uses it any more: what was made of it, and calls of
 * the host's RDMA stack that a worker still makes for it.  A reset does not wait
 * for a call that hangs: the objects that the call uses stay, out of all tables,
 * until it returns.
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

void vrd_ends_init(struct vrd_ends *ends);
void vrd_ends_fini(struct vrd_ends *ends);

/*
 * The object is out of the tables and no poller has it.  It ends as soon as
 * @users is zero, perhaps before this returns; see vrd_end_unuse().
 * @guards_memory: until then somebody may write to the guest's memory.
 */
void vrd_end(struct vrd_device *dev, struct vrd_end *end, uint32_t users, bool guards_memory);
/* The same for a command, whose answer is @ret when the object has gone. */
int vrd_end_for(struct vrd_cmd *cmd, struct vrd_end *end, uint32_t users, bool guards_memory,
		int ret);
/* One user less, in the object's own *@users. */
void vrd_end_unuse(struct vrd_device *dev, struct vrd_end *end, uint32_t *users);

/* @cmd completes when no object is left that guards memory. */
int vrd_ends_wait_guards(struct vrd_cmd *cmd, vrd_cmd_step_fn *step);
/*
 * Waits until nothing is left that guards memory, or (@all) nothing that ends and
 * no command that runs.  Gives dev->lock up meanwhile.  False: not in time.
 */
bool vrd_ends_wait(struct vrd_device *dev, bool all, unsigned int timeout_ms);

#endif /* VRD_END_H */
