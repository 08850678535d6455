// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Log messages and error texts.  Any thread.
 */
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "transport.h"
#include "log.h"

static void vlog(struct vrd_engine *engine, enum vrd_log_level level, const char *prefix,
		 const char *fmt, va_list ap)
{
	const struct vrd_log_target *target = vrd_engine_log_target(engine);
	char msg[400];
	int n = 0;

	if (!target->fn || level > target->level)
		return;
	if (prefix)
		n = snprintf(msg, sizeof(msg), "%.64s: ", prefix);
	vsnprintf(msg + n, sizeof(msg) - n, fmt, ap);
	target->fn(target->opaque, level, msg);
}

void vrd_log(struct vrd_engine *engine, enum vrd_log_level level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vlog(engine, level, NULL, fmt, ap);
	va_end(ap);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
}

/*
 * True if another message may be logged; races only make the limit inexact.  *@missed is set
 * to the number of messages that were suppressed in the window that has just ended.
 */
static bool ratelimit_ok(struct vrd_ratelimit *rl, uint32_t *missed)
{
	uint64_t now = now_ns();
	uint64_t start = __atomic_load_n(&rl->start, __ATOMIC_RELAXED);

	*missed = 0;
	if (!start || now - start > VRD_LOG_WINDOW_NS) {
		__atomic_store_n(&rl->start, now, __ATOMIC_RELAXED);
		__atomic_store_n(&rl->count, 1, __ATOMIC_RELAXED);
		*missed = __atomic_exchange_n(&rl->missed, 0, __ATOMIC_RELAXED);
		return true;
	}
	if (__atomic_fetch_add(&rl->count, 1, __ATOMIC_RELAXED) < VRD_LOG_BURST)
		return true;
	__atomic_fetch_add(&rl->missed, 1, __ATOMIC_RELAXED);
	return false;
}

void vrd_dev_log(struct vrd_device *dev, enum vrd_log_level level, const char *fmt, ...)
{
	const struct vrd_log_target *target = vrd_engine_log_target(dev->engine);
	uint32_t missed;
	va_list ap;

	if (!target->fn || level > target->level)
		return;
	/* debug messages are not limited */
	if (level < VRD_LOG_DEBUG) {
		if (!ratelimit_ok(&dev->log_limit, &missed))
			return;
		if (missed)
			vrd_log(dev->engine, level, "%.64s: %u messages were left out", dev->name,
				missed);
	}
	va_start(ap, fmt);
	vlog(dev->engine, level, dev->name, fmt, ap);
	va_end(ap);
}

int vrd_fail(struct vrd_error *err, int ret, const char *hint, const char *fmt, ...)
{
	va_list ap;

	if (err) {
		va_start(ap, fmt);
		vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
		va_end(ap);
		snprintf(err->hint, sizeof(err->hint), "%s", hint ? hint : "");
	}
	return ret;
}
