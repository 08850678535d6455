/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-rdma: the engine of the device core, one per QEMU process
 *
 * All in-process devices share its pollers and reach each other through its
 * fabrics.  The first device creates the engine, the last one destroys it.
 * Called with the BQL held.  The log function may be called by any thread of
 * the core.
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "virtio-rdma.h"
#include "core/vrd_mad.h"
#include "trace.h"

static struct {
    struct vrd_engine *engine;
    unsigned int refs;
    uint32_t pollers;
    uint32_t poll_us;
    bool mads;                  /* MADs of devices with ibdev= are carried */
    char *mad_key;              /* NULL: no channel to other hosts */
} shared;

void virtio_rdma_error_set(Error **errp, const struct vrd_error *err)
{
    ERRP_GUARD();

    error_setg(errp, "%s", err->msg);
    if (err->hint[0]) {
        error_append_hint(errp, "%s\n", err->hint);
    }
}

/*
 * Signals must be delivered to the threads of QEMU that expect them.  Threads
 * that the core creates inherit this mask, which leaves only the signals of
 * their own faults.
 */
void virtio_rdma_block_signals(sigset_t *old)
{
    sigset_t set;

    sigfillset(&set);
    sigdelset(&set, SIGSEGV);
    sigdelset(&set, SIGFPE);
    sigdelset(&set, SIGILL);
    sigdelset(&set, SIGBUS);
    pthread_sigmask(SIG_SETMASK, &set, old);
}

void virtio_rdma_restore_signals(const sigset_t *old)
{
    pthread_sigmask(SIG_SETMASK, old, NULL);
}

static void virtio_rdma_log(void *opaque, enum vrd_log_level level,
                            const char *msg)
{
    switch (level) {
    case VRD_LOG_ERROR:
        error_report("virtio-rdma: %s", msg);
        break;
    case VRD_LOG_WARN:
        warn_report("virtio-rdma: %s", msg);
        break;
    default:
        trace_virtio_rdma_core_log(msg);
        break;
    }
}

/*
 * The first device with ibdev= determines how MADs leave the process; see
 * rdma-cm.rst.  If the host's rdma_cm is missing, only peers outside guests
 * cannot be reached, so this is an error only if cm-ports= was given.
 */
static bool virtio_rdma_engine_mads(const VirtIORDMAConf *conf, Error **errp)
{
    ERRP_GUARD();
    struct vrd_mad_options opts = {
        .key_file = conf->mad_key,
        .port = conf->mad_port,
        .listen = conf->mad_listen,
    };
    struct vrd_mad_setup *setup;
    struct vrd_error err = {};
    sigset_t old;
    int ret;

    if (!conf->ibdev) {
        return true;
    }
    if (shared.mads) {
        if (conf->mad_key && g_strcmp0(conf->mad_key, shared.mad_key)) {
            error_setg(errp, "mad-key=%s: an earlier virtio-rdma device has %s",
                       conf->mad_key, shared.mad_key ?: "none");
            error_append_hint(errp, "All of them share one channel: give "
                              "mad-key= to the first one with ibdev=.\n");
            return false;
        }
        return true;
    }
    ret = vrd_mad_setup(&opts, &setup, &err);
    if (ret < 0) {
        virtio_rdma_error_set(errp, &err);
        return false;
    }
    ret = vrd_mad_setup_cm(setup, &err);
    if (ret < 0 && conf->cm_ports) {
        vrd_mad_setup_free(setup);
        virtio_rdma_error_set(errp, &err);
        error_prepend(errp, "cm-ports=: ");
        return false;
    }
    if (ret < 0) {
        warn_report("virtio-rdma: %s: rdma_cm in the guest reaches only guests "
                    "of this host and those of daemons", err.msg);
    }
    virtio_rdma_block_signals(&old);
    ret = vrd_mads_start(shared.engine, setup, &err);
    virtio_rdma_restore_signals(&old);
    if (ret < 0) {
        virtio_rdma_error_set(errp, &err);
        return false;
    }
    shared.mads = true;
    shared.mad_key = g_strdup(conf->mad_key);
    return true;
}

struct vrd_engine *virtio_rdma_engine_get(const VirtIORDMAConf *conf,
                                          Error **errp)
{
    ERRP_GUARD();
    uint32_t pollers = conf->pollers ? conf->pollers : 1;
    uint32_t poll_us = conf->poll_us == UINT32_MAX ? VRD_POLL_US_DEFAULT :
                                                     conf->poll_us;
    struct vrd_engine_config cfg = {
        .pollers = pollers,
        .poll_us = poll_us,
        /* Event notifiers belong to QEMU and are always non-blocking. */
        .private_fds = true,
        .log = virtio_rdma_log,
        .log_level = VRD_LOG_INFO,
    };
    struct vrd_error err = {};
    sigset_t old;
    int ret;

    if (shared.refs) {
        if (conf->pollers && conf->pollers != shared.pollers) {
            error_setg(errp, "pollers=%u differs from pollers=%u of an earlier "
                       "virtio-rdma device", conf->pollers, shared.pollers);
            error_append_hint(errp, "All of them share one set of pollers: "
                              "give pollers= to the first one only.\n");
            return NULL;
        }
        if (conf->poll_us != UINT32_MAX && conf->poll_us != shared.poll_us) {
            error_setg(errp, "poll-us=%u differs from poll-us=%u of an earlier "
                       "virtio-rdma device", conf->poll_us, shared.poll_us);
            error_append_hint(errp, "All of them share one set of pollers: "
                              "give poll-us= to the first one only.\n");
            return NULL;
        }
        if (!virtio_rdma_engine_mads(conf, errp)) {
            return NULL;
        }
        shared.refs++;
        return shared.engine;
    }

    if (trace_event_get_state(TRACE_VIRTIO_RDMA_CORE_LOG)) {
        cfg.log_level = VRD_LOG_DEBUG;
    }
    virtio_rdma_block_signals(&old);
    ret = vrd_engine_create(&cfg, &shared.engine, &err);
    virtio_rdma_restore_signals(&old);
    if (ret < 0) {
        virtio_rdma_error_set(errp, &err);
        return NULL;
    }
    shared.refs = 1;
    shared.pollers = pollers;
    shared.poll_us = poll_us;
    trace_virtio_rdma_engine_create(pollers, poll_us);
    if (!virtio_rdma_engine_mads(conf, errp)) {
        virtio_rdma_engine_put();
        return NULL;
    }
    return shared.engine;
}

void virtio_rdma_engine_put(void)
{
    assert(shared.refs);
    if (--shared.refs == 0) {
        trace_virtio_rdma_engine_destroy();
        vrd_engine_destroy(shared.engine);
        shared.engine = NULL;
        shared.mads = false;
        g_clear_pointer(&shared.mad_key, g_free);
    }
}
