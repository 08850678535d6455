/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Trace points.  If <sys/sdt.h> exists, they are probes of the provider "vrd", which perf,
 * bpftrace and SystemTap find.  A probe that is not in use is one nop.  Without <sys/sdt.h>
 * they do nothing.
 *
 *   perf probe -x vrdmad sdt_vrd:command
 *   bpftrace -e 'usdt:/path/vrdmad:vrd:qp_state { printf("%d %d\n", arg1, arg3); }'
 */
#ifndef VRD_TRACE_H
#define VRD_TRACE_H

#include <stdint.h>

#if !defined(VRD_NO_SDT) && defined(__has_include)
#if __has_include(<sys/sdt.h>)
#include <sys/sdt.h>
#define VRD_HAVE_SDT 1
#endif
#endif

/* A command was executed: opcode, status, length of the request in bytes. */
static inline void vrd_trace_command(const char *device, uint32_t opcode, uint32_t status,
				     uint32_t len)
{
#ifdef VRD_HAVE_SDT
	DTRACE_PROBE4(vrd, command, device, opcode, status, len);
#else
	(void)device;
	(void)opcode;
	(void)status;
	(void)len;
#endif
}

/* A CQE was written. */
static inline void vrd_trace_completion(uint32_t cqn, uint32_t qpn, uint32_t index, uint8_t status)
{
#ifdef VRD_HAVE_SDT
	DTRACE_PROBE4(vrd, completion, cqn, qpn, index, status);
#else
	(void)cqn;
	(void)qpn;
	(void)index;
	(void)status;
#endif
}

/* A QP changed its state. */
static inline void vrd_trace_qp_state(const char *device, uint32_t qpn, uint8_t from, uint8_t to)
{
#ifdef VRD_HAVE_SDT
	DTRACE_PROBE4(vrd, qp_state, device, qpn, from, to);
#else
	(void)device;
	(void)qpn;
	(void)from;
	(void)to;
#endif
}

/* The transport that carries a connection was chosen. */
static inline void vrd_trace_qp_path(const char *device, uint32_t qpn, const char *path)
{
#ifdef VRD_HAVE_SDT
	DTRACE_PROBE3(vrd, qp_path, device, qpn, path);
#else
	(void)device;
	(void)qpn;
	(void)path;
#endif
}

#endif /* VRD_TRACE_H */
