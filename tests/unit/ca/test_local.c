/* SPDX-License-Identifier: MIT */
#include "ca/local.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/memory_store.h"
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ocsp.h>
#include <openssl/x509v3.h>

#include "base/clock.h"
#include "base/text.h"
#include "pki/cert.h"
#include "pki/csr.h"
#include "pki/keyspec.h"
#include "store/store_int.h"
#include "tests/unit/hsm/token_dir.h"

/*
 * The built-in CA on a real token through the real token process, with its database in memory; what it makes is judged
 * by OpenSSL alone.
 */

static struct token_dir *token;

static struct {
    struct hsm *hsm;
    struct hsm_key *ca_key, *ocsp_key;
    EVP_PKEY *device;
} world;

#define must(call)                                                                                 \
    do {                                                                                           \
        struct cc_err must_err = { 0 }, *err = &must_err;                                          \
        if ((call) != 0)                                                                           \
            fail_msg("%s: %s", #call, cc_err_text(err));                                           \
    } while (0)

#define want(outcome, call)                                                                        \
    do {                                                                                           \
        struct cc_err want_err = { 0 }, *err = &want_err;                                          \
        enum ca_outcome want_got = (call);                                                         \
        if (want_got != (outcome))                                                                 \
            fail_msg("%s: %s: %s", #call, ca_outcome_name(want_got), cc_err_text(err));            \
    } while (0)

static int
group_setup(void **state)
{
    struct hsm_settings settings = token_dir_settings(token);

    (void)state;
    must(hsm_open(&settings, &world.hsm, err));
    must(hsm_wait_open(world.hsm, 60000, err));
    must(hsm_key_get0(world.hsm, HSM_ROLE_CA, "pkcs11:object=ca", &world.ca_key, err));
    must(hsm_key_get0(world.hsm, HSM_ROLE_OCSP, "pkcs11:object=ocsp", &world.ocsp_key, err));
    must(pki_key_generate(PKI_EC_P256, &world.device, err));
    return 0;
}

static int
group_teardown(void **state)
{
    (void)state;
    EVP_PKEY_free(world.device);
    hsm_close(world.hsm);
    return 0;
}

/* ---- one CA ---- */

struct rig {
    struct store *store;
    struct ca *ca;
    X509 *certificate;
};

static struct ca_local_settings
settings_of(struct store *store)
{
    return (struct ca_local_settings){
        .name = "corp",
        .store = store,
        .hsm = world.hsm,
        .key = world.ca_key,
        .ocsp_key = world.ocsp_key,
        .crl_validity_ms = 7 * PKI_DAY_MS,
        .crl_interval_ms = PKI_DAY_MS,
        .ocsp_validity_ms = 3600000,
        .folder = "/tmp",
    };
}

static const struct ca_local_init root = {
    .subject = "CN=Contoso Root,O=Contoso",
    .validity_ms = 3650 * PKI_DAY_MS,
    .path_len = -1,
};

static struct rig
rig_open_with(struct ca_local_settings settings)
{
    struct rig rig = { .store = settings.store };
    struct cc_buf request = CC_BUF_INIT(65536);

    must(ca_local_init(&settings, &root, &request, err));
    assert_int_equal(request.len, 0);
    must(ca_local_open(&settings, &rig.ca, err));
    must(ca_local_get1_certificate(rig.ca, &rig.certificate, err));
    cc_buf_free(&request);
    return rig;
}

static struct rig
rig_open(void)
{
    struct store *store = NULL;

    must(store_open(memory_store(), &store, err));
    return rig_open_with(settings_of(store));
}

static void
rig_close(struct rig *rig)
{
    X509_free(rig->certificate);
    ca_close(rig->ca);
    store_close(rig->store);
}

static const struct pki_profile profile = {
    .name = "device",
    .validity_ms = 365 * PKI_DAY_MS,
    .key_usages = KU_DIGITAL_SIGNATURE,
    .san_types = 1u << PKI_SAN_DNS,
    .key_specs = 1u << PKI_EC_P256 | 1u << PKI_RSA2048,
};

static struct pki_plan *
plan_of(const char *subject)
{
    const struct pki_ask ask = { .subject = subject };
    struct pki_plan *plan = NULL;

    must(pki_plan_make(&profile, &ask, cc_clock_now_ms(), &plan, err));
    return plan;
}

static void
csr_of(EVP_PKEY *key, const struct pki_plan *plan, struct cc_buf *ret)
{
    struct cc_buf subject = CC_BUF_INIT(4096);

    must(pki_name_write(plan->subject, &subject, err));
    must(pki_csr_build(key, cc_buf_bytes(&subject), (struct cc_bytes){ NULL, 0 }, NULL, ret, err));
    cc_buf_free(&subject);
}

static enum ca_outcome
issue(struct rig *rig, const char *request_id, const char *subject, EVP_PKEY *key, X509 **ret,
        struct cc_err *err)
{
    struct pki_plan *plan = plan_of(subject);
    struct cc_buf csr = CC_BUF_INIT(65536), pending = CC_BUF_INIT(1024);
    struct ca_request request = { .request_id = request_id, .plan = plan };
    enum ca_outcome outcome;

    csr_of(key, plan, &csr);
    request.csr = cc_buf_bytes(&csr);
    outcome = ca_issue(rig->ca, &request, ret, &pending, err);
    cc_buf_free(&csr);
    cc_buf_free(&pending);
    pki_plan_free(plan);
    return outcome;
}

static X509 *
issue_good(struct rig *rig, const char *request_id)
{
    X509 *cert = NULL;

    want(CA_DONE, issue(rig, request_id, "CN=device-1", world.device, &cert, err));
    return cert;
}

static struct cc_bytes
serial_of(const X509 *cert)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);

    return (struct cc_bytes){ ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial) };
}

