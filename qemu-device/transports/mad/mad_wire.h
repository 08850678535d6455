/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The protocol on a connection between two daemons: a handshake in which each proves that it
 * holds the common key, then records, one for each MAD.
 *
 * A session has no socket and no clock: the caller passes input in and sends the output.
 * Each message has a fixed size that depends on the phase only, so there are no lengths to
 * check.
 *
 *   client -> server   hello: magic, public key, authenticator      (72 bytes)
 *   server -> client   hello: the same, and a stream header         (96 bytes)
 *                      first record: whether it serves the GID     (289 bytes)
 *   client -> server   stream header, first record                 (313 bytes)
 *   both directions    records                                     (289 bytes each)
 *
 * Public keys are generated for each connection.  Authenticators are keyed with the daemons'
 * common key and cover both GIDs (the connection's two addresses), so that a third party
 * cannot relay a connection under another identity; the server's authenticator also covers
 * the client's hello, which proves freshness.  Each direction is a libsodium secretstream,
 * whose key depends on the common key, both public keys and both complete hellos: a record
 * that was modified, omitted, repeated or reordered fails to decrypt, and the session ends.
 */
#ifndef VRD_IBV_MAD_WIRE_H
#define VRD_IBV_MAD_WIRE_H

#include <sodium.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VRD_MAD_WIRE_VERSION	1

struct vrd_mad_key {
	uint8_t hello[crypto_auth_KEYBYTES];	/* of authenticators */
	uint8_t session[32];			/* input of the stream keys */
};

#define VRD_MAD_HELLO_LEN	(8 + crypto_kx_PUBLICKEYBYTES + crypto_auth_BYTES)
#define VRD_MAD_HEADER_LEN	crypto_secretstream_xchacha20poly1305_HEADERBYTES
#define VRD_MAD_BODY_LEN	272U
#define VRD_MAD_RECORD_LEN	(VRD_MAD_BODY_LEN + crypto_secretstream_xchacha20poly1305_ABYTES)
/* The largest message of a session, and the longest answer to one message. */
#define VRD_MAD_WIRE_MAX	(VRD_MAD_HELLO_LEN + VRD_MAD_HEADER_LEN + VRD_MAD_RECORD_LEN)

enum vrd_mad_phase {
	VRD_MAD_WAIT_HELLO,
	VRD_MAD_WAIT_FIRST,		/* client: the server's first record; server: header and
					 * record */
	VRD_MAD_OPEN,
	VRD_MAD_FAILED,
};

struct vrd_mad_session {
	const struct vrd_mad_key *key;
	bool server, serves;		/* content of our first record (server) */
	bool peer_serves;		/* content of the peer's first record */
	uint8_t phase;			/* VRD_MAD_* */
	uint8_t local_gid[16], remote_gid[16];
	uint8_t public[crypto_kx_PUBLICKEYBYTES], secret[crypto_kx_SECRETKEYBYTES];
	uint8_t client_hello[VRD_MAD_HELLO_LEN];
	crypto_secretstream_xchacha20poly1305_state tx, rx;
};

enum vrd_mad_result {
	VRD_MAD_GO_ON,			/* no result yet */
	VRD_MAD_OPENED,			/* the peer holds the key; @peer_serves is valid */
	VRD_MAD_RECORD,			/* @body holds one */
	VRD_MAD_BAD_HELLO,		/* another version, or not a daemon */
	VRD_MAD_BAD_KEY,		/* not our key, or not these addresses */
	VRD_MAD_BAD_RECORD,		/* damaged, repeated, or of another connection */
};

struct vrd_mad;

/* Call once, before the key is created.  Non-zero: the library cannot be used. */
int vrd_mad_wire_init(void);
void vrd_mad_key_make(struct vrd_mad_key *key, const uint8_t *bytes, size_t len);
void vrd_mad_wipe(void *p, size_t len);

/*
 * Starts a session.  @out gets the client's first message; returns its length (0 for a
 * server). @serves: a device of this process has local_gid (server).  The caller keeps
 * ownership of @key.
 */
size_t vrd_mad_session_start(struct vrd_mad_session *s, const struct vrd_mad_key *key, bool server,
			     bool serves, const uint8_t local_gid[16],
			     const uint8_t remote_gid[16], uint8_t out[VRD_MAD_WIRE_MAX]);

/* Bytes that the next vrd_mad_session_input() takes. */
size_t vrd_mad_session_need(const struct vrd_mad_session *s);

/*
 * @in holds as many bytes as vrd_mad_session_need() returned.  @out gets an answer of
 * *@out_len bytes, which may be 0.  RECORD: @mad is filled, with the connection's GIDs.
 * After a BAD_* result the session accepts no more input.
 */
enum vrd_mad_result vrd_mad_session_input(struct vrd_mad_session *s, const uint8_t *in,
					  uint8_t out[VRD_MAD_WIRE_MAX], size_t *out_len,
					  struct vrd_mad *mad);

/* Encodes a MAD as a record; the session is open. */
void vrd_mad_session_record(struct vrd_mad_session *s, const struct vrd_mad *mad,
			    uint8_t out[VRD_MAD_RECORD_LEN]);

#endif /* VRD_IBV_MAD_WIRE_H */
