//! Whether a server can do its work: for the health checks of containers, which have no token.

use super::Context;
use crate::{
    failure::{Exit, Failure, Result},
    output::fields,
};

pub(super) async fn run(context: &Context) -> Result {
    let client = context.nobodys_client()?;
    let health = client.get_health().await?;
    context.output.one("health", &health, || {
        fields([
            ("server", Some(client.address().to_owned())),
            ("status", Some(health.status.clone())),
            ("database", Some(health.database.clone())),
            ("version", Some(health.version.clone())),
        ])
    })?;
    if health.status == "ok" {
        return Ok(());
    }
    Err(Failure::new(Exit::Unreachable, format!("the server is {}: it cannot read its database", health.status))
        .remedy("Bring the database back; the server connects by itself."))
}
