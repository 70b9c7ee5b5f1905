use crate::fixture::*;
use forge::git::Replay;
use forge::git::types::ObjectId;

async fn write(project: &Project, parent: &ObjectId, name: &str, text: &str) -> ObjectId {
    let files = [(path(name), text.as_bytes().to_vec())];
    project.mirror.write_files(parent, &files, &info(&format!("write {name}"))).await.unwrap()
}

#[tokio::test]
async fn a_change_is_carried_over_to_a_tip_that_moved() {
    for project in every_project().await {
        let mine = write(&project, &project.base, "a", "one\ntwo\n3\n").await;
        let tip = write(&project, &project.base, "a", "1\ntwo\nthree\n").await;
        let tip = write(&project, &tip, "other", "x\n").await;

        let replayed = project.mirror.replay(&mine, &project.base, &tip, &info("feat: mine")).await.unwrap();
        let again = project.mirror.replay(&mine, &project.base, &tip, &info("feat: mine")).await.unwrap();

        let Replay::Clean(commit) = &replayed else { panic!("{replayed:?}") };
        assert_eq!(again, replayed, "doing it again gives the same commit");
        assert_eq!(project.mirror.read_file(commit, &path("a"), 100).await.unwrap().unwrap(), b"1\ntwo\n3\n");
        assert_eq!(project.mirror.read_file(commit, &path("other"), 100).await.unwrap().unwrap(), b"x\n");
        let changes = project.mirror.changes(&tip, commit).await.unwrap();
        assert_eq!(changes.iter().map(|c| c.path.as_str()).collect::<Vec<_>>(), ["a"]);
        project.mirror.push(&project.remote(), &branch("0001-x"), None, commit).await.unwrap();
        assert_eq!(project.user(&["log", "-1", "--format=%P %s", "0001-x"]).await, format!("{tip} feat: mine"));
    }
}

#[tokio::test]
async fn a_later_commit_of_the_same_branch_is_carried_over_alone() {
    for project in every_project().await {
        let first = write(&project, &project.base, "first", "1\n").await;
        let second = write(&project, &first, "second", "2\n").await;
        let tip = write(&project, &project.base, "other", "x\n").await;

        let replayed = project.mirror.replay(&second, &first, &tip, &info("second")).await.unwrap();

        let Replay::Clean(commit) = replayed else { panic!("{replayed:?}") };
        let changes = project.mirror.changes(&tip, &commit).await.unwrap();
        assert_eq!(changes.iter().map(|c| c.path.as_str()).collect::<Vec<_>>(), ["second"]);
    }
}

#[tokio::test]
async fn a_tip_that_did_not_move_needs_nothing() {
    for project in every_project().await {
        let mine = write(&project, &project.base, "a", "x\n").await;
        let started = project.git.n_started();
        let replayed = project.mirror.replay(&mine, &project.base, &project.base, &info("mine")).await.unwrap();
        assert_eq!(replayed, Replay::Clean(mine));
        assert_eq!(project.git.n_started(), started);
    }
}

#[tokio::test]
async fn a_conflict_names_its_paths_and_changes_nothing() {
    for project in every_project().await {
        let mine = write(&project, &project.base, "a", "mine\n").await;
        let mine = write(&project, &mine, "dir/b", "mine\n").await;
        let tip = write(&project, &project.base, "a", "theirs\n").await;
        let tip = write(&project, &tip, "dir/b", "theirs\n").await;
        // Both files were written in two commits, so the change is their sum.
        let worktree = project.mirror.checkout(&mine, &project.worktree_dir(1)).await.unwrap();
        let whole = worktree.snapshot_commit(&project.base, &info("mine")).await.unwrap().commit;

        let replayed = project.mirror.replay(&whole, &project.base, &tip, &info("mine")).await.unwrap();

        assert_eq!(replayed, Replay::Conflict(vec!["a".to_owned(), "dir/b".to_owned()]));
    }
}

#[tokio::test]
async fn a_commit_that_is_not_there_is_no_conflict() {
    for project in every_project().await {
        let nothing: ObjectId = "1".repeat(40).parse().unwrap();
        let tip = write(&project, &project.base, "x", "x").await;
        assert!(project.mirror.replay(&nothing, &project.base, &tip, &info("x")).await.is_err());
    }
}
