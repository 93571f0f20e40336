/* SPDX-License-Identifier: MIT */
/*
 * What the administrator's calls make of what a token process says.  This program is its own token process: started
 * with "--channels 1" it takes one call, writes it to the file that CC_TEST_CALL names and answers with that of
 * CC_TEST_REPLY, or ends as CC_TEST_END says.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "hsm/admin.h"
#include "hsm/wire.h"

static char folder[] = "/tmp/certconnector-admin.XXXXXX";
static char program[4096], call_path[64], reply_path[64];

/* ---- the token process ---- */

static int
serve(void)
{
    struct cc_buf frame = CC_BUF_INIT(WIRE_FRAME_MAX);
    const char *end = getenv("CC_TEST_END");
    struct cc_err err = { 0 };

    if (wire_recv(WIRE_FIRST_FD, &frame, WIRE_NO_DEADLINE, NULL, &err) != 0 ||
            cc_file_replace(getenv("CC_TEST_CALL"), frame.data, frame.len, 0600, &err) != 0)
        return 90;
    if (end != NULL && strcmp(end, "signal") == 0)
        (void)raise(SIGABRT);
    cc_buf_reset(&frame);
    if (end == NULL && (cc_file_read(getenv("CC_TEST_REPLY"), &frame, &err) != 0 ||
                               wire_send(WIRE_FIRST_FD, &frame, WIRE_NO_DEADLINE, &err) != 0))
        return 91;
    cc_buf_free(&frame);
    return end != NULL ? atoi(end) : 0;
}

/* ---- calls ---- */

static const struct hsm_admin_target target = { .helper = program,
    .module = "/module.so",
    .init_args = "args",
    .uri = "pkcs11:token=t",
    .pin = "file:/pin",
    .so_pin = "file:/so" };

static void
set_reply(const struct cc_buf *reply, size_t len)
{
    assert_int_equal(cc_file_replace(reply_path, reply->data, len, 0600, NULL), 0);
}

static void
check_text(struct cc_bytes *rest, const char *want)
{
    char text[256];

    assert_int_equal(wire_get_str(rest, text, sizeof(text), NULL), 0);
    assert_string_equal(text, want);
}

/* Operation and target, as every call begins. */
static struct cc_bytes
check_call(struct cc_buf *call, enum wire_op op)
{
    struct cc_bytes rest;
    uint8_t got = 0;

    cc_buf_reset(call);
    assert_int_equal(cc_file_read(call_path, call, NULL), 0);
    rest = cc_buf_bytes(call);
    assert_int_equal(wire_get_u8(&rest, &got, NULL), 0);
    assert_int_equal(got, op);
    check_text(&rest, "/module.so");
    check_text(&rest, "args");
    check_text(&rest, "pkcs11:token=t");
    check_text(&rest, "file:/pin");
    return rest;
}

/* ---- lists ---- */

static void
put_tokens(struct cc_buf *reply)
{
    assert_int_equal(wire_put_u8(reply, WIRE_OK, NULL), 0);
    assert_int_equal(wire_put_u32(reply, 2, NULL), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(wire_put_u64(reply, 7 + (uint64_t)i, NULL), 0);
        assert_int_equal(wire_put_u32(reply,
                                 i == 0 ? WIRE_TOKEN_INITIALISED | WIRE_TOKEN_PIN_LOCKED : 0, NULL),
                0);
        assert_int_equal(wire_put_str(reply, i == 0 ? "a token" : "", NULL), 0);
        assert_int_equal(wire_put_str(reply, "maker", NULL), 0);
        assert_int_equal(wire_put_str(reply, "model", NULL), 0);
        assert_int_equal(wire_put_str(reply, "serial", NULL), 0);
        assert_int_equal(wire_put_str(reply, "generic", NULL), 0);
    }
}

