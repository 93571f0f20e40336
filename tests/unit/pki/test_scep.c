/* SPDX-License-Identifier: MIT */
#include "pki/scep.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>
#include <openssl/cms.h>
#include <openssl/err.h>

#include "files.h"
#include "issuer.h"

/* Messages made with OpenSSL's CMS, and by hand where that makes only good ones. */

#define OID "2.16.840.1.113733.1.9."
#define ID "6fd2a1b0-7"
#define NONCE "0123456789abcdef"
#define CONTENT "an envelope, as far as the message goes"
#define MESSAGE_MAX 65536

static struct world {
    EVP_PKEY *rsa, *ec;
    X509 *cert, *ec_cert;
} world;

static int
group_setup(void **state)
{
    static const unsigned char long_serial[33] = "a serial number of 33 characters";
    ASN1_INTEGER *serial;

    (void)state;
    world.rsa = make_key("rsa");
    world.ec = make_key("P-256");
    world.cert = make_cert("A device", world.rsa, NULL);
    world.ec_cert = make_cert("Another device", world.ec, NULL);
    serial = X509_get_serialNumber(world.cert);
    assert_true(ASN1_STRING_set(serial, long_serial, sizeof(long_serial)));
    assert_true(X509_sign(world.cert, world.rsa, EVP_sha256()) > 0);
    return 0;
}

static int
group_teardown(void **state)
{
    (void)state;
    EVP_PKEY_free(world.rsa);
    EVP_PKEY_free(world.ec);
    X509_free(world.cert);
    X509_free(world.ec_cert);
    return 0;
}

static struct cc_bytes
text(const char *string)
{
    return cc_bytes_of_str(string);
}

static void
assert_bytes(struct cc_bytes bytes, const char *want)
{
    assert_int_equal(bytes.len, strlen(want));
    assert_memory_equal(bytes.data, want, bytes.len);
}

/* An exact-size copy is read, so that a sanitizer sees a read behind its end; *ret_copy is the caller's to free. */
static int
read_copy(struct cc_bytes der, struct pki_scep_message *ret, uint8_t **ret_copy)
{
    struct cc_err err = { 0 };
    int rc;

    *ret_copy = exact_copy(der.data, der.len);
    rc = pki_scep_read((struct cc_bytes){ *ret_copy, der.len }, ret, &err);
    assert_int_equal(ERR_peek_error(), 0);
    assert_int_equal(err.domain, rc == 0 ? CC_DOM_NONE : CC_DOM_INPUT);
    return rc;
}

static void
expect_unreadable(struct cc_bytes der)
{
    struct pki_scep_message message;
    uint8_t *copy;

    assert_int_equal(read_copy(der, &message, &copy), -1);
    free(copy);
}

static void
expect_verified(struct cc_bytes der, bool want)
{
    struct pki_scep_message message;
    struct cc_err err = { 0 };
    uint8_t *copy;

    assert_int_equal(read_copy(der, &message, &copy), 0);
    assert_int_equal(pki_scep_verify(&message, &err), want ? 0 : -1);
    assert_int_equal(err.domain, want ? CC_DOM_NONE : CC_DOM_INPUT);
    assert_int_equal(ERR_peek_error(), 0);
    pki_scep_message_free(&message);
    free(copy);
}

/* ---- what we write, we read ---- */

static struct pki_scep_draft
make_draft(void)
{
    return (struct pki_scep_draft){
        .type = PKI_SCEP_PKCS_REQ,
        .status = -1,
        .fail_info = -1,
        .transaction_id = text(ID),
        .sender_nonce = text(NONCE),
        .envelope = text(CONTENT),
        .signer = world.cert,
        .key = world.rsa,
        .md = EVP_sha256(),
    };
}

