/* SPDX-License-Identifier: MIT */
#include "intune/enrol.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "base/file.h"
#include "base/json.h"
#include "fake_service.h"
#include "intune/intune_int.h"
#include "intune/queue.h"
#include "pki/csr.h"

/* Enrolment with a key of this process, at a service that gives what the test says. */

#define ID "0a1b2c3d-0000-4000-8000-00000000abcd"
#define DAY INT64_C(86400)

struct bench {
    struct fake fake;
    struct intune *intune;
    EVP_PKEY *key, *other;
};

static X509 *
certify(EVP_PKEY *key, const char *name)
{
    X509 *certificate = X509_new();

    assert_true(X509_set_version(certificate, 2) == 1 &&
                ASN1_INTEGER_set(X509_get_serialNumber(certificate), 7) == 1 &&
                X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_UTF8,
                        (const unsigned char *)name, -1, -1, 0) == 1 &&
                X509_gmtime_adj(X509_getm_notBefore(certificate), 0) != NULL &&
                X509_gmtime_adj(X509_getm_notAfter(certificate), (long)(30 * DAY)) != NULL &&
                X509_set_pubkey(certificate, key) == 1 &&
                X509_sign(certificate, key, EVP_sha256()) > 0);
    return certificate;
}

static int
setup(void **state)
{
    struct bench *b = calloc(1, sizeof(*b));

    fake_open(&b->fake);
    b->intune = fake_connect(&b->fake);
    b->key = EVP_EC_gen("P-256");
    b->other = EVP_EC_gen("P-256");
    *state = b;
    return 0;
}

static int
teardown(void **state)
{
    struct bench *b = *state;

    intune_close(b->intune);
    fake_close(&b->fake);
    EVP_PKEY_free(b->key);
    EVP_PKEY_free(b->other);
    free(b);
    return 0;
}

/* The service answers with this certificate, of a connector of this id. */
static void
will_answer(struct bench *b, const char *id, X509 *certificate, X509 *chain, const char *renew)
{
    struct cc_buf text = CC_BUF_INIT(8192), chained = CC_BUF_INIT(8192);
    unsigned char *der = NULL;
    int len = i2d_X509(certificate, &der);

    assert_int_equal(cc_base64(der, (size_t)len, &text, NULL), 0);
    OPENSSL_free(der);
    if (chain != NULL) {
        der = NULL;
        len = i2d_X509(chain, &der);
        assert_int_equal(cc_base64(der, (size_t)len, &chained, NULL), 0);
        OPENSSL_free(der);
    }
    (void)snprintf(b->fake.service_answer, sizeof(b->fake.service_answer),
            "{\"connectorId\":\"%s\",\"certificate\":\"%s\",\"chain\":[%s%s%s],"
            "\"renewAfterDateTime\":%s%s%s}",
            id, cc_buf_str(&text), chain != NULL ? "\"" : "", cc_buf_str(&chained),
            chain != NULL ? "\"" : "", renew != NULL ? "\"" : "", renew != NULL ? renew : "null",
            renew != NULL ? "\"" : "");
    cc_buf_free(&text);
    cc_buf_free(&chained);
}

static int
enrol(struct bench *b, struct intune_enrolled *ret, struct cc_err *err)
{
    static const char *const features[] = { "pkcs", "scep" };
    const struct intune_enrolment enrolment = { .display_name = "dc1",
        .machine_name = "host1",
        .version = "1.2.3",
        .features = features,
        .feature_count = CC_COUNT(features),
        .key = "identity",
        .pkey = b->key };

    return intune_enrol(b->intune, &enrolment, ret, err);
}

