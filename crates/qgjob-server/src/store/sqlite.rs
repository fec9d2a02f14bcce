//! The embedded store: one SQLite file, one writer thread that commits all that waits with one fsync, a few readers.

mod agents;
mod attempts;
mod claim;
mod file;
mod jobs;
mod known;
mod library;
mod limits;
mod logins;
mod migrate;
mod read;
mod reads;
mod recorded;
mod reruns;
mod results;
mod retention;
mod rows;
mod submit;
mod sweep;
mod tokens;
mod transaction;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
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
use rusqlite::Connection;
use rustix::fs::FlockOperation;
use tokio::sync::{broadcast, mpsc};

use self::known::Known;
use self::limits::Gate;
use self::reads::Reads;
use self::rows::{At, Bin, Digest, Word};
use self::tokens::Tokens;
use self::transaction::{Numbers, Tx, Verb};
use self::writer::{Command, Writer};
use super::{
    Accepted, Answer, Cancel, Claim, Error, EventFilter, Finish, Finished, Forgotten, Gauges, GroupRow,
    JobFacts, JobFilter, Listed, Login, PhaseChange, Report, Result, Rules, RunFilter, RunningJob, Scope,
    Seen, SeenReply, Store, Submission, Swept, Unpassed, WaitingJob,
};

/// Commands that may wait for the writer before callers have to wait to hand theirs over.
const QUEUE: usize = 4096;
/// Transactions that a slow receiver of events may lag behind.
const EVENTS: usize = 1024;

/// Why a database file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another part of this one, has it open.
    #[error("{} is in use by another qgjob server", .0.display())]
    InUse(PathBuf),
    /// It was written by a newer version.
    #[error("the database has schema version {found}, this qgjob knows up to {known}: use a newer qgjob")]
    Newer {
        /// The database's version.
        found: u32,
        /// The newest this binary knows.
        known: u32,
    },
    /// A migration was applied in another form than this binary has it.
    #[error(
        "migration {number} of the database is not the one of this qgjob: the file was made by another build"
    )]
    MigrationChanged {
        /// Which.
        number: u32,
    },
    /// The folder or the lock file cannot be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// SQLite cannot use the file.
    #[error("the database cannot be opened: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// The store in one SQLite file. Dropping it waits for the writer to finish what it was given.
pub struct Sqlite {
    /// None only while it is dropped.
    commands: Option<mpsc::Sender<Box<dyn Command>>>,
    writer: Option<JoinHandle<()>>,
    reads: Reads,
    tokens: Arc<Tokens>,
    events: broadcast::Sender<Arc<Vec<Event>>>,
}

