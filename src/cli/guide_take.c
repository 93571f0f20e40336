/* SPDX-License-Identifier: MIT */

/* Answers to the questions of configure: what they mean, and whether they are good. */

#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/text.h"
#include "guide.h"
#include "pki/name.h"

#define NAME_MAX_LEN 256

static const struct {
    unsigned bit;
    const char *name, *what;
} features[] = {
    { CONFIG_PKCS, "pkcs", "certificates on request, with their keys" },
    { CONFIG_PFX_IMPORT, "pfx-import", "PFX files that an administrator uploaded" },
    { CONFIG_SCEP, "scep", "devices that enrol by themselves" },
    { CONFIG_REVOCATION, "revocation", "certificates that the service wants revoked" },
};

/* ---- settings ---- */

const char *
guide_setting_name(const struct guide *g, const struct question *q, char *text, size_t size)
{
    const char *place = strstr(q->name, "NAME");
    const char *name = cc_starts_with(q->name, "ca.") ? g->ca : g->profile;

    if (place == NULL)
        (void)snprintf(text, size, "%s", q->name);
    else
        (void)snprintf(text, size, "%.*s%s%s", (int)(place - q->name), q->name, name, place + 4);
    return text;
}

bool
guide_value(const struct guide *g, const char *name, char ret[ASK_ANSWER_MAX])
{
    char *value = NULL;
    bool there = plan_get(g->plan, name, &value, NULL) == 0 && value != NULL;

    if (there)
        (void)cc_strcpy(ret, ASK_ANSWER_MAX, value);
    free(value);
    return there;
}

/* The text of an error about a setting, without where it was said, which is here. */
static int
check_setting(const char *name, const char *value, struct cc_err *err)
{
    static const char place[] = "command line: ";
    struct cc_buf text = CC_BUF_INIT((size_t)2 * ASK_ANSWER_MAX);
    struct cc_err why = { 0 };
    int rc = cc_buf_printf(&text, &why, "%s=%s", name, value);

    if (rc == 0)
        rc = config_check_setting(cc_buf_str(&text), &why);
    cc_buf_free(&text);
    if (rc == 0)
        return 0;
    return cc_err_set(err, why.domain, why.code, "%s",
            cc_starts_with(why.text, place) ? why.text + strlen(place) : why.text);
}

int
guide_take_setting(struct guide *g, const struct question *q, const char *answer,
        struct cc_err *err)
{
    char name[NAME_MAX_LEN], present[ASK_ANSWER_MAX];
    const char *fallback;

    guide_setting_name(g, q, name, sizeof(name));
    if (q->optional && strcmp(answer, "none") == 0)
        return plan_set(g->plan, name, NULL, err);
    if (answer[0] == '\0')
        return cc_err_set(err, CC_DOM_USAGE, 0, "An answer is needed, as in %s",
                config_example(name));
    fallback = config_default(name);
    if (!guide_value(g, name, present) && fallback != NULL && strcmp(fallback, answer) == 0)
        return 0;
    if (check_setting(name, answer, err) != 0)
        return -1;
    return plan_set(g->plan, name, answer, err);
}

/* Which of count things is meant by its number; 0: none. */
static size_t
number_of(const char *answer, size_t count)
{
    int64_t number = 0;

    return count > 0 && cc_parse_int(answer, 1, (int64_t)count, &number, NULL) == 0 ? (size_t)number
                                                                                    : 0;
}

/* ---- features ---- */

unsigned
guide_features(const struct guide *g)
{
    char value[ASK_ANSWER_MAX], *rest = NULL;
    unsigned bits = 0;

    if (!guide_value(g, "connector.features", value))
        return 0;
    for (char *word = strtok_r(value, ", ", &rest); word != NULL;
            word = strtok_r(NULL, ", ", &rest)) {
        for (size_t i = 0; i < CC_COUNT(features); i++) {
            if (strcmp(word, features[i].name) == 0)
                bits |= features[i].bit;
        }
    }
    return bits;
}

