use crate::fixture::*;
use forge::git::types::RefName;
use forge::git::{Git, GitConfig, GitError, Limits, LocalPolicy, LocalRepo, MINIMUM, Mirror, ObjectFormat, Remote};
use std::time::Duration;

#[tokio::test]
async fn a_git_that_is_not_there_is_missing() {
    let data = tempfile::tempdir().unwrap();
    for program in ["/no/such/git", "git"] {
        let config = GitConfig { program: Some(program.into()), ..GitConfig::beneath(data.path()) };
        assert_eq!(Git::find(config).await.unwrap_err().kind(), "git_missing");
    }
    assert!(Git::find(GitConfig::beneath(data.path())).await.unwrap().version() >= MINIMUM);
}

#[tokio::test]
async fn a_program_that_is_no_git_is_told_apart() {
    let data = tempfile::tempdir().unwrap();
    let program = data.path().join("git");
    for (script, kind) in [
        ("echo git version 2.38.9", "git_too_old"),
        ("echo hello", "git_unexpected"),
        ("exit 3", "git_failed"),
        ("sleep 60", "git_timed_out"),
        ("yes", "git_timed_out"),
    ] {
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        set_mode(&program, 0o755);
        let limits = Limits { local: Duration::from_millis(300), ..Limits::default() };
        let config = GitConfig { program: Some(program.clone()), limits, ..GitConfig::beneath(data.path()) };
        assert_eq!(Git::find(config).await.unwrap_err().kind(), kind, "{script}");
    }
}

#[tokio::test]
async fn a_fetch_says_where_the_base_is_and_follows_it() {
    for project in every_project().await {
        let first = project.user(&["rev-parse", "HEAD"]).await;
        assert_eq!(project.base.as_str(), first);

        project.user(&["commit", "--quiet", "--allow-empty", "--message=second"]).await;
        let second = project.mirror.fetch(&project.remote(), &branch("main")).await.unwrap();

        assert_eq!(second.as_str(), project.user(&["rev-parse", "HEAD"]).await);
        let fetched = RefName::parse("refs/remotes/origin/main").unwrap();
        assert_eq!(project.mirror.resolve(&fetched).await.unwrap(), Some(second));
        assert_eq!(project.mirror.branches().await.unwrap(), [], "fetching makes no branch of ours");
    }
}

#[tokio::test]
async fn a_rewritten_base_is_followed_too() {
    for project in every_project().await {
        project.user(&["commit", "--quiet", "--amend", "--message=rewritten"]).await;
        let rewritten = project.mirror.fetch(&project.remote(), &branch("main")).await.unwrap();
        assert_ne!(rewritten, project.base);
    }
}

#[tokio::test]
async fn a_missing_base_is_an_error_of_its_own() {
    for project in every_project().await {
        let error = project.mirror.fetch(&project.remote(), &branch("nope")).await.unwrap_err();
        assert!(matches!(&error, GitError::NoSuchBranch { branch } if branch.as_str() == "nope"), "{error}");
    }
}

#[tokio::test]
async fn a_remote_tells_its_branches_and_its_default() {
    for project in every_project().await {
        project.user(&["branch", "0007-older"]).await;
        // Git takes this name; we only ever show it.
        project.user(&["branch", "x$(canary)"]).await;

        let refs = project.git.remote_refs(&project.remote()).await.unwrap();

        assert_eq!(refs.head, Some(branch("main")));
        assert_eq!(refs.format, Some(ObjectFormat::Sha1));
        let names: Vec<_> = refs.heads.iter().map(|head| (head.branch.clone(), head.shown.as_str())).collect();
        assert_eq!(
            names,
            [(Some(branch("0007-older")), "0007-older"), (Some(branch("main")), "main"), (None, "x$(canary)")]
        );
        assert!(refs.heads.iter().all(|head| head.tip == project.base));
        assert_eq!(
            project.mirror.remote_tip(&project.remote(), &branch("main")).await.unwrap(),
            Some(project.base.clone())
        );
        assert_eq!(project.mirror.remote_tip(&project.remote(), &branch("heads/main")).await.unwrap(), None);
    }
}

#[tokio::test]
async fn an_empty_repository_has_no_format_and_no_base() {
    for project in every_project().await {
        let empty = project.root().join("empty");
        std::fs::create_dir(&empty).unwrap();
        plain_git(project.git.program(), &empty, &["init", "--quiet", "--initial-branch=main"]).await;

        let refs = project.git.remote_refs(&local(&empty)).await.unwrap();

        assert_eq!((refs.heads, refs.format), (vec![], None));
        assert_eq!(project.mirror.fetch(&local(&empty), &branch("main")).await.unwrap_err().kind(), "branch_missing");
    }
}

