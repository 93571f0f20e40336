/* SPDX-License-Identifier: MIT */
#include "tenant_int.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "odata_filter.h"
#include "pki/pfx.h"

#define PAGE_SIZE 100
#define NAME_MAX_LEN 256
#define PASSWORD_MAX 4096 /* bytes of an encrypted password */
#define THUMBPRINT_LEN 40 /* SHA-1 in hexadecimal */

/* A blob as reads show it; one that comes back from there changes nothing. */
#define BLANK_BLOB "AA=="

#define PFX_TYPE "#microsoft.graph.userPFXCertificate"

/* What a client sent; the texts are the JSON's. */
struct upload {
    struct tenant_pfx pfx;
    struct cc_buf blob, password;
    char thumbprint[THUMBPRINT_LEN + 1];
    char id[TENANT_PFX_ID_MAX];
    char user_id[TENANT_UUID_LEN];
};

static void
upload_init(struct upload *u)
{
    memset(u, 0, sizeof(*u));
    cc_buf_init(&u->blob, (size_t)PKI_PFX_MAX);
    cc_buf_init(&u->password, PASSWORD_MAX);
}

static void
upload_free(struct upload *u)
{
    cc_buf_free(&u->blob);
    cc_buf_free(&u->password);
}

/* ---- reading what was sent ---- */

static int
read_enum(json_object *obj, const char *name, const char *(*known)(const char *), const char **ret,
        struct cc_err *err)
{
    const char *text;

    if (cc_json_get_str(obj, name, 64, &text, err) != 0)
        return -1;
    *ret = text != NULL ? known(text) : NULL;
    if (text != NULL && *ret == NULL)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"%s\" has no such value", name);
    return 0;
}

static int
read_time(json_object *obj, const char *name, int64_t *ret_ms, struct cc_err *err)
{
    const char *text;

    if (cc_json_get_str(obj, name, 64, &text, err) != 0)
        return -1;
    if (text == NULL)
        return 0;
    if (cc_time_parse(text, ret_ms, err) != 0)
        return cc_err_in(err, "member \"%s\"", name);
    return 0;
}

static int
read_binary(json_object *obj, const char *name, struct cc_buf *buf, struct cc_bytes *ret,
        struct cc_err *err)
{
    const char *text;

    if (cc_json_get_str(obj, name, buf->max * 2, &text, err) != 0)
        return -1;
    if (text == NULL || text[0] == '\0' || strcmp(text, BLANK_BLOB) == 0)
        return 0;
    if (cc_json_get_base64(obj, name, buf, err) != 0)
        return -1;
    *ret = cc_buf_bytes(buf);
    return 0;
}

static int
read_thumbprint(json_object *obj, struct upload *u, struct cc_err *err)
{
    const char *text;

    if (cc_json_get_str(obj, "thumbprint", THUMBPRINT_LEN, &text, err) != 0)
        return -1;
    if (text == NULL)
        return 0;
    if (strlen(text) != THUMBPRINT_LEN || strspn(text, "0123456789abcdefABCDEF") != THUMBPRINT_LEN)
        return cc_err_set(err, CC_DOM_INPUT, 0,
                "member \"thumbprint\" is not a SHA-1 in hexadecimal");
    (void)cc_strcpy(u->thumbprint, sizeof(u->thumbprint), text);
    cc_lower(u->thumbprint);
    u->pfx.thumbprint = u->thumbprint;
    return 0;
}

/* Every member that is there; what must be there is another question. */
static int
read_upload(json_object *obj, struct upload *u, struct cc_err *err)
{
    struct tenant_pfx *p = &u->pfx;

    if (read_thumbprint(obj, u, err) != 0 ||
            read_enum(obj, "intendedPurpose", graph_purpose, &p->intended_purpose, err) != 0 ||
            read_enum(obj, "paddingScheme", graph_padding, &p->padding_scheme, err) != 0)
        return -1;
    if (cc_json_get_str(obj, "userPrincipalName", TENANT_UPN_MAX, &p->user, err) != 0 ||
            cc_json_get_str(obj, "providerName", NAME_MAX_LEN, &p->provider_name, err) != 0 ||
            cc_json_get_str(obj, "keyName", NAME_MAX_LEN, &p->key_name, err) != 0)
        return -1;
    if (read_time(obj, "startDateTime", &p->start_ms, err) != 0 ||
            read_time(obj, "expirationDateTime", &p->expiration_ms, err) != 0)
        return -1;
    if (read_binary(obj, "encryptedPfxBlob", &u->blob, &p->blob, err) != 0)
        return -1;
    return read_binary(obj, "encryptedPfxPassword", &u->password, &p->encrypted_password, err);
}

