//! Watching until the end, in the form that was asked for: a display on a terminal, lines in a pipe, events as
//! JSON, or silence. The exit code is the server's verdict.

mod live;
pub mod story;

use std::time::{Duration, Instant};

use qgjob_core::clock::Clock;
use qgjob_core::model::exit::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::failure::{Failure, Result};
use super::{Context, summary, value};
use crate::client::Client;
use crate::client::watch::{Options, Subject, Update, View, follow};
use crate::output::{Format, compact, pretty, span};
use live::Live;
use story::{News, Story};

/// A pipeline's log shows life at least this often.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// A connection that is back sooner is not worth a word.
const SILENT_RECONNECT: Duration = Duration::from_secs(10);

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

/// Watches all subjects until they are over.
pub async fn watch(context: &Context, client: &Client, subjects: Vec<Subject>, wish: &Wish) -> Result {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut teller = Teller::new(context, wish.tell);
    let options =
        Options { reconnect_timeout: wish.patience.reconnect_timeout, just_created: wish.just_created };
    let (to, mut updates) = mpsc::channel(64);
    let tasks: Vec<_> = subjects
        .iter()
        .enumerate()
        .map(|(at, subject)| tokio::spawn(follow(client.clone(), subject.clone(), options, at, to.clone())))
        .collect();
    drop(to);
    let mut ends: Vec<Option<View>> = vec![None; subjects.len()];
    let deadline =
        tokio::time::sleep(wish.patience.wait_timeout.unwrap_or(Duration::from_secs(u64::from(u32::MAX))));
    tokio::pin!(deadline);
    let stopped = loop {
        let heartbeat = tokio::time::sleep(teller.until_heartbeat());
        tokio::select! {
            update = updates.recv() => match update {
                Some((at, Ok(Update::End(view)))) => {
                    teller.end(&view)?;
                    ends[at] = Some(view);
                    if ends.iter().all(Option::is_some) {
                        break None;
                    }
                }
                Some((at, Ok(update))) => teller.take(&subjects[at], update)?,
                Some((_, Err(error))) => {
                    teller.finish();
                    return Err(error.into());
                }
                None => break None,
            },
            () = heartbeat => teller.heartbeat(context.clock.now())?,
            () = &mut deadline => break Some(ExitCode::WaitTimeout),
            _ = interrupt.recv() => break Some(ExitCode::Interrupted),
            _ = terminate.recv() => break Some(ExitCode::Terminated),
        }
    };
    for task in tasks {
        task.abort();
    }
    teller.finish();
    if let Some(code) = stopped {
        return Err(left(code, &subjects));
    }
    let views: Vec<View> = ends.into_iter().flatten().collect();
    report(context, client, &views, wish).await?;
    Ok(verdict(context, &views, &wish.patience))
}

/// Prints what there is to say at the end.
async fn report(context: &Context, client: &Client, views: &[View], wish: &Wish) -> Result<()> {
    let output = &context.output;
    for view in views {
        match (output.format, view) {
            (Format::Text, View::Run(_)) if wish.tell => {
                output.line("")?;
                output.line(summary::of_view(context, client, view).await?)?;
            }
            (Format::Text, View::Job(_)) if wish.tell && output.live => {
                output.line(summary::of_view(context, client, view).await?)?;
            }
            (Format::Text, _) if wish.tell => {}
            (Format::Text, _) => output.line(story::line(output, &story::over(view)))?,
            (Format::Json, View::Run(run)) => output.line(pretty(run))?,
            (Format::Json, View::Job(job)) => output.line(pretty(job))?,
            (Format::Jsonl, View::Run(run)) => output.line(compact(run))?,
            (Format::Jsonl, View::Job(job)) => output.line(compact(job))?,
            (Format::Name, View::Run(run)) => output.line(run.run.run.id.to_string())?,
            (Format::Name, View::Job(job)) => output.line(job.job.id.to_string())?,
            (Format::None, _) => {}
        }
    }
    Ok(())
}

/// The exit code of all that was watched.
pub fn verdict(context: &Context, views: &[View], patience: &Patience) -> ExitCode {
    // The order in which one outcome hides another, as for the jobs of a run.
    const WORST_FIRST: [ExitCode; 9] = [
        ExitCode::TestsFailed,
        ExitCode::Usage,
        ExitCode::Infra,
        ExitCode::TimedOut,
        ExitCode::QueueDeadline,
        ExitCode::Cancelled,
        ExitCode::NoTests,
        ExitCode::Internal,
        ExitCode::Ok,
    ];
    let codes: Vec<ExitCode> =
        views.iter().map(|view| view.exit_code().unwrap_or(ExitCode::Internal)).collect();
    let worst = WORST_FIRST.into_iter().find(|code| codes.contains(code)).unwrap_or(ExitCode::Internal);
    if worst == ExitCode::NoTests && patience.allow_no_tests {
        return ExitCode::Ok;
    }
    if worst == ExitCode::Ok && patience.fail_on_flaky && views.iter().any(View::is_flaky) {
        context.output.note("A test passed only on a retry, and --fail-on-flaky was given.");
        return ExitCode::TestsFailed;
    }
    worst
}

fn left(code: ExitCode, subjects: &[Subject]) -> Failure {
    let what = match code {
        ExitCode::WaitTimeout => "--wait-timeout passed; the jobs go on",
        _ => "stopped watching; the jobs go on",
    };
    subjects.iter().fold(Failure::new(code, what), |failure, subject| {
        let (kind, id) = match subject {
            Subject::Run(id) => ("run", id),
            Subject::Job(id) => ("job", id),
        };
        failure.hint(format!(
            "to go on watching: qgjob status --{kind}-id={id} --watch; to end it: qgjob cancel {id}"
        ))
    })
}

/// Tells what happens.
struct Teller<'a> {
    context: &'a Context,
    tell: bool,
    story: Story,
    live: Option<Live>,
    told: Instant,
    lost: Option<Instant>,
}

impl<'a> Teller<'a> {
    fn new(context: &'a Context, tell: bool) -> Self {
        let live = (tell && context.output.live).then(|| Live::new(context.output.color));
        Self { context, tell, story: Story::default(), live, told: Instant::now(), lost: None }
    }

    fn take(&mut self, subject: &Subject, update: Update) -> Result<()> {
        match update {
            Update::Begin(view) => self.story.begin(subject, &view),
            Update::Event { json, event } => {
                if self.tell && self.context.output.format == Format::Jsonl {
                    // One line whatever the server sent.
                    self.context.output.line(json.replace(['\n', '\r'], " "))?;
                }
                let news = event.and_then(|event| self.story.event(&event));
                self.news(news)?;
            }
            Update::Now(view) => {
                let news = self.story.now(&view);
                self.news(news)?;
            }
            Update::Lost { tries, next, cause } => {
                let since = *self.lost.get_or_insert_with(Instant::now);
                if since.elapsed() + next > SILENT_RECONNECT {
                    let next = span(next.as_millis() as u64);
                    self.note(&format!(
                        "connection lost ({cause}), retrying (attempt {tries}, next in {next})"
                    ));
                }
            }
            Update::Back => {
                if self.lost.take().is_some_and(|since| since.elapsed() > SILENT_RECONNECT) {
                    self.note("connected again");
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
                None => self.context.output.line(story::line(&self.context.output, &news))?,
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
            None => HEARTBEAT.saturating_sub(self.told.elapsed()),
        }
    }

    fn heartbeat(&mut self, now: jiff::Timestamp) -> Result<()> {
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
        if let Some(live) = self.live.take() {
            live.clear();
        }
    }
}
