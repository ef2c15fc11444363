//! The README speaks of what is there: its scenario passes, and it names every word of a scenario file.

use std::path::Path;

use sim::cast::pod::last_call;
use sim::cast::run::EngineName;
use sim::judge::gate::{Verdict, judge};
use sim::report;
use sim::scenario::{self, Action, Promise, ScenarioFile};
use sim::suite::{Asked, Scope};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");

fn readme() -> String {
    std::fs::read_to_string(README).expect("there is a README")
}

/// The scenario that it shows, as a file: the run in another process reads one.
fn scenario_file(name: &str) -> ScenarioFile {
    let readme = readme();
    let (_, from) = readme.split_once("```toml\n").expect("it shows a scenario");
    let (text, _) = from.split_once("```").expect("which ends");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).expect("cargo gives tests a directory to write to");
    scenario::load(&path).unwrap_or_else(|error| panic!("{}", error.render(false)))
}

#[test]
fn its_scenario_passes_as_it_stands() {
    let file = scenario_file("readme.toml");
    let another = |file: &_, seed, engine, shows| {
        sim::another_process::log(Path::new(env!("CARGO_BIN_EXE_sim")), file, seed, engine, shows)
    };
    let judgement = judge(&last_call(), &file, None, EngineName::default(), &another);
    let asked = Asked { seeds: None, engine: EngineName::default(), scope: Scope::Files };
    assert_eq!(judgement.verdict, Verdict::Pass, "{}", report::one(&judgement, asked));
}

#[test]
fn its_table_of_steps_is_what_the_definitions_say() {
    const MARKS: [&str; 2] =
        ["<!-- `UPDATE_README=1 cargo test -p sim --test readme` writes this table -->\n", "\n**Events**"];
    let text = readme();
    let (before, rest) = text.split_once(MARKS[0]).expect("the table has a beginning");
    let (table, after) = rest.split_once(MARKS[1]).expect("and an end");
    if std::env::var_os("UPDATE_README").is_some() {
        let [begin, end] = MARKS;
        std::fs::write(README, format!("{before}{begin}{}{end}{after}", scenario::table_of_steps()))
            .expect("a checkout");
    } else {
        assert_eq!(table, scenario::table_of_steps(), "{}", MARKS[0]);
    }
}

#[test]
fn its_picture_is_that_of_its_scenario() {
    const PICTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/picture.svg");
    let drawn = report::svg_of(&last_call(), &scenario_file("picture.toml"), 1, EngineName::default());
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(PICTURE, drawn).expect("a checkout");
    } else {
        let kept = std::fs::read_to_string(PICTURE).expect("it is kept");
        assert!(
            kept == drawn,
            "sim/picture.svg is another picture: `UPDATE_README=1 cargo test -p sim --test readme` writes it"
        );
    }
}

#[test]
fn it_names_every_event_and_promise() {
    let readme = readme();
    let words = Action::ALL.map(Action::name).into_iter().chain(Promise::ALL.map(Promise::name));
    let missing: Vec<&str> = words.filter(|word| !readme.contains(&format!("`{word}`"))).collect();
    assert_eq!(missing, [""; 0]);
}
