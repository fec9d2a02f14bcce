//! From events to what people read: pure, so that every line can be tested.

use std::collections::BTreeMap;

use jiff::Timestamp;
use qgjob_core::api::jobs::JobView;
use qgjob_core::model::attempt::{Install, InstallAction, Phase};
use qgjob_core::model::event::{Event, Fact};
use qgjob_core::model::job::{self, Conclusion, Reason, Status};
use qgjob_core::model::run::Run;
use qgjob_core::model::test_result::{Counts, TestOutcome, Try, TryStatus};

use crate::client::watch::{Subject, View};
use crate::output::{BAD, GOOD, Output, WARN, between, count, plain, span};

/// One line: `<id> → <status>  (detail)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// The job, or the run.
    pub id: String,
    /// The job that it is about.
    pub job: Option<job::Id>,
    /// Its status.
    pub status: Status,
    /// How it ended.
    pub conclusion: Option<Conclusion>,
    /// What is new.
    pub detail: String,
}

/// What is known of a job that is watched.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Its test file.
    pub test: String,
    /// Where it is; none before anything was told.
    pub status: Option<Status>,
    /// Its device.
    pub device: Option<String>,
    /// What its attempt does.
    pub phase: Option<Phase>,
    /// When its first attempt started.
    pub started: Option<Timestamp>,
    /// When it began to wait.
    pub queued: Option<Timestamp>,
    /// Tries that ended in the current attempt.
    pub tries: u32,
    /// Of those, failed.
    pub failed: u32,
    install: Option<Install>,
    conclusion: Option<Conclusion>,
}

impl Known {
    /// Whether its end was told.
    pub fn is_over(&self) -> bool {
        self.conclusion.is_some()
    }
}

/// All that is known.
#[derive(Debug, Default)]
pub struct Story {
    /// The jobs.
    pub jobs: BTreeMap<job::Id, Known>,
    runs: Vec<(String, Vec<job::Id>)>,
}

impl Story {
    /// Learns the names of the jobs; events tell the rest.
    pub fn begin(&mut self, subject: &Subject, view: &View) {
        for job in view.jobs() {
            self.job(job);
        }
        if let Subject::Run(id) = subject {
            self.runs.push((id.clone(), view.jobs().iter().map(|job| job.job.id).collect()));
        }
    }

    fn job(&mut self, view: &JobView) -> &mut Known {
        let known = self.jobs.entry(view.job.id).or_default();
        if known.test.is_empty() {
            known.test = view.job.spec.named();
            known.queued = Some(view.job.created_at);
        }
        known
    }

    /// What an event adds.
    pub fn event(&mut self, event: &Event) -> Option<News> {
        let id = event.job_id?;
        let known = self.jobs.entry(id).or_default();
        let detail = match &event.fact {
            Fact::JobScheduled { not_before } => {
                known.status = Some(Status::Scheduled);
                joined([known.test.clone(), format!("not before {not_before}")])
            }
            Fact::JobQueued { not_before, reason, detail, .. } => {
                let again = known.status == Some(Status::Running);
                known.status = Some(Status::Queued);
                known.device = None;
                known.phase = None;
                queued_detail(known, again, *reason, detail.as_deref(), *not_before)
            }
            Fact::JobStarted { number, device_name, .. } => {
                known.status = Some(Status::Running);
                known.device = Some(device_name.clone());
                known.phase = Some(Phase::Preparing);
                known.started = known.started.or(Some(event.at));
                (known.tries, known.failed, known.install) = (0, 0, None);
                format!("{device_name}; attempt {number}")
            }
            Fact::JobPhase { phase, install, .. } => {
                known.phase = Some(*phase);
                let install = (*install)?;
                known.install = Some(install);
                joined([known.device.clone().unwrap_or_default(), install_detail(install)])
            }
            Fact::TestFinished { result, .. } => {
                known.tries += 1;
                known.failed += u32::from(matches!(result.status, TryStatus::Failed | TryStatus::TimedOut));
                try_detail(result)
            }
            Fact::JobCompleted { conclusion, reason, detail, tests, .. } => {
                if known.is_over() {
                    return None;
                }
                known.status = Some(Status::Completed);
                known.conclusion = Some(*conclusion);
                let took = known.started.map(|started| between(started, event.at));
                completed_detail(*conclusion, Some(*reason), detail.as_deref(), *tests, took, known.install)
            }
            _ => return None,
        };
        Some(News {
            id: id.to_string(),
            job: Some(id),
            status: known.status?,
            conclusion: known.conclusion,
            detail,
        })
    }

