/* SPDX-License-Identifier: MIT */

/*
 * A token process without a token, for tests of the client: speaks hsm/wire.h with software keys and misbehaves on
 * demand.  The folder given as state_dir in WIRE_SETUP holds
 *
 *   NAME.pem   private key of "pkcs11:object=NAME"
 *   starts     one byte a start
 *   trace      where it is there, gets a line for each random number, its length, and each signature, its key
 *   script     "[once ]OPERATION ACTION": what to do instead when OPERATION comes, e.g. "once sign hang"
 *
 * Actions: hang, die, wrong (a result with a bit flipped), refuse (HSM_FAULT_INPUT), ckr (CKR_DEVICE_ERROR), bad
 * (HSM_FAULT_DECRYPT), away (HSM_FAULT_UNAVAILABLE), lost, pin, wordy (lost for a long reason) and stuck (token
 * states), and the malformed replies of send_malformed().
 */

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <openssl/x509.h>

#include "base/text.h"
#include "hsm/hsm.h"
#include "hsm/wire.h"

#define CKR_DEVICE_ERROR 0x30

struct key {
    char name[64];
    uint8_t role;
    struct cc_buf pinned;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char folder[512];
static struct key keys[WIRE_KEYS_MAX];
static unsigned key_count;

static const char *const operations[] = { [WIRE_SETUP] = "setup",
    [WIRE_ADD_KEY] = "addkey",
    [WIRE_STATE] = "state",
    [WIRE_PUBLIC] = "public",
    [WIRE_SIGN] = "sign",
    [WIRE_DECRYPT] = "decrypt",
    [WIRE_REENCRYPT] = "reencrypt",
    [WIRE_SEAL] = "seal",
    [WIRE_UNSEAL] = "unseal",
    [WIRE_RANDOM] = "random",
    [WIRE_DEVICE_KEY_NEW] = "devicenew",
    [WIRE_DEVICE_KEY_CSR] = "devicecsr",
    [WIRE_DEVICE_KEY_PFX] = "devicepfx",
    [WIRE_OPEN_CONTENT_KEY] = "contentkey" };

static void
path_of(char *ret, size_t size, const char *name, const char *suffix)
{
    (void)pthread_mutex_lock(&lock);
    (void)snprintf(ret, size, "%s/%s%s", folder, name, suffix);
    (void)pthread_mutex_unlock(&lock);
}

/* What the script wants for this operation, "" for nothing out of the ordinary. */
static void
action_of(uint8_t op, char ret[32])
{
    char path[640], once[8] = "", name[16] = "", line[80] = "";
    FILE *f;

    ret[0] = '\0';
    path_of(path, sizeof(path), "script", "");
    if (op >= CC_COUNT(operations) || operations[op] == NULL || (f = fopen(path, "re")) == NULL)
        return;
    if (fgets(line, sizeof(line), f) == NULL)
        line[0] = '\0';
    (void)fclose(f);
    if (sscanf(line, "%7s %15s %31s", once, name, ret) == 3 && strcmp(once, "once") == 0) {
        if (strcmp(name, operations[op]) != 0 || unlink(path) != 0)
            ret[0] = '\0';
    } else if (sscanf(line, "%15s %31s", name, ret) != 2 || strcmp(name, operations[op]) != 0) {
        ret[0] = '\0';
    }
}

static int
fault(struct cc_err *err, enum hsm_fault code, const char *text)
{
    return cc_err_set(err, CC_DOM_TOKEN, code, "%s", text);
}

/* ---- keys ---- */

static int
check_pin(struct key *key, EVP_PKEY *pkey, struct cc_err *err)
{
    unsigned char *der = NULL;
    const int len = i2d_PUBKEY(pkey, &der);
    int rc = 0;

    if (len <= 0)
        return cc_err_set_openssl(err, "i2d_PUBKEY");
    if (key->pinned.len == 0)
        rc = cc_buf_add(&key->pinned, der, (size_t)len, err);
    else if (key->pinned.len != (size_t)len || memcmp(key->pinned.data, der, (size_t)len) != 0)
        rc = fault(err, HSM_FAULT_KEY_REPLACED, "another key");
    OPENSSL_free(der);
    return rc;
}

static int
load_key(struct cc_bytes *rest, EVP_PKEY **ret, struct cc_err *err)
{
    char path[640], name[64] = "";
    uint16_t number = 0;
    FILE *f;
    int rc;

    if (wire_get_u16(rest, &number, err) != 0)
        return -1;
    (void)pthread_mutex_lock(&lock);
    if (number < key_count)
        (void)cc_strcpy(name, sizeof(name), keys[number].name);
    (void)pthread_mutex_unlock(&lock);
    path_of(path, sizeof(path), name, ".pem");
    if ((f = fopen(path, "re")) == NULL)
        return fault(err, HSM_FAULT_KEY_NOT_FOUND, "no such key");
    *ret = PEM_read_PrivateKey(f, NULL, NULL, NULL);
    (void)fclose(f);
    if (*ret == NULL)
        return cc_err_set_openssl(err, "PEM");
    (void)pthread_mutex_lock(&lock);
    rc = check_pin(&keys[number], *ret, err);
    (void)pthread_mutex_unlock(&lock);
    return rc;
}

/* ---- operations: read the rest of the call, append the results ---- */

static int
do_setup(struct cc_bytes *rest, struct cc_err *err)
{
    char text[1024], state_dir[sizeof(folder)];
    uint32_t version = 0;
    uint8_t raw = 0, asks = 0;
    uint64_t timeout = 0;
    int fd;

    if (wire_get_u32(rest, &version, err) != 0)
        return -1;
    for (int i = 0; i < 5; i++)
        if (wire_get_str(rest, text, sizeof(text), err) != 0)
            return -1;
    if (wire_get_str(rest, state_dir, sizeof(state_dir), err) != 0 ||
            wire_get_u8(rest, &raw, err) != 0 || wire_get_u64(rest, &timeout, err) != 0 ||
            wire_get_u8(rest, &asks, err) != 0)
        return -1;
    (void)pthread_mutex_lock(&lock);
    (void)cc_strcpy(folder, sizeof(folder), state_dir);
    (void)pthread_mutex_unlock(&lock);
    path_of(text, sizeof(text), "starts", "");
    if ((fd = open(text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)) < 0 ||
            write(fd, "x", 1) != 1)
        return cc_err_set(err, CC_DOM_INTERNAL, 0, "starts");
    (void)close(fd);
    return version == WIRE_VERSION ? 0 : fault(err, HSM_FAULT_INPUT, "version");
}

static int
do_add_key(struct cc_bytes *rest, struct cc_buf *out, struct cc_err *err)
{
    struct key *key = &keys[key_count];
    struct cc_bytes spki = { 0 };
    unsigned number;
    char uri[256];

    cc_buf_init(&key->pinned, 8192);
    if (wire_get_u8(rest, &key->role, err) != 0 || wire_get_str(rest, uri, sizeof(uri), err) != 0 ||
            wire_get_bytes(rest, &spki, err) != 0 ||
            sscanf(uri, "pkcs11:object=%63[^;]", key->name) != 1 ||
            cc_buf_add(&key->pinned, spki.data, spki.len, err) != 0)
        return fault(err, HSM_FAULT_INPUT, "a key that the fake does not know");
    (void)pthread_mutex_lock(&lock);
    number = key_count++;
    (void)pthread_mutex_unlock(&lock);
    return wire_put_u16(out, (uint16_t)number, err);
}

static int
do_state(struct cc_bytes *rest, const char *action, struct cc_buf *out, struct cc_err *err)
{
    enum hsm_state state = HSM_STATE_OPEN;
    char why[sizeof(err->text)] = "C_Login: as scripted";
    uint64_t timeout = 0;

    if (strcmp(action, "lost") == 0)
        state = HSM_STATE_LOST;
    else if (strcmp(action, "pin") == 0)
        state = HSM_STATE_PIN_REFUSED;
    else if (strcmp(action, "wordy") == 0) {
        state = HSM_STATE_LOST;
        memset(why, 'w', sizeof(why) - 1);
    }
    if (wire_get_u64(rest, &timeout, err) != 0 || wire_put_u8(out, (uint8_t)state, err) != 0 ||
            wire_put_str(out, "fake label", err) != 0 || wire_put_str(out, "nobody", err) != 0 ||
            wire_put_str(out, "fake", err) != 0 || wire_put_str(out, "0001", err) != 0 ||
            wire_put_str(out, "generic", err) != 0)
        return -1;
    if (wire_put_str(out, state == HSM_STATE_OPEN ? "" : why, err) != 0)
        return -1;
    if (wire_put_u64(out, strcmp(action, "stuck") == 0 ? 3600000 : 0, err) != 0)
        return -1;
    return wire_put_u8(out, 0, err);
}

static int
do_public(struct cc_bytes *rest, struct cc_buf *out, struct cc_err *err)
{
    EVP_PKEY *pkey = NULL;
    unsigned char *der = NULL;
    int rc = -1, len;

    if (load_key(rest, &pkey, err) == 0 && (len = i2d_PUBKEY(pkey, &der)) > 0)
        rc = wire_put_bytes(out, der, (size_t)len, err);
    OPENSSL_free(der);
    EVP_PKEY_free(pkey);
    return rc;
}

static void
trace(const char *text)
{
    char path[640];
    FILE *f;

    path_of(path, sizeof(path), "trace", "");
    if (access(path, F_OK) != 0 || (f = fopen(path, "ae")) == NULL)
        return;
    (void)fprintf(f, "%s\n", text);
    (void)fclose(f);
}

static int
set_sign(EVP_PKEY_CTX *ctx, uint8_t kind, uint16_t md, uint16_t mgf1, uint16_t salt)
{
    if (md != 0 && EVP_PKEY_CTX_set_signature_md(ctx, EVP_get_digestbynid(md)) <= 0)
        return -1;
    if (kind == WIRE_SIGN_RSA_RAW)
        return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_NO_PADDING);
    if (kind != WIRE_SIGN_RSA_PSS)
        return 1;
    if (EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) <= 0 ||
            EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, EVP_get_digestbynid(mgf1)) <= 0)
        return -1;
    return EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, salt);
}

