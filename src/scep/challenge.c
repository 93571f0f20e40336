/* SPDX-License-Identifier: MIT */
#include "scep_int.h"

#include <json-c/json.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"

/* Who says whether a challenge is good.  What is told to the device never tells why it was not. */

#define REFUSED "the request is not authorised"
#define ANSWER_MAX_BYTES 65536
#define FILE_MAX ((size_t)16 << 20)

static struct event_fields
fields_of(const struct task *task)
{
    return (struct event_fields){
        .request_id = task->request_id,
        .transaction_id = task->transaction,
        .ca = ca_name(task->endpoint->settings.ca),
    };
}

static int
good(const struct task *task)
{
    const struct event_fields fields = fields_of(task);

    eventlog_write(task->endpoint->scep->log, EVENT_SCEP_VERIFY_SUCCESS, &fields,
            "The challenge of SCEP request %s is good", task->transaction);
    return 0;
}

static int
refused(const struct task *task, const char *why, struct answer *ret_answer)
{
    const struct event_fields fields = fields_of(task);

    eventlog_write(task->endpoint->scep->log, EVENT_SCEP_VERIFY_FAILURE, &fields,
            "The challenge of SCEP request %s was refused: %s", task->transaction, why);
    *ret_answer = answer_failure(PKI_SCEP_BAD_REQUEST, REFUSED);
    return 1;
}

static int
not_now(const struct task *task, const struct cc_err *err, struct answer *ret_answer)
{
    struct event_fields fields = fields_of(task);

    fields.error = err;
    eventlog_write(task->endpoint->scep->log, EVENT_SCEP_VERIFY_FAILURE, &fields,
            "Nobody could be asked about the challenge of SCEP request %s: %s", task->transaction,
            cc_err_text(err));
    *ret_answer = answer_later();
    return 1;
}

/* ---- the service ---- */

static int
ask_service(struct task *task, struct answer *ret_answer)
{
    struct intune_scep_answer said = { .accepted = false };
    struct cc_err err = { 0 };
    char why[sizeof(said.code) + sizeof(said.description) + 8];

    if (intune_scep_validate(task->endpoint->scep->intune, task->transaction,
                cc_buf_bytes(&task->csr_der), task->deadline, &said, &err) != 0)
        return not_now(task, &err, ret_answer);
    if (said.accepted) {
        task->vouched =
                true; /* it compares the names, the SID among them, with the device's profile */
        return good(task);
    }
    (void)snprintf(why, sizeof(why), "%s: %s", said.code, said.description);
    return refused(task, why, ret_answer);
}

/* ---- secrets of our own ---- */

static bool
same(struct cc_secret *challenge, const char *text, size_t len)
{
    uint8_t a[SHA256_DIGEST_LENGTH], b[SHA256_DIGEST_LENGTH];

    SHA256(cc_secret_data(challenge), cc_secret_len(challenge), a);
    SHA256((const unsigned char *)text, len, b);
    return CRYPTO_memcmp(a, b, sizeof(a)) == 0;
}

static int
compare_static(struct task *task, struct answer *ret_answer)
{
    struct cc_err err = { 0 };
    struct cc_secret *secret = cc_secret_load(task->endpoint->settings.challenge_secret, &err);
    bool equal;

    if (secret == NULL)
        return not_now(task, &err, ret_answer);
    equal = same(task->challenge, cc_secret_str(secret), cc_secret_len(secret));
    cc_secret_free(secret);
    return equal ? good(task) : refused(task, "it is another than the secret", ret_answer);
}

/* Every line is looked at, whichever it is. */
static bool
is_in(const struct cc_buf *text, struct cc_secret *challenge)
{
    const char *line = cc_buf_str(text);
    bool found = false;

    while (*line != '\0') {
        size_t len = strcspn(line, "\r\n");

        if (len > 0 && same(challenge, line, len))
            found = true;
        line += len + strspn(line + len, "\r\n");
    }
    return found;
}

