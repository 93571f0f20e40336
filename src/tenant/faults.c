/* SPDX-License-Identifier: MIT */
#include "tenant_int.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "identity.h"

#define RULES_MAX 32
#define PATH_MAX_LEN 255
#define BODY_MAX 65536
#define CODE_MAX 256
#define LATENCY_MAX_MS 600000
#define TOKEN_LIFETIME_S 3599 /* as Entra ID says */
#define VALUE_FALSE "{\"value\":false}"

/* A rule applies to calls whose path contains its own. */
struct rule {
    char path[PATH_MAX_LEN + 1];
    int64_t status, latency_ms;
    double rate; /* share of the calls that it applies to, latency and count aside */
    double drop_rate;
    char drop_when[8]; /* "before", "after", or "": by the drop's own throw */
    int64_t retry_after_s, ms_retry_after;
    int64_t count; /* calls that it still applies to; -1: all */
    int64_t hits;
    char *body;
    char content_type[64]; /* of body; "": JSON */
};

struct faults {
    pthread_mutex_t lock; /* guards what follows */
    struct rule rules[RULES_MAX];
    size_t rule_count;
    uint64_t seed;
    int64_t token_lifetime_s, identity_lifetime_s;
};

int
faults_open(struct faults **ret_faults, struct cc_err *err)
{
    struct faults *faults = calloc(1, sizeof(*faults));

    if (faults == NULL)
        return cc_err_nomem(err);
    pthread_mutex_init(&faults->lock, NULL);
    faults->seed = 1;
    faults->token_lifetime_s = TOKEN_LIFETIME_S;
    faults->identity_lifetime_s = IDENTITY_LIFETIME_S;
    *ret_faults = faults;
    return 0;
}

/* With the lock. */
static void
clear(struct faults *faults)
{
    for (size_t i = 0; i < faults->rule_count; i++)
        free(faults->rules[i].body);
    faults->rule_count = 0;
    faults->seed = 1;
    faults->token_lifetime_s = TOKEN_LIFETIME_S;
    faults->identity_lifetime_s = IDENTITY_LIFETIME_S;
}

void
faults_close(struct faults *faults)
{
    if (faults == NULL)
        return;
    clear(faults);
    pthread_mutex_destroy(&faults->lock);
    free(faults);
}

int64_t
faults_token_lifetime_s(struct faults *faults)
{
    int64_t lifetime_s;

    pthread_mutex_lock(&faults->lock);
    lifetime_s = faults->token_lifetime_s;
    pthread_mutex_unlock(&faults->lock);
    return lifetime_s;
}

int64_t
faults_identity_lifetime_s(struct faults *faults)
{
    int64_t lifetime_s;

    pthread_mutex_lock(&faults->lock);
    lifetime_s = faults->identity_lifetime_s;
    pthread_mutex_unlock(&faults->lock);
    return lifetime_s;
}

/* ---- what happens to a call ---- */

/* SplitMix64: the same seed and number give the same throw, whatever happened in between. */
static uint64_t
throw_dice(uint64_t seed, uint64_t number)
{
    uint64_t z = seed + number * 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static bool
is_below(uint64_t dice, double rate)
{
    return (double)(dice >> 11) * 0x1.0p-53 < rate;
}

static enum fault_drop
throw_drop(const struct rule *rule, uint64_t seed)
{
    uint64_t dice = throw_dice(seed, (uint64_t)rule->hits);

    if (!is_below(dice, rule->drop_rate))
        return FAULT_NO_DROP;
    if (rule->drop_when[0] != '\0')
        return strcmp(rule->drop_when, "before") == 0 ? FAULT_DROP_BEFORE : FAULT_DROP_AFTER;
    return (dice & 1) != 0 ? FAULT_DROP_BEFORE : FAULT_DROP_AFTER;
}

struct fault
faults_decide(struct faults *faults, const char *path)
{
    struct fault fault = { .retry_after_s = -1, .ms_retry_after = -1 };

    pthread_mutex_lock(&faults->lock);
    for (size_t i = 0; i < faults->rule_count; i++) {
        struct rule *rule = &faults->rules[i];

        if (rule->count == 0 || strstr(path, rule->path) == NULL)
            continue;
        rule->hits++;
        if (rule->count > 0)
            rule->count--;
        if (!is_below(throw_dice(~faults->seed, (uint64_t)rule->hits), rule->rate))
            break;
        fault.drop = throw_drop(rule, faults->seed);
        fault.latency_ms = rule->latency_ms;
        fault.status = (unsigned)rule->status;
        fault.retry_after_s = rule->retry_after_s;
        fault.ms_retry_after = rule->ms_retry_after;
        fault.body = rule->body != NULL ? strdup(rule->body) : NULL;
        (void)cc_strcpy(fault.content_type, sizeof(fault.content_type), rule->content_type);
        break;
    }
    pthread_mutex_unlock(&faults->lock);
    return fault;
}

/* ---- switches ---- */

/* A share, from 0 to 1; unchanged where it is absent. */
static int
read_share(json_object *obj, const char *name, double *ret, struct cc_err *err)
{
    json_object *share;
    bool number;

    if (!json_object_object_get_ex(obj, name, &share))
        return 0;
    number = json_object_is_type(share, json_type_double) ||
             json_object_is_type(share, json_type_int);
    *ret = json_object_get_double(share);
    if (!number || !(*ret >= 0 && *ret <= 1))
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"%s\" is from 0 to 1", name);
    return 0;
}