    /// What a look at the whole adds.
    pub fn now(&mut self, view: &View) -> Vec<News> {
        let mut news = Vec::new();
        for view in view.jobs() {
            let known = self.job(view);
            if known.is_over()
                || known.status == Some(view.job.status) && view.job.status != Status::Completed
            {
                continue;
            }
            known.status = Some(view.job.status);
            known.device.clone_from(&view.device_name);
            known.phase = view.job.phase;
            known.started = view.job.started_at;
            known.conclusion = view.job.conclusion;
            news.push(news_of(view));
        }
        news
    }

    /// A sign of life of everything that is not over.
    pub fn heartbeat(&self, now: Timestamp) -> Vec<News> {
        let in_runs = |id: &job::Id| self.runs.iter().any(|(_, jobs)| jobs.contains(id));
        let runs = self.runs.iter().filter_map(|(id, jobs)| {
            let count = |status| jobs.iter().filter(|job| self.jobs[job].status == Some(status)).count();
            let (over, running) = (count(Status::Completed), count(Status::Running));
            let detail = format!(
                "{over} of {} jobs over, {running} running, {} waiting",
                jobs.len(),
                jobs.len() - over - running
            );
            let status = if running + over > 0 { Status::Running } else { Status::Queued };
            (over < jobs.len()).then(|| News { id: id.clone(), job: None, status, conclusion: None, detail })
        });
        let jobs =
            self.jobs.iter().filter(|(id, known)| !in_runs(id) && !known.is_over()).map(|(id, known)| {
                let status = known.status.unwrap_or(Status::Queued);
                News {
                    id: id.to_string(),
                    job: Some(*id),
                    status,
                    conclusion: None,
                    detail: progress(known, now),
                }
            });
        runs.chain(jobs).collect()
    }
}

/// Where a job is, for a display and for heartbeats.
pub fn progress(known: &Known, now: Timestamp) -> String {
    let since = |from: Option<Timestamp>| from.map_or(String::new(), |from| span(between(from, now)));
    match known.status {
        Some(Status::Running) => {
            let phase = known.phase.map_or("running", Phase::as_str);
            let device = known.device.as_deref().unwrap_or("a device");
            let tests = if known.tries == 0 {
                String::new()
            } else {
                format!("{}, {} failed", count(known.tries, "test"), known.failed)
            };
            joined([format!("{phase} on {device}"), tests, since(known.started)])
        }
        _ => joined(["waiting for a device".to_owned(), since(known.queued)]),
    }
}

/// The line of a job as it stands.
pub fn news_of(view: &JobView) -> News {
    let job = &view.job;
    let detail = match job.status {
        Status::Scheduled => match job.not_before {
            Some(not_before) => joined([job.spec.named(), format!("not before {not_before}")]),
            None => job.spec.named(),
        },
        Status::Queued => {
            let known = Known { test: job.spec.named(), ..Known::default() };
            queued_detail(&known, job.attempts > 0, job.reason, job.detail.as_deref(), job.not_before)
        }
        Status::Running => {
            let phase = job.phase.map_or("running", Phase::as_str);
            let device = view.device_name.as_deref().unwrap_or("a device");
            let install = view.install.map(install_detail).unwrap_or_default();
            joined([format!("{phase} on {device}"), format!("attempt {}", job.attempts), install])
        }
        Status::Completed => {
            let took = job.started_at.zip(job.finished_at).map(|(from, to)| between(from, to));
            let conclusion = job.conclusion.unwrap_or(Conclusion::Errored);
            completed_detail(conclusion, job.reason, job.detail.as_deref(), job.tests, took, view.install)
        }
    };
    News { id: job.id.to_string(), job: Some(job.id), status: job.status, conclusion: job.conclusion, detail }
}

