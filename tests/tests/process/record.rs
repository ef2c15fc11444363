//! One end record for each session that began.

use std::collections::{BTreeMap, BTreeSet};

use process_tests::client::Client;
use process_tests::control_plane::ControlPlane;
use process_tests::postgres::BY_MD5;
use process_tests::psql::psql;
use process_tests::run;

use super::{assert_exit, millis};

#[test]
fn every_session_that_began_has_exactly_one_end_record() {
    run(async {
        let mut plane = ControlPlane::start(&["--lame-duck", "200ms", "--idle-grace", "600ms"]).await;
        for _ in 0..3 {
            assert_eq!(psql(plane.port, "finished", &["select 1"]).finished().await.code, Some(0));
        }
        // No session: its login fails.
        let wrong = Client::try_connect_with(plane.port, "no-session", |config| {
            config.user(BY_MD5.0).password("wrong");
        });
        assert!(wrong.await.is_err());
        let mut held = Vec::new();
        for _ in 0..4 {
            let client = plane.connect("held").await;
            client.simple_query("select 1").await.unwrap();
            client.simple_query("select 2").await.unwrap();
            held.push(client);
        }
        plane.drain().await;
        for client in &mut held {
            client.fatal().await;
        }
        assert_exit(plane.exit().await, 0, millis(600));

        let records = plane.records();
        let sessions: BTreeSet<_> = records.iter().map(|record| record["session"].as_u64().unwrap()).collect();
        assert_eq!((records.len(), sessions.len()), (7, 7), "{records:?}");
        let mut reasons = BTreeMap::new();
        for record in &records {
            let [application, reason] = ["application", "reason"].map(|field| record[field].as_str().unwrap());
            *reasons.entry((application, reason)).or_insert(0) += 1;
        }
        assert_eq!(reasons, BTreeMap::from([(("finished", "terminate"), 3), (("held", "boundary"), 4)]));
        for record in records.iter().filter(|record| record["application"] == "held") {
            assert_eq!((&record["user"], &record["statements"]), (&"postgres".into(), &2.into()), "{record}");
        }
    });
}
