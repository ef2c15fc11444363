//! What records add up to: for each user and database, how many sessions, and how long workers executed for them.
//!
//! A session counts once: by its end, or else by its last checkpoint, of which it is said how many there are. A line that is
//! no record, as a full disk or a SIGKILL leaves it, is counted and passed over.

use std::collections::BTreeMap;
use std::io::{self, BufRead};

use serde::{Deserialize, Serialize};

/// What can't be added up.
#[derive(Debug, thiserror::Error)]
pub enum SumError {
    /// The records can't be read.
    #[error("cannot read records: {0}")]
    Read(#[from] io::Error),
}

/// Longest line that can be a record, in bytes.
const LONGEST: u64 = 64 * 1024;

/// What records add up to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Sum {
    /// By user and database.
    pub used: Vec<Used>,
    /// Sessions without an end, which are counted up to their last checkpoint: their process was killed, or they go on.
    pub without_end: u64,
    /// Processes that began and did not say that they stop.
    pub without_stop: u64,
    /// Records that processes could not write, by their own count.
    pub lost_records: u64,
    /// Lines that are no records.
    pub unreadable: u64,
}

/// What one user did in one database.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Used {
    /// `user`.
    pub user: String,
    /// `database`.
    pub database: String,
    /// Sessions.
    pub sessions: u64,
    /// Statements answered.
    pub statements: u64,
    /// For how long workers executed, in seconds: compute seconds.
    pub executing_s: f64,
    /// For how long workers were held by work that waited for its client, in seconds.
    pub waiting_s: f64,
    /// Bytes passed on to workers.
    pub received: u64,
    /// Bytes passed on to clients.
    pub sent: u64,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line {
    Start { process: String },
    Checkpoint(Record),
    End(Record),
    Stop { process: String, lost_records: u64 },
}

#[derive(Deserialize)]
struct Record {
    process: String,
    session: u32,
    user: String,
    database: String,
    executing_ms: f64,
    waiting_ms: f64,
    statements: u64,
    received: u64,
    sent: u64,
}

/// Adds up the records that `lines` has.
///
/// # Errors
/// They can't be read.
pub fn sum(mut lines: impl BufRead) -> Result<Sum, SumError> {
    let mut sum = Sum::default();
    let mut used: BTreeMap<(String, String), Used> = BTreeMap::new();
    let mut open: BTreeMap<(String, u32), Record> = BTreeMap::new();
    let mut started = std::collections::BTreeSet::new();
    let mut bytes = Vec::new();
    while read_line(&mut lines, &mut bytes)? {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match serde_json::from_slice(&bytes) {
            Ok(Line::Start { process }) => _ = started.insert(process),
            Ok(Line::Stop { process, lost_records }) => {
                started.remove(&process);
                sum.lost_records += lost_records;
            }
            Ok(Line::Checkpoint(record)) => _ = open.insert((record.process.clone(), record.session), record),
            Ok(Line::End(record)) => {
                open.remove(&(record.process.clone(), record.session));
                count(&mut used, record);
            }
            Err(_) => sum.unreadable += 1,
        }
    }
    sum.without_end = open.len() as u64;
    sum.without_stop = started.len() as u64;
    open.into_values().for_each(|record| count(&mut used, record));
    sum.used = used.into_values().collect();
    Ok(sum)
}

fn count(used: &mut BTreeMap<(String, String), Used>, record: Record) {
    let used = used.entry((record.user.clone(), record.database.clone())).or_insert_with(|| Used {
        user: record.user,
        database: record.database,
        ..Used::default()
    });
    used.sessions += 1;
    used.statements += record.statements;
    used.executing_s += record.executing_ms / 1000.0;
    used.waiting_s += record.waiting_ms / 1000.0;
    used.received += record.received;
    used.sent += record.sent;
}

/// Reads a line, of which no more is kept than a record can have. False at the end.
fn read_line(lines: &mut impl BufRead, bytes: &mut Vec<u8>) -> io::Result<bool> {
    bytes.clear();
    let read = io::Read::take(&mut *lines, LONGEST).read_until(b'\n', bytes)?;
    if read as u64 == LONGEST && bytes.last() != Some(&b'\n') {
        lines.skip_until(b'\n')?;
    }
    Ok(read > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: &str, process: &str, session: u32, executing_ms: f64) -> String {
        format!(
            "{{\"type\":\"{kind}\",\"at\":\"now\",\"process\":\"{process}\",\"session\":{session},\"user\":\"app\",\
             \"database\":\"sales\",\"executing_ms\":{executing_ms},\"waiting_ms\":0.0,\"statements\":1,\"received\":2,\"sent\":3}}\n"
        )
    }

    #[test]
    fn a_session_counts_once_by_its_end_or_by_its_last_checkpoint() {
        let text = [
            "{\"type\":\"start\",\"process\":\"a\"}\n".to_owned(),
            line("checkpoint", "a", 1, 100.0),
            line("checkpoint", "a", 2, 70.0),
            line("end", "a", 1, 150.0),
            line("checkpoint", "a", 2, 80.0),
            // The same number of another process, and what a SIGKILL left.
            "{\"type\":\"start\",\"process\":\"b\"}\n".to_owned(),
            line("end", "b", 2, 1000.0),
            "{\"type\":\"en\n\n".to_owned(),
            "{\"type\":\"stop\",\"process\":\"b\",\"lost_records\":4}\n".to_owned(),
        ];
        let sum = sum(text.concat().as_bytes()).unwrap();
        let used = Used {
            user: "app".to_owned(),
            database: "sales".to_owned(),
            sessions: 3,
            statements: 3,
            executing_s: 1.23,
            waiting_s: 0.0,
            received: 6,
            sent: 9,
        };
        let expected = Sum { used: vec![used], without_end: 1, without_stop: 1, lost_records: 4, unreadable: 1 };
        assert_eq!(sum, expected);
    }

    #[test]
    fn a_line_without_end_is_no_record_and_what_follows_it_is() {
        let text = ["x".repeat(3 * LONGEST as usize), "\n".to_owned(), line("end", "a", 1, 5.0)].concat();
        let sum = sum(text.as_bytes()).unwrap();
        assert_eq!((sum.unreadable, sum.used[0].sessions), (1, 1));
    }
}