static void
asks_with_a_request_that_the_key_signed(void **state)
{
    struct bench *b = *state;
    X509 *certificate = certify(b->key, ID), *issuer = certify(b->other, "CA");
    struct intune_enrolled enrolled = { .certificate = NULL };
    struct cc_buf der = CC_BUF_INIT(8192);
    json_object *body, *connector = NULL, *features = NULL;
    const char *text = NULL;
    X509_REQ *request = NULL;
    struct cc_err err = { 0 };
    int64_t now = cc_clock_now_ms();

    will_answer(b, ID, certificate, issuer, NULL);
    if (enrol(b, &enrolled, &err) != 0)
        fail_msg("%s", cc_err_text(&err));
    assert_string_equal(b->fake.path[FAKE_SERVICE], "/svc/Connectors/enroll");
    body = cc_json_parse(b->fake.body[FAKE_SERVICE], strlen(b->fake.body[FAKE_SERVICE]), NULL);
    assert_int_equal(cc_json_get_object(body, "connector", &connector, NULL), 0);
    assert_int_equal(cc_json_need_str(connector, "displayName", 64, &text, NULL), 0);
    assert_string_equal(text, "dc1");
    assert_int_equal(cc_json_need_str(connector, "machineName", 64, &text, NULL), 0);
    assert_string_equal(text, "host1");
    assert_int_equal(cc_json_need_str(connector, "version", 64, &text, NULL), 0);
    assert_string_equal(text, "1.2.3");
    assert_int_equal(cc_json_get_array(connector, "features", &features, NULL), 0);
    assert_int_equal(json_object_array_length(features), 2);
    assert_int_equal(cc_json_get_base64(connector, "certificateRequest", &der, NULL), 0);
    assert_int_equal(pki_csr_parse(cc_buf_bytes(&der), &request, NULL), 0);
    assert_int_equal(pki_csr_verify(request, NULL), 0);
    assert_int_equal(EVP_PKEY_eq(X509_REQ_get0_pubkey(request), b->key), 1);

    assert_string_equal(enrolled.connector_id, ID);
    assert_string_equal(enrolled.key, "identity");
    assert_int_equal(X509_cmp(enrolled.certificate, certificate), 0);
    assert_int_equal(sk_X509_num(enrolled.chain), 1);
    assert_int_equal(X509_cmp(sk_X509_value(enrolled.chain, 0), issuer), 0);
    /* Nobody said when: after two thirds. */
    assert_true(llabs(enrolled.renew_after_ms - now - 20 * DAY * 1000) < 60000);
    intune_enrolled_free(&enrolled);
    X509_REQ_free(request);
    X509_free(certificate);
    X509_free(issuer);
    json_object_put(body);
    cc_buf_free(&der);
}

static void
time_of_renewal(void **state)
{
    struct bench *b = *state;
    X509 *certificate = certify(b->key, ID);
    const int64_t now = cc_clock_now_ms();
    char sooner[CC_TIME_LEN];
    const struct {
        const char *text;
        int64_t want_days;
    } cases[] = {
        { sooner, 10 },
        { "2001-01-01T00:00:00Z", 20 }, /* before its beginning */
        { "2999-01-01T00:00:00Z", 20 }, /* after its end */
        { "soon", 20 },
    };

    cc_time_format(now + 10 * DAY * 1000, sooner);
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        struct intune_enrolled enrolled = { .certificate = NULL };

        will_answer(b, ID, certificate, NULL, cases[i].text);
        assert_int_equal(enrol(b, &enrolled, NULL), 0);
        assert_true(llabs(enrolled.renew_after_ms - now - cases[i].want_days * DAY * 1000) < 60000);
        intune_enrolled_free(&enrolled);
    }
    X509_free(certificate);
}

/* Nothing is taken that would not do. */
static void
answers_that_are_no_identity(void **state)
{
    struct bench *b = *state;
    X509 *good = certify(b->key, ID), *foreign = certify(b->other, ID),
         *nobody = certify(b->key, "somebody");
    const struct {
        const char *id;
        X509 *certificate;
        const char *want;
    } cases[] = {
        { ID, foreign, "of another key" },
        { "0a1b2c3d-0000-4000-8000-00000000abce", good, "not of the connector" },
        { "somebody", nobody, "names no connector" },
    };

    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        struct intune_enrolled enrolled = { .certificate = NULL };
        struct cc_err err = { 0 };

        will_answer(b, cases[i].id, cases[i].certificate, NULL, NULL);
        assert_int_equal(enrol(b, &enrolled, &err), -1);
        assert_int_equal(err.domain, CC_DOM_INPUT);
        assert_non_null(strstr(err.text, cases[i].want));
        assert_null(enrolled.certificate);
    }
    X509_free(good);
    X509_free(foreign);
    X509_free(nobody);
}

/* ---- refusals ---- */

#define REFUSED(s, code)                                                                           \
    {                                                                                              \
        .status = (s), .body = "{\"error\":{\"code\":\"" code "\",\"message\":\"no\"}}"            \
    }

static void
what_is_thought_of_our_identity(void **state)
{
    static const struct {
        struct fake_answer answers[8];
        enum cc_err_domain want_domain;
        bool want_certificate;
        const char *want_contacts;
    } cases[] = {
        { { REFUSED(403, "CertificateRefused"), REFUSED(403, "CertificateRefused"),
                  REFUSED(403, "CertificateRefused"), REFUSED(403, "CertificateRefused") },
                CC_DOM_NETWORK, true, "certificate " },
        { { REFUSED(401, "CertificateRequired"), REFUSED(401, "CertificateRequired"),
                  REFUSED(401, "CertificateRequired"), REFUSED(401, "CertificateRequired"),
                  REFUSED(401, "CertificateRequired"), REFUSED(401, "CertificateRequired"),
                  REFUSED(401, "CertificateRequired"), REFUSED(401, "CertificateRequired") },
                CC_DOM_NETWORK, true, "certificate " },
        /* As of others who have none: an answer like any. */
        { { REFUSED(403, "ConnectorRemoved") }, CC_DOM_HTTP, false, "ok " },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        struct fake fake;
        struct intune *intune;
        struct cc_err err = { 0 };

        fake_open(&fake);
        intune = fake_connect(&fake);
        fake_script(&fake, FAKE_SERVICE, cases[i].answers, CC_COUNT(cases[i].answers));
        assert_int_equal(intune_heartbeat(intune, json_object_new_object(), NULL, &err), -1);
        assert_int_equal(err.domain, cases[i].want_domain);
        assert_int_equal(intune_was_certificate(&err), cases[i].want_certificate);
        assert_string_equal(fake.contacts, cases[i].want_contacts);
        intune_close(intune);
        fake_close(&fake);
    }
}

