// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The engine: pollers, devices, fabrics; quiesce.
 *
 * Threading: any number of front end and control threads; engine->lock protects the lists.
 * It is never held while a thread waits for a poller.  Pollers do not take it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "path.h"
#include "poller_internal.h"
#include "ticks.h"

#define MAX_POLLERS	64

const struct vrd_log_target *vrd_engine_log_target(const struct vrd_engine *engine)
{
	return &engine->log;
}

struct vrd_mem_maps *vrd_engine_mem_maps(struct vrd_engine *engine)
{
	return &engine->mem_maps;
}

struct vrd_notifier *vrd_engine_notifier(struct vrd_engine *engine)
{
	return &engine->notifier;
}

_Atomic uint64_t *vrd_engine_region_maps(struct vrd_engine *engine)
{
	return &engine->region_maps;
}

uint64_t *vrd_engine_max_maps(struct vrd_engine *engine)
{
	return &engine->max_maps;
}

_Atomic uint64_t *vrd_engine_alias_maps(struct vrd_engine *engine)
{
	return &engine->alias_maps;
}

uint64_t vrd_engine_poll_ns(const struct vrd_engine *engine)
{
	return engine->poll_ns;
}

unsigned int vrd_engine_awake_pollers(const struct vrd_engine *engine)
{
	unsigned int num = 0;

	for (unsigned int i = 0; i < engine->num_pollers; i++)
		num += !atomic_load_explicit(&engine->pollers[i].sleeping, memory_order_relaxed);
	return num;
}

struct vrd_spin_slots *vrd_engine_spin_slots(struct vrd_engine *engine)
{
	return &engine->spin_slots;
}

unsigned int vrd_engine_poller_count(const struct vrd_engine *engine)
{
	return engine->num_pollers;
}

struct vrd_poller *vrd_engine_poller(const struct vrd_engine *engine, unsigned int index)
{
	return &engine->pollers[index];
}

unsigned int vrd_engine_device_count(struct vrd_engine *engine)
{
	unsigned int num;

	pthread_mutex_lock(&engine->lock);
	num = engine->num_devices;
	pthread_mutex_unlock(&engine->lock);
	return num;
}

bool vrd_engine_any_device(struct vrd_engine *engine,
			   bool (*match)(const struct vrd_device *dev, const void *opaque),
			   const void *opaque)
{
	const struct vrd_device *dev;
	bool found = false;

	pthread_mutex_lock(&engine->lock);
	LIST_FOREACH(dev, &engine->devices, engine_link) {
		found = match(dev, opaque);
		if (found)
			break;
	}
	pthread_mutex_unlock(&engine->lock);
	return found;
}

unsigned int vrd_poller_index(const struct vrd_poller *poller)
{
	return poller->index;
}

struct wait_visit {
	struct vrd_visit visit;
	struct vrd_signal done;
};

static void wait_visit_done(struct vrd_visit *visit)
{
	vrd_signal_raise(&((struct wait_visit *)visit)->done);
}

void vrd_engine_call_all(struct vrd_engine *engine,
			 void (*fn)(struct vrd_poller *poller, void *arg), void *arg)
{
	struct wait_visit wait = { .visit = { .fn = fn, .arg = arg, .done = wait_visit_done } };

	vrd_signal_init(&wait.done);
	vrd_engine_visit(engine, &wait.visit);
	vrd_signal_wait(&wait.done);
}

static void stop_pollers(struct vrd_engine *engine, unsigned int num)
{
	for (unsigned int i = 0; i < num; i++)
		vrd_poller_stop(&engine->pollers[i]);
	for (unsigned int i = 0; i < num; i++)
		vrd_poller_close(&engine->pollers[i]);
}

int vrd_engine_create(const struct vrd_engine_config *cfg, struct vrd_engine **engine_out,
		      struct vrd_error *err)
{
	unsigned int num = cfg->pollers ? cfg->pollers : 1;
	struct vrd_engine *engine;
	int ret = -ENOMEM;

