//! One attempt, from the lease to the finish. Whatever goes wrong becomes evidence; the server judges.

mod testing;
mod tries;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use qgjob_core::api::agents::{FinishReport, Lease, PhaseReport};
use qgjob_core::model::attempt::{Install, Phase};
use qgjob_core::model::event::LogStream;
use qgjob_core::model::evidence::{Evidence, Fault, Report, Stop};
use qgjob_core::model::job::{Reason, Reset};
use tokio::time::Instant;

use super::fleet::{Fleet, Phone};
use super::hold::Hold;
use super::install;
use super::kit::Kit;
use super::link::{self, Link};
use super::log::{Log, Sending};
use super::upload::{self, Kept};
use super::workspace::Project;

/// An attempt under way.
struct Attempt<'a> {
    kit: &'a Kit,
    fleet: &'a Fleet,
    link: &'a Link,
    lease: &'a Lease,
    hold: &'a Arc<Hold>,
    phone: &'a Phone,
    /// How often the device had left when the attempt began.
    departures: u32,
    deadline: Instant,
    dir: PathBuf,
    log: Log,
}

/// Why an attempt ends before its tests do.
enum Halt {
    Stop(Stop),
    Fault(Fault),
}

/// Runs the attempt of `lease` on `phone` and reports all of it.
pub async fn run(kit: &Kit, fleet: &Fleet, link: &Link, lease: Lease, hold: &Arc<Hold>, phone: &Phone) {
    let span =
        tracing::info_span!("attempt", id = %lease.attempt_id, test = %lease.test, serial = phone.serial);
    tracing::info!(parent: &span, "started");
    let dir = kit.attempts.join(lease.attempt_id.to_string());
    let evidence = match open(kit, fleet, link, &lease, hold, phone, &dir) {
        Ok((attempt, sending)) => {
            let (evidence, kept) = attempt.execute().await;
            attempt.enter(Phase::Uploading, None).await;
            upload::send(link, hold, &attempt.log, kept).await;
            attempt.enter(Phase::Cleaning, None).await;
            sending.close().await;
            evidence
        }
        Err(error) => faulty(agent_fault(format!("cannot make the attempt's folder: {error}"))),
    };
    if let Err(error) = remove(&dir) {
        tracing::warn!(%error, "cannot remove the attempt's folder");
    }
    let report = FinishReport { epoch: hold.held.epoch, evidence };
    match link::persist(&hold.over, || link.finish(lease.attempt_id, &report)).await {
        Ok(reply) => tracing::info!(parent: &span, outcome = %reply.outcome, "finished"),
        Err(error) => tracing::warn!(parent: &span, %error, "the server did not take the result"),
    }
}

fn open<'a>(
    kit: &'a Kit,
    fleet: &'a Fleet,
    link: &'a Link,
    lease: &'a Lease,
    hold: &'a Arc<Hold>,
    phone: &'a Phone,
    dir: &Path,
) -> std::io::Result<(Attempt<'a>, Sending)> {
    std::fs::create_dir_all(dir)?;
    let sending = Sending::start(link.clone(), hold.clone(), LogStream::Agent, dir)?;
    let attempt = Attempt {
        kit,
        fleet,
        link,
        lease,
        hold,
        phone,
        departures: phone.presence().borrow().departures,
        deadline: Instant::now() + Duration::from_millis(lease.timeout_ms),
        dir: dir.to_owned(),
        log: sending.log(),
    };
    Ok((attempt, sending))
}

