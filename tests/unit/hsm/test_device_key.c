/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/cms.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pkcs12.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "base/clock.h"
#include "base/text.h"
#include "hsm/hsm.h"
#include "pki/csr.h"
#include "pki/enveloped.h"
#include "pki/keyspec.h"
#include "pki/name.h"
#include "pki/password.h"
#include "pki/plan.h"
#include "pki/pubkey.h"
#include "token_dir.h"

/*
 * Keys of devices on a real token through the real token process: sealed, in a request, in a PFX; what comes is opened
 * with OpenSSL alone.
 */

static struct token_dir *token;

static struct {
    struct hsm *hsm;
    struct hsm_key *seal, *import;
    EVP_PKEY *ca_key, *recipient_key;
    X509 *ca, *recipient;
    struct cc_buf recipient_der;
} world;

#define must(call)                                                                                 \
    do {                                                                                           \
        struct cc_err must_err = { 0 }, *err = &must_err;                                          \
        if ((call) != 0)                                                                           \
            fail_msg("%s: %s", #call, cc_err_text(err));                                           \
    } while (0)

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

static const struct cc_bytes context = { (const uint8_t *)"key-1", 5 };
static const uint8_t serial_byte = 7;

/* A certificate for a key, under issuer or by itself. */
static X509 *
certify(const char *subject, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key)
{
    struct pki_plan *plan = pki_plan_new(NULL);
    struct pki_issuer by = { .certificate = issuer, .key = issuer_key };
    X509 *cert = NULL;

    plan->not_before_ms = cc_clock_now_ms() - 60000;
    plan->not_after_ms = plan->not_before_ms + PKI_DAY_MS;
    plan->key_usages = 0x80;
    plan->is_ca = issuer == NULL;
    if (plan->is_ca)
        plan->key_usages = 0x04 | 0x02;
    must(pki_name_parse(subject, &plan->subject, err));
    must(pki_cert_issue(plan, (struct cc_bytes){ &serial_byte, 1 }, key, &by, &cert, err));
    pki_plan_free(plan);
    return cert;
}

static void
to_der(X509 *cert, struct cc_buf *ret)
{
    unsigned char *der = NULL;
    int len = i2d_X509(cert, &der);

    must(cc_buf_add(ret, der, (size_t)len, err));
    OPENSSL_free(der);
}

static int
group_setup(void **state)
{
    struct hsm_settings settings = token_dir_settings(token);

    (void)state;
    must(hsm_open(&settings, &world.hsm, err));
    must(hsm_wait_open(world.hsm, 60000, err));
    must(hsm_key_get0(world.hsm, HSM_ROLE_SEAL, "pkcs11:object=seal", &world.seal, err));
    must(hsm_key_get0(world.hsm, HSM_ROLE_PFX_IMPORT, "pkcs11:object=import", &world.import, err));
    must(pki_key_generate(PKI_RSA2048, &world.ca_key, err));
    must(pki_key_generate(PKI_RSA2048, &world.recipient_key, err));
    world.ca = certify("CN=Test CA", world.ca_key, NULL, world.ca_key);
    world.recipient = certify("CN=Recipient", world.recipient_key, world.ca, world.ca_key);
    cc_buf_init(&world.recipient_der, 8192);
    to_der(world.recipient, &world.recipient_der);
    return 0;
}

static int
group_teardown(void **state)
{
    (void)state;
    X509_free(world.ca);
    X509_free(world.recipient);
    EVP_PKEY_free(world.ca_key);
    EVP_PKEY_free(world.recipient_key);
    cc_buf_free(&world.recipient_der);
    hsm_close(world.hsm);
    return 0;
}

/* ---- one key from its making to its PFX ---- */

struct made {
    struct cc_buf sealed, spki, csr, certificate, chain, pfx, password;
    EVP_PKEY *public;
};

static struct made
made_new(void)
{
    return (struct made){
        .sealed = CC_BUF_INIT(65536),
        .spki = CC_BUF_INIT(65536),
        .csr = CC_BUF_INIT(65536),
        .certificate = CC_BUF_INIT(65536),
        .chain = CC_BUF_INIT(65536),
        .pfx = CC_BUF_INIT(65536),
        .password = CC_BUF_INIT(65536),
    };
}

static void
made_free(struct made *made)
{
    struct cc_buf *all[] = { &made->sealed, &made->spki, &made->csr, &made->certificate,
        &made->chain, &made->pfx, &made->password };

    for (size_t i = 0; i < CC_COUNT(all); i++)
        cc_buf_free(all[i]);
    EVP_PKEY_free(made->public);
}

static struct made
make(enum pki_keyspec spec, enum hsm_generation generation)
{
    struct made made = made_new();
    X509 *cert;

    must(hsm_device_key_new(world.seal, spec, generation, context, &made.sealed, &made.spki, err));
    must(pki_pubkey_parse_spki(cc_buf_bytes(&made.spki), &made.public, err));
    assert_int_equal(pki_keyspec_of(made.public), spec);
    must(pki_key_check(made.public, 1u << spec, err));
    cert = certify("CN=device-1", made.public, world.ca, world.ca_key);
    to_der(cert, &made.certificate);
    to_der(world.ca, &made.chain);
    X509_free(cert);
    return made;
}

static struct hsm_device_pfx
parts_of(const struct made *made)
{
    return (struct hsm_device_pfx){
        .context = context,
        .sealed = cc_buf_bytes(&made->sealed),
        .certificate = cc_buf_bytes(&made->certificate),
        .chain = cc_buf_bytes(&made->chain),
        .friendly_name = "device-1",
        .recipient = cc_buf_bytes(&world.recipient_der),
    };
}

/* The password as the recipient reads it, with a NUL. */
static void
open_password(const struct cc_buf *encrypted, char *ret, size_t size)
{
    const unsigned char *at = encrypted->data;
    CMS_ContentInfo *cms = d2i_CMS_ContentInfo(NULL, &at, (long)encrypted->len);
    BIO *out = BIO_new(BIO_s_mem());
    int len;

    assert_non_null(cms);
    assert_int_equal(CMS_decrypt(cms, world.recipient_key, world.recipient, NULL, out, 0), 1);
    len = BIO_read(out, ret, (int)size - 1);
    assert_true(len > 0);
    ret[len] = '\0';
    BIO_free(out);
    CMS_ContentInfo_free(cms);
}

static void
check_pfx(const struct made *made)
{
    const unsigned char *at = made->pfx.data;
    PKCS12 *pfx = d2i_PKCS12(NULL, &at, (long)made->pfx.len);
    STACK_OF(X509) *chain = NULL;
    EVP_PKEY *key = NULL;
    X509 *cert = NULL;
    struct pki_pfx_info info;
    char password[128];

    open_password(&made->password, password, sizeof(password));
    assert_int_equal(strlen(password), 32);
    assert_int_equal(strspn(password, LETTERS), 32);
    must(pki_pfx_check(cc_buf_bytes(&made->pfx), cc_bytes_of_str(password), &info, err));
    assert_non_null(pfx);
    assert_int_equal(PKCS12_parse(pfx, password, &key, &cert, &chain), 1);
    assert_int_equal(EVP_PKEY_eq(key, made->public), 1);
    assert_int_equal(X509_check_private_key(cert, key), 1);
    assert_int_equal(sk_X509_num(chain), 1);
    assert_int_equal(X509_cmp(sk_X509_value(chain, 0), world.ca), 0);
    sk_X509_pop_free(chain, X509_free);
    X509_free(cert);
    EVP_PKEY_free(key);
    PKCS12_free(pfx);
}

static void
check_csr(struct made *made)
{
    struct cc_buf subject = CC_BUF_INIT(4096), extensions = CC_BUF_INIT(4096);
    X509_NAME *name = NULL;
    X509_REQ *csr = NULL;

    must(pki_name_parse("CN=device-1,O=Contoso", &name, err));
    must(pki_name_write(name, &subject, err));
    must(hsm_device_key_csr(world.seal, context, cc_buf_bytes(&made->sealed),
            cc_buf_bytes(&subject), cc_buf_bytes(&extensions), &made->csr, err));
    must(pki_csr_parse(cc_buf_bytes(&made->csr), &csr, err));
    must(pki_csr_verify(csr, err));
    assert_int_equal(EVP_PKEY_eq(X509_REQ_get0_pubkey(csr), made->public), 1);
    assert_int_equal(X509_NAME_cmp(X509_REQ_get_subject_name(csr), name), 0);
    X509_REQ_free(csr);
    X509_NAME_free(name);
    cc_buf_free(&subject);
    cc_buf_free(&extensions);
}

static void
test_every_kind(enum hsm_generation generation)
{
    for (int spec = 0; spec < PKI_KEYSPECS; spec++) {
        struct made made;
        struct hsm_device_pfx parts;

        made = make((enum pki_keyspec)spec, generation);
        check_csr(&made);
        parts = parts_of(&made);
        for (int encryption = 0; encryption <= PKI_PFX_COMPAT; encryption++) {
            cc_buf_reset(&made.pfx);
            cc_buf_reset(&made.password);
            parts.encryption = (enum pki_pfx_encryption)encryption;
            must(hsm_device_key_pfx(world.seal, &parts, &made.pfx, &made.password, err));
            check_pfx(&made);
        }
        made_free(&made);
    }
}

static void
test_made_in_the_token_process(void **state)
{
    (void)state;
    test_every_kind(HSM_GENERATE_HOST);
}

static void
test_made_on_the_token(void **state)
{
    (void)state;
    test_every_kind(HSM_GENERATE_TOKEN);
}

/* Passwords in every form, each of them another one. */
static void
test_passwords(void **state)
{
    static const int paddings[] = { [PKI_PASSWORD_OAEP_SHA256] = RSA_PKCS1_OAEP_PADDING,
        [PKI_PASSWORD_OAEP_SHA1] = RSA_PKCS1_OAEP_PADDING,
        [PKI_PASSWORD_PKCS1] = RSA_PKCS1_PADDING };
    struct made made = make(PKI_EC_P256, HSM_GENERATE_HOST);
    struct hsm_device_pfx parts = parts_of(&made);
    char before[128] = "", password[512];

    (void)state;
    for (int form = PKI_PASSWORD_OAEP_SHA256; form <= PKI_PASSWORD_PKCS1; form++) {
        EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(world.recipient_key, NULL);
        size_t len = sizeof(password);

        cc_buf_reset(&made.pfx);
        cc_buf_reset(&made.password);
        parts.form = (enum pki_password_form)form;
        must(hsm_device_key_pfx(world.seal, &parts, &made.pfx, &made.password, err));
        assert_int_equal(EVP_PKEY_decrypt_init(ctx), 1);
        assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(ctx, paddings[form]), 1);
        if (form == PKI_PASSWORD_OAEP_SHA256)
            assert_int_equal(EVP_PKEY_CTX_set_rsa_oaep_md(ctx, EVP_sha256()), 1);
        assert_int_equal(EVP_PKEY_decrypt(ctx, (unsigned char *)password, &len, made.password.data,
                                 made.password.len),
                1);
        assert_int_equal(len, 32);
        password[len] = '\0';
        assert_string_not_equal(password, before);
        (void)cc_strcpy(before, sizeof(before), password);
        must(pki_pfx_check(cc_buf_bytes(&made.pfx), cc_bytes_of_str(password),
                &(struct pki_pfx_info){ .subject = "" }, err));
        EVP_PKEY_CTX_free(ctx);
    }
    made_free(&made);
}

