/* SPDX-License-Identifier: MIT */
#include "upkeep/expiry.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"
#include "pki/cert.h"
#include "pki/name.h"
#include "store/cadb.h"

#define ITEMS_MAX 256 /* of a file with many CAs the first are enough */
#define FILE_MAX ((size_t)1 << 20)
#define BUNDLE_MIN 16
/* What renews itself a little late, as after a night without the token, is no reason to call anybody. */
#define RENEWAL_SLACK_MS UPKEEP_DAY_MS
#define CRL_SLACK_MS (INT64_C(3600) * 1000)

static const int thresholds[] = { 60, 30, 14, 7, 1, 0 };

/* ---- the list ---- */

static int
add_item(struct upkeep_items *items, const struct upkeep_item *item, struct cc_err *err)
{
    struct upkeep_item *more;

    for (size_t i = 0; i < items->count; i++)
        if (strcmp(items->item[i].id, item->id) == 0 &&
                strcmp(items->item[i].role, item->role) == 0)
            return 0;
    if (items->count == ITEMS_MAX)
        return 0;
    more = realloc(items->item, (items->count + 1) * sizeof(*more));
    if (more == NULL)
        return cc_err_nomem(err);
    items->item = more;
    items->item[items->count++] = *item;
    return 0;
}

static void
name_subject(X509 *certificate, char *ret, size_t size)
{
    struct cc_buf name = CC_BUF_INIT(PKI_NAME_TEXT_MAX);

    (void)cc_strcpy(ret, size, "a certificate");
    if (pki_name_format(X509_get_subject_name(certificate), &name, NULL) == 0 && name.len > 0)
        (void)cc_escape_into(ret, size, cc_buf_str(&name));
    cc_buf_free(&name);
}

/* SHA-256 over the DER. */
static int
fingerprint(X509 *certificate, char ret_hex[2 * SHA256_DIGEST_LENGTH + 1], struct cc_err *err)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];

    if (X509_digest(certificate, EVP_sha256(), digest, NULL) != 1)
        return cc_err_set_openssl(err, "fingerprint of a certificate");
    cc_hex(digest, sizeof(digest), false, ret_hex);
    return 0;
}

int
upkeep_items_add(struct upkeep_items *items, const char *role, const char *name, const char *cure,
        X509 *certificate, bool renewed, struct cc_err *err)
{
    struct upkeep_item item = { .quiet_until_ms = 0 };
    char subject[160];
    int64_t begin;

    /* A time that cannot be read is no end. */
    if (pki_cert_validity(certificate, &begin, &item.not_after_ms, NULL) != 0)
        return 0;
    if (fingerprint(certificate, item.id, err) != 0)
        return -1;
    name_subject(certificate, subject, sizeof(subject));
    (void)cc_strcpy(item.role, sizeof(item.role), role);
    (void)snprintf(item.name, sizeof(item.name), "%s (%s)", name, subject);
    (void)cc_strcpy(item.cure, sizeof(item.cure), cure);
    if (renewed)
        item.quiet_until_ms = begin + (item.not_after_ms - begin) / 3 * 2 + RENEWAL_SLACK_MS;
    /* One that lives for days has no day of slack. */
    if (renewed && item.quiet_until_ms > item.not_after_ms)
        item.quiet_until_ms = item.not_after_ms;
    return add_item(items, &item, err);
}

void
upkeep_items_free(struct upkeep_items *items)
{
    free(items->item);
    *items = (struct upkeep_items){ .item = NULL };
}

/* ---- files ---- */

struct file_kind {
    const char *role, *name, *cure;
    bool renewed;
    size_t max; /* with more certificates it is left alone; 0: it is not */
};

static size_t
count_certificates(const char *pem)
{
    size_t count = 0;

    for (; (pem = strstr(pem, "-----BEGIN ")) != NULL; pem++)
        count++;
    return count;
}

static int
add_file(struct upkeep_items *items, const char *path, const struct file_kind *kind,
        struct cc_err *err)
{
    struct cc_buf file = CC_BUF_INIT(FILE_MAX);
    char name[128];
    BIO *bio = NULL;
    int rc = 0;

