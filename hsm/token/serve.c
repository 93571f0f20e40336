/* SPDX-License-Identifier: MIT */
#include "hsm/token/serve.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "base/process.h"
#include "hsm/token/conn.h"
#include "hsm/token/decrypt.h"
#include "hsm/token/device_key.h"
#include "hsm/token/key.h"
#include "hsm/token/reencrypt.h"
#include "hsm/token/sign.h"
#include "hsm/token/stop.h"
#include "hsm/token/token.h"
#include "hsm/wire.h"

#define SERVE_OPEN_TIMEOUT_MAX 600000
/* Around the fields of a reply that holds a secret. */
#define SERVE_REPLY_ROOM 64
/* How deep the frames of an operation are wiped behind it: what modules and OpenSSL need, several times. */
#define SERVE_STACK_WIPED 65536

struct server;

struct channel {
    struct server *server; /* borrowed */
    unsigned number;
    int fd;
    struct p11_worker worker;
    pthread_t thread; /* of all but channel 0 */
    struct cc_buf call, reply;
};

struct server {
    unsigned channel_count;
    unsigned threads;        /* started, behind channel 0 */
    pthread_mutex_t sending; /* one frame at a time on channel 0, where there are notices too */
    struct token *token;     /* NULL before WIRE_SETUP; set before the threads start */
    struct channel channels[WIRE_CHANNELS_MAX];
};

/* ---- Results ---- */

static enum serve_outcome
serve_result(int rc)
{
    return rc == 0 ? SERVE_DONE : SERVE_FAILED;
}

/* The status first: what follows are the results. */
static int
reply_ok(struct cc_buf *reply, struct cc_err *err)
{
    return wire_put_u8(reply, WIRE_OK, err);
}

static int
reply_bytes(struct cc_buf *reply, struct cc_bytes bytes, struct cc_err *err)
{
    return reply_ok(reply, err) == 0 ? wire_put_bytes(reply, bytes.data, bytes.len, err) : -1;
}

/* The buffer is made large enough first, so that no copy of the secret stays behind when it grows. */
static int
reply_secret(struct cc_buf *reply, struct cc_secret *take_secret, struct cc_err *err)
{
    const struct cc_bytes bytes = { cc_secret_data(take_secret), cc_secret_len(take_secret) };
    int rc = -1;

    if (cc_buf_reserve(reply, bytes.len + SERVE_REPLY_ROOM, err) != NULL)
        rc = reply_bytes(reply, bytes, err);
    cc_secret_free(take_secret);
    return rc;
}

/* ---- WIRE_SETUP, WIRE_ADD_KEY, WIRE_STATE ---- */

struct setup_fields {
    uint32_t version;
    char module[WIRE_PATH_SIZE];
    char init_args[WIRE_PATH_SIZE];
    char uri[WIRE_URI_SIZE];
    char pin[WIRE_REFERENCE_SIZE];
    char profile[WIRE_PROFILE_SIZE];
    char state_dir[WIRE_PATH_SIZE];
    uint8_t allow_raw_rsa;
    uint64_t open_timeout_ms;
    uint8_t asks;
};

static int
setup_read(struct cc_bytes *args, struct setup_fields *ret, struct cc_err *err)
{
    if (wire_get_u32(args, &ret->version, err) != 0 ||
            wire_get_str(args, ret->module, sizeof(ret->module), err) != 0 ||
            wire_get_str(args, ret->init_args, sizeof(ret->init_args), err) != 0 ||
            wire_get_str(args, ret->uri, sizeof(ret->uri), err) != 0 ||
            wire_get_str(args, ret->pin, sizeof(ret->pin), err) != 0 ||
            wire_get_str(args, ret->profile, sizeof(ret->profile), err) != 0 ||
            wire_get_str(args, ret->state_dir, sizeof(ret->state_dir), err) != 0 ||
            wire_get_u8(args, &ret->allow_raw_rsa, err) != 0 ||
            wire_get_u64(args, &ret->open_timeout_ms, err) != 0 ||
            wire_get_u8(args, &ret->asks, err) != 0)
        return -1;
    return wire_get_end(args, err);
}

static void *serve_thread(void *arg);

static int
setup_start_threads(struct server *server, struct cc_err *err)
{
    for (unsigned i = 0; i < server->channel_count; i++)
        server->channels[i].worker.conn = server->token->conns[i];
    for (unsigned i = 1; i < server->channel_count; i++) {
        struct channel *channel = &server->channels[i];
        const int e = pthread_create(&channel->thread, NULL, serve_thread, channel);

        if (e != 0)
            return cc_err_set_errno(err, e, "thread of a channel");
        (void)pthread_setname_np(channel->thread, "channel");
        server->threads = i;
    }
    return 0;
}