static void
test_tokens(void **state)
{
    struct cc_buf reply = CC_BUF_INIT(WIRE_FRAME_MAX), call = CC_BUF_INIT(WIRE_FRAME_MAX);
    struct hsm_admin_token *tokens = NULL;
    struct cc_bytes rest;
    size_t count = 0;

    (void)state;
    put_tokens(&reply);
    set_reply(&reply, reply.len);
    assert_int_equal(hsm_admin_list_tokens(&target, &tokens, &count, NULL), 0);
    rest = check_call(&call, WIRE_ADMIN_LIST_TOKENS);
    assert_int_equal(wire_get_end(&rest, NULL), 0);
    assert_int_equal(count, 2);
    assert_string_equal(tokens[0].label, "a token");
    assert_string_equal(tokens[0].manufacturer, "maker");
    assert_string_equal(tokens[0].profile, "generic");
    assert_int_equal(tokens[0].slot, 7);
    assert_true(tokens[0].initialised && tokens[0].pin_locked);
    assert_false(tokens[0].pin_final_try || tokens[0].write_protected);
    assert_int_equal(tokens[1].slot, 8);
    assert_false(tokens[1].initialised);
    free(tokens);

    /* Cut anywhere, and with a byte too many: an error, and nothing given. */
    assert_int_equal(cc_buf_add_u8(&reply, 0, NULL), 0);
    tokens = NULL;
    for (size_t len = 1; len <= reply.len; len += len < 16 ? 1 : 7) {
        struct cc_err err = { 0 };

        if (len == reply.len - 1)
            continue;
        set_reply(&reply, len);
        assert_int_equal(hsm_admin_list_tokens(&target, &tokens, &count, &err), -1);
        assert_int_equal(err.domain, CC_DOM_INPUT);
        assert_null(tokens);
    }
    set_reply(&reply, reply.len);
    assert_int_equal(hsm_admin_list_tokens(&target, &tokens, &count, NULL), -1);

    /* A count that nothing stands behind. */
    memset(reply.data + 1, 0xff, 4);
    set_reply(&reply, reply.len - 1);
    assert_int_equal(hsm_admin_list_tokens(&target, &tokens, &count, NULL), -1);
    assert_null(tokens);
    cc_buf_free(&call);
    cc_buf_free(&reply);
}

struct key_case {
    const char *token;
    uint8_t class;
    const char *label;
    const char *id;
    size_t id_len;
    const char *want_class; /* NULL: refused */
    const char *want_uri;
};

static void
put_keys(struct cc_buf *reply, const struct key_case *c)
{
    cc_buf_reset(reply);
    assert_int_equal(wire_put_u8(reply, WIRE_OK, NULL), 0);
    assert_int_equal(wire_put_str(reply, c->token, NULL), 0);
    assert_int_equal(wire_put_u32(reply, 1, NULL), 0);
    assert_int_equal(wire_put_u8(reply, c->class, NULL), 0);
    assert_int_equal(wire_put_u32(reply, WIRE_KEY_SENSITIVE | WIRE_KEY_DECRYPT, NULL), 0);
    assert_int_equal(wire_put_str(reply, c->label, NULL), 0);
    assert_int_equal(wire_put_bytes(reply, c->id, c->id_len, NULL), 0);
    assert_int_equal(wire_put_str(reply, "RSA-2048", NULL), 0);
}

#define LONG_LABEL                                                                                 \
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890"  \
    "12345678901234567890123456789012345"

