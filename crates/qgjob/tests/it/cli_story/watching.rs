//! Watching through networks and servers that misbehave: no line lost, none doubled, the right exit code.

use serde_json::Value;

use super::agent::{FakeAgent, Play};
use super::desk::{Desk, Done, SEEDS_SUBMIT};
use crate::proxy::{Fate, Proxy};

const THREE: &[&str] = &["submit", "--org-id=qualgent", "--app-version-id=xyz123", "--test=tests"];

impl Desk {
    /// Runs a command against `server` with the admin's token.
    async fn qgjob_at(&self, server: &str, args: &[&str]) -> Done {
        let token = self.admin_token();
        self.qgjob_with(&[("QGJOB_SERVER", server), ("QGJOB_TOKEN", &token)], args).await
    }
}

/// The statuses that lines of text tell, in order.
fn statuses(done: &Done) -> Vec<&str> {
    let lines = done.out.lines().filter(|line| line.contains(" → "));
    lines.map(|line| line.split_whitespace().nth(2).unwrap()).collect()
}

/// The numbers of the events in lines of JSON.
fn numbers(done: &Done) -> Vec<u64> {
    let lines = done.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .filter(|line| line["schema"] == "qgjob.event/v1")
        .map(|line| line["seq"].as_u64().unwrap())
        .collect()
}