void
guide_show_features(struct guide *g)
{
    (void)g;
    for (size_t i = 0; i < CC_COUNT(features); i++)
        printf("  %zu  %-12s %s\n", i + 1, features[i].name, features[i].what);
}

int
guide_take_features(struct guide *g, const struct question *q, const char *answer,
        struct cc_err *err)
{
    struct cc_buf list = CC_BUF_INIT(ASK_ANSWER_MAX);
    char words[ASK_ANSWER_MAX], *rest = NULL;
    int rc = 0;

    if (strcmp(answer, "none") == 0)
        return plan_set(g->plan, q->name, NULL, err);
    (void)cc_strcpy(words, sizeof(words), answer);
    for (char *word = strtok_r(words, ", ", &rest); word != NULL && rc == 0;
            word = strtok_r(NULL, ", ", &rest)) {
        size_t number = number_of(word, CC_COUNT(features));

        rc = cc_buf_printf(&list, err, "%s%s", list.len == 0 ? "" : ", ",
                number > 0 ? features[number - 1].name : word);
    }
    if (rc == 0)
        rc = guide_take_setting(g, q, cc_buf_str(&list), err);
    cc_buf_free(&list);
    return rc;
}

/* ---- the token ---- */

void
guide_show_modules(struct guide *g)
{
    if (g->module_count == 0)
        ask_print(2, "None was found at its usual place; write the path of yours.");
    for (size_t i = 0; i < g->module_count; i++)
        printf("  %zu  %s\n", i + 1, g->module[i]);
}

static struct hsm_admin_target
target_of(const struct guide *g, char module[ASK_ANSWER_MAX], char helper[ASK_ANSWER_MAX],
        char init_args[ASK_ANSWER_MAX])
{
    return (struct hsm_admin_target){
        .module = guide_value(g, "token.module", module) ? module : config_default("token.module"),
        .helper = guide_value(g, "token.helper", helper) ? helper : NULL,
        .init_args = guide_value(g, "token.init-args", init_args) ? init_args : NULL,
    };
}

/* What the module says of its tokens; the ones before when it says nothing. */
static int
read_tokens(struct guide *g, struct cc_err *err)
{
    char module[ASK_ANSWER_MAX], helper[ASK_ANSWER_MAX], init_args[ASK_ANSWER_MAX];
    const struct hsm_admin_target target = target_of(g, module, helper, init_args);
    struct hsm_admin_token *tokens = NULL;
    size_t count = 0;

    if (hsm_admin_list_tokens(&target, &tokens, &count, err) != 0)
        return cc_err_in(err, "this module");
    free(g->token);
    g->token = tokens;
    g->token_count = count;
    g->keys_known = false;
    return 0;
}

int
guide_take_module(struct guide *g, const struct question *q, const char *answer, struct cc_err *err)
{
    size_t number = number_of(answer, g->module_count);
    char before[ASK_ANSWER_MAX];
    bool was_said = guide_value(g, q->name, before);

    if (guide_take_setting(g, q, number > 0 ? g->module[number - 1] : answer, err) != 0)
        return -1;
    if (read_tokens(g, err) == 0)
        return 0;
    /* one that cannot be used is not what Enter keeps */
    if (plan_set(g->plan, q->name, was_said ? before : NULL, NULL) != 0)
        return cc_err_in(err, "and it stays the answer");
    return -1;
}

void
guide_show_tokens(struct guide *g)
{
    for (size_t i = 0; i < g->token_count; i++) {
        printf("  %zu  ", i + 1);
        cli_print_escaped(g->token[i].initialised ? g->token[i].label : "(not initialised)");
        printf("  (");
        cli_print_escaped(g->token[i].model);
        puts(")");
    }
}

/* A label as part of a URI (RFC 7512 section 2.3: unreserved characters, and few others, stay as they are). */
static int
add_label(struct cc_buf *uri, const char *label, struct cc_err *err)
{
    static const char plain[] =
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    int rc = 0;

    for (; *label != '\0' && rc == 0; label++) {
        if (strchr(plain, *label) != NULL)
            rc = cc_buf_add(uri, label, 1, err);
        else
            rc = cc_buf_printf(uri, err, "%%%02X", (unsigned char)*label);
    }
    return rc;
}

