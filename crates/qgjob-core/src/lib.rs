//! The words, the rules and the wire of qgjob.
//!
//! - [`model`]: plain data with the words of `docs/GLOSSARY.md`.
//! - [`queue`]: rules as pure functions of state, command and time.
//! - [`trust`]: whom to let in: rules about id-tokens and policies, as pure as those of [`queue`].
//! - [`api`]: bodies of requests and answers, shared by server and client.
//! - [`clock`]: where time and randomness come from; everything else takes them as arguments.
//!
//! This crate does no I/O: no files, no sockets, no SQL, no async.

pub mod api;
pub mod clock;
pub mod model;
pub mod queue;
pub mod trust;
