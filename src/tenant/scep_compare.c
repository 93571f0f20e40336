/* SPDX-License-Identifier: MIT */
#include "scep.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/x509v3.h>

#include "base/json.h"
#include "pki/csr.h"
#include "pki/name.h"
#include "pki/plan.h"

/*
 * A certificate request held against what was ordered.  Extensions that an order says nothing of are not looked at:
 * which of them a certificate may have is the connector's and the CA's to decide.
 */

#define SANS_MAX 64
#define USAGES_MAX 32
#define TEXT_MAX 1024

struct scep_wants {
    X509_NAME *subject;
    GENERAL_NAMES *sans;                        /* NULL: none */
    unsigned key_usages;                        /* KU_* of x509v3.h; 0: any */
    STACK_OF(ASN1_OBJECT) *extended_key_usages; /* none: any */
    int key_bits;                               /* at least */
};

void
scep_wants_free(struct scep_wants *wants)
{
    if (wants == NULL)
        return;
    X509_NAME_free(wants->subject);
    sk_GENERAL_NAME_pop_free(wants->sans, GENERAL_NAME_free);
    sk_ASN1_OBJECT_pop_free(wants->extended_key_usages, ASN1_OBJECT_free);
    free(wants);
}

/* ---- orders ---- */

static int
read_subject(json_object *order, struct scep_wants *ret, struct cc_err *err)
{
    const char *text;

    if (cc_json_get_str(order, "subjectName", PKI_NAME_TEXT_MAX, &text, err) != 0)
        return -1;
    return pki_name_parse(text != NULL ? text : "", &ret->subject, err);
}

static int
read_san(json_object *item, struct pki_san *ret, struct cc_err *err)
{
    const char *type;
    int number;

    if (!json_object_is_type(item, json_type_object))
        return cc_err_set(err, CC_DOM_INPUT, 0, "not an object");
    if (cc_json_need_str(item, "type", 16, &type, err) != 0 ||
            cc_json_need_str(item, "value", TEXT_MAX, &ret->value, err) != 0)
        return -1;
    if ((number = pki_san_type_parse(type)) < 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"type\" is none that is known");
    ret->type = (enum pki_san_type)number;
    return 0;
}

static int
read_sans(json_object *order, struct scep_wants *ret, struct cc_err *err)
{
    static const char name[] = "subjectAlternativeNames";
    struct pki_san sans[SANS_MAX];
    json_object *array;
    size_t count;

    if (cc_json_get_array(order, name, &array, err) != 0)
        return -1;
    count = array != NULL ? json_object_array_length(array) : 0;
    if (count > SANS_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"%s\" has over %d", name, SANS_MAX);
    for (size_t i = 0; i < count; i++)
        if (read_san(json_object_array_get_idx(array, i), &sans[i], err) != 0)
            return cc_err_in(err, "%s[%zu]", name, i);
    return pki_san_build(sans, count, &ret->sans, err);
}

/* The texts of a list, each to fn. */
static int
each_text(json_object *order, const char *name,
        int (*fn)(struct scep_wants *ret, const char *text, struct cc_err *err),
        struct scep_wants *ret, struct cc_err *err)
{
    json_object *array;
    size_t count;

    if (cc_json_get_array(order, name, &array, err) != 0)
        return -1;
    count = array != NULL ? json_object_array_length(array) : 0;
    if (count > USAGES_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"%s\" has over %d", name, USAGES_MAX);
    for (size_t i = 0; i < count; i++) {
        json_object *item = json_object_array_get_idx(array, i);
        int rc = json_object_is_type(item, json_type_string)
                         ? fn(ret, json_object_get_string(item), err)
                         : cc_err_set(err, CC_DOM_INPUT, 0, "not a text");

        if (rc != 0)
            return cc_err_in(err, "%s[%zu]", name, i);
    }
    return 0;
}

static int
add_key_usage(struct scep_wants *ret, const char *text, struct cc_err *err)
{
    unsigned usage = pki_key_usage_parse(text);

    if (usage == 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "no key usage that is known");
    ret->key_usages |= usage;
    return 0;
}

static int
add_extended(struct scep_wants *ret, const char *text, struct cc_err *err)
{
    ASN1_OBJECT *object;
    char oid[128];

    if (pki_extended_key_usage_parse(text, oid, sizeof(oid), err) != 0)
        return -1;
    object = OBJ_txt2obj(oid, 1);
    if (object == NULL || sk_ASN1_OBJECT_push(ret->extended_key_usages, object) <= 0) {
        ASN1_OBJECT_free(object);
        return cc_err_set_openssl(err, "extended key usage");
    }
    return 0;
}

