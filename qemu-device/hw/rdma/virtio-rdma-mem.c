/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-rdma: the guest's RAM, for the device core in this process
 *
 * A memory listener keeps the table of RAM sections and passes the whole table
 * to the core.  It takes a reference to a section's MemoryRegion before the
 * core uses the section, and drops it after the core has removed the section,
 * so that no poller accesses memory that QEMU has unmapped.  The table has
 * only RAM: no ROM, no device memory, and no memory whose changes QEMU has to
 * track (frame buffers).
 *
 * Runs with the BQL held.  vrd_device_set_mem_table() waits until the pollers
 * have left the old table.  Pollers never wait for the BQL.
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/int128.h"
#include "qapi/error.h"
#include "exec/address-spaces.h"
#include "exec/memory.h"
#include "exec/ramblock.h"
#include "hw/boards.h"
#include "virtio-rdma.h"
#include "trace.h"

static bool virtio_rdma_mem_wanted(MemoryRegionSection *section)
{
    MemoryRegion *mr = section->mr;
    uint8_t handled = (1 << DIRTY_MEMORY_MIGRATION) | (1 << DIRTY_MEMORY_CODE);

    return memory_region_is_ram(mr) && !memory_region_is_rom(mr) &&
           !memory_region_is_ram_device(mr) &&
           !(memory_region_get_dirty_log_mask(mr) & ~handled);
}

static void virtio_rdma_mem_begin(MemoryListener *listener)
{
    VirtIORDMAMem *mem = container_of(listener, VirtIORDMAMem, listener);

    mem->new_sections = g_array_new(false, false, sizeof(MemoryRegionSection));
}

static void virtio_rdma_mem_add(MemoryListener *listener,
                                MemoryRegionSection *section)
{
    VirtIORDMAMem *mem = container_of(listener, VirtIORDMAMem, listener);
    MemoryRegionSection *last;
    uint64_t size;

    if (!virtio_rdma_mem_wanted(section)) {
        return;
    }
    /* Sections arrive in the order of their addresses. */
    if (mem->new_sections->len) {
        last = &g_array_index(mem->new_sections, MemoryRegionSection,
                              mem->new_sections->len - 1);
        size = int128_get64(last->size);
        if (last->mr == section->mr && last->readonly == section->readonly &&
            last->offset_within_address_space + size ==
            section->offset_within_address_space &&
            last->offset_within_region + size ==
            section->offset_within_region) {
            last->size = int128_add(last->size, section->size);
            return;
        }
    }
    memory_region_ref(section->mr);
    g_array_append_val(mem->new_sections, *section);
}

static void virtio_rdma_mem_put_sections(GArray *sections)
{
    unsigned int i;

    for (i = 0; i < sections->len; i++) {
        memory_region_unref(g_array_index(sections, MemoryRegionSection,
                                          i).mr);
    }
    g_array_unref(sections);
}

/*
 * Does not use MemoryRegionSection_eq(), which compares the flat view too: a
 * new flat view is created at each change, also of regions that are not RAM.
 */
static bool virtio_rdma_mem_same(GArray *a, GArray *b)
{
    unsigned int i;

    if (a->len != b->len) {
        return false;
    }
    for (i = 0; i < a->len; i++) {
        MemoryRegionSection *x = &g_array_index(a, MemoryRegionSection, i);
        MemoryRegionSection *y = &g_array_index(b, MemoryRegionSection, i);

        if (x->mr != y->mr || x->readonly != y->readonly ||
            x->offset_within_region != y->offset_within_region ||
            x->offset_within_address_space != y->offset_within_address_space ||
            !int128_eq(x->size, y->size)) {
            return false;
        }
    }
    return true;
}

/* File descriptor of shared RAM, from which it can be mapped again; or -1. */
static int virtio_rdma_mem_fd(MemoryRegion *mr)
{
    return qemu_ram_is_shared(mr->ram_block) ? memory_region_get_fd(mr) : -1;
}

/*
 * A host's RDMA device needs a second mapping of guest memory.  Check this at
 * start, so that it is not the guest's first registration that fails.
 */
bool virtio_rdma_mem_check_shared(Error **errp)
{
    ERRP_GUARD();
    MemoryRegion *ram = current_machine->ram;

    /* Memory backends of NUMA nodes are checked when they are used. */
    if (!ram || !memory_region_is_ram(ram) || !ram->ram_block ||
        virtio_rdma_mem_fd(ram) >= 0) {
        return true;
    }
    error_setg(errp, "ibdev= needs guest memory that is shared and has a file "
               "descriptor");
    error_append_hint(errp, "Add -object memory-backend-memfd,id=mem,size=...,"
                      "share=on -machine memory-backend=mem\n");
    return false;
}

/* The whole pages of a section; false if there are none. */
static bool virtio_rdma_mem_region(const MemoryRegionSection *section,
                                   struct vrd_mem_region *region)
{
    uint64_t start = section->offset_within_address_space;
    uint64_t end = start + int128_get64(section->size);
    uint64_t first = ROUND_UP(start, VIRTIO_RDMA_PAGE_SIZE);
    uint64_t last = QEMU_ALIGN_DOWN(end, VIRTIO_RDMA_PAGE_SIZE);
    uint64_t offset;

