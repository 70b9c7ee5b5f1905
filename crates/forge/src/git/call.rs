//! One git process: a cleared environment, every setting that could run something turned off, a deadline, a cap.
//!
//! The settings are the second wall. The first is that the git directory is always one of ours, given by name and
//! never discovered: driver names in attributes are the attacker's choice, so no list of settings is complete.

use super::error::GitError;
use super::program::Limits;
use host::process::{Command, ProcessError, Status};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

const STDERR_SHOWN: usize = 2000;

/// Settings of every call. They win over every file, so also over one that somebody managed to write.
const SETTINGS: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.sshCommand=",
    "core.gitProxy=",
    "core.askPass=",
    "core.editor=true",
    "core.pager=cat",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "attr.tree=",
    // An empty value would be looked up as a program; this one prints no refs.
    "core.alternateRefsCommand=true",
    "core.symlinks=true",
    "core.fileMode=true",
    "core.autocrlf=false",
    "core.quotePath=true",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "credential.helper=",
    "diff.external=",
    "diff.trustExitCode=false",
    "diff.ignoreSubmodules=all",
    "diff.noprefix=false",
    "diff.mnemonicPrefix=false",
    "gpg.program=/bin/false",
    "gpg.ssh.program=/bin/false",
    "commit.gpgSign=false",
    "tag.gpgSign=false",
    "push.gpgSign=false",
    "log.showSignature=false",
    "protocol.allow=never",
    "protocol.ext.allow=never",
    "http.followRedirects=false",
    "http.sslVerify=true",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=30",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "fetch.fsckObjects=true",
    "transfer.fsckObjects=true",
    "receive.fsckObjects=true",
    "transfer.bundleURI=false",
    // Old histories are full of these slips in author lines and modes; they harm nobody.
    "fetch.fsck.badTimezone=ignore",
    "fetch.fsck.badDate=ignore",
    "fetch.fsck.badDateOverflow=ignore",
    "fetch.fsck.badEmail=ignore",
    "fetch.fsck.missingEmail=ignore",
    "fetch.fsck.missingNameBeforeEmail=ignore",
    "fetch.fsck.missingSpaceBeforeEmail=ignore",
    "fetch.fsck.missingSpaceBeforeDate=ignore",
    "fetch.fsck.zeroPaddedFilemode=ignore",
    "fetch.fsck.zeroPaddedDate=ignore",
    "gc.auto=0",
    "maintenance.auto=false",
    "uploadpack.allowFilter=false",
    "safe.bareRepository=explicit",
    "advice.detachedHead=false",
    // What the ledger records as committed has to outlive a power cut, as the ledger does.
    "core.fsync=committed,reference",
    "core.fsyncMethod=batch",
    "i18n.commitEncoding=UTF-8",
];

/// Settings of the other end of a local fetch or push, which reads the configuration of a repository that is not ours.
const OTHER_END: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.alternateRefsCommand=true",
    "core.sshCommand=",
    "core.gitProxy=",
    "core.askPass=",
    "credential.helper=",
    "gpg.program=/bin/false",
    "protocol.allow=never",
    "receive.denyCurrentBranch=refuse",
    "receive.denyDeleteCurrent=refuse",
    "receive.fsckObjects=true",
    "receive.fsck.badTimezone=ignore",
    "receive.fsck.badDate=ignore",
    "receive.fsck.badDateOverflow=ignore",
    "receive.fsck.badEmail=ignore",
    "receive.fsck.missingEmail=ignore",
    "receive.fsck.missingNameBeforeEmail=ignore",
    "receive.fsck.missingSpaceBeforeEmail=ignore",
    "receive.fsck.missingSpaceBeforeDate=ignore",
    "receive.fsck.zeroPaddedFilemode=ignore",
    "receive.fsck.zeroPaddedDate=ignore",
    "receive.autogc=false",
    "receive.updateServerInfo=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "uploadpack.allowFilter=false",
    // Whom the directory belongs to was checked by our own policy, which knows more than git does.
    "safe.directory=*",
];

/// Whom a call may talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    Nobody,
    LocalRepository,
    Network,
}

