//! The description of the API, and a page to browse it that fetches nothing from elsewhere.

use std::sync::LazyLock;

use axum::{
    http::header,
    response::{Html, IntoResponse},
};

static OPENAPI: LazyLock<String> = LazyLock::new(document);

/// The OpenAPI document as it is served and as it is kept in the repository.
pub(crate) fn document() -> String {
    let mut text = serde_json::to_string_pretty(&crate::routes::openapi()).unwrap_or_default();
    text.push('\n');
    text
}

pub(crate) async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI.as_str())
}

pub(crate) async fn page() -> impl IntoResponse {
    Html(include_str!("docs/docs.html"))
}

pub(crate) async fn script() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("docs/docs.js"))
}

pub(crate) async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("docs/docs.css"))
}
