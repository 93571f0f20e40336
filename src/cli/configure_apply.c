/* SPDX-License-Identifier: MIT */

/* Carrying a plan out: keys, secrets, files, the CA, and the running daemon. */

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ask_daemon.h"
#include "base/json.h"
#include "base/text.h"
#include "configure.h"
#include "http/client.h"
#include "token_match.h"

#define RELOAD_TIMEOUT_MS 120000 /* work under way is finished first */
#define RELOAD_ANSWER_MAX 65536
#define DIFF_MAX ((size_t)4 << 20)
#define REASON_MAX 2048

extern char **environ;

static void
say(const char *begin, const char *text, const char *end)
{
    fputs(begin, stdout);
    cli_print_escaped(text);
    puts(end);
    (void)fflush(stdout);
}

/* ---- what changes ---- */

int
configure_show_diff(const struct config_edit *edit, struct cc_err *err)
{
    struct cc_buf diff = CC_BUF_INIT(DIFF_MAX);
    int rc = config_edit_diff(edit, &diff, err);

    for (char *line = (char *)diff.data; rc == 0 && line != NULL && *line != '\0';) {
        char *end = line + strcspn(line, "\n");

        if (*end != '\0')
            *end++ = '\0';
        cli_print_escaped(line);
        putchar('\n');
        line = end;
    }
    cc_buf_free(&diff);
    return rc;
}

/* ---- keys ---- */

#define NEW_KEYS_MAX 64

/* A key that has to be made, and every role it has. */
struct new_key {
    const char *uri;
    unsigned roles;
};

struct new_keys {
    struct new_key key[NEW_KEYS_MAX];
    size_t count;
    bool too_many;
};

static void
want_key(const struct key_list *list, enum hsm_role role, const char *uri, struct new_keys *keys)
{
    size_t i = 0;

    if (uri == NULL || key_list_has(list, uri))
        return;
    while (i < keys->count && strcmp(keys->key[i].uri, uri) != 0)
        i++;
    if (i == NEW_KEYS_MAX) {
        keys->too_many = true;
        return;
    }
    if (i == keys->count)
        keys->key[keys->count++] = (struct new_key){ .uri = uri };
    keys->key[i].roles |= 1U << role;
}

static void
want_keys(const struct config *config, const struct key_list *list, struct new_keys *keys)
{
    for (int role = 0; role < HSM_ROLE_COUNT; role++)
        want_key(list, (enum hsm_role)role, config_key(config, hsm_role_name((enum hsm_role)role)),
                keys);
    /* signs SCEP answers, too, where no other does */
    if (config_key(config, hsm_role_name(HSM_ROLE_SCEP_RA_SIGN)) == NULL)
        want_key(list, HSM_ROLE_SCEP_RA_SIGN,
                config_key(config, hsm_role_name(HSM_ROLE_SCEP_RA_ENCRYPT)), keys);
    for (size_t i = 0; i < config->key_alias_count; i++)
        want_key(list, HSM_ROLE_PFX_IMPORT, config->key_aliases[i].value, keys);
    want_key(list, HSM_ROLE_IDENTITY, config->service.client_key, keys);
    want_key(list, HSM_ROLE_IDENTITY, config_key(config, "identity-next"), keys);
    for (size_t i = 0; i < config->ca_count; i++) {
        want_key(list, HSM_ROLE_CA, config->cas[i].key, keys);
        want_key(list, HSM_ROLE_OCSP, config->cas[i].ocsp_key, keys);
    }
}

static int
make_key(const struct plan *plan, const struct hsm_admin_target *target, const struct new_key *key,
        struct cc_err *err)
{
    const char *type = plan_key_type(plan, key->roles, err);
    char label[128];

    if (type == NULL)
        return -1;
    if (!cli_key_label(key->uri, label, sizeof(label)))
        return cc_err_set(err, CC_DOM_USAGE, 0,
                "%s has no plain object=LABEL; make this key with certconnector key generate",
                key->uri);
    say("Making the key ", key->uri, " …");
    if (hsm_admin_generate_key(target, key->roles, label, type, err) != 0)
        return cc_err_in(err, "make the key %s (%s)", key->uri, type);
    return 0;
}

/* Before the first is made: a key that was made stays. */
static int
check_new_keys(const struct plan *plan, const struct new_keys *keys, struct cc_err *err)
{
    if (keys->too_many)
        return cc_err_set(err, CC_DOM_USAGE, 0,
                "more than %d keys would have to be made at once; make some with certconnector key "
                "generate",
                NEW_KEYS_MAX);
    for (size_t i = 0; i < keys->count; i++) {
        if (plan_key_type(plan, keys->key[i].roles, err) == NULL)
            return cc_err_in(err, "the key %s", keys->key[i].uri);
    }
    return 0;
}

