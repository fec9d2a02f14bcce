//! Which processes belong to one that was started: those of its group, and those that carry its mark.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::MARK;

/// What [`Process`] answers for: the processes of one group, and those that carry one mark.
#[derive(Debug)]
pub struct Group {
    pub leader: Pid,
    pub mark: String,
}

impl Group {
    pub fn members(&self) -> Vec<Pid> {
        let all = processes();
        // Once the leader is reaped its number may be given to a stranger, who may found a group of that
        // number. Such a stranger lacks the mark.
        let recycled = all.iter().any(|p| p.pid == self.leader && !p.zombie && !p.marked(&self.mark));
        all.iter()
            .filter(|p| !p.zombie && !p.is_adb_server())
            .filter(|p| p.marked(&self.mark) || (p.group == self.leader && !recycled))
            .map(|p| p.pid)
            .collect()
    }

    pub fn signal(&self, signal: Signal) {
        for pid in self.members() {
            let _ = kill(pid, signal);
        }
    }
}

/// A fresh mark. It begins with the folder of the records, so that [`end_leftovers`] knows its own even
/// if the agent died between starting a process and writing the record.
pub fn mark(records: Option<&Path>) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let own = std::process::id();
    let started = Seen::read(Pid::from_raw(own as i32)).map(|p| p.started).unwrap_or_default();
    format!("{}{own}.{started}.{count}", mark_prefix(records))
}

pub fn mark_prefix(records: Option<&Path>) -> String {
    match records {
        Some(dir) => format!("{}#", fs::canonicalize(dir).unwrap_or_else(|_| dir.to_path_buf()).display()),
        None => "#".to_owned(),
    }
}

/// A process as `/proc` shows it.
#[derive(Debug)]
pub struct Seen {
    pub pid: Pid,
    pub parent: Pid,
    pub group: Pid,
    /// Clock ticks since boot: together with the pid it names a process for good.
    pub started: u64,
    pub zombie: bool,
}

impl Seen {
    pub fn read(pid: Pid) -> Option<Seen> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything, blanks and parentheses too.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(Seen {
            pid,
            zombie: matches!(*fields.first()?, "Z" | "X"),
            parent: Pid::from_raw(fields.get(1)?.parse().ok()?),
            group: Pid::from_raw(fields.get(2)?.parse().ok()?),
            started: fields.get(19)?.parse().ok()?,
        })
    }

    pub fn mark(&self) -> Option<String> {
        let environ = fs::read(format!("/proc/{}/environ", self.pid)).ok()?;
        let prefix = format!("{MARK}=");
        let entry = environ.split(|b| *b == 0).find(|e| e.starts_with(prefix.as_bytes()))?;
        Some(String::from_utf8_lossy(&entry[prefix.len()..]).into_owned())
    }

    fn marked(&self, mark: &str) -> bool {
        self.mark().is_some_and(|m| m == mark)
    }

    /// Whoever calls `adb` first starts the adb server, and the server inherits the mark. It belongs to the
    /// host, not to the job: ending it would take every device away from everybody.
    pub fn is_adb_server(&self) -> bool {
        fs::read(format!("/proc/{}/cmdline", self.pid))
            .is_ok_and(|line| line.split(|b| *b == 0).any(|arg| arg == b"fork-server"))
    }
}

/// All processes of this host that this user may look at; none where there is no `/proc`.
pub fn processes() -> Vec<Seen> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Seen::read(Pid::from_raw(pid)))
        .collect()
}
