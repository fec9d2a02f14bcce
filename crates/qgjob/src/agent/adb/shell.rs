//! Commands on the device, with separate streams and an exit code (shell protocol v2, Android 7 and later).

use std::time::Duration;

use super::{Adb, Error, SHORT, Socket, within};

/// More output than this is cut off; no command of the agent writes that much.
const MAX_OUTPUT: usize = 16 << 20;

const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const EXIT: u8 = 3;

/// What a command on the device did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub stdout: String,
    pub stderr: String,
    pub code: u8,
}

impl Output {
    /// Both streams, for messages.
    pub fn text(&self) -> String {
        let all = format!("{}\n{}", self.stdout.trim(), self.stderr.trim());
        all.trim().to_owned()
    }
}

impl Adb {
    /// Runs a command line in the device's shell, for at most 15 s.
    ///
    /// # Errors
    /// Never for the command's own failure: look at [`Output::code`].
    pub async fn shell(&self, serial: &str, command: &str) -> Result<Output, Error> {
        self.shell_within(serial, command, SHORT).await
    }

    /// [`Adb::shell`] with another limit of time.
    pub async fn shell_within(&self, serial: &str, command: &str, limit: Duration) -> Result<Output, Error> {
        within(command, limit, async {
            let mut socket = Socket::to_device(self, serial).await?;
            socket.request(&format!("shell,v2,raw:{command}")).await?;
            read_packets(&mut socket).await
        })
        .await
    }

    /// [`Adb::shell_within`] for a command whose failure is an error.
    pub(super) async fn must(&self, serial: &str, command: &str, limit: Duration) -> Result<String, Error> {
        let out = self.shell_within(serial, command, limit).await?;
        if out.code == 0 {
            return Ok(out.stdout);
        }
        Err(Error::Command {
            serial: serial.to_owned(),
            command: command.to_owned(),
            code: out.code,
            output: out.text(),
        })
    }
}

async fn read_packets(socket: &mut Socket) -> Result<Output, Error> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    loop {
        let mut header = [0; 5];
        socket.read_exact(&mut header).await?;
        let length = u32::from_le_bytes([header[1], header[2], header[3], header[4]]) as usize;
        if stdout.len() + stderr.len() + length > MAX_OUTPUT {
            return Err(Error::Protocol("a command wrote more than 16 MiB".to_owned()));
        }
        let mut data = vec![0; length];
        socket.read_exact(&mut data).await?;
        match header[0] {
            STDOUT => stdout.extend(data),
            STDERR => stderr.extend(data),
            EXIT => {
                return Ok(Output {
                    stdout: String::from_utf8_lossy(&stdout).into_owned(),
                    stderr: String::from_utf8_lossy(&stderr).into_owned(),
                    code: data.first().copied().unwrap_or(u8::MAX),
                });
            }
            _ => {}
        }
    }
}
