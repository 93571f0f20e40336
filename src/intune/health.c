/* SPDX-License-Identifier: MIT */
#include "intune/queue.h"

#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "intune_int.h"

#define TEXT_MAX                                                                                   \
    ((size_t)4096) /* bytes of a text in the answer, before it is cut to what is kept */

static const char *const standings[] = {
    [INTUNE_STANDING_UNKNOWN] = "Unknown",
    [INTUNE_STANDING_ACTIVE] = "Active",
    [INTUNE_STANDING_WARNING] = "Warning",
    [INTUNE_STANDING_ERROR] = "Error",
};

const char *
intune_standing_name(enum intune_standing standing)
{
    return standings[standing];
}

bool
intune_lifecycle_allows(const struct intune_lifecycle *lifecycle, const char *feature)
{
    for (size_t i = 0; i < lifecycle->feature_count; i++)
        if (strcmp(lifecycle->features[i], feature) == 0)
            return true;
    return !lifecycle->says_features;
}

/* ---- reading the answer ---- */

static enum intune_standing
standing_of(const char *name)
{
    for (size_t i = 0; name != NULL && i < CC_COUNT(standings); i++)
        if (strcmp(standings[i], name) == 0)
            return (enum intune_standing)i;
    return INTUNE_STANDING_UNKNOWN;
}

/* A text that had to be cut is not cut within a character. */
static void
keep_text(char *dst, size_t size, const char *src)
{
    size_t len;

    (void)cc_strcpy(dst, size, src != NULL ? src : "");
    for (len = strlen(dst); !cc_is_utf8(dst, len); len--)
        dst[len - 1] = '\0';
}

/* One that is too long for us is none of ours, nor is one behind so many. */
static int
read_features(json_object *json, struct intune_lifecycle *ret, struct cc_err *err)
{
    json_object *list;

    if (cc_json_get_array(json, "features", &list, err) != 0)
        return -1;
    ret->says_features = list != NULL;
    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        json_object *item = json_object_array_get_idx(list, i);

        if (!json_object_is_type(item, json_type_string))
            return cc_err_set(err, CC_DOM_INPUT, 0, "features[%zu] is not a text", i);
        if (ret->feature_count < INTUNE_FEATURES_MAX &&
                cc_strcpy(ret->features[ret->feature_count], INTUNE_FEATURE_LEN,
                        json_object_get_string(item)))
            ret->feature_count++;
    }
    return 0;
}

static int
lifecycle_read(json_object *json, struct intune_lifecycle *ret, struct cc_err *err)
{
    const char *status, *reason, *latest, *until;
    struct intune_lifecycle found = { .standing = INTUNE_STANDING_UNKNOWN };

    if (cc_json_get_str(json, "status", TEXT_MAX, &status, err) != 0 ||
            cc_json_get_str(json, "statusReason", TEXT_MAX, &reason, err) != 0 ||
            cc_json_get_str(json, "latestVersion", TEXT_MAX, &latest, err) != 0 ||
            cc_json_get_str(json, "supportedUntilDateTime", TEXT_MAX, &until, err) != 0 ||
            read_features(json, &found, err) != 0)
        return -1;
    if (until != NULL && cc_time_parse(until, &found.supported_until_ms, err) != 0)
        return cc_err_in(err, "supportedUntilDateTime");
    found.standing = standing_of(status);
    keep_text(found.reason, sizeof(found.reason), reason);
    keep_text(found.latest_version, sizeof(found.latest_version), latest);
    *ret = found;
    return 0;
}

int
intune_lifecycle_read(const void *text, size_t len, struct intune_lifecycle *ret,
        struct cc_err *err)
{
    json_object *json = cc_json_parse(text, len, err);
    int rc = json == NULL ? -1 : lifecycle_read(json, ret, err);

    json_object_put(json);
    return rc;
}

/* ---- sending ---- */

int
intune_heartbeat(struct intune *intune, json_object *take_heartbeat, struct intune_lifecycle *ret,
        struct cc_err *err)
{
    struct intune_call call = { .what = "Connectors/heartbeat", .method = "POST" };
    json_object *body = json_object_new_object();
    struct intune_answer answer = { 0 };
    int rc = cc_json_add(body, "heartbeat", take_heartbeat, err);
    const char *name = intune_call_name(intune, &call, NULL);

    /* A member of this name is replaced; there is none where nobody has a name, as in tests. */
    if (rc == 0 && name != NULL)
        rc = cc_json_add_str(take_heartbeat, "connectorId", name, err);
    if (rc == 0) {
        call.body = body;
        rc = intune_call(intune, &call, &answer, err);
    }
    intune_link_put(call.link);
    json_object_put(body);
    if (rc == 0)
        atomic_store(&intune->was_heard, true);
    if (rc == 0 && ret != NULL && (rc = lifecycle_read(answer.json, ret, err)) != 0)
        cc_err_in(err, "answer to a health message");
    json_object_put(answer.json);
    return rc;
}

bool
intune_was_heard(struct intune *intune)
{
    return atomic_load(&intune->was_heard);
}
