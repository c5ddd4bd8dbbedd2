/* The compiled parts of wsrelay: parse() and send_all(). Optional.

   wsrelay/wire/pure.py is the reference: the same functions in Python, the same results for all arguments.
   wsrelay/wire/native.py chooses; tests/wire/test_native.py and fuzz/ compare.

   Limited API of Python 3.11: one build runs on all later versions. Must not live here: state, rooms, policies,
   compressed messages, uncommon frames. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* macOS; Python ignores SIGPIPE */
#endif

/* ---- parse ---- */

enum { TEXT = 0x81, BINARY = 0x82, MASKED = 0x80, KEY_BYTES = 4 };

#define HIGH_BITS UINT64_C(0x8080808080808080)

/* One common frame: where its parts are in the data. */
typedef struct {
    Py_ssize_t header; /* bytes in front of the key */
    Py_ssize_t length; /* bytes of payload, behind the key */
} Frame;

/* Read the header of the frame that the data begins with. Returns whether the frame is common and complete.
   RFC 6455 section 5.2: the length is in the shortest form, in network byte order. */
static int read_frame(const unsigned char *data, Py_ssize_t size, Py_ssize_t max_payload, long kinds, Frame *frame) {
    if (size < 2 + KEY_BYTES || (data[0] != TEXT && data[0] != BINARY) || !(data[0] & kinds & 3)
        || !(data[1] & MASKED))
        return 0;
    uint64_t length = data[1] & 0x7F, shortest = 0;
    int extended = length < 126 ? 0 : length == 126 ? 2 : 8;
    if (extended) {
        if (size < 2 + extended + KEY_BYTES)
            return 0;
        shortest = extended == 2 ? 126 : 0x10000;
        length = 0;
        for (int at = 0; at < extended; at++)
            length = length << 8 | data[2 + at];
    }
    frame->header = 2 + extended;
    /* Compared without a sum, and with what there is first: nothing overflows for any 64-bit length. */
    if (length < shortest || length > (uint64_t)(size - frame->header - KEY_BYTES) || (Py_ssize_t)length > max_payload)
        return 0;
    frame->length = (Py_ssize_t)length;
    return 1;
}

/* Unmask a payload (RFC 6455 section 5.3). Returns whether it is ASCII. Compilers make vectors of the loop. */
static int unmask(unsigned char *restrict to, const unsigned char *restrict from, Py_ssize_t length,
                  const unsigned char *key) {
    uint64_t word, keys, seen = 0;
    memcpy(&keys, key, KEY_BYTES);
    memcpy((unsigned char *)&keys + KEY_BYTES, key, KEY_BYTES);
    Py_ssize_t at = 0;
    for (; at + 8 <= length; at += 8) {
        memcpy(&word, from + at, 8);
        word ^= keys;
        seen |= word;
        memcpy(to + at, &word, 8);
    }
    for (; at < length; at++) {
        to[at] = from[at] ^ key[at & 3];
        seen |= to[at];
    }
    return !(seen & HIGH_BITS);
}

/* Whether text is UTF-8 by RFC 3629 section 4: no surrogates, no overlong forms, at most U+10FFFF. */
static int is_utf8(const unsigned char *text, Py_ssize_t length) {
    const unsigned char *end = text + length;
    uint64_t word;
    while (text < end) {
        unsigned char lead = *text, low = 0x80, high = 0xBF;
        if (lead < 0x80) {
            for (text++; end - text >= 8; text += 8) {
                memcpy(&word, text, 8);
                if (word & HIGH_BITS)
                    break;
            }
            continue;
        }
        if (lead < 0xC2 || lead > 0xF4)
            return 0;
        Py_ssize_t more = lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
        if (end - text <= more)
            return 0;
        /* The second byte excludes overlong forms (E0, F0), surrogates (ED) and what is above U+10FFFF (F4). */
        if (lead == 0xE0)
            low = 0xA0;
        else if (lead == 0xED)
            high = 0x9F;
        else if (lead == 0xF0)
            low = 0x90;
        else if (lead == 0xF4)
            high = 0x8F;
        if (text[1] < low || text[1] > high)
            return 0;
        for (Py_ssize_t at = 2; at <= more; at++)
            if ((text[at] & 0xC0) != 0x80)
                return 0;
        text += more + 1;
    }
    return 1;
}

