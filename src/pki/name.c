/* SPDX-License-Identifier: MIT */
#include "pki/name.h"

#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/x509.h>
#include <string.h>

#include "base/text.h"

#define VALUE_MAX 1024 /* bytes of one attribute value */

/*
 * Attribute types by name, and what RFC 5280 appendix A.1 says of their values: the string type where it is fixed, and
 * the upper bound in characters.
 */
static const struct attribute {
    const char *name;
    int nid;
    int type; /* V_ASN1_UTF8STRING unless fixed */
    unsigned max;
} attributes[] = {
    { "CN", NID_commonName, V_ASN1_UTF8STRING, 64 },
    { "commonName", NID_commonName, V_ASN1_UTF8STRING, 64 },
    { "C", NID_countryName, V_ASN1_PRINTABLESTRING, 2 },
    { "countryName", NID_countryName, V_ASN1_PRINTABLESTRING, 2 },
    { "ST", NID_stateOrProvinceName, V_ASN1_UTF8STRING, 128 },
    { "S", NID_stateOrProvinceName, V_ASN1_UTF8STRING, 128 },
    { "stateOrProvinceName", NID_stateOrProvinceName, V_ASN1_UTF8STRING, 128 },
    { "L", NID_localityName, V_ASN1_UTF8STRING, 128 },
    { "localityName", NID_localityName, V_ASN1_UTF8STRING, 128 },
    { "O", NID_organizationName, V_ASN1_UTF8STRING, 64 },
    { "organizationName", NID_organizationName, V_ASN1_UTF8STRING, 64 },
    { "OU", NID_organizationalUnitName, V_ASN1_UTF8STRING, 64 },
    { "organizationalUnitName", NID_organizationalUnitName, V_ASN1_UTF8STRING, 64 },
    { "DC", NID_domainComponent, V_ASN1_IA5STRING, 63 },
    { "domainComponent", NID_domainComponent, V_ASN1_IA5STRING, 63 },
    { "UID", NID_userId, V_ASN1_UTF8STRING, 256 },
    { "userId", NID_userId, V_ASN1_UTF8STRING, 256 },
    { "E", NID_pkcs9_emailAddress, V_ASN1_IA5STRING, 255 },
    { "emailAddress", NID_pkcs9_emailAddress, V_ASN1_IA5STRING, 255 },
    { "serialNumber", NID_serialNumber, V_ASN1_PRINTABLESTRING, 64 },
    { "T", NID_title, V_ASN1_UTF8STRING, 64 },
    { "title", NID_title, V_ASN1_UTF8STRING, 64 },
    { "G", NID_givenName, V_ASN1_UTF8STRING, 64 },
    { "GN", NID_givenName, V_ASN1_UTF8STRING, 64 },
    { "givenName", NID_givenName, V_ASN1_UTF8STRING, 64 },
    { "SN", NID_surname, V_ASN1_UTF8STRING, 64 },
    { "surname", NID_surname, V_ASN1_UTF8STRING, 64 },
    { "I", NID_initials, V_ASN1_UTF8STRING, 64 },
    { "initials", NID_initials, V_ASN1_UTF8STRING, 64 },
    { "STREET", NID_streetAddress, V_ASN1_UTF8STRING, 128 },
    { "street", NID_streetAddress, V_ASN1_UTF8STRING, 128 },
    { "postalCode", NID_postalCode, V_ASN1_UTF8STRING, 40 },
    { "description", NID_description, V_ASN1_UTF8STRING, 1024 },
    { "dnQualifier", NID_dnQualifier, V_ASN1_PRINTABLESTRING, 64 },
    { "pseudonym", NID_pseudonym, V_ASN1_UTF8STRING, 128 },
    { "generationQualifier", NID_generationQualifier, V_ASN1_UTF8STRING, 64 },
};

static const struct attribute *
attribute_by_name(const char *name)
{
    for (size_t i = 0; i < CC_COUNT(attributes); i++)
        if (cc_equal_nocase(attributes[i].name, name))
            return &attributes[i];
    return NULL;
}

static const struct attribute *
attribute_by_nid(int nid)
{
    for (size_t i = 0; i < CC_COUNT(attributes); i++)
        if (attributes[i].nid == nid)
            return &attributes[i];
    return NULL;
}

/* ---- text to Name ---- */