static int
make_keys(const struct plan *plan, const struct config *config, struct cc_err *err)
{
    char pin[4200];
    const struct hsm_admin_target target = {
        .helper = config->token.helper,
        .module = config->token.module,
        .init_args = config->token.init_args,
        .uri = config->token.uri,
        .pin = plan_reference(plan, config->token.pin, pin, sizeof(pin)),
    };
    struct new_keys keys = { .count = 0 };
    struct key_list list;
    int rc = 0;

    if (!plan->generate_keys)
        return 0;
    if (key_list_read(plan, config, &list, err) != 0)
        return cc_err_in(err, "the token");
    want_keys(config, &list, &keys);
    rc = check_new_keys(plan, &keys, err);
    for (size_t i = 0; i < keys.count && rc == 0; i++)
        rc = make_key(plan, &target, &keys.key[i], err);
    if (keys.count > 0 && rc == 0)
        rc = softhsm_settle(config->token.module, err);
    key_list_free(&list);
    return rc;
}

/* ---- secrets and files ---- */

static int
place_secrets(struct plan *plan, struct cc_err *err)
{
    if (plan_place_secrets(plan, err) != 0)
        return -1;
    for (size_t i = 0; i < CONFIGURE_SECRETS; i++) {
        if (plan->secret[i].path != NULL)
            say("Written: ", plan->secret[i].path, " (what was typed)");
    }
    return 0;
}

static void
on_written(void *arg, const char *file, const char *previous)
{
    (void)arg;
    say("Written: ", file, "");
    if (previous != NULL)
        say("What it was before is in ", previous, ".");
}

/* ---- the CA, and the certificate to sign in with ---- */

#define ARGUMENTS_MAX 16

/*
 * Another command of ours, by a process of its own: to make a CA is to become, for good, the user that the store belongs
 * to.
 */
static int
run_command(const char *const argv[ARGUMENTS_MAX], struct cc_err *err)
{
    pid_t child;
    int status, rc;

    (void)fflush(stdout);
    if ((rc = posix_spawn(&child, "/proc/self/exe", NULL, NULL, (char **)(uintptr_t)argv,
                 environ)) != 0)
        return cc_err_set_errno(err, rc, "start certconnector %s", argv[1]);
    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR)
            return cc_err_set_errno(err, errno, "certconnector %s", argv[1]);
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    return cc_err_set(err, CC_DOM_INPUT, 0, "certconnector %s %s failed, and says why above",
            argv[1], argv[2]);
}

static int
make_ca(const struct plan *plan, struct cc_err *err)
{
    const char *argv[ARGUMENTS_MAX] = { "certconnector", "ca", "init", "--config", plan->path,
        "--if-missing", "--subject", plan->subject };
    size_t argc = 8;

    if (plan->ca[0] != '\0') {
        argv[argc++] = "--ca";
        argv[argc++] = plan->ca;
    }
    if (plan->validity[0] != '\0') {
        argv[argc++] = "--validity";
        argv[argc++] = plan->validity;
    }
    return run_command(argv, err);
}

bool
configure_makes_certificate(const struct plan *plan, const struct config *config)
{
    return plan->self_sign && config->service.client_certificate != NULL &&
           access(config->service.client_certificate, F_OK) != 0;
}

static int
make_certificate(const struct plan *plan, const struct config *config, struct cc_err *err)
{
    char subject[80];
    const char *argv[ARGUMENTS_MAX] = { "certconnector", "key", "self-sign", "--config", plan->path,
        "--role", "identity", "--key", config->service.client_key, "--subject", subject, "--out",
        config->service.client_certificate };

    (void)snprintf(subject, sizeof(subject), "CN=%s", config->connector.name);
    if (run_command(argv, err) != 0)
        return -1;
    say("Register this certificate with the application in Entra ID, or no sign-in works: ",
            config->service.client_certificate, "");
    return 0;
}

/* ---- the running daemon ---- */

static int
say_outcome(json_object *outcome, struct cc_err *err)
{
    const char *error = NULL, *restart = NULL;
    bool taken = false;

    if (cc_json_get_bool(outcome, "taken", false, &taken, err) != 0 ||
            cc_json_get_str(outcome, "error", REASON_MAX, &error, err) != 0 ||
            cc_json_get_str(outcome, "needsRestart", REASON_MAX, &restart, err) != 0)
        return cc_err_in(err, "answer of the daemon");
    if (!taken)
        return cc_err_set(err, CC_DOM_INPUT, 0, "the running connector does not take it: %s",
                error != NULL ? error : "it does not say why");
    puts("The running connector has taken the new settings.");
    if (restart != NULL)
        say("These wait for a restart (systemctl restart certconnectord): ", restart, ".");
    return 0;
}

