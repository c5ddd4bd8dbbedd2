/* load: members of rooms, all in one process, that publish to each other and check what they get.
 *
 *     cc -O2 -o load load.c -lz && ./load --port 8080 --members 100 --window 64
 *     cc -O2 -DTLS -o load-tls load.c load_tls.c -lz -lssl -lcrypto    # has --tls
 *
 * Every message is remembered until all who should have it do, in a ring per publisher, as the bytes in which it should
 * arrive. Every arrival is compared with them whole, so that a message that was lost, doubled, disordered or changed
 * cannot pass, and the comparison is all that an arrival costs. What does not compare is looked at again, slowly.
 *
 * A payload is nine characters that name its publisher and its place in the order, then text to fill it up.
 * A delivery is one message that one member other than its publisher got. It counts where it was published; so that
 * the slow ones are in the latencies too, these are of all messages that were published in the measured interval,
 * whenever they arrived.
 *
 * With several ports, a node of one relay listens on each: the first member of a room is on the first one, the second
 * member on the second one, and so on in turn. With a rate and a burst, so many messages are due at one time.
 *
 * One JSON object goes to stdout, words for people to stderr. It ends with 0 if all arrived as it should, 1 if not,
 * with 2 on wrong usage.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>
#ifdef TLS
#include "load_tls.h"
#endif

#define NAME_BYTES 9 /* three for the publisher, six for the sequence; six bits in each */
#define MOST_CONNECTIONS (1 << 18)
#define MOST_BYTES (2ull << 30) /* of rings and positions */
#define SHARED_BYTES (256 * 1024)
#define SMALL_BYTES (64 * 1024) /* a message up to here is completed in the shared buffer, a longer one in its own */
#define WRITE_BYTES (4u << 20) /* in one write, if there are two messages to write */
#define OPEN_SECONDS 60
#define SETTLE_SECONDS 0.05 /* after the last expected message, for those that are not expected */
#define CACHE (1 << 16)
#define EVENTS 1024
#define NANO 1000000000ll

enum state { UNUSED, CONNECTING, SECURING, REQUESTED, SUBSCRIBED, OPEN, CLOSED };
enum phase { OPENING, WARMING, MEASURING, DRAINING };

struct bytes {
	uint8_t *data;
	size_t size, capacity;
};

struct slot {
	int64_t time; /* when it was published, or should have been */
	uint32_t standing; /* members whose next message this is */
	uint32_t wire_size; /* of the bytes in which it should arrive; 0 if they are not known */
};

struct publisher {
	struct connection *connection;
	struct slot *slots;
	uint8_t *wire, *plain; /* the first slot's; plain is within wire, unless messages are compressed */
	uint32_t head, tail; /* the next to publish, and the first that not everyone has */
	uint32_t scheduled;
	uint32_t receivers; /* that are open */
	bool queued; /* to be looked at after this batch of events */
	bool dead; /* is closed, or has nobody to publish to */
};

struct room {
	struct publisher *publishers;
	char prefix[64]; /* of a message's wire */
	uint32_t prefix_size;
	uint32_t publish_size;
	char publish_prefix[48];
};

struct connection {
	int fd;
	enum state state;
	uint32_t index, place; /* among all, in its room */
	struct room *room;
	uint32_t *next; /* per publisher of its room: the sequence expected */
	struct bytes unread, unsent, fragments;
	size_t sent; /* of unsent */
	size_t need; /* bytes of the incomplete message, if known */
	uint8_t fragments_opcode, fragments_rsv;
	bool writing; /* waits for EPOLLOUT */
	bool more; /* the last read has filled its buffer, and TLS may hold more */
	struct tls *tls;
	/* NATS: where its stream is in the frames that carry it */
	uint8_t header[14], control[125];
	uint8_t header_size, control_size, opcode;
	uint64_t frame_left;
	/* permessage-deflate */
	bool deflate, fresh; /* negotiated; the server starts each message afresh */
	int window_bits; /* of what we send */
	z_stream *inflater;
};

struct options {
	int ports[16], port_count; /* of the nodes; a room's members take turns with them */
	uint32_t rooms, members, publishers, window, size, concurrency, burst;
	double rate, seconds, warmup, drain;
	bool nats, echoes, deflate, idle, binary, all_publish, tls;
	int pids[64], pid_count;
	const char *path_prefix;
};

static struct options options = {
	.rooms = 1, .publishers = 1, .size = 64, .concurrency = 64, .burst = 1, .seconds = 3, .warmup = 0.5, .drain = 5,
	.path_prefix = "/bench"};

static struct results {
	uint64_t messages, deliveries, received_bytes;
	uint64_t lost, doubled, disordered, changed, unexpected, closed, failed;
} total;

static volatile sig_atomic_t interrupted;
static enum phase phase;
static int poller, timer;
static struct connection *connections;
static struct room *rooms;
static struct publisher *publishers;
static uint32_t connection_count, publisher_count, open_count, opening_count;
static uint32_t ring_size, ring_mask;
static size_t wire_stride, plain_stride;
static bool compressed; /* whether permessage-deflate is in use */
static uint8_t shared[SMALL_BYTES + SHARED_BYTES];
static struct publisher **queue;
static uint32_t queue_count;
static uint32_t busy; /* publishers some of whose messages not everyone has */
static uint64_t scheduled_total;
static int64_t start_time, end_time = INT64_MAX, schedule_start;
static int64_t last_event;

/* --- words, time, memory --- */

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	fputs("load: ", stderr);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	va_end(arguments);
}

__attribute__((format(printf, 1, 2), noreturn)) static void usage(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	fputs("load: ", stderr);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	va_end(arguments);
	exit(2);
}

/* Say a kind of trouble once; it is counted besides. */
#define SAY_ONCE(...) \
	do { \
		static bool said; \
		if (!said) \
			say(__VA_ARGS__); \
		said = true; \
	} while (0)

static void fail(const char *what)
{
	say("%s: %s", what, strerror(errno));
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * NANO + now.tv_nsec;
}

static double cpu_seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static void *allocate(size_t count, size_t size)
{
	void *memory = calloc(count ? count : 1, size ? size : 1);
	if (!memory)
		fail("memory");
	return memory;
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
	if (!size)
		return;
	reserve(bytes, bytes->size + size);
	memcpy(bytes->data + bytes->size, data, size);
	bytes->size += size;
}

static void discard(struct bytes *bytes)
{
	free(bytes->data);
	*bytes = (struct bytes){0};
}

static uint64_t random_state;

static uint64_t random_bits(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* --- the server's processes --- */

/* CPU time of the threads that a process has, in seconds; those that have ended are not in it. */
static double process_cpu_seconds(int pid)
{
	char path[64];
	double nanoseconds = 0;
	unsigned long long one;
	snprintf(path, sizeof path, "/proc/%d/task", pid);
	DIR *tasks = opendir(path);
	bool known = tasks != NULL;
	for (struct dirent *task; known && (task = readdir(tasks));) {
		char file[400];
		if (task->d_name[0] == '.')
			continue;
		snprintf(file, sizeof file, "/proc/%d/task/%s/schedstat", pid, task->d_name);
		FILE *stream = fopen(file, "r");
		if (!stream)
			continue;
		known = fscanf(stream, "%llu", &one) == 1;
		nanoseconds += known ? (double)one : 0;
		fclose(stream);
	}
	if (tasks)
		closedir(tasks);
	if (known && nanoseconds > 0)
		return nanoseconds / 1e9;
	/* A kernel without schedstat: ticks of 10 ms. */
	unsigned long user = 0, kernel = 0;
	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	FILE *stream = fopen(path, "r");
	if (!stream)
		return 0;
	char line[1024], *after = fgets(line, sizeof line, stream) ? strrchr(line, ')') : NULL;
	if (after)
		sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &kernel);
	fclose(stream);
	return (double)(user + kernel) / sysconf(_SC_CLK_TCK);
}

/* Of each process, where it is asked for, and their sum. */
static double server_cpu_seconds(double *each)
{
	double sum = 0;
	for (int i = 0; i < options.pid_count; i++) {
		double one = process_cpu_seconds(options.pids[i]);
		if (each)
			each[i] = one;
		sum += one;
	}
	return sum;
}

