// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The daemon's log: see log.h.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "log.h"

void vrdmad_log_init(struct vrdmad_log *log, enum vrd_log_level level)
{
	log->level = level;
	/*
	 * systemd sets JOURNAL_STREAM for a process whose output journald reads.  Priority
	 * prefixes are only useful there.
	 */
	log->prefix = getenv("JOURNAL_STREAM") && !isatty(STDERR_FILENO);
}

/* Priorities of syslog(3), indexed by enum vrd_log_level. */
static const char level_digit[] = { '3', '4', '6', '7' };
static const char *const level_name[] = { "error: ", "warning: ", "", "debug: " };

static void log_write(const struct vrdmad_log *log, enum vrd_log_level level, const char *msg)
{
	char line[1200];
	size_t len;
	ssize_t put;
	int n;

	if (level > log->level || level > VRD_LOG_DEBUG)
		return;
	if (log->prefix)
		n = snprintf(line, sizeof(line) - 1, "<%c>vrdmad: %s%s", level_digit[level],
			     level_name[level], msg);
	else
		n = snprintf(line, sizeof(line) - 1, "vrdmad: %s%s", level_name[level], msg);
	if (n < 0)
		return;
	len = (size_t)n < sizeof(line) - 1 ? (size_t)n : sizeof(line) - 2;
	/* Text from a client or an option must not forge lines or control a terminal. */
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	line[len++] = '\n';
	do {
		put = write(STDERR_FILENO, line, len);
	} while (put < 0 && errno == EINTR);
}

void vrdmad_log(const struct vrdmad_log *log, enum vrd_log_level level, const char *fmt, ...)
{
	char msg[1024];
	va_list ap;

	if (level > log->level)
		return;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	log_write(log, level, msg);
}

void vrdmad_log_core(void *opaque, enum vrd_log_level level, const char *msg)
{
	log_write(opaque, level, msg);
}

uint64_t vrdmad_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

bool vrdmad_ratelimit_ok(struct vrdmad_ratelimit *rl, unsigned int *suppressed)
{
	uint64_t now = vrdmad_now_ms();

	*suppressed = 0;
	if (now - rl->period_start_ms >= VRDMAD_RATELIMIT_PERIOD_MS) {
		*suppressed = rl->suppressed;
		rl->period_start_ms = now;
		rl->used = 0;
		rl->suppressed = 0;
	}
	if (rl->used >= VRDMAD_RATELIMIT_BURST) {
		rl->suppressed++;
		return false;
	}
	rl->used++;
	return true;
}
