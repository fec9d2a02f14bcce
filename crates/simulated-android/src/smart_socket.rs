//! Telling an adb server about a phone, as `adb connect` does.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::device::Link;
use crate::phone::Phone;

/// How often the adb server is told again: it may start later, be restarted, and forget. Telling it of a phone that
/// it has is answered at once and changes nothing.
const CHECK: Duration = Duration::from_secs(1);

/// Keeps a phone known to the adb server on a port of this host, for ever: tells the server to connect when the
/// phone is plugged in, and to forget it when it is unplugged, as it would a phone on USB.
pub async fn keep_connected(phone: &Phone, adb_server: u16) {
    let mut link = phone.link();
    let address = phone.address();
    let name = &phone.config().name;
    let mut known = link.borrow().generation;
    loop {
        let now = *link.borrow_and_update();
        let mut requests = Vec::new();
        // A server that lost a phone keeps it as offline for some time and would say that it has it already.
        if now.generation != known || now.link == Link::Unplugged {
            requests.push(format!("host:disconnect:{address}"));
        }
        if now.link != Link::Unplugged {
            requests.push(format!("host:connect:{address}"));
        }
        let asking = async {
            for request in &requests {
                match ask(adb_server, request).await {
                    Ok(reply) => tracing::debug!(phone = %name, "adb server: {reply}"),
                    Err(error) => tracing::debug!(phone = %name, "adb server: {error:#}"),
                }
            }
            tokio::time::sleep(CHECK).await;
        };
        // A server takes its time over a phone that does not answer, and the cable may change meanwhile.
        tokio::select! {
            _ = link.changed() => {}
            () = asking => known = now.generation,
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
