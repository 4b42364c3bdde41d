"""System call numbers of the two architectures that the filter knows."""

from __future__ import annotations

import platform
from typing import Final

_X86_64: Final = 0
_AARCH64: Final = 1
_COLUMN: Final = {"x86_64": _X86_64, "aarch64": _AARCH64}.get(platform.machine())

# name, number on x86_64, number on aarch64 (a dash: the call does not exist there)
_TABLE: Final = """
read 0 63               write 1 64              readv 19 65             writev 20 66
pread64 17 67           pwrite64 18 68          preadv 295 69           pwritev 296 70
lseek 8 62              close 3 57              fstat 5 80              newfstatat 262 79
statx 332 291           fcntl 72 25             dup 32 23               dup2 33 -
dup3 292 24             ftruncate 77 46         fadvise64 221 223       fsync 74 82
fdatasync 75 83         fallocate 285 47        copy_file_range 326 285 sendfile 40 71
mmap 9 222              munmap 11 215           mprotect 10 226         mremap 25 216
madvise 28 233          brk 12 214              membarrier 324 283      mincore 27 232
futex 202 98            clone 56 220            clone3 435 435          rseq 334 293
set_robust_list 273 99  get_robust_list 274 100 set_tid_address 218 96  arch_prctl 158 -
exit 60 93              exit_group 231 94       restart_syscall 219 128 sched_yield 24 124
sched_getaffinity 204 123                       sched_getparam 143 121  sched_getscheduler 145 120
getcpu 309 168          rt_sigaction 13 134     rt_sigprocmask 14 135   rt_sigreturn 15 139
sigaltstack 131 132     tgkill 234 131          kill 62 129             tkill 200 130
nanosleep 35 101        clock_nanosleep 230 115 clock_gettime 228 113   clock_getres 229 114
gettimeofday 96 169     time 201 -              times 100 153           getrusage 98 165
getpid 39 172           gettid 186 178          getppid 110 173         getuid 102 174
geteuid 107 175         getgid 104 176          getegid 108 177         getpgrp 111 -
getpgid 121 155         getsid 124 156          uname 63 160            sysinfo 99 179
getrandom 318 278       prctl 157 167           prlimit64 302 261       getrlimit 97 163
poll 7 -                ppoll 271 73            select 23 -             pselect6 270 72
eventfd2 290 19         pipe2 293 59            openat 257 56           readlink 89 -
open 2 -                stat 4 -                lstat 6 -
readlinkat 267 78       access 21 -             faccessat 269 48        faccessat2 439 439
getdents64 217 61       getcwd 79 17            statfs 137 43           fstatfs 138 44
execve 59 221           execveat 322 281        seccomp 317 277         close_range 436 436
landlock_create_ruleset 444 444                 landlock_add_rule 445 445
landlock_restrict_self 446 446
"""


def _read_table() -> dict[str, int]:
    words = _TABLE.split()
    rows = zip(words[::3], words[1::3], words[2::3], strict=True)
    if _COLUMN is None:
        return {}
    return {name: int(numbers[_COLUMN]) for name, *numbers in rows if numbers[_COLUMN] != "-"}


NUMBERS: Final = _read_table()
AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}.get(platform.machine())
