//! What pipelines understand, as pure text: nothing here reads a file, calls a server or prints.

pub mod github;