	if (num > MAX_POLLERS)
		return vrd_fail(err, -EINVAL, "ask for 1 to 64 pollers", "%u pollers are too many",
				num);
	/* Aligned: the fields that pollers read every turn have cache lines of their own. */
	engine = aligned_alloc(_Alignof(struct vrd_engine), sizeof(*engine));
	if (!engine)
		return vrd_fail(err, -ENOMEM, NULL, "out of memory");
	memset(engine, 0, sizeof(*engine));
	vrd_reclaim_init(engine);
	vrd_spin_slots_init(&engine->spin_slots);
	engine->log.fn = cfg->log;
	engine->log.opaque = cfg->log_opaque;
	engine->log.level = cfg->log_level;
	engine->poll_ns = cfg->poll_us * 1000ULL;
	engine->poll_fixed = cfg->poll_fixed;
	engine->quantum_ticks = vrd_ticks_measure(VRD_QUANTUM_NS);
	engine->turn_ticks = engine->quantum_ticks * VRD_TURN_NS / VRD_QUANTUM_NS;
	LIST_INIT(&engine->devices);
	LIST_INIT(&engine->fabrics);
	pthread_mutex_init(&engine->lock, NULL);
	engine->max_maps = vrd_mem_max_map_count();
	ret = vrd_notifier_init(&engine->notifier, cfg->private_fds, err);
	if (ret)
		goto free_engine;

	/* Aligned: each poller frequently writes its own cache lines. */
	engine->pollers = aligned_alloc(_Alignof(struct vrd_poller), num * sizeof(struct vrd_poller));
	if (!engine->pollers) {
		ret = vrd_fail(err, -ENOMEM, NULL, "out of memory");
		goto free_notifier;
	}
	memset(engine->pollers, 0, num * sizeof(struct vrd_poller));
	engine->num_pollers = num;
	for (unsigned int i = 0; i < num; i++) {
		struct vrd_poller *poller = &engine->pollers[i];

		poller->engine = engine;
		poller->index = i;
		poller->cpu = cfg->poller_cpus ? cfg->poller_cpus[i] : -1;
		ret = vrd_poller_start(poller, err);
		if (ret) {
			stop_pollers(engine, i);
			goto free_pollers;
		}
	}
	*engine_out = engine;
	return 0;

free_pollers:
	free(engine->pollers);
free_notifier:
	vrd_notifier_fini(&engine->notifier);
free_engine:
	pthread_mutex_destroy(&engine->lock);
	free(engine);
	return ret;
}

void vrd_engine_abandoned(struct vrd_engine *engine, int num)
{
	pthread_mutex_lock(&engine->lock);
	engine->num_abandoned += (unsigned int)num;
	pthread_mutex_unlock(&engine->lock);
}

void vrd_engine_destroy(struct vrd_engine *engine)
{
	unsigned int abandoned;

	if (!engine)
		return;
	/* A device that waits for a call of the host still uses the engine. */
	pthread_mutex_lock(&engine->lock);
	abandoned = engine->num_abandoned;
	pthread_mutex_unlock(&engine->lock);
	if (abandoned) {
		vrd_log(engine, VRD_LOG_ERROR, "the engine stays: %u devices wait for their host",
			abandoned);
		return;
	}
	if (engine->shared)
		engine->shared_close(engine->shared);
	stop_pollers(engine, engine->num_pollers);
	vrd_reclaim_fini(engine);
	vrd_notifier_fini(&engine->notifier);
	vrd_mem_maps_fini(&engine->mem_maps);
	free(engine->pollers);
	pthread_mutex_destroy(&engine->lock);
	free(engine);
}

/* ---- devices ------------------------------------------------------------------ */

static void add_device(struct vrd_poller *poller, void *arg)
{
	struct vrd_device *dev = arg;

	poller->num_polled += dev->polled;
	LIST_INSERT_HEAD(&poller->devs, dev->pdevs[poller->index], link);
}

static struct vrd_poller_dev *pdev_new(struct vrd_device *dev)
{
	struct vrd_poller_dev *pdev = calloc(1, sizeof(*pdev));

	if (!pdev)
		return NULL;
	vrd_dev_sched_init(&pdev->sched);
	pdev->sched.suspended = vrd_device_suspended(dev);
	pdev->dev = dev;
	pdev->kick_fd = -1;
	TAILQ_INIT(&pdev->asleep);
	return pdev;
}

static void pdevs_free(struct vrd_device *dev)
{
	for (unsigned int i = 0; i < dev->engine->num_pollers; i++)
		free(dev->pdevs[i]);
	free(dev->pdevs);
	dev->pdevs = NULL;
}

