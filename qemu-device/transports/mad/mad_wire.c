// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The protocol between two daemons, see mad_wire.h.  All cryptography comes from libsodium:
 * X25519 (crypto_kx), BLAKE2b, HMAC-SHA-512-256 (crypto_auth), XChaCha20-Poly1305
 * (secretstream).  All input is untrusted until its authenticator has been verified.
 *
 * Threading: a session belongs to one thread.
 */
#include <endian.h>
#include <string.h>

#include "mad_wire.h"
#include "mads.h"

static const uint8_t magic[8] = { 'v', 'r', 'd', 'm', 'a', 'd', 0, VRD_MAD_WIRE_VERSION };

/* Contents of a record. */
enum { BODY_FIRST = 1, BODY_MAD = 2 };

struct body {
	uint8_t type;
	uint8_t serves;			/* FIRST */
	uint8_t tclass, hop_limit;
	uint32_t flow_label;		/* big-endian */
	uint8_t sl;
	uint8_t reserved[7];
	uint8_t mad[VRD_MAD_LEN];
};
_Static_assert(sizeof(struct body) == VRD_MAD_BODY_LEN, "a record has this size");

int vrd_mad_wire_init(void)
{
	return sodium_init() < 0 ? -1 : 0;
}

void vrd_mad_wipe(void *p, size_t len)
{
	sodium_memzero(p, len);
}

void vrd_mad_key_make(struct vrd_mad_key *key, const uint8_t *bytes, size_t len)
{
	uint8_t master[crypto_kdf_KEYBYTES];

	crypto_generichash(master, sizeof(master), bytes, len, NULL, 0);
	crypto_kdf_derive_from_key(key->hello, sizeof(key->hello), 1, "vrd-mad1", master);
	crypto_kdf_derive_from_key(key->session, sizeof(key->session), 2, "vrd-mad1", master);
	sodium_memzero(master, sizeof(master));
}

/* ---- hellos ------------------------------------------------------------------ */

/*
 * Computes the authenticator of the first @len bytes of @hello.  It also covers what both
 * sides know: the sender's role, the client's GID and the server's GID.
 */
static void authenticate(const struct vrd_mad_session *s, bool from_server, const uint8_t *hello,
			 uint8_t mac[crypto_auth_BYTES])
{
	uint8_t text[1 + 32 + VRD_MAD_HELLO_LEN + VRD_MAD_HELLO_LEN], *p = text;

	*p++ = from_server;
	memcpy(p, s->server ? s->remote_gid : s->local_gid, 16);
	memcpy(p + 16, s->server ? s->local_gid : s->remote_gid, 16);
	p += 32;
	if (from_server) {
		memcpy(p, s->client_hello, VRD_MAD_HELLO_LEN);
		p += VRD_MAD_HELLO_LEN;
	}
	memcpy(p, hello, VRD_MAD_HELLO_LEN - crypto_auth_BYTES);
	p += VRD_MAD_HELLO_LEN - crypto_auth_BYTES;
	crypto_auth(mac, text, p - text, s->key->hello);
}

static void make_hello(const struct vrd_mad_session *s, uint8_t hello[VRD_MAD_HELLO_LEN])
{
	memcpy(hello, magic, sizeof(magic));
	memcpy(hello + sizeof(magic), s->public, sizeof(s->public));
	authenticate(s, s->server, hello, hello + VRD_MAD_HELLO_LEN - crypto_auth_BYTES);
}

static enum vrd_mad_result check_hello(const struct vrd_mad_session *s, const uint8_t *hello)
{
	uint8_t mac[crypto_auth_BYTES];

	if (memcmp(hello, magic, sizeof(magic)))
		return VRD_MAD_BAD_HELLO;
	authenticate(s, !s->server, hello, mac);
	if (sodium_memcmp(mac, hello + VRD_MAD_HELLO_LEN - crypto_auth_BYTES, sizeof(mac)))
		return VRD_MAD_BAD_KEY;
	return VRD_MAD_GO_ON;
}

/* Derives the key of one direction from the key exchange, the common key and both hellos. */
static void stream_key(const struct vrd_mad_session *s, const uint8_t *server_hello,
		       const uint8_t shared[crypto_kx_SESSIONKEYBYTES],
		       uint8_t key[crypto_secretstream_xchacha20poly1305_KEYBYTES])
{
	crypto_generichash_state state;

	crypto_generichash_init(&state, s->key->session, sizeof(s->key->session),
				crypto_secretstream_xchacha20poly1305_KEYBYTES);
	crypto_generichash_update(&state, shared, crypto_kx_SESSIONKEYBYTES);
	crypto_generichash_update(&state, s->client_hello, VRD_MAD_HELLO_LEN);
	crypto_generichash_update(&state, server_hello, VRD_MAD_HELLO_LEN);
	crypto_generichash_final(&state, key, crypto_secretstream_xchacha20poly1305_KEYBYTES);
	sodium_memzero(&state, sizeof(state));
}

