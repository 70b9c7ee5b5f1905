//! Real repositories in temporary directories, and the gits to try on them.

use forge::git::types::{BranchName, ObjectId, RepoPath};
use forge::git::{CommitInfo, Git, GitConfig, LocalPolicy, LocalRepo, Mirror, ObjectFormat, Person, Remote};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Noon of a day in 2026, when all commits of these tests are made.
pub(crate) const NOON: i64 = 1_773_144_000;

/// A project: the user's repository with one commit on `main`, and a mirror that has fetched it.
pub(crate) struct Project {
    pub(crate) git: Git,
    pub(crate) mirror: Mirror,
    pub(crate) base: ObjectId,
    root: TempDir,
}

/// Every distinct git of this machine, oldest first, so that a test speaks of all that people may have.
pub(crate) async fn every_git(home: &Path) -> Vec<Git> {
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&host::env::var("PATH").unwrap_or_default()).collect();
    dirs.extend(["/usr/local/bin", "/usr/bin", "/opt/homebrew/bin"].map(PathBuf::from));
    let mut found = BTreeMap::new();
    for program in dirs.into_iter().map(|dir| dir.join("git")).filter(|program| program.is_file()) {
        let config = GitConfig { program: Some(program), ..GitConfig::beneath(home) };
        let git = Git::find(config).await.unwrap();
        found.entry(git.version()).or_insert(git);
    }
    assert!(!found.is_empty(), "these tests need git");
    found.into_values().collect()
}

/// A project for every git.
pub(crate) async fn every_project() -> Vec<Project> {
    let home = tempfile::tempdir().unwrap();
    let mut projects = Vec::new();
    for git in every_git(home.path()).await {
        projects.push(Project::new(git.program()).await);
    }
    projects
}

impl Project {
    pub(crate) async fn new(program: &Path) -> Self {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("data");
        let config = GitConfig { program: Some(program.to_owned()), ..GitConfig::beneath(&data) };
        let git = Git::find(config).await.unwrap();
        let source = root.path().join("source");
        make_repository(program, &source).await;
        let mirror = Mirror::open_or_create(&git, &data.join("repos/1/mirror.git"), ObjectFormat::Sha1).await.unwrap();
        Self { git, base: mirror_base(&mirror, &source).await, mirror, root }
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// The user's checkout.
    pub(crate) fn source(&self) -> PathBuf {
        self.root.path().join("source")
    }

    pub(crate) fn remote(&self) -> Remote {
        local(&self.source())
    }

    pub(crate) fn worktree_dir(&self, attempt: u32) -> PathBuf {
        self.root.path().join(format!("data/worktrees/{attempt}"))
    }

    /// Runs plain git in the user's checkout, as the user would.
    pub(crate) async fn user(&self, args: &[&str]) -> String {
        plain_git(self.git.program(), &self.source(), args).await
    }
}

async fn mirror_base(mirror: &Mirror, source: &Path) -> ObjectId {
    mirror.fetch(&local(source), &branch("main")).await.unwrap()
}

/// A repository with the files `a`, `dir/b` and `run.sh`.
pub(crate) async fn make_repository(program: &Path, dir: &Path) {
    std::fs::create_dir_all(dir.join("dir")).unwrap();
    std::fs::write(dir.join("a"), "one\ntwo\nthree\n").unwrap();
    std::fs::write(dir.join("dir/b"), "b\n").unwrap();
    std::fs::write(dir.join("run.sh"), "#!/bin/sh\n").unwrap();
    set_mode(&dir.join("run.sh"), 0o755);
    plain_git(program, dir, &["init", "--quiet", "--initial-branch=main"]).await;
    plain_git(program, dir, &["add", "--all"]).await;
    plain_git(program, dir, &["commit", "--quiet", "--message=first"]).await;
}

/// Runs git the way people do, and gives what it printed; it has to succeed.
pub(crate) async fn plain_git(program: &Path, dir: &Path, args: &[&str]) -> String {
    let output = try_plain_git(program, dir, args).await;
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

pub(crate) async fn try_plain_git(program: &Path, dir: &Path, args: &[&str]) -> host::process::Output {
    let command = host::process::Command::new(program)
        .args(args)
        .cwd(dir)
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", dir.parent().unwrap())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "Alice")
        .env("GIT_AUTHOR_EMAIL", "alice@example.org")
        .env("GIT_COMMITTER_NAME", "Alice")
        .env("GIT_COMMITTER_EMAIL", "alice@example.org");
    host::process::run(command).await.unwrap()
}

pub(crate) fn local(path: &Path) -> Remote {
    let policy = LocalPolicy::OwnedBy(host::process::effective_uid());
    Remote::Local(LocalRepo::open(path, &policy).unwrap())
}

pub(crate) fn branch(name: &str) -> BranchName {
    BranchName::parse(name).unwrap()
}

pub(crate) fn path(text: &str) -> RepoPath {
    RepoPath::parse(text).unwrap()
}

pub(crate) fn info(message: &str) -> CommitInfo {
    CommitInfo::new(message, Person::new("Pilothouse", "pilothouse@localhost").unwrap(), NOON).unwrap()
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
