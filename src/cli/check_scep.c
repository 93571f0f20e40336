/* SPDX-License-Identifier: MIT */
#include "check_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "upkeep/expiry.h"

/* ---- the RA's certificates, where a CA elsewhere gave them ---- */

static void
check_ra(struct check *c, const char *path, const char *setting, enum hsm_role role)
{
    const char *uri = config_key(c->config, hsm_role_name(role));
    const struct check_certificate file = {
        .check = "ra-certificate",
        .check_expired = "ra-expired",
        .check_key = "ra-key",
        .what = "the RA certificate",
        .path = path,
        .setting = setting,
        .role = role,
        /* Without a key of its own for signing, one key does both. */
        .uri = uri != NULL ? uri : config_key(c->config, hsm_role_name(HSM_ROLE_SCEP_RA_ENCRYPT)),
        .when_expired =
                "devices do not encrypt to it any more, or do not believe answers that it signs",
        .when_of_another =
                "what devices encrypt to it the token's key cannot open, or what it signs does not verify",
    };

    check_certificate(c, &file);
}

static void
check_profile(struct check *c, const struct config_scep *scep)
{
    check_ra(c, scep->ra_encrypt, "[scep] ra-encrypt", HSM_ROLE_SCEP_RA_ENCRYPT);
    check_ra(c, scep->ra_sign, "[scep] ra-sign", HSM_ROLE_SCEP_RA_SIGN);
}

/* ---- the server ---- */

static void
check_server(struct check *c)
{
    struct http_response response;
    struct cc_err err = { 0 };
    struct upkeep_finding *f;
    char path[512];

    http_response_init(&response);
    (void)snprintf(path, sizeof(path), "%.256s?operation=GetCACaps", c->config->scep.path);
    if (check_get(c->config->scep.listen, path, &response, &err) == 0) {
        check_say(c, "scep-server", UPKEEP_OK, "the SCEP server answers on %s",
                c->config->scep.listen);
    } else {
        f = check_say(c, "scep-server", UPKEEP_ERROR, "the SCEP server does not answer on %s",
                c->config->scep.listen);
        upkeep_cause(f, "%s", cc_err_text(&err));
        upkeep_cure(f,
                "certconnector status says why it is not ready; restart the daemon if [scep] listen was changed");
    }
    http_response_free(&response);
}

void
check_scep(struct check *c)
{
    if ((c->config->connector.features & CONFIG_SCEP) == 0)
        return;
    check_profile(c, &c->config->scep.own);
    for (size_t i = 0; i < c->config->scep_profile_count; i++)
        check_profile(c, &c->config->scep_profiles[i]);
    if (c->status != NULL)
        check_server(c);
    else
        check_can_listen(c, c->config->scep.listen, "[scep] listen");
}

/* ---- what ends soon ---- */

static void
say_end(struct check *c, const struct upkeep_item *item, int64_t now)
{
    const int64_t days = upkeep_days_left(item, now);
    struct upkeep_finding *f;

    if (item->not_after_ms <= now) {
        f = check_say(c, "expired", UPKEEP_ERROR, "%s has expired", item->name);
        upkeep_cause(f, "its last day was %lld days ago", (long long)-days - 1);
    } else {
        f = check_say(c, "expiring", days < 1 ? UPKEEP_ERROR : UPKEEP_WARNING,
                "%s expires in %lld days", item->name, (long long)days);
        upkeep_cause(f, "what depends on it stops then");
    }
    upkeep_cure(f, "%s", item->cure);
}

static bool
is_listed(const struct upkeep_items *items, const char *name)
{
    for (size_t i = 0; i < items->count; i++)
        if (strcmp(items->item[i].name, name) == 0)
            return true;
    return false;
}

/* What only a running daemon has: the RA's certificates that its CA gave it. */
static void
take_from_daemon(struct check *c, struct upkeep_items *items)
{
    json_object *list = NULL;

    if (c->status == NULL || cc_json_get_array(c->status, "certificates", &list, NULL) != 0 ||
            list == NULL)
        return;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        json_object *one = json_object_array_get_idx(list, i);
        struct upkeep_item item = {
            .cure = "it should have been renewed by itself: the daemon's log says why not"
        };
        struct upkeep_item *more;

        if (strcmp(check_text(one, "role"), "scep-ra") != 0 ||
                is_listed(items, check_text(one, "name")) ||
                cc_time_parse(check_text(one, "expirationDateTime"), &item.not_after_ms, NULL) != 0)
            continue;
        (void)cc_strcpy(item.name, sizeof(item.name), check_text(one, "name"));
        /* Nothing is wrong with one that has its threshold still before it. */
        if (!json_object_object_get_ex(one, "threshold", NULL))
            item.quiet_until_ms = INT64_MAX;
        if ((more = realloc(items->item, (items->count + 1) * sizeof(*more))) == NULL) {
            c->no_memory = true;
            return;
        }
        items->item = more;
        items->item[items->count++] = item;
    }
}

void
check_expiry(struct check *c)
{
    const int64_t now = cc_clock_now_ms();
    struct upkeep_items items = { .count = 0 };
    struct cc_err err = { 0 };
    size_t soon = 0;

    if (upkeep_items_collect(c->config, c->store, &items, &err) != 0)
        c->no_memory = true;
    take_from_daemon(c, &items);
    for (size_t i = 0; i < items.count; i++) {
        if (upkeep_threshold(&items.item[i], now) < 0)
            continue;
        say_end(c, &items.item[i], now);
        soon++;
    }
    if (soon == 0)
        check_say(c, "expiry", UPKEEP_OK,
                "none of %zu certificates, CRLs and secrets ends within 60 days", items.count);
    upkeep_items_free(&items);
}
