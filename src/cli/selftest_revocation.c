/* SPDX-License-Identifier: MIT */

/* What was issued in this run is wanted revoked, and is so at its CA. */

#include "selftest_int.h"

#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "pki/csr.h"
#include "pki/profile.h"

#define ASK_AGAIN_MS 3000

/* ---- something to be revoked ---- */

static int
issue_by_csr(struct selftest *st, const char *name, struct ca *ca, const struct pki_plan *plan,
        EVP_PKEY *key, struct cc_err *err)
{
    struct cc_buf csr = CC_BUF_INIT(PKI_CSR_MAX), pending = CC_BUF_INIT(CA_PENDING_MAX);
    X509 *certificate = NULL;
    int rc = -1;

    if (scep_csr(plan, key, NULL, &csr, err) == 0) {
        const struct ca_request request = {
            .csr = cc_buf_bytes(&csr),
            .plan = plan,
            .deadline = cc_deadline_in(SELFTEST_CALL_MS),
        };

        selftest_look_at(st, name);
        if (selftest_ca_did(ca_issue(ca, &request, &certificate, &pending, err), err) == 0)
            rc = selftest_note_issued(st, name, certificate, err);
    }
    X509_free(certificate);
    cc_buf_free(&csr);
    cc_buf_free(&pending);
    return rc;
}

/* Of a kind that the profile takes. */
static int
make_key(struct selftest *st, const char *profile_name, EVP_PKEY **ret, struct cc_err *err)
{
    const struct config_profile *profile = config_profile_find(st->config, profile_name);
    const int spec = profile != NULL ? selftest_key_kind(profile, false) : -1;

    if (spec < 0)
        return cc_err_set(err, CC_DOM_CONFIG, 0, "profile \"%s\" takes no kind of key",
                profile_name);
    return pki_key_generate((enum pki_keyspec)spec, ret, err);
}

/* With the CA's key in a token process of our own. */
static int
issue_at(struct selftest *st, const struct config_ca *ca, struct cli_authority *a,
        const char *profile_name, struct cc_err *err)
{
    const struct pki_ask ask = { .subject = st->subject, .validity_ms = PKI_DAY_MS };
    struct pki_profile *profile = NULL;
    struct pki_plan *plan = NULL;
    EVP_PKEY *key = NULL;
    int rc = -1;

    if (cli_authority_open(a, err) == 0 && cli_authority_open_ca(a, err) == 0 &&
            cli_authority_profile(a, profile_name, &profile, err) == 0 &&
            pki_plan_make(profile, &ask, cc_clock_now_ms(), &plan, err) == 0 &&
            make_key(st, profile_name, &key, err) == 0)
        rc = issue_by_csr(st, ca->name, a->ca, plan, key, err);
    EVP_PKEY_free(key);
    pki_plan_free(plan);
    pki_profile_free(profile);
    return rc;
}

static int
issue_one(struct selftest *st, struct cc_err *err)
{
    const struct config_ca *ca = selftest_pkcs_ca(st->config);
    struct cli_authority a = { .config = NULL };
    const char *profile;
    int rc = -1;

    if (ca == NULL || st->config->profile_count == 0)
        return cc_err_set(err, CC_DOM_CONFIG, 0, "the configuration has no CA, or no profile");
    if ((profile = selftest_pkcs_profile(st->config, ca)) == NULL)
        profile = st->config->profiles[0].name;
    if (cli_authority_load(st->config_path, ca->name, &a, err) == 0)
        rc = issue_at(st, ca, &a, profile, err);
    cli_authority_close(&a);
    return rc;
}

/* ---- through the service ---- */

static int
issuer_of(struct selftest *st, const char *ca, struct cc_buf *ret, struct cc_err *err)
{
    struct cli_authority *a;

    if (selftest_authority(st, ca, &a, err) != 0)
        return -1;
    return ca_issuer_name(a->ca, ret, err);
}

static int
order_one(struct selftest *st, struct selftest_issued *issued, struct cc_err *err)
{
    struct cc_buf issuer = CC_BUF_INIT(2 * PKI_NAME_TEXT_MAX);
    json_object *body = json_object_new_object(), *answer = NULL;
    char serial[2 * CADB_SERIAL_MAX + 1];
    const char *id;
    int rc = -1;

    cc_hex(issued->serial, issued->serial_len, true, serial);
    if (issuer_of(st, issued->ca, &issuer, err) != 0 ||
            cc_json_add_str(body, "serialNumber", serial, err) != 0 ||
            cc_json_add_str(body, "issuerName", cc_buf_str(&issuer), err) != 0 ||
            cc_json_add_str(body, "caConfiguration", issued->ca, err) != 0)
        json_object_put(body);
    else if (selftest_admin_call(st->admin, "POST", "revocationRequests", body, &answer, err) ==
                     0 &&
             cc_json_need_str(answer, "requestId", CC_UUID_LEN - 1, &id, err) == 0) {
        (void)cc_strcpy(issued->order, sizeof(issued->order), id);
        rc = 0;
    }
    json_object_put(answer);
    cc_buf_free(&issuer);
    return rc;
}

