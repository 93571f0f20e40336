/* SPDX-License-Identifier: MIT */
#include "hsm/token/padding.h"

#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "base/process.h"
#include "hsm/hsm.h"

static const struct p11_hash hashes[P11_HASHES] = {
    { NID_sha1, "SHA-1", CKM_SHA_1, CKG_MGF1_SHA1, EVP_sha1 },
    { NID_sha224, "SHA-224", CKM_SHA224, CKG_MGF1_SHA224, EVP_sha224 },
    { NID_sha256, "SHA-256", CKM_SHA256, CKG_MGF1_SHA256, EVP_sha256 },
    { NID_sha384, "SHA-384", CKM_SHA384, CKG_MGF1_SHA384, EVP_sha384 },
    { NID_sha512, "SHA-512", CKM_SHA512, CKG_MGF1_SHA512, EVP_sha512 },
};

int
p11_hash_index(int nid)
{
    for (int i = 0; i < P11_HASHES; i++)
        if (hashes[i].nid == nid)
            return i;
    return -1;
}

const struct p11_hash *
p11_hash(int index)
{
    return &hashes[index];
}

static size_t
hash_len(const struct p11_hash *hash)
{
    return (size_t)EVP_MD_get_size(hash->md());
}

/* data ^= MGF1(seed) (appendix B.2.1). */
static int
mgf1_xor(const struct p11_hash *hash, const uint8_t *seed, size_t seed_len, uint8_t *data,
        size_t len, struct cc_err *err)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t mask[EVP_MAX_MD_SIZE];
    const size_t step = hash_len(hash);
    int rc = -1;

    for (size_t done = 0; ctx != NULL && done < len; done += step) {
        const size_t counter = done / step;
        const uint8_t octets[4] = { (uint8_t)(counter >> 24), (uint8_t)(counter >> 16),
            (uint8_t)(counter >> 8), (uint8_t)counter };

        if (EVP_DigestInit_ex(ctx, hash->md(), NULL) != 1 ||
                EVP_DigestUpdate(ctx, seed, seed_len) != 1 ||
                EVP_DigestUpdate(ctx, octets, sizeof(octets)) != 1 ||
                EVP_DigestFinal_ex(ctx, mask, NULL) != 1)
            goto out;
        for (size_t i = 0; i < step && done + i < len; i++)
            data[done + i] ^= mask[i];
    }
    rc = ctx == NULL ? -1 : 0;
out:
    if (rc != 0)
        cc_err_set_openssl(err, "MGF1");
    cc_wipe(mask, sizeof(mask));
    EVP_MD_CTX_free(ctx);
    return rc;
}

/* H = Hash(eight zeroes || digest || salt). */
static int
pss_hash(const struct p11_hash *hash, struct cc_bytes digest, const uint8_t *salt, size_t salt_len,
        uint8_t *ret, struct cc_err *err)
{
    static const uint8_t zeroes[8];
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    int rc = 0;

    if (ctx == NULL || EVP_DigestInit_ex(ctx, hash->md(), NULL) != 1 ||
            EVP_DigestUpdate(ctx, zeroes, sizeof(zeroes)) != 1 ||
            EVP_DigestUpdate(ctx, digest.data, digest.len) != 1 ||
            EVP_DigestUpdate(ctx, salt, salt_len) != 1 || EVP_DigestFinal_ex(ctx, ret, NULL) != 1)
        rc = cc_err_set_openssl(err, "PSS");
    EVP_MD_CTX_free(ctx);
    return rc;
}

