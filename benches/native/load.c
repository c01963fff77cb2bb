/*
 * load: the load generator of the network rows.
 *
 *   load tcp     PORT PID [-c CONNECTIONS] [-n MESSAGES] [-s SIZE] [-l LINE]
 *   load udp     PORT PID [-c SOCKETS]     [-n MESSAGES] [-s SIZE]
 *   load connect PORT PID [-c AT ONCE]     [-n CONNECTIONS]
 *   load idle    PORT PID [-c CONNECTIONS]
 *
 * load_tls, the same source compiled with -DTLS, does it over TLS: tcp, connect and idle. records.h says how.
 *
 * PID is the server's process. On top, for all: -p CORE to stay there, -b to sleep while nothing comes. It spins otherwise:
 * with a single connection, waking up a core that sleeps takes longer than a good loop, and hides it.
 *
 * tcp and udp keep one message in flight on every connection: it is sent, the reply is compared byte for byte with what is
 * due, the next one is sent. The reply is the message itself; with -l the message is SIZE bytes of LINE-byte lines, and the
 * reply is the last of them, which alone begins with 'e'. connect opens a connection and waits until the server closes it.
 * idle opens connections, says "ready", holds them until its standard input ends, and resets them.
 *
 * The last line of output is JSON: messages, elapsed_ns, the 50th and 99th percentile of the latency in ns, and the CPU
 * time that the server took meanwhile, all its threads together.
 * It is C and on a core of its own, so that a server in Python, and not its client, is what limits the throughput.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>
#ifdef TLS
#include "records.h"
#endif

enum mode { TCP, UDP, CONNECT, IDLE };

/* A server that answers nothing for this long has lost a message. */
static const uint64_t STALLED_NS = 5000000000u;

/* Every message starts at another place of the payload, so that a reply to an older one is recognised. */
enum { OFFSETS = 251 };

static struct {
    enum mode mode;
    struct sockaddr_in server;
    size_t connections, messages, size, line;
    int core, block;
    clockid_t server_cpu;
} options = {.connections = 1, .messages = 1000, .size = 1024, .core = -1};

/* One connection and the message that it has in flight. */
struct connection {
    int fd;
    const char *message; /* SIZE bytes within the payload */
    size_t sent;
    size_t received;
    uint64_t started;
    int waits; /* for room to send */
#ifdef TLS
    SSL *ssl;
    struct direction out, in;
    unsigned char *unsent, *unread; /* records in part, allocated */
    size_t unsent_size, unread_size;
#endif
};

static char *payload;
static char inbox[1 << 18];
static int epoll;

#ifdef TLS
static SSL_CTX *context;

/* A message's records, of one connection at a time. */
static unsigned char wire[1 << 20];
#endif

static struct {
    size_t begun, done, wanted;
    uint32_t *latencies;
} progress;

static void die(const char *what) {
    if (errno)
        fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    else
        fprintf(stderr, "load: %s\n", what);
    exit(1);
}

static void refuse(const char *what) {
    errno = 0;
    die(what);
}

