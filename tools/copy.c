/*
 * Copies a tree over another, with templates, then becomes COMMAND. docs/wait-and-copy.md describes
 * it.
 *
 * The same as tools/copy.sh, for images without a shell; linked statically.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FAILED = 1, NOT_RUN = 126, NOT_FOUND = 127 };

static const char USAGE[] =
    "Usage: copy [-T] SRC DST [-- COMMAND [ARGUMENT...]]\n"
    "Copies what is in SRC over DST, at every depth, then becomes COMMAND. What SRC\n"
    "does not have stays as it is in DST. SRC may be a single file.\n"
    "\n"
    "  -T, --template  replace each {{VAR}} by VAR of the environment; one that is\n"
    "                  not set is left as it is, and named. A file with a NUL byte\n"
    "                  is no text, and is copied as it is.\n"
    "\n"
    "Files and new directories keep their modes, and the owner may write. As root\n"
    "they belong to root. Directories that are there keep mode and owner. Links are\n"
    "copied as links.\n"
    "\n"
    "exit codes: those of COMMAND, 0 without one; 1 wrong words, or something could\n"
    "not be copied; 126 COMMAND cannot be run; 127 not found\n"
    "example: copy -T /files / -- wait -i eth0 -- my-server\n";

static bool template;
static bool root;

struct text {
    const char *bytes;
    size_t length;
};

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    fputs("copy: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

#define die(...) (say(__VA_ARGS__), exit(FAILED))
#define SEE "; see copy --help"

static void must(bool done, const char *path)
{
    if (!done)
        die("%s: %s", path, strerror(errno));
}

__attribute__((format(printf, 1, 2))) static char *made(const char *format, ...)
{
    va_list arguments;
    char *path = NULL;

    va_start(arguments, format);
    must(vasprintf(&path, format, arguments) >= 0, "a path");
    va_end(arguments);
    return path;
}

static char *below(const char *directory, const char *name)
{
    size_t length = strlen(directory);

    return made("%s%s%s", directory, length && directory[length - 1] == '/' ? "" : "/", name);
}

/* ------------------------------------------------------------------------------ files */

static void write_all(int to, const char *bytes, size_t length, const char *path)
{
    while (length) {
        ssize_t written = write(to, bytes, length);

        must(written >= 0, path);
        bytes += written;
        length -= (size_t)written;
    }
}

static void copy_bytes(int from, const char *src, int to, const char *dst)
{
    static char buffer[65536];
    ssize_t length;

    while ((length = read(from, buffer, sizeof buffer)) > 0)
        write_all(to, buffer, (size_t)length, dst);
    must(length == 0, src);
}

/* Have a file in memory. */
static struct text text_of(int from, const char *src)
{
    struct stat found;
    struct text text = {"", 0};

    must(fstat(from, &found) == 0, src);
    if (found.st_size > 0) {
        text.length = (size_t)found.st_size;
        text.bytes = mmap(NULL, text.length, PROT_READ, MAP_PRIVATE, from, 0);
        must(text.bytes != MAP_FAILED, src);
    }
    return text;
}

/* Return the length of the name if {{NAME}} stands here, else 0. */
static size_t name_at(const char *at, const char *end)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_";
    const char *name = at + 2;
    const char *stop = name;

    if (end - at < 5 || at[0] != '{' || at[1] != '{' || !strchr(letters, *name))
        return 0;
    while (stop < end && (strchr(letters, *stop) || (*stop >= '0' && *stop <= '9')))
        stop++;
    return end - stop >= 2 && stop[0] == '}' && stop[1] == '}' ? (size_t)(stop - name) : 0;
}

/* Write a text (it has no NUL) with each {{VAR}} replaced. */
static void render(struct text text, const char *src, int to, const char *dst)
{
    const char *end = text.bytes + text.length;
    const char *plain = text.bytes; /* what is not written yet */
    const char *at = plain;
    unsigned long line = 1;

    while (at < end) {
        size_t length = name_at(at, end);

        if (length) {
            char *name = strndup(at + 2, length);
            const char *value;

            must(name != NULL, src);
            value = getenv(name);
            if (value) {
                write_all(to, plain, (size_t)(at - plain), dst);
                write_all(to, value, strlen(value), dst);
                plain = at + length + 4;
            } else {
                say("%s:%lu: %s is not set, and left as it is", src, line, name);
            }
            free(name);
            at += length + 4;
        } else {
            line += *at++ == '\n';
        }
    }
    write_all(to, plain, (size_t)(end - plain), dst);
}

