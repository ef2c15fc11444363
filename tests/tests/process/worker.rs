//! No worker, no session; but an answer.

use std::time::Instant;

use process_tests::client::Client;
use process_tests::control_plane::ControlPlane;
use process_tests::postgres::free_port;
use process_tests::psql::psql;
use process_tests::{SLACK, run};

use super::millis;

#[test]
fn an_unreachable_worker_is_told_by_name_when_the_wait_for_it_is_over() {
    run(async {
        let worker = format!("127.0.0.1:{}", free_port().unwrap());
        let plane = ControlPlane::start_in_front_of(&worker, &["--worker-queue-timeout", "1s"]).await;

        let started = Instant::now();
        let error = Client::try_connect(plane.port, "nowhere").await.unwrap_err();
        let waited = started.elapsed();
        let fatal = error.as_db_error().expect("an answer, not a closed connection");
        assert_eq!((fatal.severity(), fatal.code().code()), ("FATAL", "08006"));
        let words = format!("{} {}", fatal.message(), fatal.detail().unwrap_or_default());
        assert!(words.contains(&worker), "{words}");
        assert!(waited >= millis(1000) && waited < millis(1000) + SLACK, "{waited:?}");

        let finished = psql(plane.port, "nowhere", &["select 1"]).finished().await;
        assert!(finished.err.contains(&worker), "{finished:?}");
    });
}
