//! File contents, kept once per process however many phones hold them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, Weak};

use bytes::Bytes;
use sha2::{Digest, Sha256};

/// The bytes of one file and their hash.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) bytes: Bytes,
    /// Lowercase hexadecimal SHA-256 of `bytes`.
    pub(crate) sha256: String,
}

pub(crate) type Blob = Arc<Content>;

/// Every phone gets the same 20 MB of automation APKs, so equal contents are shared.
static SHARED: LazyLock<Mutex<HashMap<String, Weak<Content>>>> = LazyLock::new(Mutex::default);

pub(crate) fn intern(bytes: Bytes) -> Blob {
    let sha256 = hex(&Sha256::digest(&bytes));
    let mut shared = SHARED.lock().expect("no code panics while it holds this lock");
    if let Some(known) = shared.get(&sha256).and_then(Weak::upgrade) {
        return known;
    }
    shared.retain(|_, content| content.strong_count() > 0);
    let blob = Arc::new(Content { bytes, sha256: sha256.clone() });
    shared.insert(sha256, Arc::downgrade(&blob));
    blob
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_contents_are_kept_once_and_hashed_as_sha256sum_does() {
        let one = intern(Bytes::from_static(b"hello world"));
        let two = intern(Bytes::from(b"hello world".to_vec()));
        assert!(Arc::ptr_eq(&one, &two));
        assert_eq!(one.sha256, "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9");
    }
}
