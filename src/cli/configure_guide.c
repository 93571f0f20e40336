/* SPDX-License-Identifier: MIT */

/* The guided run of configure: questions back and forth, a look at what comes of it, and then it is done. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "guide.h"

#define QUESTIONS_MAX 128

/* Where makers and distributions put their modules. */
static const char *const usual_modules[] = {
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so",
    "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so",
    "/usr/lib64/opensc-pkcs11.so",
    "/usr/lib/x86_64-linux-gnu/libykcs11.so",
    "/usr/lib/x86_64-linux-gnu/libtpm2_pkcs11.so.1",
    "/opt/nfast/toolkits/pkcs11/libcknfast.so",
    "/usr/safenet/lunaclient/lib/libCryptoki2_64.so",
    "/usr/lib/libcs_pkcs11_R3.so",
    "/opt/utimaco/lib/libcs_pkcs11_R3.so",
    "/opt/cloudhsm/lib/libcloudhsm_pkcs11.so",
};

_Static_assert(CC_COUNT(usual_modules) <= GUIDE_MODULES, "struct guide has no room");

/* ---- one question ---- */

static bool
is_asked(const struct guide *g, const struct question *q)
{
    if (q->features != 0 && (guide_features(g) & q->features) == 0)
        return false;
    return q->when == NULL || q->when(g, q);
}

/* What Enter means; NULL: nothing. */
static const char *
present_of(const struct guide *g, const struct question *q, char text[ASK_ANSWER_MAX])
{
    char name[256];
    const char *fallback;

    if (q->present != NULL)
        return q->present(g, q);
    if (guide_value(g, guide_setting_name(g, q, name, sizeof(name)), text))
        return text;
    if ((fallback = config_default(name)) == NULL)
        fallback = q->suggests;
    if (fallback == NULL && strcmp(q->name, "token.uri") == 0 && g->token_count == 1)
        fallback = "1";
    return fallback == NULL && q->optional ? "none" : fallback;
}

static void
explain(const struct cc_err *err)
{
    char text[sizeof(err->text) * 4];

    ask_print(2, cc_escape_into(text, sizeof(text), cc_err_text(err)));
}

static enum ask_outcome
ask_for_secret(struct guide *g, const struct question *q, bool *ret_good, struct cc_err *err)
{
    struct cc_secret *secret = NULL;
    enum ask_outcome outcome = ask_secret(q->prompt, &secret);

    if (outcome == ASK_ANSWER)
        *ret_good = guide_take_secret(g, q, secret, err) == 0;
    cc_secret_free(secret);
    return outcome;
}

static enum ask_outcome
ask_for_text(struct guide *g, const struct question *q, bool *ret_good, struct cc_err *err)
{
    char present[ASK_ANSWER_MAX], answer[ASK_ANSWER_MAX];
    enum ask_outcome outcome = ask_line(q->prompt, present_of(g, q, present), answer);

    if (outcome == ASK_ANSWER)
        *ret_good = (q->take != NULL ? q->take(g, q, answer, err)
                                     : guide_take_setting(g, q, answer, err)) == 0;
    return outcome;
}

/* Until there is a good answer, or another wish. */
static enum ask_outcome
ask_question(struct guide *g, const struct question *q)
{
    if (q->show != NULL)
        q->show(g);
    for (;;) {
        struct cc_err err = { 0 };
        bool good = false;
        enum ask_outcome outcome =
                q->secret ? ask_for_secret(g, q, &good, &err) : ask_for_text(g, q, &good, &err);

        if (ask_is_gone())
            return ASK_GONE;
        if (outcome == ASK_HELP)
            ask_print(2, q->help);
        else if (outcome != ASK_ANSWER || good)
            return outcome;
        else
            explain(&err);
    }
}

/* ---- all questions ---- */

/* From the one at *at on; those that were asked are kept, so that one can go back.  false: given up. */
static bool
ask_all(struct guide *g, size_t asked[QUESTIONS_MAX], size_t *asked_count, size_t at)
{
    const char *heading = NULL;

    while (at < guide_question_count) {
        const struct question *q = &guide_questions[at];

        if (!is_asked(g, q)) {
            at++;
            continue;
        }
        if (heading == NULL || strcmp(heading, q->heading) != 0)
            printf("\n%s\n", q->heading);
        heading = q->heading;
        switch (ask_question(g, q)) {
        case ASK_BACK:
            if (*asked_count == 0)
                ask_print(2, "This is the first question.");
            else
                at = asked[--*asked_count];
            break;
        case ASK_ANSWER:
            asked[(*asked_count)++] = at++;
            break;
        default:
            return false;
        }
    }
    return true;
}

/* ---- what comes of it ---- */

static void
print_quoted(const char *text)
{
    putchar('\'');
    for (; *text != '\0'; text++) {
        if (*text == '\'')
            fputs("'\\''", stdout);
        else
            putchar(*text);
    }
    putchar('\'');
}

static void
print_option(const char *option, const char *name, const char *value)
{
    char text[2 * ASK_ANSWER_MAX];

    printf(" \\\n  %s ", option);
    (void)snprintf(text, sizeof(text), "%s%s%s", name, value != NULL ? "=" : "",
            value != NULL ? value : "");
    print_quoted(text);
}