static int
do_sign(struct cc_bytes *rest, struct cc_buf *out, struct cc_err *err)
{
    const unsigned number = rest->len >= 2 ? rest->data[0] << 8 | rest->data[1] : 0;
    EVP_PKEY *pkey = NULL;
    EVP_PKEY_CTX *ctx = NULL;
    struct cc_bytes tbs = { 0 };
    uint8_t kind = 0, sig[1024];
    uint16_t md = 0, mgf1 = 0, salt = 0;
    size_t len = sizeof(sig);
    int rc = -1;

    if (load_key(rest, &pkey, err) != 0 || wire_get_u8(rest, &kind, err) != 0 ||
            wire_get_u16(rest, &md, err) != 0 || wire_get_u16(rest, &mgf1, err) != 0 ||
            wire_get_u16(rest, &salt, err) != 0 || wire_get_bytes(rest, &tbs, err) != 0)
        goto out;
    ctx = EVP_PKEY_CTX_new(pkey, NULL);
    if (ctx == NULL || EVP_PKEY_sign_init(ctx) <= 0 || set_sign(ctx, kind, md, mgf1, salt) <= 0 ||
            EVP_PKEY_sign(ctx, sig, &len, tbs.data, tbs.len) <= 0) {
        cc_err_set_openssl(err, "sign");
        goto out;
    }
    trace(keys[number].name);
    rc = wire_put_bytes(out, sig, len, err);
out:
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(pkey);
    return rc;
}

