/* Connections: opening, sending, and telling events apart.
 *
 * An event that counts carries "@" and eight hexadecimal digits, its number. The publisher is in
 * this process, so the number stands for the time at which it was published. An SSE event has
 * arrived with its empty line, a WebSocket message with its last byte. Whatever carries no stamp
 * (heartbeats, `connected`, HTTP chunk heads) is passed over.
 */
#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { STAMP = 9, READ = 256 * 1024 };

int epfd = -1;
Conn *conns;
Counts got;
int64_t *published_at, window_start = INT64_MAX, window_end;
uint32_t *reached, published, measured_from, measured_to, events_cap;
int healthy;
void (*on_http)(Conn *, char *, size_t);
void (*on_answer)(Conn *, const char *, size_t);
void (*on_turn)(void);

static char *big;
static size_t big_cap;

int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

void sleep_until(int64_t ns) {
    for (int64_t left; (left = ns - now_ns()) > 0;) poll_once(left);
}

double cpu_s(void) {
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
           (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

void mark(const char *what) {
    printf("# %s\n", what);
    fflush(stdout);
}

double hist_ms(const Hist *h, double quantile) {
    if (!h->total) return -1;
    uint64_t want = (uint64_t)(quantile * (double)h->total), seen = 0;
    if (want >= h->total) want = h->total - 1;
    for (unsigned i = 0; i < HIST_SIZE; i++) {
        seen += h->count[i];
        if (seen <= want) continue;
        if (i < HIST_SUB) return i / 1e6;
        unsigned power = i / HIST_SUB + 5;
        return (double)((uint64_t)(HIST_SUB + i % HIST_SUB) << (power - 6)) / 1e6;
    }
    return (double)h->max / 1e6;
}

void hist_print(FILE *out, const char *name, const Hist *h) {
    fprintf(out, "\"%s\":{\"n\":%lu,\"mean\":%.4f,\"p50\":%.4f,\"p90\":%.4f,\"p99\":%.4f,\"max\":%.4f}",
            name, h->total, h->total ? (double)h->sum / (double)h->total / 1e6 : -1,
            hist_ms(h, .5), hist_ms(h, .9), hist_ms(h, .99), (double)h->max / 1e6);
}

/* --- opening and sending --------------------------------------------------------------------- */

void conn_open(Conn *c, Kind kind, const char *host, int port, const char *path, const char *extra) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, host, &to.sin_addr);
    c->kind = (uint8_t)kind;
    c->state = HEAD;
    c->greeted = false;
    c->rest_len = 0;
    c->out_len = c->out_at = 0;
    c->t_first = 0;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1, small = 4096;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (c->frozen) setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    c->t_connect = now_ns();
    /* Blocking: on the loopback it takes the kernel's own time, unless the backlog is full. */
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to) < 0) {
        if (!got.first_error[0]) snprintf(got.first_error, sizeof got.first_error, "connect: %s", strerror(errno));
        got.lost++;
        if (c->fd >= 0) close(c->fd);
        c->state = CLOSED;
        return;
    }
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epfd, EPOLL_CTL_ADD, c->fd, &e);
    if (kind == HTTP) {
        c->state = OPEN;
        return;
    }
    char head[1400];
    int size = snprintf(head, sizeof head, "GET %s HTTP/1.1\r\nHost: %s:%d\r\n%s%s%s\r\n", path, host, port,
        kind == WS ? "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                   : "Accept: text/event-stream\r\n",
        opt.header ? opt.header : "", extra ? extra : "");
    conn_write(c, head, (size_t)size);
}

void conn_close(Conn *c, bool reset) {
    if (c->state == CLOSED) return;
    struct linger hard = {1, 0};
    if (reset) setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(c->fd);
    c->state = CLOSED;
}

void conn_write(Conn *c, const char *data, size_t size) {
    if (c->out_at == c->out_len) c->out_at = c->out_len = 0;
    if (c->out_len + size > c->out_cap) {
        c->out_cap = (c->out_len + size) * 2;
        c->out = realloc(c->out, c->out_cap);
    }
    memcpy(c->out + c->out_len, data, size);
    c->out_len += size;
    if (!c->publisher) conn_flush(c);
}

void conn_flush(Conn *c) {
    while (c->state != CLOSED && c->out_at < c->out_len) {
        ssize_t n = send(c->fd, c->out + c->out_at, c->out_len - c->out_at, MSG_NOSIGNAL);
        if (n <= 0) return; /* the next turn tries again */
        c->out_at += (size_t)n;
    }
}

/* A masked text frame. The mask is nought: it must be there, what it is no server can care about. */
static void ws_send(Conn *c, int opcode, const char *text, size_t size) {
    char head[14];
    size_t n = 2;
    head[0] = (char)(0x80 | opcode);
    if (size < 126) head[1] = (char)(0x80 | size);
    else if (size < 65536) {
        head[1] = (char)(0x80 | 126);
        head[n++] = (char)(size >> 8);
        head[n++] = (char)size;
    } else {
        head[1] = (char)(0x80 | 127);
        for (int shift = 56; shift >= 0; shift -= 8) head[n++] = (char)(size >> shift);
    }
    memset(head + n, 0, 4);
    bool wait = c->publisher;
    c->publisher = true; /* head and text leave together */
    conn_write(c, head, n + 4);
    conn_write(c, text, size);
    c->publisher = wait;
    if (!wait) conn_flush(c);
}

