//! The store: what qgjob remembers. A verb is one whole transaction on a batch; it asks the rules of
//! `qgjob_core::queue` inside the transaction, and appends the events that tell of its changes.
//!
//! A verb that answers `Ok` is durable: it survives `kill -9` and power loss. A [`Refusal`] changed nothing.
//! Time, ids and randomness come with the call.

mod alike;
mod carried;
#[cfg(test)]
pub mod conformance;
mod made;
pub mod postgres;
pub mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use qgjob_core::api::agents::{Held, HeldReply, Lease, ReportedDevice};
use qgjob_core::api::results::TestView;
use qgjob_core::api::runs::{Installs, NewRun};
use qgjob_core::model::agent::{self, Agent};
use qgjob_core::model::artifact::{self, Artifact};
use qgjob_core::model::attempt::{self, Attempt, Choice, Epoch, Install, Phase, Took};
use qgjob_core::model::build::AppVersion;
use qgjob_core::model::ci::CiRun;
use qgjob_core::model::device::{self, Device, Quarantine};
use qgjob_core::model::event::{Event, Seq};
use qgjob_core::model::evidence::Evidence;
use qgjob_core::model::group;
use qgjob_core::model::job::{self, Conclusion, Job, Reason, Status};
use qgjob_core::model::limits::{Limits, OrgChange, OrgLimits};
use qgjob_core::model::name::{AppVersionId, ConcurrencyGroup, IdempotencyKey, IssuerUrl, OrgId, TestPath};
use qgjob_core::model::policy::{self, Policy};
use qgjob_core::model::refusal::Refusal;
use qgjob_core::model::run::{self, Run};
use qgjob_core::model::sha256::Sha256;
use qgjob_core::model::shard::Shard;
use qgjob_core::model::test_result::{Counts, Try};
use qgjob_core::model::token::{self, Token};
use qgjob_core::queue::reruns::Kept;
use qgjob_core::queue::retry::Backoff;
use qgjob_core::queue::verdict::Judgement;
use tokio::sync::broadcast;

/// The store could not do its part. Nothing of the verb is visible afterwards, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be reached, or is too busy; the same call may succeed later.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The disk is full.
    #[error("the disk of the store is full")]
    Full,
    /// What is stored cannot be understood: a bug, or a store written by a newer version.
    #[error("the store holds something unexpected: {0}")]
    Corrupt(String),
}

/// What a verb answers.
pub type Result<T> = std::result::Result<T, Error>;
/// The answer to one item of a batch: rules may refuse it.
pub type Answer<T> = std::result::Result<T, Refusal>;

/// Which orgs a caller sees. Things outside are not found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All.
    All,
    /// One.
    Org(OrgId),
}

impl Scope {
    /// Whether `org` is visible.
    pub fn sees(&self, org: &OrgId) -> bool {
        match self {
            Self::All => true,
            Self::Org(own) => own == org,
        }
    }
}

/// A run to be made.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Id of the run.
    pub run_id: run::Id,
    /// Ids of the jobs, in the order of `run.tests`.
    pub job_ids: Vec<job::Id>,
    /// How long each job is expected to hold a device, an install not counted, in the order of `run.tests`.
    pub predicted_ms: Vec<u64>,
    /// Which of its file's tests each job runs, in the order of `run.tests`.
    pub shards: Vec<Option<Shard>>,
    /// What was asked for, validated; a file that is split is in `run.tests` once for each of its shards.
    pub run: NewRun,
    /// The job it retries, if it was made by `retry`.
    pub retry_of: Option<job::Id>,
    /// The token of the pipeline that submits it, and the pipeline's run.
    pub ci: Option<(token::Id, CiRun)>,
    /// The run whose failures it repeats, if it is a rerun.
    pub rerun: Option<Rerun>,
    /// Makes repeated submissions one run: the key, and a digest of the request.
    pub key: Option<(IdempotencyKey, Sha256)>,
}

/// An id-token that a policy let in, and the token that is given for it.
#[derive(Debug, Clone)]
pub struct Login {
    /// The id-token's issuer.
    pub issuer: IssuerUrl,
    /// Its name at its issuer.
    pub jti: String,
    /// Until when it could be shown again.
    pub keep_until: Timestamp,
    /// What is given for it, with a grant.
    pub token: Token,
    /// The hash of the token's secret.
    pub hash: Sha256,
}