#[tokio::test]
async fn repositories_with_long_object_ids_work_in_a_mirror_of_their_format() {
    for project in every_project().await {
        let source = project.root().join("long");
        std::fs::create_dir(&source).unwrap();
        let git = |args: &'static [&'static str]| plain_git(project.git.program(), &source, args);
        git(&["init", "--quiet", "--initial-branch=main", "--object-format=sha256"]).await;
        git(&["commit", "--quiet", "--allow-empty", "--message=first"]).await;
        let format = project.git.remote_refs(&local(&source)).await.unwrap().format.unwrap();

        let mirror = Mirror::open_or_create(&project.git, &project.root().join("long.git"), format).await.unwrap();
        let base = mirror.fetch(&local(&source), &branch("main")).await.unwrap();
        let next = mirror.write_files(&base, &[(path("x"), b"x".to_vec())], &info("x")).await.unwrap();
        mirror.advance_branch(&branch("0001-x"), None, &next).await.unwrap();
        mirror.push(&local(&source), &branch("0001-x"), None, &next).await.unwrap();

        assert_eq!((format, base.as_str().len()), (ObjectFormat::Sha256, 64));
        assert_eq!(git(&["rev-parse", "0001-x"]).await, next.as_str());
        // The short mirror refuses instead of mixing them up.
        assert_eq!(project.mirror.fetch(&local(&source), &branch("main")).await.unwrap_err().kind(), "git_failed");
    }
}

#[tokio::test]
async fn opening_a_mirror_again_finds_what_was_there() {
    for project in every_project().await {
        let dir = project.mirror.dir().to_owned();
        let started = project.git.n_started();

        let again = Mirror::open_or_create(&project.git, &dir, ObjectFormat::Sha1).await.unwrap();

        assert_eq!(project.git.n_started(), started, "an existing mirror needs no process");
        assert_eq!(again.resolve(&branch("main").to_fetched_ref()).await.unwrap(), Some(project.base.clone()));
        assert_eq!(host::fs::mode(&dir).unwrap(), 0o700);
        let beside = host::fs::list_names(dir.parent().unwrap()).unwrap();
        assert_eq!(beside, ["mirror.git"], "nothing is left of making it");
    }
}

#[tokio::test]
async fn a_local_repository_needs_the_policys_consent() {
    for project in every_project().await {
        let uid = host::process::effective_uid();
        let open = |policy| LocalRepo::open(&project.source(), &policy).map(|_| ()).map_err(|error| error.kind());
        assert_eq!(open(LocalPolicy::OwnedBy(uid)), Ok(()));
        assert_eq!(open(LocalPolicy::OwnedBy(uid + 1)), Err("repository_refused"));
        assert_eq!(open(LocalPolicy::Nothing), Err("repository_refused"));
        assert_eq!(open(LocalPolicy::Beneath(vec![project.root().to_owned()])), Ok(()));
        assert_eq!(
            open(LocalPolicy::Beneath(vec![project.root().join("data"), "/nope".into()])),
            Err("repository_refused")
        );
    }
}

#[tokio::test]
async fn a_repository_whose_git_directory_lies_elsewhere_is_judged_by_where_it_lies() {
    for project in every_project().await {
        let allowed = project.root().join("allowed");
        std::fs::create_dir_all(allowed.join("file")).unwrap();
        std::fs::create_dir_all(allowed.join("link")).unwrap();
        let target = project.source().join(".git");
        std::fs::write(allowed.join("file/.git"), format!("gitdir: {}\n", target.display())).unwrap();
        std::os::unix::fs::symlink(&target, allowed.join("link/.git")).unwrap();
        let policy = LocalPolicy::Beneath(vec![allowed.clone()]);

        for name in ["file", "link"] {
            let error = LocalRepo::open(&allowed.join(name), &policy).unwrap_err();
            assert_eq!(error.kind(), "repository_refused", "{name}");
        }
    }
}

