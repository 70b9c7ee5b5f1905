use crate::fixture::*;
use forge::git::ChangeKind;
use std::os::unix::fs::symlink;

#[tokio::test]
async fn a_checkout_holds_the_files_and_no_git_directory() {
    for project in every_project().await {
        let worktree = project.mirror.checkout(&project.base, &project.worktree_dir(1)).await.unwrap();

        assert_eq!(host::fs::list_names(worktree.dir()).unwrap(), ["a", "dir", "run.sh"]);
        assert_eq!(host::fs::mode(&worktree.dir().join("run.sh")).unwrap() & 0o111, 0o111);
        assert_eq!(host::fs::mode(worktree.dir()).unwrap(), 0o700);
        assert_eq!(worktree.changes(&project.base).await.unwrap(), []);
    }
}

#[tokio::test]
async fn everything_that_was_done_becomes_one_commit() {
    for project in every_project().await {
        let worktree = project.mirror.checkout(&project.base, &project.worktree_dir(1)).await.unwrap();
        std::fs::write(worktree.dir().join("a"), "one\n2\nthree\n").unwrap();
        std::fs::rename(worktree.dir().join("dir/b"), worktree.dir().join("c")).unwrap();
        std::fs::write(worktree.dir().join("new file"), "x\n").unwrap();
        symlink("/etc/passwd", worktree.dir().join("link")).unwrap();
        set_mode(&worktree.dir().join("run.sh"), 0o644);

        let snapshot = worktree.snapshot_commit(&project.base, &info("feat: x")).await.unwrap();
        let again = worktree.snapshot_commit(&project.base, &info("feat: x")).await.unwrap();
        let diff = project.mirror.diff(&project.base, &snapshot.commit, 100_000).await.unwrap();

        assert!(snapshot.changed);
        assert_eq!(again, snapshot, "the same work at the same time is the same commit");
        let shown: Vec<_> =
            diff.changes.iter().map(|c| (c.kind.letter(), c.path.as_str(), c.old_path.as_deref(), c.lines)).collect();
        assert_eq!(
            shown,
            [
                ('M', "a", None, Some((1, 1))),
                ('R', "c", Some("dir/b"), Some((0, 0))),
                ('A', "link", None, Some((1, 0))),
                ('A', "new file", None, Some((1, 0))),
                ('M', "run.sh", None, Some((0, 0))),
            ]
        );
        assert_eq!(diff.lines(), (3, 1));
        assert!(diff.patch.contains("-two\n+2\n") && !diff.truncated);
        assert_eq!(worktree.changes(&project.base).await.unwrap(), diff.changes);
        assert_eq!(worktree.changes(&snapshot.commit).await.unwrap(), []);
        let file = project.mirror.read_file(&snapshot.commit, &path("link"), 100).await.unwrap();
        assert_eq!(file.as_deref(), Some(&b"/etc/passwd"[..]), "a link is kept as a link");
    }
}

#[tokio::test]
async fn a_commit_carries_exactly_the_people_and_the_time_given() {
    for project in every_project().await {
        let worktree = project.mirror.checkout(&project.base, &project.worktree_dir(1)).await.unwrap();
        std::fs::write(worktree.dir().join("a"), "x\n").unwrap();
        let by = forge::git::Person::new("Bob", "bob@example.org").unwrap();
        let info = forge::git::CommitInfo::new("feat(x): y [protocol-0001/01]\n\nbody", by, NOON).unwrap();
        let info = info.committed_by(forge::git::Person::new("Pilothouse", "p@localhost").unwrap());

        let commit = worktree.snapshot_commit(&project.base, &info).await.unwrap().commit;
        let written = project.mirror.write_files(&project.base, &[(path("a"), b"x\n".to_vec())], &info).await.unwrap();
        project.mirror.push(&project.remote(), &branch("0001-x"), None, &commit).await.unwrap();

        let shown = project.user(&["log", "-1", "--format=%P|%an|%ae|%at|%cn|%ce|%ct|%B", "0001-x"]).await;
        assert_eq!(
            shown.trim_end(),
            format!(
                "{}|Bob|bob@example.org|{NOON}|Pilothouse|p@localhost|{NOON}|feat(x): y [protocol-0001/01]\n\nbody",
                project.base
            )
        );
        assert_eq!(written, commit, "with and without a worktree the same change is the same commit");
    }
}

#[tokio::test]
async fn nothing_changed_is_not_a_commit() {
    for project in every_project().await {
        let worktree = project.mirror.checkout(&project.base, &project.worktree_dir(1)).await.unwrap();
        std::fs::create_dir(worktree.dir().join("empty")).unwrap();
        std::fs::create_dir_all(worktree.dir().join("pkg/__pycache__")).unwrap();
        std::fs::write(worktree.dir().join("pkg/__pycache__/x.pyc"), "dropping").unwrap();
        std::fs::write(worktree.dir().join(".DS_Store"), "dropping").unwrap();

        let snapshot = worktree.snapshot_commit(&project.base, &info("nothing")).await.unwrap();

        assert_eq!((snapshot.changed, &snapshot.commit), (false, &project.base));
    }
}

