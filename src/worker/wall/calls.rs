//! Which system calls are left: what Git, TLS, the resolver of names and ssh use, and no other. A call that is not here
//! fails with EPERM. None of them leaves the process group, makes a namespace, traces, listens or loads anything.

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Is, SeccompCondition as Condition,
    SeccompFilter, SeccompRule as Rule, TargetArch, apply_filter,
};

use super::{Wall, WallError};

type Rules = Vec<(i64, Vec<Rule>)>;
type Made<T> = Result<T, seccompiler::BackendError>;

/// Files, memory, time, threads, itself.
const ALWAYS: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_pipe2,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_ftruncate,
    libc::SYS_truncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_flock,
    libc::SYS_utimensat,
    libc::SYS_umask,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_fadvise64,
    libc::SYS_readahead,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_msync,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_munlock,
    libc::SYS_membarrier,
    libc::SYS_pselect6,
    libc::SYS_ppoll,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_times,
    libc::SYS_getitimer,
    libc::SYS_setitimer,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_getpriority,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getpgid,
    libc::SYS_getsid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_getrusage,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getcpu,
    libc::SYS_getrandom,
    libc::SYS_set_tid_address,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_rseq,
    libc::SYS_futex,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// The same under names that only this architecture has.
#[cfg(target_arch = "x86_64")]
const OLDER: &[i64] = &[
    libc::SYS_open,
    libc::SYS_creat,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_getdents,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_utimes,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_select,
    libc::SYS_poll,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_time,
    libc::SYS_alarm,
    libc::SYS_pause,
    libc::SYS_getrlimit,
    libc::SYS_setrlimit,
    libc::SYS_getpgrp,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[i64] = &[];

/// What a user who owns nothing but clones may do to files, and root may not: there is none in the host that is not its.
const MODES: &[i64] = &[
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
];

/// To talk to a server; to be one (bind to a port, listen, accept) is not among them.
const NETWORK: &[i64] = &[
    libc::SYS_connect,
    // The resolver binds its netlink socket; Landlock refuses TCP ports.
    libc::SYS_bind,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_shutdown,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
];

/// ioctl(2) that is asked of descriptors: how a terminal is, whether to block. Not TIOCSTI, which types for others.
const IOCTLS: &[libc::Ioctl] =
    &[libc::TCGETS, libc::TIOCGWINSZ, libc::TIOCGPGRP, libc::FIONREAD, libc::FIONBIO, libc::FIOCLEX, libc::FIONCLEX];

/// prctl(2) that only names or asks. Not PR_SET_DUMPABLE.
const PRCTLS: &[libc::c_int] = &[
    libc::PR_SET_NAME,
    libc::PR_GET_NAME,
    libc::PR_GET_DUMPABLE,
    libc::PR_SET_NO_NEW_PRIVS,
    libc::PR_GET_NO_NEW_PRIVS,
    libc::PR_SET_VMA,
    libc::PR_SET_PDEATHSIG,
];

/// Flags of clone(2) that make a namespace, or another's child.
const NOT_CLONED: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    // A child that is the agent's, which never asked for it.
    | libc::CLONE_PARENT) as u64;

/// Puts the filter up; for good, for this thread and all that it starts.
pub(super) fn filter(wall: &Wall, root: bool) -> Result<(), WallError> {
    // The flags of clone3(2) lie in memory, which no filter sees: it is as if the kernel had none, and clone(2) is taken.
    let absent = filter_of(
        vec![(libc::SYS_clone3, Vec::new())],
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS as u32),
    )?;
    let left = filter_of(rules(wall, root)?, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow)?;
    apply_filter(&absent)?;
    Ok(apply_filter(&left)?)
}

fn filter_of(rules: Rules, otherwise: SeccompAction, action: SeccompAction) -> Made<BpfProgram> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules.into_iter().collect(), otherwise, action, arch)?.try_into()
}