static int
do_decrypt(struct cc_bytes *rest, struct cc_buf *out, struct cc_err *err)
{
    static const int paddings[] = { [WIRE_DECRYPT_RSA_PKCS1] = RSA_PKCS1_PADDING,
        [WIRE_DECRYPT_RSA_OAEP] = RSA_PKCS1_OAEP_PADDING,
        [WIRE_DECRYPT_RSA_RAW] = RSA_NO_PADDING };
    EVP_PKEY *pkey = NULL;
    EVP_PKEY_CTX *ctx = NULL;
    struct cc_bytes label = { 0 }, ciphertext = { 0 };
    uint8_t kind = 0, plain[1024];
    uint16_t md = 0, mgf1 = 0;
    size_t len = sizeof(plain);
    int rc = -1;

    if (load_key(rest, &pkey, err) != 0 || wire_get_u8(rest, &kind, err) != 0 ||
            kind >= CC_COUNT(paddings) || wire_get_u16(rest, &md, err) != 0 ||
            wire_get_u16(rest, &mgf1, err) != 0 || wire_get_bytes(rest, &label, err) != 0 ||
            wire_get_bytes(rest, &ciphertext, err) != 0)
        goto out;
    ctx = EVP_PKEY_CTX_new(pkey, NULL);
    if (ctx == NULL || EVP_PKEY_decrypt_init(ctx) <= 0 ||
            EVP_PKEY_CTX_set_rsa_padding(ctx, paddings[kind]) <= 0 ||
            (kind == WIRE_DECRYPT_RSA_OAEP &&
                    (EVP_PKEY_CTX_set_rsa_oaep_md(ctx, EVP_get_digestbynid(md)) <= 0 ||
                            EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, EVP_get_digestbynid(mgf1)) <= 0)) ||
            EVP_PKEY_decrypt(ctx, plain, &len, ciphertext.data, ciphertext.len) <= 0) {
        fault(err, HSM_FAULT_DECRYPT, "decrypt");
        goto out;
    }
    rc = wire_put_bytes(out, plain, len, err);