/// One line for something that is over.
pub fn over(view: &View) -> News {
    match view {
        View::Job(job) => news_of(job),
        View::Run(run) => {
            let run = &run.run.run;
            let verdict = run.conclusion.map_or("completed", Conclusion::as_str).to_owned();
            let (status, conclusion) = (run.status, run.conclusion);
            News {
                id: run.id.to_string(),
                job: None,
                status,
                conclusion,
                detail: joined([verdict, counts(run)]),
            }
        }
    }
}

/// How many jobs of a run ended how.
pub fn counts(run: &Run) -> String {
    let jobs = &run.jobs;
    let others = [
        (jobs.failed, "failed"),
        (jobs.errored, "errored"),
        (jobs.timed_out, "timed out"),
        (jobs.cancelled, "cancelled"),
        (jobs.skipped, "skipped"),
        (jobs.flaky, "flaky"),
        (jobs.running, "running"),
        (jobs.queued + jobs.scheduled, "waiting"),
    ];
    let passed = format!("{} of {} passed", jobs.passed, count(jobs.total, "job"));
    let others = others.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    joined(std::iter::once(passed).chain(others))
}

/// The line as text.
pub fn line(output: &Output, news: &News) -> String {
    let style = match (news.status, news.conclusion) {
        (_, Some(conclusion)) => style_of(conclusion),
        (Status::Running, None) => crate::output::BOLD,
        _ => crate::output::DIM,
    };
    let status = format!("{:<9}", news.status);
    let detail = plain(&news.detail);
    let text = format!("{} → {}  ({detail})", news.id, output.paint(style, &status));
    if detail.is_empty() {
        format!("{} → {}", news.id, output.paint(style, status.trim_end()))
    } else {
        text
    }
}

/// The colour of a conclusion.
pub fn style_of(conclusion: Conclusion) -> anstyle::Style {
    match conclusion {
        Conclusion::Passed => GOOD,
        Conclusion::Failed | Conclusion::TimedOut => BAD,
        Conclusion::Errored | Conclusion::Cancelled | Conclusion::Skipped => WARN,
    }
}

fn queued_detail(
    known: &Known,
    again: bool,
    reason: Option<Reason>,
    detail: Option<&str>,
    not_before: Option<Timestamp>,
) -> String {
    let why = match reason {
        Some(reason) if again => match detail {
            Some(detail) => format!("again after {reason}: {detail}"),
            None => format!("again after {reason}"),
        },
        _ => "waiting for a device".to_owned(),
    };
    joined([known.test.clone(), why, not_before.map(|at| format!("not before {at}")).unwrap_or_default()])
}

/// What was done about the app.
pub fn install_detail(install: Install) -> String {
    match install.action {
        InstallAction::Avoided => "app already installed".to_owned(),
        InstallAction::Cold | InstallAction::VersionChange | InstallAction::Reset => {
            format!("app installed in {}", span(install.duration_ms))
        }
    }
}

fn try_detail(result: &Try) -> String {
    let word = match (result.status, result.outcome) {
        (TryStatus::Passed, TestOutcome::Flaky) => "passed on a retry",
        // `test.fail()`: failing is what the suite wants.
        (TryStatus::Failed, TestOutcome::Expected) => "failed as expected",
        (status, _) => status.as_str(),
    };
    let title = result.title.join(" › ");
    let error = result.error.as_deref().and_then(|error| error.lines().find(|line| !line.trim().is_empty()));
    let error = error.map(|line| line.trim().to_owned()).unwrap_or_default();
    joined([format!("{word}: {title}, {}", span(result.duration_ms)), error])
}

fn completed_detail(
    conclusion: Conclusion,
    reason: Option<Reason>,
    detail: Option<&str>,
    tests: Counts,
    took: Option<u64>,
    install: Option<Install>,
) -> String {
    let counts = if tests.total == 0 {
        String::new()
    } else {
        let skipped = if tests.skipped > 0 { format!(", {} skipped", tests.skipped) } else { String::new() };
        format!("{} passed, {} failed, {} flaky{skipped}", tests.passed, tests.failed, tests.flaky)
    };
    let why = match (conclusion, reason, detail) {
        (Conclusion::Passed | Conclusion::Failed | Conclusion::Skipped, _, _) if tests.total > 0 => {
            String::new()
        }
        (Conclusion::Cancelled, _, None) => String::new(),
        (_, Some(reason), Some(detail)) => format!("{reason}: {detail}"),
        (_, Some(reason), None) => reason.to_string(),
        (_, None, detail) => detail.unwrap_or_default().to_owned(),
    };
    let took = took.map(span).unwrap_or_default();
    joined([conclusion.to_string(), counts, why, took, install.map(install_detail).unwrap_or_default()])
}

