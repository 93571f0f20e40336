/* SPDX-License-Identifier: MIT */
#include "hsm/wire.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/text.h"
#include "hsm/hsm.h"

#define WIRE_PREFIX 4 /* bytes of the length before a frame */

const char *
wire_op_name(uint8_t op)
{
    static const char *const names[] = {
        [WIRE_SETUP] = "setup",
        [WIRE_ADD_KEY] = "add-key",
        [WIRE_STATE] = "state",
        [WIRE_PUBLIC] = "public",
        [WIRE_SIGN] = "sign",
        [WIRE_DECRYPT] = "decrypt",
        [WIRE_REENCRYPT] = "reencrypt",
        [WIRE_SEAL] = "seal",
        [WIRE_UNSEAL] = "unseal",
        [WIRE_RANDOM] = "random",
        [WIRE_DEVICE_KEY_NEW] = "device-key-new",
        [WIRE_DEVICE_KEY_CSR] = "device-key-csr",
        [WIRE_DEVICE_KEY_PFX] = "device-key-pfx",
        [WIRE_OPEN_CONTENT_KEY] = "open-content-key",
    };

    return op < CC_COUNT(names) && names[op] != NULL ? names[op] : "administration";
}

static void
wire_store(uint8_t *out, uint64_t value, size_t len)
{
    while (len-- > 0) {
        out[len] = (uint8_t)value;
        value >>= 8;
    }
}

static uint64_t
wire_load(const uint8_t *in, size_t len)
{
    uint64_t value = 0;

    for (size_t i = 0; i < len; i++)
        value = value << 8 | in[i];
    return value;
}

static int
wire_put_int(struct cc_buf *frame, uint64_t value, size_t len, struct cc_err *err)
{
    uint8_t bytes[8];

    wire_store(bytes, value, len);
    return cc_buf_add(frame, bytes, len, err);
}

int
wire_put_u8(struct cc_buf *frame, uint8_t value, struct cc_err *err)
{
    return wire_put_int(frame, value, 1, err);
}

int
wire_put_u16(struct cc_buf *frame, uint16_t value, struct cc_err *err)
{
    return wire_put_int(frame, value, 2, err);
}

int
wire_put_u32(struct cc_buf *frame, uint32_t value, struct cc_err *err)
{
    return wire_put_int(frame, value, 4, err);
}

int
wire_put_u64(struct cc_buf *frame, uint64_t value, struct cc_err *err)
{
    return wire_put_int(frame, value, 8, err);
}

int
wire_put_bytes(struct cc_buf *frame, const void *data, size_t len, struct cc_err *err)
{
    if (len > WIRE_FRAME_MAX)
        return cc_err_set(err, CC_DOM_INPUT, HSM_FAULT_INPUT, "a field of %zu bytes", len);
    if (wire_put_u32(frame, (uint32_t)len, err) != 0)
        return -1;
    return len == 0 ? 0 : cc_buf_add(frame, data, len, err);
}

int
wire_put_str(struct cc_buf *frame, const char *text, struct cc_err *err)
{
    return wire_put_bytes(frame, text, text == NULL ? 0 : strlen(text), err);
}

static int
wire_malformed(struct cc_err *err, const char *what)
{
    cc_err_set(err, CC_DOM_INPUT, 0, "malformed frame: %s", what);
    return -1;
}

static int
wire_take(struct cc_bytes *rest, size_t len, const uint8_t **ret, struct cc_err *err)
{
    if (rest->len < len)
        return wire_malformed(err, "cut short");
    *ret = rest->data;
    rest->data += len;
    rest->len -= len;
    return 0;
}

static int
wire_get_int(struct cc_bytes *rest, size_t len, uint64_t *ret, struct cc_err *err)
{
    const uint8_t *in = NULL;

    if (wire_take(rest, len, &in, err) != 0)
        return -1;
    *ret = wire_load(in, len);
    return 0;
}

int
wire_get_u8(struct cc_bytes *rest, uint8_t *ret, struct cc_err *err)
{
    uint64_t value = 0;

    if (wire_get_int(rest, 1, &value, err) != 0)
        return -1;
    *ret = (uint8_t)value;
    return 0;
}

int
wire_get_u16(struct cc_bytes *rest, uint16_t *ret, struct cc_err *err)
{
    uint64_t value = 0;

    if (wire_get_int(rest, 2, &value, err) != 0)
        return -1;
    *ret = (uint16_t)value;
    return 0;
}

int
wire_get_u32(struct cc_bytes *rest, uint32_t *ret, struct cc_err *err)
{
    uint64_t value = 0;

    if (wire_get_int(rest, 4, &value, err) != 0)
        return -1;
    *ret = (uint32_t)value;
    return 0;
}

int
wire_get_u64(struct cc_bytes *rest, uint64_t *ret, struct cc_err *err)
{
    return wire_get_int(rest, 8, ret, err);
}

int
wire_get_bytes(struct cc_bytes *rest, struct cc_bytes *ret, struct cc_err *err)
{
    struct cc_bytes after = *rest;
    const uint8_t *in = NULL;
    uint32_t len = 0;

    if (wire_get_u32(&after, &len, err) != 0 || wire_take(&after, len, &in, err) != 0)
        return -1;
    *ret = (struct cc_bytes){ .data = in, .len = len };
    *rest = after;
    return 0;
}

int
wire_get_str(struct cc_bytes *rest, char *ret, size_t size, struct cc_err *err)
{
    struct cc_bytes after = *rest;
    struct cc_bytes text = { 0 };

    if (wire_get_bytes(&after, &text, err) != 0)
        return -1;
    if (text.len >= size)
        return wire_malformed(err, "a text too long");
    if (text.len > 0 && memchr(text.data, '\0', text.len) != NULL)
        return wire_malformed(err, "a NUL in a text");
    if (text.len > 0)
        memcpy(ret, text.data, text.len);
    ret[text.len] = '\0';
    *rest = after;
    return 0;
}

