//! Server-sent events: from bytes to messages, whatever way the bytes are cut.

/// The longest message that is kept; a longer one is a broken stream.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// One message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Message {
    /// The number of the event, when the message carries one.
    pub id: Option<String>,
    /// Its name; empty when it has none.
    pub event: String,
    /// Its data, lines joined by newlines.
    pub data: String,
}

/// Collects bytes and gives back whole messages.
#[derive(Debug, Default)]
pub(super) struct Parser {
    buffer: Vec<u8>,
    current: Message,
    has_data: bool,
}

/// The stream holds a message that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

impl Parser {
    /// Takes the next bytes of the stream and returns the messages that they complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Message>, TooLong> {
        self.buffer.extend_from_slice(bytes);
        let mut messages = Vec::new();
        let mut start = 0;
        while let Some(length) = self.buffer[start..].iter().position(|byte| *byte == b'\n') {
            let line = &self.buffer[start..start + length];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let line = String::from_utf8_lossy(line).into_owned();
            start += length + 1;
            messages.extend(self.line(&line));
        }
        self.buffer.drain(..start);
        if self.buffer.len() + self.current.data.len() > MAX_MESSAGE_BYTES {
            return Err(TooLong);
        }
        Ok(messages)
    }

    fn line(&mut self, line: &str) -> Option<Message> {
        if line.is_empty() {
            let message = std::mem::take(&mut self.current);
            // The standard drops messages without data, such as a lone comment.
            return std::mem::take(&mut self.has_data).then_some(message);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" if !value.contains('\0') => self.current.id = Some(value.to_owned()),
            "event" => self.current.event = value.to_owned(),
            "data" => {
                if self.has_data {
                    self.current.data.push('\n');
                }
                self.current.data.push_str(value);
                self.has_data = true;
            }
            // Comments, `retry` and fields of a later standard.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = ": hello\r\n\r\nid: 7\r\nevent: job.queued\r\ndata: {\"a\":\"é\"}\r\n\r\nretry: 3000\n\ndata: x\ndata:y\n\n";

    fn expected() -> Vec<Message> {
        vec![
            Message { id: Some("7".into()), event: "job.queued".into(), data: "{\"a\":\"é\"}".into() },
            Message { id: None, event: String::new(), data: "x\ny".into() },
        ]
    }

    #[test]
    fn a_stream_cut_anywhere_gives_the_same_messages() {
        for cut in 0..=STREAM.len() {
            let (left, right) = STREAM.as_bytes().split_at(cut);
            let mut parser = Parser::default();
            let mut messages = parser.push(left).unwrap();
            messages.extend(parser.push(right).unwrap());
            assert_eq!(messages, expected(), "cut at {cut}");
        }
    }

    #[test]
    fn an_unfinished_message_is_not_delivered() {
        let mut parser = Parser::default();
        assert_eq!(parser.push(b"id: 9\ndata: {\"half\":").unwrap(), vec![]);
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut parser = Parser::default();
        assert_eq!(parser.push(&vec![b'x'; MAX_MESSAGE_BYTES + 1]), Err(TooLong));
    }
}