static struct cc_buf
write_draft(const struct pki_scep_draft *draft)
{
    struct cc_buf der = CC_BUF_INIT(MESSAGE_MAX);
    struct cc_err err = { 0 };

    if (pki_scep_write(draft, &der, &err) != 0)
        fail_msg("%s", cc_err_text(&err));
    return der;
}

static void
requests_come_back(void **state)
{
    const EVP_MD *const mds[] = { EVP_sha1(), EVP_sha256(), EVP_sha512() };

    (void)state;
    for (size_t i = 0; i < 2 * CC_COUNT(mds); i++) {
        struct pki_scep_draft draft = make_draft();
        struct pki_scep_message message;
        struct cc_buf der;
        uint8_t *copy;

        draft.md = mds[i / 2];
        if (i % 2 == 1) {
            draft.signer = world.ec_cert;
            draft.key = world.ec;
        }
        der = write_draft(&draft);
        assert_int_equal(read_copy(cc_buf_bytes(&der), &message, &copy), 0);
        assert_int_equal(message.type, PKI_SCEP_PKCS_REQ);
        assert_int_equal(message.status, -1);
        assert_int_equal(message.fail_info, -1);
        assert_int_equal(message.transaction_tag, V_ASN1_PRINTABLESTRING);
        assert_int_equal(message.digest_nid, EVP_MD_get_type(draft.md));
        assert_bytes(message.transaction_id, ID);
        assert_bytes(message.sender_nonce, NONCE);
        assert_bytes(message.envelope, CONTENT);
        assert_int_equal(message.recipient_nonce.len + message.fail_text.len, 0);
        assert_int_equal(X509_cmp(message.signer, draft.signer), 0);
        assert_int_equal(pki_scep_verify(&message, NULL), 0);
        pki_scep_message_free(&message);
        pki_scep_message_free(&message); /* and nothing more */
        free(copy);
        cc_buf_free(&der);
    }
}

static bool
contains(const struct cc_buf *der, const void *bytes, size_t len)
{
    return memmem(der->data, der->len, bytes, len) != NULL;
}

/* id-data, and [0] around an OCTET STRING of no length: one client takes absent content for a broken answer. */
static void
answers_without_an_envelope_have_content_of_no_length(void **state)
{
    static const uint8_t empty[] = { 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07,
        0x01, 0xa0, 0x02, 0x04, 0x00 };
    static const int statuses[] = { PKI_SCEP_FAILURE, PKI_SCEP_PENDING };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(statuses); i++) {
        const bool failed = statuses[i] == PKI_SCEP_FAILURE;
        struct pki_scep_draft draft = make_draft();
        struct pki_scep_message message;
        struct cc_buf der;
        uint8_t *copy;

        draft.type = PKI_SCEP_CERT_REP;
        draft.status = statuses[i];
        draft.fail_info = failed ? PKI_SCEP_BAD_ALG : -1;
        draft.fail_text = failed ? "kein gutes Verfahren: \xc3\xa4" : NULL;
        draft.recipient_nonce = text("of the request");
        draft.envelope = (struct cc_bytes){ NULL, 0 };
        draft.transaction_tag = V_ASN1_UTF8STRING;
        der = write_draft(&draft);
        assert_true(contains(&der, empty, sizeof(empty)));
        assert_int_equal(read_copy(cc_buf_bytes(&der), &message, &copy), 0);
        assert_int_equal(message.type, PKI_SCEP_CERT_REP);
        assert_int_equal(message.status, statuses[i]);
        assert_int_equal(message.fail_info, failed ? PKI_SCEP_BAD_ALG : -1);
        assert_bytes(message.fail_text, failed ? draft.fail_text : "");
        assert_bytes(message.recipient_nonce, "of the request");
        assert_int_equal(message.transaction_tag, V_ASN1_UTF8STRING);
        assert_int_equal(message.envelope.len, 0);
        assert_int_equal(pki_scep_verify(&message, NULL), 0);
        pki_scep_message_free(&message);
        free(copy);
        cc_buf_free(&der);
    }
}

