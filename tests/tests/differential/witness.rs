//! The observer: it asks the server what the session does, and counts on what has come back where the server doesn't say.

use process_tests::client::Client;

use crate::conversation::Conversation;

/// One session, as the server sees it.
pub(crate) struct Witness<'a> {
    observer: &'a Client,
    process_id: i32,
}

impl<'a> Witness<'a> {
    /// Of the session with this process id.
    pub(crate) const fn of(observer: &'a Client, process_id: u32) -> Self {
        Witness { observer, process_id: process_id.cast_signed() }
    }

    /// What it does; none if it is gone.
    ///
    /// PostgreSQL is `active` from the first message of a batch to the ReadyForQuery; if it reads from its client meanwhile it
    /// wants data, or the rest of the batch.
    pub(crate) async fn look(&self, conversation: &Conversation) -> Option<Truth> {
        let sql = "select state, wait_event from pg_stat_activity where pid = $1";
        let row = self.observer.query_opt(sql, &[&self.process_id]).await.unwrap()?;
        let (state, waits): (Option<&str>, Option<&str>) = (row.get(0), row.get(1));
        let reads = waits == Some("ClientRead");
        let activity = match state? {
            "idle" => "idle",
            "idle in transaction" | "idle in transaction (aborted)" => "idle_in_transaction",
            _ if conversation.is_copying() => "copy_in",
            _ if reads => "open_batch",
            _ => "executing",
        };
        Some(Truth { activity, reads })
    }

    /// Whether no byte waits in a socket, between the client and the control plane or between that and the server.
    pub(crate) async fn everything_is_taken(&self, conversation: &Conversation) -> bool {
        let sql = "select client_port from pg_stat_activity where pid = $1";
        let row = self.observer.query_opt(sql, &[&self.process_id]).await.unwrap();
        let behind = row.and_then(|row| row.get::<_, Option<i32>>(0)).map(|port| format!("{port:04X}"));
        let before = format!("{:04X}", conversation.client_port());
        let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
        // sl local_address rem_address st tx_queue:rx_queue …
        let waiting = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let port = |address: &str| address.rsplit(':').next().map(str::to_owned);
            let ports = [port(fields[1]), port(fields[2])];
            let ours = ports.contains(&Some(before.clone())) || behind.is_some() && ports.contains(&behind);
            ours && fields[4] != "00000000:00000000"
        };
        !sockets.lines().skip(1).any(waiting)
    }
}

/// What a session does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Truth {
    /// By the contract's name.
    pub(crate) activity: &'static str,
    /// Whether the server waits for bytes of its client.
    pub(crate) reads: bool,
}