/* ---- issuing ---- */

static void
test_root(void **state)
{
    struct rig rig = rig_open();
    struct ca_local_settings settings = settings_of(rig.store);
    struct cc_buf name = CC_BUF_INIT(1024), request = CC_BUF_INIT(1024);
    struct cc_err why = { 0 };

    (void)state;
    assert_int_equal(X509_check_ca(rig.certificate), 1);
    assert_int_equal(X509_verify(rig.certificate, X509_get0_pubkey(rig.certificate)), 1);
    must(ca_issuer_name(rig.ca, &name, err));
    assert_string_equal(cc_buf_str(&name), "CN=Contoso Root,O=Contoso");
    want(CA_DONE, ca_check(rig.ca, cc_deadline_in(10000), err));
    /* Never a second one of a name. */
    assert_int_equal(ca_local_init(&settings, &root, &request, &why), -1);
    assert_non_null(strstr(why.text, "already"));
    cc_buf_free(&name);
    rig_close(&rig);
}

static void
test_issue(void **state)
{
    struct rig rig = rig_open();
    X509 *cert = issue_good(&rig, "request-1"), *again = NULL, *found = NULL;
    struct cc_bytes serial = serial_of(cert);

    (void)state;
    assert_int_equal(X509_verify(cert, X509_get0_pubkey(rig.certificate)), 1);
    assert_int_equal(serial.len, 20);
    assert_true(serial.data[0] >= 0x40 && serial.data[0] < 0x80);
    /* The same request again: the very same certificate, with no second in the database. */
    want(CA_DONE, issue(&rig, "request-1", "CN=device-1", world.device, &again, err));
    assert_int_equal(X509_cmp(cert, again), 0);
    want(CA_DONE, ca_find(rig.ca, "request-1", cc_deadline_in(1000), &found, err));
    assert_int_equal(X509_cmp(cert, found), 0);
    X509_free(found);
    X509_free(again);
    want(CA_NOT_FOUND, ca_find(rig.ca, "request-2", cc_deadline_in(1000), &found, err));
    X509_free(cert);
    rig_close(&rig);
}

/* The same id for another key or another subject does not get the first one's certificate. */
static void
test_request_id_of_something_else(void **state)
{
    struct rig rig = rig_open();
    X509 *cert = issue_good(&rig, "request-1"), *other = NULL;
    EVP_PKEY *key = NULL;
    struct cc_err why = { 0 };

    (void)state;
    must(pki_key_generate(PKI_EC_P256, &key, err));
    assert_int_equal(issue(&rig, "request-1", "CN=device-1", key, &other, &why), CA_REFUSED);
    assert_null(other);
    EVP_PKEY_free(key);
    X509_free(cert);
    rig_close(&rig);
}

static void
test_refusals(void **state)
{
    struct rig rig = rig_open();
    struct pki_plan *plan = plan_of("CN=device-1");
    struct cc_buf csr = CC_BUF_INIT(65536), pending = CC_BUF_INIT(1024);
    struct ca_request request = { .request_id = "request-1", .plan = plan };
    struct cadb_counts counts;
    X509 *cert = NULL;
    EVP_PKEY *p384 = NULL;
    struct cc_err why = { 0 };

    (void)state;
    /* A signature that proves nothing. */
    csr_of(world.device, plan, &csr);
    csr.data[csr.len - 1] ^= 1;
    request.csr = cc_buf_bytes(&csr);
    assert_int_equal(ca_issue(rig.ca, &request, &cert, &pending, &why), CA_REFUSED);
    assert_non_null(strstr(why.text, "possession"));
    /* A kind of key that the profile does not have. */
    must(pki_key_generate(PKI_EC_P384, &p384, err));
    cc_err_clear(&why);
    assert_int_equal(issue(&rig, "request-2", "CN=device-1", p384, &cert, &why), CA_REFUSED);
    assert_non_null(strstr(why.text, "ecP384"));
    /* No serial was spent. */
    must(cadb_count(rig.store, "corp", &counts, err));
    assert_int_equal(counts.by_state[CADB_RESERVED] + counts.by_state[CADB_ABANDONED], 0);
    EVP_PKEY_free(p384);
    cc_buf_free(&csr);
    cc_buf_free(&pending);
    pki_plan_free(plan);
    rig_close(&rig);
}

