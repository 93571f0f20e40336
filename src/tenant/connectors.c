/* SPDX-License-Identifier: MIT */
#include "connectors.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "identity.h"
#include "releases.h"

#define HEARTBEAT_MAX 65536 /* bytes of one, as it is kept */
#define FEATURES_MAX 16
#define METRICS_MAX 64 /* in a heartbeat */
#define COUNT_MAX (INT64_C(1) << 53)
#define ACTIVE_MS                                                                                  \
    ((int64_t)10 * 60 * 1000) /* without a heartbeat, until an instance shows as inactive */

/*
 * What is asked at every call, in memory; the store has the rest.  The list grows only: removed instances stay, so
 * that they stay refused.
 */
struct instance {
    struct instance *next;
    char id[TENANT_ID_MAX + 1];
    char *features;           /* JSON array; NULL: it has not told yet */
    int64_t last_ms, beat_ms; /* of any call, of the last that told something */
    bool removed, enrolled;
};

struct connectors {
    struct tenant_store *store;
    pthread_mutex_t lock; /* guards the list and the instances */
    struct instance *first;
};

/* With the lock. */
static struct instance *
find(struct connectors *connectors, const char *id)
{
    for (struct instance *i = connectors->first; i != NULL; i = i->next)
        if (strcmp(i->id, id) == 0)
            return i;
    return NULL;
}

/* With the lock: what is NULL stays as it is. */
static int
learn(struct connectors *connectors, const struct tenant_connector *c, struct cc_err *err)
{
    struct instance *i = find(connectors, c->id);
    char *copy = NULL;

    if (c->features != NULL && (copy = cc_strdup(c->features, err)) == NULL)
        return -1;
    if (i == NULL) {
        if ((i = calloc(1, sizeof(*i))) == NULL) {
            free(copy);
            return cc_err_nomem(err);
        }
        (void)cc_strcpy(i->id, sizeof(i->id), c->id);
        i->next = connectors->first;
        connectors->first = i;
    }
    if (copy != NULL) {
        free(i->features);
        i->features = copy;
    }
    i->last_ms = c->last_ms;
    i->beat_ms = c->last_ms;
    i->removed = i->removed || c->removed;
    i->enrolled = i->enrolled || c->enrolled_ms != 0;
    return 0;
}

struct loading {
    struct connectors *connectors;
    struct cc_err *err;
    int rc;
};

static int
load_one(void *arg, const struct tenant_connector *c)
{
    struct loading *l = arg;

    l->rc = learn(l->connectors, c, l->err);
    return l->rc;
}

int
connectors_open(struct tenant_store *store, struct connectors **ret_connectors, struct cc_err *err)
{
    struct connectors *connectors = calloc(1, sizeof(*connectors));
    struct loading loading = { .connectors = connectors, .err = err };

    if (connectors == NULL)
        return cc_err_nomem(err);
    connectors->store = store;
    pthread_mutex_init(&connectors->lock, NULL);
    if (tenant_connector_list(store, load_one, &loading, err) != 0 || loading.rc != 0) {
        connectors_close(connectors);
        return -1;
    }
    *ret_connectors = connectors;
    return 0;
}

void
connectors_close(struct connectors *connectors)
{
    struct instance *next;

    if (connectors == NULL)
        return;
    for (struct instance *i = connectors->first; i != NULL; i = next) {
        next = i->next;
        free(i->features);
        free(i);
    }
    pthread_mutex_destroy(&connectors->lock);
    free(connectors);
}

bool
connectors_is_active(struct connectors *connectors, const char *id, int64_t *ret_contact_ms)
{
    struct instance *i;
    bool active = false;

    *ret_contact_ms = 0;
    pthread_mutex_lock(&connectors->lock);
    if ((i = find(connectors, id)) != NULL) {
        *ret_contact_ms = i->last_ms;
        active = !i->removed && cc_clock_now_ms() - i->beat_ms < ACTIVE_MS;
    }
    pthread_mutex_unlock(&connectors->lock);
    return active;
}

struct viewing {
    struct tenant *tenant;
    connector_view_fn fn;
    void *arg;
};

static int
view_one(void *arg, const struct tenant_connector *c)
{
    struct viewing *v = arg;
    struct connector_view view = { .connector = c };

    view.active = connectors_is_active(v->tenant->connectors, c->id, &view.contact_ms);
    releases_judge(v->tenant->releases, c->version, &view.lifecycle);
    return v->fn(v->arg, &view);
}

int
connectors_each(struct tenant *tenant, connector_view_fn fn, void *arg, struct cc_err *err)
{
    struct viewing v = { .tenant = tenant, .fn = fn, .arg = arg };

    return tenant_connector_list(tenant->store, view_one, &v, err);
}

