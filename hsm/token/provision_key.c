/* SPDX-License-Identifier: MIT */
#include "hsm/token/provision.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "hsm/token/attr.h"
#include "hsm/token/ckr.h"
#include "hsm/token/public.h"
#include "pki/pubkey.h"

/* ---- What a key is ---- */

static bool
read_bool(struct provision *p, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type)
{
    struct cc_buf value = CC_BUF_INIT(P11_ATTR_MAX);
    bool is;

    is = p11_attr_read(p->f, p->session, object, type, &value) == CKR_OK && value.len == 1 &&
         value.data[0] != CK_FALSE;
    cc_buf_free(&value);
    return is;
}

/* What an object does not have, it is not. */
static uint32_t
read_flags(struct provision *p, CK_OBJECT_HANDLE object)
{
    static const struct {
        CK_ATTRIBUTE_TYPE type;
        uint32_t flag;
    } attrs[] = {
        { CKA_SENSITIVE, WIRE_KEY_SENSITIVE },
        { CKA_EXTRACTABLE, WIRE_KEY_EXTRACTABLE },
        { CKA_ALWAYS_SENSITIVE, WIRE_KEY_ALWAYS_SENSITIVE },
        { CKA_NEVER_EXTRACTABLE, WIRE_KEY_NEVER_EXTRACTABLE },
        { CKA_SIGN, WIRE_KEY_SIGN },
        { CKA_VERIFY, WIRE_KEY_VERIFY },
        { CKA_ENCRYPT, WIRE_KEY_ENCRYPT },
        { CKA_DECRYPT, WIRE_KEY_DECRYPT },
        { CKA_WRAP, WIRE_KEY_WRAP },
        { CKA_UNWRAP, WIRE_KEY_UNWRAP },
        { CKA_DERIVE, WIRE_KEY_DERIVE },
    };
    uint32_t flags = 0;

    for (size_t i = 0; i < CC_COUNT(attrs); i++)
        if (read_bool(p, object, attrs[i].type))
            flags |= attrs[i].flag;
    return flags;
}

/* Bits of an RSA modulus as it is stored; 0 where the object does not tell. */
static size_t
read_modulus_bits(struct provision *p, CK_OBJECT_HANDLE object)
{
    struct cc_buf modulus = CC_BUF_INIT(P11_ATTR_MAX);
    size_t bits = 0, zero = 0;

    if (p11_attr_read(p->f, p->session, object, CKA_MODULUS, &modulus) == CKR_OK) {
        while (zero < modulus.len && modulus.data[zero] == 0)
            zero++;
        bits = (modulus.len - zero) * 8;
        for (unsigned top = zero < modulus.len ? modulus.data[zero] : 0x80; top < 0x80; top <<= 1)
            bits--;
    }
    cc_buf_free(&modulus);
    return bits;
}

/* otherwise where the object does not tell. */
static CK_ULONG
read_number(struct provision *p, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type,
        CK_ULONG otherwise)
{
    CK_ULONG value = 0;

    return p11_attr_read_ulong(p->f, p->session, object, type, &value) == CKR_OK ? value
                                                                                 : otherwise;
}

static const char *
read_curve(struct provision *p, CK_OBJECT_HANDLE object)
{
    struct cc_buf params = CC_BUF_INIT(P11_ATTR_MAX);
    const char *name = NULL;
    int nid = NID_undef;

    if (p11_attr_read(p->f, p->session, object, CKA_EC_PARAMS, &params) == CKR_OK)
        nid = p11_public_curve(cc_buf_bytes(&params));
    cc_buf_free(&params);
    if (nid != NID_undef && (name = EC_curve_nid2nist(nid)) == NULL)
        name = OBJ_nid2sn(nid);
    return name != NULL ? name : "EC";
}

