//! The store for several servers: one PostgreSQL database, which all of them use alike. None leads.
//!
//! A verb says what it [needs](needs), commands that wait together are [gathered](lanes), their rows are locked and read
//! at once, the verbs change them [in memory](work), and all is [written](flush) with the commit. Nothing that another
//! server may change is remembered from one transaction to the next.

mod agents;
mod attempts;
mod claim;
mod columns;
mod connect;
mod feed;
mod flush;
mod jobs;
mod lanes;
mod library;
mod limits;
mod locks;
mod logins;
mod migrate;
mod needs;
mod read;
mod recorded;
mod results;
mod retention;
mod rows;
mod submit;
mod sweep;
mod table;
mod transaction;
mod values;
mod work;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::Object;
use jiff::Timestamp;
use qgjob_core::api::agents::{Held, HeldReply, Lease};
use qgjob_core::api::results::TestView;
use qgjob_core::api::runs::Installs;
use qgjob_core::model::agent::{self, Agent};
use qgjob_core::model::artifact::{self, Artifact};
use qgjob_core::model::attempt::{self, Attempt, Took};
use qgjob_core::model::build::AppVersion;
use qgjob_core::model::device::{self, Device, Quarantine};
use qgjob_core::model::event::{Event, Seq};
use qgjob_core::model::group;
use qgjob_core::model::job::{self, Conclusion, Job, Reason};
use qgjob_core::model::limits::{Limits, OrgChange, OrgLimits};
use qgjob_core::model::name::{AppVersionId, ConcurrencyGroup, OrgId, TestPath};
use qgjob_core::model::policy::{self, Policy};
use qgjob_core::model::run::{self, Run};
use qgjob_core::model::sha256::Sha256;
use qgjob_core::model::test_result::Try;
use qgjob_core::model::token::{self, Token};
use tokio::sync::broadcast;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::connect::Options;
use self::feed::Feed;
use self::lanes::{Inbox, Lanes};
use self::needs::Needs;
use self::transaction::{Stop, Verb, bounded, first, snapshot};
use self::values::{Digest, Word, get, number};
use self::work::Work;
use super::{
    Accepted, Answer, Cancel, Claim, Error, EventFilter, Finish, Finished, Forgotten, Gauges, GroupRow,
    JobFacts, JobFilter, Listed, Login, PhaseChange, Report, Result, Rules, RunFilter, RunningJob, Scope,
    Seen, SeenReply, Store, Submission, Swept, Unpassed, WaitingJob,
};

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL says no place.
    #[error("the URL of the store is wrong: {0}")]
    Url(String),
    /// Connections cannot be encrypted.
    #[error("TLS cannot be used: {0}")]
    Tls(rustls::Error),
    /// It does not keep text as qgjob needs it.
    #[error("the database keeps text as {0}: make one with ENCODING 'UTF8'")]
    Encoding(String),
    /// Newer servers have brought it to a schema that this one cannot use.
    #[error("the database has schema version {found}, this qgjob knows up to {known}: use a newer qgjob")]
    Newer {
        /// The database's version.
        found: u32,
        /// The newest this binary knows.
        known: u32,
    },
    /// A migration was applied in another form than this binary has it.
    #[error("migration {number} of the database is not the one of this qgjob: it was made by another build")]
    MigrationChanged {
        /// Which.
        number: u32,
    },
    /// It cannot be reached, or failed.
    #[error("PostgreSQL cannot be used: {0}")]
    Unusable(String),
}

impl From<Stop> for OpenError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Unreachable(why) | Stop::Corrupt(why) => Self::Unusable(why),
            Stop::Sql(error) => Self::Unusable(transaction::said(&error)),
            Stop::Refused(refusal) => Self::Unusable(refusal.to_string()),
        }
    }
}

/// The store in a PostgreSQL database.
pub struct Postgres {
    lanes: Lanes,
    inbox: Inbox,
    feed: Arc<Feed>,
    place: String,
    /// Ends the feed.
    _following: DropGuard,
}

