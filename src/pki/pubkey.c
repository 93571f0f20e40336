/* SPDX-License-Identifier: MIT */
#include "pki/pubkey.h"

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>

#include "base/text.h"
#include "pki_int.h"

#define FILE_MAX 16384
#define RSA_BYTES_MIN 128
#define RSA_BYTES_MAX 2048
#define EXPONENT_BYTES_MAX 8

#define PEM_FIRST_LINE "-----BEGIN PUBLIC KEY-----"

/* BCRYPT_RSAKEY_BLOB: six little-endian words, then exponent and modulus, big-endian both. */
#define CNG_HEADER 24
#define CNG_MAGIC_PUBLIC 0x31415352U /* "RSA1" */
enum cng_word {
    CNG_MAGIC,
    CNG_BITS,
    CNG_EXPONENT_LEN,
    CNG_MODULUS_LEN,
    CNG_PRIME1_LEN,
    CNG_PRIME2_LEN
};

/* ---- SubjectPublicKeyInfo ---- */

static int
parse_x509_pubkey(struct cc_bytes der, X509_PUBKEY **ret, struct cc_err *err)
{
    const unsigned char *at = der.data;
    X509_PUBKEY *pubkey;

    if (der.len == 0 || der.len > FILE_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "public key of %zu bytes", der.len);
    ERR_clear_error();
    pubkey = d2i_X509_PUBKEY(NULL, &at, (long)der.len);
    ERR_clear_error();
    if (pubkey == NULL)
        return cc_err_set(err, CC_DOM_INPUT, 0, "not a SubjectPublicKeyInfo in DER");
    if (at != der.data + der.len) {
        X509_PUBKEY_free(pubkey);
        return cc_err_set(err, CC_DOM_INPUT, 0, "bytes behind the public key");
    }
    *ret = pubkey;
    return 0;
}

static int
take_key(X509_PUBKEY *pubkey, EVP_PKEY **ret_key, struct cc_err *err)
{
    EVP_PKEY *key = X509_PUBKEY_get(pubkey);

    ERR_clear_error();
    if (key == NULL)
        return cc_err_set(err, CC_DOM_INPUT, 0, "a public key of an unknown or malformed kind");
    *ret_key = key;
    return 0;
}

int
pki_pubkey_parse_spki(struct cc_bytes der, EVP_PKEY **ret_key, struct cc_err *err)
{
    X509_PUBKEY *pubkey = NULL;
    int rc;

    if (parse_x509_pubkey(der, &pubkey, err) != 0)
        return -1;
    rc = take_key(pubkey, ret_key, err);
    X509_PUBKEY_free(pubkey);
    return rc;
}

int
pki_pubkey_write_spki(const EVP_PKEY *key, struct cc_buf *ret, struct cc_err *err)
{
    X509_PUBKEY *info;
    unsigned char *der = NULL;
    int len;
    int rc = -1;

    ERR_clear_error();
    if ((info = pki_spki_new(key)) == NULL || (len = i2d_X509_PUBKEY(info, &der)) <= 0)
        cc_err_set_openssl(err, "write public key");
    else
        rc = cc_buf_add(ret, der, (size_t)len, err);
    OPENSSL_free(der);
    X509_PUBKEY_free(info);
    return rc;
}

/* ---- PEM ---- */

/* rsaEncryption with NULL parameters and nothing else (RFC 8017 appendix A.1), as the files are read elsewhere. */
static int
check_rsa_algorithm(X509_PUBKEY *pubkey, struct cc_err *err)
{
    const ASN1_OBJECT *algorithm = NULL;
    X509_ALGOR *algor = NULL;
    int type = 0;

    (void)X509_PUBKEY_get0_param(NULL, NULL, NULL, &algor, pubkey);
    X509_ALGOR_get0(&algorithm, &type, NULL, algor);
    if (OBJ_obj2nid(algorithm) != NID_rsaEncryption || type != V_ASN1_NULL)
        return cc_err_set(err, CC_DOM_INPUT, 0, "the public key is not RSA (rsaEncryption)");
    return 0;
}

