/* SPDX-License-Identifier: MIT */
#include "store/cadb.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/memory_store.h"

#define CA "corp"
#define THREADS 8
#define MANY (on_postgres() ? 10000 : 100000) /* there a revocation takes four round trips */
#define MIB ((size_t)1024 * 1024)
#define ANY_TIME INT64_MIN

static struct store *store;

static struct cc_bytes
bytes_of(const char *text)
{
    return (struct cc_bytes){ (const uint8_t *)text, strlen(text) };
}

static void
add_authority(struct store *where, const char *name)
{
    struct cadb_authority authority = { .name = name,
        .key_uri = "pkcs11:object=ca",
        .certificate = bytes_of("certificate"),
        .created_ms = 1000 };
    bool exists = true;

    assert_int_equal(cadb_authority_add(where, &authority, &exists, NULL), 0);
    assert_false(exists);
}

static int
setup(void **state)
{
    struct cc_err err = { 0 };

    (void)state;
    if (store_open(memory_store(), &store, &err) != 0)
        return -1;
    add_authority(store, CA);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    store_close(store);
    return 0;
}

/* ---- calls in short ---- */

static const uint8_t key_hash[CADB_KEY_HASH_LEN] = { 1, 2, 3 };

static struct cadb_certificate
certificate_of(const char *serial, const char *request_id)
{
    return (struct cadb_certificate){ .serial = bytes_of(serial),
        .request_id = request_id,
        .profile = "device",
        .subject = "CN=Device 1,O=Contoso",
        .key_hash = { key_hash, sizeof(key_hash) },
        .not_before_ms = 1000,
        .not_after_ms = 900000,
        .reserved_ms = 2000 };
}

static enum cadb_reserve
reserve(const char *serial, const char *request_id)
{
    struct cadb_certificate certificate = certificate_of(serial, request_id);
    enum cadb_reserve reserved = (enum cadb_reserve)99;

    assert_int_equal(cadb_reserve(store, CA, &certificate, &reserved, NULL), 0);
    return reserved;
}

static int
issue(const char *serial)
{
    return cadb_issued(store, CA, bytes_of(serial), bytes_of("DER"), 3000, NULL);
}

static int
abandon(const char *serial)
{
    return cadb_abandon(store, CA, bytes_of(serial), NULL);
}

static enum cadb_revoked
revoke_at(const char *serial, int reason, int64_t revoked_ms)
{
    struct cadb_revocation revocation = { bytes_of(serial), reason, revoked_ms, 3500 };
    enum cadb_revoked verdict = (enum cadb_revoked)99;

    assert_int_equal(cadb_revoke(store, CA, &revocation, &verdict, NULL), 0);
    return verdict;
}

static enum cadb_revoked
revoke_it(const char *serial)
{
    return revoke_at(serial, 1, 4000);
}

static enum cadb_revoked
hold(const char *serial)
{
    return revoke_at(serial, 6, 4100);
}

static enum cadb_revoked
release(const char *serial)
{
    enum cadb_revoked verdict = (enum cadb_revoked)99;

    assert_int_equal(cadb_release(store, CA, bytes_of(serial), 5000, &verdict, NULL), 0);
    return verdict;
}

struct numbers {
    int64_t change, generation;
};

static struct numbers
numbers(void)
{
    struct numbers n = { -1, -1 };

    assert_int_equal(cadb_authority_numbers(store, CA, &n.change, &n.generation, NULL), 0);
    return n;
}

/* A copy of what a row says, deep enough for the tests; of several rows the last, and all their serials. */
struct seen {
    int rows, enough;
    enum cadb_state state;
    char serial[CADB_SERIAL_MAX + 1], request_id[32], profile[32], subject[64], der[32];
    char serials[128];
    uint8_t key_hash[CADB_KEY_HASH_LEN];
    int64_t not_before, not_after, reserved, issued, revoked, invalidity;
    int reason;
};

static int
see(void *arg, const struct cadb_certificate *c)
{
    struct seen *seen = arg;
    size_t len = strlen(seen->serials);

    seen->rows++;
    seen->state = c->state;
    snprintf(seen->serial, sizeof(seen->serial), "%.*s", (int)c->serial.len, c->serial.data);
    snprintf(seen->request_id, sizeof(seen->request_id), "%s",
            c->request_id != NULL ? c->request_id : "-");
    snprintf(seen->profile, sizeof(seen->profile), "%s", c->profile);
    snprintf(seen->subject, sizeof(seen->subject), "%s", c->subject);
    snprintf(seen->der, sizeof(seen->der), "%.*s", (int)c->certificate.len,
            c->certificate.len > 0 ? (const char *)c->certificate.data : "");
    assert_int_equal(c->key_hash.len, CADB_KEY_HASH_LEN);
    memcpy(seen->key_hash, c->key_hash.data, CADB_KEY_HASH_LEN);
    seen->not_before = c->not_before_ms;
    seen->not_after = c->not_after_ms;
    seen->reserved = c->reserved_ms;
    seen->issued = c->issued_ms;
    seen->revoked = c->revoked_ms;
    seen->invalidity = c->invalidity_ms;
    seen->reason = c->reason;
    snprintf(seen->serials + len, sizeof(seen->serials) - len, "%s ", seen->serial);
    return seen->enough != 0 && seen->rows == seen->enough;
}

static struct seen
look_by(const struct cadb_key *key)
{
    struct seen seen = { 0 };

    assert_int_equal(cadb_find(store, CA, key, see, &seen, NULL), 0);
    return seen;
}

static struct seen
look(const char *serial)
{
    struct cadb_key key = { .serial = bytes_of(serial) };

    return look_by(&key);
}

static struct seen
look_request(const char *request_id)
{
    struct cadb_key key = { .request_id = request_id };

    return look_by(&key);
}

/* ---- authorities ---- */

struct seen_authority {
    int rows;
    char names[64], key_uri[64], certificate[32], chain[32], request[32], ocsp_signer[32];
    int64_t created, change, generation;
};

static void
copy_bytes(char *dst, size_t size, struct cc_bytes bytes)
{
    snprintf(dst, size, "%.*s", (int)bytes.len, bytes.len > 0 ? (const char *)bytes.data : "");
}

static int
see_authority(void *arg, const struct cadb_authority *a)
{
    struct seen_authority *seen = arg;
    size_t len = strlen(seen->names);

    seen->rows++;
    snprintf(seen->names + len, sizeof(seen->names) - len, "%s ", a->name);
    snprintf(seen->key_uri, sizeof(seen->key_uri), "%s", a->key_uri);
    copy_bytes(seen->certificate, sizeof(seen->certificate), a->certificate);
    copy_bytes(seen->chain, sizeof(seen->chain), a->chain);
    copy_bytes(seen->request, sizeof(seen->request), a->request);
    copy_bytes(seen->ocsp_signer, sizeof(seen->ocsp_signer), a->ocsp_signer);
    seen->created = a->created_ms;
    seen->change = a->change;
    seen->generation = a->generation;
    return 0;
}