/* -1 if one of them is not there. */
static long resident_kib(void)
{
	long sum = 0;
	for (int i = 0; i < options.pid_count; i++) {
		char path[64], line[256];
		long kib = -1;
		snprintf(path, sizeof path, "/proc/%d/status", options.pids[i]);
		FILE *stream = fopen(path, "r");
		if (!stream)
			return -1;
		while (kib < 0 && fgets(line, sizeof line, stream))
			if (sscanf(line, "VmRSS: %ld", &kib) != 1)
				kib = -1;
		fclose(stream);
		sum += kib < 0 ? 0 : kib;
	}
	return sum;
}

/* --- latencies: 64 steps to each power of two of nanoseconds, so within 1.6 % --- */

static uint64_t histogram[59 * 64];
static int64_t slowest;

static void record(int64_t published, int64_t now, uint64_t count)
{
	if (published < start_time || published >= end_time)
		return;
	uint64_t value = now > published ? now - published : 0;
	int shift = value < 64 ? 0 : 57 - __builtin_clzll(value);
	uint64_t index = value < 64 ? value : (uint64_t)shift * 64 + (value >> shift);
	histogram[index] += count;
	if ((int64_t)value > slowest)
		slowest = value;
}

static double percentile_us(double share)
{
	uint64_t count = 0, seen = 0;
	for (size_t i = 0; i < sizeof histogram / sizeof *histogram; i++)
		count += histogram[i];
	for (size_t i = 0; count && i < sizeof histogram / sizeof *histogram; i++) {
		seen += histogram[i];
		if ((double)seen < share * count)
			continue;
		uint64_t shift = i < 64 ? 0 : i / 64 - 1;
		double value = i < 64 ? (double)i : (64 + i % 64 + 0.5) * (double)(1ull << shift);
		return (value < slowest ? value : slowest) / 1e3;
	}
	return 0;
}

/* --- messages --- */

static uint8_t *plain_of(const struct publisher *publisher, uint32_t sequence)
{
	return publisher->plain + (size_t)(sequence & ring_mask) * plain_stride;
}

static uint8_t *wire_of(const struct publisher *publisher, uint32_t sequence)
{
	return publisher->wire + (size_t)(sequence & ring_mask) * wire_stride;
}

static void write_sixes(uint8_t *to, uint64_t value, int count)
{
	while (count--) {
		to[count] = '0' + (value & 63);
		value >>= 6;
	}
}

static bool read_sixes(const uint8_t *from, int count, uint64_t *value)
{
	*value = 0;
	for (int i = 0; i < count; i++) {
		if (from[i] < '0' || from[i] >= '0' + 64)
			return false;
		*value = *value << 6 | (from[i] - '0');
	}
	return true;
}

static size_t write_header(uint8_t *to, uint8_t first, uint8_t mask_bit, uint64_t size)
{
	to[0] = first;
	if (size < 126) {
		to[1] = mask_bit | size;
		return 2;
	}
	int length_bytes = size < 65536 ? 2 : 8;
	to[1] = mask_bit | (size < 65536 ? 126 : 127);
	for (int i = 0; i < length_bytes; i++)
		to[2 + i] = size >> 8 * (length_bytes - 1 - i);
	return 2 + length_bytes;
}

/* The header's size; 0 if it is not all there. */
static size_t read_header(const uint8_t *data, size_t size, uint64_t *length)
{
	if (size < 2)
		return 0;
	size_t length_bytes = (data[1] & 127) == 126 ? 2 : (data[1] & 127) == 127 ? 8 : 0;
	size_t header = 2 + length_bytes + (data[1] & 128 ? 4 : 0);
	if (size < header)
		return 0;
	*length = data[1] & 127;
	if (length_bytes)
		*length = 0;
	for (size_t i = 0; i < length_bytes; i++)
		*length = *length << 8 | data[2 + i];
	return header;
}

static void fill_with_noise(uint8_t *to, size_t size)
{
	for (size_t i = 0; i < size; i++)
		to[i] = 32 + random_bits() % 95;
}

/* What rooms are used for: small objects of words and numbers. */
static void fill_with_words(uint8_t *to, size_t size)
{
	static const char *const words[] = {
		"the", "cursor", "moved", "to", "line", "of", "a", "document", "and", "then", "offer", "candidate", "answer",
		"player", "position", "joined", "left", "hello", "everyone", "draw", "stroke", "color", "typing", "is"};
	static const char *const keys[] = {"type", "user", "text", "id", "room", "x", "y", "state"};
	size_t filled = 0;
	to[0] = '{';
	for (filled = size > 0; filled < size;) {
		char field[160];
		int length = snprintf(field, sizeof field, "\"%s\":", keys[random_bits() % 8]);
		if (random_bits() % 2) {
			length += snprintf(field + length, sizeof field - length, "%u,", (unsigned)(random_bits() % 2000));
		} else {
			length += snprintf(field + length, sizeof field - length, "\"");
			for (int count = 1 + random_bits() % 5; count; count--)
				length += snprintf(field + length, sizeof field - length, "%s%s", words[random_bits() % 24],
						   count > 1 ? " " : "");
			length += snprintf(field + length, sizeof field - length, "\",");
		}
		size_t part = (size_t)length < size - filled ? (size_t)length : size - filled;
		memcpy(to + filled, field, part);
		filled += part;
	}
	if (size > 1)
		to[size - 1] = '}';
}

static uint8_t data_opcode(void)
{
	return options.binary ? 2 : 1;
}

static void prepare_rooms(void)
{
	rooms = allocate(options.rooms, sizeof *rooms);
	publishers = allocate(publisher_count, sizeof *publishers);
	queue = allocate(publisher_count, sizeof *queue);
	uint32_t *positions = allocate((size_t)connection_count * options.publishers, sizeof *positions);
	for (uint32_t i = 0; i < options.rooms; i++) {
		struct room *room = &rooms[i];
		room->publishers = publishers + (size_t)i * options.publishers;
		if (options.nats) {
			room->prefix_size =
				snprintf(room->prefix, sizeof room->prefix, "MSG room-%u 1 %u\r\n", i, options.size);
			room->publish_size = snprintf(room->publish_prefix, sizeof room->publish_prefix,
						      "PUB room-%u %u\r\n", i, options.size);
		} else {
			room->prefix_size = write_header((uint8_t *)room->prefix, 128 | data_opcode(), 0, options.size);
		}
	}
	for (uint32_t i = 0; i < connection_count; i++) {
		connections[i].room = &rooms[i / options.members];
		connections[i].next = positions + (size_t)i * options.publishers;
	}
}

/* The rings, once it is known whether they hold messages as they are or compressed. */
static void prepare_messages(void)
{
	uint32_t most_prefix = rooms[options.rooms - 1].prefix_size;
	size_t compressed_size = options.size + options.size / 1000 + 64;
	plain_stride = compressed ? options.size : most_prefix + options.size + 2;
	wire_stride = compressed ? compressed_size : plain_stride;
	for (uint32_t i = 0; i < publisher_count; i++) {
		struct publisher *publisher = &publishers[i];
		struct room *room = &rooms[i / options.publishers];
		publisher->connection = &connections[i / options.publishers * options.members + i % options.publishers];
		publisher->slots = allocate(ring_size, sizeof *publisher->slots);
		publisher->wire = allocate(ring_size, wire_stride);
		publisher->plain = compressed ? allocate(ring_size, plain_stride) : publisher->wire + room->prefix_size;
		publisher->receivers = publisher->slots[0].standing = options.members - !options.echoes;
		for (uint32_t j = 0; j < ring_size; j++) {
			uint8_t *plain = plain_of(publisher, j);
			if (options.deflate)
				fill_with_words(plain, options.size);
			else
				fill_with_noise(plain, options.size);
			write_sixes(plain, publisher->connection->index, 3);
			if (compressed)
				continue;
			memcpy(wire_of(publisher, j), room->prefix, room->prefix_size);
			if (options.nats)
				memcpy(plain + options.size, "\r\n", 2);
			publisher->slots[j].wire_size = room->prefix_size + options.size + (options.nats ? 2 : 0);
		}
	}
}

/* --- who has what --- */

static void enqueue(struct publisher *publisher)
{
	if (!publisher->queued) {
		publisher->queued = true;
		queue[queue_count++] = publisher;
	}
}

static bool expects(const struct connection *connection, uint32_t publisher)
{
	return options.echoes || connection->place != publisher;
}

