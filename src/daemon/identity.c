/* SPDX-License-Identifier: MIT */
/*
 * The instance's own certificate at the connectors' service, for a key of the token: enrolled when there is none,
 * renewed in time, enrolled anew when it was lost or is refused.
 *
 * What it takes is asked for by connections of this file's own, which end with it: the others go on with the
 * certificate that they have until a call with the next one has worked.  The next one is written beside the present
 * one before it is used for the first time, as the service drops the present one by that.
 *
 * Each id takes one of the places that the tenant has for connectors.  So what was asked for is kept until it is in use,
 * and with one that has never worked no other is asked for when it is refused: something that opens TLS on the way
 * would have it refused as well.
 */

#include "daemon_int.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cond.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "intune/enrol.h"
#include "intune/queue.h"
#include "pki/cert.h"
#include "store/instance.h"

#define IDENTITY_LOOK_MS 1000 /* between two looks at what there is to do */
#define IDENTITY_RETRY_MS 1000
#define IDENTITY_RETRY_MAX_MS 600000

struct identity {
    struct daemon *daemon;
    struct hsm *hsm;
    struct intune *intune; /* that everybody uses */
    struct {
        const char *name; /* in [keys] */
        struct hsm_key *key;
    } keys[2];
    size_t key_count;
    struct cc_buf path, next_path;
    pthread_t thread;
    bool started;

    pthread_mutex_t lock; /* after the daemon's; guards what follows */
    pthread_cond_t changed;
    bool stopping;
    const struct config *config;    /* in force */
    struct intune_enrolled present; /* certificate NULL: there is none */
    struct intune *own;             /* of what is asked for just now; NULL: nothing */
    char last_error[256];

    /* The thread's, which alone changes present, and reads it freely. */
    struct intune_enrolled granted; /* and not in use yet; certificate NULL: nothing */
    bool matched;                   /* the present certificate is of the key that we think */
    bool filed;                     /* the file says the same as present */
    bool told_removed, told_unseen; /* event 39 */
    unsigned failures;              /* in a row */
    enum cc_err_domain told;        /* the last of them that was told */
    int64_t try_at;                 /* monotonic */
    char old_id
            [CC_UUID_LEN]; /* under which it called before it enrolled, to be taken out; "": none */
    int64_t remove_at;     /* monotonic */
    unsigned remove_failures; /* in a row */
};

/* ---- keys ---- */

static struct hsm_key *
key_named(struct identity *identity, const char *name)
{
    for (size_t i = 0; i < identity->key_count; i++)
        if (strcmp(identity->keys[i].name, name) == 0)
            return identity->keys[i].key;
    return NULL;
}

static int
add_key(struct identity *identity, const struct config *config, const char *name,
        struct cc_err *err)
{
    const char *uri = config_key(config, name);

    if (uri == NULL)
        return 0;
    identity->keys[identity->key_count].name = name;
    return hsm_key_get0(identity->hsm, HSM_ROLE_IDENTITY, uri,
            &identity->keys[identity->key_count++].key, err);
}

/* The key that a certificate is of, by its name; NULL: none of ours.  -1: the token cannot be asked. */
static int
find_key(struct identity *identity, X509 *certificate, const char **ret_name, struct cc_err *err)
{
    *ret_name = NULL;
    for (size_t i = 0; i < identity->key_count && *ret_name == NULL; i++) {
        EVP_PKEY *pkey = NULL;

        if (hsm_key_get0_evp(identity->keys[i].key, &pkey, err) != 0)
            return -1;
        if (EVP_PKEY_eq(X509_get0_pubkey(certificate), pkey) == 1)
            *ret_name = identity->keys[i].name;
    }
    return 0;
}

/* ---- settings ---- */

/* LOCKED */
static void
fill(struct identity *identity, const struct intune_enrolled *enrolled,
        struct intune_settings *settings)
{
    struct hsm_key *key;

    if (enrolled == NULL || enrolled->certificate == NULL)
        return;
    if ((key = key_named(identity, enrolled->key)) == NULL)
        key = identity->keys[0].key;
    settings->identity = (struct intune_identity){
        .certificate = enrolled->certificate,
        .chain = enrolled->chain,
        .key = key,
        .connector_id = enrolled->connector_id,
    };
}

