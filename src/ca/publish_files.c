/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "pki/cert.h"
#include "publish_int.h"

#define CERTIFICATE_AGE_MS PKI_DAY_MS /* how long the CA's certificate may be kept */

void
publish_files_init(struct publish_ca *ca)
{
    for (size_t i = 0; i < CC_COUNT(ca->crl); i++) {
        pthread_mutex_init(&ca->crl[i].lock, NULL);
        ca->crl[i].fd = -1;
    }
}

void
publish_files_free(struct publish_ca *ca)
{
    for (size_t i = 0; i < CC_COUNT(ca->crl); i++) {
        pthread_mutex_destroy(&ca->crl[i].lock);
        if (ca->crl[i].fd >= 0)
            (void)close(ca->crl[i].fd);
    }
}

/* ---- CRLs ---- */

static bool
is_same(const struct publish_crl *served, const struct cadb_crl *crl)
{
    return served->fd >= 0 && served->crl.number == crl->number &&
           served->crl.this_update_ms == crl->this_update_ms;
}

/* LOCKED.  Brings what is served up to the store. */
static int
refresh(const struct ca_publish *publish, struct ca *ca, enum cadb_crl_kind kind,
        struct publish_crl *served, struct cc_err *err)
{
    struct cadb_crl crl;
    bool found = false;
    int fd;

    if (ca_local_get_crl(ca, kind, &found, &crl, -1, err) != 0)
        return -1;
    if (!found || is_same(served, &crl))
        return 0;
    if ((fd = cc_file_unnamed(publish->folder, err)) < 0)
        return -1;
    if (ca_local_get_crl(ca, kind, &found, &crl, fd, err) != 0 || !found) {
        (void)close(fd);
        return found ? -1 : 0;
    }
    /* Answers under way have a descriptor of their own. */
    if (served->fd >= 0)
        (void)close(served->fd);
    served->fd = fd;
    served->crl = crl;
    return 0;
}

/* A descriptor of the newest CRL, with *ret; -1 with *ret_status. */
static int
get_crl(const struct ca_publish *publish, struct publish_ca *ca, enum cadb_crl_kind kind,
        struct cadb_crl *ret, unsigned *ret_status)
{
    struct publish_crl *served = &ca->crl[kind == CADB_CRL_DELTA];
    int64_t now = cc_clock_mono_ms();
    struct cc_err err = { 0 };
    int fd = -1;

    pthread_mutex_lock(&served->lock);
    *ret_status = 404;
    if (!served->looked || now - served->looked_at >= PUBLISH_LOOK_MS) {
        served->looked = refresh(publish, ca->ca, kind, served, &err) == 0;
        served->looked_at = now;
    }
    /* While the store is away the one at hand is as good as it was. */
    if (!served->looked) {
        cc_log(CC_LOG_DEBUG, "ca", "CA %s: CRL: %s", ca_name(ca->ca), cc_err_text(&err));
        *ret_status = 503;
    }
    if (served->fd >= 0) {
        *ret = served->crl;
        if ((fd = fcntl(served->fd, F_DUPFD_CLOEXEC, 0)) < 0)
            *ret_status = 503;
    }
    pthread_mutex_unlock(&served->lock);
    return fd;
}

static void
send_crl(struct ca_publish *publish, struct http_exchange *exchange, struct publish_ca *ca,
        enum cadb_crl_kind kind)
{
    struct publish_fresh fresh;
    struct cadb_crl crl;
    unsigned status;
    char tag[64];
    int fd = get_crl(publish, ca, kind, &crl, &status);

    if (fd < 0) {
        publish_refuse(exchange, status, NULL);
        return;
    }
    atomic_fetch_add(&publish->files, 1);
    (void)snprintf(tag, sizeof(tag), "%lld-%lld", (long long)crl.number,
            (long long)crl.this_update_ms);
    publish_fresh_set(&fresh, tag, crl.this_update_ms, crl.next_update_ms);
    if (publish_has_it(exchange, &fresh)) {
        (void)close(fd);
        publish_not_modified(exchange, &fresh);
        return;
    }
    http_exchange_reply_file(exchange, 200, fresh.headers, CC_COUNT(fresh.headers),
            "application/pkix-crl", fd, (uint64_t)crl.len);
}

/* ---- certificates ---- */

static void
reply_certificate(struct http_exchange *exchange, X509 *certificate,
        const struct publish_fresh *fresh)
{
    unsigned char *der = NULL;
    int len = i2d_X509(certificate, &der);

    if (len > 0)
        http_exchange_reply(exchange, 200, fresh->headers, CC_COUNT(fresh->headers),
                "application/pkix-cert", der, (size_t)len);
    else
        publish_refuse(exchange, 503, NULL);
    OPENSSL_free(der);
}

static void
send_certificate(struct ca_publish *publish, struct http_exchange *exchange, struct publish_ca *ca)
{
    char thumbprint[PKI_THUMBPRINT_LEN];
    struct publish_fresh fresh;
    int64_t not_before, not_after;
    X509 *certificate = NULL;
    struct cc_err err = { 0 };

    if (ca_local_get1_certificate(ca->ca, &certificate, &err) != 0 ||
            pki_cert_thumbprint(certificate, thumbprint, &err) != 0 ||
            pki_cert_validity(certificate, &not_before, &not_after, &err) != 0) {
        /* One that has none yet is no trouble of ours. */
        publish_refuse(exchange, err.domain == CC_DOM_CONFIG ? 404 : 503, NULL);
        X509_free(certificate);
        return;
    }
    atomic_fetch_add(&publish->files, 1);
    publish_fresh_set(&fresh, thumbprint, not_before, cc_clock_now_ms() + CERTIFICATE_AGE_MS);
    if (publish_has_it(exchange, &fresh))
        publish_not_modified(exchange, &fresh);
    else
        reply_certificate(exchange, certificate, &fresh);
    X509_free(certificate);
}

void
publish_file(struct ca_publish *publish, struct http_exchange *exchange, const char *name)
{
    for (size_t i = 0; i < publish->count; i++) {
        struct publish_ca *ca = &publish->cas[i];
        const char *rest;

        if (!cc_starts_with(name, ca_name(ca->ca)))
            continue;
        rest = name + strlen(ca_name(ca->ca));
        if (strcmp(rest, ".cer") == 0) {
            send_certificate(publish, exchange, ca);
            return;
        }
        if (strcmp(rest, ".crl") == 0 || strcmp(rest, "-delta.crl") == 0) {
            send_crl(publish, exchange, ca, rest[0] == '-' ? CADB_CRL_DELTA : CADB_CRL_FULL);
            return;
        }
    }
    publish_refuse(exchange, 404, NULL);
}