/* A member has got, or has lost, all messages of a publisher before this one. */
static void advance(struct connection *connection, uint32_t which, uint32_t sequence)
{
	struct publisher *publisher = &connection->room->publishers[which];
	uint32_t *next = &connection->next[which];
	if (*next == sequence)
		return;
	struct slot *left = &publisher->slots[*next & ring_mask];
	if (!--left->standing && *next == publisher->tail)
		enqueue(publisher);
	publisher->slots[sequence & ring_mask].standing++;
	*next = sequence;
}

static void count_deliveries(struct connection *connection, uint32_t which, int64_t published, int64_t now, uint64_t n)
{
	if (connection->place == which)
		return;
	total.deliveries += n;
	record(published, now, n);
}

/* Messages that were passed over, until it is known whether they come later. */
static struct gap {
	struct connection *connection;
	uint32_t which, from, to;
} gaps[4096];
static uint32_t gap_count;

static void open_gap(struct connection *connection, uint32_t which, uint32_t from, uint32_t to)
{
	total.lost += to - from;
	if (gap_count < sizeof gaps / sizeof *gaps)
		gaps[gap_count++] = (struct gap){connection, which, from, to};
}

static bool close_gap(struct connection *connection, uint32_t which, uint32_t sequence)
{
	for (uint32_t i = gap_count; i--;) {
		struct gap gap = gaps[i];
		if (gap.connection != connection || gap.which != which || sequence < gap.from || sequence >= gap.to)
			continue;
		gaps[i] = gaps[--gap_count];
		total.lost -= gap.to - gap.from;
		if (gap.from < sequence)
			open_gap(connection, which, gap.from, sequence);
		if (sequence + 1 < gap.to)
			open_gap(connection, which, sequence + 1, gap.to);
		return true;
	}
	return false;
}

/* A message that is not what its publisher sent: it stands for the one that it says it is, else for the next. */
static void take_changed(struct connection *connection, uint32_t which, uint64_t sequence)
{
	uint32_t head = connection->room->publishers[which].head, next = connection->next[which];
	total.changed++;
	if (sequence > next && sequence < head) {
		open_gap(connection, which, next, sequence);
		next = sequence;
	}
	if (next < head && expects(connection, which))
		advance(connection, which, next + 1);
}

/* Decide what a message is; return its publisher if it is the one that was expected next. */
static struct publisher *take_message(struct connection *connection, bool right_type, const uint8_t *payload,
				      size_t size, int64_t now)
{
	uint64_t index = 0, sequence = 0;
	bool named = size >= NAME_BYTES && read_sixes(payload, 3, &index) && read_sixes(payload + 3, 6, &sequence);
	uint32_t first = connection->index - connection->place;
	bool here = named && index >= first && index < first + options.publishers;
	if (phase == OPENING || (named && !here && index < connection_count)) {
		total.unexpected++;
		SAY_ONCE("a member of room %u got a message of connection %" PRIu64, connection->index / options.members, index);
		return NULL;
	}
	if (!here && options.publishers == 1 && expects(connection, 0)) {
		index = first;
		sequence = UINT64_MAX;
		here = true;
	}
	if (!here) {
		total.changed++;
		return NULL;
	}
	uint32_t which = index - first, next = connection->next[which];
	struct publisher *publisher = &connection->room->publishers[which];
	if (!expects(connection, which)) {
		total.unexpected++;
		SAY_ONCE("a publisher got its own message");
		return NULL;
	}
	bool published = sequence < publisher->head, remembered = published && publisher->head - sequence <= ring_size;
	bool same = right_type && size == options.size &&
		    (!remembered || !memcmp(payload, plain_of(publisher, sequence), size));
	if (!published || !same) {
		SAY_ONCE("a message was changed: %zu bytes, %.40s%s", size, named ? "" : "without a name",
			 right_type ? "" : ", of another type");
		take_changed(connection, which, sequence);
		return NULL;
	}
	if (sequence < next && close_gap(connection, which, sequence)) {
		total.disordered++;
	} else if (sequence < next) {
		total.doubled++;
		return NULL;
	} else {
		if (sequence > next)
			open_gap(connection, which, next, sequence);
		advance(connection, which, sequence + 1);
	}
	if (remembered)
		count_deliveries(connection, which, publisher->slots[sequence & ring_mask].time, now, 1);
	return sequence == next ? publisher : NULL;
}

/* --- the stream, plain or TLS --- */

static ssize_t stream_send(struct connection *connection, const uint8_t *data, size_t size)
{
#ifdef TLS
	if (connection->tls)
		return tls_send(connection->tls, data, size);
#endif
	return send(connection->fd, data, size, MSG_NOSIGNAL);
}

static ssize_t stream_receive(struct connection *connection, uint8_t *data, size_t size)
{
#ifdef TLS
	if (connection->tls) {
		ssize_t got = tls_receive(connection->tls, data, size);
		connection->more = got == (ssize_t)size;
		return got;
	}
#endif
	return recv(connection->fd, data, size, 0);
}

static void stream_close(struct connection *connection)
{
#ifdef TLS
	if (connection->tls)
		tls_free(connection->tls);
	connection->tls = NULL;
#endif
	close(connection->fd);
}

/* --- writing --- */

static void watch(struct connection *connection, uint32_t events, int operation)
{
	struct epoll_event event = {.events = events, .data.ptr = connection};
	if (epoll_ctl(poller, operation, connection->fd, &event))
		fail("epoll_ctl");
}

__attribute__((format(printf, 2, 3))) static void lose(struct connection *connection, const char *format, ...)
{
	if (connection->state == CLOSED)
		return;
	char why[256];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(why, sizeof why, format, arguments);
	va_end(arguments);
	stream_close(connection);
	if (connection->state == OPEN) {
		total.closed++;
		SAY_ONCE("connection %u was closed: %s", connection->index, why);
	} else {
		total.failed++;
		opening_count--;
		SAY_ONCE("connection %u could not be opened: %s", connection->index, why);
	}
	connection->state = CLOSED;
	discard(&connection->unread);
	discard(&connection->unsent);
	discard(&connection->fragments);
	if (phase == OPENING)
		return;
	for (uint32_t i = 0; i < options.publishers; i++) {
		struct publisher *publisher = &connection->room->publishers[i];
		if (expects(connection, i)) {
			publisher->slots[connection->next[i] & ring_mask].standing--;
			publisher->receivers--;
		}
		if ((connection->place == i || !publisher->receivers) && !publisher->dead) {
			publisher->dead = true;
			busy -= publisher->tail != publisher->head;
		}
		enqueue(publisher);
	}
}

