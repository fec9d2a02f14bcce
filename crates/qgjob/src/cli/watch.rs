//! Watching until the end, in the form that was asked for: a display on a terminal, lines in a pipe, events as
//! JSON, or silence. The exit code is the server's verdict.

mod live;
mod outage;
pub mod story;

use std::io;
use std::time::{Duration, Instant};

use qgjob_core::clock::Clock;
use qgjob_core::model::exit::ExitCode;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::ci::quoted::Quoted;
use super::failure::{Failure, Result};
use super::interrupt::{JOBS_GO_ON, OnInterrupt, way_back};
use super::report::Reports;
use super::{Context, summary, value};
use crate::client::Client;
use crate::client::watch::{Options, Subject, Update, View, follow};
use crate::output::{Format, Object};
use live::Live;
use outage::Outage;
use story::{News, Story};

/// A pipeline's log shows life at least this often.
const HEARTBEAT: Duration = Duration::from_secs(60);

/// Flags of commands that wait.
#[derive(Debug, Clone, clap::Args)]
pub struct Patience {
    /// Stop waiting after this long; the jobs go on (exit code 15)
    #[arg(long, value_name = "SPAN", value_parser = value::span)]
    pub wait_timeout: Option<Duration>,
    /// How long the server may be away meanwhile
    #[arg(long, value_name = "SPAN", value_parser = value::span, default_value = "10m")]
    pub reconnect_timeout: Duration,
    /// A test that passed only on a retry makes the exit code 1
    #[arg(long)]
    pub fail_on_flaky: bool,
    /// Exit with 0 when no test ran
    #[arg(long)]
    pub allow_no_tests: bool,
    #[command(flatten)]
    pub on_interrupt: OnInterrupt,
    #[command(flatten)]
    pub reports: Reports,
}

/// How to watch.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Tell what happens meanwhile.
    pub tell: bool,
    /// The subjects were made a moment ago.
    pub just_created: bool,
    /// How long, and what counts as good.
    pub patience: Patience,
}

/// Watches all subjects until they are over, prints what there is to say at the end, and writes the reports that are wanted, which
/// the caller has prepared. Signals are the caller's to see to: see [`Interrupt`](super::interrupt::Interrupt).
pub async fn watch(context: &Context, client: &Client, subjects: Vec<Subject>, wish: &Wish) -> Result {
    let _quoted = Quoted::begin(context);
    watch_then(context, client, subjects, wish, || {}).await
}

/// The same, with `over` called between what happened and what is said at the end.
pub async fn watch_then(
    context: &Context,
    client: &Client,
    subjects: Vec<Subject>,
    wish: &Wish,
    over: impl FnOnce(),
) -> Result {
    let output = context.output;
    let teller = Teller::new(context, wish.tell, HEARTBEAT, move |line| output.line(line));
    let views = match attend(client, &subjects, wish, teller).await? {
        Ended::All(views) => views,
        Ended::TooLate => {
            let failure = Failure::new(ExitCode::WaitTimeout, format!("--wait-timeout passed; {JOBS_GO_ON}"));
            return Err(subjects.iter().map(way_back).fold(failure, Failure::hint));
        }
    };
    over();
    report(context, client, &views, wish).await?;
    let verdict = verdict(context, &views, &wish.patience);
    match &subjects[..] {
        [subject] => wish.patience.reports.conclude(context, client, subject, verdict).await,
        _ => Ok(verdict),
    }
}

/// How watching ended.
enum Ended {
    /// Everything is over.
    All(Vec<View>),
    /// `--wait-timeout` passed before.
    TooLate,
}