impl Postgres {
    /// Connects to `url` (`postgres://user:password@host/database`) and brings the database to this binary's schema.
    /// Several servers may do so at once.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(url: &str, rules: Rules) -> std::result::Result<Self, OpenError> {
        let options = Options::read(url)?;
        let (pool, place) = (options.pool()?, options.shown());
        let connection = pool.get().await.map_err(Stop::from)?;
        examine(&connection).await?;
        migrate::apply(connection, migrate::ALL).await?;
        let feed = Arc::new(Feed::start(pool.clone()).await?);
        let stopping = CancellationToken::new();
        tokio::spawn(Arc::clone(&feed).follow(options, stopping.clone()));
        let lanes = Lanes { pool, feed: Arc::clone(&feed), rules };
        let inbox = lanes.clone().start();
        Ok(Self { lanes, inbox, feed, place, _following: stopping.drop_guard() })
    }

    /// Where the database is, for people: never with the password.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Runs `verb` on each item in a lane's next transaction.
    async fn write_each<I: Send + Sync + 'static, T: Send + 'static>(
        &self,
        batch: Vec<I>,
        needs: impl Fn(&I, &mut Needs) + Send + 'static,
        mut verb: impl FnMut(&mut Work, &I) -> Verb<T> + Send + 'static,
        settle: impl Fn(&mut Vec<Answer<T>>, u64) + Send + 'static,
    ) -> Result<Vec<Answer<T>>> {
        let batch = Arc::new(batch);
        let asked = Arc::clone(&batch);
        let needs = move |all: &mut Needs| asked.iter().for_each(|item| needs(item, all));
        self.inbox.run(needs, move |work| work.each(&batch, &mut verb), settle).await
    }

    /// Runs `verb` on one item.
    async fn write_one<T: Send + 'static>(
        &self,
        needs: impl Fn(&mut Needs) + Send + 'static,
        mut verb: impl FnMut(&mut Work) -> Verb<T> + Send + 'static,
    ) -> Result<Answer<T>> {
        self.inbox.run(needs, move |work| work.one(&mut verb), as_it_is).await
    }
}

/// An answer in which nothing depends on the commit.
fn as_it_is<T>(_: &mut T, _: u64) {}

/// Looks at what the promises depend on.
async fn examine(c: &Object) -> std::result::Result<(), OpenError> {
    let sql = "SELECT current_setting('server_encoding') AS encoding, current_setting('fsync') AS fsync,
        current_setting('full_page_writes') AS full_page_writes, current_setting('synchronous_commit') AS commits";
    let found = first(c, sql, &[], |row| {
        Ok((
            get::<String>(row, "encoding")?,
            ["fsync", "full_page_writes", "commits"].map(|name| get::<String>(row, name)),
        ))
    })
    .await?;
    let Some((encoding, settings)) = found else { return Ok(()) };
    if encoding != "UTF8" {
        return Err(OpenError::Encoding(encoding));
    }
    for (name, setting) in ["fsync", "full_page_writes", "synchronous_commit"].into_iter().zip(settings) {
        if setting? == "off" {
            tracing::warn!(
                "{name} is off in PostgreSQL: what was accepted may be lost when its machine fails"
            );
        }
    }
    Ok(())
}

/// Asks on a connection of the pool.
macro_rules! ask {
    ($self:ident, |$c:ident| $call:expr) => {{
        match bounded(async { Ok($self.lanes.pool.get().await?) }).await {
            Err(stop) => Err(stop),
            Ok(connection) => {
                let $c = &connection;
                let answer = bounded($call).await;
                if matches!(answer, Err(Stop::Unreachable(_))) {
                    // It may answer some day, which would be taken for the answer to another question.
                    drop(Object::take(connection));
                }
                answer
            }
        }
    }};
}

/// Reads: as [`ask`], and once more when the connection had ended while it lay in the pool.
macro_rules! read {
    ($self:ident, |$c:ident| $call:expr) => {{
        let answer = match ask!($self, |$c| $call) {
            Err(stop @ Stop::Sql(_)) if stop.is_lost() => {
                $self.lanes.forget_idle();
                ask!($self, |$c| $call)
            }
            answer => answer,
        };
        answer.map_err(Error::from)
    }};
}

