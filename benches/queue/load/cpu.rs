//! CPU time of the server and of this process, all threads.

use nix::time::ClockId;
use nix::unistd::Pid;

/// How much both had used at some time.
pub struct Cpu {
    server: ClockId,
    at_first: (f64, f64),
}

impl Cpu {
    /// The server is this process.
    pub fn of(server: u32) -> Self {
        let pid = Pid::from_raw(i32::try_from(server).expect("a process id"));
        let server = ClockId::pid_cpu_clock_id(pid).expect("the server lives");
        Self { server, at_first: (used(server), used(ClockId::CLOCK_PROCESS_CPUTIME_ID)) }
    }

    /// CPU seconds of server and client since then.
    pub fn spent(&self) -> (f64, f64) {
        let (server, client) = self.at_first;
        (used(self.server) - server, used(ClockId::CLOCK_PROCESS_CPUTIME_ID) - client)
    }
}

fn used(clock: ClockId) -> f64 {
    let used = clock.now().expect("the process lives");
    used.tv_sec() as f64 + used.tv_nsec() as f64 / 1e9
}
