//! Repositories and worktrees that want a program run. None of ours may run it; plain git shows that it could.

use crate::fixture::*;
use forge::git::types::ObjectId;
use forge::git::{Git, Mirror, ObjectFormat, Remote, Replay};
use std::path::{Path, PathBuf};

const HOOKS: [&str; 22] = [
    "applypatch-msg",
    "pre-applypatch",
    "post-applypatch",
    "pre-commit",
    "pre-merge-commit",
    "prepare-commit-msg",
    "commit-msg",
    "post-commit",
    "pre-rebase",
    "post-checkout",
    "post-merge",
    "pre-push",
    "pre-receive",
    "update",
    "proc-receive",
    "post-receive",
    "post-update",
    "reference-transaction",
    "push-to-checkout",
    "pre-auto-gc",
    "post-index-change",
    "fsmonitor-watchman",
];

/// Leaves a file for each time somebody runs it.
struct Canary {
    script: PathBuf,
    nest: PathBuf,
}

impl Canary {
    fn new(root: &Path) -> Self {
        let nest = root.join("sung");
        std::fs::create_dir(&nest).unwrap();
        let script = root.join("canary");
        // It also passes its input on, so that a filter made of it does not fail before it is noticed.
        let text =
            format!("#!/bin/sh\necho \"$0 $*\" > {}/$$\ncase $1 in filter) cat;; esac\nexit 0\n", nest.display());
        std::fs::write(&script, text).unwrap();
        set_mode(&script, 0o755);
        Self { script, nest }
    }

    fn command(&self, argument: &str) -> String {
        format!("{} {argument}", self.script.display())
    }

    fn hooks(&self, dir: &Path) {
        std::fs::create_dir_all(dir).unwrap();
        for hook in HOOKS {
            std::fs::copy(&self.script, dir.join(hook)).unwrap();
        }
    }

    /// Everything that git lets a configuration name as a program, for a repository at `top`.
    fn configuration(&self, top: &Path) -> String {
        let run = self.command("run");
        let filter = self.command("filter");
        let hooks = top.join("in-tree-hooks");
        self.hooks(&hooks);
        let hooks = hooks.display();
        let included = top.join("included.cfg");
        std::fs::write(&included, format!("[filter \"included\"]\n\tclean = {filter}\n\tsmudge = {filter}\n")).unwrap();
        let included = included.display();
        format!(
            "[core]\n\tfsmonitor = {run}\n\thooksPath = {hooks}\n\tsshCommand = {run}\n\tgitProxy = {run}\n\
             \taskPass = {run}\n\teditor = {run}\n\tpager = {run}\n\talternateRefsCommand = {run}\n\
             \tattributesFile = {top}/evil-attributes\n\
             [filter \"evil\"]\n\tclean = {filter}\n\tsmudge = {filter}\n\trequired = true\n\
             [filter \"long\"]\n\tprocess = {run}\n\
             [diff]\n\texternal = {run}\n[diff \"evil\"]\n\ttextconv = {filter}\n\tcommand = {run}\n\
             [merge \"evil\"]\n\tdriver = {run}\n\
             [gpg]\n\tprogram = {run}\n[gpg \"ssh\"]\n\tprogram = {run}\n[commit]\n\tgpgSign = true\n\
             [credential]\n\thelper = !{run}\n\
             [include]\n\tpath = {included}\n\
             [uploadpack]\n\tpackObjectsHook = {run}\n\tallowAnySHA1InWant = true\n\
             [receive]\n\tdenyCurrentBranch = updateInstead\n\tautogc = true\n\
             [gc]\n\tauto = 1\n\
             [protocol]\n\tallow = always\n[protocol \"ext\"]\n\tallow = always\n\
             [url \"ext::{run} \"]\n\tinsteadOf = https://\n\
             [remote \"origin\"]\n\turl = ext::{run}\n\tuploadpack = {run}\n\treceivepack = {run}\n\
             \tfetch = +refs/heads/*:refs/remotes/origin/*\n\
             [alias]\n\tstatus = !{run}\n\tfetch = !{run}\n",
            top = top.display(),
        )
    }

