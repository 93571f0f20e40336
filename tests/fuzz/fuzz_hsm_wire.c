/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "hsm/hsm_int.h"

/* Frames of the token wire: as a stream, as a call with any sequence of fields, and as a reply. */

static void
check(bool ok)
{
    if (!ok)
        abort();
}

/* A field is inside what is left, and what is left gets shorter by at least its length. */
static void
check_field(struct cc_bytes before, struct cc_bytes rest, struct cc_bytes field)
{
    check(rest.len + field.len <= before.len && rest.data >= before.data);
    check(rest.data + rest.len == before.data + before.len);
    check(field.data >= before.data && field.data + field.len <= rest.data);
}

/* The first bytes say which fields to read from the others. */
static int
read_fields(struct cc_bytes *rest, void *arg, struct cc_err *err)
{
    const struct cc_bytes *plan = arg;

    for (size_t i = 0; i < plan->len; i++) {
        const struct cc_bytes before = *rest;
        struct cc_bytes field = { 0 };
        char text[32];
        uint64_t u64;
        uint32_t u32;
        uint16_t u16;
        uint8_t u8;
        int rc = 0;

        switch (plan->data[i] % 6) {
        case 0:
            rc = wire_get_u8(rest, &u8, err);
            break;
        case 1:
            rc = wire_get_u16(rest, &u16, err);
            break;
        case 2:
            rc = wire_get_u32(rest, &u32, err);
            break;
        case 3:
            rc = wire_get_u64(rest, &u64, err);
            break;
        case 4:
            if ((rc = wire_get_bytes(rest, &field, err)) == 0)
                check_field(before, *rest, field);
            break;
        default:
            if ((rc = wire_get_str(rest, text, sizeof(text), err)) == 0)
                check(strnlen(text, sizeof(text)) < sizeof(text));
        }
        if (rc != 0)
            return -1;
        check(rest->data + rest->len == before.data + before.len);
    }
    return 0;
}

static void
fuzz_reply(struct cc_bytes reply, struct cc_bytes plan)
{
    struct cc_err err = { 0 };
    const enum hsm_outcome outcome = hsm_reply_read(reply, read_fields, &plan, &err);

    check(outcome == HSM_ANSWERED || outcome == HSM_SENSELESS);
    if (outcome == HSM_SENSELESS || reply.data[0] == WIRE_ERROR)
        check(err.domain != CC_DOM_NONE && err.domain <= CC_DOM_CANCELLED);
    else
        check(err.domain == CC_DOM_NONE);
}

static void
fuzz_stream(struct cc_bytes stream)
{
    struct cc_buf frame = CC_BUF_INIT(WIRE_FRAME_MAX);
    size_t total = 0;
    int pair[2];

    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    check(stream.len == 0 || write(pair[1], stream.data, stream.len) == (ssize_t)stream.len);
    (void)close(pair[1]);
    while (wire_recv(pair[0], &frame, cc_deadline_in(0), NULL, NULL) == 0) {
        check(frame.len > 0 && frame.len <= WIRE_FRAME_MAX);
        total += frame.len + 4;
    }
    check(total <= stream.len);
    cc_buf_wipe(&frame);
    (void)close(pair[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t plan_len = size > 0 ? data[0] % 16 : 0;
    struct cc_bytes plan, body;

    if (size < 1 + plan_len || size > 65536)
        return 0;
    plan = (struct cc_bytes){ .data = data + 1, .len = plan_len };
    body = (struct cc_bytes){ .data = data + 1 + plan_len, .len = size - 1 - plan_len };
    fuzz_reply(body, plan);
    (void)read_fields(&(struct cc_bytes){ body.data, body.len }, &plan, NULL);
    fuzz_stream(body);
    return 0;
}