static int
channel_send(struct channel *channel, const struct cc_buf *frame, struct cc_err *err)
{
    struct server *server = channel->server;
    int rc;

    if (channel->number != 0)
        return wire_send(channel->fd, frame, WIRE_NO_DEADLINE, err);
    (void)pthread_mutex_lock(&server->sending);
    rc = wire_send(channel->fd, frame, WIRE_NO_DEADLINE, err);
    (void)pthread_mutex_unlock(&server->sending);
    return rc;
}

/* One that does not get through is of no use to anybody either. */
static void
send_notice(void *arg)
{
    struct server *server = arg;
    struct cc_buf notice = CC_BUF_INIT(1);

    if (wire_put_u8(&notice, WIRE_NOTICE, NULL) == 0)
        (void)channel_send(&server->channels[0], &notice, NULL);
    cc_buf_free(&notice);
}

static int
setup_run(struct server *server, const struct setup_fields *fields, struct cc_err *err)
{
    const struct token_settings settings = {
        .module = fields->module,
        .init_args = fields->init_args,
        .uri = fields->uri,
        .pin = fields->pin,
        .profile = fields->profile,
        .state_dir = fields->state_dir,
        .allow_raw_rsa = fields->allow_raw_rsa != 0,
        .open_timeout_ms = (int64_t)fields->open_timeout_ms,
        .channels = server->channel_count,
        .notify = fields->asks != 0 ? send_notice : NULL,
        .notify_arg = server,
    };

    if (server->token != NULL)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT, "set up already");
    if (fields->version != WIRE_VERSION)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT,
                "the wire has version %u, this program knows %d: they are not of one installation",
                fields->version, WIRE_VERSION);
    if (fields->open_timeout_ms == 0 || fields->open_timeout_ms > SERVE_OPEN_TIMEOUT_MAX)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT, "no sensible time to open in");
    if (token_new(&settings, &server->token, err) != 0)
        return -1;
    return setup_start_threads(server, err);
}

static enum serve_outcome
serve_setup(struct channel *channel, struct cc_bytes *args, struct cc_buf *reply,
        struct cc_err *err)
{
    struct setup_fields *fields = calloc(1, sizeof(*fields));
    enum serve_outcome outcome = SERVE_MALFORMED;

    if (fields == NULL)
        return serve_result(cc_err_nomem(err));
    if (setup_read(args, fields, err) == 0)
        outcome = serve_result(
                setup_run(channel->server, fields, err) == 0 ? reply_ok(reply, err) : -1);
    free(fields);
    return outcome;
}

static int
add_key(struct token *token, uint8_t role, const char *uri, struct cc_bytes spki,
        struct cc_buf *reply, struct cc_err *err)
{
    struct token_key *key;
    unsigned number;

    if (role >= HSM_ROLE_COUNT)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT, "unknown role");
    /* Only channel 0 comes here, so that nobody else adds meanwhile. */
    number = token->key_count;
    if (number == WIRE_KEYS_MAX)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT, "too many keys");
    if (token_key_new(number, (enum hsm_role)role, uri, &token->uri, spki, &key, err) != 0)
        return -1;
    (void)pthread_mutex_lock(&token->lock);
    token->keys[number] = key;
    token->key_count = number + 1;
    (void)pthread_mutex_unlock(&token->lock);
    if (reply_ok(reply, err) != 0)
        return -1;
    return wire_put_u16(reply, (uint16_t)number, err);
}

static enum serve_outcome
serve_add_key(struct channel *channel, struct cc_bytes *args, struct cc_buf *reply,
        struct cc_err *err)
{
    char uri[WIRE_URI_SIZE];
    struct cc_bytes spki = { 0 };
    uint8_t role = 0;

    if (wire_get_u8(args, &role, err) != 0 || wire_get_str(args, uri, sizeof(uri), err) != 0 ||
            wire_get_bytes(args, &spki, err) != 0 || wire_get_end(args, err) != 0)
        return SERVE_MALFORMED;
    if (channel->number != 0)
        return serve_result(
                cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT, "keys are registered on channel 0"));
    return serve_result(add_key(channel->server->token, role, uri, spki, reply, err));
}

static int
reply_state(const struct token_state *state, struct cc_buf *reply, struct cc_err *err)
{
    if (reply_ok(reply, err) != 0 || wire_put_u8(reply, (uint8_t)state->state, err) != 0 ||
            wire_put_str(reply, state->label, err) != 0 ||
            wire_put_str(reply, state->manufacturer, err) != 0 ||
            wire_put_str(reply, state->model, err) != 0 ||
            wire_put_str(reply, state->serial, err) != 0 ||
            wire_put_str(reply, state->profile->name, err) != 0 ||
            wire_put_str(reply, state->why.text, err) != 0)
        return -1;
    if (wire_put_u64(reply, (uint64_t)state->opening_ms, err) != 0)
        return -1;
    return wire_put_u8(reply, state->asks, err);
}

