//! A client that says anything that the protocol allows, as it comes, and goes by what it is answered.
//!
//! What it never says: anything but data, Flush and Sync in a COPY, for which a server ends the session; and a request behind
//! a COPY that has failed, before there is a ReadyForQuery: whether the server drops that request can't be told from its
//! answers.

use std::fmt;
use std::time::Duration;

use process_tests::client::Client;
use process_tests::postgres::SUPERUSER;
use process_tests::raw::Raw;

use crate::random::Random;

/// Where the COPYs of these conversations go.
const TABLES: &str = "
    create table into_table (n int);
    create view into_view as select n from into_table;
    create table into_trigger (n int);
    create table into_after (n int);
    create table into_sleep (n int);
    create function refuse() returns trigger language plpgsql as $$ begin raise 'refused'; end $$;
    create function wait() returns trigger language plpgsql as $$ begin perform pg_sleep(600); return null; end $$;
    create trigger refuse before insert on into_trigger for each statement execute function refuse();
    create trigger refuse after insert on into_after for each statement execute function refuse();
    create trigger wait before insert on into_sleep for each statement execute function wait();
";

const TARGETS: [&str; 7] =
    ["into_table", "into_table", "into_view", "into_trigger", "into_after", "into_sleep", "into_nothing"];

/// What one message can ask for without wanting data.
const STATEMENTS: [&str; 13] = [
    "select 1",
    "select * from generate_series(1, 40)",
    "",
    "begin",
    "commit",
    "rollback",
    "select 1 / 0",
    "selekt",
    "copy (select 1) to stdout",
    "select pg_sleep(0.01)",
    "listen news",
    "notify news",
    "do $$ begin raise notice 'said'; end $$",
];

const SLEEP: &str = "select pg_sleep(600)";

/// Makes the tables, for the first who asks.
pub(crate) async fn make_tables(observer: &Client) {
    observer.batch_execute("begin; select pg_advisory_xact_lock(1)").await.unwrap();
    let row = observer.query_one("select to_regclass('into_sleep') is null", &[]).await.unwrap();
    if row.get(0) {
        observer.batch_execute(TABLES).await.unwrap();
    }
    observer.batch_execute("commit").await.unwrap();
}

/// See the module's text.
pub(crate) struct Conversation {
    raw: Raw,
    random: Random,
    port: u16,
    /// What the BackendKeyData says.
    key: Vec<u8>,
    /// What was said, in words, and what was answered, in letters.
    said: String,
    rest: &'static str,
    /// Since the last ReadyForQuery: whether a COPY wanted data, and whether anything failed.
    wanted: bool,
    failed: bool,
    /// Of the last COPY that was asked for: how often it wanted data, how often that was ended, and whether it wants more.
    begun: usize,
    ended: usize,
    open: bool,
}

impl Conversation {
    /// A session through the control plane at `port`.
    pub(crate) async fn begin(port: u16, random: Random) -> Self {
        let mut raw = Raw::connect(port).await;
        raw.start_up(SUPERUSER, "conversation").await;
        let mut key = Vec::new();
        loop {
            let message = raw.messages.next().await.unwrap().unwrap();
            match message.tag {
                b'K' => key = message.body,
                b'Z' => break,
                _ => {}
            }
        }
        Conversation {
            raw,
            random,
            port,
            key,
            said: String::new(),
            rest: "idle",
            wanted: false,
            failed: false,
            begun: 0,
            ended: 0,
            open: false,
        }
    }

    /// What the server calls itself.
    pub(crate) fn process_id(&self) -> u32 {
        u32::from_be_bytes(*self.key.first_chunk().unwrap())
    }

    /// The port at the client's end.
    pub(crate) fn client_port(&self) -> u16 {
        self.raw.output.local_addr().unwrap().port()
    }

    /// Whether a COPY wants data, and its end has not been sent.
    pub(crate) const fn is_copying(&self) -> bool {
        self.open && self.ended < self.begun
    }

    /// The server rests, in this activity.
    pub(crate) const fn rests(&mut self, activity: &'static str) {
        self.rest = activity;
    }