static int
ask_reload(struct http_client *client, struct cc_err *err)
{
    const struct http_request request = {
        .method = "POST",
        .url = "http://localhost/v1/reload",
        .content_type = "application/json",
        .timeout_ms = RELOAD_TIMEOUT_MS,
        .max_response = RELOAD_ANSWER_MAX,
    };
    struct http_response response;
    json_object *outcome = NULL;
    int rc = -1;

    http_response_init(&response);
    if (http_client_send(client, &request, &response, err) != 0) {
        cc_err_in(err, "the running connector does not say whether it has taken the new settings; "
                       "have it reload those before (systemctl reload certconnectord)");
    } else if (response.status == 404) {
        puts("The running connector is of a version that cannot be told: the settings count after "
             "a restart (systemctl restart certconnectord).");
        rc = 0;
    } else if (response.status != 200) {
        cc_err_set(err, CC_DOM_HTTP, response.status,
                "the running connector does not say whether it has taken the new settings; have it "
                "reload those before (systemctl reload certconnectord): it answered with status %ld",
                response.status);
    } else if ((outcome = cc_json_parse(response.body.data, response.body.len, err)) != NULL) {
        rc = say_outcome(outcome, err);
    }
    json_object_put(outcome);
    http_response_free(&response);
    return rc;
}

static int
reload(const char *path, struct cc_err *err)
{
    const struct http_client_settings settings = {
        .user_agent = "certconnector/" CC_VERSION,
        .unix_socket = path,
    };
    struct http_client *client = NULL;
    const int why = cli_knock(path);
    int rc;

    /* one that is there and does not answer is another matter: it may take the new settings all the same */
    if (why == ENOENT || why == ECONNREFUSED) {
        say("No connector answers on ", path,
                ": the settings count when it is started (systemctl start certconnectord).");
        return 0;
    }
    rc = http_client_open(&settings, &client, err);
    if (rc == 0)
        rc = ask_reload(client, err);
    http_client_close(client);
    return rc;
}

/* Where the daemon that runs listens: as the files before said. */
static int
reload_running(const struct plan *plan, const struct config *config, struct cc_err *err)
{
    struct config *before = NULL;
    int rc;

    if (config_edit_load(plan->before, &before, NULL) != 0)
        before = NULL;
    rc = reload(before != NULL ? before->connector.control_socket
                               : config->connector.control_socket,
            err);
    config_free(before);
    return rc;
}

/* ---- all of it ---- */

static int
put_back(struct plan *plan, struct config_edit *edit, struct cc_err *err)
{
    struct cc_err files = { 0 }, secrets = { 0 };
    const int files_rc = config_edit_undo(edit, &files);
    const int secrets_rc = plan_return_secrets(plan, &secrets);

    for (size_t i = 0; i < CONFIGURE_SECRETS; i++) {
        if (plan->secret[i].placed && plan->secret[i].had_before)
            say("A secret as it was before is in ", plan->secret[i].staged, ".");
    }
    if (files_rc != 0)
        (void)cc_err_in(err, "%s; and before that", cc_err_text(&files));
    if (secrets_rc != 0)
        (void)cc_err_in(err, "%s; and before that", cc_err_text(&secrets));
    if (files_rc != 0 || secrets_rc != 0)
        return cc_err_in(err, "not all of what was before could be put back");
    puts("The configuration is what it was before.");
    return -1;
}

/* What needs the files to be in their place. */
static int
finish(const struct plan *plan, const struct config *config, struct cc_err *err)
{
    if (configure_makes_certificate(plan, config) && make_certificate(plan, config, err) != 0)
        return -1;
    if (plan->init_ca && make_ca(plan, err) != 0)
        return -1;
    return reload_running(plan, config, err);
}

int
configure_apply(struct plan *plan, struct config_edit *edit, const struct config *config,
        struct cc_err *err)
{
    if (make_keys(plan, config, err) != 0)
        return -1;
    if (config_edit_write(edit, CONFIGURE_GROUP, on_written, NULL, err) != 0)
        return -1;
    if (!config_edit_changed(edit))
        puts("The configuration is the same as before; nothing was written.");
    if (place_secrets(plan, err) != 0 || finish(plan, config, err) != 0)
        return put_back(plan, edit, err);
    plan_keep_secrets(plan);
    return 0;
}
