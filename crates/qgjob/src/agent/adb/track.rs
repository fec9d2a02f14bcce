//! The list of devices as it changes (`host:track-devices`).

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::{Adb, Error, Socket};

/// The pause before a lost adb server is tried again: doubled each time up to the second value.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How often the list is asked for besides.
const LOOK_EVERY: Duration = Duration::from_millis(500);

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
/// milliseconds is seen to have left, if the server saw it.
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
            Ok(socket) => {
                pause = RETRY.0;
                match pass_on(&adb, socket, &lists).await {
                    Err(error) => error,
                    Ok(()) => return,
                }
            }
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

/// Passes on what the server tells and what it forgets to tell: when a device on a network stops answering,
/// adb 29 marks it offline without a word to those who track. Ends well when nobody listens any more.
async fn pass_on(adb: &Adb, mut socket: Socket, lists: &mpsc::Sender<Vec<Listed>>) -> Result<(), Error> {
    let mut told: Option<Vec<Listed>> = None;
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Owns the socket until a whole list is read: a list half read must not be dropped.
        let reading = async move {
            let text = socket.read_text().await;
            (socket, text)
        };
        tokio::pin!(reading);
        let text = loop {
            tokio::select! {
                (back, text) = &mut reading => {
                    socket = back;
                    break text?;
                }
                _ = look.tick(), if told.is_some() => {
                    let list = adb.devices().await?;
                    if told.as_ref() != Some(&list) {
                        if lists.send(list.clone()).await.is_err() {
                            return Ok(());
                        }
                        told = Some(list);
                    }
                }
            }
        };
        let list = parse(&text);
        if lists.send(list.clone()).await.is_err() {
            return Ok(());
        }
        told = Some(list);
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