/* What the caller checked is taken as it is: the CSR's bytes are not read then. */
static void
test_checked_by_the_caller(void **state)
{
    struct rig rig = rig_open();
    struct pki_plan *plan = plan_of("CN=device-1");
    struct cc_buf csr = CC_BUF_INIT(65536), pending = CC_BUF_INIT(1024);
    struct ca_request request = { .request_id = "request-1", .plan = plan };
    X509 *cert = NULL;
    struct cc_err why = { 0 };

    (void)state;
    csr_of(world.device, plan, &csr);
    must(pki_csr_parse(cc_buf_bytes(&csr), &request.checked_csr, err));
    want(CA_DONE, ca_issue(rig.ca, &request, &cert, &pending, err));
    assert_int_equal(EVP_PKEY_eq(X509_get0_pubkey(cert), world.device), 1);
    /* Without it there is nothing to go by. */
    X509_REQ_free(request.checked_csr);
    request.checked_csr = NULL;
    request.request_id = "request-2";
    assert_int_equal(ca_issue(rig.ca, &request, NULL, &pending, &why), CA_REFUSED);
    X509_free(cert);
    cc_buf_free(&csr);
    cc_buf_free(&pending);
    pki_plan_free(plan);
    rig_close(&rig);
}

static int
may_or_not(void *arg, struct cc_err *err)
{
    const bool *may = arg;

    return *may ? 0 : cc_err_set(err, CC_DOM_SERVICE, 0, "the clock is wrong");
}

/* What was issued is found all the same, and what was refused is issued when it may be. */
static void
test_not_now(void **state)
{
    struct ca_local_settings settings;
    struct store *store = NULL;
    bool may = false;
    struct rig rig;
    X509 *first = NULL, *again = NULL;
    struct cc_err why = { 0 };

    (void)state;
    must(store_open(memory_store(), &store, err));
    settings = settings_of(store);
    settings.may_issue = may_or_not;
    settings.may_issue_arg = &may;
    rig = rig_open_with(settings);
    assert_int_equal(issue(&rig, "r1", "CN=device-1", world.device, &first, &why), CA_RETRYABLE);
    assert_string_equal(why.text, "the clock is wrong");
    may = true;
    first = issue_good(&rig, "r1");
    may = false;
    again = issue_good(&rig, "r1");
    assert_int_equal(X509_cmp(first, again), 0);
    X509_free(first);
    X509_free(again);
    rig_close(&rig);
}

/* ---- an administrator's decision ---- */

static struct rig
rig_open_manual(void)
{
    struct ca_local_settings settings;
    struct store *store = NULL;

    must(store_open(memory_store(), &store, err));
    settings = settings_of(store);
    settings.approval = true;
    return rig_open_with(settings);
}

static enum ca_outcome
poll(struct rig *rig, const char *request_id, X509 **ret, struct cc_err *err)
{
    struct pki_plan *plan = plan_of("CN=device-1");
    struct cc_buf csr = CC_BUF_INIT(65536), pending = CC_BUF_INIT(CA_PENDING_MAX);
    struct ca_request request = { .request_id = request_id, .plan = plan };
    enum ca_outcome outcome;

    csr_of(world.device, plan, &csr);
    request.csr = cc_buf_bytes(&csr);
    outcome = ca_poll(rig->ca, &request, "as it was told", ret, &pending, err);
    assert_true((outcome == CA_PENDING) == (pending.len > 0));
    cc_buf_free(&csr);
    cc_buf_free(&pending);
    pki_plan_free(plan);
    return outcome;
}

static void
decide(struct rig *rig, const char *request_id, enum cadb_decision decision, const char *reason)
{
    int64_t count = 0;

    must(cadb_approval_decide(rig->store, "corp", request_id, decision, reason, cc_clock_now_ms(),
            &count, err));
    assert_int_equal(count, 1);
}

static void
test_approved(void **state)
{
    struct rig rig = rig_open_manual();
    struct cadb_counts counts;
    X509 *cert = NULL, *again = NULL;

    (void)state;
    for (int i = 0; i < 2; i++) {
        want(CA_PENDING, issue(&rig, "request-1", "CN=device-1", world.device, &cert, err));
        want(CA_PENDING, poll(&rig, "request-1", &cert, err));
        want(CA_NOT_FOUND, ca_find(rig.ca, "request-1", cc_deadline_in(1000), &cert, err));
    }
    want(CA_PENDING, issue(&rig, "request-2", "CN=device-1", world.device, &cert, err));
    must(cadb_count(rig.store, "corp", &counts, err));
    assert_int_equal(counts.by_state[CADB_RESERVED] + counts.by_state[CADB_ISSUED], 0);

    decide(&rig, "request-1", CADB_APPROVED, NULL);
    /* A decision is no certificate, and is about no other request. */
    want(CA_NOT_FOUND, ca_find(rig.ca, "request-1", cc_deadline_in(1000), &cert, err));
    want(CA_PENDING, poll(&rig, "request-2", &cert, err));
    want(CA_DONE, poll(&rig, "request-1", &cert, err));
    want(CA_DONE, poll(&rig, "request-1", &again, err));
    assert_int_equal(X509_cmp(cert, again), 0);
    X509_free(again);
    /* Where the decision is forgotten the certificate is not. */
    must(ca_local_recover(rig.ca, err));
    want(CA_DONE, issue(&rig, "request-1", "CN=device-1", world.device, &again, err));
    assert_int_equal(X509_cmp(cert, again), 0);
    X509_free(again);
    X509_free(cert);
    rig_close(&rig);
}