fn rules(wall: &Wall, root: bool) -> Made<Rules> {
    let mut rules: Rules = ALWAYS.iter().chain(OLDER).map(|call| (*call, Vec::new())).collect();
    // Refused by the other filter, with its own error.
    rules.push((libc::SYS_clone3, Vec::new()));
    rules.push((libc::SYS_clone, vec![argument64(0, Is::MaskedEq(NOT_CLONED), 0)?]));
    // No mapping is written and run at once.
    let (write, run) = (libc::PROT_WRITE as u64, libc::PROT_EXEC as u64);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let rule = |bit| argument(2, Is::MaskedEq(bit), 0);
        rules.push((call, vec![rule(write)?, rule(run)?]));
    }
    let ioctls = IOCTLS.iter().map(|request| argument(1, Is::Eq, *request));
    rules.push((libc::SYS_ioctl, ioctls.collect::<Made<_>>()?));
    let mut prctls = PRCTLS.iter().map(|option| argument(0, Is::Eq, *option as u64)).collect::<Made<Vec<_>>>()?;
    let again = [condition(0, Is::Eq, libc::PR_SET_DUMPABLE as u64)?, condition(1, Is::Eq, 0)?];
    prctls.push(Rule::new(again.to_vec())?);
    rules.push((libc::SYS_prctl, prctls));
    // abort(3) is a signal to itself. Root's processes are many, so a worker that is still root's sends none to others.
    let own = u64::from(std::process::id());
    if root {
        rules.push((libc::SYS_tgkill, vec![argument(0, Is::Eq, own)?]));
        // Asking for limits is all: others of root's are limited by them too.
        rules.push((libc::SYS_prlimit64, vec![argument64(2, Is::Eq, 0)?]));
    } else {
        rules.extend([libc::SYS_kill, libc::SYS_tgkill, libc::SYS_prlimit64].map(|call| (call, Vec::new())));
        rules.extend(MODES.iter().map(|call| (*call, Vec::new())));
    }
    let socket = |domain: libc::c_int| argument(0, Is::Eq, domain as u64);
    rules.push((libc::SYS_socketpair, vec![socket(libc::AF_UNIX)?]));
    if wall.ports.is_some() {
        rules.extend(NETWORK.iter().map(|call| (*call, Vec::new())));
        let netlink = [condition(0, Is::Eq, libc::AF_NETLINK as u64)?, condition(2, Is::Eq, 0)?];
        let mut domains = vec![socket(libc::AF_INET)?, socket(libc::AF_INET6)?, Rule::new(netlink.to_vec())?];
        // Daemons that find names; to many others on their sockets root may say anything.
        if !root {
            domains.push(socket(libc::AF_UNIX)?);
        }
        rules.push((libc::SYS_socket, domains));
    }
    if wall.programs {
        rules.push((libc::SYS_execve, Vec::new()));
        #[cfg(target_arch = "x86_64")]
        rules.extend([(libc::SYS_fork, Vec::new()), (libc::SYS_vfork, Vec::new())]);
    }
    Ok(rules)
}

fn condition(index: u8, is: Is, value: u64) -> Made<Condition> {
    Condition::new(index, Length::Dword, is, value)
}

fn argument(index: u8, is: Is, value: u64) -> Made<Rule> {
    Rule::new(vec![condition(index, is, value)?])
}

fn argument64(index: u8, is: Is, value: u64) -> Made<Rule> {
    Rule::new(vec![Condition::new(index, Length::Qword, is, value)?])
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what is refused is tried")]
mod tests {
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::process::Command;
    use std::thread;

    use nix::unistd::{Pid, setpgid, setsid};

    use super::*;

    /// In a thread of its own: a filter stays, and is a thread's.
    fn behind<T: Send + 'static>(wall: Wall, root: bool, what: impl FnOnce() -> T + Send + 'static) -> T {
        thread::spawn(move || {
            filter(&wall, root).expect("it is put up");
            what()
        })
        .join()
        .expect("nothing panics")
    }

    fn online() -> Wall {
        Wall { ports: Some(vec![443]), ..Wall::default() }
    }

    fn refused<T>(result: std::io::Result<T>) -> bool {
        result.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    }

    #[test]
    fn it_cannot_leave_its_process_group_make_a_namespace_trace_or_listen() {
        let wall = Wall { programs: true, ..online() };
        behind(wall, false, || {
            let own = Pid::from_raw(0);
            assert_eq!(setsid(), Err(nix::errno::Errno::EPERM));
            assert_eq!(setpgid(own, own), Err(nix::errno::Errno::EPERM));
            let unshare = Command::new("/usr/bin/unshare").args(["--user", "true"]).output().expect("is started");
            assert!(!unshare.status.success(), "{unshare:?}");
            let setsid = Command::new("/usr/bin/setsid").args(["--fork", "true"]).output().expect("is started");
            let said = String::from_utf8_lossy(&setsid.stderr).into_owned();
            assert!(said.contains("Operation not permitted"), "what it starts neither: {said}");
            assert!(refused(TcpListener::bind("127.0.0.1:0")), "listen(2)");
            let path = std::env::temp_dir().join(format!("trueup-listen-{}", std::process::id()));
            assert!(refused(UnixListener::bind(&path)), "listen(2)");
            drop(std::fs::remove_file(path));
        });
    }

    #[test]
    fn what_it_is_for_works() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a server");
        let address = listener.local_addr().expect("an address");
        behind(Wall { programs: true, ..online() }, false, move || {
            TcpStream::connect(address).expect("connects");
            assert!(std::net::ToSocketAddrs::to_socket_addrs("localhost:1").is_ok(), "names are found");
            let output = Command::new("/bin/true").output().expect("programs are started");
            assert!(output.status.success());
            thread::spawn(|| std::fs::read("/etc/passwd").expect("reads")).join().expect("threads are started");
        });
    }

    #[test]
    fn without_a_network_there_is_none_and_without_programs_none_is_started() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a server");
        let address = listener.local_addr().expect("an address");
        behind(Wall::default(), true, move || {
            assert!(refused(TcpStream::connect(address)));
            assert!(refused(UnixStream::connect("/run/systemd/journal/stdout")));
            assert!(refused(Command::new("/bin/true").output()));
            let limits = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
            assert_eq!(limits, Err(nix::errno::Errno::EPERM), "root's limits");
            let mode = std::fs::Permissions::from_mode(0o4755);
            assert!(refused(std::fs::set_permissions("/bin/true", mode)), "root's files");
            let others = Pid::from_raw(1);
            assert_eq!(nix::sys::signal::kill(others, None), Err(nix::errno::Errno::EPERM), "root's signals");
        });
    }
}
