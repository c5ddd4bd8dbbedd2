/* See load_tls.h. Certificates are not verified. No session is kept, so each handshake is a full one. */
#include "load_tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdint.h>

#define READ_AHEAD_BYTES (128 * 1024) /* several records in one system call */

static SSL_CTX *context;

static SSL_CTX *make_context(void)
{
	SSL_CTX *made = SSL_CTX_new(TLS_client_method());
	if (!made)
		return NULL;
	SSL_CTX_set_verify(made, SSL_VERIFY_NONE, NULL);
	SSL_CTX_set_session_cache_mode(made, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_mode(made, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_read_ahead(made, 1);
	SSL_CTX_set_default_read_buffer_len(made, READ_AHEAD_BYTES);
	return made;
}

/* struct tls is OpenSSL's SSL. */
static SSL *of(struct tls *tls)
{
	return (SSL *)tls;
}

struct tls *tls_start(int fd)
{
	if (!context)
		context = make_context();
	SSL *made = context ? SSL_new(context) : NULL;
	if (!made || !SSL_set_fd(made, fd))
		return NULL;
	SSL_set_connect_state(made);
	return (struct tls *)made;
}

int tls_handshake(struct tls *tls)
{
	ERR_clear_error();
	int result = SSL_do_handshake(of(tls));
	if (result == 1)
		return 1;
	/* A client's flight is small: it never waits to write. */
	return SSL_get_error(of(tls), result) == SSL_ERROR_WANT_READ ? 0 : -1;
}

/* 0 for the end of the stream, or -1 with errno. */
static ssize_t failure(struct tls *tls, int result)
{
	switch (SSL_get_error(of(tls), result)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE: errno = EAGAIN; return -1;
	case SSL_ERROR_ZERO_RETURN: return 0;
	case SSL_ERROR_SYSCALL: errno = errno ? errno : ECONNRESET; return -1;
	default: errno = EPROTO; return -1;
	}
}

ssize_t tls_send(struct tls *tls, const void *data, size_t size)
{
	size_t sent = 0, written;
	while (sent < size) {
		ERR_clear_error();
		int result = SSL_write_ex(of(tls), (const uint8_t *)data + sent, size - sent, &written);
		if (result <= 0)
			return sent ? (ssize_t)sent : failure(tls, result);
		sent += written;
	}
	return sent;
}

ssize_t tls_receive(struct tls *tls, void *data, size_t size)
{
	size_t got = 0, read;
	while (got < size) {
		ERR_clear_error();
		int result = SSL_read_ex(of(tls), (uint8_t *)data + got, size - got, &read);
		if (result <= 0)
			return got ? (ssize_t)got : failure(tls, result);
		got += read;
	}
	return got;
}

void tls_free(struct tls *tls)
{
	SSL_free(of(tls));
}
