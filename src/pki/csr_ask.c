/* SPDX-License-Identifier: MIT */
#include "pki/csr.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "pki_int.h"

#define SANS_MAX 64
#define USAGES_MAX 32

struct pki_csr_ask {
    struct pki_ask ask;
    struct cc_buf subject;
    struct pki_san sans[SANS_MAX];
    char *san_text[SANS_MAX];
    char *usage_text[USAGES_MAX];
    const char *usages[USAGES_MAX];
    bool had_sid;
    char sid[PKI_SID_MAX]; /* "": none */
};

const struct pki_ask *
pki_csr_ask_get0(const struct pki_csr_ask *ask)
{
    return &ask->ask;
}

bool
pki_csr_ask_had_sid(const struct pki_csr_ask *ask)
{
    return ask->had_sid;
}

const char *
pki_csr_ask_sid(const struct pki_csr_ask *ask)
{
    return ask->sid[0] != '\0' ? ask->sid : NULL;
}

void
pki_csr_ask_free(struct pki_csr_ask *ask)
{
    if (ask == NULL)
        return;
    for (size_t i = 0; i < SANS_MAX; i++)
        free(ask->san_text[i]);
    for (size_t i = 0; i < USAGES_MAX; i++)
        free(ask->usage_text[i]);
    cc_buf_free(&ask->subject);
    free(ask);
}

/* ---- alternative names ---- */

static int
refuse_san(struct cc_err *err, const char *why)
{
    return cc_err_set(err, CC_DOM_INPUT, 0, "subjectAlternativeName of the request: %s", why);
}

/* takes text over, which may be NULL without memory. */
static int
add_san(struct pki_csr_ask *ask, enum pki_san_type type, char *take_text, struct cc_err *err)
{
    size_t n = ask->ask.san_count;

    if (take_text == NULL)
        return cc_err_nomem(err);
    if (n == SANS_MAX) {
        free(take_text);
        return refuse_san(err, "too many names");
    }
    ask->san_text[n] = take_text;
    ask->sans[n] = (struct pki_san){ type, take_text };
    ask->ask.san_count++;
    return 0;
}

static int
add_string(struct pki_csr_ask *ask, enum pki_san_type type, const ASN1_STRING *value,
        struct cc_err *err)
{
    const unsigned char *data = ASN1_STRING_get0_data(value);
    size_t len = (size_t)ASN1_STRING_length(value);

    if (memchr(data, '\0', len) != NULL)
        return refuse_san(err, "a name has a NUL character");
    return add_san(ask, type, strndup((const char *)data, len), err);
}

static int
add_ip(struct pki_csr_ask *ask, const ASN1_OCTET_STRING *value, struct cc_err *err)
{
    char text[INET6_ADDRSTRLEN];
    int len = ASN1_STRING_length(value);

    if ((len != 4 && len != 16) ||
            inet_ntop(len == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(value), text,
                    sizeof(text)) == NULL)
        return refuse_san(err, "an IP address of another length than 4 or 16 bytes");
    return add_san(ask, PKI_SAN_IP, strdup(text), err);
}

/* As people write it, the first three groups turned around. */
static int
add_guid(struct pki_csr_ask *ask, const ASN1_OCTET_STRING *value, struct cc_err *err)
{
    static const int order[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };
    const unsigned char *data = ASN1_STRING_get0_data(value);
    char text[CC_UUID_LEN];
    size_t n = 0;

    if (ASN1_STRING_length(value) != 16)
        return refuse_san(err, "a GUID of another length than 16 bytes");
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            text[n++] = '-';
        cc_hex(&data[order[i]], 1, false, text + n);
        n += 2;
    }
    return add_san(ask, PKI_SAN_GUID, strdup(text), err);
}

static int
add_other(struct pki_csr_ask *ask, const OTHERNAME *other, struct cc_err *err)
{
    char oid[80] = "";

    (void)OBJ_obj2txt(oid, sizeof(oid), other->type_id, 1);
    if (strcmp(oid, PKI_OID_UPN) == 0 && other->value->type == V_ASN1_UTF8STRING)
        return add_string(ask, PKI_SAN_UPN, other->value->value.utf8string, err);
    if (strcmp(oid, PKI_OID_NTDS_GUID) == 0 && other->value->type == V_ASN1_OCTET_STRING)
        return add_guid(ask, other->value->value.octet_string, err);
    return cc_err_set(err, CC_DOM_INPUT, 0,
            "subjectAlternativeName of the request: otherName %s is not known", oid);
}