/// What a rerun is made from.
#[derive(Debug, Clone)]
pub struct Rerun {
    /// The run before.
    pub of: run::Id,
    /// What all tests of the full set have come to.
    pub tests: Counts,
    /// What those of them have come to that are not repeated.
    pub carried: Counts,
    /// What each job repeats, in the order of `run.tests`.
    pub jobs: Vec<Kept>,
}

/// A completed job that neither passed nor was skipped.
#[derive(Debug, Clone)]
pub struct Unpassed {
    /// The job.
    pub job: Job,
    /// What is kept with it, if its run is a rerun.
    pub kept: Option<Kept>,
    /// The tries of its last attempt, in the order they ended.
    pub tries: Vec<Try>,
}

/// A run that exists.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The run.
    pub run: Run,
    /// Its jobs, in the order of submission.
    pub jobs: Vec<Job>,
    /// The build, once the label is bound.
    pub app_sha256: Option<Sha256>,
    /// Whether an earlier submission made it.
    pub replayed: bool,
}

/// What to cancel.
#[derive(Debug, Clone)]
pub enum Cancel {
    /// A job. Answers a refusal when it ended otherwise.
    Job(job::Id),
    /// All jobs of a run that are not over.
    Run(run::Id),
    /// The run of this key; when there is none yet, a later submission with the key is born cancelled.
    Key(OrgId, IdempotencyKey),
}

/// A device asks for a job.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Chosen by the agent; a repeat gets the same lease.
    pub claim_id: String,
    /// Id for the attempt.
    pub attempt_id: attempt::Id,
    /// Who claims.
    pub agent_id: agent::Id,
    /// The device: must belong to the agent, be online, and hold no live attempt.
    pub device_id: device::Id,
    /// The job: must wait, be due, have a build, and ask for such a device.
    pub job_id: job::Id,
    /// Why this device, for whoever asks later.
    pub choice: Choice,
    /// How long the lease holds.
    pub lease: Duration,
}

/// An agent calls.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Who.
    pub agent_id: agent::Id,
    /// Whether its process is new: its live attempts are lost.
    pub fresh: bool,
    /// Its devices, each with an id in case the serial is new.
    pub devices: Vec<(device::Id, ReportedDevice)>,
    /// The attempts it runs.
    pub held: Vec<Held>,
    /// How long a renewed lease holds.
    pub lease: Duration,
    /// Random bits for retries of lost attempts.
    pub random: u128,
}

/// Answer to a call.
#[derive(Debug, Clone)]
pub struct SeenReply {
    /// Ids of the devices, by serial.
    pub devices: Vec<(String, device::Id)>,
    /// What to do about each attempt.
    pub held: Vec<HeldReply>,
    /// Whether the agent is draining.
    pub drain: bool,
}

/// An agent reports on an attempt that it leases.
#[derive(Debug, Clone)]
pub struct Report<T> {
    /// Who.
    pub agent_id: agent::Id,
    /// The attempt.
    pub attempt_id: attempt::Id,
    /// Its fencing number.
    pub epoch: Epoch,
    /// What.
    pub what: T,
}

/// An attempt's new phase.
#[derive(Debug, Clone, Copy)]
pub struct PhaseChange {
    /// What it does now.
    pub phase: Phase,
    /// What was done about the app.
    pub install: Option<Install>,
}

/// The end of an attempt.
#[derive(Debug, Clone)]
pub struct Finish {
    /// What was seen.
    pub evidence: Evidence,
    /// Random bits for the backoff.
    pub random: u128,
}

/// What became of an attempt and its job.
#[derive(Debug, Clone)]
pub struct Finished {
    /// What was concluded.
    pub judgement: Judgement,
    /// The job's conclusion; none when it is queued again.
    pub conclusion: Option<Conclusion>,
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Leases that ran out.
    pub leases_expired: u32,
    /// Jobs that gave up waiting.
    pub deadlines_missed: u32,
    /// Scheduled jobs that were queued.
    pub became_due: u32,
    /// Agents that are offline now.
    pub agents_gone: u32,
}

/// What was forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// How many runs.
    pub runs: u32,
    /// Their attempts, whose logs nobody can ask for any more.
    pub attempts: Vec<attempt::Id>,
}