struct parser {
    const char *at;
    char type[64]; /* of the attribute being read, for messages */
    struct cc_err *err;
};

static int
refuse(struct parser *p, const char *why)
{
    char shown[80];

    return cc_err_set(p->err, CC_DOM_INPUT, 0, "subject: %s %s",
            cc_escape_into(shown, sizeof(shown), p->type), why);
}

static void
skip_blanks(struct parser *p)
{
    while (*p->at == ' ')
        p->at++;
}

static bool
is_type_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.';
}

/* "CN=", blanks around allowed. */
static int
read_type(struct parser *p)
{
    size_t len = 0;

    skip_blanks(p);
    while (is_type_char(*p->at) && len + 1 < sizeof(p->type))
        p->type[len++] = *p->at++;
    p->type[len] = '\0';
    skip_blanks(p);
    if (len == 0 || *p->at != '=')
        return cc_err_set(p->err, CC_DOM_INPUT, 0,
                "subject: an attribute has to read TYPE=value (RFC 4514)");
    p->at++;
    skip_blanks(p);
    return 0;
}

static int
hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* "\," and the like, or "\C3". */
static int
read_escape(struct parser *p, struct cc_buf *value)
{
    int high = hex_value(p->at[1]);
    int low = high < 0 ? -1 : hex_value(p->at[2]);

    if (low >= 0) {
        p->at += 3;
        return cc_buf_add_u8(value, (uint8_t)(high << 4 | low), p->err);
    }
    if (p->at[1] == '\0' || strchr(" \"#+,;<=>\\", p->at[1]) == NULL)
        return refuse(p, "has a backslash that escapes nothing");
    p->at += 2;
    return cc_buf_add_u8(value, (uint8_t)p->at[-1], p->err);
}

/* Until the comma, plus or end that no backslash hides; blanks at the end that none hides are not part of it. */
static int
read_string(struct parser *p, struct cc_buf *value)
{
    size_t kept = 0;

    while (*p->at != '\0' && *p->at != ',' && *p->at != '+') {
        if (*p->at == '\\') {
            if (read_escape(p, value) != 0)
                return -1;
            kept = value->len;
            continue;
        }
        if (strchr("\";<>", *p->at) != NULL)
            return refuse(p, "has a character that needs a backslash");
        if (cc_buf_add_u8(value, (uint8_t)*p->at, p->err) != 0)
            return -1;
        if (*p->at++ != ' ')
            kept = value->len;
    }
    value->len = kept;
    return 0;
}

/* "#04024869": the BER of the value. */
static int
read_ber(struct parser *p, struct cc_buf *value)
{
    char pair[3] = "";

    for (p->at++; hex_value(p->at[0]) >= 0; p->at += 2) {
        if (hex_value(p->at[1]) < 0)
            return refuse(p, "has half a byte of hexadecimal");
        memcpy(pair, p->at, 2);
        if (cc_unhex(pair, value, p->err) != 0)
            return -1;
    }
    skip_blanks(p);
    return *p->at == '\0' || *p->at == ',' || *p->at == '+'
                   ? 0
                   : refuse(p, "has something behind its hexadecimal");
}

/* ---- values ---- */

static size_t
characters(const uint8_t *text, size_t len)
{
    size_t count = 0;

    for (size_t i = 0; i < len; i++)
        count += (text[i] & 0xc0) != 0x80;
    return count;
}

/* C0, DEL and the C1 characters of UTF-8. */
static bool
has_control(const uint8_t *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (text[i] < 0x20 || text[i] == 0x7f ||
                (text[i] == 0xc2 && i + 1 < len && text[i + 1] < 0xa0))
            return true;
    return false;
}

static bool
fits_type(const uint8_t *text, size_t len, int type)
{
    static const char printable[] = " '()+,-./:=?";

    for (size_t i = 0; i < len; i++) {
        if (text[i] > 0x7e)
            return type == V_ASN1_UTF8STRING;
        if (type == V_ASN1_PRINTABLESTRING && !is_type_char((char)text[i]) &&
                strchr(printable, text[i]) == NULL)
            return false;
    }
    return true;
}

