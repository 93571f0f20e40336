/* SPDX-License-Identifier: MIT */
#include "authorities.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cond.h"
#include "base/log.h"
#include "ca/local.h"
#include "pki/profile.h"

#define CRL_RETRY_MS 5000

struct authorities {
    struct eventlog *log; /* borrowed */
    struct store *store;  /* the same */
    struct ca **cas;
    bool *crl_failed; /* of each CA, and event 71 said so; the thread's own */
    size_t ca_count;
    struct pki_profile **profiles;
    size_t profile_count;
    struct ca_publish *publish;

    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stopping; /* guarded by lock */
};

/* ---- from the configuration ---- */

static struct pki_texts
texts_of(const struct config_list *list)
{
    return (struct pki_texts){ list->item, list->count };
}

/* A certificate says from when until when it is good: not by a clock that is wrong. */
static int
may_issue(void *arg, struct cc_err *err)
{
    return intune_check_clock(arg, err);
}

static int
open_local(const struct authorities_settings *settings, const struct config_ca *ca,
        struct ca **ret_ca, struct cc_err *err)
{
    struct ca_local_settings local = {
        .name = ca->name,
        .store = settings->store,
        .hsm = settings->hsm,
        .digest = ca->digest,
        .crl_validity_ms = ca->crl_validity_ms,
        .crl_interval_ms = ca->crl_interval_ms,
        .delta_interval_ms = ca->delta_interval_ms,
        .crl_urls = texts_of(&ca->crl_urls),
        .delta_crl_urls = texts_of(&ca->delta_crl_urls),
        .issuer_urls = texts_of(&ca->issuer_urls),
        .ocsp_urls = texts_of(&ca->ocsp_urls),
        .ocsp_validity_ms = ca->ocsp_validity_ms,
        .folder = settings->config->connector.state_directory,
        .approval = ca->approval == CONFIG_APPROVAL_MANUAL,
        .may_issue = may_issue,
        .may_issue_arg = settings->intune,
    };

    if (hsm_key_get0(settings->hsm, HSM_ROLE_CA, ca->key, &local.key, err) != 0)
        return -1;
    if (ca->ocsp_key != NULL &&
            hsm_key_get0(settings->hsm, HSM_ROLE_OCSP, ca->ocsp_key, &local.ocsp_key, err) != 0)
        return -1;
    if (ca_local_open(&local, ret_ca, err) != 0)
        return -1;
    return ca_local_recover(*ret_ca, err);
}

static int
open_cas(struct authorities *a, const struct authorities_settings *settings, struct cc_err *err)
{
    const struct config *config = settings->config;

    a->cas = calloc(config->ca_count + 1, sizeof(struct ca *));
    a->crl_failed = calloc(config->ca_count + 1, sizeof(*a->crl_failed));
    if (a->cas == NULL || a->crl_failed == NULL)
        return cc_err_nomem(err);
    for (size_t i = 0; i < config->ca_count; i++) {
        int rc = open_local(settings, &config->cas[i], &a->cas[i], err);

        a->ca_count += a->cas[i] != NULL;
        if (rc != 0)
            return cc_err_in(err, "[ca \"%s\"]", config->cas[i].name);
    }
    return 0;
}

static int
make_profile(const struct config_profile *profile, struct pki_profile **ret_profile,
        struct cc_err *err)
{
    static const enum pki_sid_form sids[] = {
        [CONFIG_SID_NONE] = PKI_SID_NONE,
        [CONFIG_SID_EXTENSION] = PKI_SID_EXTENSION,
        [CONFIG_SID_URI] = PKI_SID_URI,
    };
    const struct pki_profile_words words = {
        .name = profile->name,
        .validity_ms = profile->validity_ms,
        .backdate_ms = profile->backdate_ms,
        .key_usages = texts_of(&profile->key_usages),
        .extended_key_usages = texts_of(&profile->extended_key_usages),
        .subject_attributes = texts_of(&profile->subject),
        .san_types = texts_of(&profile->sans),
        .san_domains = texts_of(&profile->san_domains),
        .key_specs = texts_of(&profile->keys),
        .policies = texts_of(&profile->policies),
        .crl_urls = texts_of(&profile->crl_urls),
        .delta_crl_urls = texts_of(&profile->delta_crl_urls),
        .issuer_urls = texts_of(&profile->issuer_urls),
        .ocsp_urls = texts_of(&profile->ocsp_urls),
        .sid = sids[profile->sid],
    };

    return pki_profile_new(&words, ret_profile, err);
}

static int
make_profiles(struct authorities *a, const struct config *config, struct cc_err *err)
{
    if ((a->profiles = calloc(config->profile_count + 1, sizeof(struct pki_profile *))) == NULL)
        return cc_err_nomem(err);
    for (size_t i = 0; i < config->profile_count; i++) {
        if (make_profile(&config->profiles[i], &a->profiles[i], err) != 0)
            return -1;
        a->profile_count++;
    }
    return 0;
}

static int
open_publish(struct authorities *a, const struct config *config, struct cc_err *err)
{
    const struct ca_publish_settings settings = {
        .listen = config->publish.listen,
        .cas = a->cas,
        .count = a->ca_count,
        .folder = config->connector.state_directory,
        .cache_max = config->publish.ocsp_cache,
    };

    if (config->publish.listen == NULL)
        return 0;
    if (ca_publish_open(&settings, &a->publish, err) != 0)
        return cc_err_in(err, "[publish] listen");
    return 0;
}