async fn attend(client: &Client, subjects: &[Subject], wish: &Wish, mut teller: Teller<'_>) -> Result<Ended> {
    let options = Options {
        reconnect_timeout: wish.patience.reconnect_timeout,
        just_created: wish.just_created,
        ..Options::default()
    };
    let (to, mut updates) = mpsc::channel(64);
    // They end with the watching, however it ends.
    let mut following = JoinSet::new();
    for (at, subject) in subjects.iter().enumerate() {
        following.spawn(follow(client.clone(), subject.clone(), options, at, to.clone()));
    }
    drop(to);
    let mut ends: Vec<Option<View>> = vec![None; subjects.len()];
    let deadline =
        tokio::time::sleep(wish.patience.wait_timeout.unwrap_or(Duration::from_secs(u64::from(u32::MAX))));
    tokio::pin!(deadline);
    let too_late = loop {
        let heartbeat = tokio::time::sleep(teller.until_heartbeat());
        tokio::select! {
            update = updates.recv() => match update {
                Some((at, Ok(Update::End(view)))) => {
                    teller.end(&view)?;
                    ends[at] = Some(view);
                    if ends.iter().all(Option::is_some) {
                        break false;
                    }
                }
                Some((at, Ok(update))) => teller.take(&subjects[at], update)?,
                Some((_, Err(error))) => {
                    teller.finish();
                    return Err(error.into());
                }
                None => break false,
            },
            () = heartbeat => teller.heartbeat()?,
            () = &mut deadline => break true,
        }
    };
    teller.finish();
    Ok(if too_late { Ended::TooLate } else { Ended::All(ends.into_iter().flatten().collect()) })
}

/// Prints what there is to say at the end.
async fn report(context: &Context, client: &Client, views: &[View], wish: &Wish) -> Result<()> {
    let output = &context.output;
    if output.format != Format::Text {
        let objects: Vec<_> = views.iter().map(|view| Object::new(view.id(), &view.json(), "")).collect();
        return Ok(output.objects(&objects, views.len() > 1)?);
    }
    for view in views {
        match view {
            View::Run(_) if wish.tell => {
                output.line("")?;
                output.line(summary::of_view(context, client, view).await?)?;
            }
            View::Job(_) if wish.tell && output.live => {
                output.line(summary::of_view(context, client, view).await?)?;
            }
            _ if wish.tell => {}
            _ => output.line(story::line(output, &story::over(view)))?,
        }
    }
    Ok(())
}

/// The exit code of all that was watched.
pub fn verdict(context: &Context, views: &[View], patience: &Patience) -> ExitCode {
    // What is over without a verdict is a bug.
    let codes = views.iter().map(|view| view.exit_code().unwrap_or(ExitCode::Internal));
    let worst = ExitCode::worst(codes).unwrap_or(ExitCode::Internal);
    if worst == ExitCode::NoTests && patience.allow_no_tests {
        return ExitCode::Ok;
    }
    if worst == ExitCode::Ok && patience.fail_on_flaky && views.iter().any(View::is_flaky) {
        context.output.note("A test passed only on a retry, and --fail-on-flaky was given.");
        return ExitCode::TestsFailed;
    }
    worst
}

/// Prints a line.
type Print<'a> = dyn FnMut(&str) -> io::Result<()> + Send + 'a;

/// Tells what happens.
struct Teller<'a> {
    context: &'a Context,
    tell: bool,
    story: Story,
    live: Option<Live>,
    heartbeat: Duration,
    told: Instant,
    outage: Outage,
    print: Box<Print<'a>>,
}

impl<'a> Teller<'a> {
    /// Tells with `print`, and shows life after `heartbeat` without news.
    fn new(
        context: &'a Context,
        tell: bool,
        heartbeat: Duration,
        print: impl FnMut(&str) -> io::Result<()> + Send + 'a,
    ) -> Self {
        let live = (tell && context.output.live).then(|| Live::new(context.output));
        let print = Box::new(print);
        Self {
            context,
            tell,
            story: Story::default(),
            live,
            heartbeat,
            told: Instant::now(),
            outage: Outage::default(),
            print,
        }
    }