out:
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(pkey);
    return rc;
}

static bool
set_transport(EVP_PKEY_CTX *ctx, uint8_t oaep, uint16_t md, uint16_t mgf1)
{
    if (EVP_PKEY_decrypt_init(ctx) <= 0)
        return false;
    if (oaep == 0)
        return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) > 0;
    return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) > 0 &&
           EVP_PKEY_CTX_set_rsa_oaep_md(ctx, EVP_get_digestbynid(md)) > 0 &&
           EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, EVP_get_digestbynid(mgf1)) > 0;
}

static int
do_open_content_key(struct cc_bytes *rest, struct cc_buf *out, struct cc_err *err)
{
    EVP_PKEY *pkey = NULL;
    EVP_PKEY_CTX *ctx = NULL;
    struct cc_bytes encrypted = { 0 };
    uint8_t oaep = 0, key_len = 0, plain[1024];
    uint16_t md = 0, mgf1 = 0;
    size_t len = sizeof(plain);
    int rc = -1;

    if (load_key(rest, &pkey, err) != 0 || wire_get_u8(rest, &oaep, err) != 0 ||
            wire_get_u16(rest, &md, err) != 0 || wire_get_u16(rest, &mgf1, err) != 0 ||
            wire_get_u8(rest, &key_len, err) != 0 || wire_get_bytes(rest, &encrypted, err) != 0)
        goto out;
    ctx = EVP_PKEY_CTX_new(pkey, NULL);
    if (ctx == NULL || !set_transport(ctx, oaep, md, mgf1) ||
            EVP_PKEY_decrypt(ctx, plain, &len, encrypted.data, encrypted.len) <= 0 ||
            len != key_len)
        (void)RAND_bytes(plain, key_len);
    rc = wire_put_bytes(out, plain, key_len, err);
out:
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(pkey);
    return rc;
}

/* No secrecy here: a hash of the context, and the bytes as they are. */
static int
do_seal(struct cc_bytes *rest, struct cc_buf *out, struct cc_err *err)
{
    struct cc_bytes context = { 0 }, plain = { 0 };
    struct cc_buf sealed = CC_BUF_INIT(WIRE_FRAME_MAX);
    uint8_t hash[SHA256_DIGEST_LENGTH];
    uint16_t number = 0;
    int rc = -1;

    if (wire_get_u16(rest, &number, err) != 0 || wire_get_bytes(rest, &context, err) != 0 ||
            wire_get_bytes(rest, &plain, err) != 0)
        return -1;
    (void)SHA256(context.data, context.len, hash);
    if (cc_buf_add(&sealed, hash, sizeof(hash), err) == 0 &&
            cc_buf_add(&sealed, plain.data, plain.len, err) == 0)
        rc = wire_put_bytes(out, sealed.data, sealed.len, err);
    cc_buf_free(&sealed);
    return rc;
}