/* ---- what must fail ---- */

static void
assert_fault(int rc, const struct cc_err *why, enum hsm_fault want)
{
    assert_int_equal(rc, -1);
    if (why->domain != CC_DOM_TOKEN || why->code != want)
        fail_msg("%s", why->text);
}

static void
test_refusals(void **state)
{
    struct made made = make(PKI_EC_P256, HSM_GENERATE_HOST),
                other = make(PKI_EC_P256, HSM_GENERATE_HOST);
    struct hsm_device_pfx parts = parts_of(&made);
    struct cc_err why = { 0 };
    int rc;

    (void)state;
    parts.context = (struct cc_bytes){ (const uint8_t *)"key-2", 5 };
    rc = hsm_device_key_pfx(world.seal, &parts, &made.pfx, &made.password, &why);
    assert_fault(rc, &why, HSM_FAULT_DECRYPT);

    parts = parts_of(&made);
    made.sealed.data[made.sealed.len - 1] ^= 1;
    cc_err_clear(&why);
    rc = hsm_device_key_pfx(world.seal, &parts, &made.pfx, &made.password, &why);
    assert_fault(rc, &why, HSM_FAULT_DECRYPT);
    cc_err_clear(&why);
    rc = hsm_device_key_csr(world.seal, context, cc_buf_bytes(&made.sealed), context, context,
            &made.csr, &why);
    assert_fault(rc, &why, HSM_FAULT_DECRYPT);
    made.sealed.data[made.sealed.len - 1] ^= 1;

    parts.certificate = cc_buf_bytes(&other.certificate);
    cc_err_clear(&why);
    rc = hsm_device_key_pfx(world.seal, &parts, &made.pfx, &made.password, &why);
    assert_fault(rc, &why, HSM_FAULT_INPUT);

    parts = parts_of(&made);
    parts.recipient = cc_buf_bytes(&made.certificate); /* not RSA */
    cc_err_clear(&why);
    rc = hsm_device_key_pfx(world.seal, &parts, &made.pfx, &made.password, &why);
    assert_fault(rc, &why, HSM_FAULT_RECIPIENT);

    parts = parts_of(&made);
    parts.chain = context;
    cc_err_clear(&why);
    rc = hsm_device_key_pfx(world.seal, &parts, &made.pfx, &made.password, &why);
    assert_fault(rc, &why, HSM_FAULT_INPUT);

    cc_err_clear(&why);
    rc = hsm_device_key_csr(world.seal, context, cc_buf_bytes(&made.sealed), context, context,
            &made.csr, &why);
    assert_fault(rc, &why, HSM_FAULT_INPUT);

    cc_err_clear(&why);
    rc = hsm_device_key_new(world.import, PKI_EC_P256, HSM_GENERATE_HOST, context, &made.sealed,
            &made.spki, &why);
    assert_fault(rc, &why, HSM_FAULT_ROLE);
    assert_int_equal(made.pfx.len, 0);
    made_free(&made);
    made_free(&other);
}

