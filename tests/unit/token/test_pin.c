/* SPDX-License-Identifier: MIT */
#include "hsm/token/pin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/evp.h>

#include "base/buf.h"
#include "base/file.h"
#include "hsm/hsm.h"

static char folder[] = "/tmp/test_pin_XXXXXX";
static char pin_file[64], reference[80], record[64];

static int
setup(void **state)
{
    (void)state;
    if (mkdtemp(folder) == NULL)
        return -1;
    (void)snprintf(pin_file, sizeof(pin_file), "%s/pin", folder);
    (void)snprintf(reference, sizeof(reference), "file:%s", pin_file);
    (void)snprintf(record, sizeof(record), "%s/pin-refused", folder);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    (void)unlink(pin_file);
    (void)unlink(record);
    return rmdir(folder);
}

static void
set_pin(const char *pin)
{
    assert_int_equal(cc_file_replace(pin_file, pin, strlen(pin), 0600, NULL), 0);
}

/* Whether the PIN may be tried with this token. */
static bool
passes(struct pin_gate *gate, const char *identity)
{
    struct cc_secret *pin = NULL;
    struct cc_err err = { 0 };

    if (pin_gate_load(gate, identity, &pin, &err) == 0) {
        cc_secret_free(pin);
        return true;
    }
    assert_int_equal(err.domain, CC_DOM_TOKEN);
    assert_int_equal(err.code, HSM_FAULT_PIN_REFUSED);
    assert_null(strstr(err.text, "1111"));
    return false;
}

static void
refuse(struct pin_gate *gate, const char *identity)
{
    struct cc_secret *pin = NULL;

    assert_int_equal(pin_gate_load(gate, identity, &pin, NULL), 0);
    pin_gate_refused(gate, identity, pin, "CKR_PIN_INCORRECT");
    cc_secret_free(pin);
}

static void
accept(struct pin_gate *gate, const char *identity)
{
    struct cc_secret *pin = NULL;

    assert_int_equal(pin_gate_load(gate, identity, &pin, NULL), 0);
    pin_gate_accepted(gate, identity, pin);
    cc_secret_free(pin);
}

static struct pin_gate *
open_gate(const char *state_dir)
{
    struct pin_gate *gate = pin_gate_new(reference, state_dir, NULL);

    assert_non_null(gate);
    return gate;
}