    /// Says the next thing. Returns it.
    pub(crate) async fn step(&mut self) -> String {
        let mut words = Words::default();
        match self.rest {
            "executing" => {}
            "copy_in" if self.random.once_in(5) => {}
            "copy_in" => self.data(&mut words),
            "open_batch" if self.failed && self.wanted => self.behind_a_failed_copy(&mut words),
            "open_batch" => self.in_a_batch(&mut words),
            _ => self.anything(&mut words),
        }
        self.said.push_str(&format!("\n> {}", words.text));
        if words.bytes.is_empty() {
            self.said.push_str("(cancel)");
            self.cancel().await;
            return "cancel".to_owned();
        }
        if words.copies {
            (self.begun, self.ended) = (0, 0);
        }
        self.ended += words.ends;
        self.raw.send(&words.bytes).await;
        words.text
    }

    /// Leaves nothing behind that runs.
    pub(crate) async fn end(self) {
        self.cancel().await;
    }

    /// Takes what is answered, until nothing comes for a while. Returns whether anything came.
    pub(crate) async fn listen(&mut self, pause: Duration) -> bool {
        let mut news = false;
        while let Ok(message) = tokio::time::timeout(pause, self.raw.messages.next()).await {
            let Some(message) = message.unwrap() else {
                self.said.push_str(" (end)");
                tokio::time::sleep(pause).await;
                return news;
            };
            self.said.push_str(if news { " " } else { "\n< " });
            self.said.push(char::from(message.tag));
            news = true;
            match message.tag {
                b'G' => {
                    (self.wanted, self.open) = (true, true);
                    self.begun += 1;
                }
                b'C' => self.open = false,
                b'E' => (self.failed, self.open) = (true, false),
                b'Z' => (self.wanted, self.failed, self.open) = (false, false, false),
                _ => {}
            }
        }
        news
    }

    async fn cancel(&self) {
        let mut cancel = Raw::connect(self.port).await;
        let length = self.key.len() as u32 + 8;
        cancel.send(&[&length.to_be_bytes()[..], &80_877_102u32.to_be_bytes(), &self.key].concat()).await;
        cancel.messages.rest().await.unwrap();
    }

    /// Where nothing is under way.
    fn anything(&mut self, words: &mut Words) {
        match self.random.below(16) {
            0..3 => self.query(words),
            3..6 => self.batches(words),
            6..8 => self.some_steps(words),
            8..10 => self.copy_by_query(words),
            10..13 => self.copy_by_execute(words),
            13 => words.call(self.random.once_in(3)),
            14 => words.word(self.random.pick(&['c', 'f', 'd', 'H', 'S'])),
            _ => {
                if self.random.once_in(2) {
                    words.query(SLEEP);
                } else {
                    words.execute(SLEEP, false);
                    words.word('S');
                }
                if self.random.once_in(2) {
                    self.batches(words);
                }
            }
        }
    }

    fn query(&mut self, words: &mut Words) {
        let (one, other) = (self.random.pick(&STATEMENTS), self.random.pick(&STATEMENTS));
        words.query(&if self.random.once_in(3) { format!("{one};{other}") } else { one.to_owned() });
        if self.random.once_in(3) {
            self.query(words);
        }
    }

    fn batches(&mut self, words: &mut Words) {
        for _ in 0..=self.random.below(3) {
            self.some_steps(words);
            words.word('S');
            if self.random.once_in(4) {
                words.query("select 2");
            }
        }
    }

    fn some_steps(&mut self, words: &mut Words) {
        for _ in 0..=self.random.below(2) {
            words.execute(self.random.pick(&STATEMENTS), self.random.once_in(3));
            if self.random.once_in(4) {
                words.word('H');
            }
        }
    }

    fn copy_by_query(&mut self, words: &mut Words) {
        let target = self.random.pick(&TARGETS);
        let copy = format!("copy {target} from stdin");
        words.query(&match self.random.below(4) {
            0 => format!("select 1;{copy};select 2"),
            1 => format!("{copy};copy into_table from stdin"),
            _ => copy,
        });
        words.copies = true;
        self.ahead_of_copy_in_response(words);
    }

