//! Opens the file: takes it for this process, refuses what cannot keep the promises, sets the connections up, migrates.

use std::{path::Path, sync::Arc, time::Duration};

use rusqlite::{Connection, OpenFlags, fallible_iterator::FallibleIterator as _};

use crate::{
    Meter, StoreError,
    known::{Known, Tables},
    migrate,
    queue::Wake,
    sqlite::{
        Inner, SqliteStore,
        checkpoint::Checkpoints,
        fault,
        owner::{self, Owner},
        read::Readers,
        writer::{Ledger, Told, Writer},
    },
};

/// Older releases can corrupt a database in WAL mode when two connections write and checkpoint at once.
const OLDEST_SQLITE: i32 = 3_051_003;
/// `PLTH`: tells our files from others'.
const APPLICATION_ID: i64 = 0x504c_5448;
pub(super) const BUSY: Duration = Duration::from_secs(5);
/// KiB of pages that the writer keeps in memory.
const WRITER_CACHE: u32 = 16 * 1024;
/// The same for each connection that reads, which begins anew after every commit of another.
const READER_CACHE: u32 = 2 * 1024;
/// Bytes of the log that are made beforehand: twice what a checkpoint waits for.
const LOG_SIZE: u32 = 8 * 1024 * 1024;

pub(super) fn open(path: &Path) -> Result<SqliteStore, StoreError> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        let reason = format!("SQLite {} is older than 3.51.3, which keeps its log safe", rusqlite::version());
        return Err(StoreError::Unfit { reason });
    }
    let owner = Owner::take(path)?;
    host::failpoint!("sqlite.open.owned");
    // Made by us first, so that nobody else can read what is in it; SQLite gives its other files the same mode.
    let file = host::fs::open_append(path).map_err(|error| unfit(path, &error))?;
    refuse_network_filesystem(path, &file)?;
    let found_closed = owner.found_closed(&file);
    drop(file);

    let mut conn = connect(path, WRITER_CACHE).map_err(|error| damaged(path, error))?;
    let schema = recognise(&conn).map_err(|error| damaged(path, error))?;
    if schema.is_some() && !found_closed {
        owner::refuse_damage(&conn, path)?;
    }
    let epoch = migrate(&mut conn, schema.unwrap_or(0))?;
    grow_log(&conn).map_err(fault::of)?;
    host::failpoint!("sqlite.open.log-grown");
    let fences =
        conn.query_row("SELECT value FROM counters WHERE name = 'fences'", (), |row| row.get(0)).map_err(fault::of)?;
    let checkpoints = Checkpoints::start(&mut conn, connect(path, 1024)?)?;
    let wake = Wake::default();
    let ledger = Ledger { conn, fences, ready: 0, events: false, written: Tables::default(), ended: None };
    let (known, meter) = (Known::alone(), Meter::default());
    let writer = Writer::start(
        ledger,
        checkpoints,
        Told { wake: wake.clone(), known: known.clone(), meter: meter.clone() },
        owner,
    )?;
    let readers = Readers::new(path);
    Ok(SqliteStore { inner: Arc::new(Inner { writer, readers, wake, known, meter, epoch, path: path.to_owned() }) })
}

/// A connection with every setting that durability and safety rest on, verified.
pub(super) fn connect(path: &Path, cache_kib: u32) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(fault::of)?;
    conn.set_prepared_statement_cache_capacity(256);
    conn.busy_timeout(BUSY).map_err(fault::of)?;
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", (), |row| row.get(0)).map_err(fault::of)?;
    conn.execute_batch(&format!(
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;
         PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;
         PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -{cache_kib};"
    ))
    .map_err(fault::of)?;
    let synchronous: i64 = conn.query_row("PRAGMA synchronous", (), |row| row.get(0)).map_err(fault::of)?;
    if mode != "wal" || synchronous != 2 {
        let reason = format!("journal_mode is {mode} and synchronous {synchronous}, not wal and 2");
        return Err(StoreError::Unfit { reason });
    }
    Ok(conn)
}

/// A connection that cannot write.
pub(super) fn connect_reader(path: &Path) -> Result<Connection, StoreError> {
    let conn = connect(path, READER_CACHE)?;
    conn.execute_batch("PRAGMA query_only = ON").map_err(fault::of)?;
    Ok(conn)
}

