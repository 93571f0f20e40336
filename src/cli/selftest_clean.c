/* SPDX-License-Identifier: MIT */

/* What the run made is undone, whatever became of it. */

#include "selftest_int.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "intune/graph.h"
#include "store/cadb.h"

#define HTTP_NOT_FOUND 404
#define FOUND_MAX 16
#define SETTLE_MS 10000 /* for what a CA is signing just now */
#define SETTLE_LOOK_MS 100

/* ---- at the service ---- */

/* What is not there, or not open any more, needs no cancelling. */
static int
remove_at_service(struct selftest *st, const char *collection, const char *id, struct cc_err *err)
{
    struct cc_err why = { 0 };
    char path[128];

    (void)snprintf(path, sizeof(path), "%s/%s", collection, id);
    if (selftest_admin_send(st->admin, "DELETE", path, NULL, NULL, &why) == 0 ||
            (why.domain == CC_DOM_HTTP && why.code == HTTP_NOT_FOUND))
        return 0;
    selftest_left_behind(st, "%s at the service", path);
    return cc_err_set(err, why.domain, why.code, "%s", cc_err_text(&why));
}

/* Nothing cancels the wish that something be revoked; the connector will find it fulfilled. */
static void
name_wishes(struct selftest *st)
{
    for (size_t i = 0; i < st->issued_count; i++)
        if (st->issued[i].order[0] != '\0' && !st->issued[i].answered)
            selftest_left_behind(st,
                    "revocationRequests/%s at the service, until the connector answers it",
                    st->issued[i].order);
}

static int
cancel(struct selftest *st, struct cc_err *err)
{
    int rc = 0;

    for (size_t i = 0; i < st->request_count; i++)
        if (remove_at_service(st, "requests", st->requests[i], err) != 0)
            rc = -1;
    if (st->challenge_id[0] != '\0' &&
            remove_at_service(st, "scepChallenges", st->challenge_id, err) != 0)
        rc = -1;
    return rc;
}

/* ---- the PFX ---- */

struct entry {
    char id[257]; /* "": none */
};

static int
take_id(void *arg, const struct intune_user_pfx *pfx)
{
    struct entry *entry = arg;

    (void)cc_strcpy(entry->id, sizeof(entry->id), pfx->id);
    return 1;
}

static int
remove_pfx(struct selftest *st, struct cc_err *err)
{
    struct entry entry = { .id = "" };

    if (intune_user_pfx_list(st->intune, st->user, st->pfx.thumbprint, take_id, &entry, err) == 0 &&
            (entry.id[0] == '\0' || intune_user_pfx_delete(st->intune, entry.id, err) == 0))
        return 0;
    selftest_left_behind(st, "a PFX: certconnector pfx remove --user %s --thumbprint %s", st->user,
            st->pfx.thumbprint);
    return -1;
}

/* ---- certificates ---- */

struct found {
    struct selftest_issued issued[FOUND_MAX];
    size_t count;
    bool signing; /* one may be issued yet */
};

static int
take_certificate(void *arg, const struct cadb_certificate *certificate)
{
    struct found *found = arg;
    struct selftest_issued *one = &found->issued[found->count];

    if (certificate->state == CADB_RESERVED)
        found->signing = true;
    if (certificate->state == CADB_RESERVED || found->count == FOUND_MAX ||
            certificate->serial.len > sizeof(one->serial))
        return 0;
    *one = (struct selftest_issued){ .serial_len = certificate->serial.len };
    memcpy(one->serial, certificate->serial.data, certificate->serial.len);
    found->count++;
    return 0;
}

/* Of a CA, by the run's GUID in their subject: also those that never arrived here. */
static int
find(struct selftest *st, struct cli_authority *a, struct found *ret, struct cc_err *err)
{
    const int64_t deadline = cc_deadline_in(SETTLE_MS);
    const struct cadb_query query = {
        .states = 1U << CADB_RESERVED | 1U << CADB_ISSUED | 1U << CADB_HELD,
        .subject = st->run,
        .limit = FOUND_MAX,
    };

    for (;;) {
        *ret = (struct found){ .count = 0 };
        if (cadb_list(a->store, a->entry->name, &query, take_certificate, ret, err) != 0)
            return -1;
        if (!ret->signing || cc_deadline_left(deadline) == 0)
            return 0;
        (void)selftest_stopped(st, 0);
        (void)poll(NULL, 0, SETTLE_LOOK_MS);
    }
}

static int
revoke_one(struct selftest *st, struct cli_authority *a, const struct selftest_issued *issued,
        struct cc_err *err)
{
    const struct ca_revocation revocation = {
        .serial = { issued->serial, issued->serial_len },
        .reason = PKI_REASON_CESSATION_OF_OPERATION,
        .deadline = cc_deadline_in(SELFTEST_CALL_MS),
    };
    char serial[2 * CADB_SERIAL_MAX + 1];

    if (selftest_ca_did(ca_revoke(a->ca, &revocation, NULL, err), err) == 0)
        return 0;
    cc_hex(issued->serial, issued->serial_len, true, serial);
    selftest_left_behind(st, "a certificate: certconnector ca revoke --ca %s --serial %s",
            a->entry->name, serial);
    return -1;
}

static int
revoke_at(struct selftest *st, const char *ca, size_t *count, struct cc_err *err)
{
    struct cli_authority *a;
    struct found found;
    int rc = 0;

    if (selftest_authority(st, ca, &a, err) != 0 || find(st, a, &found, err) != 0) {
        selftest_left_behind(st, "certificates, maybe: certconnector ca list --ca %s --subject %s",
                ca, st->run);
        return -1;
    }
    for (size_t i = 0; i < found.count; i++) {
        if (revoke_one(st, a, &found.issued[i], err) == 0)
            (*count)++;
        else
            rc = -1;
    }
    if (!found.signing)
        return rc;
    selftest_left_behind(st,
            "a certificate being issued: certconnector ca list --ca %s --subject %s", ca, st->run);
    return cc_err_set(err, CC_DOM_INPUT, 0, "the CA \"%s\" may be issuing yet", ca);
}

static int
revoke(struct selftest *st, struct cc_err *err)
{
    size_t count = 0;
    int rc = 0;

    for (size_t i = 0; i < st->look_at_count; i++)
        if (revoke_at(st, st->look_at[i], &count, err) != 0)
            rc = -1;
    if (count > 0)
        (void)snprintf(st->detail, sizeof(st->detail), "%zu had to be revoked", count);
    return rc;
}

/* The CRL that shows it is the daemon's to sign, within a second of the revocation. */
void
selftest_clean(struct selftest *st)
{
    static const struct selftest_step cancelling = { "requests are cancelled where open", cancel };
    static const struct selftest_step removing = { "the uploaded PFX is removed", remove_pfx };
    static const struct selftest_step revoking = { "no certificate of the run is in force",
        revoke };

    if (st->request_count > 0 || st->challenge_id[0] != '\0')
        selftest_run_clean_step(st, &cancelling);
    name_wishes(st);
    if (st->uploaded)
        selftest_run_clean_step(st, &removing);
    if (st->look_at_count > 0)
        selftest_run_clean_step(st, &revoking);
}
