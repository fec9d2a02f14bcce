//! `qgjob artifact`.

use std::path::{Component, Path, PathBuf};

use futures_util::StreamExt;
use qgjob_core::model::artifact;
use qgjob_core::model::exit::ExitCode;
use qgjob_core::model::sha256::Sha256;
use sha2::Digest;
use tokio::io::AsyncWriteExt;

use super::failure::{Failure, Result};
use super::{Context, value};
use crate::client::Client;
use crate::output::{self, count, size};

/// Files kept from jobs: traces, screenshots, reports
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "Example:\n  qgjob artifact list r0zcha")]
pub enum Artifact {
    /// List the files of a job
    #[command(after_help = "Example:\n  qgjob artifact list r0zcha -o json")]
    List {
        /// Id of the job, or its last 6 characters or more
        #[arg(value_name = "JOB", required_unless_present = "job_id")]
        job: Option<String>,
        /// Id of the job
        #[arg(long, value_name = "ID", conflicts_with = "job")]
        job_id: Option<String>,
    },
    /// Download files of a job
    #[command(
        after_help = "Examples:\n  qgjob artifact download r0zcha --dir=results\n  qgjob artifact download --job-id=<id> onboarding/trace.zip"
    )]
    Download {
        /// The job, unless --job-id names it, and then names or ids of files [default: all]
        #[arg(value_name = "JOB|FILE", required_unless_present = "job_id")]
        words: Vec<String>,
        /// Id of the job
        #[arg(long, value_name = "ID")]
        job_id: Option<String>,
        /// Where to put them
        #[arg(short, long, value_name = "DIR", default_value = ".")]
        dir: PathBuf,
    },
}

impl Artifact {
    pub async fn run(self, context: &Context) -> Result {
        let client = context.client()?;
        match self {
            Self::List { job, job_id } => {
                let job = value::job_id(&client, &job_id.or(job).unwrap_or_default()).await?;
                let headers = &["ARTIFACT", "NAME", "TYPE", "SIZE", "CREATED"];
                let mut list = output::List::new("artifacts", headers);
                for artifact in client.artifacts(&job).await? {
                    let row = vec![
                        artifact.id.to_string(),
                        artifact.name.clone(),
                        artifact.media_type.clone(),
                        size(artifact.size_bytes),
                        artifact.created_at.to_string(),
                    ];
                    list.push(artifact.id, &output::typed("artifact", &artifact), row);
                }
                context.output.list(&list)?;
            }
            Self::Download { words, job_id, dir } => {
                let mut wanted = words.into_iter();
                let job = job_id.or_else(|| wanted.next()).unwrap_or_default();
                let job = value::job_id(&client, &job).await?;
                download(context, &client, &job, wanted.as_slice(), &dir).await?;
            }
        }
        Ok(ExitCode::Ok)
    }
}

async fn download(
    context: &Context,
    client: &Client,
    job: &str,
    wanted: &[String],
    dir: &Path,
) -> Result<()> {
    let mut artifacts = client.artifacts(job).await?;
    for wanted in wanted {
        if !artifacts.iter().any(|artifact| is(artifact, wanted)) {
            let names: Vec<String> = artifacts.iter().map(|artifact| artifact.name.clone()).collect();
            return Err(super::device::not_found("artifact", wanted, &names));
        }
    }
    artifacts.retain(|artifact| wanted.is_empty() || wanted.iter().any(|wanted| is(artifact, wanted)));
    let mut list = output::List::new("artifacts", &["FILE", "SIZE"]);
    for artifact in &artifacts {
        // Two attempts can leave files of one name; the later must not hide the earlier.
        let twin = artifacts.iter().any(|other| other.name == artifact.name && other.id != artifact.id);
        let folder = if twin { dir.join(artifact.attempt_id.to_string()) } else { dir.to_owned() };
        let path = place(&folder, &artifact.name)?;
        save(client, artifact, &path).await?;
        list.push(
            path.display(),
            &output::typed("artifact", artifact),
            vec![path.display().to_string(), size(artifact.size_bytes)],
        );
    }
    context.output.list(&list)?;
    context.output.done(format!("{} downloaded", count(artifacts.len() as u64, "file")));
    Ok(())
}

fn is(artifact: &artifact::Artifact, wanted: &str) -> bool {
    artifact.name == wanted || value::ends(&artifact.id.to_string(), wanted)
}

/// Where a file goes; a name that leads elsewhere is refused, whatever the server allowed.
pub fn place(dir: &Path, name: &str) -> Result<PathBuf> {
    let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if !inside || name.is_empty() || name.contains(['\0', '\\']) {
        return Err(Failure::new(
            ExitCode::Infra,
            format!("the artifact {name:?} would leave the folder {}", dir.display()),
        ));
    }
    Ok(dir.join(name))
}

/// Downloads a file whole or not at all, and checks its bytes.
pub async fn save(client: &Client, artifact: &artifact::Artifact, path: &Path) -> Result<()> {
    let failed = |error: std::io::Error| {
        Failure::new(ExitCode::Usage, format!("cannot write {}: {error}", path.display()))
    };
    if let Some(folder) = path.parent() {
        tokio::fs::create_dir_all(folder).await.map_err(failed)?;
    }
    let half = path.with_file_name(format!(".{}.part", artifact.id));
    let mut file = tokio::fs::File::create(&half).await.map_err(failed)?;
    let mut hash = sha2::Sha256::new();
    let mut bytes = client.artifact(&artifact.id.to_string()).await?.bytes_stream();
    while let Some(chunk) = bytes.next().await {
        let chunk = chunk.map_err(|error| {
            Failure::new(ExitCode::Unreachable, format!("the download of {} broke off", artifact.name))
                .cause(error.to_string())
        })?;
        hash.update(&chunk);
        file.write_all(&chunk).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    if Sha256(hash.finalize().into()) != artifact.sha256 {
        _ = tokio::fs::remove_file(&half).await;
        return Err(Failure::new(
            ExitCode::Infra,
            format!("{} arrived with other bytes than it was stored with", artifact.name),
        )
        .hint("try again; if it stays so, the server's copy is damaged"));
    }
    tokio::fs::rename(&half, path).await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_stays_in_its_folder() {
        assert_eq!(place(Path::new("out"), "a/trace.zip").unwrap(), Path::new("out/a/trace.zip"));
        for bad in ["", "/etc/passwd", "../x", "a/../../x", "a\\..\\x", "./x"] {
            assert!(place(Path::new("out"), bad).is_err(), "{bad:?}");
        }
    }
}
