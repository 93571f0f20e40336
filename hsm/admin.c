/* SPDX-License-Identifier: MIT */
#include "hsm/admin.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "hsm/hsm_int.h"
#include "hsm/wire.h"

/* Some tokens take a minute to make a long RSA key. */
#define ADMIN_DEADLINE_MS 120000
#define ADMIN_GRACE_MS 3000

#define ADMIN_KEY_MIN 17 /* bytes of the shortest entry of a list of keys */
#define ADMIN_TOKEN_MIN 32

/* ---- One call, one process ---- */

/* The process ended before it answered: how, tells more than that. */
static int
admin_lost(int status, const struct cc_err *cause, struct cc_err *err)
{
    if (WIFSIGNALED(status) && WTERMSIG(status) != SIGTERM && WTERMSIG(status) != SIGKILL)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNAVAILABLE,
                "the token process was ended by signal %d, most likely inside the PKCS#11 module",
                WTERMSIG(status));
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNAVAILABLE,
                "the token process ended with status %d and no answer", WEXITSTATUS(status));
    return cc_err_set(err, cause->domain, cause->code, "token process: %s", cause->text);
}

/* reply is the whole frame. */
static int
admin_exchange(const char *helper, const struct cc_buf *call, struct cc_buf *reply,
        struct cc_err *err)
{
    const int64_t deadline = cc_deadline_in(ADMIN_DEADLINE_MS);
    struct hsm_process process = { .pid = 0, .pidfd = -1 };
    struct cc_err cause = { 0 };
    int fd = -1, rc, status;

    if (hsm_process_start(helper, 1, &fd, &process, err) != 0)
        return -1;
    rc = wire_send(fd, call, deadline, &cause);
    if (rc == 0)
        rc = wire_recv(fd, reply, deadline, NULL, &cause);
    (void)close(fd);
    status = hsm_process_end(&process, ADMIN_GRACE_MS);
    return rc == 0 ? 0 : admin_lost(status, &cause, err);
}

/* The results in ret_rest are borrowed from reply. */
static int
admin_call(const struct hsm_admin_target *target, const struct cc_buf *call, struct cc_buf *reply,
        struct cc_bytes *ret_rest, struct cc_err *err)
{
    char beside[PATH_MAX];
    const char *helper = target->helper;
    struct cc_bytes rest;

    if (helper == NULL) {
        if (hsm_helper_find(beside, err) != 0)
            return -1;
        helper = beside;
    }
    if (access(helper, X_OK) != 0)
        return cc_err_set_errno(err, errno, "token process %s", helper);
    if (admin_exchange(helper, call, reply, err) != 0)
        return -1;
    rest = cc_buf_bytes(reply);
    if (wire_get_status(&rest, err) != 0)
        return -1;
    *ret_rest = rest;
    return 0;
}

/* Too long a text would be a malformed frame to the other side. */
static int
put_text(struct cc_buf *call, const char *what, const char *text, size_t size, struct cc_err *err)
{
    if (text != NULL && strlen(text) >= size)
        return cc_err_set(err, CC_DOM_USAGE, 0, "%s is longer than %zu bytes", what, size - 1);
    return wire_put_str(call, text, err);
}

static int
begin(struct cc_buf *call, enum wire_op op, const struct hsm_admin_target *target,
        struct cc_err *err)
{
    if (target->module == NULL)
        return cc_err_set(err, CC_DOM_USAGE, 0, "which PKCS#11 module?");
    if (wire_put_u8(call, (uint8_t)op, err) != 0 ||
            put_text(call, "the module's path", target->module, WIRE_PATH_SIZE, err) != 0 ||
            put_text(call, "the initialisation string", target->init_args, WIRE_PATH_SIZE, err) !=
                    0 ||
            put_text(call, "the token's URI", target->uri, WIRE_URI_SIZE, err) != 0)
        return -1;
    return put_text(call, "the PIN's reference", target->pin, WIRE_REFERENCE_SIZE, err);
}

