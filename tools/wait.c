/*
 * Waits for conditions in turn, then becomes COMMAND. docs/wait-and-copy.md describes it.
 *
 * The same as tools/wait.sh, for images without a shell; linked statically.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WRONG = 1, TIMED_OUT = 124, NOT_RUN = 126, NOT_FOUND = 127 };
enum { CONNECT_MILLISECONDS = 5000 }; /* a lost SYN is sent again after 1 s, and after 3 s */

static const char USAGE[] =
    "Usage: wait [OPTIONS] [-- COMMAND [ARGUMENT...]]\n"
    "Waits for each condition in turn, then becomes COMMAND.\n"
    "\n"
    "conditions:\n"
    "  -f, --file FILE         FILE exists\n"
    "  -i, --if, --intf DEV    there is an interface DEV\n"
    "  -I, --ip DEV            DEV has an IP address, other than link-local IPv6\n"
    "  -t, --tcp HOST:PORT     the port answers; also [IPV6]:PORT, A:1,B:2 for both,\n"
    "                          and tcp:PORT for one of this container\n"
    "  -c, --command COMMAND   sh -c COMMAND succeeds; also --cmd\n"
    "  --ready[=INSTANCE]      Relink runs and finds all links here as declared\n"
    "settings:\n"
    "  -6                      -I and -t after it mean IPv6 alone\n"
    "  -s, --sleep SECONDS     between two looks (0.2)\n"
    "  -u, --umask MODE        umask of COMMAND, octal\n"
    "  --timeout SECONDS       for all conditions together; what is missing is named\n"
    "\n"
    "exit codes: those of COMMAND, 0 without one; 1 wrong words; 124 timed out;\n"
    "126 COMMAND cannot be run; 127 not found; 129, 130, 143 by SIGHUP, INT, TERM\n"
    "example: wait -i eth0 -t db:5432 --timeout 60 -- my-server --port 80\n";

static const char *const TAKES_VALUE[][2] = {
    {"-f", "f"},        {"--file", "f"},  {"-i", "i"},        {"--if", "i"},
    {"--intf", "i"},    {"-I", "I"},      {"--ip", "I"},      {"-t", "t"},
    {"--tcp", "t"},     {"-c", "c"},      {"--cmd", "c"},     {"--command", "c"},
    {"-s", "s"},        {"--sleep", "s"}, {"-u", "u"},        {"--umask", "u"},
    {"--timeout", "T"},
};

/* An option: READY and SIX take no value, or one that may be absent. */
enum { READY = 'r', SIX = '6' };
typedef void on_option(int letter, const char *value);

struct address {
    char *host; /* empty for this container */
    char *port;
};

static bool ipv6;
static double pause_seconds = 0.2;
static const char *timeout_words;
static char *volatile late;  /* what to say when the time has passed */
static volatile pid_t child; /* leads a session of its own */

