//! Connections: how they are made, what every session is set to, and whether the server may be used at all.
//!
//! A session never waits for ever: statements, locks and idle transactions time out, a peer that went away is noticed by
//! TCP, and one that only is silent by [`Patience`]. Settings travel with the start-up message, so no connection is ever
//! used without them.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio::task::JoinHandle;
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, NoTls, Socket,
    config::{SslMode, TargetSessionAttrs},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    StoreError,
    postgres::{fault, patience::Patience},
};

/// What a session is for; sets how it plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Reads.
    General,
    /// Writes over arrays: those are short and every table is reached by key, which the planner cannot know.
    Keyed,
}

impl Role {
    fn options(self) -> &'static str {
        match self {
            Self::General => {
                "-c statement_timeout=30s -c lock_timeout=10s -c idle_in_transaction_session_timeout=20s \
                 -c default_transaction_isolation=read\\ committed -c jit=off -c client_min_messages=warning"
            }
            // One plan for each statement, made once: planning dozens of CTEs costs more than carrying them out. Nested
            // loops over arrays of unknown length turn quadratic, so rows are found by key and joined by hash.
            Self::Keyed => {
                "-c statement_timeout=30s -c lock_timeout=10s -c idle_in_transaction_session_timeout=20s \
                 -c default_transaction_isolation=read\\ committed -c jit=off -c client_min_messages=warning \
                 -c plan_cache_mode=force_generic_plan -c enable_nestloop=off -c enable_seqscan=off \
                 -c enable_mergejoin=off"
            }
        }
    }
}

/// How soon the server notices that we are gone without a word: a connection that was given up behind a partition is
/// closed once, by a packet that is lost, and by itself the server would keep its side for two hours.
const SERVER_NOTICES: &str = "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 \
                              -c tcp_user_timeout=15000";

/// Makes connections to one database.
#[derive(Clone)]
pub(super) struct Connector {
    config: Config,
    tls: Option<MakeRustlsConnect>,
    pub(super) patience: Patience,
}

impl std::fmt::Debug for Connector {
    // The configuration holds a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("hosts", &self.config.get_hosts()).finish_non_exhaustive()
    }
}

impl Connector {
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        let (patience, url) = Patience::parse(url)?;
        // Certificates are always verified in full, so the stricter spellings mean the same.
        let url = url.replace("sslmode=verify-full", "sslmode=require").replace("sslmode=verify-ca", "sslmode=require");
        let mut config: Config = url.parse().map_err(|error| StoreError::Unfit {
            reason: format!("the address is malformed: {}", fault::text(&error)),
        })?;
        if config.get_application_name().is_none() {
            config.application_name("pilothouse");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(5));
        }
        config
            .tcp_user_timeout(Duration::from_secs(15))
            .keepalives(true)
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3)
            // Checked on every connection: after a failover the old primary may come back as a standby.
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        let tls = match config.get_ssl_mode() {
            SslMode::Require => Some(tls()?),
            // Encryption that anybody may strip is worth nothing: `prefer` stays in clear text and says so here.
            _ => {
                config.ssl_mode(SslMode::Disable);
                None
            }
        };
        Ok(Self { config, tls, patience })
    }

    fn config(&self, role: Role) -> Config {
        let mut config = self.config.clone();
        let options = match config.get_options() {
            // The last word counts: whoever set the address may choose other times, and not what durability rests on.
            Some(given) => format!("{SERVER_NOTICES} {given} {}", role.options()),
            None => format!("{SERVER_NOTICES} {}", role.options()),
        };
        config.options(options);
        config
    }

    pub(super) fn pool(&self, role: Role, size: usize) -> Result<Pool, StoreError> {
        let config = self.config(role);
        let recycle = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = match &self.tls {
            Some(tls) => Manager::from_config(config, tls.clone(), recycle),
            None => Manager::from_config(config, NoTls, recycle),
        };
        Pool::builder(manager)
            .max_size(size)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(self.patience.pool()))
            .create_timeout(Some(self.patience.pool()))
            .recycle_timeout(Some(self.patience.pool()))
            .build()
            .map_err(|error| StoreError::Unfit { reason: error.to_string() })
    }

    /// A connection of its own, driven in the background until it is dropped.
    pub(super) async fn connect(&self, role: Role) -> Result<Connected, StoreError> {
        self.listen(role, |_, _| {}).await
    }

    /// A connection whose notifications are handed to `hear`, by the channel's payload and the sender's process.
    pub(super) async fn listen<H>(&self, role: Role, hear: H) -> Result<Connected, StoreError>
    where
        H: FnMut(&str, i32) + Send + 'static,
    {
        let config = self.config(role);
        let connecting = async {
            match &self.tls {
                Some(tls) => {
                    let (client, connection) = config.connect(tls.clone()).await.map_err(|error| fault::of(&error))?;
                    Ok(Connected { client, driver: drive(connection, hear) })
                }
                None => {
                    let (client, connection) = config.connect(NoTls).await.map_err(|error| fault::of(&error))?;
                    Ok(Connected { client, driver: drive(connection, hear) })
                }
            }
        };
        // The driver's own limit ends with the first packet; the server may be silent after it.
        match tokio::time::timeout(self.patience.connect(), Box::pin(connecting)).await {
            Ok(connected) => connected,
            Err(_) => Err(fault::silent()),
        }
    }
}

