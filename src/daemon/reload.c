/* SPDX-License-Identifier: MIT */
#include "daemon_int.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"

/* What it takes to put a changed setting in force. */
enum effect {
    EFFECT_LIVE,  /* told to the room that wants it */
    EFFECT_PARTS, /* the parts are stopped, their work drained, and started again */
    EFFECT_START  /* comes into force when the daemon is started again */
};

struct changes {
    struct daemon *daemon;
    bool parts; /* one needs EFFECT_PARTS */
};

static enum effect
effect_of(const char *section, const char *key)
{
    static const struct {
        const char *section, *key; /* key NULL: all others of the section */
        enum effect effect;
    } table[] = {
        { "connector", "features", EFFECT_PARTS },
        { "connector", "workers", EFFECT_PARTS },
        { "connector", NULL, EFFECT_START },
        { "token", NULL, EFFECT_PARTS },
        { "log", "directory", EFFECT_START },
        { "keys", "pfx-import", EFFECT_LIVE },
        { "keys", NULL, EFFECT_PARTS },
        { "pkcs", "ca", EFFECT_PARTS },
        { "pkcs", "profile", EFFECT_PARTS },
        { "publish", NULL, EFFECT_PARTS },
        { "service", "enrol", EFFECT_PARTS },
        { "scep", NULL, EFFECT_PARTS },
    };

    if (cc_starts_with(section, "ca ") || cc_starts_with(section, "profile ") ||
            cc_starts_with(section, "scep-profile "))
        return EFFECT_PARTS;

    for (size_t i = 0; i < CC_COUNT(table); i++) {
        if (strcmp(table[i].section, section) == 0 &&
                (table[i].key == NULL || strcmp(table[i].key, key) == 0))
            return table[i].effect;
    }
    return EFFECT_LIVE;
}

/* The hooks of SCEP challenges, too, are reached by the service's proxy, and live as long as the SCEP server. */
static bool
is_of_hooks(const struct config *config, const char *section, const char *key)
{
    bool hook = config->scep.own.challenge == CONFIG_CHALLENGE_HOOK;

    if ((config->connector.features & CONFIG_SCEP) == 0 || strcmp(section, "service") != 0 ||
            (!cc_starts_with(key, "proxy") && strcmp(key, "no-proxy") != 0 &&
                    strcmp(key, "ca-file") != 0 && strcmp(key, "allow-http") != 0))
        return false;
    for (size_t i = 0; i < config->scep_profile_count; i++)
        hook = hook || config->scep_profiles[i].challenge == CONFIG_CHALLENGE_HOOK;
    return hook;
}

/* ---- what is said of settings ---- */

static void
on_setting(void *arg, const char *section, const char *key, const char *old_value,
        const char *new_value)
{
    struct daemon *d = arg;

    (void)old_value;
    eventlog_write(d->log, EVENT_CONFIGURATION_SETTING, NULL, "[%s] %s = %s", section, key,
            new_value != NULL ? new_value : "");
}

void
daemon_log_settings(struct daemon *d)
{
    config_compare(NULL, d->config, on_setting, d);
    eventlog_write(d->log, EVENT_CONFIGURATION_LOADED, NULL, "The configuration %s was loaded",
            d->options->config_path);
}

/* A list that is full ends with what fits; the events tell all. */
static void
note_change(struct reload *reload, const char *section, const char *key, enum effect effect)
{
    const size_t len = strlen(reload->restart);

    reload->changed++;
    if (effect == EFFECT_START)
        (void)snprintf(reload->restart + len, sizeof(reload->restart) - len, "%s[%s] %s",
                len == 0 ? "" : ", ", section, key);
}

static void
on_change(void *arg, const char *section, const char *key, const char *old_value,
        const char *new_value)
{
    struct changes *changes = arg;
    enum effect effect = effect_of(section, key);

    if (effect == EFFECT_PARTS || is_of_hooks(changes->daemon->config, section, key))
        changes->parts = true;
    note_change(&changes->daemon->reload, section, key, effect);
    eventlog_write(changes->daemon->log, EVENT_CONFIGURATION_CHANGED, NULL,
            "[%s] %s: was %s, is %s%s", section, key, old_value != NULL ? old_value : "not set",
            new_value != NULL ? new_value : "not set",
            effect == EFFECT_START ? "; this takes a restart" : "");
}