/* Named by who vouches for it, or not at all: never among the names that are asked for. */
static int
read_uri(struct pki_csr_ask *ask, const ASN1_STRING *value, struct cc_err *err)
{
    char text[PKI_SID_URI_MAX];
    const int len = ASN1_STRING_length(value);
    const char *sid;

    (void)snprintf(text, sizeof(text), "%.*s", len, (const char *)ASN1_STRING_get0_data(value));
    if (!pki_is_sid_uri(text))
        return add_string(ask, PKI_SAN_URI, value, err);
    sid = pki_sid_of_uri(text);
    if (strlen(text) != (size_t)len || pki_sid_check(sid, NULL) != 0 || ask->sid[0] != '\0')
        return refuse_san(err, "a security identifier that is malformed, or a second one");
    (void)cc_strcpy(ask->sid, sizeof(ask->sid), sid);
    ask->had_sid = true;
    return 0;
}

static int
read_san(struct pki_csr_ask *ask, const GENERAL_NAME *name, struct cc_err *err)
{
    switch (name->type) {
    case GEN_EMAIL:
        return add_string(ask, PKI_SAN_EMAIL, name->d.rfc822Name, err);
    case GEN_DNS:
        return add_string(ask, PKI_SAN_DNS, name->d.dNSName, err);
    case GEN_URI:
        return read_uri(ask, name->d.uniformResourceIdentifier, err);
    case GEN_IPADD:
        return add_ip(ask, name->d.iPAddress, err);
    case GEN_OTHERNAME:
        return add_other(ask, name->d.otherName, err);
    default:
        return refuse_san(err, "a name of a type that is not known");
    }
}

static int
read_sans(struct pki_csr_ask *ask, X509_EXTENSION *extension, struct cc_err *err)
{
    GENERAL_NAMES *names = X509V3_EXT_d2i(extension);
    int rc = names == NULL ? refuse_san(err, "it cannot be read") : 0;

    for (int i = 0; i < sk_GENERAL_NAME_num(names) && rc == 0; i++)
        rc = read_san(ask, sk_GENERAL_NAME_value(names, i), err);
    sk_GENERAL_NAME_pop_free(names, GENERAL_NAME_free);
    ask->ask.sans = ask->sans;
    return rc;
}

/* ---- usages ---- */

static int
read_key_usage(struct pki_csr_ask *ask, X509_EXTENSION *extension, struct cc_err *err)
{
    ASN1_BIT_STRING *bits = X509V3_EXT_d2i(extension);

    if (bits == NULL)
        return cc_err_set(err, CC_DOM_INPUT, 0, "keyUsage of the request: it cannot be read");
    for (int i = 0; i < 9; i++)
        if (ASN1_BIT_STRING_get_bit(bits, i))
            ask->ask.key_usages |= i == 8 ? KU_DECIPHER_ONLY : 0x80u >> i;
    ASN1_BIT_STRING_free(bits);
    return 0;
}

static int
read_extended(struct pki_csr_ask *ask, X509_EXTENSION *extension, struct cc_err *err)
{
    EXTENDED_KEY_USAGE *usages = X509V3_EXT_d2i(extension);
    int rc = 0;

    if (usages == NULL || sk_ASN1_OBJECT_num(usages) > USAGES_MAX)
        rc = cc_err_set(err, CC_DOM_INPUT, 0,
                "extKeyUsage of the request: it cannot be read, or has too many");
    for (int i = 0; i < sk_ASN1_OBJECT_num(usages) && rc == 0; i++) {
        char oid[80];

        (void)OBJ_obj2txt(oid, sizeof(oid), sk_ASN1_OBJECT_value(usages, i), 1);
        if ((ask->usage_text[i] = cc_strdup(oid, err)) == NULL)
            rc = -1;
        ask->usages[i] = ask->usage_text[i];
        ask->ask.extended_key_usages = (struct pki_texts){ ask->usages, (size_t)i + 1 };
    }
    sk_ASN1_OBJECT_pop_free(usages, ASN1_OBJECT_free);
    return rc;
}

