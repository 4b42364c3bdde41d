"""System calls that nothing in the sandbox may make: number on x86_64, number on aarch64 (a dash: not there)."""

from __future__ import annotations

import platform

_TABLE = """
socket 41 198           connect 42 203          bind 49 200             sendto 44 206
accept 43 202           io_uring_setup 425 425  io_uring_enter 426 426  bpf 321 280
ptrace 101 117          process_vm_readv 310 270                        process_vm_writev 311 271
process_madvise 440 440 pidfd_open 434 434      pidfd_getfd 438 438     pidfd_send_signal 424 424
kcmp 312 272            perf_event_open 298 241 userfaultfd 323 282     memfd_create 319 279
memfd_secret 447 447    keyctl 250 219          add_key 248 217         request_key 249 218
fork 57 -               vfork 58 -              clone3 435 435          execve 59 221
unshare 272 97          setns 308 268           chroot 161 51           pivot_root 155 41
mount 165 40            umount2 166 39          fsopen 430 430          open_tree 428 428
move_mount 429 429      mount_setattr 442 442   fsmount 432 432         init_module 175 105
finit_module 313 273    kexec_load 246 104      reboot 169 142          swapon 167 224
acct 163 89             syslog 103 116          settimeofday 164 170    clock_settime 227 112
adjtimex 159 171        sethostname 170 161     iopl 172 -              ioperm 173 -
modify_ldt 154 -        personality 135 92      setuid 105 146          setresuid 117 147
setgroups 116 159       capset 126 91           seccomp 317 277         landlock_restrict_self 446 446
kill 62 129             tkill 200 130           rt_sigqueueinfo 129 138 shmget 29 194
msgget 68 186           semget 64 190           mq_open 240 180         splice 275 76
vmsplice 278 75         tee 276 77              fanotify_init 300 262   inotify_init1 294 26
name_to_handle_at 303 264                       open_by_handle_at 304 265
openat2 437 437         mkdirat 258 34          unlinkat 263 35         renameat2 316 276
linkat 265 37           symlinkat 266 36        mknodat 259 33          fchmodat 268 53
fchownat 260 54         utimensat 280 88        truncate 76 45          setxattr 188 5
quotactl 179 60         setpriority 141 140     sched_setaffinity 203 122
sched_setscheduler 144 119                      ioprio_set 251 30       setrlimit 160 164
ioctl 16 29             timer_create 222 107    getpeername 52 205      setpgid 109 154
setsid 112 157          prctl 157 167
"""


def forbidden_calls() -> dict[str, int]:
    """By name, for this machine. ``prctl`` stands for all that it does but naming a thread."""
    column = {"x86_64": 1, "aarch64": 2}[platform.machine()]
    words = _TABLE.split()
    rows = [words[at : at + 3] for at in range(0, len(words), 3)]
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}