int
padding_pss_encode(const struct p11_hash *hash, const struct p11_hash *mgf, struct cc_bytes digest,
        size_t salt_len, size_t bits, uint8_t *ret_block, size_t len, struct cc_err *err)
{
    const size_t h_len = hash_len(hash);
    const size_t em_bits = bits - 1; /* section 8.1.1 */
    const size_t em_len = (em_bits + 7) / 8;
    uint8_t *em, *salt;
    size_t db_len;

    if (digest.len != h_len || len != (bits + 7) / 8 || em_len < h_len + salt_len + 2)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT,
                "RSA-PSS: digest or salt does not fit");
    memset(ret_block, 0, len);
    em = ret_block + len - em_len;
    db_len = em_len - h_len - 1;
    salt = em + db_len - salt_len;
    if (cc_random(salt, salt_len, err) != 0 ||
            pss_hash(hash, digest, salt, salt_len, em + db_len, err) != 0)
        return -1;
    salt[-1] = 0x01;
    if (mgf1_xor(mgf, em + db_len, h_len, em, db_len, err) != 0)
        return -1;
    em[0] &= (uint8_t)(0xff >> (8 * em_len - em_bits));
    em[em_len - 1] = 0xbc;
    return 0;
}

/* All ones when a is zero, else zero. */
static size_t
ct_is_zero(size_t a)
{
    return (size_t)0 - ((~a & (a - 1)) >> (8 * sizeof(a) - 1));
}

static size_t
ct_choose(size_t mask, size_t a, size_t b)
{
    return (mask & a) | (~mask & b);
}

/* All ones when equal. */
static size_t
ct_equal(const uint8_t *a, const uint8_t *b, size_t len)
{
    uint8_t difference = 0;

    for (size_t i = 0; i < len; i++)
        difference |= (uint8_t)(a[i] ^ b[i]);
    return ct_is_zero(difference);
}

/* In DB behind lHash: where the 0x01 is, looking at every byte; *ret_good all ones only behind zeroes alone. */
static size_t
oaep_separator(const uint8_t *db, size_t from, size_t len, size_t *ret_good)
{
    size_t searching = ~(size_t)0, good = ~(size_t)0, at = 0;

    for (size_t i = from; i < len; i++) {
        const size_t is_zero = ct_is_zero(db[i]);
        const size_t is_one = ct_is_zero(db[i] ^ 0x01U);

        at = ct_choose(searching & is_one, i, at);
        good &= ~searching | is_zero | is_one;
        searching &= ~is_one;
    }
    *ret_good = good & ~searching;
    return at;
}

static int
oaep_refuse(struct cc_err *err)
{
    return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_DECRYPT,
            "the ciphertext does not decrypt with this key");
}

/* block becomes 0x00 || seed || DB (section 7.1.2 steps 3b to 3f); at least 2 hashes and 2 bytes long. */
static int
oaep_unmask(const struct p11_hash *hash, const struct p11_hash *mgf, uint8_t *block, size_t len,
        struct cc_err *err)
{
    const size_t h_len = hash_len(hash), db_len = len - h_len - 1;
    uint8_t *const seed = block + 1, *const db = block + 1 + h_len;

    if (mgf1_xor(mgf, db, db_len, seed, h_len, err) != 0)
        return -1;
    return mgf1_xor(mgf, seed, h_len, db, db_len, err);
}

int
padding_oaep_decode(const struct p11_hash *hash, const struct p11_hash *mgf, struct cc_bytes label,
        uint8_t *block, size_t len, struct cc_secret **ret_message, struct cc_err *err)
{
    const size_t h_len = hash_len(hash);
    uint8_t l_hash[EVP_MAX_MD_SIZE];
    uint8_t *const db = block + 1 + h_len;
    size_t db_len, good, at;

    if (len < 2 * h_len + 2)
        return oaep_refuse(err);
    db_len = len - h_len - 1;
    if (EVP_Digest(label.data, label.len, l_hash, NULL, hash->md(), NULL) != 1)
        return cc_err_set_openssl(err, "OAEP");
    if (oaep_unmask(hash, mgf, block, len, err) != 0)
        return -1;

    at = oaep_separator(db, h_len, db_len, &good);
    good &= ct_is_zero(block[0]);
    good &= ct_equal(db, l_hash, h_len);
    if (good == 0)
        return oaep_refuse(err);
    *ret_message = cc_secret_copy(db + at + 1, db_len - at - 1, err);
    return *ret_message == NULL ? -1 : 0;
}

/* ---- Content-encryption keys ---- */