int
connectors_id(json_object *obj, const char **ret, struct cc_err *err)
{
    if (cc_json_need_str(obj, "connectorId", TENANT_ID_MAX, ret, err) != 0)
        return -1;
    for (const char *c = *ret; *c != '\0'; c++)
        if ((unsigned char)*c <= ' ' || (unsigned char)*c >= 0x7f)
            return cc_err_set(err, CC_DOM_INPUT, 0, "member \"connectorId\" is not an id");
    return 0;
}

/* ---- who it is ---- */

static bool
is_enrolled(struct connectors *connectors, const char *id)
{
    struct instance *i;
    bool enrolled;

    pthread_mutex_lock(&connectors->lock);
    i = find(connectors, id);
    enrolled = i != NULL && i->enrolled;
    pthread_mutex_unlock(&connectors->lock);
    return enrolled;
}

/*
 * One that has a certificate is who it says with it only, and nobody else is with the certificate of another.  Who has
 * none from us goes by the bearer token alone; so does everyone without TLS.  false: the call was ended.
 */
static bool
check_identity(struct call *call, const char *id)
{
    struct cc_bytes der = http_exchange_peer_certificate(call->exchange);
    bool enrolled = call->tenant->settings->tls && is_enrolled(call->tenant->connectors, id);
    char known[TENANT_ID_MAX + 1];
    const char *why;
    struct cc_err err = { 0 };

    if (der.len == 0 && enrolled)
        call_reply_error(call, 401, "CertificateRequired",
                "this connector has a certificate, and must come with it");
    if (der.len == 0)
        return !enrolled;
    if (identity_check(call->tenant, der, known, &why, &err) != 0) {
        call_reply_failed(call, &err);
        return false;
    }
    if (known[0] == '\0' && !enrolled)
        return true;
    if (strcmp(known, id) == 0)
        return true;
    identity_refuse(call, known[0] != '\0' ? "the certificate is of another connector" : why);
    return false;
}

/* ---- admission ---- */

/* features is a JSON array of plain words that we wrote ourselves. */
static bool
has_feature(const char *features, const char *feature)
{
    size_t len = strlen(feature);

    for (const char *at = strstr(features, feature); at != NULL; at = strstr(at + 1, feature))
        if (at > features && at[-1] == '"' && at[len] == '"')
            return true;
    return false;
}

static int64_t
gone_ms(void)
{
    return cc_clock_now_ms() - TENANT_CONNECTOR_GONE_DAYS * (INT64_C(24) * 3600 * 1000);
}

enum admission { ADMIT, ADMIT_NEW, REFUSE_REMOVED, REFUSE_FEATURE };

static enum admission
look_up(struct connectors *connectors, const char *id, const char *feature)
{
    enum admission result = ADMIT;
    struct instance *i;

    pthread_mutex_lock(&connectors->lock);
    i = find(connectors, id);
    if (i != NULL && i->removed)
        result = REFUSE_REMOVED;
    else if (i == NULL || i->last_ms < gone_ms())
        result = ADMIT_NEW;
    else if (feature != NULL && i->features != NULL && !has_feature(i->features, feature))
        result = REFUSE_FEATURE;
    else
        i->last_ms = cc_clock_now_ms();
    pthread_mutex_unlock(&connectors->lock);
    return result;
}

bool
connectors_record(struct call *call, const struct tenant_connector *c,
        const struct tenant_new_identity *identity)
{
    struct connectors *connectors = call->tenant->connectors;
    struct cc_err err = { 0 };
    bool full;
    int rc;

    if (tenant_connector_put(connectors->store, c, identity, TENANT_CONNECTORS_MAX, gone_ms(),
                &full, &err) != 0) {
        call_reply_failed(call, &err);
        return false;
    }
    if (full) {
        call_reply_error(call, 409, "ConnectorLimitReached",
                "the tenant has %d connectors, the most there can be: remove one that is not used "
                "any more; one that is silent for %d days makes room by itself",
                TENANT_CONNECTORS_MAX, TENANT_CONNECTOR_GONE_DAYS);
        return false;
    }
    pthread_mutex_lock(&connectors->lock);
    rc = learn(connectors, c, &err);
    pthread_mutex_unlock(&connectors->lock);
    if (rc != 0)
        call_reply_failed(call, &err);
    return rc == 0;
}

bool
connectors_admit(struct call *call, const char *id, const char *feature)
{
    int64_t now_ms = cc_clock_now_ms();
    struct tenant_connector c = { .id = id, .first_ms = now_ms, .last_ms = now_ms };

    if (!check_identity(call, id))
        return false;
    switch (look_up(call->tenant->connectors, id, feature)) {
    case ADMIT:
        return true;
    case ADMIT_NEW:
        return connectors_record(call, &c, NULL);
    case REFUSE_REMOVED:
        call_reply_error(call, 403, "ConnectorRemoved", "this connector was taken out");
        return false;
    case REFUSE_FEATURE:
        call_reply_error(call, 403, "FeatureNotAllowed",
                "this connector has not said that it has the feature %s", feature);
        return false;
    }
    return false;
}