/* "pkcs11:…" as it is, or prefix and a label. */
static int
take_uri(struct guide *g, const struct question *q, const char *prefix, const char *answer,
        struct cc_err *err)
{
    struct cc_buf uri = CC_BUF_INIT((size_t)4 * ASK_ANSWER_MAX);
    int rc = -1;

    if (cc_starts_with(answer, "pkcs11:") || answer[0] == '\0')
        return guide_take_setting(g, q, answer, err);
    if (cc_buf_add_str(&uri, prefix, err) == 0 && add_label(&uri, answer, err) == 0)
        rc = guide_take_setting(g, q, cc_buf_str(&uri), err);
    cc_buf_free(&uri);
    return rc;
}

int
guide_take_token(struct guide *g, const struct question *q, const char *answer, struct cc_err *err)
{
    size_t number = number_of(answer, g->token_count);
    const char *label = number > 0 ? g->token[number - 1].label : answer;
    size_t i = 0;

    while (i < g->token_count &&
            (!g->token[i].initialised || strcmp(g->token[i].label, label) != 0))
        i++;
    if (!cc_starts_with(label, "pkcs11:") && i == g->token_count)
        return cc_err_set(err, CC_DOM_INPUT, 0,
                "The module has no initialised token of this label; make one ready with certconnector "
                "token init");
    g->keys_known = false;
    return take_uri(g, q, "pkcs11:token=", label, err);
}

/* The token is opened with the PIN as it is to be. */
static int
read_keys(struct guide *g, struct cc_err *err)
{
    char module[ASK_ANSWER_MAX], helper[ASK_ANSWER_MAX], init_args[ASK_ANSWER_MAX];
    char uri[ASK_ANSWER_MAX], pin[ASK_ANSWER_MAX];
    const struct hsm_admin_target target = target_of(g, module, helper, init_args);
    const struct config config = {
        .token = {
            .module = target.module,
            .helper = target.helper,
            .init_args = target.init_args,
            .uri = guide_value(g, "token.uri", uri) ? uri : NULL,
            .pin = guide_value(g, "token.pin", pin) ? pin : NULL,
        },
    };
    struct key_list list;

    if (key_list_read(g->plan, &config, &list, err) != 0)
        return -1;
    key_list_free(&g->keys);
    g->keys = list;
    g->keys_known = true;
    return 0;
}

/* ---- secrets ---- */

/* The one that is in the file is good, as far as that can be seen from outside. */
static int
keep_secret(const char *reference, struct cc_err *err)
{
    struct cc_secret *secret = cc_secret_load(reference, err);

    cc_secret_free(secret);
    return secret != NULL ? 0 : cc_err_in(err, "Type it, as the file cannot be taken");
}

int
guide_take_secret(struct guide *g, const struct question *q, const struct cc_secret *secret,
        struct cc_err *err)
{
    char reference[ASK_ANSWER_MAX], staged[ASK_ANSWER_MAX + 16];
    bool typed = cc_secret_len(secret) > 0;

    if (!guide_value(g, q->name, reference) || !cc_starts_with(reference, "file:"))
        return 0;
    if (typed ? plan_stage(g->plan, reference + 5, secret, err) != 0
              : keep_secret(plan_reference(g->plan, reference, staged, sizeof(staged)), err) != 0)
        return -1;
    if (strcmp(q->name, "token.pin") != 0 || read_keys(g, err) == 0)
        return 0;
    if (typed)
        plan_unstage(g->plan, reference + 5);
    return -1;
}

/* ---- keys ---- */

/* The number of a key that is no public half, which is not counted; NULL: it has none of these. */
static const struct hsm_admin_key *
key_of_number(const struct guide *g, size_t number)
{
    for (size_t i = 0; i < g->keys.count; i++) {
        if (strcmp(g->keys.key[i].object_class, "public") != 0 && --number == 0)
            return &g->keys.key[i];
    }
    return NULL;
}

