// SPDX-License-Identifier: GPL-2.0-or-later
/* The destruction of objects.  See end.h. */
#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "control.h"
#include "end.h"

int vrd_ends_init(struct vrd_ends *ends)
{
	pthread_condattr_t attr;

	TAILQ_INIT(&ends->due);
	TAILQ_INIT(&ends->after);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&ends->gone, &attr);
	pthread_condattr_destroy(&attr);
	ends->settled_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return ends->settled_fd < 0 ? -errno : 0;
}

void vrd_ends_fini(struct vrd_ends *ends)
{
	if (ends->settled_fd >= 0)
		close(ends->settled_fd);
	pthread_cond_destroy(&ends->gone);
}

static void signal_settled(struct vrd_ends *ends)
{
	uint64_t one = 1;

	/* It cannot fail: the counter does not fill up in the life of a machine. */
	if (write(ends->settled_fd, &one, sizeof(one)) < 0)
		return;
}

/* The transport's part has been released: frees the object. */
static void end_free(struct vrd_end *end)
{
	struct vrd_device *dev = end->dev;
	struct vrd_ends *ends = &dev->ends;
	struct vrd_cmd *cmd = end->cmd;
	int ret = end->ret;

	ends->num--;
	ends->num_guards -= end->guards_memory;
	if (end->guards_memory && end->epoch != ends->epoch && !--ends->num_unsettled)
		signal_settled(ends);
	if (end->ended)
		*end->ended = true;
	end->free(end);
	if (cmd)
		vrd_cmd_complete(cmd, ret);
	pthread_cond_broadcast(&ends->gone);
}

static void run_due(struct vrd_device *dev);

static void released(struct vrd_followup *f)
{
	struct vrd_end *end = vrd_end_of(f, vrd_end, followup);
	struct vrd_device *dev = end->dev;

	end_free(end);
	run_due(dev);
}

/* On a worker: runs all steps that may block. */
static void work(struct vrd_work *work)
{
	struct vrd_end *end = vrd_end_of(work, vrd_end, work);

	if (end->retire)
		end->retire(end);
	if (end->grace)
		vrd_engine_synchronize(end->dev->engine);
	if (end->release)
		end->release(end);
	vrd_control_followup(end->dev, &end->followup);
}

/* For devices without workers: on the control thread after a grace period. */
static void release_now(struct vrd_end *end)
{
	if (end->release)
		end->release(end);
	end_free(end);
}

static void after_grace(struct vrd_followup *f)
{
	struct vrd_end *end = vrd_end_of(f, vrd_end, followup);
	struct vrd_device *dev = end->dev;

	release_now(end);
	run_due(dev);
}

/* Runs on a poller. */
static void grace_over(struct vrd_deferred *deferred)
{
	struct vrd_end *end = vrd_end_of(deferred, vrd_end, deferred);

	vrd_control_followup(end->dev, &end->followup);
}

static void start(struct vrd_end *end)
{
	struct vrd_device *dev = end->dev;
	struct vrd_engine *engine = dev->engine;

	if (dev->workers && (end->retire || end->grace || end->release)) {
		end->work = (struct vrd_work){ .fn = work, .kind = VRD_WORK_END };
		end->followup.fn = released;
		vrd_work_submit(dev->workers, &end->work);
		return;
	}
	if (end->retire)
		end->retire(end);
	if (!end->grace || vrd_grace_soon(engine)) {
		release_now(end);
		return;
	}
	end->followup.fn = after_grace;
	vrd_defer(engine, &end->deferred, grace_over);
}

static void wake_init(struct vrd_ends *ends)
{
	struct vrd_cmd *cmd;

	while (!ends->num_guards && (cmd = TAILQ_FIRST(&ends->after))) {
		TAILQ_REMOVE(&ends->after, cmd, ready_link);
		vrd_cmd_complete(cmd, 0);
	}
}

