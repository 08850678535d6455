/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What goes over a connection between two daemons: a handshake that proves to
 * each that the other has the key, and then records, one for each MAD.
 *
 * A session has no socket and no clock: it is told what was read and tells what
 * is to be written.  Each message has a fixed size that follows from the phase,
 * so there are no lengths to check.
 *
 *   client -> server   hello: magic, public key, authenticator      (72 bytes)
 *   server -> client   hello: the same, and a stream header         (96 bytes)
 *                      first record: whether it serves the GID     (289 bytes)
 *   client -> server   stream header, first record                 (313 bytes)
 *   both directions    records                                     (289 bytes each)
 *
 * The public keys are made for this connection alone.  Authenticators are keyed
 * with the daemons' common key, and cover both GIDs (which are the connection's
 * two addresses), so that a connection cannot be passed on as somebody else's;
 * the server's covers the client's hello as well, so that it is fresh.  Each
 * direction is a libsodium secretstream, whose key depends on the common key,
 * both public keys and all of both hellos: a record that was changed, left out,
 * repeated or moved does not decrypt, and the session ends.
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
	uint8_t session[32];			/* goes into the keys of the streams */
};

#define VRD_MAD_HELLO_LEN	(8 + crypto_kx_PUBLICKEYBYTES + crypto_auth_BYTES)
#define VRD_MAD_HEADER_LEN	crypto_secretstream_xchacha20poly1305_HEADERBYTES
#define VRD_MAD_BODY_LEN	272U
#define VRD_MAD_RECORD_LEN	(VRD_MAD_BODY_LEN + crypto_secretstream_xchacha20poly1305_ABYTES)
/* The largest message of a session, and the most that it answers at once. */
#define VRD_MAD_WIRE_MAX	(VRD_MAD_HELLO_LEN + VRD_MAD_HEADER_LEN + VRD_MAD_RECORD_LEN)

enum vrd_mad_phase {
	VRD_MAD_WAIT_HELLO,
	VRD_MAD_WAIT_FIRST,		/* client: the server's first record; server: header and record */
	VRD_MAD_OPEN,
	VRD_MAD_FAILED,
};

struct vrd_mad_session {
	const struct vrd_mad_key *key;
	bool server, serves;		/* what our first record says (server) */
	bool peer_serves;		/* what the peer's said */
	uint8_t phase;			/* VRD_MAD_* */
	uint8_t local_gid[16], remote_gid[16];
	uint8_t public[crypto_kx_PUBLICKEYBYTES], secret[crypto_kx_SECRETKEYBYTES];
	uint8_t client_hello[VRD_MAD_HELLO_LEN];
	crypto_secretstream_xchacha20poly1305_state tx, rx;
};

enum vrd_mad_result {
	VRD_MAD_GO_ON,			/* nothing to tell */
	VRD_MAD_OPENED,			/* the peer has the key; @peer_serves is valid */
	VRD_MAD_RECORD,			/* @body is one */
	VRD_MAD_BAD_HELLO,		/* another version, or no daemon at all */
	VRD_MAD_BAD_KEY,		/* not our key, or not these addresses */
	VRD_MAD_BAD_RECORD,		/* damaged, repeated, or not of this connection */
};

struct vrd_mad;

/* Once, before the key is made.  Not 0: the library cannot be used. */
int vrd_mad_wire_init(void);
void vrd_mad_key_make(struct vrd_mad_key *key, const uint8_t *bytes, size_t len);
void vrd_mad_wipe(void *p, size_t len);

/*
 * Begins a session.  @out gets what a client has to say first; returns its
 * length (0 for a server).  @serves: a device here has local_gid (server).
 * @key stays the caller's.
 */
size_t vrd_mad_session_start(struct vrd_mad_session *s, const struct vrd_mad_key *key, bool server,
			     bool serves, const uint8_t local_gid[16],
			     const uint8_t remote_gid[16], uint8_t out[VRD_MAD_WIRE_MAX]);

/* Bytes that the next vrd_mad_session_input() takes. */
size_t vrd_mad_session_need(const struct vrd_mad_session *s);

/*
 * @in has what vrd_mad_session_need() says.  @out gets an answer of *@out_len
 * bytes, perhaps none.  RECORD: @mad is filled, with the connection's GIDs.
 * After one of BAD_* nothing more is accepted.
 */
enum vrd_mad_result vrd_mad_session_input(struct vrd_mad_session *s, const uint8_t *in,
					  uint8_t out[VRD_MAD_WIRE_MAX], size_t *out_len,
					  struct vrd_mad *mad);

/* The record of a MAD; the session is open. */
void vrd_mad_session_record(struct vrd_mad_session *s, const struct vrd_mad *mad,
			    uint8_t out[VRD_MAD_RECORD_LEN]);

#endif /* VRD_IBV_MAD_WIRE_H */
