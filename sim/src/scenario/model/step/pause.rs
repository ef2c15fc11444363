//! Steps in which time passes, and the one that does others again.

use schemars::JsonSchema;

use super::super::super::units::{Patience, Span, Times};
use super::Step;

/// `{ think = "40s" }`
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Think {
    /// How long the client pauses.
    pub think: Span,
}

/// `{ idle = "forever" }`
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Idle {
    /// How long, or `"forever"`.
    pub idle: Patience,
}

/// `{ wait_until = "70s" }`
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct WaitUntil {
    /// Time of the run, from its beginning.
    pub wait_until: Span,
}

/// `{ repeat = "forever", steps = [{ query = "1ms" }, { think = "1s" }] }`
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Repeat {
    /// How often to do the steps, or `"forever"`.
    pub repeat: Times,
    /// The steps to do again.
    pub steps: Vec<Step>,
}
