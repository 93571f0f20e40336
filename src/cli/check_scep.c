/* SPDX-License-Identifier: MIT */
#include "check_int.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "pki/cert.h"
#include "upkeep/expiry.h"

#define FILE_MAX ((size_t)1 << 20)

/* ---- the RA's certificates, where a CA elsewhere gave them ---- */

static X509 *
read_certificate(const char *path, struct cc_err *err)
{
    struct cc_buf file = CC_BUF_INIT(FILE_MAX);
    BIO *bio = NULL;
    X509 *certificate = NULL;

    if (cc_file_read(path, &file, err) == 0) {
        if (file.len <= INT_MAX && (bio = BIO_new_mem_buf(file.data, (int)file.len)) != NULL)
            certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        if (certificate == NULL)
            cc_err_set_openssl(err, "%s has no certificate in PEM", path);
    }
    BIO_free(bio);
    cc_buf_free(&file);
    ERR_clear_error();
    return certificate;
}

struct ra_file {
    const char *path, *setting;
    enum hsm_role role;
};

static void
judge_dates(struct check *c, const struct ra_file *ra, X509 *certificate)
{
    struct upkeep_finding *f;
    int64_t from, to;

    if (pki_cert_validity(certificate, &from, &to, NULL) != 0 || to > cc_clock_now_ms())
        return;
    f = check_say(c, "ra-expired", UPKEEP_ERROR, "the RA certificate %s has expired", ra->path);
    upkeep_cause(f,
            "devices do not encrypt to it any more, or do not believe answers that it signs");
    upkeep_cure(f,
            "have the CA issue a new one for the same key, and put it into %s, or into a file that [scep] %s names",
            ra->path, ra->setting);
}

static void
judge_key(struct check *c, const struct ra_file *ra, X509 *certificate)
{
    const char *uri = config_key(c->config, hsm_role_name(ra->role));
    struct upkeep_finding *f;
    struct hsm_key *key = NULL;
    EVP_PKEY *public_key = NULL;

    /* Without a key of its own for signing, one key does both. */
    if (uri == NULL)
        uri = config_key(c->config, hsm_role_name(HSM_ROLE_SCEP_RA_ENCRYPT));
    if (c->hsm == NULL || uri == NULL || hsm_key_get0(c->hsm, ra->role, uri, &key, NULL) != 0 ||
            hsm_key_get1_public(key, &public_key, NULL) != 0)
        return;
    if (EVP_PKEY_eq(public_key, X509_get0_pubkey(certificate)) == 1) {
        check_say(c, "ra-certificate", UPKEEP_OK, "the RA certificate %s is of the %s key",
                ra->path, hsm_role_name(ra->role));
    } else {
        f = check_say(c, "ra-key", UPKEEP_ERROR, "the RA certificate %s is of another key than %s",
                ra->path, uri);
        upkeep_cause(f,
                "what devices encrypt to it the token's key cannot open, or what it signs does not verify");
        upkeep_cure(f,
                "put the certificate of this key into %s, or name the key that it belongs to in [keys] %s",
                ra->path, hsm_role_name(ra->role));
    }
    EVP_PKEY_free(public_key);
}

static void
check_ra(struct check *c, const struct ra_file *ra)
{
    struct upkeep_finding *f;
    struct cc_err err = { 0 };
    X509 *certificate;

    if (ra->path == NULL)
        return;
    if ((certificate = read_certificate(ra->path, &err)) == NULL) {
        f = check_say(c, "ra-certificate", UPKEEP_ERROR, "the RA certificate %s cannot be read",
                ra->path);
        upkeep_cause(f, "%s", cc_err_text(&err));
        upkeep_cure(f,
                "put the certificate there, in PEM, readable for the daemon's user, or correct [scep] %s",
                ra->setting);
        return;
    }
    judge_dates(c, ra, certificate);
    judge_key(c, ra, certificate);
    X509_free(certificate);
}

static void
check_profile(struct check *c, const struct config_scep *scep)
{
    check_ra(c, &(struct ra_file){ scep->ra_encrypt, "ra-encrypt", HSM_ROLE_SCEP_RA_ENCRYPT });
    check_ra(c, &(struct ra_file){ scep->ra_sign, "ra-sign", HSM_ROLE_SCEP_RA_SIGN });
}

