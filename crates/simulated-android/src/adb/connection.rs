//! One connection of an adb server: the handshake, and the streams multiplexed over it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::message::{self, Command, MAX_PAYLOAD, Message, VERSION};
use crate::device::{Device, Link};
use crate::services::Service;

/// What `AUTH` messages say in their first argument.
const AUTH_TOKEN: u32 = 1;

/// Messages that wait for the socket. Streams hold at most one payload each, so this bounds memory per connection.
const OUTGOING: usize = 16;

/// The connection's half of an open stream.
struct Open {
    inbound: mpsc::UnboundedSender<Bytes>,
    acknowledged: mpsc::UnboundedSender<()>,
    closed: CancellationToken,
}

type Streams = Arc<Mutex<HashMap<u32, Open>>>;

/// Serves one adb server until it hangs up or the phone's link changes.
pub(crate) async fn serve(socket: TcpStream, device: Arc<Device>) {
    let mut link = device.link.subscribe();
    let began = *link.borrow_and_update();
    let streams: Streams = Arc::default();
    tokio::select! {
        result = converse(socket, &device, began.link, &streams) => {
            if let Err(error) = result {
                tracing::debug!(phone = %device.config.name, %error, "adb connection ended");
            }
        }
        _ = link.wait_for(|now| now.generation != began.generation) => {}
    }
    // Dropping the entries closes every stream, so that what served them ends too.
    for (_, open) in streams.lock().expect("stream table").drain() {
        open.closed.cancel();
    }
}

async fn converse(
    socket: TcpStream,
    device: &Arc<Device>,
    link: Link,
    streams: &Streams,
) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let (mut input, mut output) = socket.into_split();
    let (outgoing, mut queued) = mpsc::channel::<Message>(OUTGOING);
    let writer = async move {
        while let Some(message) = queued.recv().await {
            message::write(&mut output, &message).await?;
        }
        Ok(())
    };
    let reader = async move {
        let mut next_id = 0_u32;
        let mut payload_limit = 4096;
        while let Some(message) = message::read(&mut input).await? {
            let reply = match message.command {
                Command::Connect => {
                    payload_limit = MAX_PAYLOAD.min(message.arg1 as usize).max(1);
                    greet(device, link)
                }
                // A phone that has not been unlocked for this host answers each proof with a new challenge.
                Command::Auth if link == Link::Unauthorized && message.arg0 == 2 => Some(challenge()),
                Command::Auth => None,
                Command::Open => {
                    next_id += 1;
                    Some(open(device, streams, &outgoing, &message, next_id, payload_limit))
                }
                Command::Okay => {
                    if let Some(open) = streams.lock().expect("stream table").get(&message.arg1) {
                        open.acknowledged.send(()).ok();
                    }
                    None
                }
                Command::Write => {
                    let known = streams
                        .lock()
                        .expect("stream table")
                        .get(&message.arg1)
                        .is_some_and(|open| open.inbound.send(message.payload.clone()).is_ok());
                    (!known).then(|| Message::new(Command::Close, 0, message.arg0, Bytes::new()))
                }
                Command::Close => {
                    if let Some(open) = streams.lock().expect("stream table").remove(&message.arg1) {
                        open.closed.cancel();
                    }
                    None
                }
            };
            if let Some(reply) = reply
                && outgoing.send(reply).await.is_err()
            {
                break;
            }
        }
        Ok(())
    };
    tokio::select! {
        result = writer => result,
        result = reader => result,
    }
}

fn greet(device: &Device, link: Link) -> Option<Message> {
    match link {
        Link::Online => Some(Message::new(Command::Connect, VERSION, MAX_PAYLOAD as u32, device.banner())),
        Link::Unauthorized => Some(challenge()),
        Link::Offline | Link::Unplugged => None,
    }
}

fn challenge() -> Message {
    Message::new(Command::Auth, AUTH_TOKEN, 0, vec![0x5a; 20])
}

fn open(
    device: &Arc<Device>,
    streams: &Streams,
    outgoing: &mpsc::Sender<Message>,
    request: &Message,
    local: u32,
    payload_limit: usize,
) -> Message {
    let remote = request.arg0;
    let name = String::from_utf8_lossy(&request.payload);
    let name = name.trim_end_matches('\0');
    tracing::trace!(phone = %device.config.name, service = name, "open");
    let Some(service) = Service::named(device, name) else {
        return Message::new(Command::Close, 0, remote, Bytes::new());
    };
    let (service_end, adb_end) = tokio::io::duplex(MAX_PAYLOAD);
    let (from_service, to_service) = tokio::io::split(adb_end);
    let (inbound, received) = mpsc::unbounded_channel();
    let (acknowledged, acknowledgements) = mpsc::unbounded_channel();
    let closed = CancellationToken::new();
    streams
        .lock()
        .expect("stream table")
        .insert(local, Open { inbound, acknowledged, closed: closed.clone() });
    tokio::spawn(deliver(to_service, received, outgoing.clone(), local, remote));
    tokio::spawn(send_out(
        Outbound { from_service, acknowledgements, outgoing: outgoing.clone(), closed, payload_limit },
        streams.clone(),
        local,
        remote,
    ));
    let device = device.clone();
    tokio::spawn(async move { service.run(device, service_end).await });
    Message::new(Command::Okay, local, remote, Bytes::new())
}

/// Hands payloads to the service and acknowledges each when it has been taken, which is adb's flow control: the
/// host keeps one payload in flight per stream, so the unbounded channel never holds more than that.
async fn deliver(
    mut to_service: WriteHalf<DuplexStream>,
    mut received: mpsc::UnboundedReceiver<Bytes>,
    outgoing: mpsc::Sender<Message>,
    local: u32,
    remote: u32,
) {
    while let Some(payload) = received.recv().await {
        let taken = to_service.write_all(&payload).await;
        let ready = Message::new(Command::Okay, local, remote, Bytes::new());
        if taken.is_err() || outgoing.send(ready).await.is_err() {
            break;
        }
    }
    to_service.shutdown().await.ok();
}

struct Outbound {
    from_service: ReadHalf<DuplexStream>,
    acknowledgements: mpsc::UnboundedReceiver<()>,
    outgoing: mpsc::Sender<Message>,
    closed: CancellationToken,
    payload_limit: usize,
}

/// Sends what the service writes, one payload at a time, and closes the stream when the service is done.
async fn send_out(mut stream: Outbound, streams: Streams, local: u32, remote: u32) {
    let mut buffer = vec![0; stream.payload_limit];
    loop {
        let read = tokio::select! {
            () = stream.closed.cancelled() => break,
            read = stream.from_service.read(&mut buffer) => read.unwrap_or(0),
        };
        if read == 0 {
            break;
        }
        let data = Message::new(Command::Write, local, remote, Bytes::copy_from_slice(&buffer[..read]));
        if stream.outgoing.send(data).await.is_err() || stream.acknowledgements.recv().await.is_none() {
            break;
        }
    }
    streams.lock().expect("stream table").remove(&local);
    stream.outgoing.send(Message::new(Command::Close, local, remote, Bytes::new())).await.ok();
}