    fn copy_by_execute(&mut self, words: &mut Words) {
        if self.random.once_in(4) {
            words.execute("select 3", false);
        }
        words.execute(&format!("copy {} from stdin", self.random.pick(&TARGETS)), false);
        words.copies = true;
        if self.random.once_in(4) {
            words.word('H');
        }
        self.ahead_of_copy_in_response(words);
    }

    /// What impatient clients send before they know that it is a COPY.
    fn ahead_of_copy_in_response(&mut self, words: &mut Words) {
        for _ in 0..self.random.below(3) {
            words.word('S');
        }
        if self.random.once_in(2) {
            return;
        }
        for _ in 0..self.random.below(3) {
            words.word(self.random.pick(&['d', 'd', 'd', '!', 'H', 'S']));
        }
        if self.random.once_in(2) {
            return;
        }
        words.word(self.random.pick(&['c', 'c', 'f']));
        if self.random.once_in(3) {
            return;
        }
        words.word('S');
        if self.random.once_in(2) {
            self.batches(words);
        }
    }

    fn data(&mut self, words: &mut Words) {
        for _ in 0..=self.random.below(3) {
            words.word(self.random.pick(&['d', 'd', 'd', '!', 'H', 'S']));
        }
        if self.random.once_in(2) {
            words.word(self.random.pick(&['c', 'c', 'f']));
            if !self.random.once_in(3) {
                words.word('S');
            }
        }
    }

    fn behind_a_failed_copy(&mut self, words: &mut Words) {
        words.word(self.random.pick(&['S', 'S', 'd', 'H', 'c', 'f']));
        if self.random.once_in(2) {
            words.word('S');
        }
    }

    fn in_a_batch(&mut self, words: &mut Words) {
        match self.random.below(8) {
            0..3 => words.word('S'),
            3 => {
                words.word('S');
                self.query(words);
            }
            4 => self.some_steps(words),
            5 => self.batches(words),
            6 if !self.failed => self.copy_by_execute(words),
            7 if self.failed => {
                words.query("select 4");
                words.word('S');
            }
            _ => words.word(self.random.pick(&['H', 'd', 'c', 'f'])),
        }
    }
}

impl fmt::Display for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.said.trim_start())
    }
}

/// Messages that are sent at once.
#[derive(Default)]
struct Words {
    bytes: Vec<u8>,
    text: String,
    /// Whether one of them is a COPY FROM STDIN, and how many end one behind it.
    copies: bool,
    ends: usize,
}

impl Words {
    /// A message by its type; `!` is data that no table takes.
    fn word(&mut self, word: char) {
        match word {
            'd' => self.put(b'd', b"1\n", "d"),
            '!' => self.put(b'd', b"x\n", "d(bad)"),
            'f' => self.put(b'f', b"enough\0", "f"),
            other => self.put(other as u8, b"", &other.to_string()),
        }
        self.ends += usize::from(matches!(word, 'c' | 'f'));
    }

    fn query(&mut self, sql: &str) {
        self.put(b'Q', format!("{sql}\0").as_bytes(), &format!("Q({sql})"));
    }

    /// Parse, Bind, Describe and Execute; perhaps of one row only.
    fn execute(&mut self, sql: &str, one_row: bool) {
        self.put(b'P', format!("\0{sql}\0\0\0").as_bytes(), &format!("P({sql})"));
        self.put(b'B', &[0; 8], "B");
        if one_row {
            self.put(b'D', b"P\0", "D");
        }
        self.put(b'E', &[0, 0, 0, 0, u8::from(one_row)], "E");
    }

    /// A call of int4pl(1, 2), or of nothing.
    fn call(&mut self, fails: bool) {
        let function = if fails { 1u32 } else { 177 };
        let arguments = b"\0\0\0\x02\0\0\0\x011\0\0\0\x012\0\0";
        self.put(b'F', &[&function.to_be_bytes()[..], arguments].concat(), if fails { "F(bad)" } else { "F" });
    }

    fn put(&mut self, tag: u8, body: &[u8], text: &str) {
        self.bytes.push(tag);
        self.bytes.extend((body.len() as u32 + 4).to_be_bytes());
        self.bytes.extend(body);
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(text);
    }
}