    if (path == NULL || cc_file_read(path, &file, NULL) != 0 || file.len > INT_MAX ||
            (kind->max != 0 && count_certificates(cc_buf_str(&file)) > kind->max) ||
            (bio = BIO_new_mem_buf(file.data, (int)file.len)) == NULL)
        goto out;
    (void)snprintf(name, sizeof(name), "%s %s", kind->name, path);
    for (X509 *one; rc == 0 && (one = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL;
            X509_free(one))
        rc = upkeep_items_add(items, kind->role, name, kind->cure, one, kind->renewed, err);
    ERR_clear_error();
out:
    BIO_free(bio);
    cc_buf_free(&file);
    return rc;
}

static int
add_scep_files(struct upkeep_items *items, const struct config_scep *scep, struct cc_err *err)
{
    static const struct file_kind ra = { "scep-ra", "RA certificate",
        "have the CA issue the RA a new certificate for the same key, and put it in place of this one",
        false, 0 };
    static const struct file_kind next = { "next-ca", "next CA certificate",
        "put the CA's next certificate into this file, or remove the setting next-ca", false, 0 };

    if (add_file(items, scep->ra_sign, &ra, err) != 0 ||
            add_file(items, scep->ra_encrypt, &ra, err) != 0)
        return -1;
    return add_file(items, scep->next_ca, &next, err);
}

static int
add_files(struct upkeep_items *items, const struct config *config, struct cc_err *err)
{
    /* A bundle of the whole world's CAs has old ones in it that nobody uses, and is looked after by who made it. */
    static const struct file_kind service_ca = { "service-ca", "CA of the service",
        "put the certificate of the CA that the service uses now into this file", false,
        BUNDLE_MIN };
    static const struct file_kind identity = { "identity", "identity certificate",
        "it should have been renewed by itself: the connector's log says why not", true, 0 };
    static const struct file_kind client = { "client-certificate", "certificate to sign in with",
        "make a new one for the key (certconnector key self-sign), register it with the application, and put it into this file",
        false, 0 };
    struct cc_buf path = CC_BUF_INIT(PATH_MAX);
    int rc;

    if (add_file(items, config->service.ca_file, &service_ca, err) != 0 ||
            add_file(items, config->service.client_certificate, &client, err) != 0)
        return -1;
    /* One that is too long is no file's. */
    rc = config_identity_path(config->connector.state_directory, config->connector.name, &path,
                 NULL) == 0
                 ? add_file(items, cc_buf_str(&path), &identity, err)
                 : 0;
    cc_buf_free(&path);
    if (rc != 0)
        return -1;
    if ((config->connector.features & CONFIG_SCEP) == 0)
        return 0;
    if (add_scep_files(items, &config->scep.own, err) != 0)
        return -1;
    for (size_t i = 0; i < config->scep_profile_count; i++)
        if (add_scep_files(items, &config->scep_profiles[i], err) != 0)
            return -1;
    return 0;
}

/* ---- secrets: when they end only who made them knows ---- */

static int
add_secret(struct upkeep_items *items, const struct config *config, struct cc_err *err)
{
    struct upkeep_item item = { .role = "client-secret",
        .name = "the secret to sign in with",
        .cure = "make a new secret for the application in Entra ID, put it into its file, and set [service] "
                "client-secret-expires" };
    const char *day = config->service.client_secret_expires;
    char time[CC_TIME_LEN];

    if (day == NULL)
        return 0;
    (void)snprintf(time, sizeof(time), "%.10sT00:00:00Z", day);
    if (cc_time_parse(time, &item.not_after_ms, err) != 0)
        return -1;
    (void)snprintf(item.id, sizeof(item.id), "client-secret/%.10s", day);
    return add_item(items, &item, err);
}

/* ---- authorities ---- */

struct authority {
    struct upkeep_items *items;
    const struct config_ca *config;
    int rc;
    struct cc_err *err;
};

static void
add_der(struct authority *a, const char *role, const char *what, const char *cure,
        struct cc_bytes der, bool renewed)
{
    const unsigned char *at = der.data, *end = at + der.len;
    char name[128];

