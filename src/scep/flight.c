/* SPDX-License-Identifier: MIT */
#include "scep_int.h"

#include <stdlib.h>
#include <string.h>

/*
 * One worker a row.  A message that asks for what another is asking for right now waits for that one's answer and holds
 * no thread meanwhile.
 */

/* LOCKED: scep->lock. */
static struct flight **
find_locked(struct scep *scep, const uint8_t *id)
{
    struct flight **at = &scep->flights;

    while (*at != NULL && memcmp((*at)->id, id, SCEPDB_ID_LEN) != 0)
        at = &(*at)->next;
    return at;
}

bool
flight_begin(struct scep *scep, const uint8_t id[SCEPDB_ID_LEN], struct task *take_task)
{
    struct flight *flight, *other;

    pthread_mutex_lock(&scep->lock);
    other = *find_locked(scep, id);
    flight = other == NULL ? calloc(1, sizeof(*flight)) : NULL;
    if (flight != NULL) {
        memcpy(flight->id, id, SCEPDB_ID_LEN);
        flight->next = scep->flights;
        scep->flights = flight;
    } else if (other != NULL && take_task != NULL) {
        take_task->next = other->waiting;
        other->waiting = take_task;
    }
    pthread_mutex_unlock(&scep->lock);
    if (flight == NULL && other == NULL && take_task != NULL) { /* no memory */
        const struct answer later = answer_later();

        reply_send(take_task, &later);
        task_free(take_task);
    }
    return flight != NULL;
}

struct task *
flight_end(struct scep *scep, const uint8_t id[SCEPDB_ID_LEN])
{
    struct task *waiting = NULL;
    struct flight **at, *flight;

    pthread_mutex_lock(&scep->lock);
    at = find_locked(scep, id);
    flight = *at;
    if (flight != NULL) {
        *at = flight->next;
        waiting = flight->waiting;
    }
    pthread_mutex_unlock(&scep->lock);
    free(flight);
    return waiting;
}
