/* SPDX-License-Identifier: MIT */
#include "intune/service.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "fake_service.h"
#include "intune/intune_int.h"
#include "intune/queue.h"
#include "intune/revocation.h"
#include "tests/unit/http/raw_peer.h"

/* Any call does; the heartbeat is the shortest. */
static int
beat(struct intune *intune, struct cc_err *err)
{
    return intune_heartbeat(intune, json_object_new_object(), NULL, err);
}

static void
first_call(void **state)
{
    struct fake fake;
    struct intune *intune;
    struct intune_status status;
    struct cc_err err = { 0 };

    (void)state;
    fake_open(&fake);
    intune = fake_connect(&fake);
    intune_get_status(intune, &status);
    assert_int_equal(status.contact, INTUNE_CONTACT_NONE);
    assert_int_equal(status.last_contact_ms, 0);
    if (beat(intune, &err) != 0)
        fail_msg("%s", cc_err_text(&err));

    assert_int_equal(fake.calls[FAKE_TOKEN], 2);
    assert_string_equal(fake.path[FAKE_TOKEN], "/contoso.example/oauth2/v2.0/token");
    assert_string_equal(fake.body[FAKE_TOKEN],
            "grant_type=client_credentials&client_id=11111111-2222-3333-4444-555555555555"
            "&scope=https%3A%2F%2Fapi.service.example%2F%2F.default&client_secret=s3cr~t%20%26%20more");
    assert_string_equal(fake.authorization[FAKE_TOKEN], "-");
    assert_int_equal(fake.calls[FAKE_DISCOVERY], 1);
    assert_string_equal(fake.method[FAKE_DISCOVERY], "GET");
    assert_string_equal(fake.path[FAKE_DISCOVERY],
            "/v1.0/servicePrincipals/appId=0000000a-0000-0000-c000-000000000000/endpoints");
    assert_string_equal(fake.authorization[FAKE_DISCOVERY], "Bearer tok-1");
    assert_true(cc_is_uuid(fake.request_id[FAKE_DISCOVERY]));
    assert_int_equal(fake.calls[FAKE_SERVICE], 1);
    assert_string_equal(fake.method[FAKE_SERVICE], "POST");
    assert_string_equal(fake.path[FAKE_SERVICE], "/svc/Connectors/heartbeat");
    assert_string_equal(fake.authorization[FAKE_SERVICE], "Bearer tok-2");
    assert_string_equal(fake.api_version[FAKE_SERVICE], "2026-11-01");
    assert_true(cc_is_uuid(fake.request_id[FAKE_SERVICE]));
    assert_string_equal(fake.body[FAKE_SERVICE], "{\"heartbeat\":{}}");
    assert_string_equal(fake.contacts, "ok ");

    /* Nothing of this is asked again, and each call has an id of its own. */
    {
        char id[128];

        memcpy(id, fake.request_id[FAKE_SERVICE], sizeof(id));
        assert_int_equal(beat(intune, NULL), 0);
        assert_int_equal(fake.calls[FAKE_TOKEN], 2);
        assert_int_equal(fake.calls[FAKE_DISCOVERY], 1);
        assert_string_not_equal(id, fake.request_id[FAKE_SERVICE]);
    }
    intune_get_status(intune, &status);
    assert_int_equal(status.contact, INTUNE_CONTACT_OK);
    assert_true(status.last_contact_ms > 0);
    assert_true(llabs(status.clock_skew_ms) < 60000);
    assert_string_equal(status.last_error, "");
    assert_string_equal(fake.contacts, "ok ");
    intune_close(intune);
    fake_close(&fake);
}

#define OK200                                                                                      \
    {                                                                                              \
        .status = 200                                                                              \
    }
#define REFUSED(s, code, text)                                                                     \
    {                                                                                              \
        .status = (s), .body = "{\"error\":{\"code\":\"" code "\",\"message\":\"" text "\"}}"      \
    }
#define SIGN_IN(s, codes)                                                                          \
    {                                                                                              \
        .status = (s), .body = "{\"error\":\"refused\",\"error_codes\":[" codes "]}"               \
    }
#define PLAIN(s)                                                                                   \
    {                                                                                              \
        .status = (s), .body = ""                                                                  \
    }
#define DROP                                                                                       \
    {                                                                                              \
        .status = 0                                                                                \
    }

struct call_case {
    const char *name;
    struct fake_answer token[9], discovery[9], service[9]; /* ended by an entry of status 1 */
    bool want_good;
    enum cc_err_domain want_domain;
    long want_code;
    const char *want_text;
    unsigned want_tokens, want_discoveries, want_calls;
    const char *want_contacts;
};

#define END                                                                                        \
    {                                                                                              \
        .status = 1                                                                                \
    }
#define GOOD                                                                                       \
    {                                                                                              \
        END                                                                                        \
    }

