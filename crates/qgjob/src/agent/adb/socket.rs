//! The smart socket: a length in four hex digits and a service name one way, `OKAY` or `FAIL` the other.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Adb, Error};

/// The longest list or message a server is believed; a host with 1,000 devices sends some 30 KB.
const MAX_TEXT: usize = 0xffff;

/// One connection to the server, which becomes a connection to a device once a transport is chosen.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    /// Set once the socket speaks to a device: an end of the stream then means that the device has gone.
    serial: Option<String>,
}

impl Socket {
    /// Connects, starting the server if nothing listens.
    pub async fn open(adb: &Adb) -> Result<Socket, Error> {
        let stream = match TcpStream::connect(("127.0.0.1", adb.port())).await {
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                adb.start_server().await?;
                TcpStream::connect(("127.0.0.1", adb.port())).await?
            }
            other => other?,
        };
        stream.set_nodelay(true)?;
        Ok(Socket { stream, serial: None })
    }

    /// Connects and points the socket to one device.
    pub async fn to_device(adb: &Adb, serial: &str) -> Result<Socket, Error> {
        let mut socket = Socket::open(adb).await?;
        let transport = format!("host:transport:{serial}");
        socket.request(&transport).await.map_err(|e| match e {
            // "device 'X' not found", "device offline", "device unauthorized": not to be used in any case.
            Error::Refused { reason, .. } => Error::DeviceGone { serial: serial.to_owned(), reason },
            other => other,
        })?;
        socket.serial = Some(serial.to_owned());
        Ok(socket)
    }

    /// Sends a service name and reads the verdict.
    pub async fn request(&mut self, service: &str) -> Result<(), Error> {
        if service.len() > MAX_TEXT {
            return Err(Error::Protocol("a command longer than 65535 bytes".to_owned()));
        }
        let message = format!("{:04x}{service}", service.len());
        self.stream.write_all(message.as_bytes()).await.map_err(|e| self.lost(e))?;
        let mut status = [0; 4];
        self.read_exact(&mut status).await?;
        match &status {
            b"OKAY" => Ok(()),
            b"FAIL" => {
                let reason = self.read_text().await?;
                Err(Error::Refused { service: service.to_owned(), reason })
            }
            other => Err(Error::Protocol(format!("status {:?}", String::from_utf8_lossy(other)))),
        }
    }

    /// Reads a text preceded by its length.
    pub async fn read_text(&mut self) -> Result<String, Error> {
        let mut length = [0; 4];
        self.read_exact(&mut length).await?;
        let length = std::str::from_utf8(&length)
            .ok()
            .and_then(|hex| usize::from_str_radix(hex, 16).ok())
            .ok_or_else(|| Error::Protocol(format!("length {length:?}")))?;
        let mut text = vec![0; length];
        self.read_exact(&mut text).await?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    pub async fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        self.stream.read_exact(buffer).await.map(drop).map_err(|e| self.lost(e))
    }

    /// The bare connection, for whoever reads and writes at the same time.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    fn lost(&self, error: io::Error) -> Error {
        match &self.serial {
            Some(serial) => Error::DeviceGone {
                serial: serial.clone(),
                reason: format!("the connection ended in mid-conversation ({error})"),
            },
            None => Error::Io(error),
        }
    }
}
