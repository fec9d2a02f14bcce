//! The one PAX extension that is allowed: a path too long for a tar header.

use std::io::Read;

/// More than any allowed path needs.
const MOST_BYTES: u64 = 4096;

/// Reads an extended header that may hold nothing but one `path`.
pub(super) fn path(header: &mut impl Read) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    header.take(MOST_BYTES + 1).read_to_end(&mut body).map_err(|e| e.to_string())?;
    if body.len() as u64 > MOST_BYTES {
        return Err("a PAX header is longer than any path may be".to_owned());
    }
    let mut path = None;
    for record in tar::PaxExtensions::new(&body) {
        let record = record.map_err(|e| format!("a PAX header cannot be read: {e}"))?;
        match (record.key_bytes(), &path) {
            (b"path", None) => path = Some(record.value_bytes().to_vec()),
            (key, _) => {
                return Err(format!(
                    "a PAX header sets {:?}: only one path is allowed",
                    String::from_utf8_lossy(key)
                ));
            }
        }
    }
    path.ok_or_else(|| "a PAX header is empty".to_owned())
}