static int
check_complete(const struct tenant_pfx *p, struct cc_err *err)
{
    const struct {
        const char *name;
        bool there;
    } members[] = { { "thumbprint", p->thumbprint != NULL },
        { "userPrincipalName", p->user != NULL && p->user[0] != '\0' },
        { "providerName", p->provider_name != NULL }, { "keyName", p->key_name != NULL },
        { "paddingScheme", p->padding_scheme != NULL }, { "startDateTime", p->start_ms != 0 },
        { "expirationDateTime", p->expiration_ms != 0 },
        { "encryptedPfxBlob", p->blob.data != NULL },
        { "encryptedPfxPassword", p->encrypted_password.data != NULL } };

    for (size_t i = 0; i < CC_COUNT(members); i++)
        if (!members[i].there)
            return cc_err_set(err, CC_DOM_INPUT, 0, "member \"%s\" is missing or empty",
                    members[i].name);
    return 0;
}

/* ---- writing an object ---- */

static int
add_time(json_object *obj, const char *name, int64_t time_ms, struct cc_err *err)
{
    char text[CC_TIME_LEN];

    cc_time_format(time_ms, text);
    return cc_json_add_str(obj, name, text, err);
}

/* As every read shows it: blob and password blanked. */
static json_object *
write_pfx(const struct tenant_pfx *p, struct cc_err *err)
{
    json_object *obj = json_object_new_object();
    const struct {
        const char *name, *text;
    } texts[] = { { "@odata.type", PFX_TYPE }, { "id", p->id }, { "thumbprint", p->thumbprint },
        { "intendedPurpose", p->intended_purpose }, { "userPrincipalName", p->user },
        { "providerName", p->provider_name }, { "keyName", p->key_name },
        { "paddingScheme", p->padding_scheme }, { "encryptedPfxBlob", BLANK_BLOB },
        { "encryptedPfxPassword", "" } };

    if (obj == NULL)
        goto fail;
    for (size_t i = 0; i < CC_COUNT(texts); i++)
        if (cc_json_add_str(obj, texts[i].name, texts[i].text, err) != 0)
            goto fail;
    if (add_time(obj, "startDateTime", p->start_ms, err) != 0 ||
            add_time(obj, "expirationDateTime", p->expiration_ms, err) != 0 ||
            add_time(obj, "createdDateTime", p->created_ms, err) != 0 ||
            add_time(obj, "lastModifiedDateTime", p->modified_ms, err) != 0)
        goto fail;
    return obj;
fail:
    json_object_put(obj);
    return NULL;
}

struct listing {
    json_object *value;
    unsigned page, count;
    char last_id[TENANT_PFX_ID_MAX];
    bool more, failed;
};

static int
list_one(void *arg, const struct tenant_pfx *p)
{
    struct listing *l = arg;
    json_object *obj;

    if (l->count == l->page) {
        l->more = true;
        return 1;
    }
    if ((obj = write_pfx(p, NULL)) == NULL || json_object_array_add(l->value, obj) != 0) {
        json_object_put(obj);
        l->failed = true;
        return 1;
    }
    l->count++;
    (void)cc_strcpy(l->last_id, sizeof(l->last_id), p->id);
    return 0;
}

/* query->limit is the page's size; one more is read, to know whether there is a next page. */
static int
list(struct call *call, const struct tenant_pfx_query *query, struct listing *l, struct cc_err *err)
{
    struct tenant_pfx_query q = *query;

    *l = (struct listing){ .page = query->limit };
    q.limit++;
    if ((l->value = json_object_new_array()) == NULL)
        return cc_err_nomem(err);
    if (tenant_pfx_list(call->tenant->store, &q, list_one, l, err) == 0 && !l->failed)
        return 0;
    json_object_put(l->value);
    l->value = NULL;
    return l->failed ? cc_err_nomem(err) : -1;
}

/* ---- one of them, by its key: id or 'id' ---- */

static int
read_key(struct call *call, char ret[TENANT_PFX_ID_MAX], struct cc_err *err)
{
    const char *key = call->capture[0];
    size_t len = strlen(key);

    if (len >= 2 && key[0] == '\'' && key[len - 1] == '\'') {
        key++;
        len -= 2;
    }
    if (len == 0 || len >= TENANT_PFX_ID_MAX || strspn(key, "0123456789abcdefABCDEF-") < len)
        return cc_err_set(err, CC_DOM_INPUT, 404, "there is no such imported certificate");
    memcpy(ret, key, len);
    ret[len] = '\0';
    cc_lower(ret);
    return 0;
}