static void write_bytes(struct connection *connection, const uint8_t *data, size_t size)
{
	ssize_t result = 0;
	if (!connection->unsent.size) {
		result = stream_send(connection, data, size);
		if (result < 0 && errno != EAGAIN) {
			lose(connection, "%s", strerror(errno));
			return;
		}
		result = result < 0 ? 0 : result;
	}
	append(&connection->unsent, data + result, size - result);
	if (connection->unsent.size && !connection->writing) {
		connection->writing = true;
		watch(connection, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
	}
}

static void write_more(struct connection *connection)
{
	struct bytes *unsent = &connection->unsent;
	ssize_t result = stream_send(connection, unsent->data + connection->sent, unsent->size - connection->sent);
	if (result < 0 && errno != EAGAIN) {
		lose(connection, "%s", strerror(errno));
		return;
	}
	connection->sent += result < 0 ? 0 : result;
	if (connection->sent < unsent->size)
		return;
	discard(unsent);
	connection->sent = 0;
	connection->writing = false;
	watch(connection, EPOLLIN, EPOLL_CTL_MOD);
	if (phase != OPENING && connection->place < options.publishers)
		enqueue(&connection->room->publishers[connection->place]);
}

/* Append a masked frame; room for it has been reserved. */
static void append_frame(struct bytes *out, uint8_t first, const uint8_t *payload, size_t size)
{
	uint8_t *to = out->data + out->size;
	uint64_t bits = random_bits(), mask = (bits & UINT32_MAX) | bits << 32, word;
	size_t header = write_header(to, first, 128, size), i = 0;
	memcpy(to + header, &mask, 4);
	to += header + 4;
	for (; i + 8 <= size; i += 8) {
		memcpy(&word, payload + i, 8);
		word ^= mask;
		memcpy(to + i, &word, 8);
	}
	for (; i < size; i++)
		to[i] = payload[i] ^ to[(ptrdiff_t)(i & 3) - 4];
	out->size += header + 4 + size;
}

static void write_frame(struct connection *connection, uint8_t opcode, const void *payload, size_t size)
{
	struct bytes frame = {0};
	reserve(&frame, size + 14);
	append_frame(&frame, 128 | opcode, payload, size);
	write_bytes(connection, frame.data, frame.size);
	discard(&frame);
}

/* --- publishing --- */

static struct bytes outgoing, stream;

/* Compress without context, as each message of the ring stands for itself. */
static void append_compressed(struct connection *connection, const uint8_t *plain)
{
	static z_stream deflaters[16];
	static struct bytes packed;
	/* A small window is cleared faster, and a small message has no use for a larger one. */
	int bits = options.size <= 1024 && connection->window_bits > 10 ? 10 : connection->window_bits;
	z_stream *deflater = &deflaters[bits];
	if (!deflater->next_out && deflateInit2(deflater, 1, Z_DEFLATED, -bits, bits > 10 ? 8 : 4, Z_DEFAULT_STRATEGY) != Z_OK)
		fail("deflate");
	deflateReset(deflater);
	reserve(&packed, deflateBound(deflater, options.size) + 64);
	deflater->next_in = (uint8_t *)plain;
	deflater->avail_in = options.size;
	deflater->next_out = packed.data;
	deflater->avail_out = packed.capacity;
	deflate(deflater, Z_SYNC_FLUSH);
	reserve(&outgoing, outgoing.size + packed.capacity + 14);
	append_frame(&outgoing, 128 | 64 | data_opcode(), packed.data, packed.capacity - deflater->avail_out - 4);
}

static void publish(struct publisher *publisher, int64_t time)
{
	struct room *room = publisher->connection->room;
	uint32_t sequence = publisher->head++;
	struct slot *slot = &publisher->slots[sequence & ring_mask];
	uint8_t *plain = plain_of(publisher, sequence);
	slot->time = time;
	write_sixes(plain + 3, sequence, 6);
	if (compressed)
		slot->wire_size = 0;
	total.messages++;
	if (options.nats) {
		append(&stream, room->publish_prefix, room->publish_size);
		append(&stream, plain, options.size + 2);
	} else if (publisher->connection->deflate) {
		append_compressed(publisher->connection, plain);
	} else {
		reserve(&outgoing, outgoing.size + options.size + 14);
		append_frame(&outgoing, 128 | data_opcode(), plain, options.size);
	}
}

static bool may_publish(const struct publisher *publisher, bool paced)
{
	if (publisher->head - publisher->tail >= options.window || outgoing.size + stream.size >= WRITE_BYTES)
		return false;
	return paced ? publisher->head < publisher->scheduled : phase != DRAINING;
}

/* Publish all that the window allows, or the schedule, in one write. */
static void publish_all(struct publisher *publisher, int64_t now)
{
	struct connection *connection = publisher->connection;
	bool paced = options.rate > 0, was_busy = publisher->tail != publisher->head;
	uint32_t which = publisher - connection->room->publishers, before = publisher->tail;
	if (publisher->dead)
		return;
	while (publisher->tail != publisher->head && !publisher->slots[publisher->tail & ring_mask].standing)
		publisher->tail++;
	if (publisher->tail != before && publisher->tail == publisher->head)
		busy -= was_busy;
	was_busy = publisher->tail != publisher->head;
	outgoing.size = stream.size = 0;
	while (!connection->unsent.size && may_publish(publisher, paced)) {
		/* Publishers take turns, so that a publisher's times are its turn and then every round. */
		double turn = (double)publisher->head * publisher_count +
			      (which * (double)options.rooms + connection->index / options.members);
		turn -= (uint64_t)turn % options.burst; /* those of a burst are due at one time */
		publish(publisher, paced ? schedule_start + (int64_t)(turn / options.rate * 1e9) : now);
	}
	busy += !was_busy && publisher->tail != publisher->head;
	if (stream.size) {
		reserve(&outgoing, stream.size + 14);
		append_frame(&outgoing, 130, stream.data, stream.size);
	}
	if (outgoing.size)
		write_bytes(connection, outgoing.data, outgoing.size);
	if (!publisher->dead && !connection->unsent.size && may_publish(publisher, paced))
		enqueue(publisher); /* the write was full, not the window */
}

static void publish_queued(int64_t now)
{
	static struct publisher **turn;
	if (!turn)
		turn = allocate(publisher_count, sizeof *turn);
	uint32_t count = queue_count;
	struct publisher **swapped = queue;
	queue = turn;
	turn = swapped;
	queue_count = 0;
	for (uint32_t i = 0; i < count; i++) {
		turn[i]->queued = false;
		publish_all(turn[i], now);
	}
}

static void schedule(int64_t now)
{
	int64_t until = now < end_time ? now : end_time;
	double bursts = (until - schedule_start) / 1e9 * options.rate / options.burst;
	uint64_t due = until < schedule_start ? 0 : ((uint64_t)bursts + 1) * options.burst;
	for (; scheduled_total < due; scheduled_total++) {
		uint64_t turn = scheduled_total % publisher_count;
		struct publisher *publisher = &publishers[turn % options.rooms * options.publishers + turn / options.rooms];
		publisher->scheduled++;
		enqueue(publisher);
	}
	int64_t at = schedule_start + (int64_t)(scheduled_total / options.rate * 1e9) + 1;
	struct itimerspec next = {.it_value = {.tv_sec = at / NANO, .tv_nsec = at % NANO}};
	if (timerfd_settime(timer, TFD_TIMER_ABSTIME, &next, NULL))
		fail("timerfd_settime");
}

/* --- compressed messages --- */

/* Where a compressed message was first seen, by its bytes: only the first of equal ones is inflated. */
static struct seen {
	uint64_t hash;
	struct publisher *publisher;
	uint32_t sequence;
} seen[CACHE];

static uint64_t hash_bytes(const uint8_t *data, size_t size)
{
	uint64_t hash = size * 0x9e3779b97f4a7c15, word;
	size_t i = 0;
	for (; i + 8 <= size; i += 8) {
		memcpy(&word, data + i, 8);
		hash = (hash ^ word) * 0x9fb21c651e98df25;
		hash ^= hash >> 32;
	}
	for (; i < size; i++)
		hash = (hash ^ data[i]) * 0x100000001b3;
	return hash ^ hash >> 29;
}

static void remember(struct publisher *publisher, uint32_t sequence, const uint8_t *frame, size_t size, uint64_t hash)
{
	struct slot *slot = &publisher->slots[sequence & ring_mask];
	if (size > wire_stride)
		return;
	memcpy(wire_of(publisher, sequence), frame, size);
	slot->wire_size = size;
	seen[hash % CACHE] = (struct seen){hash, publisher, sequence};
}

/* Whether it is the next message of one of several publishers, in bytes that have been seen. */
static bool take_seen(struct connection *connection, const uint8_t *frame, size_t size, uint64_t hash, int64_t now)
{
	struct seen *entry = &seen[hash % CACHE];
	struct publisher *publisher = entry->publisher;
	if (!publisher || entry->hash != hash || publisher->connection->room != connection->room)
		return false;
	uint32_t which = publisher - connection->room->publishers;
	struct slot *slot = &publisher->slots[entry->sequence & ring_mask];
	if (!expects(connection, which) || connection->next[which] != entry->sequence || entry->sequence >= publisher->head ||
	    slot->wire_size != size || memcmp(frame, wire_of(publisher, entry->sequence), size))
		return false;
	count_deliveries(connection, which, slot->time, now, 1);
	advance(connection, which, entry->sequence + 1);
	return true;
}

/* Inflate into a buffer that the next call overwrites; NULL if it cannot be or is far too long. */
static const uint8_t *inflate_message(struct connection *connection, const uint8_t *data, size_t size, size_t *out_size)
{
	static struct bytes out;
	static z_stream *common;
	static const uint8_t tail[] = {0, 0, 255, 255};
	z_stream **inflater = connection->fresh ? &common : &connection->inflater;
	if (!*inflater) {
		*inflater = allocate(1, sizeof **inflater);
		if (inflateInit2(*inflater, -15) != Z_OK) /* the largest window reads what any smaller one wrote */
			fail("inflate");
	}
	if (connection->fresh)
		inflateReset(*inflater);
	reserve(&out, options.size + SMALL_BYTES);
	(*inflater)->next_out = out.data;
	(*inflater)->avail_out = out.capacity;
	for (int part = 0; part < 2; part++) {
		(*inflater)->next_in = part ? (uint8_t *)tail : (uint8_t *)data;
		(*inflater)->avail_in = part ? sizeof tail : size;
		int result = inflate(*inflater, Z_SYNC_FLUSH);
		if ((result != Z_OK && result != Z_BUF_ERROR) || !(*inflater)->avail_out)
			return NULL;
	}
	*out_size = out.capacity - (*inflater)->avail_out;
	return out.data;
}

/* --- reading: frames --- */

static void take_data(struct connection *connection, uint8_t first, const uint8_t *payload, size_t size,
		      const uint8_t *frame, size_t frame_size, int64_t now)
{
	bool packed = first & 64, right_type = (first & 15) == data_opcode();
	uint64_t hash = 0;
	if (first & 48 || (packed && !connection->deflate)) {
		total.unexpected++;
		SAY_ONCE("a frame has reserved bits: %02x", first);
		return;
	}
	if (packed && connection->fresh && frame && phase != OPENING) {
		hash = hash_bytes(frame, frame_size);
		if (take_seen(connection, frame, frame_size, hash, now))
			return;
	}
	if (packed) {
		payload = inflate_message(connection, payload, size, &size);
		if (!payload) {
			SAY_ONCE("a message could not be inflated");
			payload = (const uint8_t *)"";
			size = 0;
		}
	}
	struct publisher *publisher = take_message(connection, right_type, payload, size, now);
	if (publisher && hash)
		remember(publisher, connection->next[publisher - connection->room->publishers] - 1, frame, frame_size, hash);
}

static void take_control(struct connection *connection, uint8_t opcode, const uint8_t *payload, size_t size)
{
	if (opcode == 9)
		write_frame(connection, 10, payload, size);
	else if (opcode == 8 && size >= 2)
		lose(connection, "code %u, reason \"%.*s\"", payload[0] << 8 | payload[1], (int)size - 2, payload + 2);
	else if (opcode == 8)
		lose(connection, "without a code");
	else if (opcode != 10) {
		total.unexpected++;
		SAY_ONCE("a frame of opcode %u", opcode);
	}
}

/* Take any frame; return its size, 0 if it is not all there. */
static size_t take_frame(struct connection *connection, const uint8_t *data, size_t size, int64_t now)
{
	uint64_t length = 0;
	size_t header = read_header(data, size, &length);
	if (!header || length > size - header) {
		connection->need = header ? header + length : 0;
		return 0;
	}
	const uint8_t *payload = data + header;
	uint8_t opcode = data[0] & 15;
	bool last = data[0] & 128;
	struct bytes *fragments = &connection->fragments;
	if (data[1] & 128 || (opcode >= 3 && opcode <= 7)) {
		total.unexpected++;
		SAY_ONCE("a frame that no server sends: %02x %02x", data[0], data[1]);
	} else if (opcode >= 8) {
		take_control(connection, opcode, payload, length);
	} else if (opcode && last) {
		take_data(connection, data[0], payload, length, data, header + length, now);
	} else {
		if (opcode) {
			connection->fragments_opcode = data[0];
			fragments->size = 0;
		}
		append(fragments, payload, length);
		if (last) {
			take_data(connection, connection->fragments_opcode, fragments->data, fragments->size, NULL, 0, now);
			discard(fragments);
		}
	}
	return header + length;
}

/* --- reading: NATS --- */

/* Take the frames off a stream, in place; return what is left. Data frames carry it, wherever they cut it. */
static size_t take_off_frames(struct connection *connection, uint8_t *data, size_t size)
{
	size_t from = 0, to = 0;
	while (from < size && connection->state != CLOSED) {
		if (!connection->frame_left) {
			uint64_t length = 0;
			connection->header[connection->header_size++] = data[from++];
			if (!read_header(connection->header, connection->header_size, &length))
				continue;
			connection->opcode = connection->header[0] & 15;
			connection->header_size = connection->control_size = 0;
			connection->frame_left = length;
			if (!length && connection->opcode >= 8)
				take_control(connection, connection->opcode, connection->control, 0);
			continue;
		}
		size_t part = size - from < connection->frame_left ? size - from : connection->frame_left;
		if (connection->opcode < 8) {
			memmove(data + to, data + from, part);
			to += part;
		} else if (connection->control_size + part <= sizeof connection->control) {
			memcpy(connection->control + connection->control_size, data + from, part);
			connection->control_size += part;
		}
		from += part;
		connection->frame_left -= part;
		if (!connection->frame_left && connection->opcode >= 8)
			take_control(connection, connection->opcode, connection->control, connection->control_size);
	}
	return to;
}

static void opened(struct connection *connection);

/* Take any line, with its message if it has one; return its size, 0 if it is not all there. */
static size_t take_line(struct connection *connection, const uint8_t *data, size_t size, int64_t now)
{
	const uint8_t *end = memmem(data, size, "\r\n", 2);
	connection->need = 0;
	if (!end)
		return 0;
	size_t line = end + 2 - data;
	if (!memcmp(data, "MSG ", 4)) {
		const uint8_t *number = end;
		while (number[-1] != ' ')
			number--;
		size_t length = strtoul((const char *)number, NULL, 10);
		if (size < line + length + 2) {
			connection->need = line + length + 2;
			return 0;
		}
		take_message(connection, true, data + line, length, now);
		return line + length + 2;
	}
	if (!memcmp(data, "PING", 4))
		write_frame(connection, 2, "PONG\r\n", 6);
	else if (!memcmp(data, "PONG", 4) && connection->state == SUBSCRIBED)
		opened(connection);
	else if (!memcmp(data, "-ERR", 4))
		lose(connection, "%.*s", (int)(line - 2), data);
	else if (memcmp(data, "INFO", 4) && memcmp(data, "+OK", 3) && memcmp(data, "PONG", 4)) {
		total.unexpected++;
		SAY_ONCE("a line that is none of NATS: %.*s", (int)(line - 2), data);
	}
	return line;
}

/* --- reading --- */

/* Messages of one publisher that came as expected, until they are counted together. */
struct run {
	uint32_t which, next, count;
	int64_t time;
};

static void end_run(struct connection *connection, struct run *run, int64_t now)
{
	if (run->count)
		count_deliveries(connection, run->which, run->time, now, run->count);
	run->count = 0;
}

/* Take all complete messages; return the bytes used. */
static size_t take(struct connection *connection, const uint8_t *data, size_t size, int64_t now)
{
	struct room *room = connection->room;
	size_t used = 0, one = 0;
	uint32_t first = connection->index - connection->place;
	struct run run = {.which = UINT32_MAX};
	bool quick = phase != OPENING, single = options.publishers == 1;
	struct publisher *publisher = room->publishers;
	if (single) {
		run.which = 0;
		run.next = connection->next[0];
		quick = quick && expects(connection, 0);
	} else {
		quick = quick && !compressed;
	}
	while (connection->state != CLOSED && used < size) {
		const uint8_t *at = data + used;
		bool known = quick;
		if (known && !single) {
			const uint8_t *name = at + room->prefix_size;
			if (size - used < room->prefix_size + NAME_BYTES)
				name = NULL;
			uint32_t which = !name ? UINT32_MAX
					       : ((uint32_t)(name[0] - '0') << 12 | (name[1] - '0') << 6 | (name[2] - '0')) - first;
			known = which < options.publishers && expects(connection, which);
			if (known && which != run.which) {
				end_run(connection, &run, now);
				if (run.which != UINT32_MAX)
					advance(connection, run.which, run.next);
				publisher = &room->publishers[which];
				run.which = which;
				run.next = connection->next[which];
			}
		}
		if (known && run.next < publisher->head) {
			const struct slot *slot = &publisher->slots[run.next & ring_mask];
			size_t wire_size = slot->wire_size;
			if (wire_size && size - used >= wire_size && !memcmp(at, wire_of(publisher, run.next), wire_size)) {
				if (slot->time != run.time) {
					end_run(connection, &run, now);
					run.time = slot->time;
				}
				run.next++;
				run.count++;
				used += wire_size;
				continue;
			}
		}
		end_run(connection, &run, now);
		if (run.which != UINT32_MAX)
			advance(connection, run.which, run.next);
		one = options.nats ? take_line(connection, at, size - used, now) : take_frame(connection, at, size - used, now);
		if (!one)
			break;
		used += one;
		if (run.which != UINT32_MAX)
			run.next = connection->next[run.which];
	}
	end_run(connection, &run, now);
	if (run.which != UINT32_MAX && connection->state != CLOSED)
		advance(connection, run.which, run.next);
	return used;
}

static void keep(struct connection *connection, uint8_t *data, size_t size)
{
	struct bytes *unread = &connection->unread;
	if (size && data == unread->data) {
		unread->size = size;
	} else if (size) {
		unread->size = 0;
		append(unread, data, size);
	} else if (unread->capacity > 4096) {
		discard(unread);
	} else {
		unread->size = 0;
	}
}

static size_t take_response(struct connection *connection, const uint8_t *data, size_t size);

/* Read once. What was left of an earlier read goes before it, unless it is of a long message; that grows in place. */
static void read_connection(struct connection *connection)
{
	struct bytes *unread = &connection->unread;
	size_t before = unread->size, room_left = SHARED_BYTES;
	uint8_t *data = shared;
	if (connection->need > SMALL_BYTES || before > SMALL_BYTES) {
		reserve(unread, connection->need > before ? connection->need + 16 : before + SHARED_BYTES);
		data = unread->data;
		room_left = unread->capacity - before;
	} else if (before) {
		memcpy(shared, unread->data, before);
	}
	connection->more = false;
	ssize_t got = stream_receive(connection, data + before, room_left);
	if (got < 0 && errno == EAGAIN)
		return;
	int64_t now = now_ns();
	last_event = now;
	if (got <= 0) {
		lose(connection, "%s", got ? strerror(errno) : "end of the stream");
		return;
	}
	total.received_bytes += got;
	size_t size = before + got, used = 0;
	if (connection->state == REQUESTED) {
		used = take_response(connection, data, size);
		if (connection->state == CLOSED || connection->state == REQUESTED) {
			if (connection->state != CLOSED)
				keep(connection, data, size);
			return;
		}
		if (options.nats)
			size = used + take_off_frames(connection, data + used, size - used);
	} else if (options.nats) {
		size = before + take_off_frames(connection, data + before, got);
	}
	if (connection->state == CLOSED)
		return;
	used += take(connection, data + used, size - used, now);
	if (connection->state == CLOSED)
		return;
	if (used) {
		if (data == unread->data)
			memmove(data, data + used, size - used);
		else
			data += used;
	}
	if (used == size)
		connection->need = 0;
	keep(connection, data, size - used);
}

/* --- opening --- */

static int64_t first_connect, last_response;
static uint32_t response_count, next_to_open;

static void opened(struct connection *connection)
{
	connection->state = OPEN;
	open_count++;
	opening_count--;
}

static int port_of(const struct connection *connection)
{
	return options.ports[connection->place % options.port_count];
}

static void request(struct connection *connection)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char key[25] = "", path[512] = "/", text[1024];
	int port = port_of(connection);
	for (int i = 0; i < 21; i++)
		key[i] = digits[random_bits() >> 20 & 63];
	memcpy(key + 21, "A==", 4); /* sixteen bytes have six characters' bits but for the last four */
	if (!options.nats)
		snprintf(path, sizeof path, "%s-%u", options.path_prefix, connection->index / options.members);
	int size = snprintf(text, sizeof text,
			    "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
			    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n%s\r\n",
			    path, port, key,
			    options.deflate ? "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n" : "");
	connection->state = REQUESTED;
	write_bytes(connection, (const uint8_t *)text, size);
}