static uint64_t read_clock(clockid_t clock) {
    struct timespec t;
    if (clock_gettime(clock, &t))
        die("clock_gettime: is the server gone?");
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t now(void) { return read_clock(CLOCK_MONOTONIC); }

static size_t reply_size(void) { return options.line ? options.line : options.size; }

/* What must come back: the message, or its last line. */
static const char *expected(const struct connection *c) { return c->message + options.size - reply_size(); }

static void fill_payload(void) {
    size_t length = options.size + OFFSETS;
    uint32_t x = 2463534242u;
    payload = malloc(length);
    if (!payload)
        die("payload");
    for (size_t i = 0; i < length; i++) {
        x ^= x << 13, x ^= x >> 17, x ^= x << 5;
        payload[i] = (char)x;
    }
    if (!options.line)
        return;
    for (size_t i = 0; i < options.size; i++)
        payload[i] = (i + 1) % options.line ? 'a' + (char)(i / options.line % 4) : '\n';
    payload[options.size - options.line] = 'e';
}

#ifdef TLS
/* The library names the secrets of a connection when it knows them. */
static void learn_secret(const SSL *ssl, const char *line) {
    struct connection *c = SSL_get_app_data(ssl);
    struct direction *d = NULL;
    if (!strncmp(line, "CLIENT_TRAFFIC_SECRET_0 ", 24))
        d = &c->out;
    if (!strncmp(line, "SERVER_TRAFFIC_SECRET_0 ", 24))
        d = &c->in;
    if (!d)
        return;
    const char *hex = strrchr(line, ' ') + 1;
    for (size_t i = 0; i < sizeof d->secret && hex[2 * i]; i++)
        sscanf(hex + 2 * i, "%2hhx", &d->secret[i]);
}
#endif

/* What a new connection waits for: to be closed, or with TLS, in which it speaks first, to be there. */
#ifdef TLS
enum { FIRST = EPOLLOUT };
#else
enum { FIRST = EPOLLIN };
#endif

static void watch(struct connection *c, int how, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll, how, c->fd, &event))
        die("epoll_ctl");
}

/* Opens the socket; all but connect's are connected when it returns. */
static void open_socket(struct connection *c) {
    int one = 1, kind = options.mode == UDP ? SOCK_DGRAM : SOCK_STREAM;
    int late = options.mode == CONNECT ? SOCK_NONBLOCK : 0;
    c->fd = socket(AF_INET, kind | late | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        die("socket");
    if (connect(c->fd, (struct sockaddr *)&options.server, sizeof options.server) && errno != EINPROGRESS)
        die("connect");
    if (kind == SOCK_STREAM)
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
#ifdef TLS
    c->ssl = SSL_new(context);
    SSL_set_fd(c->ssl, c->fd);
    SSL_set_connect_state(c->ssl);
    if (options.mode != CONNECT) {
        SSL_set_app_data(c->ssl, c);
        if (SSL_do_handshake(c->ssl) != 1)
            refuse("the handshake failed");
        if (options.mode == TCP) {
            take_keys(c->ssl, &c->out, 1);
            take_keys(c->ssl, &c->in, 0);
        }
        fcntl(c->fd, F_SETFL, fcntl(c->fd, F_GETFL) | O_NONBLOCK);
    }
#endif
}

static void close_socket(struct connection *c) {
#ifdef TLS
    SSL_free(c->ssl);
#endif
    close(c->fd);
}

#ifdef TLS
static ssize_t receive_records(struct connection *c, unsigned char *bytes, size_t room) {
    size_t length = c->unread_size, at = 0, filled = 0, sealed, size;
    if (length)
        memcpy(wire, c->unread, length);
    /* Records are larger than what is in them. */
    ssize_t n = recv(c->fd, wire + length, room - length, MSG_DONTWAIT);
    if (n <= 0)
        return n;
    for (length += (size_t)n; length - at >= HEADER; at += HEADER + sealed) {
        sealed = (size_t)wire[at + 3] << 8 | wire[at + 4];
        if (sealed > LONGEST)
            refuse("a wrong record");
        if (length - at < HEADER + sealed)
            break;
        int type = open_record(&c->in, wire + at, sealed, bytes + filled, &size);
        if (type == DATA)
            filled += size;
        else if (type == ALERT)
            return 0;
        else if (type != HANDSHAKE || bytes[filled] != 4) /* a session's ticket, which nobody wants */
            refuse("something that is no data");
    }
    c->unread_size = length - at;
    if (c->unread_size) {
        if (!c->unread && !(c->unread = malloc(HEADER + LONGEST)))
            die("memory");
        memcpy(c->unread, wire + at, c->unread_size);
    }
    errno = EAGAIN;
    return filled ? (ssize_t)filled : -1;
}

/* All of it, or nothing yet: then it is to be called again with the same. */
static ssize_t transmit_records(struct connection *c, const void *bytes, size_t length) {
    unsigned char *from = c->unsent ? c->unsent : wire;
    size_t size = c->unsent ? c->unsent_size : (size_t)(seal(&c->out, bytes, length, wire) - wire);
    ssize_t n = send(c->fd, from, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN)
        return n;
    c->unsent_size = size - (size_t)(n < 0 ? 0 : n);
    if (!c->unsent_size) {
        free(c->unsent);
        c->unsent = NULL;
        return (ssize_t)length;
    }
    if (!c->unsent && !(c->unsent = malloc(size)))
        die("memory");
    memmove(c->unsent, from + size - c->unsent_size, c->unsent_size);
    errno = EAGAIN;
    return -1;
}
#endif

/* As recv and send, whatever the connection is made of. */
static ssize_t receive(struct connection *c, void *bytes, size_t room) {
#ifdef TLS
    size_t n;
    if (options.mode == TCP)
        return receive_records(c, bytes, room);
    if (SSL_read_ex(c->ssl, bytes, room, &n))
        return (ssize_t)n;
    int why = SSL_get_error(c->ssl, 0);
    if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE && why != SSL_ERROR_ZERO_RETURN)
        refuse("TLS failed");
    errno = EAGAIN;
    return why == SSL_ERROR_ZERO_RETURN ? 0 : -1;
#else
    return recv(c->fd, bytes, room, MSG_DONTWAIT);
#endif
}