/* Answers with the object that now stands in the store. */
static void
reply_object(struct call *call, unsigned status, const char *id)
{
    struct tenant_pfx_query query = { .id = id, .limit = 1 };
    struct listing l;
    struct cc_err err = { 0 };
    json_object *obj;

    if (list(call, &query, &l, &err) != 0) {
        call_reply_failed(call, &err);
        return;
    }
    if (l.count == 0) {
        call_reply_error(call, 404, "ResourceNotFound", "there is no imported certificate %s", id);
    } else {
        obj = json_object_get(json_object_array_get_idx(l.value, 0));
        call_reply_json(call, status, obj);
    }
    json_object_put(l.value);
}

void
graph_pfx_get(struct call *call)
{
    char id[TENANT_PFX_ID_MAX];
    struct cc_err err = { 0 };

    if (read_key(call, id, &err) != 0)
        call_reply_failed(call, &err);
    else
        reply_object(call, 200, id);
}

void
graph_pfx_delete(struct call *call)
{
    char id[TENANT_PFX_ID_MAX];
    struct cc_err err = { 0 };
    bool found;

    if (read_key(call, id, &err) != 0 ||
            tenant_pfx_remove(call->tenant->store, id, cc_clock_now_ms(), &found, &err) != 0)
        call_reply_failed(call, &err);
    else if (!found)
        call_reply_error(call, 404, "ResourceNotFound", "there is no imported certificate %s", id);
    else
        call_reply_empty(call, 204);
}

/* ---- create ---- */

/* "{user id without dashes}-{thumbprint}" */
static void
make_id(struct upload *u)
{
    char plain[TENANT_UUID_LEN];
    size_t n = 0;

    for (const char *c = u->user_id; *c != '\0'; c++)
        if (*c != '-')
            plain[n++] = *c;
    plain[n] = '\0';
    (void)snprintf(u->id, sizeof(u->id), "%s-%s", plain, u->thumbprint);
}

static int
create(struct call *call, json_object *obj, struct upload *u, bool *ret_exists, struct cc_err *err)
{
    struct tenant *tenant = call->tenant;
    struct tenant_pfx *p = &u->pfx;

    if (read_upload(obj, u, err) != 0 || check_complete(p, err) != 0)
        return -1;
    if (p->intended_purpose == NULL)
        p->intended_purpose = graph_purpose("unassigned");
    if (tenant_user_id(tenant->store, p->user, !tenant->settings->strict_users, u->user_id, err) !=
            0)
        return -1;
    if (u->user_id[0] == '\0')
        return cc_err_set(err, CC_DOM_INPUT, 404, "the user is not known");
    make_id(u);
    p->id = u->id;
    p->user_id = u->user_id;
    p->created_ms = p->modified_ms = cc_clock_now_ms();
    return tenant_pfx_add(tenant->store, p, ret_exists, err);
}

void
graph_pfx_create(struct call *call)
{
    json_object *obj = call_json(call, json_type_object);
    struct upload u;
    struct cc_err err = { 0 };
    bool exists = false;

    if (obj == NULL)
        return;
    upload_init(&u);
    if (create(call, obj, &u, &exists, &err) != 0)
        call_reply_failed(call, &err);
    else if (exists)
        call_reply_error(call, 409, "Conflict", "the imported certificate %s exists already", u.id);
    else
        reply_object(call, 201, u.id);
    upload_free(&u);
    json_object_put(obj);
}

/* ---- update ---- */

static int
change(struct call *call, json_object *obj, struct upload *u, bool *ret_found, struct cc_err *err)
{
    struct tenant_pfx *p = &u->pfx;
    const char *dash;

    if (read_key(call, u->id, err) != 0 || read_upload(obj, u, err) != 0)
        return -1;
    dash = strrchr(u->id, '-');
    if (p->thumbprint != NULL && (dash == NULL || strcmp(dash + 1, p->thumbprint) != 0))
        return cc_err_set(err, CC_DOM_INPUT, 0, "the thumbprint is part of the key and stays");
    p->id = u->id;
    p->modified_ms = cc_clock_now_ms();
    return tenant_pfx_change(call->tenant->store, p, ret_found, err);
}

