//! Where the data is: a directory for the life of the process, and connections to the database in it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use crate::EngineError;
use crate::interrupt::{self, INSTRUCTIONS_PER_LOOK};

/// The largest database, in pages of 4 KiB: 1 GiB, then 53100; sooner on a smaller file system, as the 64 MiB that container
/// runtimes give `/dev/shm`. Only the file system bounds the log of changes beside it, which grows while others write as long
/// as one transaction stays open.
const MAX_PAGES: u32 = 262_144;

/// The most memory that SQLite takes in this process, in bytes; 53200 after that. Sorting and temporary tables are in memory.
const MAX_HEAP: u64 = 1024 * 1024 * 1024;

/// One session's cache, in KiB.
const CACHE_KIB: u32 = 512;

/// The largest value and the largest row, in bytes.
const MAX_VALUE: i32 = 64 * 1024 * 1024;

/// What the directories are called, and the file in them that a living process has locked.
const PREFIX: &str = "lastcall-embedded-";
const LOCK: &str = "lock";

/// Pragmas that only tell something.
const TELLING: [&str; 7] =
    ["table_info", "table_xinfo", "table_list", "index_list", "index_info", "foreign_key_list", "compile_options"];

/// The directory. Dropping it deletes the data.
#[derive(Debug)]
pub(crate) struct Database {
    file: PathBuf,
    _lock: File,
    _directory: TempDir,
}

impl Database {
    /// An empty database, in memory if there is a directory that is.
    pub(crate) fn create() -> Result<Database, EngineError> {
        let in_memory = Path::new("/dev/shm");
        let database = match Database::create_in(in_memory) {
            Ok(database) => database,
            Err(_) => Database::create_in(&std::env::temp_dir()).map_err(EngineError::Directory)?,
        };
        let mut connection = open(&database.file).map_err(EngineError::Database)?;
        connection.authorizer(None::<fn(AuthContext<'_>) -> Authorization>).map_err(EngineError::Database)?;
        // Stays so in the file.
        connection.execute_batch("PRAGMA journal_mode = wal").map_err(EngineError::Database)?;
        Ok(database)
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    fn create_in(parent: &Path) -> io::Result<Database> {
        sweep(parent)?;
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        // Locked before it has its name: what has the name and no lock is swept.
        let unnamed = directory.path().join("unlocked");
        let lock = File::create_new(&unnamed)?;
        lock.lock()?;
        fs::rename(&unnamed, directory.path().join(LOCK))?;
        Ok(Database { file: directory.path().join("data"), _lock: lock, _directory: directory })
    }
}

/// Deletes what killed processes have left. What can't be looked at belongs to somebody else.
fn sweep(parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)?.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let Ok(lock) = File::open(entry.path().join(LOCK)) else { continue };
        if lock.try_lock().is_ok()
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            tracing::debug!(%error, path = %entry.path().display(), "embedded engine: cannot sweep");
        }
    }
    Ok(())
}

/// A session's connection. Waits for locks, and stops for this thread's session.
pub(crate) fn open(file: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(file, flags)?;
    connection.busy_handler(Some(interrupt::wait_for_lock))?;
    connection.progress_handler(INSTRUCTIONS_PER_LOOK, Some(interrupt::stops))?;
    connection.execute_batch(&format!(
        "PRAGMA synchronous = off; PRAGMA foreign_keys = on; PRAGMA temp_store = memory; PRAGMA cache_size = -{CACHE_KIB};
         PRAGMA max_page_count = {MAX_PAGES}; PRAGMA hard_heap_limit = {MAX_HEAP}"
    ))?;
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_VALUE)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    // "x" is a column, and never a string because there is no such column.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
    connection.authorizer(Some(authorize))?;
    Ok(connection)
}

/// SQL reaches this database and no other file: ATTACH, which VACUUM INTO uses too, would open any.
fn authorize(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Attach { .. } | AuthAction::Detach { .. } => Authorization::Deny,
        AuthAction::Pragma { pragma_name, .. }
            if !TELLING.iter().any(|name| name.eq_ignore_ascii_case(pragma_name)) =>
        {
            Authorization::Deny
        }
        _ => Authorization::Allow,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_processs_directory_is_swept_and_a_living_ones_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let living = Database::create_in(parent.path()).unwrap();
        let dead = parent.path().join(format!("{PREFIX}dead"));
        fs::create_dir(&dead).unwrap();
        File::create_new(dead.join(LOCK)).unwrap();
        let strange = parent.path().join("strange");
        fs::create_dir(&strange).unwrap();
        File::create_new(strange.join(LOCK)).unwrap();

        sweep(parent.path()).unwrap();

        assert!(!dead.exists());
        assert!(living.file().parent().unwrap().exists());
        assert!(strange.exists());
    }

    #[test]
    fn the_data_goes_with_the_database() {
        let database = Database::create().unwrap();
        let directory = database.file().parent().unwrap().to_owned();
        assert!(directory.exists());
        drop(database);
        assert!(!directory.exists());
    }
}