void ws_text(Conn *c, const char *text, size_t size) { ws_send(c, 1, text, size); }

/* --- receiving ------------------------------------------------------------------------------- */

static uint32_t hex8(const char *p) {
    uint32_t v = 0;
    for (int i = 0; i < 8; i++) {
        unsigned char ch = (unsigned char)p[i];
        unsigned digit = ch <= '9' ? ch - 48u : (ch | 32u) - 87u;
        if (digit > 15) return UINT32_MAX;
        v = v << 4 | digit;
    }
    return v;
}

static inline void arrived(Conn *c, const char *stamp, int64_t now) {
    uint32_t n = hex8(stamp + 1);
    if (n >= published) {
        got.malformed++;
        return;
    }
    if (n != c->next) {
        if (n < c->next) {
            got.repeated++;
            return;
        }
        got.missing += n - c->next;
    }
    c->next = n + 1;
    c->received++;
    if (now >= window_start && now <= window_end) got.in_window++; /* also a late one from before it */
    if (n < measured_from || n >= measured_to) return;
    int64_t took = now - published_at[n];
    got.delivered++;
    hist_add(&got.each, took);
    if (++reached[n] == (uint32_t)healthy) hist_add(&got.last, took);
}

static void keep_id(Conn *c, const char *from, const char *to) {
    const char *id = memmem(from, (size_t)(to - from), "id: ", 4);
    if (!id) return;
    const char *end = memchr(id, '\n', (size_t)(to - id));
    size_t n = end ? (size_t)(end - id - 4) : 0;
    if (n && n < sizeof c->id) {
        memcpy(c->id, id + 4, n);
        c->id[n] = 0;
    }
}

/* Take the whole events of an event stream; says how many bytes they are. */
static size_t parse_sse(Conn *c, const char *data, size_t size, int64_t now) {
    const char *start = data, *p = data, *end = data + size;
    for (;;) {
        const char *at = memchr(p, '@', (size_t)(end - p));
        if (!at || end - at < STAMP) break;
        const char *stop = at + STAMP;
        for (;;) {
            stop = memchr(stop, '\n', (size_t)(end - stop));
            if (!stop || stop + 1 >= end) goto rest;
            if (stop[1] == '\n') { stop += 2; break; }
            if (stop[1] == '\r' && stop + 2 < end && stop[2] == '\n') { stop += 3; break; }
            stop++;
        }
        if (memcmp(start, "event: upd", 10) && memcmp(start, "data: ", 6)) {
            const char *two; /* something without a stamp comes first, or it is no update */
            while ((two = memmem(start, (size_t)(at - start), "\n\n", 2))) {
                if (!memcmp(start, "event: gap", 10)) got.gaps++;
                start = two + 2;
            }
        }
        if (!memcmp(start, "event: snap", 11)) got.snapshots++;
        else arrived(c, at, now);
        if (opt.want_ids) keep_id(c, start, stop);
        c->greeted = true;
        start = p = stop;
    }
    if (start < end && !memchr(start, '@', (size_t)(end - start))) {
        for (const char *two; (two = memmem(start, (size_t)(end - start), "\n\n", 2)); start = two + 2) {
            if (!memcmp(start, "event: gap", 10)) got.gaps++;
            if (opt.want_ids) keep_id(c, start, two + 1);
            c->greeted = true;
        }
    }
rest:
    return (size_t)(start - data);
}

static void message(Conn *c, const char *payload, size_t size, int64_t now) {
    c->greeted = true;
    if (c->publisher || on_answer) {
        if (on_answer) on_answer(c, payload, size);
        if (c->publisher) {
            if (size > 9 && payload[9] == 'o') got.answers++;
            else if (size > 9 && payload[9] == 'e') {
                got.errors++;
                if (!got.first_error[0]) snprintf(got.first_error, sizeof got.first_error, "%.*s", (int)size, payload);
            }
            return;
        }
    }
    const char *at = memchr(payload, '@', size);
    if (!at || payload + size - at < STAMP) {
        if (size > 9 && payload[9] == 'g') got.gaps++;
        return;
    }
    if (size > 12 && !memcmp(payload + 9, "snap", 4)) got.snapshots++;
    else arrived(c, at, now);
}

