//! Limits and clocks of the steady state, without any drain.

use process_tests::client::Client;
use process_tests::control_plane::{ControlPlane, Signal};
use process_tests::postgres::BY_MD5;
use process_tests::raw::Raw;
use process_tests::{eventually, run, within};

use super::{millis, told};

#[test]
fn a_client_that_is_idle_for_too_long_is_told_so_and_one_in_a_transaction_is_not() {
    run(async {
        let mut plane = ControlPlane::start(&["--idle-timeout", "1s"]).await;
        let mut idle = plane.connect("idle").await;
        let paused = plane.connect("paused").await;
        paused.batch_execute("begin").await.unwrap();
        let fatal = idle.fatal().await;
        assert_eq!(told(&fatal), ("57P05", "terminating connection due to idle-session timeout"));
        tokio::time::sleep(millis(1200)).await;
        paused.batch_execute("commit").await.expect("its pause was no idleness");
        assert!(plane.is_running());
        let records = plane.records();
        assert_eq!((records.len(), &records[0]["reason"]), (1, &"idle_timeout".into()), "{records:?}");
    });
}

#[test]
fn one_session_too_many_is_told_so_and_the_next_one_has_the_place_of_the_first_that_leaves() {
    run(async {
        let plane = ControlPlane::start(&["--max-connections", "2"]).await;
        let (first, second) = (plane.connect("first").await, plane.connect("second").await);
        let error = Client::try_connect(plane.port, "third").await.unwrap_err();
        let error = error.as_db_error().expect("an answer, not a closed connection");
        assert_eq!((error.severity(), told(error)), ("FATAL", ("53300", "sorry, too many clients already")));
        // Cancel requests do not count, and those that are here have lost nothing.
        first.cancel_token().cancel_query(tokio_postgres::NoTls).await.unwrap();
        assert_eq!(second.value("select 'the row'").await.unwrap(), "the row");
        drop(first);
        let third = async || Client::try_connect(plane.port, "third").await.ok();
        eventually(millis(10_000), "the place of the first", third).await;
    });
}

#[test]
fn a_handshake_that_is_not_finished_in_time_is_closed_and_told_so_once_there_is_somebody_to_tell() {
    run(async {
        let mut plane = ControlPlane::start(&["--session-init-timeout", "1s"]).await;
        let mut silent = Raw::connect(plane.port).await;
        let mut without_password = Raw::connect(plane.port).await;
        without_password.start_up(BY_MD5.0, "without-password").await;
        assert_eq!(without_password.messages.next().await.unwrap().expect("AuthenticationMD5Password").tag, b'R');

        let limit = millis(10_000);
        let rest = within(limit, "the end of a silent connection", silent.messages.rest()).await.unwrap();
        assert_eq!(rest, [], "before its startup packet there is nobody to tell");
        let told = within(limit, "the end of a login", without_password.messages.rest()).await.unwrap();
        let codes: Vec<_> = told.iter().filter_map(|message| Some(message.error()?[&'C'].clone())).collect();
        assert_eq!((told.len(), codes), (1, vec!["57014".to_owned()]), "{told:?}");
        assert_eq!(plane.records().len(), 0, "no session began");
        plane.signal(Signal::QUIT);
        assert_eq!(plane.exit().await.code, Some(131));
    });
}
