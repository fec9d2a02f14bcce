//! Values that flags take.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use qgjob_core::clock::Clock;
use qgjob_core::model::name::IdempotencyKey;
use qgjob_core::model::{job, run};

use super::failure::{Failure, Result};
use crate::client::watch::Subject;

/// Reads a span of time: `30s`, `5m`, `1h30m`, `2d`.
pub fn span(text: &str) -> std::result::Result<Duration, String> {
    let wrong =
        || format!("{text:?} is not a span of time: write a number and a unit, such as 90s, 30m or 2h");
    if text.is_empty() || text.chars().all(|c| c.is_ascii_digit()) {
        return Err(wrong());
    }
    // The library stops at hours, since days differ in length; ours have 24 hours.
    let (days, rest) = match text.split_once('d') {
        Some((days, rest)) => (days.trim().parse::<u64>().map_err(|_| wrong())?, rest.trim()),
        None => (0, text),
    };
    let rest = if rest.is_empty() { SignedDuration::ZERO } else { rest.parse().map_err(|_| wrong())? };
    let rest = Duration::try_from(rest).map_err(|_| wrong())?;
    days.checked_mul(86_400).and_then(|days| Duration::from_secs(days).checked_add(rest)).ok_or_else(wrong)
}

/// Reads `KEY=VALUE`.
pub fn pair(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not of the form KEY=VALUE")),
    }
}

/// An instant that is given as such, or as a span from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At this instant.
    At(Timestamp),
    /// This long from now.
    In(Duration),
}

impl When {
    /// The instant.
    pub fn resolve(self, clock: &dyn Clock) -> Result<Timestamp> {
        match self {
            Self::At(at) => Ok(at),
            Self::In(span) => {
                clock.now().checked_add(span).map_err(|_| Failure::usage("--not-before is too far away"))
            }
        }
    }
}

/// Reads `2026-11-22T22:00:00Z` or `+2h`.
pub fn when(text: &str) -> std::result::Result<When, String> {
    match text.strip_prefix('+') {
        Some(text) => span(text).map(When::In),
        None => text.parse().map(When::At).map_err(|_| {
            format!("{text:?} is no instant: write 2026-11-22T22:00:00Z, or +2h for a span from now")
        }),
    }
}

/// A key that no other invocation uses.
pub fn random_key(clock: &dyn Clock) -> IdempotencyKey {
    format!("cli-{:032x}", clock.random()).parse().expect("hexadecimal digits are visible ASCII")
}

/// The jobs and runs that a command is about.
#[derive(Debug, Clone, clap::Args)]
pub struct Which {
    /// Ids of jobs and runs; a job's may be shortened to its last 6 characters or more
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Id of a job
    #[arg(long, value_name = "ID")]
    job_id: Vec<String>,
    /// Id of a run
    #[arg(long, value_name = "ID")]
    run_id: Vec<String>,
}

impl Which {
    /// What is meant; at least one.
    pub fn subjects(&self) -> Result<Vec<Subject>> {
        let mut subjects = Vec::new();
        for id in &self.job_id {
            if id.starts_with(run::Id::PREFIX) {
                return Err(
                    Failure::usage(format!("{id} is the id of a run")).hint(format!("use --run-id={id}"))
                );
            }
            subjects.push(job_subject(id)?);
        }
        for id in &self.run_id {
            if id.starts_with(job::Id::PREFIX) {
                return Err(
                    Failure::usage(format!("{id} is the id of a job")).hint(format!("use --job-id={id}"))
                );
            }
            subjects.push(run_subject(id)?);
        }
        for id in &self.ids {
            let run = id.starts_with(run::Id::PREFIX);
            subjects.push(if run { run_subject(id)? } else { job_subject(id)? });
        }
        subjects.dedup();
        if subjects.is_empty() {
            return Err(Failure::usage("no job or run is named")
                .hint("give an id, --job-id or --run-id; `qgjob list` shows them"));
        }
        Ok(subjects)
    }
}

fn run_subject(id: &str) -> Result<Subject> {
    match id.parse::<run::Id>() {
        Ok(id) => Ok(Subject::Run(id.to_string())),
        Err(error) => Err(Failure::usage(error.to_string()).hint("`qgjob run list` shows the ids of runs")),
    }
}

/// A job by its id or the end of it.
pub fn job_subject(id: &str) -> Result<Subject> {
    let short = id.strip_prefix(job::Id::PREFIX).unwrap_or(id);
    if let Ok(id) = id.parse::<job::Id>() {
        return Ok(Subject::Job(id.to_string()));
    }
    if !(6..26).contains(&short.len()) || !short.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Failure::usage(format!("{id:?} is not the id of a job"))
            .cause("a job's id is job_ and 26 letters and digits, or at least its last 6")
            .hint("`qgjob list` shows the ids of jobs"));
    }
    Ok(Subject::Job(short.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_need_a_unit() {
        assert_eq!(span("30m"), Ok(Duration::from_secs(1800)));
        assert_eq!(span("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(span("2d"), Ok(Duration::from_secs(172_800)));
        assert_eq!(span("1d12h"), Ok(Duration::from_secs(129_600)));
        assert_eq!(span("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "30", "soon", "-5m", "99999999999999999999d", "5 parsecs"] {
            assert!(span(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_instant_can_be_relative() {
        assert_eq!(when("+2h"), Ok(When::In(Duration::from_secs(7200))));
        assert!(matches!(when("2026-11-22T22:00:00Z"), Ok(When::At(_))));
        assert!(when("tomorrow").is_err());
    }

    #[test]
    fn a_value_may_hold_an_equals_sign() {
        assert_eq!(pair("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert!(pair("A").is_err() && pair("=b").is_err());
    }

    #[test]
    fn jobs_can_be_named_by_their_end() {
        assert_eq!(job_subject("R0ZCHA").unwrap(), Subject::Job("r0zcha".into()));
        for bad in ["short", "job_", "job_../..", "x".repeat(40).as_str(), ""] {
            assert!(job_subject(bad).is_err(), "{bad:?}");
        }
    }
}
