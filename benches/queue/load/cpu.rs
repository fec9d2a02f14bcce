//! CPU time of the server and of this process, from the kernel's account (to 10 ms).

/// How much both had used at some time.
pub struct Cpu {
    server: u32,
    at_first: (f64, f64),
}

impl Cpu {
    /// The server is this process.
    pub fn of(server: u32) -> Self {
        Self { server, at_first: (used(&server.to_string()), used("self")) }
    }

    /// CPU seconds of server and client since then.
    pub fn spent(&self) -> (f64, f64) {
        (used(&self.server.to_string()) - self.at_first.0, used("self") - self.at_first.1)
    }
}

fn used(process: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("the process lives");
    let (_, fields) = stat.rsplit_once(')').expect("the name is in brackets");
    // The state comes first; user and system time are the 12th and 13th, in hundredths of a second.
    let ticks =
        fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().expect("a number"));
    ticks.sum::<f64>() / 100.0
}
