//! Following a run or a job until it is over: events by number over SSE, resumed after every cut; plain questions
//! where events cannot pass. Survives restarts of the server.

use std::time::{Duration, Instant};

use qgjob_core::api::jobs::{EventView, JobView, Resync};
use qgjob_core::api::problem::Code;
use qgjob_core::api::runs::RunWithJobs;
use qgjob_core::model::event::{Event, Seq};
use qgjob_core::model::exit::ExitCode;
use qgjob_core::model::job::Status;
use reqwest::Method;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;

use super::{Client, Error, Filter, Result, part, sse};

/// How long one question waits for a change.
const POLL_WAIT: Duration = Duration::from_secs(20);
/// How long to wait between questions when the server answers them at once.
const POLL_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause between two tries when the server does not ask for another.
const LONGEST_BACKOFF: Duration = Duration::from_secs(15);
/// How many milliseconds to wait, in turn, for the last events of something that is over while none comes.
const REST_PAUSES_MS: [u64; 8] = [20, 50, 100, 200, 500, 1_000, 2_000, 2_000];

/// What is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A run, by its id.
    Run(String),
    /// A job, by its id.
    Job(String),
}

impl Subject {
    fn path(&self) -> String {
        match self {
            Self::Run(id) => format!("api/v1/runs/{}", part(id)),
            Self::Job(id) => format!("api/v1/jobs/{}", part(id)),
        }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        match self {
            Self::Run(id) | Self::Job(id) => id,
        }
    }
}

/// The subject as it stands.
#[derive(Debug, Clone)]
pub enum View {
    /// A run with its jobs.
    Run(Box<RunWithJobs>),
    /// A job.
    Job(Box<JobView>),
}

impl View {
    /// Its jobs.
    pub fn jobs(&self) -> &[JobView] {
        match self {
            Self::Run(run) => &run.job_list,
            Self::Job(job) => std::slice::from_ref(job),
        }
    }

    /// Its id.
    pub fn id(&self) -> String {
        match self {
            Self::Run(run) => run.run.run.id.to_string(),
            Self::Job(job) => job.job.id.to_string(),
        }
    }

    /// The document that the server sent.
    pub fn json(&self) -> serde_json::Value {
        match self {
            Self::Run(run) => serde_json::to_value(run),
            Self::Job(job) => serde_json::to_value(job),
        }
        .expect("wire types are JSON")
    }

    /// Whether nothing will change any more.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Run(run) => run.run.run.status == Status::Completed,
            Self::Job(job) => job.job.status == Status::Completed,
        }
    }

    /// The server's verdict as an exit code, once it is over.
    pub fn exit_code(&self) -> Option<ExitCode> {
        let code = match self {
            Self::Run(run) => run.run.exit_code,
            Self::Job(job) => job.exit_code,
        }?;
        // A code that this version does not know is never green.
        Some(ExitCode::ALL.into_iter().find(|known| u8::from(*known) == code).unwrap_or(ExitCode::Infra))
    }

    /// Whether a test passed only on a retry, one that a rerun carries as well.
    pub fn is_flaky(&self) -> bool {
        let tests = match self {
            Self::Run(run) => run.run.run.tests,
            Self::Job(job) => job.job.tests,
        };
        tests.flaky > 0
    }

    fn version(&self) -> u64 {
        match self {
            Self::Run(run) => run.run.run.version,
            Self::Job(job) => job.job.version,
        }
    }
}

/// News about the subject.
#[derive(Debug)]
pub enum Update {
    /// As it stood when watching began; events tell what led there and what follows.
    Begin(View),
    /// A fact. `event` is none when this version does not know its kind; `json` is what the server sent.
    Event {
        /// The event as sent, on one line.
        json: String,
        /// The event as understood.
        event: Option<Box<Event>>,
    },
    /// As it stands now; sent where events do not pass, or do not tell all.
    Now(View),
    /// The connection is gone and will be tried again.
    Lost {
        /// How many tries failed so far.
        tries: u32,
        /// When the next one is.
        next: Duration,
        /// What went wrong.
        cause: String,
    },
    /// The connection is back.
    Back,
    /// It is over. The last update.
    End(View),
}

/// How to watch.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long the server may be away.
    pub reconnect_timeout: Duration,
    /// The subject was made a moment ago: "not found" may be a replica that does not know it yet.
    pub just_created: bool,
    /// After this long without a byte a stream is dead: the server says something at least every 15 s.
    pub silence: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            reconnect_timeout: Duration::from_secs(600),
            just_created: false,
            silence: Duration::from_secs(45),
        }
    }
}