static enum serve_outcome
serve_state(struct channel *channel, struct cc_bytes *args, struct cc_buf *reply,
        struct cc_err *err)
{
    struct token_state state;
    uint64_t timeout = 0;

    if (wire_get_u64(args, &timeout, err) != 0 || wire_get_end(args, err) != 0)
        return SERVE_MALFORMED;
    if (timeout > SERVE_OPEN_TIMEOUT_MAX)
        timeout = SERVE_OPEN_TIMEOUT_MAX;
    token_get_state(channel->server->token, cc_deadline_in((int64_t)timeout), &state);
    return serve_result(reply_state(&state, reply, err));
}

/* ---- Questions about PINs ---- */

static int
reply_question(uint32_t number, const struct ask_question *question, struct cc_buf *reply,
        struct cc_err *err)
{
    const size_t hash_len = question->kind == WIRE_PIN_SALT ? 0 : HSM_PIN_HASH;

    if (reply_ok(reply, err) != 0 || wire_put_u32(reply, number, err) != 0 ||
            wire_put_u8(reply, (uint8_t)question->kind, err) != 0 ||
            wire_put_str(reply, question->pin.token, err) != 0 ||
            wire_put_bytes(reply, question->pin.hash, hash_len, err) != 0 ||
            wire_put_u8(reply, question->token_tells, err) != 0 ||
            wire_put_u8(reply, (uint8_t)question->outcome, err) != 0)
        return -1;
    return wire_put_str(reply, question->reason, err);
}

static enum serve_outcome
serve_pin_question(struct channel *channel, struct cc_bytes *args, struct cc_buf *reply,
        struct cc_err *err)
{
    struct ask_question question = { .kind = WIRE_PIN_SALT };
    uint32_t number;

    if (wire_get_end(args, err) != 0)
        return SERVE_MALFORMED;
    number = ask_fetch(channel->server->token, &question);
    return serve_result(reply_question(number, &question, reply, err));
}

static int
answer_read(struct cc_bytes *args, uint32_t *ret_number, struct ask_answer *ret, struct cc_err *err)
{
    struct cc_bytes salt = { 0 };
    char why[sizeof(ret->why.text)];
    uint8_t answer = 0;

    if (wire_get_u32(args, ret_number, err) != 0 || wire_get_u8(args, &answer, err) != 0 ||
            wire_get_str(args, why, sizeof(why), err) != 0 ||
            wire_get_bytes(args, &salt, err) != 0 ||
            wire_get_u32(args, &ret->iterations, err) != 0 || wire_get_end(args, err) != 0)
        return -1;
    if (answer > HSM_PIN_HELP || (salt.len != 0 && salt.len != HSM_PIN_SALT))
        return cc_err_set(err, CC_DOM_INPUT, 0, "malformed frame: a choice that there is not");
    ret->answer = (enum hsm_pin_answer)answer;
    if (salt.len != 0)
        memcpy(ret->salt, salt.data, HSM_PIN_SALT);
    if (why[0] != '\0')
        cc_err_set(&ret->why, CC_DOM_TOKEN, HSM_FAULT_UNAVAILABLE, "%s", why);
    return 0;
}

static enum serve_outcome
serve_pin_answer(struct channel *channel, struct cc_bytes *args, struct cc_buf *reply,
        struct cc_err *err)
{
    struct ask_answer answer = { .iterations = 0 };
    uint32_t number = 0;

    if (answer_read(args, &number, &answer, err) != 0)
        return SERVE_MALFORMED;
    ask_answer(channel->server->token, number, &answer);
    return serve_result(reply_ok(reply, err));
}

/* ---- Operations with keys ---- */

/* NULL with an error for a number that was not given out. */
static struct token_key *
find_key(struct channel *channel, uint16_t number, struct cc_err *err)
{
    struct token *token = channel->server->token;
    struct token_key *key = NULL;

    (void)pthread_mutex_lock(&token->lock);
    if (number < token->key_count)
        key = token->keys[number];
    (void)pthread_mutex_unlock(&token->lock);
    if (key == NULL)
        cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT, "no key has the number %u", number);
    return key;
}

static enum serve_outcome
serve_public(struct channel *channel, struct cc_bytes *args, struct cc_buf *reply,
        struct cc_err *err)
{
    struct cc_buf spki = CC_BUF_INIT(WIRE_FRAME_MAX / 2);
    struct token_key *key;
    uint16_t number = 0;
    int rc = -1;

