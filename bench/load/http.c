/* Keep-alive HTTP requests (PATCH, NDJSON), and wsgateway's k6 scenario. */
#define _GNU_SOURCE
#include "load.h"

#include <stdlib.h>
#include <string.h>

static char *request;
static size_t request_size;
static uint64_t done, failed;
static Hist took;
static bool going;

typedef struct {
    char tail[8];     /* the last bytes: the end of a chunked body */
    char head[2048];
    size_t head_len, left;
    bool in_body, chunked;
} Response;

static Response *responses;

static void send_request(Conn *c) {
    c->t_sent = now_ns();
    conn_write(c, request, request_size);
}

static void finished(Conn *c, Response *r) {
    r->in_body = false;
    r->head_len = 0;
    done++;
    hist_add(&took, now_ns() - c->t_sent);
    if (going) send_request(c);
}

static void begin_body(Response *r) {
    if (memcmp(r->head, "HTTP/1.1 2", 10)) {
        failed++;
        if (!got.first_error[0]) snprintf(got.first_error, sizeof got.first_error, "%.200s", r->head);
    }
    r->in_body = true;
    const char *length = strcasestr(r->head, "\r\ncontent-length:");
    r->chunked = !length;
    r->left = length ? strtoul(length + 17, NULL, 10) : 0;
    memset(r->tail, 0, sizeof r->tail);
}

static void http_bytes(Conn *c, char *data, size_t size) {
    Response *r = &responses[c->index];
    if (!r->in_body) {
        size_t n = size < sizeof r->head - 1 - r->head_len ? size : sizeof r->head - 1 - r->head_len;
        memcpy(r->head + r->head_len, data, n);
        r->head[r->head_len + n] = 0;
        char *end = strstr(r->head, "\r\n\r\n");
        if (!end) {
            r->head_len += n;
            return;
        }
        size_t used = (size_t)(end + 4 - r->head) - r->head_len;
        data += used;
        size -= used;
        begin_body(r);
    }
    if (!r->chunked) {
        r->left -= size < r->left ? size : r->left;
        if (!r->left) finished(c, r);
        return;
    }
    /* One request in flight: a chunked body ends where "0\r\n\r\n" is the last that has come. */
    size_t n = size < 5 ? size : 5;
    memmove(r->tail, r->tail + n, 5 - n);
    memcpy(r->tail + 5 - n, data + size - n, n);
    if (!memcmp(r->tail, "0\r\n\r\n", 5)) finished(c, r);
}

static void make_request(const char *verb, const char *path, const char *body, size_t size) {
    request = malloc(size + 1024);
    int n = sprintf(request, "%s %s HTTP/1.1\r\nHost: %s:%d\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s\r\n",
                    verb, path, opt.host, opt.port, opt.content_type, size, opt.header ? opt.header : "");
    memcpy(request + n, body, size);
    request_size = (size_t)n + size;
}

/* `depth` connections, one request in flight on each. --path "PATCH /store?path=.x"; --lines repeats
 * the body so many times, with a %d in it counting. --clients listen meanwhile. */
int run_http(void) {
    char verb[16], *path = strchr(opt.pub_path, ' ');
    snprintf(verb, sizeof verb, "%.*s", (int)(path - opt.pub_path), opt.pub_path);
    size_t each = strlen(opt.body) + 16, size = 0;
    char *body = malloc(each * (size_t)opt.lines + 1);
    for (int i = 0; i < opt.lines; i++) {
        size += (size_t)snprintf(body + size, each, opt.body, i);
        if (opt.lines > 1) body[size++] = '\n';
    }
    make_request(verb, path + 1, body, size);
    on_http = http_bytes;
    connect_all(0, opt.clients, NULL, NULL, NULL, NULL);
    Conn *senders = calloc((size_t)opt.depth, sizeof *senders);
    responses = calloc((size_t)opt.depth, sizeof *responses);
    going = true;
    sleep_until(now_ns() + (int64_t)(opt.pause * 1e9));
    for (int i = 0; i < opt.depth; i++) {
        senders[i].index = (uint32_t)i;
        conn_open(&senders[i], HTTP, opt.host, opt.port, "", NULL);
        if (senders[i].state == OPEN) send_request(&senders[i]);
    }
    sleep_until(now_ns() + (int64_t)(opt.warmup * 1e9));
    memset(&took, 0, sizeof took);
    done = failed = 0;
    mark("begin");
    int64_t t0 = now_ns(), stop = t0 + (int64_t)(opt.seconds * 1e9);
    double cpu = cpu_s();
    uint64_t bytes = got.bytes;
    while (now_ns() < stop) {
        poll_once(stop - now_ns());
        for (int i = 0; i < opt.depth; i++) conn_flush(&senders[i]);
    }
    double s = (double)(now_ns() - t0) / 1e9, used = cpu_s() - cpu;
    mark("end");
    printf("{\"mode\":\"http\",\"clients\":%d,\"depth\":%d,\"lines\":%d,\"seconds\":%.3f,\"per_s\":%.1f,\"lines_per_s\":%.1f,"
           "\"failed\":%lu,\"lost\":%lu,\"generator_cpu\":%.3f,\"window_bytes\":%lu,",
           opt.clients, opt.depth, opt.lines, s, (double)done / s, (double)done * opt.lines / s, failed, got.lost,
           used / s, got.bytes - bytes);
    hist_print(stdout, "took", &took);
    printf(",\"first_error\":\"");
    for (char *p = got.first_error; *p; p++) putchar(*p < 32 || *p == '"' || *p == '\\' ? ' ' : *p);
    printf("\"}\n");
    for (int i = 0; i < opt.depth; i++) conn_close(&senders[i], true);
    return 0;
}