static void
test_denied(void **state)
{
    struct rig rig = rig_open_manual();
    struct cc_err why = { 0 };
    X509 *cert = NULL;

    (void)state;
    want(CA_PENDING, issue(&rig, "request-1", "CN=device-1", world.device, &cert, err));
    want(CA_PENDING, issue(&rig, "request-2", "CN=device-1", world.device, &cert, err));
    decide(&rig, "request-1", CADB_DENIED, NULL);
    decide(&rig, "request-2", CADB_DENIED, "who is this?\x1b[2J");
    assert_int_equal(poll(&rig, "request-1", &cert, &why), CA_REFUSED);
    assert_string_equal(why.text, "an administrator denied the request");
    cc_err_clear(&why);
    assert_int_equal(issue(&rig, "request-2", "CN=device-1", world.device, &cert, &why),
            CA_REFUSED);
    assert_string_equal(why.text, "an administrator denied the request: who is this?\\x1b[2J");
    rig_close(&rig);
}

/* An administrator's own, and what the CA certifies for its servers. */
static void
test_what_needs_no_approval(void **state)
{
    struct rig rig = rig_open_manual();
    struct pki_plan *plan = plan_of("CN=ra");
    struct cc_buf pending = CC_BUF_INIT(CA_PENDING_MAX);
    const struct ca_request own = { .request_id = "ra",
        .own_key = world.device,
        .plan = plan,
        .deadline = cc_deadline_in(10000) };
    X509 *cert = NULL;

    (void)state;
    want(CA_DONE, issue(&rig, NULL, "CN=device-1", world.device, &cert, err));
    X509_free(cert);
    want(CA_DONE, ca_issue(rig.ca, &own, &cert, &pending, err));
    X509_free(cert);
    cc_buf_free(&pending);
    pki_plan_free(plan);
    rig_close(&rig);
}

/* Who waits when approval is not wanted any more is served. */
static void
test_approval_is_switched_off(void **state)
{
    struct rig rig = rig_open_manual();
    struct ca_local_settings settings = settings_of(rig.store);
    X509 *cert = NULL;

    (void)state;
    want(CA_PENDING, issue(&rig, "request-1", "CN=device-1", world.device, &cert, err));
    ca_close(rig.ca);
    must(ca_local_open(&settings, &rig.ca, err));
    want(CA_DONE, poll(&rig, "request-1", &cert, err));
    X509_free(cert);
    rig_close(&rig);
}

/* ---- what a crash leaves ---- */

static void
reserve(struct rig *rig, const char *request_id, uint8_t first, int64_t when_ms)
{
    const uint8_t serial[20] = { first, 1, 2 };
    const uint8_t hash[CADB_KEY_HASH_LEN] = { 0 };
    const struct cadb_certificate row = {
        .serial = { serial, sizeof(serial) },
        .request_id = request_id,
        .profile = "device",
        .subject = "CN=device-1",
        .key_hash = { hash, sizeof(hash) },
        .not_before_ms = when_ms,
        .not_after_ms = when_ms + PKI_DAY_MS,
        .reserved_ms = when_ms,
    };
    enum cadb_reserve reserved;

    must(cadb_reserve(rig->store, "corp", &row, &reserved, err));
    assert_int_equal(reserved, CADB_RESERVE_NEW);
}

static void
test_crash_between_reserving_and_recording(void **state)
{
    struct rig rig = rig_open();
    const uint8_t serial[20] = { 0x41, 1, 2 };
    enum ca_status status;
    struct cadb_counts counts;
    X509 *cert = NULL;

    (void)state;
    reserve(&rig, "request-1", 0x41, cc_clock_now_ms());
    want(CA_NOT_FOUND, ca_find(rig.ca, "request-1", cc_deadline_in(1000), &cert, err));
    want(CA_DONE, ca_get_status(rig.ca, (struct cc_bytes){ serial, 20 }, cc_deadline_in(1000),
                          &status, err));
    assert_int_equal(status, CA_STATUS_REVOKED);
    cert = issue_good(&rig, "request-1");
    X509_free(cert);

    /* What nobody asks for again is cleared up at a start; what is young may still be under way. */
    reserve(&rig, "request-2", 0x42, cc_clock_now_ms() - 600000);
    reserve(&rig, NULL, 0x43, cc_clock_now_ms());
    must(ca_local_recover(rig.ca, err));
    must(cadb_count(rig.store, "corp", &counts, err));
    assert_int_equal(counts.by_state[CADB_RESERVED], 1);
    assert_int_equal(counts.by_state[CADB_REVOKED], 2);
    assert_int_equal(counts.by_state[CADB_ISSUED], 1);
    rig_close(&rig);
}

