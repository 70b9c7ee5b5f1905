//! A list that people look at all day: ten projects, by sixteen connections.

use testkit::bench::{
    http::{self, Answered, Connection},
    node::Node,
    repository,
};

use crate::{
    Measured, Plan,
    place::{Database, Place},
};

const CONNECTIONS: usize = 16;
const PROJECTS: usize = 10;

pub(crate) async fn measure(plan: Plan) -> Measured {
    let place = Place::new(Database::Sqlite).await?;
    let answered = ask(&place, plan).await;
    place.end().await;
    Ok(answered?.per_second.into())
}

async fn ask(place: &Place, plan: Plan) -> Result<Answered, String> {
    let repository = repository::create(place.root())?;
    let mut node = Node::start(&place.launch("serve"))?;
    let endpoint = node.ready().await?;
    let wrong = |error: std::io::Error| error.to_string();
    let mut connection = Connection::open(endpoint.address).await.map_err(wrong)?;
    for n in 1..=PROJECTS {
        let body = format!(r#"{{"name":"project-{n}","git_url":"{}"}}"#, repository.display());
        let created =
            connection.exchange(&http::request(&endpoint, "POST", "/projects", &body)).await.map_err(wrong)?;
        if created.0 != 200 {
            return Err(format!("no project was made: {}", String::from_utf8_lossy(created.1)));
        }
    }
    let request = http::request(&endpoint, "GET", "/projects", "");
    let (_, listed) = connection.exchange(&request).await.map_err(wrong)?;
    let listed: Vec<serde_json::Value> = serde_json::from_slice(listed).map_err(|error| error.to_string())?;
    if listed.len() != PROJECTS {
        return Err(format!("{} projects are listed, not {PROJECTS}", listed.len()));
    }
    let load = move || http::load(endpoint.address, CONNECTIONS, plan.span, move |_, _| request.clone());
    host::task::spawn_blocking("load", load).await.map_err(|error| error.to_string())?
}
