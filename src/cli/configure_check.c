/* SPDX-License-Identifier: MIT */

/* Trying a configuration before it is written. */

#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "configure.h"
#include "intune/probe.h"
#include "service.h"

#define REFERENCE_MAX 4200 /* bytes: a path and what stands before it */

static void
say(const char *what, const char *text)
{
    printf("  %-10s ", what);
    cli_print_escaped(text);
    putchar('\n');
    (void)fflush(stdout);
}

/* ---- the token ---- */

static int
check_key(const struct plan *plan, const struct key_list *list, const char *what, const char *uri,
        struct cc_err *err)
{
    char line[640];

    if (uri == NULL)
        return 0;
    if (key_list_has(list, uri)) {
        (void)snprintf(line, sizeof(line), "%s: %s is there", what, uri);
    } else if (plan->generate_keys) {
        (void)snprintf(line, sizeof(line), "%s: %s will be made", what, uri);
    } else {
        return cc_err_set(err, CC_DOM_INPUT, 0,
                "%s: the token has no private or secret key %s; make it with certconnector key generate, "
                "or let configure do it (--generate-keys)",
                what, uri);
    }
    say("key", line);
    return 0;
}

/* Whether it is the one that [keys] names, or none. */
static bool
is_of_role(const struct config *config, const char *role, const char *uri)
{
    const char *of_role = config_key(config, role);

    return uri == NULL || (of_role != NULL && strcmp(of_role, uri) == 0);
}

static int
check_keys(const struct plan *plan, const struct config *config, const struct key_list *list,
        struct cc_err *err)
{
    for (size_t i = 0; i < config->key_count; i++) {
        if (check_key(plan, list, config->keys[i].name, config->keys[i].value, err) != 0)
            return -1;
    }
    for (size_t i = 0; i < config->key_alias_count; i++) {
        if (check_key(plan, list, config->key_aliases[i].name, config->key_aliases[i].value, err) !=
                0)
            return -1;
    }
    if (!is_of_role(config, "identity", config->service.client_key) &&
            check_key(plan, list, "identity", config->service.client_key, err) != 0)
        return -1;
    for (size_t i = 0; i < config->ca_count; i++) {
        const struct config_ca *ca = &config->cas[i];

        if (is_of_role(config, "ca", ca->key) && is_of_role(config, "ocsp", ca->ocsp_key))
            continue;
        if (check_key(plan, list, "ca", ca->key, err) != 0 ||
                check_key(plan, list, "ocsp", ca->ocsp_key, err) != 0)
            return -1;
    }
    return 0;
}

static int
check_token(const struct plan *plan, const struct config *config, struct cc_err *err)
{
    struct key_list list;
    char line[128];
    int rc;

    if (cc_starts_with(config->token.pin, "credential:")) {
        say("token", "not tried: only the service can read its credentials");
        return 0;
    }
    if (key_list_read(plan, config, &list, err) != 0)
        return cc_err_in(err, "the token");
    (void)snprintf(line, sizeof(line), "opens with its PIN, and has %zu keys", list.count);
    say("token", line);
    rc = check_keys(plan, config, &list, err);
    key_list_free(&list);
    return rc;
}

/* ---- the service ---- */

static int
check_service(const struct plan *plan, const struct config *config, struct cc_err *err)
{
    struct config tried = *config; /* shallow: it borrows everything */
    struct cli_service service = { .intune = NULL };
    char secret[REFERENCE_MAX], pin[REFERENCE_MAX], password[REFERENCE_MAX];
    long number;
    int rc;

    if (config->connector.features == 0)
        return 0;
    if (configure_makes_certificate(plan, config)) {
        say("service", "not tried: its certificate is made first, and must be registered");
        return 0;
    }
    if (cli_service_needs_credential(config)) {
        say("service", "not tried: only the service can read its credentials");
        return 0;
    }
    tried.token.pin = plan_reference(plan, config->token.pin, pin, sizeof(pin));
    tried.service.client_secret =
            plan_reference(plan, config->service.client_secret, secret, sizeof(secret));
    tried.service.proxy_password =
            plan_reference(plan, config->service.proxy_password, password, sizeof(password));
    rc = cli_service_open(&tried, &service, err);
    if (rc == 0)
        rc = intune_probe_sign_in(service.intune, INTUNE_AUDIENCE_SERVICE, &number, err);
    cli_service_close(&service);
    if (rc != 0)
        return cc_err_in(err, "signing in to the service");
    say("service", "signed in");
    return 0;
}

int
configure_check(const struct plan *plan, const struct config *config, struct cc_err *err)
{
    puts("Trying it:");
    if (check_token(plan, config, err) != 0)
        return -1;
    return check_service(plan, config, err);
}