/* ---- heartbeat ---- */

int
connectors_features(json_object *obj, json_object **ret, struct cc_err *err)
{
    static const char *const known[] = { TENANT_FEATURE_PKCS, TENANT_FEATURE_PFX_IMPORT,
        TENANT_FEATURE_SCEP, TENANT_FEATURE_REVOCATION };
    json_object *features;
    json_object *result;

    if (cc_json_get_array(obj, "features", &features, err) != 0)
        return -1;
    if (features == NULL || json_object_array_length(features) > FEATURES_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"features\" is missing or too long");
    if ((result = json_object_new_array()) == NULL)
        return cc_err_nomem(err);
    for (size_t i = 0; i < json_object_array_length(features); i++) {
        json_object *item = json_object_array_get_idx(features, i);

        if (!json_object_is_type(item, json_type_string)) {
            json_object_put(result);
            return cc_err_set(err, CC_DOM_INPUT, 0, "features[%zu] is not a text", i);
        }
        for (size_t k = 0; k < CC_COUNT(known); k++)
            if (strcmp(json_object_get_string(item), known[k]) == 0)
                (void)json_object_array_add(result, json_object_new_string(known[k]));
    }
    *ret = result;
    return 0;
}

/* Takes features over. */
static json_object *
write_heartbeat_answer(json_object *take_features, const struct lifecycle *l, int64_t now_ms,
        struct cc_err *err)
{
    json_object *body = json_object_new_object();
    char now[CC_TIME_LEN], until[CC_TIME_LEN];
    bool ends = l->successor[0] != '\0';

    cc_time_format(now_ms, now);
    cc_time_format(l->supported_until_ms, until);
    if (cc_json_add(body, "features", take_features, err) != 0 ||
            cc_json_add_str(body, "latestVersion", l->latest, err) != 0 ||
            cc_json_add_str(body, "status", lifecycle_status_name(l->status), err) != 0 ||
            cc_json_add_str(body, "statusReason", l->reason, err) != 0 ||
            cc_json_add_str(body, "serverDateTime", now, err) != 0 ||
            cc_json_add_str(body, "supportedUntilDateTime", ends ? until : NULL, err) != 0 ||
            (!ends && json_object_object_add(body, "supportedUntilDateTime", NULL) != 0)) {
        json_object_put(body);
        return NULL;
    }
    return body;
}

static bool
is_removed(struct call *call, const char *id)
{
    if (look_up(call->tenant->connectors, id, NULL) != REFUSE_REMOVED)
        return false;
    call_reply_error(call, 403, "ConnectorRemoved", "this connector was taken out");
    return true;
}

/* Whole, not negative; 0 where it is absent. */
static int
read_count(json_object *obj, const char *name, int64_t *ret, struct cc_err *err)
{
    json_object *value;

    *ret = 0;
    if (!json_object_object_get_ex(obj, name, &value) || value == NULL)
        return 0;
    if (json_object_is_type(value, json_type_double)) {
        double number = json_object_get_double(value);

        if (!(number >= 0 && number < (double)COUNT_MAX))
            return cc_err_set(err, CC_DOM_INPUT, 0, "metrics: \"%s\" is no count", name);
        *ret = (int64_t)number;
        return 0;
    }
    return cc_json_get_int(obj, name, 0, COUNT_MAX, 0, ret, err);
}

/* *ret_count of at most METRICS_MAX; names are of the JSON. */
static int
read_metrics(json_object *heartbeat, struct tenant_metric ret[METRICS_MAX], size_t *ret_count,
        struct cc_err *err)
{
    json_object *array;

    *ret_count = 0;
    if (cc_json_get_array(heartbeat, "metrics", &array, err) != 0)
        return -1;
    for (size_t i = 0; array != NULL && i < json_object_array_length(array); i++) {
        json_object *item = json_object_array_get_idx(array, i);
        struct tenant_metric *m = &ret[i];

        if (i == METRICS_MAX || !json_object_is_type(item, json_type_object))
            return cc_err_set(err, CC_DOM_INPUT, 0,
                    "member \"metrics\" has more than %d, or one that is no object", METRICS_MAX);
        if (cc_json_need_str(item, "name", TENANT_METRIC_NAME_MAX, &m->name, err) != 0 ||
                read_count(item, "value", &m->value, err) != 0 ||
                read_count(item, "successCount", &m->succeeded, err) != 0 ||
                read_count(item, "failureCount", &m->failed, err) != 0)
            return cc_err_in(err, "metrics[%zu]", i);
        ++*ret_count;
    }
    return 0;
}