static PyObject *parse(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    if (count != 4 || !PyBytes_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "parse(data: bytes, max_payload_bytes, kinds, most_bytes)");
        return NULL;
    }
    const unsigned char *data = (const unsigned char *)PyBytes_AsString(args[0]);
    Py_ssize_t size = PyBytes_Size(args[0]);
    Py_ssize_t max_payload = PyLong_AsSsize_t(args[1]);
    long kinds = PyLong_AsLong(args[2]);
    Py_ssize_t most = PyLong_AsSsize_t(args[3]);
    if (PyErr_Occurred())
        return NULL;

    /* First the sizes, from the headers alone, so that the result is allocated once and is not too large. */
    Frame frame;
    Py_ssize_t at = 0, joined = 0, frames = 0;
    while (read_frame(data + at, size - at, max_payload, kinds, &frame)) {
        at += frame.header + KEY_BYTES + frame.length;
        joined += frame.header + frame.length;
        if (joined >= most)
            break;
    }
    PyObject *result = PyBytes_FromStringAndSize(NULL, joined);
    if (result == NULL)
        return NULL;
    unsigned char *to = (unsigned char *)PyBytes_AsString(result);
    Py_ssize_t end = at, filled = 0;
    for (at = 0; at < end; frames++) {
        const unsigned char *header = data + at;
        read_frame(header, size - at, max_payload, kinds, &frame); /* as before: true */
        const unsigned char *key = header + frame.header;
        unsigned char *payload = to + filled + frame.header;
        memcpy(to + filled, header, (size_t)frame.header);
        to[filled + 1] &= 0x7F; /* not masked */
        int ascii = unmask(payload, key + KEY_BYTES, frame.length, key);
        if (!ascii && header[0] == TEXT && !is_utf8(payload, frame.length))
            break;
        at += frame.header + KEY_BYTES + frame.length;
        filled += frame.header + frame.length;
    }
    if (filled < joined) { /* invalid text: rare, so a copy */
        PyObject *shorter = PyBytes_FromStringAndSize((const char *)to, filled);
        Py_DECREF(result);
        result = shorter;
    }
    PyObject *number = PyLong_FromSsize_t(frames), *rest = PyLong_FromSsize_t(at), *answer = NULL;
    if (result != NULL && number != NULL && rest != NULL)
        answer = PyTuple_Pack(3, result, number, rest);
    Py_XDECREF(result);
    Py_XDECREF(number);
    Py_XDECREF(rest);
    return answer;
}

/* ---- send_all ---- */

/* The beginning of a socket object in CPython's Modules/socketmodule.c. No interface promises it, so find_sockets()
   checks it when the module is imported (TRAPS 129). */
typedef struct {
    PyObject_HEAD
    int descriptor; /* -1: closed */
    int family, type, protocol;
    void *errorhandler;
    int64_t timeout; /* ns; 0: non-blocking; negative: blocking */
} Socket;

/* The C function of `_socket.socket.send`; NULL: sockets are not as expected, and each `send` is called. The function
   identifies the method: no other class has it, and Python binds it to sockets only. */
static PyCFunction socket_send = NULL;

/* Return the socket behind a `send` if it is one that send(2) can be called for. Blocking ones, and those with a
   timeout, are left to Python, which releases the GIL for them. */
static Socket *plain_socket(PyObject *send) {
    if (socket_send == NULL || !Py_IS_TYPE(send, &PyCFunction_Type) || PyCFunction_GetFunction(send) != socket_send)
        return NULL;
    Socket *found = (Socket *)PyCFunction_GetSelf(send);
    return found != NULL && found->timeout == 0 ? found : NULL;
}

/* Put (data, taken) into the dict. `taken` is stolen, and may be NULL after an error. Returns -1 with an error set. */
static int add_partial(PyObject *unsent, PyObject *member, PyObject *data, PyObject *taken) {
    PyObject *value = taken == NULL ? NULL : PyTuple_Pack(2, data, taken);
    Py_XDECREF(taken);
    int failed = value == NULL ? -1 : PyDict_SetItem(unsent, member, value);
    Py_XDECREF(value);
    return failed;
}

/* Put the current exception into the dict, or (data, 0) for an OSError. Others than Exception stay set: -1. */
static int add_error(PyObject *unsent, PyObject *member, PyObject *data) {
    if (!PyErr_ExceptionMatches(PyExc_Exception))
        return -1;
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback != NULL)
        PyException_SetTraceback(error, traceback);
    int failed = PyErr_GivenExceptionMatches(error, PyExc_OSError) ? add_partial(unsent, member, data, PyLong_FromLong(0))
                                                                   : PyDict_SetItem(unsent, member, error);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return failed;
}

/* Call any `send` and put what it did not take into the dict. Returns -1 with an error set. */
static int call_send(PyObject *unsent, PyObject *member, PyObject *send, PyObject *data) {
    PyObject *taken = PyObject_CallFunctionObjArgs(send, data, NULL);
    if (taken == NULL)
        return add_error(unsent, member, data);
    PyObject *size = PyLong_FromSsize_t(PyBytes_Size(data));
    int differs = size == NULL ? -1 : PyObject_RichCompareBool(taken, size, Py_NE);
    Py_XDECREF(size);
    if (differs == 1)
        return add_partial(unsent, member, data, taken);
    Py_DECREF(taken);
    return differs;
}

