//! Engines, as this node finds them.

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc};

use api::{
    ProblemBody,
    engines::{EngineListView, EngineView},
    problem::UNKNOWN_ENGINE,
};
use axum::{Json, extract::State};
use engines::engine::{Engine, EngineTable};

use crate::{
    app::App,
    asked::Id,
    auth::Reader,
    problem::{Problem, typed},
};

type Looking = Pin<Box<dyn Future<Output = Vec<EngineView>> + Send>>;

/// The engines of this node: what each is, and how to look at them. Their keys stay with whoever made it.
#[derive(Clone)]
pub struct EngineRegistry {
    kinds: Arc<BTreeMap<String, Engine>>,
    look: Arc<dyn Fn() -> Looking + Send + Sync>,
}

impl EngineRegistry {
    pub fn new<F>(table: &EngineTable, look: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Vec<EngineView>> + Send + 'static,
    {
        let kinds = table.iter().map(|configured| (configured.id.clone(), configured.engine)).collect();
        Self { kinds: Arc::new(kinds), look: Arc::new(move || Box::pin(look())) }
    }

    /// A node without engines.
    pub fn none() -> Self {
        Self::new(&EngineTable::default(), || async { Vec::new() })
    }

    /// How the output of the engine of this name is read. What is not an engine of ours prints text.
    pub(crate) fn reading(&self, id: &str) -> Engine {
        self.kinds.get(id).copied().unwrap_or(Engine::Shell)
    }

    async fn look(&self) -> Vec<EngineView> {
        (self.look)().await
    }
}

impl std::fmt::Debug for EngineRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EngineRegistry")
    }
}

/// List the engines of this node
///
/// What can be known without a network and without starting work: found where, in which version, with which login.
#[utoipa::path(get, path = "/engines", tag = "engines", security(("bearer" = ["read"])),
    responses((status = 200, body = EngineListView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn list_engines(State(app): State<App>, _: Reader) -> Json<EngineListView> {
    Json(EngineListView { items: app.engines.look().await, next_cursor: None })
}

/// Get an engine
#[utoipa::path(get, path = "/engines/{id}", tag = "engines", security(("bearer" = ["read"])),
    params(("id" = String, Path)),
    responses((status = 200, body = EngineView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn get_engine(State(app): State<App>, _: Reader, Id(id): Id) -> Result<Json<EngineView>, Problem> {
    let found = app.engines.look().await.into_iter().find(|engine| engine.id == id);
    found.map(Json).ok_or_else(|| Problem::new(UNKNOWN_ENGINE, format!("there is no engine {}", typed(&id))))
}
