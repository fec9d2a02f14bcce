//! What the server would refuse is refused before anything is sent.

use super::desk::{Desk, SEEDS_SUBMIT};

#[tokio::test(flavor = "multi_thread")]
async fn a_run_out_of_bounds_is_refused_before_anything_is_sent() {
    // Without a server, whatever is sent ends with another exit code.
    let desk = Desk::without_server();
    let submit = async |args: &[&str]| desk.qgjob(&[SEEDS_SUBMIT, args].concat()).await;
    let long = format!("--env=BIG_ONE={}", "x".repeat(4_097));
    for (arg, words) in [
        ("--timeout=0s", "--timeout must be 1 s to 24 h"),
        ("--timeout=25h", "--timeout must be 1 s to 24 h"),
        ("--queue-timeout=31d", "--queue-timeout must be 1 s to 30 days"),
        ("--retries=11", "--retries must be 0 to 10"),
        ("--test-retries=11", "--test-retries must be 0 to 10"),
        ("--not-before=+31d", "--not-before must be at most 30 days ahead"),
        ("--name=a\u{7}b", "--name must be at most 256 bytes without control characters"),
        (&long, "--env BIG_ONE must be at most 4 KiB without NUL"),
    ] {
        for more in [&[arg][..], &[arg, "--dry-run"]] {
            let done = submit(more).await;
            assert_eq!(done.code, 2, "{arg}: {done:?}");
            assert!(done.err.contains(words), "{arg}: {done:?}");
        }
    }
    let done = submit(&["--timeout=0s", "--retries=11"]).await;
    assert!(done.err.contains("--timeout") && done.err.contains("--retries"), "both are named: {done:?}");
    std::fs::write(desk.project().join("qgjob.toml"), "[submit]\ntimeout = \"0s\"\n").unwrap();
    let done = submit(&[]).await;
    assert!(done.code == 2 && done.err.contains("--timeout must be 1 s to 24 h"), "{done:?}");
    let done = submit(&["--timeout=24h", "--retries=10", "--server=http://127.0.0.1:1"]).await;
    assert_eq!(done.code, 14, "what is within bounds is sent: {done:?}");
}
