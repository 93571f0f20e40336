/* SPDX-License-Identifier: MIT */
#include "hsm/token/provision.h"

#include <dlfcn.h>
#include <libp11.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "base/text.h"
#include "hsm/token/ckr.h"
#include "hsm/token/module.h"

#define LABEL_LEN 32 /* of CK_TOKEN_INFO.label */

/* libp11 over a module, and all its slots. */
struct slots {
    void *library; /* held by us, so that the module stays loaded between libp11 and our own calls */
    PKCS11_CTX *ctx;
    bool loaded;
    PKCS11_SLOT *list;
    unsigned count;
};

/* The CKR code that libp11 leaves on OpenSSL's queue; whatever else is there, as OpenSSL tells it. */
static int
slots_error(const char *where, bool write, struct cc_err *err)
{
    const unsigned long code = ERR_peek_last_error();

    if (code == 0 || ERR_GET_LIB(code) != ERR_get_CKR_code())
        return cc_err_set_openssl(err, "%s", where);
    ERR_clear_error();
    if (write)
        return provision_write_error((CK_RV)ERR_GET_REASON(code), where, err);
    return ckr_err(err, (CK_RV)ERR_GET_REASON(code), where);
}

static void
slots_close(struct slots *slots)
{
    if (slots->list != NULL)
        PKCS11_release_all_slots(slots->ctx, slots->list, slots->count);
    if (slots->loaded) /* libp11 crashes when a context is unloaded that was not loaded */
        PKCS11_CTX_unload(slots->ctx);
    if (slots->ctx != NULL)
        PKCS11_CTX_free(slots->ctx);
    if (slots->library != NULL)
        (void)dlclose(slots->library);
    memset(slots, 0, sizeof(*slots));
}

static int
slots_open(const struct provision_target *target, struct slots *ret, struct cc_err *err)
{
    struct slots slots = { 0 };
    CK_C_GetFunctionList get;

    if (provision_check_module(target, err) != 0 ||
            p11_module_load(target->module, &slots.library, &get, err) != 0)
        return -1;
    ERR_clear_error();
    if ((slots.ctx = PKCS11_CTX_new()) == NULL) {
        cc_err_nomem(err);
        goto fail;
    }
    if (target->init_args[0] != '\0')
        PKCS11_CTX_init_args(slots.ctx, target->init_args);
    if (PKCS11_CTX_load(slots.ctx, target->module) != 0) {
        slots_error("C_Initialize", false, err);
        goto fail;
    }
    slots.loaded = true;
    if (PKCS11_enumerate_slots(slots.ctx, &slots.list, &slots.count) != 0) {
        slots_error("list of slots", false, err);
        goto fail;
    }
    *ret = slots;
    return 0;
fail:
    slots_close(&slots);
    return -1;
}

/* ---- Looking ---- */

static uint32_t
token_flags(const PKCS11_TOKEN *token)
{
    return (token->initialized ? WIRE_TOKEN_INITIALISED : 0U) |
           (token->loginRequired ? WIRE_TOKEN_LOGIN_REQUIRED : 0U) |
           (token->readOnly ? WIRE_TOKEN_WRITE_PROTECTED : 0U) |
           (token->userPinSet ? WIRE_TOKEN_PIN_INITIALISED : 0U) |
           (token->userPinCountLow ? WIRE_TOKEN_PIN_COUNT_LOW : 0U) |
           (token->userPinFinalTry ? WIRE_TOKEN_PIN_FINAL_TRY : 0U) |
           (token->userPinLocked ? WIRE_TOKEN_PIN_LOCKED : 0U);
}

static void
copy_text(char *ret, size_t size, const char *text)
{
    (void)cc_strcpy(ret, size, text != NULL ? text : "");
}

/* As PKCS#11 has it: not ended, padded with blanks. */
static void
pad_text(CK_UTF8CHAR *ret, size_t size, const char *text)
{
    const size_t len = text == NULL ? 0 : strnlen(text, size);

    memset(ret, ' ', size);
    if (len > 0)
        memcpy(ret, text, len);
}

