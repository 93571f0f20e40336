/* SPDX-License-Identifier: MIT */
#ifndef UPKEEP_MACHINE_H
#define UPKEEP_MACHINE_H

/*
 * The machine that the connector stands on: modes of its files and folders, and room on its disks.
 *
 * All of it as the calling process sees it: who looks for the daemon must be the daemon's user.  Nothing is changed, no
 * secret is read.  Any thread; quick, unless a disk hangs.
 */

#include <stdbool.h>
#include <stddef.h>

#include "config/config.h"
#include "upkeep/finding.h"

/* config_path: the file that config came from. */
void upkeep_check_files(const struct config *config, const char *config_path, upkeep_fn fn,
        void *arg);

/* The folder with SoftHSM's tokens; false: the module is no SoftHSM, or it cannot be told. */
bool upkeep_softhsm_folder(const struct config *config, char *ret, size_t size);

#define UPKEEP_DISK_WARNING_MIB 500 /* or less than a twentieth */
#define UPKEEP_DISK_ERROR_MIB 50

void upkeep_check_disk(const struct config *config, upkeep_fn fn, void *arg);

#endif
