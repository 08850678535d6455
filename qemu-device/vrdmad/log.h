/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The daemon's log: lines on standard error, for a terminal or for journald.
 *
 * Called from any thread.  Each line is one write(), so that lines of different threads do
 * not mix.
 */
#ifndef VRDMAD_LOG_H
#define VRDMAD_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "vrd.h"

struct vrdmad_log {
	enum vrd_log_level level;	/* less important lines are dropped */
	bool prefix;			/* sd-daemon(3) "<N>" in front of each line */
};

void vrdmad_log_init(struct vrdmad_log *log, enum vrd_log_level level);

__attribute__((format(printf, 3, 4)))
void vrdmad_log(const struct vrdmad_log *log, enum vrd_log_level level, const char *fmt, ...);

/* The core's log function; @opaque is the struct vrdmad_log. */
void vrdmad_log_core(void *opaque, enum vrd_log_level level, const char *msg);

/*
 * Allows VRDMAD_RATELIMIT_BURST lines in each period.  Messages that a client can provoke
 * are logged through a rate limit, so that they cannot fill the disk.  One thread only.
 */
struct vrdmad_ratelimit {
	uint64_t period_start_ms;
	unsigned int used;
	unsigned int suppressed;	/* in the current period */
};

#define VRDMAD_RATELIMIT_BURST		20
#define VRDMAD_RATELIMIT_PERIOD_MS	10000

/*
 * True if a line may be logged.  When a new period begins, *@suppressed is the number of
 * lines that were suppressed in the period before; otherwise it is 0.
 */
bool vrdmad_ratelimit_ok(struct vrdmad_ratelimit *rl, unsigned int *suppressed);

/* Milliseconds of the monotonic clock. */
uint64_t vrdmad_now_ms(void);

#endif /* VRDMAD_LOG_H */
