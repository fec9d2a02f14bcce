//! `qgjob simulate`: needs no server and no credential.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

fn simulate(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qgjob"));
    command.arg("simulate").args(args).current_dir(dir).env_clear().env("HOME", dir);
    let done = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

#[test]
fn policies_are_compared_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, err) = simulate(dir.path(), &["a2", "--policy=fifo", "--policy=qgjob"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "a2: burst: 40 versions x 50 jobs, 50 devices, 60 s to install");
    assert!(lines[3].starts_with("fifo ") && lines[4].starts_with("qgjob "), "{out}");

    let (code, out, _) = simulate(dir.path(), &["d5-1", "--devices=20", "--policy=fifo", "-o", "json"]);
    let list: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0);
    let workloads: Vec<_> =
        list["items"].as_array().unwrap().iter().map(|item| item["workload"].clone()).collect();
    assert_eq!(workloads, ["d5-10", "d5-120", "d5-180"], "a name stands for all that begin with it");
    assert_eq!(list["items"][0]["schema"], "qgjob.simulation/v1");
    assert!(list["items"][0]["policies"][0]["completion_s"]["p95"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_workload_can_be_given_and_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let job = json!({ "org": "acme", "version": "1", "class": "phone", "submitted_at": 0, "duration_s": 9 });
    let workload = json!({
        "schema": "qgjob.workload/v1",
        "devices": [{ "name": "pixel", "classes": ["phone"] }],
        "jobs": [job],
    });
    std::fs::write(dir.path().join("w.json"), workload.to_string()).unwrap();
    let args = ["--from-file=w.json", "--policy=qgjob", "--chart=w.svg", "-o", "json"];
    let (code, out, err) = simulate(dir.path(), &args);
    assert_eq!(code, 0, "{err}");
    let result: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(result["policies"][0]["makespan_s"], 69.0);
    assert!(std::fs::read_to_string(dir.path().join("w.svg")).unwrap().contains("pixel"));

    let unserved = workload.to_string().replace(r#"["phone"]"#, r#"["watch"]"#);
    std::fs::write(dir.path().join("w.json"), unserved).unwrap();
    let (code, _, err) = simulate(dir.path(), &["--from-file=w.json"]);
    assert_eq!(code, 2);
    assert!(err.contains(r#"cause: job 0: no device serves the class "phone""#), "{err}");
}

#[test]
fn what_cannot_be_simulated_is_a_usage_error() {
    let dir = tempfile::tempdir().unwrap();
    for (args, why) in [
        (&["b77"][..], r#"there is no workload "b77""#),
        (&["a1", "a2", "--chart=x.svg"], "a chart shows one workload"),
        (&["c", "--policy=fifo", "--chart=x.svg"], "at most 1000 devices"),
        (&["a1", "--policy=best"], "invalid value 'best'"),
        (&["b5", "--load=0"], "a load is more than 0"),
    ] {
        let (code, _, err) = simulate(dir.path(), args);
        assert_eq!(code, 2, "{args:?}: {err}");
        assert!(err.contains(why), "{args:?}: {err}");
    }
}
