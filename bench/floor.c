/* floor: the least that a relay in one thread can do, as a yardstick for relays that do more.
 *
 *     cc -O2 -o floor floor.c && ./floor        prints "listening on PORT", ends on SIGTERM
 *
 * What it is: epoll, recv, unmask, reframe, and one send per member per wake-up, of bytes that all members of the room
 * share. A publisher gets the batch without its own messages. TCP_NODELAY, as everywhere in the benchmark.
 *
 * What it is not: a server. It checks nothing (not the request, not UTF-8, not that frames are masked), limits nothing
 * (a member that does not read costs memory without bound), answers no ping, says no close codes and counts nothing.
 * A relay that keeps promises has to be slower than this; how much slower is what the figures are for.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define READ_BYTES (64 * 1024)
#define EVENTS 1024
#define REQUEST_BYTES (16 * 1024)
#define BUCKETS 4096 /* of the table of rooms */

struct bytes {
	uint8_t *data;
	size_t size, capacity;
};

struct room {
	struct room *next_in_bucket, *next_dirty;
	struct member **members;
	uint32_t count, capacity;
	bool dirty;
	struct bytes batch; /* the frames of this wake-up, as every member but their publisher gets them */
	char path[];
};

struct member {
	int fd;
	uint32_t place; /* in its room's members */
	struct room *room; /* NULL until the handshake is done */
	size_t own_start, own_end; /* its part of the batch; one part, because it is read once per wake-up */
	struct bytes unread; /* an incomplete frame or request */
	struct bytes unsent;
	size_t sent; /* of unsent */
};

static int poller;
static struct room *rooms[BUCKETS], *dirty_rooms;
static uint8_t shared[READ_BYTES];

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void reserve(struct bytes *bytes, size_t size)
{
	if (size <= bytes->capacity)
		return;
	size_t capacity = bytes->capacity * 2 > size ? bytes->capacity * 2 : size;
	bytes->data = realloc(bytes->data, capacity);
	if (!bytes->data)
		fail("memory");
	bytes->capacity = capacity;
}

static void append(struct bytes *bytes, const void *data, size_t size)
{
	reserve(bytes, bytes->size + size);
	memcpy(bytes->data + bytes->size, data, size);
	bytes->size += size;
}

static void discard(struct bytes *bytes)
{
	free(bytes->data);
	*bytes = (struct bytes){0};
}

/* --- the handshake --- */

static uint32_t rotate(uint32_t word, int by)
{
	return word << by | word >> (32 - by);
}

static void sha1_block(uint32_t state[5], const uint8_t *block)
{
	static const uint32_t constants[4] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
	uint32_t w[80], s[5];
	for (int i = 0; i < 16; i++)
		w[i] = (uint32_t)block[4 * i] << 24 | block[4 * i + 1] << 16 | block[4 * i + 2] << 8 | block[4 * i + 3];
	for (int i = 16; i < 80; i++)
		w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
	memcpy(s, state, sizeof s);
	for (int i = 0; i < 80; i++) {
		uint32_t choice = (s[1] & s[2]) | (~s[1] & s[3]);
		uint32_t parity = s[1] ^ s[2] ^ s[3];
		uint32_t majority = (s[1] & s[2]) | (s[1] & s[3]) | (s[2] & s[3]);
		uint32_t mixed = i < 20 ? choice : i >= 40 && i < 60 ? majority : parity;
		uint32_t head = rotate(s[0], 5) + mixed + s[4] + constants[i / 20] + w[i];
		s[4] = s[3];
		s[3] = s[2];
		s[2] = rotate(s[1], 30);
		s[1] = s[0];
		s[0] = head;
	}
	for (int i = 0; i < 5; i++)
		state[i] += s[i];
}

