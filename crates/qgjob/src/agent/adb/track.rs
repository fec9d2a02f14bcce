//! The list of devices as it changes (`host:track-devices`).

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Adb, Error, Socket};

/// The pause before a lost adb server is tried again: doubled each time up to the second value.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// A device of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub serial: String,
    /// As adb says it: `device`, `offline`, `unauthorized`, `recovery`, …
    pub state: String,
}

impl Listed {
    /// Whether adb can talk to it. It may still be booting.
    pub fn ready(&self) -> bool {
        self.state == "device"
    }
}

pub fn parse(text: &str) -> Vec<Listed> {
    text.lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(serial, state)| Listed { serial: serial.to_owned(), state: state.to_owned() })
        .collect()
}

/// Each list that the server sends, in order and without gaps: a device that left and came back within
/// milliseconds is seen to have left.
#[derive(Debug)]
pub struct DeviceLists {
    lists: mpsc::Receiver<Vec<Listed>>,
    task: JoinHandle<()>,
}

impl DeviceLists {
    pub(super) fn start(adb: Adb) -> DeviceLists {
        let (sender, lists) = mpsc::channel(64);
        DeviceLists { lists, task: tokio::spawn(follow(adb, sender)) }
    }

    /// The next list; the first comes at once. An empty list also stands for a server that cannot be
    /// reached, for then no device can be used. May be cancelled without losing a list.
    /// `None` never comes while the runtime lives.
    pub async fn next(&mut self) -> Option<Vec<Listed>> {
        self.lists.recv().await
    }
}

impl Drop for DeviceLists {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(adb: Adb, lists: mpsc::Sender<Vec<Listed>>) {
    let mut pause = RETRY.0;
    loop {
        let connected = async {
            let mut socket = Socket::open(&adb).await?;
            socket.request("host:track-devices").await?;
            Ok::<_, Error>(socket)
        };
        let error = match connected.await {
            Ok(mut socket) => loop {
                match socket.read_text().await {
                    Ok(text) => {
                        pause = RETRY.0;
                        if lists.send(parse(&text)).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => break error,
                }
            },
            Err(error) => error,
        };
        tracing::warn!(%error, port = adb.port(), "the adb server is lost; its devices cannot be used");
        if lists.send(Vec::new()).await.is_err() {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_line_by_line_whatever_the_state_is() {
        let list = parse("emulator-5554\tdevice\nR58M\tno permissions (user in plugdev group)\n");
        assert_eq!(list[0], Listed { serial: "emulator-5554".into(), state: "device".into() });
        assert!(list[0].ready());
        assert!(!list[1].ready());
        assert_eq!(parse(""), []);
    }
}
