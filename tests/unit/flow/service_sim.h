/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_FLOW_SERVICE_SIM_H
#define TESTS_UNIT_FLOW_SERVICE_SIM_H

/*
 * A service in this process, over HTTP on loopback: sign-in, discovery, and one queue with leases.  It remembers what
 * it was told of each request, and can be told to misbehave.  Any thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim;

struct sim *sim_open(int64_t lease_ms);
void sim_close(struct sim *sim);

/* "http://127.0.0.1:PORT/" */
const char *sim_url(const struct sim *sim);

/* Queues a request; its body carries the members of extra (a JSON object's text, or NULL). */
void sim_enqueue(struct sim *sim, const char *id, const char *extra);

/* Takes the lease of a leased request away, and does not give the request out again until sim_enqueue(). */
void sim_take_back(struct sim *sim, const char *id);

/* The time of every lease is up: what is not completed is given out again. */
void sim_end_leases(struct sim *sim);

/* Answers to uploads say nothing of this request. */
void sim_mute_result(struct sim *sim, const char *id);

/* The next result of this request is answered leaseLost, and the lease is taken away. */
void sim_lose_result(struct sim *sim, const char *id);

/* As if the request had been downloaded before, or its result uploaded and accepted before. */
void sim_lease(struct sim *sim, const char *id);
void sim_complete(struct sim *sim, const char *id, const char *result);

/* Waits until this many requests are accepted for good, or fails the test. */
void sim_wait_accepted(struct sim *sim, unsigned count);

/* Waits until this many requests are leased at once, or fails the test. */
void sim_wait_leased(struct sim *sim, unsigned count);

/* What it knows of one request. */
struct sim_request {
    unsigned downloads, uploads, accepted, releases, renewals, refused_renewals;
    int attempt;
    bool leased;
    char result[2048]; /* accepted last */
};
struct sim_request sim_request(struct sim *sim, const char *id);

unsigned sim_downloads(struct sim *sim);  /* calls */
unsigned sim_uploads(struct sim *sim);    /* calls */
unsigned sim_max_leased(struct sim *sim); /* at once, ever */

/* The next count calls of this kind ("download", "upload", "renewLeases", "release") are answered with a status. */
void sim_fail(struct sim *sim, const char *call, unsigned status, unsigned count);

/* Every upload that carries a result of this request is answered 400. */
void sim_refuse_result(struct sim *sim, const char *id);

#endif
