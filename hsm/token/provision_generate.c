/* SPDX-License-Identifier: MIT */
#include "hsm/token/provision.h"

#include <openssl/evp.h>
#include <string.h>

#include "base/process.h"
#include "base/text.h"
#include "hsm/token/attr.h"
#include "hsm/token/ckr.h"
#include "pki/pubkey.h"

/*
 * Private and public half share one CKA_ID.  By custom it is the SHA-1 of the public key, which is not known before the
 * key is there; ours is as long and random, so that it is in both templates, nothing has to be changed afterwards, and
 * a cut in the middle leaves no key without it.
 */
#define ID_LEN 20

/* ---- What may be made ---- */

struct kind {
    const char *name;
    const char *shown; /* as provision_read_key() tells it */
    CK_KEY_TYPE type;
    CK_MECHANISM_TYPE mechanism;
    CK_ULONG size; /* RSA: bits; AES: bytes */
    struct cc_bytes curve;
};

/* Named curves: DER of their OIDs (RFC 5480 section 2.1.1.1). */
static const uint8_t oid_p256[] = { 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07 };
static const uint8_t oid_p384[] = { 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22 };
static const uint8_t oid_p521[] = { 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23 };

static const struct kind kinds[] = {
    { "rsa2048", "RSA-2048", CKK_RSA, CKM_RSA_PKCS_KEY_PAIR_GEN, 2048, { 0 } },
    { "rsa3072", "RSA-3072", CKK_RSA, CKM_RSA_PKCS_KEY_PAIR_GEN, 3072, { 0 } },
    { "rsa4096", "RSA-4096", CKK_RSA, CKM_RSA_PKCS_KEY_PAIR_GEN, 4096, { 0 } },
    { "ecP256", "P-256", CKK_EC, CKM_EC_KEY_PAIR_GEN, 0, { oid_p256, sizeof(oid_p256) } },
    { "ecP384", "P-384", CKK_EC, CKM_EC_KEY_PAIR_GEN, 0, { oid_p384, sizeof(oid_p384) } },
    { "ecP521", "P-521", CKK_EC, CKM_EC_KEY_PAIR_GEN, 0, { oid_p521, sizeof(oid_p521) } },
    { "aes256", "AES-256", CKK_AES, CKM_AES_KEY_GEN, 32, { 0 } },
};

/* What a role's private or secret key may do, and nothing else; by which types of keys it can be done. */
static const struct {
    uint32_t usages;
    bool rsa, ec, aes;
} role_facts[HSM_ROLE_COUNT] = {
    [HSM_ROLE_PFX_IMPORT] = { WIRE_KEY_DECRYPT | WIRE_KEY_UNWRAP, .rsa = true },
    [HSM_ROLE_SCEP_RA_SIGN] = { WIRE_KEY_SIGN, .rsa = true, .ec = true },
    [HSM_ROLE_SCEP_RA_ENCRYPT] = { WIRE_KEY_DECRYPT, .rsa = true },
    [HSM_ROLE_CA] = { WIRE_KEY_SIGN, .rsa = true, .ec = true },
    [HSM_ROLE_OCSP] = { WIRE_KEY_SIGN, .rsa = true, .ec = true },
    [HSM_ROLE_IDENTITY] = { WIRE_KEY_SIGN, .rsa = true, .ec = true },
    [HSM_ROLE_SEAL] = { WIRE_KEY_ENCRYPT | WIRE_KEY_DECRYPT, .aes = true },
    [HSM_ROLE_AUDIT] = { WIRE_KEY_SIGN, .rsa = true, .ec = true },
};

static bool
role_takes(enum hsm_role role, const struct kind *kind)
{
    return kind->type == CKK_RSA  ? role_facts[role].rsa
           : kind->type == CKK_EC ? role_facts[role].ec
                                  : role_facts[role].aes;
}

static int
find_kind(uint32_t roles, const char *name, const struct kind **ret, struct cc_err *err)
{
    const struct kind *kind = NULL;
    char shown[64];

    for (size_t i = 0; i < CC_COUNT(kinds) && kind == NULL; i++)
        if (strcmp(kinds[i].name, name) == 0)
            kind = &kinds[i];
    if (kind == NULL)
        return cc_err_set(err, CC_DOM_USAGE, 0,
                "no key type %s: there are rsa2048, rsa3072, rsa4096, ecP256, ecP384, ecP521, aes256",
                cc_escape_into(shown, sizeof(shown), name));
    for (enum hsm_role role = 0; role < HSM_ROLE_COUNT; role++)
        if ((roles & 1U << role) != 0 && !role_takes(role, kind))
            return cc_err_set(err, CC_DOM_USAGE, 0, "a key of role %s cannot be %s: it is %s",
                    hsm_role_name(role), kind->name,
                    role_facts[role].aes  ? "aes256"
                    : role_facts[role].ec ? "RSA or EC"
                                          : "RSA");
    *ret = kind;
    return 0;
}