static void
read_kind(struct provision *p, CK_OBJECT_HANDLE object, char *ret, size_t size)
{
    const CK_KEY_TYPE type = read_number(p, object, CKA_KEY_TYPE, CK_UNAVAILABLE_INFORMATION);
    size_t bits;

    switch (type) {
    case CKK_RSA:
        bits = read_modulus_bits(p, object);
        (void)snprintf(ret, size, bits == 0 ? "RSA" : "RSA-%zu", bits);
        break;
    case CKK_EC:
        (void)snprintf(ret, size, "%s", read_curve(p, object));
        break;
    case CKK_AES:
        (void)snprintf(ret, size, "AES-%lu", read_number(p, object, CKA_VALUE_LEN, 0) * 8);
        break;
    case CKK_GENERIC_SECRET:
        (void)snprintf(ret, size, "generic");
        break;
    default:
        (void)snprintf(ret, size, "CKK-%lX", type & 0xffffffffUL);
    }
}

/* A label as far as it is text and fits; cut where a character begins. */
static void
copy_label(const struct cc_buf *label, char *ret, size_t size)
{
    size_t len = label->len;

    if (len >= size) {
        len = size - 1;
        while (len > 0 && (label->data[len] & 0xc0) == 0x80)
            len--;
    }
    if (len > 0)
        memcpy(ret, label->data, len);
    ret[len] = '\0'; /* and a NUL inside ends it */
}

int
provision_read_key(struct provision *p, CK_OBJECT_HANDLE object, CK_OBJECT_CLASS class,
        struct provision_key *ret, struct cc_err *err)
{
    struct cc_buf label = CC_BUF_INIT(P11_ATTR_MAX), id = CC_BUF_INIT(P11_ATTR_MAX);
    CK_RV rv;
    int rc = -1;

    memset(ret, 0, sizeof(*ret));
    rv = p11_attr_read(p->f, p->session, object, CKA_LABEL, &label);
    if (rv == CKR_OK || ckr_class(rv) == CKR_IS_ANSWER)
        rv = p11_attr_read(p->f, p->session, object, CKA_ID, &id);
    if (rv != CKR_OK && ckr_class(rv) != CKR_IS_ANSWER) {
        ckr_err(err, rv, "attributes of a key");
        goto out;
    }
    ret->class = class == CKO_PRIVATE_KEY  ? WIRE_KEY_PRIVATE
                 : class == CKO_PUBLIC_KEY ? WIRE_KEY_PUBLIC
                                           : WIRE_KEY_SECRET;
    ret->flags = read_flags(p, object);
    copy_label(&label, ret->label, sizeof(ret->label));
    if (id.len > 0 && id.len <= sizeof(ret->id)) {
        memcpy(ret->id, id.data, id.len);
        ret->id_len = id.len;
    }
    read_kind(p, object, ret->kind, sizeof(ret->kind));
    rc = 0;
out:
    cc_buf_free(&id);
    cc_buf_free(&label);
    return rc;
}

/* ---- All keys ---- */

struct key_list {
    struct provision_key *keys;
    size_t count;
    CK_OBJECT_HANDLE *handles; /* room for WIRE_LIST_MAX */
};

static int
list_class(struct provision *p, CK_OBJECT_CLASS class, struct key_list *list, struct cc_err *err)
{
    const CK_BBOOL yes = CK_TRUE;
    CK_ATTRIBUTE template[] = {
        p11_attr(CKA_CLASS, &class, sizeof(class)),
        p11_attr(CKA_TOKEN, &yes, sizeof(yes)),
    };
    const size_t room = WIRE_LIST_MAX - list->count;
    CK_ULONG count = 0;
    CK_RV rv;

    rv = p11_find(p->f, p->session, template, CC_COUNT(template), list->handles, room, &count);
    if (rv != CKR_OK)
        return ckr_err(err, rv, "search of keys");
    if (count >= room)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED,
                "the token has more than %d keys", WIRE_LIST_MAX);
    for (CK_ULONG i = 0; i < count; i++, list->count++)
        if (provision_read_key(p, list->handles[i], class, &list->keys[list->count], err) != 0)
            return -1;
    return 0;
}

int
provision_list_keys(struct provision *p, struct provision_key **ret_keys, size_t *ret_count,
        struct cc_err *err)
{
    struct key_list list = {
        .keys = calloc(WIRE_LIST_MAX, sizeof(*list.keys)),
        .handles = calloc(WIRE_LIST_MAX, sizeof(*list.handles)),
    };
    int rc = -1;

