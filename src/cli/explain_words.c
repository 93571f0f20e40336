/* SPDX-License-Identifier: MIT */
#include "explain_int.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "eventlog/catalogue.h"

/* ---- the daemon's state ---- */

static const char *
state_of(const struct explain *e, const char *part, const char *name)
{
    json_object *obj = NULL;
    const char *text = NULL;

    if (e->daemon == NULL || cc_json_get_object(e->daemon, part, &obj, NULL) != 0 || obj == NULL ||
            cc_json_get_str(obj, name, EXPLAIN_TEXT_MAX, &text, NULL) != 0)
        return NULL;
    return text;
}

static bool
is_in_order(const struct explain *e, const char *part, const char *name, const char *good)
{
    const char *state = state_of(e, part, name);

    return state == NULL || strcmp(state, good) == 0;
}

/* Whether the instance that answers us is another one than has the request. */
static bool
is_elsewhere(const struct explain *e)
{
    const char *own = NULL;

    return e->facts.holder[0] != '\0' && e->daemon != NULL &&
           cc_json_get_str(e->daemon, "connectorId", EXPLAIN_TEXT_MAX, &own, NULL) == 0 &&
           own != NULL && strcmp(own, e->facts.holder) != 0;
}

/* What holds up everything; NULL: nothing of the kind. */
static const char *
trouble_of_all(const struct explain *e)
{
    if (!is_in_order(e, "store", "state", "ok"))
        return "; the state store is out of order";
    if (!is_in_order(e, "eventLog", "state", "ok"))
        return "; the event log is out of order";
    return NULL;
}

static const char *
trouble_at(const struct explain *e)
{
    const char *all = trouble_of_all(e);

    if (is_elsewhere(e))
        return "";
    if (e->daemon == NULL)
        return "; no daemon answers here";
    if (all != NULL)
        return all;
    if (e->facts.stage == EXPLAIN_STAGE_SERVICE)
        return is_in_order(e, "service", "contact", "ok") ? ""
                                                          : "; the service does not answer well";
    if (e->facts.stage == EXPLAIN_STAGE_WORK || e->facts.stage == EXPLAIN_STAGE_CA)
        return is_in_order(e, "token", "state", "open") ? "" : "; the token is not open";
    return "";
}

/* ---- what it waits for ---- */

static bool
is_tried_again(const struct explain_facts *f)
{
    return f->failure[0] != '\0' && f->outcome == EXPLAIN_WAITS && f->stage != EXPLAIN_STAGE_PERSON;
}

void
explain_waits(const struct explain *e, char *ret, size_t size)
{
    const struct explain_facts *f = &e->facts;
    const char *what = "";

    ret[0] = '\0';
    switch (f->stage) {
    case EXPLAIN_STAGE_WORK:
        what = "its work to be done";
        break;
    case EXPLAIN_STAGE_CA:
        what = "the CA";
        break;
    case EXPLAIN_STAGE_PERSON:
        what = "an administrator of the CA";
        break;
    case EXPLAIN_STAGE_SERVICE:
        what = strcmp(f->kind, "SCEP request") == 0 ? "the service to take the news of how it ended"
                                                    : "the service to take its result";
        break;
    case EXPLAIN_STAGE_EVENT:
        what = "its event in the admin log to be written";
        break;
    case EXPLAIN_STAGE_NONE:
        if (f->outcome == EXPLAIN_WAITS)
            (void)snprintf(ret, size,
                    "nothing here: it is not in the journal, so it went back to the "
                    "service, or another state store has it");
        else if (f->comes_again)
            (void)snprintf(ret, size,
                    "the service to give it out again, to this or another connector");
        return;
    }
    (void)snprintf(ret, size, "%s%s%s%s%s", what, is_elsewhere(e) ? ", at connector " : "",
            is_elsewhere(e) ? f->holder : "", is_tried_again(f) ? ", and is tried again" : "",
            trouble_at(e));
}

/* ---- what to do ---- */

