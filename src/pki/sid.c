/* SPDX-License-Identifier: MIT */
#include "pki/name.h"

#include <openssl/asn1t.h>
#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <strings.h>

#include "pki_int.h"

#define SID_MAX (PKI_SID_MAX - 1)
#define SID_URI "tag:microsoft.com,2022-09-14:sid:"

/* "S-1-" and decimal numbers between hyphens (MS-DTYP section 2.4.2.1). */
int
pki_sid_check(const char *sid, struct cc_err *err)
{
    size_t digits = 0;
    const char *c = sid;

    if (strlen(sid) > SID_MAX || strncmp(sid, "S-1-", 4) != 0)
        goto bad;
    for (c += 4; *c != '\0'; c++) {
        if (*c >= '0' && *c <= '9')
            digits++;
        else if (*c == '-' && digits > 0)
            digits = 0;
        else
            goto bad;
    }
    if (digits > 0)
        return 0;
bad:
    return cc_err_set(err, CC_DOM_INPUT, 0,
            "onPremisesSecurityIdentifier: it has to read S-1-… in decimal numbers");
}

/*
 * SEQUENCE { [0] { OID 1.3.6.1.4.1.311.25.2.1, [0] { OCTET STRING } } } (MS-WCCE section 2.2.2.7.7.4): a GeneralNames
 * with one otherName.
 */
int
pki_sid_extension(const char *sid, struct cc_buf *ret_value, struct cc_err *err)
{
    GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_OCTET_STRING *octets = ASN1_OCTET_STRING_new();
    ASN1_TYPE *value = ASN1_TYPE_new();
    ASN1_OBJECT *id = OBJ_txt2obj(PKI_OID_NTDS_OBJECTSID, 1);
    unsigned char *der = NULL;
    int len, rc = -1;

    if (pki_sid_check(sid, err) != 0)
        goto out;
    if (names == NULL || name == NULL || octets == NULL || value == NULL || id == NULL ||
            !ASN1_OCTET_STRING_set(octets, (const unsigned char *)sid, (int)strlen(sid))) {
        cc_err_nomem(err);
        goto out;
    }
    ASN1_TYPE_set(value, V_ASN1_OCTET_STRING, octets);
    octets = NULL;
    if (!GENERAL_NAME_set0_othername(name, id, value)) {
        cc_err_nomem(err);
        goto out;
    }
    id = NULL;
    value = NULL;
    if (sk_GENERAL_NAME_push(names, name) <= 0) {
        cc_err_nomem(err);
        goto out;
    }
    name = NULL;
    if ((len = i2d_GENERAL_NAMES(names, &der)) < 0)
        cc_err_set_openssl(err, "SID extension");
    else
        rc = cc_buf_add(ret_value, der, (size_t)len, err);
out:
    OPENSSL_free(der);
    ASN1_OBJECT_free(id);
    ASN1_TYPE_free(value);
    ASN1_OCTET_STRING_free(octets);
    GENERAL_NAME_free(name);
    sk_GENERAL_NAME_pop_free(names, GENERAL_NAME_free);
    return rc;
}

int
pki_sid_uri(const char *sid, struct cc_buf *ret_text, struct cc_err *err)
{
    if (pki_sid_check(sid, err) != 0)
        return -1;
    return cc_buf_printf(ret_text, err, SID_URI "%s", sid);
}

bool
pki_is_sid_uri(const char *uri)
{
    return strncasecmp(uri, SID_URI, sizeof(SID_URI) - 1) == 0;
}

const char *
pki_sid_of_uri(const char *uri)
{
    return uri + sizeof(SID_URI) - 1;
}