int vrd_engine_add_device(struct vrd_device *dev)
{
	struct vrd_engine *engine = dev->engine;

	dev->pdevs = calloc(engine->num_pollers, sizeof(dev->pdevs[0]));
	if (!dev->pdevs)
		return -ENOMEM;
	for (unsigned int i = 0; i < engine->num_pollers; i++) {
		dev->pdevs[i] = pdev_new(dev);
		if (!dev->pdevs[i]) {
			pdevs_free(dev);
			return -ENOMEM;
		}
	}

	pthread_mutex_lock(&engine->lock);
	dev->poller = &engine->pollers[engine->num_devices++ % engine->num_pollers];
	dev->db_kick_fd = -1;
	LIST_INSERT_HEAD(&engine->devices, dev, engine_link);
	pthread_mutex_unlock(&engine->lock);

	vrd_engine_call_all(engine, add_device, dev);
	return 0;
}

/* The device is suspended and has no contexts, so it is in no other list. */
static void remove_device(struct vrd_poller *poller, void *arg)
{
	struct vrd_device *dev = arg;

	poller->num_polled -= dev->polled;
	LIST_REMOVE(dev->pdevs[poller->index], link);
}

void vrd_engine_remove_device(struct vrd_device *dev)
{
	struct vrd_engine *engine = dev->engine;

	vrd_poller_unwatch_kick(dev);
	vrd_engine_call_all(engine, remove_device, dev);
	pdevs_free(dev);
	pthread_mutex_lock(&engine->lock);
	LIST_REMOVE(dev, engine_link);
	engine->num_devices--;
	pthread_mutex_unlock(&engine->lock);
}

/* ---- notifications of the doorbell queue ---------------------------------------- */

struct watch_kick {
	struct vrd_device *dev;
	int fd;
	int error;
};

static void watch_kick(struct vrd_poller *poller, void *arg)
{
	struct watch_kick *watch = arg;
	struct vrd_poller_dev *pdev = watch->dev->pdevs[poller->index];
	/*
	 * Edge triggered: each signal wakes every poller that has contexts of the device, and
	 * no poller has to drain it for the others.
	 */
	struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.ptr = pdev };

	if (pdev->kick_fd >= 0)
		epoll_ctl(poller->epoll_fd, EPOLL_CTL_DEL, pdev->kick_fd, NULL);
	pdev->kick_fd = -1;
	if (watch->fd < 0)
		return;
	if (epoll_ctl(poller->epoll_fd, EPOLL_CTL_ADD, watch->fd, &event))
		watch->error = -errno;
	else
		pdev->kick_fd = watch->fd;
}

int vrd_poller_watch_kick(struct vrd_device *dev, int fd)
{
	struct watch_kick watch = { .dev = dev, .fd = fd };

	vrd_engine_call_all(dev->engine, watch_kick, &watch);
	if (watch.error) {
		vrd_poller_unwatch_kick(dev);
		return watch.error;
	}
	dev->db_kick_fd = fd;
	return 0;
}

void vrd_poller_unwatch_kick(struct vrd_device *dev)
{
	struct watch_kick watch = { .dev = dev, .fd = -1 };

	vrd_engine_call_all(dev->engine, watch_kick, &watch);
	dev->db_kick_fd = -1;
}

/* ---- descriptors of transports --------------------------------------------------- */

