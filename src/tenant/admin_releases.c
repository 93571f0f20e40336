/* SPDX-License-Identifier: MIT */
#include "admin.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "releases.h"

#define ADVANCE_MAX_S ((int64_t)10 * 366 * 86400)

static int
read_release(json_object *body, const char **ret_version, int64_t *ret_ms, struct cc_err *err)
{
    const char *time;

    if (cc_json_need_str(body, "version", RELEASE_VERSION_MAX, ret_version, err) != 0 ||
            cc_json_need_str(body, "releaseDateTime", 64, &time, err) != 0)
        return -1;
    if (!release_is_version(*ret_version))
        return cc_err_set(err, CC_DOM_INPUT, 0,
                "member \"version\" is no version, such as 1.2.0 or 1.2.0-rc1");
    if (cc_time_parse(time, ret_ms, err) != 0)
        return cc_err_in(err, "member \"releaseDateTime\"");
    return 0;
}

static json_object *
write_release(const char *version, int64_t release_ms, struct cc_err *err)
{
    json_object *obj = json_object_new_object();

    if (cc_json_add_str(obj, "version", version, err) == 0 &&
            admin_add_time(obj, "releaseDateTime", release_ms, err) == 0)
        return obj;
    json_object_put(obj);
    return NULL;
}

void
admin_put_release(struct call *call)
{
    json_object *body = call_json(call, json_type_object);
    json_object *answer = NULL;
    struct cc_err err = { 0 };
    const char *version;
    int64_t release_ms;

    if (body == NULL)
        return;
    if (read_release(body, &version, &release_ms, &err) != 0 ||
            releases_put(call->tenant->releases, version, release_ms, &err) != 0 ||
            (answer = write_release(version, release_ms, &err)) == NULL)
        call_reply_failed(call, &err);
    else
        call_reply_json(call, 201, answer);
    json_object_put(body);
}

void
admin_remove_release(struct call *call)
{
    struct cc_err err = { 0 };
    bool found;

    if (releases_remove(call->tenant->releases, call->capture[0], &found, &err) != 0)
        call_reply_failed(call, &err);
    else if (!found)
        call_reply_error(call, 404, "ResourceNotFound", "there is no such release");
    else
        call_reply_empty(call, 204);
}

void
admin_list_releases(struct call *call)
{
    json_object *body = json_object_new_object();
    json_object *value = json_object_new_array();
    struct release *list = NULL;
    size_t count = 0;
    struct cc_err err = { 0 };
    int rc = value != NULL ? 0 : cc_err_nomem(&err);

    if (rc == 0)
        rc = releases_list(call->tenant->releases, &list, &count, &err);
    for (size_t i = 0; i < count && rc == 0; i++) {
        json_object *item = write_release(list[i].version, list[i].release_ms, &err);

        if (item == NULL || json_object_array_add(value, item) != 0)
            rc = cc_err_nomem(&err);
    }
    if (rc == 0)
        rc = cc_json_add(body, "value", json_object_get(value), &err);
    if (rc == 0)
        call_reply_json(call, 200, json_object_get(body));
    else
        call_reply_failed(call, &err);
    free(list);
    json_object_put(value);
    json_object_put(body);
}

/* ---- the lifecycle's clock ---- */

void
admin_get_lifecycle_clock(struct call *call)
{
    json_object *body = json_object_new_object();
    int64_t now_ms = releases_now_ms(call->tenant->releases);
    struct cc_err err = { 0 };

    if (admin_add_time(body, "dateTime", now_ms, &err) != 0 ||
            cc_json_add_int(body, "aheadSeconds", (now_ms - cc_clock_now_ms()) / 1000, &err) != 0) {
        json_object_put(body);
        call_reply_failed(call, &err);
        return;
    }
    call_reply_json(call, 200, body);
}

static int
set_clock(struct releases *releases, json_object *body, struct cc_err *err)
{
    int64_t now_ms = cc_clock_now_ms();
    int64_t advance_s, time_ms = 0;
    const char *time;
    bool reset;

    if (cc_json_get_int(body, "advanceSeconds", 1, ADVANCE_MAX_S, 0, &advance_s, err) != 0 ||
            cc_json_get_str(body, "dateTime", 64, &time, err) != 0 ||
            cc_json_get_bool(body, "reset", false, &reset, err) != 0 ||
            (time != NULL && cc_time_parse(time, &time_ms, err) != 0))
        return -1;
    if ((advance_s != 0) + (time != NULL) + reset != 1)
        return cc_err_set(err, CC_DOM_INPUT, 0, "it is one of dateTime, advanceSeconds and reset");
    if (advance_s != 0)
        time_ms = releases_now_ms(releases) + advance_s * 1000;
    return releases_set_clock(releases, reset ? 0 : time_ms - now_ms, err);
}

void
admin_set_lifecycle_clock(struct call *call)
{
    json_object *body = call_json(call, json_type_object);
    struct cc_err err = { 0 };

    if (body == NULL)
        return;
    if (set_clock(call->tenant->releases, body, &err) != 0)
        call_reply_failed(call, &err);
    else
        admin_get_lifecycle_clock(call);
    json_object_put(body);
}
