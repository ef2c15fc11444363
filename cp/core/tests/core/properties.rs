//! What holds for any conversation, however its bytes are split.

use lastcall_core::drain::Pace;
use lastcall_core::session::Session;
use lastcall_core::tracker::{Gate, Tracker};
use lastcall_core::{Activity, Drain, Settings, Time};
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::Arc;

use crate::conversation::{Model, Request, Statement};
use crate::talk::{WELCOME, connected, fresh, messages, seen};

/// One step of a conversation.
#[derive(Clone, Debug)]
enum Step {
    /// The client sends this, if it may; its bytes come in two pieces.
    Send(Request, usize),
    /// So many answers arrive, each in two pieces.
    Deliver(usize, usize),
    /// The worker says something unasked.
    SpeakUp,
    /// `cp` asks for the answers in the worker's buffer.
    Flush,
}

fn statement() -> impl Strategy<Value = Statement> {
    prop_oneof![
        3 => Just(Statement::Select),
        1 => Just(Statement::Suspended),
        1 => Just(Statement::Empty),
        2 => Just(Statement::Begin),
        2 => Just(Statement::Commit),
        2 => Just(Statement::Error),
        1 => Just(Statement::CopyOut),
        4 => prop::bool::weighted(0.3).prop_map(|bad_data| Statement::CopyIn { bad_data }),
        2 => Just(Statement::CopyIntoView),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    let fails = || prop::bool::weighted(0.15);
    prop_oneof![
        4 => vec(statement(), 1..4).prop_map(Request::Query),
        1 => fails().prop_map(|fails| Request::Call { fails }),
        6 => (prop::sample::select(vec!['P', 'B', 'D', 'C']), fails()).prop_map(|(kind, fails)| Request::Step { kind, fails }),
        6 => statement().prop_map(Request::Execute),
        1 => Just(Request::Replicate),
        2 => Just(Request::Flush),
        5 => Just(Request::Sync),
        3 => Just(Request::CopyData),
        4 => Just(Request::CopyDone),
        1 => Just(Request::CopyFail),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (request(), 0..9_usize).prop_map(|(request, split)| Step::Send(request, split)),
        6 => (1..6_usize, 0..9_usize).prop_map(|(count, split)| Step::Deliver(count, split)),
        1 => Just(Step::SpeakUp),
        1 => Just(Step::Flush),
    ]
}

/// Forwards as a relay does: what is held for want of a Flush goes behind one. Returns how much was forwarded.
fn forward(tracker: &mut Tracker, bytes: &[u8], gate: Gate, flush: impl FnOnce()) -> usize {
    let mut forwarded = tracker.forward(bytes, gate).expect("the model speaks the protocol");
    if forwarded < bytes.len() && tracker.needs_flush() {
        tracker.flush_sent();
        flush();
        forwarded += tracker.forward(&bytes[forwarded..], gate).expect("the model speaks the protocol");
    }
    forwarded
}

fn observe(tracker: &mut Tracker, bytes: &[u8]) {
    assert_eq!(tracker.observe(bytes), Ok(bytes.len()));
}

/// The tracker and the model tell the same, in between messages.
fn agree(tracker: &Tracker, model: &Model) -> Result<(), TestCaseError> {
    if model.is_in_doubt() {
        prop_assert_eq!((tracker.status(), tracker.answered()), (model.status(), model.answered_requests()));
        return Ok(());
    }
    let told = (model.activity(), model.outstanding(), model.status(), model.answered_requests());
    prop_assert_eq!(seen(tracker), told);
    if model.is_silent() && tracker.activity() == Activity::Executing {
        prop_assert!(tracker.needs_flush(), "it waits for a worker that waits for its client");
    }
    Ok(())
}

/// Plays one step on both. What is held counts as not sent.
fn play(step: &Step, tracker: &mut Tracker, model: &mut Model, gate: Gate) -> Result<(), TestCaseError> {
    match step {
        Step::Send(request, _) if !model.allows(request) => {}
        Step::Send(..) if gate == Gate::Due && model.is_in_doubt() => {}
        Step::Send(request, split) => {
            let bytes = request.bytes();
            let (first, second) = bytes.split_at(*split.min(&bytes.len()));
            let before = (tracker.activity(), tracker.outstanding());
            let passes = gate == Gate::Open || model.passes_when_due();
            if !passes {
                let forwarded = forward(tracker, &bytes, gate, || model.send(&Request::Flush));
                prop_assert_eq!(forwarded, 0, "{:?} passed", request);
                return Ok(());
            }
            let forwarded = forward(tracker, first, gate, || model.send(&Request::Flush));
            prop_assert_eq!(forwarded, first.len(), "{:?} was held", request);
            if !second.is_empty() {
                prop_assert_eq!((tracker.activity(), tracker.outstanding()), before, "half of {:?}", request);
            }
            let forwarded = forward(tracker, second, gate, || model.send(&Request::Flush));
            prop_assert_eq!(forwarded, second.len());
            model.send(request);
        }
        Step::Deliver(count, split) => {
            for _ in 0..*count {
                let (unasked, doubt) = (model.is_unasked(), model.is_in_doubt());
                let Some(bytes) = model.deliver() else { break };
                let split = *split.min(&bytes.len());
                let (first, second) = bytes.split_at(split);
                observe(tracker, first);
                if !first.is_empty() && !second.is_empty() && !doubt {
                    let activity = if unasked { model.activity() } else { Activity::Executing };
                    prop_assert_eq!((tracker.activity(), tracker.may_speak()), (activity, false));
                    prop_assert_eq!(tracker.is_unasked(), unasked);
                }
                observe(tracker, second);
                agree(tracker, model)?;
            }
        }
        Step::SpeakUp => model.speak_up(),
        Step::Flush => {
            if tracker.needs_flush() {
                tracker.flush_sent();
                model.send(&Request::Flush);
            }
        }
    }
    agree(tracker, model)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// At every step of every conversation the tracker tells what the model counts, and when all answers are there, what
    /// the worker really does.
    #[test]
    fn the_tracker_tells_what_the_worker_does(
        steps in vec(step(), 1..60),
        due_from in 0..120_usize,
        last in prop::option::of(request()),
    ) {
        let (mut tracker, mut model) = (connected(), Model::default());
        for (at, step) in steps.iter().enumerate() {
            let gate = if at < due_from { Gate::Open } else { Gate::Due };
            play(step, &mut tracker, &mut model, gate)?;
            if let Some(truth) = model.truth() {
                prop_assert_eq!(tracker.activity(), truth, "after {:?}", step);
            }
        }
        // The client falls silent, perhaps in the middle of a message. When all answers are there, and a Flush has brought the rest, nothing executes.
        if let Some(last) = last.filter(|last| model.allows(last)) {
            forward(&mut tracker, &last.bytes()[..2], Gate::Open, || model.send(&Request::Flush));
        }
        for step in [Step::Deliver(usize::MAX, 0), Step::Flush, Step::Deliver(usize::MAX, 0)] {
            play(&step, &mut tracker, &mut model, Gate::Open)?;
        }
        prop_assert_ne!(tracker.activity(), Activity::Executing);
        prop_assert!(!tracker.needs_flush());
    }

    /// Pieces of any size give what whole messages give, wherever a piece ends with a message, in both directions.
    #[test]
    fn a_conversation_can_be_split_anywhere(
        steps in vec(step(), 1..40),
        sizes in vec(1..30_usize, 1..40),
    ) {
        let said = conversation(&steps);
        let (mut whole, mut pieces) = (fresh(), fresh());
        let mut sizes = sizes.iter().cycle();
        for (by_client, run) in said {
            // The whole: message by message.
            let mut boundaries = vec![(0, seen(&whole))];
            let mut passed = Vec::new();
            for message in run.iter().cloned() {
                if by_client {
                    prop_assert_eq!(forward(&mut whole, &message, Gate::Open, || {}), message.len());
                } else {
                    observe(&mut whole, &message);
                }
                passed.extend(message);
                boundaries.push((passed.len(), seen(&whole)));
            }
            // The pieces: whatever sizes come.
            let bytes = run.concat();
            let mut at = 0;
            while at < bytes.len() {
                let size = *sizes.next().expect("a cycle does not end");
                let end = bytes.len().min(at + size);
                let piece = &bytes[at..end];
                if by_client {
                    prop_assert_eq!(forward(&mut pieces, piece, Gate::Open, || {}), piece.len());
                } else {
                    observe(&mut pieces, piece);
                }
                at = end;
                if let Some((_, told)) = boundaries.iter().find(|(boundary, _)| *boundary == at) {
                    prop_assert_eq!(&seen(&pieces), told);
                }
            }
            prop_assert_eq!(bytes, passed, "the bytes that go on");
        }
        prop_assert_eq!(pieces.worker_key(), whole.worker_key());
    }

    /// Nobody can bring the tracker or the session down, and after nonsense all questions still have an answer.
    #[test]
    fn no_bytes_whatever_can_bring_it_down(
        chunks in vec((any::<bool>(), any::<bool>(), noise()), 1..40),
        welcome in any::<bool>(),
    ) {
        let settings = Arc::new(Settings::default());
        let mut drain = Drain::new(settings);
        let mut session = Session::new(Pace(0), &drain, Time::EPOCH);
        session.handle_startup(&drain, Time::EPOCH);
        session.handle_worker_found(&drain, Time::EPOCH);
        let mut tracker = fresh();
        if welcome {
            observe(&mut tracker, &messages(WELCOME));
            session.handle_worker(&messages(WELCOME), &drain, Time::EPOCH);
        }
        for (at, (by_client, due, bytes)) in chunks.into_iter().enumerate() {
            let now = Time::from_epoch(std::time::Duration::from_secs(at as u64));
            let gate = if due { Gate::Due } else { Gate::Open };
            if due {
                drain.handle_signal(now);
            }
            let length = bytes.len();
            let (passed, session_passed) = if by_client {
                (tracker.forward(&bytes, gate), session.handle_client(&bytes, &drain, now))
            } else {
                let taken = session.handle_worker(&bytes, &drain, now);
                session.handle_output(taken / 2, taken % 2, &drain, now);
                (tracker.observe(&bytes), taken)
            };
            prop_assert!(passed.unwrap_or(0) <= length && session_passed <= length);
            if tracker.needs_flush() {
                tracker.flush_sent();
            }
            session.take_flush(&drain);
            let _ = (seen(&tracker), tracker.owed(), tracker.worker_key(), tracker.is_mid_request());
            let _ = (session.poll_verdict(&drain, now), session.next_timeout(&drain, now), session.activity());
            prop_assert!((1..=4096).contains(&session.worker_read_limit(4096, &drain, now)));
        }
        let reason = lastcall_core::EndReason::Boundary;
        session.close(reason, &drain, Time::EPOCH);
        prop_assert_eq!(session.activity(), Activity::Closing);
        let _ = session.farewell("db:5432");
    }
}

/// Bytes that look now more and now less like messages.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let anything = vec(any::<u8>(), 1..40).boxed();
    let types = prop::sample::select(b"QPBEDCFSHXcdfp123AGIKNRTVWZnstv".to_vec());
    let header = (types, 0..12_u32, vec(any::<u8>(), 0..12))
        .prop_map(|(kind, length, body)| [&[kind][..], &length.to_be_bytes(), &body].concat())
        .boxed();
    let whole = prop::sample::select(vec![
        "Q",
        "P B E",
        "E S",
        "S",
        "d",
        "c",
        "H",
        "C",
        "G",
        "W",
        "E",
        "Z:I",
        "Z:T",
        "1 2 D C",
        "N",
        "2 G",
        "K:12345678",
    ])
    .prop_map(messages)
    .boxed();
    prop_oneof![1 => anything, 1 => header, 4 => whole]
}

/// What is said in a conversation of these steps, from the worker's welcome on: runs of messages of one side.
fn conversation(steps: &[Step]) -> Vec<(bool, Vec<Vec<u8>>)> {
    let mut model = Model::default();
    let welcome: Vec<_> = WELCOME.split_whitespace().map(messages).collect();
    let mut said = vec![(false, welcome)];
    let mut say = |by_client, message| match said.last_mut() {
        Some((side, run)) if *side == by_client => run.push(message),
        _ => said.push((by_client, vec![message])),
    };
    for step in steps {
        match step {
            Step::Send(request, _) if model.allows(request) => {
                say(true, request.bytes());
                model.send(request);
            }
            Step::Deliver(count, _) => {
                for _ in 0..*count {
                    model.deliver().into_iter().for_each(|message| say(false, message));
                }
            }
            Step::SpeakUp => model.speak_up(),
            Step::Send(..) | Step::Flush => {}
        }
    }
    said
}