/* Give what is open as FILE its owner, and the mode of `like` with more. */
static void finish(int file, const char *path, const struct stat *like, mode_t more)
{
    must(!root || fchown(file, 0, 0) == 0, path);
    must(fchmod(file, (like->st_mode & 07777) | more) == 0, path);
}

static int open_new(const char *path)
{
    int flags = O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC;
    int file = open(path, flags, 0600);

    /* One that runs, or that the owner may not write, makes room for another. */
    if (file < 0 && (errno == ETXTBSY || errno == EACCES) && unlink(path) == 0)
        file = open(path, flags, 0600);
    must(file >= 0, path);
    return file;
}

static void place_file(const char *src, const struct stat *like, const char *dst)
{
    struct stat there;
    int from = open(src, O_RDONLY | O_CLOEXEC);
    int to;

    must(from >= 0, src);
    if (lstat(dst, &there) == 0) {
        if (S_ISLNK(there.st_mode))
            must(unlink(dst) == 0, dst);
        else if (!S_ISREG(there.st_mode))
            die("%s is in the way: it is no file, and %s is one", dst, src);
        else if (there.st_dev == like->st_dev && there.st_ino == like->st_ino)
            die("%s and %s are one file", src, dst);
    }
    to = open_new(dst);
    if (template) {
        struct text text = text_of(from, src);

        if (memchr(text.bytes, '\0', text.length))
            write_all(to, text.bytes, text.length, dst);
        else
            render(text, src, to, dst);
        if (text.length)
            munmap((void *)text.bytes, text.length);
    } else {
        copy_bytes(from, src, to, dst);
    }
    finish(to, dst, like, S_IWUSR);
    must(close(to) == 0, dst);
    close(from);
}

/* ------------------------------------------------------------------- links, directories */

/* Return what a link names, of whatever length. */
static char *target_of(const char *link)
{
    size_t size = 256;

    for (;;) {
        char *target = malloc(size);
        ssize_t length;

        must(target != NULL, link);
        length = readlink(link, target, size);
        must(length >= 0, link);
        if ((size_t)length < size) {
            target[length] = '\0';
            return target;
        }
        free(target);
        size *= 2;
    }
}

static void place_link(const char *src, const char *dst)
{
    struct stat there;
    char *target = target_of(src);

    if (lstat(dst, &there) == 0) {
        if (S_ISDIR(there.st_mode))
            die("%s is in the way: it is a directory, and %s is a link", dst, src);
        must(unlink(dst) == 0, dst);
    }
    must(symlink(target, dst) == 0, dst);
    must(!root || lchown(dst, 0, 0) == 0, dst);
    free(target);
}

static void make_directory(const struct stat *like, const char *path)
{
    int made_now;

    must(mkdir(path, 0777) == 0, path);
    made_now = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    must(made_now >= 0, path);
    finish(made_now, path, like, S_IRWXU);
    close(made_now);
}

static void place(const char *src, const char *dst);

static void place_directory(const char *src, const struct stat *like, const char *dst)
{
    struct stat there;
    struct dirent *entry;
    DIR *directory;

    if (stat(dst, &there) != 0 && lstat(dst, &there) != 0)
        make_directory(like, dst);
    else if (!S_ISDIR(there.st_mode))
        die("%s is in the way: it is no directory, and %s is one", dst, src);
    directory = opendir(src);
    must(directory != NULL, src);
    while (errno = 0, (entry = readdir(directory))) {
        char *from;
        char *to;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        from = below(src, entry->d_name);
        to = below(dst, entry->d_name);
        place(from, to);
        free(from);
        free(to);
    }
    must(errno == 0, src);
    closedir(directory);
}

