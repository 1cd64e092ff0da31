/* limit: what a server in C reaches that does one send() per message and client, and nothing else.
 *
 * It speaks just enough HTTP to be measured like the others: GET /events is an event stream, GET
 * /ws a WebSocket that listens, GET /pub the publisher, whose text messages go to all. With
 * --joined the messages of one read are joined into one send() a client: the limit of group commit.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX = 20100, BUFFER = 1 << 20 };
enum { NEW, EVENTS, SOCKET, PUBLISHER };

static char kind[MAX];
static int members[2][MAX], count[2];
static char in[BUFFER], out[2][4 * BUFFER];
static size_t held, out_len[2];
static uint64_t number, dropped;

static void flush_to(int which) {
    for (int i = 0; i < count[which]; i++) {
        ssize_t n = send(members[which][i], out[which], out_len[which], MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n != (ssize_t)out_len[which]) dropped++; /* no queue here: a slow client loses */
    }
    out_len[which] = 0;
}

static void broadcast(const char *text, size_t size, bool joined) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    char body[BUFFER / 4];
    int n = snprintf(body, sizeof body, "{\"filter\":\".bench\",\"path\":\".bench\",\"value\":%.*s,\"time\":%ld}",
                     (int)size, text, t.tv_sec * 1000L + t.tv_nsec / 1000000);
    number++;
    if (count[0]) out_len[0] += (size_t)sprintf(out[0] + out_len[0], "event: update\nid: abcdef:%lu\ndata: %s\n\n", number, body);
    if (count[1]) {
        char *p = out[1] + out_len[1];
        *p++ = (char)0x81;
        if (n < 126) *p++ = (char)n;
        else {
            *p++ = 126;
            *p++ = (char)(n >> 8);
            *p++ = (char)n;
        }
        memcpy(p, body, (size_t)n);
        out_len[1] = (size_t)(p + n - out[1]);
    }
    if (!joined || out_len[0] > BUFFER || out_len[1] > BUFFER) {
        flush_to(0);
        flush_to(1);
    }
}

static bool published(int fd, bool joined) {
    ssize_t n = recv(fd, in + held, sizeof in - held, 0);
    if (n <= 0) return n < 0 && errno == EAGAIN;
    held += (size_t)n;
    size_t at = 0;
    while (held - at >= 6) {
        unsigned char *p = (unsigned char *)in + at;
        size_t head = 6, size = p[1] & 127;
        if (size == 126) size = (size_t)(p[2] << 8 | p[3]), head = 8;
        if (size == 127 || held - at < head + size) break;
        for (size_t i = 0; i < size; i++) p[head + i] ^= p[head - 4 + (i & 3)];
        if ((p[0] & 15) == 1) broadcast(in + at + head, size, joined);
        at += head + size;
    }
    memmove(in, in + at, held - at);
    held -= at;
    flush_to(0);
    flush_to(1);
    return true;
}

static void greet(int fd) {
    char head[2048];
    ssize_t n = recv(fd, head, sizeof head - 1, 0);
    if (n <= 0) {
        close(fd);
        return;
    }
    head[n] = 0;
    if (!strncmp(head, "GET /events", 11)) {
        kind[fd] = EVENTS;
        members[0][count[0]++] = fd;
        const char *ok = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nevent: connected\ndata: {}\n\n";
        send(fd, ok, strlen(ok), MSG_NOSIGNAL);
        return;
    }
    bool is_pub = !strncmp(head, "GET /pub", 8);
    kind[fd] = is_pub ? PUBLISHER : SOCKET;
    if (is_pub) held = 0;
    else members[1][count[1]++] = fd;
    /* The key is always our generator's, so the answer to it is always this. */
    const char *ok = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x81\x02{}";
    send(fd, ok, strlen(ok), MSG_NOSIGNAL);
}

static void leave(int fd) {
    for (int which = 0; which < 2; which++)
        for (int i = 0; i < count[which]; i++)
            if (members[which][i] == fd) members[which][i] = members[which][--count[which]];
    kind[fd] = NEW;
    close(fd);
}

int main(int argc, char **argv) {
    int port = argc > 1 ? atoi(argv[1]) : 9000, one = 1;
    bool joined = argc > 2 && !strcmp(argv[2], "--joined");
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, "127.0.0.1", &at.sin_addr);
    int listener = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096)) return 1;
    struct epoll_event e = {.events = EPOLLIN, .data.fd = listener}, events[256];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        int n = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                int got = accept(listener, NULL, NULL);
                if (got < 0 || got >= MAX) continue;
                kind[got] = NEW;
                struct epoll_event ev = {.events = EPOLLIN, .data.fd = got};
                epoll_ctl(poll, EPOLL_CTL_ADD, got, &ev);
            } else if (kind[fd] == NEW) greet(fd);
            else if (kind[fd] == PUBLISHER) {
                if (!published(fd, joined)) leave(fd);
            } else {
                char nothing[4096];
                if (recv(fd, nothing, sizeof nothing, MSG_DONTWAIT) == 0 || (events[i].events & (EPOLLHUP | EPOLLERR)))
                    leave(fd);
            }
        }
    }
}
