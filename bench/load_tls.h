/* TLS for load.c: a client's side of a connection, on a socket that does not block.
 *
 * Without OpenSSL, load.c is compiled alone and has no --tls; see toolchain.py.
 */
#ifndef LOAD_TLS_H
#define LOAD_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct tls;

/* The handshake. 1: done; 0: wait until the socket can be read; -1: failed. */
struct tls *tls_start(int fd);
int tls_handshake(struct tls *tls);

/* Like send and recv: the count of plain bytes, or -1 with errno; EAGAIN if it has to wait. tls_receive reads until the
 * buffer is full or nothing is left; if the buffer is full, more may be within. */
ssize_t tls_send(struct tls *tls, const void *data, size_t size);
ssize_t tls_receive(struct tls *tls, void *data, size_t size);

void tls_free(struct tls *tls);

#endif
