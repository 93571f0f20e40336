/* SPDX-License-Identifier: MIT */
#include "check_int.h"

#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "authority.h"
#include "base/clock.h"
#include "ca/local.h"
#include "pki/cert.h"
#include "store/cadb.h"

#define ISSUE_MS 10000

/* ---- certificate and chain ---- */

struct authority {
    struct check *c;
    const struct config_ca *config;
    bool found;
    X509 *certificate; /* NULL: it has none yet */
    STACK_OF(X509) *chain;
};

static X509 *
read_one(const unsigned char **at, const unsigned char *end)
{
    X509 *one = *at != NULL && *at < end ? d2i_X509(NULL, at, end - *at) : NULL;

    ERR_clear_error();
    return one;
}

static int
on_authority(void *arg, const struct cadb_authority *authority)
{
    struct authority *a = arg;
    const unsigned char *at = authority->certificate.data;
    X509 *above;

    a->found = true;
    a->certificate = read_one(&at, at + authority->certificate.len);
    a->chain = sk_X509_new_null();
    at = authority->chain.data;
    while (a->chain != NULL &&
            (above = read_one(&at, authority->chain.data + authority->chain.len)) != NULL)
        if (sk_X509_push(a->chain, above) <= 0)
            X509_free(above);
    return 0;
}

static void
say_not_made(struct authority *a)
{
    struct upkeep_finding *f = check_say(a->c, "ca", UPKEEP_ERROR,
            a->found ? "the CA \"%s\" has no certificate yet" : "the CA \"%s\" has not been made",
            a->config->name);

    upkeep_cause(f,
            a->found
                    ? "it waits for the certificate of the CA above"
                    : "[ca \"%s\"] says how it is to be, and the state store has none of this name",
            a->config->name);
    upkeep_cure(f,
            a->found
                    ? "have the request certified, and give the certificate to certconnector ca init --ca %s "
                      "--certificate FILE"
                    : "make it: certconnector ca init --ca %s --subject NAME",
            a->config->name);
}

/* The way up to the root, each signature and each date. */
static bool
is_chain_good(const struct authority *a, const char **ret_why)
{
    X509_STORE *roots = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    const int above = sk_X509_num(a->chain);
    X509 *root = above > 0 ? sk_X509_value(a->chain, above - 1) : a->certificate;
    bool good = false;

    *ret_why = "there is no memory";
    if (roots != NULL && ctx != NULL && X509_STORE_add_cert(roots, root) == 1 &&
            X509_STORE_CTX_init(ctx, roots, a->certificate, a->chain) == 1) {
        X509_STORE_CTX_set_time(ctx, 0, (time_t)(cc_clock_now_ms() / 1000));
        good = X509_verify_cert(ctx) == 1;
        *ret_why = X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx));
    }
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(roots);
    ERR_clear_error();
    return good;
}

/* True when it may issue. */
static bool
judge_certificate(struct authority *a)
{
    struct check *c = a->c;
    struct upkeep_finding *f;
    const char *why;
    int64_t from, to;

    if (pki_cert_validity(a->certificate, &from, &to, NULL) == 0 && to <= cc_clock_now_ms()) {
        f = check_say(c, "ca-expired", UPKEEP_ERROR, "the certificate of the CA \"%s\" has expired",
                a->config->name);
        upkeep_cause(f, "nothing that it signs is valid any more");
        upkeep_cure(f,
                "an intermediate: have the CA above renew it for the same key, and give the certificate to certconnector "
                "ca init --ca %s --certificate FILE; a root: set the clock right if it is wrong, else make a new CA "
                "under another name and roll its certificate out",
                a->config->name);
        return false;
    }
    if (!is_chain_good(a, &why)) {
        f = check_say(c, "ca-chain", UPKEEP_ERROR, "the chain of the CA \"%s\" does not verify",
                a->config->name);
        upkeep_cause(f, "%s", why);
        upkeep_cure(f,
                "give certificate and chain anew to certconnector ca init --ca %s --certificate FILE --chain FILE",
                a->config->name);
        return false;
    }
    check_say(c, "ca", UPKEEP_OK, "the certificate of the CA \"%s\" and those above it verify",
            a->config->name);
    return true;
}

/* ---- CRL ---- */

static void
check_crl(struct authority *a)
{
    const int64_t now = cc_clock_now_ms();
    struct check *c = a->c;
    const char *name = a->config->name;
    struct upkeep_finding *f;
    struct cadb_crl crl;
    bool found = false;

    if (cadb_crl_get(c->store, name, CADB_CRL_FULL, &found, &crl, -1, NULL) != 0)
        return;
    if (!found) {
        f = check_say(c, "crl", UPKEEP_WARNING, "the CA \"%s\" has no CRL yet", name);
        upkeep_cause(f, "the daemon signs the first when it starts");
        upkeep_cure(f, "start the daemon, or sign one by hand");
    } else if (crl.next_update_ms <= now) {
        f = check_say(c, "crl", UPKEEP_ERROR, "the CRL of the CA \"%s\" is out of date", name);
        upkeep_cause(f,
                "no newer one was signed in time: the daemon did not run, or could not use the CA's key");
        upkeep_cure(f,
                "see to the token if that is at fault, and start the daemon, or sign one by hand");
    } else if (crl.this_update_ms + a->config->crl_interval_ms + 3600000 < now) {
        f = check_say(c, "crl", UPKEEP_WARNING, "the CRL of the CA \"%s\" was due to be renewed",
                name);
        upkeep_cause(f, "the daemon does not run, or cannot use the CA's key: its log says why");
        upkeep_cure(f, "start the daemon, or sign one by hand");
    } else {
        check_say(c, "crl", UPKEEP_OK, "the CRL of the CA \"%s\" is fresh", name);
        return;
    }
    UPKEEP_COMMAND(f, "certconnector", "ca", "crl", "--ca", name, "--pem", "--config", c->path);
}