    if (wire_get_u16(args, &number, err) != 0 || wire_get_end(args, err) != 0)
        return SERVE_MALFORMED;
    if ((key = find_key(channel, number, err)) != NULL &&
            token_key_get_spki(&channel->worker, key, &spki, err) == 0)
        rc = reply_bytes(reply, cc_buf_bytes(&spki), err);
    cc_buf_free(&spki);
    return serve_result(rc);
}

static int
sign_read(struct cc_bytes *args, uint16_t *ret_number, struct sign_request *ret, struct cc_err *err)
{
    uint16_t digest = 0, mgf = 0, salt = 0;
    uint8_t how = 0;

    if (wire_get_u16(args, ret_number, err) != 0 || wire_get_u8(args, &how, err) != 0 ||
            wire_get_u16(args, &digest, err) != 0 || wire_get_u16(args, &mgf, err) != 0 ||
            wire_get_u16(args, &salt, err) != 0 || wire_get_bytes(args, &ret->data, err) != 0)
        return -1;
    ret->how = (enum wire_sign)how;
    ret->digest_nid = digest;
    ret->mgf_nid = mgf;
    ret->salt_len = salt;
    return wire_get_end(args, err);
}

static enum serve_outcome
serve_sign(struct channel *channel, struct cc_bytes *args, struct cc_buf *reply, struct cc_err *err)
{
    struct cc_buf signature = CC_BUF_INIT(WIRE_FRAME_MAX / 2);
    struct sign_request request = { 0 };
    struct token_key *key;
    uint16_t number = 0;
    int rc = -1;

    if (sign_read(args, &number, &request, err) != 0)
        return SERVE_MALFORMED;
    if ((key = find_key(channel, number, err)) != NULL &&
            token_sign(channel->server->token, &channel->worker, key, &request, &signature, err) ==
                    0)
        rc = reply_bytes(reply, cc_buf_bytes(&signature), err);
    cc_buf_free(&signature);
    return serve_result(rc);
}

static int
decrypt_read(struct cc_bytes *args, uint16_t *ret_number, struct decrypt_request *ret,
        struct cc_err *err)
{
    uint16_t digest = 0, mgf = 0;
    uint8_t how = 0;

    if (wire_get_u16(args, ret_number, err) != 0 || wire_get_u8(args, &how, err) != 0 ||
            wire_get_u16(args, &digest, err) != 0 || wire_get_u16(args, &mgf, err) != 0 ||
            wire_get_bytes(args, &ret->label, err) != 0 ||
            wire_get_bytes(args, &ret->ciphertext, err) != 0)
        return -1;
    ret->how = (enum wire_decrypt)how;
    ret->digest_nid = digest;
    ret->mgf_nid = mgf;
    return wire_get_end(args, err);
}

static enum serve_outcome
serve_decrypt(struct channel *channel, struct cc_bytes *args, struct cc_buf *reply,
        struct cc_err *err)
{
    struct decrypt_request request = { 0 };
    struct cc_secret *plain = NULL;
    struct token_key *key;
    uint16_t number = 0;

    if (decrypt_read(args, &number, &request, err) != 0)
        return SERVE_MALFORMED;
    if ((key = find_key(channel, number, err)) == NULL ||
            token_key_check_use(key, HSM_USE_DECRYPT, err) != 0 ||
            token_decrypt(channel->server->token, &channel->worker, key, &request, &plain, err) !=
                    0)
        return SERVE_FAILED;
    return serve_result(reply_secret(reply, plain, err));
}

static int
open_content_key_read(struct cc_bytes *args, uint16_t *ret_number, struct hsm_key_transport *ret,
        size_t *ret_len, struct cc_err *err)
{
    uint16_t digest = 0, mgf = 0;
    uint8_t oaep = 0, len = 0;

    if (wire_get_u16(args, ret_number, err) != 0 || wire_get_u8(args, &oaep, err) != 0 ||
            wire_get_u16(args, &digest, err) != 0 || wire_get_u16(args, &mgf, err) != 0 ||
            wire_get_u8(args, &len, err) != 0 || wire_get_bytes(args, &ret->encrypted, err) != 0 ||
            wire_get_end(args, err) != 0)
        return -1;
    if (oaep > 1 || len < HSM_CONTENT_KEY_MIN || len > HSM_CONTENT_KEY_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "malformed frame: a choice that there is not");
    ret->oaep = oaep == 1;
    ret->digest_nid = digest;
    ret->mgf_nid = mgf;
    *ret_len = len;
    return 0;
}

