/* SPDX-License-Identifier: MIT */

/* A certificate for a device, its key pair made by the connector and delivered as PFX. */

#include "selftest_int.h"

#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "pki/cert.h"
#include "pki/csr.h"
#include "pki/profile.h"

#define VALIDITY_DAYS 1
#define SEALED_MAX 16384
#define OUTPUT_MAX ((size_t)256 * 1024)

/* ---- what is asked for ---- */

const struct config_ca *
selftest_pkcs_ca(const struct config *config)
{
    const struct config_ca *ca =
            config->pkcs.ca != NULL ? config_ca_find(config, config->pkcs.ca) : NULL;

    return ca == NULL && config->ca_count > 0 ? &config->cas[0] : ca;
}

const char *
selftest_pkcs_profile(const struct config *config, const struct config_ca *ca)
{
    return ca->profile != NULL ? ca->profile : config->pkcs.profile;
}

/* The one by default, or the first there is. */
static const struct config_profile *
profile_of(const struct config *config, const struct config_ca *ca)
{
    const char *name = selftest_pkcs_profile(config, ca);
    const struct config_profile *profile = name != NULL ? config_profile_find(config, name) : NULL;

    return profile == NULL && config->profile_count > 0 ? &config->profiles[0] : profile;
}

static const char *
key_algorithm(const struct config_profile *profile)
{
    const int spec = selftest_key_kind(profile, false);

    return spec >= 0 ? pki_keyspec_name((enum pki_keyspec)spec) : "";
}

static int
choose(struct selftest *st, const struct config_profile **ret_profile, struct cc_err *err)
{
    st->pkcs.ca = selftest_pkcs_ca(st->config);
    if (st->pkcs.ca == NULL || (*ret_profile = profile_of(st->config, st->pkcs.ca)) == NULL)
        return cc_err_set(err, CC_DOM_CONFIG, 0, "the configuration has no CA, or no profile");
    return 0;
}

/* ---- through the service's queue ---- */

static int
add_device(struct selftest *st, const struct config_profile *profile, json_object *body,
        struct cc_err *err)
{
    if (cc_json_add_str(body, "userPrincipalName", st->user, err) != 0 ||
            cc_json_add_str(body, "deviceId", st->device, err) != 0 ||
            cc_json_add_str(body, "subjectName", st->subject, err) != 0 ||
            cc_json_add_str(body, "keyAlgorithm", key_algorithm(profile), err) != 0 ||
            cc_json_add_int(body, "validityPeriodInDays", VALIDITY_DAYS, err) != 0 ||
            cc_json_add_str(body, "certificationAuthorityName", st->pkcs.ca->name, err) != 0)
        return -1;
    /* Without a template it is the profile by default, where there is one. */
    if (selftest_pkcs_profile(st->config, st->pkcs.ca) == NULL &&
            cc_json_add_str(body, "certificateTemplateName", profile->templates.item[0], err) != 0)
        return -1;
    return cc_json_add_base64(body, "recipientCertificate", st->recipient.der.data,
            st->recipient.der.len, err);
}

static int
order(struct selftest *st, struct cc_err *err)
{
    const struct config_profile *profile;
    json_object *body;

    if (choose(st, &profile, err) != 0)
        return -1;
    body = json_object_new_object();
    if (add_device(st, profile, body, err) != 0) {
        json_object_put(body);
        return -1;
    }
    selftest_look_at(st, st->pkcs.ca->name);
    if (selftest_order(st, "pkcsRequests", body, st->pkcs.request, err) != 0)
        return -1;
    (void)snprintf(st->detail, sizeof(st->detail), "request %s, profile %s", st->pkcs.request,
            profile->name);
    return 0;
}

static int
note(struct selftest *st, struct cc_err *err)
{
    X509 *certificate = NULL;
    int rc = -1;

    if (pki_cert_parse(cc_buf_bytes(&st->pkcs.certificate), &certificate, err) == 0)
        rc = selftest_note_issued(st, st->pkcs.ca->name, certificate, err);
    X509_free(certificate);
    return rc;
}

static int
await(struct selftest *st, struct cc_err *err)
{
    json_object *result = NULL;
    int rc = -1;

    if (selftest_await_result(st, st->pkcs.request, &result, err) != 0)
        return -1;
    if (cc_json_get_base64(result, "certificate", &st->pkcs.certificate, err) == 0 &&
            note(st, err) == 0 &&
            cc_json_get_base64(result, "encryptedPfxBlob", &st->pkcs.pfx, err) == 0 &&
            cc_json_get_base64(result, "encryptedPfxPassword", &st->pkcs.password, err) == 0)
        rc = 0;
    json_object_put(result);
    return rc;
}