#[async_trait]
impl Store for Postgres {
    async fn submit(&self, now: Timestamp, batch: Vec<Submission>) -> Result<Vec<Answer<Accepted>>> {
        let verb = move |work: &mut Work, submission: &Submission| submit::submit(work, now, submission);
        self.write_each(batch, submit::submit_needs, verb, as_it_is).await
    }

    async fn cancel(&self, now: Timestamp, scope: &Scope, what: Cancel) -> Result<Answer<()>> {
        let (scope, asked) = (scope.clone(), what.clone());
        let needs = move |needs: &mut Needs| submit::cancel_needs(&asked, needs);
        self.write_one(needs, move |work| submit::cancel(work, now, &scope, &what)).await
    }

    async fn register_agent(
        &self,
        now: Timestamp,
        registration: Sha256,
        agent: Agent,
        session: (Token, Sha256),
    ) -> Result<Answer<Agent>> {
        let asked = agent.clone();
        let needs = move |needs: &mut Needs| agents::register_needs(registration, &asked, needs);
        self.write_one(needs, move |work| agents::register(work, now, registration, &agent, &session)).await
    }

    async fn agents_seen(&self, now: Timestamp, batch: Vec<Seen>) -> Result<Vec<Answer<SeenReply>>> {
        let verb = move |work: &mut Work, seen: &Seen| agents::seen(work, now, seen);
        self.write_each(batch, agents::seen_needs, verb, as_it_is).await
    }

    async fn claim(&self, now: Timestamp, batch: Vec<Claim>) -> Result<Vec<Answer<Option<Lease>>>> {
        let verb = move |work: &mut Work, claim: &Claim| claim::claim(work, now, claim);
        self.write_each(batch, claim::needs, verb, |answers, before| claim::settle_leases(answers, before))
            .await
    }

    async fn leases_of_claim(
        &self,
        agent_id: agent::Id,
        claim_id: &str,
        lease: Duration,
    ) -> Result<Vec<Lease>> {
        read!(self, |c| claim::leases_of_claim(c, agent_id, claim_id, lease))
    }

    async fn renew(
        &self,
        now: Timestamp,
        lease: Duration,
        batch: Vec<Report<()>>,
    ) -> Result<Vec<Answer<HeldReply>>> {
        let needs = |report: &Report<()>, needs: &mut Needs| _ = needs.held.insert(report.attempt_id);
        let renew = move |work: &mut Work, report: &Report<()>| {
            let held = Held { attempt_id: report.attempt_id, epoch: report.epoch };
            attempts::renew(work, now, lease, report.agent_id, held)
        };
        self.write_each(batch, needs, renew, as_it_is).await
    }

    async fn set_phase(&self, now: Timestamp, batch: Vec<Report<PhaseChange>>) -> Result<Vec<Answer<()>>> {
        let verb = move |work: &mut Work, report: &Report<_>| attempts::set_phase(work, now, report);
        self.write_each(batch, attempts::phase_needs, verb, as_it_is).await
    }

    async fn add_tries(&self, now: Timestamp, batch: Vec<Report<Vec<Try>>>) -> Result<Vec<Answer<()>>> {
        let verb = move |work: &mut Work, report: &Report<_>| attempts::add_tries(work, now, report);
        self.write_each(batch, attempts::tries_needs, verb, as_it_is).await
    }

    async fn finish(&self, now: Timestamp, batch: Vec<Report<Finish>>) -> Result<Vec<Answer<Finished>>> {
        let verb = move |work: &mut Work, report: &Report<_>| attempts::finish(work, now, report);
        let answers = self.write_each(batch, attempts::finish_needs, verb, as_it_is).await?;
        Ok(answers.into_iter().map(Answer::flatten).collect())
    }

    async fn add_artifact(&self, _now: Timestamp, report: Report<Artifact>) -> Result<Answer<()>> {
        let asked = report.clone();
        let needs = move |needs: &mut Needs| attempts::artifact_needs(&asked, needs);
        self.write_one(needs, move |work| attempts::add_artifact(work, &report)).await
    }

