use crate::fixture::*;
use forge::git::{GitError, TreeKind};

#[tokio::test]
async fn files_are_written_without_a_worktree_and_read_back() {
    for project in every_project().await {
        let binary = vec![0, 159, 146, 150, b'\n', 0];
        let files = [
            (path(".protocols/0001-x/plan.md"), b"# Plan\n".to_vec()),
            (path(".protocols/0001-x/00-setup.md"), b"".to_vec()),
            (path("a"), binary.clone()),
            (path("odd \"name\" ü.md"), b"odd".to_vec()),
        ];

        let commit = project.mirror.write_files(&project.base, &files, &info("feat: plan")).await.unwrap();
        let again = project.mirror.write_files(&project.base, &files, &info("feat: plan")).await.unwrap();

        assert_eq!(commit, again, "the same files at the same time are the same commit");
        let names: Vec<_> = files.iter().map(|(path, _)| path.clone()).chain([path("nope"), path("dir")]).collect();
        let read = project.mirror.read_files(&commit, &names, 1000).await.unwrap();
        let expected: Vec<_> = files.iter().map(|(_, content)| Some(content.clone())).chain([None, None]).collect();
        assert_eq!(read, expected);
        assert_eq!(
            project.mirror.read_file(&project.base, &path("a"), 100).await.unwrap().unwrap(),
            b"one\ntwo\nthree\n"
        );
        assert_eq!(project.mirror.branches().await.unwrap(), [], "no ref was made");
        let refs = plain_git(project.git.program(), project.mirror.dir(), &["for-each-ref", "refs/pilothouse"]).await;
        assert_eq!(refs, "");
    }
}

#[tokio::test]
async fn many_files_are_written_by_one_process() {
    for project in every_project().await {
        let files: Vec<_> = (0..300).map(|n| (path(&format!("many/{n}")), n.to_string().into_bytes())).collect();
        let started = project.git.n_started();

        let commit = project.mirror.write_files(&project.base, &files, &info("many")).await.unwrap();

        assert_eq!(project.git.n_started() - started, 1);
        assert_eq!(project.mirror.list_tree(&commit, Some(&path("many")), true).await.unwrap().len(), 300);
    }
}

#[tokio::test]
async fn writing_never_replaces_a_directory_by_a_file_or_the_other_way_round() {
    for project in every_project().await {
        let write = |files: Vec<(&'static str, &'static str)>| {
            let files: Vec<_> = files.into_iter().map(|(name, text)| (path(name), text.as_bytes().to_vec())).collect();
            let (mirror, base) = (project.mirror.clone(), project.base.clone());
            async move { mirror.write_files(&base, &files, &info("x")).await }
        };
        for files in [vec![("a/b", "x")], vec![("dir", "x")], vec![("n", "x"), ("n/m", "x")]] {
            let error = write(files.clone()).await.unwrap_err();
            assert!(matches!(error, GitError::PathInTheWay { .. }), "{files:?}: {error}");
        }
    }
}

#[tokio::test]
async fn a_tree_is_listed_shallow_and_deep() {
    for project in every_project().await {
        let shallow = project.mirror.list_tree(&project.base, None, false).await.unwrap();
        let deep = project.mirror.list_tree(&project.base, None, true).await.unwrap();

        let names = |entries: &[forge::git::TreeEntry]| {
            entries.iter().map(|e| (e.kind, e.path.clone(), e.size)).collect::<Vec<_>>()
        };
        assert_eq!(
            names(&shallow),
            [
                (TreeKind::File, "a".to_owned(), Some(14)),
                (TreeKind::Directory, "dir".to_owned(), None),
                (TreeKind::Executable, "run.sh".to_owned(), Some(10)),
            ]
        );
        assert_eq!(deep[1].repo_path, Some(path("dir/b")));
        assert_eq!(
            project.mirror.list_tree(&project.base, Some(&path("dir")), false).await.unwrap(),
            [deep[1].clone()]
        );
        assert_eq!(project.mirror.list_tree(&project.base, Some(&path("nope")), false).await.unwrap(), []);
        assert_eq!(project.mirror.list_tree(&project.base, Some(&path("*")), false).await.unwrap(), []);
    }
}

#[tokio::test]
async fn what_is_missing_or_too_large_is_told_apart() {
    for project in every_project().await {
        let nothing = "1".repeat(40).parse().unwrap();
        let read = |commit: &forge::git::types::ObjectId, limit| {
            let (mirror, commit) = (project.mirror.clone(), commit.clone());
            async move { mirror.read_file(&commit, &path("a"), limit).await.map_err(|error| error.kind()) }
        };
        assert_eq!(read(&nothing, 100).await, Err("object_missing"));
        assert_eq!(read(&project.base, 13).await, Err("file_too_large"));
        assert!(read(&project.base, 14).await.unwrap().is_some());
        let listed = project.mirror.list_tree(&nothing, None, false).await;
        assert_eq!(listed.unwrap_err().kind(), "object_missing");
        let written = project.mirror.write_files(&nothing, &[(path("x"), vec![])], &info("x")).await;
        assert_eq!(written.unwrap_err().kind(), "object_missing");
        let left = host::fs::list_names(project.mirror.dir()).unwrap();
        assert!(!left.iter().any(|name| name.contains("crash")), "{left:?}");
    }
}
