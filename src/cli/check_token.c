/* SPDX-License-Identifier: MIT */
#include "check_int.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "authority.h"
#include "base/json.h"
#include "base/secret.h"
#include "base/text.h"
#include "configure.h"
#include "hsm/admin.h"
#include "token_match.h"
#include "upkeep/machine.h"
#include "upkeep/pins.h"

#define REFUSED_FILE "pin-refused" /* in the state directory, as certconnector-token(8) says */
#define RSA_BITS_MIN 2048

/* ---- the module and the token in it: what can be seen without a PIN ---- */

static void
say_no_module(struct check *c, const char *cause)
{
    struct upkeep_finding *f = check_say(c, "module", UPKEEP_ERROR,
            "the PKCS#11 module %s cannot be used", c->config->token.module);

    upkeep_cause(f, "%s", cause);
    upkeep_cure(f,
            "install the package that has the module (for SoftHSM: softhsm2), or name the right file in [token] "
            "module");
}

/* "one, two", of the tokens that are there. */
static void
list_labels(const struct hsm_admin_token *tokens, size_t count, char *ret, size_t size)
{
    size_t len = 0;

    (void)cc_strcpy(ret, size, "none that is initialised and can be read");
    for (size_t i = 0; i < count; i++)
        if (tokens[i].initialised && len < size)
            len += (size_t)snprintf(ret + len, size - len, "%s\"%s\" (serial %s)",
                    len == 0 ? "" : ", ", tokens[i].label, tokens[i].serial);
}

static void
say_not_one(struct check *c, const struct hsm_admin_token *tokens, size_t count, size_t matches)
{
    const char *uri = c->config->token.uri;
    struct upkeep_finding *f;
    char labels[320];

    list_labels(tokens, count, labels, sizeof(labels));
    if (matches == 0) {
        f = check_say(c, "token", UPKEEP_ERROR, "no token is named by [token] uri = %s", uri);
        upkeep_cause(f, "tokens that are there: %s%s", labels,
                check_is_softhsm(c)
                        ? "; SoftHSM shows only those whose files the daemon's user can read"
                        : "");
        upkeep_cure(f,
                "correct [token] uri to pkcs11:token=LABEL of the one that is meant, or make it with certconnector "
                "token init (SoftHSM: scripts/token-init.sh)");
        return;
    }
    f = check_say(c, "token", UPKEEP_ERROR, "%zu tokens are named by [token] uri = %s", matches,
            uri);
    upkeep_cause(f, "which one is meant cannot be told: %s", labels);
    upkeep_cure(f, "add the serial number to [token] uri: %s;serial=NUMBER", uri);
}

static void
judge_token(struct check *c, const struct hsm_admin_token *token)
{
    struct upkeep_finding *f;

    if (!token->pin_locked && token->pin_initialised) {
        check_say(c, "token", UPKEEP_OK, "token \"%s\" (%s %s, serial %s)", token->label,
                token->manufacturer, token->model, token->serial);
        return;
    }
    f = check_say(c, "token", UPKEEP_ERROR,
            token->pin_locked ? "token \"%s\" is locked" : "token \"%s\" has no user PIN",
            token->label);
    upkeep_cause(f, token->pin_locked ? "wrong PINs were tried too often"
                                      : "it was initialised, and that was all");
    upkeep_cure(f, token->pin_locked
                           ? "its security officer sets a new PIN, with the vendor's tool"
                           : "set one: certconnector token init with its label, and the PINs");
}

/* The one that is meant; false: said why there is none. */
static bool
find_token(struct check *c)
{
    const struct hsm_admin_target target = { .helper = c->config->token.helper,
        .module = c->config->token.module,
        .init_args = c->config->token.init_args };
    struct hsm_admin_token *tokens = NULL;
    const struct hsm_admin_token *found = NULL;
    struct cc_err err = { 0 };
    size_t count = 0, matches = 0;

    if (hsm_admin_list_tokens(&target, &tokens, &count, &err) != 0) {
        say_no_module(c, cc_err_text(&err));
        return false;
    }
    check_say(c, "module", UPKEEP_OK, "the PKCS#11 module %s", target.module);
    for (size_t i = 0; i < count; i++) {
        if (!cli_token_matches(c->config->token.uri, &tokens[i]))
            continue;
        found = &tokens[i];
        matches++;
    }
    if (matches == 1)
        judge_token(c, found);
    else
        say_not_one(c, tokens, count, matches);
    free(tokens);
    return matches == 1;
}

/* ---- of the running daemon ---- */

