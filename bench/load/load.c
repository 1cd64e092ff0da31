/* load: what benchmarks need a client for that must not be Python.
 *
 * One thread, one epoll. Modes: fanout, connect (also holds), storm, write, http, gateway. Each
 * prints "# ready", "# begin" and "# end" for whoever samples the server in the meantime, and a
 * line of JSON at the end. Latency is publish -> last byte at the client, by one clock, as the
 * publisher is in this process. It is pinned by whoever starts it.
 *
 * Bias, known: the generator receives with one core. Where it is busy all the time ("generator_cpu"
 * near 1) it limits what can be measured, for all servers alike.
 */
#define _GNU_SOURCE
#include "load.h"

#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>

Options opt = {
    .mode = "", .host = "127.0.0.1", .path = "/events?filter=.bench", .pub_path = "/ws?snapshot=none",
    .pub_text = "{\"type\":\"set\",\"path\":\".bench\",\"value\":\"%s\"}", .port = 8080, .kind = SSE,
    .clients = 1000, .batch = 50, .size = 100, .depth = 64, .lines = 1000, .rate = 100, .seconds = 3,
    .warmup = 0.3, .drain = 3, .pause = 0.2, .content_type = "application/json", .body = "",
    .write_text = "{\"type\":\"set\",\"path\":\".w\",\"value\":%d,\"ref\":%d}",
};

static Conn pub;
static int64_t began;
static double offered_from_s;
static char *frame_text;
static size_t stamp_at, text_size;
static Hist lag;
static uint32_t publish_limit;

/* The publisher's message, with "@00000000" where the number goes. */
static void make_text(void) {
    const char *slot = strstr(opt.pub_text, "%s");
    if (!slot) slot = opt.pub_text + strlen(opt.pub_text);
    size_t before = (size_t)(slot - opt.pub_text), pad = opt.size > 9 ? (size_t)opt.size : 9;
    const char *after = *slot ? slot + 2 : slot;
    text_size = before + pad + strlen(after);
    frame_text = malloc(text_size + 1);
    memcpy(frame_text, opt.pub_text, before);
    for (size_t i = 0; i < pad; i++) frame_text[before + i] = "abcdefghijklmnopqrstuvwxyz012345"[i & 31];
    strcpy(frame_text + before + pad, after);
    stamp_at = before;
}

static void publish_one(int64_t now) {
    char stamp[10];
    snprintf(stamp, sizeof stamp, "@%08x", published);
    memcpy(frame_text + stamp_at, stamp, 9);
    published_at[published++] = now;
    ws_text(&pub, frame_text, text_size);
}

/* Publish what is due. What came due while we were reading leaves together. */
static void pump(void) {
    int64_t now = now_ns();
    double due = (double)(now - began) / 1e9 * opt.rate - offered_from_s;
    uint32_t until = due < 0 ? 0 : (uint32_t)due + 1;
    if (until > publish_limit) until = publish_limit;
    while (published < until) {
        hist_add(&lag, now - began - (int64_t)((double)published / opt.rate * 1e9));
        publish_one(now);
    }
    conn_flush(&pub);
}

static int64_t next_due(void) {
    if (published >= publish_limit) return 2000000;
    int64_t at = began + (int64_t)((double)published / opt.rate * 1e9);
    return at - now_ns();
}

static void open_publisher(void) {
    pub.publisher = true;
    if (opt.no_publish) return;
    conn_open(&pub, WS, opt.host, opt.pub_port ? opt.pub_port : opt.port, opt.pub_path, NULL);
    conn_flush(&pub);
    int64_t give_up = now_ns() + 5000000000LL;
    while (pub.state == HEAD && now_ns() < give_up) poll_once(1000000);
    conn_flush(&pub);
}

static void start_events(uint32_t cap) {
    events_cap = cap;
    published_at = calloc(cap, sizeof *published_at);
    reached = calloc(cap, sizeof *reached);
}

static void count_healthy(void) {
    healthy = 0;
    for (int i = 0; i < opt.clients; i++) healthy += conns[i].state == OPEN && !conns[i].frozen;
}

