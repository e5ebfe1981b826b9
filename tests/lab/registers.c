/* Preloaded into User Mode Linux (6.1), which keeps the first 2,696 bytes of a process's registers
 * (_xstate of its host) and sets no more: the kernel takes none but all of them (xstateregs_set() in
 * arch/x86/kernel/fpu/regset.c, 6.18), which with AMX are 11,008. So the others stay what they are.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static char registers[1 << 16] __attribute__((aligned(64)));

long ptrace(enum __ptrace_request request, ...)
{
    va_list rest;
    va_start(rest, request);
    pid_t pid = va_arg(rest, pid_t);
    void *address = va_arg(rest, void *);
    void *data = va_arg(rest, void *);
    va_end(rest);
    if (request == PTRACE_SETREGSET && address == (void *)NT_X86_XSTATE) {
        struct iovec *some = data, all = {registers, sizeof registers};
        if (!syscall(SYS_ptrace, PTRACE_GETREGSET, pid, address, &all) && all.iov_len > some->iov_len) {
            memcpy(registers, some->iov_base, some->iov_len);
            return syscall(SYS_ptrace, request, pid, address, &all);
        }
    }
    long word;
    switch (request) {
    case PTRACE_PEEKTEXT: /* what is read is returned: ptrace(2), "C library/kernel differences" */
    case PTRACE_PEEKDATA:
    case PTRACE_PEEKUSER:
        if (syscall(SYS_ptrace, request, pid, address, &word))
            return -1;
        errno = 0;
        return word;
    default:
        return syscall(SYS_ptrace, request, pid, address, data);
    }
}