static int
play_instances(struct db_conn *conn, void *arg, struct cc_err *err)
{
    (void)arg;
    return db_exec(conn,
            "INSERT INTO store_instance (epoch, name, host, alive, lease_until_ms, commits,"
            " joined_ms) VALUES (101, 'a', '', 1, 9999999999999, 0, 0),"
            " (102, 'b', '', 1, 9999999999999, 0, 0)",
            DB_NO_PARAMS, NULL, err);
}

static int
end_first_instance(struct db_conn *conn, void *arg, struct cc_err *err)
{
    (void)arg;
    return db_exec(conn, "UPDATE store_instance SET alive = 0 WHERE epoch = 101", DB_NO_PARAMS,
            NULL, err);
}

/* Instances ask for the RA's certificates by the same ids: none takes what another is just being given for lost. */
static void
test_another_instance_is_at_it(void **state)
{
    struct rig rig = rig_open();
    struct cadb_counts counts;
    struct cc_err why = { 0 };
    X509 *cert = NULL;

    (void)state;
    must(db_write(rig.store->db, play_instances, NULL, err));
    rig.store->epoch = 101;
    reserve(&rig, "request-1", 0x41, cc_clock_now_ms());
    reserve(&rig, "request-2", 0x42, cc_clock_now_ms() - 600000);

    rig.store->epoch = 102;
    assert_int_equal(ca_find(rig.ca, "request-1", cc_deadline_in(1000), &cert, &why), CA_RETRYABLE);
    assert_string_equal(why.text, "the request is being issued by another instance");
    want(CA_RETRYABLE, issue(&rig, "request-1", "CN=device-1", world.device, &cert, err));
    must(ca_local_recover(rig.ca, err));
    must(cadb_count(rig.store, "corp", &counts, err));
    assert_int_equal(counts.by_state[CADB_RESERVED], 2);
    /* It was too slow: what it records now is refused. */
    want(CA_NOT_FOUND, ca_find(rig.ca, "request-2", cc_deadline_in(1000), &cert, err));

    must(db_write(rig.store->db, end_first_instance, NULL, err));
    cert = issue_good(&rig, "request-1");
    X509_free(cert);
    must(cadb_count(rig.store, "corp", &counts, err));
    assert_int_equal(counts.by_state[CADB_RESERVED], 0);
    assert_int_equal(counts.by_state[CADB_REVOKED], 2);
    assert_int_equal(counts.by_state[CADB_ISSUED], 1);
    rig_close(&rig);
}

/* ---- revocation ---- */

static const struct {
    enum pki_reason reason;
} reasons[] = {
    { PKI_REASON_UNSPECIFIED },
    { PKI_REASON_KEY_COMPROMISE },
    { PKI_REASON_CA_COMPROMISE },
    { PKI_REASON_AFFILIATION_CHANGED },
    { PKI_REASON_SUPERSEDED },
    { PKI_REASON_CESSATION_OF_OPERATION },
    { PKI_REASON_PRIVILEGE_WITHDRAWN },
    { PKI_REASON_AA_COMPROMISE },
};

static struct ca_revocation
revocation_of(const X509 *cert, enum pki_reason reason)
{
    return (struct ca_revocation){ .serial = serial_of(cert),
        .reason = reason,
        .deadline = cc_deadline_in(1000) };
}

/* The newest CRL of a kind, as OpenSSL reads it. */
static X509_CRL *
crl_of(struct rig *rig, enum cadb_crl_kind kind)
{
    FILE *file = tmpfile();
    struct cadb_crl crl;
    X509_CRL *ret;
    bool found = false;

    must(ca_local_get_crl(rig->ca, kind, &found, &crl, fileno(file), err));
    assert_true(found);
    rewind(file);
    ret = d2i_X509_CRL_fp(file, NULL);
    fclose(file);
    assert_non_null(ret);
    assert_int_equal(X509_CRL_verify(ret, X509_get0_pubkey(rig->certificate)), 1);
    return ret;
}

/* -1: not on it; else the reason. */
static long
reason_on(X509_CRL *crl, const X509 *cert)
{
    X509_REVOKED *entry = NULL;
    ASN1_ENUMERATED *reason;
    long value = PKI_REASON_UNSPECIFIED;

    for (int i = 0; i < sk_X509_REVOKED_num(X509_CRL_get_REVOKED(crl)); i++) {
        X509_REVOKED *one = sk_X509_REVOKED_value(X509_CRL_get_REVOKED(crl), i);

        if (ASN1_INTEGER_cmp(X509_REVOKED_get0_serialNumber(one), X509_get0_serialNumber(cert)) ==
                0)
            entry = one;
    }
    if (entry == NULL)
        return -1;
    reason = X509_REVOKED_get_ext_d2i(entry, NID_crl_reason, NULL, NULL);
    if (reason != NULL)
        value = ASN1_ENUMERATED_get(reason);
    ASN1_ENUMERATED_free(reason);
    return value;
}

