/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages of the communication manager (IBTA volume 1, chapter 12), as MADs of 256 bytes,
 * and the header that the RDMA IP CM service (annex A11) puts before their private data.
 * Pure functions; any thread.
 *
 * Numbers are in CPU byte order here; GIDs, GUIDs and private data are byte strings.
 */
#ifndef VRD_IBV_CM_MSG_H
#define VRD_IBV_CM_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VRD_CM_MAD_LEN		256U

/* Attribute IDs (IBTA 16.7.3). */
enum vrd_cm_type {
	VRD_CM_REQ = 0x10,
	VRD_CM_MRA = 0x11,
	VRD_CM_REJ = 0x12,
	VRD_CM_REP = 0x13,
	VRD_CM_RTU = 0x14,
	VRD_CM_DREQ = 0x15,
	VRD_CM_DREP = 0x16,
	VRD_CM_SIDR_REQ = 0x17,
	VRD_CM_SIDR_REP = 0x18,
};

#define VRD_CM_REQ_DATA		92U
#define VRD_CM_REP_DATA		196U
#define VRD_CM_REJ_DATA		148U
#define VRD_CM_MAX_DATA		224U

/* Reasons of REJ (12.6.7.2). */
#define VRD_CM_REJ_NO_RESOURCES		3
#define VRD_CM_REJ_TIMEOUT		4
#define VRD_CM_REJ_UNSUPPORTED		5
#define VRD_CM_REJ_INVALID_SERVICE_ID	8
#define VRD_CM_REJ_CONSUMER		28

struct vrd_cm_msg {
	uint16_t type;			/* VRD_CM_* */
	uint64_t tid;
	/* comm IDs of the sender and, where it is known, of the receiver */
	uint32_t local_id, remote_id;

	/* REQ */
	uint64_t service_id;
	uint64_t ca_guid;		/* and REP */
	uint32_t qpn;			/* and REP; DREQ: the receiver's */
	uint32_t psn;			/* and REP: PSN that the receiver starts to send with */
	uint8_t responder_resources, initiator_depth;	/* and REP */
	uint8_t rnr_retry;		/* and REP */
	bool srq;			/* and REP */
	uint8_t transport;		/* 0: RC, 1: UC */
	uint8_t retry_count;
	uint8_t path_mtu;
	uint8_t local_timeout, remote_timeout, max_retries;
	uint16_t pkey;
	uint8_t sgid[16], dgid[16];	/* primary path: sender's and receiver's */
	uint8_t sl, tclass, hop_limit, ack_timeout, packet_rate;
	uint32_t flow_label;

	/* REJ */
	uint8_t rejected;		/* 0: REQ, 1: REP, 2: neither */
	uint16_t reason;
	/* MRA */
	uint8_t service_timeout;

	/* SIDR: the request's number is local_id (REQ) or remote_id (REP). */
	uint32_t qkey;
	uint8_t status;

	uint8_t data_len;		/* bytes of private data, with padding */
	uint8_t data[VRD_CM_MAX_DATA];
};

/* Returns false if the MAD is of another class or version, or of a type that is not above. */
bool vrd_cm_parse(struct vrd_cm_msg *msg, const uint8_t mad[VRD_CM_MAD_LEN]);
void vrd_cm_build(const struct vrd_cm_msg *msg, uint8_t mad[VRD_CM_MAD_LEN]);

/* True if the message names a QP of its sender; any version. */
bool vrd_cm_names_qpn(const uint8_t mad[VRD_CM_MAD_LEN], uint32_t *qpn);

/* ---- RDMA IP CM service --------------------------------------------------- */

#define VRD_CM_IP_LEN		36U	/* of the header */

/* Port spaces: bits 16..31 of a service ID. */
#define VRD_CM_PS_TCP		0x0106
#define VRD_CM_PS_UDP		0x0111

struct vrd_cm_ip {
	uint16_t src_port;
	uint8_t src[16], dst[16];	/* in GID form */
};

/* Returns false for another service.  RDMA_PS_TCP: connected; RDMA_PS_UDP: datagrams. */
bool vrd_cm_service(uint64_t service_id, uint16_t *port_space, uint16_t *port);
uint64_t vrd_cm_service_id(uint16_t port_space, uint16_t port);
/* Returns false for an unknown version or kind of address. */
bool vrd_cm_ip_parse(struct vrd_cm_ip *ip, const uint8_t header[VRD_CM_IP_LEN]);
void vrd_cm_ip_build(const struct vrd_cm_ip *ip, uint8_t header[VRD_CM_IP_LEN]);

#endif /* VRD_IBV_CM_MSG_H */