/* ret_key = good ? found : ret_key.  What good is must stay unknown to the compiler, or it may make a branch of it. */
static void
take_key(size_t good, const uint8_t *found, uint8_t *ret_key, size_t len)
{
    __asm__ volatile("" : "+r"(good));
    for (size_t i = 0; i < len; i++)
        ret_key[i] = (uint8_t)ct_choose(good, found[i], ret_key[i]);
}

void
padding_pkcs1_take_key(const uint8_t *block, size_t block_len, uint8_t *ret_key, size_t len)
{
    size_t good, separator;

    if (block_len < len + 11)
        return;
    separator = block_len - len - 1;
    good = ct_is_zero(block[0]) & ct_is_zero(block[1] ^ 0x02U) & ct_is_zero(block[separator]);
    for (size_t i = 2; i < separator; i++)
        good &= ~ct_is_zero(block[i]);
    take_key(good, block + separator + 1, ret_key, len);
}

int
padding_oaep_take_key(const struct p11_hash *hash, const struct p11_hash *mgf, uint8_t *block,
        size_t block_len, uint8_t *ret_key, size_t len, struct cc_err *err)
{
    const size_t h_len = hash_len(hash);
    uint8_t l_hash[EVP_MAX_MD_SIZE];
    uint8_t *db;
    size_t good, separator;

    if (block_len < 2 * h_len + 2 + len)
        return 0;
    if (EVP_Digest(NULL, 0, l_hash, NULL, hash->md(), NULL) != 1)
        return cc_err_set_openssl(err, "OAEP");
    if (oaep_unmask(hash, mgf, block, block_len, err) != 0)
        return -1;
    db = block + 1 + h_len;
    separator = block_len - 1 - h_len - len - 1;
    good = ct_is_zero(block[0]) & ct_equal(db, l_hash, h_len) & ct_is_zero(db[separator] ^ 0x01U);
    for (size_t i = h_len; i < separator; i++)
        good &= ct_is_zero(db[i]);
    take_key(good, db + separator + 1, ret_key, len);
    return 0;
}

void
padding_take_key(const uint8_t *found, size_t size, size_t found_len, uint8_t *ret_key, size_t len)
{
    if (size >= len)
        take_key(ct_is_zero(found_len ^ len), found, ret_key, len);
}

/* By each power of two of the distance, or not: all bytes are looked at either way. */
void
padding_align(uint8_t *block, size_t len, size_t number_len)
{
    const size_t distance = len - number_len;

    for (size_t step = 1; step <= len; step <<= 1) {
        const size_t moves = ~ct_is_zero(distance & step);

        for (size_t i = len; i-- > 0;)
            block[i] = (uint8_t)ct_choose(moves, i >= step ? block[i - step] : 0, block[i]);
    }
}

int
padding_digest_info(int nid, struct cc_bytes digest, struct cc_buf *ret, struct cc_err *err)
{
    const EVP_MD *md = EVP_get_digestbynid(nid);
    X509_SIG *sig = NULL;
    X509_ALGOR *algor;
    ASN1_OCTET_STRING *octets;
    unsigned char *der = NULL;
    int len, rc = -1;

    if (md == NULL || (size_t)EVP_MD_get_size(md) != digest.len)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT, "no digest of %zu bytes (nid %d)",
                digest.len, nid);
    if ((sig = X509_SIG_new()) == NULL) {
        cc_err_nomem(err);
        goto out;
    }
    X509_SIG_getm(sig, &algor, &octets);
    if (X509_ALGOR_set0(algor, OBJ_nid2obj(nid), V_ASN1_NULL, NULL) != 1 ||
            ASN1_OCTET_STRING_set(octets, digest.data, (int)digest.len) != 1 ||
            (len = i2d_X509_SIG(sig, &der)) <= 0) {
        cc_err_set_openssl(err, "DigestInfo");
        goto out;
    }
    rc = cc_buf_add(ret, der, (size_t)len, err);
out:
    OPENSSL_free(der);
    X509_SIG_free(sig);
    return rc;
}