/* Sealed under the same key, and still two things: a device's key opens in the token process alone. */
static void
test_sealed_keys_are_no_sealed_bytes(void **state)
{
    struct made made = make(PKI_EC_P256, HSM_GENERATE_HOST);
    struct cc_buf sealed = CC_BUF_INIT(65536);
    struct cc_secret *plain = NULL;
    struct cc_err why = { 0 };

    (void)state;
    assert_fault(hsm_unseal(world.seal, context, cc_buf_bytes(&made.sealed), &plain, &why), &why,
            HSM_FAULT_DECRYPT);
    assert_null(plain);
    must(hsm_seal(world.seal, context, cc_bytes_of_str("some bytes"), &sealed, err));
    cc_err_clear(&why);
    assert_fault(hsm_device_key_csr(world.seal, context, cc_buf_bytes(&sealed), context, context,
                         &made.csr, &why),
            &why, HSM_FAULT_DECRYPT);
    /* The first byte says which of the two it is, and is sealed with the rest. */
    made.sealed.data[0] = sealed.data[0];
    cc_err_clear(&why);
    assert_fault(hsm_unseal(world.seal, context, cc_buf_bytes(&made.sealed), &plain, &why), &why,
            HSM_FAULT_DECRYPT);
    assert_null(plain);
    cc_buf_free(&sealed);
    made_free(&made);
}