static void negotiated(struct connection *connection, const char *extensions)
{
	connection->deflate = strcasestr(extensions, "permessage-deflate") != NULL;
	connection->fresh = strcasestr(extensions, "server_no_context_takeover") != NULL;
	const char *bits = strcasestr(extensions, "client_max_window_bits=");
	connection->window_bits = bits ? atoi(bits + strlen("client_max_window_bits=") + (bits[23] == '"')) : 15;
	if (connection->deflate && (!options.deflate || connection->window_bits < 9 || connection->window_bits > 15))
		lose(connection, "the server wants a deflate that was not offered or that zlib cannot: %s", extensions);
}

/* Take the response to the handshake; return its size if it is all there. */
static size_t take_response(struct connection *connection, const uint8_t *data, size_t size)
{
	static const char name[] = "\r\nSec-WebSocket-Extensions:";
	const char *text = (const char *)data, *end = memmem(data, size, "\r\n\r\n", 4);
	if (!end) {
		if (size > SMALL_BYTES / 2)
			lose(connection, "a response without an end");
		return 0;
	}
	if (size < 12 || memcmp(text, "HTTP/1.1 101", 12)) {
		lose(connection, "%.*s", (int)strcspn(text, "\r"), text);
		return 0;
	}
	last_response = now_ns();
	response_count++;
	for (const char *line = text; (line = memmem(line, end - line, "\r\n", 2)); line += 2) {
		if ((size_t)(end - line) < sizeof name || strncasecmp(line, name, sizeof name - 1))
			continue;
		char extensions[512];
		int length = strcspn(line + sizeof name - 1, "\r");
		snprintf(extensions, sizeof extensions, "%.*s", length, line + sizeof name - 1);
		negotiated(connection, extensions);
		break;
	}
	if (connection->state == CLOSED)
		return 0;
	if (options.nats) {
		char text_out[256];
		int length = snprintf(text_out, sizeof text_out,
				      "CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":%s,\"protocol\":1,"
				      "\"lang\":\"c\",\"version\":\"1\"}\r\nSUB room-%u 1\r\nPING\r\n",
				      options.echoes ? "true" : "false", connection->index / options.members);
		connection->state = SUBSCRIBED;
		write_frame(connection, 2, text_out, length);
	} else {
		opened(connection);
	}
	return end + 4 - text;
}

