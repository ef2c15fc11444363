//! A session whose task panics: a fault of the program's, which costs that session and nothing else.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this test runs on the real machine")]
#![allow(clippy::unwrap_used, reason = "this is a test")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cp::accept::{Service, serve};
use cp::records::{Change, EndRecord, Meter};
use lastcall_core::{Activity, EndReason, Settings};
use lastcall_world::handover::Alone;
use lastcall_world::{Tcp, TokioWorld};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Panics when a statement begins.
#[derive(Clone, Default)]
struct Faulty(Arc<Mutex<Vec<EndRecord>>>);

impl Meter for Faulty {
    fn session_ended(&self, record: &EndRecord) {
        self.0.lock().unwrap().push(record.clone());
    }

    fn activity_changed(&self, change: &Change) {
        assert_ne!(change.activity, Activity::Executing, "this meter has a fault");
    }

    async fn flush(&self) {}
}

#[test]
fn a_session_whose_task_panics_has_its_record_all_the_same() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let worker = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let service = Service {
            listen: free.to_string(),
            workers: vec![worker.local_addr().unwrap().to_string()],
            admin: None,
            token: None,
            tls: Default::default(),
            settings: Settings::default(),
            reload: None,
        };
        let meter = Faulty::default();
        tokio::spawn(serve(TokioWorld::new(Tcp::default()).unwrap(), service, meter.clone(), Alone));

        let mut client = loop {
            match TcpStream::connect(free).await {
                Ok(client) => break client,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        client.write_all(b"\0\0\0\x12\0\x03\0\0user\0app\0\0").await.unwrap();
        let (mut session, _) = worker.accept().await.unwrap();
        session.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").await.unwrap();
        client.read_exact(&mut [0; 15]).await.unwrap();
        client.write_all(b"Q\0\0\0\x0dselect 1\0").await.unwrap();
        let _ = client.read_to_end(&mut Vec::new()).await;
        let ended = tokio::time::timeout(Duration::from_secs(10), async {
            while meter.0.lock().unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        assert!(ended.await.is_ok(), "there is no record");
        let reasons: Vec<EndReason> = meter.0.lock().unwrap().iter().map(|record| record.reason).collect();
        assert_eq!(reasons, [EndReason::Panicked]);
    });
    runtime.shutdown_background();
}
