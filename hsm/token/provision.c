/* SPDX-License-Identifier: MIT */
#include "hsm/token/provision.h"

#include <dlfcn.h>
#include <string.h>

#include "base/secret.h"
#include "base/text.h"
#include "hsm/token/ckr.h"
#include "hsm/token/module.h"

int
provision_check_module(const struct provision_target *target, struct cc_err *err)
{
    const struct profile *profile = profile_by_module(target->module);

    if (profile->init_args_wanted && target->init_args[0] == '\0')
        return cc_err_set(err, CC_DOM_USAGE, 0,
                "this module (%s) needs its initialisation string: say --init-args", profile->name);
    return 0;
}

int
provision_check_label(const char *label, size_t size, const char *what, struct cc_err *err)
{
    const size_t len = strlen(label);

    if (len == 0 || len >= size)
        return cc_err_set(err, CC_DOM_USAGE, 0, "the label of a %s has 1 to %zu bytes", what,
                size - 1);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)label[i] < ' ' || label[i] == 0x7f)
            return cc_err_set(err, CC_DOM_USAGE, 0, "the label of a %s has no control characters",
                    what);
    if (!cc_is_utf8(label, len) || label[len - 1] == ' ')
        return cc_err_set(err, CC_DOM_USAGE, 0,
                "the label of a %s is UTF-8 text that does not end with a blank", what);
    return 0;
}

/* ---- Opening ---- */

static int
provision_load(const struct provision_target *target, struct provision *p, struct cc_err *err)
{
    CK_C_GetFunctionList get = NULL;
    CK_RV rv;

    if (provision_check_module(target, err) != 0 ||
            p11_module_load(target->module, &p->library, &get, err) != 0)
        return -1;
    rv = get(&p->f);
    if (rv == CKR_OK && p->f == NULL)
        rv = CKR_GENERAL_ERROR;
    return rv == CKR_OK ? 0 : ckr_err(err, rv, "C_GetFunctionList");
}

static int
provision_initialize(struct provision_target *target, struct provision *p, struct cc_err *err)
{
    const CK_RV rv = p11_initialize(p->f, target->init_args[0] == '\0' ? NULL : target->init_args);

    if (rv != CKR_OK)
        return ckr_err(err, rv, "C_Initialize");
    p->initialised = true;
    return 0;
}

/* SoftHSM says CKR_GENERAL_ERROR or CKR_DEVICE_ERROR for files that it may not write. */
int
provision_write_error(CK_RV rv, const char *where, struct cc_err *err)
{
    switch (rv) {
    case CKR_TOKEN_WRITE_PROTECTED:
    case CKR_SESSION_READ_ONLY:
    case CKR_GENERAL_ERROR:
    case CKR_DEVICE_ERROR:
        return cc_err_set(err, CC_DOM_PKCS11, (long)rv,
                "%s: %s: if only another user can write to the token, run this as that one", where,
                ckr_name(rv));
    default:
        return ckr_err(err, rv, where);
    }
}

int
provision_open_session(struct provision_target *target, const struct p11_uri *uri, CK_FLAGS flags,
        bool write, struct provision *ret, struct cc_err *err)
{
    const CK_FLAGS how = CKF_SERIAL_SESSION | (write ? CKF_RW_SESSION : 0);
    struct provision p = { .uri = *uri };
    CK_RV rv;

    if (provision_load(target, &p, err) != 0 || provision_initialize(target, &p, err) != 0 ||
            p11_find_slot(p.f, uri, flags, &p.slot, &p.info, err) != 0)
        goto fail;
    if ((rv = p.f->C_OpenSession(p.slot, how, NULL, NULL, &p.session)) != CKR_OK) {
        if (write)
            provision_write_error(rv, "C_OpenSession", err);
        else
            ckr_err(err, rv, "C_OpenSession");
        goto fail;
    }
    *ret = p;
    return 0;
fail:
    provision_close(&p);
    return -1;
}