/*
 * Derives the keys of both streams.  Ours initialises the outgoing stream (its header goes
 * to @header), the peer's is stored in @rx_key.  Returns false if the peer's public key
 * yields no shared secret.
 */
static bool exchange(struct vrd_mad_session *s, const uint8_t *peer_public,
		     const uint8_t *server_hello, uint8_t header[VRD_MAD_HEADER_LEN],
		     uint8_t rx_key[crypto_secretstream_xchacha20poly1305_KEYBYTES])
{
	uint8_t rx[crypto_kx_SESSIONKEYBYTES], tx[crypto_kx_SESSIONKEYBYTES];
	uint8_t tx_key[crypto_secretstream_xchacha20poly1305_KEYBYTES];
	int ret = s->server ?
		crypto_kx_server_session_keys(rx, tx, s->public, s->secret, peer_public) :
		crypto_kx_client_session_keys(rx, tx, s->public, s->secret, peer_public);

	sodium_memzero(s->secret, sizeof(s->secret));
	if (ret)
		return false;
	stream_key(s, server_hello, tx, tx_key);
	stream_key(s, server_hello, rx, rx_key);
	crypto_secretstream_xchacha20poly1305_init_push(&s->tx, header, tx_key);
	sodium_memzero(tx_key, sizeof(tx_key));
	sodium_memzero(tx, sizeof(tx));
	sodium_memzero(rx, sizeof(rx));
	return true;
}

/* ---- records -------------------------------------------------------------------- */

static void seal(struct vrd_mad_session *s, const struct body *body,
		 uint8_t out[VRD_MAD_RECORD_LEN])
{
	crypto_secretstream_xchacha20poly1305_push(&s->tx, out, NULL, (const uint8_t *)body,
						   sizeof(*body), NULL, 0, 0);
}

static bool unseal(struct vrd_mad_session *s, const uint8_t *in, struct body *body)
{
	uint8_t tag;

	return !crypto_secretstream_xchacha20poly1305_pull(&s->rx, (uint8_t *)body, NULL, &tag, in,
							   VRD_MAD_RECORD_LEN, NULL, 0) && !tag;
}

static void seal_first(struct vrd_mad_session *s, uint8_t out[VRD_MAD_RECORD_LEN])
{
	struct body body = { .type = BODY_FIRST, .serves = s->serves };

	seal(s, &body, out);
}

void vrd_mad_session_record(struct vrd_mad_session *s, const struct vrd_mad *mad,
			    uint8_t out[VRD_MAD_RECORD_LEN])
{
	struct body body = {
		.type = BODY_MAD,
		.tclass = mad->tclass,
		.hop_limit = mad->hop_limit,
		.flow_label = htobe32(mad->flow_label),
		.sl = mad->sl,
	};

	memcpy(body.mad, mad->data, VRD_MAD_LEN);
	seal(s, &body, out);
}

/* ---- the session ------------------------------------------------------------------ */

size_t vrd_mad_session_start(struct vrd_mad_session *s, const struct vrd_mad_key *key, bool server,
			     bool serves, const uint8_t local_gid[16],
			     const uint8_t remote_gid[16], uint8_t out[VRD_MAD_WIRE_MAX])
{
	memset(s, 0, sizeof(*s));
	s->key = key;
	s->server = server;
	s->serves = serves;
	memcpy(s->local_gid, local_gid, 16);
	memcpy(s->remote_gid, remote_gid, 16);
	/* A server creates its keys only after the peer has proved that it holds the common key. */
	if (server)
		return 0;
	crypto_kx_keypair(s->public, s->secret);
	make_hello(s, s->client_hello);
	memcpy(out, s->client_hello, VRD_MAD_HELLO_LEN);
	return VRD_MAD_HELLO_LEN;
}

size_t vrd_mad_session_need(const struct vrd_mad_session *s)
{
	switch (s->phase) {
	case VRD_MAD_WAIT_HELLO:
		return VRD_MAD_HELLO_LEN + (s->server ? 0 : VRD_MAD_HEADER_LEN);
	case VRD_MAD_WAIT_FIRST:
		return VRD_MAD_RECORD_LEN + (s->server ? VRD_MAD_HEADER_LEN : 0);
	default:
		return VRD_MAD_RECORD_LEN;
	}
}

