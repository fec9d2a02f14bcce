//! The calls of `/api/v1`, one method each.

use std::time::Duration;

use bytes::Bytes;
use qgjob_core::api::about::{Readiness, Version};
use qgjob_core::api::app_versions::{AppVersionView, NewAppVersion};
use qgjob_core::api::explain::Explanation;
use qgjob_core::api::jobs::{AttemptView, JobView, TryView};
use qgjob_core::api::logins::{NewPolicy, PolicyTest, PolicyTested, PolicyView};
use qgjob_core::api::orgs::{ConcurrencyLimit, ConcurrencyView, OrgView, QuotaChange};
use qgjob_core::api::page::{MAX_LIMIT, Page};
use qgjob_core::api::queue::{GroupView, QueueView};
use qgjob_core::api::results::TestView;
use qgjob_core::api::runs::{CancelByKey, NewRun, RunView, RunWithJobs, Submitted};
use qgjob_core::api::tokens::{NewToken, TokenWithSecret, WhoAmI};
use qgjob_core::model::agent::Agent;
use qgjob_core::model::artifact::Artifact;
use qgjob_core::model::device::Device;
use qgjob_core::model::event::LogStream;
use qgjob_core::model::name::{AppVersionId, ConcurrencyGroup, IdempotencyKey, OrgId};
use qgjob_core::model::token::Token;
use reqwest::Method;
use reqwest::header::DATE;
use serde::de::DeserializeOwned;

use super::{Client, Error, Result, Secret, part};

