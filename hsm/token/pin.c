/* SPDX-License-Identifier: MIT */
#include "hsm/token/pin.h"

#include <errno.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/process.h"
#include "base/text.h"
#include "hsm/hsm.h"

#define PIN_FILE "pin-refused"
/* One check costs a start about a tenth of a second; a short PIN cannot be saved by more. */
#define PIN_ITERATIONS 200000
#define PIN_FILE_MAX 256
/* What others may want of us: who can write to their store must not get a hash that is quickly searched. */
#define PIN_ITERATIONS_MIN 100000
#define PIN_ITERATIONS_MAX 10000000

struct pin_gate {
    char *reference;
    char *path; /* of the file, or NULL */
    /* In memory: a quick keyed hash, made anew for each process. */
    uint8_t key[PIN_GATE_SALT];
    uint8_t refused[PIN_GATE_HASH];
    bool is_refused;
    uint8_t proven[PIN_GATE_HASH]; /* over the token's identity too */
    int64_t proven_until;          /* monotonic */

    /* The last slow hash, and what it was made of. */
    uint32_t iterations; /* 0: there is none */
    uint8_t salt[PIN_GATE_SALT];
    uint8_t hashed[PIN_GATE_HASH]; /* quick, over the token's identity too */
    uint8_t slow[PIN_GATE_HASH];
};

struct pin_record {
    uint8_t salt[PIN_GATE_SALT];
    uint8_t hash[PIN_GATE_HASH];
    char reason[64];
};

static char *
pin_path(const char *state_dir, struct cc_err *err)
{
    char path[PATH_MAX];
    const int len = snprintf(path, sizeof(path), "%s/" PIN_FILE, state_dir);

    if (len < 0 || (size_t)len >= sizeof(path)) {
        cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT, "the path of the state folder is too long");
        return NULL;
    }
    return cc_strdup(path, err);
}

struct pin_gate *
pin_gate_new(const char *reference, const char *state_dir, struct cc_err *err)
{
    struct pin_gate *gate = calloc(1, sizeof(*gate));

    if (gate == NULL) {
        cc_err_nomem(err);
        return NULL;
    }
    if ((gate->reference = cc_strdup(reference, err)) == NULL ||
            (state_dir != NULL && (gate->path = pin_path(state_dir, err)) == NULL) ||
            cc_random(gate->key, sizeof(gate->key), err) != 0) {
        pin_gate_free(gate);
        return NULL;
    }
    return gate;
}

void
pin_gate_free(struct pin_gate *gate)
{
    if (gate == NULL)
        return;
    free(gate->reference);
    free(gate->path);
    cc_wipe(gate, sizeof(*gate));
    free(gate);
}

static int
pin_hash(const uint8_t salt[PIN_GATE_SALT], uint32_t iterations, const char *identity,
        const struct cc_secret *pin, uint8_t ret[PIN_GATE_HASH], struct cc_err *err)
{
    struct cc_buf full = CC_BUF_INIT(512);
    int rc = -1;

    /* The identity is public and goes with the salt; what is slow is to get at the PIN. */
    if (cc_buf_add(&full, salt, PIN_GATE_SALT, err) != 0 ||
            cc_buf_add_str(&full, identity, err) != 0)
        goto out;
    if (PKCS5_PBKDF2_HMAC(cc_secret_str(pin), (int)cc_secret_len(pin), full.data, (int)full.len,
                (int)iterations, EVP_sha256(), PIN_GATE_HASH, ret) != 1) {
        cc_err_set_openssl(err, "hash of a PIN");
        goto out;
    }
    rc = 0;
out:
    cc_buf_free(&full);
    return rc;
}

/* Hexadecimal of exactly len bytes. */
static int
pin_unhex(const char *text, uint8_t *ret, size_t len)
{
    struct cc_buf bytes = CC_BUF_INIT(PIN_GATE_HASH);
    int rc = -1;

    if (cc_unhex(text, &bytes, NULL) == 0 && bytes.len == len) {
        memcpy(ret, bytes.data, len);
        rc = 0;
    }
    cc_buf_free(&bytes);
    return rc;
}