static void
test_keys(void **state)
{
    static const char id65[65];
    static const struct key_case cases[] = {
        { "t", WIRE_KEY_PRIVATE, "a", "\x01\xfe", 2, "private",
                "pkcs11:token=t;object=a;type=private;id=%01%FE" },
        { "t", WIRE_KEY_PUBLIC, "a", "", 0, "public", "pkcs11:token=t;object=a;type=public" },
        { "t", WIRE_KEY_SECRET, "", "A", 1, "secret", "pkcs11:token=t;type=secret-key;id=%41" },
        { "a;b %", WIRE_KEY_PRIVATE, "\xc3\xa4?&=/", "", 0, "private",
                "pkcs11:token=a%3Bb%20%25;object=%C3%A4%3F%26%3D%2F;type=private" },
        /* A label that is not text, or may have been cut, names nothing. */
        { "t", WIRE_KEY_PRIVATE, "\xff\xfe", "A", 1, "private",
                "pkcs11:token=t;type=private;id=%41" },
        { "t", WIRE_KEY_PRIVATE, LONG_LABEL, "A", 1, "private",
                "pkcs11:token=t;type=private;id=%41" },
        { "", WIRE_KEY_PRIVATE, "a", "", 0, "private", "pkcs11:object=a;type=private" },
        { "t", 0, "a", "", 0, NULL, NULL },
        { "t", WIRE_KEY_SECRET + 1, "a", "", 0, NULL, NULL },
        { "t", WIRE_KEY_PRIVATE, "a", id65, sizeof(id65), NULL, NULL },
        { "a label that is longer than a token's", WIRE_KEY_PRIVATE, "a", "", 0, NULL, NULL },
    };
    struct cc_buf reply = CC_BUF_INIT(WIRE_FRAME_MAX), call = CC_BUF_INIT(WIRE_FRAME_MAX);

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        const struct key_case *c = &cases[i];
        struct hsm_admin_key *keys = NULL;
        struct cc_err err = { 0 };
        size_t count = 0;

        put_keys(&reply, c);
        set_reply(&reply, reply.len);
        if (c->want_class == NULL) {
            assert_int_equal(hsm_admin_list_keys(&target, &keys, &count, &err), -1);
            assert_int_equal(err.domain, CC_DOM_INPUT);
            assert_null(keys);
            continue;
        }
        assert_int_equal(hsm_admin_list_keys(&target, &keys, &count, &err), 0);
        (void)check_call(&call, WIRE_ADMIN_LIST_KEYS);
        assert_int_equal(count, 1);
        assert_string_equal(keys[0].object_class, c->want_class);
        assert_string_equal(keys[0].uri, c->want_uri);
        assert_string_equal(keys[0].label, c->label);
        assert_true(keys[0].sensitive && keys[0].decrypt);
        assert_false(keys[0].extractable || keys[0].sign || keys[0].unwrap);
        free(keys);
    }
    cc_buf_free(&call);
    cc_buf_free(&reply);
}

/* ---- the other calls ---- */

static void
test_calls_without_results(void **state)
{
    struct cc_buf reply = CC_BUF_INIT(16), call = CC_BUF_INIT(WIRE_FRAME_MAX);
    char long_label[WIRE_LABEL_SIZE + 1] = "";
    struct cc_err err = { 0 };
    struct cc_bytes rest;
    uint32_t roles = 0;

    (void)state;
    assert_int_equal(wire_put_u8(&reply, WIRE_OK, NULL), 0);
    set_reply(&reply, reply.len);
    assert_int_equal(hsm_admin_init_token(&target, "label", NULL), 0);
    rest = check_call(&call, WIRE_ADMIN_INIT_TOKEN);
    check_text(&rest, "label");
    check_text(&rest, "file:/so");
    assert_int_equal(wire_get_end(&rest, NULL), 0);

    assert_int_equal(hsm_admin_generate_key(&target, 1U << HSM_ROLE_OCSP, "label", "rsa2048", NULL),
            0);
    rest = check_call(&call, WIRE_ADMIN_GENERATE_KEY);
    assert_int_equal(wire_get_u32(&rest, &roles, NULL), 0);
    assert_int_equal(roles, 1U << HSM_ROLE_OCSP);
    check_text(&rest, "label");
    check_text(&rest, "rsa2048");
    assert_int_equal(wire_get_end(&rest, NULL), 0);

    /* Too long for the wire: told before a process is started. */
    memset(long_label, 'x', WIRE_LABEL_SIZE);
    assert_int_equal(unlink(call_path), 0);
    assert_int_equal(hsm_admin_init_token(&target, long_label, &err), -1);
    assert_int_equal(err.domain, CC_DOM_USAGE);
    assert_int_equal(access(call_path, F_OK), -1);

    assert_int_equal(cc_buf_add_u8(&reply, 0, NULL), 0);
    set_reply(&reply, reply.len);
    assert_int_equal(hsm_admin_init_token(&target, "label", NULL), -1);
    cc_buf_free(&call);
    cc_buf_free(&reply);
}

