/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-rdma devices: an RDMA port for the guest
 *
 * TYPE_VIRTIO_RDMA_BASE      queues, configuration space, NEEDS_RESET, checks
 *   TYPE_VIRTIO_RDMA         the device core in this process (virtio-rdma.c)
 *   TYPE_VHOST_USER_RDMA     the device core in a vhost-user daemon, vrdmad
 *                            (vhost-user-rdma.c)
 *
 * All functions run in the main loop or a vCPU thread, with the BQL held.
 */

#ifndef HW_RDMA_VIRTIO_RDMA_H
#define HW_RDMA_VIRTIO_RDMA_H

#include "chardev/char-fe.h"
#include "exec/memory.h"
#include "hw/virtio/vhost.h"
#include "hw/virtio/vhost-user.h"
#include "hw/virtio/virtio.h"
#include "net/net.h"
#include "qom/object.h"

#include "core/vrd.h"
#include "uapi/linux/virtio_rdma.h"

/* Minimum size of each virtqueue; some QEMU releases offer the maximum. */
#define VIRTIO_RDMA_QUEUE_SIZE 256

/* num-comp-vectors was not given. */
#define VIRTIO_RDMA_AUTO_COMP_VECTORS 0

#define TYPE_VIRTIO_RDMA_BASE "virtio-rdma-base"
OBJECT_DECLARE_TYPE(VirtIORDMABase, VirtIORDMABaseClass, VIRTIO_RDMA_BASE)

struct VirtIORDMABase {
    VirtIODevice parent_obj;

    uint16_t num_comp_vectors;
    /* Mask of the VIRTIO_RDMA_F_* that the user allows. */
    uint64_t features;
    VirtQueue **vqs;
    unsigned int num_vqs;

    /*
     * The device lost its state, and the driver was notified or soon will be.
     * Cleared by a reset; until then, the device does not start.
     */
    bool needs_reset;
    QEMUBH *needs_reset_bh;

    Error *migration_blocker;
};

struct VirtIORDMABaseClass {
    VirtioDeviceClass parent_class;
};

bool virtio_rdma_base_realize(VirtIORDMABase *base, Error **errp);
void virtio_rdma_base_unrealize(VirtIORDMABase *base);
void virtio_rdma_base_set_num_vqs(VirtIORDMABase *base,
                                  unsigned int num_comp_vectors);
void virtio_rdma_base_reset(VirtIORDMABase *base);
void virtio_rdma_base_set_needs_reset(VirtIORDMABase *base);
void virtio_rdma_base_check_tcg(void);
unsigned int virtio_rdma_default_comp_vectors(void);
uint64_t virtio_rdma_base_features(const VirtIORDMABase *base);

/* -------------------------------------------------------------------- */

#define TYPE_VIRTIO_RDMA "virtio-rdma-device"
OBJECT_DECLARE_SIMPLE_TYPE(VirtIORDMA, VIRTIO_RDMA)

/* Options of the user; see qemu-options.rst. */
typedef struct VirtIORDMAConf {
    MACAddr mac;
    char *netdev;
    char *fabric;
    char *gids;
    char *ibdev;
    uint8_t port;
    char *gid_index;
    char *cm_ports;
    bool local;
    char *mad_key;
    uint16_t mad_port;
    char *mad_listen;
    uint32_t pollers;
    uint32_t poll_us;
    struct vrd_limits limits;
} VirtIORDMAConf;

/* The guest's RAM as the core sees it (virtio-rdma-mem.c). */
typedef struct VirtIORDMAMem {
    MemoryListener listener;
    GArray *sections;           /* of MemoryRegionSection: the current table */
    GArray *new_sections;       /* being collected between begin and commit */
    bool failed;                /* the core refused the table and has an
				 * empty one */
    bool discard_disabled;
} VirtIORDMAMem;

struct VirtIORDMA {
    VirtIORDMABase parent_obj;

    VirtIORDMAConf conf;
    struct vrd_engine *engine;  /* shared, see virtio-rdma-engine.c */
    struct vrd_device *dev;
    bool started;

    VirtIORDMAMem mem;

    /* One per virtqueue: receives calls while the vector is masked. */
    EventNotifier *masked;
};

/* virtio-rdma-engine.c */
struct vrd_engine *virtio_rdma_engine_get(const VirtIORDMAConf *conf,
                                          Error **errp);
void virtio_rdma_engine_put(void);
void virtio_rdma_error_set(Error **errp, const struct vrd_error *err);
void virtio_rdma_block_signals(sigset_t *old);
void virtio_rdma_restore_signals(const sigset_t *old);

/* virtio-rdma-conf.c */
bool virtio_rdma_conf_to_core(VirtIORDMAConf *conf, const char *name,
                              struct vrd_device_config *cfg, Error **errp);

/* virtio-rdma-mem.c */
bool virtio_rdma_mem_check_shared(Error **errp);
void virtio_rdma_mem_init(VirtIORDMA *s);
void virtio_rdma_mem_cleanup(VirtIORDMA *s);
void virtio_rdma_mem_reset(VirtIORDMA *s);
bool virtio_rdma_mem_disable_discard(VirtIORDMA *s, Error **errp);
void virtio_rdma_mem_enable_discard(VirtIORDMA *s);

/* virtio-rdma-notify.c */
bool virtio_rdma_notify_init(VirtIORDMA *s, Error **errp);
void virtio_rdma_notify_cleanup(VirtIORDMA *s);
int virtio_rdma_notify_start(VirtIORDMA *s);
void virtio_rdma_notify_stop(VirtIORDMA *s);
void virtio_rdma_notify_reset(VirtIORDMA *s);
void virtio_rdma_notify_mask(VirtIODevice *vdev, int idx, bool mask);
bool virtio_rdma_notify_pending(VirtIODevice *vdev, int idx);

/* -------------------------------------------------------------------- */

#define TYPE_VHOST_USER_RDMA "vhost-user-rdma"
OBJECT_DECLARE_SIMPLE_TYPE(VHostUserRDMA, VHOST_USER_RDMA)

struct VHostUserRDMA {
    VirtIORDMABase parent_obj;

    CharBackend chardev;
    VhostUserState vhost_user;
    struct vhost_dev dev;
    struct vhost_virtqueue *vhost_vqs;
    struct virtio_rdma_config config;

    bool connected;             /* dev is initialised */
    bool started;               /* dev processes the virtqueues */
    /*
     * The device was started since the last reset, so the guest's driver may
     * have objects in the daemon.
     */
    bool used;
};

#endif /* HW_RDMA_VIRTIO_RDMA_H */