/* For who has to do the same elsewhere. */
static void
print_command(const struct plan *plan)
{
    printf("\nThe same without questions:\ncertconnector configure --no-input");
    if (strcmp(plan->path, CONFIG_DEFAULT_PATH) != 0)
        print_option("--config", plan->path, NULL);
    for (size_t i = 0; i < plan->change_count; i++)
        print_option(plan->change[i].value != NULL ? "--set" : "--unset", plan->change[i].name,
                plan->change[i].value);
    if (plan->generate_keys)
        printf(" \\\n  --generate-keys");
    for (int role = 0; plan->generate_keys && role < HSM_ROLE_COUNT; role++) {
        if (plan->key_type[role][0] != '\0')
            print_option("--key-type", hsm_role_name((enum hsm_role)role), plan->key_type[role]);
    }
    if (plan->self_sign)
        printf(" \\\n  --self-sign");
    if (plan->init_ca) {
        print_option("--init-ca", plan->subject, NULL);
        if (plan->ca[0] != '\0')
            print_option("--ca", plan->ca, NULL);
        if (plan->validity[0] != '\0')
            print_option("--ca-validity", plan->validity, NULL);
    }
    putchar('\n');
}

static int
show_summary(const struct guide *g, const struct config_edit *edit, struct cc_err *err)
{
    const struct plan *plan = g->plan;

    printf("\nWhat changes\n");
    if (!config_edit_changed(edit))
        ask_print(2, "Nothing in the files.");
    else if (configure_show_diff(edit, err) != 0)
        return -1;
    for (size_t i = 0; i < CONFIGURE_SECRETS; i++) {
        if (plan->secret[i].path != NULL)
            printf("  what was typed goes into %s\n", plan->secret[i].path);
    }
    for (int role = 0; plan->generate_keys && role < HSM_ROLE_COUNT; role++) {
        if (plan->key_type[role][0] != '\0')
            printf("  a key is made in the token: %s (%s)\n", hsm_role_name((enum hsm_role)role),
                    plan->key_type[role]);
    }
    if (plan->self_sign)
        printf("  the certificate to sign in with is made\n");
    if (plan->init_ca)
        printf("  the CA is made: %s\n", plan->subject);
    print_command(plan);
    return 0;
}

/* The last two questions; *ret_write: it is to be done. */
static enum ask_outcome
ask_end_questions(const struct guide *g, const struct config *config, bool check, bool *ret_write)
{
    struct cc_err err = { 0 };
    bool try = false, good = true;

    putchar('\n');
    if (check) {
        enum ask_outcome outcome = ask_yes_no("Try it now: token, keys, signing in (yes, no)", true,
                "The token is opened with its PIN, the keys are looked for, and a token of the "
                "service is asked for.  Nothing is changed by that.",
                &try);

        if (outcome != ASK_ANSWER)
            return outcome;
    }
    if (try && configure_check(g->plan, config, &err) != 0) {
        good = false;
        explain(&err);
        ask_print(2, "Go back with < to correct it.");
    }
    return ask_yes_no("Write it and put it in force (yes, no)", good,
            "The file before stays beside it as FILE.previous.  A connector that runs takes the "
            "new settings at once, without losing work.",
            ret_write);
}

static enum ask_outcome
finish(struct guide *g, bool check, int *ret_status)
{
    struct config_edit *edit = NULL;
    struct config *config = NULL;
    struct cc_err err = { 0 };
    enum ask_outcome outcome = ASK_BACK;
    bool write = false;

    if (plan_make(g->plan, &edit, &config, &err) != 0) {
        putchar('\n');
        explain(&err);
        ask_print(2, "This does not go together yet; we are back at the last question.");
        goto out;
    }
    if (show_summary(g, edit, &err) == 0)
        outcome = ask_end_questions(g, config, check, &write);
    if (outcome == ASK_ANSWER && write)
        *ret_status = configure_apply(g->plan, edit, config, &err) == 0
                              ? CLI_OK
                              : cli_fail(g->plan->command, &err);
    else if (outcome == ASK_ANSWER)
        outcome = ASK_GONE;
out:
    config_free(config);
    config_edit_close(edit);
    return outcome;
}

/* ---- begin and end ---- */

static void
copy_first(const struct plan *plan, const char *group, char *ret, size_t size)
{
    char *name = NULL;

    if (config_edit_first(plan->before, group, &name, NULL) == 0 && name != NULL)
        (void)cc_strcpy(ret, size, name);
    free(name);
}

static void
look_around(struct guide *g)
{
    char certificate[ASK_ANSWER_MAX];

    for (size_t i = 0; i < CC_COUNT(usual_modules); i++) {
        if (access(usual_modules[i], R_OK) == 0)
            g->module[g->module_count++] = usual_modules[i];
    }
    g->signs_with_key = guide_value(g, "service.client-certificate", certificate);
    copy_first(g->plan, "ca", g->ca, sizeof(g->ca));
    copy_first(g->plan, "profile", g->profile, sizeof(g->profile));
}

static int
run_guide(struct guide *g, bool check)
{
    size_t asked[QUESTIONS_MAX], asked_count = 0, at = 0;
    int status = CLI_FAILED;

    while (ask_all(g, asked, &asked_count, at)) {
        switch (finish(g, check, &status)) {
        case ASK_ANSWER:
            return status;
        case ASK_BACK:
            at = asked[--asked_count];
            break;
        default:
            goto gone;
        }
    }
gone:
    printf("\nNothing was changed.\n");
    return CLI_FAILED;
}

int
configure_guide(struct plan *plan, bool check)
{
    struct guide g = { .plan = plan };
    int status;

    ask_begin();
    printf("This sets up %s.\n", plan->path);
    ask_print(0, "Enter keeps what stands in brackets, ? explains, < goes back, and Ctrl-C leaves "
                 "everything as it was.");
    look_around(&g);
    status = run_guide(&g, check);
    free(g.token);
    key_list_free(&g.keys);
    plan_close(plan);
    ask_end();
    return status;
}
