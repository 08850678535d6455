/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The transports that exist: one line for each, with the name of its folder and whether this
 * build contains it.
 *
 * Each transport has a slot, a constant index into the priv[] array of every object (device,
 * PD, MR, CQ, SRQ, QP), where it keeps its private part of the object.  The slots do not
 * depend on the build, so that all files agree on the layout of the objects.
 */
#ifndef VRD_TRANSPORTS_H
#define VRD_TRANSPORTS_H

#ifndef VRD_HAVE_IBVERBS
#define VRD_HAVE_IBVERBS	1
#endif

#define VRD_TRANSPORTS(X)			\
	X(MEMORY, memory, 1)			\
	X(MAD, mad, VRD_HAVE_IBVERBS)		\
	X(IBVERBS, ibverbs, VRD_HAVE_IBVERBS)

struct vrd_transport_ops;
#define VRD_TRANSPORT_OPS(slot, name, have)	extern const struct vrd_transport_ops vrd_##name##_transport;
VRD_TRANSPORTS(VRD_TRANSPORT_OPS)
#undef VRD_TRANSPORT_OPS

enum vrd_slot {
#define VRD_SLOT_NAME(slot, name, have)	VRD_SLOT_##slot,
	VRD_TRANSPORTS(VRD_SLOT_NAME)
#undef VRD_SLOT_NAME
	VRD_NUM_SLOTS
};

#endif /* VRD_TRANSPORTS_H */
