//! Sending builds and bundles: once per content, from where an earlier try stopped.

use std::path::Path;

use qgjob_core::api::uploads::{Kind, NewUpload, UploadView};
use qgjob_core::model::name::OrgId;
use qgjob_core::model::sha256::Sha256;
use reqwest::Method;
use sha2::Digest;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::{Client, Error, Result, part};

/// How much goes into one request: small enough that a cut connection costs little.
const CHUNK_BYTES: usize = 8 << 20;

/// A file to be sent.
#[derive(Debug)]
pub struct Upload<'a> {
    /// The tenant.
    pub org_id: &'a OrgId,
    /// What it is.
    pub kind: Kind,
    /// Its bytes, from the start of the file.
    pub file: std::fs::File,
    /// Its name, for messages.
    pub name: &'a str,
    /// How many they are.
    pub size_bytes: u64,
    /// Their name.
    pub sha256: Sha256,
}

/// The name and number of a file's bytes.
///
/// # Errors
/// When the file cannot be read.
pub async fn sha256_of_file(path: &Path) -> Result<(Sha256, u64)> {
    let failed = |cause| Error::File { path: path.display().to_string(), cause };
    let mut file = tokio::fs::File::open(path).await.map_err(failed)?;
    let (mut hash, mut size, mut buffer) = (sha2::Sha256::new(), 0_u64, vec![0; 1 << 20]);
    loop {
        let count = file.read(&mut buffer).await.map_err(failed)?;
        if count == 0 {
            return Ok((Sha256(hash.finalize().into()), size));
        }
        hash.update(&buffer[..count]);
        size += count as u64;
    }
}

impl Client {
    /// Sends a file unless the server has it. Returns whether bytes were sent. `progress` hears how many bytes the
    /// server has.
    ///
    /// # Errors
    /// Also when the file changed since it was hashed: the server compares.
    pub async fn upload(&self, upload: Upload<'_>, mut progress: impl FnMut(u64)) -> Result<bool> {
        let Upload { org_id, kind, file, name, size_bytes, sha256 } = upload;
        let new = NewUpload { org_id: org_id.clone(), kind, size_bytes, sha256 };
        let view: UploadView =
            self.call(Method::POST, "api/v1/uploads").json(&new).repeatable().answer().await?;
        let id = match (view.exists, view.upload_id) {
            (true, _) => return Ok(false),
            (false, Some(id)) => id,
            (false, None) => return Err(self.not_understood("an upload without an id")),
        };
        let failed = |cause| Error::File { path: name.to_owned(), cause };
        let mut file = tokio::fs::File::from_std(file);
        let mut offset = view.offset;
        while offset < size_bytes {
            file.seek(std::io::SeekFrom::Start(offset)).await.map_err(failed)?;
            let mut chunk = vec![0; CHUNK_BYTES.min((size_bytes - offset) as usize)];
            file.read_exact(&mut chunk).await.map_err(failed)?;
            offset = self.send_chunk(&id, offset, chunk).await?;
            progress(offset);
        }
        match self
            .call(Method::POST, format!("api/v1/uploads/{}/complete", part(&id)))
            .repeatable()
            .done()
            .await
        {
            Ok(()) => Ok(true),
            // An upload is gone once it is completed: the answer to an earlier try may have been lost.
            Err(error) if error.status() == Some(404) => {
                let view: UploadView =
                    self.call(Method::POST, "api/v1/uploads").json(&new).repeatable().answer().await?;
                if view.exists { Ok(true) } else { Err(error) }
            }
            Err(error) => Err(error),
        }
    }

    /// Sends one piece and returns where the next one starts.
    async fn send_chunk(&self, id: &str, offset: u64, chunk: Vec<u8>) -> Result<u64> {
        let sent = offset + chunk.len() as u64;
        let call = self.call(Method::PATCH, format!("api/v1/uploads/{}", part(id)));
        match call
            .header("upload-offset", &offset.to_string())
            .body(chunk)
            .repeatable()
            .answer::<UploadView>()
            .await
        {
            Ok(view) => Ok(view.offset),
            // The reply to an earlier send of the same piece was lost, or the server lost the last piece.
            Err(Error::Refused(problem))
                if problem.expected_offset.is_some_and(|at| at != offset && at <= sent) =>
            {
                Ok(problem.expected_offset.expect("the guard saw it"))
            }
            Err(error) => Err(error),
        }
    }
}