static void print_counts(void) {
    printf("\"delivered\":%lu,\"missing\":%lu,\"repeated\":%lu,\"snapshots\":%lu,\"gaps\":%lu,\"answers\":%lu,"
           "\"errors\":%lu,\"lost\":%lu,\"malformed\":%lu,\"bytes\":%lu,\"first_error\":\"",
           got.delivered, got.missing, got.repeated, got.snapshots, got.gaps, got.answers, got.errors,
           got.lost, got.malformed, got.bytes);
    for (char *p = got.first_error; *p; p++) putchar(*p < 32 || *p == '"' || *p == '\\' || *p > 126 ? ' ' : *p);
    printf("\"");
}

int run_fanout(void) {
    make_text();
    for (int i = 0; i < opt.frozen; i++) conns[opt.clients - 1 - i].frozen = true;
    connect_all(0, opt.clients, NULL, NULL, NULL, NULL);
    count_healthy();
    open_publisher();
    sleep_until(now_ns() + (int64_t)(opt.pause * 1e9));
    mark("ready");
    uint32_t warm = (uint32_t)(opt.rate * opt.warmup), count = (uint32_t)(opt.rate * opt.seconds);
    if (!count) count = 1;
    start_events(warm + count);
    measured_from = warm;
    measured_to = warm + count;
    began = now_ns();
    window_end = INT64_MAX / 2;
    publish_limit = warm + count;
    on_turn = pump;
    bool marked = false;
    double cpu = 0;
    int64_t t0 = 0;
    while (published < publish_limit) {
        if (!marked && published >= warm) {
            marked = true;
            mark("begin");
            t0 = now_ns();
            cpu = cpu_s();
            window_start = t0;
            window_end = t0 + (int64_t)(opt.seconds * 1e9);
        }
        poll_once(next_due());
        if (now_ns() > window_end + (int64_t)(opt.drain * 1e9)) break;
    }
    int64_t t1 = now_ns();
    double used = cpu_s() - cpu;
    mark("end");
    uint64_t expected = (uint64_t)count * (uint64_t)healthy, before = 0;
    int64_t quiet = now_ns();
    while (got.delivered < expected && now_ns() - quiet < 1000000000LL && now_ns() - t1 < (int64_t)(opt.drain * 1e9)) {
        poll_once(1000000);
        if (got.delivered != before) quiet = now_ns();
        before = got.delivered;
    }
    double s = (double)(t1 - t0) / 1e9;
    printf("{\"mode\":\"fanout\",\"clients\":%d,\"healthy\":%d,\"published\":%u,\"expected\":%lu,\"seconds\":%.3f,"
           "\"offered\":%.1f,\"in_window\":%lu,\"per_s\":%.1f,\"generator_cpu\":%.3f,",
           opt.clients, healthy, published, expected, s, opt.rate * healthy, got.in_window,
           (double)got.in_window / opt.seconds, used / s);
    hist_print(stdout, "each", &got.each);
    printf(",");
    hist_print(stdout, "last", &got.last);
    printf(",");
    hist_print(stdout, "lag", &lag);
    printf(",");
    print_counts();
    printf("}\n");
    return 0;
}

int run_connect(void) {
    Hist *tcp = calloc(1, sizeof *tcp), *first = calloc(1, sizeof *first), *event = calloc(1, sizeof *event);
    mark("begin");
    int64_t t0 = now_ns();
    connect_all(0, opt.clients, NULL, tcp, first, event);
    double s = (double)(now_ns() - t0) / 1e9;
    mark("end");
    count_healthy();
    int connected = healthy;
    if (opt.seconds > 0) {
        sleep_until(now_ns() + (int64_t)(opt.pause * 1e9));
        mark("hold");
        sleep_until(now_ns() + (int64_t)(opt.seconds * 1e9));
        mark("held");
    }
    count_healthy();
    printf("{\"mode\":\"connect\",\"clients\":%d,\"connected\":%d,\"held\":%d,\"seconds\":%.4f,\"per_s\":%.1f,",
           opt.clients, connected, healthy, s, connected / s);
    hist_print(stdout, "tcp", tcp);
    printf(",");
    hist_print(stdout, "first_byte", first);
    printf(",");
    hist_print(stdout, "first_event", event);
    printf(",");
    print_counts();
    printf("}\n");
    return 0;
}

/* All clients lose their connection; `rate` events are published meanwhile; all come back at once
 * with Last-Event-ID, at `again_port` if there is one, and must be given exactly those. */
