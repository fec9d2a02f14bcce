//! Values that flags take.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use qgjob_core::clock::Clock;
use qgjob_core::model::exit::ExitCode;
use qgjob_core::model::name::IdempotencyKey;
use qgjob_core::model::{job, run};

use super::failure::{Failure, Result};
use crate::client::Client;
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

/// An id, or the last characters of one: fewer would often name several.
const SHORTEST_END: usize = 6;

/// Whether `wanted` is `id`, or its end.
pub fn ends(id: &str, wanted: &str) -> bool {
    match short(wanted) {
        Some(end) => id.ends_with(&end),
        None => id == wanted,
    }
}

/// The end of an id without its prefix, when it is one that can be looked for.
fn short(text: &str) -> Option<String> {
    // As a narrow table shows it.
    let text = text.trim_start_matches('…');
    let end = text.split_once('_').map_or(text, |(_, end)| end);
    let fits =
        (SHORTEST_END..26).contains(&end.len()) && end.bytes().all(|byte| byte.is_ascii_alphanumeric());
    fits.then(|| end.to_ascii_lowercase())
}

/// The jobs and runs that a command is about.
#[derive(Debug, Clone, clap::Args)]
pub struct Which {
    /// Ids of jobs and runs, or their last 6 characters or more
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Id of a job; may be repeated
    #[arg(long, value_name = "ID")]
    job_id: Vec<String>,
    /// Id of a run; may be repeated
    #[arg(long, value_name = "ID")]
    run_id: Vec<String>,
}

impl Which {
    /// Whether no job and no run is named.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.job_id.is_empty() && self.run_id.is_empty()
    }

    /// What is meant; at least one. Shortened ids are looked up.
    pub async fn subjects(&self, client: &Client) -> Result<Vec<Subject>> {
        let mut subjects = Vec::new();
        for id in &self.job_id {
            if id.starts_with(run::Id::PREFIX) {
                return Err(
                    Failure::usage(format!("{id} is the id of a run")).hint(format!("use --run-id={id}"))
                );
            }
            subjects.push(Subject::Job(job_id(client, id).await?));
        }
        for id in &self.run_id {
            if id.starts_with(job::Id::PREFIX) {
                return Err(
                    Failure::usage(format!("{id} is the id of a job")).hint(format!("use --job-id={id}"))
                );
            }
            subjects.push(Subject::Run(run_id(client, id).await?));
        }
        for id in &self.ids {
            subjects.push(subject(client, id).await?);
        }
        let mut seen = std::collections::HashSet::new();
        subjects.retain(|subject| seen.insert(subject.id().to_owned()));
        if subjects.is_empty() {
            return Err(Failure::usage("no job or run is named")
                .hint("give an id, --job-id or --run-id; `qgjob list` shows them"));
        }
        Ok(subjects)
    }

    /// The jobs that are meant, those of runs included, and whether that may be more than one.
    pub async fn jobs(&self, client: &Client) -> Result<(Vec<String>, bool)> {
        let subjects = self.subjects(client).await?;
        let several = subjects.len() > 1 || matches!(subjects[0], Subject::Run(_));
        let mut jobs = Vec::new();
        for subject in subjects {
            match subject {
                Subject::Job(id) => jobs.push(id),
                Subject::Run(id) => {
                    let run = client.run(&id).await?;
                    jobs.extend(run.job_list.iter().map(|view| view.job.id.to_string()));
                }
            }
        }
        Ok((jobs, several))
    }
}

/// What an id without a flag names; the end of one names a job before a run.
async fn subject(client: &Client, id: &str) -> Result<Subject> {
    if id.starts_with(run::Id::PREFIX) {
        return Ok(Subject::Run(run_id(client, id).await?));
    }
    match job_id(client, id).await {
        Ok(job) => Ok(Subject::Job(job)),
        Err(failure) if failure.exit == ExitCode::NotFound && !id.starts_with(job::Id::PREFIX) => {
            match run_id(client, id).await {
                Ok(run) => Ok(Subject::Run(run)),
                Err(_) => Err(failure),
            }
        }
        Err(failure) => Err(failure),
    }
}

/// The id of a job that is named by it or by its end.
pub async fn job_id(client: &Client, id: &str) -> Result<String> {
    if let Ok(id) = id.parse::<job::Id>() {
        return Ok(id.to_string());
    }
    match short(id) {
        Some(end) => Ok(client.job(&end).await?.job.id.to_string()),
        None => Err(Failure::usage(format!("{id:?} is not the id of a job"))
            .cause("a job's id is job_ and 26 letters and digits, or at least its last 6")
            .hint("`qgjob list` shows the ids of jobs")),
    }
}

/// The id of a run that is named by it or by its end.
pub async fn run_id(client: &Client, id: &str) -> Result<String> {
    if let Ok(id) = id.parse::<run::Id>() {
        return Ok(id.to_string());
    }
    let Some(end) = short(id) else {
        return Err(Failure::usage(format!("{id:?} is not the id of a run"))
            .cause("a run's id is run_ and 26 letters and digits, or at least its last 6")
            .hint("`qgjob run list` shows the ids of runs"));
    };
    match client.runs_by_end(&end).await?.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Failure::new(ExitCode::NotFound, format!("there is no run whose id ends in {end}"))
            .hint("`qgjob run list` shows the ids of runs")),
        several => Err(Failure::usage(format!("the ids of several runs end in {end}"))
            .hint(format!("use more of it: {}", several.join(", ")))),
    }
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
    fn things_can_be_named_by_the_end_of_their_id() {
        let id = "job_01kb4x9tq3m8e7w2n5r6v0zcha";
        for good in [id, "V0ZCHA", "v0zcha", "job_v0zcha", "…r6v0zcha"] {
            assert!(ends(id, good), "{good}");
        }
        for bad in ["zcha", "job_", "job_../..", "x".repeat(40).as_str(), ""] {
            assert!(short(bad).is_none() && !ends(id, bad), "{bad:?}");
        }
    }
}