    fn attributes() -> &'static str {
        "*.evil filter=evil diff=evil merge=evil\n*.long filter=long\n*.included filter=included\na filter=evil diff=evil merge=evil\n"
    }

    /// What was run since the last time.
    fn sung(&self) -> Vec<String> {
        let names = host::fs::list_names(&self.nest).unwrap();
        names
            .iter()
            .map(|name| {
                let path = self.nest.join(name);
                let text = std::fs::read_to_string(&path).unwrap();
                std::fs::remove_file(path).unwrap();
                text
            })
            .collect()
    }

    fn assert_silent(&self, operation: &str, git: &Git) {
        assert_eq!(self.sung(), [""; 0], "{operation} with git {} ran a program", git.version());
    }
}

/// Turns a repository into one that wants everything run.
fn poison_repository(canary: &Canary, top: &Path) {
    let git_dir = top.join(".git");
    canary.hooks(&git_dir.join("hooks"));
    let config = git_dir.join("config");
    let mut text = std::fs::read_to_string(&config).unwrap();
    text.push_str(&canary.configuration(top));
    std::fs::write(&config, text).unwrap();
    std::fs::create_dir_all(git_dir.join("info")).unwrap();
    std::fs::write(git_dir.join("info/attributes"), Canary::attributes()).unwrap();
    std::fs::write(top.join("evil-attributes"), Canary::attributes()).unwrap();
}

/// What an agent may leave in its worktree.
fn poison_worktree(canary: &Canary, top: &Path, program: &Path) -> impl Future<Output = ()> {
    let evil = top.join("evil-git-dir");
    let (top, program) = (top.to_owned(), program.to_owned());
    let configuration = canary.configuration(&top);
    std::fs::write(top.join(".gitattributes"), Canary::attributes()).unwrap();
    std::fs::write(top.join("evil-attributes"), Canary::attributes()).unwrap();
    for name in ["x.evil", "x.long", "x.included", "a"] {
        std::fs::write(top.join(name), "changed\n").unwrap();
    }
    std::os::unix::fs::symlink("/etc", top.join("out")).unwrap();
    let hooks: Vec<PathBuf> = vec![evil.join("hooks"), top.join("bare/hooks")];
    for dir in &hooks {
        canary.hooks(dir);
    }
    async move {
        // A git directory that looks like our own place, and a bare repository that git would find by itself.
        for (dir, args) in
            [(&evil, ["init", "--quiet", "--bare", "."]), (&top.join("bare"), ["init", "--quiet", "--bare", "."])]
        {
            plain_git(&program, dir, &args).await;
            let config = dir.join("config");
            let text = std::fs::read_to_string(&config).unwrap();
            std::fs::write(&config, format!("{text}{configuration}")).unwrap();
        }
        std::fs::write(top.join(".git"), format!("gitdir: {}\n", evil.display())).unwrap();
    }
}

#[tokio::test]
async fn the_canary_sings_for_plain_git() {
    let home = tempfile::tempdir().unwrap();
    for git in every_git(home.path()).await {
        let root = tempfile::tempdir().unwrap();
        let source = root.path().join("source");
        make_repository(git.program(), &source).await;
        let canary = Canary::new(root.path());
        poison_repository(&canary, &source);
        let target = root.path().join("target.git");
        std::fs::create_dir(&target).unwrap();
        plain_git(git.program(), &target, &["init", "--quiet", "--bare"]).await;
        std::fs::write(source.join("a"), "changed\n").unwrap();

        let url = target.display().to_string();
        let commands: [&[&str]; 5] = [
            &["status"],
            &["add", "--all"],
            &["diff", "--cached"],
            &["commit", "--message=x"],
            &["push", &url, "main:x"],
        ];
        for args in commands {
            try_plain_git(git.program(), &source, args).await;
            assert_ne!(canary.sung(), [""; 0], "git {} {args:?}", git.version());
        }
    }
}