static void
log_rejected(struct daemon *d, const struct cc_err *err)
{
    const struct event_fields fields = { .error = err };

    (void)cc_strcpy(d->reload.error, sizeof(d->reload.error), cc_err_text(err));
    eventlog_write(d->log, EVENT_CONFIGURATION_REJECTED, &fields,
            "The changed configuration was rejected, the settings before stay in force: %s",
            cc_err_text(err));
}

/* ---- putting settings in force ---- */

static struct config *
swap_config(struct daemon *d, struct config *take_config)
{
    struct config *old;

    pthread_mutex_lock(&d->lock);
    old = d->config;
    d->config = take_config;
    pthread_mutex_unlock(&d->lock);
    return old;
}

/*
 * Starts the parts anew with the new configuration, and with the old one again when they do not start.  *take_config
 * becomes the one that is not in force.
 */
static int
restart_parts(struct daemon *d, struct config **take_config, struct cc_err *err)
{
    struct cc_err rejection = { 0 };

    parts_stop(d);
    *take_config = swap_config(d, *take_config);
    if (parts_start(d, &rejection) == 0)
        return 0;
    log_rejected(d, &rejection);
    *take_config = swap_config(d, *take_config);
    if (parts_start(d, err) != 0)
        return cc_err_in(err, "start again with the settings before");
    return 0;
}

/* A PIN that was refused is tried again when somebody says that things have changed. */
static bool
token_waits_for_reload(struct daemon *d)
{
    struct hsm_status token;

    hsm_get_status(d->parts.hsm, &token);
    return token.state == HSM_STATE_PIN_REFUSED;
}

/* As restart_parts(), but nothing is stopped. */
static void
change_live(struct daemon *d, struct config **take_config)
{
    struct cc_err err = { 0 };

    if (parts_reconfigure(d, *take_config, &err) == 0) {
        *take_config = swap_config(d, *take_config);
        /* The parts go on using the texts of the one that they began with. */
        if (*take_config == d->begun_with)
            *take_config = NULL;
        return;
    }
    log_rejected(d, &err);
    /* What took the new settings before one refused takes the old ones back. */
    cc_err_clear(&err);
    if (parts_reconfigure(d, d->config, &err) != 0)
        cc_log(CC_LOG_ERROR, "daemon", "taking the settings back: %s", cc_err_text(&err));
}

/* Where the other settings were rejected, this one goes back with them. */
static void
settle_monitor(struct daemon *d)
{
    struct cc_err err = { 0 };

    if (monitor_move(d, d->config->metrics.listen, &err) != 0)
        cc_log(CC_LOG_ERROR, "daemon", "%s", cc_err_text(&err));
}

/* First what may fail for reasons that no check of the configuration sees, so that nothing else was changed then. */
static int
use_config(struct daemon *d, struct config **take_config, struct cc_err *err)
{
    struct changes changes = { .daemon = d };
    struct eventlog_settings log;
    struct cc_err rejection = { 0 };
    int rc = 0;

    if (monitor_move(d, (*take_config)->metrics.listen, &rejection) != 0) {
        log_rejected(d, &rejection);
        return 0;
    }
    config_compare(d->config, *take_config, on_change, &changes);
    if (changes.parts || token_waits_for_reload(d))
        rc = restart_parts(d, take_config, err);
    else
        change_live(d, take_config);
    settle_monitor(d);
    log = parts_log_settings(d);
    if (rc == 0)
        rc = eventlog_reconfigure(d->log, &log, err);
    return rc;
}

/* ---- those who asked for it over the control socket, and wait for what comes of it ---- */

#define ANSWER_MAX 4096

static void
answer(struct http_exchange *exchange, unsigned status, const char *text)
{
    http_exchange_reply(exchange, status, NULL, 0, "text/plain; charset=utf-8", text, strlen(text));
}

