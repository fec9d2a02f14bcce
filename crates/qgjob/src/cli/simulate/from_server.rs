//! `qgjob simulate --from-server`: reads what a server did, over the public API.

use std::path::Path;
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use qgjob_core::api::page::{MAX_LIMIT, Page};
use qgjob_core::clock::Clock;
use qgjob_core::model::exit::ExitCode;
use qgjob_simulation::report::Source;
use qgjob_simulation::workload::exported::Document;
use qgjob_simulation::workload::history::{History, Past, Told};

use super::super::Context;
use super::super::failure::{Failure, Result};
use super::super::value;
use crate::client::{self, Client, Filter};

/// How far back is read unless told otherwise.
const USUAL: Duration = Duration::from_secs(7 * 86_400);
/// The newest jobs that are read; more would be hours of simulation and gigabytes of memory.
const MOST_JOBS: usize = 200_000;
/// Jobs whose attempts are read at the same time.
const TOGETHER: usize = 8;

/// From when on.
#[derive(Debug, Clone, Copy)]
pub enum Since {
    /// This instant.
    At(Timestamp),
    /// So long ago.
    Ago(Duration),
}

/// Reads `2026-11-22T22:00:00Z` or `2d`.
pub fn since(text: &str) -> std::result::Result<Since, String> {
    text.parse().map(Since::At).or_else(|_| value::span(text).map(Since::Ago)).map_err(|_| {
        format!("{text:?} is no time: write an instant such as 2026-11-22T22:00:00Z, or a span back from now such as 2d")
    })
}

/// The history of the server as a workload, which is written to `export` as well.
pub async fn read(context: &Context, since: Option<Since>, export: Option<&Path>) -> Result<Source> {
    let settings = context.settings()?;
    let client = context.client_of(&settings)?;
    let since = match since.unwrap_or(Since::Ago(USUAL)) {
        Since::At(at) => at,
        Since::Ago(span) => context
            .clock
            .now()
            .checked_sub(span)
            .map_err(|_| Failure::usage("--since is too far back").hint("the default is 7d"))?,
    };
    let org: Filter = settings.org_id.iter().map(|org| ("org_id", org.to_string())).collect();
    let (history, all) = history(&client, &org, since).await.map_err(|error| explained(error, &client))?;
    if history.jobs.is_empty() {
        return Err(Failure::new(
            ExitCode::NotFound,
            format!("{} has no jobs since {since:.0}", client.origin()),
        )
        .hint("--since goes further back; runs are kept as long as the server's `retention` says")
        .hint("a token of an org sees that org's jobs alone: `qgjob token list` tells which it is"));
    }
    let told = history.tell(&client.origin());
    let workload = told.document.workload().map_err(|error| {
        let failure = Failure::new(ExitCode::NotFound, "nothing of what the server did can be replayed");
        match told.unserved {
            0 => failure.cause(error.to_string()).hint("--since goes further back"),
            jobs => failure
                .cause(format!("none of its devices takes what {jobs} jobs ask for"))
                .hint("`qgjob device list` shows the devices; only those that it has now can be replayed"),
        }
    })?;
    if !all {
        context
            .output
            .warn(format!("only the newest {MOST_JOBS} jobs are replayed; a shorter --since takes fewer"));
    }
    tell(context, &told);
    if let Some(path) = export {
        write(path, &told.document)?;
        context.output.done(format!("Exported: {}", path.display()));
    }
    let about = format!(
        "since {since:.0}; the server made {} installs in {:.0} s of device time, all done after {:.0} s",
        told.installs, told.install_s, told.makespan_s
    );
    Ok(Source::Given(Box::new(workload), about))
}

/// What was read since then, and whether that is all there is.
async fn history(client: &Client, org: &Filter, since: Timestamp) -> client::Result<(History, bool)> {
    let (mut jobs, mut cursor) = (Vec::new(), None::<String>);
    let all = loop {
        let page = client.jobs(&page_of(org, cursor.take())).await?;
        let in_time = page.items.iter().filter(|view| view.job.created_at >= since).count();
        let older = in_time < page.items.len();
        jobs.extend(page.items.into_iter().filter(|view| view.job.created_at >= since));
        let all = jobs.len() <= MOST_JOBS;
        jobs.truncate(MOST_JOBS);
        match page.next_cursor {
            Some(next) if !older && all => cursor = Some(next),
            _ => break all,
        }
    };
    let pasts = stream::iter(jobs).map(|view| async move {
        if let Some(past) = Past::of_record(&view) {
            return Ok(past);
        }
        let attempts = client.attempts(&view.job.id.to_string()).await?;
        let attempts: Vec<_> = attempts.into_iter().map(|view| view.attempt).collect();
        client::Result::Ok(Past::of_attempts(view.job, &attempts))
    });
    let jobs = pasts.buffered(TOGETHER).try_collect().await?;
    let (mut app_versions, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let page: Page<_> = client.app_versions(&page_of(org, cursor.take())).await?;
        app_versions.extend(page.items.into_iter().map(|view| view.app_version));
        match page.next_cursor {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    Ok((History { devices: client.devices().await?, app_versions, jobs }, all))
}

fn page_of(org: &Filter, cursor: Option<String>) -> Filter {
    let mut filter = org.clone();
    filter.push(("limit", MAX_LIMIT.to_string()));
    filter.extend(cursor.map(|cursor| ("cursor", cursor)));
    filter
}

/// An answer that cannot be read is most likely that of another version.
fn explained(error: client::Error, client: &Client) -> Failure {
    let of_other_version = match &error {
        client::Error::NotUnderstood { .. } => true,
        other => other.status() == Some(404),
    };
    let failure = Failure::from(error);
    match of_other_version {
        true => failure
            .cause(format!(
                "the server at {} may be too old, or too new, to tell its history",
                client.origin()
            ))
            .hint("`qgjob doctor` shows both versions; update the older one"),
        false => failure,
    }
}

/// Says what is not in the workload as it was.
fn tell(context: &Context, told: &Told) {
    let parts = [
        (told.unserved, "asked for a device that is not there any more, and are left out"),
        (told.unwanted, "were cancelled before they started or are not due yet, and are left out"),
        (
            told.forecast,
            "did not run to their end: they are replayed with the duration that was to be expected",
        ),
    ];
    for (jobs, what) in parts {
        if jobs > 0 {
            context.output.warn(format!("{jobs} jobs {what}"));
        }
    }
}

fn write(path: &Path, document: &Document) -> Result<()> {
    let text = serde_json::to_vec_pretty(document).expect("a document is JSON");
    std::fs::write(path, text)
        .map_err(|error| Failure::usage(format!("cannot write {}", path.display())).cause(error.to_string()))
}