fn joined(parts: impl IntoIterator<Item = String>) -> String {
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: u64, fact: &str) -> Event {
        let text = format!(
            r#"{{"seq":{seq},"at":"2026-11-22T10:00:{seq:02}Z","org_id":"q","run_id":null,
            "job_id":"job_01kb4x9tq3m8e7w2n5r6v0zcha",{fact}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn started(seq: u64, number: u32, device: &str) -> Event {
        let ids = r#""attempt_id":"att_01kb4x9tq3m8e7w2n5r6v0zcha","agent_id":"agt_01kb4x9tq3m8e7w2n5r6v0zcha","device_id":"dev_01kb4x9tq3m8e7w2n5r6v0zcha""#;
        event(
            seq,
            &format!(
                r#""type":"job.started","data":{{"group_id":1,{ids},"number":{number},"device_name":"{device}"}}"#
            ),
        )
    }

    fn queued(seq: u64, more: &str) -> Event {
        event(
            seq,
            &format!(
                r#""type":"job.queued","data":{{"group_id":1,"priority":5,"not_before":null,"avoid":[],{more}}}"#
            ),
        )
    }

    fn completed(seq: u64) -> Event {
        let tests = r#"{"total":3,"passed":2,"failed":0,"flaky":1,"skipped":0}"#;
        event(
            seq,
            &format!(
                r#""type":"job.completed","data":{{"group_id":1,"from":"running","conclusion":"passed","reason":"tests_passed","detail":null,"tests":{tests}}}"#
            ),
        )
    }

    fn tell(story: &mut Story, event: &Event) -> Option<String> {
        story.event(event).map(|news| format!("{} ({})", news.status, news.detail))
    }

    #[test]
    fn a_job_that_changes_its_device_reads_as_a_story() {
        let mut story = Story::default();
        let mut told = Vec::new();
        for event in [
            queued(1, r#""reason":null,"detail":null"#),
            started(2, 1, "pixel-7"),
            queued(3, r#""reason":"device_fault","detail":"pixel-7 is gone""#),
            started(4, 2, "pixel-8"),
            event(
                5,
                r#""type":"job.phase","data":{"attempt_id":"att_01kb4x9tq3m8e7w2n5r6v0zcha","phase":"testing","install":{"action":"avoided","duration_ms":90}}"#,
            ),
            completed(9),
        ] {
            told.extend(tell(&mut story, &event));
        }
        assert_eq!(
            told,
            [
                "queued (waiting for a device)",
                "running (pixel-7; attempt 1)",
                "queued (again after device_fault: pixel-7 is gone)",
                "running (pixel-8; attempt 2)",
                "running (pixel-8; app already installed)",
                "completed (passed; 2 passed, 0 failed, 1 flaky; 7.0 s; app already installed)",
            ]
        );
    }

    #[test]
    fn an_end_is_told_once() {
        let mut story = Story::default();
        assert!(story.event(&completed(9)).is_some());
        assert!(story.event(&completed(9)).is_none());
        assert!(story.heartbeat("2026-11-22T11:00:00Z".parse().unwrap()).is_empty());
    }

    #[test]
    fn a_phase_without_news_about_the_app_is_no_line() {
        let mut story = Story::default();
        story.event(&started(1, 1, "p"));
        let phase = event(
            2,
            r#""type":"job.phase","data":{"attempt_id":"att_01kb4x9tq3m8e7w2n5r6v0zcha","phase":"testing","install":null}"#,
        );
        assert_eq!(story.event(&phase), None);
        let heartbeat = story.heartbeat("2026-11-22T10:02:01Z".parse().unwrap());
        assert_eq!(heartbeat[0].detail, "testing on p; 2m 00s");
    }
}
