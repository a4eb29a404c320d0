//! What an unprivileged user tries against the pipeline of the machine.
//!
//! Lines of shell. They know `$S` and `$Q`, the beginning of our names in shared memory and of our queues; `$R` and `$L`, our run and
//! state directory; `$sysv`, the numbers of our System V queues; and the process numbers `$conv`, `$log`, `$stat`, `$report`. Of what is
//! not there it is a number that nobody has.
#![forbid(unsafe_code)]

/// When an attack has succeeded.
#[derive(Clone, Copy)]
pub enum Success {
    /// If the line could be done; in any case if the pipeline notices.
    Done,
    /// As `Done`; but members of the group may do this.
    ForStrangers,
    /// Everybody may do it: if this line, of the superuser, then succeeds.
    If(&'static str),
    /// Everybody may do it: if the pipeline notices.
    Noticed,
}

/// One attack: its name, its line, when it has succeeded.
pub type Attack = (&'static str, &'static str, Success);

use Success::{Done, ForStrangers, If, Noticed};

const FORGED: &str = "sleep 0.2; journalctl --sync; journalctl -o cat -u ipc-log | grep forged \
                      || journalctl -o cat _SYSTEMD_UNIT=ipc-log.service | grep forged";
const STATUS_FORGED: &str =
    "systemctl show -P StatusText ipc-log ipc-conv | grep forged || systemctl is-failed ipc-log";

const QUEUE_READ: &str = r#"for q in $(cd /dev/mqueue && echo ipc-pipeline.*); do perl -e 'exit(syscall(240,"$ARGV[0]",0,0,0)<0)' $q && exit 0; done; false"#;
const QUEUE_SEND: &str = r#"for q in $(cd /dev/mqueue && echo ipc-pipeline.*); do perl -e '$b="forged"; $f=syscall(240,"$ARGV[0]",04001,0,0); exit($f<0||syscall(242,$f,$b,6,0,0)<0&&$! != 11)' $q && exit 0; done; false"#;
const SOCKET_CONNECT: &str = r#"for r in log stat; do perl -MSocket -e 'socket S,AF_UNIX,5,0; exit !connect S,pack_sockaddr_un(shift)' $R/$r/socket && exit 0; done; false"#;
const SOCKET_BIND: &str = r#"for r in log stat; do perl -MSocket -e 'socket S,AF_UNIX,5,0; exit !bind S,pack_sockaddr_un(shift)' $R/$r/x && exit 0; done; false"#;
const SYSV_SEND: &str = r#"for q in $sysv; do perl -e '$b=pack("qa8",1,"forged"); exit(syscall(69,$ARGV[0]+0,$b,8,04000)<0&&$! != 11)' $q && exit 0; done; false"#;
// There may be nothing in it at the moment (42): it was not refused.
const SYSV_TAKE: &str = r#"for q in $sysv; do perl -e '$b="\0" x 9000; exit(syscall(70,$ARGV[0]+0,$b,8192,0,014000)<0&&$! != 42)' $q && exit 0; done; false"#;
/// Not what /proc shows to all: that it is there, whose, and how full.
const SYSV_STATE: &str = r#"for q in $sysv; do perl -e '$b="\0" x 200; exit(syscall(71,$ARGV[0]+0,2,$b)<0)' $q && exit 0; done; false"#;
const SYSV_OWN: &str = r#"for q in $sysv; do perl -e '$b=pack("L10",0,$<,0,0,0,438)."\0" x 200; exit(syscall(71,$ARGV[0]+0,1,$b)<0)' $q && exit 0; done; false"#;
/// Queues of one byte, so that a user's memory for queues suffices for all that the machine may have.
pub const ALL_QUEUES: &str =
    r#"perl -e '$a=pack("q8",0,1,1); for(1..300){syscall(240,"theirs.$_",0102,0600,$a)}; 1'"#;
/// As many as the machine may have: they cost nobody's memory but the kernel's.
pub const ALL_SYSV: &str = r#"perl -e '1 while syscall(68,0,01600)>=0; 1'"#;

/// All of them.
pub const ATTACKS: &[Attack] = &[
    // Reading what is not theirs.
    ("read the spool", "cat ${S}.spool", ForStrangers),
    ("read the page of log", "cat ${S}.page.log", ForStrangers),
    ("read the snapshot", "cat ${S}.snapshot", ForStrangers),
    (
        "map the spool",
        "perl -e 'open F,shift or exit 1; exit(syscall(9,0,4096,1,1,fileno F,0)<0)' ${S}.spool",
        ForStrangers,
    ),
    ("list the run directory", "ls $R", ForStrangers),
    ("list the record", "ls $L/log", ForStrangers),
    ("read the record", "cat $L/log/*.seg", ForStrangers),
    ("read the mark", "cat $L/log/durable.mark", ForStrangers),
    ("list the checkpoints", "ls $L/stat", ForStrangers),
    ("tail", "ipc-pipeline tail --once --system", ForStrangers),
    ("export", "ipc-pipeline export --system --output /dev/null", ForStrangers),
    ("verify", "ipc-pipeline verify --system", ForStrangers),
    ("read the list of objects", "cat $R/manifest", Done),
    ("read a lock file", "cat $R/conv.lock", Done),
    // Changing it.
    ("write into the spool", "echo x >>${S}.spool", Done),
    ("write into a page", "printf x | dd of=${S}.page.conv conv=notrunc", Done),
    ("write into the snapshot", "echo x >>${S}.snapshot", Done),
    ("map a page for writing", "perl -e 'open F,\"+<\",shift or exit 1' ${S}.page.log", Done),
    ("truncate a page", "truncate -s 0 ${S}.page.log", Done),
    ("truncate while opening", ": >${S}.page.stat", Done),
    ("punch a hole into the spool", "fallocate -p -l 4096 ${S}.spool", Done),
    ("unlink the spool", "rm -f ${S}.spool", Done),
    ("unlink a page", "rm -f ${S}.page.report", Done),
    ("rename the spool", "mv ${S}.spool ${S}.x", Done),
    (
        "rename over the spool",
        "echo >/dev/shm/$$; mv -f /dev/shm/$$ ${S}.spool || { rm /dev/shm/$$; false; }",
        Done,
    ),
    ("symlink over a page", "ln -sfT /etc/passwd ${S}.page.conv", Done),
    ("hard link to the spool", "ln ${S}.spool /dev/shm/second-name", Done),
    ("hard link to the mark", "ln $L/log/durable.mark /var/tmp/second-name", Done),
    ("chmod a page", "chmod 666 ${S}.page.conv", Done),
    ("chown the spool", "chown $(id -u) ${S}.spool", Done),
    ("touch the snapshot", "touch ${S}.snapshot", Done),
    ("mount over the shared memory", "mount -t tmpfs none /mnt", Done),
    ("a file system in a namespace of theirs", "unshare -Urm mount -t tmpfs none /dev/shm", Noticed),
    ("write into the record", "echo x >>$L/log/durable.mark", Done),
    ("a file beside the record", "touch $L/log/00000000000000000009.seg", Done),
    ("remove the record", "ls $L/log/*.seg && rm -rf $L/log/*.seg && ! ls $L/log/*.seg", Done),
    ("rename the state directory", "mv $L /var/lib/x", Done),
    ("a file in the run directory", "touch $R/evil.lock", Done),
    ("remove a lock", "ls $R/conv.lock && rm -f $R/conv.lock && ! ls $R/conv.lock", Done),
    ("rename the run directory", "mv $R /run/x", Done),
    // Locks and signals.
    ("lock the locks", "flock -n $R/log.lock true || flock -n $R/objects.lock true", Done),
    ("lock the lock of the record", "flock -n $L/log/.lock true", Done),
    (
        "lock all that can be opened",
        "for f in $(find $R $L /dev/shm 2>/dev/null); do setsid flock -n \"$f\" sleep 4 >/dev/null 2>&1 </dev/null & done; sleep 0.3",
        If(
            "timeout 3 systemctl is-active ipc-log || exit 1; timeout 3 systemctl restart ipc-log ipc-stat; test $? != 0",
        ),
    ),
    ("kill", "kill -9 $conv", Done),
    ("freeze", "kill -STOP $log", Done),
    ("terminate", "kill $stat", Done),
    ("hang up", "kill -HUP $report", Done),
    ("abort", "kill -ABRT $log", Done),
    ("kill all there is", "kill -9 -1", Noticed),
    ("renice", "renice -n 19 -p $log", Done),
    ("another scheduler", "chrt -i -p 0 $log", Done),
    ("another processor", "taskset -p 1 $log", Done),
    ("another limit", "prlimit --pid $log --nofile=4", Done),
    ("idle disk priority", "ionice -c 3 -p $log", Done),
    // Their processes.
    ("attach a debugger", "perl -e 'exit(syscall(101,16,shift()+0,0,0)<0)' $log", Done),
    ("seize", "perl -e 'exit(syscall(101,0x4206,shift()+0,0,0)<0)' $conv", Done),
    ("read its memory", "perl -e 'open F,\"<\",\"/proc/$ARGV[0]/mem\" or exit 1' $log", Done),
    ("write its memory", "perl -e 'open F,\"+<\",\"/proc/$ARGV[0]/mem\" or exit 1' $log", Done),
    ("read its map", "cat /proc/$log/maps", Done),
    ("read its environment", "cat /proc/$log/environ", Done),
    ("list its descriptors", "ls /proc/$log/fd", Done),
    ("go through its root", "ls /proc/$log/root/", Done),
    (
        "take a descriptor",
        "perl -e '$f=syscall(434,shift()+0,0); exit($f<0||syscall(438,$f,3,0)<0)' $log",
        Done,
    ),
    ("the next to be killed", "echo 1000 >/proc/$log/oom_score_adj", Done),
    ("another name", "echo x >/proc/$log/comm", Done),
    // Starting and stopping.
    ("ipc-conv itself", "timeout 3 ipc-conv --system", Done),
    ("ipc-log itself", "timeout 3 ipc-log --system", Done),
    ("ipc-stat itself", "timeout 3 ipc-stat --system", Done),
    ("ipc-report itself", "timeout 3 ipc-report --system", Done),
    ("run of the machine's pipeline", "timeout 3 ipc-pipeline run --system --for 1s", Done),
    ("remove the objects", "ipc-pipeline objects remove --system", Done),
    ("give up the spool", "ipc-pipeline objects remove --abandon --system", Done),
    ("repair the objects", "ipc-pipeline objects repair --system", Done),
    ("make the objects", "ipc-pipeline objects create --system", Done),
    ("make objects elsewhere", "ipc-pipeline objects create --system --name ../../tmp/x", Done),
    ("archive", "ipc-pipeline archive --system", Done),
    ("a pipeline of their own", "timeout 5 ipc-pipeline run --quiet --name theirs --for 300ms", Noticed),
    ("stop the target", "systemctl stop ipc-pipeline.target", Done),
    ("kill a service", "systemctl kill -s KILL ipc-log.service", Done),
    ("mask a service", "systemctl mask ipc-log.service", Done),
    ("change a service", "systemctl set-property --runtime ipc-log.service MemoryMax=1M", Done),
    (
        "stop by D-Bus",
        "busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager StopUnit ss ipc-conv.service replace",
        Done,
    ),
    (
        "kill by D-Bus",
        "busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager KillUnit ssi ipc-log.service all 9",
        Done,
    ),
    ("a service as ipc-log's user", "systemd-run --quiet --wait --uid=_ipc-log touch $L/log/x", Done),
    ("become ipc-log's user", "setpriv --reuid=_ipc-log --regid=ipc-pipeline --clear-groups true", Done),
    ("start an instance", "systemctl start ipc-pipeline@theirs.target", Done),
    ("an instance with an evil name", "systemctl start 'ipc-pipeline@..-..-tmp-x.target'", Done),
    ("a drop-in", "mkdir -p /etc/systemd/system/ipc-conv.service.d", Done),
    ("a drop-in until the next boot", "mkdir -p /run/systemd/system/ipc-conv.service.d", Done),
    ("another configuration", "echo x >>/etc/ipc-pipeline/pipeline.toml", Done),
    ("a configuration of an instance", "echo x >/etc/ipc-pipeline/theirs.toml", Done),
    ("another program", "cp /bin/true /usr/sbin/ipc-log", Done),
    // Words that are not theirs.
    (
        "a status that is not theirs",
        "NOTIFY_SOCKET=/run/systemd/notify systemd-notify --status=forged; NOTIFY_SOCKET=/run/systemd/notify systemd-notify --pid=$log --status=forged; true",
        If(STATUS_FORGED),
    ),
    (
        "an end that is not theirs",
        "perl -MSocket -e 'socket S,AF_UNIX,SOCK_DGRAM,0; connect S,pack_sockaddr_un(\"/run/systemd/notify\"); syswrite S,\"MAINPID=1\\nSTOPPING=1\\nWATCHDOG=trigger\\nSTATUS=forged\"'; true",
        If(STATUS_FORGED),
    ),
    (
        "a forged message",
        "printf 'MESSAGE_ID=4025c8abd5f740b18e7287b203631682\\nMESSAGE=forged\\nPRIORITY=3\\nSYSLOG_IDENTIFIER=ipc-log\\n_SYSTEMD_UNIT=ipc-log.service\\n_UID=0\\n_PID=1\\nUNIT=ipc-log.service\\nOBJECT_SYSTEMD_UNIT=ipc-log.service\\nCOREDUMP_UNIT=ipc-log.service\\n' | logger --journald",
        If(FORGED),
    ),
    ("a forged message by syslog", "logger -t ipc-log forged", If(FORGED)),
    ("a flood of messages", "yes forged | head -n 3000 | systemd-cat -t ipc-log", If(FORGED)),
    (
        "change the journal",
        "for f in /run/log/journal/*/*.journal /var/log/journal/*/*.journal; do test -w $f && exit 0; done; false",
        Done,
    ),
    // What the daemons listen at. The numbers of system calls are those of x86-64: 240 mq_open, 242 mq_timedsend,
    // 68 msgget, 69 msgsnd, 70 msgrcv, 71 msgctl.
    ("look into a queue", "cat ${Q}.*", Done),
    ("open a queue for reading", QUEUE_READ, Done),
    ("send into a queue", QUEUE_SEND, Done),
    ("unlink a queue", "ls ${Q}.* && rm -f ${Q}.* && ! ls ${Q}.*", Done),
    ("open a queue to all", "chmod 666 ${Q}.*", Done),
    ("own a queue", "chown $(id -u) ${Q}.*", Done),
    ("touch a queue", "ls ${Q}.* && touch ${Q}.*", Done),
    ("queues in a namespace of theirs", "unshare -Urmi mount -t mqueue none /dev/mqueue", Noticed),
    ("read the FIFO", "perl -MFcntl -e 'exit !sysopen F,shift,O_RDONLY|O_NONBLOCK' $R/*.fifo", Done),
    ("write into the FIFO", "perl -MFcntl -e 'exit !sysopen F,shift,O_WRONLY|O_NONBLOCK' $R/*.fifo", Done),
    ("open the FIFO to all", "chmod 666 $R/*.fifo", Done),
    ("remove the FIFO", "ls $R/*.fifo && rm -f $R/*.fifo && ! ls $R/*.fifo", Done),
    ("a FIFO of their own", "mkfifo -m 666 $R/x.fifo && rm $R/x.fifo", Done),
    ("list the directory of a socket", "ls $R/log/ $R/stat/ | grep socket", Done),
    ("connect to a socket", SOCKET_CONNECT, Done),
    (
        "remove a socket",
        "for r in log stat; do ls $R/$r/socket && rm -f $R/$r/socket && ! ls $R/$r/socket && exit 0; done; false",
        Done,
    ),
    ("a socket of their own", SOCKET_BIND, Done),
    (
        "rename the directory of a socket",
        "mv $R/log $R/y && mv $R/y $R/log || { mv $R/stat $R/y && mv $R/y $R/stat; }",
        Done,
    ),
    ("read the number of a queue", "cat $R/*.sysv", Done),
    ("another number", "echo 1 | dd of=$(echo $R/*.sysv) conv=notrunc,nocreat", Done),
    ("the state of a System V queue", SYSV_STATE, Done),
    ("send into a System V queue", SYSV_SEND, Done),
    ("take from a System V queue", SYSV_TAKE, Done),
    ("own a System V queue", SYSV_OWN, Done),
    ("remove a System V queue", "for q in $sysv; do ipcrm -q $q || exit 1; done", Done),
    // Everybody sees the keys; that of a queue of ours opens nothing.
    (
        "open a System V queue by its key",
        "for k in $(awk -v q=\"$(echo $sysv)\" 'NR>1 && index(\" \" q \" \", \" \" $2 \" \") {print $1}' /proc/sysvipc/msg); do perl -e 'exit(syscall(68,$ARGV[0]+0,0444)<0 && syscall(68,$ARGV[0]+0,0222)<0)' -- $k && exit 0; done; false",
        Done,
    ),
    // What everybody may use, used up.
    (
        "queues of our name",
        "for q in spool conv log stat report; do touch /dev/mqueue/ipc-pipeline.$q; done",
        Noticed,
    ),
    (
        "all memory that a user has for queues",
        "for q in $(seq 20); do touch /dev/mqueue/q$q; done; true",
        Noticed,
    ),
    ("all queues of the machine", ALL_QUEUES, Noticed),
    (
        "all System V queues and segments",
        "perl -e 'msgget($_,01666),shmget($_,4096,01666),semget($_,1,01666) for 1..64'",
        Noticed,
    ),
    ("remove all IPC", "ipcrm --all; true", Noticed),
    (
        "names in /tmp",
        "for u in _ipc-conv _ipc-log; do mkdir -p /tmp/ipc-pipeline-$(id -u $u) /tmp/ipc-pipeline; done",
        Noticed,
    ),
    ("a private name of the spool", "touch ${S}.spool.0123456789abcdef", Noticed),
    ("objects of an instance", "touch /dev/shm/ipc-pipeline@second.spool", Noticed),
    ("many names", "for n in $(seq 2000); do echo /dev/shm/many.$n; done | xargs touch", Noticed),
    (
        "many sleepers on our words",
        "perl -e 'open F,shift or exit 0; $a=syscall(9,0,4096,1,1,fileno F,0); for(1..50){fork or do{alarm 1; syscall(202,$a+512,0,0,0); exit}}' ${S}.page.log",
        Noticed,
    ),
];

/// What somebody puts where a name of ours will be, as `$X`; where it is already, none of it may work.
pub const SQUATS: [(&str, &str); 12] = [
    ("an empty file", "touch $X"),
    ("a file of the right size for all", "head -c 4096 /dev/urandom >$X && chmod 666 $X"),
    ("a directory", "mkdir $X"),
    ("a directory with something in it", "mkdir $X && touch $X/a && chmod 700 $X"),
    ("a FIFO", "mkfifo $X"),
    ("a symlink to a file of root's", "ln -sT /etc/passwd $X"),
    ("a symlink to nothing", "ln -sT /var/lib/ipc-pipeline/evil $X"),
    ("a symlink to itself", "ln -sT $X $X"),
    ("a hard link", "touch /dev/shm/theirs.$$ && ln /dev/shm/theirs.$$ $X"),
    (
        "a socket",
        "perl -MSocket -e 'socket S,AF_UNIX,SOCK_STREAM,0; bind S,pack_sockaddr_un(shift) or exit 1' $X",
    ),
    ("a huge file", "truncate -s 1T $X"),
    (
        "a file held open and locked",
        "touch $X && { setsid flock $X sleep 20 </dev/null >/dev/null 2>&1 & sleep 0.1; }",
    ),
];

/// What somebody puts where a queue of ours will be, as `$X`, a path, and `$N`, its name; where it is already, none of it may work.
pub const QUEUE_SQUATS: [(&str, &str); 4] = [
    ("a queue like ours", "touch $X && chmod 666 $X"),
    (
        "a queue with other limits",
        r#"perl -e '$a=pack("q8",0,1,1); exit(syscall(240,"$ARGV[0]",0302,0666,$a)<0)' $N"#,
    ),
    (
        "a queue full of forged messages",
        r#"perl -e '$f=syscall(240,"$ARGV[0]",04302,0666,0); exit 1 if $f<0; $b="x" x 8192; 1 while syscall(242,$f,$b,8192,0,0)>=0' $N"#,
    ),
    (
        "a queue held open",
        r#"perl -e '$f=syscall(240,"$ARGV[0]",0302,0666,0); exit 1 if $f<0; fork and exit 0; close STDOUT; close STDERR; sleep 20' $N"#,
    ),
];

/// Where.
pub const SQUATTED: [&str; 6] = ["spool", "snapshot", "page.conv", "page.log", "page.stat", "page.report"];