static void
test_reasons(void **state)
{
    struct rig rig = rig_open();
    X509 *certs[CC_COUNT(reasons)];
    X509_CRL *crl;
    struct ca_revocation unknown = { .serial = { (const uint8_t *)"\x01", 1 } };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(reasons); i++) {
        struct ca_revocation revocation;
        bool already = true;

        certs[i] = issue_good(&rig, NULL);
        revocation = revocation_of(certs[i], reasons[i].reason);
        want(CA_DONE, ca_revoke(rig.ca, &revocation, &already, err));
        assert_false(already);
        revocation.reason = PKI_REASON_KEY_COMPROMISE;
        want(CA_DONE, ca_revoke(rig.ca, &revocation, &already, err));
        assert_true(already);
    }
    must(ca_local_make_crl(rig.ca, CADB_CRL_FULL, NULL, err));
    crl = crl_of(&rig, CADB_CRL_FULL);
    for (size_t i = 0; i < CC_COUNT(reasons); i++) {
        assert_int_equal(reason_on(crl, certs[i]), reasons[i].reason);
        X509_free(certs[i]);
    }
    X509_CRL_free(crl);
    want(CA_NOT_FOUND, ca_revoke(rig.ca, &unknown, NULL, err));
    rig_close(&rig);
}

static void
test_hold_and_release(void **state)
{
    struct rig rig = rig_open();
    X509 *cert = issue_good(&rig, NULL);
    struct ca_revocation revocation = revocation_of(cert, PKI_REASON_CERTIFICATE_HOLD);
    enum ca_status status;

    (void)state;
    want(CA_DONE, ca_revoke(rig.ca, &revocation, NULL, err));
    want(CA_DONE, ca_get_status(rig.ca, revocation.serial, 0, &status, err));
    assert_int_equal(status, CA_STATUS_HELD);
    want(CA_DONE, ca_release(rig.ca, revocation.serial, 0, err));
    want(CA_DONE, ca_get_status(rig.ca, revocation.serial, 0, &status, err));
    assert_int_equal(status, CA_STATUS_GOOD);
    want(CA_REFUSED, ca_release(rig.ca, revocation.serial, 0, err));
    /* From a hold to the end, and no way back. */
    want(CA_DONE, ca_revoke(rig.ca, &revocation, NULL, err));
    revocation.reason = PKI_REASON_KEY_COMPROMISE;
    want(CA_DONE, ca_revoke(rig.ca, &revocation, NULL, err));
    want(CA_REFUSED, ca_release(rig.ca, revocation.serial, 0, err));
    revocation.reason = PKI_REASON_CERTIFICATE_HOLD;
    want(CA_REFUSED, ca_revoke(rig.ca, &revocation, NULL, err));
    X509_free(cert);
    rig_close(&rig);
}

/* ---- CRLs in time ---- */

static int64_t
number_of(X509_CRL *crl, int nid)
{
    ASN1_INTEGER *number = X509_CRL_get_ext_d2i(crl, nid, NULL, NULL);
    int64_t value = number != NULL ? ASN1_INTEGER_get(number) : -1;

    ASN1_INTEGER_free(number);
    return value;
}

static bool
keep(struct rig *rig)
{
    int64_t next;
    bool made = false;

    must(ca_local_keep_crls(rig->ca, &next, &made, err));
    assert_true(next <= 1000);
    return made;
}

static void
test_full_crls_in_time(void **state)
{
    struct rig rig = rig_open();
    X509 *cert = issue_good(&rig, NULL);
    struct ca_revocation revocation = revocation_of(cert, PKI_REASON_SUPERSEDED);
    X509_CRL *crl;
    int64_t now = cc_clock_now_ms();

    (void)state;
    assert_true(keep(&rig)); /* the first */
    assert_false(keep(&rig));
    want(CA_DONE, ca_revoke(rig.ca, &revocation, NULL, err));
    assert_true(keep(&rig)); /* as something was revoked */
    assert_false(keep(&rig));
    crl = crl_of(&rig, CADB_CRL_FULL);
    assert_int_equal(number_of(crl, NID_crl_number), 2);
    assert_int_equal(reason_on(crl, cert), PKI_REASON_SUPERSEDED);
    X509_CRL_free(crl);
    cc_clock_set(now + PKI_DAY_MS + 1000, cc_clock_mono_ms());
    assert_true(keep(&rig)); /* after its interval */
    assert_false(keep(&rig));
    cc_clock_real();
    X509_free(cert);
    rig_close(&rig);
}