void
graph_pfx_patch(struct call *call)
{
    json_object *obj = call_json(call, json_type_object);
    struct upload u;
    struct cc_err err = { 0 };
    bool found;

    if (obj == NULL)
        return;
    upload_init(&u);
    if (change(call, obj, &u, &found, &err) != 0)
        call_reply_failed(call, &err);
    else
        reply_object(call, 200, u.id);
    upload_free(&u);
    json_object_put(obj);
}

/* ---- the collection ---- */

/* Compared in lower case only if the filter says so; a thumbprint is stored in lower case either way. */
static int
apply_term(const struct odata_term *term, struct tenant_pfx_query *q, struct cc_err *err)
{
    const char **target = NULL;

    if (cc_equal_nocase(term->property, "userPrincipalName"))
        target = term->tolower ? &q->user_lower : &q->user;
    else if (cc_equal_nocase(term->property, "thumbprint"))
        target = &q->thumbprint;
    else if (cc_equal_nocase(term->property, "intendedPurpose") && !term->tolower)
        target = &q->intended_purpose;
    else if (cc_equal_nocase(term->property, "id"))
        target = &q->id;
    if (target == NULL)
        return cc_err_set(err, CC_DOM_INPUT, 0, "$filter: %s cannot be filtered so",
                term->property);
    if (*target != NULL)
        return cc_err_set(err, CC_DOM_INPUT, 0, "$filter: %s is named twice", term->property);
    *target = term->value;
    return 0;
}

static int
read_query(struct call *call, struct odata_filter *filter, struct tenant_pfx_query *q,
        struct cc_err *err)
{
    const char *text = http_exchange_query(call->exchange, "$filter");
    const char *top = http_exchange_query(call->exchange, "$top");
    int64_t number = PAGE_SIZE;

    q->after_id = http_exchange_query(call->exchange, "$skiptoken");
    if (top != NULL && cc_parse_int(top, 1, 1000, &number, err) != 0)
        return cc_err_in(err, "$top");
    q->limit = number < PAGE_SIZE ? (unsigned)number : PAGE_SIZE;
    if (text == NULL)
        return 0;
    if (odata_filter_parse(text, filter, err) != 0)
        return -1;
    for (size_t i = 0; i < filter->count; i++)
        if (apply_term(&filter->terms[i], q, err) != 0)
            return -1;
    return 0;
}

/* The same question, from behind the last one shown. */
static int
next_link(struct call *call, const char *base, const struct listing *l, struct cc_buf *ret,
        struct cc_err *err)
{
    const char *filter = http_exchange_query(call->exchange, "$filter");

    if (cc_buf_printf(ret, err, "%s/beta/deviceManagement/userPfxCertificates?$top=%u", base,
                l->page) != 0)
        return -1;
    if (filter != NULL &&
            (cc_buf_add_str(ret, "&$filter=", err) != 0 || http_url_escape(filter, ret, err) != 0))
        return -1;
    if (cc_buf_add_str(ret, "&$skiptoken=", err) != 0)
        return -1;
    return http_url_escape(l->last_id, ret, err);
}

/* Takes l->value over. */
static json_object *
write_page(struct call *call, const char *base, struct listing *l, struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT(8192);
    json_object *body = json_object_new_object();
    int rc = cc_json_add(body, "value", l->value, err);

    l->value = NULL;
    if (rc == 0)
        rc = cc_buf_printf(&text, err, "%s/beta/$metadata#deviceManagement/userPfxCertificates",
                base);
    if (rc == 0)
        rc = cc_json_add_str(body, "@odata.context", cc_buf_str(&text), err);
    cc_buf_reset(&text);
    if (rc == 0 && l->more) {
        rc = next_link(call, base, l, &text, err);
        if (rc == 0)
            rc = cc_json_add_str(body, "@odata.nextLink", cc_buf_str(&text), err);
    }
    cc_buf_free(&text);
    if (rc != 0) {
        json_object_put(body);
        return NULL;
    }
    return body;
}

void
graph_pfx_list(struct call *call)
{
    struct cc_buf base = CC_BUF_INIT(1024);
    struct odata_filter filter;
    struct tenant_pfx_query query = { .limit = 0 };
    struct listing l = { .value = NULL };
    struct cc_err err = { 0 };
    json_object *body;

    if (call_base_url(call, &base) != 0)
        goto out;
    if (read_query(call, &filter, &query, &err) != 0 || list(call, &query, &l, &err) != 0 ||
            (body = write_page(call, cc_buf_str(&base), &l, &err)) == NULL)
        call_reply_failed(call, &err);
    else
        call_reply_json(call, 200, body);
out:
    cc_buf_free(&base);
}
