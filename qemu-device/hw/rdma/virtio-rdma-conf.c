/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-rdma: translates the options of -device virtio-rdma-pci into the
 * configuration of the core: the guest's Ethernet device that the port pairs
 * with, the addresses that the guest may use, and the host's RDMA device.
 * Called at realize.
 */

#include "qemu/osdep.h"
#include <arpa/inet.h>
#include "qapi/error.h"
#include "qemu/cutils.h"
#include "net/net.h"
#include "virtio-rdma.h"

/*
 * @id is that of a -netdev that a NIC uses, or of the NIC itself.  Returns the
 * MAC address of the NIC, or NULL with @errp set if there is no such NIC
 * (yet).
 */
static const MACAddr *virtio_rdma_find_mac(const char *id, Error **errp)
{
    ERRP_GUARD();
    NetClientState *ncs[MAX_QUEUE_NUM];
    int num, i;

    num = qemu_find_net_clients_except(id, ncs, NET_CLIENT_DRIVER__MAX,
                                       ARRAY_SIZE(ncs));
    for (i = 0; i < MIN(num, (int)ARRAY_SIZE(ncs)); i++) {
        NetClientState *nc = ncs[i];

        if (nc->info->type != NET_CLIENT_DRIVER_NIC) {
            nc = nc->peer;
        }
        if (nc && nc->info->type == NET_CLIENT_DRIVER_NIC) {
            return &qemu_get_nic(nc)->conf->macaddr;
        }
    }
    if (num) {
        error_setg(errp, "netdev=%s: no network device of the guest uses it",
                   id);
        error_append_hint(errp, "Put -device virtio-net-pci,netdev=%s before "
                          "the virtio-rdma device.\n", id);
    } else {
        error_setg(errp, "netdev=%s: there is no -netdev and no network device "
                   "with this id", id);
        error_append_hint(errp, "Add -netdev ...,id=%s and -device "
                          "virtio-net-pci,netdev=%s before the virtio-rdma "
                          "device.\n", id, id);
    }
    return NULL;
}

static bool virtio_rdma_conf_mac(VirtIORDMAConf *conf, Error **errp)
{
    ERRP_GUARD();
    static const MACAddr zero;
    bool has_mac = memcmp(&conf->mac, &zero, sizeof(zero));
    const MACAddr *mac;

    if (has_mac && conf->netdev) {
        error_setg(errp, "mac= and netdev= exclude each other");
        error_append_hint(errp, "netdev=%s alone takes the address of the "
                          "network device that uses it.\n", conf->netdev);
        return false;
    }
    if (conf->netdev) {
        mac = virtio_rdma_find_mac(conf->netdev, errp);
        if (!mac) {
            return false;
        }
        conf->mac = *mac;
    } else if (!has_mac) {
        error_setg(errp, "a virtio-rdma device needs the address of the "
                   "guest's Ethernet device that it pairs with");
        error_append_hint(errp, "Give netdev=ID, the -netdev of a -device "
                          "virtio-net-pci that stands before it, or mac=.\n");
        return false;
    }
    if (conf->mac.a[0] & 1) {
        error_setg(errp, "mac=%02x:%02x:%02x:%02x:%02x:%02x is a multicast "
                   "address", conf->mac.a[0], conf->mac.a[1], conf->mac.a[2],
                   conf->mac.a[3], conf->mac.a[4], conf->mac.a[5]);
        error_append_hint(errp, "Give the address of the guest's Ethernet "
                          "device, for example 52:54:00:12:34:56.\n");
        return false;
    }
    return true;
}

/* Converts an IPv4 or IPv6 address to a GID. */
static bool virtio_rdma_parse_gid(const char *str, uint8_t gid[16])
{
    struct in_addr in;

    if (inet_pton(AF_INET6, str, gid) == 1) {
        return true;
    }
    if (inet_pton(AF_INET, str, &in) == 1) {
        memset(gid, 0, 10);
        memset(gid + 10, 0xff, 2);
        memcpy(gid + 12, &in, 4);
        return true;
    }
    return false;
}

static bool virtio_rdma_conf_gids(const VirtIORDMAConf *conf,
                                  struct vrd_device_config *cfg, Error **errp)
{
    ERRP_GUARD();
    g_auto(GStrv) list = NULL;
    unsigned int i;