int vrd_poller_watch(struct vrd_poller *poller, int fd)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };	/* .data.ptr is NULL: it
									 * belongs to no device */

	return epoll_ctl(poller->epoll_fd, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

void vrd_poller_unwatch(struct vrd_poller *poller, int fd)
{
	epoll_ctl(poller->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

/* ---- quiesce ------------------------------------------------------------------------- */

void vrd_device_quiesce_send(struct vrd_device *dev, struct vrd_visit *visit,
			     void (*done)(struct vrd_visit *visit))
{
	atomic_fetch_add(&dev->suspended, 1);
	/*
	 * A poller handles the message between two turns.  The turn before it may have begun
	 * when the device was not suspended; the next turn sees that it is.
	 */
	visit->fn = vrd_doorbell_suspend;
	visit->arg = dev;
	visit->done = done;
	vrd_engine_visit(dev->engine, visit);
}

static void resume_nothing(struct vrd_poller *poller, void *dev)
{
	(void)poller;
	(void)dev;
}

void vrd_device_resume_send(struct vrd_device *dev, struct vrd_visit *visit,
			    void (*done)(struct vrd_visit *visit))
{
	bool last = atomic_fetch_sub(&dev->suspended, 1) == 1;

	/* First the transports: their threads do not need the pollers. */
	if (last)
		vrd_transports_resumed(dev);
	visit->fn = last ? vrd_doorbell_resume : resume_nothing;
	visit->arg = dev;
	visit->done = done;
	vrd_engine_visit(dev->engine, visit);
}

void vrd_device_quiesce(struct vrd_device *dev)
{
	struct wait_visit wait;

	vrd_signal_init(&wait.done);
	vrd_device_quiesce_send(dev, &wait.visit, wait_visit_done);
	vrd_signal_wait(&wait.done);
}

void vrd_device_resume(struct vrd_device *dev)
{
	struct wait_visit wait;

	vrd_signal_init(&wait.done);
	vrd_device_resume_send(dev, &wait.visit, wait_visit_done);
	vrd_signal_wait(&wait.done);
}

/* ---- fabrics ------------------------------------------------------------------------ */

struct vrd_fabric *vrd_fabric_get(struct vrd_engine *engine, const char *name)
{
	struct vrd_fabric *fabric;

	pthread_mutex_lock(&engine->lock);
	LIST_FOREACH(fabric, &engine->fabrics, link)
		if (!strcmp(fabric->name, name))
			break;
	if (!fabric) {
		fabric = calloc(1, sizeof(*fabric));
		if (fabric)
			fabric->name = strdup(name);
		if (!fabric || !fabric->name) {
			free(fabric);
			pthread_mutex_unlock(&engine->lock);
			return NULL;
		}
		fabric->engine = engine;
		pthread_mutex_init(&fabric->lock, NULL);
		LIST_INSERT_HEAD(&engine->fabrics, fabric, link);
	}
	fabric->refs++;
	pthread_mutex_unlock(&engine->lock);
	return fabric;
}

void vrd_fabric_put(struct vrd_fabric *fabric)
{
	struct vrd_engine *engine = fabric->engine;
	bool last;

	pthread_mutex_lock(&engine->lock);
	last = !--fabric->refs;
	if (last)
		LIST_REMOVE(fabric, link);
	pthread_mutex_unlock(&engine->lock);
	if (!last)
		return;
	if (fabric->destroy)
		fabric->destroy(fabric);
	pthread_mutex_destroy(&fabric->lock);
	free(fabric->name);
	free(fabric);
}

/* ---- object shared by transports ---------------------------------------------------- */

void *vrd_engine_shared(struct vrd_engine *engine)
{
	void *shared;

	pthread_mutex_lock(&engine->lock);
	shared = engine->shared;
	pthread_mutex_unlock(&engine->lock);
	return shared;
}

void *vrd_engine_share(struct vrd_engine *engine, void *shared, void (*close)(void *shared))
{
	pthread_mutex_lock(&engine->lock);
	if (!engine->shared) {
		engine->shared = shared;
		engine->shared_close = close;
	}
	shared = engine->shared;
	pthread_mutex_unlock(&engine->lock);
	return shared;
}

/* ---- statistics ----------------------------------------------------------------------- */

void vrd_engine_stats(struct vrd_engine *engine,
		      void (*fn)(void *opaque, const char *name, uint64_t value), void *opaque)
{
	uint64_t busy = 0, idle = 0, sleeps = 0, preempted = 0;
	unsigned int devices;

	for (unsigned int i = 0; i < engine->num_pollers; i++) {
		struct vrd_poller *poller = &engine->pollers[i];

		busy += atomic_load_explicit(&poller->stat_busy, memory_order_relaxed);
		idle += atomic_load_explicit(&poller->stat_idle, memory_order_relaxed);
		sleeps += atomic_load_explicit(&poller->stat_sleeps, memory_order_relaxed);
		preempted += atomic_load_explicit(&poller->stat_preempted, memory_order_relaxed);
	}
	pthread_mutex_lock(&engine->lock);
	devices = engine->num_devices;
	pthread_mutex_unlock(&engine->lock);

	fn(opaque, "pollers", engine->num_pollers);
	fn(opaque, "devices", devices);
	fn(opaque, "poller_turns", busy + idle);
	fn(opaque, "poller_spins", idle);
	fn(opaque, "poller_sleeps", sleeps);
	fn(opaque, "poller_preempted", preempted);
}