static void run_due(struct vrd_device *dev)
{
	struct vrd_ends *ends = &dev->ends;
	struct vrd_end *end;

	/* Freeing an object may release the last use of another one: the outer loop handles all. */
	if (ends->running)
		return;
	ends->running = true;
	while ((end = TAILQ_FIRST(&ends->due))) {
		TAILQ_REMOVE(&ends->due, end, link);
		start(end);
	}
	ends->running = false;
	wake_init(ends);
}

static void begin(struct vrd_device *dev, struct vrd_end *end, uint32_t users,
		  bool guards_memory)
{
	end->dev = dev;
	end->guards_memory = guards_memory;
	end->epoch = dev->ends.epoch;
	end->waits = users != 0;
	dev->ends.num++;
	dev->ends.num_guards += guards_memory;
	if (!users)
		TAILQ_INSERT_TAIL(&dev->ends.due, end, link);
}

void vrd_end(struct vrd_device *dev, struct vrd_end *end, uint32_t users, bool guards_memory)
{
	end->cmd = NULL;
	end->ended = NULL;
	begin(dev, end, users, guards_memory);
	run_due(dev);
}

int vrd_end_for(struct vrd_cmd *cmd, struct vrd_end *end, uint32_t users, bool guards_memory,
		int ret)
{
	struct vrd_device *dev = cmd->dev;
	bool ended = false;

	end->cmd = NULL;
	end->ended = &ended;
	begin(dev, end, users, guards_memory);
	run_due(dev);
	if (ended)
		return ret;
	/* The object is freed by a follow-up, or by the caller of run_due(). */
	end->ended = NULL;
	end->cmd = cmd;
	end->ret = ret;
	return vrd_cmd_wait(cmd, NULL);
}

void vrd_end_gather(struct vrd_end_list *list, struct vrd_end *end, uint32_t *users)
{
	end->users = users;
	TAILQ_INSERT_TAIL(list, end, link);
}

void vrd_end_gathered(struct vrd_device *dev, struct vrd_end_list *list, bool guards_memory)
{
	struct vrd_end *end;

	if (TAILQ_EMPTY(list))
		return;
	/* A worker retires its object itself, and waits for a grace period after that. */
	if (!dev->workers) {
		TAILQ_FOREACH(end, list, link) {
			if (end->retire)
				end->retire(end);
			end->retire = NULL;
			end->grace = false;
		}
	}
	vrd_engine_synchronize(dev->engine);
	while ((end = TAILQ_FIRST(list))) {
		TAILQ_REMOVE(list, end, link);
		vrd_end(dev, end, *end->users, guards_memory);
	}
}

void vrd_end_unuse(struct vrd_device *dev, struct vrd_end *end, uint32_t *users)
{
	if (--*users || !end->waits)
		return;
	end->waits = false;
	TAILQ_INSERT_TAIL(&dev->ends.due, end, link);
	run_due(dev);
}

int vrd_ends_wait_guards(struct vrd_cmd *cmd, vrd_cmd_step_fn *step)
{
	struct vrd_ends *ends = &cmd->dev->ends;

	if (!ends->num_guards)
		return step(cmd, 0);
	vrd_cmd_wait(cmd, step);
	TAILQ_INSERT_TAIL(&ends->after, cmd, ready_link);
	return VRD_CMD_PENDING;
}

void vrd_ends_mark(struct vrd_device *dev)
{
	dev->ends.epoch++;
	dev->ends.num_unsettled = dev->ends.num_guards;
}

static bool is_over(const struct vrd_device *dev, bool all)
{
	return all ? !dev->ends.num && !dev->cmds.num_running : !dev->ends.num_unsettled;
}

bool vrd_ends_wait(struct vrd_device *dev, bool all, unsigned int timeout_ms)
{
	struct timespec until;
	int ret = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += timeout_ms / 1000;
	until.tv_nsec += timeout_ms % 1000 * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	while (!is_over(dev, all) && !ret)
		ret = pthread_cond_timedwait(&dev->ends.gone, &dev->lock, &until);
	return is_over(dev, all);
}