static const struct call_case cases[] = {
    { "good", GOOD, GOOD, GOOD, true, 0, 0, NULL, 2, 1, 1, "ok " },

    /* the service */
    { "400 is final", GOOD, GOOD, { REFUSED(400, "BadThing", "no\\u001b[31m such"), END }, false,
            CC_DOM_HTTP, 400,
            "Connectors/heartbeat: status 400: BadThing: no\\x1b[31m such (client-request-id ", 2,
            1, 1, "ok " },
    { "403 is final", GOOD, GOOD, { REFUSED(403, "Forbidden", "not you"), END }, false, CC_DOM_HTTP,
            403, "Forbidden", 2, 1, 1, "ok " },
    { "409 is final", GOOD, GOOD, { REFUSED(409, "Conflict", "twice"), END }, false, CC_DOM_HTTP,
            409, "Conflict", 2, 1, 1, "limit " },
    { "302 is final", GOOD, GOOD,
            { { .status = 302, .body = "", .header = "Location", .value = "https://evil.example/" },
                    END },
            false, CC_DOM_HTTP, 302, "status 302", 2, 1, 1, "lost " },
    { "401 once", GOOD, GOOD, { PLAIN(401), END }, true, 0, 0, NULL, 3, 1, 2, "ok " },
    { "401 twice", GOOD, GOOD, { PLAIN(401), REFUSED(401, "Denied", "still"), END }, false,
            CC_DOM_HTTP, 401, "Denied", 3, 1, 2, "refused " },
    { "404, and it is where it was", GOOD, GOOD, { PLAIN(404), PLAIN(404), END }, false,
            CC_DOM_HTTP, 404, "status 404", 2, 2, 2, "lost " },
    { "410 once", GOOD, GOOD, { PLAIN(410), END }, true, 0, 0, NULL, 2, 2, 2, "ok " },
    { "429 once", GOOD, GOOD,
            { { .status = 429, .body = "", .header = "Retry-After", .value = "0" }, END }, true, 0,
            0, NULL, 2, 1, 2, "ok " },
    { "429 for ever", GOOD, GOOD,
            { PLAIN(429), PLAIN(429), PLAIN(429), REFUSED(429, "Slow", "down"), PLAIN(429), END },
            false, CC_DOM_HTTP, 429, "Slow", 2, 1, 4, "lost " },
    { "503 twice", GOOD, GOOD, { PLAIN(503), PLAIN(503), END }, true, 0, 0, NULL, 2, 2, 3, "ok " },
    { "500 for ever", GOOD, GOOD,
            { PLAIN(500), PLAIN(500), PLAIN(500), PLAIN(500), PLAIN(500), END }, false, CC_DOM_HTTP,
            500, "status 500 (client", 2, 2, 4, "lost " },
    /* The library itself sends once more when a kept connection turns out to be dead. */
    { "dropped once", GOOD, GOOD, { DROP, END }, true, 0, 0, NULL, 2, 1, 2, "ok " },
    { "dropped three times", GOOD, GOOD, { DROP, DROP, DROP, END }, true, 0, 0, NULL, 2, 2, 4,
            "ok " },
    { "dropped for ever", GOOD, GOOD, { DROP, DROP, DROP, DROP, DROP, DROP, DROP, DROP, END },
            false, CC_DOM_NETWORK, -1, "Connectors/heartbeat: http://127.0.0.1", 2, 2, 6, "lost " },
    { "HTML", GOOD, GOOD, { { .status = 200, .body = "<html>It works</html>" }, END }, false,
            CC_DOM_INPUT, 0, "not JSON", 2, 1, 1, "lost " },
    { "nothing", GOOD, GOOD, { PLAIN(200), END }, false, CC_DOM_INPUT, 0, "not JSON", 2, 1, 1,
            "lost " },
    { "an array", GOOD, GOOD, { { .status = 200, .body = "[]" }, END }, false, CC_DOM_INPUT, 0,
            "no object", 2, 1, 1, "lost " },
    { "cut JSON", GOOD, GOOD, { { .status = 200, .body = "{\"value\":[" }, END }, false,
            CC_DOM_INPUT, 0, "not JSON", 2, 1, 1, "lost " },
    { "HTML with 500", GOOD, GOOD, { { .status = 500, .body = "<html>" }, END }, true, 0, 0, NULL,
            2, 2, 2, "ok " },
    { "an error that is a number", GOOD, GOOD, { { .status = 400, .body = "{\"error\":7}" }, END },
            false, CC_DOM_HTTP, 400, "status 400 (client", 2, 1, 1, "ok " },
    { "an old error", GOOD, GOOD,
            { { .status = 400,
                      .body = "{\"odata.error\":{\"code\":\"Old\",\"message\":{\"value\":\"style\"}}}" },
                    END },
            false, CC_DOM_HTTP, 400, "status 400: Old: style (", 2, 1, 1, "ok " },
    { "with a request id of its own", GOOD, GOOD,
            { { .status = 400, .body = "", .header = "request-id", .value = "r-77" }, END }, false,
            CC_DOM_HTTP, 400, ", request-id r-77)", 2, 1, 1, "ok " },

    /* sign-in */
    { "secret refused",
            { { .status = 401,
                      .body = "{\"error\":\"invalid_client\",\"error_description\":\"AADSTS7000215: bad\"}" },
                    END },
            GOOD, GOOD, false, CC_DOM_HTTP, 401,
            "sign-in for the Graph token: the client secret is wrong: put the secret's value, not its id, "
            "into the file that [service] client-secret names: status 401: invalid_client: AADSTS7000215: bad "
            "(client-request-id",
            1, 0, 0, "refused " },
    { "secret expired", { SIGN_IN(401, "7000222"), END }, GOOD, GOOD, false, CC_DOM_HTTP, 401,
            "the client secret has expired", 1, 0, 0, "refused " },
    { "certificate unknown", { SIGN_IN(401, "5, 700027"), END }, GOOD, GOOD, false, CC_DOM_HTTP,
            401, "the certificate is not registered", 1, 0, 0, "refused " },
    { "assertion at another time", { SIGN_IN(401, "700024"), END }, GOOD, GOOD, false, CC_DOM_HTTP,
            401, "set the clock of this host", 1, 0, 0, "refused " },
    { "application unknown", { SIGN_IN(400, "700016"), END }, GOOD, GOOD, false, CC_DOM_HTTP, 400,
            "the tenant has no such application", 1, 0, 0, "refused " },
    { "tenant unknown", { SIGN_IN(400, "90002"), END }, GOOD, GOOD, false, CC_DOM_HTTP, 400,
            "there is no such tenant", 1, 0, 0, "refused " },
    { "resource unknown", { OK200, SIGN_IN(400, "500011"), END }, GOOD, GOOD, false, CC_DOM_HTTP,
            400, "sign-in for the service token: the tenant does not know what the token is for", 2,
            1, 0, "refused " },
    { "scope not valid", { OK200, SIGN_IN(400, "70011"), END }, GOOD, GOOD, false, CC_DOM_HTTP, 400,
            "correct [service] graph and resource", 2, 1, 0, "refused " },
    { "a number that nobody knows", { SIGN_IN(400, "1"), END }, GOOD, GOOD, false, CC_DOM_HTTP, 400,
            "sign-in for the Graph token: status 400: refused", 1, 0, 0, "refused " },
    { "scope refused", { OK200, { .status = 400, .body = "{\"error\":\"invalid_scope\"}" }, END },
            GOOD, GOOD, false, CC_DOM_HTTP, 400,
            "sign-in for the service token: status 400: invalid_scope", 2, 1, 0, "refused " },
    { "sign-in busy",
            { { .status = 429, .body = "", .header = "Retry-After", .value = "0" }, PLAIN(503),
                    DROP, END },
            GOOD, GOOD, true, 0, 0, NULL, 5, 1, 1, "ok " },
    { "sign-in down", { PLAIN(500), PLAIN(500), PLAIN(500), PLAIN(500), END }, GOOD, GOOD, false,
            CC_DOM_HTTP, 500, "sign-in", 4, 0, 0, "lost " },
    { "no token in the answer", { { .status = 200, .body = "{}" }, END }, GOOD, GOOD, false,
            CC_DOM_INPUT, 0, "access_token", 1, 0, 0, "lost " },
    { "a token with a line end",
            { { .status = 200, .body = "{\"access_token\":\"a\\r\\nX: y\"}" }, END }, GOOD, GOOD,
            false, CC_DOM_INPUT, 0, "token has bytes", 1, 0, 0, "lost " },
    { "a token of another type",
            { { .status = 200, .body = "{\"access_token\":\"a\",\"token_type\":\"mac\"}" }, END },
            GOOD, GOOD, false, CC_DOM_INPUT, 0, "Bearer", 1, 0, 0, "lost " },
    { "a sign-in page", { { .status = 200, .body = "<html>" }, END }, GOOD, GOOD, false,
            CC_DOM_INPUT, 0, "access_token", 1, 0, 0, "lost " },

    /* discovery */
    { "discovery forbidden", GOOD, { REFUSED(403, "Authorization_RequestDenied", "no role"), END },
            GOOD, false, CC_DOM_HTTP, 403,
            "discovery of the service's endpoints: status 403: Authorization_RequestDenied", 1, 1,
            0, "ok " },
    { "discovery wants a new token", GOOD, { PLAIN(401), END }, GOOD, true, 0, 0, NULL, 3, 2, 1,
            "ok " },
    { "discovery never content", GOOD, { PLAIN(401), PLAIN(401), END }, GOOD, false, CC_DOM_HTTP,
            401, "discovery", 2, 2, 0, "refused " },
    { "discovery down once", GOOD, { PLAIN(502), END }, GOOD, true, 0, 0, NULL, 2, 2, 1, "ok " },
    { "discovery dropped once", GOOD, { DROP, END }, GOOD, true, 0, 0, NULL, 2, 2, 1, "ok " },
    { "not licensed", GOOD,
            { { .status = 200,
                      .body = "{\"value\":[{\"providerName\":\"Other\",\"uri\":\"https://o.example\"}]}" },
                    END },
            GOOD, false, CC_DOM_HTTP, 404, "PkiConnectorFEService is not among", 1, 1, 0, "lost " },
    { "nothing discovered", GOOD, { { .status = 200, .body = "{\"value\":[]}" }, END }, GOOD, false,
            CC_DOM_HTTP, 404, "not among", 1, 1, 0, "lost " },
    { "no list", GOOD, { { .status = 200, .body = "{}" }, END }, GOOD, false, CC_DOM_INPUT, 0,
            "member \"value\" is missing", 1, 1, 0, "lost " },
    { "ftp", GOOD,
            { { .status = 200,
                      .body = "{\"value\":[{\"providerName\":\"PkiConnectorFEService\",\"uri\":\"ftp://x.example\"}]}" },
                    END },
            GOOD, false, CC_DOM_INPUT, 0, "not https: ftp://x.example", 1, 1, 0, "lost " },
    { "with a query", GOOD,
            { { .status = 200,
                      .body = "{\"value\":[{\"providerName\":\"PkiConnectorFEService\",\"uri\":\"https://x.example/?a=\"}]}" },
                    END },
            GOOD, false, CC_DOM_INPUT, 0, "no plain address", 1, 1, 0, "lost " },
    { "with a user", GOOD,
            { { .status = 200,
                      .body = "{\"value\":[{\"providerName\":\"PkiConnectorFEService\",\"uri\":\"https://u:p@x.example\"}]}" },
                    END },
            GOOD, false, CC_DOM_INPUT, 0, "names a user", 1, 1, 0, "lost " },
    { "at another host", GOOD,
            { { .status = 200,
                      .body = "{\"value\":[{\"providerName\":\"PkiConnectorFEService\",\"uri\":\"https://evil.example\"}]}" },
                    END },
            GOOD, false, CC_DOM_INPUT, 0, "[service] allowed-hosts does not have", 1, 1, 0,
            "lost " },
    { "a list of texts", GOOD, { { .status = 200, .body = "{\"value\":[\"x\"]}" }, END }, GOOD,
            false, CC_DOM_INPUT, 0, "not an object", 1, 1, 0, "lost " },
};