    if (!conf->gids) {
        return true;
    }
    if (!strcmp(conf->gids, "none")) {
        cfg->own_gids_only = true;
        return true;
    }
    list = g_strsplit(conf->gids, "+", -1);
    for (i = 0; list[i]; i++) {
        if (i == VRD_MAX_ALLOWED_GIDS) {
            error_setg(errp, "allow-gids= has more than %d addresses",
                       VRD_MAX_ALLOWED_GIDS);
            return false;
        }
        if (!virtio_rdma_parse_gid(list[i], cfg->allowed_gids[i])) {
            error_setg(errp, "allow-gids=: '%s' is no IP address", list[i]);
            error_append_hint(errp, "Give the guest's IP addresses with + "
                              "between them: allow-gids=10.0.0.2+fd00::2\n");
            return false;
        }
    }
    cfg->num_allowed_gids = i;
    return true;
}

/* Parses numbers separated by +.  Returns how many there are, or -1. */
static int virtio_rdma_conf_numbers(const char *name, const char *text,
                                    uint16_t *to, unsigned int max,
                                    const char *hint, Error **errp)
{
    ERRP_GUARD();
    g_auto(GStrv) list = g_strsplit(text, "+", -1);
    unsigned int i, value;

    for (i = 0; list[i]; i++) {
        if (i == max) {
            error_setg(errp, "%s= has more than %u entries", name, max);
            return -1;
        }
        if (qemu_strtoui(list[i], NULL, 10, &value) < 0 ||
            value > UINT16_MAX) {
            error_setg(errp, "%s=: '%s' is not right", name, list[i]);
            error_append_hint(errp, "%s\n", hint);
            return -1;
        }
        to[i] = value;
    }
    return i;
}

/* Name of an option that was given and needs ibdev=, or NULL. */
static const char *virtio_rdma_conf_needs_ibdev(const VirtIORDMAConf *conf)
{
    return conf->port ? "port" :
           conf->gid_index ? "gid-index" :
           conf->cm_ports ? "cm-ports" :
           conf->local ? "local" :
           conf->mad_key ? "mad-key" : NULL;
}

/* Options of the host's RDMA device, if one is used. */
static bool virtio_rdma_conf_ibdev(const VirtIORDMAConf *conf,
                                   struct vrd_device_config *cfg, Error **errp)
{
    ERRP_GUARD();
    const char *needs = virtio_rdma_conf_needs_ibdev(conf);
    int num;

    if (!conf->mad_key && (conf->mad_port || conf->mad_listen)) {
        error_setg(errp, "%s= needs mad-key=",
                   conf->mad_port ? "mad-port" : "mad-listen");
        error_append_hint(errp, "Name the file with the key that all daemons "
                          "share: mad-key=/etc/vrdmad.key\n");
        return false;
    }
    if (!conf->ibdev) {
        if (needs) {
            error_setg(errp, "%s= needs ibdev=", needs);
            error_append_hint(errp, "Name the host's RDMA device, as "
                              "ibv_devices prints it: ibdev=rxe0\n");
            return false;
        }
        return true;
    }
    cfg->ibdev = conf->ibdev;
    if (conf->local) {
        cfg->transports = "memory,ibverbs";
    }
    cfg->ibdev_port = conf->port;
    if (conf->gid_index) {
        num = virtio_rdma_conf_numbers("gid-index", conf->gid_index,
                                       cfg->gid_indexes, VRD_MAX_ALLOWED_GIDS,
                                       "Give indexes into the GID table of the "
                                       "host's port, with + between them: "
                                       "gid-index=1+3", errp);
        if (num < 0) {
            return false;
        }
        cfg->num_gid_indexes = num;
    }
    if (conf->cm_ports) {
        num = virtio_rdma_conf_numbers("cm-ports", conf->cm_ports,
                                       cfg->cm_ports, VRD_MAX_CM_PORTS,
                                       "Give ports of rdma_cm, with + between "
                                       "them: cm-ports=7471+7174", errp);
        if (num < 0) {
            return false;
        }
        cfg->num_cm_ports = num;
    }
    return true;
}

bool virtio_rdma_conf_to_core(VirtIORDMAConf *conf, const char *name,
                              struct vrd_device_config *cfg, Error **errp)
{
    if (!virtio_rdma_conf_mac(conf, errp) ||
        !virtio_rdma_conf_gids(conf, cfg, errp) ||
        !virtio_rdma_conf_ibdev(conf, cfg, errp)) {
        return false;
    }
    cfg->name = name;
    cfg->fabric = conf->fabric;
    cfg->limits = conf->limits;
    memcpy(cfg->mac, conf->mac.a, sizeof(cfg->mac));
    return true;
}
