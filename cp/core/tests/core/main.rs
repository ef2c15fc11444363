//! The pure core against PostgreSQL's protocol: what the tracker makes of each situation, what the drain says to it, what
//! the session tells the client, and what holds for any conversation at all.
//!
//! Scripts are written in message types: see [`talk`].

mod activity;
mod clocks;
mod connection;
mod conversation;
mod copy;
mod drain;
mod gate;
mod goodbye;
mod inputs;
mod malformed;
mod pool;
mod process;
mod properties;
mod session;
mod startup;
mod talk;
mod tracker;