void
guide_show_keys(struct guide *g)
{
    const struct hsm_admin_key *key;

    for (size_t i = 1; g->keys_known && (key = key_of_number(g, i)) != NULL; i++) {
        printf("  %zu  %-9s ", i, key->kind);
        cli_print_escaped(key->label);
        putchar('\n');
    }
}

int
guide_take_key(struct guide *g, const struct question *q, const char *answer, struct cc_err *err)
{
    size_t number = g->keys_known ? number_of(answer, g->keys.count) : 0;
    const struct hsm_admin_key *key = number > 0 ? key_of_number(g, number) : NULL;
    const int role = hsm_role_parse(strchr(q->name, '.') + 1);

    if (role >= 0)
        g->plan->key_type[role][0] = '\0'; /* asked again when this one is missing */
    if (q->optional && strcmp(answer, "none") == 0)
        return guide_take_setting(g, q, answer, err);
    return take_uri(g, q, "pkcs11:object=", key != NULL ? key->label : answer, err);
}

const char *
guide_type_before(const struct guide *g, const struct question *q)
{
    char name[64], uri[ASK_ANSWER_MAX], other[ASK_ANSWER_MAX];

    if (!guide_value(g, q->name, uri))
        return NULL;
    for (int role = 0; role < (int)q->role; role++) {
        (void)snprintf(name, sizeof(name), "keys.%s", hsm_role_name((enum hsm_role)role));
        if (g->plan->key_type[role][0] != '\0' && guide_value(g, name, other) &&
                strcmp(uri, other) == 0)
            return g->plan->key_type[role];
    }
    return NULL;
}

int
guide_take_key_type(struct guide *g, const struct question *q, const char *answer,
        struct cc_err *err)
{
    const char *before = guide_type_before(g, q);

    if (before != NULL && strcmp(answer, before) != 0)
        return cc_err_set(err, CC_DOM_INPUT, 0,
                "The same key was to be of type %s above; go back with < to change that, or to name "
                "another key",
                before);
    if (!plan_role_takes(q->role, answer))
        return cc_err_set(err, CC_DOM_INPUT, 0,
                "This key cannot be of that type; write for example %s", plan_usual_type(q->role));
    (void)cc_strcpy(g->plan->key_type[q->role], sizeof(g->plan->key_type[q->role]), answer);
    g->plan->generate_keys = true;
    return 0;
}

/* ---- the proxy ---- */

/* What belongs to it goes with it. */
int
guide_take_proxy_user(struct guide *g, const struct question *q, const char *answer,
        struct cc_err *err)
{
    if (guide_take_setting(g, q, answer, err) != 0)
        return -1;
    return strcmp(answer, "none") == 0 ? plan_set(g->plan, "service.proxy-password", NULL, err) : 0;
}

int
guide_take_proxy(struct guide *g, const struct question *q, const char *answer, struct cc_err *err)
{
    if (guide_take_setting(g, q, answer, err) != 0)
        return -1;
    if (strcmp(answer, "none") != 0)
        return 0;
    if (plan_set(g->plan, "service.proxy-user", NULL, err) != 0 ||
            plan_set(g->plan, "service.proxy-password", NULL, err) != 0)
        return -1;
    return plan_set(g->plan, "service.no-proxy", NULL, err);
}

/* ---- signing in ---- */

int
guide_take_sign_in(struct guide *g, const struct question *q, const char *answer,
        struct cc_err *err)
{
    (void)q;
    if (strcmp(answer, "secret") != 0 && strcmp(answer, "key") != 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "Write secret or key.");
    g->signs_with_key = strcmp(answer, "key") == 0;
    if (g->signs_with_key)
        return plan_set(g->plan, "service.client-secret", NULL, err);
    if (plan_set(g->plan, "service.client-certificate", NULL, err) != 0)
        return -1;
    return plan_set(g->plan, "service.client-key", NULL, err);
}

