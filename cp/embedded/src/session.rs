//! A session: a thread with its own SQLite connection, and the end that its client's connection holds of it.

use std::path::PathBuf;
use std::sync::Arc;

use pgwire::api::Type;
use pgwire::messages::response::TransactionStatus;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::database;
use crate::failure::Failure;
use crate::functions::{self, Identity};
use crate::interrupt::{self, Interrupt};
use crate::outbox::{End, Outbox, Output};
use crate::worker::{Execution, Prepared, Worker};

/// How many jobs wait for the thread. A client's next one comes when it has heard of the last; portals are dropped unasked.
const JOBS: usize = 4;

/// What the thread is told to do. `status` is where the transaction is; whoever has the job has it.
pub(crate) enum Job {
    Query {
        sql: String,
        status: TransactionStatus,
        sender: mpsc::Sender<Output>,
    },
    Parse {
        sql: String,
        types: Vec<Option<Type>>,
        status: TransactionStatus,
        reply: oneshot::Sender<Parsed>,
    },
    Execute {
        execution: Execution,
        status: TransactionStatus,
        sender: mpsc::Sender<Output>,
    },
    /// Forget a portal that may be suspended.
    DropPortal(String),
    DropPortals,
}

/// `None` for a query string without a statement.
pub(crate) type Parsed = Result<Option<Prepared>, Failure>;

/// The client's end. Dropping it stops what runs, rolls back and ends the thread.
#[derive(Debug)]
pub(crate) struct Session {
    jobs: mpsc::Sender<Job>,
    interrupt: Arc<Interrupt>,
}

impl Session {
    /// Starts the thread, which holds `permit` as long as it lives.
    pub(crate) async fn start(
        file: PathBuf,
        identity: Identity,
        interrupt: Arc<Interrupt>,
        permit: OwnedSemaphorePermit,
    ) -> Result<Session, Failure> {
        let (jobs, queue) = mpsc::channel(JOBS);
        let (ready, started) = oneshot::channel();
        let session = Session { jobs, interrupt: interrupt.clone() };
        let thread = std::thread::Builder::new().name(format!("session {}", identity.pid));
        let spawned = thread.spawn(move || {
            let _permit = permit;
            run(file, identity, &interrupt, ready, queue);
        });
        spawned.map_err(|error| Failure::fatal("53000", format!("no thread for a session: {error}")))?;
        started.await.map_err(|_| Failure::ended())??;
        Ok(session)
    }

    pub(crate) async fn send(&self, job: Job) -> Result<(), Failure> {
        self.jobs.send(job).await.map_err(|_| Failure::ended())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.interrupt.end();
    }
}

/// The thread.
fn run(
    file: PathBuf,
    identity: Identity,
    interrupt: &Arc<Interrupt>,
    ready: oneshot::Sender<Result<(), Failure>>,
    mut queue: mpsc::Receiver<Job>,
) {
    interrupt::adopt(interrupt);
    let identity = Arc::new(identity);
    let opened = database::open(&file).and_then(|connection| {
        functions::register(&connection, &identity)?;
        Ok(connection)
    });
    let connection = match opened {
        Ok(connection) => connection,
        Err(error) => {
            let failure = Failure::from(error);
            let _ = ready.send(Err(Failure::fatal(failure.code, failure.message)));
            return;
        }
    };
    let mut worker = Worker::new(&connection, interrupt, &identity);
    let _ = ready.send(Ok(()));
    while let Some(job) = queue.blocking_recv() {
        interrupt.begin();
        work(&mut worker, job);
        interrupt.finish();
    }
    // What is open is rolled back with the connection.
}

fn work(worker: &mut Worker<'_>, job: Job) {
    match job {
        Job::Query { sql, mut status, sender } => {
            let mut outbox = Outbox::new(sender);
            let mut begin = 0;
            let result = worker.query(&sql, &mut begin, &mut status, &mut outbox);
            outbox.end(End { status, result: result.map_err(|failure| Box::new(failure.info(&sql, begin))) });
        }
        Job::Execute { execution, mut status, sender } => {
            let mut outbox = Outbox::new(sender);
            let result = worker.execute(&execution, &mut status, &mut outbox);
            outbox.end(End { status, result: result.map_err(|failure| Box::new(failure.info("", 0))) });
        }
        Job::Parse { sql, types, status, reply } => {
            let _ = reply.send(worker.parse(&sql, &types, status));
        }
        Job::DropPortal(name) => worker.drop_portal(&name),
        Job::DropPortals => worker.drop_portals(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::Semaphore;

    use super::*;
    use crate::database::Database;
    use crate::outbox::BATCHES;

    #[tokio::test]
    async fn a_session_that_is_dropped_ends_whatever_it_runs() {
        let database = Database::create().unwrap();
        let threads = Arc::new(Semaphore::new(1));
        let permit = threads.clone().acquire_owned().await.unwrap();
        let identity = Identity::new(1, "db".to_owned(), String::new());
        let file = database.file().to_owned();
        let session = Session::start(file, identity, Arc::default(), permit).await.unwrap();
        let (sender, _outputs) = mpsc::channel(BATCHES);
        let sql = "select pg_sleep(3600)".to_owned();
        session.send(Job::Query { sql, status: TransactionStatus::Idle, sender }).await.unwrap();
        drop(session);
        drop(tokio::time::timeout(Duration::from_secs(60), threads.acquire()).await.unwrap().unwrap());
    }
}