#[tokio::test]
async fn what_is_no_repository_is_refused() {
    for project in every_project().await {
        let policy = LocalPolicy::OwnedBy(host::process::effective_uid());
        let kind = |path: &std::path::Path| LocalRepo::open(path, &policy).unwrap_err().kind();
        assert_eq!(kind(&project.root().join("nothing")), "not_a_repository");
        assert_eq!(kind(&project.source().join("dir")), "not_a_repository");
        assert_eq!(kind(&project.source().join("a")), "not_a_repository");
        assert_eq!(kind("source".as_ref()), "repository_refused");
        assert_eq!(kind("--upload-pack=x".as_ref()), "repository_refused");
        assert_eq!(kind(&project.root().join("a\nb")), "repository_refused");
    }
}

#[tokio::test]
async fn linked_worktrees_and_bare_repositories_are_repositories_too() {
    for project in every_project().await {
        project.user(&["worktree", "add", "--quiet", "--detach", "../linked"]).await;
        project.user(&["clone", "--quiet", "--bare", ".", "../bare.git"]).await;
        for name in ["linked", "bare.git"] {
            let remote = local(&project.root().join(name));
            let base = project.mirror.fetch(&remote, &branch("main")).await.unwrap();
            let made = branch(&format!("0001-{}", &name[..4]));
            project.mirror.push(&remote, &made, None, &base).await.unwrap();
            assert_eq!(project.mirror.remote_tip(&remote, &made).await.unwrap(), Some(base), "{name}");
        }
    }
}

#[tokio::test]
async fn a_lock_left_by_a_dead_process_is_removed_only_when_it_is_old() {
    for project in every_project().await {
        let name = branch("0001-x");
        let lock = project.mirror.dir().join("refs/heads/0001-x.lock");
        std::fs::create_dir_all(lock.parent().unwrap()).unwrap();
        std::fs::write(&lock, "").unwrap();

        let young = project.mirror.advance_branch(&name, None, &project.base).await;
        let old = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        std::fs::File::options().write(true).open(&lock).unwrap().set_modified(old).unwrap();
        let aged = project.mirror.advance_branch(&name, None, &project.base).await;

        assert_eq!(young.unwrap_err().kind(), "git_failed");
        aged.unwrap();
        assert!(!lock.exists());
    }
}

#[tokio::test]
async fn an_address_is_only_ever_reached_over_https_or_ssh() {
    for project in every_project().await {
        let url = Remote::Url("https://127.0.0.1:1/r.git".parse().unwrap());
        let error = project.mirror.fetch(&url, &branch("main")).await.unwrap_err();
        assert_eq!(error.kind(), "git_failed", "{error}");
        assert!(!error.to_string().contains("not allowed"), "https itself is allowed: {error}");
    }
}

#[tokio::test]
async fn a_history_with_harmless_slips_is_taken_as_it_is() {
    for project in every_project().await {
        let tree = project.user(&["rev-parse", "HEAD^{tree}"]).await;
        let slip = format!("tree {tree}\nauthor A <a@b> 1300000000 +051800\ncommitter A<a@b>1300000000 +0000\n\nold\n");
        let command = host::process::Command::new(project.git.program())
            .args(["hash-object", "--literally", "-w", "-t", "commit", "--stdin"])
            .cwd(project.source())
            .env("PATH", host::process::DEFAULT_PATH)
            .stdin(slip);
        let output = host::process::run(command).await.unwrap();
        let id = String::from_utf8(output.stdout).unwrap();
        project.user(&["update-ref", "refs/heads/old", id.trim()]).await;

        let tip = project.mirror.fetch(&project.remote(), &branch("old")).await.unwrap();

        assert_eq!(tip.as_str(), id.trim());
    }
}

#[tokio::test]
async fn tidying_keeps_what_is_referred_to_and_what_is_new() {
    for project in every_project().await {
        let write = |text: &'static str| {
            let (mirror, base) = (project.mirror.clone(), project.base.clone());
            async move { mirror.write_files(&base, &[(path("x"), text.into())], &info(text)).await.unwrap() }
        };
        let (kept, loose) = (write("kept").await, write("not kept yet").await);
        project.mirror.keep_attempt(1, &kept).await.unwrap();

        project.mirror.tidy().await.unwrap();
        assert!(!project.mirror.tidy_every(Duration::from_secs(3600)).await.unwrap(), "it is a young mirror");
        assert!(project.mirror.tidy_every(Duration::ZERO).await.unwrap());
        assert!(!project.mirror.tidy_every(Duration::from_secs(3600)).await.unwrap(), "that was just done");

        for commit in [&kept, &loose] {
            assert!(project.mirror.read_file(commit, &path("x"), 100).await.unwrap().is_some());
        }
    }
}