/// Locks and shared memory of a network filesystem do not keep two machines apart.
#[cfg(target_os = "linux")]
fn refuse_network_filesystem(path: &Path, file: &std::fs::File) -> Result<(), StoreError> {
    const NETWORKED: [(u32, &str); 11] = [
        (0x6969, "NFS"),
        (0x517b, "SMB"),
        (0xff53_4d42, "CIFS"),
        (0xfe53_4d42, "SMB2"),
        (0x0102_1997, "9p"),
        (0x6573_5546, "FUSE"),
        (0x00c3_6400, "Ceph"),
        (0x5346_414f, "AFS"),
        (0x0bd0_0bd0, "Lustre"),
        (0x7461_636f, "OCFS2"),
        (0x0116_1970, "GFS2"),
    ];
    let stat = rustix::fs::fstatfs(file).map_err(|error| unfit(path, &error))?;
    // The width and sign of the field differ between architectures; the number is 32 bits everywhere.
    let magic = u32::try_from(i128::from(stat.f_type) & 0xffff_ffff).unwrap_or(0);
    match NETWORKED.iter().find(|(networked, _)| *networked == magic) {
        Some((_, name)) => Err(StoreError::Unfit {
            reason: format!("{} lies on {name}; the ledger needs a local filesystem", path.display()),
        }),
        None => Ok(()),
    }
}

#[cfg(not(target_os = "linux"))]
fn refuse_network_filesystem(_: &Path, _: &std::fs::File) -> Result<(), StoreError> {
    Ok(())
}

/// The schema of a file of ours; `None` when it is new.
fn recognise(conn: &Connection) -> Result<Option<i64>, StoreError> {
    let id: i64 = conn.query_row("PRAGMA application_id", (), |row| row.get(0)).map_err(fault::of)?;
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0)).map_err(fault::of)?;
    match (id, tables) {
        (0, 0) => Ok(None),
        (APPLICATION_ID, _) => meta_number(conn, "schema_version").map(Some),
        _ => Err(StoreError::Unfit { reason: "the file is another program's database".to_owned() }),
    }
}

/// Brings the schema up to date. Gives back the epoch.
fn migrate(conn: &mut Connection, found: i64) -> Result<String, StoreError> {
    for migration in migrate::pending(found)? {
        let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(fault::of)?;
        let mut statements = rusqlite::Batch::new(&tx, migration.sqlite);
        while let Some(mut statement) = statements.next().map_err(fault::of)? {
            host::failpoint!("sqlite.migrate.statement");
            statement.execute(()).map_err(fault::of)?;
        }
        if migration.version == 1 {
            tx.execute_batch(&format!("PRAGMA application_id = {APPLICATION_ID}")).map_err(fault::of)?;
            set_meta(&tx, "epoch", &host::random::base62(12)).map_err(fault::of)?;
        }
        set_meta(&tx, "schema_version", &migration.version.to_string()).map_err(fault::of)?;
        host::failpoint!("sqlite.migrate.before-commit");
        tx.commit().map_err(fault::of)?;
        host::failpoint!("sqlite.migrate.after-commit");
    }
    conn.query_row("SELECT value FROM meta WHERE key = 'epoch'", (), |row| row.get(0)).map_err(fault::of)
}

/// Gives the log its size before it is needed: a commit into blocks that exist is made durable many times faster than
/// one that also makes the file longer (measured: 0.13 against 2 to 4 ms). Pages that do not fit the cache go to the log
/// at once, and stay there as dead frames after the rollback; checkpoints then keep the log within this size.
fn grow_log(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute_batch(&format!(
        "PRAGMA cache_size = 16;
         BEGIN IMMEDIATE;
         CREATE TABLE filler (x);
         INSERT INTO filler VALUES (zeroblob({LOG_SIZE}));
         ROLLBACK;
         UPDATE meta SET value = value WHERE key = 'epoch';
         PRAGMA cache_size = -{WRITER_CACHE};"
    ))
}

fn meta_number(conn: &Connection, key: &str) -> Result<i64, StoreError> {
    let value: String =
        conn.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).map_err(fault::of)?;
    value.parse().map_err(|_| StoreError::Corrupt {
        table: "meta",
        id: key.to_owned(),
        reason: format!("column value holds {value}, not a number"),
    })
}

pub(super) fn set_meta(conn: &Connection, key: &str, value: &str) -> Result<(), rusqlite::Error> {
    conn.execute(
        "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        [key, value],
    )
    .map(|_| ())
}

/// What SQLite calls malformed before it could be checked is damage all the same.
pub(super) fn damaged(path: &Path, error: StoreError) -> StoreError {
    match error {
        StoreError::Corrupt { table: fault::FILE, reason, .. } => {
            StoreError::Damaged { path: path.display().to_string(), findings: reason }
        }
        other => other,
    }
}

pub(super) fn unfit(path: &Path, error: &dyn std::error::Error) -> StoreError {
    let mut reason = format!("{}: {error}", path.display());
    if let Some(source) = error.source() {
        reason.push_str(&format!(": {source}"));
    }
    StoreError::Unfit { reason }
}