#[tokio::test]
async fn nothing_a_users_repository_says_is_run() {
    for project in every_project().await {
        let canary = Canary::new(project.root());
        // A repository that borrows objects makes the writing end ask that other one for its refs.
        let lender = project.root().join("lender");
        make_repository(project.git.program(), &lender).await;
        poison_repository(&canary, &lender);
        poison_repository(&canary, &project.source());
        let alternates = project.source().join(".git/objects/info/alternates");
        std::fs::write(alternates, format!("{}\n", lender.join(".git/objects").display())).unwrap();
        let (git, remote) = (&project.git, project.remote());

        git.remote_refs(&remote).await.unwrap();
        canary.assert_silent("remote_refs", git);
        let fresh = project.root().join("fresh.git");
        let mirror = Mirror::open_or_create(git, &fresh, ObjectFormat::Sha1).await.unwrap();
        let base = mirror.fetch(&remote, &branch("main")).await.unwrap();
        canary.assert_silent("fetch", git);
        let commit = mirror.write_files(&base, &[(path("a"), b"x\n".to_vec())], &info("x")).await.unwrap();
        mirror.push(&remote, &branch("0001-x"), None, &commit).await.unwrap();
        canary.assert_silent("push", git);
        mirror.push(&remote, &branch("main"), Some(&base), &commit).await.unwrap_err();
        canary.assert_silent("push to the checkout", git);
        mirror.push(&remote, &branch("0001-x"), None, &base).await.unwrap_err();
        mirror.push(&remote, &branch("0001-x"), Some(&commit), &base).await.unwrap();
        canary.assert_silent("stale and forced push", git);
    }
}

#[tokio::test]
async fn nothing_an_agent_leaves_in_its_worktree_is_run() {
    for project in every_project().await {
        let canary = Canary::new(project.root());
        let (git, mirror, dir) = (&project.git, &project.mirror, project.worktree_dir(1));
        let worktree = mirror.checkout(&project.base, &dir).await.unwrap();
        poison_worktree(&canary, &dir, git.program()).await;
        // Running git there by hand would do what was planted.
        try_plain_git(git.program(), &dir, &["status"]).await;
        canary.sung();

        worktree.changes(&project.base).await.unwrap();
        canary.assert_silent("changes", git);
        let commit = worktree.snapshot_commit(&project.base, &info("hostile")).await.unwrap().commit;
        canary.assert_silent("snapshot_commit", git);
        exercise(&project, &canary, &commit).await;
        worktree.remove().await.unwrap();
        canary.assert_silent("remove", git);
    }
}

/// Everything we do with a commit whose files ask for filters, drivers and the like.
async fn exercise(project: &Project, canary: &Canary, commit: &ObjectId) {
    let (git, mirror, base) = (&project.git, &project.mirror, &project.base);
    let diff = mirror.diff(base, commit, 1 << 20).await.unwrap();
    assert!(diff.changes.iter().any(|change| change.path == ".gitattributes"));
    assert!(!diff.changes.iter().any(|change| change.path == ".git"), "the planted pointer is not committed");
    canary.assert_silent("diff", git);
    mirror.keep_attempt(1, commit).await.unwrap();
    mirror.list_tree(commit, None, true).await.unwrap();
    mirror.read_file(commit, &path("a"), 1000).await.unwrap();
    canary.assert_silent("keep, list and read", git);
    let tip = mirror.write_files(base, &[(path("dir/b"), b"moved\n".to_vec())], &info("tip")).await.unwrap();
    canary.assert_silent("write_files", git);
    let replayed = mirror.replay(commit, base, &tip, &info("replayed")).await.unwrap();
    let Replay::Clean(replayed) = replayed else { panic!("{replayed:?}") };
    let clash = mirror.write_files(base, &[(path("a"), b"clash\n".to_vec())], &info("clash")).await.unwrap();
    assert!(matches!(mirror.replay(commit, base, &clash, &info("x")).await.unwrap(), Replay::Conflict(_)));
    canary.assert_silent("replay", git);
    mirror.advance_branch(&branch("0001-x"), None, &replayed).await.unwrap();
    canary.assert_silent("advance_branch", git);
    let again = mirror.checkout(&replayed, &project.worktree_dir(2)).await.unwrap();
    again.changes(base).await.unwrap();
    canary.assert_silent("checkout", git);
    mirror.push(&project.remote(), &branch("0001-x"), None, &replayed).await.unwrap();
    canary.assert_silent("push", git);
    mirror.drop_attempt(1).await.unwrap();
    canary.assert_silent("drop_attempt", git);
}