/* --- wsgateway: `clients` sessions of 5-40 s that say ping and hello every 1-3 s, and a worker that
 * sends "routine message" to all of them by tag, as fast as it is answered ---------------------- */

static uint64_t said, routine, sessions;
static Hist worker;

static double uniform(double from, double to) { return from + (to - from) * drand48(); }

static void heard(Conn *c, const char *payload, size_t size) {
    (void)c;
    if (memmem(payload, size, "routine message", 15)) routine++;
}

static void start_session(Conn *c) {
    conn_open(c, WS, opt.host, opt.port, opt.path, NULL);
    int64_t now = now_ns();
    c->t_next = now + (int64_t)(uniform(1, 3) * 1e9);
    c->t_end = now + (int64_t)(uniform(5, 40) * 1e9);
    sessions++;
}

static void converse(void) {
    static int64_t last;
    int64_t now = now_ns();
    if (now - last < 5000000) return;
    last = now;
    for (int i = 0; i < opt.clients; i++) {
        Conn *c = &conns[i];
        if (c->state == CLOSED || now > c->t_end) {
            conn_close(c, false);
            start_session(c);
        } else if (c->state == OPEN && now > c->t_next) {
            const char *hello = opt.pub_text;
            ws_text(c, "{\"type\":\"ping\"}", 15);
            ws_text(c, hello, strlen(hello));
            said += 2;
            c->t_next = now + (int64_t)(uniform(1, 3) * 1e9);
        }
    }
}

int run_gateway(void) {
    srand48(7);
    on_http = http_bytes;
    on_answer = heard;
    responses = calloc(1, sizeof *responses);
    for (int i = 0; i < opt.clients; i++) start_session(&conns[i]);
    sleep_until(now_ns() + 300000000LL);
    char *path = strchr(opt.pub_path, ' ');
    make_request("POST", path + 1, opt.body, strlen(opt.body));
    Conn sender = {0};
    conn_open(&sender, HTTP, opt.host, opt.port, "", NULL);
    going = true;
    send_request(&sender);
    on_turn = converse;
    mark("begin");
    int64_t t0 = now_ns(), stop = t0 + (int64_t)(opt.seconds * 1e9);
    double cpu = cpu_s();
    while (now_ns() < stop) poll_once(stop - now_ns());
    double s = (double)(now_ns() - t0) / 1e9, used = cpu_s() - cpu;
    mark("end");
    worker = took;
    printf("{\"mode\":\"gateway\",\"clients\":%d,\"seconds\":%.3f,\"received\":%lu,\"per_s\":%.1f,\"sends\":%lu,"
           "\"failed\":%lu,\"said\":%lu,\"sessions\":%lu,\"lost\":%lu,\"generator_cpu\":%.3f,",
           opt.clients, s, routine, (double)routine / s, done, failed, said, sessions, got.lost, used / s);
    hist_print(stdout, "send", &worker);
    printf(",\"first_error\":\"");
    for (char *p = got.first_error; *p; p++) putchar(*p < 32 || *p == '"' || *p == '\\' ? ' ' : *p);
    printf("\"}\n");
    conn_close(&sender, true);
    return 0;
}