static int
read_drop(json_object *obj, struct rule *rule, struct cc_err *err)
{
    const char *when;

    if (cc_json_get_str(obj, "dropWhen", 7, &when, err) != 0)
        return -1;
    if (when != NULL && strcmp(when, "before") != 0 && strcmp(when, "after") != 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"dropWhen\" is before or after");
    (void)cc_strcpy(rule->drop_when, sizeof(rule->drop_when), when != NULL ? when : "");
    return read_share(obj, "dropRate", &rule->drop_rate, err);
}

/* What a SCEP action answers when it comes to this code. */
static int
write_code(const char *code, struct cc_buf *ret, struct cc_err *err)
{
    json_object *body = json_object_new_object();
    int rc = -1;

    if (cc_json_add_str(body, "code", code, err) == 0 &&
            cc_json_add_str(body, "errorDescription", "a code that was asked for", err) == 0)
        rc = cc_json_write(body, ret, err);
    json_object_put(body);
    return rc;
}

/*
 * Short for a status and a body: valueFalse is the answer of a service that took nothing, code that of a SCEP action.
 * The body goes to ret_body.
 */
static int
read_answer(json_object *obj, struct rule *rule, struct cc_buf *ret_body, bool *ret_has_body,
        struct cc_err *err)
{
    const char *body, *code;
    bool value_false, is_short;
    int rc = 0;

    if (cc_json_get_int(obj, "status", 200, 599, 0, &rule->status, err) != 0 ||
            cc_json_get_str(obj, "body", BODY_MAX, &body, err) != 0 ||
            cc_json_get_str(obj, "code", CODE_MAX, &code, err) != 0 ||
            cc_json_get_bool(obj, "valueFalse", false, &value_false, err) != 0)
        return -1;
    is_short = value_false || code != NULL;
    if (is_short && (rule->status != 0 || body != NULL || (value_false && code != NULL)))
        return cc_err_set(err, CC_DOM_INPUT, 0,
                "members \"valueFalse\" and \"code\" go with neither status nor body");
    if (is_short)
        rule->status = 200;
    if (code != NULL)
        rc = write_code(code, ret_body, err);
    else if (value_false || body != NULL)
        rc = cc_buf_add_str(ret_body, value_false ? VALUE_FALSE : body, err);
    *ret_has_body = is_short || body != NULL;
    return rc;
}

/* The body is a copy of its own: the caller frees it unless it takes the rule. */
static int
read_rule(json_object *obj, struct rule *rule, struct cc_err *err)
{
    struct cc_buf body = CC_BUF_INIT(BODY_MAX + 1);
    const char *path, *content_type;
    bool has_body = false;
    int rc = -1;

    *rule = (struct rule){ .count = -1, .rate = 1 };
    if (cc_json_get_str(obj, "path", PATH_MAX_LEN, &path, err) != 0 ||
            cc_json_get_int(obj, "latencyMs", 0, LATENCY_MAX_MS, 0, &rule->latency_ms, err) != 0 ||
            cc_json_get_int(obj, "retryAfter", 0, 86400, -1, &rule->retry_after_s, err) != 0 ||
            cc_json_get_int(obj, "msRetryAfter", 0, 86400000, -1, &rule->ms_retry_after, err) !=
                    0 ||
            cc_json_get_int(obj, "count", 1, INT64_MAX, -1, &rule->count, err) != 0 ||
            cc_json_get_str(obj, "contentType", sizeof(rule->content_type) - 1, &content_type,
                    err) != 0 ||
            read_share(obj, "rate", &rule->rate, err) != 0 || read_drop(obj, rule, err) != 0 ||
            read_answer(obj, rule, &body, &has_body, err) != 0)
        goto out;
    (void)cc_strcpy(rule->path, sizeof(rule->path), path != NULL ? path : "");
    (void)cc_strcpy(rule->content_type, sizeof(rule->content_type),
            content_type != NULL ? content_type : "");
    if (has_body && (rule->body = cc_strdup(cc_buf_str(&body), err)) == NULL)
        goto out;
    rc = 0;
out:
    cc_buf_free(&body);
    return rc;
}

