//! `sync:`, adb's file service: stat, list, push, pull.

use std::io::Result;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::blob;
use crate::device::{Device, File, State};

/// The longest path or piece of a file in one request, in bytes; adb sends 64 KiB pieces.
const MAX_REQUEST: usize = 64 * 1024;
/// A file pushed to the phone may have this many bytes.
const MAX_FILE: usize = 2 * 1024 * 1024 * 1024;

const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_755;

struct Request {
    id: [u8; 4],
    /// The length of what follows, or the time for `DONE`.
    number: u32,
}

pub(super) async fn serve(device: Arc<Device>, mut stream: DuplexStream) -> Result<()> {
    loop {
        let Some(request) = read_request(&mut stream).await? else { return Ok(()) };
        if &request.id == b"QUIT" {
            return Ok(());
        }
        let argument = read_body(&mut stream, request.number).await?;
        let path = String::from_utf8_lossy(&argument).into_owned();
        match &request.id {
            // Nothing here is a link, so both mean the same.
            b"STAT" | b"LSTA" => {
                let reply = stat(&device.state(), &path);
                stream.write_all(&reply).await?;
            }
            b"LIST" => {
                let reply = list(&device.state(), &path);
                stream.write_all(&reply).await?;
            }
            b"RECV" => {
                let file = device.state().file(&path);
                send_file(&mut stream, file).await?;
            }
            b"SEND" => receive_file(&device, &mut stream, &path).await?,
            other => {
                let name = String::from_utf8_lossy(other).into_owned();
                device.state().unknown(&format!("sync {name}"));
                return fail(&mut stream, "unknown request").await;
            }
        }
    }
}

async fn read_request(stream: &mut DuplexStream) -> Result<Option<Request>> {
    let mut header = [0; 8];
    match stream.read_exact(&mut header).await {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let (id, number) = header.split_at(4);
    Ok(Some(Request {
        id: id.try_into().expect("four bytes"),
        number: u32::from_le_bytes(number.try_into().expect("four bytes")),
    }))
}

async fn read_body(stream: &mut DuplexStream, length: u32) -> Result<Vec<u8>> {
    let length = length as usize;
    if length > MAX_REQUEST {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "sync request too long"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

async fn fail(stream: &mut DuplexStream, message: &str) -> Result<()> {
    let mut reply = BytesMut::new();
    reply.put_slice(b"FAIL");
    reply.put_u32_le(u32::try_from(message.len()).expect("a short message"));
    reply.put_slice(message.as_bytes());
    stream.write_all(&reply).await
}

/// Mode, size and time; all zero when there is nothing at that path.
fn facts(state: &State, path: &str) -> [u32; 3] {
    match state.file(path) {
        Some(file) => file_facts(&file),
        None if state.is_directory(path) => [DIRECTORY, 4096, state.now_seconds()],
        None => [0; 3],
    }
}

fn file_facts(file: &File) -> [u32; 3] {
    let size = u32::try_from(file.content.bytes.len()).unwrap_or(u32::MAX);
    [REGULAR | (file.mode & 0o777), size, file.modified]
}

fn stat(state: &State, path: &str) -> BytesMut {
    let mut reply = BytesMut::new();
    reply.put_slice(b"STAT");
    facts(state, path).into_iter().for_each(|fact| reply.put_u32_le(fact));
    reply
}

fn list(state: &State, path: &str) -> BytesMut {
    let mut reply = BytesMut::new();
    for (name, file) in state.list(path) {
        reply.put_slice(b"DENT");
        let facts = file.as_ref().map_or([DIRECTORY, 4096, 0], file_facts);
        facts.into_iter().for_each(|fact| reply.put_u32_le(fact));
        reply.put_u32_le(u32::try_from(name.len()).expect("names came in short requests"));
        reply.put_slice(name.as_bytes());
    }
    reply.put_slice(b"DONE");
    reply.put_bytes(0, 16);
    reply
}

async fn send_file(stream: &mut DuplexStream, file: Option<File>) -> Result<()> {
    let Some(file) = file else { return fail(stream, "No such file or directory").await };
    for piece in file.content.bytes.chunks(MAX_REQUEST) {
        let mut header = BytesMut::with_capacity(8);
        header.put_slice(b"DATA");
        header.put_u32_le(u32::try_from(piece.len()).expect("at most MAX_REQUEST"));
        stream.write_all(&header).await?;
        stream.write_all(piece).await?;
    }
    stream.write_all(b"DONE\0\0\0\0").await
}

/// `SEND path,mode`, then `DATA` pieces, then `DONE` with the file's time.
async fn receive_file(device: &Device, stream: &mut DuplexStream, argument: &str) -> Result<()> {
    let (path, mode) = argument.rsplit_once(',').unwrap_or((argument, "420"));
    let mode = mode.parse().unwrap_or(0o644);
    let mut content = BytesMut::new();
    loop {
        let Some(request) = read_request(stream).await? else { return Ok(()) };
        match &request.id {
            b"DATA" => {
                content.extend_from_slice(&read_body(stream, request.number).await?);
                if content.len() > MAX_FILE {
                    return fail(stream, "No space left on device").await;
                }
            }
            b"DONE" => {
                if device.state().standing.storage_full {
                    return fail(stream, "couldn't write: No space left on device").await;
                }
                let file = File { content: blob::intern(content.freeze()), mode, modified: request.number };
                device.state().files.insert(path.to_owned(), file);
                return stream.write_all(b"OKAY\0\0\0\0").await;
            }
            _ => return fail(stream, "unexpected request during a push").await,
        }
    }
}
