//! A git repository with one commit, for the product to work on.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Makes it in `repository` beneath this directory.
pub fn create(root: &Path) -> Result<PathBuf, String> {
    let repository = root.join("repository");
    std::fs::create_dir(&repository).map_err(|error| error.to_string())?;
    std::fs::write(repository.join("readme.txt"), "Somebody's.\n").map_err(|error| error.to_string())?;
    for arguments in [
        &["init", "--quiet", "--initial-branch=main"][..],
        &["add", "--all"],
        &["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "commit", "--quiet", "-m", "Begin"],
    ] {
        #[expect(clippy::disallowed_methods, reason = "does what people do before they use the product")]
        let mut git = Command::new("git");
        let ran = git.args(arguments).current_dir(&repository).env("HOME", root).status();
        let status = ran.map_err(|error| format!("cannot run git: {error}"))?;
        if !status.success() {
            return Err(format!("git {} failed ({status})", arguments.join(" ")));
        }
    }
    Ok(repository)
}