/* Sends a call that has no results. */
static int
admin_tell(const struct hsm_admin_target *target, const struct cc_buf *call, struct cc_err *err)
{
    struct cc_buf reply = CC_BUF_INIT(WIRE_FRAME_MAX);
    struct cc_bytes rest;
    int rc = -1;

    if (admin_call(target, call, &reply, &rest, err) == 0)
        rc = wire_get_end(&rest, err);
    cc_buf_free(&reply);
    return rc;
}

/* How many entries of at least so many bytes follow. */
static int
get_count(struct cc_bytes *rest, size_t least, uint32_t *ret, struct cc_err *err)
{
    uint32_t count = 0;

    if (wire_get_u32(rest, &count, err) != 0)
        return -1;
    if (count > WIRE_LIST_MAX || count > rest->len / least)
        return cc_err_set(err, CC_DOM_INPUT, 0, "malformed frame: a list of %u", count);
    *ret = count;
    return 0;
}

/* ---- Tokens ---- */

static int
get_token(struct cc_bytes *rest, struct hsm_admin_token *ret, struct cc_err *err)
{
    uint64_t slot = 0;
    uint32_t flags = 0;

    if (wire_get_u64(rest, &slot, err) != 0 || wire_get_u32(rest, &flags, err) != 0 ||
            wire_get_str(rest, ret->label, sizeof(ret->label), err) != 0 ||
            wire_get_str(rest, ret->manufacturer, sizeof(ret->manufacturer), err) != 0 ||
            wire_get_str(rest, ret->model, sizeof(ret->model), err) != 0 ||
            wire_get_str(rest, ret->serial, sizeof(ret->serial), err) != 0 ||
            wire_get_str(rest, ret->profile, sizeof(ret->profile), err) != 0)
        return -1;
    ret->slot = (unsigned long)slot;
    ret->initialised = (flags & WIRE_TOKEN_INITIALISED) != 0;
    ret->login_required = (flags & WIRE_TOKEN_LOGIN_REQUIRED) != 0;
    ret->write_protected = (flags & WIRE_TOKEN_WRITE_PROTECTED) != 0;
    ret->pin_initialised = (flags & WIRE_TOKEN_PIN_INITIALISED) != 0;
    ret->pin_count_low = (flags & WIRE_TOKEN_PIN_COUNT_LOW) != 0;
    ret->pin_final_try = (flags & WIRE_TOKEN_PIN_FINAL_TRY) != 0;
    ret->pin_locked = (flags & WIRE_TOKEN_PIN_LOCKED) != 0;
    return 0;
}

static int
get_tokens(struct cc_bytes rest, struct hsm_admin_token **ret_tokens, size_t *ret_count,
        struct cc_err *err)
{
    struct hsm_admin_token *tokens;
    uint32_t count = 0;

    if (get_count(&rest, ADMIN_TOKEN_MIN, &count, err) != 0)
        return -1;
    if ((tokens = calloc((size_t)count + 1, sizeof(*tokens))) == NULL)
        return cc_err_nomem(err);
    for (uint32_t i = 0; i < count; i++)
        if (get_token(&rest, &tokens[i], err) != 0)
            goto fail;
    if (wire_get_end(&rest, err) != 0)
        goto fail;
    *ret_tokens = tokens;
    *ret_count = count;
    return 0;
fail:
    free(tokens);
    return -1;
}

int
hsm_admin_list_tokens(const struct hsm_admin_target *target, struct hsm_admin_token **ret_tokens,
        size_t *ret_count, struct cc_err *err)
{
    struct cc_buf call = CC_BUF_INIT(WIRE_FRAME_MAX), reply = CC_BUF_INIT(WIRE_FRAME_MAX);
    struct cc_bytes rest;
    int rc = -1;

    if (begin(&call, WIRE_ADMIN_LIST_TOKENS, target, err) == 0 &&
            admin_call(target, &call, &reply, &rest, err) == 0)
        rc = get_tokens(rest, ret_tokens, ret_count, err);
    cc_buf_free(&reply);
    cc_buf_free(&call);
    return rc;
}

