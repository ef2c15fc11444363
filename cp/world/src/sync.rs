//! The locks under everything that tasks share, named in one place: a test that includes a file of this crate gives it locks
//! that try every order of events in their stead (`tests/interleavings`).

pub(crate) use std::sync::{Arc, Mutex, MutexGuard};