static void
numbers_have_names(void **state)
{
    (void)state;
    assert_string_equal(pki_scep_type_name(PKI_SCEP_CERT_REP), "CertRep");
    assert_string_equal(pki_scep_type_name(PKI_SCEP_RENEWAL_REQ), "RenewalReq");
    assert_string_equal(pki_scep_type_name(PKI_SCEP_PKCS_REQ), "PKCSReq");
    assert_string_equal(pki_scep_type_name(PKI_SCEP_CERT_POLL), "CertPoll");
    assert_string_equal(pki_scep_type_name(PKI_SCEP_GET_CERT), "GetCert");
    assert_string_equal(pki_scep_type_name(PKI_SCEP_GET_CRL), "GetCRL");
    assert_string_equal(pki_scep_type_name(18), "unknown");
    assert_string_equal(pki_scep_fail_name(PKI_SCEP_BAD_ALG), "badAlg");
    assert_string_equal(pki_scep_fail_name(PKI_SCEP_BAD_CERT_ID), "badCertId");
    assert_string_equal(pki_scep_fail_name(5), "unknown");
    assert_string_equal(pki_scep_fail_name(-1), "unknown");
}

/* ---- attributes ---- */

struct attribute {
    const char *oid;
    int tag;
    const char *value;
    const char *second; /* a second value; NULL: none */
};

static void
add_attribute(CMS_SignerInfo *signer, const struct attribute *from)
{
    ASN1_OBJECT *oid = OBJ_txt2obj(from->oid, 1);
    X509_ATTRIBUTE *attribute = X509_ATTRIBUTE_create_by_OBJ(NULL, oid, from->tag, from->value,
            (int)strlen(from->value));

    assert_non_null(attribute);
    if (from->second != NULL)
        assert_true(X509_ATTRIBUTE_set1_data(attribute, from->tag, from->second,
                (int)strlen(from->second)));
    assert_true(CMS_signed_add1_attr(signer, attribute));
    X509_ATTRIBUTE_free(attribute);
    ASN1_OBJECT_free(oid);
}

/* flags: of CMS_sign() and CMS_add1_signer(). */
static CMS_ContentInfo *
make_cms(const struct attribute *attributes, size_t count, unsigned flags)
{
    CMS_ContentInfo *cms = CMS_sign(NULL, NULL, NULL, NULL, CMS_BINARY | CMS_PARTIAL);
    CMS_SignerInfo *signer = CMS_add1_signer(cms, world.cert, world.rsa, EVP_sha256(),
            CMS_BINARY | CMS_NOSMIMECAP | CMS_PARTIAL | flags);

    assert_non_null(signer);
    for (size_t i = 0; i < count; i++)
        add_attribute(signer, &attributes[i]);
    return cms;
}

static struct cc_buf
finish_cms(CMS_ContentInfo *take_cms)
{
    struct cc_buf out = CC_BUF_INIT(MESSAGE_MAX);
    BIO *content = BIO_new_mem_buf(CONTENT, -1);
    unsigned char *der = NULL;
    int len;

    assert_true(CMS_final(take_cms, content, NULL, CMS_BINARY));
    len = i2d_CMS_ContentInfo(take_cms, &der);
    assert_true(len > 0);
    assert_int_equal(cc_buf_add(&out, der, (size_t)len, NULL), 0);
    OPENSSL_free(der);
    BIO_free(content);
    CMS_ContentInfo_free(take_cms);
    return out;
}

static const struct attribute good[] = {
    { OID "2", V_ASN1_PRINTABLESTRING, "19", NULL },
    { OID "3", V_ASN1_PRINTABLESTRING, "2", NULL },
    { OID "4", V_ASN1_PRINTABLESTRING, "4", NULL },
    { OID "5", V_ASN1_OCTET_STRING, NONCE, NULL },
    { OID "6", V_ASN1_OCTET_STRING, "r", NULL },
    { OID "7", V_ASN1_PRINTABLESTRING, ID, NULL },
    { "1.3.6.1.5.5.7.24.1", V_ASN1_UTF8STRING, "why", NULL },
};

