/* SPDX-License-Identifier: MIT */
#include "pki/name.h"

#include <arpa/inet.h>
#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "base/text.h"
#include "pki_int.h"

#define SAN_VALUE_MAX 1024
#define DNS_NAME_MAX 253
#define DNS_LABEL_MAX 63

static const char *const type_names[PKI_SAN_TYPES] = {
    [PKI_SAN_UPN] = "upn",
    [PKI_SAN_EMAIL] = "email",
    [PKI_SAN_DNS] = "dns",
    [PKI_SAN_URI] = "uri",
    [PKI_SAN_IP] = "ip",
    [PKI_SAN_GUID] = "guid",
};

int
pki_san_type_parse(const char *name)
{
    for (int i = 0; i < PKI_SAN_TYPES; i++)
        if (cc_equal_nocase(type_names[i], name))
            return i;
    return -1;
}

const char *
pki_san_type_name(enum pki_san_type type)
{
    return type_names[type];
}

/* ---- what a value may be ---- */

static bool
is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* Letters, digits and hyphens, these neither first nor last; underscores pass where devices have them. */
static bool
is_dns_label(const char *label, size_t len)
{
    if (len == 0 || len > DNS_LABEL_MAX || label[0] == '-' || label[len - 1] == '-')
        return false;
    for (size_t i = 0; i < len; i++)
        if (!is_alnum(label[i]) && label[i] != '-' && label[i] != '_')
            return false;
    return true;
}

bool
pki_is_dns_name(const char *name)
{
    if (strlen(name) > DNS_NAME_MAX)
        return false;
    if (name[0] == '*' && name[1] == '.')
        name += 2;
    for (;;) {
        size_t len = strcspn(name, ".");

        if (!is_dns_label(name, len))
            return false;
        if (name[len] == '\0')
            return true;
        name += len + 1;
    }
}

/* Printable ASCII without blanks. */
static bool
is_graphic(const char *text)
{
    for (; *text != '\0'; text++)
        if (*text <= 0x20 || *text > 0x7e)
            return false;
    return true;
}

/* One part, "@", and a domain (RFC 5280 section 4.2.1.6). */
bool
pki_is_mailbox(const char *text)
{
    const char *at = strrchr(text, '@');

    return at != NULL && at != text && strchr(text, '@') == at && is_graphic(text) &&
           at[1] != '*' && pki_is_dns_name(at + 1);
}

/* A scheme, ":", and something behind it. */
static bool
is_uri(const char *text)
{
    const char *colon = strchr(text, ':');

    if (colon == NULL || colon == text || colon[1] == '\0' || !is_graphic(text))
        return false;
    for (const char *c = text; c < colon; c++)
        if (!is_alnum(*c) && *c != '+' && *c != '-' && *c != '.')
            return false;
    return !(text[0] >= '0' && text[0] <= '9');
}

static bool
is_text(const char *text)
{
    if (!cc_is_utf8(text, strlen(text)))
        return false;
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++)
        if (*c < 0x20 || *c == 0x7f || (*c == 0xc2 && c[1] < 0xa0))
            return false;
    return true;
}

/* NULL when it is right. */
static const char *
find_fault(const struct pki_san *san)
{
    if (san->value == NULL || san->value[0] == '\0')
        return "is empty";
    if (strlen(san->value) > SAN_VALUE_MAX)
        return "is too long";
    switch (san->type) {
    case PKI_SAN_UPN:
        return is_text(san->value) ? NULL : "has a character that it may not have";
    case PKI_SAN_EMAIL:
        return pki_is_mailbox(san->value) ? NULL : "is no mailbox@domain in ASCII";
    case PKI_SAN_DNS:
        return pki_is_dns_name(san->value)
                       ? NULL
                       : "is no DNS name (international ones are given as A-labels)";
    case PKI_SAN_URI:
        return is_uri(san->value) ? NULL : "is no URI in ASCII";
    case PKI_SAN_IP:
    case PKI_SAN_GUID:
    case PKI_SAN_TYPES:
        break;
    }
    return NULL;
}

/* ---- building ---- */

static int
set_ia5(GENERAL_NAME *name, int type, const char *value)
{
    ASN1_IA5STRING *text = ASN1_IA5STRING_new();

    if (text == NULL || !ASN1_STRING_set(text, value, -1)) {
        ASN1_IA5STRING_free(text);
        return -1;
    }
    GENERAL_NAME_set0_value(name, type, text);
    return 0;
}

/* takes value over. */
static int
set_other(GENERAL_NAME *name, const char *oid, int type, ASN1_STRING *take_value)
{
    ASN1_OBJECT *id = OBJ_txt2obj(oid, 1);
    ASN1_TYPE *value = ASN1_TYPE_new();

    if (id == NULL || value == NULL || take_value == NULL)
        goto fail;
    ASN1_TYPE_set(value, type, take_value);
    if (GENERAL_NAME_set0_othername(name, id, value))
        return 0;
    take_value = NULL;
fail:
    ASN1_OBJECT_free(id);
    ASN1_TYPE_free(value);
    ASN1_STRING_free(take_value);
    return -1;
}