    fn take(&mut self, subject: &Subject, update: Update) -> Result<()> {
        match update {
            Update::Begin(view) => self.story.begin(subject, &view),
            Update::Event { json, event } => {
                if self.tell && self.context.output.format == Format::Jsonl {
                    // One line whatever the server sent.
                    (self.print)(&json.replace(['\n', '\r'], " "))?;
                }
                let news = event.and_then(|event| self.story.event(&event));
                self.news(news)?;
            }
            Update::Now(view) => {
                let news = self.story.now(&view);
                self.news(news)?;
            }
            Update::Lost { tries, next, cause } => {
                if let Some(line) = self.outage.lost(Instant::now(), tries, next, &cause) {
                    self.note(&line);
                }
            }
            Update::Back => {
                if let Some(line) = self.outage.back() {
                    self.note(line);
                }
            }
            Update::End(view) => self.end(&view)?,
        }
        if let Some(live) = &mut self.live {
            live.show(&self.story, self.context.clock.now());
        }
        Ok(())
    }

    fn end(&mut self, view: &View) -> Result<()> {
        let news = self.story.now(view);
        self.news(news)
    }

    fn news(&mut self, news: impl IntoIterator<Item = News>) -> Result<()> {
        if !self.tell || self.context.output.format != Format::Text {
            return Ok(());
        }
        for news in news {
            self.told = Instant::now();
            match &self.live {
                Some(live) => live.news(&self.story, &news),
                None => (self.print)(&story::line(&self.context.output, &news))?,
            }
        }
        Ok(())
    }

    fn note(&self, text: &str) {
        match &self.live {
            Some(live) => live.print(text),
            None => self.context.output.note(text),
        }
    }

    fn until_heartbeat(&self) -> Duration {
        match &self.live {
            Some(_) => Duration::from_secs(1),
            None => self.heartbeat.saturating_sub(self.told.elapsed()),
        }
    }

    fn heartbeat(&mut self) -> Result<()> {
        let now = self.context.clock.now();
        if let Some(live) = &mut self.live {
            live.show(&self.story, now);
            return Ok(());
        }
        let news = self.story.heartbeat(now);
        self.news(news)?;
        self.told = Instant::now();
        Ok(())
    }

