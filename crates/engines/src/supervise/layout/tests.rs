use super::*;

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["data", "data/work", "data/home"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    fn sandbox(&self, profile: Profile) -> Sandbox {
        let mut sandbox = Sandbox::new(profile, self.path("data/home"));
        sandbox.hidden = vec![self.path("data")];
        sandbox.masked = vec![".git".to_owned()];
        sandbox
    }

    fn layout(&self, sandbox: &Sandbox) -> Result<Layout, LaunchFailure> {
        Layout::of(sandbox, &self.path("data/work"), Path::new("/usr/bin/env"))
    }
}

#[test]
fn what_is_hidden_is_emptied_before_the_worktree_in_it_is_shown_again() {
    let place = Place::new();

    let layout = place.layout(&place.sandbox(Profile::Workspace)).unwrap();

    let at = |name: &str| layout.places.iter().position(|(path, _)| *path == place.path(name)).unwrap();
    assert!(at("data") < at("data/work") && at("data/work") < at("data/work/.git"));
    assert_eq!(layout.places[at("data")].1, What::Empty);
    assert_eq!(layout.places[at("data/work")].1, What::Writable { source: place.path("data/work") });
    assert_eq!(layout.places[at("data/work/.git")].1, What::MaskedDirectory);
}

#[test]
fn the_worktree_of_a_reader_is_readable_only() {
    let place = Place::new();
    let layout = place.layout(&place.sandbox(Profile::ReadOnly)).unwrap();
    let work = layout.places.iter().find(|(path, _)| *path == place.path("data/work")).unwrap();
    assert_eq!(work.1, What::Readable { source: place.path("data/work") });
}

#[test]
fn a_settings_directory_that_is_a_link_is_refused_and_linked_instructions_are_left_alone() {
    let place = Place::new();
    let mut sandbox = place.sandbox(Profile::Workspace);
    sandbox.masked = vec!["AGENTS.md".to_owned()];
    std::os::unix::fs::symlink("README.md", place.path("data/work/AGENTS.md")).unwrap();
    assert!(place.layout(&sandbox).is_ok());

    sandbox.masked = vec![".claude".to_owned()];
    std::os::unix::fs::symlink("/etc", place.path("data/work/.claude")).unwrap();
    let refused = place.layout(&sandbox).unwrap_err();

    assert_eq!(refused.kind, LaunchFailureKind::SandboxUnavailable);
    assert!(refused.message.contains(".claude"), "{}", refused.message);
}

#[test]
fn a_program_outside_of_everything_is_shown_and_nothing_beside_it() {
    let place = Place::new();
    let program = place.path("data/engine");
    std::fs::write(&program, "").unwrap();

    let layout = Layout::of(&place.sandbox(Profile::ReadOnly), &place.path("data/work"), &program).unwrap();

    let shown = layout.places.iter().find(|(path, _)| *path == program).unwrap();
    assert_eq!(shown.1, What::Readable { source: program.clone() });
}
