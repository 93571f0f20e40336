/* SPDX-License-Identifier: MIT */
#ifndef HSM_TOKEN_URI_H
#define HSM_TOKEN_URI_H

/*
 * PKCS#11 URIs (RFC 7512), as far as they name a token or a key on it.
 *
 * Known: token, manufacturer, model, serial, slot-id, object, id, type, and pin-source with a file.  Any other
 * attribute is refused rather than ignored: a URI that we half understand would name more than its author meant.
 * So is pin-value, which would put a PIN into the configuration.  Any thread.
 */

#include <p11-kit/pkcs11.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"

#define P11_URI_MAX 1024 /* bytes of text */
#define P11_URI_ID_MAX 64
#define P11_URI_PIN_MAX 512

struct p11_uri {
    /* "" matches anything */
    char token[33];
    char manufacturer[33];
    char model[17];
    char serial[17];
    char object[128];
    uint8_t id[P11_URI_ID_MAX];
    size_t id_len; /* 0: any */
    bool has_class;
    CK_OBJECT_CLASS class;
    bool has_slot;
    CK_SLOT_ID slot;
    char pin_source[P11_URI_PIN_MAX]; /* as cc_secret_load() takes it, or "" */
};

CC_MUST int p11_uri_parse(const char *text, struct p11_uri *ret, struct cc_err *err);

/* A key's URI within a token: what it says of a token must not contradict the token's own.  It must have an object
   label or an id, and no PIN. */
CC_MUST int p11_uri_parse_key(const char *text, const struct p11_uri *token, struct p11_uri *ret,
        struct cc_err *err);

bool p11_uri_names_token(const struct p11_uri *uri, CK_SLOT_ID slot, const CK_TOKEN_INFO *info);

#endif
