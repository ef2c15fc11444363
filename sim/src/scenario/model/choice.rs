//! The values of a step that are one of a few words.

use super::super::define::{choices, text};

choices! {
    /// Which of PostgreSQL's two query protocols.
    Protocol, "protocol" {
        /// One Query message.
        Simple = "simple",
        /// Parse, Bind, Describe, Execute, Sync.
        Extended = "extended",
    }
}

choices! {
    /// Which version of PostgreSQL's protocol a client asks for.
    Version(Default), "version of the protocol" {
        /// As every driver speaks it.
        V3_0 = "3.0" default,
        /// Of PostgreSQL 18.
        V3_2 = "3.2",
    }
}

choices! {
    /// How far a connect step goes.
    Until(Default), "stage of connecting" {
        /// To the first ReadyForQuery.
        Ready = "ready" default,
        /// TCP only: not a byte is sent.
        Tcp = "tcp",
        /// TLS is asked for and the answer read, and nothing more is sent.
        Tls = "tls",
        /// The first half of the startup packet is sent, and nothing more.
        Startup = "startup",
        /// The whole startup packet is sent; the worker asks for a password and never gets it.
        Password = "password",
    }
}

choices! {
    /// How much of a connection its client closes.
    Closing(Default), "way to close" {
        /// Both directions.
        Full = "full" default,
        /// Its own.
        Half = "half",
    }
}

choices! {
    /// What a COPY copies into.
    CopyTarget, "target of a COPY" {
        /// A table that takes the rows.
        Table = "table",
        /// A view without a trigger: refused behind CopyInResponse.
        View = "view",
        /// Nothing of that name: refused at once.
        Missing = "missing",
    }
}