/// Numbers that look random and are the same each time.
fn scatter(seed: usize) -> usize {
    let mut x = seed as u64 ^ 0x9e37_79b9_7f4a_7c15;
    for _ in 0..3 {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    (x % 1_000_003) as usize
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_cut_anywhere_lose_and_repeat_nothing() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    // Every answer that is an event stream breaks off somewhere, most within the first events.
    let proxy = Proxy::start(&desk.address, |call| match call.path.ends_with("/events") {
        true => Fate::Cut(100 + scatter(call.number) % 1_500),
        false => Fate::Passes,
    })
    .await;
    let run =
        desk.qgjob(&[THREE, &["-o", "json"]].concat()).await.json()["run_id"].as_str().unwrap().to_owned();
    let watch = ["status", &run, "--watch", "-o", "jsonl"];
    let whole = Proxy::start(&desk.address, |_| Fate::Passes).await;
    let direct = desk.qgjob_at(&whole.url, &watch);
    let through = desk.qgjob_at(&proxy.url, &watch);
    let agent = async {
        // Both watch before anything happens.
        whole.is_asked_for("/events").await;
        proxy.is_asked_for("/events").await;
        let play = |test: &str| match test {
            "tests/login.spec.js" => Play::Fails("no"),
            _ => Play::Passes,
        };
        FakeAgent::start(&desk, &["p1"], play).await
    };
    let (direct, through, agent) = tokio::join!(direct, through, agent);
    assert_eq!((through.code, direct.code), (1, 1), "{through:?}");
    let told = numbers(&through);
    assert!(told.len() > 10, "{told:?}");
    assert_eq!(told, numbers(&direct), "the same events, each once, in order");
    let connections = proxy.seen().iter().filter(|call| call.ends_with("/events")).count();
    assert!(connections > 3, "the streams were cut: {connections}");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_or_restarting_server_is_asked_again() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let agent = FakeAgent::start(&desk, &["p1"], |_| Play::Passes).await;
    // Bursts of five refusals at whatever is asked, streams included; a gateway that lost its server; a slow-down.
    let proxy = Proxy::start(&desk.address, |call| match call.number % 12 {
        0..=4 => Fate::Refused(503, None),
        6 => Fate::Refused(429, Some(1)),
        8 => Fate::Refused(502, None),
        _ => Fate::Passes,
    })
    .await;
    let done = desk.qgjob_at(&proxy.url, &[SEEDS_SUBMIT, &["--watch"]].concat()).await;
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(statuses(&done), ["queued", "running", "running", "running", "completed"], "{done:?}");
    let runs = desk.qgjob(&["run", "list", "-o", "name"]).await;
    assert_eq!(runs.out.lines().count(), 1, "a repeated submit makes no second run");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_not_known_yet_is_asked_for_again() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let agent = FakeAgent::start(&desk, &["p1"], |_| Play::Passes).await;
    let early = std::sync::atomic::AtomicUsize::new(0);
    let proxy = Proxy::start(&desk.address, move |call| {
        let about_run = call.method == "GET" && call.path.starts_with("/api/v1/runs/");
        match about_run && early.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 2 {
            true => Fate::Refused(404, None),
            false => Fate::Passes,
        }
    })
    .await;
    let done = desk.qgjob_at(&proxy.url, &[SEEDS_SUBMIT, &["--watch"]].concat()).await;
    assert_eq!((done.code, statuses(&done).last()), (0, Some(&"completed")), "{done:?}");

    // What was not made a moment ago is simply not there.
    let nothing = Proxy::start(&desk.address, |_| Fate::Refused(404, None)).await;
    let done = desk.qgjob_at(&nothing.url, &["status", "run_00000000000000000000000000", "--watch"]).await;
    assert_eq!(done.code, 5, "{done:?}");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_stream_passes_questions_are_asked() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    for refusal in [406, 501] {
        let proxy = Proxy::start(&desk.address, move |call| match call.path.ends_with("/events") {
            true => Fate::Refused(refusal, None),
            false => Fate::Passes,
        })
        .await;
        let job = desk.qgjob(&[SEEDS_SUBMIT, &["-o", "name"]].concat()).await.out.trim().to_owned();
        let watching = ["status", &job, "--watch"];
        let watching = desk.qgjob_at(&proxy.url, &watching);
        let agent = async {
            proxy.is_asked_for("/events").await;
            FakeAgent::start(&desk, &["p1"], |_| Play::Fails("no")).await
        };
        let (done, agent) = tokio::join!(watching, agent);
        assert_eq!(done.code, 1, "{done:?}");
        let told = statuses(&done);
        assert_eq!((told.first(), told.last()), (Some(&"queued"), Some(&"completed")), "{done:?}");
        assert_eq!(told.iter().filter(|status| **status == "completed").count(), 1, "{done:?}");
        assert_eq!(proxy.seen().iter().filter(|call| call.ends_with("/events")).count(), 1, "{refusal}");
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_a_broken_promise_and_a_lost_server_have_their_exit_codes() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let limited = Proxy::start(&desk.address, |_| Fate::Refused(429, Some(3_600))).await;
    for args in [&["list"][..], SEEDS_SUBMIT, &["wait", "job_00000000000000000000000000"]] {
        let done = desk.qgjob_at(&limited.url, args).await;
        assert_eq!(done.code, 16, "{args:?}: {done:?}");
    }
    // The delay that is asked for is kept, and the call then succeeds.
    let once = Proxy::start(&desk.address, |call| match call.number {
        0 => Fate::Refused(429, Some(1)),
        _ => Fate::Passes,
    })
    .await;
    let started = std::time::Instant::now();
    assert_eq!(desk.qgjob_at(&once.url, &["list"]).await.code, 0);
    assert!(started.elapsed() >= std::time::Duration::from_secs(1));

    let gone = Proxy::start("127.0.0.1:1", |_| Fate::Passes).await;
    let done = desk.qgjob_at(&gone.url, &["list"]).await;
    assert_eq!(done.code, 14, "{done:?}");

    let agent = FakeAgent::start(&desk, &["p1"], |_| Play::Passes).await;
    let job = desk.qgjob(&[SEEDS_SUBMIT, &["--wait", "-o", "name"]].concat()).await;
    assert_eq!(job.code, 0, "{job:?}");
    // A server that says "over" without a verdict has a bug: never green.
    let confused =
        Proxy::start(&desk.address, |_| Fate::Altered("\"exit_code\":0", "\"exit_code\":null")).await;
    let done = desk.qgjob_at(&confused.url, &["wait", job.out.trim()]).await;
    assert_eq!(done.code, 70, "{done:?}");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_cut_anywhere_comes_whole() {
    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let agent = FakeAgent::start(&desk, &["p1"], |_| Play::Passes).await;
    let proxy = Proxy::start(&desk.address, |call| match call.path.ends_with("/logs") {
        true => Fate::Cut(60 + scatter(call.number) % 250),
        false => Fate::Passes,
    })
    .await;
    let job = desk.qgjob(&[SEEDS_SUBMIT, &["-o", "name"]].concat()).await.out.trim().to_owned();
    let followed = desk.qgjob_at(&proxy.url, &["logs", &job, "-f"]).await;
    assert_eq!((followed.code, followed.out.as_str()), (0, "line 1\nline 2 é\nline 3\n"), "{followed:?}");
    agent.stop().await;
}

/// The reader leaves after the first line of an output that is longer than any buffer between the two.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_leaves_early_ends_the_command_quietly() {
    let desk = Desk::new().await;
    for at in 0..200 {
        std::fs::write(desk.project().join(format!("tests/more-{at}.spec.js")), "// a test\n").unwrap();
    }
    let submitted = desk.qgjob(&[THREE, &["-o", "json"]].concat()).await.json();
    let run = submitted["run_id"].as_str().unwrap();
    let all = desk.qgjob(&["list", "--limit=200", "-o", "json"]).await;
    assert!(all.out.len() > 100_000, "longer than a pipe holds: {}", all.out.len());
    for command in [
        "list --limit=200 -o json".to_owned(),
        "list --limit=200 -o jsonl".to_owned(),
        format!("status {run} -o json"),
        format!("status {run} --watch -o jsonl"),
    ] {
        let script = format!("\"$QGJOB\" {command} | head -n1 > /dev/null; exit ${{PIPESTATUS[0]}}");
        let done = desk.bash(&script).await;
        assert_eq!((done.code, done.err.as_str()), (141, ""), "{command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_stays_silent_gives_way_to_questions() {
    use qgjob::client::watch::{Options, Subject, Update, follow};
    use qgjob::client::{Client, Secret};

    let desk = Desk::new().await;
    desk.bind_app("xyz123").await;
    let proxy = Proxy::start(&desk.address, |call| match call.path.ends_with("/events") {
        true => Fate::Silent,
        false => Fate::Passes,
    })
    .await;
    let job = desk.qgjob(&[SEEDS_SUBMIT, &["-o", "name"]].concat()).await.out.trim().to_owned();
    let token = Secret::new(desk.admin_token());
    let second = std::time::Duration::from_secs(1);
    let client = Client::new(&proxy.url.parse().unwrap(), Some(token), 5 * second).unwrap();
    let options = Options { silence: second / 2, ..Options::default() };
    let (to, mut updates) = tokio::sync::mpsc::channel(64);
    let following = tokio::spawn(follow(client, Subject::Job(job), options, (), to));
    // With the second question, the first is answered: until then nothing happens to the job.
    crate::device_bench::eventually("the job is asked for in the place of the stream", async || {
        let seen = proxy.seen();
        let silent = seen.iter().position(|call| call.ends_with("/events"));
        silent.is_some_and(|at| seen.len() > at + 2)
    })
    .await;
    let agent = FakeAgent::start(&desk, &["p1"], |_| Play::Passes).await;
    let mut told = Vec::new();
    while let Some(((), update)) = updates.recv().await {
        match update.unwrap() {
            Update::Begin(view) => told.push(("begin", view.is_over())),
            Update::Now(view) => told.push(("now", view.is_over())),
            Update::End(view) => told.push(("end", view.is_over())),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((told[0], told[1], *told.last().unwrap()), (("begin", false), ("now", false), ("end", true)));
    following.await.unwrap();
    agent.stop().await;
}
