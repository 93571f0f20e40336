/* SPDX-License-Identifier: MIT */
#ifndef CONFIG_EDIT_INT_H
#define CONFIG_EDIT_INT_H

/* A file of a configuration as the lines that an edit changes. */

#include "config/edit.h"
#include "config_int.h"

struct config_line {
    char *text;  /* with its end; the last of a file may have none */
    size_t from; /* its number in the file as it was read, from 1; 0: it is new */
};

struct config_sheet {
    char *path;
    struct cc_buf before; /* as it was read */
    bool existed;
    bool written;
    struct config_line *line;
    size_t count;
};

struct config_edit {
    struct config_sheet *file; /* the main file and its drop-ins */
    size_t count;
};

/* Takes path and text over, also on failure. */
CC_MUST int config_sheet_take(struct config_sheet *sheet, struct config_file *take_file,
        struct cc_err *err);
void config_sheet_free(struct config_sheet *sheet);

/* All lines, appended. */
CC_MUST int config_sheet_join(const struct config_sheet *sheet, struct cc_buf *ret,
        struct cc_err *err);
bool config_sheet_changed(const struct config_sheet *sheet);

/* A new line (without its end) before the line of this index. */
CC_MUST int config_sheet_insert(struct config_sheet *sheet, size_t at, const char *line,
        struct cc_err *err);
void config_sheet_remove(struct config_sheet *sheet, size_t at);

CC_MUST int config_line_set(struct config_line *line, const char *text, struct cc_err *err);
bool config_line_blank(const struct config_line *line);

#endif
