/* SPDX-License-Identifier: MIT */

/* A device that enrols at our SCEP server over the network, with our own client. */

#include "selftest_int.h"

#include <inttypes.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "pki/csr.h"

#define URL_MAX 1024
#define CAPS_MAX 4096

/* ---- where ---- */

/* The first with challenges of this kind; NULL: none. */
static const struct config_scep *
find_endpoint(const struct config *config, enum config_challenge challenge)
{
    const struct config_scep *own = &config->scep.own;

    if (own->ca != NULL && own->profile != NULL && own->challenge == challenge)
        return own;
    for (size_t i = 0; i < config->scep_profile_count; i++)
        if (config->scep_profiles[i].challenge == challenge)
            return &config->scep_profiles[i];
    return NULL;
}

/* Challenges of the service are for who goes by way of it; those of files are used up, and hooks ask others. */
static int
choose(struct selftest *st, struct cc_err *err)
{
    const struct config *config = st->config;
    const struct config_scep *own = &config->scep.own, **endpoint = &st->scep.endpoint;

    *endpoint = st->admin != NULL ? find_endpoint(config, CONFIG_CHALLENGE_SERVICE) : NULL;
    if (*endpoint == NULL)
        *endpoint = find_endpoint(config, CONFIG_CHALLENGE_STATIC);
    if (*endpoint == NULL && own->ca != NULL && own->profile != NULL)
        *endpoint = own;
    if (*endpoint == NULL && config->scep_profile_count > 0)
        *endpoint = &config->scep_profiles[0];
    if (*endpoint == NULL || (*endpoint)->ca == NULL)
        return cc_err_set(err, CC_DOM_CONFIG, 0, "no CA is enrolled at by SCEP");
    return 0;
}

/* The port that the daemon listens on, where it may take any. */
static int64_t
port_in_use(const struct selftest *st)
{
    json_object *workloads = NULL, *scep = NULL;
    int64_t port = 0;

    if (cc_json_get_object(st->status, "workloads", &workloads, NULL) != 0 || workloads == NULL ||
            cc_json_get_object(workloads, "scep", &scep, NULL) != 0 || scep == NULL ||
            cc_json_get_int(scep, "port", 0, 65535, 0, &port, NULL) != 0)
        return 0;
    return port;
}

/* An address of all interfaces is one of this host. */
static int
write_host(struct selftest *st, struct cc_err *err)
{
    const char *listen = st->config->scep.listen;
    const char *colon = strrchr(listen, ':');
    int64_t port = 0;
    const int len = colon != NULL ? (int)(colon - listen) : 0;

    if (cc_starts_with(listen, "unix:")) {
        st->scep.options.unix_socket = listen + strlen("unix:");
        return cc_buf_add_str(&st->scep.url, "http://localhost", err);
    }
    if (colon == NULL || cc_parse_int(colon + 1, 0, 65535, &port, err) != 0)
        return cc_err_set(err, CC_DOM_CONFIG, 0, "[scep] listen is no address");
    if (port == 0)
        port = port_in_use(st);
    if (cc_starts_with(listen, "0.0.0.0:"))
        return cc_buf_printf(&st->scep.url, err, "http://127.0.0.1:%" PRId64, port);
    if (cc_starts_with(listen, "[::]:"))
        return cc_buf_printf(&st->scep.url, err, "http://[::1]:%" PRId64, port);
    return cc_buf_printf(&st->scep.url, err, "http://%.*s:%" PRId64, len, listen, port);
}

static int
write_url(struct selftest *st, struct cc_err *err)
{
    const char *name = st->scep.endpoint->name;

    if (write_host(st, err) != 0 || cc_buf_add_str(&st->scep.url, st->config->scep.path, err) != 0)
        return -1;
    return name == NULL ? 0 : cc_buf_printf(&st->scep.url, err, "/%s", name);
}

/* ---- the server ---- */

static int
check_server(struct selftest *st, struct cc_err *err)
{
    struct cli_authority *a;
    STACK_OF(X509) *chain = NULL;
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int len;
    int rc = -1;

    if (selftest_authority(st, st->scep.endpoint->ca, &a, err) == 0 &&
            selftest_ca_did(ca_chain(a->ca, cc_deadline_in(SELFTEST_CALL_MS), &chain, err), err) ==
                    0) {
        if (X509_digest(sk_X509_value(chain, 0), EVP_sha256(), digest, &len) != 1)
            cc_err_set_openssl(err, "the CA's certificate");
        else if (scep_authority_trust(st->scep.session.client.authority, digest, err) != 0)
            cc_err_in(err, "%s does not serve the CA \"%s\"", cc_buf_str(&st->scep.url),
                    st->scep.endpoint->ca);
        else
            rc = 0;
    }
    sk_X509_pop_free(chain, X509_free);
    return rc;
}

