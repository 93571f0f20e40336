/* SPDX-License-Identifier: MIT */
#include "hsm/token/serve.h"

#include <stdlib.h>

#include "hsm/hsm.h"
#include "hsm/token/provision.h"
#include "hsm/token/text.h"
#include "hsm/wire.h"

static enum serve_outcome
admin_result(int rc)
{
    return rc == 0 ? SERVE_DONE : SERVE_FAILED;
}

static int
get_target(struct cc_bytes *args, struct provision_target *ret, struct cc_err *err)
{
    if (wire_get_str(args, ret->module, sizeof(ret->module), err) != 0 ||
            wire_get_str(args, ret->init_args, sizeof(ret->init_args), err) != 0 ||
            wire_get_str(args, ret->uri, sizeof(ret->uri), err) != 0)
        return -1;
    return wire_get_str(args, ret->pin, sizeof(ret->pin), err);
}

/* ---- Tokens ---- */

static int
put_token(struct cc_buf *reply, const struct provision_token *token, struct cc_err *err)
{
    if (wire_put_u64(reply, token->slot, err) != 0 || wire_put_u32(reply, token->flags, err) != 0 ||
            wire_put_str(reply, token->label, err) != 0 ||
            wire_put_str(reply, token->manufacturer, err) != 0 ||
            wire_put_str(reply, token->model, err) != 0 ||
            wire_put_str(reply, token->serial, err) != 0)
        return -1;
    return wire_put_str(reply, token->profile->name, err);
}

static int
put_tokens(struct cc_buf *reply, const struct provision_token *tokens, size_t count,
        struct cc_err *err)
{
    if (count > WIRE_LIST_MAX)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED, "%zu slots", count);
    if (wire_put_u8(reply, WIRE_OK, err) != 0 || wire_put_u32(reply, (uint32_t)count, err) != 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        if (put_token(reply, &tokens[i], err) != 0)
            return -1;
    return 0;
}

static enum serve_outcome
admin_list_tokens(struct cc_bytes *args, struct cc_buf *reply, struct cc_err *err)
{
    struct provision_target target = { 0 };
    struct provision_token *tokens = NULL;
    size_t count = 0;
    int rc;

    if (get_target(args, &target, err) != 0 || wire_get_end(args, err) != 0)
        return SERVE_MALFORMED;
    if ((rc = provision_list_tokens(&target, &tokens, &count, err)) == 0)
        rc = put_tokens(reply, tokens, count, err);
    free(tokens);
    return admin_result(rc);
}

static enum serve_outcome
admin_init_token(struct cc_bytes *args, struct cc_buf *reply, struct cc_err *err)
{
    struct provision_target target = { 0 };
    char label[WIRE_LABEL_SIZE] = "", so_pin[WIRE_REFERENCE_SIZE] = "";

    if (get_target(args, &target, err) != 0 || wire_get_str(args, label, sizeof(label), err) != 0 ||
            wire_get_str(args, so_pin, sizeof(so_pin), err) != 0 || wire_get_end(args, err) != 0)
        return SERVE_MALFORMED;
    if (provision_init_token(&target, label, so_pin, err) != 0)
        return SERVE_FAILED;
    return admin_result(wire_put_u8(reply, WIRE_OK, err));
}

/* ---- Keys ---- */

static int
put_key(struct cc_buf *reply, const struct provision_key *key, struct cc_err *err)
{
    if (wire_put_u8(reply, key->class, err) != 0 || wire_put_u32(reply, key->flags, err) != 0 ||
            wire_put_str(reply, key->label, err) != 0 ||
            wire_put_bytes(reply, key->id, key->id_len, err) != 0)
        return -1;
    return wire_put_str(reply, key->kind, err);
}