static void
test_delta_crls_combine(void **state)
{
    static const char *const urls[] = { "http://pki.contoso.example/corp-delta.crl" };
    struct store *store = NULL;
    struct ca_local_settings settings;
    struct rig rig;
    X509 *before, *after, *held, *freed;
    X509_CRL *full, *delta;

    (void)state;
    must(store_open(memory_store(), &store, err));
    settings = settings_of(store);
    settings.delta_interval_ms = 3600000;
    settings.delta_crl_urls = (struct pki_texts){ urls, 1 };
    rig = rig_open_with(settings);
    before = issue_good(&rig, NULL);
    after = issue_good(&rig, NULL);
    held = issue_good(&rig, NULL);
    freed = issue_good(&rig, NULL);
    struct ca_revocation r1 = revocation_of(before, PKI_REASON_KEY_COMPROMISE),
                         r2 = revocation_of(after, PKI_REASON_SUPERSEDED),
                         r3 = revocation_of(held, PKI_REASON_CERTIFICATE_HOLD),
                         r4 = revocation_of(freed, PKI_REASON_CERTIFICATE_HOLD);

    want(CA_DONE, ca_revoke(rig.ca, &r1, NULL, err));
    want(CA_DONE, ca_revoke(rig.ca, &r4, NULL, err));
    assert_true(keep(&rig));
    want(CA_DONE, ca_revoke(rig.ca, &r2, NULL, err));
    want(CA_DONE, ca_revoke(rig.ca, &r3, NULL, err));
    want(CA_DONE, ca_release(rig.ca, r4.serial, 0, err));
    assert_true(keep(&rig));
    assert_false(keep(&rig));
    full = crl_of(&rig, CADB_CRL_FULL);
    delta = crl_of(&rig, CADB_CRL_DELTA);
    /* The delta goes with the full one, which has not changed. */
    assert_int_equal(number_of(delta, NID_delta_crl), number_of(full, NID_crl_number));
    assert_true(number_of(delta, NID_crl_number) > number_of(full, NID_crl_number));
    assert_int_equal(reason_on(full, before), PKI_REASON_KEY_COMPROMISE);
    assert_int_equal(reason_on(full, freed), PKI_REASON_CERTIFICATE_HOLD);
    assert_int_equal(reason_on(full, after), -1);
    assert_int_equal(reason_on(delta, before), -1);
    assert_int_equal(reason_on(delta, after), PKI_REASON_SUPERSEDED);
    assert_int_equal(reason_on(delta, held), PKI_REASON_CERTIFICATE_HOLD);
    assert_int_equal(reason_on(delta, freed), PKI_REASON_REMOVE_FROM_CRL);
    X509_CRL_free(full);
    X509_CRL_free(delta);
    X509_free(before);
    X509_free(after);
    X509_free(held);
    X509_free(freed);
    rig_close(&rig);
}

/* ---- intermediate ---- */

static X509 *
sign_request(struct cc_bytes request, EVP_PKEY *root_key, X509 *root_cert, bool ca)
{
    X509_REQ *csr = NULL;
    struct pki_plan *plan = pki_plan_new(NULL);
    const struct pki_issuer by = { .certificate = root_cert, .key = root_key };
    const uint8_t serial = 9;
    X509 *cert = NULL;

    must(pki_csr_parse(request, &csr, err));
    must(pki_csr_verify(csr, err));
    plan->subject = X509_NAME_dup(X509_REQ_get_subject_name(csr));
    plan->is_ca = ca;
    plan->key_usages = ca ? KU_KEY_CERT_SIGN | KU_CRL_SIGN : KU_DIGITAL_SIGNATURE;
    plan->not_before_ms = cc_clock_now_ms() - 60000;
    plan->not_after_ms = plan->not_before_ms + 100 * PKI_DAY_MS;
    must(pki_cert_issue(plan, (struct cc_bytes){ &serial, 1 }, X509_REQ_get0_pubkey(csr), &by,
            &cert, err));
    pki_plan_free(plan);
    X509_REQ_free(csr);
    return cert;
}

static struct cc_buf
der_of(X509 *cert)
{
    struct cc_buf ret = CC_BUF_INIT(65536);
    unsigned char *der = NULL;
    int len = i2d_X509(cert, &der);

    must(cc_buf_add(&ret, der, (size_t)len, err));
    OPENSSL_free(der);
    return ret;
}