static void
test_export(void **state)
{
    struct cc_buf reply = CC_BUF_INIT(64), spki = CC_BUF_INIT(64);
    struct cc_buf call = CC_BUF_INIT(WIRE_FRAME_MAX);
    struct cc_bytes rest;

    (void)state;
    assert_int_equal(wire_put_u8(&reply, WIRE_OK, NULL), 0);
    assert_int_equal(wire_put_bytes(&reply, "spki", 4, NULL), 0);
    set_reply(&reply, reply.len);
    assert_int_equal(hsm_admin_export_public(&target, "pkcs11:object=a", &spki, NULL), 0);
    rest = check_call(&call, WIRE_ADMIN_EXPORT_PUBLIC);
    check_text(&rest, "pkcs11:object=a");
    assert_string_equal(cc_buf_str(&spki), "spki");
    set_reply(&reply, reply.len - 1);
    assert_int_equal(hsm_admin_export_public(&target, "pkcs11:object=a", &spki, NULL), -1);
    assert_string_equal(cc_buf_str(&spki), "spki");
    cc_buf_free(&call);
    cc_buf_free(&spki);
    cc_buf_free(&reply);
}

/* ---- failures ---- */

static void
test_error_reply(void **state)
{
    const struct cc_err failure = { CC_DOM_PKCS11, 0xa0, "C_Login: CKR_PIN_INCORRECT" };
    struct cc_buf reply = CC_BUF_INIT(1024);
    struct cc_err err = { 0 };

    (void)state;
    assert_int_equal(wire_put_error(&reply, &failure, NULL), 0);
    set_reply(&reply, reply.len);
    assert_int_equal(hsm_admin_init_token(&target, "label", &err), -1);
    assert_int_equal(err.domain, CC_DOM_PKCS11);
    assert_int_equal(err.code, 0xa0);
    assert_string_equal(err.text, "C_Login: CKR_PIN_INCORRECT");
    cc_buf_free(&reply);
}

static void
test_process_that_ends(void **state)
{
    static const struct {
        const char *end;
        const char *want_text;
    } cases[] = { { "0", "the other end is gone" }, { "3", "status 3" }, { "signal", "signal 6" } };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        struct cc_err err = { 0 };

        assert_int_equal(setenv("CC_TEST_END", cases[i].end, 1), 0);
        assert_int_equal(hsm_admin_init_token(&target, "label", &err), -1);
        assert_int_equal(err.domain, CC_DOM_TOKEN);
        assert_int_equal(err.code, HSM_FAULT_UNAVAILABLE);
        assert_non_null(strstr(err.text, cases[i].want_text));
    }
    assert_int_equal(unsetenv("CC_TEST_END"), 0);
}

static void
test_no_process(void **state)
{
    struct hsm_admin_target other = target;
    struct cc_err err = { 0 };

    (void)state;
    other.helper = "/nonexistent/helper";
    assert_int_equal(hsm_admin_init_token(&other, "label", &err), -1);
    assert_non_null(strstr(err.text, "/nonexistent/helper"));
    cc_err_clear(&err);
    other.module = NULL;
    assert_int_equal(hsm_admin_init_token(&other, "label", &err), -1);
    assert_int_equal(err.domain, CC_DOM_USAGE);
}

static int
setup(void **state)
{
    const ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);

    (void)state;
    if (n <= 0 || mkdtemp(folder) == NULL)
        return -1;
    (void)snprintf(call_path, sizeof(call_path), "%s/call", folder);
    (void)snprintf(reply_path, sizeof(reply_path), "%s/reply", folder);
    return setenv("CC_TEST_CALL", call_path, 1) | setenv("CC_TEST_REPLY", reply_path, 1);
}

static int
teardown(void **state)
{
    (void)state;
    (void)unlink(call_path);
    (void)unlink(reply_path);
    return rmdir(folder);
}

int
main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_calls_without_results),
        cmocka_unit_test(test_export),
        cmocka_unit_test(test_error_reply),
        cmocka_unit_test(test_process_that_ends),
        cmocka_unit_test(test_no_process),
    };

    if (argc == 3 && strcmp(argv[1], "--channels") == 0)
        return serve();
    return cmocka_run_group_tests(tests, setup, teardown);
}
