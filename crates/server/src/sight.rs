//! Which projects a caller may see and steer.
//!
//! A project with a token of its own is open to admins and to callers who send it as `X-Project-Token`. It never
//! replaces the bearer token.

use std::collections::BTreeMap;

use api::problem::{PROJECT_ACCESS_DENIED, UNKNOWN_PROJECT, UNKNOWN_PROTOCOL, UNKNOWN_STEP};
use axum::{extract::FromRequestParts, http::request::Parts};
use control::{Control, tokens::Session};
use domain::{
    commit::{Subject, SubjectKind, Table},
    project::Project,
    token::Scope,
};
use store::{Store, StoredEvent, projects::ListedProject, protocols::ListedProtocol, steps::ListedStep};

use crate::{app::App, asked::Id, auth::Right, problem::Problem};

/// What a caller sent as `X-Project-Token`.
#[derive(Clone, Debug)]
pub(crate) struct ProjectKey(Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for ProjectKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut keys = parts.headers.get_all("x-project-token").iter();
        let key = match (keys.next(), keys.next()) {
            (Some(key), None) => key.to_str().ok().map(str::to_owned),
            _ => None,
        };
        Ok(Self(key))
    }
}

/// The project, protocol or step that the path names, for a caller who has the right `R` and sees it.
#[derive(Clone, Debug)]
pub(crate) struct Seen<R, T> {
    pub(crate) by: R,
    pub(crate) it: T,
}

/// What a path can name by its number.
pub(crate) trait Named: Sized + Send {
    fn find(sight: &Sight, id: &Id) -> impl Future<Output = Result<Self, Problem>> + Send;
}

impl Named for ListedProject {
    async fn find(sight: &Sight, id: &Id) -> Result<Self, Problem> {
        sight.project(id).await
    }
}

impl Named for ListedProtocol {
    async fn find(sight: &Sight, id: &Id) -> Result<Self, Problem> {
        sight.protocol(id).await
    }
}

impl Named for ListedStep {
    async fn find(sight: &Sight, id: &Id) -> Result<Self, Problem> {
        sight.step(id).await
    }
}

impl<R: Right + Send + Sync, T: Named> FromRequestParts<App> for Seen<R, T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        // The right first: what exists is told to nobody else.
        let by = R::from_request_parts(parts, app).await?;
        let key = ProjectKey::from_request_parts(parts, app).await?;
        let id = Id::from_request_parts(parts, app).await?;
        let it = T::find(&Sight::of(by.session(), key, app.control.store()), &id).await?;
        Ok(Self { by, it })
    }
}

/// What one caller sees.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    store: Store,
    is_admin: bool,
    key: ProjectKey,
    /// Projects that were looked at.
    known: BTreeMap<i64, bool>,
}

impl Sight {
    pub(crate) fn of(session: &Session, key: ProjectKey, store: &Store) -> Self {
        let is_admin = session.token.allows(Scope::Admin);
        Self { store: store.clone(), is_admin, key, known: BTreeMap::new() }
    }

    /// Whether the caller sees this project.
    pub(crate) fn opens(&self, project: &Project) -> bool {
        let given = self.key.0.as_deref().unwrap_or_default();
        self.is_admin || project.api_token_hash.is_none() || Control::is_project_token(project, given)
    }

    fn check(&self, project: &Project) -> Result<(), Problem> {
        if self.opens(project) {
            return Ok(());
        }
        let detail = format!("project {} has a token of its own", project.id);
        Err(Problem::new(PROJECT_ACCESS_DENIED, detail))
    }

    async fn project(&self, id: &Id) -> Result<ListedProject, Problem> {
        let number = id.number(UNKNOWN_PROJECT, "project")?;
        let found = self.store.find_listed_project(number).await?;
        let listed = found.ok_or_else(|| id.unknown(UNKNOWN_PROJECT, "project"))?;
        self.check(&listed.project)?;
        Ok(listed)
    }

    /// Without its steps and gates.
    async fn protocol(&self, id: &Id) -> Result<ListedProtocol, Problem> {
        let number = id.number(UNKNOWN_PROTOCOL, "protocol")?;
        let found = self.store.find_listed_protocol(number).await?;
        let listed = found.ok_or_else(|| id.unknown(UNKNOWN_PROTOCOL, "protocol"))?;
        self.check_number(listed.protocol.project.0).await?;
        Ok(listed)
    }

    async fn step(&self, id: &Id) -> Result<ListedStep, Problem> {
        let number = id.number(UNKNOWN_STEP, "step")?;
        let found = self.store.find_step(number).await?;
        let listed = found.ok_or_else(|| id.unknown(UNKNOWN_STEP, "step"))?;
        self.protocol(&Id(listed.step.protocol.to_string())).await?;
        Ok(listed)
    }

    /// Refuses a project that is known by its number; one that does not exist has nothing to hide.
    pub(crate) async fn check_number(&self, project: i64) -> Result<(), Problem> {
        match self.store.find_listed_project(project).await? {
            Some(listed) => self.check(&listed.project),
            None => Ok(()),
        }
    }

    /// Refuses what belongs to a project that the caller does not see: `run:…`, `protocol:…`, `step:…`, `project:…`.
    pub(crate) async fn check_subject(&self, subject: &str) -> Result<(), Problem> {
        let (kind, id) = subject.split_once(':').unwrap_or_default();
        let id = Id(id.to_owned());
        match kind {
            "project" => self.project(&id).await.map(drop),
            "protocol" => self.protocol(&id).await.map(drop),
            "step" => self.step(&id).await.map(drop),
            _ => Ok(()),
        }
    }

    /// Whether the caller sees what belongs to this subject; for lists, which leave out what is not seen.
    pub(crate) async fn sees_owner(&mut self, owner: &Subject) -> Result<bool, Problem> {
        let project = match owner.kind {
            SubjectKind::Project => owner.id.parse().ok(),
            SubjectKind::Protocol => self
                .store
                .find_row(Table::Protocols, &owner.id)
                .await?
                .and_then(|row| row.parent)
                .and_then(|project| project.parse().ok()),
            _ => None,
        };
        self.sees_project(project).await
    }

    pub(crate) async fn sees_event(&mut self, event: &StoredEvent) -> Result<bool, Problem> {
        match event.project {
            Some(project) => self.sees_project(Some(project)).await,
            None => self.sees_owner(&event.subject).await,
        }
    }

    async fn sees_project(&mut self, project: Option<i64>) -> Result<bool, Problem> {
        let Some(project) = project.filter(|_| !self.is_admin) else { return Ok(true) };
        if let Some(known) = self.known.get(&project) {
            return Ok(*known);
        }
        let sees = self.store.find_listed_project(project).await?.is_none_or(|listed| self.opens(&listed.project));
        self.known.insert(project, sees);
        Ok(sees)
    }
}