    async fn sweep(&self, now: Timestamp, grace: Duration, silent: Duration, random: u128) -> Result<Swept> {
        sweep::sweep(&self.lanes, now, grace, silent, random).await
    }

    async fn forget(&self, now: Timestamp, keep: Duration, most: u32) -> Result<Forgotten> {
        self.lanes.alone(move |open, _| Box::pin(retention::forget(open, now, keep, most))).await
    }

    async fn add_blob(&self, now: Timestamp, org: &OrgId, sha256: Sha256, size_bytes: u64) -> Result<()> {
        read!(self, |c| library::add_blob(c, now, org, sha256, size_bytes))
    }

    async fn blob(&self, org: &OrgId, sha256: Sha256) -> Result<Option<u64>> {
        let sql = "SELECT size_bytes FROM blobs WHERE org_id = $1 AND sha256 = $2";
        let (org, sha256) = (Word(org.clone()), Digest(sha256));
        read!(self, |c| first(c, sql, &[&org, &sha256], |row| number(row, "size_bytes")))
    }

    async fn bind_app_version(&self, app_version: AppVersion) -> Result<Answer<AppVersion>> {
        let asked = app_version.clone();
        let needs = move |needs: &mut Needs| library::bind_needs(&asked, needs);
        self.write_one(needs, move |work| library::bind_app_version(work, &app_version)).await
    }

    async fn set_device_drained(
        &self,
        now: Timestamp,
        device: device::Id,
        drained: bool,
    ) -> Result<Answer<Device>> {
        let needs = move |needs: &mut Needs| _ = needs.devices.insert(device);
        self.write_one(needs, move |work| agents::set_device_drained(work, now, device, drained)).await
    }

    async fn set_device_quarantine(
        &self,
        now: Timestamp,
        device: device::Id,
        quarantine: Quarantine,
    ) -> Result<Answer<Device>> {
        let needs = move |needs: &mut Needs| _ = needs.devices.insert(device);
        self.write_one(needs, move |work| agents::set_device_quarantine(work, now, device, &quarantine)).await
    }

    async fn give_up(&self, now: Timestamp, jobs: Vec<job::Id>, detail: &str) -> Result<Vec<Answer<()>>> {
        let detail = detail.to_owned();
        let needs = |job: &job::Id, needs: &mut Needs| _ = needs.jobs.insert(*job);
        let verb = move |work: &mut Work, job: &job::Id| jobs::give_up(work, now, *job, &detail);
        self.write_each(jobs, needs, verb, as_it_is).await
    }

    async fn set_agent_draining(
        &self,
        now: Timestamp,
        agent: agent::Id,
        draining: bool,
    ) -> Result<Answer<Agent>> {
        let needs = move |needs: &mut Needs| _ = needs.agents.insert(agent);
        self.write_one(needs, move |work| agents::set_agent_draining(work, now, agent, draining)).await
    }

    async fn remove_agent(&self, now: Timestamp, agent: agent::Id, random: u128) -> Result<Answer<()>> {
        let needs = move |needs: &mut Needs| agents::remove_needs(agent, needs);
        self.write_one(needs, move |work| agents::remove(work, now, agent, random)).await
    }

    async fn add_token(&self, token: Token, hash: Sha256) -> Result<()> {
        Ok(ask!(self, |c| library::add_token(c, token, hash))?)
    }

    async fn remove_token(&self, token: token::Id) -> Result<Answer<()>> {
        Ok(ask!(self, |c| library::remove_token(c, token))?)
    }

    async fn add_policy(&self, policy: Policy) -> Result<Answer<()>> {
        self.lanes.alone_one(move |open, work| Box::pin(logins::add_policy(open, work, policy.clone()))).await
    }

    async fn remove_policy(&self, now: Timestamp, org: &OrgId, policy: policy::Id) -> Result<Answer<()>> {
        let org = org.clone();
        self.lanes
            .alone_one(move |open, work| {
                Box::pin(logins::remove_policy(open, work, now, org.clone(), policy))
            })
            .await
    }