/* By the code of a failure, as on the wire. */
static const char *
advice_for_code(const char *code)
{
    static const struct {
        const char *code, *advice;
    } table[] = {
        { "BadRequest",
                "compare [ca] authority, [profile] templates and [pkcs] with what the request asks for; the "
                "failure names what is missing" },
        { "ParameterDataInvalidError",
                "the profile here does not allow what the service's profile asks for: change one of the two; the "
                "failure names the member" },
        { "NotSupportedError",
                "change the profile at the service to something that this connector and its token can do; with "
                "imported PFX see [pfx-import] reencrypt and [token] allow-raw-rsa" },
        { "RecipientNotAccepted",
                "the device's certificate is malformed, out of its time, or its key too short: have the device "
                "enrol anew" },
        { "DataSerializationError",
                "the service sent something malformed: report it there, with the request id" },
        { "CaDenied",
                "the CA refused, or an administrator did: the failure says why; see certconnector ca pending" },
        { "CaUnavailable", "look at event 73 and at the CA; the request can be asked for again" },
        { "CaPending", "an administrator of the CA must decide: certconnector ca pending" },
        { "CryptographyError", "look at certconnector status and at events 21 to 25 of the token" },
        { "TokenUnavailable", "look at certconnector status and at events 21 to 25 of the token" },
        { "KeyNotFound",
                "no key is set for the name that the upload was made with: add it to [key-alias], or upload again "
                "with a key that is there" },
        { "DecryptFailed",
                "what was uploaded was encrypted for another key: upload the PFX again (certconnector pfx import "
                "--update) with the public key of this token" },
        { "CertificateNotFoundError",
                "the CA does not know this serial number: compare CA and serial number at "
                "the service" },
        { "ConflictError", "the certificate is revoked or on hold already, for another reason" },
    };

    for (size_t i = 0; i < CC_COUNT(table); i++)
        if (strcmp(table[i].code, code) == 0)
            return table[i].advice;
    return NULL;
}

/* By the event that told of it. */
static const char *
advice_for_event(int event)
{
    switch (event) {
    case EVENT_SCEP_VERIFY_FAILURE:
        return "a challenge serves one request for what it was made for, and for a time only: have the device sync, "
               "which gives it a new one; when all devices fail, compare the profile at the service with what they "
               "ask for, and look at events 30 and 32";
    case EVENT_SCEP_ISSUED_FAILURE:
    case EVENT_SCEP_REQUEST_ISSUED_FAILURE:
        return "the failure says what the CA or the profile does not allow: change the profile here or the one at "
               "the service, and have the device sync";
    case EVENT_SCEP_REQUEST_UPLOAD_FAILURE:
        return "the service did not want the news, so it does not show this certificate: have the device sync";
    case EVENT_REVOKE_FAILURE:
    case EVENT_REVOKE_REQUEST_FAILURE:
        return "the failure says why; certconnector ca revoke can do it by hand";
    default:
        return "the failure says why; certconnector check-config and certconnector status show what is wrong here";
    }
}

static const char *
advice_for_failure(const struct explain *e)
{
    const char *advice = advice_for_code(e->facts.code);

    return advice != NULL ? advice : advice_for_event(e->facts.failure_event);
}

static const char *
advice_for_waiting(const struct explain *e)
{
    if (is_elsewhere(e))
        return "";
    if (e->daemon == NULL)
        return "start the daemon (systemctl start certconnectord), it goes on where it was; or, when it runs, see why "
               "it does not answer: certconnector status";
    if (trouble_of_all(e) != NULL)
        return "certconnector status says why; make room or mend the disk, it goes on by itself";
    if (e->facts.stage == EXPLAIN_STAGE_SERVICE && !is_in_order(e, "service", "contact", "ok"))
        return "certconnector status says why; look at events 30, 32, 34 and 35, it goes on by itself";
    if (!is_in_order(e, "token", "state", "open"))
        return "certconnector status says why; look at events 21 and 23, it goes on by itself";
    if (e->facts.failure[0] != '\0')
        return "nothing, unless it lasts: the newest failure says why";
    return "nothing: it is under way";
}

void
explain_advice(const struct explain *e, char *ret, size_t size)
{
    const struct explain_facts *f = &e->facts;

    ret[0] = '\0';
    if (f->approval[0] != '\0' && f->outcome == EXPLAIN_WAITS)
        (void)snprintf(ret, size,
                "decide on it: certconnector ca approve --ca %s %s, or ca deny; a device comes for it "
                "by itself",
                f->ca, f->approval);
    else if (f->outcome == EXPLAIN_FAILED && !f->comes_again)
        (void)snprintf(ret, size, "%s", advice_for_failure(e));
    else if (f->outcome == EXPLAIN_WAITS && f->stage == EXPLAIN_STAGE_NONE)
        (void)snprintf(ret, size,
                "see at the service how it stands, and with certconnector explain at the other "
                "connectors");
    else if (f->outcome == EXPLAIN_WAITS || f->stage != EXPLAIN_STAGE_NONE)
        (void)snprintf(ret, size, "%s", advice_for_waiting(e));
    else if (f->comes_again)
        (void)snprintf(ret, size, "nothing, unless it fails each time: %s", advice_for_failure(e));
}
