//! Reading and writing the files of reports.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use futures_util::{StreamExt, TryStreamExt, stream};
use qgjob_core::model::artifact::Artifact;
use qgjob_core::model::exit::ExitCode;

use super::super::Context;
use super::super::artifact;
use super::super::failure::{Failure, Result};
use super::{Model, SCHEMA};
use crate::client::Client;
use crate::output::count;
use crate::report::place;

/// Downloads at the same time.
const AT_ONCE: usize = 4;

/// Writes a file whole or not at all, with the folders above it.
///
/// # Errors
/// Exit code 2: it cannot be written.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = || -> io::Result<()> {
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        std::fs::create_dir_all(dir)?;
        let mut file = tempfile::Builder::new().prefix(".qgjob-").tempfile_in(dir)?;
        file.write_all(bytes)?;
        readable_by_all(file.as_file())?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    written().map_err(|error| cannot_write(path, &error))
}

/// A report is for other programs too, unlike other half-made files, which only their owner can read.
fn readable_by_all(file: &std::fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

/// Why a report is not there.
pub fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::usage(format!("cannot write {}", path.display())).cause(error.to_string())
}

/// Reads a report that was written as JSON; `-` is stdin.
///
/// # Errors
/// Exit code 2: there is none.
pub fn read(path: &Path) -> Result<Model> {
    let mut text = Vec::new();
    let read = if path.as_os_str() == "-" {
        io::stdin().lock().read_to_end(&mut text)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut text))
    };
    read.map_err(|error| Failure::usage(format!("cannot read {}", path.display())).cause(error.to_string()))?;
    let wrong = |cause: String| {
        Failure::usage(format!("{} is no report of qgjob", path.display()))
            .cause(cause)
            .hint("write one with `qgjob report json --run-id=<id> --out=<file>`")
    };
    let value: serde_json::Value = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    match value["schema"].as_str() {
        Some(SCHEMA) => {}
        Some(other) => return Err(wrong(format!("its schema is {other:?}, not {SCHEMA:?}"))),
        None => return Err(wrong("it names no schema".to_owned())),
    }
    serde_json::from_value(value).map_err(|error| wrong(error.to_string()))
}

/// Downloads all files of a report below `dir`.
///
/// # Errors
/// When one cannot be had, or its name leads elsewhere.
pub async fn download_all(context: &Context, client: &Client, report: &Model, dir: &Path) -> Result<()> {
    let mut wanted = Vec::new();
    for job in &report.jobs {
        for one in &job.artifacts {
            wanted.push((one, artifact::place(dir, &place(job, one))?));
        }
    }
    let number = wanted.len() as u64;
    std::fs::create_dir_all(dir).map_err(|error| cannot_write(dir, &error))?;
    download(client, wanted).await?;
    context.output.done(format!("{} in {}", count(number, "file"), dir.display()));
    Ok(())
}

/// Downloads files, each to its place.
///
/// # Errors
/// Of the first that cannot be had.
pub async fn download(client: &Client, wanted: Vec<(&Artifact, PathBuf)>) -> Result<()> {
    let each = wanted.into_iter().map(|(one, path)| async move { artifact::save(client, one, &path).await });
    stream::iter(each).buffer_unordered(AT_ONCE).try_collect::<()>().await
}

/// Whoever merges a folder takes all that is in it.
///
/// # Errors
/// Exit code 2: there are blob reports already.
pub fn refuse_other_blobs(dir: &Path) -> Result<()> {
    let is_blob = |path: &Path| path.extension().is_some_and(|extension| extension == "zip");
    let Ok(entries) = std::fs::read_dir(dir) else { return Ok(()) };
    if entries.filter_map(|entry| Some(entry.ok()?.path())).any(|path| is_blob(&path)) {
        return Err(Failure::new(ExitCode::Usage, format!("{} holds other blob reports", dir.display()))
            .cause("they would be merged into this run's")
            .hint("name an empty folder with --out"));
    }
    Ok(())
}
