//! The TCP port of the phone.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::connection;
use crate::device::{Device, Link, LinkState};

/// Binds the port without listening yet, so that the kernel refuses connections but nobody else can take it.
///
/// # Errors
/// The port is taken.
pub(crate) fn reserve(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Accepts adb servers while the phone is plugged in, and refuses them while it is not, until `stop`.
pub(crate) async fn serve(device: Arc<Device>, listener: TcpListener, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = accept_while_plugged(&device, listener) => {}
    }
    device.drop_connections();
}

async fn accept_while_plugged(device: &Arc<Device>, mut listener: TcpListener) {
    let mut link = device.link.subscribe();
    let address = device.address;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((socket, _)) = accepted {
                    tokio::spawn(connection::serve(socket, device.clone()));
                }
            }
            () = until(&mut link, |link| link == Link::Unplugged) => {
                drop(listener);
                let reserved = reserve(address);
                until(&mut link, |link| link != Link::Unplugged).await;
                listener = match reserved.or_else(|_| reserve(address)).and_then(|socket| socket.listen(64)) {
                    Ok(listener) => listener,
                    Err(error) => {
                        tracing::error!(phone = %device.config.name, %error, "the port was taken meanwhile");
                        return;
                    }
                };
            }
        }
    }
}

/// Waits for a link state. The sender lives in the device, which the caller holds, so this cannot fail.
async fn until(link: &mut watch::Receiver<LinkState>, wanted: impl Fn(Link) -> bool) {
    link.wait_for(|now| wanted(now.link)).await.ok();
}