/* ------------------------------------------------------------------------------- ends */

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    fputs("wait: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

#define refuse(...) (say(__VA_ARGS__), exit(WRONG))
#define SEE "; see wait --help"

static void out_of_memory(void)
{
    say("out of memory");
    exit(WRONG);
}

static void ended_by(int number) /* a signal handler */
{
    int code = number == SIGALRM ? TIMED_OUT : 128 + number;
    int end = number == SIGALRM ? SIGKILL : SIGTERM;

    if (number == SIGALRM && late && write(STDERR_FILENO, late, strlen(late)) < 0)
        code = TIMED_OUT; /* nobody listens */
    if (child > 0 && kill(-child, end) < 0)
        kill(child, end); /* it has no session yet */
    _exit(code);
}

static void listen_to(int number)
{
    struct sigaction action = {.sa_handler = ended_by};
    struct sigaction before;

    sigaction(number, NULL, &before);
    if (before.sa_handler != SIG_IGN || number == SIGALRM)
        sigaction(number, &action, NULL);
}

static void set_timer(double seconds)
{
    time_t whole = (time_t)seconds;
    suseconds_t rest = (suseconds_t)((seconds - (double)whole) * 1e6);
    struct itimerval timer = {.it_value = {.tv_sec = whole, .tv_usec = rest}};

    if (seconds > 0 && whole == 0 && rest == 0)
        timer.it_value.tv_usec = 1;
    setitimer(ITIMER_REAL, &timer, NULL);
}

/* ------------------------------------------------------------------------------ words */

/* Seconds, more than 0; else 0. */
static double seconds_of(const char *word)
{
    const char *point = strchr(word, '.');

    if (word[strspn(word, "0123456789.")] || (point && strchr(point + 1, '.')) || strlen(word) > 9)
        return 0;
    return strtod(word, NULL);
}

static bool is_port(const char *word)
{
    size_t length = strlen(word);
    long number = length <= 5 && word[strspn(word, "0123456789")] == '\0' ? strtol(word, NULL, 10) : 0;

    return number >= 1 && number <= 65535;
}

static bool is_host(const char *word)
{
    static const char of_a_host[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:%-";

    return word[0] != '-' && word[strspn(word, of_a_host)] == '\0';
}

/* Split [tcp:][HOST:]PORT in place. */
static bool split_address(char *word, struct address *into)
{
    char *host = strncmp(word, "tcp:", 4) == 0 ? word + 4 : word;
    char *colon = strrchr(host, ':');

    into->port = colon ? colon + 1 : host;
    into->host = colon ? host : host + strlen(host);
    if (colon) {
        *colon = '\0';
        if (host[0] == '[' && colon - host >= 2 && colon[-1] == ']') {
            into->host = host + 1;
            colon[-1] = '\0';
        } else if (strchr(host, ':')) {
            return false;
        }
    }
    return is_host(into->host) && is_port(into->port);
}

/* Call ACT for each address in a list with commas; empty ones are no addresses. */
static void each_address(const char *list, void act(const struct address *))
{
    char *copy = strdup(list);
    char *rest = copy;
    char *word;

    if (!copy)
        out_of_memory();
    while ((word = strsep(&rest, ","))) {
        const char *whole = list + (word - copy);
        struct address address;

        if (!split_address(word, &address))
            refuse("-t takes HOST:PORT, [IPV6]:PORT or tcp:PORT: '%.*s'" SEE,
                   (int)strcspn(whole, ","), whole);
        act(&address);
    }
    free(copy);
}

static int letter_of(const char *word, size_t length)
{
    for (size_t i = 0; i < sizeof TAKES_VALUE / sizeof *TAKES_VALUE; i++)
        if (strlen(TAKES_VALUE[i][0]) == length && strncmp(TAKES_VALUE[i][0], word, length) == 0)
            return TAKES_VALUE[i][1][0];
    return 0;
}

/* Call ACT for each option up to `--`; return what stands after that. */
static char **each_option(char **words, on_option act)
{
    while (*words && strcmp(*words, "--") != 0) {
        const char *word = *words++;
        const char *equals = strncmp(word, "--", 2) == 0 ? strchr(word, '=') : NULL;
        size_t length = equals ? (size_t)(equals - word) : strlen(word);
        const char *value = equals ? equals + 1 : NULL;
        int letter = letter_of(word, length);

        if (strcmp(word, "-6") == 0) {
            act(SIX, "");
            continue;
        }
        if (length == strlen("--ready") && strncmp(word, "--ready", length) == 0) {
            act(READY, value ? value : "");
            continue;
        }
        if (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0) {
            fputs(USAGE, stdout);
            exit(0);
        }
        if (!letter && word[0] == '-')
            refuse("no option is called %.*s" SEE, (int)length, word);
        if (!letter)
            refuse("'%s' belongs to no option; COMMAND stands after --" SEE, word);
        if (!value && *words)
            value = *words++;
        if (!value || strcmp(value, "--") == 0)
            refuse("%.*s takes a value" SEE, (int)length, word);
        if (!*value)
            refuse("the value of %.*s is empty" SEE, (int)length, word);
        act(letter, value);
    }
    return *words ? words + 1 : words;
}

static void ignore(const struct address *address)
{
    (void)address;
}

/* Is the value one? Nothing is waited for before all of them are. */
static void check(int letter, const char *value)
{
    switch (letter) {
    case 't':
        each_address(value, ignore);
        break;
    case 's':
        pause_seconds = seconds_of(value);
        if (pause_seconds <= 0)
            refuse("-s takes seconds, more than 0: '%s'" SEE, value);
        break;
    case 'T':
        timeout_words = value;
        if (seconds_of(value) <= 0)
            refuse("--timeout takes seconds, more than 0: '%s'" SEE, value);
        break;
    case 'u':
        if (value[strspn(value, "01234567")] || strtol(value, NULL, 8) > 0777 || strlen(value) > 4)
            refuse("-u takes an octal mode, such as 022: '%s'" SEE, value);
        break;
    default:
        break;
    }
}

/* ------------------------------------------------------------------------- conditions */

typedef bool condition(const char *first, const char *second);

static bool has_file(const char *path, const char *unused)
{
    (void)unused;
    return access(path, F_OK) == 0;
}

/* Does any line of a file in /proc match? */
static bool any_line(const char *path, condition matches, const char *word)
{
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t size = 0;
    bool found = false;

    while (file && !found && getline(&line, &size, file) > 0) {
        line[strcspn(line, "\n")] = '\0';
        found = matches(line, word);
    }
    free(line);
    if (file)
        fclose(file);
    return found;
}

static bool is_of_interface(const char *line, const char *name)
{
    size_t length = strlen(name);

    line += strspn(line, " ");
    return strncmp(line, name, length) == 0 && line[length] == ':';
}

static bool has_interface(const char *name, const char *unused)
{
    (void)unused;
    return any_line("/proc/net/dev", is_of_interface, name);
}

/*
 * address, index, length, scope (20: link), flags (08: a duplicate, 40: not yet known to be none),
 * name: net/ipv6/addrconf.c
 */
static bool is_usable_ipv6(const char *line, const char *name)
{
    unsigned scope;
    unsigned flags;
    char found[IFNAMSIZ];

    return sscanf(line, "%*s %*s %*s %x %x %15s", &scope, &flags, found) == 3 &&
           strcmp(found, name) == 0 && scope != 0x20 && !(flags & 0x48);
}

static bool has_ipv4(const char *name)
{
    struct ifaddrs *all;
    bool found = false;

    if (getifaddrs(&all) < 0)
        return false;
    for (struct ifaddrs *each = all; each; each = each->ifa_next) {
        size_t length = strcspn(each->ifa_name, ":"); /* a label may follow */

        found |= each->ifa_addr && each->ifa_addr->sa_family == AF_INET &&
                 strlen(name) == length && strncmp(each->ifa_name, name, length) == 0;
    }
    freeifaddrs(all);
    return found;
}

static bool has_address(const char *name, const char *unused)
{
    (void)unused;
    return (!ipv6 && has_ipv4(name)) || any_line("/proc/net/if_inet6", is_usable_ipv6, name);
}

static bool connects(const struct addrinfo *to)
{
    int sock = socket(to->ai_family, to->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, to->ai_protocol);
    struct pollfd waiting = {.fd = sock, .events = POLLOUT};
    int error = 0;
    socklen_t size = sizeof error;
    bool done;

    if (sock < 0)
        return false;
    done = connect(sock, to->ai_addr, to->ai_addrlen) == 0;
    if (!done && errno == EINPROGRESS)
        done = poll(&waiting, 1, CONNECT_MILLISECONDS) == 1 &&
               getsockopt(sock, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0;
    close(sock);
    return done;
}

static bool answers(const char *host, const char *port)
{
    struct addrinfo hints = {
        .ai_family = ipv6 ? AF_INET6 : AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_NUMERICSERV,
    };
    struct addrinfo *found;
    bool done = false;

    if (!*host)
        host = ipv6 ? "::1" : "127.0.0.1";
    if (getaddrinfo(host, port, &hints, &found) != 0)
        return false;
    for (struct addrinfo *each = found; each && !done; each = each->ai_next)
        done = connects(each);
    freeaddrinfo(found);
    return done;
}

/* Become a command line without a shell: its words are what stands between blanks. */
static void become_words(const char *command)
{
    char *rest = strdup(command);
    char **words = calloc(strlen(command) / 2 + 2, sizeof *words);
    size_t count = 0;
    char *word;

    if (!rest || !words)
        out_of_memory();
    while ((word = strsep(&rest, " \t\n")))
        if (*word)
            words[count++] = word;
    if (count) {
        execvp(words[0], words);
        say("%s: %s", words[0], strerror(errno));
    }
}

static bool succeeds(const char *command, const char *unused)
{
    int status;

    (void)unused;
    child = fork();
    if (child == 0) {
        int nothing = open("/dev/null", O_RDONLY);

        setsid(); /* so that all of it can be ended */
        if (nothing > 0)
            dup2(nothing, STDIN_FILENO);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        become_words(command);
        _exit(NOT_FOUND);
    }
    if (child < 0 || waitpid(child, &status, 0) < 0)
        return false;
    child = 0;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Relink has a Unix socket of this name here while it finds all as declared. */
static bool is_of_relink(const char *line, const char *instance)
{
    static const char prefix[] = "@relink/ready/";
    size_t length = strlen(prefix);
    int at = 0;

    if (sscanf(line, "%*s %*s %*s %*s %*s %*s %*s %n", &at) < 0 || at == 0)
        return false;
    return strncmp(line + at, prefix, length) == 0 &&
           (!*instance || strcmp(line + at + length, instance) == 0);
}

static bool is_ready(const char *instance, const char *unused)
{
    (void)unused;
    return any_line("/proc/net/unix", is_of_relink, instance);
}

/* ------------------------------------------------------------------------------- main */

__attribute__((format(printf, 4, 5))) static void
until_true(condition look, const char *first, const char *second, const char *format, ...)
{
    struct timespec nap = {.tv_sec = (time_t)pause_seconds};
    va_list arguments;
    char *what;
    char *words;
    char *before;
    int length;

    va_start(arguments, format);
    length = vasprintf(&what, format, arguments);
    va_end(arguments);
    if (length < 0 || asprintf(&words, "wait: timed out after %s s, waiting for %s\n",
                               timeout_words ? timeout_words : "0", what) < 0)
        out_of_memory();
    before = late; /* the time may pass at any moment */
    late = words;
    free(before);
    nap.tv_nsec = (long)((pause_seconds - (double)nap.tv_sec) * 1e9);
    if (!look(first, second)) {
        say("waiting for %s", what);
        do
            nanosleep(&nap, NULL);
        while (!look(first, second));
    }
    free(what);
}

static void await_port(const struct address *address)
{
    until_true(answers, address->host, address->port, "%s to answer on TCP port %s%s",
               *address->host ? address->host : "this container", address->port,
               ipv6 ? " by IPv6" : "");
}

static void await(int letter, const char *value)
{
    switch (letter) {
    case 'f':
        until_true(has_file, value, "", "file %s", value);
        break;
    case 'i':
        until_true(has_interface, value, "", "interface %s", value);
        break;
    case 'I':
        until_true(has_address, value, "", "an IP%s address on %s", ipv6 ? "v6" : "", value);
        break;
    case 't':
        each_address(value, await_port);
        break;
    case 'c':
        until_true(succeeds, value, "", "success of: %s", value);
        break;
    case READY:
        until_true(is_ready, value, "", "the links of this container to be as declared%s%s",
                   *value ? " by " : "", value);
        break;
    case SIX:
        ipv6 = true;
        break;
    case 'u':
        umask((mode_t)strtol(value, NULL, 8));
        break;
    default:
        break;
    }
}

int main(int count, char **words)
{
    static const int signals[] = {SIGALRM, SIGHUP, SIGINT, SIGTERM};
    char **command;
    int error;

    if (count < 2)
        refuse("nothing to wait for" SEE);
    command = each_option(words + 1, check);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        listen_to(signals[i]);
    if (timeout_words)
        set_timer(seconds_of(timeout_words));
    each_option(words + 1, await);
    set_timer(0);
    if (!*command)
        return 0;
    execvp(command[0], command);
    error = errno;
    say("%s: %s", command[0], strerror(error));
    return error == ENOENT ? NOT_FOUND : NOT_RUN;
}
