/* SPDX-License-Identifier: MIT */
#include "hsm/wire.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "hsm/hsm.h"

static void
put_all(struct cc_buf *frame)
{
    assert_int_equal(wire_put_u8(frame, 0xab, NULL), 0);
    assert_int_equal(wire_put_u16(frame, 0xabcd, NULL), 0);
    assert_int_equal(wire_put_u32(frame, 0xabcdef01, NULL), 0);
    assert_int_equal(wire_put_u64(frame, 0xabcdef0123456789, NULL), 0);
    assert_int_equal(wire_put_bytes(frame, "a\0b", 3, NULL), 0);
    assert_int_equal(wire_put_bytes(frame, NULL, 0, NULL), 0);
    assert_int_equal(wire_put_str(frame, "text", NULL), 0);
    assert_int_equal(wire_put_str(frame, NULL, NULL), 0);
}

/* 0 when everything was there. */
static int
get_all(struct cc_bytes rest)
{
    struct cc_bytes some = { 0 }, none = { 0 };
    char text[5], empty[1];
    uint64_t u64 = 0;
    uint32_t u32 = 0;
    uint16_t u16 = 0;
    uint8_t u8 = 0;

    if (wire_get_u8(&rest, &u8, NULL) != 0 || wire_get_u16(&rest, &u16, NULL) != 0 ||
            wire_get_u32(&rest, &u32, NULL) != 0 || wire_get_u64(&rest, &u64, NULL) != 0 ||
            wire_get_bytes(&rest, &some, NULL) != 0 || wire_get_bytes(&rest, &none, NULL) != 0 ||
            wire_get_str(&rest, text, sizeof(text), NULL) != 0 ||
            wire_get_str(&rest, empty, sizeof(empty), NULL) != 0 || wire_get_end(&rest, NULL) != 0)
        return -1;
    assert_int_equal(u8, 0xab);
    assert_int_equal(u16, 0xabcd);
    assert_int_equal(u32, 0xabcdef01);
    assert_true(u64 == 0xabcdef0123456789);
    assert_int_equal(some.len, 3);
    assert_memory_equal(some.data, "a\0b", 3);
    assert_int_equal(none.len, 0);
    assert_string_equal(text, "text");
    assert_string_equal(empty, "");
    return 0;
}

static void
fields_come_back(void **state)
{
    static const uint8_t want[] = { 0xab, 0xab, 0xcd, 0xab, 0xcd, 0xef, 0x01 };
    struct cc_buf frame = CC_BUF_INIT(WIRE_FRAME_MAX);

    (void)state;
    put_all(&frame);
    assert_memory_equal(frame.data, want, sizeof(want));
    assert_int_equal(get_all(cc_buf_bytes(&frame)), 0);
    /* Cut anywhere, or one byte more: refused. */
    for (size_t len = 0; len < frame.len; len++) {
        uint8_t *cut = malloc(len + 1);

        assert_non_null(cut);
        memcpy(cut, frame.data, len);
        assert_int_equal(get_all((struct cc_bytes){ cut, len }), -1);
        free(cut);
    }
    assert_int_equal(wire_put_u8(&frame, 0, NULL), 0);
    assert_int_equal(get_all(cc_buf_bytes(&frame)), -1);
    cc_buf_free(&frame);
}

static void
lengths_are_not_believed(void **state)
{
    static const uint8_t long_field[] = { 0xff, 0xff, 0xff, 0xff, 'a' };
    static const uint8_t nul[] = { 0, 0, 0, 2, 'a', '\0' };
    static const uint8_t four[] = { 0, 0, 0, 4, 't', 'e', 'x', 't' };
    struct cc_bytes rest = { long_field, sizeof(long_field) }, field = { NULL, 7 };
    char text[4] = "old";

    (void)state;
    assert_int_equal(wire_get_bytes(&rest, &field, NULL), -1);
    assert_int_equal(rest.len, sizeof(long_field));
    assert_int_equal(field.len, 7);
    rest = (struct cc_bytes){ nul, sizeof(nul) };
    assert_int_equal(wire_get_str(&rest, text, sizeof(text), NULL), -1);
    rest = (struct cc_bytes){ four, sizeof(four) };
    assert_int_equal(wire_get_str(&rest, text, sizeof(text), NULL), -1);
    assert_string_equal(text, "old");
}

static void
frames_have_a_ceiling(void **state)
{
    struct cc_buf frame = CC_BUF_INIT(8);
    static const uint8_t big[WIRE_FRAME_MAX + 1];

    (void)state;
    assert_int_equal(wire_put_u64(&frame, 1, NULL), 0);
    assert_int_equal(wire_put_u8(&frame, 1, NULL), -1);
    assert_int_equal(frame.len, 8);
    cc_buf_free(&frame);
    cc_buf_init(&frame, 2 * WIRE_FRAME_MAX);
    assert_int_equal(wire_put_bytes(&frame, big, sizeof(big), NULL), -1);
    cc_buf_free(&frame);
}