void
identity_fill(struct identity *identity, struct intune_settings *settings)
{
    if (identity == NULL)
        return;
    pthread_mutex_lock(&identity->lock);
    fill(identity, &identity->present, settings);
    pthread_mutex_unlock(&identity->lock);
}

/* LOCKED; enrolled NULL: as nobody in particular. */
static int
make_settings(struct identity *identity, const struct config *config,
        const struct intune_enrolled *enrolled, struct intune_settings *ret, struct cc_err *err)
{
    if (parts_service_settings(identity->daemon, identity->hsm, config, ret, err) != 0)
        return -1;
    fill(identity, enrolled, ret);
    return 0;
}

/* LOCKED */
static int
apply(struct identity *identity, const struct config *config,
        const struct intune_enrolled *enrolled, struct cc_err *err)
{
    struct intune_settings settings;

    if (make_settings(identity, config, enrolled, &settings, err) != 0)
        return -1;
    return intune_reconfigure(identity->intune, &settings, err);
}

int
identity_reconfigure(struct identity *identity, const struct config *new_config, struct cc_err *err)
{
    int rc;

    pthread_mutex_lock(&identity->lock);
    rc = apply(identity, new_config, &identity->present, err);
    if (rc == 0)
        identity->config = new_config;
    pthread_mutex_unlock(&identity->lock);
    return rc;
}

/* ---- connections of our own ---- */

/* Shows enrolled, or nothing for NULL; own_close() it. */
static struct intune *
own_open(struct identity *identity, const struct intune_enrolled *enrolled, struct cc_err *err)
{
    struct intune_settings settings;
    struct intune *own = NULL;

    pthread_mutex_lock(&identity->lock);
    if (identity->stopping) {
        cc_err_set(err, CC_DOM_CANCELLED, 0, "stopping");
    } else if (make_settings(identity, identity->config, enrolled, &settings, err) == 0) {
        settings.on_contact = NULL;
        if (intune_open(&settings, &own, err) == 0)
            identity->own = own;
    }
    pthread_mutex_unlock(&identity->lock);
    return own;
}

static void
own_close(struct identity *identity, struct intune *own)
{
    pthread_mutex_lock(&identity->lock);
    identity->own = NULL;
    pthread_mutex_unlock(&identity->lock);
    intune_close(own);
}

/* ---- asking for a certificate ---- */

static size_t
list_features(const struct config *config, const char *ret[WORKLOADS])
{
    size_t count = 0;

    for (int i = 0; i < WORKLOADS; i++)
        if ((config->connector.features & workload_feature((enum workload)i)) != 0)
            ret[count++] = workload_name((enum workload)i);
    return count;
}

/* By the identity that we have, or with renews false as one that is new. */
static int
ask(struct identity *identity, const char *key, bool renews, struct intune_enrolled *ret,
        struct cc_err *err)
{
    const char *features[WORKLOADS];
    char machine[HOST_NAME_MAX + 1] = "";
    struct intune_enrolment enrolment = {
        .display_name = identity->daemon->name,
        .machine_name = machine,
        .version = CC_VERSION,
        .features = features,
        .key = key,
        .renews = renews,
    };
    struct intune *own;
    int rc;

    if (hsm_key_get0_evp(key_named(identity, key), &enrolment.pkey, err) != 0 ||
            (own = own_open(identity, renews ? &identity->present : NULL, err)) == NULL)
        return -1;
    (void)gethostname(machine, sizeof(machine) - 1);
    pthread_mutex_lock(&identity->lock);
    enrolment.feature_count = list_features(identity->config, features);
    pthread_mutex_unlock(&identity->lock);
    rc = intune_enrol(own, &enrolment, ret, err);
    own_close(identity, own);
    return rc;
}

/* A call with it that works. */
static int
prove(struct identity *identity, const struct intune_enrolled *enrolled, struct cc_err *err)
{
    struct intune *own = own_open(identity, enrolled, err);
    json_object *heartbeat;
    unsigned features;
    int rc = -1;

    if (own == NULL)
        return -1;
    if ((heartbeat = status_build_heartbeat(identity->daemon, &features)) == NULL)
        cc_err_nomem(err);
    else
        rc = intune_heartbeat(own, heartbeat, NULL, err);
    own_close(identity, own);
    return rc == 0 ? 0 : cc_err_in(err, "the new certificate");
}

