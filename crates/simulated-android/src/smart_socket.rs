//! Telling an adb server about a phone, as `adb connect` does.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::device::Link;
use crate::phone::Phone;

/// How long to wait before an adb server that was not there is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// How often a phone that is connected is looked at again: adb servers are restarted, and forget.
const CHECK: Duration = Duration::from_secs(3);

/// Keeps a phone known to the adb server on a port of this host, for ever: tells the server to connect when the
/// phone is plugged in, and to forget it when it is unplugged, as it would a phone on USB.
pub async fn keep_connected(phone: &Phone, adb_server: u16) {
    let mut link = phone.link();
    let address = phone.address();
    let name = &phone.config().name;
    loop {
        let now = link.borrow_and_update().link;
        let wish = if now == Link::Unplugged { "disconnect" } else { "connect" };
        // Asking an adb server to connect to a phone it has is answered at once and changes nothing.
        let pause = match ask(adb_server, &format!("host:{wish}:{address}")).await {
            Ok(reply) => {
                tracing::debug!(phone = %name, "adb server: {reply}");
                CHECK
            }
            Err(error) => {
                tracing::debug!(phone = %name, "no answer from the adb server: {error:#}");
                RETRY
            }
        };
        tokio::select! {
            _ = link.changed() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Sends one request to an adb server and returns what it says.
async fn ask(port: u16, request: &str) -> anyhow::Result<String> {
    const PATIENCE: Duration = Duration::from_secs(20);
    tokio::time::timeout(PATIENCE, converse(port, request)).await.context("the adb server does not answer")?
}

async fn converse(port: u16, request: &str) -> anyhow::Result<String> {
    let mut socket = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    socket.write_all(format!("{:04x}{request}", request.len()).as_bytes()).await?;
    let mut status = [0; 4];
    socket.read_exact(&mut status).await?;
    let mut text = String::new();
    socket.read_to_string(&mut text).await?;
    // The first four characters are the length of the rest.
    let text = text.get(4..).unwrap_or_default().to_owned();
    if &status != b"OKAY" {
        bail!("the adb server refused {request}: {text}");
    }
    Ok(text)
}
