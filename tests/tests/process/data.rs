//! What passes through arrives as it was sent.

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{SinkExt, TryStreamExt, pin_mut};
use process_tests::client::Client;
use process_tests::control_plane::ControlPlane;
use process_tests::postgres::postgres;
use process_tests::run;

/// Some ten megabytes, of lines that all differ.
const TEN_MEGABYTES: &str =
    "copy (select i, md5(i::text) || repeat('x', 70) from generate_series(1, 90000) i) to stdout";

async fn copied(client: &Client, copy: &str) -> Vec<u8> {
    let pieces: Vec<Bytes> = client.copy_out(copy).await.unwrap().try_collect().await.unwrap();
    pieces.concat()
}

#[test]
fn ten_megabytes_are_copied_out_and_in_as_without_it() {
    run(async {
        let plane = ControlPlane::start(&[]).await;
        let (direct, through) = (postgres().connect("direct").await, plane.connect("copy").await);
        let data = copied(&direct, TEN_MEGABYTES).await;
        assert!(data.len() > 9_000_000, "{}", data.len());
        assert!(copied(&through, TEN_MEGABYTES).await == data, "COPY TO gave other data");

        through.batch_execute("create table copied (i int, text text)").await.unwrap();
        let sink = through.copy_in("copy copied from stdin").await.unwrap();
        pin_mut!(sink);
        for piece in data.chunks(100_000) {
            sink.send(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        assert_eq!(sink.finish().await.unwrap(), 90_000);
        assert!(
            copied(&direct, "copy (select * from copied order by i) to stdout").await == data,
            "COPY FROM put other data"
        );
    });
}

#[test]
fn a_row_of_twenty_megabytes_arrives_whole() {
    run(async {
        let plane = ControlPlane::start(&[]).await;
        let client = plane.connect("large-row").await;
        let large = "0123456789".repeat(2_000_000);
        let row = client.query_one("select $1::text, length($1::text)", &[&large]).await.unwrap();
        assert!(row.get::<_, &str>(0) == large, "the row came back another");
        assert_eq!(row.get::<_, i32>(1), 20_000_000);
    });
}

#[test]
fn prepared_and_pipelined_statements_answer_as_without_it() {
    run(async {
        let plane = ControlPlane::start(&[]).await;
        let mut answers = Vec::new();
        for client in [postgres().connect("direct").await, plane.connect("pipelined").await] {
            let statement = client.prepare("select $1::int4 * 2, md5($1::text), null::int4").await.unwrap();
            let rows = join_all((0..200).map(|number| {
                let (client, statement) = (&client, &statement);
                async move {
                    let row = client.query_one(statement, &[&number]).await.unwrap();
                    (row.get::<_, i32>(0), row.get::<_, String>(1), row.get::<_, Option<i32>>(2))
                }
            }))
            .await;
            // An error in the middle of a pipeline is that request's alone.
            let (before, error, after) = futures_util::future::join3(
                client.query_one("select 1", &[]),
                client.query_one("select 1 / 0", &[]),
                client.query_one("select 2", &[]),
            )
            .await;
            assert_eq!((before.unwrap().get::<_, i32>(0), after.unwrap().get::<_, i32>(0)), (1, 2));
            answers.push((rows, error.unwrap_err().code().cloned()));
        }
        assert_eq!(answers[0], answers[1]);
    });
}

#[test]
fn a_portal_is_suspended_and_resumed_as_without_it() {
    run(async {
        let plane = ControlPlane::start(&[]).await;
        let mut client = plane.connect("portal").await;
        let transaction = client.transaction().await.unwrap();
        let portal = transaction.bind("select generate_series(1, 10)", &[]).await.unwrap();
        let mut seen = Vec::new();
        loop {
            let rows = transaction.query_portal(&portal, 4).await.unwrap();
            if rows.is_empty() {
                break;
            }
            seen.extend(rows.iter().map(|row| row.get::<_, i32>(0)));
        }
        assert_eq!(seen, (1..=10).collect::<Vec<_>>());
        transaction.commit().await.unwrap();
    });
}