    async fn policies(&self, org: Option<&OrgId>) -> Result<Vec<Policy>> {
        read!(self, |c| logins::policies(c, org))
    }

    async fn log_in(&self, login: Login) -> Result<Answer<()>> {
        self.lanes.alone_one(move |open, work| Box::pin(logins::log_in(open, work, login.clone()))).await
    }

    async fn renew_login(&self, now: Timestamp, token: token::Id) -> Result<Answer<Token>> {
        self.lanes.alone_one(move |open, _| Box::pin(logins::renew(open, now, token))).await
    }

    async fn change_org(&self, now: Timestamp, org: &OrgId, change: OrgChange) -> Result<OrgLimits> {
        let org = org.clone();
        self.lanes
            .alone(move |open, work| {
                let org = org.clone();
                Box::pin(async move { limits::change_org(open, work, now, &org, change).await })
            })
            .await
    }

    async fn set_app_version_paused(
        &self,
        now: Timestamp,
        org: &OrgId,
        app_version: &AppVersionId,
        paused: bool,
    ) -> Result<()> {
        let names = (org.clone(), app_version.clone());
        self.lanes
            .alone(move |open, work| {
                let (org, label) = names.clone();
                Box::pin(async move {
                    limits::set_app_version_paused(open, work, now, &org, &label, paused).await
                })
            })
            .await
    }

    async fn set_concurrency_limit(
        &self,
        now: Timestamp,
        org: &OrgId,
        name: &ConcurrencyGroup,
        limit: u32,
    ) -> Result<()> {
        let names = (org.clone(), name.clone());
        self.lanes
            .alone(move |open, work| {
                let (org, name) = names.clone();
                Box::pin(
                    async move { limits::set_concurrency_limit(open, work, now, &org, &name, limit).await },
                )
            })
            .await
    }

    async fn promote(&self, now: Timestamp, scope: &Scope, job: job::Id) -> Result<Answer<()>> {
        let scope = scope.clone();
        let needs = move |needs: &mut Needs| _ = needs.jobs.insert(job);
        self.write_one(needs, move |work| limits::promote(work, now, &scope, job)).await
    }

    async fn run(&self, scope: &Scope, id: run::Id) -> Result<Option<(Run, Installs)>> {
        read!(self, |c| read::run(c, scope, id))
    }

    async fn runs(
        &self,
        scope: &Scope,
        filter: &RunFilter,
        before: Option<run::Id>,
        limit: u32,
    ) -> Result<Vec<(Run, Installs)>> {
        read!(self, |c| read::runs(c, scope, filter, before, limit))
    }

    async fn run_reasons(&self, id: run::Id) -> Result<Vec<(Conclusion, Option<Reason>)>> {
        read!(self, |c| read::run_reasons(c, id))
    }

    async fn unpassed(&self, run: run::Id) -> Result<Vec<Unpassed>> {
        read!(self, |c| results::unpassed(c, run))
    }

    async fn job(&self, scope: &Scope, id: job::Id) -> Result<Option<(Job, JobFacts)>> {
        read!(self, |c| read::job(c, scope, id))
    }

    async fn jobs(
        &self,
        scope: &Scope,
        filter: &JobFilter,
        before: Option<job::Id>,
        limit: u32,
    ) -> Result<Vec<(Job, JobFacts)>> {
        read!(self, |c| read::jobs(c, scope, filter, before, limit))
    }

    async fn jobs_by_suffix(&self, scope: &Scope, suffix: &str) -> Result<Vec<job::Id>> {
        read!(self, |c| read::jobs_by_suffix(c, scope, suffix))
    }

    async fn attempts(&self, job: job::Id) -> Result<Vec<(Attempt, String)>> {
        read!(self, |c| read::attempts(c, job))
    }