/// Follows `subject` and sends updates, with `tag`, until it is over, fails for good, or nobody listens.
pub async fn follow<T: Copy>(
    client: Client,
    subject: Subject,
    options: Options,
    tag: T,
    to: mpsc::Sender<(T, Result<Update>)>,
) {
    let follower = Follower {
        client,
        subject,
        options,
        seen: 0,
        begun: false,
        ended: false,
        stale: false,
        connected: false,
        streams: true,
        failing: None,
        tries: 0,
    };
    let (inner, mut updates) = mpsc::channel(64);
    let work = async move {
        let mut follower = follower;
        let result = follower.run(&inner).await;
        if let Err(error) = result {
            _ = inner.send(Err(error)).await;
        }
    };
    let forward = async move {
        while let Some(update) = updates.recv().await {
            if to.send((tag, update)).await.is_err() {
                return;
            }
        }
    };
    tokio::pin!(work);
    tokio::pin!(forward);
    tokio::select! {
        () = &mut forward => {}
        () = &mut work => forward.await,
    }
}

type Updates = mpsc::Sender<Result<Update>>;

struct Follower {
    client: Client,
    subject: Subject,
    options: Options,
    /// The number of the newest event that was passed on.
    seen: Seq,
    begun: bool,
    /// Whether the event that ends the subject was passed on.
    ended: bool,
    /// Whether the events that were passed on are not the whole story.
    stale: bool,
    connected: bool,
    /// Whether events can pass; where they cannot, questions are asked.
    streams: bool,
    failing: Option<Instant>,
    tries: u32,
}

/// How a stream of events stopped.
enum Stopped {
    /// It was cut.
    Cut(String),
    /// The server closed it in order: it restarts, or has no more to say.
    Closed,
    /// Events do not pass here.
    NoStream,
    /// The server does not know the event that was seen last: how things stand must be asked.
    Resync,
    /// The subject is over, says an event.
    Over,
}

impl Follower {
    async fn run(&mut self, to: &Updates) -> Result<()> {
        loop {
            match self.look(None).await {
                Ok(Some(view)) if view.is_over() => {
                    if self.begun {
                        self.rest(to).await;
                    }
                    _ = to.send(Ok(Update::End(view))).await;
                    return Ok(());
                }
                Ok(Some(view)) => {
                    self.succeeded(to).await;
                    if !self.begun {
                        self.begun = true;
                        _ = to.send(Ok(Update::Begin(view.clone()))).await;
                    } else if self.stale {
                        _ = to.send(Ok(Update::Now(view.clone()))).await;
                    }
                    self.stale = false;
                    if !self.streams {
                        self.poll(view, to).await?;
                        continue;
                    }
                    match self.stream(to).await {
                        Ok(Stopped::Over) => {}
                        Ok(Stopped::NoStream) => self.streams = false,
                        Ok(Stopped::Resync) => self.stale = true,
                        Ok(Stopped::Closed) => {
                            self.failed(to, "the server closed the connection".to_owned(), None).await?;
                        }
                        Ok(Stopped::Cut(cause)) => self.failed(to, cause, None).await?,
                        Err(error) => self.failed_with(to, error).await?,
                    }
                }
                Ok(None) => {}
                Err(error) => self.failed_with(to, error).await?,
            }
        }
    }

    /// Passes on the events between the last one seen and the end: they belong to the story. The end is known, so
    /// it is told even if they cannot be had.
    async fn rest(&mut self, to: &Updates) {
        let mut pauses = REST_PAUSES_MS.iter();
        while !self.ended && self.streams {
            let before = self.seen;
            match self.stream(to).await {
                Ok(Stopped::Over | Stopped::NoStream) => return,
                Ok(Stopped::Closed) if self.seen == before => return,
                Ok(Stopped::Cut(_) | Stopped::Closed | Stopped::Resync) => {}
                Err(error) if error.is_passing() => {}
                Err(_) => return,
            }
            if self.seen > before {
                pauses = REST_PAUSES_MS.iter();
            }
            let Some(pause) = pauses.next() else { return };
            tokio::time::sleep(Duration::from_millis(*pause)).await;
        }
    }

    /// The subject as it stands; none when it is still at `since`.
    async fn look(&self, since: Option<u64>) -> Result<Option<View>> {
        let mut filter = Filter::new();
        let mut timeout = self.client.timeout;
        if let Some(version) = since {
            filter.extend([("wait", format!("{}s", POLL_WAIT.as_secs())), ("since", version.to_string())]);
            timeout += POLL_WAIT;
        }
        let call = self.client.call(Method::GET, self.subject.path()).query(&filter).timeout(timeout);
        let response = call.accept("application/json").send().await?;
        if response.status() == reqwest::StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        Ok(Some(match self.subject {
            Subject::Run(_) => View::Run(Box::new(self.client.read_json(response).await?)),
            Subject::Job(_) => View::Job(Box::new(self.client.read_json(response).await?)),
        }))
    }

    async fn poll(&mut self, mut view: View, to: &Updates) -> Result<()> {
        _ = to.send(Ok(Update::Now(view.clone()))).await;
        loop {
            let asked = Instant::now();
            match self.look(Some(view.version())).await {
                Ok(Some(now)) if now.is_over() => return Ok(()),
                Ok(Some(now)) => {
                    self.succeeded(to).await;
                    if now.version() != view.version() {
                        _ = to.send(Ok(Update::Now(now.clone()))).await;
                    }
                    view = now;
                }
                Ok(None) => self.succeeded(to).await,
                Err(error) => self.failed_with(to, error).await?,
            }
            tokio::time::sleep(POLL_PAUSE.saturating_sub(asked.elapsed())).await;
        }
    }

