//! Base64, as attachments inside a report are written.

/// The bytes of `text`, or none when it is not base64.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for group in text.chunks(4) {
        let mut value = 0_u32;
        for &symbol in group {
            value = value << 6 | u32::from(sextet(symbol)?);
        }
        match group.len() {
            4 => bytes.extend_from_slice(&value.to_be_bytes()[1..]),
            3 => bytes.extend_from_slice(&(value >> 2).to_be_bytes()[2..]),
            2 => bytes.push((value >> 4) as u8),
            _ => return None,
        }
    }
    Some(bytes)
}

fn sextet(symbol: u8) -> Option<u8> {
    Some(match symbol {
        b'A'..=b'Z' => symbol - b'A',
        b'a'..=b'z' => symbol - b'a' + 26,
        b'0'..=b'9' => symbol - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn the_vectors_of_rfc_4648() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(decode(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        assert_eq!(decode("//79").unwrap(), [0xff, 0xfe, 0xfd]);
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in ["Z", "Zm9vY", "Zm9v!", "Zm 9v", "Zg==Zg==", "ü"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