static int
order(struct selftest *st, struct cc_err *err)
{
    for (size_t i = 0; i < st->issued_count; i++)
        if (order_one(st, &st->issued[i], err) != 0)
            return -1;
    (void)snprintf(st->detail, sizeof(st->detail), "%zu certificate%s", st->issued_count,
            st->issued_count == 1 ? "" : "s");
    return 0;
}

/* A stand-in's cool-down can be ended, which is what its clock is there for. */
static int
have_it_asked(struct selftest *st, struct cc_err *err)
{
    json_object *body = json_object_new_object();

    if (cc_json_add_bool(body, "reset", true, err) != 0) {
        json_object_put(body);
        return -1;
    }
    if (selftest_admin_send(st->admin, "POST", "revocationClock", body, NULL, err) != 0)
        return -1;
    return selftest_poll_now(st, err);
}

/* 1: done, 0: not yet. */
static int
look(struct selftest *st, struct selftest_issued *issued, struct cc_err *err)
{
    json_object *answer = NULL, *result = NULL;
    const char *state = NULL;
    char path[128];
    int rc = -1;

    (void)snprintf(path, sizeof(path), "revocationRequests/%s", issued->order);
    if (selftest_admin_call(st->admin, "GET", path, NULL, &answer, err) != 0)
        return -1;
    if (cc_json_need_str(answer, "state", 32, &state, err) == 0)
        rc = strcmp(state, "completed") == 0;
    issued->answered = rc == 1;
    if (rc == 0 && strcmp(state, "failed") == 0) {
        issued->answered = true;
        rc = cc_json_get_object(answer, "result", &result, err);
        if (rc == 0)
            rc = selftest_refuse_result(result, err);
    }
    json_object_put(answer);
    return rc;
}

static int
look_at_all(struct selftest *st, struct cc_err *err)
{
    for (size_t i = 0; i < st->issued_count; i++) {
        const int rc = look(st, &st->issued[i], err);

        if (rc != 1)
            return rc;
    }
    return 1;
}

/* Asked for again now and then: a download that was under way may have begun another cool-down. */
static int
await(struct selftest *st, struct cc_err *err)
{
    const int64_t deadline = cc_deadline_in(st->timeout_ms);
    int64_t again = cc_deadline_in(0);
    int rc;

    for (;;) {
        if (cc_deadline_left(again) == 0) {
            if (have_it_asked(st, err) != 0)
                return -1;
            again = cc_deadline_in(ASK_AGAIN_MS);
        }
        if ((rc = look_at_all(st, err)) != 0)
            return rc == 1 ? 0 : -1;
        if (cc_deadline_left(deadline) == 0)
            return cc_err_set(err, CC_DOM_CANCELLED, 0,
                    "not within %s: look at certconnector status and certconnector events",
                    st->timeout);
        if (selftest_stopped(st, 50))
            return cc_err_set(err, CC_DOM_CANCELLED, 0, "interrupted");
    }
}

/* ---- from here ---- */

static int
revoke(struct selftest *st, struct cc_err *err)
{
    const int reason = pki_reason_parse(st->config->revocation.reason);

    for (size_t i = 0; i < st->issued_count; i++) {
        const struct selftest_issued *issued = &st->issued[i];
        const struct ca_revocation revocation = {
            .serial = { issued->serial, issued->serial_len },
            .reason = reason >= 0 ? (enum pki_reason)reason : PKI_REASON_UNSPECIFIED,
            .deadline = cc_deadline_in(SELFTEST_CALL_MS),
        };
        struct cli_authority *a;

        if (selftest_authority(st, issued->ca, &a, err) != 0)
            return -1;
        if (selftest_ca_did(ca_revoke(a->ca, &revocation, NULL, err), err) != 0)
            return -1;
    }
    return 0;
}

/* ---- both ---- */

static int
check(struct selftest *st, struct cc_err *err)
{
    for (size_t i = 0; i < st->issued_count; i++) {
        enum ca_status status;

        if (selftest_status(st, &st->issued[i], &status, err) != 0)
            return -1;
        if (status != CA_STATUS_REVOKED)
            return cc_err_set(err, CC_DOM_INPUT, 0, "the CA \"%s\" has it in force%s",
                    st->issued[i].ca, status == CA_STATUS_HELD ? ", on hold" : "");
    }
    return 0;
}

int
selftest_revocation(struct selftest *st)
{
    static const struct selftest_step first[] = {
        { "a certificate is issued to be revoked", issue_one },
    };
    static const struct selftest_step through[] = {
        { "the service wants what was issued revoked", order },
        { "the connector reports it revoked", await },
        { "the CA has it revoked", check },
    };
    static const struct selftest_step from_here[] = {
        { "what was issued is revoked", revoke },
        { "the CA has it revoked", check },
    };

    if (st->issued_count == 0 && selftest_run_steps(st, "revocation", first, CC_COUNT(first)) != 0)
        return -1;
    if (st->admin != NULL)
        return selftest_run_steps(st, "revocation", through, CC_COUNT(through));
    return selftest_run_steps(st, "revocation", from_here, CC_COUNT(from_here));
}