static int
look_at_server(struct selftest *st, struct cc_err *err)
{
    struct cc_buf caps = CC_BUF_INIT(CAPS_MAX);
    int rc = -1;

    if (choose(st, err) != 0 || write_url(st, err) != 0)
        return -1;
    (void)snprintf(st->detail, sizeof(st->detail), "%.200s", cc_buf_str(&st->scep.url));
    st->scep.options.url = cc_buf_str(&st->scep.url);
    st->scep.options.timeout = st->timeout;
    st->scep.open = true;
    if (scep_session_open(&st->scep.options, &st->scep.session, err) == 0 &&
            scep_session_caps(&st->scep.session, &caps, err) == 0 &&
            scep_session_authority(&st->scep.session, err) == 0)
        rc = check_server(st, err);
    cc_buf_free(&caps);
    return rc;
}

/* ---- the challenge ---- */

/*
 * Out of the text itself, where it is wiped: what a JSON parser had, it would leave in memory.  It is base64, in which "/"
 * may be escaped.
 */
static int
cut_challenge(struct cc_buf *text, struct cc_secret **ret_challenge, struct cc_err *err)
{
    static const char mark[] = "\"challenge\":";
    char *value = text->len > 0 ? strstr((char *)text->data, mark) : NULL, *end;
    size_t len = 0;

    if (value != NULL)
        value += strlen(mark) + strspn(value + strlen(mark), " ");
    if (value == NULL || *value != '"' || (end = strchr(value + 1, '"')) == NULL)
        return cc_err_set(err, CC_DOM_INPUT, 0, "the service gave no challenge");
    value++;
    if ((*ret_challenge = cc_secret_new((size_t)(end - value) + 1, err)) == NULL)
        return -1;
    for (char *c = value; c < end; c++)
        if (*c != '\\')
            cc_secret_data(*ret_challenge)[len++] = (uint8_t)*c;
    cc_secret_truncate(*ret_challenge, len);
    memset(value, '*', (size_t)(end - value));
    return 0;
}

/* It is taken back at the end, should it not have been used. */
static int
read_challenge(struct selftest *st, struct cc_buf *text, struct cc_err *err)
{
    json_object *json, *list = NULL;
    const char *id;
    int rc = -1;

    if (cut_challenge(text, &st->scep.challenge, err) != 0 ||
            (json = cc_json_parse(text->data, text->len, err)) == NULL)
        return -1;
    if (cc_json_get_array(json, "challenges", &list, err) == 0 && list != NULL &&
            cc_json_need_str(json_object_array_get_idx(list, 0), "id", CC_UUID_LEN - 1, &id, err) ==
                    0) {
        (void)cc_strcpy(st->challenge_id, sizeof(st->challenge_id), id);
        rc = 0;
    }
    json_object_put(json);
    return rc;
}

static int
ask_service(struct selftest *st, struct cc_err *err)
{
    json_object *body = json_object_new_object();
    struct http_response response;
    int rc = -1;

    http_response_init(&response);
    if (cc_json_add_str(body, "subjectName", st->subject, err) != 0 ||
            cc_json_add_str(body, "userPrincipalName", st->user, err) != 0 ||
            cc_json_add_str(body, "deviceId", st->device, err) != 0)
        json_object_put(body);
    else if (selftest_admin_send(st->admin, "POST", "scepChallenges", body, &response, err) == 0)
        rc = read_challenge(st, &response.body, err);
    http_response_free(&response);
    return rc;
}

/* ---- enrolment ---- */

/* What is enrolled at the endpoint; SCEP is of RSA keys, as answers are enveloped for them. */
static int
key_kind(const struct selftest *st)
{
    const struct config_profile *profile = NULL;

    if (st->scep.endpoint->profile != NULL)
        profile = config_profile_find(st->config, st->scep.endpoint->profile);
    return profile != NULL ? selftest_key_kind(profile, true) : PKI_RSA2048;
}

static int
make_key(struct selftest *st, struct cc_err *err)
{
    struct scep_client *client = &st->scep.session.client;
    const enum pki_keyspec spec = (enum pki_keyspec)key_kind(st);

    (void)cc_strcpy(st->detail, sizeof(st->detail), pki_keyspec_name(spec));
    if (pki_key_generate(spec, &st->scep.key, err) != 0 ||
            selftest_self_signed(st, KU_DIGITAL_SIGNATURE | KU_KEY_ENCIPHERMENT, st->scep.key,
                    &st->scep.signer, err) != 0)
        return -1;
    client->key = st->scep.key;
    client->certificate = st->scep.signer;
    return 0;
}

static int
take_answer(struct selftest *st, const struct scep_answer *answer, struct cc_err *err)
{
    X509 *certificate;

    if (answer->status == PKI_SCEP_PENDING)
        return cc_err_set(err, CC_DOM_INPUT, 0, "the CA has not decided on the request");
    if (scep_answer_error(answer, err) != 0 ||
            scep_answer_certificate(answer, st->scep.key, &certificate, err) != 0)
        return -1;
    (void)X509_up_ref(certificate);
    st->scep.certificate = certificate;
    st->challenge_id[0] = '\0';
    return selftest_note_issued(st, st->scep.endpoint->ca, certificate, err);
}