#[tokio::test]
async fn a_clone_that_an_agent_wrote_to_is_fetched_from_without_running_anything() {
    for project in every_project().await {
        let canary = Canary::new(project.root());
        project.user(&["clone", "--quiet", ".", "../clone"]).await;
        let clone = project.root().join("clone");
        plain_git(project.git.program(), &clone, &["commit", "--quiet", "--allow-empty", "--message=agent"]).await;
        poison_repository(&canary, &clone);
        let Remote::Local(repo) = local(&clone) else { panic!("a clone is local") };

        let tip = project.mirror.fetch(&Remote::Local(repo), &branch("main")).await.unwrap();

        canary.assert_silent("fetch", &project.git);
        assert_ne!(tip, project.base);
    }
}

#[tokio::test]
async fn objects_that_attack_a_checkout_are_not_fetched() {
    for project in every_project().await {
        // A tree with a file `.git/hooks/post-checkout`, which only a tool other than git makes.
        let program = project.git.program().to_owned();
        let blob = plain_git(&program, &project.source(), &["hash-object", "-w", "a"]).await;
        let make_tree = |entry: String| {
            let command = host::process::Command::new(&program)
                .args(["mktree"])
                .cwd(project.source())
                .env("PATH", "/usr/local/bin:/usr/bin:/bin")
                .stdin(entry);
            async move {
                let output = host::process::run(command).await.unwrap();
                String::from_utf8(output.stdout).unwrap().trim().to_owned()
            }
        };
        let hooks = make_tree(format!("100755 blob {blob}\tpost-checkout\n")).await;
        for name in [".git", ".GIT", "git~1", ".g\u{200c}it"] {
            let tree = make_tree(format!("040000 tree {hooks}\t{name}\n")).await;
            let commit = project.user(&["commit-tree", &tree, "-m", "evil"]).await;
            project.user(&["update-ref", "refs/heads/evil", &commit]).await;

            let fetched = project.mirror.fetch(&project.remote(), &branch("evil")).await;

            assert_eq!(fetched.unwrap_err().kind(), "git_failed", "{name}");
            let fetched = branch("evil").to_fetched_ref();
            assert_eq!(project.mirror.resolve(&fetched).await.unwrap(), None, "{name}");
        }
    }
}

#[tokio::test]
async fn a_submodule_is_neither_fetched_nor_entered() {
    for project in every_project().await {
        let canary = Canary::new(project.root());
        let entry = format!("160000,{},sub", project.base);
        let modules = format!(
            "[submodule \"sub\"]\n\tpath = sub\n\turl = ext::{}\n\tupdate = !{}\n",
            canary.command("x"),
            canary.command("x")
        );
        std::fs::write(project.source().join(".gitmodules"), modules).unwrap();
        project.user(&["update-index", "--add", "--cacheinfo", &entry]).await;
        project.user(&["add", ".gitmodules"]).await;
        project.user(&["commit", "--quiet", "--message=submodule"]).await;
        let base = match project.mirror.fetch(&project.remote(), &branch("main")).await {
            Ok(base) => base,
            // Refusing such a `.gitmodules` altogether is as good.
            Err(error) => {
                assert_eq!(error.kind(), "git_failed");
                canary.assert_silent("fetch", &project.git);
                continue;
            }
        };

        let worktree = project.mirror.checkout(&base, &project.worktree_dir(1)).await.unwrap();
        assert!(!worktree.snapshot_commit(&base, &info("x")).await.unwrap().changed);
        make_repository(project.git.program(), &worktree.dir().join("sub")).await;
        poison_repository(&canary, &worktree.dir().join("sub"));
        canary.sung();

        assert_eq!(worktree.changes(&base).await.unwrap_err().kind(), "nested_repository");
        canary.assert_silent("changes", &project.git);
    }
}