/* What does not fit into a field must not end the token process under all others. */
static void
test_long_names(void **state)
{
    struct made made = make(PKI_EC_P256, HSM_GENERATE_HOST);
    struct hsm_device_pfx parts = parts_of(&made);
    struct hsm_status before, after;
    struct cc_err why = { 0 };
    char name[257];

    (void)state;
    memset(name, 'n', sizeof(name));
    name[256] = '\0';
    parts.friendly_name = name;
    hsm_get_status(world.hsm, &before);
    assert_fault(hsm_device_key_pfx(world.seal, &parts, &made.pfx, &made.password, &why), &why,
            HSM_FAULT_INPUT);
    name[255] = '\0';
    must(hsm_device_key_pfx(world.seal, &parts, &made.pfx, &made.password, err));
    check_pfx(&made);
    hsm_get_status(world.hsm, &after);
    assert_int_equal(after.restarts, before.restarts);
    made_free(&made);
}

/* ---- a password in a message for the import key ---- */

struct way {
    const EVP_CIPHER *(*cipher)(void);
    const EVP_MD *(*oaep)(void); /* NULL: PKCS #1 v1.5 */
    bool by_key_id;
};

/* For one certificate, or for two. */
static void
envelope(const struct way *way, X509 *first, X509 *second, const char *password, struct cc_buf *ret)
{
    BIO *in = BIO_new_mem_buf(password, -1);
    CMS_ContentInfo *cms = CMS_encrypt(NULL, NULL, way->cipher(), CMS_BINARY | CMS_PARTIAL);
    CMS_RecipientInfo *ri = CMS_add1_recipient_cert(cms, first,
            CMS_KEY_PARAM | (way->by_key_id ? CMS_USE_KEYID : 0));
    unsigned char *der = NULL;
    int len;

    assert_non_null(ri);
    if (way->oaep != NULL) {
        EVP_PKEY_CTX *ctx = CMS_RecipientInfo_get0_pkey_ctx(ri);

        assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING), 1);
        assert_int_equal(EVP_PKEY_CTX_set_rsa_oaep_md(ctx, way->oaep()), 1);
    }
    if (second != NULL)
        assert_non_null(CMS_add1_recipient_cert(cms, second, 0));
    assert_int_equal(CMS_final(cms, in, NULL, CMS_BINARY), 1);
    len = i2d_CMS_ContentInfo(cms, &der);
    assert_true(len > 0);
    cc_buf_reset(ret);
    must(cc_buf_add(ret, der, (size_t)len, err));
    OPENSSL_free(der);
    CMS_ContentInfo_free(cms);
    BIO_free(in);
}