void
provision_close(struct provision *p)
{
    if (p->logged_in)
        (void)p->f->C_Logout(p->session);
    if (p->initialised)
        (void)p->f->C_Finalize(NULL);
    if (p->library != NULL)
        (void)dlclose(p->library);
    memset(p, 0, sizeof(*p));
}

/* ---- The PIN ---- */

static int
login_refused(CK_RV rv, CK_USER_TYPE user, const char *reference, struct cc_err *err)
{
    const char *whose = user == CKU_SO ? "security officer's PIN" : "PIN";

    if (rv == CKR_PIN_LOCKED)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_PIN_REFUSED, "the token's %s is locked: %s",
                whose,
                user == CKU_SO ? "its maker's documents say what is left to do"
                               : "its security officer must set a new one");
    return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_PIN_REFUSED,
            "the token refused the %s (%s); it was tried once and is not tried again by itself: check what %s "
            "holds against the token's PIN before the next try, \"certconnector token list\" shows "
            "whether few tries are left",
            whose, ckr_name(rv), reference[0] == '\0' ? "its reference" : reference);
}

int
provision_login(struct provision *p, CK_USER_TYPE user, struct cc_bytes pin, const char *reference,
        struct cc_err *err)
{
    uint8_t none[1] = { 0 };
    union {
        const uint8_t *in;
        CK_UTF8CHAR *out;
    } text = { .in = pin.len == 0 ? none : pin.data }; /* PKCS#11 has no const */
    CK_RV rv;

    rv = p->f->C_Login(p->session, user, text.out, pin.len);
    if (rv == CKR_OK || rv == CKR_USER_ALREADY_LOGGED_IN) {
        p->logged_in = true;
        return 0;
    }
    if (rv == CKR_USER_PIN_NOT_INITIALIZED)
        return cc_err_set(err, CC_DOM_PKCS11, (long)rv,
                "the token has no user PIN yet: set it with certconnector token init");
    if (ckr_class(rv) == CKR_IS_PIN)
        return login_refused(rv, user, reference, err);
    return ckr_err(err, rv, "C_Login");
}

static int
login_user(struct provision *p, const char *reference, struct cc_err *err)
{
    struct cc_secret *pin = NULL;
    int rc;

    if ((p->info.flags & CKF_USER_PIN_LOCKED) != 0)
        return login_refused(CKR_PIN_LOCKED, CKU_USER, reference, err);
    if ((pin = cc_secret_load(reference, err)) == NULL)
        return -1;
    rc = provision_login(p, CKU_USER, (struct cc_bytes){ cc_secret_data(pin), cc_secret_len(pin) },
            reference, err);
    cc_secret_free(pin);
    return rc;
}

/* The token's URI, and where its PIN is. */
static int
read_uri(const struct provision_target *target, struct p11_uri *ret, const char **ret_pin,
        struct cc_err *err)
{
    if (target->uri[0] == '\0')
        return cc_err_set(err, CC_DOM_USAGE, 0,
                "which token? say --uri pkcs11:token=LABEL (certconnector token list shows them)");
    if (p11_uri_parse(target->uri, ret, err) != 0)
        return -1;
    if (ret->object[0] != '\0' || ret->id_len != 0 || ret->has_class)
        return cc_err_set(err, CC_DOM_USAGE, 0, "the token's URI must not name an object");
    *ret_pin = target->pin[0] != '\0' ? target->pin : ret->pin_source;
    return 0;
}

int
provision_open(struct provision_target *target, bool write, struct provision *ret,
        struct cc_err *err)
{
    struct p11_uri uri = { 0 };
    struct provision p = { 0 };
    const char *pin = "";

    if (read_uri(target, &uri, &pin, err) != 0)
        return -1;
    if (write && pin[0] == '\0')
        return cc_err_set(err, CC_DOM_USAGE, 0,
                "the token is changed only with its PIN: say --pin REFERENCE");
    if (provision_open_session(target, &uri, CKF_TOKEN_INITIALIZED, write, &p, err) != 0)
        return -1;
    if (pin[0] != '\0' && login_user(&p, pin, err) != 0) {
        provision_close(&p);
        return -1;
    }
    *ret = p;
    return 0;
}