/* ---- both ---- */

static int
check_delivered(struct selftest *st, EVP_PKEY *key, X509 *certificate, struct cc_err *err)
{
    X509 *reported = NULL;
    int rc = -1;

    if (pki_cert_parse(cc_buf_bytes(&st->pkcs.certificate), &reported, err) != 0)
        return -1;
    if (X509_cmp(reported, certificate) != 0)
        cc_err_set(err, CC_DOM_INPUT, 0, "the PFX has another certificate than was reported");
    else
        rc = selftest_check_certificate(st, st->pkcs.ca->name, certificate, key, err);
    X509_free(reported);
    return rc;
}

/* As a device would: password, PFX, key and certificate. */
static int
open_delivery(struct selftest *st, struct cc_err *err)
{
    struct cc_secret *password = NULL;
    EVP_PKEY *key = NULL;
    X509 *certificate = NULL;
    int rc = -1;

    if (selftest_open_envelope(st, cc_buf_bytes(&st->pkcs.password), &password, err) == 0 &&
            selftest_open_pfx(cc_buf_bytes(&st->pkcs.pfx), password, &key, &certificate, err) == 0)
        rc = check_delivered(st, key, certificate, err);
    X509_free(certificate);
    EVP_PKEY_free(key);
    cc_secret_free(password);
    return rc;
}

/* ---- from here ---- */

static struct cc_bytes
context(const struct selftest *st)
{
    return cc_bytes_of_str(st->run);
}

static int
seal_key(struct selftest *st, struct hsm_key **ret, struct cc_err *err)
{
    struct cli_authority *a;

    if (selftest_authority(st, st->pkcs.ca->name, &a, err) != 0)
        return -1;
    return hsm_key_get0(a->hsm, HSM_ROLE_SEAL, config_key(a->config, hsm_role_name(HSM_ROLE_SEAL)),
            ret, err);
}

static int
make_key(struct selftest *st, struct cc_err *err)
{
    const enum hsm_generation generation = st->config->pkcs.key_generation == CONFIG_GENERATE_TOKEN
                                                   ? HSM_GENERATE_TOKEN
                                                   : HSM_GENERATE_HOST;
    const struct config_profile *profile;
    struct cc_buf spki = CC_BUF_INIT(SEALED_MAX);
    struct hsm_key *seal;
    int rc = -1;

    if (choose(st, &profile, err) == 0 && seal_key(st, &seal, err) == 0) {
        const int spec = pki_keyspec_parse(key_algorithm(profile));

        rc = spec < 0 ? cc_err_set(err, CC_DOM_CONFIG, 0, "a kind of key that there is not")
                      : hsm_device_key_new(seal, (enum pki_keyspec)spec, generation, context(st),
                                &st->pkcs.sealed, &spki, err);
        (void)snprintf(st->detail, sizeof(st->detail), "%s", key_algorithm(profile));
    }
    cc_buf_free(&spki);
    return rc;
}

static int
make_csr(struct selftest *st, const struct pki_plan *plan, struct cc_buf *ret, struct cc_err *err)
{
    struct cc_buf subject = CC_BUF_INIT(PKI_CSR_MAX), extensions = CC_BUF_INIT(PKI_CSR_MAX);
    struct hsm_key *seal;
    int rc = -1;

    if (seal_key(st, &seal, err) == 0 && pki_name_write(plan->subject, &subject, err) == 0 &&
            pki_plan_extensions(plan, &extensions, err) == 0)
        rc = hsm_device_key_csr(seal, context(st), cc_buf_bytes(&st->pkcs.sealed),
                cc_buf_bytes(&subject), cc_buf_bytes(&extensions), ret, err);
    cc_buf_free(&subject);
    cc_buf_free(&extensions);
    return rc;
}

static int
keep_certificate(struct selftest *st, X509 *certificate, struct cc_err *err)
{
    unsigned char *der = NULL;
    const int len = i2d_X509(certificate, &der);
    int rc = len > 0 ? cc_buf_add(&st->pkcs.certificate, der, (size_t)len, err)
                     : cc_err_set_openssl(err, "the certificate");

    OPENSSL_free(der);
    if (rc == 0)
        rc = selftest_note_issued(st, st->pkcs.ca->name, certificate, err);
    return rc;
}