static X509 *
make_import_cert(void)
{
    EVP_PKEY *public = NULL;
    X509 *cert;

    must(hsm_key_get1_public(world.import, &public, err));
    cert = certify("CN=Import", public, world.ca, world.ca_key);
    EVP_PKEY_free(public);
    return cert;
}

static struct hsm_reencrypt
message_of(const struct cc_buf *message)
{
    return (struct hsm_reencrypt){ .mode = HSM_REENCRYPT_AUTO,
        .enveloped = true,
        .ciphertext = cc_buf_bytes(message),
        .recipient = cc_buf_bytes(&world.recipient_der) };
}

static void
test_enveloped_password(void **state)
{
    static const struct way ways[] = {
        { EVP_aes_256_cbc, NULL, false },
        { EVP_aes_192_cbc, NULL, true },
        { EVP_aes_128_cbc, NULL, false },
        { EVP_des_ede3_cbc, NULL, true },
        { EVP_aes_256_cbc, EVP_sha1, false },
        { EVP_aes_256_cbc, EVP_sha256, true },
        { EVP_aes_128_cbc, EVP_sha512, true },
        { EVP_des_ede3_cbc, EVP_sha384, false },
    };
    struct cc_buf message = CC_BUF_INIT(65536), out = CC_BUF_INIT(65536);
    X509 *import_cert = make_import_cert();
    char password[128];

    (void)state;
    for (size_t i = 0; i < 2 * CC_COUNT(ways); i++) {
        struct hsm_reencrypt request;
        bool on_token = true;

        envelope(&ways[i / 2], import_cert, NULL, "a password", &message);
        request = message_of(&message);
        request.mode = i % 2 == 0 ? HSM_REENCRYPT_AUTO : HSM_REENCRYPT_HOST;
        cc_buf_reset(&out);
        must(hsm_key_reencrypt(world.import, &request, &out, &on_token, err));
        assert_false(on_token);
        open_password(&out, password, sizeof(password));
        assert_string_equal(password, "a password");
    }
    X509_free(import_cert);
    cc_buf_free(&message);
    cc_buf_free(&out);
}