static int
check_value(struct parser *p, const struct cc_buf *value, int type, unsigned max)
{
    if (value->len == 0)
        return refuse(p, "is empty");
    if (memchr(value->data, '\0', value->len) != NULL)
        return refuse(p, "has a NUL character");
    if (!cc_is_utf8(value->data, value->len))
        return refuse(p, "is not UTF-8");
    if (has_control(value->data, value->len))
        return refuse(p, "has a control character");
    if (characters(value->data, value->len) > max)
        return cc_err_set(p->err, CC_DOM_INPUT, 0,
                "subject: %s is longer than %u characters (RFC 5280 appendix A.1)", p->type, max);
    if (!fits_type(value->data, value->len, type))
        return refuse(p, "has a character that its type does not allow");
    return 0;
}

/* What the BER of a value holds, as text and type. */
static int
unpack_ber(struct parser *p, struct cc_buf *value, int *ret_type)
{
    const unsigned char *at = value->data;
    ASN1_TYPE *any = d2i_ASN1_TYPE(NULL, &at, (long)value->len);
    unsigned char *text = NULL;
    int len = -1, rc = -1;

    if (any != NULL && at == value->data + value->len &&
            (any->type == V_ASN1_UTF8STRING || any->type == V_ASN1_PRINTABLESTRING ||
                    any->type == V_ASN1_IA5STRING || any->type == V_ASN1_T61STRING ||
                    any->type == V_ASN1_BMPSTRING || any->type == V_ASN1_UNIVERSALSTRING))
        len = ASN1_STRING_to_UTF8(&text, any->value.asn1_string);
    if (len < 0) {
        refuse(p, "is no string in its hexadecimal form");
    } else {
        *ret_type = any->type == V_ASN1_PRINTABLESTRING || any->type == V_ASN1_IA5STRING
                            ? any->type
                            : V_ASN1_UTF8STRING;
        cc_buf_reset(value);
        rc = cc_buf_add(value, text, (size_t)len, p->err);
    }
    OPENSSL_free(text);
    ASN1_TYPE_free(any);
    ERR_clear_error();
    return rc;
}

/* The type as an OID, and the rules for its values. */
static int
find_type(struct parser *p, ASN1_OBJECT **ret_type, struct attribute *ret_rules)
{
    const struct attribute *known = attribute_by_name(p->type);

    if (known == NULL && p->type[0] >= '0' && p->type[0] <= '2') {
        if ((*ret_type = OBJ_txt2obj(p->type, 1)) != NULL)
            known = attribute_by_nid(OBJ_obj2nid(*ret_type));
        *ret_rules = (struct attribute){ .type = V_ASN1_UTF8STRING, .max = VALUE_MAX };
    } else if (known != NULL) {
        *ret_type = OBJ_nid2obj(known->nid);
    }
    ERR_clear_error();
    if (*ret_type == NULL)
        return refuse(p, "is no attribute type that is known");
    if (known != NULL)
        *ret_rules = *known;
    return 0;
}

/* One TYPE=value into the name; set: 1 joins the RDN that was read before. */
static int
add_attribute(struct parser *p, X509_NAME *name, int set)
{
    struct cc_buf value = CC_BUF_INIT(VALUE_MAX);
    ASN1_OBJECT *type = NULL;
    struct attribute rules;
    int type_there, rc = -1;

    if (read_type(p) != 0 || find_type(p, &type, &rules) != 0)
        goto out;
    if (*p->at == '#') {
        if (read_ber(p, &value) != 0 || unpack_ber(p, &value, &type_there) != 0)
            goto out;
        /* Where only one type may be, hexadecimal is no way around it. */
        if (rules.type != V_ASN1_UTF8STRING && type_there != rules.type) {
            refuse(p, "is of another string type than it has to be");
            goto out;
        }
        rules.type = type_there;
    } else if (read_string(p, &value) != 0) {
        goto out;
    }
    if (check_value(p, &value, rules.type, rules.max) != 0)
        goto out;
    ERR_clear_error();
    /* Written from its end: the first of the text is the last of the Name. */
    if (!X509_NAME_add_entry_by_OBJ(name, type, rules.type, value.data, (int)value.len, 0, set)) {
        cc_err_set_openssl(p->err, "subject: %s", p->type);
        goto out;
    }
    rc = 0;
out:
    ASN1_OBJECT_free(type);
    cc_buf_free(&value);
    return rc;
}