static bool
pin_record_parse(const char *text, struct pin_record *ret)
{
    char salt[2 * PIN_GATE_SALT + 1], hash[2 * PIN_GATE_HASH + 1];

    return sscanf(text, "1 %32[0-9a-f] %64[0-9a-f] %63[A-Z0-9_a-z]", salt, hash, ret->reason) ==
                   3 &&
           pin_unhex(salt, ret->salt, PIN_GATE_SALT) == 0 &&
           pin_unhex(hash, ret->hash, PIN_GATE_HASH) == 0;
}

/* "1 SALT HASH REASON".  1 found, 0 not there, -1 not readable: then nothing may be tried, for a refusal could not be
   remembered either. */
static int
pin_record_read(const char *path, struct pin_record *ret, struct cc_err *err)
{
    struct cc_buf file = CC_BUF_INIT(PIN_FILE_MAX);
    struct cc_err e = { 0 };
    int found = 0;

    if (cc_file_read(path, &file, &e) != 0) {
        if (e.domain == CC_DOM_SYSTEM && e.code == ENOENT)
            goto out;
        found = cc_err_set(err, e.domain, e.code, "remembered refusal of a PIN: %s", e.text);
    } else if (pin_record_parse(cc_buf_str(&file), ret)) {
        found = 1;
    } else {
        cc_log(CC_LOG_WARNING, "hsm", "%s is not a record of a refused PIN, ignored", path);
    }
out:
    cc_buf_free(&file);
    return found;
}

static int
pin_quick(const struct pin_gate *gate, const struct cc_secret *pin, uint8_t ret[PIN_GATE_HASH],
        struct cc_err *err)
{
    return pin_hash(gate->key, 1, "", pin, ret, err);
}

/* 1 remembered as refused, 0 not, -1 unknown. */
static int
pin_is_remembered(struct pin_gate *gate, const char *identity, const struct cc_secret *pin,
        struct pin_record *record, struct cc_err *err)
{
    uint8_t hash[PIN_GATE_HASH];
    int found;

    if (gate->path == NULL || (found = pin_record_read(gate->path, record, err)) == 0)
        return 0;
    if (found < 0 || pin_hash(record->salt, PIN_ITERATIONS, identity, pin, hash, err) != 0)
        return -1;
    return CRYPTO_memcmp(hash, record->hash, PIN_GATE_HASH) == 0;
}

int
pin_gate_load(struct pin_gate *gate, const char *identity, struct cc_secret **ret_pin,
        struct cc_err *err)
{
    struct pin_record record = { 0 };
    struct cc_secret *pin;
    uint8_t quick[PIN_GATE_HASH];
    int remembered, rc = -1;

    if ((pin = cc_secret_load(gate->reference, err)) == NULL)
        return cc_err_in(err, "PIN");
    if (pin_quick(gate, pin, quick, err) != 0)
        goto out;

    if (gate->is_refused && CRYPTO_memcmp(quick, gate->refused, PIN_GATE_HASH) == 0) {
        cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_PIN_REFUSED,
                "the token refused this PIN; it is not tried again until %s holds another",
                gate->reference);
        goto out;
    }
    if ((remembered = pin_is_remembered(gate, identity, pin, &record, err)) < 0)
        goto out;
    if (remembered) {
        memcpy(gate->refused, quick, PIN_GATE_HASH);
        gate->is_refused = true;
        cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_PIN_REFUSED,
                "the token refused this PIN before (%s); put another into %s, or remove %s",
                record.reason, gate->reference, gate->path);
        goto out;
    }
    *ret_pin = pin;
    pin = NULL;
    rc = 0;
out:
    cc_wipe(quick, sizeof(quick));
    cc_secret_free(pin);
    return rc;
}

static int
pin_record_write(const char *path, const char *identity, const struct cc_secret *pin,
        const char *reason, struct cc_err *err)
{
    char text[PIN_FILE_MAX], salt_hex[2 * PIN_GATE_SALT + 1], hash_hex[2 * PIN_GATE_HASH + 1];
    uint8_t salt[PIN_GATE_SALT], hash[PIN_GATE_HASH];
    int len;

    if (cc_random(salt, sizeof(salt), err) != 0 ||
            pin_hash(salt, PIN_ITERATIONS, identity, pin, hash, err) != 0)
        return -1;
    cc_hex(salt, sizeof(salt), false, salt_hex);
    cc_hex(hash, sizeof(hash), false, hash_hex);
    len = snprintf(text, sizeof(text), "1 %s %s %s\n", salt_hex, hash_hex, reason);
    if (len < 0 || (size_t)len >= sizeof(text))
        return cc_err_set(err, CC_DOM_INTERNAL, 0, "record of a PIN too long");
    return cc_file_replace(path, text, (size_t)len, 0600, err);
}