/* An address has fewer than 28 000 ports to connect from. */
static void bind_source(int fd, uint32_t index)
{
	int on = 1;
	struct sockaddr_in source = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + index / 20000)};
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
	if (bind(fd, (struct sockaddr *)&source, sizeof source))
		fail("bind");
}

#ifdef TLS
static void secure(struct connection *connection)
{
	if (!connection->tls && !(connection->tls = tls_start(connection->fd)))
		fail("TLS");
	connection->state = SECURING;
	int done = tls_handshake(connection->tls);
	if (done < 0)
		lose(connection, "the TLS handshake has failed");
	else if (done)
		request(connection);
}
#endif

static void begin(struct connection *connection)
{
#ifdef TLS
	if (options.tls) {
		secure(connection);
		return;
	}
#endif
	request(connection);
}

static void open_next(void)
{
	struct connection *connection = &connections[next_to_open++];
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_port = htons(port_of(connection)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int on = 1;
	connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (connection->fd < 0)
		fail("socket");
	setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (connection_count > 20000)
		bind_source(connection->fd, connection->index);
	opening_count++;
	connection->state = CONNECTING;
	if (!connect(connection->fd, (struct sockaddr *)&address, sizeof address)) {
		watch(connection, EPOLLIN, EPOLL_CTL_ADD);
		begin(connection);
	} else if (errno == EINPROGRESS) {
		watch(connection, EPOLLOUT, EPOLL_CTL_ADD);
	} else {
		lose(connection, "%s", strerror(errno));
	}
}

static void connected(struct connection *connection)
{
	int error = 0;
	socklen_t size = sizeof error;
	getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &size);
	if (error) {
		lose(connection, "%s", strerror(error));
		return;
	}
	watch(connection, EPOLLIN, EPOLL_CTL_MOD);
	begin(connection);
}

/* --- the loop --- */

static void wait_for_events(int milliseconds)
{
	static struct epoll_event events[EVENTS];
	int count = epoll_wait(poller, events, EVENTS, milliseconds);
	for (int i = 0; i < count; i++) {
		struct connection *connection = events[i].data.ptr;
		if (!connection) {
			uint64_t expirations;
			if (read(timer, &expirations, sizeof expirations) < 0 && errno != EAGAIN)
				fail("timer");
			continue;
		}
		if (connection->state == CONNECTING) {
			connected(connection);
			continue;
		}
#ifdef TLS
		if (connection->state == SECURING) {
			secure(connection);
			continue;
		}
#endif
		if (events[i].events & EPOLLOUT && connection->unsent.size)
			write_more(connection);
		connection->more = events[i].events & ~EPOLLOUT;
		while (connection->more && connection->state != CLOSED)
			read_connection(connection);
	}
}

