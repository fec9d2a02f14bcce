//! From what is known to the texts of the files.

use std::fmt::Write;
use std::path::Path;
use std::str::FromStr;

use qgjob_core::model::name::{AppVersionId, OrgId};

use super::Ci;
use super::facts::{AppBuild, Facts, simple_path};

/// The first line of every file that `qgjob init` writes into a place that may be somebody else's.
const MARKER: &str = "# Written by `qgjob init`. What it does, and why: docs/CI.md of qgjob.";

/// What is written.
#[derive(Debug)]
pub struct Plan {
    pub ci: Ci,
    /// Address of the server.
    pub server: String,
    /// Whom the CI's id-token is for.
    pub audience: String,
    /// Whether `server` was given, rather than a placeholder.
    pub server_is_known: bool,
    /// None only when no `qgjob.toml` is written.
    pub org_id: Option<OrgId>,
    pub app_version_id: Option<AppVersionId>,
    pub tests: Vec<String>,
    pub app: Option<AppBuild>,
    pub action: ActionRef,
}

/// An action of GitHub, by commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionRef {
    repository: String,
    folder: String,
    sha: String,
}

impl ActionRef {
    /// Stands where nobody said which. No account of GitHub can have this name.
    pub const NONE: &str = "YOUR_ORG/qgjob/action@0000000000000000000000000000000000000000";
}

impl FromStr for ActionRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not of the form OWNER/REPO/action@SHA, with the 40 digits of a commit: a tag can be moved"
            )
        };
        let (path, sha) = text.split_once('@').ok_or_else(wrong)?;
        let parts: Vec<&str> = path.splitn(3, '/').collect();
        let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if parts.len() < 2 || simple_path("", path).is_err() || sha.len() != 40 || !sha.chars().all(hex) {
            return Err(wrong());
        }
        let folder = parts.get(2).map(|folder| format!("/{folder}")).unwrap_or_default();
        Ok(Self { repository: parts[..2].join("/"), folder, sha: sha.to_owned() })
    }
}

impl std::fmt::Display for ActionRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}@{}", self.repository, self.folder, self.sha)
    }
}

impl Plan {
    /// `qgjob.toml`.
    pub fn config(&self) -> String {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let mut text =
            "# What `qgjob submit` sends when flags do not say. All keys: `qgjob help config`.\n\n"
                .to_owned();
        let mut line = |line: String| text.push_str(&(line + "\n"));
        if self.server_is_known {
            line("# Used only by people who have a credential for this very server.".to_owned());
            line(format!("server = {}", quoted(&self.server)));
        }
        if let Some(org) = &self.org_id {
            line(format!("org_id = {}", quoted(org.as_str())));
        }
        line("\n[submit]".to_owned());
        if let Some(label) = &self.app_version_id {
            line(format!("app_version_id = {}", quoted(label.as_str())));
        }
        line("# Files, folders and globs, relative to this file.".to_owned());
        let tests: Vec<_> = self.tests.iter().map(|test| quoted(test)).collect();
        line(format!("tests = [{}]", tests.join(", ")));
        text
    }

    /// The workflow's path below the root of the checkout, and its text; none when there is to be none.
    pub fn workflow(&self, facts: &Facts) -> Option<(&'static str, String)> {
        let template = match self.ci {
            Ci::Github => include_str!("templates/github.yml"),
            Ci::Gitlab => include_str!("templates/gitlab.yml"),
            Ci::Buildkite => include_str!("templates/buildkite.yml"),
            Ci::Circleci => include_str!("templates/circleci.yml"),
            Ci::None => return None,
        };
        Some((self.path(&facts.root)?, self.filled(template, facts.subfolder().as_deref())))
    }