int
scep_wants_read(json_object *order, struct scep_wants **ret_wants, struct cc_err *err)
{
    struct scep_wants *wants = calloc(1, sizeof(*wants));
    int64_t key_bits;

    if (wants == NULL)
        return cc_err_nomem(err);
    if ((wants->extended_key_usages = sk_ASN1_OBJECT_new_null()) == NULL) {
        cc_err_nomem(err);
        goto fail;
    }
    if (read_subject(order, wants, err) != 0 || read_sans(order, wants, err) != 0 ||
            each_text(order, "keyUsages", add_key_usage, wants, err) != 0 ||
            each_text(order, "extendedKeyUsages", add_extended, wants, err) != 0 ||
            cc_json_get_int(order, "keyLength", 0, INT_MAX, 0, &key_bits, err) != 0)
        goto fail;
    wants->key_bits = (int)key_bits;
    *ret_wants = wants;
    return 0;
fail:
    scep_wants_free(wants);
    return -1;
}

/* ---- requests ---- */

static int
undecodable(struct cc_err *err, const char *what)
{
    return cc_err_set(err, CC_DOM_INPUT, SCEP_REQUEST_DECODING_FAILED, "%s", what);
}

int
scep_challenge_of(X509_REQ *csr, struct cc_buf *ret, struct cc_err *err)
{
    int place = X509_REQ_get_attr_by_NID(csr, NID_pkcs9_challengePassword, -1);
    X509_ATTRIBUTE *attribute = place >= 0 ? X509_REQ_get_attr(csr, place) : NULL;
    const ASN1_TYPE *value;
    unsigned char *text = NULL;
    int len, rc;

    if (attribute == NULL)
        return cc_err_set(err, CC_DOM_INPUT, SCEP_PASSWORD_MISSING,
                "The certificate request has no challengePassword.");
    if (X509_ATTRIBUTE_count(attribute) != 1 ||
            X509_REQ_get_attr_by_NID(csr, NID_pkcs9_challengePassword, place) >= 0)
        return undecodable(err, "The certificate request has more than one challengePassword.");

    value = X509_ATTRIBUTE_get0_type(attribute, 0);
    /* A DirectoryString, or what old clients have in its place. */
    if (value->type != V_ASN1_UTF8STRING && value->type != V_ASN1_PRINTABLESTRING &&
            value->type != V_ASN1_T61STRING && value->type != V_ASN1_BMPSTRING &&
            value->type != V_ASN1_UNIVERSALSTRING && value->type != V_ASN1_IA5STRING)
        return undecodable(err, "The challengePassword is no text.");
    if ((len = ASN1_STRING_to_UTF8(&text, value->value.asn1_string)) < 0) {
        ERR_clear_error();
        return undecodable(err, "The challengePassword is no text.");
    }
    if (len == 0)
        rc = cc_err_set(err, CC_DOM_INPUT, SCEP_PASSWORD_MISSING,
                "The challengePassword is empty.");
    else if (len > SCEP_CHALLENGE_MAX || memchr(text, '\0', (size_t)len) != NULL)
        rc = cc_err_set(err, CC_DOM_INPUT, SCEP_CHALLENGE_DECODING,
                "The challenge is too long, or not base64.");
    else
        rc = cc_buf_add(ret, text, (size_t)len, err);
    OPENSSL_clear_free(text, (size_t)len);
    return rc;
}

/* What is there must be readable, and there once: nobody after us may read it in another way. */
static int
get_extension(const X509_EXTENSIONS *extensions, int nid, void **ret, struct cc_err *err)
{
    int critical = -1;

    *ret = X509V3_get_d2i(extensions, nid, &critical, NULL);
    ERR_clear_error();
    if (*ret == NULL && critical != -1)
        return undecodable(err, "An extension of the certificate request cannot be read.");
    return 0;
}

static int
get_extensions(X509_REQ *csr, X509_EXTENSIONS **ret, struct cc_err *err)
{
    bool there = X509_REQ_get_attr_by_NID(csr, NID_ext_req, -1) >= 0 ||
                 X509_REQ_get_attr_by_NID(csr, NID_ms_ext_req, -1) >= 0;

    *ret = X509_REQ_get_extensions(csr);
    ERR_clear_error();
    if (*ret == NULL && there)
        return undecodable(err, "The extensions of the certificate request cannot be read.");
    return 0;
}

static int
compare_subject(const struct scep_wants *wants, X509_REQ *csr, struct cc_err *err)
{
    const X509_NAME *subject = X509_REQ_get_subject_name(csr);
    struct cc_buf text = CC_BUF_INIT(PKI_NAME_TEXT_MAX);

    if (X509_NAME_entry_count(subject) == 0 && X509_NAME_entry_count(wants->subject) != 0)
        return cc_err_set(err, CC_DOM_INPUT, SCEP_SUBJECT_MISSING,
                "The certificate request has no subject name.");
    /* RFC 5280 section 7.1: without case, whatever the string type. */
    if (X509_NAME_cmp(subject, wants->subject) == 0)
        return 0;
    ERR_clear_error();
    if (pki_name_format(wants->subject, &text, NULL) != 0)
        cc_buf_reset(&text);
    cc_err_set(err, CC_DOM_INPUT, SCEP_SUBJECT_MISMATCH,
            "The subject name of the certificate request is not %.200s.", cc_buf_str(&text));
    cc_buf_free(&text);
    return -1;
}

