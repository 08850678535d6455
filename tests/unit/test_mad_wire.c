// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The protocol between daemons, without sockets: the handshake, and the attacks of a network
 * peer.
 */
#include <string.h>

#include "mad/mad_wire.h"
#include "mad/mads.h"
#include "tap.h"

static struct vrd_mad_key key, other_key;
static const uint8_t gid_c[16] = { [10] = 0xff, 0xff, 10, 0, 0, 1 };
static const uint8_t gid_s[16] = { [10] = 0xff, 0xff, 10, 0, 0, 2 };
static const uint8_t gid_x[16] = { [10] = 0xff, 0xff, 10, 0, 0, 3 };

struct end {
	struct vrd_mad_session s;
	uint8_t out[VRD_MAD_WIRE_MAX];		/* its last output */
	size_t len;
	enum vrd_mad_result result;
	struct vrd_mad mad;
};

static struct end c, s;

static void start(const struct vrd_mad_key *client_key, bool serves)
{
	memset(&c, 0, sizeof(c));
	memset(&s, 0, sizeof(s));
	c.len = vrd_mad_session_start(&c.s, client_key, false, false, gid_c, gid_s, c.out);
	s.len = vrd_mad_session_start(&s.s, &key, true, serves, gid_s, gid_c, s.out);
}

/* Passes all of @from's last output to @to, message by message. */
static void say(struct end *to, const struct end *from)
{
	uint8_t bytes[VRD_MAD_WIRE_MAX];
	size_t len = from->len, at = 0;

	memcpy(bytes, from->out, len);
	to->len = 0;
	while (at < len) {
		size_t need = vrd_mad_session_need(&to->s), n;
		uint8_t out[VRD_MAD_WIRE_MAX];

		if (at + need > len)
			break;
		to->result = vrd_mad_session_input(&to->s, bytes + at, out, &n, &to->mad);
		at += need;
		memcpy(to->out + to->len, out, n);
		to->len += n;
		if (to->result >= VRD_MAD_BAD_HELLO)
			break;
	}
}

static void handshake(void)
{
	start(&key, true);
	say(&s, &c);
	say(&c, &s);
	say(&s, &c);
}

static void make_mad(struct vrd_mad *mad, uint8_t seed)
{
	memset(mad, 0, sizeof(*mad));
	mad->flow_label = 0xabcde;
	mad->tclass = 7;
	mad->hop_limit = 64;
	mad->sl = 5;
	memset(mad->data, seed, sizeof(mad->data));
}

static void record_of(struct end *from, uint8_t seed)
{
	struct vrd_mad mad;

	make_mad(&mad, seed);
	vrd_mad_session_record(&from->s, &mad, from->out);
	from->len = VRD_MAD_RECORD_LEN;
}

static void test_handshake(void)
{
	start(&key, true);
	is(c.len, 72, "the client's hello");
	say(&s, &c);
	ok(s.result == VRD_MAD_GO_ON && s.len == 96 + 289, "the server's hello and first record");
	say(&c, &s);
	ok(c.result == VRD_MAD_OPENED && c.s.peer_serves && c.len == 24 + 289,
	   "the client is sure of the server");
	say(&s, &c);
	ok(s.result == VRD_MAD_OPENED, "and the server of the client");

	record_of(&c, 0x11);
	say(&s, &c);
	ok(s.result == VRD_MAD_RECORD && s.mad.data[0] == 0x11 && s.mad.data[255] == 0x11 &&
	   s.mad.flow_label == 0xabcde && s.mad.tclass == 7 && s.mad.hop_limit == 64 &&
	   s.mad.sl == 5, "a MAD with its header");
	ok(!memcmp(s.mad.sgid, gid_c, 16) && !memcmp(s.mad.dgid, gid_s, 16) && !s.mad.own_qpn,
	   "its GIDs are the connection's");
	record_of(&s, 0x22);
	say(&c, &s);
	ok(c.result == VRD_MAD_RECORD && c.mad.data[9] == 0x22, "and one back");

	start(&key, false);
	say(&s, &c);
	say(&c, &s);
	ok(c.result == VRD_MAD_OPENED && !c.s.peer_serves, "a server without the GID says so");
}

static void test_wrong_key(void)
{
	start(&other_key, true);
	say(&s, &c);
	ok(s.result == VRD_MAD_BAD_KEY && !s.len, "a client of another key learns nothing");
	record_of(&c, 1);
	say(&s, &c);
	is(s.result, VRD_MAD_BAD_RECORD, "and the session is over");

	/* A false server: it has no key, but received the hello. */
	start(&key, true);
	s.s.key = &other_key;
	say(&s, &c);
	ok(s.result == VRD_MAD_BAD_KEY, "neither accepts the other");
}