    if (last <= first) {
        return false;
    }
    offset = section->offset_within_region + (first - start);
    *region = (struct vrd_mem_region) {
        .addr = first,
        .size = last - first,
        .host = memory_region_get_ram_ptr(section->mr) + offset,
        .fd = virtio_rdma_mem_fd(section->mr),
        .fd_offset = section->mr->ram_block->fd_offset + offset,
        .readonly = section->readonly,
    };
    return true;
}

/*
 * Passes mem->sections to the core.  If this fails, the core still has the old
 * table, whose memory may be unmapped now.  So the core gets an empty table,
 * and the sections are passed again at the next commit or reset.
 */
static bool virtio_rdma_mem_install(VirtIORDMA *s)
{
    VirtIORDMAMem *mem = &s->mem;
    g_autofree struct vrd_mem_region *regions = NULL;
    struct vrd_error err = {};
    unsigned int i, num = 0;
    int ret;

    regions = g_new(struct vrd_mem_region, mem->sections->len);
    for (i = 0; i < mem->sections->len; i++) {
        if (virtio_rdma_mem_region(&g_array_index(mem->sections,
                                                  MemoryRegionSection, i),
                                   &regions[num])) {
            trace_virtio_rdma_mem_region(s, regions[num].addr,
                                         regions[num].size, regions[num].host);
            num++;
        }
    }

    ret = vrd_device_set_mem_table(s->dev, regions, num, &err);
    vrd_device_settle(s->dev, VRD_SETTLE_MS);
    trace_virtio_rdma_mem_commit(s, num, ret);
    mem->failed = ret < 0;
    if (!mem->failed) {
        return true;
    }
    error_report("virtio-rdma: %s", err.msg);
    if (err.hint[0]) {
        error_printf("%s\n", err.hint);
    }
    if (vrd_device_set_mem_table(s->dev, NULL, 0, &err) < 0) {
        /*
         * This fails only if memory is exhausted, which QEMU treats as fatal
         * everywhere.
         */
        error_report("virtio-rdma: cannot forget the guest's memory: %s",
                     err.msg);
        abort();
    }
    return false;
}

static void virtio_rdma_mem_commit(MemoryListener *listener)
{
    VirtIORDMAMem *mem = container_of(listener, VirtIORDMAMem, listener);
    VirtIORDMA *s = container_of(mem, VirtIORDMA, mem);
    GArray *old = mem->sections;

    if (!mem->failed && virtio_rdma_mem_same(old, mem->new_sections)) {
        virtio_rdma_mem_put_sections(g_steal_pointer(&mem->new_sections));
        return;
    }
    mem->sections = g_steal_pointer(&mem->new_sections);
    if (!virtio_rdma_mem_install(s)) {
        virtio_rdma_base_set_needs_reset(VIRTIO_RDMA_BASE(s));
    }
    virtio_rdma_mem_put_sections(old);
}

/*
 * Called at a reset.  The core may accept now the memory that it refused
 * before.
 */
void virtio_rdma_mem_reset(VirtIORDMA *s)
{
    /*
     * If it fails again, starting the queues fails, which the driver notices.
     */
    if (s->mem.failed) {
        virtio_rdma_mem_install(s);
    }
}

/*
 * A host's RDMA device pins the pages of memory regions.  If a balloon or
 * virtio-mem discarded such a page, the old page would stay pinned and the
 * guest would get another one.  Therefore discarding is disabled while a
 * device with ibdev= exists.  It is disabled before any page is pinned;
 * realize fails if another device of the machine needs discarding.
 */
bool virtio_rdma_mem_disable_discard(VirtIORDMA *s, Error **errp)
{
    ERRP_GUARD();
    int ret = ram_block_discard_disable(true);

    trace_virtio_rdma_mem_discard(s, true, ret);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "ibdev= pins guest memory, which another "
                         "device of this machine discards");
        error_append_hint(errp, "Remove the virtio-mem devices, or ibdev=.\n");
        return false;
    }
    s->mem.discard_disabled = true;
    return true;
}

void virtio_rdma_mem_enable_discard(VirtIORDMA *s)
{
    if (s->mem.discard_disabled) {
        trace_virtio_rdma_mem_discard(s, false,
                                      ram_block_discard_disable(false));
        s->mem.discard_disabled = false;
    }
}

void virtio_rdma_mem_init(VirtIORDMA *s)
{
    VirtIORDMAMem *mem = &s->mem;

    mem->failed = false;
    mem->sections = g_array_new(false, false, sizeof(MemoryRegionSection));
    mem->listener = (MemoryListener) {
        .name = "virtio-rdma",
        .begin = virtio_rdma_mem_begin,
        .region_add = virtio_rdma_mem_add,
        .region_nop = virtio_rdma_mem_add,
        .commit = virtio_rdma_mem_commit,
        .priority = MEMORY_LISTENER_PRIORITY_DEV_BACKEND,
    };
    /* There is no vIOMMU, so DMA addresses are guest-physical addresses. */
    memory_listener_register(&mem->listener, &address_space_memory);
}

/* Unregistering the listener commits an empty table. */
void virtio_rdma_mem_cleanup(VirtIORDMA *s)
{
    memory_listener_unregister(&s->mem.listener);
    virtio_rdma_mem_put_sections(g_steal_pointer(&s->mem.sections));
}
