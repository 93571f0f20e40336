/* SPDX-License-Identifier: MIT */
#ifndef TEST_LOCAL_WORLD_H
#define TEST_LOCAL_WORLD_H

/*
 * A built-in CA of a test's own: its keys in a real token, its database in a temporary folder.  For the tests beside
 * this file, which run as the user nobody (tests/unit/hsm/token_dir.h).
 */

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "ca/ca.h"
#include "ca/local.h"
#include "pki/csr.h"
#include "tests/unit/hsm/token_dir.h"

#define LONG_MS 60000
#define HOUR_MS (INT64_C(3600) * 1000)
#define CA_NAME "corp"

static const struct token_key world_keys[] = {
    { "ca", "EC:prime256v1" },
    { "ocsp", "EC:prime256v1" },
    { "ca-rsa", "rsa:2048" },
    { "ocsp-new", "EC:prime256v1" },
};

struct world {
    struct hsm *hsm;
    struct store *store;
    char folder[64], store_uri[96];
    struct ca_local_settings settings;
    struct ca *ca;
    X509 *root;
    unsigned devices; /* made so far */
};

static const char *const world_client_auth[] = { "1.3.6.1.5.5.7.3.2" };
static const char *const world_delta_urls[] = { "http://crl.example.com/corp-delta.crl" };
static const char *const world_crl_urls[] = { "http://crl.example.com/corp.crl" };

static const struct pki_profile world_profile = {
    .name = "device",
    .validity_ms = 30 * PKI_DAY_MS,
    .backdate_ms = 60000,
    .key_usages = KU_DIGITAL_SIGNATURE,
    .extended_key_usages = { world_client_auth, 1 },
    .san_types = 1U << PKI_SAN_DNS,
    .key_specs = 1U << PKI_EC_P256,
    .crl_urls = { world_crl_urls, 1 },
};

/* expr passes its error as "why". */
#define MUST(expr)                                                                                 \
    do {                                                                                           \
        struct cc_err must_ = { 0 };                                                               \
        struct cc_err *why = &must_;                                                               \
        if ((expr) != 0)                                                                           \
            fail_msg("%s: %s", #expr, cc_err_text(why));                                           \
    } while (0)

static inline struct hsm_key *
world_key(struct hsm *hsm, enum hsm_role role, const char *label)
{
    struct hsm_key *key = NULL;
    char uri[64];

    (void)snprintf(uri, sizeof(uri), "pkcs11:object=%s", label);
    MUST(hsm_key_get0(hsm, role, uri, &key, why));
    return key;
}

/* hsm is borrowed.  The CA is not made yet. */
static inline void
world_open(struct world *w, struct hsm *hsm)
{
    *w = (struct world){ .hsm = hsm, .folder = "/tmp/cc-ca-XXXXXX" };
    assert_non_null(mkdtemp(w->folder));
    (void)snprintf(w->store_uri, sizeof(w->store_uri), "sqlite:%s/state.db", w->folder);
    MUST(store_open(w->store_uri, &w->store, why));
    w->settings = (struct ca_local_settings){
        .name = CA_NAME,
        .store = w->store,
        .hsm = hsm,
        .key = world_key(hsm, HSM_ROLE_CA, "ca"),
        .ocsp_key = world_key(hsm, HSM_ROLE_OCSP, "ocsp"),
        .crl_validity_ms = 48 * HOUR_MS,
        .crl_interval_ms = 24 * HOUR_MS,
        .delta_interval_ms = HOUR_MS,
        .delta_crl_urls = { world_delta_urls, 1 },
        .ocsp_validity_ms = HOUR_MS,
        .folder = w->folder,
    };
}

static inline void
world_make_root(struct world *w)
{
    const struct ca_local_init init = { .subject = "CN=Example Root,O=Contoso",
        .validity_ms = 365 * PKI_DAY_MS,
        .path_len = 0 };

    MUST(ca_local_init(&w->settings, &init, NULL, why));
    MUST(ca_local_open(&w->settings, &w->ca, why));
}

static inline void
world_close(struct world *w)
{
    X509_free(w->root);
    w->root = NULL;
    ca_close(w->ca);
    store_close(w->store);
    token_shell("rm -rf %s", w->folder);
}

/* ---- a device that asks ---- */

struct device {
    EVP_PKEY *key;
    struct pki_plan *plan;
    struct cc_buf csr;
    struct ca_request request;
};

static inline struct cc_buf
device_csr(EVP_PKEY *key)
{
    struct cc_buf name = CC_BUF_INIT(PKI_NAME_TEXT_MAX), csr = CC_BUF_INIT(PKI_CSR_MAX);
    X509_NAME *subject = NULL;

    MUST(pki_name_parse("CN=device", &subject, why));
    MUST(pki_name_write(subject, &name, why));
    MUST(pki_csr_build(key, cc_buf_bytes(&name), (struct cc_bytes){ 0 }, NULL, &csr, why));
    X509_NAME_free(subject);
    cc_buf_free(&name);
    return csr;
}

static inline struct device
device_new(const char *request_id)
{
    static const struct pki_san sans[] = { { PKI_SAN_DNS, "device.example.com" } };
    const struct pki_ask ask = { .subject = "CN=Device 7,O=Contoso", .sans = sans, .san_count = 1 };
    struct device d = { .key = EVP_EC_gen("P-256") };

    d.csr = device_csr(d.key);
    MUST(pki_plan_make(&world_profile, &ask, cc_clock_now_ms(), &d.plan, why));
    d.request = (struct ca_request){ .request_id = request_id,
        .csr = cc_buf_bytes(&d.csr),
        .plan = d.plan,
        .deadline = cc_deadline_in(LONG_MS) };
    return d;
}

static inline void
device_free(struct device *d)
{
    EVP_PKEY_free(d->key);
    pki_plan_free(d->plan);
    cc_buf_free(&d->csr);
}

/* One certificate of a fresh key; yours to free. */
static inline X509 *
world_issue(struct world *w, const char *request_id)
{
    struct device d = device_new(request_id);
    struct cc_err err = { 0 };
    X509 *certificate = NULL;

    if (ca_issue(w->ca, &d.request, &certificate, NULL, &err) != CA_DONE)
        fail_msg("issue: %s", cc_err_text(&err));
    device_free(&d);
    return certificate;
}

static inline struct cc_bytes
serial_of(const X509 *certificate)
{
    const ASN1_INTEGER *number = X509_get0_serialNumber(certificate);

    return (struct cc_bytes){ ASN1_STRING_get0_data(number), (size_t)ASN1_STRING_length(number) };
}

static inline enum ca_outcome
world_revoke(struct world *w, const X509 *certificate, enum pki_reason reason, bool *ret_already)
{
    const struct ca_revocation revocation = { .serial = serial_of(certificate),
        .reason = reason,
        .deadline = cc_deadline_in(LONG_MS) };

    return ca_revoke(w->ca, &revocation, ret_already, NULL);
}

/* Borrowed until world_close(), or the next one. */
static inline X509 *
world_root(struct world *w)
{
    X509_free(w->root);
    w->root = NULL;
    MUST(ca_local_get1_certificate(w->ca, &w->root, why));
    return w->root;
}

#endif