static void
load_script(struct fake *fake, enum fake_part part, const struct fake_answer *answers)
{
    size_t count = 0;

    while (count < 9 && answers[count].status != 1)
        count++;
    fake_script(fake, part, answers, count);
}

static int
check_case(const struct call_case *c)
{
    struct fake fake;
    struct intune *intune;
    struct cc_err err = { 0 };
    bool good;
    int rc;

    fake_open(&fake);
    intune = fake_connect(&fake);
    load_script(&fake, FAKE_TOKEN, c->token);
    load_script(&fake, FAKE_DISCOVERY, c->discovery);
    load_script(&fake, FAKE_SERVICE, c->service);
    rc = beat(intune, &err);
    good = (rc == 0) == c->want_good && fake.calls[FAKE_TOKEN] == c->want_tokens &&
           fake.calls[FAKE_DISCOVERY] == c->want_discoveries &&
           fake.calls[FAKE_SERVICE] == c->want_calls &&
           strcmp(fake.contacts, c->want_contacts) == 0;
    if (good && rc != 0)
        good = err.domain == c->want_domain && (c->want_code < 0 || err.code == c->want_code) &&
               strstr(err.text, c->want_text) != NULL && strstr(err.text, "s3cr") == NULL;
    if (!good)
        print_error("%s: rc %d, %u tokens, %u discoveries, %u calls, contacts \"%s\": %d %ld %s\n",
                c->name, rc, fake.calls[FAKE_TOKEN], fake.calls[FAKE_DISCOVERY],
                fake.calls[FAKE_SERVICE], fake.contacts, err.domain, err.code, cc_err_text(&err));
    intune_close(intune);
    fake_close(&fake);
    return good ? 0 : 1;
}

