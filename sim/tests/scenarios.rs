//! One test for each scenario file: adding a file is adding a test.

use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use sim::cast::pod::last_call;
use sim::cast::run::EngineName;
use sim::judge::gate::{Verdict, judge};
use sim::scenario;
use sim::suite::{Asked, Scope};

/// Each file is run under as many seeds as it says.
const ASKED: Asked = Asked { seeds: None, engine: EngineName::TurmoilNet, scope: Scope::Files };

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // Paths in the tests' names, and in the commands that repeat a failure, are those that a user types at the root.
    std::env::set_current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).expect("the workspace is there");
    let files = scenario::find(Path::new("scenarios")).expect("the scenarios can be read");
    assert!(!files.is_empty(), "no scenario file was found: the gate would check nothing");
    let trials = files.into_iter().map(|path| Trial::test(path.display().to_string(), move || test(&path))).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn test(path: &Path) -> Result<(), Failed> {
    let file = scenario::load(path).map_err(|error| error.render(false))?;
    let another = |file: &_, seed, engine, shows| {
        sim::another_process::log(Path::new(env!("CARGO_BIN_EXE_sim")), file, seed, engine, shows)
    };
    let judgement = judge(&last_call(), &file, None, ASKED.engine, &another);
    match &judgement.verdict {
        Verdict::Pass => Ok(()),
        Verdict::Fail(_) | Verdict::NotSupported(_) => Err(sim::report::one(&judgement, ASKED).into()),
    }
}