static bool open_all(void)
{
	first_connect = last_response = now_ns();
	while (open_count < connection_count && !interrupted && !total.failed && !total.closed) {
		if (now_ns() - first_connect > OPEN_SECONDS * NANO) {
			say("only %u of %u connections are open after %d s", open_count, connection_count, OPEN_SECONDS);
			total.failed += connection_count - open_count;
			break;
		}
		while (next_to_open < connection_count && opening_count < options.concurrency && !total.failed)
			open_next();
		wait_for_events(100);
	}
	return !interrupted && open_count == connection_count && !total.closed;
}

/* Wait until it has been quiet for so long; bounded, as a server that pings is never quiet. */
static void idle(double seconds)
{
	int64_t bound = now_ns() + (int64_t)((seconds * 4 + 30) * 1e9);
	last_event = now_ns();
	while (!interrupted && now_ns() - last_event < seconds * 1e9 && now_ns() < bound)
		wait_for_events(20);
}

static struct measure {
	int64_t time;
	double cpu, server_cpu, server_cpus[64];
	struct results results;
} started, ended;

static struct measure measure(void)
{
	struct measure now = {.time = now_ns(), .cpu = cpu_seconds(), .results = total};
	now.server_cpu = server_cpu_seconds(now.server_cpus);
	return now;
}

static bool any_alive(void)
{
	for (uint32_t i = 0; i < publisher_count; i++)
		if (!publishers[i].dead)
			return true;
	return false;
}

static bool unpublished(uint64_t *count)
{
	*count = 0;
	for (uint32_t i = 0; i < publisher_count; i++)
		*count += publishers[i].dead || !options.rate ? 0 : publishers[i].scheduled - publishers[i].head;
	return *count > 0;
}

static int milliseconds_until(int64_t time)
{
	int64_t left = time - now_ns();
	return left <= 0 ? 0 : left > 100 * 1000000 ? 100 : (int)(left / 1000000 + 1);
}

static long rss_after = -1;

/* Publish until the interval is over, then wait for what is under way. */
static uint64_t run(void)
{
	int64_t begun = now_ns(), warm = begun + (int64_t)(options.warmup * 1e9), quiet = 0, deadline = INT64_MAX;
	uint64_t left = 0, closed = total.closed;
	bool over = false;
	start_time = INT64_MAX;
	schedule_start = begun + 1000000;
	phase = WARMING;
	for (uint32_t i = 0; i < publisher_count && !options.rate; i++)
		enqueue(&publishers[i]);
	while (!interrupted) {
		int64_t now = now_ns();
		if (total.closed != closed) {
			closed = total.closed;
			over = !any_alive();
		}
		if (phase == WARMING && (over || now >= warm)) {
			started = measure();
			start_time = started.time;
			phase = MEASURING;
		}
		if (phase == MEASURING && (over || now >= start_time + (int64_t)(options.seconds * 1e9))) {
			ended = measure();
			end_time = ended.time;
			deadline = ended.time + (int64_t)(options.drain * 1e9);
			rss_after = resident_kib();
			if (options.rate)
				schedule(now);
			phase = DRAINING;
		}
		if (phase == DRAINING) {
			bool done = !busy && !queue_count && !unpublished(&left);
			if (now >= deadline || (done && quiet && now >= quiet))
				break;
			if (!done)
				quiet = 0;
			else if (!quiet)
				quiet = now + (int64_t)(SETTLE_SECONDS * 1e9);
		} else if (options.rate) {
			schedule(now);
		}
		publish_queued(now_ns());
		int64_t until = phase == WARMING ? warm : phase == MEASURING ? start_time + (int64_t)(options.seconds * 1e9)
								: quiet      ? quiet
									     : deadline;
		wait_for_events(queue_count ? 0 : milliseconds_until(until));
	}
	if (phase != DRAINING) { /* interrupted */
		if (phase == WARMING)
			started = measure();
		ended = measure();
		rss_after = resident_kib();
	}
	unpublished(&left);
	return left;
}

static void count_lost(void)
{
	for (uint32_t i = 0; i < connection_count; i++) {
		struct connection *connection = &connections[i];
		for (uint32_t j = 0; j < options.publishers && connection->state == OPEN; j++)
			if (expects(connection, j) && !connection->room->publishers[j].dead)
				total.lost += connection->room->publishers[j].head - connection->next[j];
	}
}

static void say_goodbye(void)
{
	static const uint8_t code[] = {1000 >> 8, 1000 & 255};
	for (uint32_t i = 0; i < next_to_open; i++) {
		if (connections[i].state == OPEN && !connections[i].unsent.size)
			write_frame(&connections[i], 8, code, sizeof code);
		if (connections[i].state != CLOSED)
			close(connections[i].fd);
	}
}

/* --- the report --- */

static void print_number(const char *name, double value, bool known)
{
	if (known)
		printf("\"%s\":%.9g,", name, value);
	else
		printf("\"%s\":null,", name);
}

static void print_count(const char *name, uint64_t value)
{
	printf("\"%s\":%" PRIu64 ",", name, value);
}

static void report(bool ok, long rss_before, double open_cpu, uint64_t left)
{
	double seconds = (ended.time - started.time) / 1e9, open_seconds = (last_response - first_connect) / 1e9;
	uint64_t deliveries = ended.results.deliveries - started.results.deliveries;
	bool pids = options.pid_count > 0;
	double server_cpu = ended.server_cpu - started.server_cpu;
	printf("{\"ok\":%s,", ok ? "true" : "false");
	print_count("connections", open_count);
	print_number("handshakes_per_second", open_seconds > 0 ? response_count / open_seconds : 0, true);
	print_number("open_seconds", open_seconds, true);
	print_number("seconds", seconds, true);
	print_count("messages", ended.results.messages - started.results.messages);
	print_count("deliveries", deliveries);
	print_number("deliveries_per_second", seconds > 0 ? deliveries / seconds : 0, true);
	printf("\"latency_us\":{\"p50\":%.9g,\"p99\":%.9g,\"max\":%.9g},", percentile_us(0.5), percentile_us(0.99),
	       slowest / 1e3);
	print_count("lost", total.lost);
	print_count("doubled", total.doubled);
	print_count("disordered", total.disordered);
	print_count("changed", total.changed);
	print_count("unexpected", total.unexpected);
	print_count("closed", total.closed);
	print_count("unpublished", left);
	print_number("generator_cpu_share", seconds > 0 ? (ended.cpu - started.cpu) / seconds : 0, true);
	print_number("server_cpu_seconds", server_cpu, pids);
	printf("\"server_cpus_seconds\":["); /* of each process, in the order of --pids */
	for (int i = 0; i < options.pid_count; i++)
		printf("%s%.9g", i ? "," : "", ended.server_cpus[i] - started.server_cpus[i]);
	printf("],");
	print_number("server_cpu_us_per_delivery", deliveries ? server_cpu * 1e6 / deliveries : 0, pids && deliveries);
	print_number("open_server_cpu_seconds", open_cpu, pids);
	print_number("rss_before_kib", rss_before, pids && rss_before >= 0);
	print_number("rss_after_kib", rss_after, pids && rss_after >= 0);
	printf("\"deflate\":%s,", compressed ? "true" : "false");
	printf("\"bytes_received\":%" PRIu64 "}\n", ended.results.received_bytes - started.results.received_bytes);
	fflush(stdout);
}

/* --- options --- */

static double number(const char *name, const char *text, double least, double most, bool whole)
{
	char *end;
	errno = 0;
	double value = strtod(text, &end);
	if (!*text || *end || errno || !(value >= least && value <= most) || (whole && value != (double)(int64_t)value))
		usage("--%s: %s is not a%s number from %.10g to %.10g", name, text, whole ? " whole" : "", least, most);
	return value;
}

static void parse_ports(const char *text)
{
	char copy[1024], *rest = copy;
	snprintf(copy, sizeof copy, "%s", text);
	options.port_count = 0;
	for (char *word; (word = strsep(&rest, ","));) {
		if (options.port_count == sizeof options.ports / sizeof *options.ports)
			usage("--port: more than %d", options.port_count);
		options.ports[options.port_count++] = number("port", word, 1, 65535, true);
	}
}