static int
read_rsa_spki(struct cc_bytes der, EVP_PKEY **ret_key, struct cc_err *err)
{
    X509_PUBKEY *pubkey = NULL;
    int rc = -1;

    if (parse_x509_pubkey(der, &pubkey, err) == 0 && check_rsa_algorithm(pubkey, err) == 0)
        rc = take_key(pubkey, ret_key, err);
    X509_PUBKEY_free(pubkey);
    return rc;
}

static bool
only_white(BIO *bio)
{
    char byte;

    while (BIO_read(bio, &byte, 1) == 1)
        if (strchr(" \t\r\n", byte) == NULL || byte == '\0')
            return false;
    return true;
}

static int
read_pem(struct cc_bytes file, EVP_PKEY **ret_key, struct cc_err *err)
{
    BIO *bio = BIO_new_mem_buf(file.data, (int)file.len);
    char *name = NULL;
    char *header = NULL;
    unsigned char *der = NULL;
    long len = 0;
    int rc = -1;

    if (bio == NULL) {
        cc_err_nomem(err);
        goto out;
    }
    ERR_clear_error();
    if (!PEM_read_bio(bio, &name, &header, &der, &len) || strcmp(name, PEM_STRING_PUBLIC) != 0 ||
            header[0] != '\0' || !only_white(bio)) {
        ERR_clear_error();
        cc_err_set(err, CC_DOM_INPUT, 0,
                "the PEM file does not hold one public key and nothing else");
        goto out;
    }
    rc = read_rsa_spki((struct cc_bytes){ der, (size_t)len }, ret_key, err);
out:
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(der);
    BIO_free(bio);
    return rc;
}

int
pki_pubkey_write_pem(const EVP_PKEY *key, struct cc_buf *ret, struct cc_err *err)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    long len;
    int rc = -1;

    ERR_clear_error();
    if (bio == NULL || !PEM_write_bio_PUBKEY(bio, key)) {
        cc_err_set_openssl(err, "write public key");
        goto out;
    }
    len = BIO_get_mem_data(bio, &text);
    rc = cc_buf_add(ret, text, (size_t)len, err);
out:
    BIO_free(bio);
    return rc;
}

/* ---- CNG ---- */

static uint32_t
get_word(const uint8_t *blob, enum cng_word word)
{
    const uint8_t *at = blob + 4 * (size_t)word;

    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static int
add_word(struct cc_buf *ret, size_t value, struct cc_err *err)
{
    uint8_t word[4];

    for (size_t i = 0; i < sizeof(word); i++)
        word[i] = (uint8_t)(value >> (8 * i));
    return cc_buf_add(ret, word, sizeof(word), err);
}

static EVP_PKEY *
make_rsa(const BIGNUM *n, const BIGNUM *e)
{
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    OSSL_PARAM *params = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    EVP_PKEY *key = NULL;

    if (build != NULL && ctx != NULL && OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n) &&
            OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e) &&
            (params = OSSL_PARAM_BLD_to_param(build)) != NULL && EVP_PKEY_fromdata_init(ctx) > 0)
        (void)EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(build);
    EVP_PKEY_CTX_free(ctx);
    return key;
}

/* The header's lengths against the file's and against our limits. */
static int
check_cng_header(struct cc_bytes file, struct cc_err *err)
{
    uint32_t e_len;
    uint32_t n_len;

    if (file.len < CNG_HEADER || get_word(file.data, CNG_MAGIC) != CNG_MAGIC_PUBLIC)
        return cc_err_set(err, CC_DOM_INPUT, 0,
                "neither a PEM public key nor a CNG public key blob");

    e_len = get_word(file.data, CNG_EXPONENT_LEN);
    n_len = get_word(file.data, CNG_MODULUS_LEN);
    if (e_len < 1 || e_len > EXPONENT_BYTES_MAX || n_len < RSA_BYTES_MIN || n_len > RSA_BYTES_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0,
                "CNG blob with an exponent of %u and a modulus of %u bytes", e_len, n_len);
    if (get_word(file.data, CNG_PRIME1_LEN) != 0 || get_word(file.data, CNG_PRIME2_LEN) != 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "CNG blob of a public key with prime factors");
    if (file.len != CNG_HEADER + (size_t)e_len + n_len)
        return cc_err_set(err, CC_DOM_INPUT, 0, "CNG blob of %zu bytes where %zu are announced",
                file.len, CNG_HEADER + (size_t)e_len + n_len);
    return 0;
}

