/* SPDX-License-Identifier: MIT */
#ifndef CONFIG_CONFIG_INT_H
#define CONFIG_CONFIG_INT_H

/*
 * Between the files of this room: the table of settings, what a value may be, and where it came from.
 *
 * A setting is one entry of the table in table.c: its place in a struct, how its text is read and written, its
 * default, and an example for the person who has to correct it.  The struct, called object here, is struct config, or
 * for a section that stands once for each name ([ca "NAME"] and its like: a group) an item of an array in it.  A
 * section whose keys are names ([keys], [key-alias]) is an entry of the table of sections.  Adding a setting is a field
 * in config.h and a line there.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "config/config.h"

#define CONFIG_LINE_MAX 2000       /* bytes of one line, its end included */
#define CONFIG_FILE_MAX (1U << 20) /* bytes of one file */
#define CONFIG_FILES_MAX 256       /* drop-ins */
#define CONFIG_PAIRS_MAX 1000      /* lines of a section whose keys are names */
#define CONFIG_ITEMS_MAX 64        /* sections of a group */
#define CONFIG_LIST_MAX 64         /* items of a list */
#define CONFIG_NAME_MAX 64         /* bytes of an item's name */
#define CONFIG_SECTION_MAX 96      /* bytes of a section's name with its item's and a NUL */
#define CONFIG_SETTINGS_MAX 160
#define CONFIG_NAMES_COUNT 2  /* sections whose keys are names */
#define CONFIG_GROUPS_COUNT 3 /* sections that stand once for each name */

/* Where something stands; line 0: the command line. */
struct config_origin {
    const char *file; /* borrowed */
    int line;
};

/* How a value lies in its object. */
enum config_form {
    CONFIG_FORM_TEXT,     /* const char *, on the heap */
    CONFIG_FORM_UNSIGNED, /* unsigned */
    CONFIG_FORM_DURATION, /* int64_t, milliseconds */
    CONFIG_FORM_SIZE,     /* uint64_t, bytes */
    CONFIG_FORM_BOOL,     /* bool */
    CONFIG_FORM_CHOICE,   /* an enum whose values count from 0 in the order of choices */
    CONFIG_FORM_FEATURES, /* unsigned, bits of enum config_feature */
    CONFIG_FORM_LIST      /* struct config_list, all of it one block on the heap */
};

enum config_need {
    CONFIG_NEED_NEVER,
    CONFIG_NEED_ALWAYS,
    CONFIG_NEED_SERVICE /* when a feature is on that talks to the service */
};

struct config_setting {
    const char *section;
    const char *key;
    enum config_form form;
    size_t offset; /* in its object */
    /* Of a text or a list's item: whether its form is right.  The error text says what it has to be and never repeats
       the value. */
    int (*check)(const char *value, struct cc_err *err);
    /* The words of a choice, and of a text or a list that has to be of them; NULL-terminated.  With a check too, what
       begins with a digit is checked instead. */
    const char *const *choices;
    const char *zero;     /* the word for 0 of an unsigned: "auto" */
    int64_t min, max;     /* of numbers, in their unit */
    const char *fallback; /* in the form of the file; NULL: nothing */
    enum config_need need;
    bool secret; /* a reference to a secret: never shown */
    const char *example;
};

/* A section whose keys are names. */
struct config_names {
    const char *section;
    const char *const *names; /* the only ones, NULL-terminated; NULL: what check_name takes */
    int (*check_name)(const char *name, struct cc_err *err);
    int (*check)(const char *value, struct cc_err *err);
    size_t pairs_offset, count_offset; /* in struct config */
    const char *example;
};

/* A section that stands once for each name.  The first field of its items is the name, on the heap. */
struct config_group {
    const char *section;
    const char *shown; /* with a name, for messages */
    size_t item_size;
    size_t items_offset, count_offset; /* in struct config */
};

extern const struct config_setting config_settings[];
extern const size_t config_setting_count;
extern const struct config_names config_names[CONFIG_NAMES_COUNT];
extern const struct config_group config_groups[CONFIG_GROUPS_COUNT];

/* The word of each feature. */
struct config_feature_name {
    enum config_feature bit;
    const char *name;
};
extern const struct config_feature_name config_feature_names[];
extern const size_t config_feature_name_count;

const struct config_setting *config_setting_find(const char *section, const char *key);
const struct config_names *config_names_find(const char *section);

/* The group that a setting belongs to; NULL: its object is struct config. */
const struct config_group *config_setting_group(const struct config_setting *setting);

/* ---- groups ---- */

/* By a section's name, with or without an item's ("ca \"NAME\"", "ca.NAME.key"); NULL: it is none. */
const struct config_group *config_group_find(const char *section);

/* The item's name in section, "ca \"NAME\"". */
CC_MUST int config_group_name(const struct config_group *group, const char *section,
        char ret_name[CONFIG_NAME_MAX + 1], struct cc_err *err);
/* The reverse; returns text. */
const char *config_group_label(const struct config_group *group, const char *name,
        char text[CONFIG_SECTION_MAX]);

size_t config_group_count(const struct config *config, const struct config_group *group);
void *config_group_item(const struct config *config, const struct config_group *group, size_t i);
const char *config_item_name(const void *item);
/* The item of a name; when there is none, the number of items, or NULL. */
size_t config_group_index(const struct config *config, const struct config_group *group,
        const char *name);
void *config_group_get(const struct config *config, const struct config_group *group,
        const char *name);
/* Appends an item with every default. */
CC_MUST int config_group_add(struct config *config, const struct config_group *group,
        const char *name, struct cc_err *err);
/* Frees all items. */
void config_group_free(struct config *config, const struct config_group *group);

/* Of all settings of a group, or with NULL of struct config itself. */
CC_MUST int config_object_defaults(void *object, const struct config_group *group,
        struct cc_err *err);