static void parse_pids(const char *text)
{
	char copy[1024], *rest = copy;
	snprintf(copy, sizeof copy, "%s", text);
	for (char *word; (word = strsep(&rest, ","));) {
		if (options.pid_count == sizeof options.pids / sizeof *options.pids)
			usage("--pids: more than %d", options.pid_count);
		options.pids[options.pid_count++] = number("pids", word, 1, INT32_MAX, true);
	}
	if (resident_kib() < 0)
		usage("--pids: %s: one of them does not run", text);
}

enum {
	PORT = 256, ROOMS, MEMBERS, PUBLISHERS, WINDOW, SIZE, RATE, SECONDS, WARMUP, DRAIN, DIALECT, ECHOES, DEFLATE, PIDS,
	CONCURRENCY, PATH_PREFIX, IDLE, BINARY, OVER_TLS, BURST
};

static const struct option long_options[] = {
	{"port", required_argument, NULL, PORT}, {"rooms", required_argument, NULL, ROOMS},
	{"members", required_argument, NULL, MEMBERS}, {"publishers", required_argument, NULL, PUBLISHERS},
	{"window", required_argument, NULL, WINDOW}, {"size", required_argument, NULL, SIZE},
	{"rate", required_argument, NULL, RATE}, {"seconds", required_argument, NULL, SECONDS},
	{"warmup", required_argument, NULL, WARMUP}, {"drain", required_argument, NULL, DRAIN},
	{"dialect", required_argument, NULL, DIALECT},
	{"echoes", no_argument, NULL, ECHOES}, {"deflate", no_argument, NULL, DEFLATE},
	{"pids", required_argument, NULL, PIDS}, {"connect-concurrency", required_argument, NULL, CONCURRENCY},
	{"path-prefix", required_argument, NULL, PATH_PREFIX}, {"idle", no_argument, NULL, IDLE},
	{"binary", no_argument, NULL, BINARY}, {"burst", required_argument, NULL, BURST},
#ifdef TLS
	{"tls", no_argument, NULL, OVER_TLS},
#endif
	{0}};

static void parse(int count, char **words)
{
	int which, index = 0;
	opterr = 0;
	while ((which = getopt_long(count, words, ":", long_options, &index)) != -1) {
		const char *name = long_options[index].name;
		switch (which) {
		case PORT: parse_ports(optarg); break;
		case ROOMS: options.rooms = number(name, optarg, 1, MOST_CONNECTIONS, true); break;
		case MEMBERS: options.members = number(name, optarg, 1, MOST_CONNECTIONS, true); break;
		case PUBLISHERS:
			options.all_publish = !strcmp(optarg, "all");
			if (!options.all_publish)
				options.publishers = number(name, optarg, 1, MOST_CONNECTIONS, true);
			break;
		case WINDOW: options.window = number(name, optarg, 1, 1 << 20, true); break;
		case SIZE: options.size = number(name, optarg, NAME_BYTES, 64 << 20, true); break;
		case RATE: options.rate = number(name, optarg, 0.01, 1e8, false); break;
		case SECONDS: options.seconds = number(name, optarg, 0.01, 86400, false); break;
		case WARMUP: options.warmup = number(name, optarg, 0, 3600, false); break;
		case DRAIN: options.drain = number(name, optarg, 0.01, 3600, false); break;
		case DIALECT:
			options.nats = !strcmp(optarg, "nats");
			if (!options.nats && strcmp(optarg, "relay"))
				usage("--dialect: %s is neither relay nor nats", optarg);
			break;
		case ECHOES: options.echoes = true; break;
		case DEFLATE: options.deflate = true; break;
		case PIDS: parse_pids(optarg); break;
		case CONCURRENCY: options.concurrency = number(name, optarg, 1, 65536, true); break;
		case PATH_PREFIX:
			options.path_prefix = optarg;
			if (optarg[0] != '/' || strlen(optarg) > 400 || strpbrk(optarg, " \r\n"))
				usage("--path-prefix: has to begin with /, without spaces, in 400 characters");
			break;
		case IDLE: options.idle = true; break;
		case BINARY: options.binary = true; break;
		case BURST: options.burst = number(name, optarg, 1, 1 << 20, true); break;
		case OVER_TLS: options.tls = true; break;
		case ':': usage("%s needs a value", words[optind - 1]);
		default: usage("%s is not an option", words[optind - 1]);
		}
	}
	if (optind < count)
		usage("%s is not an option", words[optind]);
	if (!options.port_count)
		usage("--port is needed");
	if (!options.members)
		usage("--members is needed");
}

static uint32_t power_of_two(uint64_t least)
{
	uint32_t power = 1;
	while (power < least)
		power *= 2;
	return power;
}

/* What the options mean together. */
static void settle(void)
{
	struct rlimit limit = {0};
	if (options.all_publish)
		options.publishers = options.members;
	if (options.idle)
		options.publishers = 1;
	else if (options.members < 2)
		usage("--members: one member has nobody to publish to");
	if (options.publishers > options.members)
		usage("--publishers: %u of %u members", options.publishers, options.members);
	if (options.burst > 1 && !options.rate)
		usage("--burst: only with --rate");
	if (options.nats && options.deflate)
		usage("--deflate: not with --dialect nats");
	uint64_t count = (uint64_t)options.rooms * options.members;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	if (count > MOST_CONNECTIONS || count + 32 > limit.rlim_cur)
		usage("--members: %" PRIu64 " connections, but there may be %llu open files (ulimit -n)", count,
		      (unsigned long long)limit.rlim_cur);
	connection_count = count;
	publisher_count = options.rooms * options.publishers;
	if (!options.window) /* with --rate only the ring's size */
		options.window = !options.rate           ? 1
				 : options.size > 65536 ? 64
				 : options.size > 1024  ? (4u << 20) / options.size
							: 4096;
	/* One more than the window; and with --deflate more than a compressor remembers, so that nothing comes again. */
	uint64_t ring = options.window + 1;
	if (options.deflate && ring < 65536 / options.size + 2)
		ring = 65536 / options.size + 2;
	ring_size = power_of_two(ring < 16 ? 16 : ring);
	if (options.idle)
		ring_size = 1;
	ring_mask = ring_size - 1;
	uint64_t bytes = ((uint64_t)options.size + 80) * (options.deflate ? 2 : 1) * ring_size * publisher_count;
	if (bytes + count * options.publishers * 4 > MOST_BYTES)
		usage("--publishers, --window and --size: together they need %" PRIu64 " MiB to remember messages",
		      (bytes + count * options.publishers * 4) >> 20);
}

static void interrupt(int number_of_signal)
{
	(void)number_of_signal;
	interrupted = 1;
}

int main(int count, char **words)
{
	parse(count, words);
	settle();
	mallopt(M_MMAP_THRESHOLD, 1 << 25); /* so that memory for long messages is not fetched anew for each */
	mallopt(M_TRIM_THRESHOLD, 1 << 30);
	struct sigaction action = {.sa_handler = interrupt};
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	random_state = (uint64_t)now_ns() | 1;
	poller = epoll_create1(EPOLL_CLOEXEC);
	timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	struct epoll_event tick = {.events = EPOLLIN, .data.ptr = NULL};
	if (poller < 0 || timer < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, timer, &tick))
		fail("epoll");
	connections = allocate(connection_count, sizeof *connections);
	for (uint32_t i = 0; i < connection_count; i++) {
		connections[i].index = i;
		connections[i].place = i % options.members;
	}
	prepare_rooms();
	long rss_before = resident_kib();
	double before_opening = server_cpu_seconds(NULL);
	bool all_open = open_all();
	double open_cpu = server_cpu_seconds(NULL) - before_opening;
	uint64_t left = 0;
	started = ended = measure();
	for (uint32_t i = 0; i < connection_count; i++)
		compressed = compressed || connections[i].deflate;
	if (all_open && options.idle) {
		idle(options.seconds);
		ended = measure();
		rss_after = resident_kib();
	} else if (all_open) {
		prepare_messages();
		left = run();
		count_lost();
	}
	bool ok = all_open && !interrupted && !(total.failed + total.lost + total.doubled + total.disordered + total.changed +
						total.unexpected + total.closed);
	if (left)
		say("%" PRIu64 " messages were due but could not be published in time", left);
	if (interrupted)
		say("interrupted");
	report(ok, rss_before, open_cpu, left);
	say_goodbye();
	return ok ? 0 : 1;
}