/* Call send(2) and put what it did not take into the dict. Returns -1 with an error set.

   The GIL is kept. The sockets never wait; a send takes some 4 µs, so 1024 of them about as long as CPython lets a
   thread run (5 ms). Released for each, it would be lost to another thread again and again. And while it is kept, no
   other thread closes a socket between the look at its descriptor and send(2). */
static int socket_write(PyObject *unsent, PyObject *member, PyObject *data, Socket *to) {
    const char *bytes = PyBytes_AsString(data);
    size_t size = (size_t)PyBytes_Size(data);
    ssize_t taken;
    do
        taken = sendto(to->descriptor, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
    while (taken < 0 && errno == EINTR);
    /* An errno is an OSError: EAGAIN, a reset, EBADF of a closed socket, whose descriptor is -1. */
    return taken == (ssize_t)size ? 0 : add_partial(unsent, member, data, PyLong_FromSsize_t(taken < 0 ? 0 : taken));
}

static PyObject *send_all(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    if (count != 3 || !PyDict_CheckExact(args[0]) || !PyBytes_Check(args[2])) {
        PyErr_SetString(PyExc_TypeError, "send_all(members: dict, but, data: bytes)");
        return NULL;
    }
    PyObject *but = args[1], *data = args[2];
    /* A copy, because a call may change the dict. Nothing else has it, so it keeps what is in use. */
    PyObject *members = PyDict_Copy(args[0]), *unsent = PyDict_New(), *member, *send;
    int failed = unsent == NULL || members == NULL ? -1 : 0;
    Py_ssize_t at = 0;
    while (!failed && PyBytes_Size(data) && PyDict_Next(members, &at, &member, &send)) {
        if (member == but)
            continue;
        Socket *to = plain_socket(send);
        failed = to != NULL ? socket_write(unsent, member, data, to) : call_send(unsent, member, send, data);
    }
    Py_XDECREF(members);
    if (failed)
        Py_CLEAR(unsent);
    return unsent;
}

/* ---- the module ---- */

/* Call a method of the socket and discard its result. Returns whether there was no error. */
#define DO(...) discard(PyObject_CallMethod(__VA_ARGS__))

static int discard(PyObject *result) {
    Py_XDECREF(result);
    return result != NULL;
}

/* Whether the attributes of a fresh socket are where Socket has them, in three states. */
static int is_as_declared(PyObject *fresh, long descriptor) {
    Socket *found = (Socket *)fresh;
    return DO(fresh, "settimeout", "d", 1.5) && found->descriptor == descriptor && found->timeout == 1500000000
           && DO(fresh, "setblocking", "i", 1) && found->descriptor == descriptor && found->timeout < 0
           && DO(fresh, "setblocking", "i", 0) && found->descriptor == descriptor && found->timeout == 0
           && DO(fresh, "close", NULL) && found->descriptor == -1;
}

static long long_of(PyObject *number) {
    long value = number == NULL ? -1 : PyLong_AsLong(number);
    Py_XDECREF(number);
    return value;
}

/* Set socket_send if sockets are laid out as Socket. Any error, such as EMFILE, means that they are not known. */
static void find_sockets(void) {
    PyObject *module = PyImport_ImportModule("_socket");
    PyObject *class = module == NULL ? NULL : PyObject_GetAttrString(module, "socket");
    PyObject *fresh = class == NULL ? NULL : PyObject_CallNoArgs(class);
    PyObject *send = fresh == NULL ? NULL : PyObject_GetAttrString(fresh, "send");
    if (send != NULL && Py_IS_TYPE(send, &PyCFunction_Type) && PyCFunction_GetSelf(send) == fresh
        && long_of(PyObject_GetAttrString(class, "__basicsize__")) >= (long)sizeof(Socket)
        && is_as_declared(fresh, long_of(PyObject_CallMethod(fresh, "fileno", NULL))))
        socket_send = PyCFunction_GetFunction(send);
    PyErr_Clear();
    if (fresh != NULL && !DO(fresh, "close", NULL)) /* again: an open one would be a ResourceWarning */
        PyErr_Clear();
    Py_XDECREF(send);
    Py_XDECREF(fresh);
    Py_XDECREF(class);
    Py_XDECREF(module);
}

static int execute(PyObject *module) {
    const char *pure = getenv("WSRELAY_PURE");
    if (pure != NULL && *pure != '\0') {
        PyErr_SetString(PyExc_ImportError, "WSRELAY_PURE is set");
        return -1;
    }
    find_sockets();
    return PyModule_AddIntConstant(module, "KNOWS_SOCKETS", socket_send != NULL);
}

#define FAST(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef methods[] = {
    {"parse", FAST(parse), METH_FASTCALL, "See wsrelay.wire.pure.parse."},
    {"send_all", FAST(send_all), METH_FASTCALL, "See wsrelay.wire.pure.send_all."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{Py_mod_exec, execute}, {0, NULL}};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "wsrelay._native",
    .m_doc = "The compiled parts of wsrelay; see wsrelay.wire.native.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__native(void) {
    return PyModuleDef_Init(&definition);
}
