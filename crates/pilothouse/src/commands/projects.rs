//! Projects.

use std::path::Path;

use api::projects::{EngineBody, EnginesBody, FallbackBody, NewProjectBody, ProjectView};

use super::Context;
use crate::{
    cli::ProjectCommand,
    failure::{Failure, Result},
    output::fields,
};

pub(super) async fn run(context: &Context, command: ProjectCommand) -> Result {
    let project = match command {
        ProjectCommand::Add { repository, name, base, engine, scenario, fallback, reviewer, checks } => {
            let git_url = address_of(&repository)?;
            let name = name.unwrap_or_else(|| name_of(&git_url));
            let working = engine.map(|id| working_engine(id, scenario.as_deref(), fallback)).transpose()?;
            let engines = (working.is_some() || reviewer.is_some()).then(|| engines(working, reviewer));
            let checks: Vec<Vec<String>> =
                checks.iter().map(|check| check.split_whitespace().map(str::to_owned).collect()).collect();
            let new = NewProjectBody {
                name,
                git_url,
                base_branch: base,
                ci_provider: None,
                default_models: None,
                secrets: None,
                engines,
                checks: Some(checks).filter(|checks| !checks.is_empty()),
            };
            context.client()?.create_project(&new).await?
        }
        ProjectCommand::List => {
            let projects = context.client()?.list_projects().await?;
            let head = ["project", "name", "status", "base", "repository"];
            return context.output.list("projects", &projects, None, &head, |project| {
                vec![
                    project.id.to_string(),
                    project.name.clone(),
                    project.status.clone(),
                    project.base_branch.clone(),
                    project.git_url.clone(),
                ]
            });
        }
        ProjectCommand::Get { project } => context.client()?.get_project(project).await?,
    };
    context.output.one("project", &project, || describe(&project))
}

/// A directory on this machine by its absolute path; anything else as it is.
fn address_of(repository: &str) -> Result<String> {
    let path = Path::new(repository);
    if repository.contains("://") || !host::fs::is_dir(path) {
        return Ok(repository.to_owned());
    }
    let path = host::fs::canonicalize(path)?;
    path.to_str().map(str::to_owned).ok_or_else(|| Failure::usage("the repository's path is not UTF-8"))
}

fn name_of(address: &str) -> String {
    let last = address.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or(address);
    last.trim_end_matches(".git").to_owned()
}

/// The engine that plans and works, with those that take its place.
fn working_engine(id: String, scenario: Option<&Path>, fallback: Vec<String>) -> Result<EngineBody> {
    let scenario = match scenario {
        None => None,
        Some(path) => Some(address_of_file(path)?),
    };
    let fallback = fallback.into_iter().map(|id| FallbackBody { id, scenario: None }).collect();
    Ok(EngineBody { id, scenario, fallback })
}

fn engines(working: Option<EngineBody>, reviewer: Option<String>) -> EnginesBody {
    let qa = reviewer.map(|id| EngineBody { id, scenario: None, fallback: Vec::new() });
    EnginesBody { planning: working.clone(), execution: working, qa }
}

fn address_of_file(path: &Path) -> Result<String> {
    let path = host::fs::canonicalize(path)?;
    path.to_str().map(str::to_owned).ok_or_else(|| Failure::usage("the scenario's path is not UTF-8"))
}

fn describe(project: &ProjectView) -> String {
    let engine = |engine: &Option<EngineBody>| {
        let engine = engine.as_ref()?;
        let behind = engine.fallback.iter().map(|other| format!(", else {}", other.id));
        Some(std::iter::once(engine.id.clone()).chain(behind).collect::<String>())
    };
    let checks: Vec<String> = project.checks.iter().map(|check| domain::text::command_line(check)).collect();
    fields([
        ("project", Some(project.id.to_string())),
        ("name", Some(project.name.clone())),
        ("status", Some(project.status.clone())),
        ("reason", project.reason.clone()),
        ("repository", Some(project.git_url.clone())),
        ("base", Some(project.base_branch.clone())),
        ("head", project.head.clone()),
        ("engine", engine(&project.engines.execution)),
        ("reviewer", engine(&project.engines.qa)),
        ("checks", Some(checks.join("; ")).filter(|checks| !checks.is_empty())),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_named_by_the_end_of_its_address() {
        for (address, name) in
            [("https://example.org/team/app.git", "app"), ("git@example.org:team/app.git", "app"), ("/srv/app/", "app")]
        {
            assert_eq!(name_of(address), name);
        }
    }
}