static int
do_unseal(struct cc_bytes *rest, struct cc_buf *out, struct cc_err *err)
{
    struct cc_bytes context = { 0 }, sealed = { 0 };
    uint8_t hash[SHA256_DIGEST_LENGTH];
    uint16_t number = 0;

    if (wire_get_u16(rest, &number, err) != 0 || wire_get_bytes(rest, &context, err) != 0 ||
            wire_get_bytes(rest, &sealed, err) != 0)
        return -1;
    (void)SHA256(context.data, context.len, hash);
    if (sealed.len < sizeof(hash) || memcmp(sealed.data, hash, sizeof(hash)) != 0)
        return fault(err, HSM_FAULT_DECRYPT, "not sealed for this");
    return wire_put_bytes(out, sealed.data + sizeof(hash), sealed.len - sizeof(hash), err);
}

static int
do_random(struct cc_bytes *rest, struct cc_buf *out, struct cc_err *err)
{
    uint8_t bytes[4096];
    uint32_t len = 0;
    char line[16];

    if (wire_get_u32(rest, &len, err) != 0 || len > sizeof(bytes) ||
            RAND_bytes(bytes, (int)len) != 1)
        return fault(err, HSM_FAULT_INPUT, "random");
    (void)snprintf(line, sizeof(line), "%u", len);
    trace(line);
    return wire_put_bytes(out, bytes, len, err);
}

/* Answers with what it was given, so that a test sees that nothing was mixed up on the way. */
static int
do_reencrypt(struct cc_bytes *rest, struct cc_buf *out, struct cc_err *err)
{
    const struct cc_bytes all = *rest;

    if (wire_put_u8(out, 1, err) != 0 || wire_put_bytes(out, all.data, all.len, err) != 0)
        return -1;
    rest->data += rest->len;
    rest->len = 0;
    return 0;
}

/* The same, as one run of bytes; and a second behind it. */
static int
do_device(struct cc_bytes *rest, const char *second, struct cc_buf *out, struct cc_err *err)
{
    const struct cc_bytes all = *rest;

    if (wire_put_bytes(out, all.data, all.len, err) != 0)
        return -1;
    rest->data += rest->len;
    rest->len = 0;
    return second == NULL ? 0 : wire_put_str(out, second, err);
}

static int
run(uint8_t op, struct cc_bytes *rest, const char *action, struct cc_buf *out, struct cc_err *err)
{
    switch (op) {
    case WIRE_SETUP:
        return do_setup(rest, err);
    case WIRE_ADD_KEY:
        return do_add_key(rest, out, err);
    case WIRE_STATE:
        return do_state(rest, action, out, err);
    case WIRE_PUBLIC:
        return do_public(rest, out, err);
    case WIRE_SIGN:
        return do_sign(rest, out, err);
    case WIRE_DECRYPT:
        return do_decrypt(rest, out, err);
    case WIRE_REENCRYPT:
        return do_reencrypt(rest, out, err);
    case WIRE_SEAL:
        return do_seal(rest, out, err);
    case WIRE_UNSEAL:
        return do_unseal(rest, out, err);
    case WIRE_RANDOM:
        return do_random(rest, out, err);
    case WIRE_DEVICE_KEY_NEW:
        return do_device(rest, "spki", out, err);
    case WIRE_DEVICE_KEY_CSR:
        return do_device(rest, NULL, out, err);
    case WIRE_DEVICE_KEY_PFX:
        return do_device(rest, "password", out, err);
    case WIRE_OPEN_CONTENT_KEY:
        return do_open_content_key(rest, out, err);
    default:
        return fault(err, HSM_FAULT_INPUT, "unknown operation");
    }
}

/* ---- misbehaving ---- */

static bool
send_raw(int fd, const void *data, size_t len)
{
    return write(fd, data, len) == (ssize_t)len;
}

