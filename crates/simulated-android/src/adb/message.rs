//! The 24-byte messages of the adb transport.

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// From this protocol version on payloads carry no checksum.
pub(crate) const VERSION: u32 = 0x0100_0001;
/// The largest payload this side accepts, in bytes.
pub(crate) const MAX_PAYLOAD: usize = 256 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Connect,
    Auth,
    Open,
    Okay,
    Write,
    Close,
}

impl Command {
    const ALL: [(Command, u32); 6] = [
        (Command::Connect, u32::from_le_bytes(*b"CNXN")),
        (Command::Auth, u32::from_le_bytes(*b"AUTH")),
        (Command::Open, u32::from_le_bytes(*b"OPEN")),
        (Command::Okay, u32::from_le_bytes(*b"OKAY")),
        (Command::Write, u32::from_le_bytes(*b"WRTE")),
        (Command::Close, u32::from_le_bytes(*b"CLSE")),
    ];

    fn code(self) -> u32 {
        Self::ALL.iter().find(|(command, _)| *command == self).expect("the table names every command").1
    }

    fn from_code(code: u32) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == code).map(|(command, _)| *command)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) command: Command,
    pub(crate) arg0: u32,
    pub(crate) arg1: u32,
    pub(crate) payload: Bytes,
}

impl Message {
    pub(crate) fn new(command: Command, arg0: u32, arg1: u32, payload: impl Into<Bytes>) -> Self {
        Self { command, arg0, arg1, payload: payload.into() }
    }

    fn header(&self) -> [u8; 24] {
        let code = self.command.code();
        // Until both sides know each other's version the host checks the sum of the payload's bytes.
        let checksum = match self.command {
            Command::Connect | Command::Auth => {
                self.payload.iter().fold(0_u32, |sum, byte| sum.wrapping_add(u32::from(*byte)))
            }
            _ => 0,
        };
        let length = u32::try_from(self.payload.len()).expect("payloads are at most MAX_PAYLOAD bytes");
        let mut header = [0; 24];
        for (field, value) in
            header.chunks_exact_mut(4).zip([code, self.arg0, self.arg1, length, checksum, code ^ u32::MAX])
        {
            field.copy_from_slice(&value.to_le_bytes());
        }
        header
    }
}

/// Reads one message. `None` when the peer closed the connection between messages.
///
/// # Errors
/// A broken connection, an unknown command, or a payload longer than [`MAX_PAYLOAD`].
pub(crate) async fn read(input: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Option<Message>> {
    let mut header = [0; 24];
    match input.read_exact(&mut header).await {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let field = |index: usize| {
        u32::from_le_bytes(header[index * 4..index * 4 + 4].try_into().expect("a slice of four bytes"))
    };
    let invalid = |text: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, text.to_owned());
    let command = Command::from_code(field(0)).ok_or_else(|| invalid("unknown adb command"))?;
    let length = usize::try_from(field(3)).expect("usize holds 32 bits");
    if length > MAX_PAYLOAD {
        return Err(invalid("adb payload longer than agreed"));
    }
    let mut payload = vec![0; length];
    input.read_exact(&mut payload).await?;
    Ok(Some(Message::new(command, field(1), field(2), payload)))
}

pub(crate) async fn write(output: &mut (impl AsyncWrite + Unpin), message: &Message) -> std::io::Result<()> {
    output.write_all(&message.header()).await?;
    output.write_all(&message.payload).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_survives_the_wire() {
        let sent = Message::new(Command::Write, 3, 7, &b"payload"[..]);
        let mut wire = Vec::new();
        write(&mut wire, &sent).await.unwrap();
        assert_eq!(&wire[..4], b"WRTE");
        assert_eq!(read(&mut wire.as_slice()).await.unwrap(), Some(sent));
        assert_eq!(read(&mut &b""[..]).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_hostile_length_is_refused_before_memory_is_taken() {
        let mut wire = Message::new(Command::Write, 1, 1, &b""[..]).header();
        wire[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(read(&mut wire.as_slice()).await.is_err());
    }
}