void
reload_ask(struct daemon *d, struct http_exchange *exchange)
{
    struct reload *reload = &d->reload;
    bool taken;

    pthread_mutex_lock(&d->lock);
    taken = !reload->ended && reload->waiting_count < CC_COUNT(reload->waiting);
    if (taken)
        reload->waiting[reload->waiting_count++] = exchange;
    pthread_mutex_unlock(&d->lock);
    if (taken)
        (void)kill(getpid(), SIGHUP);
    else
        answer(exchange, 503, "stopping, or too many ask for this at once\n");
}

bool
reload_is_wanted(struct daemon *d)
{
    bool wanted;

    pthread_mutex_lock(&d->lock);
    wanted = d->reload.waiting_count > 0;
    pthread_mutex_unlock(&d->lock);
    return wanted;
}

/* Those who asked until now: who asks later may mean a later file. */
static size_t
take_waiting(struct daemon *d, struct http_exchange *ret[RELOAD_WAITING_MAX])
{
    size_t count;

    pthread_mutex_lock(&d->lock);
    count = d->reload.waiting_count;
    memcpy(ret, d->reload.waiting, count * sizeof(ret[0]));
    d->reload.waiting_count = 0;
    pthread_mutex_unlock(&d->lock);
    return count;
}

static int
write_outcome(const struct reload *reload, struct cc_buf *ret)
{
    json_object *obj = json_object_new_object();
    int rc = -1;

    if (cc_json_add_bool(obj, "taken", reload->error[0] == '\0', NULL) == 0 &&
            cc_json_add(obj, "changed", json_object_new_int64(reload->changed), NULL) == 0 &&
            (reload->error[0] == '\0' || cc_json_add_str(obj, "error", reload->error, NULL) == 0) &&
            (reload->restart[0] == '\0' ||
                    cc_json_add_str(obj, "needsRestart", reload->restart, NULL) == 0))
        rc = cc_json_write(obj, ret, NULL);
    json_object_put(obj);
    return rc;
}

static void
answer_all(struct daemon *d, struct http_exchange *const *exchanges, size_t count)
{
    struct cc_buf body = CC_BUF_INIT(ANSWER_MAX);
    int rc = write_outcome(&d->reload, &body);

    for (size_t i = 0; i < count; i++) {
        if (rc == 0)
            http_exchange_reply(exchanges[i], 200, NULL, 0, "application/json", body.data,
                    body.len);
        else
            answer(exchanges[i], 500, "out of memory\n");
    }
    cc_buf_free(&body);
}

void
reload_end(struct daemon *d)
{
    struct http_exchange *exchanges[RELOAD_WAITING_MAX];
    size_t count;

    pthread_mutex_lock(&d->lock);
    d->reload.ended = true;
    pthread_mutex_unlock(&d->lock);
    count = take_waiting(d, exchanges);
    for (size_t i = 0; i < count; i++)
        answer(exchanges[i], 503, "stopping\n");
}

/* ---- reload ---- */

static int
load_and_use(struct daemon *d, struct cc_err *err)
{
    struct config *config = NULL;
    struct cc_err rejection = { 0 };
    int rc = 0;

    if (config_load(d->options->config_path, d->options->overrides, d->options->override_count,
                &config, &rejection) != 0)
        log_rejected(d, &rejection);
    else
        rc = use_config(d, &config, err);
    config_free(config);
    return rc;
}

int
daemon_reload(struct daemon *d, struct cc_err *err)
{
    struct http_exchange *exchanges[RELOAD_WAITING_MAX];
    const size_t count = take_waiting(d, exchanges);
    int rc;

    (void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%lld", (long long)cc_clock_mono_ms() * 1000);
    d->reload.changed = 0;
    d->reload.error[0] = d->reload.restart[0] = '\0';
    if ((rc = load_and_use(d, err)) != 0)
        (void)cc_strcpy(d->reload.error, sizeof(d->reload.error), cc_err_text(err));
    answer_all(d, exchanges, count);
    (void)sd_notify(0, "READY=1");
    return rc;
}