static void
test_intermediate(void **state)
{
    const struct ca_local_init init = { .subject = "CN=Contoso Issuing",
        .path_len = 0,
        .intermediate = true };
    struct store *store = NULL;
    struct ca_local_settings settings;
    struct cc_buf request = CC_BUF_INIT(65536), der, root_der, leaf_der;
    struct rig rig = { .ca = NULL };
    struct cc_bytes chain[1];
    STACK_OF(X509) *above = NULL;
    EVP_PKEY *root_key = NULL;
    X509 *root_cert, *cert, *leaf, *issued = NULL;
    struct pki_plan *plan = pki_plan_new(NULL);
    struct cc_err why = { 0 };

    (void)state;
    must(pki_key_generate(PKI_EC_P384, &root_key, err));
    must(pki_name_parse("CN=Elsewhere Root", &plan->subject, err));
    plan->is_ca = true;
    plan->key_usages = KU_KEY_CERT_SIGN | KU_CRL_SIGN;
    plan->not_before_ms = cc_clock_now_ms() - 60000;
    plan->not_after_ms = plan->not_before_ms + 200 * PKI_DAY_MS;
    must(pki_cert_issue(plan, (struct cc_bytes){ (const uint8_t *)"\x01", 1 }, root_key,
            &(struct pki_issuer){ .key = root_key }, &root_cert, err));

    must(store_open(memory_store(), &store, err));
    settings = settings_of(store);
    rig.store = store;
    must(ca_local_init(&settings, &init, &request, err));
    must(ca_local_open(&settings, &rig.ca, err));
    assert_int_equal(issue(&rig, "r", "CN=device-1", world.device, &issued, &why),
            CA_MISCONFIGURED);
    assert_non_null(strstr(why.text, "waits for its certificate"));

    cert = sign_request(cc_buf_bytes(&request), root_key, root_cert, true);
    leaf = sign_request(cc_buf_bytes(&request), root_key, root_cert, false);
    der = der_of(cert);
    root_der = der_of(root_cert);
    leaf_der = der_of(leaf);
    chain[0] = cc_buf_bytes(&root_der);
    cc_err_clear(&why);
    assert_int_equal(ca_local_set_certificate(&settings, cc_buf_bytes(&leaf_der), chain, 1, &why),
            -1);
    assert_non_null(strstr(why.text, "CA:TRUE"));
    cc_err_clear(&why);
    assert_int_equal(ca_local_set_certificate(&settings, cc_buf_bytes(&der), chain, 0, &why), -1);
    assert_non_null(strstr(why.text, "does not verify"));
    must(ca_local_set_certificate(&settings, cc_buf_bytes(&der), chain, 1, err));
    want(CA_DONE, issue(&rig, "r", "CN=device-1", world.device, &issued, err));
    assert_int_equal(X509_verify(issued, X509_get0_pubkey(cert)), 1);
    want(CA_DONE, ca_chain(rig.ca, 0, &above, err));
    assert_int_equal(sk_X509_num(above), 2);
    assert_int_equal(X509_cmp(sk_X509_value(above, 1), root_cert), 0);
    sk_X509_pop_free(above, X509_free);
    X509_free(issued);
    X509_free(cert);
    X509_free(leaf);
    X509_free(root_cert);
    EVP_PKEY_free(root_key);
    cc_buf_free(&request);
    cc_buf_free(&der);
    cc_buf_free(&root_der);
    cc_buf_free(&leaf_der);
    pki_plan_free(plan);
    rig_close(&rig);
}

/* ---- the OCSP signer ---- */

static void
test_ocsp_signer(void **state)
{
    struct rig rig = rig_open();
    X509 *signer = NULL, *again = NULL;
    EVP_PKEY *key = NULL;
    int64_t now = cc_clock_now_ms();

    (void)state;
    must(ca_local_get1_ocsp_signer(rig.ca, &signer, &key, err));
    assert_int_equal(X509_verify(signer, X509_get0_pubkey(rig.certificate)), 1);
    assert_int_equal(EVP_PKEY_eq(X509_get0_pubkey(signer), key), 1);
    assert_true((X509_get_extended_key_usage(signer) & XKU_OCSP_SIGN) != 0);
    assert_true(X509_get_ext_by_NID(signer, NID_id_pkix_OCSP_noCheck, -1) >= 0);
    must(ca_local_get1_ocsp_signer(rig.ca, &again, &key, err));
    assert_int_equal(X509_cmp(signer, again), 0);
    X509_free(again);
    /* Made anew when two thirds of its life are over. */
    cc_clock_set(now + 21 * PKI_DAY_MS, cc_clock_mono_ms());
    must(ca_local_get1_ocsp_signer(rig.ca, &again, &key, err));
    assert_int_not_equal(X509_cmp(signer, again), 0);
    cc_clock_real();
    X509_free(again);
    X509_free(signer);
    rig_close(&rig);
}

static int
run_all(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_root),
        cmocka_unit_test(test_issue),
        cmocka_unit_test(test_request_id_of_something_else),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_checked_by_the_caller),
        cmocka_unit_test(test_approved),
        cmocka_unit_test(test_denied),
        cmocka_unit_test(test_what_needs_no_approval),
        cmocka_unit_test(test_approval_is_switched_off),
        cmocka_unit_test(test_crash_between_reserving_and_recording),
        cmocka_unit_test(test_another_instance_is_at_it),
        cmocka_unit_test(test_reasons),
        cmocka_unit_test(test_hold_and_release),
        cmocka_unit_test(test_not_now),
        cmocka_unit_test(test_delta_crls_combine),
    };
    /* The clock is PostgreSQL's where that is used, and cannot be set. */
    const struct CMUnitTest timed[] = {
        cmocka_unit_test(test_full_crls_in_time),
        cmocka_unit_test(test_intermediate),
        cmocka_unit_test(test_ocsp_signer),
    };
    int rc = cmocka_run_group_tests(tests, group_setup, group_teardown);

    if (!on_postgres())
        rc += cmocka_run_group_tests(timed, group_setup, group_teardown);
    return rc;
}

int
main(void)
{
    static const struct token_key keys[] = {
        { "ca", "rsa:3072" },
        { "ocsp", "EC:prime256v1" },
    };

    return token_dir_run(keys, CC_COUNT(keys), &token, run_all);
}