static int
look_in_file(struct task *task, struct answer *ret_answer)
{
    struct cc_buf text = CC_BUF_INIT(FILE_MAX);
    struct cc_err err = { 0 };
    bool found = false;
    int rc = cc_file_read(task->endpoint->settings.challenge_file, &text, &err);

    if (rc == 0)
        found = is_in(&text, task->challenge);
    cc_buf_wipe(&text);
    if (rc != 0)
        return not_now(task, &err, ret_answer);
    return found ? good(task) : refused(task, "it is not in the file", ret_answer);
}

/* ---- a hook ---- */

static int
write_question(const struct task *task, struct cc_buf *ret, struct cc_err *err)
{
    json_object *json = json_object_new_object();
    const struct cc_buf *csr = &task->csr_der;
    int rc = -1;

    if (cc_json_add_str(json, "transactionId", task->transaction, err) == 0 &&
            cc_json_add_str(json, "profile", task->endpoint->name, err) == 0 &&
            cc_json_add_bool(json, "renewal", task->renewal, err) == 0 &&
            cc_json_add_base64(json, "certificateRequest", csr->data, csr->len, err) == 0)
        rc = cc_json_write(json, ret, err);
    json_object_put(json);
    return rc;
}

static int
read_verdict(const struct http_response *response, bool *ret_accepted, struct cc_err *err)
{
    json_object *json;
    int rc;

    if (response->status != 200)
        return cc_err_set(err, CC_DOM_HTTP, response->status, "the hook answers with status %ld",
                response->status);
    if ((json = cc_json_parse(response->body.data, response->body.len, err)) == NULL)
        return cc_err_in(err, "the hook's answer");
    rc = cc_json_get_bool(json, "accepted", false, ret_accepted, err);
    json_object_put(json);
    return rc;
}

static int
ask_hook(struct task *task, struct answer *ret_answer)
{
    struct cc_buf question = CC_BUF_INIT(2 * PKI_CSR_MAX);
    struct http_response response;
    struct http_request request = {
        .method = "POST",
        .url = task->endpoint->settings.challenge_url,
        .content_type = "application/json",
        .timeout_ms = cc_deadline_left(task->deadline),
        .max_response = ANSWER_MAX_BYTES,
    };
    struct cc_err err = { 0 };
    bool accepted = false;
    int rc = -1;

    http_response_init(&response);
    if (write_question(task, &question, &err) == 0) {
        request.body = cc_buf_bytes(&question);
        if (http_client_send(task->endpoint->hook, &request, &response, &err) == 0)
            rc = read_verdict(&response, &accepted, &err);
    }
    http_response_free(&response);
    cc_buf_wipe(&question);
    if (rc != 0)
        return not_now(task, &err, ret_answer);
    return accepted ? good(task) : refused(task, "the hook does not accept it", ret_answer);
}

/* ---- all of them ---- */

int
challenge_check(struct task *task, struct answer *ret_answer)
{
    switch (task->endpoint->settings.challenge) {
    case SCEP_CHALLENGE_SERVICE:
        return ask_service(task, ret_answer);
    case SCEP_CHALLENGE_STATIC:
        return compare_static(task, ret_answer);
    case SCEP_CHALLENGE_FILE:
        return look_in_file(task, ret_answer);
    case SCEP_CHALLENGE_HOOK:
        break;
    }
    return ask_hook(task, ret_answer);
}

struct cc_bytes
challenge_hash(const struct task *task, uint8_t ret[SCEPDB_ID_LEN])
{
    if (task->challenge == NULL || task->endpoint->settings.challenge == SCEP_CHALLENGE_STATIC)
        return (struct cc_bytes){ NULL, 0 };
    SHA256(cc_secret_data(task->challenge), cc_secret_len(task->challenge), ret);
    return (struct cc_bytes){ ret, SCEPDB_ID_LEN };
}
