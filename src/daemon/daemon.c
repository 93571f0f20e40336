/* SPDX-License-Identifier: MIT */
#include "daemon_int.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "store/instance.h"

#define EXIT_CONFIG 2
#define STORE_RETRY_MS 500
#define STORE_RETRY_MAX_MS 15000

/* ---- signals: all threads have them blocked, and this one asks for them ---- */

static void
block_signals(sigset_t *ret_set)
{
    sigemptyset(ret_set);
    sigaddset(ret_set, SIGTERM);
    sigaddset(ret_set, SIGINT);
    sigaddset(ret_set, SIGHUP);
    sigaddset(ret_set, DAEMON_SIGNAL_FENCED);
    (void)pthread_sigmask(SIG_BLOCK, ret_set, NULL);
}

int
daemon_next_signal(struct daemon *d, int64_t ms)
{
    const struct timespec timeout = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };
    int number;

    atomic_store(&d->turned_ms, cc_clock_mono_ms());
    number = sigtimedwait(&d->signals, NULL, &timeout);
    atomic_store(&d->turned_ms, cc_clock_mono_ms());
    return number > 0 ? number : 0;
}

/* ---- start ---- */

static int
load_config(const struct options *options, struct config **ret_config)
{
    struct cc_err err = { 0 };

    if (config_load(options->config_path, options->overrides, options->override_count, ret_config,
                &err) == 0)
        return 0;
    fprintf(stderr, "%s\n", cc_err_text(&err));
    return -1;
}

/* Opens the store, and waits for it when it is away; -1 with CC_DOM_CANCELLED when we are told to stop meanwhile. */
static int
open_store(struct daemon *d, struct cc_err *err)
{
    /* What can never be opened is not waited for. */
    if (store_check_uri(d->config->connector.state, err) != 0) {
        err->domain = CC_DOM_CONFIG;
        return cc_err_in(err, "[connector] state");
    }
    for (unsigned failures = 0;; failures++) {
        struct cc_err why = { 0 };
        const struct event_fields fields = { .error = &why };
        int number;

        if (store_open(d->config->connector.state, &d->store, &why) == 0) {
            if (failures > 0)
                eventlog_write(d->log, EVENT_STORE_RECOVERED, NULL, "The state store was opened");
            return 0;
        }
        if (failures == 0) {
            cc_log(CC_LOG_ERROR, "daemon", "state store: %s", cc_err_text(&why));
            eventlog_write(d->log, EVENT_STORE_UNAVAILABLE, &fields,
                    "The state store cannot be opened; it is tried again until it can: %s",
                    cc_err_text(&why));
        }
        number = daemon_next_signal(d, cc_backoff_ms(failures, STORE_RETRY_MS, STORE_RETRY_MAX_MS));
        if (number == SIGTERM || number == SIGINT)
            return cc_err_set(err, CC_DOM_CANCELLED, 0, "stopped");
    }
}

static int
start(struct daemon *d, struct cc_err *err)
{
    if (open_store(d, err) != 0 || watch_start(d, &d->watch, err) != 0)
        return -1;
    /* Before the parts, so that it can be asked what they wait for. */
    if (control_open(d, err) != 0 || monitor_move(d, d->config->metrics.listen, err) != 0)
        return -1;
    return parts_start(d, err);
}

/* ---- run ---- */

static void
look_at_ourselves(struct daemon *d)
{
    char line[200];

    status_line(d, line, sizeof(line));
    (void)sd_notifyf(0, "WATCHDOG=1\nSTATUS=%s", line);
}

static int64_t
look_interval_ms(void)
{
    uint64_t watchdog_us = 0;

    if (sd_watchdog_enabled(0, &watchdog_us) <= 0 || watchdog_us / 2000 > DAEMON_LOOK_MS)
        return DAEMON_LOOK_MS;
    return (int64_t)(watchdog_us / 2000);
}

/*
 * We were away for longer than the lease (stopped, or cut off from the database), and others go on with what we had in
 * hand: it is dropped, and we begin anew.
 */
static int
begin_again(struct daemon *d, struct cc_err *err)
{
    /* It may have been seen already, while the parts were started. */
    if (!store_was_fenced(d->store))
        return 0;
    membership_say_fenced(d);
    parts_drop(d);
    return parts_start(d, err);
}

/* Until SIGTERM or SIGINT; -1 when a reload left nothing to go on with. */
static int
run(struct daemon *d, struct cc_err *err)
{
    int64_t interval = look_interval_ms();

    eventlog_write(d->log, EVENT_CONNECTOR_STARTED, NULL,
            "certconnectord %s started as connector %s", CC_VERSION, d->connector_id);
    (void)sd_notify(0, "READY=1");
    for (;;) {
        look_at_ourselves(d);
        switch (reload_is_wanted(d) ? SIGHUP : daemon_next_signal(d, interval)) {
        case SIGTERM:
        case SIGINT:
            return 0;
        case SIGHUP:
            if (daemon_reload(d, err) != 0)
                return -1;
            break;
        case DAEMON_SIGNAL_FENCED:
            if (begin_again(d, err) != 0)
                return -1;
            break;
        default:
            break;
        }
    }
}

/* ---- stop ---- */

static void
stop(struct daemon *d)
{
    (void)sd_notifyf(0, "STOPPING=1\nEXTEND_TIMEOUT_USEC=%lld",
            (long long)(DAEMON_DRAIN_MS + DAEMON_GOODBYE_MS) * 2000);
    reload_end(d);
    http_listener_close(d->control);
    monitor_close(d);
    parts_stop(d);
    watch_stop(d->watch);
    store_close(d->store);
}

static int
run_with_log(struct daemon *d)
{
    struct cc_err err = { 0 };
    const struct event_fields fields = { .error = &err };
    bool started;
    int rc;

    daemon_log_settings(d);
    findings_say(d);
    rc = start(d, &err);
    started = rc == 0;
    if (started)
        rc = run(d, &err);
    stop(d);
    if (rc == 0 || err.domain == CC_DOM_CANCELLED) {
        eventlog_write(d->log, EVENT_CONNECTOR_STOPPED, NULL, "certconnectord stopped");
        return EXIT_SUCCESS;
    }
    eventlog_write(d->log, started ? EVENT_CONNECTOR_STOPPED : EVENT_CONNECTOR_START_FAILED,
            &fields, "certconnectord %s: %s", started ? "cannot go on" : "cannot start",
            cc_err_text(&err));
    fprintf(stderr, "certconnectord: %s\n", cc_err_text(&err));
    return err.domain == CC_DOM_CONFIG ? EXIT_CONFIG : EXIT_FAILURE;
}

int
daemon_run(const struct options *options)
{
    struct daemon d = { .options = options, .started_ms = cc_clock_now_ms() };
    struct eventlog_settings log;
    struct cc_err err = { 0 };
    int status = EXIT_FAILURE;

    if (load_config(options, &d.config) != 0)
        return EXIT_CONFIG;
    if (options->check_only) {
        printf("%s: the configuration is good\n", options->config_path);
        config_free(d.config);
        return EXIT_SUCCESS;
    }
    block_signals(&d.signals);
    (void)pthread_mutex_init(&d.lock, NULL);
    (void)cc_strcpy(d.name, sizeof(d.name), d.config->connector.name);
    log = parts_log_settings(&d);
    if (eventlog_open(&log, &d.log, &err) == 0)
        status = run_with_log(&d);
    else
        fprintf(stderr, "certconnectord: %s\n", cc_err_text(&err));
    eventlog_close(d.log);
    pthread_mutex_destroy(&d.lock);
    config_free(d.config);
    return status;
}