static int
ask_ca(struct selftest *st, const struct pki_plan *plan, struct cc_err *err)
{
    struct cc_buf csr = CC_BUF_INIT(PKI_CSR_MAX), pending = CC_BUF_INIT(CA_PENDING_MAX);
    struct cli_authority *a;
    X509 *certificate = NULL;
    int rc = -1;

    if (selftest_authority(st, st->pkcs.ca->name, &a, err) == 0 &&
            make_csr(st, plan, &csr, err) == 0) {
        const struct ca_request request = {
            .csr = cc_buf_bytes(&csr),
            .plan = plan,
            .deadline = cc_deadline_in(st->timeout_ms),
        };

        selftest_look_at(st, st->pkcs.ca->name);
        if (selftest_ca_did(ca_issue(a->ca, &request, &certificate, &pending, err), err) == 0)
            rc = keep_certificate(st, certificate, err);
    }
    X509_free(certificate);
    cc_buf_free(&csr);
    cc_buf_free(&pending);
    return rc;
}

static int
issue(struct selftest *st, struct cc_err *err)
{
    const struct pki_ask ask = { .subject = st->subject,
        .validity_ms = VALIDITY_DAYS * PKI_DAY_MS };
    const struct config_profile *profile;
    struct cli_authority *a;
    struct pki_plan *plan = NULL;
    int rc = -1;

    if (choose(st, &profile, err) == 0 && selftest_authority(st, st->pkcs.ca->name, &a, err) == 0 &&
            cli_authority_profile(a, profile->name, &st->pkcs.profile, err) == 0 &&
            pki_plan_make(st->pkcs.profile, &ask, cc_clock_now_ms(), &plan, err) == 0)
        rc = ask_ca(st, plan, err);
    pki_plan_free(plan);
    return rc;
}

static int
deliver(struct selftest *st, struct cc_err *err)
{
    struct hsm_device_pfx parts = {
        .context = context(st),
        .sealed = cc_buf_bytes(&st->pkcs.sealed),
        .certificate = cc_buf_bytes(&st->pkcs.certificate),
        .friendly_name = "certconnector selftest",
        .encryption = PKI_PFX_AES256,
        .form = PKI_PASSWORD_CMS,
        .cipher = PKI_CIPHER_AES256,
    };
    struct hsm_key *seal;

    if (seal_key(st, &seal, err) != 0)
        return -1;
    parts.recipient = cc_buf_bytes(&st->recipient.der);
    return hsm_device_key_pfx(seal, &parts, &st->pkcs.pfx, &st->pkcs.password, err);
}

/* ---- the steps ---- */

static int
say_why_not(struct selftest *st, struct cc_err *err)
{
    (void)err;
    (void)snprintf(st->detail, sizeof(st->detail), "%s", SELFTEST_APPROVAL);
    return 0;
}

int
selftest_pkcs(struct selftest *st)
{
    static const struct selftest_step through[] = {
        { "a request is put into the service's queue", order },
        { "its certificate comes back", await },
        { "password, PFX, key and certificate are right", open_delivery },
    };
    static const struct selftest_step without[] = {
        { "no certificate is asked for", say_why_not },
    };
    static const struct selftest_step from_here[] = {
        { "a key pair is made and sealed", make_key },
        { "the CA issues by the profile", issue },
        { "a PFX is made for a recipient", deliver },
        { "password, PFX, key and certificate are right", open_delivery },
    };

    cc_buf_init(&st->pkcs.sealed, SEALED_MAX);
    cc_buf_init(&st->pkcs.certificate, PKI_CERT_MAX);
    cc_buf_init(&st->pkcs.pfx, OUTPUT_MAX);
    cc_buf_init(&st->pkcs.password, OUTPUT_MAX);
    if (st->admin != NULL && selftest_waits_for_approval(selftest_pkcs_ca(st->config)))
        return selftest_run_steps(st, "pkcs", without, CC_COUNT(without));
    if (st->admin != NULL)
        return selftest_run_steps(st, "pkcs", through, CC_COUNT(through));
    return selftest_run_steps(st, "pkcs", from_here, CC_COUNT(from_here));
}

void
selftest_pkcs_forget(struct selftest *st)
{
    cc_buf_wipe(&st->pkcs.sealed);
    cc_buf_free(&st->pkcs.certificate);
    cc_buf_wipe(&st->pkcs.pfx);
    cc_buf_free(&st->pkcs.password);
    pki_profile_free(st->pkcs.profile);
}
