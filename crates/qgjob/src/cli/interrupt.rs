//! What SIGINT and SIGTERM do to commands that make runs or watch them: cancel what was made, or leave it and tell the
//! way back.
//!
//! Such a command does all its work inside [`Interrupt::run`] and makes its runs through [`Interrupt::make`]. The first
//! signal drops the work, with calls that wait for their answer, and then what is known is cancelled: a run by its id, a
//! call without an answer by its idempotency key, which was fixed before the first byte of it was sent. The server keeps
//! a cancelled key, so that a call which arrives even later makes a run that is over. What was not sent yet has made nothing.
//!
//! A CI runner kills what is left 7.5 s after SIGINT and 2.5 s after SIGTERM; so the cancel is given up after 5 s, and a
//! second signal ends the command at once.

use std::future::Future;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use qgjob_core::api::runs::Submitted;
use qgjob_core::model::exit::ExitCode;
use qgjob_core::model::name::{IdempotencyKey, OrgId};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Context;
use super::failure::{Failure, Result};
use crate::client::watch::Subject;
use crate::client::{self, Client};
use crate::config::Environment;
use crate::output::{Format, Output, eprint_line};

/// How long a cancel may take.
const CANCEL_WITHIN: Duration = Duration::from_secs(5);
/// After this long without an answer the cancel is sent once more, beside the first.
const ASK_AGAIN: Duration = Duration::from_millis(1_500);

/// Flags that choose what a signal does.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct OnInterrupt {
    /// On Ctrl-C or SIGTERM, cancel what is watched [default: where CI is set, for what the command itself made]
    #[arg(long, conflicts_with = "detach_on_interrupt")]
    cancel_on_interrupt: bool,
    /// On Ctrl-C or SIGTERM, let it go on and tell how to come back [default: everywhere else]
    #[arg(long)]
    detach_on_interrupt: bool,
}

impl OnInterrupt {
    /// For a command that makes what it watches: in CI nobody comes back to it.
    pub fn of_maker(self, env: &Environment) -> Reaction {
        match self {
            Self { cancel_on_interrupt: true, .. } => Reaction::Cancel,
            Self { detach_on_interrupt: true, .. } => Reaction::Detach,
            _ if in_ci(env) => Reaction::Cancel,
            _ => Reaction::Detach,
        }
    }

    /// For a command that watches what others made: it is theirs to end.
    pub fn of_watcher(self) -> Reaction {
        if self.cancel_on_interrupt { Reaction::Cancel } else { Reaction::Detach }
    }
}

/// Whether this is a pipeline: `CI` is set, and to something that means yes.
pub fn in_ci(env: &Environment) -> bool {
    env.get("CI").is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
}

/// What the first signal does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// Cancels what is known.
    Cancel,
    /// Lets it go on.
    Detach,
}

/// What a signal would cancel.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Known {
    /// A call that makes a run was sent, or is about to be, and has no answer.
    Unanswered(OrgId, IdempotencyKey),
    /// A run, or whatever else is watched.
    Subject(Subject),
}

/// Listens for signals from its making on, and knows what they are about.
pub struct Interrupt {
    output: Output,
    reaction: Reaction,
    known: Mutex<Vec<Known>>,
    signals: tokio::sync::Mutex<(Signal, Signal)>,
}

impl Interrupt {
    /// From here on a signal no longer ends the process by itself.
    ///
    /// # Errors
    /// When the system gives no signals.
    pub fn listen(context: &Context, reaction: Reaction) -> Result<Self> {
        let signals = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (known, signals) = (Mutex::default(), tokio::sync::Mutex::new(signals));
        Ok(Self { output: context.output, reaction, known, signals })
    }

