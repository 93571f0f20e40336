/* SPDX-License-Identifier: MIT */
#include "selftest_int.h"

#include <openssl/cms.h>
#include <openssl/err.h>
#include <openssl/pkcs12.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "pki/cert.h"

/* ---- keys ---- */

int
selftest_key_kind(const struct config_profile *profile, bool rsa)
{
    int first = -1;

    for (size_t i = 0; i < profile->keys.count; i++) {
        const int spec = pki_keyspec_parse(profile->keys.item[i]);

        if (spec == PKI_RSA2048)
            return spec;
        if (first < 0 && (!rsa || spec == PKI_RSA3072 || spec == PKI_RSA4096))
            first = spec;
    }
    return first;
}

/* ---- the throwaway recipient ---- */

int
selftest_self_signed(struct selftest *st, unsigned key_usages, EVP_PKEY *key,
        X509 **ret_certificate, struct cc_err *err)
{
    int rc;

    st->plan->key_usages = key_usages;
    rc = scep_self_signed(st->plan, key, ret_certificate, err);
    st->plan->key_usages = 0;
    return rc;
}

int
selftest_recipient(struct selftest *st, struct cc_err *err)
{
    struct selftest_recipient *r = &st->recipient;
    unsigned char *der = NULL;
    int len, rc = -1;

    if (pki_key_generate(PKI_RSA2048, &r->key, err) != 0 ||
            selftest_self_signed(st, KU_DIGITAL_SIGNATURE | KU_KEY_ENCIPHERMENT, r->key,
                    &r->certificate, err) != 0)
        return -1;
    if ((len = i2d_X509(r->certificate, &der)) > 0)
        rc = cc_buf_add(&r->der, der, (size_t)len, err);
    else
        cc_err_set_openssl(err, "the recipient's certificate");
    OPENSSL_free(der);
    return rc;
}

/* OpenSSL wipes what it frees (base/process.h). */
static int
take_content(BIO *out, struct cc_secret **ret_content, struct cc_err *err)
{
    char *data = NULL;
    const long len = BIO_get_mem_data(out, &data);

    if (len <= 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "nothing is in the EnvelopedData");
    return (*ret_content = cc_secret_copy(data, (size_t)len, err)) != NULL ? 0 : -1;
}

int
selftest_open_envelope(struct selftest *st, struct cc_bytes der, struct cc_secret **ret_content,
        struct cc_err *err)
{
    const unsigned char *at = der.data;
    CMS_ContentInfo *cms;
    BIO *out = BIO_new(BIO_s_mem());
    int rc = -1;

    ERR_clear_error();
    if ((cms = d2i_CMS_ContentInfo(NULL, &at, (long)der.len)) == NULL || out == NULL)
        cc_err_set(err, CC_DOM_INPUT, 0, "the encrypted password is no CMS EnvelopedData");
    else if (CMS_decrypt(cms, st->recipient.key, st->recipient.certificate, NULL, out,
                     CMS_BINARY) != 1)
        cc_err_set(err, CC_DOM_INPUT, 0,
                "the recipient's key does not open the encrypted password");
    else
        rc = take_content(out, ret_content, err);
    ERR_clear_error();
    CMS_ContentInfo_free(cms);
    BIO_free(out);
    return rc;
}

int
selftest_open_pfx(struct cc_bytes pfx, const struct cc_secret *password, EVP_PKEY **ret_key,
        X509 **ret_certificate, struct cc_err *err)
{
    const unsigned char *at = pfx.data;
    PKCS12 *p12;
    int rc = -1;

    ERR_clear_error();
    if ((p12 = d2i_PKCS12(NULL, &at, (long)pfx.len)) == NULL)
        cc_err_set(err, CC_DOM_INPUT, 0, "what was delivered is no PFX");
    else if (PKCS12_parse(p12, cc_secret_str(password), ret_key, ret_certificate, NULL) != 1)
        cc_err_set(err, CC_DOM_INPUT, 0, "the delivered password does not open the PFX");
    else if (*ret_key == NULL || *ret_certificate == NULL)
        cc_err_set(err, CC_DOM_INPUT, 0, "the PFX has no key, or no certificate of it");
    else
        rc = 0;
    ERR_clear_error();
    PKCS12_free(p12);
    return rc;
}

/* ---- CAs ---- */

int
selftest_ca_did(enum ca_outcome outcome, struct cc_err *err)
{
    if (outcome == CA_DONE)
        return 0;
    if (err->domain == CC_DOM_NONE)
        cc_err_set(err, CC_DOM_INPUT, 0, "the CA's answer: %s", ca_outcome_name(outcome));
    return -1;
}

bool
selftest_waits_for_approval(const struct config_ca *ca)
{
    return ca != NULL && ca->approval == CONFIG_APPROVAL_MANUAL;
}

static int
open_authority(struct selftest *st, struct cli_authority *a, struct cc_err *err)
{
    if (st->admin == NULL)
        return cli_authority_open(a, err);
    /* What was issued is looked up and revoked without the key: the daemon signs the CRLs. */
    if (cli_authority_open_store(a, err) != 0)
        return -1;
    a->settings = cli_authority_settings(a->config, a->entry);
    a->settings.store = a->store;
    return 0;
}

int
selftest_authority(struct selftest *st, const char *name, struct cli_authority **ret,
        struct cc_err *err)
{
    struct cli_authority *a = &st->cas[st->ca_count];

