// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Entry points of the provider: the devices that it supports, and the opening
 * of a device.  Called by libibverbs, which does not serialise the opening and
 * closing of different contexts; they share nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vrdma.h"
#include "vrdma-abi.h"

/* virtio's vendor, and 0x1040 plus the device ID. */
#define VRDMA_PCI_VENDOR	0x1af4
#define VRDMA_PCI_DEVICE	0x106a

/*
 * The ib_device's parent is the PCI function; with another virtio transport it
 * is the virtio device (ID 42).
 */
static const struct verbs_match_ent vrdma_table[] = {
	VERBS_PCI_MATCH(VRDMA_PCI_VENDOR, VRDMA_PCI_DEVICE, NULL),
	VERBS_MODALIAS_MATCH("virtio:d0000002Av*", NULL),
	{}
};

static void vrdma_free_context(struct ibv_context *ibvctx);

static const struct verbs_context_ops vrdma_ctx_ops = {
	.alloc_parent_domain = vrdma_alloc_parent_domain,
	.alloc_pd = vrdma_alloc_pd,
	.alloc_td = vrdma_alloc_td,
	.create_ah = vrdma_create_ah,
	.create_cq = vrdma_create_cq,
	.create_cq_ex = vrdma_create_cq_ex,
	.create_qp = vrdma_create_qp,
	.create_qp_ex = vrdma_create_qp_ex,
	.create_srq = vrdma_create_srq,
	.dealloc_pd = vrdma_dealloc_pd,
	.dealloc_td = vrdma_dealloc_td,
	.dereg_mr = vrdma_dereg_mr,
	.destroy_ah = vrdma_destroy_ah,
	.destroy_cq = vrdma_destroy_cq,
	.destroy_qp = vrdma_destroy_qp,
	.destroy_srq = vrdma_destroy_srq,
	.free_context = vrdma_free_context,
	.modify_qp = vrdma_modify_qp,
	.modify_srq = vrdma_modify_srq,
	.poll_cq = vrdma_poll_cq,
	.post_recv = vrdma_post_recv,
	.post_send = vrdma_post_send,
	.post_srq_recv = vrdma_post_srq_recv,
	.query_device_ex = vrdma_query_device_ex,
	.query_port = vrdma_query_port,
	.query_qp = vrdma_query_qp,
	.query_srq = vrdma_query_srq,
	.reg_mr = vrdma_reg_mr,
	.req_notify_cq = vrdma_req_notify_cq,
	.resize_cq = vrdma_resize_cq,
};

/*
 * Reads the limits that sizes are checked against before memory is allocated.
 */
static int vrdma_read_limits(struct vrdma_context *ctx)
{
	struct ibv_device_attr_ex attr;
	int ret;

	ret = vrdma_query_device_ex(&ctx->ibvctx.context, NULL, &attr,
				    sizeof(attr));
	if (ret)
		return ret;

	ctx->max_qp_wr = attr.orig_attr.max_qp_wr;
	ctx->max_sge = attr.orig_attr.max_sge;
	ctx->max_cqe = attr.orig_attr.max_cqe;
	ctx->max_srq_wr = attr.orig_attr.max_srq_wr;
	ctx->max_srq_sge = attr.orig_attr.max_srq_sge;
	ctx->mem_mgt_ext = attr.orig_attr.device_cap_flags &
			   IBV_DEVICE_MEM_MGT_EXTENSIONS;
	return 0;
}

static void vrdma_unmap_pages(struct vrdma_context *ctx)
{
	munmap((void *)ctx->status, ctx->status_size);
	munmap(ctx->db, ctx->db_size);
}

/* Maps the doorbell page, and the status page, which is read-only. */
static int vrdma_map_pages(struct vrdma_context *ctx, int cmd_fd,
			   const struct virtio_rdma_alloc_ucontext_resp *resp)
{
	if (resp->db_mmap_size < sizeof(*ctx->db) ||
	    resp->status_mmap_size < sizeof(*ctx->status))
		return EINVAL;

	ctx->db = mmap(NULL, resp->db_mmap_size, PROT_READ | PROT_WRITE,
		       MAP_SHARED, cmd_fd, resp->db_mmap_offset);
	if (ctx->db == MAP_FAILED)
		return errno;
	ctx->db_size = resp->db_mmap_size;
	ctx->status = mmap(NULL, resp->status_mmap_size, PROT_READ, MAP_SHARED,
			   cmd_fd, resp->status_mmap_offset);
	if (ctx->status == MAP_FAILED) {
		int ret = errno;

		munmap(ctx->db, ctx->db_size);
		return ret;
	}
	ctx->status_size = resp->status_mmap_size;
	return 0;
}