static void
service_that_lies(void **state)
{
    int failures = 0;
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(cases); i++)
        failures += check_case(&cases[i]);
    assert_int_equal(failures, 0);
}

/* What says which connector asks is refused, what does not is answered: that makes no coming and going of the contact. */
static void
certificate_is_wanted(void **state)
{
    /* Of one call, with a new token and all its attempts; then the others. */
    const struct fake_answer wanted = REFUSED(401, "CertificateRequired", "who are you");
    const struct fake_answer answers[] = { wanted, wanted, wanted, wanted, wanted,
        { .status = 200, .body = "{\"value\":[]}" }, OK200 };
    struct fake fake;
    struct intune *intune;
    struct intune_work *work = NULL;
    size_t count = 0, malformed = 0;
    struct cc_err err = { 0 };

    (void)state;
    fake_open(&fake);
    intune = fake_connect(&fake);
    fake_script(&fake, FAKE_SERVICE, answers, CC_COUNT(answers));
    assert_int_equal(beat(intune, NULL), -1);
    assert_string_equal(fake.contacts, "certificate ");
    if (intune_revocation_download(intune, 10, NULL, &work, &count, &malformed, &err) != 0)
        fail_msg("%s", cc_err_text(&err));
    intune_work_free(work, count);
    assert_string_equal(fake.contacts, "certificate ");
    assert_int_equal(beat(intune, NULL), 0);
    assert_string_equal(fake.contacts, "certificate ok ");
    intune_close(intune);
    fake_close(&fake);
}

/* The account moves: the old address answers 410, discovery knows better, and the next call goes there at once. */
static void
account_moves(void **state)
{
    struct fake fake;
    struct intune *intune;

    (void)state;
    fake_open(&fake);
    intune = fake_connect(&fake);
    assert_int_equal(beat(intune, NULL), 0);
    pthread_mutex_lock(&fake.lock);
    (void)snprintf(fake.uri_path, sizeof(fake.uri_path), "/elsewhere");
    pthread_mutex_unlock(&fake.lock);
    assert_int_equal(beat(intune, NULL), 0);
    assert_string_equal(fake.path[FAKE_SERVICE], "/elsewhere/Connectors/heartbeat");
    assert_int_equal(fake.calls[FAKE_SERVICE], 3);
    assert_int_equal(fake.calls[FAKE_DISCOVERY], 2);
    assert_string_equal(fake.contacts, "ok moved ");
    assert_int_equal(beat(intune, NULL), 0);
    assert_int_equal(fake.calls[FAKE_SERVICE], 4);
    assert_int_equal(fake.calls[FAKE_DISCOVERY], 2);
    intune_close(intune);
    fake_close(&fake);
}

/* An address that we do not go to is not kept for a day: the next call asks again. */
static void
a_bad_address_is_asked_for_again(void **state)
{
    static const struct fake_answer evil[] = {
        { .status = 200,
                .body = "{\"value\":[{\"providerName\":\"PkiConnectorFEService\",\"uri\":\"https://evil.example\"}]}" }
    };
    struct fake fake;
    struct intune *intune;

    (void)state;
    fake_open(&fake);
    intune = fake_connect(&fake);
    fake_script(&fake, FAKE_DISCOVERY, evil, CC_COUNT(evil));
    assert_int_equal(beat(intune, NULL), -1);
    assert_int_equal(beat(intune, NULL), 0);
    assert_int_equal(fake.calls[FAKE_DISCOVERY], 2);
    assert_string_equal(fake.contacts, "lost moved ok ");
    intune_close(intune);
    fake_close(&fake);
}

/* Five minutes are still right; what is beyond is told once, and so is its end. */
static void
clock_is_compared(void **state)
{
    struct fake fake;
    struct intune *intune = NULL;
    struct intune_settings settings;
    struct intune_status status;
    struct cc_err err = { 0 };
    const int64_t now = cc_clock_now_ms();

    (void)state;
    fake_open(&fake);
    settings = fake_settings(&fake);
    settings.max_clock_skew_ms = 300000;
    assert_int_equal(intune_open(&settings, &intune, NULL), 0);
    assert_int_equal(intune_check_clock(intune, NULL), 0);

    cc_clock_set(now + 280000, cc_clock_mono_ms());
    assert_int_equal(beat(intune, NULL), 0);
    assert_int_equal(intune_check_clock(intune, NULL), 0);
    assert_string_equal(fake.contacts, "ok ");

    cc_clock_set(now + 3600000, cc_clock_mono_ms());
    assert_int_equal(beat(intune, NULL), 0);
    assert_int_equal(beat(intune, NULL), 0);
    assert_string_equal(fake.contacts, "ok clock off ");
    assert_int_equal(intune_check_clock(intune, &err), -1);
    assert_int_equal(err.domain, CC_DOM_SERVICE);
    assert_non_null(strstr(err.text, " s ahead of that of the service"));
    intune_get_status(intune, &status);
    assert_true(status.clock_is_off);
    assert_int_equal(status.contact, INTUNE_CONTACT_OK);

    cc_clock_set(now - 3600000, cc_clock_mono_ms());
    assert_int_equal(beat(intune, NULL), 0);
    cc_err_clear(&err);
    assert_int_equal(intune_check_clock(intune, &err), -1);
    assert_non_null(strstr(err.text, " s behind that of the service"));
    assert_string_equal(fake.contacts, "ok clock off ");

    cc_clock_real();
    assert_int_equal(beat(intune, NULL), 0);
    assert_int_equal(intune_check_clock(intune, NULL), 0);
    assert_string_equal(fake.contacts, "ok clock off clock right ");
    intune_close(intune);
    fake_close(&fake);
}

