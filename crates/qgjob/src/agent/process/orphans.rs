//! Orphans: what a project's code started in a session and with an environment of its own, so that neither group nor
//! mark finds it.
//!
//! The agent is the reaper of its descendants: one whose parent is gone becomes the agent's child. What is a child
//! and was not started by a [`super::Launch`] is such an orphan. Which attempt it came from cannot be seen, only when it
//! was started: it is ended as soon as every project's process that ran at that time is gone.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, MutexGuard};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use tokio::process::Child;

use super::group::{Seen, processes};

static FAMILY: Mutex<Family> = Mutex::new(Family { reaper: false, children: Vec::new() });

#[derive(Debug)]
struct Family {
    /// Whether orphans become this process's children, and no stranger does.
    reaper: bool,
    children: Vec<Known>,
}

/// A child that was started on purpose and has not ended.
#[derive(Debug)]
struct Known {
    pid: Pid,
    started: u64,
    mark: String,
    of_project: bool,
}

/// Makes this process the reaper of its descendants. It must not have children yet.
pub fn adopt() {
    let own = Pid::this();
    let strangers = processes().iter().any(|p| p.parent == own && !p.zombie);
    if own.as_raw() == 1 || strangers {
        tracing::warn!(
            "this agent has children that it did not start: it cannot tell what tests leave behind"
        );
        return;
    }
    match become_reaper() {
        Ok(()) => family().reaper = true,
        Err(error) => tracing::warn!(%error, "processes that tests detach fully are not found"),
    }
}

#[cfg(target_os = "linux")]
fn become_reaper() -> io::Result<()> {
    nix::sys::prctl::set_child_subreaper(true).map_err(io::Error::from)
}

#[cfg(not(target_os = "linux"))]
fn become_reaper() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Starts a child and knows it from its first moment.
///
/// # Errors
/// When it cannot be started.
pub fn start(mark: &str, of_project: bool, spawn: impl FnOnce() -> io::Result<Child>) -> io::Result<Child> {
    // Held while it starts: nobody may take it for an orphan.
    let mut family = family();
    let child = spawn()?;
    let pid = Pid::from_raw(child.id().expect("a child not yet waited for has an id") as i32);
    let started = Seen::read(pid).map(|p| p.started).unwrap_or_default();
    family.children.push(Known { pid, started, mark: mark.to_owned(), of_project });
    Ok(child)
}

/// To be called when a child and all that carries its mark have ended.
pub fn forget(mark: &str) {
    family().children.retain(|known| known.mark != mark);
}

/// Kills the orphans whose time is over, with their descendants. Answers whether there were any.
pub fn kill_all() -> bool {
    let family = family();
    if !family.reaper {
        return false;
    }
    let all = processes();
    let own = Pid::this();
    let mut doomed = BTreeSet::new();
    for p in all.iter().filter(|p| p.parent == own && !family.children.iter().any(|c| c.pid == p.pid)) {
        if p.zombie {
            let _ = waitpid(p.pid, Some(WaitPidFlag::WNOHANG));
        } else if !p.is_adb_server() && family.is_over(p) {
            doomed.insert(p.pid);
        }
    }
    let mut grown = 0;
    while grown < doomed.len() {
        grown = doomed.len();
        let young = all.iter().filter(|p| doomed.contains(&p.parent) && !p.is_adb_server()).map(|p| p.pid);
        let young: Vec<Pid> = young.collect();
        doomed.extend(young);
    }
    for pid in &doomed {
        let _ = kill(*pid, Signal::SIGKILL);
    }
    !doomed.is_empty()
}

impl Family {
    fn is_over(&self, orphan: &Seen) -> bool {
        match orphan.mark() {
            Some(mark) => !self.children.iter().any(|known| known.mark == mark),
            None => !self.children.iter().any(|known| known.of_project && known.started <= orphan.started),
        }
    }
}

fn family() -> MutexGuard<'static, Family> {
    FAMILY.lock().expect("no thread panics while holding the family")
}