int run_storm(void) {
    make_text();
    opt.want_ids = true;
    connect_all(0, opt.clients, NULL, NULL, NULL, NULL);
    count_healthy();
    int before = healthy;
    open_publisher();
    sleep_until(now_ns() + 300000000LL);
    uint32_t missed = (uint32_t)opt.rate;
    start_events(missed + 1);
    measured_to = missed + 1;
    window_end = INT64_MAX / 2;
    publish_one(now_ns()); /* one event while all are here, so that each has a position */
    conn_flush(&pub);
    int64_t wait = now_ns() + 3000000000LL;
    while (got.delivered < (uint64_t)healthy && now_ns() < wait) poll_once(1000000);
    for (int i = 0; i < opt.clients; i++) conn_close(&conns[i], true);
    sleep_until(now_ns() + 300000000LL);
    while (published < missed + 1) publish_one(now_ns());
    while (got.answers < missed + 1 && now_ns() < wait + 3000000000LL) {
        conn_flush(&pub);
        poll_once(1000000);
    }
    mark("begin");
    uint64_t had = got.delivered;
    int64_t t0 = now_ns();
    Hist *first = calloc(1, sizeof *first);
    if (opt.again_port) opt.port = opt.again_port;
    connect_all(0, opt.clients, NULL, NULL, first, NULL);
    double connected_s = (double)(now_ns() - t0) / 1e9;
    uint64_t expected = had + (uint64_t)missed * (uint64_t)opt.clients;
    wait = now_ns() + (int64_t)(opt.drain * 1e9);
    while (got.delivered < expected && now_ns() < wait) poll_once(1000000);
    double s = (double)(now_ns() - t0) / 1e9;
    mark("end");
    printf("{\"mode\":\"storm\",\"clients\":%d,\"connected_before\":%d,\"missed_each\":%u,\"expected\":%lu,"
           "\"resumed\":%lu,\"connected_s\":%.4f,\"seconds\":%.4f,\"per_s\":%.1f,",
           opt.clients, before, missed, expected - had, got.delivered - had, connected_s, s, opt.clients / s);
    hist_print(stdout, "first_byte", first);
    printf(",");
    print_counts();
    printf("}\n");
    return 0;
}

/* --- writes over one WebSocket: `depth` commands in flight ------------------------------------- */

static uint64_t sent_commands;
static int64_t *sent_at;
static Hist round_trip;
static bool writing;

static void send_command(void) {
    char text[4096];
    int n = snprintf(text, sizeof text, opt.write_text, (int)sent_commands, (int)sent_commands);
    sent_at[sent_commands++ % 65536] = now_ns();
    ws_text(&pub, text, (size_t)n);
}

static void answered(Conn *c, const char *payload, size_t size) {
    if (!c->publisher || size < 10 || (payload[9] != 'o' && payload[9] != 'e')) return;
    hist_add(&round_trip, now_ns() - sent_at[got.answers % 65536]);
    if (writing) send_command();
}

int run_write(void) {
    sent_at = calloc(65536, sizeof *sent_at);
    connect_all(0, opt.clients, NULL, NULL, NULL, NULL);
    count_healthy();
    open_publisher();
    sleep_until(now_ns() + (int64_t)(opt.pause * 1e9));
    on_answer = answered;
    writing = true;
    on_turn = NULL;
    for (int i = 0; i < opt.depth; i++) send_command();
    conn_flush(&pub);
    mark("begin");
    int64_t t0 = now_ns(), stop = t0 + (int64_t)(opt.seconds * 1e9);
    uint64_t bytes = got.bytes;
    double cpu = cpu_s();
    while (now_ns() < stop && pub.state == OPEN) {
        poll_once(stop - now_ns());
        conn_flush(&pub);
    }
    double s = (double)(now_ns() - t0) / 1e9, used = cpu_s() - cpu;
    mark("end");
    printf("{\"mode\":\"write\",\"clients\":%d,\"depth\":%d,\"seconds\":%.3f,\"per_s\":%.1f,\"generator_cpu\":%.3f,\"window_bytes\":%lu,",
           healthy, opt.depth, s, (double)got.answers / s, used / s, got.bytes - bytes);
    hist_print(stdout, "round_trip", &round_trip);
    printf(",");
    print_counts();
    printf("}\n");
    return 0;
}