void
pin_gate_note_refused(struct pin_gate *gate, const struct cc_secret *pin)
{
    if (pin_quick(gate, pin, gate->refused, NULL) == 0)
        gate->is_refused = true;
    gate->proven_until = 0;
}

void
pin_gate_refused(struct pin_gate *gate, const char *identity, const struct cc_secret *pin,
        const char *reason)
{
    struct cc_err e = { 0 };

    pin_gate_note_refused(gate, pin);
    if (gate->path != NULL && pin_record_write(gate->path, identity, pin, reason, &e) != 0)
        cc_log(CC_LOG_ERROR, "hsm", "remembering the refusal of a PIN: %s", cc_err_text(&e));
}

void
pin_gate_accepted(struct pin_gate *gate, const char *identity, const struct cc_secret *pin)
{
    struct cc_err e = { 0 };

    gate->is_refused = false;
    if (pin_hash(gate->key, 1, identity, pin, gate->proven, &e) == 0)
        gate->proven_until = cc_deadline_in(PIN_GATE_PROVEN_MS);
    if (gate->path == NULL || unlink(gate->path) == 0 || errno == ENOENT)
        return;
    cc_err_set_errno(&e, errno, "%s", gate->path);
    cc_log(CC_LOG_WARNING, "hsm", "%s", cc_err_text(&e));
}

bool
pin_gate_is_proven(const struct pin_gate *gate, const char *identity, const struct cc_secret *pin)
{
    uint8_t quick[PIN_GATE_HASH];
    bool proven = false;

    if (gate->proven_until != 0 && cc_deadline_left(gate->proven_until) > 0 &&
            pin_hash(gate->key, 1, identity, pin, quick, NULL) == 0)
        proven = CRYPTO_memcmp(quick, gate->proven, PIN_GATE_HASH) == 0;
    cc_wipe(quick, sizeof(quick));
    return proven;
}

bool
pin_gate_last_hash(const struct pin_gate *gate, const char *identity, const struct cc_secret *pin,
        uint8_t ret[PIN_GATE_HASH])
{
    uint8_t quick[PIN_GATE_HASH];
    bool found = false;

    if (gate->iterations != 0 && pin_hash(gate->key, 1, identity, pin, quick, NULL) == 0)
        found = CRYPTO_memcmp(quick, gate->hashed, PIN_GATE_HASH) == 0;
    if (found)
        memcpy(ret, gate->slow, PIN_GATE_HASH);
    cc_wipe(quick, sizeof(quick));
    return found;
}

int
pin_gate_hash(struct pin_gate *gate, const char *identity, const struct cc_secret *pin,
        const uint8_t salt[PIN_GATE_SALT], uint32_t iterations, uint8_t ret[PIN_GATE_HASH],
        struct cc_err *err)
{
    if (iterations < PIN_ITERATIONS_MIN || iterations > PIN_ITERATIONS_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "a PIN hashed %u times", iterations);
    if (gate->iterations == iterations && memcmp(gate->salt, salt, PIN_GATE_SALT) == 0 &&
            pin_gate_last_hash(gate, identity, pin, ret))
        return 0;
    gate->iterations = 0;
    if (pin_hash(gate->key, 1, identity, pin, gate->hashed, err) != 0 ||
            pin_hash(salt, iterations, identity, pin, gate->slow, err) != 0)
        return -1;
    gate->iterations = iterations;
    memcpy(gate->salt, salt, PIN_GATE_SALT);
    memcpy(ret, gate->slow, PIN_GATE_HASH);
    return 0;
}

bool
pin_gate_changed(struct pin_gate *gate)
{
    struct cc_secret *pin = cc_secret_load(gate->reference, NULL);
    uint8_t quick[PIN_GATE_HASH];
    bool changed = false;

    if (pin != NULL && pin_quick(gate, pin, quick, NULL) == 0)
        changed = CRYPTO_memcmp(quick, gate->refused, PIN_GATE_HASH) != 0;
    cc_wipe(quick, sizeof(quick));
    cc_secret_free(pin);
    return changed;
}