static enum serve_outcome
serve_open_content_key(struct channel *channel, struct cc_bytes *args, struct cc_buf *reply,
        struct cc_err *err)
{
    struct hsm_key_transport transport = { 0 };
    struct cc_secret *content_key = NULL;
    struct token_key *key;
    uint16_t number = 0;
    size_t len = 0;

    if (open_content_key_read(args, &number, &transport, &len, err) != 0)
        return SERVE_MALFORMED;
    if ((key = find_key(channel, number, err)) == NULL ||
            token_key_check_use(key, HSM_USE_DECRYPT, err) != 0 ||
            token_open_content_key(channel->server->token, &channel->worker, key, &transport, len,
                    &content_key, err) != 0)
        return SERVE_FAILED;
    return serve_result(reply_secret(reply, content_key, err));
}

static int
reencrypt_read(struct cc_bytes *args, uint16_t *ret_number, struct hsm_reencrypt *ret,
        char *thumbprint, size_t size, struct cc_err *err)
{
    uint8_t mode = 0, enveloped = 0, padding = 0, form = 0, cipher = 0;

    if (wire_get_u16(args, ret_number, err) != 0 || wire_get_u8(args, &mode, err) != 0 ||
            wire_get_u8(args, &enveloped, err) != 0 || wire_get_u8(args, &padding, err) != 0 ||
            wire_get_bytes(args, &ret->ciphertext, err) != 0 ||
            wire_get_bytes(args, &ret->recipient, err) != 0 || wire_get_u8(args, &form, err) != 0 ||
            wire_get_u8(args, &cipher, err) != 0 || wire_get_bytes(args, &ret->pfx, err) != 0 ||
            wire_get_str(args, thumbprint, size, err) != 0 || wire_get_end(args, err) != 0)
        return -1;
    if (mode > HSM_REENCRYPT_HOST || enveloped > 1 || padding > PKI_PADDING_OAEP_SHA512 ||
            form > PKI_PASSWORD_PKCS1 || cipher > PKI_CIPHER_DES_EDE3)
        return cc_err_set(err, CC_DOM_INPUT, 0, "malformed frame: a choice that there is not");
    ret->mode = (enum hsm_reencrypt_mode)mode;
    ret->enveloped = enveloped == 1;
    ret->padding = (enum pki_padding)padding;
    ret->form = (enum pki_password_form)form;
    ret->cipher = (enum pki_content_cipher)cipher;
    ret->thumbprint = thumbprint;
    return 0;
}

static enum serve_outcome
serve_reencrypt(struct channel *channel, struct cc_bytes *args, struct cc_buf *reply,
        struct cc_err *err)
{
    struct cc_buf out = CC_BUF_INIT(WIRE_FRAME_MAX / 2);
    struct hsm_reencrypt request = { 0 };
    struct token_key *key;
    char thumbprint[WIRE_THUMBPRINT_SIZE];
    uint16_t number = 0;
    bool on_token = false;
    int rc = -1;

    if (reencrypt_read(args, &number, &request, thumbprint, sizeof(thumbprint), err) != 0)
        return SERVE_MALFORMED;
    if ((key = find_key(channel, number, err)) != NULL &&
            token_reencrypt(channel->server->token, &channel->worker, key, &request, &out,
                    &on_token, err) == 0 &&
            reply_ok(reply, err) == 0 && wire_put_u8(reply, on_token ? 1 : 0, err) == 0)
        rc = wire_put_bytes(reply, out.data, out.len, err);
    cc_buf_free(&out);
    return serve_result(rc);
}

static int
seal_read(struct cc_bytes *args, uint16_t *ret_number, struct cc_bytes *ret_context,
        struct cc_bytes *ret_data, struct cc_err *err)
{
    if (wire_get_u16(args, ret_number, err) != 0 || wire_get_bytes(args, ret_context, err) != 0 ||
            wire_get_bytes(args, ret_data, err) != 0)
        return -1;
    return wire_get_end(args, err);
}

static enum serve_outcome
serve_seal(struct channel *channel, struct cc_bytes *args, struct cc_buf *reply, struct cc_err *err)
{
    struct cc_buf sealed = CC_BUF_INIT(WIRE_FRAME_MAX / 2);
    struct cc_bytes context = { 0 }, plain = { 0 };
    struct token_key *key;
    uint16_t number = 0;
    int rc = -1;

    if (seal_read(args, &number, &context, &plain, err) != 0)
        return SERVE_MALFORMED;
    if ((key = find_key(channel, number, err)) != NULL &&
            token_key_check_use(key, HSM_USE_SEAL, err) == 0 &&
            token_seal(&channel->worker, key, TOKEN_SEALED_BYTES, context, plain, &sealed, err) ==
                    0)
        rc = reply_bytes(reply, cc_buf_bytes(&sealed), err);
    cc_buf_free(&sealed);
    return serve_result(rc);
}