static int
read_cng(struct cc_bytes file, EVP_PKEY **ret_key, struct cc_err *err)
{
    BIGNUM *n = NULL;
    BIGNUM *e = NULL;
    EVP_PKEY *key;
    uint32_t e_len;
    uint32_t n_len;
    uint32_t bits;
    int rc = -1;

    if (check_cng_header(file, err) != 0)
        return -1;
    e_len = get_word(file.data, CNG_EXPONENT_LEN);
    n_len = get_word(file.data, CNG_MODULUS_LEN);
    bits = get_word(file.data, CNG_BITS);

    e = BN_bin2bn(file.data + CNG_HEADER, (int)e_len, NULL);
    n = BN_bin2bn(file.data + CNG_HEADER + e_len, (int)n_len, NULL);
    if (n == NULL || e == NULL) {
        cc_err_nomem(err);
        goto out;
    }
    /* Between the modulus's own bits and its bytes': writers differ where its first bits are zero. */
    if (bits < (uint32_t)BN_num_bits(n) || bits > n_len * 8 || (uint32_t)BN_num_bytes(n) != n_len) {
        cc_err_set(err, CC_DOM_INPUT, 0, "CNG blob of %u bits whose modulus has %d", bits,
                BN_num_bits(n));
        goto out;
    }
    if (!BN_is_odd(n) || !BN_is_odd(e) || BN_is_one(e)) {
        cc_err_set(err, CC_DOM_INPUT, 0, "CNG blob whose numbers make no RSA key");
        goto out;
    }
    ERR_clear_error();
    if ((key = make_rsa(n, e)) == NULL) {
        cc_err_set_openssl(err, "CNG blob");
        goto out;
    }
    *ret_key = key;
    rc = 0;
out:
    BN_free(n);
    BN_free(e);
    return rc;
}

static int
add_number(struct cc_buf *ret, const BIGNUM *number, struct cc_err *err)
{
    uint8_t bytes[RSA_BYTES_MAX];

    return cc_buf_add(ret, bytes, (size_t)BN_bn2bin(number, bytes), err);
}

static int
add_cng(struct cc_buf *ret, const BIGNUM *n, const BIGNUM *e, struct cc_err *err)
{
    size_t n_len = (size_t)BN_num_bytes(n);
    size_t e_len = (size_t)BN_num_bytes(e);

    if (n_len > RSA_BYTES_MAX || e_len > RSA_BYTES_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "RSA key of %zu bytes", n_len);
    if (add_word(ret, CNG_MAGIC_PUBLIC, err) != 0 || add_word(ret, n_len * 8, err) != 0 ||
            add_word(ret, e_len, err) != 0 || add_word(ret, n_len, err) != 0 ||
            add_word(ret, 0, err) != 0 || add_word(ret, 0, err) != 0 ||
            add_number(ret, e, err) != 0)
        return -1;
    return add_number(ret, n, err);
}

int
pki_pubkey_write_cng(const EVP_PKEY *key, struct cc_buf *ret, struct cc_err *err)
{
    BIGNUM *n = NULL;
    BIGNUM *e = NULL;
    int rc = -1;

    if (!EVP_PKEY_is_a(key, "RSA"))
        return cc_err_set(err, CC_DOM_INPUT, 0, "only RSA keys have the CNG form");
    ERR_clear_error();
    if (!EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_N, &n) ||
            !EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &e))
        cc_err_set_openssl(err, "CNG blob");
    else
        rc = add_cng(ret, n, e, err);
    BN_free(n);
    BN_free(e);
    return rc;
}

/* ---- either ---- */

int
pki_pubkey_read(struct cc_bytes file, EVP_PKEY **ret_key, struct cc_err *err)
{
    const size_t first = strlen(PEM_FIRST_LINE);

    if (file.len > FILE_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "public-key file of %zu bytes", file.len);
    if (file.len > first && memcmp(file.data, PEM_FIRST_LINE, first) == 0)
        return read_pem(file, ret_key, err);
    return read_cng(file, ret_key, err);
}