impl Attempt<'_> {
    /// Does everything that needs the device, and leaves it clean.
    async fn execute(&self) -> (Evidence, Vec<Kept>) {
        let lease = self.lease;
        self.log.say(&format!(
            "attempt {} of {} on {}: {} {} ({})",
            lease.number,
            lease.job_id,
            self.phone.serial,
            lease.build.app_id,
            lease.build.version_name,
            lease.app_version_id
        ));
        let prepared = match self.guard(self.prepare()).await {
            Ok(prepared) => prepared,
            Err(halt) => return (self.halted(halt), Vec::new()),
        };
        self.enter(Phase::Installing, None).await;
        let installed = match self.guard(self.install(&prepared.apk)).await {
            Ok(installed) => installed,
            Err(halt) => {
                // It is not known what a broken installation left on the device.
                self.fleet.strike(self.phone, &lease.build.app_id);
                return (self.halted(halt), Vec::new());
            }
        };
        self.fleet.enter(self.phone, &lease.build);
        self.log.say(&format!("app: {} in {} ms", installed.action, installed.duration_ms));
        self.enter(Phase::Installing, Some(installed)).await;
        self.enter(Phase::Testing, None).await;
        self.test(prepared).await
    }

    /// Fetches the build and the project, and makes sure of the device's Appium, all at once.
    async fn prepare(&self) -> Result<Prepared, Fault> {
        let project = async {
            let packed = self.kit.bundle(self.link, self.lease, self.hold, &self.dir).await?;
            let prepared = self.kit.workspaces.prepare(self.lease.bundle_sha256, &packed).await;
            prepared.map_err(|error| error.fault())
        };
        let apk = self.kit.build(self.link, self.lease, self.hold, &self.dir);
        let appium = self.kit.appium(self.phone);
        let (project, apk, appium_port) = tokio::try_join!(project, apk, appium)?;
        Ok(Prepared { project, apk, appium_port })
    }

    async fn install(&self, apk: &Path) -> Result<Install, Fault> {
        let (adb, lease) = (&self.kit.adb, self.lease);
        let installed = install::ensure(adb, &self.phone.serial, &lease.build, apk, lease.reset).await?;
        let foreign_data = self.phone.enter_org(&lease.org_id);
        if lease.reset == Reset::None && foreign_data {
            self.log.say("the app's data is cleared: another org, or an unknown one, used the device before");
            let cleared = adb.clear(&self.phone.serial, &lease.build.app_id).await;
            cleared.map_err(install::device_fault)?;
        }
        Ok(installed)
    }

    /// Does `work` unless the attempt is stopped, its time is over, or the device leaves.
    async fn guard<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Halt> {
        tokio::select! {
            biased;
            halt = self.until_halted() => Err(halt),
            done = work => done.map_err(Halt::Fault),
        }
    }

    async fn until_halted(&self) -> Halt {
        tokio::select! {
            stop = self.hold.until_stopped() => Halt::Stop(stop),
            () = tokio::time::sleep_until(self.deadline) => Halt::Stop(Stop::TimedOut),
            fault = self.until_departed() => Halt::Fault(fault),
        }
    }

    /// Resolves when the device is no longer what it was when the attempt began: a device that came back at once
    /// has lost its sessions all the same.
    async fn until_departed(&self) -> Fault {
        let departures = self.departures;
        let mut presence = self.phone.presence();
        let gone = presence.wait_for(|presence| presence.departures != departures || !presence.online).await;
        let note = gone.ok().and_then(|presence| presence.note.clone());
        let note = note.unwrap_or_else(|| "it came back".to_owned());
        Fault { reason: Reason::DeviceFault, detail: format!("the device left during the attempt ({note})") }
    }

    /// What a halt means as evidence.
    fn halted(&self, halt: Halt) -> Evidence {
        match halt {
            Halt::Stop(stop) => {
                self.log.say(&format!("stopped: {}", word(stop)));
                Evidence {
                    stopped: Some(stop),
                    fault: None,
                    exit: None,
                    selected: None,
                    report: Report::Missing,
                }
            }
            Halt::Fault(fault) => {
                self.log.say(&format!("{}: {}", fault.reason, fault.detail));
                faulty(fault)
            }
        }
    }

    /// Tells the server the phase. It is news, not state: what cannot be told is not worth stopping for.
    async fn enter(&self, phase: Phase, install: Option<Install>) {
        let body = PhaseReport { epoch: self.hold.held.epoch, phase, install };
        let told = match install {
            Some(_) => link::persist(&self.hold.over, || self.link.phase(self.lease.attempt_id, &body)).await,
            None => self.link.phase(self.lease.attempt_id, &body).await,
        };
        match told {
            Err(error) if error.code() == Some(qgjob_core::api::problem::Code::LeaseLost) => {
                self.hold.stop(Stop::LeaseLost);
            }
            Err(error) => tracing::debug!(%error, %phase, "cannot tell the phase"),
            Ok(()) => {}
        }
    }
}

/// All that tests need.
struct Prepared {
    project: Project,
    apk: PathBuf,
    appium_port: u16,
}

fn faulty(fault: Fault) -> Evidence {
    Evidence { stopped: None, fault: Some(fault), exit: None, selected: None, report: Report::Missing }
}

fn agent_fault(detail: String) -> Fault {
    Fault { reason: Reason::AgentFault, detail }
}

fn word(stop: Stop) -> &'static str {
    match stop {
        Stop::Cancelled => "the job was cancelled",
        Stop::TimedOut => "the attempt's time is over",
        Stop::LeaseLost => "the lease is lost",
        Stop::Shutdown => "the agent is shutting down",
    }
}

fn remove(dir: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