impl Sqlite {
    /// Opens or makes the database file `path`, whose folder must exist, and brings it to this binary's schema.
    /// `<path>.lock` beside it is held for as long as the store is open.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path, rules: Rules) -> std::result::Result<Self, OpenError> {
        let lock = file::lock(path)?;
        let connection = file::open(path)?;
        let (commands, waiting) = mpsc::channel(QUEUE);
        let (events, _) = broadcast::channel(EVENTS);
        let (numbers, tokens) = (Numbers::read(&connection)?, Arc::<Tokens>::default());
        let gate = Gate::read(&connection)?;
        let writer = Writer {
            connection,
            rules,
            commands: waiting,
            events: events.clone(),
            numbers,
            gate,
            known: Known::default(),
            tokens: Arc::clone(&tokens),
            broken: false,
        };
        let thread = std::thread::Builder::new().name("qgjob-store".to_owned()).spawn(move || {
            writer.work();
            // Closing the file alone would leave it locked for as long as a process that was forked off just now holds
            // a copy of it.
            if let Err(error) = rustix::fs::flock(&lock, FlockOperation::Unlock) {
                tracing::warn!(%error, "the lock of the store was not released");
            }
        });
        let writer = thread.map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        Ok(Self { commands: Some(commands), writer: Some(writer), reads: Reads::new(path), tokens, events })
    }

    /// Runs `verb` in the writer's next transaction; answers when it is on the disk. The verb may be run a second time
    /// after what it did was undone.
    async fn write<T: Send + 'static>(
        &self,
        verb: impl FnMut(&mut Tx<'_>) -> Verb<T> + Send + 'static,
    ) -> Result<T> {
        let gone = || Error::Unavailable("the writer of the store has stopped".to_owned());
        let (command, answer) = writer::command(verb);
        let commands = self.commands.as_ref().ok_or_else(gone)?;
        commands.send(command).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Runs `verb` on each item in one transaction.
    async fn write_each<I: Send + 'static, T: Send + 'static>(
        &self,
        batch: Vec<I>,
        mut verb: impl FnMut(&mut Tx<'_>, &I) -> Verb<T> + Send + 'static,
    ) -> Result<Vec<Answer<T>>> {
        self.write(move |tx| tx.each(&batch, &mut verb)).await
    }

    /// Runs `verb` on one item.
    async fn write_one<T: Send + 'static>(
        &self,
        mut verb: impl FnMut(&mut Tx<'_>) -> Verb<T> + Send + 'static,
    ) -> Result<Answer<T>> {
        self.write(move |tx| tx.one(&mut verb)).await
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the writer of the store panicked");
        }
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn submit(&self, now: Timestamp, batch: Vec<Submission>) -> Result<Vec<Answer<Accepted>>> {
        self.write_each(batch, move |tx, submission| submit::submit(tx, now, submission)).await
    }

    async fn cancel(&self, now: Timestamp, scope: &Scope, what: Cancel) -> Result<Answer<()>> {
        let scope = scope.clone();
        self.write_one(move |tx| submit::cancel(tx, now, &scope, &what)).await
    }

    async fn register_agent(
        &self,
        now: Timestamp,
        registration: Sha256,
        agent: Agent,
        session: (Token, Sha256),
    ) -> Result<Answer<Agent>> {
        self.write_one(move |tx| agents::register(tx, now, registration, &agent, &session)).await
    }

    async fn agents_seen(&self, now: Timestamp, batch: Vec<Seen>) -> Result<Vec<Answer<SeenReply>>> {
        self.write_each(batch, move |tx, seen| agents::seen(tx, now, seen)).await
    }

    async fn claim(&self, now: Timestamp, batch: Vec<Claim>) -> Result<Vec<Answer<Option<Lease>>>> {
        self.write_each(batch, move |tx, claim| claim::claim(tx, now, claim)).await
    }

    async fn leases_of_claim(
        &self,
        agent_id: agent::Id,
        claim_id: &str,
        lease: Duration,
    ) -> Result<Vec<Lease>> {
        let claim_id = claim_id.to_owned();
        self.reads.run(move |c| claim::leases_of_claim(c, agent_id, &claim_id, lease)).await
    }

    async fn renew(
        &self,
        now: Timestamp,
        lease: Duration,
        batch: Vec<Report<()>>,
    ) -> Result<Vec<Answer<HeldReply>>> {
        let renew = move |tx: &mut Tx<'_>, report: &Report<()>| {
            let held = Held { attempt_id: report.attempt_id, epoch: report.epoch };
            attempts::renew(tx, now, lease, report.agent_id, held)
        };
        self.write_each(batch, renew).await
    }

    async fn set_phase(&self, now: Timestamp, batch: Vec<Report<PhaseChange>>) -> Result<Vec<Answer<()>>> {
        self.write_each(batch, move |tx, report| attempts::set_phase(tx, now, report)).await
    }

    async fn add_tries(&self, now: Timestamp, batch: Vec<Report<Vec<Try>>>) -> Result<Vec<Answer<()>>> {
        self.write_each(batch, move |tx, report| attempts::add_tries(tx, now, report)).await
    }

    async fn finish(&self, now: Timestamp, batch: Vec<Report<Finish>>) -> Result<Vec<Answer<Finished>>> {
        let answers = self.write_each(batch, move |tx, report| attempts::finish(tx, now, report)).await?;
        Ok(answers.into_iter().map(Answer::flatten).collect())
    }

    async fn add_artifact(&self, _now: Timestamp, report: Report<Artifact>) -> Result<Answer<()>> {
        self.write_one(move |tx| attempts::add_artifact(tx, &report)).await
    }

    async fn sweep(&self, now: Timestamp, grace: Duration, silent: Duration, random: u128) -> Result<Swept> {
        self.write(move |tx| sweep::sweep(tx, now, grace, silent, random)).await
    }

    async fn forget(&self, now: Timestamp, keep: Duration, most: u32) -> Result<Forgotten> {
        self.write(move |tx| retention::forget(tx, now, keep, most)).await
    }

    async fn add_blob(&self, now: Timestamp, org: &OrgId, sha256: Sha256, size_bytes: u64) -> Result<()> {
        let org = org.clone();
        self.write(move |tx| library::add_blob(tx, now, &org, sha256, size_bytes)).await
    }

    async fn blob(&self, org: &OrgId, sha256: Sha256) -> Result<Option<u64>> {
        let org = org.clone();
        let sql = "SELECT size_bytes FROM blobs WHERE org_id = ?1 AND sha256 = ?2";
        self.reads
            .run(move |c| transaction::first(c, sql, (Word(org), Digest(sha256)), |row| row.get(0)))
            .await
    }

    async fn bind_app_version(&self, app_version: AppVersion) -> Result<Answer<AppVersion>> {
        self.write_one(move |tx| library::bind_app_version(tx, &app_version)).await
    }

    async fn set_device_drained(
        &self,
        now: Timestamp,
        device: device::Id,
        drained: bool,
    ) -> Result<Answer<Device>> {
        self.write_one(move |tx| agents::set_device_drained(tx, now, device, drained)).await
    }

    async fn set_device_quarantine(
        &self,
        now: Timestamp,
        device: device::Id,
        quarantine: Quarantine,
    ) -> Result<Answer<Device>> {
        self.write_one(move |tx| agents::set_device_quarantine(tx, now, device, &quarantine)).await
    }

    async fn give_up(&self, now: Timestamp, jobs: Vec<job::Id>, detail: &str) -> Result<Vec<Answer<()>>> {
        let detail = detail.to_owned();
        self.write_each(jobs, move |tx, job| jobs::give_up(tx, now, *job, &detail)).await
    }

    async fn set_agent_draining(
        &self,
        now: Timestamp,
        agent: agent::Id,
        draining: bool,
    ) -> Result<Answer<Agent>> {
        self.write_one(move |tx| agents::set_agent_draining(tx, now, agent, draining)).await
    }

    async fn remove_agent(&self, now: Timestamp, agent: agent::Id, random: u128) -> Result<Answer<()>> {
        self.write_one(move |tx| agents::remove(tx, now, agent, random)).await
    }

    async fn add_token(&self, token: Token, hash: Sha256) -> Result<()> {
        self.write(move |tx| library::insert_token(tx, &token, hash)).await
    }

    async fn remove_token(&self, token: token::Id) -> Result<Answer<()>> {
        self.write_one(move |tx| library::delete_token(tx, token)).await
    }

    async fn add_policy(&self, policy: Policy) -> Result<Answer<()>> {
        self.write_one(move |tx| logins::add_policy(tx, &policy)).await
    }

    async fn remove_policy(&self, now: Timestamp, org: &OrgId, policy: policy::Id) -> Result<Answer<()>> {
        let org = org.clone();
        self.write_one(move |tx| logins::remove_policy(tx, now, &org, policy)).await
    }

    async fn policies(&self, org: Option<&OrgId>) -> Result<Vec<Policy>> {
        let org = org.cloned();
        self.reads.run(move |c| logins::policies(c, org.as_ref())).await
    }

    async fn log_in(&self, login: Login) -> Result<Answer<()>> {
        self.write_one(move |tx| logins::log_in(tx, &login)).await
    }

    async fn renew_login(&self, now: Timestamp, token: token::Id) -> Result<Answer<Token>> {
        self.write_one(move |tx| logins::renew(tx, now, token)).await
    }

    async fn change_org(&self, now: Timestamp, org: &OrgId, change: OrgChange) -> Result<OrgLimits> {
        let org = org.clone();
        self.write(move |tx| limits::change_org(tx, now, &org, change)).await
    }

    async fn set_app_version_paused(
        &self,
        now: Timestamp,
        org: &OrgId,
        app_version: &AppVersionId,
        paused: bool,
    ) -> Result<()> {
        let (org, app_version) = (org.clone(), app_version.clone());
        self.write(move |tx| limits::set_app_version_paused(tx, now, &org, &app_version, paused)).await
    }

    async fn set_concurrency_limit(
        &self,
        now: Timestamp,
        org: &OrgId,
        name: &ConcurrencyGroup,
        limit: u32,
    ) -> Result<()> {
        let (org, name) = (org.clone(), name.clone());
        self.write(move |tx| limits::set_concurrency_limit(tx, now, &org, &name, limit)).await
    }

    async fn promote(&self, now: Timestamp, scope: &Scope, job: job::Id) -> Result<Answer<()>> {
        let scope = scope.clone();
        self.write_one(move |tx| limits::promote(tx, now, &scope, job)).await
    }

    async fn run(&self, scope: &Scope, id: run::Id) -> Result<Option<(Run, Installs)>> {
        let scope = scope.clone();
        self.reads.run(move |c| read::run(c, &scope, id)).await
    }

    async fn runs(
        &self,
        scope: &Scope,
        filter: &RunFilter,
        before: Option<run::Id>,
        limit: u32,
    ) -> Result<Vec<(Run, Installs)>> {
        let (scope, filter) = (scope.clone(), filter.clone());
        self.reads.run(move |c| read::runs(c, &scope, &filter, before, limit)).await
    }

    async fn run_reasons(&self, id: run::Id) -> Result<Vec<(Conclusion, Option<Reason>)>> {
        let read = move |c: &Connection| {
            let of_run = jobs::OF_RUN;
            let sql = format!(
                "SELECT conclusion, reason FROM jobs WHERE {of_run} AND status = 'completed' ORDER BY ordinal"
            );
            transaction::all(c, &sql, [Bin(id.0)], |row| {
                Ok((rows::word(row, "conclusion")?, rows::opt_word(row, "reason")?))
            })
        };
        self.reads.run(read).await
    }

    async fn unpassed(&self, run: run::Id) -> Result<Vec<Unpassed>> {
        self.reads.run(move |c| reruns::unpassed(c, run)).await
    }

    async fn job(&self, scope: &Scope, id: job::Id) -> Result<Option<(Job, JobFacts)>> {
        let scope = scope.clone();
        self.reads.run(move |c| read::job(c, &scope, id)).await
    }

    async fn jobs(
        &self,
        scope: &Scope,
        filter: &JobFilter,
        before: Option<job::Id>,
        limit: u32,
    ) -> Result<Vec<(Job, JobFacts)>> {
        let (scope, filter) = (scope.clone(), filter.clone());
        self.reads.run(move |c| read::jobs(c, &scope, &filter, before, limit)).await
    }

    async fn jobs_by_suffix(&self, scope: &Scope, suffix: &str) -> Result<Vec<job::Id>> {
        let (scope, suffix) = (scope.clone(), suffix.to_owned());
        self.reads.run(move |c| read::jobs_by_suffix(c, &scope, &suffix)).await
    }

    async fn attempts(&self, job: job::Id) -> Result<Vec<(Attempt, String)>> {
        self.reads.run(move |c| read::attempts(c, job)).await
    }

    async fn attempt(&self, id: attempt::Id) -> Result<Option<(Attempt, Job)>> {
        self.reads.run(move |c| read::attempt(c, id)).await
    }

    async fn tries(&self, job: job::Id) -> Result<Vec<(attempt::Id, Try)>> {
        self.reads.run(move |c| read::tries(c, job)).await
    }

    async fn artifacts(&self, job: job::Id) -> Result<Vec<Artifact>> {
        let sql = "SELECT * FROM artifacts WHERE job_id = ?1 ORDER BY id";
        self.reads.run(move |c| transaction::all(c, sql, [Bin(job.0)], rows::artifact)).await
    }

    async fn run_tests(
        &self,
        run: run::Id,
        after: Option<(job::Id, u32)>,
        limit: u32,
    ) -> Result<Vec<TestView>> {
        self.reads.run(move |c| results::tests(c, run, after, limit)).await
    }

    async fn run_artifacts(
        &self,
        run: run::Id,
        after: Option<artifact::Id>,
        limit: u32,
    ) -> Result<Vec<Artifact>> {
        self.reads.run(move |c| results::artifacts(c, run, after, limit)).await
    }

    async fn artifact(&self, scope: &Scope, id: artifact::Id) -> Result<Option<(Artifact, OrgId)>> {
        let scope = scope.clone();
        self.reads.run(move |c| read::artifact(c, &scope, id)).await
    }

    async fn app_version(&self, org: &OrgId, id: &AppVersionId) -> Result<Option<AppVersion>> {
        let (org, id) = (org.clone(), id.clone());
        let sql = "SELECT * FROM app_versions WHERE org_id = ?1 AND app_version_id = ?2";
        self.reads.run(move |c| transaction::first(c, sql, (Word(org), Word(id)), library::app_version)).await
    }

    async fn app_versions(
        &self,
        scope: &Scope,
        before: Option<Listed>,
        limit: u32,
    ) -> Result<Vec<AppVersion>> {
        let scope = scope.clone();
        self.reads.run(move |c| read::app_versions(c, &scope, before, limit)).await
    }

    async fn devices(&self, scope: &Scope) -> Result<Vec<Device>> {
        let scope = scope.clone();
        self.reads.run(move |c| read::devices(c, &scope)).await
    }

    async fn agents(&self) -> Result<Vec<Agent>> {
        self.reads.run(read::agents).await
    }

    async fn tokens(&self) -> Result<Vec<Token>> {
        self.reads
            .run(|c| transaction::all(c, "SELECT * FROM tokens ORDER BY id DESC", [], rows::token))
            .await
    }

    async fn token_by_hash(&self, hash: Sha256, now: Timestamp) -> Result<Option<Token>> {
        let began = match self.tokens.find(hash, now) {
            Ok(token) => return Ok(Some(token)),
            Err(began) => began,
        };
        let found = self.reads.run(move |c| library::live_token(c, hash, now)).await?;
        if let Some(token) = &found {
            self.tokens.remember(began, hash, token);
        }
        Ok(found)
    }

    async fn events_after(
        &self,
        scope: &Scope,
        filter: EventFilter,
        after: Seq,
        limit: u32,
    ) -> Result<Vec<Event>> {
        let scope = scope.clone();
        self.reads.run(move |c| read::events_after(c, &scope, filter, after, limit)).await
    }

    async fn last_seq(&self) -> Result<Seq> {
        self.reads.run(read::last_seq).await
    }

    async fn groups(&self) -> Result<Vec<GroupRow>> {
        self.reads.run(read::groups).await
    }

    async fn group(&self, id: group::Id) -> Result<Option<GroupRow>> {
        self.reads.run(move |c| read::group(c, id)).await
    }

    async fn waiting_jobs(&self) -> Result<Vec<WaitingJob>> {
        self.reads.run(read::waiting_jobs).await
    }

    async fn running_jobs(&self) -> Result<Vec<RunningJob>> {
        self.reads.run(read::running_jobs).await
    }

    async fn limits(&self) -> Result<Limits> {
        self.reads.run(limits::read).await
    }

    async fn history(&self, newest: u32) -> Result<Vec<(OrgId, Took)>> {
        self.reads.run(move |c| read::history(c, newest)).await
    }

    async fn recorded(&self, org: &OrgId, app_id: Option<&str>, tests: &[TestPath]) -> Result<Vec<Vec<Try>>> {
        let (org, app_id, tests) = (org.clone(), app_id.map(str::to_owned), tests.to_vec());
        self.reads.run(move |c| recorded::recorded(c, &org, app_id.as_deref(), &tests)).await
    }

    async fn gauges(&self) -> Result<Gauges> {
        self.reads.run(read::gauges).await
    }

    async fn probe(&self, now: Timestamp) -> Result<()> {
        let sql = "UPDATE counters SET value = ?1 WHERE name = 'probe'";
        self.write(move |tx| Ok(tx.change(sql, [At(now)]).map(|_| ())?)).await?;
        let sql = "SELECT value FROM counters WHERE name = 'probe'";
        let read =
            self.reads.run(move |c| transaction::first(c, sql, [], |row| rows::at(row, "value"))).await?;
        // Another probe may have written a later time since.
        match read {
            Some(_) => Ok(()),
            None => Err(Error::Corrupt("the probe's row is missing".to_owned())),
        }
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<Vec<Event>>> {
        self.events.subscribe()
    }
}

#[cfg(test)]
mod tests;
