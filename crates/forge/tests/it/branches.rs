use crate::fixture::*;
use forge::git::types::{ObjectId, RefName};
use forge::git::{Advance, GitError, Kept};

async fn commit_on(project: &Project, parent: &ObjectId, text: &str) -> ObjectId {
    project.mirror.write_files(parent, &[(path("file"), text.as_bytes().to_vec())], &info(text)).await.unwrap()
}

fn moved_to(result: Result<Advance, GitError>) -> Option<ObjectId> {
    match result {
        Err(GitError::Moved { found, .. }) => found,
        other => panic!("the move was not refused as overtaken: {other:?}"),
    }
}

#[tokio::test]
async fn an_attempt_is_kept_and_let_go_as_often_as_one_likes() {
    for project in every_project().await {
        let commit = commit_on(&project, &project.base, "x").await;
        for _ in 0..2 {
            project.mirror.keep_attempt(17, &commit).await.unwrap();
        }
        let name = RefName::parse("refs/pilothouse/attempts/17").unwrap();
        assert_eq!(project.mirror.resolve(&name).await.unwrap().as_ref(), Some(&commit));
        let kept = Kept { fence: 17, commit, committed_at: NOON };
        assert_eq!(project.mirror.kept_attempts().await.unwrap(), [kept]);
        for _ in 0..2 {
            project.mirror.drop_attempt(17).await.unwrap();
        }
        assert_eq!(project.mirror.resolve(&name).await.unwrap(), None);
        assert_eq!(project.mirror.kept_attempts().await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_branch_moves_only_from_where_it_is_believed_to_be() {
    for project in every_project().await {
        let name = branch("0001-x");
        let (one, two) = (commit_on(&project, &project.base, "1").await, commit_on(&project, &project.base, "2").await);
        let advance = |old: Option<ObjectId>, new: ObjectId| {
            let (mirror, name) = (project.mirror.clone(), name.clone());
            async move { mirror.advance_branch(&name, old.as_ref(), &new).await }
        };

        assert_eq!(moved_to(advance(Some(one.clone()), two.clone()).await), None, "it does not exist yet");
        assert_eq!(advance(None, one.clone()).await.unwrap(), Advance::Moved);
        assert_eq!(advance(None, one.clone()).await.unwrap(), Advance::AlreadyThere);
        assert_eq!(moved_to(advance(None, two.clone()).await), Some(one.clone()));
        assert_eq!(advance(Some(one.clone()), two.clone()).await.unwrap(), Advance::Moved);
        assert_eq!(advance(Some(one.clone()), two.clone()).await.unwrap(), Advance::AlreadyThere);
        assert_eq!(moved_to(advance(Some(project.base.clone()), one.clone()).await), Some(two.clone()));
        assert_eq!(project.mirror.branch_tip(&name).await.unwrap(), Some(two.clone()));
        assert_eq!(project.mirror.branches().await.unwrap(), [(name.clone(), two)]);
    }
}

#[tokio::test]
async fn a_branch_cannot_be_moved_to_what_is_no_commit() {
    for project in every_project().await {
        let nothing = ObjectId::parse(&"1".repeat(40)).unwrap();
        let error = project.mirror.advance_branch(&branch("0001-x"), None, &nothing).await.unwrap_err();
        assert_eq!(error.kind(), "git_failed");
    }
}

#[tokio::test]
async fn the_same_holds_for_the_branch_of_the_remote() {
    for project in every_project().await {
        let name = branch("0001-x");
        let remote = project.remote();
        let (one, two) = (commit_on(&project, &project.base, "1").await, commit_on(&project, &project.base, "2").await);
        let push = |old: Option<ObjectId>, new: ObjectId| {
            let (mirror, name, remote) = (project.mirror.clone(), name.clone(), remote.clone());
            async move { mirror.push(&remote, &name, old.as_ref(), &new).await }
        };

        assert_eq!(moved_to(push(Some(one.clone()), two.clone()).await), None, "it does not exist yet");
        assert_eq!(push(None, one.clone()).await.unwrap(), Advance::Moved);
        assert_eq!(push(None, one.clone()).await.unwrap(), Advance::AlreadyThere);
        assert_eq!(moved_to(push(None, two.clone()).await), Some(one.clone()));
        assert_eq!(push(Some(one.clone()), two.clone()).await.unwrap(), Advance::Moved, "beside, not only forward");
        assert_eq!(moved_to(push(Some(one.clone()), project.base.clone()).await), Some(two.clone()));
        assert_eq!(project.user(&["rev-parse", "0001-x"]).await, two.as_str());
    }
}

#[tokio::test]
async fn the_users_checkout_stays_as_it_is() {
    for project in every_project().await {
        let commit = commit_on(&project, &project.base, "1").await;
        // Even somebody who lets pushes rewrite their checkout keeps it.
        for deny in ["refuse", "ignore", "warn", "updateInstead"] {
            project.user(&["config", "receive.denyCurrentBranch", deny]).await;
            let error = project.mirror.push(&project.remote(), &branch("main"), Some(&project.base), &commit).await;
            assert_eq!(error.unwrap_err().kind(), "branch_checked_out", "{deny}");
        }
        project.mirror.push(&project.remote(), &branch("0001-x"), None, &commit).await.unwrap();

        assert_eq!(project.user(&["rev-parse", "HEAD"]).await, project.base.as_str());
        assert_eq!(project.user(&["status", "--porcelain"]).await, "");
        assert_eq!(project.user(&["symbolic-ref", "HEAD"]).await, "refs/heads/main");
    }
}

#[tokio::test]
async fn a_branch_that_a_linked_worktree_has_checked_out_is_refused_too() {
    for project in every_project().await {
        let commit = commit_on(&project, &project.base, "1").await;
        project.user(&["worktree", "add", "--quiet", "-b", "0001-x", "../linked"]).await;
        let error = project.mirror.push(&project.remote(), &branch("0001-x"), Some(&project.base), &commit).await;
        assert_eq!(error.unwrap_err().kind(), "branch_checked_out");
    }
}

#[tokio::test]
async fn a_remote_that_refuses_for_reasons_of_its_own_says_so() {
    for project in every_project().await {
        let commit = commit_on(&project, &project.base, "1").await;
        project.user(&["config", "receive.denyNonFastForwards", "true"]).await;
        project.user(&["branch", "0001-x", "main"]).await;
        let beside = commit_on(&project, &commit, "2").await;
        project.mirror.push(&project.remote(), &branch("0001-x"), Some(&project.base), &beside).await.unwrap();
        let error =
            project.mirror.push(&project.remote(), &branch("0001-x"), Some(&beside), &commit).await.unwrap_err();
        assert_eq!(error.kind(), "push_rejected", "{error}");
    }
}

/// A worker is frozen before its push, another takes over and finishes, then the first one thaws.
#[tokio::test]
async fn a_thawed_worker_changes_no_branch() {
    for project in every_project().await {
        let name = branch("0001-x");
        let (mirror, remote) = (&project.mirror, project.remote());
        let frozen = mirror.checkout(&project.base, &project.worktree_dir(1)).await.unwrap();
        std::fs::write(frozen.dir().join("a"), "by the first worker\n").unwrap();
        let stale = frozen.snapshot_commit(&project.base, &info("stale")).await.unwrap().commit;
        mirror.keep_attempt(1, &stale).await.unwrap();

        let successor = mirror.checkout(&project.base, &project.worktree_dir(2)).await.unwrap();
        std::fs::write(successor.dir().join("a"), "by the second worker\n").unwrap();
        let accepted = successor.snapshot_commit(&project.base, &info("accepted")).await.unwrap().commit;
        mirror.keep_attempt(2, &accepted).await.unwrap();
        mirror.advance_branch(&name, None, &accepted).await.unwrap();
        mirror.push(&remote, &name, None, &accepted).await.unwrap();

        std::fs::write(frozen.dir().join("a"), "thawed\n").unwrap();
        let later = frozen.snapshot_commit(&stale, &info("later")).await.unwrap().commit;
        for commit in [&stale, &later] {
            for believed in [None, Some(&project.base), Some(&stale)] {
                let local = mirror.advance_branch(&name, believed, commit).await;
                assert_eq!(moved_to(local), Some(accepted.clone()));
                let pushed = mirror.push(&remote, &name, believed, commit).await;
                assert_eq!(moved_to(pushed), Some(accepted.clone()));
            }
        }
        // What the ledger accepted may be repeated by anybody, also by the one that was frozen.
        assert_eq!(mirror.advance_branch(&name, None, &accepted).await.unwrap(), Advance::AlreadyThere);
        assert_eq!(mirror.push(&remote, &name, None, &accepted).await.unwrap(), Advance::AlreadyThere);

        assert_eq!(mirror.branch_tip(&name).await.unwrap(), Some(accepted.clone()));
        assert_eq!(project.user(&["rev-parse", "0001-x"]).await, accepted.as_str());
        assert_eq!(project.user(&["show", "0001-x:a"]).await, "by the second worker");
        assert_eq!(std::fs::read_to_string(successor.dir().join("a")).unwrap(), "by the second worker\n");
    }
}

#[tokio::test]
async fn many_at_once_move_a_branch_exactly_once() {
    for project in every_project().await {
        let name = branch("0001-x");
        let mut commits = Vec::new();
        for n in 0..8 {
            commits.push(commit_on(&project, &project.base, &n.to_string()).await);
        }
        let racers = commits.iter().map(|commit| {
            let (mirror, name, commit) = (project.mirror.clone(), name.clone(), commit.clone());
            host::task::spawn("racer", async move { mirror.advance_branch(&name, None, &commit).await })
        });
        let mut winners = Vec::new();
        for (racer, commit) in racers.collect::<Vec<_>>().into_iter().zip(&commits) {
            match racer.await.unwrap() {
                Ok(Advance::Moved) => winners.push(commit.clone()),
                Err(GitError::Moved { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(winners.len(), 1);
        assert_eq!(project.mirror.branch_tip(&name).await.unwrap(), winners.pop());
    }
}