/* How many of the attributes of good were read. */
static unsigned
which_were_read(struct cc_buf *take_der)
{
    struct pki_scep_message m;
    unsigned got = 0;
    uint8_t *copy;

    assert_int_equal(read_copy(cc_buf_bytes(take_der), &m, &copy), 0);
    got |= m.type == 19 ? 1U << 0 : 0;
    got |= m.status == 2 ? 1U << 1 : 0;
    got |= m.fail_info == 4 ? 1U << 2 : 0;
    got |= m.sender_nonce.len > 0 ? 1U << 3 : 0;
    got |= m.recipient_nonce.len > 0 ? 1U << 4 : 0;
    got |= m.transaction_id.len > 0 ? 1U << 5 : 0;
    got |= m.fail_text.len > 0 ? 1U << 6 : 0;
    pki_scep_message_free(&m);
    free(copy);
    cc_buf_free(take_der);
    return got;
}

#define ALL ((1U << CC_COUNT(good)) - 1)

static unsigned
read_with(size_t at, struct attribute instead)
{
    struct attribute attributes[CC_COUNT(good)];
    struct cc_buf der;

    memcpy(attributes, good, sizeof(good));
    attributes[at] = instead;
    der = finish_cms(make_cms(attributes, CC_COUNT(good), 0));
    return which_were_read(&der);
}

/* Each of them once, missing, of two values, of no value, of a type that it may have and of one that it may not. */
static void
attributes_are_read_one_by_one(void **state)
{
    static const int texts[] = { V_ASN1_PRINTABLESTRING, V_ASN1_UTF8STRING, V_ASN1_IA5STRING,
        V_ASN1_T61STRING };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(good); i++) {
        const bool nonce = good[i].tag == V_ASN1_OCTET_STRING;
        const unsigned without = ALL & ~(1U << i);
        struct attribute one = good[i];

        assert_int_equal(read_with(i, one), ALL);
        one.oid = OID "99";
        assert_int_equal(read_with(i, one), without);
        one = good[i];
        one.second = "2";
        assert_int_equal(read_with(i, one), without);
        one = good[i];
        one.value = "";
        assert_int_equal(read_with(i, one), without);
        one = good[i];
        one.tag = nonce ? V_ASN1_PRINTABLESTRING : V_ASN1_OCTET_STRING;
        assert_int_equal(read_with(i, one), without);
        for (size_t j = 0; j < CC_COUNT(texts) && !nonce; j++) {
            one.tag = texts[j];
            assert_int_equal(read_with(i, one), ALL);
        }
    }
}

/* An attribute that is there again, which OpenSSL does not write: another one is renamed. */
static void
an_attribute_that_stands_twice_is_not_read(void **state)
{
    static const uint8_t other[] = { 0x60, 0x86, 0x48, 0x01, 0x86, 0xf8, 0x45, 0x01, 0x09, 0x63 };

    (void)state;
    for (size_t i = 0; i < 6; i++) {
        struct attribute attributes[CC_COUNT(good) + 1];
        struct cc_buf der;
        uint8_t *at;

        memcpy(attributes, good, sizeof(good));
        attributes[CC_COUNT(good)] = good[i];
        attributes[CC_COUNT(good)].oid = OID "99";
        der = finish_cms(make_cms(attributes, CC_COUNT(attributes), 0));
        at = memmem(der.data, der.len, other, sizeof(other));
        assert_non_null(at);
        at[9] = (uint8_t)(2 + i);
        assert_int_equal(which_were_read(&der), ALL & ~(1U << i));
    }
}