static void
removing_what_is_not_there(void **state)
{
    static const struct {
        struct fake_answer answers[4];
        int want;
    } cases[] = {
        { { { .status = 204, .body = "" } }, 0 },
        { { REFUSED(403, "ConnectorRemoved") }, 0 },
        { { REFUSED(404, "NotFound"), REFUSED(404, "NotFound") }, 0 },
        { { REFUSED(403, "Forbidden") }, -1 },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        struct fake fake;
        struct intune *intune;

        fake_open(&fake);
        intune = fake_connect(&fake);
        fake_script(&fake, FAKE_SERVICE, cases[i].answers, CC_COUNT(cases[i].answers));
        assert_int_equal(intune_remove(intune, ID, true, NULL), cases[i].want);
        assert_string_equal(fake.path[FAKE_SERVICE], "/svc/Connectors/remove");
        assert_string_equal(fake.body[FAKE_SERVICE], "{\"connectorId\":\"" ID "\"}");
        intune_close(intune);
        fake_close(&fake);
    }
}

/* ---- the file ---- */

static void
file_there_and_back(void **state)
{
    struct bench *b = *state;
    X509 *issuer = certify(b->other, "CA");
    struct intune_enrolled out = { .connector_id = ID,
        .certificate = certify(b->key, ID),
        .chain = sk_X509_new_null(),
        .key = "identity-next",
        .renew_after_ms = INT64_C(1900000000000),
        .proven = true };
    struct intune_enrolled in = { .certificate = NULL };
    struct cc_buf path = CC_BUF_INIT(256), text = CC_BUF_INIT(65536);
    char folder[] = "/tmp/cc-test-XXXXXX";
    struct stat info;
    size_t len;

    assert_non_null(mkdtemp(folder));
    assert_int_equal(cc_buf_printf(&path, NULL, "%s/identity.pem", folder), 0);
    assert_true(sk_X509_push(out.chain, issuer) == 1);
    assert_int_equal(intune_enrolled_write(&out, cc_buf_str(&path), NULL), 0);
    assert_int_equal(stat(cc_buf_str(&path), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0640);
    assert_int_equal(intune_enrolled_read(cc_buf_str(&path), &in, NULL), 0);
    assert_string_equal(in.connector_id, ID);
    assert_string_equal(in.key, "identity-next");
    assert_int_equal(in.renew_after_ms, out.renew_after_ms);
    assert_true(in.proven);
    assert_int_equal(X509_cmp(in.certificate, out.certificate), 0);
    assert_int_equal(sk_X509_num(in.chain), 1);
    intune_enrolled_free(&in);

    /* Cut short anywhere it is none, or (cut behind a certificate) it is whole as far as it counts. */
    assert_int_equal(cc_file_read(cc_buf_str(&path), &text, NULL), 0);
    len = text.len;
    for (size_t cut = 0; cut < len; cut += 13) {
        struct cc_err err = { 0 };

        assert_int_equal(cc_file_replace(cc_buf_str(&path), text.data, cut, 0640, NULL), 0);
        if (intune_enrolled_read(cc_buf_str(&path), &in, &err) != 0) {
            assert_int_equal(err.domain, CC_DOM_INPUT);
            continue;
        }
        assert_int_equal(X509_cmp(in.certificate, out.certificate), 0);
        assert_string_equal(in.connector_id, ID);
        intune_enrolled_free(&in);
    }
    out.proven = false;
    assert_int_equal(intune_enrolled_write(&out, cc_buf_str(&path), NULL), 0);
    assert_int_equal(intune_enrolled_read(cc_buf_str(&path), &in, NULL), 0);
    assert_false(in.proven);
    intune_enrolled_free(&in);
    (void)unlink(cc_buf_str(&path));
    (void)rmdir(folder);
    intune_enrolled_free(&out);
    cc_buf_free(&path);
    cc_buf_free(&text);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(asks_with_a_request_that_the_key_signed, setup, teardown),
        cmocka_unit_test_setup_teardown(time_of_renewal, setup, teardown),
        cmocka_unit_test_setup_teardown(answers_that_are_no_identity, setup, teardown),
        cmocka_unit_test_setup_teardown(file_there_and_back, setup, teardown),
        cmocka_unit_test(what_is_thought_of_our_identity),
        cmocka_unit_test(removing_what_is_not_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