/* The SHA-1 of a key and the GUID: 60 bytes, which makes two blocks. */
static void sha1_of_60(const uint8_t *text, uint8_t digest[20])
{
	uint32_t state[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
	uint8_t blocks[128] = {0};
	memcpy(blocks, text, 60);
	blocks[60] = 0x80;
	blocks[126] = 60 * 8 >> 8;
	blocks[127] = 60 * 8 & 255;
	sha1_block(state, blocks);
	sha1_block(state, blocks + 64);
	for (int i = 0; i < 20; i++)
		digest[i] = state[i / 4] >> (24 - 8 * (i % 4));
}

/* Base64 of 20 bytes: 28 characters, the last of them "=". */
static void base64_of_20(const uint8_t digest[20], char out[28])
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	for (int i = 0; i < 27; i++) {
		int bit = 6 * i;
		uint32_t pair = digest[bit / 8] << 8 | (bit / 8 + 1 < 20 ? digest[bit / 8 + 1] : 0);
		out[i] = alphabet[pair >> (10 - bit % 8) & 63];
	}
	out[27] = '=';
}

static struct room *find_room(const char *path, size_t size)
{
	uint32_t hash = 2166136261u;
	for (size_t i = 0; i < size; i++)
		hash = (hash ^ (uint8_t)path[i]) * 16777619u;
	struct room **slot = &rooms[hash % BUCKETS];
	for (; *slot; slot = &(*slot)->next_in_bucket)
		if (strlen((*slot)->path) == size && !memcmp((*slot)->path, path, size))
			return *slot;
	*slot = calloc(1, sizeof **slot + size + 1);
	if (!*slot)
		fail("memory");
	memcpy((*slot)->path, path, size);
	return *slot;
}

/* Rooms are kept when they are empty: a benchmark has few, and uses them again. */
static void join(struct member *member, struct room *room)
{
	if (room->count == room->capacity) {
		room->capacity = room->capacity ? 2 * room->capacity : 4;
		room->members = realloc(room->members, room->capacity * sizeof *room->members);
		if (!room->members)
			fail("memory");
	}
	member->room = room;
	member->place = room->count;
	room->members[room->count++] = member;
}

static void leave(struct member *member)
{
	struct room *room = member->room;
	struct member *last = room->members[--room->count];
	room->members[member->place] = last;
	last->place = member->place;
}

static void watch(struct member *member, uint32_t events, int operation)
{
	struct epoll_event event = {.events = events, .data.ptr = member};
	if (epoll_ctl(poller, operation, member->fd, &event))
		fail("epoll_ctl");
}