/* ---- taking one into use ---- */

/* From now on everybody shows it.  take: its contents; with -1 they stay the caller's. */
static int
adopt(struct identity *identity, struct intune_enrolled *take, struct cc_err *err)
{
    int rc;

    if (CC_FAILPOINT("identity", "adopt", "before"))
        return cc_err_set(err, CC_DOM_SYSTEM, EIO, "fail point before the certificate is used");
    if (intune_enrolled_write(take, cc_buf_str(&identity->path), err) != 0)
        return -1;
    pthread_mutex_lock(&identity->lock);
    rc = apply(identity, identity->config, take, err);
    if (rc == 0) {
        intune_enrolled_free(&identity->present);
        identity->present = *take;
        *take = (struct intune_enrolled){ .certificate = NULL };
    }
    pthread_mutex_unlock(&identity->lock);
    identity->matched = identity->filed = rc == 0;
    return rc;
}

/* What is known of the present one since it was written. */
static int
file_present(struct identity *identity, struct cc_err *err)
{
    if (!identity->filed &&
            intune_enrolled_write(&identity->present, cc_buf_str(&identity->path), err) != 0)
        return -1;
    identity->filed = true;
    return 0;
}

/* That the service takes the present one.  Used anew: what is said of the calls before does not count then. */
static int
confirm(struct identity *identity, struct cc_err *err)
{
    int rc;

    if (prove(identity, &identity->present, err) != 0)
        return -1;
    pthread_mutex_lock(&identity->lock);
    rc = apply(identity, identity->config, &identity->present, err);
    pthread_mutex_unlock(&identity->lock);
    if (rc != 0)
        return -1;
    identity->present.proven = true;
    identity->filed = false;
    return file_present(identity, err);
}

static void
tell(struct identity *identity, enum event_id id, const char *what)
{
    const struct intune_enrolled *present = &identity->present;
    char thumbprint[PKI_THUMBPRINT_LEN] = "", until[CC_TIME_LEN];
    struct cc_buf serial = CC_BUF_INIT(256);
    struct event_fields fields = { .thumbprint = thumbprint };

    cc_time_format(present->not_after_ms, until);
    if (pki_cert_thumbprint(present->certificate, thumbprint, NULL) == 0 &&
            pki_cert_serial(present->certificate, &serial, NULL) == 0)
        fields.serial_number = cc_buf_str(&serial);
    eventlog_write(identity->daemon->log, id, &fields,
            "The connector %s as %s, with the %s key; its certificate is valid until %s", what,
            present->connector_id, present->key, until);
    cc_buf_free(&serial);
}

/* The state store keeps the id, so that it is the same where the certificate was lost. */
static void
keep_id(struct identity *identity)
{
    struct daemon *d = identity->daemon;
    struct cc_err err = { 0 };

    if (store_connector_id_set(d->store, d->name, identity->present.connector_id, &err) != 0)
        cc_log(CC_LOG_WARNING, "daemon", "the connector's id: %s", cc_err_text(&err));
}

/* ---- what there is to do ---- */

static int
enrol(struct identity *identity, bool first, struct cc_err *err)
{
    const char *key = identity->present.certificate != NULL && identity->matched
                              ? identity->present.key
                              : identity->keys[0].name;
    int64_t pause_ms;

    if (key_named(identity, key) == NULL)
        key = identity->keys[0].name;
    if (identity->granted.certificate == NULL &&
            ask(identity, key, false, &identity->granted, err) != 0)
        return -1;
    if (adopt(identity, &identity->granted, err) != 0)
        return -1;
    tell(identity, EVENT_IDENTITY_ENROLLED, "enrolled");
    if (first && strcmp(identity->daemon->connector_id, identity->present.connector_id) != 0) {
        /* What it called itself before is nobody's any more, once the calls under way are over. */
        pthread_mutex_lock(&identity->lock);
        pause_ms = identity->config->service.poll_wait_ms + identity->config->service.timeout_ms;
        pthread_mutex_unlock(&identity->lock);
        (void)cc_strcpy(identity->old_id, sizeof(identity->old_id), identity->daemon->connector_id);
        identity->remove_at = cc_deadline_in(2 * pause_ms);
    }
    keep_id(identity);
    return 0;
}