#[tokio::test]
async fn a_worktree_is_filled_anew_and_removed_whatever_was_left_in_it() {
    for project in every_project().await {
        let dir = project.worktree_dir(1);
        let worktree = project.mirror.checkout(&project.base, &dir).await.unwrap();
        std::fs::create_dir(dir.join("closed")).unwrap();
        std::fs::write(dir.join("closed/file"), "x").unwrap();
        set_mode(&dir.join("closed"), 0o000);
        std::fs::remove_file(dir.join("a")).unwrap();

        let worktree = project.mirror.checkout(&project.base, worktree.dir()).await.unwrap();
        assert_eq!(host::fs::list_names(&dir).unwrap(), ["a", "dir", "run.sh"]);
        set_mode(&dir.join("dir"), 0o000);
        worktree.clone().remove().await.unwrap();
        worktree.remove().await.unwrap();

        assert!(!dir.exists());
        assert_eq!(host::fs::list_names(&project.mirror.dir().join("worktree-indexes")).unwrap(), [""; 0]);
        assert_eq!(project.mirror.worktree(&dir).unwrap_err().kind(), "not_a_worktree");
    }
}

#[tokio::test]
async fn a_worktree_is_found_again_after_a_restart() {
    for project in every_project().await {
        let dir = project.worktree_dir(1);
        project.mirror.checkout(&project.base, &dir).await.unwrap();
        std::fs::write(dir.join("a"), "x\n").unwrap();

        let found = project.mirror.worktree(&dir).unwrap();

        let changes = found.changes(&project.base).await.unwrap();
        assert_eq!(
            changes.iter().map(|c| (c.kind, c.path.as_str())).collect::<Vec<_>>(),
            [(ChangeKind::Modified, "a")]
        );
    }
}

#[tokio::test]
async fn a_link_in_place_of_a_worktree_is_not_followed() {
    for project in every_project().await {
        let dir = project.worktree_dir(1);
        let worktree = project.mirror.checkout(&project.base, &dir).await.unwrap();
        let outside = project.root().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("precious"), "x").unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        symlink(&outside, &dir).unwrap();

        let snapshot = worktree.snapshot_commit(&project.base, &info("x")).await;
        assert_eq!(snapshot.unwrap_err().kind(), "not_a_worktree");
        project.mirror.checkout(&project.base, &dir).await.unwrap();
        worktree.remove().await.unwrap();

        assert_eq!(host::fs::list_names(&outside).unwrap(), ["precious"]);
    }
}

#[tokio::test]
async fn a_repository_inside_a_worktree_is_refused_unless_it_is_ignored() {
    for project in every_project().await {
        let worktree = project.mirror.checkout(&project.base, &project.worktree_dir(1)).await.unwrap();
        let inner = worktree.dir().join("target/tmp/repo");
        make_repository(project.git.program(), &inner).await;

        let error = worktree.snapshot_commit(&project.base, &info("x")).await.unwrap_err();
        assert_eq!(error.to_string(), "target/tmp/repo is a git repository inside the worktree");
        assert_eq!(worktree.changes(&project.base).await.unwrap_err().kind(), "nested_repository");

        std::fs::write(worktree.dir().join(".gitignore"), "/target/\n").unwrap();
        let snapshot = worktree.snapshot_commit(&project.base, &info("x")).await.unwrap();
        let changes = project.mirror.changes(&project.base, &snapshot.commit).await.unwrap();
        assert_eq!(changes.iter().map(|c| c.path.as_str()).collect::<Vec<_>>(), [".gitignore"]);

        std::fs::write(worktree.dir().join("dir/.GIT"), "gitdir: /etc").unwrap();
        assert_eq!(worktree.changes(&project.base).await.unwrap_err().kind(), "nested_repository");
    }
}

#[tokio::test]
async fn a_commit_that_is_not_there_cannot_be_checked_out() {
    for project in every_project().await {
        let nothing = "1".repeat(40).parse().unwrap();
        let error = project.mirror.checkout(&nothing, &project.worktree_dir(1)).await.unwrap_err();
        assert_eq!(error.kind(), "object_missing", "{error}");
        let worktree = project.mirror.checkout(&project.base, &project.worktree_dir(1)).await.unwrap();
        assert_eq!(worktree.snapshot_commit(&nothing, &info("x")).await.unwrap_err().kind(), "object_missing");
        assert_eq!(project.mirror.changes(&project.base, &nothing).await.unwrap_err().kind(), "object_missing");
    }
}

#[tokio::test]
async fn a_long_patch_is_cut_and_its_list_of_changes_is_whole() {
    for project in every_project().await {
        let long = "a line\n".repeat(10_000).into_bytes();
        let files = [(path("long"), long), (path("z"), b"last\n".to_vec())];
        let commit = project.mirror.write_files(&project.base, &files, &info("x")).await.unwrap();

        let diff = project.mirror.diff(&project.base, &commit, 1000).await.unwrap();

        assert_eq!((diff.patch.len(), diff.truncated, diff.lines()), (1000, true, (10_001, 0)));
        assert_eq!(diff.changes.len(), 2);
    }
}

#[tokio::test]
async fn what_is_remembered_of_worktrees_that_are_gone_is_forgotten() {
    for project in every_project().await {
        let worktrees = project.root().join("worktrees");
        let (here, gone) = (worktrees.join("here"), worktrees.join("gone"));
        for dir in [&here, &gone] {
            project.mirror.checkout(&project.base, dir).await.unwrap();
        }
        host::fs::remove_dir_all(&gone).unwrap();

        let young = project.mirror.forget_worktrees(&worktrees, std::time::Duration::from_secs(3600)).unwrap();
        let old = project.mirror.forget_worktrees(&worktrees, std::time::Duration::ZERO).unwrap();

        assert_eq!((young, old), (0, 1));
        let worktree = project.mirror.worktree(&here).unwrap();
        assert_eq!(worktree.changes(&project.base).await.unwrap(), []);
        assert_eq!(project.mirror.forget_worktrees(&worktrees.join("none"), std::time::Duration::ZERO).unwrap(), 1);
    }
}