static void
say_refused(struct check *c, bool remembered, const char *cause)
{
    struct upkeep_finding *f = check_say(c, remembered ? "pin-remembered" : "pin", UPKEEP_ERROR,
            remembered ? "the token refused this PIN before, and it was not tried again"
                       : "the token refuses the PIN");

    upkeep_cause(f, "%s", cause);
    upkeep_cure(f,
            "put the right PIN into %s: a changed PIN is noticed and tried once; only where it was right all the "
            "time, and the token was changed, have the refusal forgotten (certconnector token forget-pins)",
            c->config->token.pin);
}

static void
ask_daemon(struct check *c)
{
    json_object *token = check_object(c->status, "token");
    const char *state = check_text(token, "state");
    struct upkeep_finding *f;

    if (strcmp(state, hsm_state_name(HSM_STATE_OPEN)) == 0) {
        check_say(c, "token", UPKEEP_OK, "the daemon has token \"%s\" open and is logged in",
                check_text(token, "label"));
        return;
    }
    if (strcmp(state, hsm_state_name(HSM_STATE_PIN_REFUSED)) == 0) {
        say_refused(c, false, check_text(token, "lastError"));
        return;
    }
    f = check_say(c, "token", UPKEEP_ERROR, "the daemon has no token: it is %s", state);
    upkeep_cause(f, "%s", check_text(token, "lastError"));
    upkeep_cure(f,
            "connect the token, or start its server; the daemon tries again by itself, and certconnector token list "
            "shows what the module sees");
}

void
check_module(struct check *c)
{
    if (c->status != NULL) {
        ask_daemon(c);
        return;
    }
    if (access(c->config->token.module, R_OK) != 0) {
        say_no_module(c, strerror(errno)); /* NOLINT(concurrency-mt-unsafe) */
        return;
    }
    c->token_found = find_token(c);
}

/* ---- logging in, once ---- */

static int
memory_salt(void *arg, const char *token, uint8_t ret_salt[HSM_PIN_SALT], uint32_t *ret_iterations,
        struct cc_err *err)
{
    const struct check *c = arg;

    return c->pins.salt(c->pins.arg, token, ret_salt, ret_iterations, err);
}

static int
memory_ask(void *arg, const struct hsm_pin *pin, bool token_tells, enum hsm_pin_answer *ret_answer,
        struct cc_err *why)
{
    struct check *c = arg;

    if (c->pins.ask(c->pins.arg, pin, token_tells, ret_answer, why) != 0)
        return -1;
    c->pin_remembered =
            c->pin_remembered || *ret_answer == HSM_PIN_REFUSED || *ret_answer == HSM_PIN_HELP;
    return 0;
}

static int
memory_tell(void *arg, const struct hsm_pin *pin, enum hsm_pin_outcome outcome, const char *reason,
        struct cc_err *err)
{
    const struct check *c = arg;

    return c->pins.tell(c->pins.arg, pin, outcome, reason, err);
}

/* Which file it is: a new refusal replaces it. */
static ino_t
refusal_file(const struct check *c)
{
    char path[PATH_MAX];
    struct stat info;

    if ((size_t)snprintf(path, sizeof(path), "%s/" REFUSED_FILE,
                c->config->connector.state_directory) >= sizeof(path) ||
            stat(path, &info) != 0)
        return 0;
    return info.st_ino;
}

static bool
can_load_pin(struct check *c)
{
    const char *reference = c->config->token.pin;
    struct cc_err err = { 0 };
    struct cc_secret *pin = cc_secret_load(reference, &err);
    struct upkeep_finding *f;

    if (pin != NULL) {
        cc_secret_free(pin);
        return true;
    }
    if (cc_starts_with(reference, "credential:")) {
        check_not_tried(c, "pin", "logging in to the token",
                "the PIN is a credential that systemd gives to the service alone; a running daemon can be asked");
        return false;
    }
    f = check_say(c, "pin", UPKEEP_ERROR, "the PIN cannot be read");
    upkeep_cause(f, "%s", cc_err_text(&err));
    upkeep_cure(f,
            "put the PIN into %s, readable for the daemon's user alone (check --only files says how)",
            reference);
    return false;
}

static void
say_not_open(struct check *c, const struct cc_err *err)
{
    struct upkeep_finding *f;

    if (err->domain == CC_DOM_TOKEN && err->code == HSM_FAULT_PIN_REFUSED) {
        say_refused(c, c->pin_remembered, cc_err_text(err));
        return;
    }
    f = check_say(c, "token", UPKEEP_ERROR, "the token cannot be opened");
    upkeep_cause(f, "%s", cc_err_text(err));
    upkeep_cure(f, "look at what the vendor's tool says of the token, and at its server's log");
}