/// Which jobs to list.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// Only this org's.
    pub org_id: Option<OrgId>,
    /// Only this run's.
    pub run_id: Option<run::Id>,
    /// Only with this status.
    pub status: Option<Status>,
    /// Only with this conclusion.
    pub conclusion: Option<Conclusion>,
    /// Only for this app version.
    pub app_version_id: Option<AppVersionId>,
}

/// Which runs to list.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Only this org's.
    pub org_id: Option<OrgId>,
    /// Only with this status.
    pub status: Option<Status>,
    /// Only with this conclusion.
    pub conclusion: Option<Conclusion>,
    /// Only for this app version.
    pub app_version_id: Option<AppVersionId>,
    /// Only with this label.
    pub label: Option<(String, String)>,
    /// Only the one that this key of an org made, as long as the key is remembered.
    pub key: Option<(OrgId, IdempotencyKey)>,
}

/// Which events to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventFilter {
    /// All.
    All,
    /// Of one run, its jobs and attempts.
    Run(run::Id),
    /// Of one job and its attempts.
    Job(job::Id),
}

/// Where an app version stands in the list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// When it was bound.
    pub created_at: Timestamp,
    /// Whose it is.
    pub org_id: OrgId,
    /// The label.
    pub app_version_id: AppVersionId,
}

/// A group with jobs that are not over.
#[derive(Debug, Clone)]
pub struct GroupRow {
    /// Its number.
    pub id: group::Id,
    /// What its jobs have in common.
    pub key: group::Key,
    /// The build and its platform, once the label is bound.
    pub build: Option<qgjob_core::model::build::Build>,
}

/// A job that waits, as the board needs it.
#[derive(Debug, Clone)]
pub struct WaitingJob {
    /// The job.
    pub id: job::Id,
    /// Its group.
    pub group_id: group::Id,
    /// 1 to 10.
    pub priority: u8,
    /// Since when it waits, from the first time it was queued.
    pub queued_at: Timestamp,
    /// Not before.
    pub not_before: Option<Timestamp>,
    /// Devices to avoid.
    pub avoid: Vec<device::Id>,
    /// Since when it is to start before others, if it was promoted.
    pub promoted_at: Option<Timestamp>,
    /// How long it is expected to hold a device, an install not counted.
    pub predicted_ms: u64,
}

/// A job whose attempt holds a device, as the board needs it.
#[derive(Debug, Clone)]
pub struct RunningJob {
    /// As it waited.
    pub job: WaitingJob,
    /// The device.
    pub device_id: device::Id,
    /// Since when.
    pub started_at: Timestamp,
    /// Whether the job is over although its attempt is not: it was cancelled.
    pub over: bool,
}

/// A completed or running attempt's facts that a job shows.
#[derive(Debug, Clone, Default)]
pub struct JobFacts {
    /// The device's name of the latest attempt.
    pub device_name: Option<String>,
    /// What was done about the app in the latest attempt.
    pub install: Option<Install>,
}

/// Numbers for `/metrics`, read when it is asked.
#[derive(Debug, Clone, Default)]
pub struct Gauges {
    /// Jobs that are not over, by status.
    pub jobs: Vec<(Status, u64)>,
    /// Since when the oldest waiting job waits.
    pub oldest_queued_at: Option<Timestamp>,
    /// Orgs that are paused.
    pub paused_orgs: u64,
    /// App versions that are paused, of whatever org.
    pub paused_app_versions: u64,
    /// Devices by state and platform.
    pub devices: Vec<(device::State, qgjob_core::model::selector::Platform, u64)>,
    /// Agents by state.
    pub agents: Vec<(agent::State, u64)>,
}

