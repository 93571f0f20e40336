/* SPDX-License-Identifier: MIT */
#include "check_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "store/instance.h"

static void
say_closed(struct check *c, const struct cc_err *err)
{
    const char *uri = c->config->connector.state;
    struct upkeep_finding *f =
            check_say(c, "store-open", UPKEEP_ERROR, "the state store %s cannot be used", uri);

    upkeep_cause(f, "%s", cc_err_text(err));
    if (cc_starts_with(uri, "sqlite:"))
        upkeep_cure(f,
                "let the daemon's user own the file and its folder; a file that is damaged is replaced by a backup: "
                "certconnector store restore");
    else
        upkeep_cure(f,
                "start the database server, and see that the connector's user may log in to it (psql with the "
                "same URI tells), or correct [connector] state");
}

/* True when it can be opened as it is, without the steps of its schema. */
static bool
judge_schema(struct check *c, const struct store_look *look)
{
    struct upkeep_finding *f;

    if (!look->usable) {
        f = check_say(c, "store-schema", UPKEEP_ERROR,
                "the state store has schema %lld, and this version knows %lld",
                (long long)look->schema, (long long)look->known);
        upkeep_cause(f,
                "a newer version of the connector has used it, whose changes this one must not meet");
        upkeep_cure(f,
                "install that version again, or restore a backup that was made before: certconnector store "
                "restore");
        return false;
    }
    if (look->schema < look->known) {
        check_say(c, "store-schema", UPKEEP_OK,
                look->schema == 0 ? "the state store is empty: it is made when the daemon starts"
                                  : "the state store is of an older version: it is brought up to "
                                    "date when the daemon starts");
        return false;
    }
    check_say(c, "store-schema", UPKEEP_OK, "the state store has the schema of this version");
    return true;
}

struct members {
    const char *name;
    bool found;
};

static int
on_member(void *arg, const struct store_member *member)
{
    struct members *m = arg;

    m->found = m->found || strcmp(member->name, m->name) == 0;
    return 0;
}

static void
check_name(struct check *c)
{
    struct members m = { .name = c->config->connector.name };
    struct upkeep_finding *f;

    if (c->status != NULL || store_members(c->store, on_member, &m, NULL) != 0)
        return;
    if (!m.found) {
        check_say(c, "instance-name", UPKEEP_OK,
                "no other instance of the state store is named \"%s\"", m.name);
        return;
    }
    f = check_say(c, "instance-name", UPKEEP_WARNING,
            "another instance named \"%s\" uses the state store, or did until just now", m.name);
    upkeep_cause(f,
            "one of its name cannot start while that one runs; one that crashed is gone after some seconds");
    upkeep_cure(f, "give each instance a [connector] name of its own");
}

void
check_store(struct check *c)
{
    const char *uri = c->config->connector.state;
    struct store_look look;
    struct cc_err err = { 0 };

    if (store_check_uri(uri, &err) != 0 || store_look(uri, &look, &err) != 0) {
        say_closed(c, &err);
        return;
    }
    if (!judge_schema(c, &look))
        return;
    if (store_open(uri, &c->store, &err) != 0) {
        say_closed(c, &err);
        return;
    }
    check_say(c, "store-open", UPKEEP_OK, "the state store %s can be used", uri);
    if (look.shared)
        check_name(c);
}