    async fn stream(&mut self, to: &Updates) -> Result<Stopped> {
        let call = self.client.call(Method::GET, format!("{}/events", self.subject.path()));
        let call = call.accept("text/event-stream").header("last-event-id", &self.seen.to_string());
        // The stream has no end of its own; silence is watched below.
        let call = call.timeout(Duration::from_secs(24 * 3600));
        let response = match tokio::time::timeout(self.client.timeout, self.client.once(call.request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error))
                if !self.options.just_created && matches!(error.status(), Some(404..=406 | 501)) =>
            {
                return Ok(Stopped::NoStream);
            }
            // All places for streams are taken; questions need none.
            Ok(Err(Error::Refused(problem))) if problem.code == Code::Busy => return Ok(Stopped::NoStream),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(Stopped::Cut("no answer in time".to_owned())),
        };
        let media_type = response.headers().get("content-type").and_then(|kind| kind.to_str().ok());
        if !media_type.is_some_and(|kind| kind.starts_with("text/event-stream")) {
            return Ok(Stopped::NoStream);
        }
        let (mut bytes, mut parser, mut any) = (response.bytes_stream(), sse::Parser::default(), false);
        loop {
            let chunk = match tokio::time::timeout(self.options.silence, bytes.next()).await {
                // A proxy that holds everything back would do so again.
                Err(_) if !any => return Ok(Stopped::NoStream),
                Err(_) => return Ok(Stopped::Cut("the server fell silent".to_owned())),
                Ok(None) => return Ok(Stopped::Closed),
                Ok(Some(Err(error))) => {
                    return Ok(Stopped::Cut(super::unreachable(&self.client.base, &error).to_string()));
                }
                Ok(Some(Ok(chunk))) => chunk,
            };
            any = true;
            let Ok(messages) = parser.push(&chunk) else {
                return Ok(Stopped::Cut("a message is too long".to_owned()));
            };
            for message in messages {
                self.succeeded(to).await;
                if let Some(stopped) = self.take(message, to).await {
                    return Ok(stopped);
                }
            }
        }
    }

    /// Passes a message on unless it was seen before. Returns why to stop, if it says so.
    async fn take(&mut self, message: sse::Message, to: &Updates) -> Option<Stopped> {
        let id = message.id.as_deref().and_then(|id| id.parse::<Seq>().ok());
        if message.event == "resync" {
            let resync = serde_json::from_str::<Resync>(&message.data).ok();
            // It may be lower than before: the server lost events, as when a backup is put back.
            self.seen = id.or(resync.map(|resync| resync.seq))?;
            return Some(Stopped::Resync);
        }
        let view = serde_json::from_str::<EventView>(&message.data).ok();
        let seq = id.or(view.as_ref().map(|view| view.event.seq))?;
        if seq <= self.seen {
            return None;
        }
        self.seen = seq;
        let over = match self.subject {
            Subject::Run(_) => message.event == "run.completed",
            Subject::Job(_) => message.event == "job.completed",
        };
        self.ended |= over;
        let event = view.map(|view| Box::new(view.event));
        _ = to.send(Ok(Update::Event { json: message.data, event })).await;
        over.then_some(Stopped::Over)
    }

    async fn succeeded(&mut self, to: &Updates) {
        self.failing = None;
        self.tries = 0;
        if !self.connected {
            self.connected = true;
            if self.begun {
                _ = to.send(Ok(Update::Back)).await;
            }
        }
    }

    async fn failed_with(&mut self, to: &Updates, error: Error) -> Result<()> {
        let may_appear = self.options.just_created && error.status() == Some(404);
        if !may_appear && !error.is_passing() {
            return Err(error);
        }
        self.failed(to, error.to_string(), Some(error)).await
    }

    /// Waits before the next try, or gives up with the error.
    async fn failed(&mut self, to: &Updates, cause: String, error: Option<Error>) -> Result<()> {
        let since = *self.failing.get_or_insert_with(Instant::now);
        self.tries += 1;
        // The first try after a cut comes at once: servers restart, proxies cut streams after a while.
        let backoff = Duration::from_millis(500) * 2_u32.saturating_pow(self.tries.saturating_sub(1).min(5));
        let asked = error.as_ref().and_then(super::asked_to_wait);
        let next = asked.unwrap_or(backoff.min(LONGEST_BACKOFF));
        if since.elapsed() + next > self.options.reconnect_timeout {
            return Err(error.unwrap_or(Error::Unreachable { server: self.client.origin(), cause }));
        }
        if error.is_some() {
            self.connected = false;
            _ = to.send(Ok(Update::Lost { tries: self.tries, next, cause })).await;
        }
        tokio::time::sleep(next).await;
        Ok(())
    }
}