/// A connection and the task that drives it, which ends with it whatever is still awaited.
#[derive(Debug)]
pub(super) struct Connected {
    client: Client,
    driver: JoinHandle<()>,
}

impl Deref for Connected {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Connected {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Whoever waits on the connection is told its error; there is nobody else to tell.
fn drive<T, H>(mut connection: Connection<Socket, T>, mut hear: H) -> JoinHandle<()>
where
    T: tokio_postgres::tls::TlsStream + Unpin + Send + 'static,
    H: FnMut(&str, i32) + Send + 'static,
{
    host::task::spawn("postgres connection", async move {
        loop {
            match std::future::poll_fn(|context| connection.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notification(heard))) => hear(heard.payload(), heard.process_id()),
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    tracing::debug!(error = %fault::text(&error), "A database connection ended");
                    return;
                }
                None => return,
            }
        }
    })
}

fn tls() -> Result<MakeRustlsConnect, StoreError> {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| StoreError::Unfit { reason: error.to_string() })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// Refuses a server whose settings or version cannot keep what a commit promises.
pub(super) async fn check_fitness(client: &Client) -> Result<(), StoreError> {
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::int, current_setting('fsync') = 'on',
                    current_setting('full_page_writes') = 'on', current_setting('synchronous_commit'),
                    current_setting('synchronous_standby_names') <> '', pg_is_in_recovery(),
                    (SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user),
                    current_setting('server_encoding')",
            &[],
        )
        .await
        .map_err(|error| fault::of(&error))?;
    let unfit = |reason: &str| Err(StoreError::Unfit { reason: reason.to_owned() });
    let version: i32 = row.get(0);
    if version < 130_000 {
        return unfit("the server is older than PostgreSQL 13");
    }
    if !row.get::<_, bool>(1) {
        return unfit("fsync is off: a power failure would lose or corrupt what was accepted; set fsync = on");
    }
    if !row.get::<_, bool>(2) {
        return unfit("full_page_writes is off: a power failure could corrupt the database; set full_page_writes = on");
    }
    match row.get::<_, &str>(3) {
        "on" | "remote_apply" => {}
        "remote_write" if row.get::<_, bool>(4) => {}
        other => {
            return Err(StoreError::Unfit {
                reason: format!("synchronous_commit is {other}: an answer could be lost; set synchronous_commit = on"),
            });
        }
    }
    if row.get::<_, bool>(5) {
        return unfit("the server is a standby; give the address of the primary");
    }
    if row.get::<_, &str>(7) != "UTF8" {
        return unfit("the database is not encoded in UTF8");
    }
    if row.get::<_, Option<bool>>(6) == Some(true) {
        tracing::warn!("The database role is a superuser or bypasses row security; an ordinary role is safer");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_told_when_to_take_us_for_gone_unless_the_address_says_it() {
        for url in ["postgres://u@h/db", "postgres://u@h/db?options=-c%20tcp_user_timeout%3D60000"] {
            let connector = Connector::parse(url).unwrap();
            for role in [Role::General, Role::Keyed] {
                let config = connector.config(role);

                let options = config.get_options().unwrap();
                let last = options.rsplit("tcp_user_timeout=").next().unwrap();
                assert!(options.contains("tcp_keepalives_idle=10"), "{options}");
                assert!(last.starts_with(if url.contains("60000") { "60000" } else { "15000" }), "{options}");
                assert!(options.ends_with(role.options()), "{options}");
            }
        }
    }
}
