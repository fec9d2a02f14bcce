//! Running commands for a host: `shell:`, `shell,v2:` and `exec:`.

use std::io::Result;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio_util::sync::CancellationToken;

use crate::device::{Device, Instrumentation, State};
use crate::shell;

/// How bytes are told apart on the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Plain,
    /// Each piece has its kind in one byte and its length in four.
    Packets,
}

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const EXIT: u8 = 3;
const CLOSE_STDIN: u8 = 4;

/// The largest packet that is taken from a host, in bytes.
const MAX_PACKET: usize = 1024 * 1024;

pub(crate) async fn run(
    device: Arc<Device>,
    stream: DuplexStream,
    command: &str,
    framing: Framing,
) -> Result<()> {
    let (input, output) = tokio::io::split(stream);
    let mut terminal = Terminal { input, output, framing };
    let words = shell::last_command(command);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        _ if command.trim().is_empty() => {
            terminal.write(STDERR, b"interactive shells are not simulated\n").await?;
            terminal.exit(1).await
        }
        ["am", "instrument", ..] => {
            instrument(&device, terminal, words.last().copied().unwrap_or_default()).await
        }
        ["logcat", options @ ..] if follows(options) => follow_log(&device, terminal).await,
        _ => {
            let stdin = terminal.stdin_for(&words).await?;
            let outcome = shell::run(&mut device.state(), command, &stdin);
            tokio::time::sleep(outcome.pause).await;
            terminal.write(STDOUT, &outcome.out).await?;
            terminal.write(STDERR, &outcome.err).await?;
            terminal.exit(outcome.code).await
        }
    }
}

fn follows(options: &[&str]) -> bool {
    !options.iter().any(|option| matches!(*option, "-c" | "-d" | "-g" | "-t" | "--help"))
}

struct Terminal {
    input: ReadHalf<DuplexStream>,
    output: WriteHalf<DuplexStream>,
    framing: Framing,
}

impl Terminal {
    async fn write(&mut self, kind: u8, bytes: &[u8]) -> Result<()> {
        match self.framing {
            Framing::Plain => self.output.write_all(bytes).await,
            Framing::Packets => {
                for piece in bytes.chunks(MAX_PACKET) {
                    self.packet(kind, piece).await?;
                }
                Ok(())
            }
        }
    }

    async fn packet(&mut self, kind: u8, bytes: &[u8]) -> Result<()> {
        let mut packet = BytesMut::with_capacity(5 + bytes.len());
        packet.extend_from_slice(&[kind]);
        packet.extend_from_slice(&u32::try_from(bytes.len()).expect("at most MAX_PACKET").to_le_bytes());
        packet.extend_from_slice(bytes);
        self.output.write_all(&packet).await
    }

    async fn exit(&mut self, code: u8) -> Result<()> {
        if self.framing == Framing::Packets {
            self.packet(EXIT, &[code]).await?;
        }
        self.output.shutdown().await
    }

    /// What the command reads, for the few that read: an APK of a known length, or all there is for `cat`.
    async fn stdin_for(&mut self, words: &[&str]) -> Result<Bytes> {
        let installs = words.iter().any(|word| matches!(*word, "install" | "install-write"));
        let length =
            words.iter().position(|word| *word == "-S").and_then(|at| words.get(at + 1)?.parse().ok());
        match length {
            Some(length) if installs => self.read_stdin(length).await,
            _ if matches!(words, ["cat"] | ["cat", "-"]) => self.read_stdin(usize::MAX).await,
            _ => Ok(Bytes::new()),
        }
    }

    /// Reads until `limit` bytes have come or the host has no more.
    async fn read_stdin(&mut self, limit: usize) -> Result<Bytes> {
        let mut bytes = BytesMut::new();
        while bytes.len() < limit {
            match self.framing {
                Framing::Plain => {
                    if self.input.read_buf(&mut bytes).await? == 0 {
                        break;
                    }
                }
                Framing::Packets => {
                    let Some((kind, data)) = self.read_packet().await? else { break };
                    match kind {
                        STDIN => bytes.extend_from_slice(&data),
                        CLOSE_STDIN => break,
                        _ => {}
                    }
                }
            }
        }
        Ok(bytes.freeze())
    }

    async fn read_packet(&mut self) -> Result<Option<(u8, Vec<u8>)>> {
        let mut header = [0; 5];
        match self.input.read_exact(&mut header).await {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let length = u32::from_le_bytes(header[1..].try_into().expect("four bytes")) as usize;
        if length > MAX_PACKET {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "shell packet too long"));
        }
        let mut data = vec![0; length];
        self.input.read_exact(&mut data).await?;
        Ok(Some((header[0], data)))
    }

    /// Returns when the host hangs up.
    async fn hung_up(input: &mut ReadHalf<DuplexStream>) {
        let mut ignored = [0; 256];
        while input.read(&mut ignored).await.is_ok_and(|read| read > 0) {}
    }
}

/// UiAutomator2's server runs for as long as this command does.
async fn instrument(device: &Device, mut terminal: Terminal, target: &str) -> Result<()> {
    let begun = begin_instrumentation(&mut device.state(), target);
    let running = match begun {
        Ok(running) => running,
        Err(complaint) => {
            terminal.write(STDOUT, complaint.as_bytes()).await?;
            return terminal.exit(1).await;
        }
    };
    tokio::select! {
        () = running.cancelled() => {
            let message = "\nINSTRUMENTATION_RESULT: shortMsg=Process crashed.\nINSTRUMENTATION_CODE: 0\n";
            terminal.write(STDOUT, message.as_bytes()).await?;
            terminal.exit(0).await
        }
        () = Terminal::hung_up(&mut terminal.input) => {
            // A later session may have begun meanwhile and cancelled this one; that one goes on.
            if !running.is_cancelled() {
                device.state().end_instrumentation();
            }
            Ok(())
        }
    }
}

fn begin_instrumentation(state: &mut State, target: &str) -> std::result::Result<CancellationToken, String> {
    let package = target.split_once('/').map_or(target, |(package, _)| package);
    let known = state.packages.get(package).and_then(|known| known.manifest.instrumentation.first());
    let instrumented = known.map(|known| known.target.clone());
    let Some(instrumented) = instrumented.filter(|target| state.packages.contains_key(target)) else {
        return Err(format!(
            "INSTRUMENTATION_STATUS: Error=Unable to find instrumentation info for: ComponentInfo{{{target}}}\n\
             INSTRUMENTATION_STATUS_CODE: -1\n"
        ));
    };
    state.end_instrumentation();
    let running = CancellationToken::new();
    let process = (instrumented, state.pid());
    state.instrumentation = Some(Instrumentation { running: running.clone(), process });
    state.truth.instrumentation_sessions += 1;
    state.note('I', "ActivityManager", &format!("instrumentation {target} started"));
    Ok(running)
}

async fn follow_log(device: &Device, mut terminal: Terminal) -> Result<()> {
    let mut lines = device.log.subscribe();
    terminal.write(STDOUT, b"--------- beginning of main\n").await?;
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            () = Terminal::hung_up(&mut terminal.input) => return Ok(()),
        };
        match line {
            Ok(line) => terminal.write(STDOUT, format!("{line}\n").as_bytes()).await?,
            // Whoever reads too slowly misses lines, as on a phone.
            Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
            Err(tokio::sync::broadcast::error::RecvError::Closed) => return Ok(()),
        }
    }
}