/* ---- CRLs ---- */

/* Whether this instance signed it, or another looks after it since, or none was due: what was wrong is over. */
static void
say_kept(struct authorities *a, size_t i, bool signed_now)
{
    const struct event_fields fields = { .ca = ca_name(a->cas[i]) };

    if (signed_now)
        eventlog_write(a->log, EVENT_CRL_SIGNED, &fields, "The CA \"%s\" signed a CRL",
                ca_name(a->cas[i]));
    if (a->crl_failed[i])
        eventlog_write(a->log, EVENT_CRL_RECOVERED, &fields,
                "The CRL of the CA \"%s\" is kept up to date again", ca_name(a->cas[i]));
    a->crl_failed[i] = false;
}

/* A store that is away says so by itself; a CRL that is missing is missed by everybody. */
static void
say_failed(struct authorities *a, size_t i, const struct cc_err *err)
{
    const struct event_fields fields = { .ca = ca_name(a->cas[i]), .error = err };

    if (!store_is_usable(a->store))
        return;
    if (!a->crl_failed[i])
        eventlog_write(a->log, EVENT_CRL_FAILED, &fields,
                "The CA \"%s\" cannot sign its CRL; it is tried again until it can: %s",
                ca_name(a->cas[i]), cc_err_text(err));
    a->crl_failed[i] = true;
}

static int64_t
keep_crls(struct authorities *a)
{
    int64_t next = CRL_RETRY_MS;

    /* A CRL that cannot be kept is not signed. */
    if (!store_is_usable(a->store))
        return next;

    for (size_t i = 0; i < a->ca_count; i++) {
        struct cc_err err = { 0 };
        bool made = false;
        int64_t one;

        if (strcmp(ca_kind(a->cas[i]), "local") != 0)
            continue;
        if (ca_local_keep_crls(a->cas[i], &one, &made, &err) != 0) {
            say_failed(a, i, &err);
            continue;
        }
        say_kept(a, i, made);
        if (one < next)
            next = one;
    }
    return next;
}

static bool
wait_next(struct authorities *a, int64_t ms)
{
    bool go;

    pthread_mutex_lock(&a->lock);
    if (!a->stopping)
        cc_cond_wait(&a->changed, &a->lock, ms);
    go = !a->stopping;
    pthread_mutex_unlock(&a->lock);
    return go;
}

static void *
authorities_run(void *arg)
{
    struct authorities *a = arg;

    (void)hsm_work_for(HSM_WORK_REVOCATION);
    while (wait_next(a, keep_crls(a)))
        ;
    return NULL;
}

static int
start_thread(struct authorities *a, struct cc_err *err)
{
    int rc;

    if (a->ca_count == 0)
        return 0;
    if ((rc = pthread_create(&a->thread, NULL, authorities_run, a)) != 0)
        return cc_err_set_errno(err, rc, "thread of the CRLs");
    (void)pthread_setname_np(a->thread, "cc-crl");
    a->started = true;
    return 0;
}

/* ---- open, close, find ---- */

int
authorities_open(const struct authorities_settings *settings, struct authorities **ret_authorities,
        struct cc_err *err)
{
    struct authorities *a = calloc(1, sizeof(*a));

    if (a == NULL)
        return cc_err_nomem(err);
    a->log = settings->log;
    a->store = settings->store;
    (void)pthread_mutex_init(&a->lock, NULL);
    if (cc_cond_init(&a->changed, err) != 0) {
        pthread_mutex_destroy(&a->lock);
        free(a);
        return -1;
    }
    if (open_cas(a, settings, err) != 0 || make_profiles(a, settings->config, err) != 0 ||
            open_publish(a, settings->config, err) != 0 || start_thread(a, err) != 0) {
        authorities_close(a);
        return -1;
    }
    *ret_authorities = a;
    return 0;
}

void
authorities_close(struct authorities *a)
{
    if (a == NULL)
        return;
    pthread_mutex_lock(&a->lock);
    a->stopping = true;
    pthread_cond_signal(&a->changed);
    pthread_mutex_unlock(&a->lock);
    if (a->started)
        pthread_join(a->thread, NULL);
    ca_publish_close(a->publish);
    for (size_t i = 0; i < a->ca_count; i++)
        ca_close(a->cas[i]);
    for (size_t i = 0; i < a->profile_count; i++)
        pki_profile_free(a->profiles[i]);
    free(a->cas);
    free(a->crl_failed);
    free(a->profiles);
    pthread_cond_destroy(&a->changed);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

struct ca *const *
authorities_get0(const struct authorities *a, size_t *ret_count)
{
    *ret_count = a->ca_count;
    return a->cas;
}

struct ca *
authorities_find(const struct authorities *a, const char *name)
{
    for (size_t i = 0; name != NULL && i < a->ca_count; i++)
        if (strcmp(ca_name(a->cas[i]), name) == 0)
            return a->cas[i];
    return NULL;
}

const struct pki_profile *
authorities_profile(const struct authorities *a, const char *name)
{
    for (size_t i = 0; name != NULL && i < a->profile_count; i++)
        if (strcmp(a->profiles[i]->name, name) == 0)
            return a->profiles[i];
    return NULL;
}

struct ca_publish *
authorities_get0_publish(const struct authorities *a)
{
    return a->publish;
}
