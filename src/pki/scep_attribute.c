/* SPDX-License-Identifier: MIT */
#include "scep_int.h"

#include <openssl/objects.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SIGNED_MAX 64

static pthread_once_t once = PTHREAD_ONCE_INIT;
static ASN1_OBJECT *oids[SCEP_ATTRIBUTES];

static void
make_oids(void)
{
    static const char *const texts[SCEP_ATTRIBUTES] = {
        [SCEP_MESSAGE_TYPE] = "2.16.840.1.113733.1.9.2",
        [SCEP_PKI_STATUS] = "2.16.840.1.113733.1.9.3",
        [SCEP_FAIL_INFO] = "2.16.840.1.113733.1.9.4",
        [SCEP_FAIL_INFO_TEXT] = "1.3.6.1.5.5.7.24.1",
        [SCEP_SENDER_NONCE] = "2.16.840.1.113733.1.9.5",
        [SCEP_RECIPIENT_NONCE] = "2.16.840.1.113733.1.9.6",
        [SCEP_TRANSACTION_ID] = "2.16.840.1.113733.1.9.7",
    };

    for (size_t i = 0; i < SCEP_ATTRIBUTES; i++)
        oids[i] = OBJ_txt2obj(texts[i], 1);
}

ASN1_OBJECT *
scep_attribute_oid(enum scep_attribute which)
{
    (void)pthread_once(&once, make_oids);
    return oids[which];
}

/* ---- in the order of DER ---- */

struct encoded {
    unsigned char *der;
    size_t len;
};

/* X.690 section 11.6: as octet strings, the shorter one padded with zeroes. */
static int
compare(const void *a, const void *b)
{
    const struct encoded *x = a, *y = b;
    const int order = memcmp(x->der, y->der, x->len < y->len ? x->len : y->len);

    return order != 0 ? order : (x->len > y->len) - (x->len < y->len);
}

static int
add_set(const struct encoded *encoded, size_t count, size_t len, struct cc_buf *ret)
{
    unsigned char header[8], *at = header;

    ASN1_put_object(&at, 1, (int)len, V_ASN1_SET, V_ASN1_UNIVERSAL);
    if (cc_buf_add(ret, header, (size_t)(at - header), NULL) != 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        if (cc_buf_add(ret, encoded[i].der, encoded[i].len, NULL) != 0)
            return -1;
    return 0;
}

int
scep_attributes_sorted(const CMS_SignerInfo *signer, struct cc_buf *ret)
{
    struct encoded encoded[SIGNED_MAX] = { { NULL, 0 } };
    const int count = CMS_signed_get_attr_count(signer);
    size_t len = 0;
    int rc = count > 0 && count <= SIGNED_MAX ? 0 : -1;

    for (int i = 0; rc == 0 && i < count; i++) {
        const int one = i2d_X509_ATTRIBUTE(CMS_signed_get_attr(signer, i), &encoded[i].der);

        if (one <= 0)
            rc = -1;
        else
            len += encoded[i].len = (size_t)one;
    }
    if (rc == 0) {
        qsort(encoded, (size_t)count, sizeof(encoded[0]), compare);
        rc = add_set(encoded, (size_t)count, len, ret);
    }
    for (size_t i = 0; i < SIGNED_MAX; i++)
        OPENSSL_free(encoded[i].der);
    return rc;
}