static void
a_refusal_is_remembered(void **state)
{
    struct pin_gate *gate = open_gate(folder);
    struct cc_buf text = CC_BUF_INIT(1000);
    struct stat st;

    (void)state;
    set_pin("1111");
    assert_true(passes(gate, "token A"));
    refuse(gate, "token A");
    assert_false(passes(gate, "token A"));
    assert_false(pin_gate_changed(gate));
    pin_gate_free(gate);

    assert_int_equal(stat(record, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(cc_file_read(record, &text, NULL), 0);
    assert_null(strstr(cc_buf_str(&text), "1111"));
    assert_non_null(strstr(cc_buf_str(&text), "CKR_PIN_INCORRECT"));
    cc_buf_free(&text);

    /* After a restart: this PIN with this token, and no other. */
    gate = open_gate(folder);
    assert_true(passes(gate, "token B"));
    assert_false(passes(gate, "token A"));
    set_pin("2222");
    assert_true(pin_gate_changed(gate));
    assert_true(passes(gate, "token A"));
    set_pin("1111");
    assert_false(passes(gate, "token A"));
    set_pin("2222");
    assert_true(passes(gate, "token A"));
    accept(gate, "token A");
    assert_int_equal(access(record, F_OK), -1);
    set_pin("1111");
    assert_true(passes(gate, "token A"));
    pin_gate_free(gate);
}

static void
without_a_folder_it_holds_for_the_process(void **state)
{
    struct pin_gate *gate = open_gate(NULL);

    (void)state;
    set_pin("1111");
    refuse(gate, "token A");
    assert_false(passes(gate, "token A"));
    pin_gate_free(gate);
    gate = open_gate(NULL);
    assert_true(passes(gate, "token A"));
    pin_gate_free(gate);
    assert_int_equal(access(record, F_OK), -1);
}

static void
an_unreadable_record_lets_nothing_pass(void **state)
{
    struct pin_gate *gate = open_gate(folder);
    struct cc_secret *pin = NULL;

    (void)state;
    set_pin("1111");
    assert_int_equal(mkdir(record, 0700), 0);
    assert_int_equal(pin_gate_load(gate, "token A", &pin, NULL), -1);
    assert_int_equal(rmdir(record), 0);
    /* One that is not ours says nothing. */
    assert_int_equal(cc_file_create(record, "garbage\n", 8, 0600, NULL), 0);
    assert_true(passes(gate, "token A"));
    pin_gate_free(gate);
}

static void
a_missing_pin_is_no_change(void **state)
{
    struct pin_gate *gate = open_gate(folder);
    struct cc_secret *pin = NULL;
    struct cc_err err = { 0 };

    (void)state;
    set_pin("1111");
    refuse(gate, "token A");
    assert_int_equal(unlink(pin_file), 0);
    assert_false(pin_gate_changed(gate));
    assert_int_equal(pin_gate_load(gate, "token A", &pin, &err), -1);
    assert_int_equal(err.domain, CC_DOM_SYSTEM);
    pin_gate_free(gate);
}

/* ---- what others are told ---- */

static bool
is_proven(struct pin_gate *gate, const char *identity)
{
    struct cc_secret *pin = NULL;
    bool proven;

    assert_int_equal(pin_gate_load(gate, identity, &pin, NULL), 0);
    proven = pin_gate_is_proven(gate, identity, pin);
    cc_secret_free(pin);
    return proven;
}

static void
an_accepted_pin_is_proven_for_its_token(void **state)
{
    struct pin_gate *gate = open_gate(NULL);

    (void)state;
    set_pin("1111");
    assert_false(is_proven(gate, "token A"));
    accept(gate, "token A");
    assert_true(is_proven(gate, "token A"));
    assert_false(is_proven(gate, "token B"));
    set_pin("2222");
    assert_false(is_proven(gate, "token A"));
    set_pin("1111");
    assert_true(is_proven(gate, "token A"));
    refuse(gate, "token A");
    set_pin("2222");
    assert_false(is_proven(gate, "token A"));
    pin_gate_free(gate);
}

/* The fewest iterations that others may want. */
#define FEW 100000

static void
hash_pin(struct pin_gate *gate, const char *identity, const char *salt, uint32_t iterations,
        uint8_t ret[PIN_GATE_HASH])
{
    struct cc_secret *pin = NULL;

    assert_int_equal(pin_gate_load(gate, identity, &pin, NULL), 0);
    assert_int_equal(
            pin_gate_hash(gate, identity, pin, (const uint8_t *)salt, iterations, ret, NULL), 0);
    cc_secret_free(pin);
}

/* All processes make the same hash, which is PBKDF2 over salt and token, and another for whatever differs. */
static void
the_hash_is_of_pin_token_and_salt(void **state)
{
    static const char a[] = "0123456789abcdef", b[] = "0123456789abcdeX";
    struct pin_gate *gate = open_gate(NULL), *other = open_gate(NULL);
    uint8_t want[PIN_GATE_HASH], got[PIN_GATE_HASH];

    (void)state;
    set_pin("1111");
    assert_int_equal(PKCS5_PBKDF2_HMAC("1111", 4, (const uint8_t *)"0123456789abcdeftoken A", 23,
                             FEW, EVP_sha256(), sizeof(want), want),
            1);
    hash_pin(gate, "token A", a, FEW, got);
    assert_memory_equal(got, want, sizeof(want));
    hash_pin(gate, "token A", a, FEW, got);
    assert_memory_equal(got, want, sizeof(want));
    hash_pin(gate, "token A", b, FEW, got);
    assert_memory_not_equal(got, want, sizeof(want));
    hash_pin(gate, "token A", a, FEW + 1, got);
    assert_memory_not_equal(got, want, sizeof(want));
    hash_pin(gate, "token B", a, FEW, got);
    assert_memory_not_equal(got, want, sizeof(want));
    set_pin("2222");
    hash_pin(gate, "token A", a, FEW, got);
    assert_memory_not_equal(got, want, sizeof(want));
    set_pin("1111");
    hash_pin(other, "token A", a, FEW, got);
    assert_memory_equal(got, want, sizeof(want));
    pin_gate_free(gate);
    pin_gate_free(other);
}

static void
a_senseless_hash_is_refused(void **state)
{
    struct pin_gate *gate = open_gate(NULL);
    struct cc_secret *pin = NULL;
    const uint8_t salt[PIN_GATE_SALT] = { 0 };
    uint8_t hash[PIN_GATE_HASH];

    (void)state;
    set_pin("1111");
    assert_int_equal(pin_gate_load(gate, "token A", &pin, NULL), 0);
    assert_int_equal(pin_gate_hash(gate, "token A", pin, salt, FEW - 1, hash, NULL), -1);
    assert_int_equal(pin_gate_hash(gate, "token A", pin, salt, UINT32_MAX, hash, NULL), -1);
    assert_false(pin_gate_last_hash(gate, "token A", pin, hash));
    cc_secret_free(pin);
    pin_gate_free(gate);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_refusal_is_remembered),
        cmocka_unit_test(without_a_folder_it_holds_for_the_process),
        cmocka_unit_test(an_unreadable_record_lets_nothing_pass),
        cmocka_unit_test(a_missing_pin_is_no_change),
        cmocka_unit_test(an_accepted_pin_is_proven_for_its_token),
        cmocka_unit_test(the_hash_is_of_pin_token_and_salt),
        cmocka_unit_test(a_senseless_hash_is_refused),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
