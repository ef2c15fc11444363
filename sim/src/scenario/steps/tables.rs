//! Which keys each step has, and what can be judged inside one step.

use super::super::error::Problem;
use super::super::model::step::{depth, once, one, one_ms, row_bytes, yes};
use super::super::model::*;
use super::super::read::{Fields, Table};
use super::super::suggest::one_of;
use super::read_steps;

impl Table for Connect {
    const WHAT: &'static str = "`connect`";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let user = startup_text(fields, "user");
        let database = startup_text(fields, "database");
        let tls = fields.or("tls", false);
        let until = fields.or("until", Until::default());
        let pause = fields.or("pause", Span::default());
        let version = fields.or("version", Version::default());
        let connect =
            Connect { user: user?, database: database?, tls: tls?, until: until?, pause: pause?, version: version? };
        if connect.tls && connect.until == Until::Tcp {
            let problem = Problem::new(fields.place("until"), "nothing is asked for", "sends not a byte, but …");
            let problem = problem.and(fields.place("tls"), "… asks for TLS");
            fields.problems().push(problem);
        }
        Some(connect)
    }
}

/// A text of the startup packet, where a NUL is the end of it.
fn startup_text(fields: &mut Fields<'_, '_, '_>, key: &'static str) -> Option<Option<String>> {
    const LONGEST: usize = 63;
    let text: Option<String> = fields.optional(key)?;
    if text.as_deref().is_some_and(|text| text.is_empty() || text.len() > LONGEST || text.contains('\0')) {
        let expected = format!("expected 1 to {LONGEST} bytes without NUL, as a name in PostgreSQL");
        let place = fields.place(key);
        fields.problems().push(Problem::new(place, format!("`{key}` can't be sent"), expected));
    }
    Some(text)
}

impl Table for Query {
    const WHAT: &'static str = "a `query` step";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let query = fields.required("query");
        let rows = fields.number_or("rows", one(), 0..=Query::MAX_ROWS);
        let row_bytes = fields.number_or("row_bytes", row_bytes(), 0..=Query::MAX_ROW_BYTES);
        let fails = fields.optional("fails");
        let protocol = fields.or("protocol", Protocol::default());
        let cancel_after = fields.optional("cancel_after");
        let wait = waits(fields, &cancel_after);
        Some(Query {
            query: query?,
            rows: rows?,
            row_bytes: row_bytes?,
            fails: fails?,
            protocol: protocol?,
            cancel_after: cancel_after?,
            wait: wait?,
        })
    }
}

/// `wait`, which a step needs that cancels: it is the step that looks at the clock.
fn waits(fields: &mut Fields<'_, '_, '_>, cancel_after: &Option<Option<Span>>) -> Option<bool> {
    let wait = fields.or("wait", yes())?;
    if !wait && matches!(cancel_after, Some(Some(_))) {
        let problem = Problem::new(fields.place("wait"), "nobody is there to cancel", "goes on at once, but …");
        let problem = problem.and(fields.place("cancel_after"), "… cancels later");
        fields.problems().push(problem);
    }
    Some(wait)
}

impl Table for CopyIn {
    const WHAT: &'static str = "a `copy_in` step";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let copy_in = fields.required_number("copy_in", 1..=Query::MAX_ROWS);
        let every = fields.or("every", one_ms());
        let row_bytes = fields.number_or("row_bytes", row_bytes(), 1..=Query::MAX_ROW_BYTES);
        let stops_after = fields.number("stops_after", 0..=Query::MAX_ROWS);
        let buffer = fields.number_or("buffer", 0, 0..=CopyIn::MAX_BUFFER);
        let fails = fields.or("fails", false);
        let cancel_after = fields.optional("cancel_after");
        if let (Some(rows), Some(Some(stops_after))) = (copy_in, stops_after)
            && rows < stops_after
        {
            let problem = Problem::new(fields.place("stops_after"), "there are not so many rows", "more than …");
            let problem = problem.and(fields.place("copy_in"), "… these");
            fields.problems().push(problem);
        }
        if let (Some(Some(_)), Some(true)) = (stops_after, fails) {
            let problem = Problem::new(fields.place("fails"), "this COPY has no end", "ends it, but …");
            let problem = problem.and(fields.place("stops_after"), "… after this nothing is sent");
            fields.problems().push(problem);
        }
        let protocol = fields.or("protocol", Protocol::default());
        let early_sync = fields.or("early_sync", yes());
        let into = fields.or("into", CopyTarget::default());
        let trigger: Option<Option<Span>> = fields.optional("trigger");
        if protocol == Some(Protocol::Simple) && early_sync == Some(false) {
            let problem =
                Problem::new(fields.place("early_sync"), "a simple Query has no Sync", "there is none to send");
            fields.problems().push(problem.help("`protocol = \"extended\"` beside it"));
        }
        if into.is_some_and(|into| into != CopyTarget::Table) && fields.has("trigger") {
            let problem = Problem::new(fields.place("trigger"), "this COPY never comes to a trigger", "works, but …");
            let problem = problem.and(fields.place("into"), "… the worker refuses to copy into this before");
            fields.problems().push(problem);
        }
        Some(CopyIn {
            copy_in: copy_in?,
            every: every?,
            row_bytes: row_bytes?,
            stops_after: stops_after?,
            buffer: buffer?,
            fails: fails?,
            cancel_after: cancel_after?,
            protocol: protocol?,
            early_sync: early_sync?,
            into: into?,
            trigger: trigger?,
        })
    }
}