    /// Makes a run by `call`, which carries `key`. The run is known from before the first byte of the call.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn make(
        &self,
        org_id: &OrgId,
        key: &IdempotencyKey,
        call: impl Future<Output = client::Result<Submitted>>,
    ) -> client::Result<Submitted> {
        let unanswered = Known::Unanswered(org_id.clone(), key.clone());
        self.known().push(unanswered.clone());
        let answer = call.await;
        let mut known = self.known();
        // A refused call has made nothing; the run of its key, if there is one, is another's.
        if answer.is_ok() || answer.as_ref().is_err_and(|error| !error.is_passing()) {
            known.retain(|other| *other != unanswered);
        }
        known.extend(answer.iter().map(|made| Known::Subject(Subject::Run(made.run_id.to_string()))));
        drop(known);
        answer
    }

    /// Tells of what others made and this command watches.
    pub fn watches(&self, subjects: &[Subject]) {
        self.known().extend(subjects.iter().cloned().map(Known::Subject));
    }

    /// Whether there is nothing that a signal would be about.
    pub fn knows_nothing(&self) -> bool {
        self.known().is_empty()
    }

    /// Does the work, and what is to be done when a signal comes before its end.
    ///
    /// # Errors
    /// Those of the work; exit codes 130 and 143 after a signal.
    pub async fn run(&self, client: &Client, work: impl Future<Output = Result>) -> Result {
        match self.during(work).await {
            Ok(result) => result,
            Err(signal) => self.react(client, signal).await,
        }
    }

    /// Does the work, unless a signal comes before its end: then the work is dropped.
    ///
    /// # Errors
    /// The exit code that belongs to the signal.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> std::result::Result<T, ExitCode> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            signal = self.signal() => Err(signal),
        }
    }

    /// Cancels what is known or lets it go on, and says so.
    ///
    /// # Errors
    /// When what was to be cancelled may not be; and where errors are for programs, always. The exit code is the signal's.
    pub async fn react(&self, client: &Client, signal: ExitCode) -> Result {
        let known = self.known().clone();
        if known.is_empty() {
            return self.say(signal, "nothing was submitted", Vec::new());
        }
        match self.reaction {
            Reaction::Detach => self.detach(signal, &known),
            Reaction::Cancel => self.cancel(client, signal, &known).await,
        }
    }

    fn detach(&self, signal: ExitCode, known: &[Known]) -> Result {
        let sure = known.iter().all(|known| matches!(known, Known::Subject(_)));
        let what = if sure { JOBS_GO_ON } else { "what was being submitted may exist" };
        self.say(signal, what, known.iter().map(Known::way_back).collect())
    }

    async fn cancel(&self, client: &Client, signal: ExitCode, known: &[Known]) -> Result {
        let names = known.iter().map(Known::to_string).collect::<Vec<_>>().join(", ");
        self.tell(&format!("{}; cancelling {names}; a second signal leaves at once", word(signal)));
        let all = futures_util::future::join_all(known.iter().map(|known| known.cancel(client)));
        let unsure = |what: String| {
            known.iter().fold(Failure::new(signal, what), |failure, known| failure.hint(known.way_to_end()))
        };
        let ends = match self.during(all).await {
            Ok(ends) => ends,
            Err(_) => {
                return Err(unsure(format!(
                    "a second signal came before the cancel of {names} was confirmed"
                )));
            }
        };
        let causes: Vec<String> = ends.into_iter().filter_map(std::result::Result::err).collect();
        if causes.is_empty() {
            return self.say(signal, &format!("cancelled {names}"), Vec::new());
        }
        let failure =
            unsure(format!("{}, but the cancel of {names} was not confirmed", word(signal).to_lowercase()));
        Err(causes.into_iter().fold(failure, Failure::cause))
    }

    /// Ends the command in the way that was asked for.
    fn say(&self, signal: ExitCode, what: &str, hints: Vec<String>) -> Result {
        if self.output.format != Format::Text {
            let what = format!("{}; {what}", word(signal).to_lowercase());
            return Err(hints.into_iter().fold(Failure::new(signal, what), Failure::hint));
        }
        self.tell(&format!("{}; {what}.", word(signal)));
        hints.iter().for_each(|hint| eprint_line(&format!("  {hint}")));
        Ok(signal)
    }

    /// Who stops a command is told what that did, also with `--quiet`; programs get it with the error.
    fn tell(&self, text: &str) {
        if self.output.format == Format::Text {
            // The terminal has put ^C at the beginning of the line.
            let line = if std::io::stderr().is_terminal() { "\n" } else { "" };
            eprint_line(&format!("{line}{text}"));
        }
    }

    async fn signal(&self) -> ExitCode {
        let mut signals = self.signals.lock().await;
        let (interrupt, terminate) = &mut *signals;
        tokio::select! {
            _ = interrupt.recv() => ExitCode::Interrupted,
            _ = terminate.recv() => ExitCode::Terminated,
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Vec<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is said of jobs that nobody watches any more.
pub const JOBS_GO_ON: &str = "the jobs go on";

/// How to go on watching, and how to end it.
pub fn way_back(subject: &Subject) -> String {
    let (kind, id) = match subject {
        Subject::Run(id) => ("run", id),
        Subject::Job(id) => ("job", id),
    };
    format!("to go on watching: qgjob status --{kind}-id={id} --watch; to end it: qgjob cancel {id}")
}

impl Known {
    fn way_back(&self) -> String {
        match self {
            Self::Unanswered(..) => format!("to find it: qgjob run list; {}", self.way_to_end()),
            Self::Subject(subject) => way_back(subject),
        }
    }

    fn way_to_end(&self) -> String {
        match self {
            Self::Unanswered(org_id, key) => {
                format!("to end it: qgjob cancel --org-id={org_id} --idempotency-key={key}")
            }
            Self::Subject(subject) => format!("to end it: qgjob cancel {}", subject.id()),
        }
    }

    /// Cancels it; or tells why that may not have worked.
    async fn cancel(&self, client: &Client) -> std::result::Result<(), String> {
        match self {
            Self::Unanswered(org_id, key) => insist(|| client.cancel_by_key(org_id, key)).await,
            Self::Subject(Subject::Run(id)) => insist(|| client.cancel_run(id)).await,
            Self::Subject(Subject::Job(id)) => insist(|| client.cancel_job(id)).await,
        }
    }
}

impl std::fmt::Display for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unanswered(_, key) => write!(f, "what is being submitted with the key {key}"),
            Self::Subject(subject) => f.write_str(subject.id()),
        }
    }
}

