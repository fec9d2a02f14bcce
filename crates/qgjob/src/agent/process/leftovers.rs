//! Records of running processes, kept for an agent that comes after one that was killed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::KILL_PATIENCE;
use super::group::{Group, Seen, mark_prefix, processes};

/// What is written about a process, for an agent that comes after.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    pid: i32,
    started: u64,
    /// A start time means nothing after a reboot.
    boot: String,
    mark: String,
    program: String,
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|s| s.trim().to_owned()).unwrap_or_default()
}

pub fn write_record(dir: &Path, group: &Group, program: &str) -> io::Result<PathBuf> {
    let record = Record {
        pid: group.leader.as_raw(),
        started: Seen::read(group.leader).map(|p| p.started).unwrap_or_default(),
        boot: boot_id(),
        mark: group.mark.clone(),
        program: program.to_owned(),
    };
    let path = dir.join(format!("{}.json", record.pid));
    let half = dir.join(format!(".{}.half", record.pid));
    fs::write(&half, serde_json::to_vec(&record)?)?;
    fs::rename(&half, &path)?;
    Ok(path)
}

/// Kills whatever an agent that kept its records in `dir` left running, and returns how many processes.
///
/// The caller must know that no other agent uses `dir`. A process is killed only if it carries a mark made
/// for `dir`, or belongs to a recorded group whose leader still has the recorded start time, so a number
/// that was given to somebody else since is never touched.
///
/// # Errors
/// If `dir` cannot be read.
pub fn end_leftovers(dir: &Path) -> io::Result<usize> {
    let boot = boot_id();
    let prefix = mark_prefix(Some(dir));
    let mut groups = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let record = fs::read(&path).ok().and_then(|b| serde_json::from_slice::<Record>(&b).ok());
        if let Some(r) = record
            && r.boot == boot
            && Seen::read(Pid::from_raw(r.pid)).is_some_and(|p| p.started == r.started)
        {
            groups.push(Pid::from_raw(r.pid));
        }
        fs::remove_file(&path)?;
    }
    let deadline = Instant::now() + KILL_PATIENCE;
    let mut killed = BTreeSet::new();
    loop {
        let left: Vec<Pid> = processes()
            .iter()
            .filter(|p| !p.zombie && !p.is_adb_server())
            .filter(|p| groups.contains(&p.group) || p.mark().is_some_and(|m| m.starts_with(&prefix)))
            .map(|p| p.pid)
            .collect();
        if left.is_empty() || Instant::now() > deadline {
            return Ok(killed.len());
        }
        for pid in left {
            if kill(pid, Signal::SIGKILL) != Err(Errno::ESRCH) {
                killed.insert(pid);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::process::Launch;

    fn shell(script: &str) -> Launch {
        Launch::new("/bin/sh").args(["-c", script])
    }

    fn alive(pid: u32) -> bool {
        Seen::read(Pid::from_raw(pid as i32)).is_some_and(|p| !p.zombie)
    }

    #[tokio::test]
    async fn a_successor_ends_what_a_killed_agent_left_but_never_a_recycled_pid() {
        let dir = tempfile::tempdir().unwrap();
        let records = dir.path().join("records");
        fs::create_dir(&records).unwrap();
        let left = shell("sleep 300 & wait").recorded_in(&records).spawn().unwrap();
        let innocent = shell("exec sleep 300").spawn().unwrap();
        // A record that names the innocent's pid with another start time, as after recycling.
        let group = Group { leader: Pid::from_raw(innocent.id() as i32), mark: "gone".to_owned() };
        let path = write_record(&records, &group, "sleep").unwrap();
        let mut record: Record = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        record.started += 1;
        fs::write(&path, serde_json::to_vec(&record).unwrap()).unwrap();

        let leader = left.id();
        assert!(tokio::task::spawn_blocking(move || end_leftovers(&records)).await.unwrap().unwrap() >= 1);
        assert!(!alive(leader));
        assert!(alive(innocent.id()));
        drop((left, innocent));
    }
}
