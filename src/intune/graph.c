/* SPDX-License-Identifier: MIT */
#include "intune/graph.h"

#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "intune_int.h"

#define COLLECTION "beta/deviceManagement/userPfxCertificates"
#define URL_MAX ((size_t)INTUNE_URL_MAX * 3)
#define PAGE_MAX ((size_t)16 << 20)
#define BODY_MAX ((size_t)1 << 20)
#define PAGES_MAX 100000
#define TEXT_MAX 4096

/* Shown in what goes wrong; never sent. */
static const char what_put[] = "userPfxCertificates: import";
static const char what_list[] = "userPfxCertificates: list";
static const char what_delete[] = "userPfxCertificates: remove";

/* ---- URLs ---- */

static int
add_collection(struct intune *intune, struct cc_buf *url, struct cc_err *err)
{
    struct intune_link *link = intune_link_get(intune);
    int rc = cc_buf_add_str(url, link->graph, err);

    intune_link_put(link);
    return rc == 0 ? cc_buf_add_str(url, COLLECTION, err) : -1;
}

/* The text of an OData literal, escaped for a URL: quotes inside are doubled (OData 4.01 URL Conventions, 5.1.1.6.1). */
static int
add_literal(struct cc_buf *url, const char *text, struct cc_err *err)
{
    char one[2] = { '\0', '\0' };
    const char *c;

    if (cc_buf_add_str(url, "%27", err) != 0)
        return -1;
    for (c = text; *c != '\0'; c++) {
        one[0] = *c;
        if (http_url_escape(*c == '\'' ? "''" : one, url, err) != 0)
            return -1;
    }
    return cc_buf_add_str(url, "%27", err);
}

/* …('id'); parentheses and quotes as Graph's own samples write them. */
static int
item_url(struct intune *intune, const char *id, struct cc_buf *url, struct cc_err *err)
{
    const char *c;
    char one[2] = { '\0', '\0' };

    if (strpbrk(id, "/\\%?#'") != NULL || id[0] == '\0')
        return cc_err_set(err, CC_DOM_INPUT, 0, "not an id of an imported PFX");
    if (add_collection(intune, url, err) != 0 || cc_buf_add_str(url, "('", err) != 0)
        return -1;
    for (c = id; *c != '\0'; c++) {
        one[0] = *c;
        if (http_url_escape(one, url, err) != 0)
            return -1;
    }
    return cc_buf_add_str(url, "')", err);
}

static int
add_condition(struct cc_buf *url, const char *property, const char *value, bool *first,
        struct cc_err *err)
{
    char lower[TEXT_MAX];

    if (value == NULL)
        return 0;
    if (!cc_strcpy(lower, sizeof(lower), value))
        return cc_err_set(err, CC_DOM_INPUT, 0, "too long a text to look for");
    cc_lower(lower);
    if (cc_buf_printf(url, err, "%stolower%%28%s%%29%%20eq%%20", *first ? "?$filter=" : "%20and%20",
                property) != 0)
        return -1;
    *first = false;
    return add_literal(url, lower, err);
}

static int
list_url(struct intune *intune, const char *user, const char *thumbprint, struct cc_buf *url,
        struct cc_err *err)
{
    bool first = true;

    if (add_collection(intune, url, err) != 0 ||
            add_condition(url, "userPrincipalName", user, &first, err) != 0)
        return -1;
    return add_condition(url, "thumbprint", thumbprint, &first, err);
}

/* Scheme, host and port of a URL: up to the third slash. */
static size_t
origin_len(const char *url)
{
    const char *host = strstr(url, "://");

    return host == NULL ? 0 : (size_t)(host - url) + 3 + strcspn(host + 3, "/?#");
}

/* ---- enums: sent in camelCase, compared without case ---- */

static const char *const purposes[] = { "unassigned", "smimeEncryption", "smimeSigning", "vpn",
    "wifi" };
static const char *const paddings[] = { "none", "pkcs1", "oaepSha1", "oaepSha256", "oaepSha384",
    "oaepSha512" };

/* As the wire spells it; what we do not know goes as it is. */
static const char *
wire_name(const char *text, const char *const *names, size_t count)
{
    size_t i;

    for (i = 0; i < count; i++)
        if (cc_equal_nocase(text, names[i]))
            return names[i];
    return text;
}

/* ---- create and change ---- */

static int
add_time(json_object *json, const char *name, int64_t ms, struct cc_err *err)
{
    char text[CC_TIME_LEN];

    cc_time_format(ms, text);
    return cc_json_add_str(json, name, text, err);
}

