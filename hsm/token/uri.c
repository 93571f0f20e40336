/* SPDX-License-Identifier: MIT */
#include "hsm/token/uri.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "hsm/hsm.h"
#include "hsm/token/text.h"

#define URI_SCHEME "pkcs11:"

/* One attribute being read: its name, and its value decoded. */
struct uri_attr {
    char name[32];
    uint8_t value[P11_URI_PIN_MAX];
    size_t len;
};

static int
uri_refuse(struct cc_err *err, const char *what, const char *name)
{
    char shown[64];

    cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT, "PKCS#11 URI: %s%s%s", what,
            name[0] == '\0' ? "" : ": ", cc_escape_into(shown, sizeof(shown), name));
    return -1;
}

static int
uri_hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* pk11-pchar without "%": unreserved, pk11-res-avail; and "&" in the path, "/" "?" "|" in the query (section 2.3). */
static bool
uri_is_plain(char c, bool query)
{
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
        return true;
    return c != '\0' && strchr(query ? "-._~:[]@!$'()*+,=/?|" : "-._~:[]@!$'()*+,=&", c) != NULL;
}

static int
uri_decode(const char *text, size_t len, bool query, struct uri_attr *attr, struct cc_err *err)
{
    size_t i = 0;

    attr->len = 0;
    while (i < len) {
        uint8_t byte = (uint8_t)text[i];

        if (text[i] == '%') {
            const int high = i + 1 < len ? uri_hex(text[i + 1]) : -1;
            const int low = i + 2 < len ? uri_hex(text[i + 2]) : -1;

            if (high < 0 || low < 0)
                return uri_refuse(err, "a % without two hexadecimal digits in", attr->name);
            byte = (uint8_t)(high << 4 | low);
            i += 2;
        } else if (!uri_is_plain(text[i], query)) {
            return uri_refuse(err, "a character that must be written as %XX in", attr->name);
        }
        if (attr->len == sizeof(attr->value))
            return uri_refuse(err, "too long", attr->name);
        attr->value[attr->len++] = byte;
        i++;
    }
    return attr->len > 0 ? 0 : uri_refuse(err, "no value for", attr->name);
}

static int
uri_attr_read(const char *text, size_t len, bool query, struct uri_attr *attr, struct cc_err *err)
{
    const char *equals = memchr(text, '=', len);
    const size_t name_len = equals == NULL ? len : (size_t)(equals - text);

    if (name_len == 0 || name_len >= sizeof(attr->name))
        return uri_refuse(err, "an attribute without a proper name", "");
    memcpy(attr->name, text, name_len);
    attr->name[name_len] = '\0';
    if (equals == NULL)
        return uri_refuse(err, "no value for", attr->name);
    return uri_decode(equals + 1, len - name_len - 1, query, attr, err);
}

static int
uri_set_text(char *field, size_t size, const struct uri_attr *attr, struct cc_err *err)
{
    if (field[0] != '\0')
        return uri_refuse(err, "given twice", attr->name);
    if (attr->len >= size)
        return uri_refuse(err, "longer than any token has", attr->name);
    if (memchr(attr->value, '\0', attr->len) != NULL || !cc_is_utf8(attr->value, attr->len))
        return uri_refuse(err, "not UTF-8 text", attr->name);
    memcpy(field, attr->value, attr->len);
    field[attr->len] = '\0';
    return 0;
}

static int
uri_set_id(struct p11_uri *uri, const struct uri_attr *attr, struct cc_err *err)
{
    if (uri->id_len != 0)
        return uri_refuse(err, "given twice", attr->name);
    if (attr->len > sizeof(uri->id))
        return uri_refuse(err, "too long", attr->name);
    memcpy(uri->id, attr->value, attr->len);
    uri->id_len = attr->len;
    return 0;
}