static int
enrol(struct selftest *st, struct cc_err *err)
{
    struct cc_buf csr = CC_BUF_INIT(PKI_CSR_MAX);
    struct scep_answer answer;
    int rc = -1;

    if (scep_csr(st->plan, st->scep.key, st->scep.challenge, &csr, err) == 0) {
        selftest_look_at(st, st->scep.endpoint->ca);
        if (scep_session_ask(&st->scep.session, PKI_SCEP_PKCS_REQ, cc_buf_bytes(&csr),
                    (struct cc_bytes){ NULL, 0 }, &answer, err) == 0) {
            rc = take_answer(st, &answer, err);
            scep_answer_free(&answer);
        }
    }
    cc_buf_wipe(&csr);
    return rc;
}

static int
check(struct selftest *st, struct cc_err *err)
{
    return selftest_check_certificate(st, st->scep.endpoint->ca, st->scep.certificate, st->scep.key,
            err);
}

/* ---- what the service heard of it ---- */

static int
is_told(struct selftest *st, json_object *answer, struct cc_err *err)
{
    json_object *list = NULL, *notification = NULL;
    const char *kind = NULL;

    (void)st;
    if (cc_json_get_array(answer, "value", &list, err) != 0)
        return -1;
    if (list == NULL || json_object_array_length(list) == 0)
        return 0;
    if (cc_json_get_object(json_object_array_get_idx(list, 0), "notification", &notification,
                err) != 0)
        return -1;
    if (notification == NULL)
        return 0;
    if (cc_json_need_str(notification, "kind", 32, &kind, err) != 0)
        return -1;
    if (strcmp(kind, "success") != 0)
        return cc_err_set(err, CC_DOM_SERVICE, 0, "the service was told of a failure");
    return 1;
}

static int
await_notification(struct selftest *st, struct cc_err *err)
{
    json_object *answer = NULL;
    char path[128];

    (void)snprintf(path, sizeof(path), "scepTransactions?transactionId=%s",
            st->scep.session.transaction.id);
    if (selftest_await(st, path, is_told, &answer, err) != 0)
        return -1;
    json_object_put(answer);
    return 0;
}

/* ---- the steps ---- */

static int
load_static(struct selftest *st, struct cc_err *err)
{
    st->scep.challenge = cc_secret_load(st->scep.endpoint->challenge_secret, err);
    return st->scep.challenge != NULL ? 0 : -1;
}

static bool
waits_for_approval(const struct selftest *st)
{
    return selftest_waits_for_approval(config_ca_find(st->config, st->scep.endpoint->ca));
}

static int
say_why_not(struct selftest *st, struct cc_err *err)
{
    static const char *const givers[] = {
        [CONFIG_CHALLENGE_SERVICE] = "only the service gives challenges",
        [CONFIG_CHALLENGE_FILE] = "a challenge out of the file would be used up",
        [CONFIG_CHALLENGE_HOOK] = "only who is behind the hook gives challenges",
        [CONFIG_CHALLENGE_STATIC] = "",
    };

    const char *why = givers[st->scep.endpoint->challenge];

    (void)err;
    if (waits_for_approval(st))
        why = SELFTEST_APPROVAL;
    else if (key_kind(st) < 0)
        why = "its profile takes no RSA keys ([profile] keys), and a SCEP client needs one";
    (void)cc_strcpy(st->detail, sizeof(st->detail), why);
    return 0;
}

int
selftest_scep(struct selftest *st)
{
    static const struct selftest_step server[] = {
        { "the server answers for the CA", look_at_server },
    };
    static const struct selftest_step through[] = {
        { "the service gives a challenge", ask_service },
        { "a device makes its key", make_key },
        { "a certificate is enrolled", enrol },
        { "the certificate is right", check },
        { "the service was told", await_notification },
    };
    static const struct selftest_step with_secret[] = {
        { "the challenge is read", load_static },
        { "a device makes its key", make_key },
        { "a certificate is enrolled", enrol },
        { "the certificate is right", check },
    };
    static const struct selftest_step without[] = {
        { "no certificate is enrolled", say_why_not },
    };

    cc_buf_init(&st->scep.url, URL_MAX);
    if (selftest_run_steps(st, "scep", server, CC_COUNT(server)) != 0)
        return -1;
    if (waits_for_approval(st) || key_kind(st) < 0)
        return selftest_run_steps(st, "scep", without, CC_COUNT(without));
    if (st->scep.endpoint->challenge == CONFIG_CHALLENGE_STATIC)
        return selftest_run_steps(st, "scep", with_secret, CC_COUNT(with_secret));
    if (st->scep.endpoint->challenge == CONFIG_CHALLENGE_SERVICE && st->admin != NULL)
        return selftest_run_steps(st, "scep", through, CC_COUNT(through));
    return selftest_run_steps(st, "scep", without, CC_COUNT(without));
}

void
selftest_scep_forget(struct selftest *st)
{
    if (st->scep.open)
        scep_session_close(&st->scep.session);
    cc_secret_free(st->scep.challenge);
    EVP_PKEY_free(st->scep.key);
    X509_free(st->scep.signer);
    X509_free(st->scep.certificate);
    cc_buf_free(&st->scep.url);
}