static enum serve_outcome
serve_unseal(struct channel *channel, struct cc_bytes *args, struct cc_buf *reply,
        struct cc_err *err)
{
    struct cc_bytes context = { 0 }, sealed = { 0 };
    struct cc_secret *plain = NULL;
    struct token_key *key;
    uint16_t number = 0;

    if (seal_read(args, &number, &context, &sealed, err) != 0)
        return SERVE_MALFORMED;
    if ((key = find_key(channel, number, err)) == NULL ||
            token_key_check_use(key, HSM_USE_SEAL, err) != 0 ||
            token_unseal(&channel->worker, key, TOKEN_SEALED_BYTES, context, sealed, &plain, err) !=
                    0)
        return SERVE_FAILED;
    return serve_result(reply_secret(reply, plain, err));
}

static enum serve_outcome
serve_random(struct channel *channel, struct cc_bytes *args, struct cc_buf *reply,
        struct cc_err *err)
{
    uint8_t data[TOKEN_RANDOM_MAX];
    uint32_t len = 0;
    int rc = -1;

    if (wire_get_u32(args, &len, err) != 0 || wire_get_end(args, err) != 0)
        return SERVE_MALFORMED;
    if (token_random(&channel->worker, data, len, err) == 0)
        rc = reply_bytes(reply, (struct cc_bytes){ data, len }, err);
    cc_wipe(data, sizeof(data));
    return serve_result(rc);
}

/* ---- Keys of devices ---- */

/* The key with the number, when it is one that seals. */
static struct token_key *
find_seal_key(struct channel *channel, uint16_t number, struct cc_err *err)
{
    struct token_key *key = find_key(channel, number, err);

    return key != NULL && token_key_check_use(key, HSM_USE_SEAL, err) == 0 ? key : NULL;
}

static int
reply_two(struct cc_buf *reply, const struct cc_buf *first, const struct cc_buf *second,
        struct cc_err *err)
{
    if (reply_bytes(reply, cc_buf_bytes(first), err) != 0)
        return -1;
    return wire_put_bytes(reply, second->data, second->len, err);
}

static enum serve_outcome
serve_device_key_new(struct channel *channel, struct cc_bytes *args, struct cc_buf *reply,
        struct cc_err *err)
{
    struct cc_buf sealed = CC_BUF_INIT(WIRE_FRAME_MAX / 4), spki = CC_BUF_INIT(WIRE_FRAME_MAX / 4);
    struct cc_bytes context = { 0 };
    struct token_key *key;
    uint16_t number = 0;
    uint8_t spec = 0, generation = 0;
    int rc = -1;

    if (wire_get_u16(args, &number, err) != 0 || wire_get_u8(args, &spec, err) != 0 ||
            wire_get_u8(args, &generation, err) != 0 || wire_get_bytes(args, &context, err) != 0 ||
            wire_get_end(args, err) != 0)
        return SERVE_MALFORMED;
    if (spec >= PKI_KEYSPECS || generation > HSM_GENERATE_TOKEN) {
        cc_err_set(err, CC_DOM_INPUT, 0, "malformed frame: a choice that there is not");
        return SERVE_MALFORMED;
    }
    if ((key = find_seal_key(channel, number, err)) != NULL &&
            token_device_key_new(&channel->worker, key, (enum pki_keyspec)spec,
                    (enum hsm_generation)generation, context, &sealed, &spki, err) == 0)
        rc = reply_two(reply, &sealed, &spki, err);
    cc_buf_free(&sealed);
    cc_buf_free(&spki);
    return serve_result(rc);
}

static enum serve_outcome
serve_device_key_csr(struct channel *channel, struct cc_bytes *args, struct cc_buf *reply,
        struct cc_err *err)
{
    struct cc_buf csr = CC_BUF_INIT(WIRE_FRAME_MAX / 2);
    struct cc_bytes context = { 0 }, sealed = { 0 }, subject = { 0 }, extensions = { 0 };
    struct token_key *key;
    uint16_t number = 0;
    int rc = -1;

    if (wire_get_u16(args, &number, err) != 0 || wire_get_bytes(args, &context, err) != 0 ||
            wire_get_bytes(args, &sealed, err) != 0 || wire_get_bytes(args, &subject, err) != 0 ||
            wire_get_bytes(args, &extensions, err) != 0 || wire_get_end(args, err) != 0)
        return SERVE_MALFORMED;
    if ((key = find_seal_key(channel, number, err)) != NULL &&
            token_device_key_csr(&channel->worker, key, context, sealed, subject, extensions, &csr,
                    err) == 0)
        rc = reply_bytes(reply, cc_buf_bytes(&csr), err);
    cc_buf_free(&csr);
    return serve_result(rc);
}