/* Each end sees other addresses than the other: a relay is in between. */
static void test_relay(void)
{
	start(&key, true);
	memcpy(s.s.remote_gid, gid_x, 16);
	say(&s, &c);
	is(s.result, VRD_MAD_BAD_KEY, "a hello that comes from another address");
	start(&key, true);
	memcpy(c.s.remote_gid, gid_x, 16);
	c.len = vrd_mad_session_start(&c.s, &key, false, false, gid_c, gid_x, c.out);
	say(&s, &c);
	is(s.result, VRD_MAD_BAD_KEY, "a hello that was for another");
}

/* Messages recorded from an earlier connection. */
static void test_replay(void)
{
	struct end old_c1, old_c2, old_record;

	start(&key, true);
	old_c1 = c;
	say(&s, &c);
	say(&c, &s);
	old_c2 = c;
	say(&s, &c);
	record_of(&c, 0x33);
	old_record = c;
	say(&s, &c);
	is(s.result, VRD_MAD_RECORD, "the original is accepted");
	say(&s, &old_record);
	is(s.result, VRD_MAD_BAD_RECORD, "not twice");
	ok(s.s.phase == VRD_MAD_FAILED, "and the connection ends with it");

	start(&key, true);
	say(&s, &old_c1);
	is(s.result, VRD_MAD_GO_ON, "an old hello is answered, with a new key");
	say(&s, &old_c2);
	is(s.result, VRD_MAD_BAD_KEY, "what followed it does not fit");

	/* A server's old hello to a new client. */
	start(&key, true);
	say(&s, &c);
	old_c1 = s;
	start(&key, true);
	say(&c, &old_c1);
	is(c.result, VRD_MAD_BAD_KEY, "an old answer is no answer");
}

static void test_order(void)
{
	struct end first, second;

	handshake();
	record_of(&c, 1);
	first = c;
	record_of(&c, 2);
	second = c;
	say(&s, &second);
	is(s.result, VRD_MAD_BAD_RECORD, "a record that was left out");
	handshake();
	say(&s, &first);
	is(s.result, VRD_MAD_BAD_RECORD, "a record of another connection");
	/* The client's own message, reflected. */
	handshake();
	record_of(&c, 1);
	say(&c, &c);
	is(c.result, VRD_MAD_BAD_RECORD, "one's own record");
	start(&key, true);
	first = c;
	say(&c, &first);
	ok(c.len == 0 && s.result == 0, "one's own hello is too short to be an answer");
	memcpy(first.out + first.len, first.out, VRD_MAD_HEADER_LEN);
	first.len += VRD_MAD_HEADER_LEN;
	say(&c, &first);
	is(c.result, VRD_MAD_BAD_KEY, "and none, if it is made longer");
}

/* Modify each byte in turn. */
static void test_flips(void)
{
	unsigned int accepted = 0;
	struct end good;

	for (size_t i = 0; i < VRD_MAD_HELLO_LEN; i++) {
		start(&key, true);
		c.out[i] ^= 1 << i % 8;
		say(&s, &c);
		accepted += s.result < VRD_MAD_BAD_HELLO;
	}
	is(accepted, 0, "a client's hello with a bit changed");

	for (size_t i = 0; i < VRD_MAD_WIRE_MAX; i++) {
		start(&key, true);
		say(&s, &c);
		s.out[i] ^= 1 << i % 8;
		say(&c, &s);
		accepted += c.result < VRD_MAD_BAD_HELLO;
	}
	is(accepted, 0, "a server's hello or first record");

	for (size_t i = 0; i < VRD_MAD_HEADER_LEN + VRD_MAD_RECORD_LEN; i++) {
		start(&key, true);
		say(&s, &c);
		say(&c, &s);
		c.out[i] ^= 1 << i % 8;
		say(&s, &c);
		accepted += s.result < VRD_MAD_BAD_HELLO;
	}
	is(accepted, 0, "a client's first record");

	for (size_t i = 0; i < VRD_MAD_RECORD_LEN; i++) {
		handshake();
		record_of(&c, 9);
		c.out[i] ^= 1 << i % 8;
		say(&s, &c);
		accepted += s.result < VRD_MAD_BAD_HELLO;
	}
	is(accepted, 0, "a record");

	/* For a public key of zero, X25519 yields no secret. */
	start(&key, true);
	memset(c.s.public, 0, sizeof(c.s.public));
	memset(c.out + 8, 0, 32);
	good = c;
	say(&s, &good);
	ok(s.result >= VRD_MAD_BAD_HELLO, "a public key of zeroes");
}

int main(void)
{
	if (vrd_mad_wire_init())
		return 1;
	vrd_mad_key_make(&key, (const uint8_t *)"one key of thirty-two characters", 32);
	vrd_mad_key_make(&other_key, (const uint8_t *)"two key of thirty-two characters", 32);
	test_handshake();
	test_wrong_key();
	test_relay();
	test_replay();
	test_order();
	test_flips();
	return tap_done();
}