static json_object *
put_body(const struct intune_user_pfx *pfx, struct cc_bytes blob, struct cc_bytes password,
        bool update, struct cc_err *err)
{
    json_object *json = json_object_new_object();
    int64_t now = cc_clock_now_ms();
    char thumbprint[sizeof(pfx->thumbprint)];

    cc_strcpy(thumbprint, sizeof(thumbprint), pfx->thumbprint);
    cc_lower(thumbprint);
    if (cc_json_add_str(json, "thumbprint", thumbprint, err) != 0 ||
            cc_json_add_str(json, "intendedPurpose",
                    wire_name(pfx->intended_purpose, purposes, CC_COUNT(purposes)), err) != 0 ||
            cc_json_add_str(json, "userPrincipalName", pfx->user, err) != 0 ||
            add_time(json, "startDateTime", pfx->not_before_ms, err) != 0 ||
            add_time(json, "expirationDateTime", pfx->not_after_ms, err) != 0 ||
            cc_json_add_str(json, "providerName", pfx->provider_name, err) != 0 ||
            cc_json_add_str(json, "keyName", pfx->key_name, err) != 0 ||
            cc_json_add_str(json, "paddingScheme",
                    wire_name(pfx->padding_scheme, paddings, CC_COUNT(paddings)), err) != 0 ||
            cc_json_add_base64(json, "encryptedPfxBlob", blob.data, blob.len, err) != 0 ||
            cc_json_add_base64(json, "encryptedPfxPassword", password.data, password.len, err) !=
                    0 ||
            (!update && add_time(json, "createdDateTime", now, err) != 0) ||
            add_time(json, "lastModifiedDateTime", now, err) != 0) {
        json_object_put(json);
        return NULL;
    }
    return json;
}

static int
take_id(void *arg, const struct intune_user_pfx *pfx)
{
    struct intune_user_pfx *found = arg;

    *found = *pfx;
    return 1;
}

/* The id of what is to be changed: given, or looked up. */
static int
update_url(struct intune *intune, const struct intune_user_pfx *pfx, struct cc_buf *url,
        struct cc_err *err)
{
    struct intune_user_pfx found = { .id = "" };

    if (pfx->id[0] != '\0')
        return item_url(intune, pfx->id, url, err);
    if (intune_user_pfx_list(intune, pfx->user, pfx->thumbprint, take_id, &found, err) != 0)
        return -1;
    if (found.id[0] == '\0')
        return cc_err_set(err, CC_DOM_HTTP, 404, "%s: there is none yet to be changed", what_put);
    return item_url(intune, found.id, url, err);
}

int
intune_user_pfx_put(struct intune *intune, const struct intune_user_pfx *pfx, struct cc_bytes blob,
        struct cc_bytes encrypted_password, bool update, struct cc_err *err)
{
    struct intune_call call = { .what = what_put,
        .method = update ? "PATCH" : "POST",
        .may_be_empty = true };
    struct cc_buf url = CC_BUF_INIT(URL_MAX);
    struct intune_answer answer = { 0 };
    int rc = -1;

    if (update ? update_url(intune, pfx, &url, err) != 0 : add_collection(intune, &url, err) != 0)
        goto out;
    if ((call.body = put_body(pfx, blob, encrypted_password, update, err)) == NULL)
        goto out;
    call.url = cc_buf_str(&url);
    call.max_response = BODY_MAX;
    rc = intune_call(intune, &call, &answer, err);
out:
    json_object_put(answer.json);
    json_object_put(call.body);
    cc_buf_free(&url);
    return rc;
}

/* ---- list ---- */

static int
copy_text(json_object *item, const char *name, char *ret, size_t size, struct cc_err *err)
{
    const char *text = NULL;

    if (cc_json_get_str(item, name, size - 1, &text, err) != 0)
        return -1;
    cc_strcpy(ret, size, text == NULL ? "" : text);
    return 0;
}

static int
copy_time(json_object *item, const char *name, int64_t *ret, struct cc_err *err)
{
    const char *text = NULL;

    if (cc_json_get_str(item, name, 64, &text, err) != 0)
        return -1;
    if (text != NULL && cc_time_parse(text, ret, err) != 0)
        return cc_err_in(err, "member \"%s\"", name);
    return 0;
}

static int
copy_enum(json_object *item, const char *name, const char *const *names, size_t count, char *ret,
        size_t size, struct cc_err *err)
{
    if (copy_text(item, name, ret, size, err) != 0)
        return -1;
    /* The names are never longer than what compared equal. */
    memmove(ret, wire_name(ret, names, count), strlen(ret));
    return 0;
}

