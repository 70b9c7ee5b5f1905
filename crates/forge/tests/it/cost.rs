//! What each operation costs: git processes, which are asserted, and time, which is printed (`--nocapture`).

use crate::fixture::*;
use forge::git::{Git, Mirror, ObjectFormat};

/// Counts the processes of one operation.
async fn cost<T>(
    git: &Git,
    name: &'static str,
    costs: &mut Vec<(&'static str, u64)>,
    work: impl Future<Output = T>,
) -> T {
    let (started, since) = (git.n_started(), host::clock::monotonic());
    let done = work.await;
    println!("git {} {name}: {:?}", git.version(), since.elapsed());
    costs.push((name, git.n_started() - started));
    done
}

#[tokio::test]
async fn an_operation_starts_few_processes() {
    for project in every_project().await {
        for n in 0..600 {
            let dir = project.source().join(format!("many/{}", n / 50));
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join(n.to_string()), format!("file {n}\n").repeat(40)).unwrap();
        }
        project.user(&["add", "--all"]).await;
        project.user(&["commit", "--quiet", "--message=many"]).await;
        let (git, remote, main) = (&project.git, project.remote(), branch("main"));
        let mut costs = Vec::new();
        let c = &mut costs;

        cost(git, "remote_refs", c, git.remote_refs(&remote)).await.unwrap();
        let dir = project.root().join("timed.git");
        let mirror = cost(git, "create", c, Mirror::open_or_create(git, &dir, ObjectFormat::Sha1)).await.unwrap();
        cost(git, "open", c, Mirror::open_or_create(git, &dir, ObjectFormat::Sha1)).await.unwrap();
        let base = cost(git, "fetch all", c, mirror.fetch(&remote, &main)).await.unwrap();
        cost(git, "fetch nothing", c, mirror.fetch(&remote, &main)).await.unwrap();
        let files: Vec<_> = ["plan.md", "log.md", "context.md", "00-setup.md", "01-work.md"]
            .map(|name| (path(&format!(".protocols/0001-x/{name}")), b"text\n".to_vec()))
            .into();
        let plan = cost(git, "write_files", c, mirror.write_files(&base, &files, &info("plan"))).await.unwrap();
        let name = branch("0001-x");
        cost(git, "advance_branch", c, mirror.advance_branch(&name, None, &plan)).await.unwrap();
        cost(git, "push", c, mirror.push(&remote, &name, None, &plan)).await.unwrap();
        let worktree = cost(git, "checkout", c, mirror.checkout(&plan, &project.worktree_dir(9))).await.unwrap();
        std::fs::write(worktree.dir().join("a"), "changed\n").unwrap();
        cost(git, "changes", c, worktree.changes(&plan)).await.unwrap();
        let work = cost(git, "snapshot_commit", c, worktree.snapshot_commit(&plan, &info("work"))).await.unwrap();
        cost(git, "keep_attempt", c, mirror.keep_attempt(1, &work.commit)).await.unwrap();
        cost(git, "diff", c, mirror.diff(&plan, &work.commit, 1 << 20)).await.unwrap();
        let paths: Vec<_> = files.iter().map(|(path, _)| path.clone()).collect();
        cost(git, "read_files", c, mirror.read_files(&work.commit, &paths, 1 << 20)).await.unwrap();
        let tip = mirror.write_files(&plan, &[(path("dir/b"), b"x\n".to_vec())], &info("tip")).await.unwrap();
        let described = info("work");
        cost(git, "replay", c, mirror.replay(&work.commit, &plan, &tip, &described)).await.unwrap();
        cost(git, "remove", c, worktree.remove()).await.unwrap();

        let old_git = git.version().minor < 40 && git.version().major == 2;
        assert_eq!(
            costs,
            [
                ("remote_refs", 1),
                ("create", 1),
                ("open", 0),
                ("fetch all", 2),
                ("fetch nothing", 2),
                ("write_files", 1),
                ("advance_branch", 1),
                ("push", 1),
                ("checkout", 1),
                ("changes", 2),
                ("snapshot_commit", 4),
                ("keep_attempt", 1),
                ("diff", 1),
                ("read_files", 1),
                ("replay", if old_git { 3 } else { 2 }),
                ("remove", 0),
            ]
        );
    }
}