static int
uri_set_class(struct p11_uri *uri, const struct uri_attr *attr, struct cc_err *err)
{
    static const struct {
        const char *name;
        CK_OBJECT_CLASS class;
    } classes[] = {
        { "private", CKO_PRIVATE_KEY },
        { "public", CKO_PUBLIC_KEY },
        { "secret-key", CKO_SECRET_KEY },
        { "cert", CKO_CERTIFICATE },
        { "data", CKO_DATA },
    };
    char name[16] = "";

    if (uri->has_class)
        return uri_refuse(err, "given twice", attr->name);
    if (uri_set_text(name, sizeof(name), attr, err) != 0)
        return -1;
    for (size_t i = 0; i < CC_COUNT(classes); i++) {
        if (strcmp(classes[i].name, name) == 0) {
            uri->class = classes[i].class;
            uri->has_class = true;
            return 0;
        }
    }
    return uri_refuse(err, "unknown type", name);
}

static int
uri_set_slot(struct p11_uri *uri, const struct uri_attr *attr, struct cc_err *err)
{
    char text[24] = "";
    char *end;

    if (uri->has_slot)
        return uri_refuse(err, "given twice", attr->name);
    if (uri_set_text(text, sizeof(text), attr, err) != 0)
        return -1;
    if (strspn(text, "0123456789") != strlen(text) || strlen(text) > 19)
        return uri_refuse(err, "not a number", text);
    uri->slot = strtoul(text, &end, 10);
    uri->has_slot = true;
    return 0;
}

static int
uri_set_path(struct p11_uri *uri, const struct uri_attr *attr, struct cc_err *err)
{
    const struct {
        const char *name;
        char *field;
        size_t size;
    } texts[] = {
        { "token", uri->token, sizeof(uri->token) },
        { "manufacturer", uri->manufacturer, sizeof(uri->manufacturer) },
        { "model", uri->model, sizeof(uri->model) },
        { "serial", uri->serial, sizeof(uri->serial) },
        { "object", uri->object, sizeof(uri->object) },
    };

    for (size_t i = 0; i < CC_COUNT(texts); i++)
        if (strcmp(texts[i].name, attr->name) == 0)
            return uri_set_text(texts[i].field, texts[i].size, attr, err);
    if (strcmp(attr->name, "id") == 0)
        return uri_set_id(uri, attr, err);
    if (strcmp(attr->name, "type") == 0)
        return uri_set_class(uri, attr, err);
    if (strcmp(attr->name, "slot-id") == 0)
        return uri_set_slot(uri, attr, err);
    return uri_refuse(err, "an attribute that is not supported", attr->name);
}

/* A pin-source is a path or a file URI without a host (section 2.4); "|program" is not for us. */
static int
uri_set_pin_source(struct p11_uri *uri, const struct uri_attr *attr, struct cc_err *err)
{
    char value[P11_URI_PIN_MAX] = "";
    const char *path = value;

    if (uri->pin_source[0] != '\0')
        return uri_refuse(err, "given twice", attr->name);
    if (uri_set_text(value, sizeof(value), attr, err) != 0)
        return -1;
    if (cc_starts_with(path, "file:"))
        path += strlen("file:");
    if (cc_starts_with(path, "//") && path[2] == '/')
        path += 2;
    if (path[0] != '/' || path[1] == '/')
        return uri_refuse(err, "must name a file by its whole path", attr->name);
    if (!cc_strcpy(uri->pin_source, sizeof(uri->pin_source), "file:") ||
            !cc_strcpy(uri->pin_source + strlen("file:"), sizeof(uri->pin_source) - strlen("file:"),
                    path))
        return uri_refuse(err, "too long", attr->name);
    return 0;
}