static const struct profile *
find_profile(const struct provision_target *target, const PKCS11_CTX *ctx,
        const PKCS11_TOKEN *token)
{
    const struct profile *by_module = profile_by_module(target->module);
    CK_INFO library = { 0 };
    CK_TOKEN_INFO info = { 0 };

    if (by_module->connection_per_thread)
        return by_module; /* what lies behind it describes itself, not the way to it */
    pad_text(library.manufacturerID, sizeof(library.manufacturerID), ctx->manufacturer);
    pad_text(info.manufacturerID, sizeof(info.manufacturerID), token->manufacturer);
    return profile_by_info(&library, &info, by_module);
}

static void
read_token(const struct provision_target *target, const struct slots *slots, PKCS11_SLOT *slot,
        struct provision_token *ret)
{
    const PKCS11_TOKEN *token = slot->token;

    ret->slot = PKCS11_get_slotid_from_slot(slot);
    ret->flags = token_flags(token);
    copy_text(ret->label, sizeof(ret->label), token->label);
    copy_text(ret->manufacturer, sizeof(ret->manufacturer), token->manufacturer);
    copy_text(ret->model, sizeof(ret->model), token->model);
    copy_text(ret->serial, sizeof(ret->serial), token->serialnr);
    ret->profile = find_profile(target, slots->ctx, token);
}

int
provision_list_tokens(struct provision_target *target, struct provision_token **ret_tokens,
        size_t *ret_count, struct cc_err *err)
{
    struct provision_token *tokens = NULL;
    struct slots slots = { 0 };
    size_t count = 0;

    if (slots_open(target, &slots, err) != 0)
        return -1;
    if ((tokens = calloc((size_t)slots.count + 1, sizeof(*tokens))) == NULL) {
        slots_close(&slots);
        return cc_err_nomem(err);
    }
    for (unsigned i = 0; i < slots.count; i++)
        if (slots.list[i].token != NULL)
            read_token(target, &slots, &slots.list[i], &tokens[count++]);
    slots_close(&slots);

    *ret_tokens = tokens;
    *ret_count = count;
    return 0;
}

/* ---- Initialising ---- */

/* libp11 takes a PIN as a string. */
static int
check_pin(const struct cc_secret *pin, const char *reference, struct cc_err *err)
{
    if (strlen(cc_secret_str(pin)) != cc_secret_len(pin))
        return cc_err_set(err, CC_DOM_INPUT, 0, "%s: a PIN has no NUL bytes", reference);
    return 0;
}

/*
 * *ret_token is NULL when no token has the label.  A fresh token of NSS has its label by itself, an empty SO PIN, and
 * counts as initialised only when it has a user PIN: without SO PIN it is that kind which is meant.
 */
static int
find_labelled(const struct slots *slots, const char *label, bool has_so_pin,
        PKCS11_TOKEN **ret_token, struct cc_err *err)
{
    PKCS11_TOKEN *found = NULL;

    for (unsigned i = 0; i < slots->count; i++) {
        PKCS11_TOKEN *token = slots->list[i].token;

        if (token == NULL || (!token->initialized && has_so_pin) || token->label == NULL ||
                strcmp(token->label, label) != 0)
            continue;
        if (token->userPinSet || found != NULL)
            return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT,
                    "a token with this label is there already: choose another label (certconnector token list "
                    "shows them)");
        found = token;
    }
    *ret_token = found;
    return 0;
}

static PKCS11_TOKEN *
find_free(const struct slots *slots)
{
    for (unsigned i = 0; i < slots->count; i++)
        if (slots->list[i].token != NULL && !slots->list[i].token->initialized)
            return slots->list[i].token;
    return NULL;
}

static int
init_free_token(const struct slots *slots, const char *label, const struct cc_secret *so_pin,
        struct cc_err *err)
{
    PKCS11_TOKEN *token = find_free(slots);
    char padded[LABEL_LEN + 1];