struct beat {
    struct tenant_connector connector;
    json_object *features;
    struct tenant_metric metrics[METRICS_MAX];
    size_t metric_count;
};

static int
read_heartbeat(json_object *body, struct beat *beat, struct cc_err *err)
{
    struct tenant_connector *c = &beat->connector;
    json_object *heartbeat;

    if (cc_json_get_object(body, "heartbeat", &heartbeat, err) != 0)
        return -1;
    if (heartbeat == NULL)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"heartbeat\" is missing");
    if (connectors_id(heartbeat, &c->id, err) != 0 ||
            cc_json_need_str(heartbeat, "version", CONNECTOR_VERSION_MAX, &c->version, err) != 0 ||
            connectors_features(heartbeat, &beat->features, err) != 0 ||
            read_metrics(heartbeat, beat->metrics, &beat->metric_count, err) != 0)
        return -1;
    c->features = json_object_to_json_string_ext(beat->features, JSON_C_TO_STRING_PLAIN);
    c->heartbeat = json_object_to_json_string_ext(heartbeat,
            JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
    if (c->features == NULL || c->heartbeat == NULL)
        return cc_err_nomem(err);
    if (strlen(c->heartbeat) > HEARTBEAT_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "a heartbeat of more than %d bytes", HEARTBEAT_MAX);
    return 0;
}

/* Ends the call. */
static void
answer_heartbeat(struct call *call, const struct beat *beat)
{
    const struct tenant_connector *c = &beat->connector;
    struct lifecycle lifecycle;
    json_object *answer;
    struct cc_err err = { 0 };

    releases_judge(call->tenant->releases, c->version, &lifecycle);
    if (tenant_metric_add(call->tenant->store, c->id, beat->metrics, beat->metric_count, c->last_ms,
                &err) != 0 ||
            (answer = write_heartbeat_answer(json_object_get(beat->features), &lifecycle,
                     c->last_ms, &err)) == NULL)
        call_reply_failed(call, &err);
    else
        call_reply_json(call, 200, answer);
}

static void
heartbeat(struct call *call, json_object *body)
{
    int64_t now_ms = cc_clock_now_ms();
    struct beat beat = { .connector = { .id = "", .first_ms = now_ms, .last_ms = now_ms } };
    struct cc_err err = { 0 };

    if (read_heartbeat(body, &beat, &err) != 0)
        call_reply_failed(call, &err);
    else if (check_identity(call, beat.connector.id) && !is_removed(call, beat.connector.id) &&
             connectors_record(call, &beat.connector, NULL))
        answer_heartbeat(call, &beat);
    json_object_put(beat.features);
}

/* ---- remove ---- */

void
connectors_take_out(struct call *call, const char *id)
{
    struct connectors *connectors = call->tenant->connectors;
    struct tenant_connector c = { .id = id, .last_ms = cc_clock_now_ms(), .removed = true };
    struct cc_err err = { 0 };
    bool found;
    int rc;

    if (tenant_connector_remove(connectors->store, id, &found, &err) != 0) {
        call_reply_failed(call, &err);
        return;
    }
    if (!found) {
        call_reply_error(call, 404, "ResourceNotFound", "there is no such connector");
        return;
    }
    pthread_mutex_lock(&connectors->lock);
    rc = learn(connectors, &c, &err);
    pthread_mutex_unlock(&connectors->lock);
    if (rc != 0)
        call_reply_failed(call, &err);
    else
        call_reply_empty(call, 204);
}

static void
remove_instance(struct call *call, json_object *body)
{
    struct cc_err err = { 0 };
    const char *id = "";

    if (connectors_id(body, &id, &err) != 0)
        call_reply_failed(call, &err);
    else if (check_identity(call, id))
        connectors_take_out(call, id);
}

void
connectors_call(struct call *call)
{
    void (*fn)(struct call * call, json_object * body) = NULL;
    json_object *body;

    if (!discovery_check_account(call, TENANT_API_VERSION))
        return;
    if (strcmp(call->capture[1], "heartbeat") == 0)
        fn = heartbeat;
    else if (strcmp(call->capture[1], "enroll") == 0)
        fn = connectors_enroll;
    else if (strcmp(call->capture[1], "remove") == 0)
        fn = remove_instance;
    if (fn == NULL) {
        call_reply_error(call, 404, "ResourceNotFound", "connectors have no such action");
        return;
    }
    if ((body = call_json(call, json_type_object)) == NULL)
        return;
    fn(call, body);
    json_object_put(body);
}