/* With the lock.  One of the same path is replaced. */
static int
take_rule(struct faults *faults, struct rule *rule, struct cc_err *err)
{
    for (size_t i = 0; i < faults->rule_count; i++) {
        if (strcmp(faults->rules[i].path, rule->path) == 0) {
            free(faults->rules[i].body);
            faults->rules[i] = *rule;
            return 0;
        }
    }
    if (faults->rule_count == RULES_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "there are %d faults already", RULES_MAX);
    faults->rules[faults->rule_count++] = *rule;
    return 0;
}

/* Members that are no rule's: seed, tokenLifetimeSeconds, identityLifetimeSeconds.  A body with nothing else makes no rule. */
static int
put_one(struct faults *faults, json_object *obj, struct cc_err *err)
{
    int64_t seed, lifetime_s, identity_s;
    struct rule rule;
    int rc = 0;

    if (cc_json_get_int(obj, "seed", 0, INT64_MAX, -1, &seed, err) != 0 ||
            cc_json_get_int(obj, "tokenLifetimeSeconds", 1, 86400, -1, &lifetime_s, err) != 0 ||
            cc_json_get_int(obj, "identityLifetimeSeconds", 1, IDENTITY_LIFETIME_S, -1, &identity_s,
                    err) != 0 ||
            read_rule(obj, &rule, err) != 0)
        return -1;

    pthread_mutex_lock(&faults->lock);
    if (seed >= 0)
        faults->seed = (uint64_t)seed;
    if (lifetime_s > 0)
        faults->token_lifetime_s = lifetime_s;
    if (identity_s > 0)
        faults->identity_lifetime_s = identity_s;
    if (json_object_object_get_ex(obj, "path", NULL))
        rc = take_rule(faults, &rule, err);
    else if (rule.status != 0 || rule.latency_ms != 0 || rule.drop_rate > 0)
        rc = cc_err_set(err, CC_DOM_INPUT, 0, "member \"path\" is missing; \"\" is every path");
    else
        free(rule.body);
    pthread_mutex_unlock(&faults->lock);
    if (rc != 0)
        free(rule.body);
    return rc;
}

void
admin_put_faults(struct call *call)
{
    json_object *body = call_json(call, json_type_null);
    struct cc_err err = { 0 };
    int rc = 0;

    if (body == NULL)
        return;
    if (json_object_is_type(body, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(body) && rc == 0; i++)
            rc = put_one(call->tenant->faults, json_object_array_get_idx(body, i), &err);
    } else {
        rc = put_one(call->tenant->faults, body, &err);
    }
    if (rc != 0)
        call_reply_failed(call, &err);
    else
        call_reply_empty(call, 204);
    json_object_put(body);
}

void
admin_delete_faults(struct call *call)
{
    struct faults *faults = call->tenant->faults;

    pthread_mutex_lock(&faults->lock);
    clear(faults);
    pthread_mutex_unlock(&faults->lock);
    call_reply_empty(call, 204);
}

static json_object *
write_rule(const struct rule *rule, struct cc_err *err)
{
    json_object *obj = json_object_new_object();

    if (cc_json_add_str(obj, "path", rule->path, err) != 0 ||
            cc_json_add_int(obj, "status", rule->status, err) != 0 ||
            cc_json_add_int(obj, "latencyMs", rule->latency_ms, err) != 0 ||
            cc_json_add_int(obj, "hits", rule->hits, err) != 0 ||
            cc_json_add(obj, "rate", json_object_new_double(rule->rate), err) != 0 ||
            cc_json_add(obj, "dropRate", json_object_new_double(rule->drop_rate), err) != 0 ||
            cc_json_add_int(obj, "countLeft", rule->count, err) != 0) {
        json_object_put(obj);
        return NULL;
    }
    return obj;
}

void
admin_get_faults(struct call *call)
{
    struct faults *faults = call->tenant->faults;
    json_object *value = json_object_new_array();
    json_object *body = json_object_new_object();
    struct cc_err err = { 0 };
    int rc = value == NULL ? cc_err_nomem(&err) : 0;

    pthread_mutex_lock(&faults->lock);
    for (size_t i = 0; i < faults->rule_count && rc == 0; i++) {
        json_object *obj = write_rule(&faults->rules[i], &err);

        if (obj == NULL || json_object_array_add(value, obj) != 0) {
            json_object_put(obj);
            rc = cc_err_nomem(&err);
        }
    }
    pthread_mutex_unlock(&faults->lock);
    if (rc == 0)
        rc = cc_json_add(body, "value", json_object_get(value), &err);
    if (rc != 0)
        call_reply_failed(call, &err);
    else
        call_reply_json(call, 200, json_object_get(body));
    json_object_put(body);
    json_object_put(value);
}
