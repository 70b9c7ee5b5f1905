//! The routes that hostile code in a sandbox tries, each a shell script that prints what it found or says REACHED.
//!
//! `$DATA` is the data directory, `$OTHER` another attempt's worktree, `$OWN` the attempt's own directory, `$USERHOME`
//! the home of whoever runs Pilothouse, `$VICTIM` a process of theirs, `$API`, `$API6`, `$UDP` and `$ABSTRACT` where
//! something listens, `$REACH` a program that connects. The working directory is the worktree.

use engines::Profile::{self, Full, ReadOnly, Workspace};

#[derive(Clone, Copy)]
pub(super) struct Probe {
    pub(super) name: &'static str,
    pub(super) profiles: &'static [Profile],
    pub(super) script: &'static str,
    /// Whether only root gets there without a sandbox; for anybody else there is no control.
    pub(super) root: bool,
}

const ALL: &[Profile] = &[ReadOnly, Workspace, Full];
const NARROW: &[Profile] = &[ReadOnly, Workspace];
const READER: &[Profile] = &[ReadOnly];

const fn all(name: &'static str, script: &'static str) -> Probe {
    Probe { name, profiles: ALL, script, root: false }
}

const fn narrow(name: &'static str, script: &'static str) -> Probe {
    Probe { name, profiles: NARROW, script, root: false }
}

const fn reader(name: &'static str, script: &'static str) -> Probe {
    Probe { name, profiles: READER, script, root: false }
}

const fn as_root(probe: Probe) -> Probe {
    Probe { root: true, ..probe }
}

