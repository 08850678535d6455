/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Log messages of the core, which are passed to the front end's function
 * (vrd_engine_create()).  vrd_log() is declared in transport.h.
 */
#ifndef VRD_LOG_H
#define VRD_LOG_H

#include <stdint.h>

#include "vrd.h"

struct vrd_log_target {
	vrd_log_fn *fn;			/* or NULL: silent */
	void *opaque;
	enum vrd_log_level level;	/* less important messages are suppressed */
};

/* engine.c */
const struct vrd_log_target *vrd_engine_log_target(const struct vrd_engine *engine);

/* At most VRD_LOG_BURST messages in VRD_LOG_WINDOW_NS; any thread. */
#define VRD_LOG_BURST		10
#define VRD_LOG_WINDOW_NS	5000000000ULL

struct vrd_ratelimit {
	uint64_t start;			/* of the window; relaxed atomics, all three */
	uint32_t count;
	uint32_t missed;
};

/* For messages that a guest can cause: prefixed with the device's name, and rate-limited. */
void vrd_dev_log(struct vrd_device *dev, enum vrd_log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Fills @err (may be NULL); returns @ret, for "return vrd_fail(...)". */
int vrd_fail(struct vrd_error *err, int ret, const char *hint, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#endif /* VRD_LOG_H */