static void
errors_travel(void **state)
{
    struct cc_err sent = { 0 }, got = { 0 };
    struct cc_buf frame = CC_BUF_INIT(WIRE_FRAME_MAX);
    struct cc_bytes rest;
    uint8_t status;

    (void)state;
    cc_err_set(&sent, CC_DOM_PKCS11, 0x80000000L, "C_Sign: %s", "CKR_VENDOR");
    assert_int_equal(wire_put_error(&frame, &sent, NULL), 0);
    rest = cc_buf_bytes(&frame);
    assert_int_equal(wire_get_status(&rest, &got), -1);
    assert_int_equal(got.domain, CC_DOM_PKCS11);
    assert_true(got.code == 0x80000000L);
    assert_string_equal(got.text, "C_Sign: CKR_VENDOR");

    /* A domain that there is not must not be branched on. */
    frame.data[1] = CC_DOM_NONE;
    for (int i = 0; i < 2; i++) {
        cc_err_clear(&got);
        rest = cc_buf_bytes(&frame);
        assert_int_equal(wire_get_status(&rest, &got), -1);
        assert_int_equal(got.domain, CC_DOM_INPUT);
        frame.data[1] = 0xff;
    }
    status = 2;
    rest = (struct cc_bytes){ &status, 1 };
    assert_int_equal(wire_get_status(&rest, NULL), -1);
    status = WIRE_OK;
    rest = (struct cc_bytes){ &status, 1 };
    assert_int_equal(wire_get_status(&rest, NULL), 0);
    assert_int_equal(wire_get_end(&rest, NULL), 0);
    cc_buf_free(&frame);
}

struct sender {
    int fd;
    const struct cc_buf *frame;
    int rc;
};

static void *
send_frame(void *arg)
{
    struct sender *sender = arg;

    sender->rc = wire_send(sender->fd, sender->frame, WIRE_NO_DEADLINE, NULL);
    return NULL;
}

/* The largest frame is larger than what a socket takes at once. */
static void
frames_pass_whole(void **state)
{
    struct cc_buf out = CC_BUF_INIT(WIRE_FRAME_MAX), in = CC_BUF_INIT(WIRE_FRAME_MAX);
    static const size_t sizes[] = { 1, 2, 4096, WIRE_FRAME_MAX };
    int fds[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    for (size_t i = 0; i < CC_COUNT(sizes); i++) {
        struct sender sender = { .fd = fds[0], .frame = &out, .rc = -1 };
        pthread_t thread;

        cc_buf_reset(&out);
        memset(cc_buf_reserve(&out, sizes[i], NULL), 'a' + (int)i, sizes[i]);
        out.len = sizes[i];
        assert_int_equal(pthread_create(&thread, NULL, send_frame, &sender), 0);
        assert_int_equal(wire_recv(fds[1], &in, cc_deadline_in(30000), NULL, NULL), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(sender.rc, 0);
        assert_int_equal(in.len, out.len);
        assert_memory_equal(in.data, out.data, in.len);
    }
    (void)close(fds[0]);
    (void)close(fds[1]);
    cc_buf_free(&out);
    cc_buf_free(&in);
}

static void
expect_lost(int fd, struct cc_buf *in, int64_t deadline, bool want_deadline)
{
    struct cc_err err = { 0 };
    bool at_deadline = !want_deadline;

    assert_int_equal(wire_recv(fd, in, deadline, &at_deadline, &err), -1);
    assert_int_equal(err.domain, CC_DOM_TOKEN);
    assert_int_equal(err.code, HSM_FAULT_UNAVAILABLE);
    assert_int_equal(at_deadline, want_deadline);
}

static void
waiting_ends(void **state)
{
    struct cc_buf in = CC_BUF_INIT(WIRE_FRAME_MAX), out = CC_BUF_INIT(WIRE_FRAME_MAX);
    struct cc_err err = { 0 };
    int fds[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    expect_lost(fds[1], &in, cc_deadline_in(20), true);
    /* Half a frame, and then nothing. */
    assert_int_equal(write(fds[0], "\0\0\0\2a", 5), 5);
    expect_lost(fds[1], &in, cc_deadline_in(20), true);
    assert_int_equal(in.len, 0);
    /* Nobody reads. */
    assert_non_null(cc_buf_reserve(&out, WIRE_FRAME_MAX, NULL));
    memset(out.data, 'a', WIRE_FRAME_MAX);
    out.len = WIRE_FRAME_MAX;
    assert_int_equal(wire_send(fds[0], &out, cc_deadline_in(20), &err), -1);
    assert_int_equal(err.code, HSM_FAULT_UNAVAILABLE);
    (void)close(fds[0]);
    (void)close(fds[1]);

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(write(fds[0], "\0\0", 2), 2);
    (void)close(fds[0]);
    expect_lost(fds[1], &in, WIRE_NO_DEADLINE, false);
    cc_err_clear(&err);
    assert_int_equal(wire_send(fds[1], &out, WIRE_NO_DEADLINE, &err), -1);
    assert_int_equal(err.code, HSM_FAULT_UNAVAILABLE);
    (void)close(fds[1]);
    cc_buf_free(&in);
    cc_buf_free(&out);
}

static void
bad_lengths_are_refused(void **state)
{
    static const char *const prefixes[] = { "\0\0\0\0", "\0\x08\0\1", "\xff\xff\xff\xff" };
    struct cc_buf in = CC_BUF_INIT(WIRE_FRAME_MAX);
    int fds[2];

    (void)state;
    for (size_t i = 0; i < CC_COUNT(prefixes); i++) {
        struct cc_err err = { 0 };

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        assert_int_equal(write(fds[0], prefixes[i], 4), 4);
        assert_int_equal(wire_recv(fds[1], &in, cc_deadline_in(5000), NULL, &err), -1);
        assert_int_equal(err.domain, CC_DOM_INPUT);
        (void)close(fds[0]);
        (void)close(fds[1]);
    }
    cc_buf_free(&in);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_come_back),
        cmocka_unit_test(lengths_are_not_believed),
        cmocka_unit_test(frames_have_a_ceiling),
        cmocka_unit_test(errors_travel),
        cmocka_unit_test(frames_pass_whole),
        cmocka_unit_test(waiting_ends),
        cmocka_unit_test(bad_lengths_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