/* Make DST what SRC is. */
static void place(const char *src, const char *dst)
{
    struct stat found;

    must(lstat(src, &found) == 0, src);
    if (S_ISLNK(found.st_mode))
        place_link(src, dst);
    else if (S_ISDIR(found.st_mode))
        place_directory(src, &found, dst);
    else if (S_ISREG(found.st_mode))
        place_file(src, &found, dst);
    else
        die("%s is neither a file nor a directory nor a link", src);
}

/* ------------------------------------------------------------------------------- main */

/* Cut the last name off a path; what is left of a single name is the directory that it is in. */
static void go_up(char *path)
{
    char *slash = strrchr(path, '/');

    if (!slash)
        path[0] = '.', path[1] = '\0'; /* no name is empty */
    else if (slash == path)
        path[1] = '\0';
    else
        *slash = '\0';
}

static bool is_directory(const char *path)
{
    struct stat found;

    return stat(path, &found) == 0 && S_ISDIR(found.st_mode);
}

/* Is PATH, which need not be there, in DIRECTORY or the same? */
static bool is_inside(const char *path, const char *directory)
{
    char *up = made("%s", path);
    char *real_up;
    char *real = realpath(directory, NULL);
    size_t length;
    bool inside;

    must(real != NULL, directory);
    while (!is_directory(up))
        go_up(up);
    real_up = realpath(up, NULL);
    must(real_up != NULL, up);
    length = strlen(real);
    inside = strncmp(real_up, real, length) == 0 &&
             (real[length - 1] == '/' || real_up[length] == '/' || real_up[length] == '\0');
    free(up);
    free(real);
    free(real_up);
    return inside;
}

/* Make the directories that a path is in. */
static void make_parents(const char *path)
{
    char *up = made("%s", path);

    go_up(up);
    if (!is_directory(up)) {
        make_parents(up);
        must(mkdir(up, 0777) == 0, up);
    }
    free(up);
}

static void copy(const char *src, char *dst)
{
    struct stat found;
    size_t length = strlen(dst);

    if (stat(src, &found) != 0)
        die("there is no %s", src);
    if (S_ISDIR(found.st_mode)) {
        while (length > 1 && dst[length - 1] == '/')
            dst[--length] = '\0';
        if (is_inside(dst, src))
            die("%s is inside %s", dst, src);
        if (!is_directory(dst)) {
            make_parents(dst);
            if (access(dst, F_OK) != 0)
                make_directory(&found, dst);
        }
        umask(077); /* nobody else reads what is not finished */
        place_directory(src, &found, dst);
    } else if (S_ISREG(found.st_mode)) {
        const char *slash = strrchr(src, '/');
        char *path = is_directory(dst) ? below(dst, slash ? slash + 1 : src) : made("%s", dst);

        umask(077);
        place_file(src, &found, path);
        free(path);
    } else {
        die("%s is neither a file nor a directory", src);
    }
}

int main(int count, char **words)
{
    const mode_t mask = umask(0);
    int error;

    (void)count;
    for (words++; *words && (*words)[0] == '-' && strcmp(*words, "--") != 0; words++) {
        if (strcmp(*words, "-h") == 0 || strcmp(*words, "--help") == 0) {
            fputs(USAGE, stdout);
            return 0;
        }
        if (strcmp(*words, "-T") != 0 && strcmp(*words, "--template") != 0)
            die("no option is called %s" SEE, *words);
        template = true;
    }
    if (!words[0] || !words[1] || strcmp(words[0], "--") == 0 || strcmp(words[1], "--") == 0)
        die("SRC and DST are needed" SEE);
    if (words[2] && strcmp(words[2], "--") != 0)
        die("'%s' is one word too many; COMMAND stands after --" SEE, words[2]);
    for (int i = 0; i < 2; i++)
        if (!words[i][0] || words[i][0] == '-')
            die("'%s' is no path (./%s is)" SEE, words[i], words[i]);
    root = geteuid() == 0;
    umask(mask);
    copy(words[0], words[1]);
    umask(mask);
    if (!words[2] || !words[3])
        return 0;
    execvp(words[3], words + 3);
    error = errno;
    say("%s: %s", words[3], strerror(error));
    return error == ENOENT ? NOT_FOUND : NOT_RUN;
}