/* ---- whether it could issue ---- */

static int
dry_run(struct authority *a, struct cc_err *err)
{
    struct ca_local_settings settings = cli_authority_settings(a->c->config, a->config);
    struct ca *ca = NULL;
    int rc = -1;

    settings.store = a->c->store;
    settings.hsm = a->c->hsm;
    if (hsm_key_get0(a->c->hsm, HSM_ROLE_CA, a->config->key, &settings.key, err) == 0 &&
            ca_local_open(&settings, &ca, err) == 0 &&
            ca_check(ca, cc_deadline_in(ISSUE_MS), err) == CA_DONE)
        rc = 0;
    ca_close(ca);
    return rc;
}

/* The key of the CA's certificate is the one on the token. */
static bool
is_key_right(struct authority *a, struct cc_err *err)
{
    struct hsm_key *key = NULL;
    EVP_PKEY *public_key = NULL;
    bool right;

    if (hsm_key_get0(a->c->hsm, HSM_ROLE_CA, a->config->key, &key, err) != 0 ||
            hsm_key_get1_public(key, &public_key, err) != 0)
        return true; /* of a key that is not there something else was said */
    right = EVP_PKEY_eq(public_key, X509_get0_pubkey(a->certificate)) == 1;
    EVP_PKEY_free(public_key);
    return right;
}

static void
check_issuing(struct authority *a)
{
    struct check *c = a->c;
    struct upkeep_finding *f;
    struct cc_err err = { 0 };

    if (c->hsm == NULL) {
        if (c->status == NULL)
            check_not_tried(c, "ca-issue", "issuing", "the token is not open");
        return;
    }
    if (!is_key_right(a, &err)) {
        f = check_say(c, "ca-key", UPKEEP_ERROR,
                "the certificate of the CA \"%s\" is of another key than %s", a->config->name,
                a->config->key);
        upkeep_cause(f, "what this key signs does not verify with the CA's certificate");
        upkeep_cure(f, "name the key that the CA was made with, in [ca \"%s\"] key or [keys] ca",
                a->config->name);
        return;
    }
    if (dry_run(a, &err) == 0) {
        check_say(c, "ca-issue", UPKEEP_OK, "the CA \"%s\" could issue now", a->config->name);
        return;
    }
    f = check_say(c, "ca-issue", UPKEEP_ERROR, "the CA \"%s\" cannot issue", a->config->name);
    upkeep_cause(f, "%s", cc_err_text(&err));
    upkeep_cure(f, "see to the CA's key first: --only token says what is wrong with it");
}

static void
check_one(struct check *c, const struct config_ca *config)
{
    struct authority a = { .c = c, .config = config };
    struct cc_err err = { 0 };

    if (cadb_authority_find(c->store, config->name, on_authority, &a, &err) != 0) {
        upkeep_cause(
                check_say(c, "ca", UPKEEP_ERROR, "the CA \"%s\" cannot be looked at", config->name),
                "%s", cc_err_text(&err));
    } else if (a.certificate == NULL) {
        say_not_made(&a);
    } else {
        if (judge_certificate(&a))
            check_issuing(&a);
        check_crl(&a);
    }
    X509_free(a.certificate);
    sk_X509_pop_free(a.chain, X509_free);
}

void
check_authorities(struct check *c)
{
    if (c->config->ca_count == 0)
        return;
    if (c->store == NULL) {
        check_not_tried(c, "ca", "the certification authorities",
                "the state store is not open, or not made yet");
        return;
    }
    for (size_t i = 0; i < c->config->ca_count; i++)
        if (c->config->cas[i].kind == CONFIG_CA_LOCAL)
            check_one(c, &c->config->cas[i]);
}

/* ---- publishing ---- */

static void
check_published(struct check *c, const struct config_ca *ca)
{
    struct http_response response;
    struct cc_err err = { 0 };
    struct upkeep_finding *f;
    char path[128];

    http_response_init(&response);
    (void)snprintf(path, sizeof(path), "/%.64s.crl", ca->name);
    if (check_get(c->config->publish.listen, path, &response, &err) == 0) {
        check_say(c, "publish", UPKEEP_OK, "the CRL of the CA \"%s\" is published", ca->name);
    } else {
        f = check_say(c, "publish", UPKEEP_ERROR, "the CRL of the CA \"%s\" is not published",
                ca->name);
        upkeep_cause(f, "%s", cc_err_text(&err));
        upkeep_cure(f,
                "the daemon's log says what is wrong with its listener; a CRL is there a moment after its start");
    }
    http_response_free(&response);
}

void
check_publishing(struct check *c)
{
    const char *listen = c->config->publish.listen;

    if (listen == NULL)
        return;
    if (c->status == NULL) {
        check_can_listen(c, listen, "[publish] listen");
        return;
    }
    for (size_t i = 0; i < c->config->ca_count; i++)
        if (c->config->cas[i].kind == CONFIG_CA_LOCAL)
            check_published(c, &c->config->cas[i]);
}