static int
read_item(json_object *item, struct intune_user_pfx *ret, struct cc_err *err)
{
    *ret = (struct intune_user_pfx){ .id = "" };
    if (copy_text(item, "id", ret->id, sizeof(ret->id), err) != 0 ||
            copy_text(item, "thumbprint", ret->thumbprint, sizeof(ret->thumbprint), err) != 0 ||
            copy_text(item, "userPrincipalName", ret->user, sizeof(ret->user), err) != 0 ||
            copy_enum(item, "intendedPurpose", purposes, CC_COUNT(purposes), ret->intended_purpose,
                    sizeof(ret->intended_purpose), err) != 0 ||
            copy_text(item, "providerName", ret->provider_name, sizeof(ret->provider_name), err) !=
                    0 ||
            copy_text(item, "keyName", ret->key_name, sizeof(ret->key_name), err) != 0 ||
            copy_enum(item, "paddingScheme", paddings, CC_COUNT(paddings), ret->padding_scheme,
                    sizeof(ret->padding_scheme), err) != 0 ||
            copy_time(item, "startDateTime", &ret->not_before_ms, err) != 0 ||
            copy_time(item, "expirationDateTime", &ret->not_after_ms, err) != 0 ||
            copy_time(item, "createdDateTime", &ret->created_ms, err) != 0)
        return -1;
    return copy_time(item, "lastModifiedDateTime", &ret->modified_ms, err);
}

/* 1: the reader wants no more. */
static int
read_page(json_object *page, intune_user_pfx_fn fn, void *arg, struct cc_err *err)
{
    struct intune_user_pfx pfx;
    json_object *list = NULL;
    size_t i;

    if (cc_json_get_array(page, "value", &list, err) != 0)
        return -1;
    if (list == NULL)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"value\" is missing");
    for (i = 0; i < json_object_array_length(list); i++) {
        if (read_item(json_object_array_get_idx(list, i), &pfx, err) != 0)
            return -1;
        if (fn(arg, &pfx) != 0)
            return 1;
    }
    return 0;
}

/* Where the next page is, in place of this one's address; a page elsewhere would get our token. */
static int
next_page(json_object *page, struct cc_buf *url, bool *ret_more, struct cc_err *err)
{
    struct cc_buf next_url = CC_BUF_INIT(URL_MAX);
    const char *next = NULL;
    size_t len = origin_len(cc_buf_str(url));

    if (cc_json_get_str(page, "@odata.nextLink", URL_MAX, &next, err) != 0)
        return -1;
    *ret_more = next != NULL;
    if (next == NULL)
        return 0;
    if (origin_len(next) != len || strncmp(next, cc_buf_str(url), len) != 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "the next page is at another place");
    if (cc_buf_add_str(&next_url, next, err) != 0) {
        cc_buf_free(&next_url);
        return -1;
    }
    cc_buf_free(url);
    *url = next_url;
    return 0;
}

int
intune_user_pfx_list(struct intune *intune, const char *user, const char *thumbprint,
        intune_user_pfx_fn fn, void *arg, struct cc_err *err)
{
    struct cc_buf url = CC_BUF_INIT(URL_MAX);
    bool more = true;
    unsigned pages = 0;
    int rc = list_url(intune, user, thumbprint, &url, err);

    while (rc == 0 && more) {
        const struct intune_call call = { .what = what_list,
            .url = cc_buf_str(&url),
            .method = "GET",
            .max_response = PAGE_MAX };
        struct intune_answer answer = { 0 };

        if (++pages > PAGES_MAX)
            rc = cc_err_set(err, CC_DOM_INPUT, 0, "more than %d pages", PAGES_MAX);
        if (rc == 0)
            rc = intune_call(intune, &call, &answer, err);
        if (rc == 0 && (rc = read_page(answer.json, fn, arg, err)) == 0)
            rc = next_page(answer.json, &url, &more, err);
        json_object_put(answer.json);
    }
    cc_buf_free(&url);
    return rc < 0 ? cc_err_in(err, "%s", what_list) : 0;
}

/* ---- remove ---- */

int
intune_user_pfx_delete(struct intune *intune, const char *id, struct cc_err *err)
{
    struct intune_call call = { .what = what_delete, .method = "DELETE", .may_be_empty = true };
    struct cc_buf url = CC_BUF_INIT(URL_MAX);
    struct intune_answer answer = { 0 };
    int rc = item_url(intune, id, &url, err);

    if (rc == 0) {
        call.url = cc_buf_str(&url);
        rc = intune_call(intune, &call, &answer, err);
    }
    json_object_put(answer.json);
    cc_buf_free(&url);
    return rc;
}