/* Who refuses us because our clock is wrong says what the time is. */
static void
clock_is_compared_when_sign_in_fails(void **state)
{
    static const struct fake_answer refusal[] = { { .status = 401,
            .body = "{\"error\":\"invalid_client\"}" } };
    struct fake fake;
    struct intune *intune = NULL;
    struct intune_settings settings;

    (void)state;
    fake_open(&fake);
    settings = fake_settings(&fake);
    settings.max_clock_skew_ms = 300000;
    assert_int_equal(intune_open(&settings, &intune, NULL), 0);
    fake_script(&fake, FAKE_TOKEN, refusal, CC_COUNT(refusal));
    cc_clock_set(cc_clock_now_ms() + 3600000, cc_clock_mono_ms());
    assert_int_equal(beat(intune, NULL), -1);
    assert_string_equal(fake.contacts, "clock off refused ");
    cc_clock_real();
    intune_close(intune);
    fake_close(&fake);
}

/* Lost, still lost (not told again), and back. */
static void
contact_is_told_when_it_changes(void **state)
{
    static const struct fake_answer down[] = { { .status = 503, .body = "" },
        { .status = 503, .body = "" }, { .status = 503, .body = "" }, { .status = 503, .body = "" },
        { .status = 503, .body = "" }, { .status = 503, .body = "" }, { .status = 503, .body = "" },
        { .status = 503, .body = "" } };
    struct fake fake;
    struct intune *intune;
    struct intune_status status;
    struct cc_err err = { 0 };

    (void)state;
    fake_open(&fake);
    intune = fake_connect(&fake);
    assert_int_equal(beat(intune, NULL), 0);
    fake_script(&fake, FAKE_SERVICE, down, CC_COUNT(down));
    assert_int_equal(beat(intune, &err), -1);
    assert_int_equal(beat(intune, NULL), -1);
    assert_string_equal(fake.contacts, "ok lost ");
    intune_get_status(intune, &status);
    assert_int_equal(status.contact, INTUNE_CONTACT_LOST);
    assert_non_null(strstr(status.last_error, "503"));
    assert_int_equal(beat(intune, NULL), 0);
    assert_string_equal(fake.contacts, "ok lost ok ");
    intune_close(intune);
    fake_close(&fake);
}

struct proxy {
    int fd;
    const char *answer;
    unsigned asked;
};

static void *
proxy_run(void *arg)
{
    struct proxy *proxy = arg;
    char head[4096];
    int fd;

    while ((fd = accept(proxy->fd, NULL, NULL)) >= 0) {
        if (raw_read_until(fd, "\r\n\r\n", head, sizeof(head)))
            proxy->asked++;
        raw_send(fd, proxy->answer, strlen(proxy->answer));
        (void)close(fd);
    }
    return NULL;
}

