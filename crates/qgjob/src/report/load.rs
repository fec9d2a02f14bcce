//! Reading a report from the server.

use std::collections::HashMap;

use jiff::Timestamp;
use qgjob_core::model::job;

use super::{JobReport, Report, SCHEMA};
use crate::client::watch::Subject;
use crate::client::{Client, Result};

impl Report {
    /// Reads the report of a run or of a job as it stands at `now`.
    ///
    /// # Errors
    /// What the client says.
    pub async fn load(client: &Client, subject: &Subject, now: Timestamp) -> Result<Self> {
        let (run, only_job) = match subject {
            Subject::Run(id) => (id.clone(), None),
            Subject::Job(id) => {
                let job = client.job(id).await?.job;
                (job.run_id.to_string(), Some(job.id))
            }
        };
        // What is over before its tests are read changes no more; what is not is told as not over.
        let view = client.run(&run).await?;
        let tests = client.run_tests(&run).await?;
        let artifacts = client.run_artifacts(&run).await?;
        let mut jobs: Vec<JobReport> = Vec::new();
        for mut view in view.job_list {
            if only_job.is_none_or(|only| only == view.job.id) {
                view.job.spec.env.clear();
                jobs.push(JobReport { job: view, results: Vec::new(), artifacts: Vec::new() });
            }
        }
        let places: HashMap<job::Id, usize> =
            jobs.iter().zip(0..).map(|(job, at)| (job.job.job.id, at)).collect();
        let mut carried = Vec::new();
        for test in tests {
            match places.get(&test.job_id) {
                Some(at) => jobs[*at].results.push(test),
                None if test.carried_from.is_some() && only_job.is_none() => carried.push(test),
                None => {}
            }
        }
        for artifact in artifacts {
            if let Some(at) = places.get(&artifact.job_id) {
                jobs[*at].artifacts.push(artifact);
            }
        }
        let totals = match (only_job, jobs.first()) {
            (Some(_), job) => job.map(|job| job.job.job.tests).unwrap_or_default(),
            (None, _) => view.run.run.tests,
        };
        Ok(Self { schema: SCHEMA.to_owned(), made_at: now, run: view.run, only_job, totals, jobs, carried })
    }
}