impl Table for CopyOut {
    const WHAT: &'static str = "a `copy_out` step";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let copy_out = fields.required_number("copy_out", 0..=Query::MAX_ROWS);
        let row_bytes = fields.number_or("row_bytes", row_bytes(), 1..=Query::MAX_ROW_BYTES);
        let takes = fields.or("takes", one_ms());
        let cancel_after = fields.optional("cancel_after");
        let wait = waits(fields, &cancel_after);
        Some(CopyOut {
            copy_out: copy_out?,
            row_bytes: row_bytes?,
            takes: takes?,
            cancel_after: cancel_after?,
            wait: wait?,
        })
    }
}

impl Table for Declare {
    const WHAT: &'static str = "a `declare` step";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let declare = cursor_name(fields, "declare");
        let query = fields.or("query", one_ms());
        let rows = fields.number_or("rows", one(), 0..=Query::MAX_ROWS);
        let row_bytes = fields.number_or("row_bytes", row_bytes(), 0..=Query::MAX_ROW_BYTES);
        Some(Declare { declare: declare?, query: query?, rows: rows?, row_bytes: row_bytes? })
    }
}

impl Table for Fetch {
    const WHAT: &'static str = "a `fetch` step";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let fetch = cursor_name(fields, "fetch");
        let rows = fields.number_or("rows", one(), 0..=Query::MAX_ROWS);
        Some(Fetch { fetch: fetch?, rows: rows? })
    }
}

fn cursor_name(fields: &mut Fields<'_, '_, '_>, key: &'static str) -> Option<String> {
    let name: String = fields.required(key)?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if !(1..=Declare::MAX_NAME).contains(&name.len()) || !name.bytes().all(allowed) {
        let expected = format!("expected 1 to {} letters, digits or `_`", Declare::MAX_NAME);
        let place = fields.place(key);
        fields.problems().push(Problem::new(place, "not a cursor's name", expected));
    }
    Some(name)
}

impl Table for Call {
    const WHAT: &'static str = "a `call` step";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let call = fields.required("call");
        Some(Call { call: call? })
    }
}

impl Table for Insert {
    const WHAT: &'static str = "an `insert` step";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let insert = fields.required_number("insert", 1..=Insert::MAX_ROWS);
        let takes = fields.or("takes", one_ms());
        Some(Insert { insert: insert?, takes: takes? })
    }
}

impl Table for Prepare {
    const WHAT: &'static str = "a `prepare` step";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let prepare = fields.required("prepare");
        Some(Prepare { prepare: prepare? })
    }
}

impl Table for Execute {
    const WHAT: &'static str = "an `execute` step";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let execute = fields.required("execute");
        let insert = fields.number_or("insert", 0, 0..=Insert::MAX_ROWS);
        let rows = fields.number("rows", 0..=Query::MAX_ROWS);
        let max_rows = fields.or("max_rows", 0);
        let cancel_after = fields.optional("cancel_after");
        Some(Execute {
            execute: execute?,
            insert: insert?,
            rows: rows?,
            max_rows: max_rows?,
            cancel_after: cancel_after?,
        })
    }
}

impl Table for Pipeline {
    const WHAT: &'static str = "a `pipeline` step";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let pipeline = read_steps(fields, "pipeline");
        let repeat = fields.or("repeat", once());
        let depth = fields.number_or("depth", depth(), 1..=Pipeline::MAX_DEPTH);
        let places = fields.entries("pipeline");
        for (step, at) in pipeline.iter().flatten().zip(places) {
            if !Pipeline::WORDS.contains(&step.word()) {
                let message = format!("`{}` can't stand in a pipeline", step.word());
                let expected = format!("expected {}", one_of(Pipeline::WORDS));
                fields.problems().push(Problem::new(at, message, expected));
            }
        }
        Some(Pipeline { pipeline: pipeline?, repeat: repeat?, depth: depth? })
    }
}

impl Table for Garbage {
    const WHAT: &'static str = "a `garbage` step";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let garbage = fields.required_number("garbage", 1..=Garbage::MAX_BYTES);
        Some(Garbage { garbage: garbage? })
    }
}

impl Table for Partial {
    const WHAT: &'static str = "a `partial` step";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let partial = fields.required_number("partial", 1..=Partial::MAX_BYTES);
        let query = fields.or("query", one_ms());
        let after = fields.optional("after");
        Some(Partial { partial: partial?, query: query?, after: after? })
    }
}

impl Table for ReadAt {
    const WHAT: &'static str = "a `read` step";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let read = fields.required("read");
        Some(ReadAt { read: read? })
    }
}

