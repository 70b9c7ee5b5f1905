//! Brings the schema up to date: every step in one transaction, one process at a time.

use tokio_postgres::Client;

use crate::{StoreError, migrate::pending, postgres::fault};

/// Any number will do that nobody else uses for advisory locks in this database.
const MIGRATION_LOCK: i64 = 0x5049_4c4f_5401;

/// Migrates, and gives back the epoch: the random name of this database's history, part of every event cursor.
pub(super) async fn migrate(client: &mut Client) -> Result<String, StoreError> {
    loop {
        let tx = client.transaction().await.map_err(|error| fault::of(&error))?;
        // Held until the transaction ends; nodes that start together take turns and find the work done.
        tx.execute("SELECT pg_advisory_xact_lock($1)", &[&MIGRATION_LOCK]).await.map_err(|error| fault::of(&error))?;
        let found = version(&tx).await?;
        let Some(next) = pending(found)?.first() else {
            let row = tx
                .query_one("SELECT value FROM meta WHERE key = 'epoch'", &[])
                .await
                .map_err(|error| fault::of(&error))?;
            return Ok(row.get(0));
        };
        tx.batch_execute(next.postgres).await.map_err(|error| fault::of(&error))?;
        if found == 0 {
            let epoch = host::random::base62(12);
            tx.execute("INSERT INTO meta (key, value) VALUES ('epoch', $1)", &[&epoch])
                .await
                .map_err(|error| fault::of(&error))?;
        }
        tx.execute(
            "INSERT INTO meta (key, value) VALUES ('schema_version', $1)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            &[&next.version.to_string()],
        )
        .await
        .map_err(|error| fault::of(&error))?;
        host::failpoint!("postgres.migrate.before-commit");
        tx.commit().await.map_err(|error| fault::of(&error))?;
        host::failpoint!("postgres.migrate.after-commit");
        tracing::info!(schema = next.version, "Migrated the database to schema {}", next.version);
    }
}

async fn version(tx: &tokio_postgres::Transaction<'_>) -> Result<i64, StoreError> {
    let exists =
        tx.query_one("SELECT to_regclass('meta') IS NOT NULL", &[]).await.map_err(|error| fault::of(&error))?;
    if !exists.get::<_, bool>(0) {
        return Ok(0);
    }
    let row = tx
        .query_opt("SELECT value FROM meta WHERE key = 'schema_version'", &[])
        .await
        .map_err(|error| fault::of(&error))?;
    let Some(row) = row else { return Ok(0) };
    let value: String = row.get(0);
    value.parse().map_err(|_| StoreError::Corrupt {
        table: "meta",
        id: "schema_version".to_owned(),
        reason: format!("{value} is not a number"),
    })
}