static void
values_have_bounds(void **state)
{
    char longest[PKI_SCEP_TRANSACTION_MAX + 2];
    struct attribute one = good[5];

    (void)state;
    memset(longest, 'x', sizeof(longest));
    one.value = longest;
    longest[PKI_SCEP_TRANSACTION_MAX] = '\0';
    assert_int_equal(read_with(5, one), ALL);
    longest[PKI_SCEP_TRANSACTION_MAX] = 'x';
    longest[PKI_SCEP_TRANSACTION_MAX + 1] = '\0';
    assert_int_equal(read_with(5, one), ALL & ~(1U << 5));
    one = good[3];
    one.value = longest;
    longest[PKI_SCEP_NONCE_MAX + 1] = '\0';
    assert_int_equal(read_with(3, one), ALL & ~(1U << 3));
    longest[PKI_SCEP_NONCE_MAX] = '\0';
    assert_int_equal(read_with(3, one), ALL);
    one = good[0];
    one.value = "1x";
    assert_int_equal(read_with(0, one), ALL & ~1U);
    one.value = "-3";
    assert_int_equal(read_with(0, one), ALL & ~1U);
    one.value = "0019";
    assert_int_equal(read_with(0, one), ALL & ~1U);
}

/* ---- signers ---- */

static void
there_is_one_signer_with_a_certificate(void **state)
{
    CMS_ContentInfo *cms = make_cms(good, CC_COUNT(good), 0);
    struct pki_scep_draft draft = make_draft();
    struct cc_buf der;

    (void)state;
    assert_non_null(CMS_add1_signer(cms, world.ec_cert, world.ec, EVP_sha256(), CMS_BINARY));
    der = finish_cms(cms);
    expect_unreadable(cc_buf_bytes(&der));
    cc_buf_free(&der);

    der = finish_cms(make_cms(good, CC_COUNT(good), CMS_NOCERTS));
    expect_unreadable(cc_buf_bytes(&der));
    cc_buf_free(&der);

    /* named by its key identifier */
    der = finish_cms(make_cms(good, CC_COUNT(good), CMS_USE_KEYID));
    expect_verified(cc_buf_bytes(&der), true);
    cc_buf_free(&der);

    assert_int_equal(pki_certs_only_write(&world.cert, 1, NULL, &der, NULL), 0);
    expect_unreadable(cc_buf_bytes(&der));
    cc_buf_free(&der);

    /* no signed attributes: nothing says what it is an answer to */
    der = finish_cms(make_cms(NULL, 0, CMS_NOATTR));
    expect_verified(cc_buf_bytes(&der), false);
    cc_buf_free(&der);

    der = write_draft(&draft);
    for (size_t len = 0; len < der.len; len += 97)
        expect_unreadable((struct cc_bytes){ der.data, len });
    assert_int_equal(cc_buf_add_u8(&der, 0, NULL), 0);
    expect_unreadable(cc_buf_bytes(&der));
    cc_buf_free(&der);
}

static void
what_was_changed_is_not_verified(void **state)
{
    static const char *const parts[] = { CONTENT, ID, NONCE };
    struct pki_scep_draft draft = make_draft();
    struct cc_buf der = write_draft(&draft);

    (void)state;
    expect_verified(cc_buf_bytes(&der), true);
    for (size_t i = 0; i < CC_COUNT(parts); i++) {
        uint8_t *at = memmem(der.data, der.len, parts[i], strlen(parts[i]));

        assert_non_null(at);
        *at ^= 1;
        expect_verified(cc_buf_bytes(&der), false);
        *at ^= 1;
    }
    der.data[der.len - 1] ^= 1; /* of the signature */
    expect_verified(cc_buf_bytes(&der), false);
    cc_buf_free(&der);
}

/* ---- attributes in another order ---- */

struct ordered {
    uint8_t *der[16];
    size_t len[16];
    int count;
    uint8_t set[2048]; /* as signed: with the tag of a SET */
    size_t header, set_len;
};

