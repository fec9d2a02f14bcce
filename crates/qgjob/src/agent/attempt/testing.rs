//! The part of an attempt in which tests run: gateway, runner, and what was seen.

use std::collections::HashMap;
use std::time::Duration;

use qgjob_core::model::event::LogStream;
use qgjob_core::model::evidence::{Evidence, Exit, Fault};
use qgjob_core::model::job::{Reason, Reset};
use qgjob_core::model::selector::{Platform, Target};
use qgjob_core::model::test_result::{TestOutcome, Try};

use super::tries::Tries;
use super::{Attempt, Halt, Prepared, agent_fault};
use crate::agent::gateway::{self, Closing, Gateway};
use crate::agent::log::{Log, Sending};
use crate::agent::runner::{AppWright, AttemptDir, Finished, Live, Plan, Running, Setting, Tools, Wish};
use crate::agent::upload::Kept;
use crate::agent::workspace::Workspace;

/// How long Appium may take to create a session; the runner's client would try again after 120 s.
const SESSION_LIMIT: Duration = Duration::from_secs(90);
/// How long sessions that are left may take to end.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);
/// The most that is kept of Appium's log of one attempt, from its start.
const APPIUM_LOG_LIMIT: u64 = 4 << 20;

impl Attempt<'_> {
    /// Runs the tests and leaves the device clean.
    pub(super) async fn test(&self, prepared: Prepared) -> (Evidence, Vec<Kept>) {
        match self.set_up(&prepared).await {
            Ok(bench) => self.run_on(bench).await,
            Err(halt) => (self.halted(halt), Vec::new()),
        }
    }

    /// A working copy, the right Playwright project, a gateway, logs.
    async fn set_up(&self, prepared: &Prepared) -> Result<Bench, Halt> {
        let failed = |error: std::io::Error| Halt::Fault(agent_fault(error.to_string()));
        let copied = prepared.project.working_copy(&self.dir.join("work"), &self.lease.test).await;
        let workspace = copied.map_err(|error| Halt::Fault(error.fault()))?;
        let dir = AttemptDir::create(&self.dir.join("run")).map_err(failed)?;
        let setting = Setting {
            workspace: workspace.dir().to_owned(),
            tools: self.tools(),
            env: self.lease.env.clone(),
            udid: self.phone.serial.clone(),
            app_id: self.lease.build.app_id.clone(),
            app: prepared.apk.clone(),
        };
        let facts = self.phone.facts();
        let kind = if facts.as_ref().is_some_and(|facts| facts.is_emulator) {
            Target::Emulator
        } else {
            Target::Device
        };
        let model = facts.map(|facts| facts.model).unwrap_or_default();
        let wish = Wish { platform: Platform::Android, kind, model };
        let notes = prepared.project.notes();
        let finding =
            async { AppWright::project(&setting, &wish, notes, &dir).await.map_err(|error| error.fault()) };
        let project = self.guard(finding).await?;
        let config = gateway::Config {
            adb: self.kit.adb.clone(),
            serial: self.phone.serial.clone(),
            appium_port: prepared.appium_port,
            // A job that asked for a reinstall has it by now; its tests get the usual fresh data.
            reset: match self.lease.reset {
                Reset::ClearData | Reset::Reinstall => gateway::Reset::ClearData,
                Reset::None => gateway::Reset::None,
            },
            artifacts: dir.device(),
            create_limit: SESSION_LIMIT,
        };
        let gateway = Gateway::open(config).await.map_err(failed)?;
        let plan = Plan {
            setting,
            test: self.lease.test.clone(),
            shard: self.lease.shard.clone(),
            only: self.lease.only.clone(),
            project,
            gateway_port: gateway.port(),
            timeout: self.deadline.saturating_duration_since(tokio::time::Instant::now()),
            test_retries: self.lease.test_retries,
            dir,
            records: Some(self.kit.records.clone()),
        };
        Ok(Bench { workspace, gateway, plan })
    }

    /// The host's programs, with the SDK and the adb server that the agent uses.
    fn tools(&self) -> Tools {
        let mut tools = Tools::with_sdk(&self.kit.sdk);
        tools.env.insert("ANDROID_ADB_SERVER_PORT".to_owned(), self.kit.adb.port().to_string());
        tools
    }

    async fn run_on(&self, bench: Bench) -> (Evidence, Vec<Kept>) {
        let Bench { workspace, gateway, plan } = bench;
        let printed = match Sending::start(self.link.clone(), self.hold.clone(), LogStream::Test, &self.dir) {
            Ok(printed) => printed,
            Err(error) => return (super::faulty(agent_fault(error.to_string())), Vec::new()),
        };
        let tries = Tries::start(self.link.clone(), self.hold.clone());
        let log_start = self.appium_log_position().await;
        let mut failures = Failures::default();
        let (halt, finished) = match AppWright::start(plan) {
            Ok(running) => self.watch(running, &gateway, &printed.log(), &tries, &mut failures).await,
            Err(error) => (Some(Halt::Fault(error.fault())), None),
        };
        let closing = gateway.close(CLOSE_LIMIT).await;
        // First the log: it goes with the Appium that wrote it.
        self.send_appium_log(log_start).await;
        self.clean_device(&closing, halt.as_ref()).await;
        tries.close().await;
        printed.close().await;
        drop(workspace);
        self.conclude(halt, finished, &closing, &failures)
    }

    /// Passes on what happens until the runner is gone; interrupts it when the attempt must stop.
    async fn watch(
        &self,
        mut running: Running,
        gateway: &Gateway,
        printed: &Log,
        tries: &Tries,
        failures: &mut Failures,
    ) -> (Option<Halt>, Option<Finished>) {
        let mut halt = None;
        loop {
            tokio::select! {
                biased;
                stopped = self.until_halted(), if halt.is_none() => {
                    if let Halt::Fault(fault) = &stopped {
                        gateway.device_lost(&fault.detail);
                    }
                    running.interrupt();
                    halt = Some(stopped);
                }
                live = running.next() => match live {
                    Some(Live::Begin { total }) => self.log.say(&format!("{total} tests")),
                    Some(Live::Try(one)) => {
                        failures.note(&one);
                        tries.add(one);
                    }
                    Some(Live::Output(bytes)) => if let Err(error) = printed.write(&bytes) {
                        halt.get_or_insert(Halt::Fault(agent_fault(format!("cannot write the log: {error}"))));
                        running.interrupt();
                    },
                    None => break,
                },
            }
        }
        match running.wait().await {
            Ok(finished) => (halt, Some(finished)),
            Err(error) => (halt.or(Some(Halt::Fault(agent_fault(error.to_string())))), None),
        }
    }

    /// A device whose sessions could not be ended, or that left, gets a new Appium before the next job.
    async fn clean_device(&self, closing: &Closing, halt: Option<&Halt>) {
        let left = matches!(halt, Some(Halt::Fault(fault)) if fault.reason == Reason::DeviceFault);
        let why = match (left, closing.needs_new_appium()) {
            (true, _) => "the device left, and its sessions with it",
            (false, true) => "its sessions could not be ended cleanly",
            (false, false) => return,
        };
        self.log.say(&format!("Appium is restarted: {why}"));
        // The next attempt starts a new one.
        if let Some(appium) = self.phone.appium.lock().await.take()
            && let Err(error) = appium.stop().await
        {
            tracing::warn!(%error, serial = self.phone.serial, "cannot stop Appium");
        }
    }

    async fn appium_log_position(&self) -> u64 {
        self.phone.appium.lock().await.as_ref().map_or(0, |appium| appium.log_position())
    }

    async fn send_appium_log(&self, from: u64) {
        let read = match self.phone.appium.lock().await.as_ref() {
            Some(appium) => appium.log_since(from, APPIUM_LOG_LIMIT),
            None => return,
        };
        let sent = read.and_then(|bytes| {
            let sending = Sending::start(self.link.clone(), self.hold.clone(), LogStream::Appium, &self.dir)?;
            sending.log().write(&bytes)?;
            Ok(sending)
        });
        match sent {
            Ok(sending) => sending.close().await,
            Err(error) => self.log.say(&format!("Appium's log is not kept: {error}")),
        }
    }

    fn conclude(
        &self,
        halt: Option<Halt>,
        finished: Option<Finished>,
        closing: &Closing,
        failures: &Failures,
    ) -> (Evidence, Vec<Kept>) {
        let Some(finished) = finished else {
            let halt = halt.unwrap_or_else(|| Halt::Fault(agent_fault("the runner did not end".to_owned())));
            return (self.halted(halt), Vec::new());
        };
        let mut evidence = match halt {
            Some(halt) => self.halted(halt),
            None => Evidence {
                stopped: None,
                fault: broken(&finished, closing, failures),
                exit: None,
                selected: finished.selected,
                report: finished.report,
            },
        };
        evidence.exit = Some(finished.exit);
        if let Some(fault) = &evidence.fault {
            self.log.say(&format!("{}: {}", fault.reason, fault.detail));
        }
        if finished.artifacts_left_out > 0 {
            self.log
                .say(&format!("{} files were too many or too large to keep", finished.artifacts_left_out));
        }
        let keep = |file: crate::agent::runner::ArtifactFile| Kept {
            path: file.path,
            name: file.name,
            media_type: file.media_type.to_owned(),
        };
        (evidence, finished.artifacts.into_iter().map(keep).collect())
    }
}