/* ---- messages that are not good ---- */

static const struct way plain_way = { EVP_aes_256_cbc, NULL, false };

/* The answer to a message whose content alone is bad: what all others must say too. */
static void
answer_to_bad_content(X509 *import_cert, char *ret, size_t size)
{
    struct cc_buf message = CC_BUF_INIT(65536), out = CC_BUF_INIT(65536);
    struct hsm_reencrypt request;
    struct cc_err why = { 0 };
    bool on_token = false;

    /* Sixteen bytes have a block of padding, sixteen times 16: with one bit of the block before, it is 17. */
    envelope(&plain_way, import_cert, NULL, "sixteen letters!", &message);
    message.data[message.len - 17] ^= 1;
    request = message_of(&message);
    assert_fault(hsm_key_reencrypt(world.import, &request, &out, &on_token, &why), &why,
            HSM_FAULT_DECRYPT);
    (void)cc_strcpy(ret, size, why.text);
    cc_buf_free(&message);
    cc_buf_free(&out);
}

/*
 * A content key that is none is replaced by a random one, under which one message in 256 has a padding that passes.  So
 * each is tried some times, and whatever comes of it is not the password.
 */
static void
never_opens(const char *name, const struct cc_buf *message, const char *want)
{
    struct hsm_reencrypt request = message_of(message);
    struct cc_buf out = CC_BUF_INIT(65536);
    bool on_token = false;
    int refused = 0;

    for (int i = 0; i < 5; i++) {
        struct cc_err why = { 0 };

        if (hsm_key_reencrypt(world.import, &request, &out, &on_token, &why) == 0) {
            char password[128];

            open_password(&out, password, sizeof(password));
            assert_string_not_equal(password, "sixteen letters!");
            cc_buf_reset(&out);
            continue;
        }
        refused++;
        if (why.domain != CC_DOM_TOKEN || why.code != HSM_FAULT_DECRYPT ||
                strcmp(why.text, want) != 0)
            fail_msg("%s: %s", name, why.text);
    }
    assert_true(refused > 0);
    cc_buf_free(&out);
}

/* The same message with something else in place of its encrypted key. */
static void
with_other_key(struct cc_bytes encrypted_key, struct cc_buf *ret)
{
    static const uint8_t iv[16], content[32];

    cc_buf_reset(ret);
    must(pki_enveloped_data_build(world.recipient, encrypted_key, PKI_CIPHER_AES256,
            (struct cc_bytes){ iv, sizeof(iv) }, (struct cc_bytes){ content, sizeof(content) }, ret,
            err));
}