static void
read_attributes(struct cc_bytes der, struct ordered *ret)
{
    const unsigned char *in = der.data;
    CMS_ContentInfo *cms = d2i_CMS_ContentInfo(NULL, &in, (long)der.len);
    CMS_SignerInfo *signer = sk_CMS_SignerInfo_value(CMS_get0_SignerInfos(cms), 0);

    ret->count = CMS_signed_get_attr_count(signer);
    assert_in_range(ret->count, 2, CC_COUNT(ret->der));
    for (int i = 0; i < ret->count; i++) {
        ret->der[i] = NULL;
        ret->len[i] = (size_t)i2d_X509_ATTRIBUTE(CMS_signed_get_attr(signer, i), &ret->der[i]);
    }
    CMS_ContentInfo_free(cms);
}

static void
write_set(struct ordered *o, bool reversed)
{
    size_t len = 0;
    uint8_t *at = o->set;

    for (int i = 0; i < o->count; i++)
        len += o->len[i];
    assert_true(len + 8 < sizeof(o->set));
    ASN1_put_object(&at, 1, (int)len, V_ASN1_SET, V_ASN1_UNIVERSAL);
    o->header = (size_t)(at - o->set);
    for (int i = 0; i < o->count; i++) {
        const int from = reversed ? o->count - 1 - i : i;

        memcpy(at, o->der[from], o->len[from]);
        at += o->len[from];
    }
    o->set_len = (size_t)(at - o->set);
}

/* The attributes the other way round; the signature stays, over those in the order of DER. */
static void
reverse(struct cc_buf *der, struct ordered *o)
{
    uint8_t *at;

    read_attributes(cc_buf_bytes(der), o);
    write_set(o, false);
    at = memmem(der->data, der->len, o->set + o->header, o->set_len - o->header);
    assert_non_null(at);
    write_set(o, true);
    memcpy(at, o->set + o->header, o->set_len - o->header);
    for (int i = 0; i < o->count; i++)
        OPENSSL_free(o->der[i]);
}

/* The signature is what a SignerInfo without unsigned attributes ends with. */
static void
sign_again(struct cc_buf *der, const struct ordered *o)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    size_t len = 256;

    assert_true(EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, world.rsa));
    assert_true(EVP_DigestSign(ctx, der->data + der->len - len, &len, o->set, o->set_len));
    assert_int_equal(len, 256);
    EVP_MD_CTX_free(ctx);
}

static void
attributes_may_stand_in_another_order(void **state)
{
    struct pki_scep_draft draft = make_draft();
    struct cc_buf der = write_draft(&draft), sorted = write_draft(&draft);
    struct ordered ordered;
    uint8_t *at;

    (void)state;
    reverse(&der, &ordered);
    expect_verified(cc_buf_bytes(&der), true);
    at = memmem(der.data, der.len, NONCE, strlen(NONCE));
    assert_non_null(at);
    *at ^= 1;
    expect_verified(cc_buf_bytes(&der), false);
    *at ^= 1;

    sign_again(&der, &ordered);
    expect_verified(cc_buf_bytes(&der), true);
    *at ^= 1;
    expect_verified(cc_buf_bytes(&der), false);
    cc_buf_free(&der);

    /* in order, and signed in another */
    sign_again(&sorted, &ordered);
    expect_verified(cc_buf_bytes(&sorted), false);
    cc_buf_free(&sorted);
}

