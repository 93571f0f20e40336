/* SPDX-License-Identifier: MIT */
#include "pki/cert.h"

#include <openssl/asn1.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/text.h"

#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 8192
#define PEM_MAX (1U << 20)

int
pki_cert_parse(struct cc_bytes der, X509 **ret_cert, struct cc_err *err)
{
    const unsigned char *at = der.data;
    X509 *cert;

    if (der.len == 0 || der.len > PKI_CERT_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "certificate of %zu bytes", der.len);
    ERR_clear_error();
    if ((cert = d2i_X509(NULL, &at, (long)der.len)) == NULL) {
        ERR_clear_error();
        return cc_err_set(err, CC_DOM_INPUT, 0, "not a certificate in DER");
    }
    if (at != der.data + der.len) {
        X509_free(cert);
        return cc_err_set(err, CC_DOM_INPUT, 0, "%zu bytes behind the certificate",
                (size_t)(der.data + der.len - at));
    }
    *ret_cert = cert;
    return 0;
}

/* The next one; NULL in *ret: there are no more. */
static int
next_pem(BIO *bio, X509 **ret, struct cc_err *err)
{
    unsigned long why;

    ERR_clear_error();
    if ((*ret = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
        return 0;
    why = ERR_peek_last_error();
    ERR_clear_error();
    if (ERR_GET_LIB(why) == ERR_LIB_PEM && ERR_GET_REASON(why) == PEM_R_NO_START_LINE)
        return 0;
    return cc_err_set(err, CC_DOM_INPUT, 0, "PEM that is damaged");
}

static int
add_pems(BIO *bio, STACK_OF(X509) *list, struct cc_err *err)
{
    X509 *cert = NULL;

    for (;;) {
        if (next_pem(bio, &cert, err) != 0)
            return cc_err_in(err, "behind %d certificates", sk_X509_num(list));
        if (cert == NULL)
            return 0;
        if (sk_X509_push(list, cert) <= 0) {
            X509_free(cert);
            return cc_err_nomem(err);
        }
    }
}

static size_t
count(struct cc_bytes text, const char *words)
{
    const uint8_t *at = text.data, *end = text.data + text.len;
    size_t found = 0;

    while (at != NULL && (at = memmem(at, (size_t)(end - at), words, strlen(words))) != NULL) {
        at += strlen(words);
        found++;
    }
    return found;
}

int
pki_certs_read_pem(struct cc_bytes text, STACK_OF(X509) **ret_certs, struct cc_err *err)
{
    STACK_OF(X509) *list = NULL;
    BIO *bio = NULL;
    int rc = -1;

    if (text.len > PEM_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "PEM of %zu bytes", text.len);
    if (text.len > 0) {
        if ((list = sk_X509_new_null()) == NULL ||
                (bio = BIO_new_mem_buf(text.data, (int)text.len)) == NULL) {
            cc_err_nomem(err);
            goto out;
        }
        if (add_pems(bio, list, err) != 0)
            goto out;
        /* OpenSSL goes on to the end of the next one, and leaves that out. */
        if (count(text, "-----BEGIN ") != count(text, "-----END ")) {
            cc_err_set(err, CC_DOM_INPUT, 0, "PEM that is damaged: a block without its end");
            goto out;
        }
    }
    if (sk_X509_num(list) <= 0) {
        cc_err_set(err, CC_DOM_INPUT, 0, "no certificate in PEM");
        goto out;
    }
    *ret_certs = list;
    list = NULL;
    rc = 0;
out:
    BIO_free(bio);
    sk_X509_pop_free(list, X509_free);
    return rc;
}

int
pki_cert_thumbprint(const X509 *cert, char ret_hex[PKI_THUMBPRINT_LEN], struct cc_err *err)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int len = 0;

    ERR_clear_error();
    if (!X509_digest(cert, EVP_sha1(), digest, &len) || len != SHA_DIGEST_LENGTH)
        return cc_err_set_openssl(err, "thumbprint");
    cc_hex(digest, len, false, ret_hex);
    return 0;
}

static int
time_to_ms(const ASN1_TIME *time, int64_t *ret_ms, struct cc_err *err)
{
    struct tm tm = { 0 };

    /* Without the check for NULL OpenSSL would take the present time. */
    if (time == NULL || !ASN1_TIME_to_tm(time, &tm)) {
        ERR_clear_error();
        cc_err_set(err, CC_DOM_INPUT, 0, "a time in the certificate's validity is malformed");
        return -1;
    }
    *ret_ms = (int64_t)timegm(&tm) * 1000;
    return 0;
}

int
pki_cert_validity(const X509 *cert, int64_t *ret_not_before_ms, int64_t *ret_not_after_ms,
        struct cc_err *err)
{
    int64_t not_before;
    int64_t not_after;

    if (time_to_ms(X509_get0_notBefore(cert), &not_before, err) != 0 ||
            time_to_ms(X509_get0_notAfter(cert), &not_after, err) != 0)
        return -1;
    *ret_not_before_ms = not_before;
    *ret_not_after_ms = not_after;
    return 0;
}

/* An exponent of one encrypts nothing (RFC 8017 section 3.1: odd, at least 3). */
static bool
is_exponent_good(EVP_PKEY *key)
{
    BIGNUM *exponent = NULL;
    bool good = EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &exponent) == 1 &&
                BN_is_odd(exponent) && !BN_is_one(exponent);

    BN_free(exponent);
    return good;
}