int main(int argc, char **argv) {
    enum { CLIENTS = 1, BATCH, FROZEN, SIZE, DEPTH, LINES, RATE, SECONDS, WARMUP, DRAIN, PAUSE, HOST, PORT,
           PUB_PORT, AGAIN_PORT, PATH, PUB_PATH, PUB_TEXT, HELLO, HEADER, BODY, TYPE, WRITE_TEXT, KIND, EVENT, NO_PUBLISH };
    static const struct option table[] = {
        {"clients", 1, 0, CLIENTS}, {"batch", 1, 0, BATCH}, {"frozen", 1, 0, FROZEN}, {"size", 1, 0, SIZE},
        {"depth", 1, 0, DEPTH}, {"lines", 1, 0, LINES}, {"rate", 1, 0, RATE}, {"seconds", 1, 0, SECONDS},
        {"warmup", 1, 0, WARMUP}, {"drain", 1, 0, DRAIN}, {"pause", 1, 0, PAUSE}, {"host", 1, 0, HOST},
        {"port", 1, 0, PORT}, {"pub-port", 1, 0, PUB_PORT}, {"again-port", 1, 0, AGAIN_PORT}, {"path", 1, 0, PATH}, {"pub-path", 1, 0, PUB_PATH},
        {"pub-text", 1, 0, PUB_TEXT}, {"hello", 1, 0, HELLO}, {"header", 1, 0, HEADER}, {"body", 1, 0, BODY},
        {"content-type", 1, 0, TYPE}, {"write-text", 1, 0, WRITE_TEXT}, {"transport", 1, 0, KIND},
        {"wait-event", 0, 0, EVENT}, {"no-publish", 0, 0, NO_PUBLISH}, {0, 0, 0, 0}};
    if (argc < 2) {
        fprintf(stderr, "usage: load fanout|connect|storm|write|http|gateway --options (see bench/load.py)\n");
        return 2;
    }
    opt.mode = argv[1];
    for (int o; (o = getopt_long(argc - 1, argv + 1, "", table, NULL)) != -1;) {
        switch (o) {
            case CLIENTS: opt.clients = atoi(optarg); break;
            case BATCH: opt.batch = atoi(optarg); break;
            case FROZEN: opt.frozen = atoi(optarg); break;
            case SIZE: opt.size = atoi(optarg); break;
            case DEPTH: opt.depth = atoi(optarg); break;
            case LINES: opt.lines = atoi(optarg); break;
            case RATE: opt.rate = atof(optarg); break;
            case SECONDS: opt.seconds = atof(optarg); break;
            case WARMUP: opt.warmup = atof(optarg); break;
            case DRAIN: opt.drain = atof(optarg); break;
            case PAUSE: opt.pause = atof(optarg); break;
            case HOST: opt.host = optarg; break;
            case PORT: opt.port = atoi(optarg); break;
            case PUB_PORT: opt.pub_port = atoi(optarg); break;
            case AGAIN_PORT: opt.again_port = atoi(optarg); break;
            case PATH: opt.path = optarg; break;
            case PUB_PATH: opt.pub_path = optarg; break;
            case PUB_TEXT: opt.pub_text = optarg; break;
            case HELLO: opt.hello = optarg; break;
            case HEADER: opt.header = optarg; break;
            case BODY: opt.body = optarg; break;
            case TYPE: opt.content_type = optarg; break;
            case WRITE_TEXT: opt.write_text = optarg; break;
            case KIND: opt.kind = strcmp(optarg, "ws") ? SSE : WS; break;
            case EVENT: opt.wait_event = true; break;
            case NO_PUBLISH: opt.no_publish = true; break;
            default: return 2;
        }
    }
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    epfd = epoll_create1(EPOLL_CLOEXEC);
    conns = calloc((size_t)opt.clients + 1, sizeof *conns);
    for (int i = 0; i < opt.clients; i++) conns[i].index = (uint32_t)i;
    int status = 2;
    if (!strcmp(opt.mode, "fanout")) status = run_fanout();
    else if (!strcmp(opt.mode, "connect")) status = run_connect();
    else if (!strcmp(opt.mode, "storm")) status = run_storm();
    else if (!strcmp(opt.mode, "write")) status = run_write();
    else if (!strcmp(opt.mode, "http")) status = run_http();
    else if (!strcmp(opt.mode, "gateway")) status = run_gateway();
    for (int i = 0; i < opt.clients; i++) conn_close(&conns[i], true); /* no TIME_WAIT for the next run */
    conn_close(&pub, true);
    return status;
}