int
wire_get_end(const struct cc_bytes *rest, struct cc_err *err)
{
    return rest->len == 0 ? 0 : wire_malformed(err, "bytes behind the last field");
}

/* Waits until fd can be read or written. */
static int
wire_wait(int fd, short events, int64_t deadline, bool *ret_deadline, struct cc_err *err)
{
    struct pollfd p = { .fd = fd, .events = events };

    for (;;) {
        const int left = deadline == WIRE_NO_DEADLINE ? -1 : cc_deadline_left(deadline);
        const int n = poll(&p, 1, left);

        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return cc_err_set_errno(err, errno, "waiting for the token process");
        if (n == 0 && cc_deadline_left(deadline) == 0) {
            if (ret_deadline != NULL)
                *ret_deadline = true;
            return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNAVAILABLE,
                    "no answer within the deadline");
        }
    }
}

static int
wire_gone(struct cc_err *err)
{
    return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNAVAILABLE, "the other end is gone");
}

static bool
wire_is_gone(int errnum)
{
    return errnum == EPIPE || errnum == ECONNRESET || errnum == ENOTCONN;
}

/* Takes the n bytes that were sent off the front of the two vectors. */
static void
wire_advance(struct iovec iov[2], size_t n)
{
    for (int i = 0; i < 2; i++) {
        const size_t part = n < iov[i].iov_len ? n : iov[i].iov_len;

        iov[i].iov_base = (uint8_t *)iov[i].iov_base + part;
        iov[i].iov_len -= part;
        n -= part;
    }
}

int
wire_send(int fd, const struct cc_buf *frame, int64_t deadline, struct cc_err *err)
{
    uint8_t prefix[WIRE_PREFIX];
    struct iovec iov[2] = {
        { .iov_base = prefix, .iov_len = sizeof(prefix) },
        { .iov_base = frame->data, .iov_len = frame->len },
    };

    if (frame->len == 0 || frame->len > WIRE_FRAME_MAX)
        return cc_err_set(err, CC_DOM_INTERNAL, 0, "a frame of %zu bytes", frame->len);
    wire_store(prefix, frame->len, sizeof(prefix));

    while (iov[0].iov_len + iov[1].iov_len > 0) {
        const struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
        const ssize_t n = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n >= 0)
            wire_advance(iov, (size_t)n);
        else if (wire_is_gone(errno))
            return wire_gone(err);
        else if (errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK)
            return cc_err_set_errno(err, errno, "sending a frame");
        else if (wire_wait(fd, POLLOUT, deadline, NULL, err) != 0)
            return -1;
    }
    return 0;
}

static int
wire_read(int fd, uint8_t *out, size_t len, int64_t deadline, bool *ret_deadline,
        struct cc_err *err)
{
    while (len > 0) {
        const ssize_t n = recv(fd, out, len, MSG_DONTWAIT);

        if (n > 0) {
            out += n;
            len -= (size_t)n;
        } else if (n == 0 || wire_is_gone(errno)) {
            return wire_gone(err);
        } else if (errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK) {
            return cc_err_set_errno(err, errno, "receiving a frame");
        } else if (wire_wait(fd, POLLIN, deadline, ret_deadline, err) != 0) {
            return -1;
        }
    }
    return 0;
}

int
wire_recv(int fd, struct cc_buf *frame, int64_t deadline, bool *ret_deadline, struct cc_err *err)
{
    uint8_t prefix[WIRE_PREFIX];
    uint8_t *room;
    size_t len;

    if (ret_deadline != NULL)
        *ret_deadline = false;
    cc_buf_reset(frame);
    if (wire_read(fd, prefix, sizeof(prefix), deadline, ret_deadline, err) != 0)
        return -1;
    len = (size_t)wire_load(prefix, sizeof(prefix));
    if (len == 0 || len > WIRE_FRAME_MAX)
        return wire_malformed(err, "its length");
    if ((room = cc_buf_reserve(frame, len, err)) == NULL)
        return -1;
    if (wire_read(fd, room, len, deadline, ret_deadline, err) != 0) {
        cc_buf_wipe(frame);
        return -1;
    }
    frame->len = len;
    return 0;
}

int
wire_put_error(struct cc_buf *frame, const struct cc_err *failure, struct cc_err *err)
{
    cc_buf_reset(frame);
    if (wire_put_u8(frame, WIRE_ERROR, err) != 0 ||
            wire_put_u8(frame, (uint8_t)failure->domain, err) != 0 ||
            wire_put_u64(frame, (uint64_t)(int64_t)failure->code, err) != 0)
        return -1;
    return wire_put_str(frame, failure->text, err);
}

int
wire_get_status(struct cc_bytes *rest, struct cc_err *err)
{
    char text[sizeof(err->text)];
    uint8_t status = 0, domain = 0;
    uint64_t code = 0;

    if (wire_get_u8(rest, &status, err) != 0)
        return -1;
    if (status == WIRE_OK)
        return 0;
    if (status != WIRE_ERROR)
        return wire_malformed(err, "unknown status");
    if (wire_get_u8(rest, &domain, err) != 0 || wire_get_u64(rest, &code, err) != 0 ||
            wire_get_str(rest, text, sizeof(text), err) != 0 || wire_get_end(rest, err) != 0)
        return -1;
    if (domain == CC_DOM_NONE || domain > CC_DOM_CANCELLED)
        return wire_malformed(err, "unknown domain of an error");
    return cc_err_set(err, (enum cc_err_domain)domain, (long)(int64_t)code, "%s", text);
}