/// Repeats a harmless call until it is answered. A call without an answer goes on beside the next one: a slow answer
/// is as good as a quick one.
async fn insist<F>(call: impl Fn() -> F) -> std::result::Result<(), String>
where
    F: Future<Output = client::Result<()>>,
{
    let mut calls = FuturesUnordered::new();
    let mut ask = tokio::time::interval(ASK_AGAIN);
    let deadline = tokio::time::sleep(CANCEL_WITHIN);
    tokio::pin!(deadline);
    let mut cause = format!("no answer within {} s", CANCEL_WITHIN.as_secs());
    loop {
        tokio::select! {
            _ = ask.tick() => calls.push(call()),
            Some(answer) = calls.next() => match answer {
                Ok(()) => return Ok(()),
                // It was over before.
                Err(error) if error.status() == Some(409) => return Ok(()),
                // What was made a moment ago may be unknown to a replica.
                Err(error) if error.is_passing() || error.status() == Some(404) => cause = error.to_string(),
                Err(error) => return Err(error.to_string()),
            },
            () = &mut deadline => return Err(cause),
        }
    }
}

fn word(signal: ExitCode) -> &'static str {
    match signal {
        ExitCode::Terminated => "Terminated",
        _ => "Interrupted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_is_where_ci_means_yes() {
        for (value, expected) in
            [("true", true), ("1", true), ("woodpecker", true), ("", false), ("0", false), ("False", false)]
        {
            assert_eq!(in_ci(&Environment::from([("CI", value)])), expected, "{value:?}");
        }
        assert!(!in_ci(&Environment::default()));
    }

    #[test]
    fn flags_beat_the_environment_and_watchers_end_nothing_unasked() {
        let (ci, desk) = (Environment::from([("CI", "true")]), Environment::default());
        let none = OnInterrupt::default();
        let cancel = OnInterrupt { cancel_on_interrupt: true, ..none };
        let detach = OnInterrupt { detach_on_interrupt: true, ..none };
        assert_eq!((none.of_maker(&ci), none.of_maker(&desk)), (Reaction::Cancel, Reaction::Detach));
        assert_eq!((cancel.of_maker(&desk), detach.of_maker(&ci)), (Reaction::Cancel, Reaction::Detach));
        assert_eq!((none.of_watcher(), cancel.of_watcher()), (Reaction::Detach, Reaction::Cancel));
    }
}