void
check_pin(struct check *c)
{
    struct hsm_settings settings = cli_token_settings(c->config);
    struct cc_err err = { 0 };
    ino_t before;

    if (c->status != NULL || !c->token_found || !can_load_pin(c))
        return;
    if (c->store != NULL) {
        c->pins = upkeep_pins_memory(c->store);
        settings.pin_memory = (struct hsm_pin_memory){ memory_salt, memory_ask, memory_tell, c };
    }
    before = refusal_file(c);
    if (hsm_open(&settings, &c->hsm, &err) == 0 &&
            hsm_wait_open(c->hsm, CHECK_NETWORK_MS, &err) == 0) {
        check_say(c, "pin", UPKEEP_OK, "the token accepts the PIN");
        return;
    }
    c->pin_remembered = c->pin_remembered || (before != 0 && before == refusal_file(c));
    say_not_open(c, &err);
    hsm_close(c->hsm);
    c->hsm = NULL;
}

/* ---- keys ---- */

/* The role whose work a key of [keys] does: the one that the identity changes to does the identity's. */
static const char *
work_of(const char *role)
{
    return strcmp(role, "identity-next") == 0 ? hsm_role_name(HSM_ROLE_IDENTITY) : role;
}

/* Another role that the key has; NULL: none. */
static const char *
role_beside(const struct config *config, const char *role, const char *uri)
{
    const char *sign = hsm_role_name(HSM_ROLE_SCEP_RA_SIGN);

    for (size_t i = 0; i < config->key_count; i++) {
        const struct config_pair *key = &config->keys[i];

        if (hsm_role_parse(key->name) >= 0 && strcmp(key->name, role) != 0 &&
                strcmp(key->value, uri) == 0)
            return key->name;
    }
    /* signs SCEP answers, too, where no other does */
    return strcmp(role, hsm_role_name(HSM_ROLE_SCEP_RA_ENCRYPT)) == 0 &&
                           config_key(config, sign) == NULL
                   ? sign
                   : NULL;
}

/* What root generates in a SoftHSM token is root's alone. */
static void
add_softhsm_rights(struct check *c, struct upkeep_finding *f)
{
    const struct group *group = getgrgid(getegid()); /* NOLINT(concurrency-mt-unsafe) */
    char folder[PATH_MAX];

    if (group == NULL || !upkeep_softhsm_folder(c->config, folder, sizeof(folder)))
        return;
    UPKEEP_COMMAND(f, "chgrp", "-R", group->gr_name, folder);
    UPKEEP_COMMAND(f, "chmod", "-R", "u=rwX,g=rX,o=", folder);
}

/* How to make it, as configure would; nothing where that takes something that cannot be known. */
static void
add_generate(struct check *c, struct upkeep_finding *f, const char *role, const char *uri,
        const char *label)
{
    const char *also = role_beside(c->config, role, uri);
    const unsigned roles =
            1U << hsm_role_parse(role) | (also != NULL ? 1U << hsm_role_parse(also) : 0);
    const char *type = plan_key_type(NULL, roles, NULL);
    const char *words[16] = { "certconnector", "key", "generate", "--role", role };
    size_t count = 5;

    if (type == NULL)
        return;
    if (also != NULL) {
        words[count++] = "--also";
        words[count++] = also;
    }
    words[count++] = "--type";
    words[count++] = type;
    words[count++] = "--label";
    words[count++] = label;
    words[count++] = "--config";
    words[count++] = c->path;
    upkeep_command(f, words, count);
    add_softhsm_rights(c, f);
}

/* Whether something else on the token has the label: seen without a PIN, so of what is public alone. */
static bool
is_label_taken(const struct check *c, const char *label)
{
    const struct hsm_admin_target target = { .helper = c->config->token.helper,
        .module = c->config->token.module,
        .init_args = c->config->token.init_args,
        .uri = c->config->token.uri };
    struct hsm_admin_key *keys = NULL;
    size_t count = 0;
    bool taken = false;

    if (hsm_admin_list_keys(&target, &keys, &count, NULL) != 0)
        return false;
    for (size_t i = 0; i < count; i++)
        taken = taken || strcmp(keys[i].label, label) == 0;
    free(keys);
    return taken;
}

static void
say_missing(struct check *c, const char *role, const char *uri, const char *cause)
{
    struct upkeep_finding *f = check_say(c, "key", UPKEEP_ERROR,
            "the %s key %s is not on the token, or not the only one", role, uri);
    char label[128];

    upkeep_cause(f, "%s", cause);
    upkeep_cure(f,
            "correct the key's URI to that of one key (certconnector key list shows them all), bring the key back "
            "from a backup, or make a new one where nothing hangs on the old");
    if (!cli_key_label(uri, label, sizeof(label)) || is_label_taken(c, label))
        return;
    add_generate(c, f, work_of(role), uri, label);
}

