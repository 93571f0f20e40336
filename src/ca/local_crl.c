/* SPDX-License-Identifier: MIT */
#include "local_int.h"

#include <errno.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"

/*
 * CRLs, full and delta (RFC 5280 sections 5 and 5.2.4): signed after their interval, and soon after something was
 * revoked.  What is known of the last ones is in the store, as other processes sign, too.
 */

#define KEEP_MS 1000   /* between two looks at what other processes revoked */
#define FOLLOW_MS 3000 /* between two looks at whether the instance that keeps the CRLs is gone */

/* The newest of each kind, and how far the database has come. */
struct state {
    struct cadb_crl full, delta;
    bool has_full, has_delta;
    int64_t change;
};

static int
read_state(struct ca_local *local, struct state *ret, struct cc_err *err)
{
    const char *name = local->base.name;
    int64_t generation;

    *ret = (struct state){ .has_full = false };
    if (cadb_authority_numbers(local->store, name, &ret->change, &generation, err) != 0 ||
            cadb_crl_get(local->store, name, CADB_CRL_FULL, &ret->has_full, &ret->full, -1, err) !=
                    0)
        return -1;
    return cadb_crl_get(local->store, name, CADB_CRL_DELTA, &ret->has_delta, &ret->delta, -1, err);
}

/* ---- making one ---- */

struct filling {
    struct pki_crl_writer *writer;
    int rc;
    struct cc_err *err;
};

static int
on_entry(void *arg, const struct cadb_crl_entry *entry)
{
    struct filling *filling = arg;

    filling->rc = pki_crl_add(filling->writer, entry->serial, entry->revoked_ms,
            (enum pki_reason)entry->reason, entry->invalidity_ms, filling->err);
    return filling->rc;
}

/* An entry stays until one CRL was issued after its certificate expired (RFC 5280 section 3.3). */
static int
fill(struct ca_local *local, struct pki_crl_writer *writer, const struct state *state, bool delta,
        int64_t *ret_change, struct cc_err *err)
{
    struct filling filling = { .writer = writer, .err = err };
    int64_t since = delta ? state->full.change : 0; /* 0: a base that has nothing in it */
    int64_t expired_before = state->has_full && !delta ? state->full.this_update_ms : 0;

    if (cadb_walk_revoked(local->store, local->base.name, since, expired_before, on_entry, &filling,
                ret_change, err) != 0)
        return -1;
    return filling.rc;
}

static int
write_crl(struct ca_local *local, const struct pki_issuer *issuer, const struct state *state,
        struct cadb_crl *crl, int *ret_fd, struct cc_err *err)
{
    const bool delta = crl->kind == CADB_CRL_DELTA;
    const struct pki_crl_settings settings = {
        .issuer = issuer,
        .this_update_ms = crl->this_update_ms,
        .next_update_ms = crl->next_update_ms,
        .number = crl->number,
        .base_number = delta ? crl->base_number : -1,
        .freshest_urls = delta || local->delta_interval_ms == 0 ? NULL : &local->delta_crl_urls,
        .folder = local->folder,
    };
    struct pki_crl_writer *writer = NULL;
    int rc = -1;

    if (pki_crl_begin(&settings, &writer, err) == 0 &&
            fill(local, writer, state, delta, &crl->change, err) == 0)
        rc = pki_crl_finish(writer, ret_fd, &crl->len, err);
    pki_crl_writer_free(writer);
    return rc;
}

/* With crl_lock held. */
static int
make_crl(struct ca_local *local, enum cadb_crl_kind kind, const struct state *state,
        struct cadb_crl *ret, struct cc_err *err)
{
    int64_t now_ms = store_now_ms(local->store) / 1000 * 1000;
    struct cadb_crl crl = { .kind = kind, .this_update_ms = now_ms };
    struct pki_issuer issuer = { .certificate = NULL };
    bool stored = false;
    int fd = -1, rc = -1;

    crl.next_update_ms = now_ms + local->crl_validity_ms;
    if (kind == CADB_CRL_DELTA) {
        if (!state->has_full)
            return cc_err_set(err, CC_DOM_INPUT, 0, "a delta CRL needs a full one first");
        crl.base_number = state->full.number;
        /* A delta is missed soon when it does not come; it never outlives its base. */
        crl.next_update_ms = now_ms + 2 * local->delta_interval_ms;
        if (crl.next_update_ms > state->full.next_update_ms)
            crl.next_update_ms = state->full.next_update_ms;
    }
    if (ca_local_issuer(local, &issuer, err) != 0 ||
            cadb_crl_next_number(local->store, local->base.name, &crl.number, err) != 0 ||
            write_crl(local, &issuer, state, &crl, &fd, err) != 0)
        goto out;
    rc = cadb_crl_put(local->store, local->base.name, &crl, fd, &stored, err);
    if (rc == 0 && ret != NULL)
        *ret = crl;
out:
    hsm_err_resolve(err);
    X509_free(issuer.certificate);
    if (fd >= 0)
        (void)close(fd);
    return rc;
}

int
ca_local_make_crl(struct ca *ca, enum cadb_crl_kind kind, struct cadb_crl *ret, struct cc_err *err)
{
    struct ca_local *local = ca_local_of(ca);
    struct state state;
    int rc = -1;

    pthread_mutex_lock(&local->crl_lock);
    if (read_state(local, &state, err) == 0)
        rc = make_crl(local, kind, &state, ret, err);
    pthread_mutex_unlock(&local->crl_lock);
    return rc;
}

