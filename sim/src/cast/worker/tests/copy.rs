//! COPY, message by message.

use pgwire::messages::copy::{CopyData, CopyDone, CopyFail};

use super::*;

const COPY_IN: &str = "/* t.1/1 */ COPY work FROM STDIN";
const COPY_OUT: &str = "/* t.1/1 */ COPY work('1ms', rows => 2, row_bytes => 4) TO STDOUT";

fn data(bytes: &'static [u8]) -> CopyData {
    CopyData::new(bytes::Bytes::from_static(bytes))
}

/// Messages with what CommandComplete and errors say.
fn told(frames: &[Frame]) -> String {
    let told = frames.iter().map(|frame| match frame.kind {
        b'C' => String::from_utf8_lossy(&frame.body).trim_end_matches('\0').to_owned(),
        b'E' => {
            let fields = frame.body.split(|byte| *byte == 0);
            let field = |key: u8| fields.clone().find(|field| field.first() == Some(&key)).unwrap();
            format!("{} {}", String::from_utf8_lossy(&field(b'C')[1..]), String::from_utf8_lossy(&field(b'M')[1..]))
        }
        kind => char::from(kind).to_string(),
    });
    told.collect::<Vec<_>>().join(", ")
}

#[test]
fn rows_are_lines_wherever_messages_begin_and_end() {
    with_worker(|world, recorder| async move {
        let mut probe = Probe::connect(&world).await;
        probe.send(&[&query(COPY_IN)]).await;
        assert_eq!(probe.kinds().await, "G");
        probe.send(&[&data(b"a\nb"), &data(b"\n"), &data(b""), &data(b"c\n"), &CopyDone::new()]).await;
        assert_eq!(told(&probe.frames().await), "COPY 3, Z");
        let three = |event: &Event| matches!(event, Event::Committed { inserts, .. } if inserts[0].rows == 3);
        assert!(recorder.any(three));
    });
}

#[test]
fn flush_and_sync_are_ignored_inside_a_copy_and_copy_messages_outside() {
    with_worker(|world, _| async move {
        let mut probe = Probe::connect(&world).await;
        probe.send(&[&CopyDone::new(), &query(COPY_IN), &Flush::new(), &Sync::new(), &data(b"a\n")]).await;
        assert_eq!(probe.kinds().await, "G");
        probe.send(&[&CopyDone::new(), &CopyFail::new("late".to_owned()), &query(SELECT)]).await;
        assert_eq!(probe.kinds().await, "CZTDDCZ");
    });
}

#[test]
fn a_copy_is_given_up_or_broken_by_another_message_and_the_session_goes_on() {
    with_worker(|world, recorder| async move {
        let mut probe = Probe::connect(&world).await;
        probe.send(&[&query(COPY_IN), &data(b"a\n"), &CopyFail::new("no".to_owned()), &data(b"b\n")]).await;
        assert_eq!(told(&probe.frames().await), "G, 57014 COPY from stdin failed: no, Z");
        probe.send(&[&query(COPY_IN), &data(b"a\n"), &query(SELECT), &query(SELECT)]).await;
        let broken = "G, 08P01 unexpected message type 0x51 during COPY from stdin, Z, T, D, D, SELECT 2, Z";
        assert_eq!(told(&probe.frames().await), broken);
        assert!(!recorder.any(|event| matches!(event, Event::Committed { .. })));
    });
}

#[test]
fn a_copy_of_the_extended_protocol_is_committed_at_its_sync() {
    with_worker(|world, recorder| async move {
        let mut probe = Probe::connect(&world).await;
        probe.send(&[&parse(COPY_IN), &bind(), &execute(0)]).await;
        assert_eq!(probe.kinds().await, "12G");
        probe.send(&[&data(b"a\n"), &CopyDone::new(), &Flush::new()]).await;
        assert_eq!(probe.kinds().await, "C");
        let committed = |event: &Event| matches!(event, Event::Committed { .. });
        assert!(!recorder.any(committed));
        probe.send(&[&Sync::new()]).await;
        assert_eq!(probe.kinds().await, "Z");
        assert!(recorder.any(committed));
    });
}

#[test]
fn a_copy_whose_connection_is_closed_is_aborted_and_undone() {
    with_worker(|world, recorder| async move {
        let mut probe = Probe::connect(&world).await;
        probe.send(&[&query(COPY_IN), &data(b"a\n")]).await;
        assert_eq!(probe.kinds().await, "G");
        drop(probe);
        world.at(Duration::from_secs(10)).await;
        assert!(recorder.any(|event| matches!(event, Event::StatementEnded { end: StatementEnd::Aborted, .. })));
        assert!(recorder.any(|event| matches!(event, Event::WorkerSessionEnded { .. })));
        assert!(!recorder.any(|event| matches!(event, Event::Committed { .. })));
    });
}

#[test]
fn a_goodbye_inside_a_copy_aborts_it_and_is_no_byte_of_it() {
    with_worker(|world, recorder| async move {
        let mut probe = Probe::connect(&world).await;
        probe.send(&[&query(COPY_IN), &data(b"a\n")]).await;
        assert_eq!(probe.kinds().await, "G");
        let length = recorder.history().entries.len();
        probe.send(&[&pgwire::messages::terminate::Terminate::new()]).await;
        assert_eq!(probe.kinds().await, ".");
        let entries = recorder.history().entries;
        let [ended, rest @ ..] = &entries[length..] else { panic!("nothing happened") };
        assert!(matches!(ended.event, Event::StatementEnded { end: StatementEnd::Aborted, .. }), "{ended:?}");
        assert!(matches!(rest, [over] if matches!(over.event, Event::WorkerSessionEnded { .. })), "{rest:?}");
    });
}

#[test]
fn a_copy_out_is_its_rows_and_an_end() {
    with_worker(|world, _| async move {
        let mut probe = Probe::connect(&world).await;
        probe.send(&[&query(COPY_OUT)]).await;
        let frames = probe.frames().await;
        assert_eq!(told(&frames), "H, d, d, c, COPY 2, Z");
        assert_eq!(frames[1].body, b"xxx\n"[..]);
    });
}

#[test]
fn garbage_inside_a_copy_ends_the_session_with_a_word() {
    with_worker(|world, _| async move {
        let mut probe = Probe::connect(&world).await;
        probe.send(&[&query(COPY_IN)]).await;
        probe.stream.write_all(b"d\0\0\0\x01").await.unwrap();
        assert_eq!(probe.kinds().await, "GEZE.");
    });
}

#[test]
fn the_library_copies_in_both_directions() {
    with_worker(|world, _| async move {
        let client = library(&world).await;
        let rows: Vec<bytes::Bytes> = client.copy_out(COPY_OUT).await.unwrap().try_collect().await.unwrap();
        assert_eq!(rows, ["xxx\n", "xxx\n"]);
        let mut sink = std::pin::pin!(client.copy_in(COPY_IN).await.unwrap());
        futures_util::SinkExt::send(&mut sink, bytes::Bytes::from_static(b"a\nb\n")).await.unwrap();
        assert_eq!(sink.finish().await.unwrap(), 2);
    });
}