static int
put_keys(struct cc_buf *reply, const struct provision *p, const struct provision_key *keys,
        size_t count, struct cc_err *err)
{
    char label[sizeof(p->info.label) + 1];

    p11_text_copy(p->info.label, sizeof(p->info.label), label);
    if (wire_put_u8(reply, WIRE_OK, err) != 0 || wire_put_str(reply, label, err) != 0 ||
            wire_put_u32(reply, (uint32_t)count, err) != 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        if (put_key(reply, &keys[i], err) != 0)
            return cc_err_in(err, "the token has more keys than one list can hold");
    return 0;
}

static enum serve_outcome
admin_list_keys(struct cc_bytes *args, struct cc_buf *reply, struct cc_err *err)
{
    struct provision_target target = { 0 };
    struct provision_key *keys = NULL;
    struct provision p = { 0 };
    size_t count = 0;
    int rc;

    if (get_target(args, &target, err) != 0 || wire_get_end(args, err) != 0)
        return SERVE_MALFORMED;
    if (provision_open(&target, false, &p, err) != 0)
        return SERVE_FAILED;
    if ((rc = provision_list_keys(&p, &keys, &count, err)) == 0)
        rc = put_keys(reply, &p, keys, count, err);
    provision_close(&p);
    free(keys);
    return admin_result(rc);
}

static enum serve_outcome
admin_generate_key(struct cc_bytes *args, struct cc_buf *reply, struct cc_err *err)
{
    struct provision_target target = { 0 };
    char label[WIRE_LABEL_SIZE] = "", kind[WIRE_KIND_SIZE] = "";
    struct provision p = { 0 };
    uint32_t roles = 0;
    int rc;

    if (get_target(args, &target, err) != 0 || wire_get_u32(args, &roles, err) != 0 ||
            wire_get_str(args, label, sizeof(label), err) != 0 ||
            wire_get_str(args, kind, sizeof(kind), err) != 0 || wire_get_end(args, err) != 0)
        return SERVE_MALFORMED;
    if (roles == 0 || roles >> HSM_ROLE_COUNT != 0) {
        cc_err_set(err, CC_DOM_INPUT, 0, "malformed frame: roles 0x%x", (unsigned)roles);
        return SERVE_MALFORMED;
    }
    if (provision_open(&target, true, &p, err) != 0)
        return SERVE_FAILED;
    if ((rc = provision_generate_key(&p, roles, label, kind, err)) == 0)
        rc = wire_put_u8(reply, WIRE_OK, err);
    provision_close(&p);
    return admin_result(rc);
}

static enum serve_outcome
admin_export_public(struct cc_bytes *args, struct cc_buf *reply, struct cc_err *err)
{
    struct provision_target target = { 0 };
    struct cc_buf spki = CC_BUF_INIT(WIRE_FRAME_MAX / 2);
    char uri[WIRE_URI_SIZE] = "";
    struct provision p = { 0 };
    int rc;

    if (get_target(args, &target, err) != 0 || wire_get_str(args, uri, sizeof(uri), err) != 0 ||
            wire_get_end(args, err) != 0)
        return SERVE_MALFORMED;
    if (provision_open(&target, false, &p, err) != 0)
        return SERVE_FAILED;
    rc = provision_export_public(&p, uri, &spki, err);
    provision_close(&p);
    if (rc == 0 && (rc = wire_put_u8(reply, WIRE_OK, err)) == 0)
        rc = wire_put_bytes(reply, spki.data, spki.len, err);
    cc_buf_free(&spki);
    return admin_result(rc);
}

/* ---- Calls ---- */

static const struct {
    uint8_t op;
    enum serve_outcome (*serve)(struct cc_bytes *args, struct cc_buf *reply, struct cc_err *err);
} admin_ops[] = {
    { WIRE_ADMIN_LIST_TOKENS, admin_list_tokens },
    { WIRE_ADMIN_INIT_TOKEN, admin_init_token },
    { WIRE_ADMIN_LIST_KEYS, admin_list_keys },
    { WIRE_ADMIN_GENERATE_KEY, admin_generate_key },
    { WIRE_ADMIN_EXPORT_PUBLIC, admin_export_public },
};

enum serve_outcome
admin_dispatch(uint8_t op, struct cc_bytes *args, struct cc_buf *reply, struct cc_err *err)
{
    for (size_t i = 0; i < CC_COUNT(admin_ops); i++)
        if (admin_ops[i].op == op)
            return admin_ops[i].serve(args, reply, err);
    cc_err_set(err, CC_DOM_INPUT, 0, "malformed frame: administration %u", op);
    return SERVE_MALFORMED;
}