/* Send the pieces, or keep what the socket does not take. An error shows again when the socket is read. */
static void deliver(struct member *member, struct iovec *pieces, int count)
{
	bool waiting = member->unsent.size > 0;
	size_t sent = 0;
	if (!waiting) {
		ssize_t result = count == 1 ? send(member->fd, pieces->iov_base, pieces->iov_len, MSG_NOSIGNAL)
		                            : writev(member->fd, pieces, count);
		if (result < 0 && errno != EAGAIN)
			return;
		sent = result < 0 ? 0 : (size_t)result;
	}
	for (int i = 0; i < count; i++) {
		size_t skip = sent < pieces[i].iov_len ? sent : pieces[i].iov_len;
		sent -= skip;
		if (skip < pieces[i].iov_len)
			append(&member->unsent, (uint8_t *)pieces[i].iov_base + skip, pieces[i].iov_len - skip);
	}
	if (!waiting && member->unsent.size)
		watch(member, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
}

static void send_more(struct member *member)
{
	struct bytes *unsent = &member->unsent;
	ssize_t result = send(member->fd, unsent->data + member->sent, unsent->size - member->sent, MSG_NOSIGNAL);
	if (result > 0)
		member->sent += result;
	if (member->sent == unsent->size || (result < 0 && errno != EAGAIN)) {
		discard(unsent);
		member->sent = 0;
		watch(member, EPOLLIN, EPOLL_CTL_MOD);
	}
}

/* Answer a request if it is complete; return the bytes used, 0 if it is not, -1 to close. */
static ssize_t shake_hands(struct member *member, const uint8_t *data, size_t size)
{
	static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", name[] = "\r\nSec-WebSocket-Key:";
	const char *text = (const char *)data, *end = memmem(data, size, "\r\n\r\n", 4);
	if (!end)
		return size < REQUEST_BYTES ? 0 : -1;
	const char *path = memchr(text, ' ', end - text), *after = NULL, *key = NULL;
	if (path++)
		after = memchr(path, ' ', end - path);
	for (const char *line = text; !key && (line = memmem(line, end - line, "\r\n", 2)); line += 2)
		if ((size_t)(end - line) > strlen(name) && !strncasecmp(line, name, strlen(name)))
			key = line + strlen(name);
	while (key && key < end && *key == ' ')
		key++;
	if (!after || !key || end - key < 24)
		return -1;
	uint8_t proof[60], digest[20];
	char response[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
			  "Sec-WebSocket-Accept: ____________________________\r\n\r\n";
	memcpy(proof, key, 24);
	memcpy(proof + 24, guid, 36);
	sha1_of_60(proof, digest);
	base64_of_20(digest, response + sizeof response - 1 - 4 - 28);
	struct iovec piece = {response, sizeof response - 1};
	join(member, find_room(path, after - path));
	deliver(member, &piece, 1);
	return end + 4 - text;
}

/* --- frames --- */

static void unmask(uint8_t *to, const uint8_t *from, size_t size, const uint8_t key[4])
{
	uint32_t half;
	memcpy(&half, key, 4);
	uint64_t mask = (uint64_t)half << 32 | half, word;
	size_t i = 0;
	for (; i + 8 <= size; i += 8) {
		memcpy(&word, from + i, 8);
		word ^= mask;
		memcpy(to + i, &word, 8);
	}
	for (; i < size; i++)
		to[i] = from[i] ^ key[i & 3];
}

static void publish(struct member *member, const uint8_t *frame, size_t header, size_t size)
{
	struct room *room = member->room;
	struct bytes *batch = &room->batch;
	size_t length_bytes = header - 6; /* besides two bytes and the mask: 0, 2 or 8, and the same in the frame out */
	if (!room->dirty) {
		room->dirty = true;
		room->next_dirty = dirty_rooms;
		dirty_rooms = room;
	}
	if (member->own_start == member->own_end)
		member->own_start = member->own_end = batch->size;
	reserve(batch, batch->size + 2 + length_bytes + size);
	uint8_t *to = batch->data + batch->size;
	*to++ = frame[0];
	*to++ = frame[1] & 127;
	memcpy(to, frame + 2, length_bytes);
	unmask(to + length_bytes, frame + header, size, frame + header - 4);
	member->own_end = batch->size += 2 + length_bytes + size;
}

/* Publish the complete frames; return the bytes used, or -1 to close. Put into *need how long the next frame is. */
static ssize_t read_frames(struct member *member, const uint8_t *data, size_t size, size_t *need)
{
	size_t used = 0;
	*need = 0;
	while (size - used >= 6) {
		const uint8_t *frame = data + used;
		uint64_t length = frame[1] & 127;
		size_t header = 6;
		if (length >= 126) {
			int length_bytes = length == 126 ? 2 : 8;
			header += length_bytes;
			if (size - used < header)
				break;
			length = 0;
			for (int i = 0; i < length_bytes; i++)
				length = length << 8 | frame[2 + i];
		}
		if (size - used < header + length) {
			*need = header + length;
			break;
		}
		if ((frame[0] & 15) == 8)
			return -1;
		if ((frame[0] & 8) == 0)
			publish(member, frame, header, length);
		used += header + length;
	}
	return used;
}

static void close_member(struct member *member)
{
	if (member->room)
		leave(member);
	close(member->fd);
	free(member->unread.data);
	free(member->unsent.data);
	free(member);
}

/* Read once. What is left of an earlier read is continued where it lies, so that no long frame is copied twice. */
static void read_member(struct member *member)
{
	struct bytes *unread = &member->unread;
	uint8_t *data = shared;
	size_t size = 0, used = 0, need = 0;
	if (unread->size) {
		reserve(unread, unread->size + READ_BYTES);
		data = unread->data;
		size = unread->size;
	}
	ssize_t got = recv(member->fd, data + size, READ_BYTES, 0);
	if (got < 0 && errno == EAGAIN)
		return;
	if (got <= 0) {
		close_member(member);
		return;
	}
	size += got;
	ssize_t result = 0;
	if (!member->room)
		result = shake_hands(member, data, size);
	if (result >= 0 && member->room) {
		used = result;
		result = read_frames(member, data + used, size - used, &need);
	}
	if (result < 0) {
		close_member(member);
		return;
	}
	used += result;
	if (used == size) {
		discard(unread);
	} else if (data == shared) {
		reserve(unread, need > size - used ? need : size - used);
		append(unread, data + used, size - used);
	} else {
		memmove(data, data + used, size - used);
		unread->size = size - used;
	}
}

static void flush_rooms(void)
{
	for (; dirty_rooms; dirty_rooms = dirty_rooms->next_dirty) {
		struct room *room = dirty_rooms;
		struct bytes *batch = &room->batch;
		for (uint32_t i = 0; i < room->count; i++) {
			struct member *member = room->members[i];
			struct iovec pieces[2] = {{batch->data, member->own_start},
						  {batch->data + member->own_end, batch->size - member->own_end}};
			if (member->own_start == member->own_end)
				pieces[1] = (struct iovec){batch->data, batch->size};
			bool skip = member->own_start == member->own_end || !pieces[0].iov_len;
			member->own_start = member->own_end = 0;
			if (!skip && pieces[1].iov_len)
				deliver(member, pieces, 2);
			else if (pieces[skip].iov_len)
				deliver(member, pieces + skip, 1);
		}
		room->dirty = false;
		batch->size = 0;
		if (batch->capacity > 4 * READ_BYTES)
			discard(batch);
	}
}

static void accept_members(int listener)
{
	for (int i = 0; i < 64; i++) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), on = 1;
		if (fd < 0)
			return;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		struct member *member = calloc(1, sizeof *member);
		if (!member)
			fail("memory");
		member->fd = fd;
		watch(member, EPOLLIN, EPOLL_CTL_ADD);
	}
}

