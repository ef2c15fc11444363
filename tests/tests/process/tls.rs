//! TLS, towards clients and towards the worker: who is let in, who is believed, and the goodbye under it.

use std::process::Command;
use std::sync::Arc;

use process_tests::certificates::{Authority, Pair};
use process_tests::control_plane::{ControlPlane, Signal};
use process_tests::postgres::{BY_SCRAM, SUPERUSER, postgres};
use process_tests::psql::{Finished, Program, psql_as};
use process_tests::{SLACK, eventually, run, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::{assert_exit, millis};

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const STARTUP: &[u8] = b"\0\0\0\x29\0\x03\0\0user\0postgres\0database\0postgres\0\0";

/// In front of the tests' PostgreSQL, with a certificate for `localhost`.
async fn encrypted(authority: &Authority, flags: &[&str]) -> ControlPlane {
    let Pair { cert, key } = authority.signs("front", &["localhost"]);
    let flags = [&["--tls-cert", &cert, "--tls-key", &key], flags].concat();
    ControlPlane::start(&flags).await
}

/// `psql` that trusts `authority` and nobody else.
fn verifying(port: u16, user: &str, password: &str, authority: &Authority) -> Command {
    let mut command = psql_as(port, "encrypted", user, password);
    command.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", authority.file());
    command.env("PGHOSTADDR", "127.0.0.1").args(["-h", "localhost"]);
    command
}

/// Whether its log has said so.
fn says(plane: &ControlPlane, text: &str) -> impl AsyncFnMut() -> Option<()> {
    async move || plane.text().contains(text).then_some(())
}

async fn asks(mut command: Command, sql: &str) -> Finished {
    command.args(["-c", sql]);
    Program::start(command).finished().await
}

/// A client under TLS whose every byte the test sees.
struct Raw(TlsStream<TcpStream>);

impl Raw {
    async fn connect(port: u16, authority: &Authority, asks_first: bool, alpn: &[&[u8]]) -> std::io::Result<Raw> {
        let mut trusted = RootCertStore::empty();
        trusted.add(CertificateDer::from_pem_file(authority.file()).unwrap()).unwrap();
        let mut config = ClientConfig::builder().with_root_certificates(trusted).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        if asks_first {
            stream.write_all(&SSL_REQUEST).await?;
            assert_eq!(stream.read_u8().await?, b'S');
        }
        let name = ServerName::try_from("localhost").unwrap();
        Ok(Raw(TlsConnector::from(Arc::new(config)).connect(name, stream).await?))
    }

    async fn log_in(&mut self) {
        self.0.write_all(STARTUP).await.unwrap();
        while self.message().await.0 != b'Z' {}
    }

    async fn message(&mut self) -> (u8, Vec<u8>) {
        let kind = within(millis(20_000), "a message", self.0.read_u8()).await.unwrap();
        let mut body = vec![0; self.0.read_u32().await.unwrap() as usize - 4];
        self.0.read_exact(&mut body).await.unwrap();
        (kind, body)
    }

    /// Its end, which is an error where no close_notify came before it.
    async fn end(&mut self) -> std::io::Result<usize> {
        within(millis(20_000), "the end", self.0.read(&mut [0; 1])).await
    }
}

fn is_fatal((kind, body): &(u8, Vec<u8>), code: &str) -> bool {
    *kind == b'E' && String::from_utf8_lossy(body).contains(&format!("C{code}\0"))
}

#[test]
fn psql_verifies_the_certificate_in_full_and_is_refused_in_the_clear_where_tls_is_required() {
    run(async {
        let (authority, other) = (Authority::new(), Authority::new());
        let plane = encrypted(&authority, &["--tls-required", "true"]).await;
        let finished = asks(verifying(plane.port, SUPERUSER, "", &authority), "select 41 + 1").await;
        assert_eq!(finished.out, "42\n", "{finished:?}");

        let finished = asks(verifying(plane.port, SUPERUSER, "", &other), "select 1").await;
        assert!(finished.err.contains("certificate verify failed"), "{finished:?}");

        let mut clear = psql_as(plane.port, "clear", SUPERUSER, "");
        clear.env("PGSSLMODE", "disable");
        let finished = asks(clear, "select 1").await;
        assert!(finished.err.contains("this server accepts encrypted connections only"), "{finished:?}");
        assert!(finished.err.contains("sslmode=require"), "{finished:?}");
        eventually(millis(5000), "a line", says(&plane, "it is not encrypted, and tls_required is set")).await;
        // As PostgreSQL has it: what lets go is never kept out. libpq of this version asks in the clear.
        let mut running = verifying(plane.port, SUPERUSER, "", &authority);
        running.env("PGAPPNAME", "to cancel").args(["-c", "select pg_sleep(600)"]);
        let running = Program::start(running);
        postgres().wait_until_active("to cancel").await;
        running.interrupt();
        let finished = running.finished().await;
        assert!(finished.err.contains("canceling statement due to user request"), "{finished:?}");
    });
}

#[test]
fn the_goodbye_is_told_under_tls_behind_the_whole_answer_and_ends_with_a_close_notify() {
    run(async {
        let authority = Authority::new();
        let flags = ["--lame-duck", "200ms", "--idle-grace", "500ms", "--pacing", "none", "--close-linger", "15s"];
        let mut plane = encrypted(&authority, &flags).await;
        let mut idle = Raw::connect(plane.port, &authority, true, &[]).await.unwrap();
        idle.log_in().await;
        let mut reader = Raw::connect(plane.port, &authority, true, &[]).await.unwrap();
        reader.log_in().await;
        // Far more than all buffers take, and nobody reads it until long after the due time.
        let sql = b"select repeat('x', 400) from generate_series(1, 50000)\0";
        reader.0.write_all(&[b"Q", &(sql.len() as u32 + 4).to_be_bytes()[..], sql].concat()).await.unwrap();
        reader.0.flush().await.unwrap();
        reader.message().await;

        plane.drain().await;
        assert!(is_fatal(&idle.message().await, "57P01"));
        assert_eq!(idle.end().await.unwrap(), 0, "a close_notify");
        plane.until(millis(1500)).await;
        let mut rows = 0;
        loop {
            match reader.message().await {
                (b'D', _) => rows += 1,
                (b'C', _) => {}
                (b'Z', _) => break,
                other => panic!("{other:?} after {rows} rows"),
            }
        }
        assert_eq!(rows, 50_000);
        assert!(is_fatal(&reader.message().await, "57P01"));
        assert_eq!(reader.end().await.unwrap(), 0, "a close_notify");
        // Both are told, and have not closed: the process waits for them, not for its linger once they have.
        let read = plane.since_signal();
        drop((idle, reader));
        let exit = plane.exit().await;
        assert_exit(exit, 0, read + SLACK);
    });
}

#[test]
fn a_handshake_that_nobody_asked_for_must_name_the_protocol() {
    run(async {
        let authority = Authority::new();
        let plane = encrypted(&authority, &[]).await;
        let mut direct = Raw::connect(plane.port, &authority, false, &[b"postgresql"]).await.unwrap();
        direct.log_in().await;
        let mut unnamed = Raw::connect(plane.port, &authority, false, &[]).await.unwrap();
        let _ = unnamed.0.write_all(STARTUP).await;
        assert!(!matches!(unnamed.end().await, Ok(1..)), "it is let in");
        assert!(Raw::connect(plane.port, &authority, false, &[b"h2"]).await.is_err());
        eventually(millis(5000), "a line", says(&plane, "did not ask for the protocol postgresql")).await;
    });
}

#[test]
fn what_is_sent_in_the_clear_behind_the_request_is_never_taken_for_a_session() {
    run(async {
        let authority = Authority::new();
        let plane = encrypted(&authority, &[]).await;
        let mut stream = TcpStream::connect(("127.0.0.1", plane.port)).await.unwrap();
        stream.write_all(&[&SSL_REQUEST[..], STARTUP].concat()).await.unwrap();
        let mut heard = Vec::new();
        let _ = within(millis(20_000), "its end", stream.read_to_end(&mut heard)).await;
        // The answer to the request, and an alert at most.
        assert_eq!(heard.first(), Some(&b'S'));
        assert!(!heard.contains(&b'R') && heard.len() < 16, "{heard:?}");
        eventually(millis(5000), "a line", says(&plane, "the TLS handshake failed")).await;
        assert_eq!(plane.records(), [] as [serde_json::Value; 0]);
    });
}

#[test]
fn a_client_must_show_a_certificate_where_an_authority_for_clients_is_set() {
    run(async {
        let authority = Authority::new();
        let plane = encrypted(&authority, &["--tls-client-ca", &authority.file()]).await;
        let finished = asks(verifying(plane.port, SUPERUSER, "", &authority), "select 1").await;
        assert_ne!(finished.code, Some(0), "{finished:?}");
        for (signer, is_in) in [(&authority, true), (&Authority::new(), false)] {
            let Pair { cert, key } = signer.signs("client", &["somebody"]);
            let mut shows = verifying(plane.port, SUPERUSER, "", &authority);
            shows.env("PGSSLCERT", cert).env("PGSSLKEY", key);
            let finished = asks(shows, "select 41 + 1").await;
            assert_eq!(finished.out == "42\n", is_in, "{finished:?}");
        }
    });
}

#[test]
fn a_new_certificate_is_shown_from_sighup_on_a_broken_one_is_not_and_sessions_go_on() {
    run(async {
        let (old, new) = (Authority::new(), Authority::new());
        let mut plane = encrypted(&old, &[]).await;
        let mut session = Raw::connect(plane.port, &old, true, &[]).await.unwrap();
        session.log_in().await;

        let Pair { cert, key } = old.signs("front", &["localhost"]);
        std::fs::write(&key, "no key").unwrap();
        plane.signal(Signal::HUP);
        eventually(millis(5000), "a refusal", says(&plane, "certificates not reloaded")).await;
        assert_eq!(asks(verifying(plane.port, SUPERUSER, "", &old), "select 1").await.out, "1\n");

        let pair = new.signs("front", &["localhost"]);
        std::fs::copy(&pair.cert, &cert).unwrap();
        std::fs::copy(&pair.key, &key).unwrap();
        plane.signal(Signal::HUP);
        eventually(millis(5000), "new certificates", says(&plane, "certificates reloaded")).await;
        assert_eq!(asks(verifying(plane.port, SUPERUSER, "", &new), "select 1").await.out, "1\n");
        assert_ne!(asks(verifying(plane.port, SUPERUSER, "", &old), "select 1").await.code, Some(0));
        session.0.write_all(b"Q\0\0\0\x0dselect 1\0").await.unwrap();
        while session.message().await.0 != b'Z' {}
    });
}

#[test]
fn the_worker_is_reached_under_tls_and_only_if_it_is_who_it_must_be() {
    run(async {
        let worker = format!("localhost:{}", postgres().port);
        let theirs = postgres().authority.file();
        let encrypted = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
        for (mode, authority) in
            [("require", None), ("prefer", None), ("verify-ca", Some(&theirs)), ("verify-full", Some(&theirs))]
        {
            let mut flags = vec!["--worker-sslmode", mode];
            flags.extend(authority.iter().flat_map(|file| ["--worker-tls-ca", file]));
            let plane = ControlPlane::start_in_front_of(&worker, &flags).await;
            assert_eq!(plane.connect("asks").await.value(encrypted).await.unwrap(), "t", "{mode}");
            // The cancel request goes there under TLS as well.
            let client = plane.connect("cancelled").await;
            let token = client.cancel_token();
            let cancel = async {
                postgres().wait_until_active("cancelled").await;
                token.cancel_query(tokio_postgres::NoTls).await.unwrap();
            };
            let (answer, ()) = futures_util::future::join(client.value("select pg_sleep(600)"), cancel).await;
            assert_eq!(answer.unwrap_err().code().map(|code| code.code()), Some("57014"), "{mode}");
        }
        let by_address = format!("127.0.0.1:{}", postgres().port);
        let others = Authority::new();
        for (worker, mode, authority) in
            [(&worker, "verify-ca", others.file()), (&by_address, "verify-full", theirs.clone())]
        {
            let flags = ["--worker-sslmode", mode, "--worker-tls-ca", &authority, "--worker-queue-timeout", "300ms"];
            let plane = ControlPlane::start_in_front_of(worker, &flags).await;
            let error = process_tests::client::Client::try_connect(plane.port, "asks").await.unwrap_err();
            assert_eq!(error.code().map(|code| code.code()), Some("08006"), "{error:?}");
            assert!(plane.text().contains("its TLS is not as it must be"), "{}", plane.text());
        }
    });
}

#[test]
fn a_scram_login_passes_and_channel_binding_is_passed_on_or_refused_with_the_reason() {
    run(async {
        let (user, password) = BY_SCRAM;
        let worker = format!("localhost:{}", postgres().port);
        let (ours, theirs) = (Authority::new(), &postgres().authority);
        let log_in = async |plane: &ControlPlane, authority: &Authority, binding: &str| {
            let mut command = verifying(plane.port, user, password, authority);
            command.env("PGCHANNELBINDING", binding);
            asks(command, "select 41 + 1").await
        };
        // The worker in the clear can bind nothing, and says so.
        let plane = encrypted(&ours, &[]).await;
        assert_eq!(log_in(&plane, &ours, "prefer").await.out, "42\n");
        let finished = log_in(&plane, &ours, "require").await;
        assert!(finished.err.contains("channel binding"), "{finished:?}");

        // Both legs encrypted, two certificates.
        let Pair { cert, key } = ours.signs("front", &["localhost"]);
        let flags = ["--tls-cert", &cert, "--tls-key", &key, "--worker-sslmode", "require"];
        let plane = ControlPlane::start_in_front_of(&worker, &flags).await;
        assert_eq!(log_in(&plane, &ours, "disable").await.out, "42\n");
        let finished = log_in(&plane, &ours, "prefer").await;
        assert!(finished.err.contains("SCRAM channel binding cannot pass through this server"), "{finished:?}");
        assert!(finished.err.contains("channel_binding=disable"), "{finished:?}");
        // A client in the clear would not believe an offer to bind.
        let mut clear = psql_as(plane.port, "clear", user, password);
        clear.env("PGSSLMODE", "disable");
        assert_eq!(asks(clear, "select 41 + 1").await.out, "42\n");

        // One certificate.
        let Pair { cert, key } = &postgres().pair;
        let flags = ["--tls-cert", cert, "--tls-key", key, "--worker-sslmode", "require"];
        let plane = ControlPlane::start_in_front_of(&worker, &flags).await;
        for binding in ["require", "prefer"] {
            assert_eq!(log_in(&plane, theirs, binding).await.out, "42\n", "{binding}");
        }
    });
}

#[test]
fn settings_that_do_not_fit_are_refused_at_the_start_and_named() {
    run(async {
        let authority = Authority::new();
        let Pair { cert, key } = authority.signs("front", &["localhost"]);
        let other = authority.signs("other", &["localhost"]);
        for (flags, told) in [
            (vec!["--tls-cert", &cert], "tls_cert needs tls_key"),
            (vec!["--tls-required", "true"], "tls_required needs tls_cert"),
            (vec!["--worker-sslmode", "verify-full"], "worker_sslmode needs worker_tls_ca"),
            (vec!["--tls-cert", "/nowhere", "--tls-key", &key], "tls_cert: cannot read /nowhere"),
            (vec!["--tls-cert", &cert, "--tls-key", &other.key], "not with the key in tls_key"),
            (vec!["--tls-cert", &key, "--tls-key", &key], "there is no certificate in it"),
            (vec!["--worker-sslmode", "allow"], "one of disable, prefer"),
        ] {
            for subcommand in ["serve", "check"] {
                let mut command = process_tests::control_plane::command();
                command.args([subcommand, "--listen", "127.0.0.1:0", "--worker", "127.0.0.1:1"]).args(&flags);
                let output = command.output().unwrap();
                let err = String::from_utf8_lossy(&output.stderr);
                assert_eq!(output.status.code(), Some(2), "{flags:?}: {err}");
                assert!(err.contains(told), "{flags:?}: {err}");
            }
        }
    });
}