int
pki_name_parse(const char *text, X509_NAME **ret_name, struct cc_err *err)
{
    struct parser p = { .at = text, .err = err };
    X509_NAME *name = NULL;
    int set = 0;

    if (strlen(text) > PKI_NAME_TEXT_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "subject: it is longer than %d bytes",
                PKI_NAME_TEXT_MAX);
    if ((name = X509_NAME_new()) == NULL)
        return cc_err_nomem(err);
    skip_blanks(&p);
    while (*p.at != '\0') {
        if (add_attribute(&p, name, set) != 0)
            goto fail;
        set = *p.at == '+' ? 1 : 0;
        if (*p.at != '\0' && *++p.at == '\0') {
            cc_err_set(err, CC_DOM_INPUT, 0, "subject: it ends in a separator");
            goto fail;
        }
    }
    *ret_name = name;
    return 0;
fail:
    X509_NAME_free(name);
    return -1;
}

/* ---- Name to text ---- */

static int
put_escaped(const unsigned char *text, size_t len, struct cc_buf *ret, struct cc_err *err)
{
    for (size_t i = 0; i < len; i++) {
        const bool edge =
                (i == 0 && (text[i] == ' ' || text[i] == '#')) || (i + 1 == len && text[i] == ' ');

        if (text[i] < 0x20 || text[i] == 0x7f) {
            if (cc_buf_printf(ret, err, "\\%02X", text[i]) != 0)
                return -1;
            continue;
        }
        if ((edge || strchr("\"+,;<>\\", text[i]) != NULL) && cc_buf_add_u8(ret, '\\', err) != 0)
            return -1;
        if (cc_buf_add_u8(ret, text[i], err) != 0)
            return -1;
    }
    return 0;
}

static int
put_entry(const X509_NAME_ENTRY *entry, struct cc_buf *ret, struct cc_err *err)
{
    const ASN1_OBJECT *type = X509_NAME_ENTRY_get_object(entry);
    const struct attribute *known = attribute_by_nid(OBJ_obj2nid(type));
    unsigned char *text = NULL;
    char oid[80];
    int len, rc = -1;

    if (known == NULL && OBJ_obj2txt(oid, sizeof(oid), type, 1) <= 0)
        (void)cc_strcpy(oid, sizeof(oid), "?");
    ERR_clear_error();
    len = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(entry));
    if (len < 0)
        return cc_err_set_openssl(err, "a name's attribute");
    if (cc_buf_printf(ret, err, "%s=", known != NULL ? known->name : oid) == 0)
        rc = put_escaped(text, (size_t)len, ret, err);
    OPENSSL_free(text);
    return rc;
}

int
pki_name_format(const X509_NAME *name, struct cc_buf *ret, struct cc_err *err)
{
    int count = X509_NAME_entry_count(name);
    int set = -1;

    for (int i = count - 1; i >= 0; i--) {
        const X509_NAME_ENTRY *entry = X509_NAME_get_entry(name, i);

        if (i < count - 1 &&
                cc_buf_add_str(ret, X509_NAME_ENTRY_set(entry) == set ? "+" : ",", err) != 0)
            return -1;
        set = X509_NAME_ENTRY_set(entry);
        if (put_entry(entry, ret, err) != 0)
            return -1;
    }
    return 0;
}

/* ---- DER ---- */

int
pki_name_write(const X509_NAME *name, struct cc_buf *ret, struct cc_err *err)
{
    unsigned char *der = NULL;
    int len, rc;

    ERR_clear_error();
    if ((len = i2d_X509_NAME(name, &der)) < 0)
        return cc_err_set_openssl(err, "a name");
    rc = cc_buf_add(ret, der, (size_t)len, err);
    OPENSSL_free(der);
    return rc;
}

int
pki_name_read(struct cc_bytes der, X509_NAME **ret_name, struct cc_err *err)
{
    const unsigned char *at = der.data;
    X509_NAME *name;

    if (der.len == 0 || der.len > 4 * PKI_NAME_TEXT_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "a name of %zu bytes", der.len);
    name = d2i_X509_NAME(NULL, &at, (long)der.len);
    ERR_clear_error();
    if (name == NULL || at != der.data + der.len) {
        X509_NAME_free(name);
        return cc_err_set(err, CC_DOM_INPUT, 0, "not a name in DER");
    }
    *ret_name = name;
    return 0;
}