/// A git process that is to run.
#[derive(Debug)]
pub(super) struct Call {
    subcommand: &'static str,
    args: Vec<OsString>,
    reach: Reach,
    env: Vec<(&'static str, OsString)>,
    cwd: Option<PathBuf>,
    stdin: Option<Vec<u8>>,
    /// Output beyond this many bytes is cut off instead of being an error.
    cut_at: Option<usize>,
}

/// What a git process answered, whatever its status.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) subcommand: &'static str,
    pub(super) status: Status,
    pub(super) stdout: Vec<u8>,
    /// Cleaned and cut.
    pub(super) stderr: String,
    /// Whether stdout was cut off.
    pub(super) cut: bool,
}

impl Call {
    pub(super) fn new(subcommand: &'static str) -> Self {
        Self {
            subcommand,
            args: Vec::new(),
            reach: Reach::Nobody,
            env: Vec::new(),
            cwd: None,
            stdin: None,
            cut_at: None,
        }
    }

    pub(super) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub(super) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub(super) fn reach(mut self, reach: Reach) -> Self {
        self.reach = reach;
        self
    }

    pub(super) fn git_dir(self, dir: &Path) -> Self {
        self.env("GIT_DIR", dir)
    }

    /// Works on files in `tree`, remembering them in `index`, which lies elsewhere.
    pub(super) fn work_tree(mut self, tree: &Path, index: &Path) -> Self {
        self.cwd = Some(tree.to_owned());
        self.env("GIT_WORK_TREE", tree).env("GIT_INDEX_FILE", index)
    }

    pub(super) fn env(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name, value.as_ref().to_owned()));
        self
    }

    pub(super) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    pub(super) fn cut_at(mut self, bytes: usize) -> Self {
        self.cut_at = Some(bytes);
        self
    }

    /// Runs the call to its end. `home` is an empty directory, and where a call without a worktree runs.
    pub(super) async fn run_by(self, program: &Path, home: &Path, limits: &Limits) -> Result<Answer, GitError> {
        let subcommand = self.subcommand;
        let limit = self.cut_at.unwrap_or(limits.output);
        let timeout = match self.reach {
            Reach::Nobody => limits.local,
            Reach::LocalRepository | Reach::Network => limits.remote,
        };
        let may_cut = self.cut_at.is_some();
        let command = self.into_command(program, home, timeout, limit);
        let output = match host::process::run(command).await {
            Ok(output) => output,
            Err(ProcessError::TimedOut { after, .. }) => return Err(GitError::TimedOut { subcommand, after }),
            Err(ProcessError::NotFound { .. }) => {
                return Err(GitError::Missing { looked_for: program.display().to_string() });
            }
            Err(source) => return Err(GitError::Process { subcommand, source }),
        };
        // Only one flag tells of both pipes: a pipe is cut when it is full.
        let cut = output.truncated && output.stdout.len() >= limit;
        if cut && !may_cut {
            return Err(GitError::TooMuchOutput { subcommand, limit });
        }
        let stderr = host::text::cut(host::text::clean(&output.stderr).trim(), STDERR_SHOWN);
        Ok(Answer { subcommand, status: output.status, stdout: output.stdout, stderr, cut })
    }

    fn into_command(self, program: &Path, home: &Path, timeout: Duration, limit: usize) -> Command {
        let (protocols, allowed): (&str, &[&str]) = match self.reach {
            Reach::Nobody => ("none", &[]),
            Reach::LocalRepository => ("file", &["protocol.file.allow=always"]),
            Reach::Network => (
                "https:ssh",
                &["protocol.https.allow=always", "protocol.ssh.allow=always", "protocol.file.allow=never"],
            ),
        };
        let mut command =
            Command::new(program).timeout(timeout).output_limit(limit).cwd(self.cwd.as_deref().unwrap_or(home));
        for setting in SETTINGS.iter().chain(allowed) {
            command = command.arg("-c").arg(*setting);
        }
        command = command.arg(self.subcommand).args(self.args);
        for (name, value) in environment(home, protocols) {
            command = command.env(name, value);
        }
        for (name, value) in self.env {
            command = command.env(name, value);
        }
        if let Some(bytes) = self.stdin {
            command = command.stdin(bytes);
        }
        command
    }
}