static bool
has_name(const GENERAL_NAMES *names, GENERAL_NAME *wanted)
{
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++)
        if (GENERAL_NAME_cmp(sk_GENERAL_NAME_value(names, i), wanted) == 0)
            return true;
    return false;
}

static bool
covers(const GENERAL_NAMES *all, const GENERAL_NAMES *some)
{
    for (int i = 0; i < sk_GENERAL_NAME_num(some); i++)
        if (!has_name(all, sk_GENERAL_NAME_value(some, i)))
            return false;
    return true;
}

static int
compare_sans(const struct scep_wants *wants, const X509_EXTENSIONS *extensions, struct cc_err *err)
{
    void *value;
    GENERAL_NAMES *names;
    int rc = 0;

    if (get_extension(extensions, NID_subject_alt_name, &value, err) != 0)
        return -1;
    names = value;
    if (sk_GENERAL_NAME_num(names) <= 0 && wants->sans != NULL)
        rc = cc_err_set(err, CC_DOM_INPUT, SCEP_SAN_MISSING,
                "The certificate request has no subject alternative name.");
    else if (!covers(names, wants->sans) || !covers(wants->sans, names))
        rc = cc_err_set(err, CC_DOM_INPUT, SCEP_SAN_MISMATCH,
                "The subject alternative names of the certificate request are others.");
    sk_GENERAL_NAME_pop_free(names, GENERAL_NAME_free);
    return rc;
}

static int
compare_key_usages(const struct scep_wants *wants, const X509_EXTENSIONS *extensions,
        struct cc_err *err)
{
    void *value;
    ASN1_BIT_STRING *bits;
    unsigned usages = 0;

    if (get_extension(extensions, NID_key_usage, &value, err) != 0)
        return -1;
    bits = value;
    for (int i = 0; bits != NULL && i < 9; i++)
        if (ASN1_BIT_STRING_get_bit(bits, i))
            usages |= i == 8 ? KU_DECIPHER_ONLY : 0x80u >> i;
    ASN1_BIT_STRING_free(bits);
    if (wants->key_usages == 0 || usages == wants->key_usages)
        return 0;
    return cc_err_set(err, CC_DOM_INPUT, SCEP_KEY_USAGE_MISMATCH,
            "The key usages of the certificate request are others.");
}

static bool
covers_usages(const STACK_OF(ASN1_OBJECT) *all, const STACK_OF(ASN1_OBJECT) *some)
{
    for (int i = 0; i < sk_ASN1_OBJECT_num(some); i++) {
        bool found = false;

        for (int k = 0; k < sk_ASN1_OBJECT_num(all) && !found; k++)
            found = OBJ_cmp(sk_ASN1_OBJECT_value(all, k), sk_ASN1_OBJECT_value(some, i)) == 0;
        if (!found)
            return false;
    }
    return true;
}

static int
compare_extended(const struct scep_wants *wants, const X509_EXTENSIONS *extensions,
        struct cc_err *err)
{
    const STACK_OF(ASN1_OBJECT) *wanted = wants->extended_key_usages;
    void *value;
    EXTENDED_KEY_USAGE *usages;
    int rc = 0;

    if (get_extension(extensions, NID_ext_key_usage, &value, err) != 0)
        return -1;
    usages = value;
    if (sk_ASN1_OBJECT_num(wanted) == 0)
        rc = 0;
    else if (sk_ASN1_OBJECT_num(usages) <= 0)
        rc = cc_err_set(err, CC_DOM_INPUT, SCEP_EKU_MISSING,
                "The certificate request has no extended key usage.");
    else if (!covers_usages(usages, wanted) || !covers_usages(wanted, usages))
        rc = cc_err_set(err, CC_DOM_INPUT, SCEP_EKU_MISMATCH,
                "The extended key usages of the certificate request are others.");
    sk_ASN1_OBJECT_pop_free(usages, ASN1_OBJECT_free);
    return rc;
}

static int
compare_key_length(const struct scep_wants *wants, X509_REQ *csr, struct cc_err *err)
{
    const EVP_PKEY *key = X509_REQ_get0_pubkey(csr);

    if (key != NULL && EVP_PKEY_get_bits(key) >= wants->key_bits)
        return 0;
    return cc_err_set(err, CC_DOM_INPUT, SCEP_KEY_LENGTH_MISMATCH,
            "The key of the certificate request has less than %d bits.", wants->key_bits);
}

int
scep_compare(const struct scep_wants *wants, X509_REQ *csr, struct cc_err *err)
{
    X509_EXTENSIONS *extensions;
    int rc = -1;

    ERR_clear_error();
    if (get_extensions(csr, &extensions, err) != 0)
        return -1;
    if (compare_subject(wants, csr, err) == 0 && compare_sans(wants, extensions, err) == 0 &&
            compare_key_usages(wants, extensions, err) == 0 &&
            compare_key_length(wants, csr, err) == 0)
        rc = compare_extended(wants, extensions, err);
    ERR_clear_error();
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    return rc;
}