/// Filters of a list as they are sent: names and values.
pub type Filter = Vec<(&'static str, String)>;

/// Which part of a log to read.
#[derive(Debug, Clone, Copy)]
pub struct LogQuery {
    /// Which log.
    pub stream: LogStream,
    /// Which attempt, counted from 1; none: the latest.
    pub attempt: Option<u32>,
    /// The first byte.
    pub offset: u64,
}

impl Client {
    /// Submits a run. The key makes repeats harmless.
    pub async fn submit(&self, run: &NewRun, key: &IdempotencyKey) -> Result<Submitted> {
        self.call(Method::POST, "api/v1/runs")
            .json(run)
            .header("idempotency-key", key.as_str())
            .repeatable()
            .answer()
            .await
    }

    /// A run with its jobs.
    pub async fn run(&self, id: &str) -> Result<RunWithJobs> {
        self.call(Method::GET, format!("api/v1/runs/{}", part(id))).answer().await
    }

    /// Runs, newest first.
    pub async fn runs(&self, filter: &Filter) -> Result<Page<RunView>> {
        self.call(Method::GET, "api/v1/runs").query(filter).answer().await
    }

    /// The run that a call with this key made; none when there is none, or it was forgotten.
    pub async fn run_by_key(&self, org_id: &OrgId, key: &IdempotencyKey) -> Result<Option<RunView>> {
        let filter = vec![("org_id", org_id.to_string()), ("idempotency_key", key.to_string())];
        let found = self.runs(&filter).await?.items;
        // A server that does not know the filter would name any run.
        Ok(found.into_iter().find(|view| view.run.idempotency_key.as_ref() == Some(key)))
    }

    /// The ids of all runs that end in `end`, newest first. Reads the ids of all runs: the server finds only jobs
    /// by the end of their id.
    pub async fn runs_by_end(&self, end: &str) -> Result<Vec<String>> {
        let (mut found, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let mut filter: Filter = vec![("limit", MAX_LIMIT.to_string())];
            filter.extend(cursor.take().map(|cursor| ("cursor", cursor)));
            let page = self.runs(&filter).await?;
            let ids = page.items.iter().map(|view| view.run.id.to_string());
            found.extend(ids.filter(|id| id.ends_with(end)));
            match page.next_cursor {
                Some(next) => cursor = Some(next),
                None => return Ok(found),
            }
        }
    }

    /// A job, by its id or the end of it.
    pub async fn job(&self, id: &str) -> Result<JobView> {
        self.call(Method::GET, format!("api/v1/jobs/{}", part(id))).answer().await
    }

    /// Jobs, newest first.
    pub async fn jobs(&self, filter: &Filter) -> Result<Page<JobView>> {
        self.call(Method::GET, "api/v1/jobs").query(filter).answer().await
    }

    /// The attempts of a job, oldest first.
    pub async fn attempts(&self, job: &str) -> Result<Vec<AttemptView>> {
        self.items(format!("api/v1/jobs/{}/attempts", part(job))).await
    }

    /// The tries of the tests of a job, in the order in which they ended.
    pub async fn tries(&self, job: &str) -> Result<Vec<TryView>> {
        self.items(format!("api/v1/jobs/{}/tests", part(job))).await
    }

    /// The files kept from a job.
    pub async fn artifacts(&self, job: &str) -> Result<Vec<Artifact>> {
        self.items(format!("api/v1/jobs/{}/artifacts", part(job))).await
    }

    /// The tests of a run, each with its tries in the attempt that counts.
    pub async fn run_tests(&self, run: &str) -> Result<Vec<TestView>> {
        self.items(format!("api/v1/runs/{}/tests", part(run))).await
    }

    /// The files kept from a run's jobs, oldest first.
    pub async fn run_artifacts(&self, run: &str) -> Result<Vec<Artifact>> {
        self.items(format!("api/v1/runs/{}/artifacts", part(run))).await
    }

    /// The bytes of an artifact.
    pub async fn artifact(&self, id: &str) -> Result<reqwest::Response> {
        let call = self.call(Method::GET, format!("api/v1/artifacts/{}/content", part(id)));
        call.timeout(Duration::from_secs(3600)).send().await
    }

    /// Why a job waits, or ended as it did.
    pub async fn explain(&self, job: &str) -> Result<Explanation> {
        self.call(Method::GET, format!("api/v1/jobs/{}/explain", part(job))).answer().await
    }

    /// Cancels a job.
    pub async fn cancel_job(&self, id: &str) -> Result<()> {
        self.call(Method::POST, format!("api/v1/jobs/{}/cancel", part(id))).repeatable().done().await
    }

    /// Cancels all jobs of a run that are not over.
    pub async fn cancel_run(&self, id: &str) -> Result<()> {
        self.call(Method::POST, format!("api/v1/runs/{}/cancel", part(id))).repeatable().done().await
    }

    /// Cancels the run that a submit with this key made; one that is still on its way will make a run that is over.
    pub async fn cancel_by_key(&self, org_id: &OrgId, key: &IdempotencyKey) -> Result<()> {
        let body = CancelByKey { org_id: org_id.clone(), idempotency_key: key.clone() };
        self.call(Method::POST, "api/v1/runs/cancel-by-key").json(&body).repeatable().done().await
    }

    /// Submits a job that is over once more, as a run of its own.
    pub async fn retry(&self, job: &str, key: &IdempotencyKey) -> Result<Submitted> {
        let call = self.call(Method::POST, format!("api/v1/jobs/{}/retry", part(job)));
        call.header("idempotency-key", key.as_str()).repeatable().answer().await
    }

    /// Repeats what did not pass in a run that is over, as a run of its own.
    pub async fn rerun_failed(&self, run: &str, key: &IdempotencyKey) -> Result<Submitted> {
        let call = self.call(Method::POST, format!("api/v1/runs/{}/rerun-failed", part(run)));
        call.header("idempotency-key", key.as_str()).repeatable().answer().await
    }

    /// A piece of a log, at most 8 MiB, and the attempt it is of: none when there is no attempt. Empty when there is
    /// nothing at the offset.
    pub async fn log(&self, job: &str, query: LogQuery) -> Result<(Option<u32>, Bytes)> {
        let mut filter: Filter =
            vec![("stream", query.stream.to_string()), ("offset", query.offset.to_string())];
        filter.extend(query.attempt.map(|attempt| ("attempt", attempt.to_string())));
        let call = self.call(Method::GET, format!("api/v1/jobs/{}/logs", part(job))).query(&filter);
        let response = call.accept("text/plain").send().await?;
        let attempt = response.headers().get("qgjob-attempt");
        let attempt = attempt.and_then(|number| number.to_str().ok()?.parse().ok());
        let bytes = response.bytes().await.map_err(|error| super::unreachable(&self.base, &error))?;
        Ok((attempt, bytes))
    }

    /// Groups that have queued or running jobs.
    pub async fn queue(&self) -> Result<Vec<GroupView>> {
        self.call(Method::GET, "api/v1/queue").answer().await
    }

    /// The queue of an app version.
    pub async fn queue_of(&self, org: Option<&OrgId>, id: &AppVersionId) -> Result<QueueView> {
        let path = format!("api/v1/queue/{}", part(id.as_str()));
        self.call(Method::GET, path).query(&of_org(org)).answer().await
    }

    /// Lets the waiting jobs of an app version rest (`pause`), or go on (`resume`).
    pub async fn set_queue(&self, org: Option<&OrgId>, id: &AppVersionId, verb: &str) -> Result<QueueView> {
        let path = format!("api/v1/queue/{}/{verb}", part(id.as_str()));
        self.call(Method::POST, path).query(&of_org(org)).repeatable().answer().await
    }

    /// Moves a waiting job before others.
    pub async fn promote(&self, id: &str) -> Result<JobView> {
        self.call(Method::POST, format!("api/v1/jobs/{}/promote", part(id))).repeatable().answer().await
    }

    /// An org's limits.
    pub async fn org(&self, org: &OrgId) -> Result<OrgView> {
        self.call(Method::GET, format!("api/v1/orgs/{}/quotas", part(org.as_str()))).answer().await
    }

    /// Changes an org's limits.
    pub async fn change_quota(&self, org: &OrgId, change: &QuotaChange) -> Result<OrgView> {
        let call = self.call(Method::PATCH, format!("api/v1/orgs/{}/quotas", part(org.as_str())));
        call.json(change).repeatable().answer().await
    }

    /// Lets all waiting jobs of an org rest (`pause`), or go on (`resume`).
    pub async fn set_org(&self, org: &OrgId, verb: &str) -> Result<OrgView> {
        let call = self.call(Method::POST, format!("api/v1/orgs/{}/{verb}", part(org.as_str())));
        call.repeatable().answer().await
    }

    /// The concurrency groups of an org, by name.
    pub async fn concurrency_groups(&self, org: &OrgId) -> Result<Vec<ConcurrencyView>> {
        self.items(format!("api/v1/orgs/{}/concurrency-groups", part(org.as_str()))).await
    }

    /// Sets how many jobs of a concurrency group run at a time.
    pub async fn set_concurrency_limit(
        &self,
        org: &OrgId,
        name: &ConcurrencyGroup,
        limit: ConcurrencyLimit,
    ) -> Result<ConcurrencyView> {
        let (org, name) = (part(org.as_str()), part(name.as_str()));
        let call = self.call(Method::PUT, format!("api/v1/orgs/{org}/concurrency-groups/{name}"));
        call.json(&limit).repeatable().answer().await
    }

    /// Binds a label to an uploaded build.
    pub async fn bind_app_version(&self, new: &NewAppVersion) -> Result<AppVersionView> {
        self.call(Method::POST, "api/v1/app-versions").json(new).repeatable().answer().await
    }

    /// What a label names; none when it names nothing yet.
    pub async fn app_version(
        &self,
        org: Option<&OrgId>,
        id: &AppVersionId,
    ) -> Result<Option<AppVersionView>> {
        let path = format!("api/v1/app-versions/{}", part(id.as_str()));
        let call = self.call(Method::GET, path).query(&of_org(org));
        match call.answer().await {
            Ok(view) => Ok(Some(view)),
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Labels, newest first.
    pub async fn app_versions(&self, filter: &Filter) -> Result<Page<AppVersionView>> {
        self.call(Method::GET, "api/v1/app-versions").query(filter).answer().await
    }

    /// All devices that are visible.
    pub async fn devices(&self) -> Result<Vec<Device>> {
        self.items("api/v1/devices".to_owned()).await
    }

    /// One device.
    pub async fn device(&self, id: &str) -> Result<Device> {
        self.call(Method::GET, format!("api/v1/devices/{}", part(id))).answer().await
    }

    /// Takes a device out (`drain`) or back in (`enable`).
    pub async fn set_device(&self, id: &str, verb: &str) -> Result<Device> {
        self.call(Method::POST, format!("api/v1/devices/{}/{verb}", part(id))).repeatable().answer().await
    }

    /// All agents.
    pub async fn agents(&self) -> Result<Vec<Agent>> {
        self.items("api/v1/agents".to_owned()).await
    }

    /// One agent.
    pub async fn agent(&self, id: &str) -> Result<Agent> {
        self.call(Method::GET, format!("api/v1/agents/{}", part(id))).answer().await
    }

    /// Lets an agent take no new job (`drain`), or take jobs again (`enable`).
    pub async fn set_agent(&self, id: &str, verb: &str) -> Result<Agent> {
        self.call(Method::POST, format!("api/v1/agents/{}/{verb}", part(id))).repeatable().answer().await
    }

    /// Forgets an agent and its devices.
    pub async fn remove_agent(&self, id: &str) -> Result<()> {
        self.call(Method::DELETE, format!("api/v1/agents/{}", part(id))).done().await
    }

    /// Makes a token; the only time its secret is shown.
    pub async fn create_token(&self, new: &NewToken) -> Result<TokenWithSecret> {
        self.call(Method::POST, "api/v1/tokens").json(new).answer().await
    }

    /// All tokens, newest first, without their secrets.
    pub async fn tokens(&self) -> Result<Vec<Token>> {
        self.items("api/v1/tokens".to_owned()).await
    }

    /// Ends a token.
    pub async fn revoke_token(&self, id: &str) -> Result<()> {
        self.call(Method::DELETE, format!("api/v1/tokens/{}", part(id))).done().await
    }

    /// The policies that let pipelines log in to an org, in the order in which they count.
    pub async fn policies(&self, org: &OrgId) -> Result<Vec<PolicyView>> {
        self.items(format!("api/v1/orgs/{}/oidc-policies", part(org.as_str()))).await
    }

    /// Adds a policy behind those that the org has.
    pub async fn add_policy(&self, org: &OrgId, new: &NewPolicy) -> Result<PolicyView> {
        let call = self.call(Method::POST, format!("api/v1/orgs/{}/oidc-policies", part(org.as_str())));
        call.json(new).answer().await
    }

    /// Removes a policy.
    pub async fn remove_policy(&self, org: &OrgId, id: &str) -> Result<()> {
        let path = format!("api/v1/orgs/{}/oidc-policies/{}", part(org.as_str()), part(id));
        self.call(Method::DELETE, path).done().await
    }

    /// What a login with the id-token would come to.
    pub async fn test_policies(&self, org: &OrgId, id_token: &Secret) -> Result<PolicyTested> {
        let call = self.call(Method::POST, format!("api/v1/orgs/{}/oidc-policies/test", part(org.as_str())));
        call.json(&PolicyTest { token: id_token.expose().to_owned() }).repeatable().answer().await
    }

    /// Whom the server takes the caller for.
    pub async fn whoami(&self) -> Result<WhoAmI> {
        self.call(Method::GET, "api/v1/whoami").answer().await
    }

    /// The server's version, and the value of its `date` header.
    pub async fn version(&self) -> Result<(Version, Option<String>)> {
        let response = self.call(Method::GET, "api/v1/version").accept("application/json").send().await?;
        let date = response.headers().get(DATE).and_then(|date| date.to_str().ok()).map(str::to_owned);
        Ok((self.read_json(response).await?, date))
    }

    /// Whether the server can do its work. Asks once: whoever checks wants to know how it is now.
    pub async fn ready(&self) -> Result<Readiness> {
        let call = self.call(Method::GET, "readyz").query(&[("verbose", "1")]);
        let response = call.request.send().await.map_err(|error| super::unreachable(&self.base, &error))?;
        self.read_json(response).await
    }

    /// All items of a list, which may be whole or come in pages.
    async fn items<T: DeserializeOwned>(&self, path: String) -> Result<Vec<T>> {
        let (mut items, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let mut filter: Filter = vec![("limit", MAX_LIMIT.to_string())];
            filter.extend(cursor.iter().map(|cursor| ("cursor", cursor.clone())));
            let page: Page<T> = self.call(Method::GET, &path).query(&filter).answer().await?;
            items.extend(page.items);
            match page.next_cursor {
                Some(next) if Some(&next) == cursor.as_ref() => {
                    return Err(self.not_understood(format!("{path} gives the same cursor twice")));
                }
                Some(next) => cursor = Some(next),
                None => return Ok(items),
            }
        }
    }
}

fn of_org(org: Option<&OrgId>) -> Filter {
    org.map(|org| ("org_id", org.to_string())).into_iter().collect()
}

/// The server's clock as its `date` header tells it.
pub fn server_time(date: &str) -> std::result::Result<jiff::Timestamp, Error> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).map_err(|error| Error::NotUnderstood {
        server: "the server".to_owned(),
        detail: format!("its date header {date:?}: {error}"),
    })
}