    async fn attempt(&self, id: attempt::Id) -> Result<Option<(Attempt, Job)>> {
        let both = async {
            let open = snapshot(self.lanes.pool.get().await?).await?;
            let found = read::attempt(open.client()?, id).await?;
            open.roll_back().await?;
            Ok(found)
        };
        Ok(bounded(both).await?)
    }

    async fn tries(&self, job: job::Id) -> Result<Vec<(attempt::Id, Try)>> {
        read!(self, |c| read::tries(c, job))
    }

    async fn artifacts(&self, job: job::Id) -> Result<Vec<Artifact>> {
        read!(self, |c| read::artifacts(c, job))
    }

    async fn run_tests(
        &self,
        run: run::Id,
        after: Option<(job::Id, u32)>,
        limit: u32,
    ) -> Result<Vec<TestView>> {
        read!(self, |c| results::tests(c, run, after, limit))
    }

    async fn run_artifacts(
        &self,
        run: run::Id,
        after: Option<artifact::Id>,
        limit: u32,
    ) -> Result<Vec<Artifact>> {
        read!(self, |c| results::artifacts(c, run, after, limit))
    }

    async fn artifact(&self, scope: &Scope, id: artifact::Id) -> Result<Option<(Artifact, OrgId)>> {
        read!(self, |c| read::artifact(c, scope, id))
    }

    async fn app_version(&self, org: &OrgId, id: &AppVersionId) -> Result<Option<AppVersion>> {
        read!(self, |c| read::app_version(c, org, id))
    }

    async fn app_versions(
        &self,
        scope: &Scope,
        before: Option<Listed>,
        limit: u32,
    ) -> Result<Vec<AppVersion>> {
        read!(self, |c| read::app_versions(c, scope, before.clone(), limit))
    }

    async fn devices(&self, scope: &Scope) -> Result<Vec<Device>> {
        read!(self, |c| read::devices(c, scope))
    }

    async fn agents(&self) -> Result<Vec<Agent>> {
        read!(self, |c| read::agents(c))
    }

    async fn tokens(&self) -> Result<Vec<Token>> {
        read!(self, |c| read::tokens(c))
    }

    async fn token_by_hash(&self, hash: Sha256, now: Timestamp) -> Result<Option<Token>> {
        read!(self, |c| library::live_token(c, hash, now))
    }

    async fn events_after(
        &self,
        scope: &Scope,
        filter: EventFilter,
        after: Seq,
        limit: u32,
    ) -> Result<Vec<Event>> {
        read!(self, |c| read::events_after(c, scope, filter, after, limit))
    }

    async fn last_seq(&self) -> Result<Seq> {
        read!(self, |c| feed::last_seq(c))
    }

    async fn groups(&self) -> Result<Vec<GroupRow>> {
        read!(self, |c| read::groups(c))
    }

    async fn group(&self, id: group::Id) -> Result<Option<GroupRow>> {
        read!(self, |c| read::group(c, id))
    }

    async fn waiting_jobs(&self) -> Result<Vec<WaitingJob>> {
        read!(self, |c| read::waiting_jobs(c))
    }

    async fn running_jobs(&self) -> Result<Vec<RunningJob>> {
        read!(self, |c| read::running_jobs(c))
    }

    async fn limits(&self) -> Result<Limits> {
        read!(self, |c| limits::read_of(c, None))
    }

    async fn history(&self, newest: u32) -> Result<Vec<(OrgId, Took)>> {
        read!(self, |c| read::history(c, newest))
    }

    async fn recorded(&self, org: &OrgId, app_id: Option<&str>, tests: &[TestPath]) -> Result<Vec<Vec<Try>>> {
        read!(self, |c| recorded::recorded(c, org, app_id, tests))
    }

    async fn gauges(&self) -> Result<Gauges> {
        read!(self, |c| read::gauges(c))
    }

    async fn probe(&self, now: Timestamp) -> Result<()> {
        let works = async {
            let c = self.lanes.pool.get().await?;
            migrate::check(&c).await?;
            read::probe(&c, now).await
        };
        Ok(bounded(works).await?)
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<Vec<Event>>> {
        self.feed.subscribe()
    }
}

#[cfg(test)]
mod tests;