static int
device_pfx_read(struct cc_bytes *args, uint16_t *ret_number, struct hsm_device_pfx *ret, char *name,
        size_t size, struct cc_err *err)
{
    uint8_t encryption = 0, form = 0, cipher = 0;

    if (wire_get_u16(args, ret_number, err) != 0 || wire_get_bytes(args, &ret->context, err) != 0 ||
            wire_get_bytes(args, &ret->sealed, err) != 0 ||
            wire_get_bytes(args, &ret->certificate, err) != 0 ||
            wire_get_bytes(args, &ret->chain, err) != 0 ||
            wire_get_str(args, name, size, err) != 0 || wire_get_u8(args, &encryption, err) != 0 ||
            wire_get_bytes(args, &ret->recipient, err) != 0 || wire_get_u8(args, &form, err) != 0 ||
            wire_get_u8(args, &cipher, err) != 0 || wire_get_end(args, err) != 0)
        return -1;
    if (encryption > PKI_PFX_COMPAT || form > PKI_PASSWORD_PKCS1 || cipher > PKI_CIPHER_DES_EDE3)
        return cc_err_set(err, CC_DOM_INPUT, 0, "malformed frame: a choice that there is not");
    ret->friendly_name = name[0] != '\0' ? name : NULL;
    ret->encryption = (enum pki_pfx_encryption)encryption;
    ret->form = (enum pki_password_form)form;
    ret->cipher = (enum pki_content_cipher)cipher;
    return 0;
}

static enum serve_outcome
serve_device_key_pfx(struct channel *channel, struct cc_bytes *args, struct cc_buf *reply,
        struct cc_err *err)
{
    struct cc_buf pfx = CC_BUF_INIT(WIRE_FRAME_MAX / 2), password = CC_BUF_INIT(WIRE_FRAME_MAX / 4);
    struct hsm_device_pfx parts = { 0 };
    struct token_key *key;
    char name[WIRE_NAME_SIZE];
    uint16_t number = 0;
    int rc = -1;

    if (device_pfx_read(args, &number, &parts, name, sizeof(name), err) != 0)
        return SERVE_MALFORMED;
    if ((key = find_seal_key(channel, number, err)) != NULL &&
            token_device_key_pfx(&channel->worker, key, &parts, &pfx, &password, err) == 0)
        rc = reply_two(reply, &pfx, &password, err);
    cc_buf_free(&pfx);
    cc_buf_free(&password);
    return serve_result(rc);
}

/* ---- Frames ---- */

typedef enum serve_outcome (*serve_fn)(struct channel *channel, struct cc_bytes *args,
        struct cc_buf *reply, struct cc_err *err);

static const serve_fn serve_ops[] = {
    [WIRE_SETUP] = serve_setup,
    [WIRE_ADD_KEY] = serve_add_key,
    [WIRE_STATE] = serve_state,
    [WIRE_PUBLIC] = serve_public,
    [WIRE_SIGN] = serve_sign,
    [WIRE_DECRYPT] = serve_decrypt,
    [WIRE_REENCRYPT] = serve_reencrypt,
    [WIRE_SEAL] = serve_seal,
    [WIRE_UNSEAL] = serve_unseal,
    [WIRE_RANDOM] = serve_random,
    [WIRE_DEVICE_KEY_NEW] = serve_device_key_new,
    [WIRE_DEVICE_KEY_CSR] = serve_device_key_csr,
    [WIRE_DEVICE_KEY_PFX] = serve_device_key_pfx,
    [WIRE_OPEN_CONTENT_KEY] = serve_open_content_key,
    [WIRE_PIN_QUESTION] = serve_pin_question,
    [WIRE_PIN_ANSWER] = serve_pin_answer,
};

/* Between its two fail points. */
static enum serve_outcome
serve_passing(struct channel *channel, uint8_t op, struct cc_bytes *args, struct cc_buf *reply,
        struct cc_err *err)
{
    enum serve_outcome outcome;

    if (CC_FAILPOINT("token", wire_op_name(op), "before"))
        return serve_result(
                cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNAVAILABLE, "fail point before it"));
    outcome = serve_ops[op](channel, args, reply, err);
    if (outcome == SERVE_DONE && CC_FAILPOINT("token", wire_op_name(op), "after"))
        return serve_result(
                cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNAVAILABLE, "fail point after it"));
    return outcome;
}