/* sha1WithRSAEncryption where rsaEncryption stands; the rest of the message is as it was. */
static void
the_signature_algorithm_may_name_its_digest(void **state)
{
    static const int nids[] = { NID_sha1WithRSAEncryption, NID_sha256WithRSAEncryption };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(nids); i++) {
        struct cc_buf der = finish_cms(make_cms(good, CC_COUNT(good), 0));
        const unsigned char *in = der.data;
        X509_ALGOR *signature = NULL;
        unsigned char *out = NULL;
        CMS_ContentInfo *again;
        int len;

        again = d2i_CMS_ContentInfo(NULL, &in, (long)der.len);
        CMS_SignerInfo_get0_algs(sk_CMS_SignerInfo_value(CMS_get0_SignerInfos(again), 0), NULL,
                NULL, NULL, &signature);
        assert_true(X509_ALGOR_set0(signature, OBJ_nid2obj(nids[i]), V_ASN1_NULL, NULL));
        len = i2d_CMS_ContentInfo(again, &out);
        assert_true(len > 0);
        expect_verified((struct cc_bytes){ out, (size_t)len }, true);
        OPENSSL_free(out);
        CMS_ContentInfo_free(again);
        cc_buf_free(&der);
    }
}

/* As streaming libraries write it: indefinite lengths, and content in segments. */
static void
messages_may_be_in_ber(void **state)
{
    CMS_ContentInfo *cms = make_cms(good, CC_COUNT(good), CMS_STREAM);
    static const uint8_t segmented[] = { 0xa0, 0x80, 0x24, 0x80, 0x04 };
    BIO *content = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    struct cc_buf ber = CC_BUF_INIT(MESSAGE_MAX);
    struct pki_scep_message message;
    char *data = NULL;
    uint8_t *copy;
    long len;

    (void)state;
    for (int i = 0; i < 3000; i++)
        assert_int_equal(BIO_puts(content, "0123456789"), 10);
    assert_true(i2d_CMS_bio_stream(out, cms, content, CMS_BINARY | CMS_STREAM));
    len = BIO_get_mem_data(out, &data);
    assert_true(len > 30000);
    assert_int_equal(cc_buf_add(&ber, data, (size_t)len, NULL), 0);
    assert_true(contains(&ber, segmented, sizeof(segmented)));
    assert_int_equal(read_copy(cc_buf_bytes(&ber), &message, &copy), 0);
    assert_int_equal(message.envelope.len, 30000);
    assert_memory_equal(message.envelope.data + 29990, "0123456789", 10);
    assert_bytes(message.transaction_id, ID);
    assert_int_equal(pki_scep_verify(&message, NULL), 0);
    pki_scep_message_free(&message);
    free(copy);
    cc_buf_free(&ber);
    BIO_free(out);
    BIO_free(content);
    CMS_ContentInfo_free(cms);
}

/* ---- certificates without a signature ---- */

static X509_CRL *
make_crl(void)
{
    X509_CRL *crl = X509_CRL_new();
    ASN1_TIME *now = X509_gmtime_adj(NULL, 0);

    assert_true(X509_CRL_set_version(crl, X509_CRL_VERSION_2));
    assert_true(X509_CRL_set_issuer_name(crl, X509_get_subject_name(world.cert)));
    assert_true(X509_CRL_set1_lastUpdate(crl, now));
    assert_true(X509_CRL_sign(crl, world.rsa, EVP_sha256()) > 0);
    ASN1_TIME_free(now);
    return crl;
}

/* In both orders, so that it is no accident of the encoding. */
static void
certificates_keep_their_order(void **state)
{
    X509 *const orders[2][2] = { { world.cert, world.ec_cert }, { world.ec_cert, world.cert } };
    X509_CRL *crl = make_crl();

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct cc_buf der = CC_BUF_INIT(MESSAGE_MAX);
        STACK_OF(X509) *certificates = NULL;
        X509_CRL *got = NULL;

        assert_int_equal(pki_certs_only_write(orders[i], 2, i == 0 ? crl : NULL, &der, NULL), 0);
        assert_int_equal(pki_certs_only_read(cc_buf_bytes(&der), &certificates, &got, NULL), 0);
        assert_int_equal(sk_X509_num(certificates), 2);
        assert_int_equal(X509_cmp(sk_X509_value(certificates, 0), orders[i][0]), 0);
        assert_int_equal(X509_cmp(sk_X509_value(certificates, 1), orders[i][1]), 0);
        if (i == 0)
            assert_int_equal(X509_CRL_cmp(got, crl), 0);
        else
            assert_null(got);
        sk_X509_pop_free(certificates, X509_free);
        X509_CRL_free(got);
        cc_buf_free(&der);
    }
    X509_CRL_free(crl);
}