int
hsm_admin_init_token(const struct hsm_admin_target *target, const char *label, struct cc_err *err)
{
    struct cc_buf call = CC_BUF_INIT(WIRE_FRAME_MAX);
    int rc = -1;

    if (begin(&call, WIRE_ADMIN_INIT_TOKEN, target, err) == 0 &&
            put_text(&call, "the label", label, WIRE_LABEL_SIZE, err) == 0 &&
            put_text(&call, "the SO PIN's reference", target->so_pin, WIRE_REFERENCE_SIZE, err) ==
                    0)
        rc = admin_tell(target, &call, err);
    cc_buf_free(&call);
    return rc;
}

/* ---- Keys ---- */

/* Percent-encoded but for what RFC 3986 calls unreserved (RFC 7512 section 2.3); an id in full, as is custom. */
static int
uri_add(struct cc_buf *uri, const char *name, const void *data, size_t len, bool in_full,
        struct cc_err *err)
{
    const uint8_t *bytes = data;

    if (cc_buf_add_str(uri, uri->len == 0 ? "pkcs11:" : ";", err) != 0 ||
            cc_buf_add_str(uri, name, err) != 0 || cc_buf_add_u8(uri, '=', err) != 0)
        return -1;
    for (size_t i = 0; i < len; i++) {
        const char c = (char)bytes[i];
        const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                           (c >= 'A' && c <= 'Z') || (c != '\0' && strchr("-._~", c) != NULL);

        if ((plain && !in_full ? cc_buf_add_u8(uri, bytes[i], err)
                               : cc_buf_printf(uri, err, "%%%02X", bytes[i])) != 0)
            return -1;
    }
    return 0;
}

/* A label that is not text, or was too long for us, is not in the URI: the id must do. */
static int
make_uri(struct hsm_admin_key *key, const char *token, const char *type, struct cc_bytes id,
        struct cc_err *err)
{
    struct cc_buf uri = CC_BUF_INIT(sizeof(key->uri) - 1);
    const size_t len = strlen(key->label);
    int rc = -1;

    if (token[0] != '\0' && uri_add(&uri, "token", token, strlen(token), false, err) != 0)
        goto out;
    if (len > 0 && len < sizeof(key->label) - 4 && cc_is_utf8(key->label, len) &&
            uri_add(&uri, "object", key->label, len, false, err) != 0)
        goto out;
    if (uri_add(&uri, "type", type, strlen(type), false, err) != 0)
        goto out;
    if (id.len > 0 && uri_add(&uri, "id", id.data, id.len, true, err) != 0)
        goto out;
    (void)cc_strcpy(key->uri, sizeof(key->uri), cc_buf_str(&uri));
    rc = 0;
out:
    cc_buf_free(&uri);
    return rc;
}

static void
set_flags(struct hsm_admin_key *key, uint32_t flags)
{
    key->sensitive = (flags & WIRE_KEY_SENSITIVE) != 0;
    key->extractable = (flags & WIRE_KEY_EXTRACTABLE) != 0;
    key->always_sensitive = (flags & WIRE_KEY_ALWAYS_SENSITIVE) != 0;
    key->never_extractable = (flags & WIRE_KEY_NEVER_EXTRACTABLE) != 0;
    key->sign = (flags & WIRE_KEY_SIGN) != 0;
    key->verify = (flags & WIRE_KEY_VERIFY) != 0;
    key->encrypt = (flags & WIRE_KEY_ENCRYPT) != 0;
    key->decrypt = (flags & WIRE_KEY_DECRYPT) != 0;
    key->wrap = (flags & WIRE_KEY_WRAP) != 0;
    key->unwrap = (flags & WIRE_KEY_UNWRAP) != 0;
    key->derive = (flags & WIRE_KEY_DERIVE) != 0;
}