static int
use_next(struct identity *identity, struct intune_enrolled *take, struct cc_err *err)
{
    if (strcmp(take->connector_id, identity->present.connector_id) != 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "the new certificate is of another connector");
    if (prove(identity, take, err) != 0) {
        if (!intune_was_certificate(err))
            return -1;
        /* It is no good, and says nothing of the present one. */
        (void)unlink(cc_buf_str(&identity->next_path));
        err->domain = CC_DOM_INPUT;
        return -1;
    }
    take->proven = true;
    if (adopt(identity, take, err) != 0)
        return -1;
    (void)unlink(cc_buf_str(&identity->next_path));
    tell(identity, EVENT_IDENTITY_RENEWED, "renewed its identity");
    return 0;
}

/* What an end in the midst of a renewal left. */
static int
finish_renewal(struct identity *identity, bool *ret_done, struct cc_err *err)
{
    struct intune_enrolled next = { .certificate = NULL };
    struct cc_err why = { 0 };
    int rc;

    *ret_done = false;
    if (intune_enrolled_read(cc_buf_str(&identity->next_path), &next, &why) != 0)
        return 0;
    rc = use_next(identity, &next, &why);
    intune_enrolled_free(&next);
    *ret_done = rc == 0;
    if (rc == 0)
        return 0;
    if (why.domain == CC_DOM_INPUT) {
        (void)unlink(cc_buf_str(&identity->next_path));
        return 0;
    }
    return cc_err_set(err, why.domain, why.code, "%s", why.text);
}

static int
renew(struct identity *identity, struct cc_err *err)
{
    const char *key =
            key_named(identity, IDENTITY_NEXT) != NULL ? IDENTITY_NEXT : identity->present.key;
    struct intune_enrolled next = { .certificate = NULL };
    bool done;
    int rc = -1;

    if (finish_renewal(identity, &done, err) != 0)
        return -1;
    if (done)
        return 0;
    if (ask(identity, key, true, &next, err) == 0 &&
            intune_enrolled_write(&next, cc_buf_str(&identity->next_path), err) == 0)
        rc = use_next(identity, &next, err);
    intune_enrolled_free(&next);
    return rc;
}

static void
say_refused(struct identity *identity, const char *why)
{
    eventlog_write(identity->daemon->log, EVENT_IDENTITY_FAILED, NULL,
            "The identity of the connector cannot be used, and it enrols anew: %s", why);
}

/* The present one is worth nothing: what was to follow it may be there already, else there is a new beginning. */
static int
replace(struct identity *identity, const char *why, struct cc_err *err)
{
    bool done;

    if (finish_renewal(identity, &done, err) != 0)
        return -1;
    if (done)
        return 0;
    if (identity->failures == 0)
        say_refused(identity, why);
    if (enrol(identity, false, err) != 0)
        return -1;
    return confirm(identity, err);
}

/* Whose the certificate is that was read at the start: the token was not there to be asked. */
static int
match(struct identity *identity, struct cc_err *err)
{
    const char *name = NULL;
    struct intune_enrolled known;
    int rc = 0;

    if (find_key(identity, identity->present.certificate, &name, err) != 0)
        return -1;
    if (name != NULL && strcmp(name, identity->present.key) != 0) {
        pthread_mutex_lock(&identity->lock);
        known = identity->present;
        (void)cc_strcpy(known.key, sizeof(known.key), name);
        rc = apply(identity, identity->config, &known, err);
        if (rc == 0)
            identity->present = known;
        pthread_mutex_unlock(&identity->lock);
        identity->filed = false;
    }
    identity->matched = rc == 0 && name != NULL;
    return rc;
}

/* Of the failures of a call those that may pass by themselves. */
static bool
passes(const struct cc_err *err)
{
    return err->domain == CC_DOM_NETWORK || err->domain == CC_DOM_TOKEN ||
           err->domain == CC_DOM_CANCELLED ||
           (err->domain == CC_DOM_HTTP &&
                   (err->code == 408 || err->code == 429 || err->code >= 500));
}