/* The server cannot decrypt yet: the client's stream header arrives with its next message. */
static enum vrd_mad_result server_hello(struct vrd_mad_session *s, const uint8_t *in, uint8_t *out,
					size_t *out_len)
{
	enum vrd_mad_result ret = check_hello(s, in);
	uint8_t rx_key[crypto_secretstream_xchacha20poly1305_KEYBYTES];

	if (ret != VRD_MAD_GO_ON)
		return ret;
	crypto_kx_keypair(s->public, s->secret);
	memcpy(s->client_hello, in, VRD_MAD_HELLO_LEN);
	make_hello(s, out);
	if (!exchange(s, in + sizeof(magic), out, out + VRD_MAD_HELLO_LEN, rx_key))
		return VRD_MAD_BAD_KEY;
	/* The receive key is kept in the place of the secret key until the header arrives. */
	_Static_assert(sizeof(s->secret) == sizeof(rx_key), "it has room for the key");
	memcpy(s->secret, rx_key, sizeof(rx_key));
	sodium_memzero(rx_key, sizeof(rx_key));
	seal_first(s, out + VRD_MAD_HELLO_LEN + VRD_MAD_HEADER_LEN);
	*out_len = VRD_MAD_HELLO_LEN + VRD_MAD_HEADER_LEN + VRD_MAD_RECORD_LEN;
	s->phase = VRD_MAD_WAIT_FIRST;
	return VRD_MAD_GO_ON;
}

static enum vrd_mad_result client_hello(struct vrd_mad_session *s, const uint8_t *in, uint8_t *out,
					size_t *out_len)
{
	enum vrd_mad_result ret = check_hello(s, in);
	uint8_t rx_key[crypto_secretstream_xchacha20poly1305_KEYBYTES];
	int bad;

	if (ret != VRD_MAD_GO_ON)
		return ret;
	if (!exchange(s, in + sizeof(magic), in, out, rx_key))
		return VRD_MAD_BAD_KEY;
	bad = crypto_secretstream_xchacha20poly1305_init_pull(&s->rx, in + VRD_MAD_HELLO_LEN,
							       rx_key);
	sodium_memzero(rx_key, sizeof(rx_key));
	if (bad)
		return VRD_MAD_BAD_RECORD;
	seal_first(s, out + VRD_MAD_HEADER_LEN);
	*out_len = VRD_MAD_HEADER_LEN + VRD_MAD_RECORD_LEN;
	s->phase = VRD_MAD_WAIT_FIRST;
	return VRD_MAD_GO_ON;
}

static enum vrd_mad_result first_record(struct vrd_mad_session *s, const uint8_t *in)
{
	struct body body;

	if (s->server) {
		int bad = crypto_secretstream_xchacha20poly1305_init_pull(&s->rx, in, s->secret);

		sodium_memzero(s->secret, sizeof(s->secret));
		if (bad)
			return VRD_MAD_BAD_RECORD;
		in += VRD_MAD_HEADER_LEN;
	}
	if (!unseal(s, in, &body))
		return VRD_MAD_BAD_KEY;
	if (body.type != BODY_FIRST)
		return VRD_MAD_BAD_RECORD;
	s->peer_serves = body.serves;
	s->phase = VRD_MAD_OPEN;
	return VRD_MAD_OPENED;
}

static enum vrd_mad_result record(struct vrd_mad_session *s, const uint8_t *in,
				  struct vrd_mad *mad)
{
	struct body body;

	if (!unseal(s, in, &body) || body.type != BODY_MAD)
		return VRD_MAD_BAD_RECORD;
	/* The source and destination are the connection's addresses, not what the sender claims. */
	memcpy(mad->sgid, s->remote_gid, 16);
	memcpy(mad->dgid, s->local_gid, 16);
	mad->flow_label = be32toh(body.flow_label) & 0xfffff;
	mad->tclass = body.tclass;
	mad->hop_limit = body.hop_limit;
	mad->sl = body.sl & 15;
	mad->own_qpn = false;
	memcpy(mad->data, body.mad, VRD_MAD_LEN);
	return VRD_MAD_RECORD;
}

enum vrd_mad_result vrd_mad_session_input(struct vrd_mad_session *s, const uint8_t *in,
					  uint8_t out[VRD_MAD_WIRE_MAX], size_t *out_len,
					  struct vrd_mad *mad)
{
	enum vrd_mad_result ret = VRD_MAD_BAD_RECORD;

	*out_len = 0;
	switch (s->phase) {
	case VRD_MAD_WAIT_HELLO:
		ret = s->server ? server_hello(s, in, out, out_len) :
				  client_hello(s, in, out, out_len);
		break;
	case VRD_MAD_WAIT_FIRST:
		ret = first_record(s, in);
		break;
	case VRD_MAD_OPEN:
		ret = record(s, in, mad);
		break;
	}
	if (ret >= VRD_MAD_BAD_HELLO) {
		s->phase = VRD_MAD_FAILED;
		*out_len = 0;
	}
	return ret;
}