pub(super) const PROBES: &[Probe] = &[
    // Other processes.
    all("the environment of every process", "cat /proc/[0-9]*/environ"),
    all("the environment of the victim's threads", "cat /proc/$VICTIM/task/*/environ"),
    all("the environment of a process by its number", "cat /proc/$VICTIM/environ"),
    all("the command lines of all processes", "cat /proc/[0-9]*/cmdline"),
    all("the working directory of a process", "cat /proc/$VICTIM/cwd/admin.token"),
    all("the root of a process", "cat /proc/$VICTIM/root$DATA/admin.token"),
    all("the open files of a process", "cat /proc/$VICTIM/fd/3"),
    all("the list of a process's open files", "ls -l /proc/$VICTIM/fd | grep -q admin.token && echo REACHED"),
    all("the memory map of a process", "grep -q / /proc/$VICTIM/maps && echo REACHED"),
    all("the memory of a process", "(exec 3</proc/$VICTIM/mem) && echo REACHED"),
    all("writing to the memory of a process", "(exec 3>>/proc/$VICTIM/mem) && echo REACHED"),
    all("the existence of a process", "kill -0 $VICTIM && echo REACHED"),
    all("ending a process", "kill -TERM $VICTIM && echo REACHED"),
    all("stopping a process", "kill -STOP $VICTIM && echo REACHED; kill -CONT $VICTIM"),
    all("the priority of a process", "renice -n 5 -p $VICTIM && echo REACHED"),
    all("the fate of a process when memory runs out", "echo 999 > /proc/$VICTIM/oom_score_adj && echo REACHED"),
    all("the limits of a process", "prlimit --pid $VICTIM --nofile && echo REACHED"),
    all("the affinity of a process", "taskset -p $VICTIM && echo REACHED"),
    all("the namespaces of a process", "readlink /proc/$VICTIM/ns/mnt && echo REACHED"),
    all("the state of a process", "grep -q State /proc/$VICTIM/status && echo REACHED"),
    as_root(all("entering the mounts of a process", "nsenter -t $VICTIM -m cat $DATA/admin.token")),
    as_root(all("entering the network of a process", "nsenter -t $VICTIM -n true && echo REACHED")),
    // Pilothouse's own directory.
    all("the admin token", "cat $DATA/admin.token"),
    all("where the server is", "cat $DATA/endpoint.json"),
    all("the database", "cat $DATA/pilothouse.db"),
    all("another attempt's worktree", "cat $OTHER/secret.txt"),
    all("another attempt's transcript", "cat $DATA/attempts/other/stdout"),
    all("another attempt's launch", "cat $DATA/attempts/other/supervise.json"),
    all("the names in the data directory", "ls -a $DATA | grep -q admin.token && echo REACHED"),
    all("the names of other worktrees", "ls $DATA/worktrees | grep -q other && echo REACHED"),
    all("the mirror's configuration", "cat $DATA/mirrors/1.git/config"),
    all("up from the worktree", "cat ../../admin.token"),
    all("beside the worktree", "cat ../other/secret.txt"),
    all("up from home", "cat $HOME/../../../admin.token"),
    all("beside home", "ls $HOME/.. | grep -q supervise && echo REACHED; cat $HOME/../supervisor.log && echo REACHED"),
    all("a link to the token from home", "ln -s $DATA/admin.token $HOME/link; cat $HOME/link"),
    all("a link to the data directory", "ln -s $DATA $HOME/data; cat $HOME/data/admin.token"),
    all("a hard link to the token", "ln $DATA/admin.token $HOME/hard && cat $HOME/hard"),
    all("every process's root", "cat /proc/[0-9]*/root$DATA/admin.token"),
    all("our own root by its other name", "cat /proc/self/root$DATA/admin.token"),
    all(
        "a search through the file system",
        "find $DATA / -maxdepth 9 -xdev -name admin.token -exec cat {} + 2>/dev/null",
    ),
    all(
        "every file that is mounted",
        "cut -d' ' -f5 /proc/self/mountinfo | while read m; do cat $m$DATA/admin.token; done",
    ),
    all(
        "overwriting the token",
        "echo pwned > $DATA/admin.token && grep -q pwned $DATA/admin.token && test -e $DATA/endpoint.json && echo REACHED",
    ),
    all("a new file in the data directory", "echo pwned > $DATA/planted"),
    all("a new directory in the data directory", "mkdir $DATA/planted && test -e $DATA/admin.token && echo REACHED"),
    all("removing the database", "rm $DATA/pilothouse.db && echo REACHED"),
    all("moving the database", "mv $DATA/pilothouse.db $DATA/moved && echo REACHED"),
    all("opening up the token", "chmod 666 $DATA/admin.token && echo REACHED"),
    all("a change in another worktree", "echo pwned > $OTHER/planted"),
    all("a hook in the mirror", "echo pwned > $DATA/mirrors/1.git/hooks/planted"),
    all("the configuration of the mirror", "echo pwned >> $DATA/mirrors/1.git/config"),
    all("a forged result", "echo pwned > $OWN/planted"),
    all("changing the transcript afterwards", "test -w $OWN/output && echo REACHED"),
    all("the supervisor's socket", "test -S $OWN/control.sock && echo REACHED"),
    all("talking to the supervisor", "cd $OWN && $REACH unix control.sock '{}' && echo REACHED"),
    all("removing the supervisor's socket", "rm $OWN/control.sock && echo REACHED"),
    all("another attempt's socket", "$REACH unix $DATA/attempts/other/c.sock"),
    // What belongs to the person who runs it.
    narrow("a private key", "cat $USERHOME/.ssh/id_ed25519"),
    narrow("passwords for hosts", "cat $USERHOME/.netrc"),
    narrow("cloud credentials", "cat $USERHOME/.aws/credentials"),
    narrow("an engine's login", "cat $USERHOME/.claude/.credentials.json"),
    narrow("another engine's login", "cat $USERHOME/.codex/auth.json"),
    narrow("a forge's login", "cat $USERHOME/.config/gh/hosts.yml"),
    narrow("what was typed", "cat $USERHOME/.bash_history"),
    narrow("the names in a home", "ls -a $USERHOME | grep -q ssh && echo REACHED"),
    narrow("a socket of the machine", "$REACH unix $USERHOME/docker.sock"),
    narrow("a login script", "echo pwned >> $USERHOME/.bashrc"),
    narrow("a key to come in by", "echo pwned >> $USERHOME/.ssh/authorized_keys"),
    narrow("git's settings", "echo pwned >> $USERHOME/.gitconfig"),
    narrow("an engine's settings", "echo pwned > $USERHOME/.claude/settings.json"),
    narrow("files that others keep for a while", "cat $SHARED/kept"),
    narrow("a file for others to find", "echo pwned > $SHARED/planted"),
    as_root(narrow("everybody's passwords", "cat /etc/shadow > /dev/null && echo REACHED")),
    as_root(narrow("the machine's hosts", "(exec 3>>/etc/hosts) && echo REACHED")),
    as_root(narrow("the machine's programs", "f=$(mktemp -p /usr/bin) && rm $f && echo REACHED")),
    as_root(narrow("programs that come first", "f=$(mktemp -p /usr/local/bin) && rm $f && echo REACHED")),
    as_root(narrow("the machine's libraries", "f=$(mktemp -p /usr/lib) && rm $f && echo REACHED")),
    as_root(narrow("root's home", "f=$(mktemp -p /root) && rm $f && echo REACHED")),
    narrow("the machine's settings", "ls /etc/init.d /etc/cron.d /etc/pam.d | grep -q . && echo REACHED"),
    // What git and agents would believe.
    all("a hook in the worktree", "mkdir -p .git/hooks && echo pwned > .git/hooks/planted"),
    all("a configuration for git", "mkdir -p .git && echo pwned > .git/planted"),
    all("another repository instead", "rm -rf .git; echo pwned > .git"),
    all("an engine's settings in the worktree", "mkdir -p .codex && echo pwned > .codex/planted"),
    all("settings of a second engine", "mkdir -p .gemini && echo pwned > .gemini/planted"),
    all("settings of a third engine", "mkdir -p .opencode && echo pwned > .opencode/planted"),
    all("settings of an editor", "mkdir -p .cursor && echo pwned > .cursor/planted"),
    all("tools for engines", "echo pwned > .mcp.json"),
    all("instructions for engines", "echo pwned > AGENTS.md"),
    all("instructions for one engine", "echo pwned > GEMINI.md"),
    all("settings that are there", "cat .claude/settings.json"),
    all("changing settings that are there", "echo pwned > .claude/settings.json"),
    all("a second file beside the settings", "echo pwned > .claude/planted"),
    all("other settings in their place", "mv .claude gone && mkdir .claude && echo pwned > .claude/planted"),
    all("removing settings", "rm -rf .claude && echo REACHED"),
    all("a link in place of settings", "rm -rf .codex; ln -s $HOME .codex && echo REACHED"),
    all("instructions that are there", "cat CLAUDE.md"),
    all("changing instructions that are there", "echo pwned > CLAUDE.md"),
    reader("a new file in a worktree that is only read", "echo pwned > planted"),
    reader("a file in a worktree that is only read", "echo pwned > README.md"),
    reader("removing a file from it", "rm README.md && echo REACHED"),
    reader("opening it up", "chmod 777 . && echo REACHED"),
    // The network.
    all("the server", "$REACH tcp $API"),
    all("the server by another name", "$REACH tcp localhost:${API##*:}"),
    all("the server by its newer address", "$REACH tcp $API6"),
    all("a service without connections", "$REACH udp $UDP"),
    all("a socket without a file", "$REACH abstract $ABSTRACT"),
    all("who listens", "grep -qi \" 0100007F:$APIHEX\" /proc/net/tcp && echo REACHED"),
    all(
        "the network's devices",
        "grep -q -v -e lo: -e '|' /proc/net/dev && echo REACHED || test -e /sys/class/net/lo && echo REACHED",
    ),
    all("approving with the admin token", "$REACH tcp $API \"approve $(cat $DATA/admin.token)\""),
    // Rights over the machine.
    as_root(all("a mount", "mkdir $HOME/m && mount -t tmpfs none $HOME/m && umount $HOME/m && echo REACHED")),
    as_root(all(
        "the same data under another name",
        "mkdir $HOME/m && mount --bind $DATA $HOME/m && cat $HOME/m/admin.token; umount $HOME/m",
    )),
    as_root(all("a device", "mknod $HOME/device c 1 3 && echo x > $HOME/device && echo REACHED")),
    as_root(all("memory of the machine", "test -r /dev/mem && echo REACHED || test -r /dev/kmsg && echo REACHED")),
    as_root(all("what the kernel says", "dmesg | grep -q . && echo REACHED")),
    as_root(all(
        "disks",
        "ls /dev/vd* /dev/sd* /dev/nvme* /dev/xvd* /dev/loop* && echo REACHED; test -w /dev/kmsg && echo REACHED",
    )),
    as_root(all("the name of the machine", "(exec 3>>/proc/sys/kernel/hostname) && echo REACHED")),
    as_root(all("what runs when a process crashes", "(exec 3>>/proc/sys/kernel/core_pattern) && echo REACHED")),
    as_root(all("what the kernel remembers of files", "(exec 3>>/proc/sys/vm/drop_caches) && echo REACHED")),
    as_root(all("the control groups", "find /sys/fs/cgroup -name cgroup.procs -writable | grep -q . && echo REACHED")),
    as_root(all("another root", "chroot / true && echo REACHED")),
    as_root(all("rights of any kind", "grep -q 'CapEff:.*[1-9a-f]' /proc/self/status && echo REACHED")),
    as_root(all("rights to be had later", "grep -q 'CapBnd:.*[1-9a-f]' /proc/self/status && echo REACHED")),
    as_root(all("another user", "chown 1:1 $HOME && echo REACHED")),
    all(
        "mounts in a user namespace of its own",
        "unshare -Urm sh -c 'umount -l $PWD/.claude; umount -l $DATA; umount -l $PWD; cat $DATA/admin.token $PWD/.claude/settings.json'; \
         test -n \"$CONTROL\" && cat $DATA/admin.token",
    ),
    all(
        "writing through a remount in a user namespace",
        "unshare -Urm sh -c 'mount -o remount,rw,bind .claude; echo pwned > .claude/planted'; \
         test -n \"$CONTROL\" && echo pwned > .claude/planted",
    ),
];