static struct seen_authority
look_authority(const char *name)
{
    struct seen_authority seen = { 0 };

    assert_int_equal(cadb_authority_find(store, name, see_authority, &seen, NULL), 0);
    return seen;
}

static void
an_authority_is_kept_as_it_was_added(void **state)
{
    struct cadb_authority sub = { .name = "sub",
        .key_uri = "pkcs11:object=sub",
        .request = bytes_of("request"),
        .created_ms = 7 };
    struct seen_authority seen;
    bool exists = true;

    (void)state;
    assert_int_equal(cadb_authority_add(store, &sub, &exists, NULL), 0);
    assert_false(exists);
    sub.key_uri = "pkcs11:object=another";
    assert_int_equal(cadb_authority_add(store, &sub, &exists, NULL), 0);
    assert_true(exists);

    seen = look_authority("sub");
    assert_int_equal(seen.rows, 1);
    assert_string_equal(seen.key_uri, "pkcs11:object=sub");
    assert_string_equal(seen.certificate, "");
    assert_string_equal(seen.request, "request");
    assert_int_equal(seen.created, 7);
    assert_int_equal(seen.change, 0);
    assert_int_equal(look_authority("su").rows, 0);

    assert_int_equal(
            cadb_authority_set_certificate(store, "sub", bytes_of("cert"), bytes_of("chain"), NULL),
            0);
    assert_int_equal(cadb_authority_set_ocsp_signer(store, "sub", bytes_of("signer"), NULL), 0);
    seen = look_authority("sub");
    assert_string_equal(seen.certificate, "cert");
    assert_string_equal(seen.chain, "chain");
    assert_string_equal(seen.ocsp_signer, "signer");

    memset(&seen, 0, sizeof(seen));
    assert_int_equal(cadb_authority_list(store, see_authority, &seen, NULL), 0);
    assert_string_equal(seen.names, "corp sub ");
}

/* Every call names the CA that it wants; none makes one up. */
static void
an_unknown_authority_is_an_error(void **state)
{
    struct cadb_certificate certificate = certificate_of("s1", "r1");
    struct cadb_revocation revocation = { .serial = bytes_of("s1") };
    struct cadb_key key = { .request_id = "r1" };
    struct cadb_query query = { .limit = 1 };
    struct cadb_crl crl = { .kind = CADB_CRL_FULL };
    enum cadb_reserve reserved;
    enum cadb_revoked verdict;
    struct cadb_counts counts;
    struct cc_err err = { 0 };
    int64_t n;
    bool is;

    (void)state;
    assert_int_equal(cadb_authority_numbers(store, "no", &n, &n, &err), -1);
    assert_int_equal(err.domain, CC_DOM_STORE);
    assert_int_equal(err.code, 0);
    assert_non_null(strstr(err.text, "no CA \"no\""));
    assert_int_equal(
            cadb_authority_set_certificate(store, "no", bytes_of("c"), bytes_of("c"), NULL), -1);
    assert_int_equal(cadb_authority_set_ocsp_signer(store, "no", bytes_of("c"), NULL), -1);
    assert_int_equal(cadb_reserve(store, "no", &certificate, &reserved, NULL), -1);
    assert_int_equal(cadb_issued(store, "no", bytes_of("s1"), bytes_of("c"), 1, NULL), -1);
    assert_int_equal(cadb_abandon(store, "no", bytes_of("s1"), NULL), -1);
    assert_int_equal(cadb_find(store, "no", &key, see, NULL, NULL), -1);
    assert_int_equal(cadb_walk_reserved(store, "no", 1, see, NULL, NULL), -1);
    assert_int_equal(cadb_list(store, "no", &query, see, NULL, NULL), -1);
    assert_int_equal(cadb_count(store, "no", &counts, NULL), -1);
    assert_int_equal(cadb_revoke(store, "no", &revocation, &verdict, NULL), -1);
    assert_int_equal(cadb_release(store, "no", bytes_of("s1"), 1, &verdict, NULL), -1);
    assert_int_equal(cadb_walk_revoked(store, "no", 0, 0, NULL, NULL, &n, NULL), -1);
    assert_int_equal(cadb_crl_next_number(store, "no", &n, NULL), -1);
    assert_int_equal(cadb_crl_put(store, "no", &crl, STDIN_FILENO, &is, NULL), -1);
    assert_int_equal(cadb_crl_get(store, "no", CADB_CRL_FULL, &is, &crl, -1, NULL), -1);
}

/* ---- states ---- */

static void
bring_to(const char *serial, const char *request_id, enum cadb_state state)
{
    assert_int_equal(reserve(serial, request_id), CADB_RESERVE_NEW);
    if (state == CADB_ABANDONED)
        assert_int_equal(abandon(serial), 0);
    if (state >= CADB_ISSUED && state <= CADB_REVOKED)
        assert_int_equal(issue(serial), 0);
    if (state == CADB_HELD)
        assert_int_equal(hold(serial), CADB_REVOKE_DONE);
    if (state == CADB_REVOKED)
        assert_int_equal(revoke_it(serial), CADB_REVOKE_DONE);
}

static const struct {
    enum cadb_state state; /* 0: no row */
    int want_issue, want_abandon;
    enum cadb_revoked want_revoke, want_hold, want_release;
} transitions[] = {
    { 0, -1, -1, CADB_REVOKE_NOT_FOUND, CADB_REVOKE_NOT_FOUND, CADB_REVOKE_NOT_FOUND },
    { CADB_RESERVED, 0, 0, CADB_REVOKE_DONE, CADB_REVOKE_NOT_FOUND, CADB_REVOKE_NOT_FOUND },
    { CADB_ISSUED, -1, -1, CADB_REVOKE_DONE, CADB_REVOKE_DONE, CADB_REVOKE_CONFLICT },
    { CADB_HELD, -1, -1, CADB_REVOKE_DONE, CADB_REVOKE_ALREADY, CADB_REVOKE_DONE },
    { CADB_REVOKED, -1, -1, CADB_REVOKE_ALREADY, CADB_REVOKE_CONFLICT, CADB_REVOKE_CONFLICT },
    { CADB_ABANDONED, -1, -1, CADB_REVOKE_NOT_FOUND, CADB_REVOKE_NOT_FOUND, CADB_REVOKE_NOT_FOUND },
};

enum call { ISSUE, ABANDON, REVOKE, HOLD, RELEASE, CALLS };

static const enum cadb_state leads_to[CALLS] = { CADB_ISSUED, CADB_ABANDONED, CADB_REVOKED,
    CADB_HELD, CADB_ISSUED };