#[tokio::test]
async fn an_object_that_only_a_planted_remote_could_bring_is_not_fetched_from_it() {
    for project in every_project().await {
        let canary = Canary::new(project.root());
        let blob = project.user(&["rev-parse", "HEAD:a"]).await;
        let object = project.source().join(format!(".git/objects/{}/{}", &blob[..2], &blob[2..]));
        std::fs::remove_file(object).unwrap();
        let run = canary.command("run");
        let text = format!(
            "[core]\n\trepositoryFormatVersion = 1\n[extensions]\n\tpartialClone = evil\n\
             [remote \"evil\"]\n\turl = ext::{run}\n\tpromisor = true\n\tuploadpack = {run}\n\
             [protocol \"ext\"]\n\tallow = always\n"
        );
        let config = project.source().join(".git/config");
        let before = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, before + &text).unwrap();
        try_plain_git(project.git.program(), &project.source(), &["cat-file", "-p", "HEAD:a"]).await;
        assert_ne!(canary.sung(), [""; 0], "plain git fetches it");

        let fresh = project.root().join("fresh.git");
        let mirror = Mirror::open_or_create(&project.git, &fresh, ObjectFormat::Sha1).await.unwrap();
        let fetched = mirror.fetch(&project.remote(), &branch("main")).await;

        assert_eq!(fetched.unwrap_err().kind(), "git_failed");
        canary.assert_silent("fetch", &project.git);
    }
}

#[tokio::test]
async fn pipes_and_closed_files_do_not_hold_a_snapshot_up() {
    for project in every_project().await {
        let worktree = project.mirror.checkout(&project.base, &project.worktree_dir(1)).await.unwrap();
        let mkfifo = |name: &str| {
            let command = host::process::Command::new("mkfifo").arg(worktree.dir().join(name));
            async move { assert!(host::process::run(command).await.unwrap().status.success()) }
        };
        mkfifo("pipe").await;
        std::fs::write(worktree.dir().join("new"), "x").unwrap();
        std::os::unix::fs::symlink("/dev/zero", worktree.dir().join(".gitignore")).unwrap();

        let snapshot = worktree.snapshot_commit(&project.base, &info("x")).await.unwrap();

        let changes = project.mirror.changes(&project.base, &snapshot.commit).await.unwrap();
        let shown: Vec<_> = changes.iter().map(|change| (change.kind.letter(), change.path.as_str())).collect();
        assert_eq!(shown, [('A', ".gitignore"), ('A', "new")]);
        for name in ["dir/.gitattributes", "run.d/.gitignore"] {
            std::fs::create_dir_all(worktree.dir().join("run.d")).unwrap();
            mkfifo(name).await;
            assert_eq!(worktree.changes(&project.base).await.unwrap_err().kind(), "special_file", "{name}");
            std::fs::remove_file(worktree.dir().join(name)).unwrap();
        }
        std::fs::remove_file(worktree.dir().join("dir/b")).unwrap();
        mkfifo("dir/b").await;
        let error = worktree.changes(&project.base).await.unwrap_err();
        assert!(error.to_string().contains("dir/b: can only add regular files"), "{error}");
    }
}