static void
say_unusable(struct check *c, const char *role, const char *uri, const char *cause)
{
    struct upkeep_finding *f = check_say(c, "key-use", UPKEEP_ERROR,
            "the %s key %s cannot do what it is for", role, uri);

    upkeep_cause(f, "%s", cause);
    upkeep_cure(f,
            "name a key of the right kind and usages in [keys] (certconnector key list shows them), made by "
            "certconnector key generate --role %s",
            work_of(role));
}

static void
judge_size(struct check *c, struct hsm_key *key, const char *role, const char *uri)
{
    EVP_PKEY *public_key = NULL;
    struct upkeep_finding *f;
    int bits;

    if (hsm_key_role(key) == HSM_ROLE_SEAL) {
        check_say(c, "key", UPKEEP_OK, "the %s key seals and unseals", role);
        return;
    }
    if (hsm_key_get1_public(key, &public_key, NULL) != 0)
        return;
    bits = EVP_PKEY_get_bits(public_key);
    if (EVP_PKEY_is_a(public_key, "RSA") && bits < RSA_BITS_MIN) {
        f = check_say(c, "key-size", UPKEEP_ERROR, "the %s key %s has %d bits", role, uri, bits);
        upkeep_cause(f, "RSA keys below %d bits are broken, and refused by those who verify",
                RSA_BITS_MIN);
        upkeep_cure(f,
                "make a new one with certconnector key generate --role %s, and name it in [keys]",
                work_of(role));
    } else {
        check_say(c, "key", UPKEEP_OK, "the %s key works (%s, %d bits)", role,
                EVP_PKEY_get0_type_name(public_key), bits);
    }
    EVP_PKEY_free(public_key);
}

static void
try_key(struct check *c, const char *role, const char *uri)
{
    const int number = hsm_role_parse(work_of(role));
    struct hsm_key *key = NULL;
    struct cc_err err = { 0 };

    if (number < 0)
        return;
    if (hsm_key_get0(c->hsm, (enum hsm_role)number, uri, &key, &err) == 0 &&
            hsm_key_health(key, &err) == 0)
        judge_size(c, key, role, uri);
    else if (err.domain == CC_DOM_TOKEN && err.code == HSM_FAULT_KEY_NOT_FOUND)
        say_missing(c, role, uri, cc_err_text(&err));
    else
        say_unusable(c, role, uri, cc_err_text(&err));
}

/* What the daemon tried a moment ago is not tried again. */
static void
ask_keys(struct check *c)
{
    json_object *list = NULL;

    if (cc_json_get_array(c->status, "keys", &list, NULL) != 0 || list == NULL)
        return;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        json_object *key = json_object_array_get_idx(list, i);
        const char *state = check_text(key, "state");

        if (strcmp(state, "good") == 0)
            check_say(c, "key", UPKEEP_OK, "the %s key works", check_text(key, "role"));
        else if (strcmp(state, "bad") == 0)
            say_unusable(c, check_text(key, "role"), check_text(key, "uri"),
                    check_text(key, "error"));
    }
}

/* Each key once. */
struct tried {
    const char *role[64], *uri[64];
    size_t count;
};

static void
try_once(struct check *c, struct tried *tried, const char *role, const char *uri)
{
    if (uri == NULL || tried->count == CC_COUNT(tried->uri))
        return;
    for (size_t i = 0; i < tried->count; i++)
        if (strcmp(tried->role[i], role) == 0 && strcmp(tried->uri[i], uri) == 0)
            return;
    tried->role[tried->count] = role;
    tried->uri[tried->count++] = uri;
    try_key(c, role, uri);
}

void
check_keys(struct check *c)
{
    const struct config *config = c->config;
    struct tried tried = { .count = 0 };

    if (c->status != NULL) {
        ask_keys(c);
        return;
    }
    if (c->hsm == NULL) {
        check_not_tried(c, "key", "the keys", "the token is not open");
        return;
    }
    for (size_t i = 0; i < config->key_count; i++)
        try_once(c, &tried, config->keys[i].name, config->keys[i].value);
    for (size_t i = 0; i < config->key_alias_count; i++)
        try_once(c, &tried, hsm_role_name(HSM_ROLE_PFX_IMPORT), config->key_aliases[i].value);
    try_once(c, &tried, hsm_role_name(HSM_ROLE_IDENTITY), config->service.client_key);
    for (size_t i = 0; i < config->ca_count; i++) {
        try_once(c, &tried, hsm_role_name(HSM_ROLE_CA), config->cas[i].key);
        try_once(c, &tried, hsm_role_name(HSM_ROLE_OCSP), config->cas[i].ocsp_key);
    }
}