/* An account would soon be locked for a password that is tried again and again; a proxy that is busy is another matter. */
static void
a_proxys_refusal_is_not_tried_again(void **state)
{
    static const struct {
        const char *answer;
        unsigned want;
    } refusals[] = {
        { "HTTP/1.1 407 X\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n"
          "Connection: close\r\n\r\n",
                1 },
        { "HTTP/1.1 503 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 4 },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(refusals); i++) {
        struct proxy proxy = { .fd = socket(AF_INET, SOCK_STREAM, 0),
            .answer = refusals[i].answer };
        struct sockaddr_in address = { .sin_family = AF_INET,
            .sin_addr = { htonl(INADDR_LOOPBACK) } };
        socklen_t len = sizeof(address);
        struct intune_settings settings;
        struct intune *intune = NULL;
        struct fake fake;
        pthread_t thread;
        char url[64];

        assert_int_equal(bind(proxy.fd, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(listen(proxy.fd, 8), 0);
        assert_int_equal(getsockname(proxy.fd, (struct sockaddr *)&address, &len), 0);
        (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", ntohs(address.sin_port));
        assert_int_equal(pthread_create(&thread, NULL, proxy_run, &proxy), 0);

        fake_open(&fake);
        settings = fake_settings(&fake);
        settings.proxy = url;
        settings.proxy_user = "connector";
        settings.proxy_password = fake.secret_ref;
        assert_int_equal(intune_open(&settings, &intune, NULL), 0);
        assert_int_equal(beat(intune, NULL), -1);
        intune_close(intune);
        fake_close(&fake);

        (void)shutdown(proxy.fd, SHUT_RDWR);
        pthread_join(thread, NULL);
        (void)close(proxy.fd);
        assert_int_equal(proxy.asked, refusals[i].want);
    }
}

/* When the service stays down, the budget ends the retries: calls fail at their first attempt. */
static void
retries_have_a_budget(void **state)
{
    static struct fake_answer down[FAKE_SCRIPT_MAX];
    struct fake fake;
    struct intune *intune;
    unsigned before;
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(down); i++)
        down[i] = (struct fake_answer){ .status = 503, .body = "" };
    fake_open(&fake);
    intune = fake_connect(&fake);
    fake_script(&fake, FAKE_SERVICE, down, CC_COUNT(down));
    for (i = 0; i < 4; i++)
        assert_int_equal(beat(intune, NULL), -1);
    before = fake.calls[FAKE_SERVICE];
    assert_int_equal(before, 4 + 10);
    assert_int_equal(beat(intune, NULL), -1);
    assert_int_equal(fake.calls[FAKE_SERVICE], before + 1);
    intune_close(intune);
    fake_close(&fake);
}

static void
retry_after_is_obeyed(void **state)
{
    static const struct fake_answer busy[] = {
        { .status = 503, .body = "", .header = "Retry-After", .value = "1" }
    };
    struct fake fake;
    struct intune *intune;
    int64_t start;

    (void)state;
    fake_open(&fake);
    intune = fake_connect(&fake);
    fake_script(&fake, FAKE_SERVICE, busy, 1);
    start = cc_clock_mono_ms();
    assert_int_equal(beat(intune, NULL), 0);
    assert_true(cc_clock_mono_ms() - start >= 1000);
    intune_close(intune);
    fake_close(&fake);
}

/* What ended a call with a Retry-After, the next call heeds before it asks anything. */
static void
retry_after_is_obeyed_by_all_calls(void **state)
{
    static const struct fake_answer busy[] = { PLAIN(503), PLAIN(503), PLAIN(503),
        { .status = 503, .body = "", .header = "Retry-After", .value = "1" } };
    struct fake fake;
    struct intune *intune;
    int64_t start;

    (void)state;
    fake_open(&fake);
    intune = fake_connect(&fake);
    fake_script(&fake, FAKE_SERVICE, busy, CC_COUNT(busy));
    start = cc_clock_mono_ms();
    assert_int_equal(beat(intune, NULL), -1);
    assert_int_equal(fake.calls[FAKE_SERVICE], CC_COUNT(busy));
    assert_int_equal(beat(intune, NULL), 0);
    assert_true(cc_clock_mono_ms() - start >= 1000);
    intune_close(intune);
    fake_close(&fake);
}

/* A service that says when to come, but fails broadly, is not retried without measure either. */
static void
retry_after_comes_out_of_the_budget(void **state)
{
    static struct fake_answer down[FAKE_SCRIPT_MAX];
    struct fake fake;
    struct intune *intune;
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(down); i++)
        down[i] = (struct fake_answer){ .status = 503,
            .body = "",
            .header = "Retry-After",
            .value = "0" };
    fake_open(&fake);
    intune = fake_connect(&fake);
    fake_script(&fake, FAKE_SERVICE, down, CC_COUNT(down));
    for (i = 0; i < 5; i++)
        assert_int_equal(beat(intune, NULL), -1);
    assert_int_equal(fake.calls[FAKE_SERVICE], 5 + 10);
    intune_close(intune);
    fake_close(&fake);
}

/* A token is replaced at half of its life, and one that still lives serves on when that fails. */
static void
token_life(void **state)
{
    static const struct fake_answer down[] = { { .status = 503, .body = "" } };
    struct fake fake;
    struct intune *intune;

    (void)state;
    fake_open(&fake);
    intune = fake_connect(&fake);
    cc_clock_set(INT64_C(1800000000000), 1000000);
    (void)snprintf(fake.token_life, sizeof(fake.token_life), "\"1000\"");
    assert_int_equal(beat(intune, NULL), 0);
    assert_int_equal(fake.calls[FAKE_TOKEN], 2);
    cc_clock_set(INT64_C(1800000499000), 1000000 + 499000);
    assert_int_equal(beat(intune, NULL), 0);
    assert_int_equal(fake.calls[FAKE_TOKEN], 2);

    /* Half of it is over, and sign-in is down. */
    cc_clock_set(INT64_C(1800000500000), 1000000 + 500000);
    fake_script(&fake, FAKE_TOKEN, down, 1);
    assert_int_equal(beat(intune, NULL), 0);
    assert_int_equal(fake.calls[FAKE_TOKEN], 3);
    assert_string_equal(fake.authorization[FAKE_SERVICE], "Bearer tok-2");
    /* Not asked at every call. */
    assert_int_equal(beat(intune, NULL), 0);
    assert_int_equal(fake.calls[FAKE_TOKEN], 3);
    cc_clock_set(INT64_C(1800000531000), 1000000 + 531000);
    assert_int_equal(beat(intune, NULL), 0);
    assert_int_equal(fake.calls[FAKE_TOKEN], 4);
    assert_string_equal(fake.authorization[FAKE_SERVICE], "Bearer tok-3");

    /* Over and down: now it fails. */
    cc_clock_set(INT64_C(1800009000000), 1000000 + 9000000);
    {
        static const struct fake_answer refused[] = { { .status = 401,
                .body = "{\"error\":\"invalid_client\"}" } };
        struct cc_err err = { 0 };

        fake_script(&fake, FAKE_TOKEN, refused, 1);
        assert_int_equal(beat(intune, &err), -1);
        assert_int_equal(err.code, 401);
        assert_string_equal(fake.contacts, "ok refused ");
    }
    cc_clock_real();
    intune_close(intune);
    fake_close(&fake);
}

/* Endpoints are read anew every day; while that fails the old ones serve. */
static void
endpoints_are_refreshed_daily(void **state)
{
    static const struct fake_answer down[] = { { .status = 503, .body = "" } };
    struct fake fake;
    struct intune *intune;

    (void)state;
    fake_open(&fake);
    (void)snprintf(fake.token_life, sizeof(fake.token_life), "999999");
    intune = fake_connect(&fake);
    cc_clock_set(INT64_C(1800000000000), 1000000);
    assert_int_equal(beat(intune, NULL), 0);
    cc_clock_set(INT64_C(1800086399000), 1000000 + 86399000);
    assert_int_equal(beat(intune, NULL), 0);
    assert_int_equal(fake.calls[FAKE_DISCOVERY], 1);
    fake_script(&fake, FAKE_DISCOVERY, down, 1);
    cc_clock_set(INT64_C(1800086400000), 1000000 + 86400000);
    assert_int_equal(beat(intune, NULL), 0);
    assert_int_equal(fake.calls[FAKE_DISCOVERY], 2);
    assert_int_equal(beat(intune, NULL), 0);
    assert_int_equal(fake.calls[FAKE_DISCOVERY], 2);
    cc_clock_set(INT64_C(1800086461000), 1000000 + 86461000);
    assert_int_equal(beat(intune, NULL), 0);
    assert_int_equal(fake.calls[FAKE_DISCOVERY], 3);
    cc_clock_real();
    intune_close(intune);
    fake_close(&fake);
}

struct many {
    struct intune *intune;
    int rc;
    struct cc_err err;
};

static void *
beat_thread(void *arg)
{
    struct many *many = arg;

    many->rc = beat(many->intune, &many->err);
    return NULL;
}

/* Eight calls at once sign in once a scope and discover once. */
static void
one_flight_for_all(void **state)
{
    static const struct fake_answer hold[] = { { .status = 200, .hold = true } };
    struct fake fake;
    struct many many[8];
    pthread_t threads[8];
    struct intune *intune;
    char good[1024];
    size_t i;

    (void)state;
    fake_open(&fake);
    intune = fake_connect(&fake);
    fake_script(&fake, FAKE_TOKEN, hold, 1);
    for (i = 0; i < CC_COUNT(many); i++) {
        many[i] = (struct many){ .intune = intune };
        assert_int_equal(pthread_create(&threads[i], NULL, beat_thread, &many[i]), 0);
    }
    fake_wait_calls(&fake, FAKE_TOKEN, 1);
    fake_good_body(&fake, FAKE_TOKEN, good, sizeof(good));
    http_exchange_reply(fake.held[0], 200, NULL, 0, "application/json", good, strlen(good));
    for (i = 0; i < CC_COUNT(many); i++) {
        pthread_join(threads[i], NULL);
        if (many[i].rc != 0)
            fail_msg("%s", cc_err_text(&many[i].err));
    }
    assert_int_equal(fake.calls[FAKE_TOKEN], 2);
    assert_int_equal(fake.calls[FAKE_DISCOVERY], 1);
    assert_int_equal(fake.calls[FAKE_SERVICE], CC_COUNT(many));
    assert_string_equal(fake.contacts, "ok ");
    intune_close(intune);
    fake_close(&fake);
}

/* Cancelling ends a call that waits for its answer, one that waits for its next attempt, and all later ones. */
static void
cancel_ends_calls(void **state)
{
    static const struct fake_answer hold[] = { { .status = 200, .hold = true } };
    static const struct fake_answer busy[] = {
        { .status = 503, .body = "", .header = "Retry-After", .value = "3000" }
    };
    const struct fake_answer *const scripts[] = { hold, busy };
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(scripts); i++) {
        struct fake fake;
        struct many many;
        struct cc_err err = { 0 };
        struct intune_settings settings;
        pthread_t thread;

        fake_open(&fake);
        many = (struct many){ .intune = fake_connect(&fake) };
        fake_script(&fake, FAKE_SERVICE, scripts[i], 1);
        assert_int_equal(pthread_create(&thread, NULL, beat_thread, &many), 0);
        fake_wait_calls(&fake, FAKE_SERVICE, 1);
        intune_cancel(many.intune);
        pthread_join(thread, NULL);
        assert_int_equal(many.rc, -1);
        assert_int_equal(many.err.domain, CC_DOM_CANCELLED);
        assert_string_equal(fake.contacts, "");
        assert_int_equal(beat(many.intune, &err), -1);
        assert_int_equal(err.domain, CC_DOM_CANCELLED);
        settings = fake_settings(&fake);
        assert_int_equal(intune_reconfigure(many.intune, &settings, NULL), 0);
        cc_err_clear(&err);
        assert_int_equal(beat(many.intune, &err), -1);
        assert_int_equal(err.domain, CC_DOM_CANCELLED);
        if (i == 0)
            http_exchange_drop(fake.held[0]);
        intune_close(many.intune);
        fake_close(&fake);
    }
}

/* New settings count for the next call; the one under way ends at its old service. */
static void
reconfigure_meanwhile(void **state)
{
    static const struct fake_answer hold[] = { { .status = 200, .hold = true } };
    struct fake before, after;
    struct intune_settings settings;
    struct many many;
    pthread_t thread;

    (void)state;
    fake_open(&before);
    fake_open(&after);
    many = (struct many){ .intune = fake_connect(&before) };
    fake_script(&before, FAKE_SERVICE, hold, 1);
    assert_int_equal(pthread_create(&thread, NULL, beat_thread, &many), 0);
    fake_wait_calls(&before, FAKE_SERVICE, 1);
    settings = fake_settings(&after);
    assert_int_equal(intune_reconfigure(many.intune, &settings, NULL), 0);
    assert_int_equal(beat(many.intune, NULL), 0);
    assert_int_equal(after.calls[FAKE_SERVICE], 1);
    assert_int_equal(after.calls[FAKE_TOKEN], 2);
    http_exchange_reply(before.held[0], 200, NULL, 0, NULL, "{}", 2);
    pthread_join(thread, NULL);
    assert_int_equal(many.rc, 0);
    assert_int_equal(before.calls[FAKE_SERVICE], 1);
    intune_close(many.intune);
    fake_close(&before);
    fake_close(&after);
}

/* A call that began with the settings before, and fails with them, is no news of the service. */
static void
old_settings_fail_unheard(void **state)
{
    static const struct fake_answer hold[] = { { .status = 200, .hold = true } };
    struct fake before, after;
    struct intune_settings settings;
    struct many many;
    pthread_t thread;

    (void)state;
    fake_open(&before);
    fake_open(&after);
    many = (struct many){ .intune = fake_connect(&before) };
    assert_int_equal(beat(many.intune, NULL), 0);
    fake_script(&before, FAKE_SERVICE, hold, 1);
    assert_int_equal(pthread_create(&thread, NULL, beat_thread, &many), 0);
    fake_wait_calls(&before, FAKE_SERVICE, 2);
    settings = fake_settings(&after);
    assert_int_equal(intune_reconfigure(many.intune, &settings, NULL), 0);
    assert_int_equal(beat(many.intune, NULL), 0);
    http_exchange_reply(before.held[0], 302, NULL, 0, NULL, "{}", 2);
    pthread_join(thread, NULL);
    assert_int_equal(many.rc, -1);
    assert_string_equal(before.contacts, "ok ");
    assert_string_equal(after.contacts, "");
    intune_close(many.intune);
    fake_close(&before);
    fake_close(&after);
}

static void
secret_is_read_each_time(void **state)
{
    struct fake fake;
    struct intune *intune;
    struct cc_err err = { 0 };
    FILE *file;

    (void)state;
    fake_open(&fake);
    intune = fake_connect(&fake);
    assert_int_equal(unlink(fake.secret_file), 0);
    assert_int_equal(beat(intune, &err), -1);
    assert_non_null(strstr(err.text, "client secret"));
    assert_int_equal(fake.calls[FAKE_TOKEN], 0);
    assert_string_equal(fake.contacts, "unable ");
    file = fopen(fake.secret_file, "w");
    assert_non_null(file);
    assert_int_equal(fchmod(fileno(file), 0600), 0);
    (void)fputs("new+one", file);
    (void)fclose(file);
    assert_int_equal(beat(intune, NULL), 0);
    assert_non_null(strstr(fake.body[FAKE_TOKEN], "client_secret=new%2Bone"));
    intune_close(intune);
    fake_close(&fake);
}

/* The token leaves the text that is then parsed, whatever stands around it. */
static void
token_is_cut_out(void **state)
{
    static const struct {
        const char *text, *want;
    } texts[] = {
        { "{\"access_token\":\"abc\"}", "abc" },
        { " { \"a\" : \"access_token\" , \"access_token\" : \"abc\" } ", "abc" },
        { "{\"a\":{\"access_token\":\"inner\"},\"access_token\":\"abc\"}", "abc" },
        { "{\"a\":\"\\\"access_token\\\":\\\"evil\\\"\",\"access_token\":\"a\\/b\"}", "a/b" },
        { "{\"access_token\":\"\"}", NULL },
        { "{\"access_token\":null}", NULL },
        { "{\"access_token\":7}", NULL },
        { "{\"access_token\":\"abc\",\"access_token\":\"def\"}", NULL },
        { "{\"access_token\":\"a b\"}", NULL },
        { "{\"access_token\":\"a\\u0041\"}", NULL },
        { "{\"access_token\":\"abc", NULL },
        { "{\"access_token\":\"abc\\", NULL },
        { "{\"access_token\":", NULL },
        { "{\"access_token\"", NULL },
        { "{\"a\":{\"access_token\":\"inner\"}}", NULL },
        { "[\"access_token\",\"abc\"]", NULL },
        { "{\"ACCESS_TOKEN\":\"abc\"}", NULL },
        { "\"", NULL },
        { "", NULL },
        { "{\"access_token\":\"abc\"} x", NULL },
        { "{\"access_token\":\"abc\",\"expires_in\":-1}", NULL },
        { "{\"access_token\":\"abc\",\"expires_in\":\"soon\"}", NULL },
        { "{\"access_token\":\"abc\",\"expires_in\":99999999999999}", "abc" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(texts); i++) {
        struct cc_buf text = CC_BUF_INIT(1000);
        struct cc_secret *token = NULL;
        struct cc_err err = { 0 };
        int64_t life = 0;
        int rc;

        assert_int_equal(cc_buf_add_str(&text, texts[i].text, NULL), 0);
        rc = intune_token_read(&text, &token, &life, &err);
        if ((rc == 0) != (texts[i].want != NULL))
            fail_msg("%s: %d %s", texts[i].text, rc, cc_err_text(&err));
        if (rc == 0) {
            assert_string_equal(cc_secret_str(token), texts[i].want);
            assert_null(strstr(cc_buf_str(&text), texts[i].want));
            assert_true(life >= 60000 && life <= 86400000);
            cc_secret_free(token);
        } else {
            assert_null(token);
            assert_int_equal(err.domain, CC_DOM_INPUT);
        }
        cc_buf_free(&text);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_call),
        cmocka_unit_test(service_that_lies),
        cmocka_unit_test(certificate_is_wanted),
        cmocka_unit_test(account_moves),
        cmocka_unit_test(a_bad_address_is_asked_for_again),
        cmocka_unit_test(clock_is_compared),
        cmocka_unit_test(clock_is_compared_when_sign_in_fails),
        cmocka_unit_test(contact_is_told_when_it_changes),
        cmocka_unit_test(a_proxys_refusal_is_not_tried_again),
        cmocka_unit_test(retries_have_a_budget),
        cmocka_unit_test(retry_after_is_obeyed),
        cmocka_unit_test(retry_after_is_obeyed_by_all_calls),
        cmocka_unit_test(retry_after_comes_out_of_the_budget),
        cmocka_unit_test(token_life),
        cmocka_unit_test(endpoints_are_refreshed_daily),
        cmocka_unit_test(one_flight_for_all),
        cmocka_unit_test(cancel_ends_calls),
        cmocka_unit_test(reconfigure_meanwhile),
        cmocka_unit_test(old_settings_fail_unheard),
        cmocka_unit_test(secret_is_read_each_time),
        cmocka_unit_test(token_is_cut_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