/* ---- when ---- */

static bool
is_full_due(const struct ca_local *local, const struct state *state, int64_t now_ms)
{
    if (!state->has_full || now_ms >= state->full.this_update_ms + local->crl_interval_ms ||
            now_ms < state->full.this_update_ms)
        return true;
    return local->delta_interval_ms == 0 && state->change != state->full.change;
}

static bool
is_delta_due(const struct ca_local *local, const struct state *state, int64_t now_ms)
{
    if (local->delta_interval_ms == 0)
        return false;
    if (!state->has_delta || state->delta.base_number != state->full.number)
        return true;
    return now_ms >= state->delta.this_update_ms + local->delta_interval_ms ||
           state->change != state->delta.change;
}

/*
 * Of the instances that share the store one keeps the CRLs of a CA, as long as it can: one whose token is away leaves
 * it to another.
 */
static int
take_lead(struct ca_local *local, bool *ret_leads, struct cc_err *err)
{
    struct cc_buf name = CC_BUF_INIT(512);
    int rc = cc_buf_printf(&name, err, "crl/%s", local->base.name);

    if (rc == 0)
        rc = store_lease_take(local->store, cc_buf_str(&name), ret_leads, err);
    cc_buf_free(&name);
    return rc;
}

static void
give_lead(struct ca_local *local)
{
    struct cc_buf name = CC_BUF_INIT(512);
    struct cc_err err = { 0 };

    if (cc_buf_printf(&name, &err, "crl/%s", local->base.name) != 0 ||
            store_lease_release(local->store, cc_buf_str(&name), &err) != 0)
        cc_log(CC_LOG_DEBUG, "ca", "leaving the CRLs to others: %s", cc_err_text(&err));
    cc_buf_free(&name);
}

int
ca_local_keep_crls(struct ca *ca, int64_t *ret_next_ms, bool *ret_made, struct cc_err *err)
{
    struct ca_local *local = ca_local_of(ca);
    int64_t now_ms = store_now_ms(local->store);
    struct state state;
    bool made = false, leads = false;
    int rc;

    *ret_next_ms = KEEP_MS;
    rc = take_lead(local, &leads, err);
    if (rc != 0 || !leads) {
        if (ret_made != NULL)
            *ret_made = false;
        *ret_next_ms = FOLLOW_MS;
        return rc;
    }
    pthread_mutex_lock(&local->crl_lock);
    rc = read_state(local, &state, err);
    if (rc == 0 && is_full_due(local, &state, now_ms)) {
        rc = make_crl(local, CADB_CRL_FULL, &state, &state.full, err);
        made = rc == 0;
        state.has_full = state.has_full || made;
    }
    if (rc == 0 && is_delta_due(local, &state, now_ms)) {
        rc = make_crl(local, CADB_CRL_DELTA, &state, NULL, err);
        made = rc == 0;
    }
    pthread_mutex_unlock(&local->crl_lock);
    if (rc != 0)
        give_lead(local);
    if (ret_made != NULL)
        *ret_made = made;
    return rc;
}

int
ca_local_get_crl(struct ca *ca, enum cadb_crl_kind kind, bool *ret_found, struct cadb_crl *ret,
        int fd, struct cc_err *err)
{
    return cadb_crl_get(ca_local_of(ca)->store, ca->name, kind, ret_found, ret, fd, err);
}

/* Out of the store into a file of no name, as a CRL may be large. */
static enum ca_outcome
read_crl(int fd, size_t max, size_t len, X509_CRL **ret_crl, struct cc_err *err)
{
    unsigned char *der = len <= max ? malloc(len) : NULL;
    const unsigned char *at = der;
    X509_CRL *crl = NULL;

    if (len > max)
        cc_err_set(err, CC_DOM_INPUT, 0, "the CRL has %zu bytes, which is more than %zu", len, max);
    else if (der == NULL)
        cc_err_nomem(err);
    else if (pread(fd, der, len, 0) != (ssize_t)len)
        cc_err_set_errno(err, errno, "reading the CRL");
    else if ((crl = d2i_X509_CRL(NULL, &at, (long)len)) == NULL)
        cc_err_set_openssl(err, "the CRL");
    free(der);
    if (crl == NULL)
        return len > max ? CA_REFUSED : CA_RETRYABLE;
    *ret_crl = crl;
    return CA_DONE;
}

enum ca_outcome
ca_local_show_crl(struct ca *ca, size_t max, int64_t deadline, X509_CRL **ret_crl,
        struct cc_err *err)
{
    const int fd = memfd_create("crl", MFD_CLOEXEC);
    enum ca_outcome outcome = CA_RETRYABLE;
    struct cadb_crl crl;
    bool found = false;

    (void)deadline;
    if (fd < 0)
        cc_err_set_errno(err, errno, "a temporary file");
    else if (ca_local_get_crl(ca, CADB_CRL_FULL, &found, &crl, fd, err) == 0)
        outcome = found ? read_crl(fd, max, (size_t)crl.len, ret_crl, err) : CA_NOT_FOUND;
    if (fd >= 0)
        (void)close(fd);
    return outcome;
}