static int
uri_set_query(struct p11_uri *uri, const struct uri_attr *attr, struct cc_err *err)
{
    if (strcmp(attr->name, "pin-source") == 0)
        return uri_set_pin_source(uri, attr, err);
    if (strcmp(attr->name, "pin-value") == 0)
        return uri_refuse(err, "a PIN does not belong into a URI, name its file with pin-source",
                "");
    if (cc_starts_with(attr->name, "module-"))
        return uri_refuse(err, "the module is a setting of its own, not part of the URI",
                attr->name);
    return uri_refuse(err, "an attribute that is not supported", attr->name);
}

/* Attributes of one half, between separators. */
static int
uri_read_half(struct p11_uri *uri, const char *text, size_t len, bool query, struct cc_err *err)
{
    const char *const end = text + len;
    struct uri_attr attr = { 0 };

    while (text < end) {
        const char *stop = memchr(text, query ? '&' : ';', (size_t)(end - text));
        const size_t part = stop == NULL ? (size_t)(end - text) : (size_t)(stop - text);

        if (uri_attr_read(text, part, query, &attr, err) != 0)
            return -1;
        if ((query ? uri_set_query : uri_set_path)(uri, &attr, err) != 0)
            return -1;
        if (stop == end - 1)
            return uri_refuse(err, "nothing behind the last separator", "");
        text = stop == NULL ? end : stop + 1;
    }
    return 0;
}

int
p11_uri_parse(const char *text, struct p11_uri *ret, struct cc_err *err)
{
    struct p11_uri uri = { 0 };
    const char *path, *query;
    size_t path_len;

    if (!cc_starts_with(text, URI_SCHEME))
        return uri_refuse(err, "does not begin with \"pkcs11:\"", "");
    if (strlen(text) > P11_URI_MAX)
        return uri_refuse(err, "too long", "");
    path = text + strlen(URI_SCHEME);
    path_len = strcspn(path, "?");
    query = path[path_len] == '?' ? path + path_len + 1 : NULL;

    if (uri_read_half(&uri, path, path_len, false, err) != 0)
        return -1;
    if (query != NULL && uri_read_half(&uri, query, strlen(query), true, err) != 0)
        return -1;
    *ret = uri;
    return 0;
}

static bool
uri_contradicts(const char *key, const char *token)
{
    return key[0] != '\0' && token[0] != '\0' && strcmp(key, token) != 0;
}

int
p11_uri_parse_key(const char *text, const struct p11_uri *token, struct p11_uri *ret,
        struct cc_err *err)
{
    struct p11_uri uri;

    if (p11_uri_parse(text, &uri, err) != 0)
        return -1;
    if (uri.object[0] == '\0' && uri.id_len == 0)
        return uri_refuse(err, "a key needs its \"object\" or \"id\"", "");
    if (uri.pin_source[0] != '\0')
        return uri_refuse(err, "a key has no PIN of its own", "pin-source");
    if (uri_contradicts(uri.token, token->token) ||
            uri_contradicts(uri.manufacturer, token->manufacturer) ||
            uri_contradicts(uri.model, token->model) ||
            uri_contradicts(uri.serial, token->serial) ||
            (uri.has_slot && token->has_slot && uri.slot != token->slot))
        return uri_refuse(err, "the key's URI names another token than the token's own", "");
    *ret = uri;
    return 0;
}

static bool
uri_field_is(const char *want, const CK_UTF8CHAR *field, size_t size)
{
    const size_t len = strlen(want);

    return len == 0 || (len == p11_text_len(field, size) && memcmp(want, field, len) == 0);
}

bool
p11_uri_names_token(const struct p11_uri *uri, CK_SLOT_ID slot, const CK_TOKEN_INFO *info)
{
    return uri_field_is(uri->token, info->label, sizeof(info->label)) &&
           uri_field_is(uri->manufacturer, info->manufacturerID, sizeof(info->manufacturerID)) &&
           uri_field_is(uri->model, info->model, sizeof(info->model)) &&
           uri_field_is(uri->serial, info->serialNumber, sizeof(info->serialNumber)) &&
           (!uri->has_slot || uri->slot == slot);
}