    if (list.keys == NULL || list.handles == NULL) {
        cc_err_nomem(err);
        goto out;
    }
    if (list_class(p, CKO_PRIVATE_KEY, &list, err) != 0 ||
            list_class(p, CKO_PUBLIC_KEY, &list, err) != 0 ||
            list_class(p, CKO_SECRET_KEY, &list, err) != 0)
        goto out;
    *ret_keys = list.keys;
    *ret_count = list.count;
    list.keys = NULL;
    rc = 0;
out:
    free(list.handles);
    free(list.keys);
    return rc;
}

/* ---- The public half ---- */

int
provision_read_public(struct provision *p, CK_OBJECT_HANDLE object, struct cc_buf *ret,
        struct cc_err *err)
{
    struct cc_buf id = CC_BUF_INIT(P11_ATTR_MAX);
    CK_KEY_TYPE type = CK_UNAVAILABLE_INFORMATION;
    EVP_PKEY *public = NULL;
    int rc = -1;
    CK_RV rv;

    if ((rv = p11_attr_read_ulong(p->f, p->session, object, CKA_KEY_TYPE, &type)) != CKR_OK) {
        ckr_err(err, rv, "type of the key");
        goto out;
    }
    if (type != CKK_RSA && type != CKK_EC) {
        cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED, "the key is neither RSA nor EC");
        goto out;
    }
    rv = p11_attr_read(p->f, p->session, object, CKA_ID, &id);
    if (rv != CKR_OK && ckr_class(rv) != CKR_IS_ANSWER) {
        ckr_err(err, rv, "id of the key");
        goto out;
    }
    if (p11_public_read(p->f, p->session, object, type, cc_buf_bytes(&id), &public, err) != CKR_OK)
        goto out;
    if (public == NULL) {
        cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_KEY_NOT_FOUND,
                "the token does not tell the public half of this key: store the public key with the same id");
        goto out;
    }
    rc = pki_pubkey_write_spki(public, ret, err);
out:
    EVP_PKEY_free(public);
    cc_buf_free(&id);
    return rc;
}

/* *ret_count is 0, 1, or 2 for more. */
static int
find_named(struct provision *p, const struct p11_uri *uri, CK_OBJECT_CLASS class,
        CK_OBJECT_HANDLE *ret_object, CK_ULONG *ret_count, struct cc_err *err)
{
    CK_ATTRIBUTE template[3] = { p11_attr(CKA_CLASS, &class, sizeof(class)) };
    CK_OBJECT_HANDLE found[2] = { 0 };
    CK_ULONG n = 1;
    CK_RV rv;

    if (uri->object[0] != '\0')
        template[n++] = p11_attr(CKA_LABEL, uri->object, strlen(uri->object));
    if (uri->id_len != 0)
        template[n++] = p11_attr(CKA_ID, uri->id, uri->id_len);
    if ((rv = p11_find(p->f, p->session, template, n, found, 2, ret_count)) != CKR_OK)
        return ckr_err(err, rv, "search of a key");
    *ret_object = found[0];
    return 0;
}

int
provision_export_public(struct provision *p, const char *key_uri, struct cc_buf *ret,
        struct cc_err *err)
{
    CK_OBJECT_HANDLE object = 0;
    CK_ULONG count = 0;
    struct p11_uri uri;

    if (p11_uri_parse_key(key_uri, &p->uri, &uri, err) != 0)
        return -1;
    if (uri.has_class && uri.class != CKO_PRIVATE_KEY && uri.class != CKO_PUBLIC_KEY)
        return cc_err_set(err, CC_DOM_USAGE, 0, "only key pairs have a public half");
    /* A pair is named by its private key; the public one counts where there is no other, or it was asked for. */
    if (!uri.has_class || uri.class == CKO_PRIVATE_KEY)
        if (find_named(p, &uri, CKO_PRIVATE_KEY, &object, &count, err) != 0)
            return -1;
    if (count == 0 && (!uri.has_class || uri.class == CKO_PUBLIC_KEY))
        if (find_named(p, &uri, CKO_PUBLIC_KEY, &object, &count, err) != 0)
            return -1;
    if (count != 1)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_KEY_NOT_FOUND,
                "%s key of the token has this URI%s", count == 0 ? "no" : "more than one",
                p->logged_in ? "" : " (without a PIN only public objects are seen)");
    return provision_read_public(p, object, ret, err);
}