static int
check_recipient_key(X509 *cert, struct cc_err *err)
{
    EVP_PKEY *key = X509_get0_pubkey(cert);
    int bits;

    ERR_clear_error();
    if (key == NULL || !EVP_PKEY_is_a(key, "RSA"))
        return cc_err_set(err, CC_DOM_INPUT, 0, "the recipient's key is not RSA");
    bits = EVP_PKEY_get_bits(key);
    if (bits < RSA_BITS_MIN || bits > RSA_BITS_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0,
                "the recipient's key has %d bits, %d to %d are allowed", bits, RSA_BITS_MIN,
                RSA_BITS_MAX);
    if (!is_exponent_good(key))
        return cc_err_set(err, CC_DOM_INPUT, 0, "the recipient's key has a bad public exponent");
    return 0;
}

int
pki_cert_check_recipient(X509 *cert, int64_t now_ms, struct cc_err *err)
{
    char text[CC_TIME_LEN];
    int64_t not_before;
    int64_t not_after;

    if (check_recipient_key(cert, err) != 0)
        return -1;
    if (pki_cert_validity(cert, &not_before, &not_after, err) != 0)
        return -1;
    if (now_ms < not_before) {
        cc_time_format(not_before, text);
        return cc_err_set(err, CC_DOM_INPUT, 0,
                "the recipient's certificate is not valid before %s", text);
    }
    /* notAfter names the last second of the validity, all of it (RFC 5280 section 4.1.2.5). */
    if (now_ms >= not_after + 1000) {
        cc_time_format(not_after, text);
        return cc_err_set(err, CC_DOM_INPUT, 0, "the recipient's certificate ended on %s", text);
    }
    return 0;
}

int
pki_cert_serial(const X509 *cert, struct cc_buf *ret, struct cc_err *err)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);
    const unsigned char *octets = ASN1_STRING_get0_data(serial);
    int len = ASN1_STRING_length(serial);
    char hex[3];

    while (len > 1 && octets[0] == 0) {
        octets++;
        len--;
    }
    if (len == 0)
        return cc_buf_add_str(ret, "00", err);
    for (int i = 0; i < len; i++) {
        cc_hex(&octets[i], 1, true, hex);
        if (cc_buf_add_str(ret, hex, err) != 0)
            return -1;
    }
    return 0;
}