    for (size_t i = 0; i < st->ca_count; i++) {
        if (strcmp(st->cas[i].entry->name, name) == 0) {
            *ret = &st->cas[i];
            return 0;
        }
    }
    if (st->ca_count == SELFTEST_CAS_MAX)
        return cc_err_set(err, CC_DOM_INTERNAL, 0, "too many CAs");
    if (cli_authority_load(st->config_path, name, a, err) != 0 || open_authority(st, a, err) != 0 ||
            cli_authority_open_ca(a, err) != 0) {
        cli_authority_close(a);
        return cc_err_in(err, "CA \"%s\"", name);
    }
    st->ca_count++;
    *ret = a;
    return 0;
}

static void
add_name(const char **names, size_t *count, const char *name)
{
    for (size_t i = 0; i < *count; i++)
        if (strcmp(names[i], name) == 0)
            return;
    if (*count < SELFTEST_CAS_MAX)
        names[(*count)++] = name;
}

void
selftest_look_at(struct selftest *st, const char *ca)
{
    add_name(st->look_at, &st->look_at_count, ca);
}

/* ---- what was issued ---- */

int
selftest_note_issued(struct selftest *st, const char *ca, const X509 *certificate,
        struct cc_err *err)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(certificate);
    const int len = ASN1_STRING_length(serial);
    struct selftest_issued *issued = &st->issued[st->issued_count];
    char text[2 * CADB_SERIAL_MAX + 1];

    if (st->issued_count == SELFTEST_ISSUED_MAX || len <= 0 || len > CADB_SERIAL_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "a serial number of %d bytes", len);
    memcpy(issued->serial, ASN1_STRING_get0_data(serial), (size_t)len);
    issued->serial_len = (size_t)len;
    issued->ca = ca;
    st->issued_count++;
    cc_hex(issued->serial, issued->serial_len, true, text);
    (void)snprintf(st->detail, sizeof(st->detail), "serial number %s", text);
    return 0;
}

int
selftest_status(struct selftest *st, const struct selftest_issued *issued,
        enum ca_status *ret_status, struct cc_err *err)
{
    struct cli_authority *a;
    enum ca_outcome outcome;

    if (selftest_authority(st, issued->ca, &a, err) != 0)
        return -1;
    outcome = ca_get_status(a->ca, (struct cc_bytes){ issued->serial, issued->serial_len },
            cc_deadline_in(SELFTEST_CALL_MS), ret_status, err);
    if (outcome == CA_NOT_FOUND)
        return cc_err_set(err, CC_DOM_INPUT, 0, "the CA \"%s\" did not issue this certificate",
                issued->ca);
    return selftest_ca_did(outcome, err);
}

/* The chain's last is the root. */
static int
verify(STACK_OF(X509) *chain, X509 *certificate, struct cc_err *err)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    int rc = -1;

    ERR_clear_error();
    if (store == NULL || ctx == NULL ||
            X509_STORE_add_cert(store, sk_X509_value(chain, sk_X509_num(chain) - 1)) != 1 ||
            X509_STORE_CTX_init(ctx, store, certificate, chain) != 1)
        cc_err_set_openssl(err, "verifying the certificate");
    else if (X509_verify_cert(ctx) != 1)
        cc_err_set(err, CC_DOM_INPUT, X509_STORE_CTX_get_error(ctx),
                "the certificate does not verify to the configured CA: %s",
                X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
    else
        rc = 0;
    ERR_clear_error();
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    return rc;
}

static int
check_chain(struct selftest *st, const char *ca, X509 *certificate, struct cc_err *err)
{
    struct cli_authority *a;
    STACK_OF(X509) *chain = NULL;
    int rc = -1;

    if (selftest_authority(st, ca, &a, err) == 0 &&
            selftest_ca_did(ca_chain(a->ca, cc_deadline_in(SELFTEST_CALL_MS), &chain, err), err) ==
                    0)
        rc = verify(chain, certificate, err);
    sk_X509_pop_free(chain, X509_free);
    return rc;
}

static int
check_known(struct selftest *st, X509 *certificate, struct cc_err *err)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(certificate);
    enum ca_status status;

    for (size_t i = 0; i < st->issued_count; i++) {
        const struct selftest_issued *issued = &st->issued[i];

        if ((size_t)ASN1_STRING_length(serial) != issued->serial_len ||
                memcmp(ASN1_STRING_get0_data(serial), issued->serial, issued->serial_len) != 0)
            continue;
        if (selftest_status(st, issued, &status, err) != 0)
            return -1;
        return status == CA_STATUS_GOOD
                       ? 0
                       : cc_err_set(err, CC_DOM_INPUT, 0, "at the CA it is not in force");
    }
    return cc_err_set(err, CC_DOM_INTERNAL, 0, "the certificate was not noted");
}

int
selftest_check_certificate(struct selftest *st, const char *ca, X509 *certificate, EVP_PKEY *key,
        struct cc_err *err)
{
    if (X509_NAME_cmp(X509_get_subject_name(certificate), st->plan->subject) != 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "the certificate's subject is not %s", st->subject);
    if (EVP_PKEY_eq(X509_get0_pubkey(certificate), key) != 1) {
        ERR_clear_error();
        return cc_err_set(err, CC_DOM_INPUT, 0, "the certificate is of another key");
    }
    if (check_chain(st, ca, certificate, err) != 0)
        return -1;
    return check_known(st, certificate, err);
}