impl Table for Close {
    const WHAT: &'static str = "a `close` step";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let close = fields.required("close");
        Some(Close { close: close? })
    }
}

impl Table for Replication {
    const WHAT: &'static str = "a `replication` step";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let replication = fields.required("replication");
        let every: Option<Span> = fields.or("every", Replication::every());
        let row_bytes = fields.number_or("row_bytes", row_bytes(), 1..=Query::MAX_ROW_BYTES);
        let status: Option<Span> = fields.or("status", Replication::status());
        for (key, period) in [("every", every), ("status", status)] {
            if period.is_some_and(|Span(period)| period.is_zero()) {
                let expected = "expected a length of time above 0";
                let problem = Problem::new(fields.place(key), format!("`{key}` is 0"), expected);
                fields.problems().push(problem);
            }
        }
        Some(Replication { replication: replication?, every: every?, row_bytes: row_bytes?, status: status? })
    }
}

impl Table for Think {
    const WHAT: &'static str = "a `think` step";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let think = fields.required("think");
        Some(Think { think: think? })
    }
}

impl Table for Idle {
    const WHAT: &'static str = "an `idle` step";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let idle = fields.required("idle");
        Some(Idle { idle: idle? })
    }
}

impl Table for WaitUntil {
    const WHAT: &'static str = "a `wait_until` step";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let wait_until = fields.required("wait_until");
        Some(WaitUntil { wait_until: wait_until? })
    }
}

impl Table for Repeat {
    const WHAT: &'static str = "a `repeat` step";

    fn read_fields(fields: &mut Fields<'_, '_, '_>) -> Option<Self> {
        let repeat = fields.required("repeat");
        let steps = read_steps(fields, "steps");
        Some(Repeat { repeat: repeat?, steps: steps? })
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::parse;

    /// What is wrong with one step: the text under each mark and its label.
    fn wrong(step: &str) -> Vec<String> {
        let text = format!("title = \"t\"\n[[client]]\nname = \"c\"\nsteps = [{step}]\n");
        let bad = parse("t.toml", &text).expect_err("a mistake");
        bad.problems().iter().map(|problem| format!("{}: {}", &text[problem.span()], problem.label())).collect()
    }

    #[test]
    fn a_copy_can_do_what_it_says() {
        assert_eq!(wrong("{ copy_in = 2, stops_after = 3 }"), ["3: more than …"]);
        assert_eq!(wrong("{ copy_in = 2, stops_after = 1, fails = true }"), ["true: ends it, but …"]);
        assert_eq!(
            wrong("{ copy_in = 2, row_bytes = 0, buffer = 16777217 }"),
            ["0: expected a whole number from 1 to 1048576", "16777217: expected a whole number from 0 to 16777216"]
        );
        assert_eq!(wrong(r#"{ copy_in = "50s" }"#).len(), 1);
        assert_eq!(wrong("{ copy_out = 2, every = \"1s\" }"), ["every: unknown key"]);
        assert_eq!(wrong("{ copy_in = 2, early_sync = false }"), ["false: there is none to send"]);
        assert_eq!(wrong(r#"{ copy_in = 2, into = "veiw" }"#), [r#""veiw": did you mean `view`?"#]);
        assert_eq!(wrong(r#"{ copy_in = 2, into = "view", trigger = "1s" }"#), [r#""1s": works, but …"#]);
    }

    #[test]
    fn a_step_that_waits_for_nothing_can_not_cancel() {
        let cancels = r#"{ query = "1h", wait = false, cancel_after = "1s" }"#;
        assert_eq!(wrong(cancels), ["false: goes on at once, but …"]);
        assert_eq!(wrong(r#"{ copy_out = 1, wait = false, cancel_after = "1s" }"#), ["false: goes on at once, but …"]);
    }

    #[test]
    fn a_cursor_has_a_name_of_sql() {
        for name in ["", "a b", "a-b", "a'", &"x".repeat(64)] {
            let expected = format!("{name:?}: expected 1 to 63 letters, digits or `_`");
            for word in ["declare", "fetch"] {
                assert_eq!(wrong(&format!("{{ {word} = {name:?} }}")).join("; "), expected);
            }
        }
    }

    #[test]
    fn a_way_of_reading_is_a_word_or_a_rate() {
        assert_eq!(wrong(r#"{ read = "stopp" }"#), [r#""stopp": did you mean "stop"?"#]);
        let expected = r#"expected "stop", "resume", or a rate such as "100B/s""#;
        assert_eq!(wrong(r#"{ read = "1GB/s" }"#), [format!("\"1GB/s\": {expected}")]);
        assert_eq!(wrong("{ read = 100 }"), [format!("100: {expected}")]);
    }

    #[test]
    fn who_sends_nothing_asks_for_no_tls() {
        assert_eq!(wrong(r#"{ connect = { tls = true, until = "tcp" } }"#), ["\"tcp\": sends not a byte, but …"]);
    }
}