    (void)snprintf(name, sizeof(name), "%s \"%s\"", what, a->config->name);
    while (a->rc == 0 && at != NULL && at < end) {
        X509 *one = d2i_X509(NULL, &at, end - at);

        if (one == NULL)
            break;
        a->rc = upkeep_items_add(a->items, role, name, cure, one, renewed, a->err);
        X509_free(one);
    }
    ERR_clear_error();
}

static int
add_authority(void *arg, const struct cadb_authority *authority)
{
    struct authority *a = arg;

    add_der(a, "ca", "CA",
            "renew the CA's certificate, with the same key, and give it to certconnector ca init --certificate",
            authority->certificate, false);
    add_der(a, "ca-chain", "CA above",
            "have the CA above renewed, and the certificate of this one by it", authority->chain,
            false);
    if (a->config->ocsp_key != NULL)
        add_der(a, "ocsp", "OCSP signer of CA",
                "it should have been renewed by itself: the connector's log says why not",
                authority->ocsp_signer, true);
    return 0;
}

static int
add_crl(struct upkeep_items *items, struct store *store, const struct config_ca *ca,
        enum cadb_crl_kind kind, struct cc_err *err)
{
    const bool delta = kind == CADB_CRL_DELTA;
    struct upkeep_item item = {
        .cure = "it should have been renewed by itself: the connector must run, and its log says what is wrong"
    };
    struct cadb_crl crl;
    bool found = false;

    if (cadb_crl_get(store, ca->name, kind, &found, &crl, -1, NULL) != 0 || !found)
        return 0;
    (void)cc_strcpy(item.role, sizeof(item.role), delta ? "delta-crl" : "crl");
    (void)snprintf(item.name, sizeof(item.name), "%s of CA \"%s\"", delta ? "delta CRL" : "CRL",
            ca->name);
    (void)snprintf(item.id, sizeof(item.id), "crl/%.40s/%lld", ca->name, (long long)crl.number);
    for (char *c = item.id; *c != '\0'; c++)
        if (*c == ' ')
            *c = '_';
    item.not_after_ms = crl.next_update_ms;
    item.quiet_until_ms = crl.this_update_ms + CRL_SLACK_MS +
                          (delta ? ca->delta_interval_ms : ca->crl_interval_ms);
    if (item.quiet_until_ms > item.not_after_ms)
        item.quiet_until_ms = item.not_after_ms;
    return add_item(items, &item, err);
}

static int
add_authorities(struct upkeep_items *items, const struct config *config, struct store *store,
        struct cc_err *err)
{
    for (size_t i = 0; i < config->ca_count; i++) {
        const struct config_ca *ca = &config->cas[i];
        struct authority a = { .items = items, .config = ca, .err = err };

        if (ca->kind != CONFIG_CA_LOCAL)
            continue;
        /* A store that is away says so by itself. */
        (void)!cadb_authority_find(store, ca->name, add_authority, &a, NULL);
        if (a.rc != 0 || add_crl(items, store, ca, CADB_CRL_FULL, err) != 0 ||
                (ca->delta_interval_ms > 0 && add_crl(items, store, ca, CADB_CRL_DELTA, err) != 0))
            return -1;
    }
    return 0;
}

int
upkeep_items_collect(const struct config *config, struct store *store, struct upkeep_items *ret,
        struct cc_err *err)
{
    *ret = (struct upkeep_items){ .item = NULL };
    if (add_files(ret, config, err) != 0 || add_secret(ret, config, err) != 0)
        return -1;
    return store != NULL ? add_authorities(ret, config, store, err) : 0;
}

/* ---- days ---- */

int64_t
upkeep_days_left(const struct upkeep_item *item, int64_t now_ms)
{
    const int64_t left = item->not_after_ms - now_ms;

    return left >= 0 ? left / UPKEEP_DAY_MS : -1 - (-left - 1) / UPKEEP_DAY_MS;
}

int
upkeep_threshold(const struct upkeep_item *item, int64_t now_ms)
{
    int reached = -1;

    if (now_ms < item->quiet_until_ms)
        return -1;
    for (size_t i = 0; i < CC_COUNT(thresholds); i++)
        if (now_ms >= item->not_after_ms - thresholds[i] * UPKEEP_DAY_MS)
            reached = thresholds[i];
    return reached;
}

int64_t
upkeep_next_change_ms(const struct upkeep_item *item, int64_t now_ms)
{
    for (size_t i = 0; i < CC_COUNT(thresholds); i++) {
        const int64_t at = item->not_after_ms - thresholds[i] * UPKEEP_DAY_MS;
        const int64_t due = at > item->quiet_until_ms ? at : item->quiet_until_ms;

        if (due > now_ms)
            return due;
    }
    return INT64_MAX;
}
