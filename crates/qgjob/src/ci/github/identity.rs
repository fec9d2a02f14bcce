//! Which step of which workflow run this is, so that a runner that is started again finds the run that it made before.

use std::fmt::Write;

use qgjob_core::model::name::IdempotencyKey;
use sha2::{Digest, Sha256};

use crate::config::Environment;

/// What tells a step from all others, besides its inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    repository: String,
    run_id: String,
    /// Counts "Re-run jobs", from 1.
    pub attempt: u32,
    job: String,
    step: String,
}

impl Identity {
    /// The step that this process is.
    ///
    /// # Errors
    /// The name of a variable that the runner always sets and that is not there, or is no number.
    pub fn of(env: &Environment) -> Result<Self, &'static str> {
        let text = |name: &'static str| env.get(name).map(str::to_owned).ok_or(name);
        let attempt = text("GITHUB_RUN_ATTEMPT")?.parse().ok().filter(|attempt| *attempt > 0);
        Ok(Self {
            // The number stays when a repository is renamed; older servers of GitHub do not tell it.
            repository: text("GITHUB_REPOSITORY_ID").or_else(|_| text("GITHUB_REPOSITORY"))?,
            run_id: text("GITHUB_RUN_ID")?,
            attempt: attempt.ok_or("GITHUB_RUN_ATTEMPT")?,
            job: text("GITHUB_JOB")?,
            step: text("GITHUB_ACTION")?,
        })
    }

    /// The key of this step in the given attempt of the workflow run: the same for the same server and inputs, and for no
    /// others. `inputs` are those that say what is run.
    pub fn key(&self, attempt: u32, server: &str, inputs: &[(&str, &str)]) -> IdempotencyKey {
        let mut hash = Sha256::new();
        let attempt_text = attempt.to_string();
        let step = [server, &self.repository, &self.run_id, &attempt_text, &self.job, &self.step];
        for part in step.into_iter().chain(inputs.iter().flat_map(|(name, value)| [*name, *value])) {
            // With its length before it, no part can pass for another.
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            hash.update(part);
        }
        let mut key = String::from("github-");
        for byte in hash.finalize() {
            write!(key, "{byte:02x}").expect("a string grows");
        }
        key.parse().expect("hexadecimal digits are visible ASCII")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNER: [(&str, &str); 5] = [
        ("GITHUB_REPOSITORY_ID", "42"),
        ("GITHUB_RUN_ID", "4711"),
        ("GITHUB_RUN_ATTEMPT", "2"),
        ("GITHUB_JOB", "e2e"),
        ("GITHUB_ACTION", "__self"),
    ];

    #[test]
    fn each_part_changes_the_key_and_nothing_else_does() {
        let inputs = [("test", "a"), ("matrix", "{}")];
        let key = |env, server, inputs: &[(&str, &str)]| {
            let identity = Identity::of(&Environment::from(env)).unwrap();
            identity.key(identity.attempt, server, inputs)
        };
        let same = key(RUNNER, "https://a", &inputs);
        assert_eq!(key(RUNNER, "https://a", &inputs), same);
        assert_eq!(same.as_str().len(), "github-".len() + 64);
        let mut others = vec![
            key(RUNNER, "https://b", &inputs),
            key(RUNNER, "https://a", &[("test", "b"), ("matrix", "{}")]),
            key(RUNNER, "https://a", &[("test", "amatrix"), ("", "{}")]),
            key(RUNNER, "https://a", &inputs[..1]),
        ];
        for at in 0..RUNNER.len() {
            let mut changed = RUNNER;
            changed[at].1 = "3";
            others.push(key(changed, "https://a", &inputs));
        }
        others.push(same);
        others.sort_by_key(ToString::to_string);
        others.dedup();
        assert_eq!(others.len(), 10);
    }

    #[test]
    fn the_key_of_the_attempt_before_can_be_told() {
        let identity = Identity::of(&Environment::from(RUNNER)).unwrap();
        let mut before = RUNNER;
        before[2].1 = "1";
        let earlier = Identity::of(&Environment::from(before)).unwrap();
        assert_eq!(identity.key(1, "s", &[]), earlier.key(earlier.attempt, "s", &[]));
    }

    #[test]
    fn what_the_runner_did_not_set_is_named() {
        for at in 0..RUNNER.len() {
            let mut missing = RUNNER;
            missing[at].1 = "";
            let name = if at == 0 { "GITHUB_REPOSITORY" } else { missing[at].0 };
            assert_eq!(Identity::of(&Environment::from(missing)), Err(name));
        }
        let mut bad = RUNNER;
        bad[2].1 = "0";
        assert_eq!(Identity::of(&Environment::from(bad)), Err("GITHUB_RUN_ATTEMPT"));
    }
}