    fn finish(&mut self) {
        self.live = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::response::IntoResponse;
    use axum::routing::get;
    use clap::Parser;
    use futures_util::StreamExt;
    use qgjob_core::clock::SystemClock;
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::Cli;
    use crate::config::Environment;
    use crate::output::{ColorChoice, Output};

    const JOB: &str = "job_01kb4x9tq3m8e7w2n5r6v0zcha";

    fn job(status: &str, conclusion: Option<&str>) -> Value {
        json!({
            "schema": "qgjob.job/v1", "id": JOB, "run_id": "run_01kb4x9tq3m8e7w2n5r6v0zcha",
            "org_id": "qualgent", "app_version_id": "xyz123", "test": "tests/a.spec.js",
            "bundle_sha256": "0".repeat(64), "platform": null, "target": "any", "selector": {}, "priority": 5,
            "timeout_ms": 1, "infra_retries": 0, "test_retries": 0, "reset": "none", "env": {},
            "status": status, "conclusion": conclusion, "reason": null, "detail": null, "phase": null,
            "attempts": 1, "infra_faults": 0, "avoid": [], "not_before": null,
            "queue_deadline": "2026-11-22T12:00:00Z", "predicted_ms": 60000,
            "device_id": null,
            "tests": { "total": 1, "passed": 1, "failed": 0, "flaky": 0, "skipped": 0 },
            "created_at": "2026-11-22T10:00:00Z", "started_at": "2026-11-22T10:00:01Z",
            "finished_at": conclusion.map(|_| "2026-11-22T10:00:09Z"), "version": 3,
            "device_name": "pixel-7", "install": null, "exit_code": conclusion.map(|_| 0)
        })
    }

    const STARTED: &str = r#""type":"job.started","data":{"group_id":1,"number":1,"device_name":"pixel-7",
        "attempt_id":"att_01kb4x9tq3m8e7w2n5r6v0zcha","agent_id":"agt_01kb4x9tq3m8e7w2n5r6v0zcha",
        "device_id":"dev_01kb4x9tq3m8e7w2n5r6v0zcha"}"#;
    const COMPLETED: &str = r#""type":"job.completed","data":{"group_id":1,"from":"running","conclusion":"passed",
        "reason":"tests_passed","detail":null,
        "tests":{"total":1,"passed":1,"failed":0,"flaky":0,"skipped":0}}"#;

    /// An event as the server sends it.
    fn message(seq: u64, fact: &str) -> String {
        let kind = if seq == 1 { "job.started" } else { "job.completed" };
        let data = format!(
            r#"{{"schema":"qgjob.event/v1","seq":{seq},"at":"2026-11-22T10:00:01Z","org_id":"qualgent",
            "run_id":null,"job_id":"{JOB}",{fact}}}"#
        );
        format!("id: {seq}\nevent: {kind}\ndata: {}\n\n", data.replace('\n', " "))
    }

    /// A server whose job begins, says nothing for 700 ms, and is then over.
    async fn silent_server() -> Client {
        let over = Arc::new(AtomicBool::new(false));
        let (asked, told) = (Arc::clone(&over), over);
        let view = get(move || async move {
            let (status, conclusion) =
                if asked.load(Ordering::SeqCst) { ("completed", Some("passed")) } else { ("running", None) };
            axum::Json(job(status, conclusion))
        });
        let events = get(move || async move {
            let first = futures_util::stream::once(async { message(1, STARTED) });
            let last = futures_util::stream::once(async move {
                tokio::time::sleep(Duration::from_millis(700)).await;
                told.store(true, Ordering::SeqCst);
                message(2, COMPLETED)
            });
            let body = axum::body::Body::from_stream(first.chain(last).map(Ok::<_, io::Error>));
            ([("content-type", "text/event-stream")], body).into_response()
        });
        let app = Router::new()
            .route(&format!("/api/v1/jobs/{JOB}"), view)
            .route(&format!("/api/v1/jobs/{JOB}/events"), events);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Client::new(&url, None, Duration::from_secs(5)).unwrap()
    }

    async fn told(format: Format, heartbeat: Duration) -> Vec<String> {
        let client = silent_server().await;
        let env = Environment::default();
        let output = Output::new(format, false, ColorChoice::Never, false, &env);
        let global = Cli::try_parse_from(["qgjob", "version"]).unwrap().global;
        let context = Context { global, env, output, clock: SystemClock };
        let lines = Arc::new(Mutex::new(Vec::new()));
        let print = |line: &str| {
            lines.lock().unwrap().push(line.to_owned());
            Ok(())
        };
        let patience = Patience {
            wait_timeout: None,
            reconnect_timeout: Duration::from_secs(5),
            fail_on_flaky: false,
            allow_no_tests: false,
            on_interrupt: OnInterrupt::default(),
            reports: Reports::default(),
        };
        let wish = Wish { tell: true, just_created: false, patience };
        let teller = Teller::new(&context, true, heartbeat, print);
        let ended = attend(&client, &[Subject::Job(JOB.into())], &wish, teller).await.unwrap();
        let Ended::All(views) = ended else { panic!("it left early") };
        assert_eq!(verdict(&context, &views, &wish.patience), ExitCode::Ok);
        let lines = lines.lock().unwrap();
        lines.clone()
    }

    #[tokio::test]
    async fn silence_is_broken_by_a_sign_of_life_in_text_alone() {
        let lines = told(Format::Text, Duration::from_millis(200)).await;
        let [first, signs @ .., last] = &lines[..] else { panic!("{lines:#?}") };
        assert!(first.contains("running    (pixel-7; attempt 1)"), "{lines:#?}");
        assert!(last.contains("completed  (passed; 1 passed"), "{lines:#?}");
        // 700 ms hold three spans of 200 ms; a slow machine may miss some, but never makes more.
        assert!((1..=3).contains(&signs.len()), "{lines:#?}");
        assert!(signs.iter().all(|line| line.contains("running    (preparing on pixel-7; ")), "{lines:#?}");
        assert_eq!(told(Format::Text, HEARTBEAT).await.len(), 2, "a minute did not pass");
        assert_eq!(told(Format::Jsonl, Duration::from_millis(200)).await.len(), 2, "programs need none");
    }
}