int
guide_take_self_sign(struct guide *g, const struct question *q, const char *answer,
        struct cc_err *err)
{
    (void)q;
    return cc_parse_bool(answer, &g->plan->self_sign, NULL) == 0
                   ? 0
                   : cc_err_set(err, CC_DOM_INPUT, 0, "Write yes or no.");
}

/* ---- CA and profile ---- */

/* A section with a name that is asked about, and the setting that makes it one. */
struct item {
    const char *group, *key, *value;
    char *chosen; /* its name, 65 bytes */
    bool *is_new; /* no file has it */
};

static const char *
item_setting(const struct item *item, const char *name, char text[NAME_MAX_LEN])
{
    (void)snprintf(text, NAME_MAX_LEN, "%s.%s.%s", item->group, name, item->key);
    return text;
}

/* Another than the one before: what that was given is taken back, when no file has it. */
static int
choose_item(struct guide *g, const struct item *item, const char *answer, struct cc_err *err)
{
    char name[NAME_MAX_LEN], old[NAME_MAX_LEN], present[ASK_ANSWER_MAX];

    if (check_setting(item_setting(item, answer, name), item->value, err) != 0)
        return -1;
    if (*item->is_new && strcmp(item->chosen, answer) != 0) {
        if (plan_set(g->plan, item_setting(item, item->chosen, old), NULL, err) != 0)
            return -1;
        *item->is_new = false;
    }
    (void)cc_strcpy(item->chosen, sizeof(g->ca), answer);
    if (guide_value(g, name, present))
        return 0;
    *item->is_new = true;
    return plan_set(g->plan, name, item->value, err);
}

int
guide_take_ca(struct guide *g, const struct question *q, const char *answer, struct cc_err *err)
{
    const struct item item = { "ca", "kind", "local", g->ca, &g->ca_is_new };
    const bool was_new = g->ca_is_new;

    (void)q;
    if (choose_item(g, &item, answer, err) != 0)
        return -1;
    (void)cc_strcpy(g->plan->ca, sizeof(g->plan->ca), answer);
    if (was_new != g->ca_is_new)
        g->plan->init_ca = g->ca_is_new;
    return 0;
}

int
guide_take_ca_now(struct guide *g, const struct question *q, const char *answer, struct cc_err *err)
{
    (void)q;
    return cc_parse_bool(answer, &g->plan->init_ca, NULL) == 0
                   ? 0
                   : cc_err_set(err, CC_DOM_INPUT, 0, "Write yes or no.");
}

int
guide_take_subject(struct guide *g, const struct question *q, const char *answer,
        struct cc_err *err)
{
    X509_NAME *name = NULL;

    (void)q;
    if (answer[0] == '\0')
        return cc_err_set(err, CC_DOM_USAGE, 0, "An answer is needed, as in CN=Contoso Issuing CA");
    if (strlen(answer) >= sizeof(g->plan->subject))
        return cc_err_set(err, CC_DOM_INPUT, 0, "This is too long.");
    if (pki_name_parse(answer, &name, err) != 0)
        return -1;
    X509_NAME_free(name);
    (void)cc_strcpy(g->plan->subject, sizeof(g->plan->subject), answer);
    return 0;
}

int
guide_take_validity(struct guide *g, const struct question *q, const char *answer,
        struct cc_err *err)
{
    int64_t ms;

    (void)q;
    if (strlen(answer) >= sizeof(g->plan->validity) || cc_parse_duration_ms(answer, &ms, NULL) != 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "Write a time with its unit: 3650d.");
    (void)cc_strcpy(g->plan->validity, sizeof(g->plan->validity), answer);
    return 0;
}

int
guide_take_profile(struct guide *g, const struct question *q, const char *answer,
        struct cc_err *err)
{
    const struct item item = { "profile", "validity", "365d", g->profile, &g->profile_is_new };

    (void)q;
    return choose_item(g, &item, answer, err);
}