static struct verbs_context *vrdma_alloc_context(struct ibv_device *ibvdev,
						 int cmd_fd, void *private_data)
{
	struct vrdma_alloc_ucontext_resp resp = {};
	struct ibv_get_context cmd = {};
	struct vrdma_context *ctx;
	unsigned int i;
	int ret;

	ctx = verbs_init_and_alloc_context(ibvdev, cmd_fd, ctx, ibvctx,
					   RDMA_DRIVER_UNKNOWN);
	if (!ctx)
		return NULL;

	ret = ibv_cmd_get_context(&ctx->ibvctx, &cmd, sizeof(cmd),
				  &resp.ibv_resp, sizeof(resp));
	if (ret)
		goto err_uninit;

	ctx->page_size = sysconf(_SC_PAGESIZE);
	ctx->max_inline = resp.max_inline;
	ctx->single_threaded = check_env("VIRTIO_RDMA_SINGLE_THREADED");

	ret = vrdma_map_pages(ctx, cmd_fd, &resp.drv_payload);
	if (ret) {
		verbs_err(&ctx->ibvctx, "mapping the doorbell and status pages: %s\n",
			  strerror(ret));
		goto err_uninit;
	}

	ret = vrdma_read_limits(ctx);
	if (ret)
		goto err_unmap;

	pthread_mutex_init(&ctx->tables_mutex, NULL);
	pthread_spin_init(&ctx->srqs_lock, PTHREAD_PROCESS_PRIVATE);
	list_head_init(&ctx->cqs);
	for (i = 0; i < VRDMA_SRQ_BUCKETS; i++)
		list_head_init(&ctx->srqs[i]);
	verbs_set_ops(&ctx->ibvctx, &vrdma_ctx_ops);
	return &ctx->ibvctx;

err_unmap:
	vrdma_unmap_pages(ctx);
err_uninit:
	verbs_uninit_context(&ctx->ibvctx);
	free(ctx);
	errno = ret;
	return NULL;
}

static void vrdma_free_context(struct ibv_context *ibvctx)
{
	struct vrdma_context *ctx = to_vctx(ibvctx);
	unsigned int i;

	verbs_info(&ctx->ibvctx, "%lu doorbells rung, %lu system calls to wake the device\n",
		   atomic_load(&ctx->doorbells), atomic_load(&ctx->wakeups));

	/*
	 * A leaf is left here if QPs were not destroyed; they cannot be used
	 * any more.
	 */
	for (i = 0; i < VRDMA_QP_LEAVES; i++)
		free(ctx->qp_table[i]);
	pthread_spin_destroy(&ctx->srqs_lock);
	pthread_mutex_destroy(&ctx->tables_mutex);
	vrdma_unmap_pages(ctx);
	verbs_uninit_context(&ctx->ibvctx);
	free(ctx);
}

struct vrdma_device {
	struct verbs_device vdev;
};

static struct verbs_device *vrdma_alloc_device(struct verbs_sysfs_dev *sysfs_dev)
{
	struct vrdma_device *dev;

	dev = calloc(1, sizeof(*dev));
	return dev ? &dev->vdev : NULL;
}

static void vrdma_uninit_device(struct verbs_device *vdev)
{
	free(container_of(vdev, struct vrdma_device, vdev));
}

static const struct verbs_device_ops vrdma_dev_ops = {
	.name = "virtio_rdma",
	.match_min_abi_version = VIRTIO_RDMA_UVERBS_ABI_VERSION,
	.match_max_abi_version = VIRTIO_RDMA_UVERBS_ABI_VERSION,
	.match_table = vrdma_table,
	.alloc_device = vrdma_alloc_device,
	.uninit_device = vrdma_uninit_device,
	.alloc_context = vrdma_alloc_context,
};
PROVIDER_DRIVER(virtio_rdma, vrdma_dev_ops);