/// What qgjob remembers.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    // Submitting and cancelling.

    /// Makes runs. The blob of each bundle must be known ([`Store::add_blob`]).
    async fn submit(&self, now: Timestamp, batch: Vec<Submission>) -> Result<Vec<Answer<Accepted>>>;
    /// Cancels. A running attempt is told by its next heartbeat and holds its device until it has cleaned it.
    async fn cancel(&self, now: Timestamp, scope: &Scope, what: Cancel) -> Result<Answer<()>>;

    // Agents and their work.

    /// Registers an agent with a registration token, which is used up; an agent of the same name is replaced and
    /// its sessions end. `session` is the hash of the new session token.
    async fn register_agent(
        &self,
        now: Timestamp,
        registration: Sha256,
        agent: Agent,
        session: (Token, Sha256),
    ) -> Result<Answer<Agent>>;
    /// Notes calls, devices and ledgers, and renews leases.
    async fn agents_seen(&self, now: Timestamp, batch: Vec<Seen>) -> Result<Vec<Answer<SeenReply>>>;
    /// Leases jobs: for each claim a lease, or none when the job may not start there, the device is not free, or the org's
    /// limits let the job not start now.
    /// A device that is unknown or another agent's is not found. A repeated claim gets its lease again.
    async fn claim(&self, now: Timestamp, batch: Vec<Claim>) -> Result<Vec<Answer<Option<Lease>>>>;
    /// The live leases that were given for a claim id.
    async fn leases_of_claim(
        &self,
        agent_id: agent::Id,
        claim_id: &str,
        lease: Duration,
    ) -> Result<Vec<Lease>>;
    /// Renews leases.
    async fn renew(
        &self,
        now: Timestamp,
        lease: Duration,
        batch: Vec<Report<()>>,
    ) -> Result<Vec<Answer<HeldReply>>>;
    /// Notes phases.
    async fn set_phase(&self, now: Timestamp, batch: Vec<Report<PhaseChange>>) -> Result<Vec<Answer<()>>>;
    /// Notes tries of tests; those known already are ignored.
    async fn add_tries(&self, now: Timestamp, batch: Vec<Report<Vec<Try>>>) -> Result<Vec<Answer<()>>>;
    /// Ends attempts: judges the evidence and completes or requeues the job. Under an old epoch the report is kept
    /// as an event, the answer is [`Refusal::LeaseLost`], and nothing else changes. Repeating the finish of an
    /// attempt that the same epoch finished answers as the first time.
    async fn finish(&self, now: Timestamp, batch: Vec<Report<Finish>>) -> Result<Vec<Answer<Finished>>>;
    /// Keeps an artifact whose bytes have arrived.
    async fn add_artifact(&self, now: Timestamp, report: Report<Artifact>) -> Result<Answer<()>>;
    /// Expires leases, gives up on queue deadlines of jobs that are not paused and on attempts that outlived their timeout by `grace`, queues
    /// what became due, marks agents offline that have not called for `silent`, and forgets id-tokens that are over, and
    /// tokens of pipelines that have been for a day.
    async fn sweep(&self, now: Timestamp, grace: Duration, silent: Duration, random: u128) -> Result<Swept>;
    /// Forgets runs that have been over for longer than `keep`, and at least for as long as their idempotency keys are
    /// remembered (7 days): the oldest first, with their jobs, attempts, tries, artifacts and events. One call forgets
    /// about `most` jobs, so that others do not wait for long; it is to be repeated until it forgets no run.
    async fn forget(&self, now: Timestamp, keep: Duration, most: u32) -> Result<Forgotten>;

    // Limits. They hold back what would start; what runs goes on.

    /// Changes an org's limits; answers what they are now. When its jobs go on, the time that they rested is added to their
    /// queue deadlines.
    async fn change_org(&self, now: Timestamp, org: &OrgId, change: OrgChange) -> Result<OrgLimits>;
    /// Lets the waiting jobs of an app version rest, or go on: then the time that they rested is added to their queue
    /// deadlines. The label need not be bound. Repeating it is harmless.
    async fn set_app_version_paused(
        &self,
        now: Timestamp,
        org: &OrgId,
        app_version: &AppVersionId,
        paused: bool,
    ) -> Result<()>;
    /// Sets how many jobs of a concurrency group run at a time; attempts count until they end.
    async fn set_concurrency_limit(
        &self,
        now: Timestamp,
        org: &OrgId,
        name: &ConcurrencyGroup,
        limit: u32,
    ) -> Result<()>;
    /// Moves a waiting job before those that were not promoted. It stays promoted when it is queued again. Repeating it is
    /// harmless and keeps its place among the promoted ones.
    async fn promote(&self, now: Timestamp, scope: &Scope, job: job::Id) -> Result<Answer<()>>;

    // Builds, tokens, operators.

    /// Notes that the bytes are in the blob store and may be used by the org.
    async fn add_blob(&self, now: Timestamp, org: &OrgId, sha256: Sha256, size_bytes: u64) -> Result<()>;
    /// The size of the org's blob, if it has it.
    async fn blob(&self, org: &OrgId, sha256: Sha256) -> Result<Option<u64>>;
    /// Binds a label to a build. Repeating it is harmless; another build is refused.
    async fn bind_app_version(&self, app_version: AppVersion) -> Result<Answer<AppVersion>>;
    /// Drains or enables a device. Enabling ends its quarantine, too.
    async fn set_device_drained(
        &self,
        now: Timestamp,
        device: device::Id,
        drained: bool,
    ) -> Result<Answer<Device>>;
    /// Notes that a device is in quarantine, or that its quarantine is over. One that is older than the device's latest, or
    /// known already, changes nothing.
    async fn set_device_quarantine(
        &self,
        now: Timestamp,
        device: device::Id,
        quarantine: Quarantine,
    ) -> Result<Answer<Device>>;
    /// Ends waiting jobs as errored, because their build is broken; `detail` says to people what was seen. Jobs that do not
    /// wait are left alone.
    async fn give_up(&self, now: Timestamp, jobs: Vec<job::Id>, detail: &str) -> Result<Vec<Answer<()>>>;
    /// Drains or enables an agent.
    async fn set_agent_draining(
        &self,
        now: Timestamp,
        agent: agent::Id,
        draining: bool,
    ) -> Result<Answer<Agent>>;
    /// Forgets an agent and its devices; its live attempts are lost and its sessions end.
    async fn remove_agent(&self, now: Timestamp, agent: agent::Id, random: u128) -> Result<Answer<()>>;
    /// Keeps a token under the hash of its secret.
    async fn add_token(&self, token: Token, hash: Sha256) -> Result<()>;
    /// Ends a token.
    async fn remove_token(&self, token: token::Id) -> Result<Answer<()>>;

    // Keyless logins.

    /// Adds a policy, behind those that the org has.
    async fn add_policy(&self, policy: Policy) -> Result<Answer<()>>;
    /// Removes a policy of the org, and ends the tokens that it let in.
    async fn remove_policy(&self, now: Timestamp, org: &OrgId, policy: policy::Id) -> Result<Answer<()>>;
    /// The policies of an org, or of all, oldest first by their ids.
    async fn policies(&self, org: Option<&OrgId>) -> Result<Vec<Policy>>;
    /// Gives a token for an id-token, once: [`Refusal::IdTokenUsed`] ever after, and [`Refusal::NotFound`] when the policy is
    /// gone.
    async fn log_in(&self, login: Login) -> Result<Answer<()>>;
    /// Lets a live token of kind `ci` work longer, as `qgjob_core::trust::renewal` has it.
    async fn renew_login(&self, now: Timestamp, token: token::Id) -> Result<Answer<Token>>;

    // Reading.

    /// A run with what was done about its app.
    async fn run(&self, scope: &Scope, id: run::Id) -> Result<Option<(Run, Installs)>>;
    /// Runs, newest first, made before `before`.
    async fn runs(
        &self,
        scope: &Scope,
        filter: &RunFilter,
        before: Option<run::Id>,
        limit: u32,
    ) -> Result<Vec<(Run, Installs)>>;
    /// Conclusions and reasons of the run's completed jobs, for its exit code.
    async fn run_reasons(&self, id: run::Id) -> Result<Vec<(Conclusion, Option<Reason>)>>;
    /// The run's completed jobs that neither passed nor were skipped, in the order of submission.
    async fn unpassed(&self, run: run::Id) -> Result<Vec<Unpassed>>;
    /// A job.
    async fn job(&self, scope: &Scope, id: job::Id) -> Result<Option<(Job, JobFacts)>>;
    /// Jobs, those of the newest run first and in it the last one, from the one after `before`; of one run: in the order
    /// of submission, after `before`.
    async fn jobs(
        &self,
        scope: &Scope,
        filter: &JobFilter,
        before: Option<job::Id>,
        limit: u32,
    ) -> Result<Vec<(Job, JobFacts)>>;
    /// Jobs whose id ends with these characters, newest first, at most 3.
    async fn jobs_by_suffix(&self, scope: &Scope, suffix: &str) -> Result<Vec<job::Id>>;
    /// The job's attempts, oldest first, with the names of their devices.
    async fn attempts(&self, job: job::Id) -> Result<Vec<(Attempt, String)>>;
    /// One attempt with its job.
    async fn attempt(&self, id: attempt::Id) -> Result<Option<(Attempt, Job)>>;
    /// The tries of the job's attempts, in the order they ended.
    async fn tries(&self, job: job::Id) -> Result<Vec<(attempt::Id, Try)>>;
    /// Tests of the run, by job in the order of submission and then by their first tries: of each job's last attempt, unless
    /// that ended and the job is to have another. After them those that a rerun has no result of, of the runs before it: the nearest
    /// first. `after` names a job and the first try of one of its tests.
    async fn run_tests(
        &self,
        run: run::Id,
        after: Option<(job::Id, u32)>,
        limit: u32,
    ) -> Result<Vec<TestView>>;
    /// The job's artifacts.
    async fn artifacts(&self, job: job::Id) -> Result<Vec<Artifact>>;
    /// Artifacts of the run's jobs, oldest first, after `after`.
    async fn run_artifacts(
        &self,
        run: run::Id,
        after: Option<artifact::Id>,
        limit: u32,
    ) -> Result<Vec<Artifact>>;
    /// An artifact with its job's org.
    async fn artifact(&self, scope: &Scope, id: artifact::Id) -> Result<Option<(Artifact, OrgId)>>;
    /// An app version.
    async fn app_version(&self, org: &OrgId, id: &AppVersionId) -> Result<Option<AppVersion>>;
    /// App versions of the scope, newest first, those that stand behind `before`.
    async fn app_versions(
        &self,
        scope: &Scope,
        before: Option<Listed>,
        limit: u32,
    ) -> Result<Vec<AppVersion>>;
    /// Devices visible to the scope, by name.
    async fn devices(&self, scope: &Scope) -> Result<Vec<Device>>;
    /// Agents, by name.
    async fn agents(&self) -> Result<Vec<Agent>>;
    /// Tokens, newest first.
    async fn tokens(&self) -> Result<Vec<Token>>;
    /// The token of a secret's hash, unless it expired before `now` or was used up.
    async fn token_by_hash(&self, hash: Sha256, now: Timestamp) -> Result<Option<Token>>;
    /// Events after `after`, oldest first, at most `limit`.
    async fn events_after(
        &self,
        scope: &Scope,
        filter: EventFilter,
        after: Seq,
        limit: u32,
    ) -> Result<Vec<Event>>;
    /// The number of the newest event.
    async fn last_seq(&self) -> Result<Seq>;
    /// Groups with jobs that are not over.
    async fn groups(&self) -> Result<Vec<GroupRow>>;
    /// One group.
    async fn group(&self, id: group::Id) -> Result<Option<GroupRow>>;
    /// All jobs that wait, oldest first: for the board at start.
    async fn waiting_jobs(&self) -> Result<Vec<WaitingJob>>;
    /// The jobs whose attempts hold devices.
    async fn running_jobs(&self) -> Result<Vec<RunningJob>>;
    /// All limits.
    async fn limits(&self) -> Result<Limits>;
    /// How long the attempts that came to a verdict took, with their orgs, oldest first: of the `newest` attempts.
    async fn history(&self, newest: u32) -> Result<Vec<(OrgId, Took)>>;
    /// The tries of each of the test files, in their order, by its newest run that tells of all its tests: whole, or with all
    /// its shards; of the app, or of any when that is not known. Without tries when about the newest 20,000 jobs of the org
    /// hold no such run.
    async fn recorded(&self, org: &OrgId, app_id: Option<&str>, tests: &[TestPath]) -> Result<Vec<Vec<Try>>>;
    /// Numbers for `/metrics`.
    async fn gauges(&self) -> Result<Gauges>;
    /// Writes and reads, to prove that the store works.
    async fn probe(&self, now: Timestamp) -> Result<()>;

    /// Whether other servers use what this one uses.
    fn is_shared(&self) -> bool;

    /// Events as they are committed, in order, of all servers that use the store. A receiver that lags reads
    /// [`Store::events_after`].
    fn subscribe(&self) -> broadcast::Receiver<Arc<Vec<Event>>>;
}

/// Rules' parameters that every store needs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules {
    /// How long jobs wait before they are tried again.
    pub backoff: Backoff,
}