/// What is set up for the tests.
struct Bench {
    workspace: Workspace,
    gateway: Gateway,
    plan: Plan,
}

/// Why the tests that failed did so, by test; a later try replaces an earlier one.
#[derive(Default)]
struct Failures(HashMap<String, Option<String>>);

impl Failures {
    fn note(&mut self, one: &Try) {
        let failed = one.outcome == TestOutcome::Unexpected;
        let error = failed.then(|| one.error.clone().unwrap_or_default());
        self.0.insert(one.test_id.clone(), error);
    }

    /// Whether a test failed without any of `reasons` in its error.
    fn any_without(&self, reasons: &[&str]) -> bool {
        // Errors quote a reason from its start, and may cut it.
        let starts: Vec<String> = reasons.iter().map(|reason| reason.chars().take(60).collect()).collect();
        self.0.values().flatten().any(|error| !starts.iter().any(|start| error.contains(start)))
    }
}

/// The fault behind a failure that is not the tests' own: something that broke under them, or sessions that did not come
/// into being or did not end. Without proof that something broke, a test that says no for a reason of its own is believed.
fn broken(finished: &Finished, closing: &Closing, failures: &Failures) -> Option<Fault> {
    if finished.exit == Exit::Code(0) {
        return None;
    }
    let fault = |detail: String| Some(Fault { reason: Reason::DeviceFault, detail });
    if let Some(proof) = &closing.facts.broken {
        return fault(proof.clone());
    }
    let reasons = closing.facts.sessions_failed.iter().chain(&closing.failed);
    let reasons: Vec<&str> = reasons.map(String::as_str).collect();
    let last = reasons.last()?;
    if failures.any_without(&reasons) {
        return None;
    }
    fault(format!("a session on the device failed: {last}"))
}