static ssize_t transmit(struct connection *c, const void *bytes, size_t length) {
#ifdef TLS
    return transmit_records(c, bytes, length);
#else
    return send(c->fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
#endif
}

static void push(struct connection *c) {
    ssize_t n = 0;
    while (c->sent < options.size && (n = transmit(c, c->message + c->sent, options.size - c->sent)) >= 0)
        c->sent += (size_t)n;
    if (n < 0 && errno != EAGAIN)
        die("send");
    if (c->waits == (n < 0))
        return;
    c->waits = n < 0;
    watch(c, EPOLL_CTL_MOD, c->waits ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void begin(struct connection *c) {
    if (progress.begun == progress.wanted)
        return;
    c->message = payload + (options.line ? 0 : progress.begun % OFFSETS);
    c->sent = c->received = 0;
    c->started = now();
    progress.begun++;
    if (options.mode == CONNECT) {
        open_socket(c);
        watch(c, EPOLL_CTL_ADD, FIRST);
    } else {
        push(c);
    }
}

static void finish(struct connection *c) {
    uint64_t took = now() - c->started;
    progress.latencies[progress.done++] = took > UINT32_MAX ? UINT32_MAX : (uint32_t)took;
    begin(c);
}

/* Takes what has come, and finishes the message when all of it is there. */
static void pull(struct connection *c) {
    ssize_t n = receive(c, inbox, sizeof inbox);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n < 0)
        die("recv");
    if (options.mode == CONNECT) {
        if (n)
            refuse("the server sent bytes to a connection that it was to close");
        close_socket(c);
        finish(c);
        return;
    }
    if (n == 0)
        refuse("the server closed a connection");
    if (c->received + (size_t)n > reply_size() || memcmp(inbox, expected(c) + c->received, (size_t)n))
        refuse("wrong bytes came back");
    c->received += (size_t)n;
    if (c->received == reply_size()) {
        if (c->sent < options.size)
            refuse("the reply came before the message was sent");
        finish(c);
    }
}

/* Exchanges messages over all connections. */
static void drive(struct connection *all, size_t messages) {
    struct epoll_event events[256];
    uint64_t heard = now();
    progress.begun = progress.done = 0;
    progress.wanted = messages;
    for (size_t i = 0; i < options.connections; i++)
        begin(&all[i]);
    while (progress.done < progress.wanted) {
        int n = epoll_wait(epoll, events, 256, options.block ? 1000 : 0);
        if (n < 0 && errno != EINTR)
            die("epoll_wait");
        if (n > 0)
            heard = now();
        else if (now() - heard > STALLED_NS)
            refuse("no reply for 5 seconds");
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (options.mode == CONNECT && events[i].events & EPOLLOUT) {
                watch(c, EPOLL_CTL_MOD, EPOLLIN);
                pull(c);
                continue;
            }
            if (events[i].events & EPOLLOUT)
                push(c);
            if (events[i].events & ~(uint32_t)EPOLLOUT)
                pull(c);
        }
    }
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void measure(struct connection *all) {
    size_t warm = options.messages / 10 + options.connections;
    progress.latencies = malloc(sizeof(uint32_t) * (options.messages + warm));
    if (!progress.latencies)
        die("latencies");
    drive(all, warm);
    uint64_t elapsed = now(), cpu = read_clock(options.server_cpu);
    drive(all, options.messages);
    elapsed = now() - elapsed, cpu = read_clock(options.server_cpu) - cpu;
    qsort(progress.latencies, options.messages, sizeof(uint32_t), ascending);
    printf("{\"messages\": %zu, \"elapsed_ns\": %llu, \"per_second\": %.0f, \"p50_ns\": %u, \"p99_ns\": %u, "
           "\"server_cpu_ns\": %llu}\n",
           options.messages, (unsigned long long)elapsed, 1e9 * (double)options.messages / (double)elapsed,
           progress.latencies[options.messages / 2], progress.latencies[options.messages * 99 / 100],
           (unsigned long long)cpu);
}

static void hold(struct connection *all) {
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    printf("ready\n");
    fflush(stdout);
    while (getchar() != EOF)
        ;
    for (size_t i = 0; i < options.connections; i++) {
        /* No TIME_WAIT: the next run needs as many ports again. */
        setsockopt(all[i].fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close_socket(&all[i]);
    }
}

static void pin(int core) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    if (sched_setaffinity(0, sizeof set, &set))
        die("sched_setaffinity");
}

static void parse(int argc, char **argv) {
    static const char *const names[] = {"tcp", "udp", "connect", "idle"};
    int mode = 0, option;
    if (argc < 4)
        refuse("usage: load tcp|udp|connect|idle PORT PID [-c N] [-n N] [-s SIZE] [-l LINE] [-p CORE] [-b]");
    while (mode < 4 && strcmp(argv[1], names[mode]))
        mode++;
    if (mode == 4)
        refuse("no such mode");
    options.mode = (enum mode)mode;
    options.server.sin_family = AF_INET;
    options.server.sin_port = htons((uint16_t)atoi(argv[2]));
    options.server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if ((errno = clock_getcpuclockid(atoi(argv[3]), &options.server_cpu)))
        die("PID");
    optind = 4;
    while ((option = getopt(argc, argv, "c:n:s:l:p:b")) != -1) {
        size_t value = strtoul(optarg ? optarg : "0", NULL, 10);
        switch (option) {
        case 'c': options.connections = value; break;
        case 'n': options.messages = value; break;
        case 's': options.size = value; break;
        case 'l': options.line = value; break;
        case 'p': options.core = (int)value; break;
        case 'b': options.block = 1; break;
        default: exit(2);
        }
    }
    if (!options.connections || !options.messages || !options.size || (options.line && options.size % options.line))
        refuse("zero, or a size that is not a number of whole lines");
#ifdef TLS
    if (options.size > sizeof wire / 2)
        refuse("too large a message");
#endif
}

int main(int argc, char **argv) {
    parse(argc, argv);
    if (options.core >= 0)
        pin(options.core);
    fill_payload();
#ifdef TLS
    signal(SIGPIPE, SIG_IGN);
    if (options.mode == UDP || !(context = SSL_CTX_new(TLS_client_method())))
        refuse("no TLS");
    if (options.mode == TCP)
        SSL_CTX_set_keylog_callback(context, learn_secret);
    else
        SSL_CTX_set_read_ahead(context, 1); /* not where others read what follows the handshake */
#endif
    struct connection *all = calloc(options.connections, sizeof *all);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!all || epoll < 0)
        die("start");
    for (size_t i = 0; options.mode != CONNECT && i < options.connections; i++) {
        open_socket(&all[i]);
        watch(&all[i], EPOLL_CTL_ADD, EPOLLIN);
    }
    if (options.mode == IDLE)
        hold(all);
    else
        measure(all);
    return 0;
}