/* ---- the server ---- */

static void
check_server(struct check *c)
{
    struct http_response response;
    struct cc_err err = { 0 };
    struct upkeep_finding *f;
    char path[512];

    http_response_init(&response);
    (void)snprintf(path, sizeof(path), "%.256s?operation=GetCACaps", c->config->scep.path);
    if (check_get(c->config->scep.listen, path, &response, &err) == 0) {
        check_say(c, "scep-server", UPKEEP_OK, "the SCEP server answers on %s",
                c->config->scep.listen);
    } else {
        f = check_say(c, "scep-server", UPKEEP_ERROR, "the SCEP server does not answer on %s",
                c->config->scep.listen);
        upkeep_cause(f, "%s", cc_err_text(&err));
        upkeep_cure(f,
                "certconnector status says why it is not ready; restart the daemon if [scep] listen was changed");
    }
    http_response_free(&response);
}

void
check_scep(struct check *c)
{
    if ((c->config->connector.features & CONFIG_SCEP) == 0)
        return;
    check_profile(c, &c->config->scep.own);
    for (size_t i = 0; i < c->config->scep_profile_count; i++)
        check_profile(c, &c->config->scep_profiles[i]);
    if (c->status != NULL)
        check_server(c);
    else
        check_can_listen(c, c->config->scep.listen, "[scep] listen");
}

/* ---- what ends soon ---- */

static void
say_end(struct check *c, const struct upkeep_item *item, int64_t now)
{
    const int64_t days = upkeep_days_left(item, now);
    struct upkeep_finding *f;

    if (item->not_after_ms <= now) {
        f = check_say(c, "expired", UPKEEP_ERROR, "%s has expired", item->name);
        upkeep_cause(f, "its last day was %lld days ago", (long long)-days - 1);
    } else {
        f = check_say(c, "expiring", days < 1 ? UPKEEP_ERROR : UPKEEP_WARNING,
                "%s expires in %lld days", item->name, (long long)days);
        upkeep_cause(f, "what depends on it stops then");
    }
    upkeep_cure(f, "%s", item->cure);
}

static bool
is_listed(const struct upkeep_items *items, const char *name)
{
    for (size_t i = 0; i < items->count; i++)
        if (strcmp(items->item[i].name, name) == 0)
            return true;
    return false;
}

/* What only a running daemon has: the RA's certificates that its CA gave it. */
static void
take_from_daemon(struct check *c, struct upkeep_items *items)
{
    json_object *list = NULL;

    if (c->status == NULL || cc_json_get_array(c->status, "certificates", &list, NULL) != 0 ||
            list == NULL)
        return;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        json_object *one = json_object_array_get_idx(list, i);
        struct upkeep_item item = {
            .cure = "it should have been renewed by itself: the daemon's log says why not"
        };
        struct upkeep_item *more;

        if (strcmp(check_text(one, "role"), "scep-ra") != 0 ||
                is_listed(items, check_text(one, "name")) ||
                cc_time_parse(check_text(one, "expirationDateTime"), &item.not_after_ms, NULL) != 0)
            continue;
        (void)cc_strcpy(item.name, sizeof(item.name), check_text(one, "name"));
        /* Nothing is wrong with one that has its threshold still before it. */
        if (!json_object_object_get_ex(one, "threshold", NULL))
            item.quiet_until_ms = INT64_MAX;
        if ((more = realloc(items->item, (items->count + 1) * sizeof(*more))) == NULL) {
            c->no_memory = true;
            return;
        }
        items->item = more;
        items->item[items->count++] = item;
    }
}

void
check_expiry(struct check *c)
{
    const int64_t now = cc_clock_now_ms();
    struct upkeep_items items = { .count = 0 };
    struct cc_err err = { 0 };
    size_t soon = 0;

    if (upkeep_items_collect(c->config, c->store, &items, &err) != 0)
        c->no_memory = true;
    take_from_daemon(c, &items);
    for (size_t i = 0; i < items.count; i++) {
        if (upkeep_threshold(&items.item[i], now) < 0)
            continue;
        say_end(c, &items.item[i], now);
        soon++;
    }
    if (soon == 0)
        check_say(c, "expiry", UPKEEP_OK,
                "none of %zu certificates, CRLs and secrets ends within 60 days", items.count);
    upkeep_items_free(&items);
}
