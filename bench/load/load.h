/* The load generator's shared parts: clock, histogram, connections, options. See load.c. */
#ifndef LOAD_H
#define LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* --- time and latency ------------------------------------------------------------------------ */

int64_t now_ns(void);
void sleep_until(int64_t ns);

/* Log-linear buckets: 64 per power of two of nanoseconds, so a quantile is right within 1.6 %. */
enum { HIST_SUB = 64, HIST_POWERS = 36, HIST_SIZE = HIST_SUB * HIST_POWERS };

typedef struct {
    uint64_t count[HIST_SIZE];
    uint64_t total;
    int64_t max, sum;
} Hist;

static inline void hist_add(Hist *h, int64_t ns) {
    uint64_t v = ns < 0 ? 0 : (uint64_t)ns;
    unsigned at = (unsigned)v;
    if (v >= HIST_SUB) {
        unsigned power = 63u - (unsigned)__builtin_clzll(v); /* >= 6 */
        at = (power - 5) * HIST_SUB + (unsigned)((v >> (power - 6)) & (HIST_SUB - 1));
        if (at >= HIST_SIZE) at = HIST_SIZE - 1;
    }
    h->count[at]++;
    h->total++;
    h->sum += ns;
    if (ns > h->max) h->max = ns;
}

double hist_ms(const Hist *h, double quantile);
void hist_print(FILE *out, const char *name, const Hist *h); /* "name":{…} without a comma */

/* --- connections ----------------------------------------------------------------------------- */

typedef enum { SSE, WS, HTTP } Kind;
typedef enum { CLOSED, HEAD, OPEN } State;

typedef struct Conn Conn;
struct Conn {
    int fd;
    uint8_t kind, state;
    bool frozen;     /* connected, but never read from */
    bool publisher;  /* its frames are answers, not deliveries */
    bool greeted;    /* its first event has come */
    uint32_t index;
    uint32_t next;   /* the number of the event that must come next */
    char *rest;      /* bytes of an event that is not whole yet */
    uint32_t rest_len, rest_cap;
    int64_t t_connect, t_first;
    char id[64];     /* the last position seen, where wanted */
    char *out;       /* bytes not sent yet */
    size_t out_len, out_cap, out_at;
    int64_t t_sent, t_next, t_end; /* for the modes */
    uint64_t received;
};

typedef struct {
    const char *mode, *host, *path, *pub_path, *pub_text, *hello, *header, *body, *content_type;
    const char *write_text;
    int port, pub_port, again_port;
    Kind kind;
    int clients, batch, frozen, size, depth, lines;
    double rate, seconds, warmup, drain, pause;
    bool wait_event, no_publish, want_ids, random_payload;
} Options;

extern Options opt;
extern int epfd;
extern Conn *conns;

/* Everything counted about deliveries in the present run. */
typedef struct {
    uint64_t delivered, missing, repeated, snapshots, gaps, answers, errors, lost, malformed, bytes;
    uint64_t in_window;
    Hist each, last; /* publish -> last byte at a client; at the last client */
    char first_error[240];
} Counts;

extern Counts got;

/* Published events: when, and how many clients have each. */
extern int64_t *published_at;
extern uint32_t *reached;
extern uint32_t published, measured_from, measured_to, events_cap;
extern int healthy;
extern int64_t window_start, window_end; /* deliveries between them make the rate */

void conn_open(Conn *c, Kind kind, const char *host, int port, const char *path, const char *extra);
void conn_close(Conn *c, bool reset);
bool conn_read(Conn *c);                      /* false: it has ended */
void conn_write(Conn *c, const char *data, size_t size);
void conn_flush(Conn *c);
void ws_text(Conn *c, const char *text, size_t size);
int poll_once(int64_t timeout_ns);            /* reads what is there */
void connect_all(int from, int to, const char *extra, Hist *tcp, Hist *first, Hist *event);
double cpu_s(void);
void mark(const char *what);                  /* a line for whoever samples the server */

extern void (*on_http)(Conn *c, char *data, size_t size); /* bytes on an HTTP connection */
extern void (*on_answer)(Conn *c, const char *payload, size_t size);
extern void (*on_turn)(void);                 /* called often, between reads */

int run_fanout(void);
int run_connect(void);
int run_storm(void);
int run_write(void);
int run_http(void);
int run_gateway(void);

#endif
