/* SPDX-License-Identifier: MIT */
#include "hsm/hsm_int.h"

/*
 * The lines for channels, one for each kind of work: the most urgent goes first, but one that was passed over as often
 * as its patience says goes next.  So whatever others ask for, each kind that waits keeps a share of the token.
 */

/* How often work is passed over by more urgent work.  Keys made ahead are many operations each, and nobody's loss. */
static const unsigned patience[HSM_WORK_LINES] = {
    [HSM_WORK_REVOCATION] = 8,
    [HSM_WORK_ORDINARY] = 8,
    [HSM_WORK_AHEAD] = 64,
};

static _Thread_local enum hsm_work working_for = HSM_WORK_BY_KEY;

enum hsm_work
hsm_work_for(enum hsm_work work)
{
    const enum hsm_work before = working_for;

    working_for = work;
    return before;
}

enum hsm_work
hsm_work_of(const struct hsm_key *key)
{
    if (working_for != HSM_WORK_BY_KEY)
        return working_for;
    if (key == NULL)
        return HSM_WORK_ORDINARY;
    switch (key->role) {
    case HSM_ROLE_SCEP_RA_SIGN:
    case HSM_ROLE_SCEP_RA_ENCRYPT:
        return HSM_WORK_ENROLMENT;
    case HSM_ROLE_OCSP:
        return HSM_WORK_REVOCATION;
    case HSM_ROLE_PFX_IMPORT:
    case HSM_ROLE_CA:
    case HSM_ROLE_IDENTITY:
    case HSM_ROLE_SEAL:
    case HSM_ROLE_AUDIT:
    case HSM_ROLE_COUNT:
        break;
    }
    return HSM_WORK_ORDINARY;
}

/* ---- who is next ---- */

/* Lengthy operations leave a session to the others, where there is more than one. */
static bool
waiter_can_go(const struct hsm *hsm, const struct hsm_waiter *waiter)
{
    const unsigned most = hsm->sessions > 1 ? hsm->sessions - 1 : 1;

    if (waiter->key != NULL && !waiter->key->added)
        return false;
    return !waiter->lengthy || hsm->lengthy < most;
}

static struct hsm_waiter *
line_first(const struct hsm *hsm, unsigned work)
{
    struct hsm_waiter *waiter;

    TAILQ_FOREACH(waiter, &hsm->lines[work], link)
    if (waiter_can_go(hsm, waiter))
        return waiter;
    return NULL;
}

static struct hsm_waiter *
lines_next(struct hsm *hsm)
{
    struct hsm_waiter *first[HSM_WORK_LINES], *next = NULL;
    unsigned work, most = 0;

    for (work = 0; work < HSM_WORK_LINES; work++) {
        if ((first[work] = line_first(hsm, work)) == NULL)
            continue;
        if (next == NULL)
            next = first[work];
        if (patience[work] > 0 && hsm->passed[work] >= patience[work] && hsm->passed[work] > most) {
            next = first[work];
            most = hsm->passed[work];
        }
    }
    if (next == NULL)
        return NULL;
    hsm->passed[next->work] = 0;
    for (work = next->work + 1; work < HSM_WORK_LINES; work++)
        hsm->passed[work] += first[work] != NULL;
    return next;
}

/* ---- taking and giving back ---- */

static struct hsm_channel *
channel_find_free(struct hsm *hsm)
{
    for (unsigned i = 1; i <= hsm->sessions; i++)
        if (!hsm->channels[i].busy)
            return &hsm->channels[i];
    return NULL;
}

void
hsm_lines_init(struct hsm *hsm)
{
    for (unsigned work = 0; work < HSM_WORK_LINES; work++)
        TAILQ_INIT(&hsm->lines[work]);
}

void
hsm_line_join_locked(struct hsm *hsm, struct hsm_waiter *waiter, bool first)
{
    if (first)
        TAILQ_INSERT_HEAD(&hsm->lines[waiter->work], waiter, link);
    else
        TAILQ_INSERT_TAIL(&hsm->lines[waiter->work], waiter, link);
    hsm->status.waiting++;
    hsm_grant_locked(hsm);
}

void
hsm_line_leave_locked(struct hsm *hsm, struct hsm_waiter *waiter)
{
    TAILQ_REMOVE(&hsm->lines[waiter->work], waiter, link);
    hsm->status.waiting--;
}

void
hsm_grant_locked(struct hsm *hsm)
{
    struct hsm_channel *channel;
    struct hsm_waiter *waiter;

    while (hsm->serving && (channel = channel_find_free(hsm)) != NULL &&
            (waiter = lines_next(hsm)) != NULL) {
        channel->busy = true;
        channel->lengthy = waiter->lengthy;
        hsm->lengthy += waiter->lengthy;
        hsm->status.busy++;
        hsm_line_leave_locked(hsm, waiter);
        waiter->granted = channel;
        (void)pthread_cond_signal(&waiter->turn);
    }
}

void
hsm_release_locked(struct hsm *hsm, struct hsm_channel *channel)
{
    hsm->lengthy -= channel->lengthy;
    hsm->status.busy--;
    channel->lengthy = false;
    channel->busy = false;
}

void
hsm_line_wake_locked(struct hsm *hsm)
{
    struct hsm_waiter *waiter;

    for (unsigned work = 0; work < HSM_WORK_LINES; work++)
        TAILQ_FOREACH(waiter, &hsm->lines[work], link)
    (void)pthread_cond_signal(&waiter->turn);
}