static enum serve_outcome
serve_dispatch(struct channel *channel, struct cc_bytes *args, struct cc_buf *reply,
        struct cc_err *err)
{
    const bool is_set_up = channel->server->token != NULL;
    uint8_t op = 0;

    if (wire_get_u8(args, &op, err) != 0)
        return SERVE_MALFORMED;
    if (op >= WIRE_ADMIN_LIST_TOKENS && !is_set_up)
        return admin_dispatch(op, args, reply, err);
    if (op >= CC_COUNT(serve_ops) || serve_ops[op] == NULL || is_set_up == (op == WIRE_SETUP)) {
        cc_err_set(err, CC_DOM_INPUT, 0, "malformed frame: operation %u", op);
        return SERVE_MALFORMED;
    }
    return serve_passing(channel, op, args, reply, err);
}

/*
 * Wipes what was the stack of functions that have returned: modules and OpenSSL leave numbers of keys in theirs (seen
 * with NSS softokn: the private number of an EC key that it had made).
 */
static __attribute__((noinline)) void
serve_wipe_stack(void)
{
    uint8_t below[SERVE_STACK_WIPED];

    cc_wipe(below, sizeof(below));
}

/* One call.  0 to go on, 1 at the end of the channel, -1 for a malformed frame. */
static int
serve_call(struct channel *channel, struct cc_err *err)
{
    struct cc_err failure = { 0 }, ignored = { 0 };
    enum serve_outcome outcome;
    struct cc_bytes args;
    int rc = 1;

    if (wire_recv(channel->fd, &channel->call, WIRE_NO_DEADLINE, NULL, &ignored) != 0) {
        if (ignored.domain == CC_DOM_INPUT)
            rc = cc_err_set(err, ignored.domain, ignored.code, "%s", ignored.text);
        goto out;
    }
    args = cc_buf_bytes(&channel->call);
    outcome = serve_dispatch(channel, &args, &channel->reply, &failure);
    serve_wipe_stack();
    if (outcome == SERVE_MALFORMED) {
        rc = cc_err_set(err, failure.domain, failure.code, "%s", failure.text);
        goto out;
    }
    if (outcome == SERVE_FAILED) {
        cc_buf_wipe(&channel->reply);
        if (wire_put_error(&channel->reply, &failure, err) != 0)
            goto out;
    }
    if (channel_send(channel, &channel->reply, &ignored) == 0)
        rc = 0;
    if (channel->worker.conn != NULL)
        p11_worker_tidy(&channel->worker);
out:
    cc_buf_wipe(&channel->call);
    cc_buf_wipe(&channel->reply);
    return rc;
}

static int
serve_channel(struct channel *channel, struct cc_err *err)
{
    int rc;

    while ((rc = serve_call(channel, err)) == 0)
        ;
    return rc == 1 ? 0 : -1;
}

/* Of the channels behind the first.  A malformed frame ends channel 0 too, and with it everything. */
static void *
serve_thread(void *arg)
{
    struct channel *channel = arg;
    struct cc_err err = { 0 };

    if (serve_channel(channel, &err) != 0) {
        cc_log(CC_LOG_ERROR, "hsm", "channel %u: %s", channel->number, cc_err_text(&err));
        (void)shutdown(WIRE_FIRST_FD, SHUT_RDWR);
    }
    return NULL;
}

static void
server_init(struct server *server, unsigned channels)
{
    server->channel_count = channels;
    (void)pthread_mutex_init(&server->sending, NULL);
    for (unsigned i = 0; i < channels; i++) {
        struct channel *channel = &server->channels[i];

        channel->server = server;
        channel->number = i;
        channel->fd = WIRE_FIRST_FD + (int)i;
        cc_buf_init(&channel->call, WIRE_FRAME_MAX);
        cc_buf_init(&channel->reply, WIRE_FRAME_MAX);
    }
}

int
serve(unsigned channels, struct cc_err *err)
{
    struct server *server = calloc(1, sizeof(*server));
    int rc;

    if (server == NULL)
        return cc_err_nomem(err);
    server_init(server, channels);
    rc = serve_channel(&server->channels[0], err);

    /* The others are waiting for a call, or are in one; none begins another. */
    for (unsigned i = 1; i < channels; i++)
        (void)shutdown(server->channels[i].fd, SHUT_RDWR);
    stop_soon();
    token_stop(server->token);
    for (unsigned i = 1; i <= server->threads; i++)
        (void)pthread_join(server->channels[i].thread, NULL);
    if (!token_close(server->token))
        _exit(rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
    (void)pthread_mutex_destroy(&server->sending);
    free(server);
    return rc;
}