static void
remove_old(struct identity *identity)
{
    struct cc_err err = { 0 };
    struct intune *own = own_open(identity, NULL, &err);
    int rc = -1;

    if (own != NULL) {
        rc = intune_remove(own, identity->old_id, false, &err);
        own_close(identity, own);
    }
    if (rc != 0)
        cc_log(CC_LOG_WARNING, "daemon", "taking out the connector's id of before: %s",
                cc_err_text(&err));
    if (rc != 0 && passes(&err))
        identity->remove_at = cc_deadline_in(cc_backoff_ms(identity->remove_failures++,
                IDENTITY_RETRY_MS, IDENTITY_RETRY_MAX_MS));
    else
        identity->old_id[0] = '\0';
}

/* ---- the thread ---- */

/* What is told elsewhere: by the events of token and service; that we stop, by none. */
static bool
is_told(const struct cc_err *err, enum intune_contact contact)
{
    return err->domain == CC_DOM_CANCELLED ||
           (err->domain == CC_DOM_TOKEN && err->code == HSM_FAULT_UNAVAILABLE) ||
           contact == INTUNE_CONTACT_LOST || contact == INTUNE_SIGN_IN_REFUSED ||
           contact == INTUNE_SIGN_IN_UNABLE;
}

static void
say_unseen(struct identity *identity, const struct cc_err *err)
{
    const struct event_fields fields = { .error = err };

    if (identity->told_unseen)
        return;
    identity->told_unseen = true;
    eventlog_write(identity->daemon->log, EVENT_IDENTITY_FAILED, &fields,
            "The connector's certificate does not reach the service, or is not taken there: it is tried again until "
            "it is, and no other is asked for.  Something on the way may open TLS, which it must not here: %s",
            cc_err_text(err));
}

static void
note_outcome(struct identity *identity, const char *doing, int rc, const struct cc_err *err)
{
    const struct event_fields fields = { .error = err };
    struct intune_status service;

    pthread_mutex_lock(&identity->lock);
    (void)cc_strcpy(identity->last_error, sizeof(identity->last_error),
            rc == 0 ? "" : cc_err_text(err));
    pthread_mutex_unlock(&identity->lock);
    if (rc == 0) {
        identity->failures = 0;
        identity->told = CC_DOM_NONE;
        identity->told_unseen = false;
        identity->try_at = 0;
        return;
    }
    identity->try_at = cc_deadline_in(
            cc_backoff_ms(identity->failures++, IDENTITY_RETRY_MS, IDENTITY_RETRY_MAX_MS));
    if (identity->present.certificate != NULL && !identity->present.proven &&
            intune_was_certificate(err)) {
        say_unseen(identity, err);
        return;
    }
    /* Once for each way of failing; the service is asked several times before. */
    intune_get_status(identity->intune, &service);
    if (is_told(err, service.contact) || identity->told == err->domain)
        return;
    identity->told = err->domain;
    if (err->domain != CC_DOM_HTTP || err->code != 409)
        eventlog_write(identity->daemon->log, EVENT_IDENTITY_FAILED, &fields,
                "The connector could not %s; it is tried again until it can: %s", doing,
                cc_err_text(err));
    else if (service.contact != INTUNE_CONNECTOR_LIMIT)
        eventlog_write(identity->daemon->log, EVENT_CONNECTOR_LIMIT, &fields,
                "The service has no place for this connector, which could not %s; it is tried again "
                "until there is one: %s",
                doing, cc_err_text(err));
}

static void
say_removed(struct identity *identity)
{
    if (identity->told_removed)
        return;
    identity->told_removed = true;
    eventlog_write(identity->daemon->log, EVENT_IDENTITY_FAILED, NULL,
            "The connector %s was taken out at the service, and does not enrol again by itself: \"certconnector "
            "identity remove\" forgets it, the next start enrols anew",
            identity->present.connector_id);
}

/* By the service's clock, of which we know where it has answered at all. */
static bool
has_ended(const struct identity *identity, const struct intune_status *service)
{
    return service->contact == INTUNE_CERTIFICATE_REFUSED &&
           cc_clock_now_ms() + service->clock_skew_ms >= identity->present.not_after_ms;
}