static int
set_upn(GENERAL_NAME *name, const char *value)
{
    ASN1_STRING *text = ASN1_UTF8STRING_new();

    if (text != NULL && !ASN1_STRING_set(text, value, -1)) {
        ASN1_STRING_free(text);
        return -1;
    }
    return set_other(name, PKI_OID_UPN, V_ASN1_UTF8STRING, text);
}

static int
set_octets(ASN1_OCTET_STRING **ret, const void *data, int len)
{
    ASN1_OCTET_STRING *octets = ASN1_OCTET_STRING_new();

    if (octets == NULL || !ASN1_OCTET_STRING_set(octets, data, len)) {
        ASN1_OCTET_STRING_free(octets);
        return -1;
    }
    *ret = octets;
    return 0;
}

/* 0, -1 without memory, 1: no address. */
static int
set_ip(GENERAL_NAME *name, const char *value)
{
    ASN1_OCTET_STRING *octets = NULL;
    uint8_t address[16];
    int len;

    if (inet_pton(AF_INET, value, address) == 1)
        len = 4;
    else if (inet_pton(AF_INET6, value, address) == 1)
        len = 16;
    else
        return 1;
    if (set_octets(&octets, address, len) != 0)
        return -1;
    GENERAL_NAME_set0_value(name, GEN_IPADD, octets);
    return 0;
}

/* Windows stores the first three groups with their lowest byte first. */
static int
set_guid(GENERAL_NAME *name, const char *value)
{
    static const int order[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };
    struct cc_buf bytes = CC_BUF_INIT(16);
    ASN1_OCTET_STRING *octets = NULL;
    char plain[CC_UUID_LEN], hex[33];
    uint8_t guid[16];
    size_t len = strlen(value), n = 0;
    int rc = 1;

    if (len == CC_UUID_LEN + 1 && value[0] == '{' && value[len - 1] == '}')
        value++;
    (void)cc_strcpy(plain, sizeof(plain), value);
    if ((len != CC_UUID_LEN - 1 && len != CC_UUID_LEN + 1) || !cc_is_uuid(plain))
        return 1;
    for (const char *c = plain; *c != '\0'; c++)
        if (*c != '-')
            hex[n++] = *c;
    hex[n] = '\0';
    if (cc_unhex(hex, &bytes, NULL) == 0 && bytes.len == 16) {
        for (int i = 0; i < 16; i++)
            guid[i] = bytes.data[order[i]];
        rc = set_octets(&octets, guid, 16);
        if (rc == 0)
            rc = set_other(name, PKI_OID_NTDS_GUID, V_ASN1_OCTET_STRING, octets);
    }
    cc_buf_free(&bytes);
    return rc;
}

/* 0, -1 without memory, 1: the value is not of its type. */
static int
set_name(GENERAL_NAME *name, const struct pki_san *san)
{
    switch (san->type) {
    case PKI_SAN_UPN:
        return set_upn(name, san->value);
    case PKI_SAN_EMAIL:
        return set_ia5(name, GEN_EMAIL, san->value);
    case PKI_SAN_DNS:
        return set_ia5(name, GEN_DNS, san->value);
    case PKI_SAN_URI:
        return set_ia5(name, GEN_URI, san->value);
    case PKI_SAN_IP:
        return set_ip(name, san->value);
    case PKI_SAN_GUID:
        return set_guid(name, san->value);
    case PKI_SAN_TYPES:
        break;
    }
    return 1;
}

static int
add_san(GENERAL_NAMES *names, const struct pki_san *san, size_t place, struct cc_err *err)
{
    const char *fault = find_fault(san);
    GENERAL_NAME *name = NULL;
    int rc;

    if (fault != NULL)
        return cc_err_set(err, CC_DOM_INPUT, 0, "subjectAlternativeNames[%zu]: %s %s", place,
                type_names[san->type], fault);
    if ((name = GENERAL_NAME_new()) == NULL)
        return cc_err_nomem(err);
    rc = set_name(name, san);
    if (rc == 0 && sk_GENERAL_NAME_push(names, name) > 0)
        return 0;
    GENERAL_NAME_free(name);
    if (rc == 1)
        return cc_err_set(err, CC_DOM_INPUT, 0,
                "subjectAlternativeNames[%zu]: %s is not written as one", place,
                type_names[san->type]);
    return cc_err_nomem(err);
}

int
pki_san_build(const struct pki_san *sans, size_t count, GENERAL_NAMES **ret_names,
        struct cc_err *err)
{
    GENERAL_NAMES *names;

    *ret_names = NULL;
    if (count == 0)
        return 0;
    if ((names = sk_GENERAL_NAME_new_null()) == NULL)
        return cc_err_nomem(err);
    for (size_t i = 0; i < count; i++) {
        if (add_san(names, &sans[i], i, err) != 0) {
            ERR_clear_error();
            sk_GENERAL_NAME_pop_free(names, GENERAL_NAME_free);
            return -1;
        }
    }
    *ret_names = names;
    return 0;
}