static int
get_key(struct cc_bytes *rest, const char *token, struct hsm_admin_key *ret, struct cc_err *err)
{
    static const struct {
        const char *name; /* as shown */
        const char *type; /* in a URI */
    } classes[] = {
        [WIRE_KEY_PRIVATE] = { "private", "private" },
        [WIRE_KEY_PUBLIC] = { "public", "public" },
        [WIRE_KEY_SECRET] = { "secret", "secret-key" },
    };
    struct cc_bytes id = { 0 };
    uint32_t flags = 0;
    uint8_t class = 0;

    if (wire_get_u8(rest, &class, err) != 0 || wire_get_u32(rest, &flags, err) != 0 ||
            wire_get_str(rest, ret->label, sizeof(ret->label), err) != 0 ||
            wire_get_bytes(rest, &id, err) != 0 ||
            wire_get_str(rest, ret->kind, sizeof(ret->kind), err) != 0)
        return -1;
    if (class == 0 || class >= CC_COUNT(classes) || id.len > WIRE_ID_MAX) {
        cc_err_set(err, CC_DOM_INPUT, 0, "malformed frame: a key");
        return -1;
    }
    (void)cc_strcpy(ret->object_class, sizeof(ret->object_class), classes[class].name);
    cc_hex(id.data, id.len, false, ret->id_hex);
    set_flags(ret, flags);
    return make_uri(ret, token, classes[class].type, id, err);
}

static int
get_keys(struct cc_bytes rest, struct hsm_admin_key **ret_keys, size_t *ret_count,
        struct cc_err *err)
{
    struct hsm_admin_key *keys;
    uint32_t count = 0;
    char token[33];

    if (wire_get_str(&rest, token, sizeof(token), err) != 0 ||
            get_count(&rest, ADMIN_KEY_MIN, &count, err) != 0)
        return -1;
    if ((keys = calloc((size_t)count + 1, sizeof(*keys))) == NULL)
        return cc_err_nomem(err);
    for (uint32_t i = 0; i < count; i++)
        if (get_key(&rest, token, &keys[i], err) != 0)
            goto fail;
    if (wire_get_end(&rest, err) != 0)
        goto fail;
    *ret_keys = keys;
    *ret_count = count;
    return 0;
fail:
    free(keys);
    return -1;
}

int
hsm_admin_list_keys(const struct hsm_admin_target *target, struct hsm_admin_key **ret_keys,
        size_t *ret_count, struct cc_err *err)
{
    struct cc_buf call = CC_BUF_INIT(WIRE_FRAME_MAX), reply = CC_BUF_INIT(WIRE_FRAME_MAX);
    struct cc_bytes rest;
    int rc = -1;

    if (begin(&call, WIRE_ADMIN_LIST_KEYS, target, err) == 0 &&
            admin_call(target, &call, &reply, &rest, err) == 0)
        rc = get_keys(rest, ret_keys, ret_count, err);
    cc_buf_free(&reply);
    cc_buf_free(&call);
    return rc;
}

int
hsm_admin_generate_key(const struct hsm_admin_target *target, unsigned roles, const char *label,
        const char *kind, struct cc_err *err)
{
    struct cc_buf call = CC_BUF_INIT(WIRE_FRAME_MAX);
    int rc = -1;

    if (begin(&call, WIRE_ADMIN_GENERATE_KEY, target, err) == 0 &&
            wire_put_u32(&call, roles, err) == 0 &&
            put_text(&call, "the label", label, WIRE_LABEL_SIZE, err) == 0 &&
            put_text(&call, "the key type", kind, WIRE_KIND_SIZE, err) == 0)
        rc = admin_tell(target, &call, err);
    cc_buf_free(&call);
    return rc;
}

int
hsm_admin_export_public(const struct hsm_admin_target *target, const char *key_uri,
        struct cc_buf *ret_spki, struct cc_err *err)
{
    struct cc_buf call = CC_BUF_INIT(WIRE_FRAME_MAX), reply = CC_BUF_INIT(WIRE_FRAME_MAX);
    struct cc_bytes rest, spki = { 0 };
    int rc = -1;

    if (begin(&call, WIRE_ADMIN_EXPORT_PUBLIC, target, err) == 0 &&
            put_text(&call, "the key's URI", key_uri, WIRE_URI_SIZE, err) == 0 &&
            admin_call(target, &call, &reply, &rest, err) == 0 &&
            wire_get_bytes(&rest, &spki, err) == 0 && wire_get_end(&rest, err) == 0)
        rc = cc_buf_add(ret_spki, spki.data, spki.len, err);
    cc_buf_free(&reply);
    cc_buf_free(&call);
    return rc;
}