static void
certificates_that_are_none_are_refused(void **state)
{
    struct cc_buf der = CC_BUF_INIT(MESSAGE_MAX);
    STACK_OF(X509) *certificates = NULL;
    X509_CRL *crl = NULL;
    struct cc_err err = { 0 };

    (void)state;
    assert_int_equal(pki_certs_only_write(NULL, 0, NULL, &der, NULL), 0);
    assert_int_equal(pki_certs_only_read(cc_buf_bytes(&der), &certificates, &crl, NULL), 0);
    assert_int_equal(sk_X509_num(certificates), 0);
    sk_X509_free(certificates);
    certificates = NULL;
    assert_int_equal(cc_buf_add_u8(&der, 0, NULL), 0);
    assert_int_equal(pki_certs_only_read(cc_buf_bytes(&der), &certificates, &crl, &err), -1);
    assert_int_equal(err.domain, CC_DOM_INPUT);
    assert_int_equal(pki_certs_only_read(text("0\x80"), &certificates, &crl, NULL), -1);
    assert_int_equal(pki_certs_only_read((struct cc_bytes){ NULL, 0 }, &certificates, &crl, NULL),
            -1);
    assert_null(certificates);
    cc_buf_free(&der);
}

static void
issuer_and_serial_come_back(void **state)
{
    struct cc_buf der = CC_BUF_INIT(4096);
    X509_NAME *issuer = NULL;
    ASN1_INTEGER *serial = NULL;

    (void)state;
    assert_int_equal(pki_issuer_and_serial_write(X509_get_issuer_name(world.cert),
                             X509_get0_serialNumber(world.cert), &der, NULL),
            0);
    assert_int_equal(pki_issuer_and_serial_read(cc_buf_bytes(&der), &issuer, &serial, NULL), 0);
    assert_int_equal(X509_NAME_cmp(issuer, X509_get_issuer_name(world.cert)), 0);
    assert_int_equal(ASN1_INTEGER_cmp(serial, X509_get0_serialNumber(world.cert)), 0);
    X509_NAME_free(issuer);
    ASN1_INTEGER_free(serial);
    issuer = NULL;
    for (size_t len = 0; len < der.len; len += 7)
        assert_int_equal(pki_issuer_and_serial_read((struct cc_bytes){ der.data, len }, &issuer,
                                 &serial, NULL),
                -1);
    assert_int_equal(cc_buf_add_u8(&der, 0, NULL), 0);
    assert_int_equal(pki_issuer_and_serial_read(cc_buf_bytes(&der), &issuer, &serial, NULL), -1);
    assert_null(issuer);
    cc_buf_free(&der);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_come_back),
        cmocka_unit_test(answers_without_an_envelope_have_content_of_no_length),
        cmocka_unit_test(numbers_have_names),
        cmocka_unit_test(attributes_are_read_one_by_one),
        cmocka_unit_test(an_attribute_that_stands_twice_is_not_read),
        cmocka_unit_test(values_have_bounds),
        cmocka_unit_test(there_is_one_signer_with_a_certificate),
        cmocka_unit_test(what_was_changed_is_not_verified),
        cmocka_unit_test(attributes_may_stand_in_another_order),
        cmocka_unit_test(the_signature_algorithm_may_name_its_digest),
        cmocka_unit_test(messages_may_be_in_ber),
        cmocka_unit_test(certificates_keep_their_order),
        cmocka_unit_test(certificates_that_are_none_are_refused),
        cmocka_unit_test(issuer_and_serial_come_back),
    };

    return cmocka_run_group_tests_name("pki scep", tests, group_setup, group_teardown);
}