/* ---- all of them ---- */

static int
read_basic_constraints(X509_EXTENSION *extension, struct cc_err *err)
{
    BASIC_CONSTRAINTS *constraints = X509V3_EXT_d2i(extension);
    bool ca = constraints != NULL && constraints->ca != 0;
    int rc = 0;

    if (constraints == NULL || ca)
        rc = cc_err_set(err, CC_DOM_INPUT, 0,
                "basicConstraints of the request: certificates of CAs are not issued this way");
    BASIC_CONSTRAINTS_free(constraints);
    return rc;
}

/* What clients add out of habit, and no certificate of ours has: those that Microsoft's own connector passes over, since its
   version 6.2510.3.2002, and no other. */
static bool
is_habit(const char *oid)
{
    static const char *const oids[] = {
        "1.3.6.1.4.1.311.20.2", /* the name of a template */
        "1.3.6.1.4.1.311.21.8", /* a number of templates and CAs */
        "2.5.29.1",             /* authorityKeyIdentifier as it was once */
        "2.5.29.3",             /* certificatePolicies as it was once */
        "2.16.840.1.113730.1.11",
    };

    for (size_t i = 0; i < CC_COUNT(oids); i++)
        if (strcmp(oid, oids[i]) == 0)
            return true;
    return false;
}

static int
read_extension(struct pki_csr_ask *ask, X509_EXTENSION *extension, struct cc_err *err)
{
    const ASN1_OBJECT *type = X509_EXTENSION_get_object(extension);
    char oid[80] = "";

    switch (OBJ_obj2nid(type)) {
    case NID_subject_alt_name:
        return read_sans(ask, extension, err);
    case NID_key_usage:
        return read_key_usage(ask, extension, err);
    case NID_ext_key_usage:
        return read_extended(ask, extension, err);
    case NID_basic_constraints:
        return read_basic_constraints(extension, err);
    case NID_subject_key_identifier:
    case NID_authority_key_identifier:
        return 0;
    default:
        break;
    }
    (void)OBJ_obj2txt(oid, sizeof(oid), type, 1);
    if (strcmp(oid, PKI_OID_NTDS_CA_SECURITY) == 0) {
        ask->had_sid = true;
        return 0;
    }
    if (is_habit(oid))
        return 0;
    return cc_err_set(err, CC_DOM_INPUT, 0,
            "the request has the extension %s, which is not allowed", oid);
}

static int
read_extensions(struct pki_csr_ask *ask, X509_REQ *csr, struct cc_err *err)
{
    STACK_OF(X509_EXTENSION) *extensions = X509_REQ_get_extensions(csr);
    int rc = 0;

    for (int i = 0; i < sk_X509_EXTENSION_num(extensions) && rc == 0; i++) {
        X509_EXTENSION *extension = sk_X509_EXTENSION_value(extensions, i);
        int first = X509v3_get_ext_by_OBJ(extensions, X509_EXTENSION_get_object(extension), -1);

        if (first != i)
            rc = cc_err_set(err, CC_DOM_INPUT, 0, "the request has an extension twice");
        else
            rc = read_extension(ask, extension, err);
    }
    ERR_clear_error();
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    return rc;
}

int
pki_csr_read_ask(X509_REQ *csr, struct pki_csr_ask **ret_ask, struct cc_err *err)
{
    struct pki_csr_ask *ask = calloc(1, sizeof(*ask));

    if (ask == NULL)
        return cc_err_nomem(err);
    cc_buf_init(&ask->subject, PKI_NAME_TEXT_MAX);
    if (pki_name_format(X509_REQ_get_subject_name(csr), &ask->subject, err) != 0 ||
            read_extensions(ask, csr, err) != 0) {
        pki_csr_ask_free(ask);
        return -1;
    }
    ask->ask.subject = cc_buf_str(&ask->subject);
    *ret_ask = ask;
    return 0;
}