/* Nothing has failed any more, and what can wait has its turn. */
static void
look_idle(struct identity *identity)
{
    if (identity->failures > 0)
        note_outcome(identity, "", 0, NULL);
    if (identity->old_id[0] != '\0' && cc_deadline_left(identity->remove_at) == 0)
        remove_old(identity);
}

/* One thing at a time, the first that is needed. */
static void
look(struct identity *identity)
{
    const bool present = identity->present.certificate != NULL;
    struct hsm_status token;
    struct intune_status service;
    struct cc_err err = { 0 }, why;
    const char *doing = "enrol";
    int rc;

    hsm_get_status(identity->hsm, &token);
    intune_get_status(identity->intune, &service);
    if (token.state != HSM_STATE_OPEN || cc_deadline_left(identity->try_at) > 0)
        return;
    if (!present) {
        rc = enrol(identity, service.contact != INTUNE_CERTIFICATE_REFUSED, &err);
        if (rc == 0)
            rc = confirm(identity, &err);
    } else if (service.contact == INTUNE_CONNECTOR_REMOVED) {
        say_removed(identity);
        return;
    } else if (!identity->matched && match(identity, &err) != 0) {
        rc = -1;
    } else if (!identity->matched) {
        rc = replace(identity, "its certificate is of none of the keys that are configured", &err);
    } else if (!identity->present.proven && !has_ended(identity, &service)) {
        doing = "use its certificate";
        rc = confirm(identity, &err);
    } else if (service.contact == INTUNE_CERTIFICATE_REFUSED) {
        rc = replace(identity, service.last_error, &err);
    } else if (cc_clock_now_ms() + service.clock_skew_ms >= identity->present.renew_after_ms) {
        doing = "renew its identity";
        rc = renew(identity, &err);
        if (rc != 0 && intune_was_certificate(&err)) {
            why = err;
            cc_err_clear(&err);
            rc = replace(identity, why.text, &err);
        }
    } else if (!identity->filed) {
        doing = "write down what its identity is";
        rc = file_present(identity, &err);
    } else {
        look_idle(identity);
        return;
    }
    note_outcome(identity, doing, rc, &err);
}

/* Waits a little; false: we stop. */
static bool
identity_wait(struct identity *identity)
{
    bool stopping;

    pthread_mutex_lock(&identity->lock);
    if (!identity->stopping)
        cc_cond_wait(&identity->changed, &identity->lock, IDENTITY_LOOK_MS);
    stopping = identity->stopping;
    pthread_mutex_unlock(&identity->lock);
    return !stopping;
}

static void *
identity_run(void *arg)
{
    struct identity *identity = arg;

    do {
        look(identity);
    } while (identity_wait(identity));
    return NULL;
}

/* ---- begin and end ---- */

/* One that cannot be read is as good as none, but somebody may want to know. */
static int
load(struct identity *identity, struct cc_err *err)
{
    struct daemon *d = identity->daemon;
    struct cc_err why = { 0 };
    const struct event_fields fields = { .error = &why };

    if (intune_enrolled_read(cc_buf_str(&identity->path), &identity->present, &why) == 0) {
        identity->filed = true;
        (void)cc_strcpy(d->connector_id, sizeof(d->connector_id), identity->present.connector_id);
        return store_connector_id_set(d->store, d->name, d->connector_id, err);
    }
    if (why.domain != CC_DOM_SYSTEM || why.code != ENOENT)
        eventlog_write(d->log, EVENT_IDENTITY_FAILED, &fields,
                "The identity of the connector cannot be read, and it enrols anew: %s",
                cc_err_text(&why));
    return 0;
}

static int
identity_init(struct identity *identity, struct cc_err *err)
{
    int rc;

    if ((rc = pthread_mutex_init(&identity->lock, NULL)) != 0)
        return cc_err_set_errno(err, rc, "lock");
    if (cc_cond_init(&identity->changed, err) != 0) {
        pthread_mutex_destroy(&identity->lock);
        return -1;
    }
    return 0;
}

