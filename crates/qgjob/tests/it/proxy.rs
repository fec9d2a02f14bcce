//! A proxy in front of the real server that treats requests as networks, load balancers and busy servers do.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;

/// What becomes of a request.
#[derive(Debug, Clone, Copy)]
pub enum Fate {
    /// It is answered as the server answers it.
    Passes,
    /// It is answered with this status, and `retry-after` with so many seconds.
    Refused(u16, Option<u64>),
    /// Its answer breaks off after so many bytes of the body.
    Cut(usize),
    /// Its answer begins, and nothing more comes.
    Silent,
    /// Its answer falls silent after so many bytes of the body, and stays open.
    Stalls(usize),
    /// In its answer, the first text is replaced by the second.
    Altered(&'static str, &'static str),
    /// The server gets it and answers, and the answer never arrives.
    Unanswered,
    /// It never reaches the server, and no answer comes.
    Lost,
    /// It reaches the server only when a request whose path ends so was answered, and also if nobody waits any more.
    Overtaken(&'static str),
    /// The answer arrives so much later.
    Late(Duration),
}

/// What is known of a request when its fate is decided.
pub struct Call<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub body: &'a str,
    /// How many came before.
    pub number: usize,
}

type Rule = dyn Fn(&Call<'_>) -> Fate + Send + Sync;

pub struct Proxy {
    pub url: String,
    seen: Arc<Mutex<Vec<String>>>,
    answered: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Clone)]
struct Between {
    server: String,
    http: reqwest::Client,
    rule: Arc<Rule>,
    count: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<String>>>,
    answered: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Stands in front of the server at `address`.
    pub async fn start(address: &str, rule: impl Fn(&Call<'_>) -> Fate + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (seen, answered) = (Arc::default(), Arc::default());
        let between = Between {
            server: format!("http://{address}"),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            rule: Arc::new(rule),
            count: Arc::default(),
            seen: Arc::clone(&seen),
            answered: Arc::clone(&answered),
        };
        let app = Router::new().fallback(answer).with_state(between);
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, seen, answered, task }
    }

    /// Waits until something was asked whose path ends so.
    pub async fn is_asked_for(&self, end: &str) {
        wait_for(&self.seen, end).await;
    }

    /// Waits until the server answered something whose path ends so.
    pub async fn has_answered(&self, end: &str) {
        wait_for(&self.answered, end).await;
    }

    /// What was asked, in order: method and path.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

async fn wait_for(calls: &Mutex<Vec<String>>, end: &str) {
    while !calls.lock().unwrap().iter().any(|call| call.ends_with(end)) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(between): State<Between>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let call = Call {
        method: head.method.as_str(),
        path: &path,
        body: &String::from_utf8_lossy(&body),
        number: between.count.fetch_add(1, Ordering::SeqCst),
    };
    let fate = (between.rule)(&call);
    between.seen.lock().unwrap().push(format!("{} {path}", head.method));
    if let Fate::Refused(status, retry_after) = fate {
        let status = StatusCode::from_u16(status).unwrap();
        let mut answer = (status, "the load balancer says no").into_response();
        if let Some(seconds) = retry_after {
            answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        return answer;
    }
    if matches!(fate, Fate::Silent) {
        let nothing = futures_util::stream::pending::<io::Result<bytes::Bytes>>();
        return ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(nothing)).into_response();
    }
    if matches!(fate, Fate::Lost) {
        return std::future::pending().await;
    }
    let target = head.uri.path_and_query().unwrap().as_str();
    let mut call = between.http.request(head.method.clone(), format!("{}{target}", between.server));
    for (name, value) in head.headers.iter().filter(|(name, _)| *name != header::HOST) {
        call = call.header(name, value);
    }
    let call = call.body(body);
    let done = format!("{} {path}", head.method);
    // What is on its way arrives, also if who sent it is gone.
    let sending = tokio::spawn(async move {
        if let Fate::Overtaken(end) = fate {
            wait_for(&between.answered, end).await;
        }
        let answer = call.send().await;
        between.answered.lock().unwrap().push(done);
        answer
    });
    let Ok(answered) = sending.await.unwrap() else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    if matches!(fate, Fate::Unanswered) {
        return std::future::pending().await;
    }
    if let Fate::Late(by) = fate {
        tokio::time::sleep(by).await;
    }
    let (status, headers) = (answered.status(), answered.headers().clone());
    let body = match fate {
        Fate::Cut(after) => Body::from_stream(cut(answered.bytes_stream(), after)),
        Fate::Stalls(after) => {
            let cut =
                cut(answered.bytes_stream(), after).take_while(|piece| std::future::ready(piece.is_ok()));
            Body::from_stream(cut.chain(futures_util::stream::pending()))
        }
        Fate::Altered(from, to) => Body::from(answered.text().await.unwrap().replace(from, to)),
        _ => Body::from_stream(answered.bytes_stream()),
    };
    let mut response = Response::builder().status(status).body(body).unwrap();
    for name in [header::CONTENT_TYPE, header::ETAG] {
        if let Some(value) = headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

/// The first `left` bytes, and then an error, which breaks the connection off.
fn cut(
    bytes: impl futures_util::Stream<Item = reqwest::Result<bytes::Bytes>> + Send + 'static,
    left: usize,
) -> impl futures_util::Stream<Item = io::Result<bytes::Bytes>> + Send + 'static {
    let state = (Box::pin(bytes), Some(left));
    futures_util::stream::unfold(state, |(mut bytes, left)| async move {
        let left = left?;
        if left == 0 {
            // What was sent must be on its way before the connection is gone.
            tokio::time::sleep(Duration::from_millis(10)).await;
            return Some((Err(io::Error::other("cut")), (bytes, None)));
        }
        let chunk = bytes.next().await?.ok()?;
        let chunk = chunk.slice(..chunk.len().min(left));
        let left = left - chunk.len();
        Some((Ok(chunk), (bytes, Some(left))))
    })
}