static uint32_t
usages_of(uint32_t roles)
{
    uint32_t usages = 0;

    for (enum hsm_role role = 0; role < HSM_ROLE_COUNT; role++)
        if ((roles & 1U << role) != 0)
            usages |= role_facts[role].usages;
    return usages;
}

/* ---- Templates ---- */

/* How much of what we want a template says: what a token refuses to be told is left out, and looked at afterwards. */
enum strictness { STRICT_ALL, STRICT_MODIFIABLE, STRICT_USAGES, STRICT_END };

struct template
{
    CK_ATTRIBUTE attrs[20];
    CK_ULONG count;
};

static void
add(struct template *t, CK_ATTRIBUTE_TYPE type, const void *data, size_t len)
{
    t->attrs[t->count++] = p11_attr(type, data, len);
}

static void
add_bool(struct template *t, CK_ATTRIBUTE_TYPE type, bool value)
{
    static const CK_BBOOL yes = CK_TRUE, no = CK_FALSE;

    add(t, type, value ? &yes : &no, sizeof(yes));
}

/* A key being made. */
struct making {
    const struct kind *kind;
    uint32_t usages; /* of the private or secret key */
    const char *label;
    uint8_t id[ID_LEN];
};

static void
add_common(struct template *t, const struct making *making, enum strictness strictness)
{
    add_bool(t, CKA_TOKEN, true);
    add(t, CKA_LABEL, making->label, strlen(making->label));
    add(t, CKA_ID, making->id, sizeof(making->id));
    if (strictness < STRICT_MODIFIABLE)
        add_bool(t, CKA_MODIFIABLE, false);
}

static void
add_secrecy(struct template *t)
{
    add_bool(t, CKA_PRIVATE, true);
    add_bool(t, CKA_SENSITIVE, true);
    add_bool(t, CKA_EXTRACTABLE, false);
}

static void
private_template(const struct making *making, enum strictness strictness, struct template *t)
{
    add_common(t, making, strictness);
    add_secrecy(t);
    add_bool(t, CKA_SIGN, (making->usages & WIRE_KEY_SIGN) != 0);
    add_bool(t, CKA_DECRYPT, (making->usages & WIRE_KEY_DECRYPT) != 0);
    add_bool(t, CKA_UNWRAP, (making->usages & WIRE_KEY_UNWRAP) != 0);
    if (strictness < STRICT_USAGES) {
        add_bool(t, CKA_SIGN_RECOVER, false);
        add_bool(t, CKA_DERIVE, false);
    }
}

static void
public_template(const struct making *making, enum strictness strictness, struct template *t)
{
    static const CK_BYTE exponent[] = { 0x01, 0x00, 0x01 };
    const struct kind *kind = making->kind;

    add_common(t, making, strictness);
    add_bool(t, CKA_PRIVATE, false);
    add_bool(t, CKA_VERIFY, (making->usages & WIRE_KEY_SIGN) != 0);
    add_bool(t, CKA_ENCRYPT, (making->usages & WIRE_KEY_DECRYPT) != 0);
    add_bool(t, CKA_WRAP, (making->usages & WIRE_KEY_UNWRAP) != 0);
    if (strictness < STRICT_USAGES) {
        add_bool(t, CKA_VERIFY_RECOVER, false);
        add_bool(t, CKA_DERIVE, false);
    }
    if (kind->type == CKK_RSA) {
        add(t, CKA_MODULUS_BITS, &kind->size, sizeof(kind->size));
        add(t, CKA_PUBLIC_EXPONENT, exponent, sizeof(exponent));
    } else {
        add(t, CKA_EC_PARAMS, kind->curve.data, kind->curve.len);
    }
}

static void
secret_template(const struct making *making, enum strictness strictness, struct template *t)
{
    add_common(t, making, strictness);
    add_secrecy(t);
    add(t, CKA_VALUE_LEN, &making->kind->size, sizeof(making->kind->size));
    add_bool(t, CKA_ENCRYPT, (making->usages & WIRE_KEY_ENCRYPT) != 0);
    add_bool(t, CKA_DECRYPT, (making->usages & WIRE_KEY_DECRYPT) != 0);
    add_bool(t, CKA_WRAP, false);
    add_bool(t, CKA_UNWRAP, false);
    if (strictness < STRICT_USAGES) {
        add_bool(t, CKA_SIGN, false);
        add_bool(t, CKA_VERIFY, false);
        add_bool(t, CKA_DERIVE, false);
    }
}

/* ---- Making ---- */

struct made {
    CK_OBJECT_HANDLE key;    /* private or secret */
    CK_OBJECT_HANDLE public; /* 0: none */
};

static CK_RV
generate_as(struct provision *p, const struct making *making, enum strictness strictness,
        struct made *made)
{
    CK_MECHANISM mechanism = { .mechanism = making->kind->mechanism };
    struct template own = { 0 }, public = { 0 };