static int
do_call(enum call call, const char *serial)
{
    switch (call) {
    case ISSUE:
        return issue(serial);
    case ABANDON:
        return abandon(serial);
    case REVOKE:
        return (int)revoke_it(serial);
    case HOLD:
        return (int)hold(serial);
    default:
        return (int)release(serial);
    }
}

static int64_t
sum(const struct cadb_counts *counts)
{
    int64_t total = 0;

    for (int i = 1; i <= CADB_ABANDONED; i++)
        total += counts->by_state[i];
    return total;
}

static void
try_transition(size_t row, enum call call, int want)
{
    enum cadb_state from = transitions[row].state;
    bool is_revocation = call >= REVOKE;
    struct cadb_counts before, after;
    struct numbers n, m;
    char serial[16];
    int was, is;

    snprintf(serial, sizeof(serial), "s%zu-%d", row, call);
    if (from != 0)
        bring_to(serial, serial, from);
    assert_int_equal(cadb_count(store, CA, &before, NULL), 0);
    n = numbers();
    was = look(serial).state;
    assert_int_equal(was, from);

    assert_int_equal(do_call(call, serial), want);

    m = numbers();
    is = look(serial).state;
    assert_int_equal(cadb_count(store, CA, &after, NULL), 0);
    assert_int_equal(sum(&after), sum(&before));
    if (want == 0) {
        assert_int_equal(is, leads_to[call]);
        assert_int_equal(m.generation, n.generation + 1);
        assert_int_equal(m.change, n.change + is_revocation);
        assert_int_equal(after.by_state[from], before.by_state[from] - 1);
        assert_int_equal(after.by_state[is], before.by_state[is] + 1);
    } else {
        assert_int_equal(is, was);
        assert_memory_equal(&m, &n, sizeof(n));
        assert_memory_equal(&after, &before, sizeof(after));
    }
}

static void
every_call_in_every_state(void **state)
{
    _Static_assert(CADB_REVOKE_DONE == 0, "0 is done for all calls of the table");

    (void)state;
    for (size_t i = 0; i < CC_COUNT(transitions); i++) {
        try_transition(i, ISSUE, transitions[i].want_issue);
        try_transition(i, ABANDON, transitions[i].want_abandon);
        try_transition(i, REVOKE, (int)transitions[i].want_revoke);
        try_transition(i, HOLD, (int)transitions[i].want_hold);
        try_transition(i, RELEASE, (int)transitions[i].want_release);
    }
}

static void
a_row_says_what_was_put_into_it(void **state)
{
    struct cadb_certificate long_serial = certificate_of("01234567890123456789", NULL);
    enum cadb_reserve reserved;
    struct seen seen;

    (void)state;
    bring_to("s1", "r1", CADB_RESERVED);
    seen = look("s1");
    assert_int_equal(seen.rows, 1);
    assert_string_equal(seen.serial, "s1");
    assert_string_equal(seen.request_id, "r1");
    assert_string_equal(seen.profile, "device");
    assert_string_equal(seen.subject, "CN=Device 1,O=Contoso");
    assert_memory_equal(seen.key_hash, key_hash, sizeof(key_hash));
    assert_int_equal(seen.not_before, 1000);
    assert_int_equal(seen.not_after, 900000);
    assert_int_equal(seen.reserved, 2000);
    assert_int_equal(seen.issued, 0);
    assert_string_equal(seen.der, "");
    assert_int_equal(seen.revoked, 0);

    assert_int_equal(issue("s1"), 0);
    seen = look("s1");
    assert_int_equal(seen.issued, 3000);
    assert_string_equal(seen.der, "DER");

    assert_int_equal(hold("s1"), CADB_REVOKE_DONE);
    seen = look("s1");
    assert_int_equal(seen.revoked, 4100);
    assert_int_equal(seen.reason, 6);
    assert_int_equal(seen.invalidity, 3500);
    assert_string_equal(seen.der, "DER");
    assert_int_equal(release("s1"), CADB_REVOKE_DONE);
    assert_int_equal(look("s1").revoked, 0);
    assert_int_equal(revoke_it("s1"), CADB_REVOKE_DONE);
    assert_int_equal(look("s1").revoked, 4000);
    assert_int_equal(look("s1").reason, 1);

    assert_int_equal(cadb_reserve(store, CA, &long_serial, &reserved, NULL), 0);
    assert_string_equal(look("01234567890123456789").request_id, "-");
}

/* The first date and reason stay, until what was held is revoked for good. */
static void
revoking_again_changes_nothing(void **state)
{
    (void)state;
    bring_to("s1", "r1", CADB_HELD);
    assert_int_equal(revoke_at("s1", 6, 9000), CADB_REVOKE_ALREADY);
    assert_int_equal(look("s1").revoked, 4100);
    assert_int_equal(revoke_at("s1", 4, 9000), CADB_REVOKE_DONE);
    assert_int_equal(look("s1").revoked, 9000);
    assert_int_equal(look("s1").reason, 4);
    assert_int_equal(revoke_at("s1", 1, 9999), CADB_REVOKE_ALREADY);
    assert_int_equal(look("s1").revoked, 9000);
    assert_int_equal(look("s1").reason, 4);
    assert_int_equal(numbers().change, 2);
}

static void
what_cannot_be_is_refused(void **state)
{
    static const int bad_reasons[] = { -1, 7, 8, 11 };
    struct cadb_certificate bad[6];
    enum cadb_reserve reserved;
    enum cadb_revoked verdict;
    struct cc_err err = { 0 };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(bad); i++)
        bad[i] = certificate_of("s1", "r1");
    bad[0].serial = bytes_of("");
    bad[1].serial = bytes_of("012345678901234567890");
    bad[2].serial = (struct cc_bytes){ (const uint8_t *)"\0s", 2 };
    bad[3].key_hash.len--;
    bad[4].profile = NULL;
    bad[5].subject = NULL;
    for (size_t i = 0; i < CC_COUNT(bad); i++)
        assert_int_equal(cadb_reserve(store, CA, &bad[i], &reserved, NULL), -1);
    assert_int_equal(look("s1").rows, 0);

    bring_to("s1", "r1", CADB_ISSUED);
    for (size_t i = 0; i < CC_COUNT(bad_reasons); i++) {
        struct cadb_revocation revocation = { bytes_of("s1"), bad_reasons[i], 1, 0 };

        assert_int_equal(cadb_revoke(store, CA, &revocation, &verdict, NULL), -1);
    }
    assert_int_equal(cadb_issued(store, CA, bytes_of("s1"), bytes_of("X"), 1, &err), -1);
    assert_int_equal(err.domain, CC_DOM_STORE);
    assert_non_null(strstr(err.text, "7331"));
    assert_string_equal(look("s1").der, "DER");
    bring_to("s2", "r2", CADB_RESERVED);
    assert_int_equal(cadb_issued(store, CA, bytes_of("s2"), (struct cc_bytes){ 0 }, 1, NULL), -1);
    assert_int_equal(look("s2").state, CADB_RESERVED);
}