static void
test_bad_keys_of_messages(void **state)
{
    static const struct {
        const char *name;
        size_t len; /* of what is encrypted as if it were a key */
    } lengths[] = { { "no key", 0 }, { "a short key", 31 }, { "a long key", 33 },
        { "another key", 32 }, { "as long as can be", 245 } };
    static uint8_t bytes[256];
    X509 *import_cert = make_import_cert();
    struct cc_buf message = CC_BUF_INIT(65536), key = CC_BUF_INIT(1024);
    char want[512];

    (void)state;
    answer_to_bad_content(import_cert, want, sizeof(want));
    envelope(&plain_way, world.recipient, NULL, "sixteen letters!", &message);
    never_opens("for another", &message, want);
    for (size_t i = 0; i < CC_COUNT(lengths); i++) {
        cc_buf_reset(&key);
        must(pki_password_encrypt_padding(X509_get0_pubkey(import_cert), PKI_PADDING_PKCS1,
                (struct cc_bytes){ bytes, lengths[i].len }, &key, err));
        with_other_key(cc_buf_bytes(&key), &message);
        never_opens(lengths[i].name, &message, want);
    }
    with_other_key((struct cc_bytes){ bytes, 255 }, &message);
    never_opens("a ciphertext that is too short", &message, want);
    with_other_key((struct cc_bytes){ bytes, 0 }, &message);
    never_opens("none", &message, want);
    memset(bytes, 0xff, sizeof(bytes));
    with_other_key((struct cc_bytes){ bytes, 256 }, &message);
    never_opens("a ciphertext above the modulus", &message, want);
    X509_free(import_cert);
    cc_buf_free(&key);
    cc_buf_free(&message);
}

static void
refuse_message(struct cc_bytes der, enum hsm_reencrypt_mode mode, enum hsm_fault want)
{
    struct cc_buf out = CC_BUF_INIT(65536);
    struct hsm_reencrypt request = { .mode = mode,
        .enveloped = true,
        .ciphertext = der,
        .recipient = cc_buf_bytes(&world.recipient_der) };
    struct cc_err why = { 0 };
    bool on_token = false;

    assert_fault(hsm_key_reencrypt(world.import, &request, &out, &on_token, &why), &why, want);
    assert_int_equal(out.len, 0);
    cc_buf_free(&out);
}

static void
test_messages_that_are_none(void **state)
{
    struct cc_buf message = CC_BUF_INIT(131072);
    X509 *import_cert = make_import_cert();
    char *long_text = calloc(1, 65000);

    (void)state;
    envelope(&plain_way, import_cert, world.recipient, "a password", &message);
    refuse_message(cc_buf_bytes(&message), HSM_REENCRYPT_AUTO, HSM_FAULT_DECRYPT);
    memset(long_text, 'p', 64999);
    envelope(&plain_way, import_cert, NULL, long_text, &message);
    refuse_message(cc_buf_bytes(&message), HSM_REENCRYPT_AUTO, HSM_FAULT_DECRYPT);
    long_text[PKI_PASSWORD_MAX + 1] = '\0';
    envelope(&plain_way, import_cert, NULL, long_text, &message);
    refuse_message(cc_buf_bytes(&message), HSM_REENCRYPT_AUTO, HSM_FAULT_DECRYPT);

    envelope(&plain_way, import_cert, NULL, "a password", &message);
    refuse_message((struct cc_bytes){ message.data, message.len - 1 }, HSM_REENCRYPT_AUTO,
            HSM_FAULT_DECRYPT);
    refuse_message((struct cc_bytes){ message.data, 0 }, HSM_REENCRYPT_AUTO, HSM_FAULT_DECRYPT);
    /* A message cannot be decrypted on the token alone. */
    refuse_message(cc_buf_bytes(&message), HSM_REENCRYPT_TOKEN, HSM_FAULT_UNSUPPORTED);
    must(cc_buf_add_u8(&message, 0, err));
    refuse_message(cc_buf_bytes(&message), HSM_REENCRYPT_HOST, HSM_FAULT_DECRYPT);
    free(long_text);
    X509_free(import_cert);
    cc_buf_free(&message);
}

static int
run_all(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_made_in_the_token_process),
        cmocka_unit_test(test_made_on_the_token),
        cmocka_unit_test(test_passwords),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_sealed_keys_are_no_sealed_bytes),
        cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_enveloped_password),
        cmocka_unit_test(test_bad_keys_of_messages),
        cmocka_unit_test(test_messages_that_are_none),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}

int
main(void)
{
    static const struct token_key keys[] = {
        { "import", "rsa:2048" },
        { "seal", "AES:32" },
    };

    return token_dir_run(keys, CC_COUNT(keys), &token, run_all);
}