    /// The CI's own file where it is free, else one beside it, which people then join to it.
    fn path(&self, root: &Path) -> Option<&'static str> {
        let (own, beside) = match self.ci {
            Ci::Github => return Some(".github/workflows/qgjob.yml"),
            Ci::Gitlab => (".gitlab-ci.yml", ".gitlab/qgjob.yml"),
            Ci::Buildkite => (".buildkite/pipeline.yml", ".buildkite/pipeline.qgjob.yml"),
            Ci::Circleci => (".circleci/config.yml", ".circleci/qgjob.yml"),
            Ci::None => return None,
        };
        Some(if is_foreign(&root.join(own)) { beside } else { own })
    }

    fn filled(&self, template: &str, subfolder: Option<&str>) -> String {
        let mut text = String::new();
        let mut shown = true;
        for line in template.lines() {
            match line {
                "@if build" => shown = self.app.is_some(),
                "@if no_build" => shown = self.app.is_none(),
                "@if subfolder" => shown = subfolder.is_some(),
                "@end" => shown = true,
                _ if !shown => {}
                _ => writeln!(text, "{}", self.filled_line(line, subfolder)).expect("a string grows"),
            }
        }
        text
    }

    fn filled_line(&self, line: &str, subfolder: Option<&str>) -> String {
        let label = self.label();
        let app = self.app.as_ref().map(|app| app.path.as_str()).unwrap_or_default();
        let folder = app.rsplit_once('/').map_or(".", |(folder, _)| folder);
        let build = self.app.as_ref().map(|app| self.script(&app.command)).unwrap_or_default();
        // In single quotes of a shell; an address holds no such quote.
        let claims = format!("'{}'", serde_json::json!({ "aud": self.audience }));
        let values = [
            ("@marker@", MARKER),
            ("@app@", app),
            ("@app_folder@", folder),
            ("@build@", &build),
            ("@label@", &label),
            ("@server@", &self.server),
            ("@audience@", &self.audience),
            ("@claims@", &claims),
            ("@subfolder@", subfolder.unwrap_or_default()),
            ("@action_ref@", &self.action.to_string()),
            ("@action_repository@", &self.action.repository),
            ("@action_sha@", &self.action.sha),
        ];
        // Each line holds at most a few, and what is put in is not looked at again.
        let mut filled = String::new();
        let mut rest = line;
        while let Some((at, (name, value))) =
            values.iter().filter_map(|pair| Some((rest.find(pair.0)?, *pair))).min_by_key(|(at, _)| *at)
        {
            filled.push_str(&rest[..at]);
            filled.push_str(value);
            rest = &rest[at + name.len()..];
        }
        filled + rest
    }

    /// The label of a build that is made elsewhere, as the CI writes it.
    fn label(&self) -> String {
        if let Some(label) = &self.app_version_id {
            // In quotes, since a label of digits is a number to YAML.
            return format!("\"{label}\"");
        }
        match self.ci {
            Ci::Github => "${{ github.sha }}",
            Ci::Gitlab => "\"$CI_COMMIT_SHA\"",
            Ci::Buildkite => "\"$$BUILDKITE_COMMIT\"",
            Ci::Circleci | Ci::None => "\"$CIRCLE_SHA1\"",
        }
        .to_owned()
    }

    /// A line of shell as the CI hands it on: some fill in things of their own.
    fn script(&self, command: &str) -> String {
        match self.ci {
            Ci::Buildkite => command.replace('$', "$$"),
            Ci::Circleci => command.replace("<<", "\\<<"),
            _ => command.to_owned(),
        }
    }

    /// What was not known, and stands in the workflow as something that cannot work.
    pub fn placeholders(&self) -> Vec<(String, &'static str)> {
        let mut found = Vec::new();
        if self.ci == Ci::None {
            return found;
        }
        if !self.server_is_known {
            found.push((self.server.clone(), "the address of your server, as CI reaches it (--server)"));
        }
        if self.ci == Ci::Github && self.action.to_string() == ActionRef::NONE {
            found.push((
                ActionRef::NONE.to_owned(),
                "where your copy of qgjob is, and a commit of it (--action-ref)",
            ));
        }
        if matches!(self.ci, Ci::Gitlab | Ci::Circleci) {
            found.push((
                "registry.example.com/qgjob:0.1.0".to_owned(),
                "an image of yours that holds qgjob and git",
            ));
        }
        found
    }

    /// What to do now.
    pub fn next(&self, facts: &Facts) -> Vec<String> {
        let mut steps = vec!["qgjob doctor".to_owned()];
        if self.ci != Ci::None {
            steps.push("let the server know whom to let in from CI: docs/CI.md, \"The login\"".to_owned());
        }
        if self.app.is_none() && self.ci != Ci::None {
            let label = self.app_version_id.as_ref().map_or("<commit>", AppVersionId::as_str);
            steps.push(format!(
                "the workflow builds no app: jobs wait until `qgjob app upload --app-version-id={label} <file>`, or run this again with --app and --build"
            ));
        }
        match (self.ci, self.path(&facts.root)) {
            (Ci::Gitlab, Some(path @ ".gitlab/qgjob.yml")) => {
                steps.push(format!("in .gitlab-ci.yml: `include: {{local: {path}}}`"));
            }
            (Ci::Buildkite, Some(path @ ".buildkite/pipeline.qgjob.yml")) => {
                steps.push(format!("a step of your pipeline: `buildkite-agent pipeline upload {path}`"));
            }
            (Ci::Circleci, Some(path @ ".circleci/qgjob.yml")) => {
                steps.push(format!(
                    "move the jobs of {path} into .circleci/config.yml, or set up a pipeline that reads it"
                ));
            }
            _ => {}
        }
        steps.push("read what was written, then commit it".to_owned());
        steps
    }
}

/// Whether a file is there that `qgjob init` did not write.
fn is_foreign(path: &Path) -> bool {
    match std::fs::read_to_string(path) {
        Ok(text) => text.lines().next() != Some(MARKER),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_named_by_a_commit_and_nothing_else() {
        let sha = "0123456789abcdef0123456789abcdef01234567";
        for good in [format!("a/b@{sha}"), format!("a/b/action@{sha}"), ActionRef::NONE.to_owned()] {
            assert_eq!(good.parse::<ActionRef>().unwrap().to_string(), good);
        }
        let bad = [
            "a/b",
            "a/b@v1",
            "a/b@main",
            &format!("a@{sha}"),
            &format!("a/../b@{sha}"),
            &format!("a/b@{sha}0"),
        ];
        for bad in bad {
            assert!(bad.parse::<ActionRef>().is_err(), "{bad}");
        }
    }

    #[test]
    fn no_template_names_what_does_not_exist() {
        let plan = Plan {
            ci: Ci::Github,
            server: "SERVER".into(),
            audience: "AUDIENCE".into(),
            server_is_known: true,
            org_id: None,
            app_version_id: None,
            tests: Vec::new(),
            app: Some(AppBuild { command: "make".into(), path: "a/b.apk".into() }),
            action: ActionRef::NONE.parse().unwrap(),
        };
        for template in [
            include_str!("templates/github.yml"),
            include_str!("templates/gitlab.yml"),
            include_str!("templates/buildkite.yml"),
            include_str!("templates/circleci.yml"),
        ] {
            let opened = template.lines().filter(|line| line.starts_with("@if ")).count();
            assert_eq!(opened, template.lines().filter(|line| *line == "@end").count());
            for subfolder in [None, Some("e2e")] {
                let text = plan.filled(template, subfolder);
                let left = text.lines().find(|line| line.contains('@') && !line.contains("uses: "));
                assert_eq!(left, None);
            }
        }
    }
}