static int listen_on_loopback(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof address;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096) ||
	    getsockname(listener, (struct sockaddr *)&address, &size))
		fail("listen");
	printf("listening on %d\n", ntohs(address.sin_port));
	fflush(stdout);
	return listener;
}

static void end(int number)
{
	(void)number;
	_exit(0);
}

int main(void)
{
	static struct epoll_event events[EVENTS];
	struct rlimit limit;
	signal(SIGTERM, end);
	signal(SIGINT, end);
	signal(SIGPIPE, SIG_IGN); /* writev has no MSG_NOSIGNAL */
	if (!getrlimit(RLIMIT_NOFILE, &limit)) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	poller = epoll_create1(EPOLL_CLOEXEC);
	int listener = listen_on_loopback();
	struct epoll_event arrival = {.events = EPOLLIN, .data.ptr = NULL};
	if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, listener, &arrival))
		fail("epoll");
	for (;;) {
		int count = epoll_wait(poller, events, EVENTS, -1);
		for (int i = 0; i < count; i++) {
			struct member *member = events[i].data.ptr;
			if (!member) {
				accept_members(listener);
				continue;
			}
			if (events[i].events & EPOLLOUT && member->unsent.size)
				send_more(member);
			if (events[i].events & ~EPOLLOUT)
				read_member(member);
		}
		flush_rooms();
	}
}
