//! A PostgreSQL database of a test's own, on the server that `cargo xtask` lends.

use std::time::Duration;

use tokio_postgres::{Client, NoTls};

/// Where tests and benchmarks find their server.
pub const URL: &str = "PILOTHOUSE_TEST_POSTGRES_URL";

const DROP_TRIES: u32 = 50;

/// A database that exists until [`Database::drop_now`].
#[derive(Debug)]
pub struct Database {
    server: String,
    name: String,
}

impl Database {
    /// Creates an empty database with a random name on this server.
    pub async fn create(server: &str) -> Result<Self, tokio_postgres::Error> {
        let name = format!("pilothouse_{}", host::random::base62(12).to_lowercase());
        connect(server).await?.batch_execute(&format!("CREATE DATABASE {name}")).await?;
        Ok(Self { server: server.to_owned(), name })
    }

    /// The database's address: the server's with another path.
    pub fn url(&self) -> String {
        let (address, query) = match self.server.split_once('?') {
            Some((address, query)) => (address, format!("?{query}")),
            None => (self.server.as_str(), String::new()),
        };
        let host = match address.find("://").map(|start| start + 3) {
            Some(start) => address[start..].find('/').map_or(address, |slash| &address[..start + slash]),
            None => address,
        };
        format!("{host}/{}{query}", self.name)
    }

    /// Drops the database with whoever is still connected to it.
    pub async fn drop_now(self) -> Result<(), tokio_postgres::Error> {
        let client = connect(&self.server).await?;
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // A plain role may not end the server's own vacuum, which is gone in a moment.
        for _ in 0..DROP_TRIES {
            if client.batch_execute(&drop).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        client.batch_execute(&drop).await
    }
}

/// A connection that lives as long as its client.
pub async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let mut config: tokio_postgres::Config = url.parse()?;
    config.connect_timeout(Duration::from_secs(10));
    let (client, connection) = config.connect(NoTls).await?;
    drop(host::task::spawn("test connection", async move {
        // Whoever uses the client hears about it there.
        let _ = connection.await;
    }));
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_of_the_database_changes_in_an_address() {
        let database = |server: &str| Database { server: server.to_owned(), name: "x".to_owned() };

        assert_eq!(database("postgres://u:p@h:1/postgres").url(), "postgres://u:p@h:1/x");
        assert_eq!(database("postgres://u@h/db?sslmode=disable").url(), "postgres://u@h/x?sslmode=disable");
        assert_eq!(database("postgres://u@h").url(), "postgres://u@h/x");
    }
}