    if (token == NULL)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED,
                "no slot has a free token for this label: make one with the tool of the token's maker");
    if (so_pin == NULL)
        return cc_err_set(err, CC_DOM_USAGE, 0,
                "a new token needs its security officer's PIN: say --so-pin REFERENCE");
    /* PKCS#11 wants 32 bytes, padded with blanks; libp11 hands on what it is given. */
    snprintf(padded, sizeof(padded), "%-*s", LABEL_LEN, label);
    ERR_clear_error();
    if (PKCS11_init_token(token, cc_secret_str(so_pin), padded) != 0)
        return slots_error("C_InitToken", true, err);
    return 0;
}

/* Leaves an initialised token of this label without user PIN. */
static int
make_token(const struct provision_target *target, const char *label, const struct cc_secret *so_pin,
        struct cc_err *err)
{
    PKCS11_TOKEN *token = NULL;
    struct slots slots = { 0 };
    int rc;

    if (slots_open(target, &slots, err) != 0)
        return -1;
    rc = find_labelled(&slots, label, so_pin != NULL, &token, err);
    if (rc == 0 && token == NULL)
        rc = init_free_token(&slots, label, so_pin, err);
    slots_close(&slots);
    return rc;
}

static struct cc_bytes
secret_bytes(struct cc_secret *secret)
{
    return secret == NULL ? (struct cc_bytes){ 0 }
                          : (struct cc_bytes){ cc_secret_data(secret), cc_secret_len(secret) };
}

/* The security officer sets the user's PIN; the proof is that it logs in. */
static int
set_pin(struct provision_target *target, const char *label, struct cc_secret *so_pin,
        const char *so_reference, struct cc_secret *pin, struct cc_err *err)
{
    struct p11_uri uri = { 0 };
    struct provision p = { 0 };
    int rc = -1;
    CK_RV rv;

    (void)cc_strcpy(uri.token, sizeof(uri.token), label);
    if (provision_open_session(target, &uri, 0, true, &p, err) != 0)
        return -1;
    if (provision_login(&p, CKU_SO, secret_bytes(so_pin), so_reference, err) != 0)
        goto out;
    if ((rv = p.f->C_InitPIN(p.session, cc_secret_data(pin), cc_secret_len(pin))) != CKR_OK) {
        provision_write_error(rv,
                rv == CKR_PIN_LEN_RANGE || rv == CKR_PIN_INVALID
                        ? "the token wants another kind of PIN (change it and repeat): C_InitPIN"
                        : "C_InitPIN",
                err);
        goto out;
    }
    (void)p.f->C_Logout(p.session);
    p.logged_in = false;
    rc = provision_login(&p, CKU_USER, secret_bytes(pin), target->pin, err);
out:
    provision_close(&p);
    return rc;
}

int
provision_init_token(struct provision_target *target, const char *label, const char *so_reference,
        struct cc_err *err)
{
    struct cc_secret *pin = NULL, *so_pin = NULL;
    int rc = -1;

    if (provision_check_label(label, sizeof(((struct p11_uri *)NULL)->token), "token", err) != 0)
        return -1;
    if (target->pin[0] == '\0')
        return cc_err_set(err, CC_DOM_USAGE, 0, "a token needs a PIN: say --pin REFERENCE");
    if ((pin = cc_secret_load(target->pin, err)) == NULL || check_pin(pin, target->pin, err) != 0)
        goto out;
    if (so_reference[0] != '\0' && ((so_pin = cc_secret_load(so_reference, err)) == NULL ||
                                           check_pin(so_pin, so_reference, err) != 0))
        goto out;
    if (make_token(target, label, so_pin, err) != 0 ||
            set_pin(target, label, so_pin, so_reference, pin, err) != 0)
        goto out;
    rc = 0;
out:
    cc_secret_free(so_pin);
    cc_secret_free(pin);
    return rc;
}
