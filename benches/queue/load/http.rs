//! A connection that stays open: HTTP/1.1 with bodies of known length, as the server answers these calls.

use std::io::{Error, Result};

use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Where to call, and as whom.
#[derive(Clone)]
pub struct Caller {
    address: String,
    token: String,
}

/// One open connection.
pub struct Connection {
    stream: TcpStream,
    caller: Caller,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Caller {
    /// Calls the server at `host:port` with a token.
    pub fn new(address: &str, token: &str) -> Self {
        Self { address: address.to_owned(), token: token.to_owned() }
    }

    /// `host:port` of the server.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Opens a connection.
    pub async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, caller: self.clone(), request: Vec::new(), answer: Vec::new() })
    }
}

impl Connection {
    /// Sends JSON and reads the JSON of the answer.
    pub async fn post<T: DeserializeOwned>(&mut self, path: &str, body: &[u8]) -> Result<T> {
        let answer = self.call("POST", path, "content-type: application/json\r\n", body).await?;
        serde_json::from_slice(answer).map_err(Error::other)
    }

    /// Sends a request with more `headers`, each ended by a line break, and answers the body of a good answer.
    pub async fn call(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Result<&[u8]> {
        let Caller { address, token } = &self.caller;
        self.request.clear();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n{headers}content-length: {}\r\n\r\n",
            body.len()
        );
        self.request.extend_from_slice(head.as_bytes());
        self.request.extend_from_slice(body);
        self.stream.write_all(&self.request).await?;
        self.answer.clear();
        let head_end = loop {
            if let Some(at) = self.answer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.read_more().await?;
        };
        let head = std::str::from_utf8(&self.answer[..head_end]).map_err(Error::other)?;
        let good = head.get(9..10) == Some("2");
        let length: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(Ok(0), |text| text.parse().map_err(Error::other))?;
        while self.answer.len() < head_end + length {
            self.read_more().await?;
        }
        if !good {
            return Err(Error::other(format!("{method} {path}: {}", String::from_utf8_lossy(&self.answer))));
        }
        Ok(&self.answer[head_end..head_end + length])
    }

    async fn read_more(&mut self) -> Result<()> {
        self.answer.reserve(4096);
        match self.stream.read_buf(&mut self.answer).await? {
            0 => Err(Error::other("the server closed the connection")),
            _ => Ok(()),
        }
    }
}