static int
find_paths(struct identity *identity, const struct config *config, struct cc_err *err)
{
    cc_buf_init(&identity->path, PATH_MAX);
    cc_buf_init(&identity->next_path, PATH_MAX);
    if (config_identity_path(config->connector.state_directory, identity->daemon->name,
                &identity->path, err) != 0)
        return -1;
    return cc_buf_printf(&identity->next_path, err, "%s.next", cc_buf_str(&identity->path));
}

int
identity_open(struct daemon *d, struct hsm *hsm, const struct config *config,
        struct identity **ret_identity, struct cc_err *err)
{
    struct identity *identity;

    *ret_identity = NULL;
    if (config->service.enrol == CONFIG_ENROL_NO || config_key(config, IDENTITY) == NULL ||
            config->connector.features == 0)
        return 0;
    if ((identity = calloc(1, sizeof(*identity))) == NULL)
        return cc_err_nomem(err);
    identity->daemon = d;
    identity->hsm = hsm;
    identity->config = config;
    if (identity_init(identity, err) != 0) {
        free(identity);
        return -1;
    }
    if (find_paths(identity, config, err) != 0 || add_key(identity, config, IDENTITY, err) != 0 ||
            add_key(identity, config, IDENTITY_NEXT, err) != 0 || load(identity, err) != 0) {
        identity_close(identity);
        return -1;
    }
    *ret_identity = identity;
    return 0;
}

int
identity_start(struct identity *identity, struct intune *intune, struct cc_err *err)
{
    int rc;

    identity->intune = intune;
    if ((rc = pthread_create(&identity->thread, NULL, identity_run, identity)) != 0)
        return cc_err_set_errno(err, rc, "thread that looks after the identity");
    (void)pthread_setname_np(identity->thread, "cc-identity");
    identity->started = true;
    return 0;
}

static void
put_serial(const struct intune_enrolled *enrolled, char *ret, size_t size)
{
    struct cc_buf serial = CC_BUF_INIT(256);

    if (pki_cert_serial(enrolled->certificate, &serial, NULL) == 0)
        (void)cc_strcpy(ret, size, cc_buf_str(&serial));
    cc_buf_free(&serial);
}

void
identity_get_status(struct identity *identity, struct identity_status *ret)
{
    const struct intune_enrolled *present;
    struct intune_status service;

    *ret = (struct identity_status){ .enrolled = false };
    /* One that is closed without having been started is seen for a moment, too. */
    if (identity->intune == NULL)
        return;
    intune_get_status(identity->intune, &service);
    ret->refused = service.contact == INTUNE_CERTIFICATE_REFUSED;
    ret->removed = service.contact == INTUNE_CONNECTOR_REMOVED;
    pthread_mutex_lock(&identity->lock);
    present = &identity->present;
    (void)cc_strcpy(ret->last_error, sizeof(ret->last_error), identity->last_error);
    if (present->certificate != NULL) {
        ret->enrolled = true;
        (void)cc_strcpy(ret->connector_id, sizeof(ret->connector_id), present->connector_id);
        (void)cc_strcpy(ret->key, sizeof(ret->key), present->key);
        ret->not_before_ms = present->not_before_ms;
        ret->not_after_ms = present->not_after_ms;
        ret->renew_after_ms = present->renew_after_ms;
        put_serial(present, ret->serial, sizeof(ret->serial));
    }
    pthread_mutex_unlock(&identity->lock);
}

void
identity_stop(struct identity *identity)
{
    if (identity == NULL || !identity->started)
        return;
    pthread_mutex_lock(&identity->lock);
    identity->stopping = true;
    if (identity->own != NULL)
        intune_cancel(identity->own);
    pthread_cond_signal(&identity->changed);
    pthread_mutex_unlock(&identity->lock);
    pthread_join(identity->thread, NULL);
    identity->started = false;
}

void
identity_close(struct identity *identity)
{
    if (identity == NULL)
        return;
    intune_enrolled_free(&identity->present);
    intune_enrolled_free(&identity->granted);
    cc_buf_free(&identity->path);
    cc_buf_free(&identity->next_path);
    pthread_cond_destroy(&identity->changed);
    pthread_mutex_destroy(&identity->lock);
    free(identity);
}