fn environment(home: &Path, protocols: &str) -> Vec<(&'static str, OsString)> {
    let ssh =
        "ssh -oBatchMode=yes -oStrictHostKeyChecking=yes -oProxyCommand=none -oPermitLocalCommand=no -F /dev/null";
    let above = home.parent().unwrap_or(home);
    let mut environment: Vec<(&'static str, OsString)> = [
        ("PATH", host::process::DEFAULT_PATH),
        ("LANG", "C.UTF-8"),
        ("TZ", "UTC"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_SYSTEM", "/dev/null"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_ATTR_NOSYSTEM", "1"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_ASKPASS", "/bin/false"),
        ("SSH_ASKPASS", "/bin/false"),
        ("GIT_SSH_COMMAND", ssh),
        ("GIT_ALLOW_PROTOCOL", protocols),
        ("GIT_PROTOCOL_FROM_USER", "0"),
        ("GIT_NO_LAZY_FETCH", "1"),
        ("GIT_NO_REPLACE_OBJECTS", "1"),
        ("GIT_OPTIONAL_LOCKS", "0"),
        ("GIT_EDITOR", "true"),
        ("GIT_SEQUENCE_EDITOR", "true"),
        ("GIT_PAGER", "cat"),
        ("GIT_DISCOVERY_ACROSS_FILESYSTEM", "0"),
    ]
    .map(|(name, value)| (name, OsString::from(value)))
    .to_vec();
    environment.push(("HOME", home.into()));
    environment.push(("GIT_CEILING_DIRECTORIES", above.into()));
    environment
}

/// The command line by which git starts its other end in a repository on this machine, quoted for the shell that git
/// uses for it. Nothing in it comes from outside.
pub(super) fn other_end(program: &Path, service: &str) -> OsString {
    let mut line = quoted(program.as_os_str());
    for setting in OTHER_END {
        line.push(" -c ");
        line.push(quoted(OsStr::new(setting)));
    }
    line.push(" ");
    line.push(service);
    line
}

fn quoted(word: &OsStr) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut out = vec![b'\''];
    for &byte in word.as_bytes() {
        match byte {
            b'\'' => out.extend_from_slice(b"'\\''"),
            byte => out.push(byte),
        }
    }
    out.push(b'\'');
    OsString::from_vec(out)
}

impl Answer {
    /// The answer of a call that has to end with 0.
    pub(super) fn succeeded(self) -> Result<Self, GitError> {
        if self.status.success() { Ok(self) } else { Err(self.failure()) }
    }

    pub(super) fn exit_code(&self) -> Option<i32> {
        match self.status {
            Status::Exited(code) => Some(code),
            Status::Signaled(_) => None,
        }
    }

    pub(super) fn failure(&self) -> GitError {
        let stderr = if self.stderr.is_empty() { "it said nothing".to_owned() } else { self.stderr.clone() };
        GitError::Failed { subcommand: self.subcommand, status: self.status.to_string(), stderr }
    }

    pub(super) fn unexpected(&self, what: impl AsRef<[u8]>) -> GitError {
        GitError::Unexpected { subcommand: self.subcommand, what: host::text::one_line(what, 200) }
    }

    /// The whole output as one line of text.
    pub(super) fn line(&self) -> Result<&str, GitError> {
        match std::str::from_utf8(&self.stdout) {
            Ok(text) if text.trim_end().lines().count() == 1 => Ok(text.trim_end()),
            _ => Err(self.unexpected(&self.stdout)),
        }
    }

    /// The whole output as one object id.
    pub(super) fn object_id(&self) -> Result<super::types::ObjectId, GitError> {
        self.line()?.parse().map_err(|_| self.unexpected(&self.stdout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_keeps_a_word_one_word() {
        assert_eq!(quoted(OsStr::new("a b")), "'a b'");
        assert_eq!(quoted(OsStr::new("it's $HOME")), "'it'\\''s $HOME'");
    }

    #[test]
    fn a_call_inherits_nothing_and_reaches_nobody_by_itself() {
        let command = Call::new("version").into_command(
            Path::new("/usr/bin/git"),
            Path::new("/x/home"),
            Duration::from_secs(1),
            1,
        );
        let value = |name: &str| command.env.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());

        assert_eq!(value("GIT_ALLOW_PROTOCOL"), Some("none".into()));
        assert_eq!(value("HOME"), Some("/x/home".into()));
        assert_eq!(value("GIT_CONFIG_GLOBAL"), Some("/dev/null".into()));
        assert_eq!(command.args.last(), Some(&OsString::from("version")));
        assert!(!command.args.iter().any(|arg| arg.to_string_lossy().starts_with("protocol.file.allow=always")));
    }
}
