//! Runs the tests of an attempt.