void config_object_free(void *object, const struct config_group *group);

/* Where a name stands among pairs; when it does not, count. */
size_t config_pair_index(const struct config_pair *pairs, size_t count, const char *name);

/* ---- hints ---- */

/* "did you mean …", or what there is; appended to a message.  Each returns text, which has size bytes. */
const char *config_hint_section(const char *section, char *text, size_t size);
const char *config_hint_key(const char *section, const char *key, char *text, size_t size);
const char *config_hint_item(const struct config *config, const struct config_group *group,
        const char *name, char *text, size_t size);

/* ---- files ---- */

struct config_file {
    char *path;
    struct cc_buf text;
};

/* The main file and then its drop-ins, in the order in which they count. */
struct config_files {
    struct config_file *file;
    size_t count;
};

/* may_lack: a main file that is not there is read as an empty one. */
CC_MUST int config_files_read(const char *path, bool may_lack, struct config_files *ret,
        struct cc_err *err);
void config_files_free(struct config_files *files);

/* As config_load(), of texts that were read. */
CC_MUST int config_load_files(const struct config_files *files, const char *const *overrides,
        size_t override_count, struct config **ret_config, struct cc_err *err);

/* ---- the name of a setting: "section.key", "group.NAME.key" ---- */

struct config_setting_name {
    char section[CONFIG_SECTION_MAX]; /* as in a file: "service", "ca \"corp\"" */
    char key[CONFIG_LINE_MAX];
};

/* The first len bytes of text. */
CC_MUST int config_setting_split(const char *text, size_t len, struct config_setting_name *ret,
        struct cc_err *err);

/* ---- errors ---- */

/* What a value has to be; returns -1. */
int config_bad(struct cc_err *err, const char *text);

/* "FILE:LINE: [section] key: text"; section and key may be NULL.  Returns -1. */
int config_fail(const struct config_origin *at, const char *section, const char *key,
        struct cc_err *err, const char *fmt, ...) CC_PRINTF(5, 6);

/* What holds for every value: not empty, UTF-8, no control bytes. */
CC_MUST int config_value_check(const char *value, struct cc_err *err);

/* Text to the setting's field and back.  Reading an absent text (NULL) as fallback gives NULL or 0. */
CC_MUST int config_value_read(const struct config_setting *setting, const char *value, void *object,
        struct cc_err *err);
/* Appends nothing when there is no value. */
CC_MUST int config_value_write(const struct config_setting *setting, const void *object,
        struct cc_buf *ret, struct cc_err *err);
/* Frees what the field holds. */
void config_value_free(const struct config_setting *setting, void *object);

/* A text field of an object by its offset. */
const char *config_text_get(const void *object, size_t offset);
CC_MUST int config_text_set(void *object, size_t offset, const char *value, struct cc_err *err);
void config_text_free(void *object, size_t offset);

/* The forms of texts. */
int config_check_text(const char *value, struct cc_err *err);
int config_check_name(const char *value, struct cc_err *err);
int config_check_path(const char *value, struct cc_err *err);
int config_check_socket(const char *value, struct cc_err *err);
int config_check_state(const char *value, struct cc_err *err);
int config_check_token_uri(const char *value, struct cc_err *err);
int config_check_key_uri(const char *value, struct cc_err *err);
int config_check_reference(const char *value, struct cc_err *err);
int config_check_url(const char *value, struct cc_err *err);
int config_check_proxy(const char *value, struct cc_err *err);
int config_check_proxy_user(const char *value, struct cc_err *err);
int config_check_host(const char *value, struct cc_err *err);
int config_check_uuid(const char *value, struct cc_err *err);
int config_check_date(const char *value, struct cc_err *err);
int config_check_tenant(const char *value, struct cc_err *err);
int config_check_alias(const char *value, struct cc_err *err);
int config_check_pointer(const char *value, struct cc_err *err);
int config_check_ocsp_url(const char *value, struct cc_err *err);
int config_check_oid(const char *value, struct cc_err *err);
int config_check_attribute(const char *value, struct cc_err *err);
int config_check_domain(const char *value, struct cc_err *err);
int config_check_url_path(const char *value, struct cc_err *err);
int config_check_listen(const char *value, struct cc_err *err);

/* One file's text, read with inih.  Each callback returns 0, or -1 with err set, which ends the reading. */
struct config_reader {
    const char *file;
    int (*section)(void *arg, const struct config_origin *at, const char *section,
            struct cc_err *err);
    int (*entry)(void *arg, const struct config_origin *at, const char *section, const char *key,
            const char *value, struct cc_err *err);
    void *arg;
};
CC_MUST int config_read_text(const struct config_reader *reader, const char *text, size_t len,
        int *ret_lines, struct cc_err *err);

/* Where each thing of a configuration under construction was said. */
struct config_item_trace {
    struct config_origin settings[CONFIG_SETTINGS_MAX]; /* file NULL: not said */
    struct config_origin begin;                         /* where the item was first named */
    struct config_origin section;                       /* its section that was read last */
};

struct config_trace {
    struct config_origin settings[CONFIG_SETTINGS_MAX];   /* of struct config */
    struct config_item_trace *items[CONFIG_GROUPS_COUNT]; /* as many as the configuration has */
    struct config_origin main;                            /* the main file and its last line */
    struct {
        const char *name;            /* one of the table's */
        struct config_origin origin; /* where the section begins in the main file */
    } sections[16];
    size_t section_count;
};

/* What no single value shows: what is missing, what does not go together.  Fills in what follows from other settings:
   the service's addresses, keys by their role, what there is only one of. */
CC_MUST int config_check_whole(struct config *config, const struct config_trace *trace,
        struct cc_err *err);

#endif