/* ---- uniqueness ---- */

static void
an_id_has_one_row_that_is_not_abandoned(void **state)
{
    (void)state;
    assert_int_equal(reserve("s1", "r1"), CADB_RESERVE_NEW);
    assert_int_equal(reserve("s2", "r1"), CADB_RESERVE_KNOWN);
    assert_int_equal(reserve("s1", "r1"), CADB_RESERVE_KNOWN);
    assert_int_equal(reserve("s1", "r2"), CADB_RESERVE_SERIAL_TAKEN);
    assert_int_equal(reserve("s1", NULL), CADB_RESERVE_SERIAL_TAKEN);
    assert_string_equal(look_request("r1").serial, "s1");
    assert_int_equal(look_request("r2").rows, 0);

    assert_int_equal(abandon("s1"), 0);
    assert_int_equal(look_request("r1").rows, 0);
    assert_int_equal(reserve("s1", "r1"), CADB_RESERVE_SERIAL_TAKEN);
    assert_int_equal(reserve("s2", "r1"), CADB_RESERVE_NEW);
    assert_string_equal(look_request("r1").serial, "s2");
    assert_int_equal(issue("s2"), 0);
    assert_int_equal(reserve("s3", "r1"), CADB_RESERVE_KNOWN);
    assert_int_equal(revoke_it("s2"), CADB_REVOKE_DONE);
    assert_int_equal(reserve("s3", "r1"), CADB_RESERVE_KNOWN);

    /* without an id there may be many */
    assert_int_equal(reserve("s4", NULL), CADB_RESERVE_NEW);
    assert_int_equal(reserve("s5", NULL), CADB_RESERVE_NEW);
    /* 2 reserved, 1 issued and revoked, 1 abandoned, and nothing for what was refused */
    assert_int_equal(numbers().generation, 4 + 1 + 2);
}

static void
authorities_do_not_meet(void **state)
{
    struct cadb_certificate certificate = certificate_of("s1", "r1");
    struct cadb_key key = { .serial = bytes_of("s1") };
    struct seen seen = { 0 };
    enum cadb_reserve reserved = CADB_RESERVE_KNOWN;
    struct cadb_counts counts;

    (void)state;
    add_authority(store, "other");
    bring_to("s1", "r1", CADB_REVOKED);
    assert_int_equal(cadb_find(store, "other", &key, see, &seen, NULL), 0);
    assert_int_equal(seen.rows, 0);
    assert_int_equal(cadb_reserve(store, "other", &certificate, &reserved, NULL), 0);
    assert_int_equal(reserved, CADB_RESERVE_NEW);
    assert_int_equal(cadb_count(store, "other", &counts, NULL), 0);
    assert_int_equal(sum(&counts), 1);
    assert_int_equal(counts.by_state[CADB_RESERVED], 1);
    assert_int_equal(look("s1").state, CADB_REVOKED);
}

struct racer {
    pthread_t thread;
    int n;
    int by_outcome[3];
};

#define RACES 40

static void *
race(void *arg)
{
    struct racer *racer = arg;
    char serial[16], request_id[16];

    for (int i = 0; i < RACES; i++) {
        enum cadb_reserve reserved = CADB_RESERVE_SERIAL_TAKEN;
        struct cadb_certificate certificate;

        snprintf(serial, sizeof(serial), "s%d-%d", i, racer->n);
        snprintf(request_id, sizeof(request_id), "r%d", i);
        certificate = certificate_of(serial, request_id);
        if (cadb_reserve(store, CA, &certificate, &reserved, NULL) == 0)
            racer->by_outcome[reserved]++;
    }
    return NULL;
}