/* Replies that are none; false: not an action of this kind. */
static bool
send_malformed(int fd, const char *action)
{
    static const struct {
        const char *action;
        const char *bytes;
        size_t len;
    } table[] = {
        { "empty", "\0\0\0\0", 4 },
        { "huge", "\xff\xff\xff\xff", 4 },
        { "status", "\0\0\0\1\7", 5 },
        { "domain", "\0\0\0\16\1\0\0\0\0\0\0\0\0\1\0\0\0\0", 18 },
        { "short", "\0\0\0\2\1\1", 6 },
        { "nofields", "\0\0\0\1\0", 5 },
        { "field", "\0\0\0\6\0\0\0\0\x7f\1", 10 },
        { "trailing", "\0\0\0\7\0\0\0\0\1ab", 11 },
    };

    for (size_t i = 0; i < CC_COUNT(table); i++)
        if (strcmp(table[i].action, action) == 0)
            return send_raw(fd, table[i].bytes, table[i].len);
    return false;
}

static int
failure_of(const char *action, struct cc_err *failure)
{
    if (strcmp(action, "refuse") == 0)
        return fault(failure, HSM_FAULT_INPUT, "refused as scripted");
    if (strcmp(action, "bad") == 0)
        return fault(failure, HSM_FAULT_DECRYPT, "does not decrypt");
    if (strcmp(action, "away") == 0)
        return fault(failure, HSM_FAULT_UNAVAILABLE, "token away");
    if (strcmp(action, "ckr") == 0)
        return cc_err_set(failure, CC_DOM_PKCS11, CKR_DEVICE_ERROR, "C_Sign: CKR_DEVICE_ERROR");
    return 0;
}

/* false: the channel is finished. */
static bool
answer(int fd, struct cc_bytes call)
{
    struct cc_buf reply = CC_BUF_INIT(WIRE_FRAME_MAX);
    struct cc_err err = { 0 }, failure = { 0 };
    char action[32];
    uint8_t op = 0;
    bool ok;

    if (wire_get_u8(&call, &op, &err) != 0)
        return false;
    if (op == WIRE_SETUP && do_setup(&call, &failure) != 0)
        return false;
    action_of(op, action);
    if (strcmp(action, "hang") == 0)
        for (;;)
            (void)pause();
    if (strcmp(action, "die") == 0)
        _exit(3);
    if (send_malformed(fd, action))
        return true;
    if (failure_of(action, &failure) != 0 || wire_put_u8(&reply, WIRE_OK, &err) != 0 ||
            (op != WIRE_SETUP && run(op, &call, action, &reply, &failure) != 0) ||
            wire_get_end(&call, &failure) != 0)
        ok = wire_put_error(&reply, &failure, &err) == 0;
    else
        ok = true;
    if (strcmp(action, "wrong") == 0)
        reply.data[reply.len - 1] ^= 1;
    ok = ok && wire_send(fd, &reply, WIRE_NO_DEADLINE, &err) == 0;
    cc_buf_wipe(&reply);
    return ok;
}

static void *
serve(void *arg)
{
    const int fd = *(const int *)arg;
    struct cc_buf call = CC_BUF_INIT(WIRE_FRAME_MAX);
    struct cc_err err = { 0 };

    while (wire_recv(fd, &call, WIRE_NO_DEADLINE, NULL, &err) == 0 &&
            answer(fd, cc_buf_bytes(&call)))
        ;
    _exit(0);
}

int
main(int argc, char **argv)
{
    static int fds[WIRE_CHANNELS_MAX];
    const int channels = argc == 3 ? atoi(argv[2]) : 0;
    pthread_t thread;

    if (channels < 1 || channels > WIRE_CHANNELS_MAX || strcmp(argv[1], "--channels") != 0)
        return 2;
    for (int i = 0; i < channels; i++) {
        fds[i] = WIRE_FIRST_FD + i;
        if (i > 0 && pthread_create(&thread, NULL, serve, &fds[i]) != 0)
            return 2;
    }
    (void)serve(&fds[0]);
    return 0;
}
