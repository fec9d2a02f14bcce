//! What a pipeline runs, step by step, as its platform hands it to a shell.

use std::collections::BTreeMap;

use serde_json::Value;

/// The platforms whose examples run qgjob from a shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    Github,
    Gitlab,
    Buildkite,
    Circleci,
}

/// A script with what is set for it.
#[derive(Debug, Clone)]
pub struct Step {
    pub env: BTreeMap<String, String>,
    pub script: String,
}

impl Platform {
    /// How it starts a shell; none of the words is the script, which comes last or, for GitLab, on the standard input.
    pub fn shell(self) -> &'static [&'static str] {
        match self {
            Self::Github => &["bash", "-e", "-c"],
            Self::Gitlab => &["sh"],
            Self::Buildkite => &["bash", "-e", "-c"],
            Self::Circleci => &["bash", "-eo", "pipefail", "-c"],
        }
    }

    /// The variables that it sets by itself.
    pub fn variables(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Github => &[
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_SHA", "2f1d7bdf8d0c53b5f1dbe6a1be1f4a3c9d2e7f60"),
                ("GITHUB_REF", "refs/heads/main"),
                ("GITHUB_RUN_ID", "1"),
                ("GITHUB_RUN_ATTEMPT", "1"),
            ],
            Self::Gitlab => &[
                ("GITLAB_CI", "true"),
                ("CI_COMMIT_SHA", "2f1d7bdf8d0c53b5f1dbe6a1be1f4a3c9d2e7f60"),
                ("CI_COMMIT_SHORT_SHA", "2f1d7bdf"),
            ],
            Self::Buildkite => {
                &[("BUILDKITE", "true"), ("BUILDKITE_COMMIT", "2f1d7bdf8d0c53b5f1dbe6a1be1f4a3c9d2e7f60")]
            }
            Self::Circleci => {
                &[("CIRCLECI", "true"), ("CIRCLE_SHA1", "2f1d7bdf8d0c53b5f1dbe6a1be1f4a3c9d2e7f60")]
            }
        }
    }

    /// The steps of all jobs, those of the job that gates last.
    pub fn steps(self, document: &Value) -> Vec<Step> {
        match self {
            Self::Github => jobs(&document["jobs"])
                .flat_map(|job| runs(job, &job["env"], |step| step["run"].as_str()))
                .collect(),
            Self::Circleci => jobs(&document["jobs"])
                .flat_map(|job| runs(job, &job["environment"], |step| step["run"]["command"].as_str()))
                .collect(),
            Self::Gitlab => jobs(document)
                .filter_map(|job| {
                    let lines: Vec<&str> =
                        job["script"].as_array()?.iter().map(|line| line.as_str().unwrap()).collect();
                    Some(Step { env: variables(&job["variables"]), script: lines.join("\n") })
                })
                .collect(),
            Self::Buildkite => each(&document["steps"])
                .map(|step| Step {
                    env: variables(&step["env"]),
                    script: interpolated(step["command"].as_str().unwrap()),
                })
                .collect(),
        }
    }

    /// Where the document says that the JUnit file is; a folder for CircleCI.
    pub fn junit(self, document: &Value) -> String {
        let path = match self {
            Self::Gitlab => &document["qgjob"]["artifacts"]["reports"]["junit"],
            Self::Buildkite => &last(&document["steps"])["artifact_paths"][0],
            Self::Circleci => each(&document["jobs"]["appwright"]["steps"])
                .map(|step| &step["store_test_results"]["path"])
                .find(|path| path.is_string())
                .unwrap(),
            Self::Github => &last(&document["jobs"]["appwright"]["steps"])["with"]["path"],
        };
        path.as_str().unwrap().lines().next().unwrap().to_owned()
    }

    /// The exit codes after which the platform runs the job again.
    pub fn retried(self, document: &Value) -> Vec<u64> {
        match self {
            Self::Gitlab => {
                each(&document["qgjob"]["retry"]["exit_codes"]).filter_map(Value::as_u64).collect()
            }
            Self::Buildkite => each(&last(&document["steps"])["retry"]["automatic"])
                .filter_map(|rule| rule["exit_status"].as_u64())
                .collect(),
            Self::Circleci | Self::Github => Vec::new(),
        }
    }
}

fn each(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Object(fields) => Box::new(fields.values()),
        Value::Array(items) => Box::new(items.iter()),
        _ => Box::new(std::iter::empty()),
    }
}

fn jobs(jobs: &Value) -> impl Iterator<Item = &Value> {
    let (gate, others): (Vec<_>, Vec<_>) = jobs
        .as_object()
        .unwrap()
        .iter()
        .partition(|(name, _)| matches!(name.as_str(), "appwright" | "qgjob"));
    others.into_iter().chain(gate).map(|(_, job)| job)
}

fn last(items: &Value) -> &Value {
    items.as_array().unwrap().last().unwrap()
}

fn runs<'a>(
    job: &'a Value,
    env: &Value,
    of: impl Fn(&Value) -> Option<&str> + 'a,
) -> impl Iterator<Item = Step> + 'a {
    let env = variables(env);
    each(&job["steps"]).filter_map(move |step| Some(Step { env: env.clone(), script: of(step)?.to_owned() }))
}

fn variables(value: &Value) -> BTreeMap<String, String> {
    let Some(fields) = value.as_object() else { return BTreeMap::new() };
    fields.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

/// As the agent of Buildkite does at upload: `$$` is a `$`, `$(` is left alone, and a variable would be filled in then,
/// where none of the step's is set.
fn interpolated(command: &str) -> String {
    let mut done = String::new();
    let mut rest = command;
    while let Some(at) = rest.find('$') {
        done.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match rest.chars().next() {
            Some('$') => {
                done.push('$');
                rest = &rest[1..];
            }
            Some('(') => done.push('$'),
            _ => panic!("filled in too early: ${rest}"),
        }
    }
    done + rest
}

#[test]
fn what_is_meant_for_the_shell_reaches_it() {
    assert_eq!(interpolated("a \"$$B\" $(c \"$$D\")"), "a \"$B\" $(c \"$D\")");
    assert!(std::panic::catch_unwind(|| interpolated("a $B")).is_err());
}