static void
of_many_who_reserve_for_an_id_one_gets_it(void **state)
{
    struct racer racers[THREADS] = { 0 };
    struct cadb_counts counts;
    int got = 0, known = 0;

    (void)state;
    for (int i = 0; i < THREADS; i++) {
        racers[i].n = i;
        assert_int_equal(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(racers[i].thread, NULL);
        got += racers[i].by_outcome[CADB_RESERVE_NEW];
        known += racers[i].by_outcome[CADB_RESERVE_KNOWN];
    }
    assert_int_equal(got, RACES);
    assert_int_equal(known, RACES * (THREADS - 1));
    assert_int_equal(cadb_count(store, CA, &counts, NULL), 0);
    assert_int_equal(counts.by_state[CADB_RESERVED], RACES);
    assert_int_equal(numbers().generation, RACES);
}

struct issuer {
    struct store *store;
    pthread_barrier_t together;
};

static void *
issue_all(void *arg)
{
    struct issuer *issuer = arg;
    char serial[16];

    for (int i = 0; i < RACES; i++) {
        snprintf(serial, sizeof(serial), "s%d", i);
        pthread_barrier_wait(&issuer->together);
        /* Too late where it was revoked already. */
        (void)(cadb_issued(issuer->store, CA, bytes_of(serial), bytes_of("DER"), 3000, NULL) == 0);
    }
    return NULL;
}

/* An administrator revokes just what an instance is being given. */
static void
what_is_issued_while_it_is_revoked_is_counted_once(void **state)
{
    struct issuer issuer = { .store = store };
    struct cadb_counts counts;
    pthread_t thread;
    char serial[16];

    (void)state;
    if (on_postgres())
        assert_int_equal(store_open(getenv("CC_TEST_POSTGRES"), &issuer.store, NULL), 0);
    assert_int_equal(pthread_barrier_init(&issuer.together, NULL, 2), 0);
    for (int i = 0; i < RACES; i++) {
        snprintf(serial, sizeof(serial), "s%d", i);
        assert_int_equal(reserve(serial, serial), CADB_RESERVE_NEW);
    }
    assert_int_equal(pthread_create(&thread, NULL, issue_all, &issuer), 0);
    for (int i = 0; i < RACES; i++) {
        snprintf(serial, sizeof(serial), "s%d", i);
        pthread_barrier_wait(&issuer.together);
        assert_int_equal(revoke_it(serial), CADB_REVOKE_DONE);
    }
    pthread_join(thread, NULL);
    assert_int_equal(cadb_count(store, CA, &counts, NULL), 0);
    assert_int_equal(counts.by_state[CADB_RESERVED], 0);
    assert_int_equal(counts.by_state[CADB_ISSUED], 0);
    assert_int_equal(counts.by_state[CADB_REVOKED], RACES);
    pthread_barrier_destroy(&issuer.together);
    if (issuer.store != store)
        store_close(issuer.store);
}

/* ---- finding and listing ---- */

static void
put_row(const char *serial, int64_t reserved_ms, const char *subject, int64_t not_after_ms)
{
    struct cadb_certificate certificate = certificate_of(serial, NULL);
    enum cadb_reserve reserved = CADB_RESERVE_KNOWN;

    certificate.reserved_ms = reserved_ms;
    certificate.subject = subject;
    certificate.not_after_ms = not_after_ms;
    assert_int_equal(cadb_reserve(store, CA, &certificate, &reserved, NULL), 0);
    assert_int_equal(reserved, CADB_RESERVE_NEW);
}

static void
a_key_finds_its_newest_certificate(void **state)
{
    struct cadb_key key = { .key_hash = { key_hash, sizeof(key_hash) } };
    uint8_t another[CADB_KEY_HASH_LEN] = { 9 };

    (void)state;
    assert_int_equal(look_by(&key).rows, 0);
    put_row("new", 300, "CN=a", 1000);
    put_row("old", 100, "CN=b", 1000);
    put_row("newest", 400, "CN=c", 1000);
    assert_string_equal(look_by(&key).serials, "newest ");
    assert_int_equal(abandon("newest"), 0);
    assert_string_equal(look_by(&key).serials, "new ");
    key.key_hash.data = another;
    assert_int_equal(look_by(&key).rows, 0);
}

static void
reserved_rows_are_walked_oldest_first(void **state)
{
    struct seen seen = { 0 }, one = { .enough = 1 };

    (void)state;
    put_row("b", 200, "CN=b", 1000);
    put_row("a", 100, "CN=a", 1000);
    put_row("c", 300, "CN=c", 1000);
    put_row("i", 50, "CN=i", 1000);
    put_row("x", 60, "CN=x", 1000);
    assert_int_equal(issue("i"), 0);
    assert_int_equal(abandon("x"), 0);
    assert_int_equal(cadb_walk_reserved(store, CA, 300, see, &seen, NULL), 0);
    assert_string_equal(seen.serials, "a b ");
    assert_int_equal(seen.state, CADB_RESERVED);
    assert_int_equal(cadb_walk_reserved(store, CA, 300, see, &one, NULL), 0);
    assert_string_equal(one.serials, "a ");
}

#define STATE(s) (1U << (s))

static const struct {
    struct cadb_query query;
    const char *after, *want;
} lists[] = {
    { { .limit = 10 }, "", "a c b d e " },
    { { .limit = 2 }, "", "a c " },
    { { .limit = 2, .after_ms = 100 }, "c", "b d " },
    { { .limit = 10, .after_ms = 100 }, "b0", "d e " },
    { { .limit = 10, .after_ms = 500 }, "e", "" },
    { { .limit = 10, .states = STATE(CADB_RESERVED) }, "", "a " },
    { { .limit = 10, .states = STATE(CADB_HELD) | STATE(CADB_REVOKED) }, "", "b d " },
    { { .limit = 10, .states = STATE(CADB_ABANDONED) }, "", "e " },
    { { .limit = 10, .expires_before_ms = 3000 }, "", "a c " },
    { { .limit = 10, .expires_before_ms = 3001 }, "", "a c b " },
    { { .limit = 10, .subject = "device" }, "", "a c b " },
    { { .limit = 10, .subject = "DEVICE 2" }, "", "c " },
    { { .limit = 10, .subject = "100%" }, "", "d " },
    { { .limit = 10, .subject = "_" }, "", "e " },
    { { .limit = 10, .subject = "!" }, "", "e " },
    { { .limit = 10, .subject = "%" }, "", "d " },
    { { .limit = 10, .subject = "" }, "", "a c b d e " },
    { { .limit = 10, .subject = "nobody" }, "", "" },
    { { .limit = 0 }, "", "" },
};

static void
lists_are_filtered_and_paged(void **state)
{
    char longest[2000];

    (void)state;
    put_row("a", 50, "CN=Device 1", 1000);
    put_row("c", 100, "CN=device 2", 2000);
    put_row("b", 100 + 1, "CN=Device 3", 3000);
    put_row("d", 200, "CN=100% sure", 4000);
    put_row("e", 300, "CN=under_score!", 5000);
    for (int i = 0; i < 3; i++)
        assert_int_equal(issue(i == 0 ? "c" : i == 1 ? "b" : "d"), 0);
    assert_int_equal(hold("b"), CADB_REVOKE_DONE);
    assert_int_equal(revoke_it("d"), CADB_REVOKE_DONE);
    assert_int_equal(abandon("e"), 0);

    for (size_t i = 0; i < CC_COUNT(lists); i++) {
        struct cadb_query query = lists[i].query;
        struct seen seen = { 0 };

        query.after = bytes_of(lists[i].after);
        if (strcmp(lists[i].after, "b0") == 0)
            query.after_ms = 101;
        assert_int_equal(cadb_list(store, CA, &query, see, &seen, NULL), 0);
        assert_string_equal(seen.serials, lists[i].want);
        assert_string_equal(seen.der, "");
    }
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    assert_int_equal(cadb_list(store, CA, &(struct cadb_query){ .subject = longest, .limit = 1 },
                             see, NULL, NULL),
            0);
}

/* ---- what CRLs say ---- */

struct walk {
    char text[256]; /* "serial:reason " of each */
    int64_t change;
    int rows, stop_at;
};

static int
see_entry(void *arg, const struct cadb_crl_entry *entry)
{
    struct walk *walk = arg;
    size_t len = strlen(walk->text);

    snprintf(walk->text + len, sizeof(walk->text) - len, "%.*s:%d ", (int)entry->serial.len,
            entry->serial.data, entry->reason);
    return ++walk->rows == walk->stop_at;
}

static struct walk
walk(int64_t since_change)
{
    struct walk walk = { .change = -1 };

    assert_int_equal(cadb_walk_revoked(store, CA, since_change, ANY_TIME, see_entry, &walk,
                             &walk.change, NULL),
            0);
    return walk;
}

static void
put_crl(enum cadb_crl_kind kind, int64_t number, int64_t change)
{
    struct cadb_crl crl = { .kind = kind, .number = number, .change = change, .len = 0 };
    FILE *file = tmpfile();
    bool stored = false;

    assert_int_equal(cadb_crl_put(store, CA, &crl, fileno(file), &stored, NULL), 0);
    assert_true(stored);
    fclose(file);
}

static void
a_full_list_has_all_that_are_held_or_revoked(void **state)
{
    struct walk w, stopped = { .stop_at = 1, .change = -1 };
    struct cc_err err = { 0 };

    (void)state;
    w = walk(0);
    assert_string_equal(w.text, "");
    assert_int_equal(w.change, 0);
    bring_to("a", NULL, CADB_REVOKED);
    bring_to("b", NULL, CADB_HELD);
    bring_to("c", NULL, CADB_ISSUED);
    bring_to("d", NULL, CADB_RESERVED);
    bring_to("e", NULL, CADB_ABANDONED);
    assert_int_equal(revoke_it("d"), CADB_REVOKE_DONE);
    bring_to("f", NULL, CADB_HELD);
    assert_int_equal(release("f"), CADB_REVOKE_DONE);
    w = walk(0);
    assert_string_equal(w.text, "a:1 b:6 d:1 ");
    assert_int_equal(w.change, 5);
    assert_int_equal(numbers().change, 5);

    assert_int_equal(
            cadb_walk_revoked(store, CA, 0, ANY_TIME, see_entry, &stopped, &stopped.change, &err),
            -1);
    assert_string_equal(stopped.text, "a:1 ");
    assert_int_equal(stopped.change, -1);
    assert_int_equal(err.domain, CC_DOM_NONE);
}

static void
what_expired_is_left_out(void **state)
{
    struct walk at = { 0 }, after = { 0 };

    (void)state;
    put_row("a", 1, "CN=a", 7000);
    put_row("b", 1, "CN=b", 8000);
    assert_int_equal(revoke_it("a"), CADB_REVOKE_DONE);
    assert_int_equal(revoke_it("b"), CADB_REVOKE_DONE);
    assert_int_equal(cadb_walk_revoked(store, CA, 0, 7000, see_entry, &at, &at.change, NULL), 0);
    assert_string_equal(at.text, "a:1 b:1 ");
    assert_int_equal(cadb_walk_revoked(store, CA, 0, 7001, see_entry, &after, &after.change, NULL),
            0);
    assert_string_equal(after.text, "b:1 ");
    assert_int_equal(after.change, 2);
}

/* The letters are changes of one certificate: h hold, u release, r revoke, and B: the base is made here. */
static const struct {
    const char *changes, *want;
} deltas[] = {
    { "hB", "" },
    { "Bh", "s:6 " },
    { "rB", "" },
    { "Br", "s:1 " },
    { "hBr", "s:1 " },
    { "hBu", "s:8 " },
    { "huB", "" },
    { "Bhu", "" },
    { "huBhu", "" },
    { "huBh", "s:6 " },
    { "hBuh", "s:6 " },
    { "hBuhu", "s:8 " },
    { "hBuhuhu", "s:8 " },
    { "hBuhr", "s:1 " },
    { "huhBu", "s:8 " },
    { "BhuhuB", "" },
};

/* Its last letter made the base; returns the base's change number. */
static int64_t
play(const char *serial, const char *changes)
{
    int64_t base = -1;

    for (; *changes != '\0'; changes++) {
        if (*changes == 'B')
            base = numbers().change;
        if (*changes == 'h')
            assert_int_equal(hold(serial), CADB_REVOKE_DONE);
        if (*changes == 'u')
            assert_int_equal(release(serial), CADB_REVOKE_DONE);
        if (*changes == 'r')
            assert_int_equal(revoke_it(serial), CADB_REVOKE_DONE);
    }
    return base;
}

static void
a_delta_has_what_changed_since_its_base(void **state)
{
    (void)state;
    for (size_t i = 0; i < CC_COUNT(deltas); i++) {
        struct walk w;
        int64_t base;

        (void)teardown(NULL);
        assert_int_equal(setup(NULL), 0);
        /* a change before all others, as there is no delta to a base without one */
        bring_to("first", NULL, CADB_REVOKED);
        bring_to("s", "r1", CADB_ISSUED);
        base = play("s", deltas[i].changes);
        w = walk(base);
        assert_string_equal(w.text, deltas[i].want);
        assert_int_equal(w.change, numbers().change);
    }
}

/* Base and delta together may have made a complete list that still has it. */
static void
a_hold_that_a_delta_told_of_is_taken_back_by_the_next(void **state)
{
    (void)state;
    bring_to("first", NULL, CADB_REVOKED);
    bring_to("s", NULL, CADB_ISSUED);
    bring_to("t", NULL, CADB_ISSUED);
    put_crl(CADB_CRL_FULL, 1, 1);
    assert_int_equal(hold("s"), CADB_REVOKE_DONE);
    put_crl(CADB_CRL_DELTA, 2, 2);
    assert_int_equal(hold("t"), CADB_REVOKE_DONE);
    assert_int_equal(release("t"), CADB_REVOKE_DONE);
    assert_int_equal(release("s"), CADB_REVOKE_DONE);
    /* t was never told of */
    assert_string_equal(walk(1).text, "s:8 ");
    put_crl(CADB_CRL_DELTA, 3, 5);
    assert_string_equal(walk(1).text, "s:8 ");
    put_crl(CADB_CRL_FULL, 4, 5);
    assert_string_equal(walk(5).text, "");
}

/* ---- CRLs ---- */

static int
file_of(size_t len, unsigned seed)
{
    char name[] = "/tmp/test-cadb-crl-XXXXXX";
    int fd = mkstemp(name);
    uint8_t *data = malloc(len + 3);

    assert_true(fd >= 0);
    assert_int_equal(unlink(name), 0);
    memcpy(data, "xyz", 3);
    for (size_t i = 0; i < len; i++)
        data[3 + i] = (uint8_t)((i * 31 + i / 251 + seed) & 0xff);
    assert_int_equal(write(fd, data, len + 3), (ssize_t)(len + 3));
    /* the CRL begins behind something else */
    assert_int_equal(lseek(fd, 3, SEEK_SET), 3);
    free(data);
    return fd;
}

static void
check_file(int fd, size_t len, unsigned seed)
{
    uint8_t *data = malloc(len + 1);

    assert_int_equal(pread(fd, data, len + 1, 0), (ssize_t)len);
    for (size_t i = 0; i < len; i++)
        if (data[i] != (uint8_t)((i * 31 + i / 251 + seed) & 0xff))
            fail_msg("byte %zu of %zu", i, len);
    free(data);
}

static bool
put_file(enum cadb_crl_kind kind, int64_t number, size_t len)
{
    struct cadb_crl crl = { kind, number, 1, 9, 1000, 2000, (int64_t)len };
    int fd = file_of(len, (unsigned)number);
    bool stored = false;

    assert_int_equal(cadb_crl_put(store, CA, &crl, fd, &stored, NULL), 0);
    assert_int_equal(lseek(fd, 0, SEEK_CUR), 3);
    close(fd);
    return stored;
}

static void
check_crl(enum cadb_crl_kind kind, int64_t number, size_t len)
{
    char name[] = "/tmp/test-cadb-crl-XXXXXX";
    int fd = mkstemp(name);
    struct cadb_crl crl = { 0 };
    bool found = false;

    assert_int_equal(unlink(name), 0);
    assert_int_equal(cadb_crl_get(store, CA, kind, &found, &crl, fd, NULL), 0);
    assert_true(found);
    assert_int_equal(crl.kind, kind);
    assert_int_equal(crl.number, number);
    assert_int_equal(crl.base_number, 1);
    assert_int_equal(crl.change, 9);
    assert_int_equal(crl.this_update_ms, 1000);
    assert_int_equal(crl.next_update_ms, 2000);
    assert_int_equal(crl.len, len);
    check_file(fd, len, (unsigned)number);
    close(fd);
}

static void
crls_come_back_across_pieces(void **state)
{
    static const size_t lens[] = { 1, MIB - 1, MIB, MIB + 1, 3 * MIB + 7, 5 };
    struct cadb_crl crl = { .number = 77 };
    bool found = true;

    (void)state;
    assert_int_equal(cadb_crl_get(store, CA, CADB_CRL_FULL, &found, &crl, -1, NULL), 0);
    assert_false(found);
    assert_int_equal(crl.number, 77);
    for (size_t i = 0; i < CC_COUNT(lens); i++) {
        assert_true(put_file(CADB_CRL_FULL, (int64_t)i + 1, lens[i]));
        check_crl(CADB_CRL_FULL, (int64_t)i + 1, lens[i]);
    }
    assert_int_equal(cadb_crl_get(store, CA, CADB_CRL_DELTA, &found, &crl, -1, NULL), 0);
    assert_false(found);
}

static void
an_older_crl_replaces_no_newer_one(void **state)
{
    (void)state;
    assert_true(put_file(CADB_CRL_FULL, 5, 100));
    assert_false(put_file(CADB_CRL_FULL, 4, 200));
    check_crl(CADB_CRL_FULL, 5, 100);
    assert_true(put_file(CADB_CRL_DELTA, 4, 300));
    check_crl(CADB_CRL_DELTA, 4, 300);
    assert_true(put_file(CADB_CRL_FULL, 5, 100));
    check_crl(CADB_CRL_FULL, 5, 100);
    assert_true(put_file(CADB_CRL_FULL, 6, 50));
    check_crl(CADB_CRL_FULL, 6, 50);
    check_crl(CADB_CRL_DELTA, 4, 300);
}

static void
a_crl_that_cannot_be_read_leaves_the_old_one(void **state)
{
    struct cadb_crl crl = { .kind = CADB_CRL_FULL, .number = 2, .len = 2 * (int64_t)MIB };
    int fd = file_of(MIB + 10, 2);
    int ends[2];
    bool stored = false;

    (void)state;
    assert_true(put_file(CADB_CRL_FULL, 1, MIB + 5));
    assert_int_equal(cadb_crl_put(store, CA, &crl, fd, &stored, NULL), -1);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(cadb_crl_put(store, CA, &crl, ends[0], &stored, NULL), -1);
    assert_false(stored);
    check_crl(CADB_CRL_FULL, 1, MIB + 5);
    close(ends[0]);
    close(ends[1]);
    close(fd);
}

static void
crl_numbers_only_grow(void **state)
{
    int64_t number = 0, other = 0;

    (void)state;
    add_authority(store, "other");
    for (int64_t want = 1; want < 5; want++) {
        assert_int_equal(cadb_crl_next_number(store, CA, &number, NULL), 0);
        assert_int_equal(number, want);
    }
    assert_int_equal(cadb_crl_next_number(store, "other", &other, NULL), 0);
    assert_int_equal(other, 1);
}

/* ---- files ---- */

static char folder[] = "/tmp/test-cadb-XXXXXX";
static char uri[64];

static int
setup_file(void **state)
{
    struct cc_err err = { 0 };

    (void)state;
    strcpy(folder + strlen(folder) - 6, "XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(uri, sizeof(uri), "sqlite:%s/db", folder);
    if (store_open(uri, &store, &err) != 0)
        return -1;
    add_authority(store, CA);
    return 0;
}

static int
teardown_file(void **state)
{
    char path[80];

    (void)state;
    store_close(store);
    snprintf(path, sizeof(path), "%s/db", folder);
    return unlink(path) != 0 || rmdir(folder) != 0;
}

static void
all_of_it_is_there_after_a_restart(void **state)
{
    int64_t number = 0;

    (void)state;
    bring_to("a", "r1", CADB_RESERVED);
    bring_to("b", "r2", CADB_REVOKED);
    bring_to("c", "r3", CADB_HELD);
    assert_int_equal(cadb_crl_next_number(store, CA, &number, NULL), 0);
    assert_true(put_file(CADB_CRL_FULL, number, MIB + 1));
    store_close(store);
    assert_int_equal(store_open(uri, &store, NULL), 0);

    assert_int_equal(look_request("r1").state, CADB_RESERVED);
    assert_string_equal(look_request("r2").der, "DER");
    assert_string_equal(walk(0).text, "b:1 c:6 ");
    assert_int_equal(numbers().change, 2);
    assert_int_equal(numbers().generation, 3 + 2 + 2);
    assert_int_equal(reserve("d", "r1"), CADB_RESERVE_KNOWN);
    check_crl(CADB_CRL_FULL, number, MIB + 1);
    assert_int_equal(cadb_crl_next_number(store, CA, &number, NULL), 0);
    assert_int_equal(number, 2);
}

/* ---- many ---- */

static void *
revoke_many(void *arg)
{
    const struct racer *racer = arg;
    char serial[16];

    for (int i = racer->n; i < MANY; i += THREADS) {
        struct cadb_certificate certificate;
        struct cadb_revocation revocation = { .reason = i % 2, .revoked_ms = i + 1 };
        enum cadb_reserve reserved;
        enum cadb_revoked verdict;

        snprintf(serial, sizeof(serial), "s%d", i);
        certificate = certificate_of(serial, NULL);
        revocation.serial = certificate.serial;
        if (cadb_reserve(store, CA, &certificate, &reserved, NULL) != 0 ||
                cadb_revoke(store, CA, &revocation, &verdict, NULL) != 0)
            break;
    }
    return NULL;
}

struct tally {
    int rows;
    int64_t sum;
};

static int
count_entry(void *arg, const struct cadb_crl_entry *entry)
{
    struct tally *tally = arg;

    tally->rows++;
    tally->sum += entry->revoked_ms;
    return 0;
}

static void
a_hundred_thousand_are_walked(void **state)
{
    struct racer racers[THREADS] = { 0 };
    struct tally all = { 0 }, last = { 0 };
    struct cadb_counts counts;
    int64_t change = 0;

    (void)state;
    for (int i = 0; i < THREADS; i++) {
        racers[i].n = i;
        assert_int_equal(pthread_create(&racers[i].thread, NULL, revoke_many, &racers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(racers[i].thread, NULL);
    assert_int_equal(cadb_walk_revoked(store, CA, 0, ANY_TIME, count_entry, &all, &change, NULL),
            0);
    assert_int_equal(all.rows, MANY);
    assert_int_equal(all.sum, (int64_t)MANY * (MANY + 1) / 2);
    assert_int_equal(change, MANY);
    assert_int_equal(
            cadb_walk_revoked(store, CA, MANY - 10, ANY_TIME, count_entry, &last, &change, NULL),
            0);
    assert_int_equal(last.rows, 10);
    assert_int_equal(cadb_count(store, CA, &counts, NULL), 0);
    assert_int_equal(counts.by_state[CADB_REVOKED], MANY);
    assert_int_equal(sum(&counts), MANY);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* ---- what an administrator decides ---- */

struct decided {
    unsigned calls;
    enum cadb_decision decision;
    char subject[64], reason[64];
};

static int
see_approval(void *arg, const struct cadb_approval *approval)
{
    struct decided *decided = arg;

    decided->calls++;
    decided->decision = approval->decision;
    (void)snprintf(decided->subject, sizeof(decided->subject), "%s", approval->subject);
    (void)snprintf(decided->reason, sizeof(decided->reason), "%s",
            approval->reason != NULL ? approval->reason : "");
    return 0;
}

static struct decided
ask_for(const char *request_id, int64_t asked_ms)
{
    const struct cadb_approval approval = { .request_id = request_id,
        .profile = "device",
        .subject = "CN=device1",
        .asked_ms = asked_ms };
    struct decided decided = { .calls = 0 };

    assert_int_equal(cadb_approval_ask(store, CA, &approval, see_approval, &decided, NULL), 0);
    assert_int_equal(decided.calls, 1);
    assert_string_equal(decided.subject, "CN=device1");
    return decided;
}

static unsigned
count_waiting(void)
{
    struct decided decided = { .calls = 0 };

    assert_int_equal(cadb_approval_walk(store, CA, see_approval, &decided, NULL), 0);
    return decided.calls;
}

static void
an_administrator_decides_once(void **state)
{
    int64_t count = -1;

    (void)state;
    assert_int_equal(ask_for("a", 1000).decision, CADB_UNDECIDED);
    assert_int_equal(ask_for("a", 2000).decision, CADB_UNDECIDED);
    assert_int_equal(ask_for("b", 3000).decision, CADB_UNDECIDED);
    assert_int_equal(ask_for("c", 4000).decision, CADB_UNDECIDED);
    assert_int_equal(count_waiting(), 3);

    assert_int_equal(cadb_approval_decide(store, CA, "a", CADB_DENIED, "no", 5000, &count, NULL),
            0);
    assert_int_equal(count, 1);
    assert_int_equal(ask_for("a", 6000).decision, CADB_DENIED);
    assert_string_equal(ask_for("a", 6000).reason, "no");
    /* It stays as it was decided, and what nobody asked for is not decided on. */
    assert_int_equal(cadb_approval_decide(store, CA, "a", CADB_APPROVED, NULL, 7000, &count, NULL),
            0);
    assert_int_equal(count, 0);
    assert_int_equal(cadb_approval_decide(store, CA, "x", CADB_APPROVED, NULL, 7000, &count, NULL),
            0);
    assert_int_equal(count, 0);
    assert_int_equal(cadb_approval_decide(store, CA, NULL, CADB_APPROVED, NULL, 7000, &count, NULL),
            0);
    assert_int_equal(count, 2);
    assert_int_equal(ask_for("c", 8000).decision, CADB_APPROVED);
    assert_int_equal(ask_for("a", 8000).decision, CADB_DENIED);
    assert_int_equal(count_waiting(), 0);

    assert_int_equal(cadb_approval_prune(store, CA, 3001, NULL), 0);
    assert_int_equal(ask_for("a", 9000).decision, CADB_UNDECIDED);
    assert_int_equal(ask_for("c", 9000).decision, CADB_APPROVED);
    assert_int_equal(cadb_approval_decide(store, "no", "a", CADB_APPROVED, NULL, 1, &count, NULL),
            -1);
}

static void
a_decision_is_kept_until_there_is_a_certificate(void **state)
{
    static const struct {
        const char *serial;
        enum cadb_state state;
        enum cadb_decision want;
    } rows[] = {
        { "reserved", CADB_RESERVED, CADB_APPROVED },
        { "abandoned", CADB_ABANDONED, CADB_APPROVED },
        { "issued", CADB_ISSUED, CADB_UNDECIDED },
        { "held", CADB_HELD, CADB_UNDECIDED },
        { "revoked", CADB_REVOKED, CADB_UNDECIDED },
    };
    int64_t count;

    (void)state;
    for (size_t i = 0; i < CC_COUNT(rows); i++) {
        bring_to(rows[i].serial, rows[i].serial, rows[i].state);
        (void)ask_for(rows[i].serial, 1000);
    }
    assert_int_equal(cadb_approval_decide(store, CA, NULL, CADB_APPROVED, NULL, 2000, &count, NULL),
            0);
    assert_int_equal(count, CC_COUNT(rows));
    assert_int_equal(cadb_approval_prune(store, CA, 1000, NULL), 0);
    for (size_t i = 0; i < CC_COUNT(rows); i++)
        assert_int_equal(ask_for(rows[i].serial, 3000).decision, rows[i].want);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_authority_is_kept_as_it_was_added),
        TEST(an_unknown_authority_is_an_error),
        TEST(every_call_in_every_state),
        TEST(a_row_says_what_was_put_into_it),
        TEST(revoking_again_changes_nothing),
        TEST(what_cannot_be_is_refused),
        TEST(an_id_has_one_row_that_is_not_abandoned),
        TEST(authorities_do_not_meet),
        TEST(of_many_who_reserve_for_an_id_one_gets_it),
        TEST(what_is_issued_while_it_is_revoked_is_counted_once),
        TEST(a_key_finds_its_newest_certificate),
        TEST(reserved_rows_are_walked_oldest_first),
        TEST(lists_are_filtered_and_paged),
        TEST(a_full_list_has_all_that_are_held_or_revoked),
        TEST(what_expired_is_left_out),
        TEST(a_delta_has_what_changed_since_its_base),
        TEST(a_hold_that_a_delta_told_of_is_taken_back_by_the_next),
        TEST(crls_come_back_across_pieces),
        TEST(an_administrator_decides_once),
        TEST(a_decision_is_kept_until_there_is_a_certificate),
        TEST(an_older_crl_replaces_no_newer_one),
        TEST(a_crl_that_cannot_be_read_leaves_the_old_one),
        TEST(crl_numbers_only_grow),
        TEST(a_hundred_thousand_are_walked),
        cmocka_unit_test_setup_teardown(all_of_it_is_there_after_a_restart, setup_file,
                teardown_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