static size_t parse_ws(Conn *c, const char *data, size_t size, int64_t now) {
    size_t done = 0;
    while (size - done >= 2) {
        const unsigned char *p = (const unsigned char *)data + done;
        size_t head = 2, length = p[1] & 127;
        if (length == 126) head = 4;
        else if (length == 127) head = 10;
        if (size - done < head) break;
        if (head > 2) {
            length = 0;
            for (size_t i = 2; i < head; i++) length = length << 8 | p[i];
        }
        if (size - done < head + length) break;
        const char *payload = data + done + head;
        int opcode = p[0] & 15;
        if (opcode <= 2) message(c, payload, length, now);
        else if (opcode == 9) ws_send(c, 10, payload, length);
        else if (opcode == 8 && !got.first_error[0])
            snprintf(got.first_error, sizeof got.first_error, "closed: %.*s", (int)length - 2, payload + 2);
        done += head + length;
    }
    return done;
}

/* The response head; says how many bytes it is, 0 when it is not whole. */
static size_t parse_head(Conn *c, const char *data, size_t size) {
    if (!c->t_first) c->t_first = now_ns();
    const char *end = memmem(data, size, "\r\n\r\n", 4);
    if (!end) return 0;
    if (memcmp(data, "HTTP/1.1 200", 12) && memcmp(data, "HTTP/1.1 101", 12)) {
        if (!got.first_error[0]) snprintf(got.first_error, sizeof got.first_error, "%.*s", (int)(size > 230 ? 230 : size), data);
        conn_close(c, true);
        got.lost++;
        return size;
    }
    c->state = OPEN;
    if (opt.hello && c->kind == WS) ws_text(c, opt.hello, strlen(opt.hello));
    return (size_t)(end + 4 - data);
}

bool conn_read(Conn *c) {
    if (big_cap < c->rest_len + READ) {
        big_cap = (c->rest_len + READ) * 2;
        big = realloc(big, big_cap);
    }
    ssize_t n = recv(c->fd, big + c->rest_len, READ, 0);
    if (n <= 0) {
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return true;
        got.lost++;
        conn_close(c, false);
        return false;
    }
    int64_t now = now_ns();
    got.bytes += (uint64_t)n;
    if (c->kind == HTTP) {
        on_http(c, big, (size_t)n);
        return c->state != CLOSED;
    }
    if (c->rest_len) memcpy(big, c->rest, c->rest_len);
    size_t size = c->rest_len + (size_t)n, done = 0;
    if (c->state == HEAD) {
        done = parse_head(c, big, size);
        if (c->state == CLOSED) return false;
        if (c->state == OPEN && c->frozen) {
            epoll_ctl(epfd, EPOLL_CTL_DEL, c->fd, NULL);
            c->rest_len = 0;
            return true;
        }
    }
    if (c->state == OPEN)
        done += (c->kind == WS ? parse_ws : parse_sse)(c, big + done, size - done, now);
    size -= done;
    if (size > c->rest_cap) {
        c->rest_cap = (uint32_t)size * 2;
        c->rest = realloc(c->rest, c->rest_cap);
    }
    if (size) memcpy(c->rest, big + done, size);
    c->rest_len = (uint32_t)size;
    return true;
}

int poll_once(int64_t timeout_ns) {
    struct epoll_event events[256];
    if (timeout_ns < 0) timeout_ns = 0;
    if (timeout_ns > 10000000) timeout_ns = 10000000;
    struct timespec wait = {0, timeout_ns};
    int n = epoll_pwait2(epfd, events, 256, &wait, NULL);
    for (int i = 0; i < n; i++) {
        Conn *c = events[i].data.ptr;
        if (c->state != CLOSED) conn_read(c);
        if (on_turn && i % 32 == 31) on_turn(); /* the publisher must not wait for all readers */
    }
    if (on_turn) on_turn();
    return n;
}

/* Open connections `from` to `to`, `opt.batch` at a time: the next batch starts when the last of
 * this one has its first byte (or event, with `wait_event`). */
void connect_all(int from, int to, const char *extra, Hist *tcp, Hist *first, Hist *event) {
    for (int at = from; at < to; at += opt.batch) {
        int stop = at + opt.batch < to ? at + opt.batch : to;
        for (int i = at; i < stop; i++) {
            char own[160] = "";
            if (opt.want_ids && conns[i].id[0]) snprintf(own, sizeof own, "Last-Event-ID: %s\r\n", conns[i].id);
            conn_open(&conns[i], opt.kind, opt.host, opt.port, opt.path, own[0] ? own : extra);
            if (tcp && conns[i].state != CLOSED) hist_add(tcp, now_ns() - conns[i].t_connect);
        }
        int64_t give_up = now_ns() + 15000000000LL;
        bool waiting = true;
        while (waiting && now_ns() < give_up) {
            poll_once(1000000);
            waiting = false;
            for (int i = at; i < stop; i++) {
                Conn *c = &conns[i];
                if (c->state == CLOSED || c->t_end) continue;
                if (c->state == HEAD || (opt.wait_event && !c->greeted && !c->frozen)) waiting = true;
                else {
                    int64_t now = now_ns();
                    c->t_end = now;
                    if (first) hist_add(first, c->t_first - c->t_connect);
                    if (event) hist_add(event, now - c->t_connect);
                }
            }
        }
        for (int i = at; i < stop; i++) conns[i].t_end = 0;
    }
}