    if (making->kind->type == CKK_AES) {
        secret_template(making, strictness, &own);
        return p->f->C_GenerateKey(p->session, &mechanism, own.attrs, own.count, &made->key);
    }
    private_template(making, strictness, &own);
    public_template(making, strictness, &public);
    return p->f->C_GenerateKeyPair(p->session, &mechanism, public.attrs, public.count, own.attrs,
            own.count, &made->public, &made->key);
}

static int
generate(struct provision *p, const struct making *making, struct made *made, struct cc_err *err)
{
    CK_RV rv = CKR_TEMPLATE_INCONSISTENT;

    for (int s = STRICT_ALL; s < STRICT_END && ckr_is_template(rv); s++)
        rv = generate_as(p, making, (enum strictness)s, made);
    if (rv == CKR_OK)
        return 0;
    if (rv == CKR_MECHANISM_INVALID || rv == CKR_KEY_SIZE_RANGE || rv == CKR_CURVE_NOT_SUPPORTED ||
            rv == CKR_DOMAIN_PARAMS_INVALID)
        return cc_err_set(err, CC_DOM_PKCS11, (long)rv,
                "the token does not make keys of type %s (%s)", making->kind->name, ckr_name(rv));
    return provision_write_error(rv,
            making->kind->type == CKK_AES ? "C_GenerateKey" : "C_GenerateKeyPair", err);
}

/* What the token says of the key is what was asked for, whatever it did with the template. */
static int
check_made(struct provision *p, const struct making *making, const struct made *made,
        struct cc_err *err)
{
    const bool is_pair = made->public != 0;
    struct provision_key key;

    if (provision_read_key(p, made->key, is_pair ? CKO_PRIVATE_KEY : CKO_SECRET_KEY, &key, err) !=
            0)
        return -1;
    if ((key.flags & WIRE_KEY_SENSITIVE) == 0 || (key.flags & WIRE_KEY_EXTRACTABLE) != 0)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED,
                "the token made a key that can be read out of it");
    if ((key.flags & PROVISION_USAGES) != making->usages)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED,
                "the token made a key for other uses than it was told (0x%x instead of 0x%x)",
                (unsigned)(key.flags & PROVISION_USAGES), (unsigned)making->usages);
    if (strcmp(key.label, making->label) != 0 || key.id_len != ID_LEN ||
            memcmp(key.id, making->id, ID_LEN) != 0)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED,
                "the token gave the key another label or id than it was told");
    return 0;
}

static int
check_public(struct provision *p, const struct making *making, const struct made *made,
        struct cc_err *err)
{
    struct cc_buf spki = CC_BUF_INIT(P11_ATTR_MAX);
    struct provision_key key;
    int rc = -1;

    if (provision_read_key(p, made->public, CKO_PUBLIC_KEY, &key, err) != 0 ||
            provision_read_public(p, made->key, &spki, err) != 0)
        goto out;
    if (strcmp(key.kind, making->kind->shown) != 0) {
        cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED,
                "the token made a key of another type: %s", key.kind);
        goto out;
    }
    rc = 0;
out:
    cc_buf_free(&spki);
    return rc;
}

static void
destroy(struct provision *p, const struct made *made)
{
    (void)p->f->C_DestroyObject(p->session, made->key);
    if (made->public != 0)
        (void)p->f->C_DestroyObject(p->session, made->public);
}

static int
check_label_free(struct provision *p, const char *label, struct cc_err *err)
{
    static const CK_OBJECT_CLASS classes[] = { CKO_PRIVATE_KEY, CKO_PUBLIC_KEY, CKO_SECRET_KEY };
    char shown[160];

    for (size_t i = 0; i < CC_COUNT(classes); i++) {
        CK_ATTRIBUTE template[] = {
            p11_attr(CKA_CLASS, &classes[i], sizeof(classes[i])),
            p11_attr(CKA_LABEL, label, strlen(label)),
        };
        CK_OBJECT_HANDLE found;
        CK_ULONG count = 0;
        CK_RV rv;

        rv = p11_find(p->f, p->session, template, CC_COUNT(template), &found, 1, &count);
        if (rv != CKR_OK)
            return ckr_err(err, rv, "search of keys");
        if (count > 0)
            return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT,
                    "a key with the label %s is there already: choose another with --label "
                    "(certconnector key list shows them)",
                    cc_escape_into(shown, sizeof(shown), label));
    }
    return 0;
}

int
provision_generate_key(struct provision *p, uint32_t roles, const char *label,
        const char *kind_name, struct cc_err *err)
{
    struct making making = { .label = label, .usages = usages_of(roles) };
    struct made made = { 0 };

    if (provision_check_label(label, WIRE_LABEL_SIZE, "key", err) != 0 ||
            find_kind(roles, kind_name, &making.kind, err) != 0 ||
            check_label_free(p, label, err) != 0 ||
            cc_random(making.id, sizeof(making.id), err) != 0 ||
            generate(p, &making, &made, err) != 0)
        return -1;
    if (check_made(p, &making, &made, err) == 0 &&
            (made.public == 0 || check_public(p, &making, &made, err) == 0))
        return 0;
    destroy(p, &made);
    return cc_err_in(err, "the new key was destroyed again");
}
